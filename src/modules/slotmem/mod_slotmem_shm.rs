//! mod_slotmem_shm: slots that all processes of the server share.
//!
//! Answers to `modules/slotmem/mod_slotmem_shm.c`. Where it differs: the memory has no file, and a restart keeps it (Apache makes a new
//! one for each generation), so that the names in the log always tell generation 0; nothing is stored when the server stops.

use std::io;
use std::sync::Arc;

use crate::config::server::Setup;
use crate::hooks::Hooks;
use crate::log::{Level, level, server_error, server_event};
use crate::module::Module;
use crate::slotmem::{Known, Slots};

/// The module.
pub static MODULE: Module =
    Module { name: "slotmem_shm_module", file: "mod_slotmem_shm.c", directives: &[], hooks };

static KNOWN: Known = Known::new();

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.slotmem_provider("shm", create);
}

/// `slotmem_create`
fn create(setup: &Setup, name: &str, size: usize, count: usize) -> io::Result<Arc<Slots>> {
    // What has no name is nobody else's: `slotmem_filenames`.
    let is_named = !name.is_empty() && !name.eq_ignore_ascii_case("none");
    let path = match is_named {
        false => "none".to_owned(),
        true if name.starts_with('/') => name.to_owned(),
        true => setup.runtime_dir_relative(&format!("slotmem-shm-{name}_0.shm")).display().to_string(),
    };
    if is_named {
        if let Some(slots) = KNOWN.find(&path, size, count) {
            debug("AH02603", || format!("create found {path} in global list"));
            return Ok(slots);
        }
        debug("AH02602", || format!("create didn't find {path} in global list"));
    }
    debug("AH02300", || format!("create {path}: {size}/{count}"));
    let slots = match Slots::shared(&path, size, count) {
        Ok(slots) => slots,
        Err(err) => {
            let text = format!("create: apr_shm_create({path}) failed");
            server_error(Level::Error, "slotmem_shm", "AH02611", Some(&err), &text);
            return Err(err);
        }
    };
    debug("AH02611", || format!("create: apr_shm_create({path}) succeeded"));
    Ok(if is_named { KNOWN.add(slots) } else { Arc::new(slots) })
}

fn debug(number: &'static str, text: impl FnOnce() -> String) {
    if level::is_asked_for(Level::Debug) {
        server_event(Level::Debug, "slotmem_shm", number, &text());
    }
}
