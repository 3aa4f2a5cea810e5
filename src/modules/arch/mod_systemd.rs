//! mod_systemd: systemd is told when the server is ready, reloads, ends, and how it does.
//!
//! Answers to `modules/arch/unix/mod_systemd.c`. What is said when is in the master
//! ([`engine::master`](crate::engine::master)); here is what Red Hat's configurations load. Differs in that the end is told,
//! too (`STOPPING=1`).

use crate::config::server::Setup;
use crate::engine::scoreboard;
use crate::hooks::{Hooks, order};
use crate::module::Module;
use crate::modules::core;

/// The module.
pub static MODULE: Module = Module { name: "systemd_module", file: "mod_systemd.c", directives: &[], hooks };

fn hooks(hooks: &mut Hooks) {
    hooks.post_config(post_config, order::REALLY_LAST);
}

/// `ExtendedStatus` is on by default where this module is there: the status line has numbers.
fn post_config(setup: &mut Setup) -> Result<(), String> {
    let conf = setup.servers[0].conf.get(&core::SERVER);
    scoreboard::keep_requests(conf.extended_status.unwrap_or(true), conf.see_request_tail.unwrap_or(false));
    Ok(())
}
