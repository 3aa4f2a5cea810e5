//! mod_slotmem_plain: slots in the memory of each process, for what needs no other process.
//!
//! Answers to `modules/slotmem/mod_slotmem_plain.c`.

use std::io;
use std::sync::Arc;

use crate::config::server::Setup;
use crate::hooks::Hooks;
use crate::module::Module;
use crate::slotmem::{Known, Slots};

/// The module.
pub static MODULE: Module =
    Module { name: "slotmem_plain_module", file: "mod_slotmem_plain.c", directives: &[], hooks };

static KNOWN: Known = Known::new();

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.slotmem_provider("plain", create);
}

/// `slotmem_create`
fn create(_: &Setup, name: &str, size: usize, count: usize) -> io::Result<Arc<Slots>> {
    match KNOWN.find(name, size, count) {
        Some(slots) => Ok(slots),
        None => Ok(KNOWN.add(Slots::own(name, size, count)?)),
    }
}
