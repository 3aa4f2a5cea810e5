//! mod_version: `<IfVersion>`, which the reader (crate `httpd-conf`) executes; here is its row.
//!
//! Answers to `modules/metadata/mod_version.c`.

use crate::config::directive::{Allowed, Args, Directive};
use crate::hooks::Hooks;
use crate::module::Module;

/// The module.
pub static MODULE: Module =
    Module { name: "version_module", file: "mod_version.c", directives: ROWS, hooks: |_: &mut Hooks| {} };

static ROWS: &[Directive] = &[Directive {
    name: "<IfVersion",
    args: Args::OnRead,
    allowed: Allowed::ALL.or(Allowed::EXEC_ON_READ),
    help: "a comparison operator, a version (and a delimiter)",
}];
