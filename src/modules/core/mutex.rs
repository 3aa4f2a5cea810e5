//! `Mutex`: which lock a module takes where processes must not meet.
//!
//! Answers to `server/util_mutex.c`. The directive is checked and shown as in Apache. It has no further effect: the locks
//! that Apache takes so are not needed here (connections are handed out by the kernel, shared memory is made of atomics)
//! or are files that a module locks itself.

use std::fmt::Write;

use httpd_conf::next_word;

use crate::config::directive::{Cmd, Done, Forbidden};
use crate::config::server::Setup;

/// What `-S` and the errors list.
const MECHANISMS: &str = "Mutex mechanisms are: 'none', 'default', 'flock:/path/to/file', 'fcntl:/path/to/file', 'file:/path/to/file', 'pthread', 'sysvsem', 'posixsem', 'sem'";

/// The lock that a name stands for.
#[derive(Clone, Debug, PartialEq)]
enum Mechanism {
    None,
    Is(&'static str),
}

/// What one `Mutex` directive says of one type.
#[derive(Clone, Debug, Default)]
struct Chosen {
    mechanism: Option<&'static str>,
    dir: Option<String>,
    omit_pid: bool,
}

/// What the `Mutex` directives say, by type.
#[derive(Clone, Debug, Default)]
pub struct Mutexes {
    chosen: Vec<(String, Chosen)>,
}

/// Every type of Apache's modules, with the module that has it. None of them may be done without.
const TYPES: &[(&str, &str)] = &[
    ("default", "core.c"),
    ("mpm-accept", "prefork.c"),
    ("mpm-accept", "worker.c"),
    ("watchdog-callback", "mod_watchdog.c"),
    ("authdigest-client", "mod_auth_digest.c"),
    ("authn-socache", "mod_authn_socache.c"),
    ("cache-socache", "mod_cache_socache.c"),
    ("ldap-cache", "mod_ldap.c"),
    ("lua-ivm-shm", "mod_lua.c"),
    ("proxy", "mod_proxy.c"),
    ("proxy-balancer-shm", "mod_proxy_balancer.c"),
    ("rewrite-map", "mod_rewrite.c"),
    ("ssl-cache", "mod_ssl.c"),
    ("ssl-stapling", "mod_ssl.c"),
    ("ssl-stapling-refresh", "mod_ssl.c"),
];

impl Mutexes {
    fn entry(&mut self, kind: &str) -> &mut Chosen {
        let at = self.chosen.iter().position(|(name, _)| name == kind).unwrap_or_else(|| {
            self.chosen.push((kind.to_owned(), Chosen::default()));
            self.chosen.len() - 1
        });
        &mut self.chosen[at].1
    }

    fn get(&self, kind: &str) -> Option<&Chosen> {
        self.chosen.iter().find(|(name, _)| name == kind).map(|(_, chosen)| chosen)
    }
}

/// `ap_parse_mutex`: the mechanism, and the file or folder behind the colon.
fn parse(word: &str) -> Option<(Mechanism, Option<&str>)> {
    let (method, file) = match word.split_once(':') {
        Some((method, file)) => (method, Some(file).filter(|f| !f.is_empty())),
        None => (word, None),
    };
    let mechanism = match method.to_ascii_lowercase().as_str() {
        "none" | "no" => Mechanism::None,
        "default" | "yes" => Mechanism::Is("default"),
        "fcntl" | "file" => Mechanism::Is("fcntl"),
        "flock" => Mechanism::Is("flock"),
        "posixsem" | "sem" => Mechanism::Is("posixsem"),
        "sysvsem" => Mechanism::Is("sysvsem"),
        "pthread" => Mechanism::Is("pthread"),
        _ => return None,
    };
    Some((mechanism, file))
}

/// The setter of `Mutex`: `ap_set_mutex`.
pub(super) fn set(cmd: &mut Cmd, args: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let mut rest = args;
    let word = next_word(&mut rest);
    if word.is_empty() {
        return Err(format!("Mutex requires at least a mechanism argument ({MECHANISMS})").into());
    }
    let Some((mechanism, file)) = parse(&word) else {
        return Err(format!("Invalid Mutex argument {word} ({MECHANISMS})").into());
    };
    // A semaphore's name is no path, but must be a folder all the same.
    let dir = file.map(|file| match mechanism {
        Mechanism::Is("posixsem") => file.to_owned(),
        _ => cmd.server_root_relative(file),
    });
    if mechanism != Mechanism::None && dir.as_ref().is_some_and(|dir| !std::path::Path::new(dir).is_dir()) {
        return Err(format!("Invalid Mutex directory in argument {word}").into());
    }
    let mut omit_pid = false;
    let mut names = Vec::new();
    while !rest.is_empty() {
        let word = next_word(&mut rest);
        if word.eq_ignore_ascii_case("omitpid") {
            omit_pid = true;
        } else {
            names.push(word);
        }
    }
    if names.is_empty() {
        names.push("default".to_owned());
    }
    let setup = cmd.setup()?;
    for name in names.iter().rev() {
        if !registered(setup).contains(&name.as_str()) {
            return Err(format!("Mutex type {name} is not valid").into());
        }
        let Mechanism::Is(mechanism) = mechanism else {
            return Err(format!("None is not allowed for mutex type {name}").into());
        };
        let chosen = setup.mutexes.entry(name);
        chosen.omit_pid = omit_pid;
        chosen.mechanism = Some(mechanism);
        if dir.is_some() {
            chosen.dir.clone_from(&dir);
        }
    }
    Ok(())
}

/// The types of the modules that are active.
fn registered(setup: &Setup) -> Vec<&'static str> {
    TYPES.iter().filter(|(_, module)| setup.has_module(module)).map(|(name, _)| *name).collect()
}

/// The `Mutex` lines of `-D DUMP_RUN_CFG`: `ap_dump_mutexes`.
pub fn dump(setup: &Setup, out: &mut String) {
    for name in registered(setup) {
        let chosen = match setup.mutexes.get(name) {
            Some(chosen) => chosen.clone(),
            None if name != "default" => {
                let _ = writeln!(out, "Mutex {name}: using_defaults");
                continue;
            }
            None => Chosen::default(),
        };
        let mechanism = chosen.mechanism.unwrap_or("default");
        let dir = match &chosen.dir {
            Some(dir) => setup.server_root_relative(dir),
            None => setup.runtime_dir_relative("").display().to_string(),
        };
        let omit = if chosen.omit_pid { "[OmitPid]" } else { "" };
        let _ = writeln!(out, "Mutex {name}: dir=\"{dir}\" mechanism={mechanism} {omit}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mechanisms() {
        assert_eq!(parse("file:/x"), Some((Mechanism::Is("fcntl"), Some("/x"))));
        assert_eq!(parse("SEM:"), Some((Mechanism::Is("posixsem"), None)));
        assert_eq!(parse("no"), Some((Mechanism::None, None)));
        assert_eq!(parse("x"), None);
    }
}
