//! mod_allowmethods: which methods a directory takes.
//!
//! Answers to `modules/aaa/mod_allowmethods.c`.

use bstr::ByteSlice;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Scope};
use crate::hooks::{Hooks, order};
use crate::http::method::Method;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, Step};

/// The module.
pub static MODULE: Module =
    Module { name: "allowmethods_module", file: "mod_allowmethods.c", directives: ROWS, hooks };

/// A directory's methods.
pub static DIR: Slot<AllowMethods> = Slot::new();

/// A directory's methods: `am_conf_t`.
#[derive(Clone, Default)]
pub struct AllowMethods {
    /// A bit each; 0: all.
    allowed: Option<u64>,
}

impl Conf for AllowMethods {
    fn merge(&self, child: &Self) -> Self {
        AllowMethods { allowed: child.allowed.or(self.allowed) }
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "AllowMethods",
    args: Args::Argv(allow_methods),
    allowed: Allowed::ACCESS_CONF,
    help: "only allow specific methods",
}];

fn allow_methods(cmd: &mut Cmd, names: &[String]) -> Done {
    if names.is_empty() {
        return Err("AllowMethods: No method or 'reset' keyword given".into());
    }
    if let [word] = names
        && word.eq_ignore_ascii_case("reset")
    {
        cmd.dir(&DIR).allowed = Some(0);
        return Ok(());
    }
    let mut bits = cmd.dir(&DIR).allowed.unwrap_or(0);
    for name in names {
        let methods = match &cmd.scope {
            Scope::Startup(setup) => &setup.methods,
            Scope::Htaccess(runtime) => &runtime.methods,
        };
        let method = methods.number_of(name.as_bytes());
        if method == Method::INVALID {
            cmd.dir(&DIR).allowed = Some(bits);
            return Err(format!("AllowMethods: Invalid Method '{name}'").into());
        }
        bits |= method.bit();
    }
    cmd.dir(&DIR).allowed = Some(bits);
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.access_per_uri();
    hooks.access_checker(check_access, order::REALLY_FIRST);
}

/// `am_check_access`.
fn check_access(r: &mut Request) -> Step {
    let Some(allowed) = r.dir(&DIR).allowed.filter(|&bits| bits != 0) else { return Step::Declined };
    // That Apache puts the methods into `r->allowed` shows nowhere: `Allow` is made of others.
    if allowed & r.method.bit() != 0 {
        return Step::Declined;
    }
    rerror!(
        r,
        Level::Error,
        "allowmethods",
        "AH01623",
        "client method denied by server configuration: '{}' to {}",
        r.method_name.as_bstr(),
        r.filename
    );
    Step::Status(status::METHOD_NOT_ALLOWED)
}
