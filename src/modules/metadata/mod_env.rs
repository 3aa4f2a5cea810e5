//! mod_env: variables for CGI scripts and SSI pages.
//!
//! Answers to `modules/metadata/mod_env.c`.

use httpd_conf::to_bytes;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::{Hooks, order};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, Step};
use crate::table::Table;

/// The module.
pub static MODULE: Module = Module { name: "env_module", file: "mod_env.c", directives: ROWS, hooks };

/// A directory's settings.
pub static DIR: Slot<EnvDir> = Slot::new();

/// A directory's settings: `env_dir_config_rec`.
#[derive(Clone, Default)]
pub struct EnvDir {
    vars: Table,
    /// What is taken away from the sections around this one.
    unset: Vec<Vec<u8>>,
}

impl Conf for EnvDir {
    fn merge(&self, child: &Self) -> Self {
        let mut vars = self.vars.clone();
        for name in &child.unset {
            vars.unset(name);
        }
        for (name, value) in child.vars.iter() {
            vars.set(name, value);
        }
        EnvDir { vars, unset: Vec::new() }
    }
}

static ROWS: &[Directive] = &[
    row("PassEnv", Args::Iterate(pass_env), "a list of environment variables to pass to CGI."),
    row("SetEnv", Args::Take12(set_env), "an environment variable name and optional value to pass to CGI."),
    row("UnsetEnv", Args::Iterate(unset_env), "a list of variables to remove from the CGI environment."),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::FILEINFO, help }
}

fn pass_env(cmd: &mut Cmd, name: &str) -> Done {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let name_bytes = to_bytes(name);
    match std::env::var_os(std::ffi::OsStr::from_bytes(&name_bytes)) {
        Some(value) => cmd.dir(&DIR).vars.set(&name_bytes, value.into_vec()),
        None => {
            let text = format!("PassEnv variable {name} was undefined");
            cmd.warn("env", "AH01506", &text);
        }
    }
    Ok(())
}

fn set_env(cmd: &mut Cmd, name: &str, value: Option<&str>) -> Done {
    if name.contains('=') {
        let mut parts = name.trim_start_matches('=').splitn(2, '=');
        let (variable, rest) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let text = format!(
            "Spurious usage of '=' in an environment variable name. '{} {variable} {rest}' expected instead?",
            cmd.name
        );
        cmd.warn("env", "AH10032", &text);
    }
    cmd.dir(&DIR).vars.set(to_bytes(name), to_bytes(value.unwrap_or("")));
    Ok(())
}

fn unset_env(cmd: &mut Cmd, name: &str) -> Done {
    let name = to_bytes(name);
    let conf = cmd.dir(&DIR);
    conf.vars.unset(&name);
    conf.unset.push(name.into_owned());
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.fixups(fixup_env_module, order::MIDDLE);
}

/// Adds the variables; what other modules set comes first: `fixup_env_module`.
fn fixup_env_module(r: &mut Request) -> Step {
    let dir = r.dir.clone();
    let vars = &dir.get(&DIR).vars;
    if vars.is_empty() {
        return Step::Declined;
    }
    r.subprocess_env.extend_from(vars);
    Step::Ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_is_for_what_is_around() {
        let mut base = EnvDir::default();
        base.vars.set("A", "1");
        base.vars.set("B", "2");
        let mut child = EnvDir::default();
        child.unset.push(b"a".to_vec());
        child.unset.push(b"B".to_vec());
        child.vars.set("B", "3");
        let merged = base.merge(&child);
        let all: Vec<_> = merged.vars.iter().collect();
        assert_eq!(all, [(&b"B"[..], &b"3"[..])]);
    }
}
