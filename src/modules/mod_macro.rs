//! mod_macro: `<Macro>`, `Use` and what belongs to them, which the reader (crate `httpd-conf`) executes; here are the rows.
//!
//! Answers to `modules/core/mod_macro.c`.

use crate::config::directive::{Allowed, Args, Directive};
use crate::hooks::Hooks;
use crate::module::Module;

/// The module.
pub static MODULE: Module =
    Module { name: "macro_module", file: "mod_macro.c", directives: ROWS, hooks: |_: &mut Hooks| {} };

static ROWS: &[Directive] = &[
    row("<Macro", "Beginning of a macro definition section."),
    row("Use", "Use of a macro."),
    row("UndefMacro", "Remove a macro definition."),
    row("MacroIgnoreEmptyArgs", "Globally ignore warnings about empty arguments."),
    row("MacroIgnoreBadNesting", "Globally ignore warnings about bad nesting."),
];

const fn row(name: &'static str, help: &'static str) -> Directive {
    Directive { name, args: Args::OnRead, allowed: Allowed::ALL.or(Allowed::EXEC_ON_READ), help }
}
