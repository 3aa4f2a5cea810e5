//! mod_unique_id: an identifier for every request.
//!
//! Answers to `modules/metadata/mod_unique_id.c`. A reply that is given again gets a new identifier; it isn't kept when the
//! one of its request mattered to it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;

use crate::hooks::{Hooks, order};
use crate::module::Module;
use crate::os::random;
use crate::request::{Request, Step, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "unique_id_module", file: "mod_unique_id.c", directives: &[], hooks };

/// The variable.
pub const UNIQUE_ID: &str = "UNIQUE_ID";

/// What tells this process from all others; made when it is first needed, in a child.
struct Root {
    bytes: [u8; 10],
    counter: AtomicU32,
}

static ROOT: OnceLock<Root> = OnceLock::new();

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.post_read_request(set_unique_id, order::MIDDLE);
    hooks.renew(
        |r| {
            let id = new_id(r);
            r.subprocess_env.set(UNIQUE_ID, id);
        },
        order::FIRST,
    );
}

/// `gen_unique_id`: the time, the process, a counter, the connection.
fn new_id(r: &Request) -> String {
    let root = ROOT.get_or_init(|| Root {
        bytes: random::bytes(),
        counter: AtomicU32::new(u32::from_ne_bytes(random::bytes())),
    });
    let counter = root.counter.fetch_add(1, Ordering::Relaxed) % u32::from(u16::MAX);
    let mut id = [0; 20];
    let (stamp, rest) = id.split_at_mut(4);
    stamp.copy_from_slice(&(r.request_secs() as u32).to_be_bytes());
    let (process, rest) = rest.split_at_mut(10);
    process.copy_from_slice(&root.bytes);
    let (count, connection) = rest.split_at_mut(2);
    count.copy_from_slice(&(counter as u16).to_be_bytes());
    connection.copy_from_slice(&(r.connection.id as u32).to_be_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id)
}

/// What the log ties the request's lines together with, where the module is active: the same identifier.
pub fn generate_log_id(r: &Request) -> Option<String> {
    let is_set = |r: &Request| r.subprocess_env.get_str(UNIQUE_ID).map(str::to_owned);
    r.runtime.has_module(MODULE.file).then(|| is_set(r).unwrap_or_else(|| new_id(r)))
}

/// `set_unique_id`.
fn set_unique_id(r: &mut Request) -> Step {
    let before = match &r.prev {
        Some(_) => r.subprocess_env.get("REDIRECT_UNIQUE_ID").map(<[u8]>::to_vec),
        None => None,
    };
    let id = before.or_else(|| r.log_id.get().map(|id| id.clone().into_bytes()));
    let id = id.unwrap_or_else(|| new_id(r).into_bytes());
    r.subprocess_env.set(UNIQUE_ID, id);
    memo::differs(r, UNIQUE_ID);
    Step::Declined
}
