//! `RewriteMap`: keys looked up in files, by programs, by functions.

mod program;
mod text;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bstr::{BString, ByteSlice};
use httpd_conf::to_bytes;

use self::program::Program;
use super::log::rewritelog;
use super::{SERVER, dir_conf};
use crate::config::directive::{Cmd, Done};
use crate::config::server::Setup;
use crate::expr::NeedThread;
use crate::http::escape::{Unescape, os_escape_path, unescape_url};
use crate::log::{Level, rerror, shown};
use crate::request::{FileInfo, Request, memo};

/// A map: `rewritemap_entry`.
pub(super) enum Map {
    /// `txt:`, or `rnd:` where one of several values is picked.
    Text { file: BString, random: bool, cache: Mutex<Cache> },
    /// `prg:`
    Program(Program),
    /// `int:`
    Internal(fn(Vec<u8>) -> Vec<u8>),
}

/// What was looked up in one version of a file: `cachedmap`. What is not there is the empty string.
#[derive(Default)]
pub(super) struct Cache {
    mtime: i64,
    values: HashMap<Vec<u8>, Vec<u8>>,
}

const INTERNAL: [(&str, fn(Vec<u8>) -> Vec<u8>); 4] = [
    ("tolower", |key| key.to_ascii_lowercase()),
    ("toupper", |key| key.to_ascii_uppercase()),
    ("escape", |key| os_escape_path(&key, true).into_owned()),
    ("unescape", |mut key| {
        // As far as it can be decoded.
        let _ = unescape_url(&mut key, Unescape::FORBID_SLASHES);
        key
    }),
];

/// What stands behind `prefix`, in any case.
fn behind<'a>(source: &'a str, prefix: &str) -> Option<&'a str> {
    let start = source.get(..prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| &source[prefix.len()..])
}

/// The setter of `RewriteMap`: `cmd_rewritemap`.
pub(super) fn rewrite_map(cmd: &mut Cmd, name: &str, source: &str, options: Option<&str>) -> Done {
    dir_conf(cmd);
    let (map, check) = if let Some(file) = behind(source, "txt:") {
        text_map(cmd, file, false)
    } else if let Some(file) = behind(source, "rnd:") {
        text_map(cmd, file, true)
    } else if let Some(rest) = behind(source, "dbm") {
        return Err(dbm_error(source, rest).into());
    } else if behind(source, "dbd:").is_some() || behind(source, "fastdbd:").is_some() {
        return Err("RewriteMap types dbd and fastdbd require mod_dbd!".into());
    } else if let Some(command) = behind(source, "prg:") {
        let mut words = crate::log::pipe::tokenize_to_argv(command);
        let file = cmd.server_root_relative(words.first().map_or("", String::as_str));
        match words.first_mut() {
            Some(first) => first.clone_from(&file),
            None => words.push(file.clone()),
        }
        (Map::Program(Program::new(words, options)), Some(file))
    } else if let Some(function) = behind(source, "int:") {
        let Some((_, function)) = INTERNAL.iter().find(|(known, _)| *known == function) else {
            return Err(format!("RewriteMap: internal map not found:{function}").into());
        };
        (Map::Internal(*function), None)
    } else {
        text_map(cmd, source, false)
    };
    if let Some(file) = check
        && FileInfo::stat(&to_bytes(&file)).is_err()
    {
        return Err(format!("RewriteMap: file for map {name} not found:{file}").into());
    }
    let name = to_bytes(name).into_owned().into();
    cmd.server_conf(&SERVER)?.maps.insert(name, Arc::new(map));
    Ok(())
}

fn text_map(cmd: &Cmd, file: &str, random: bool) -> (Map, Option<String>) {
    let file = cmd.server_root_relative(file);
    let bytes = to_bytes(&file).into_owned().into();
    (Map::Text { file: bytes, random, cache: Mutex::default() }, Some(file))
}

/// No library that is kept up reads these files.
fn dbm_error(source: &str, rest: &str) -> String {
    let kind = match rest.split_at_checked(1) {
        Some((":", _)) => "default",
        Some(("=", named)) => match named.split_once(':') {
            Some((kind, _)) => kind,
            None => return format!("RewriteMap: bad map:{source}"),
        },
        _ => return format!("RewriteMap: bad map:{source}"),
    };
    if !["default", "sdbm", "gdbm", "ndbm", "db", "lmdb"].contains(&kind.to_ascii_lowercase().as_str()) {
        return format!("RewriteMap: dbm type {kind} is invalid");
    }
    format!("RewriteMap: dbm type {kind} is not supported by this server, use a txt map")
}

/// The value of `key` in the map `name`; none where the map or the key isn't there. `lookup_map`
pub(super) fn look_up(r: &mut Request, name: &[u8], key: Vec<u8>) -> Result<Option<Vec<u8>>, NeedThread> {
    let server = r.server.clone();
    let Some(map) = server.conf.get(&SERVER).maps.get(name.as_bstr()) else { return Ok(None) };
    let name = shown(name);
    let shown_key = shown(&key).into_owned();
    Ok(match &**map {
        Map::Text { file, random, cache } => in_file(r, &name, key, file, *random, cache),
        Map::Program(program) => {
            memo::refuse();
            if r.needs_thread() {
                return Err(NeedThread);
            }
            let value = program.ask(r, &key);
            log_found(r, &name, &shown_key, value.as_deref());
            value
        }
        Map::Internal(function) => {
            let value = function(key);
            log_found(r, &name, &shown_key, Some(&value));
            Some(value)
        }
    })
}

fn log_found(r: &Request, name: &str, key: &str, value: Option<&[u8]>) {
    match value {
        Some(value) => {
            let value = shown(value);
            rewritelog!(r, Trace5, None, "map lookup OK: map={name} key={key} -> val={value}");
        }
        None => rewritelog!(r, Trace5, None, "map lookup FAILED: map={name} key={key}"),
    }
}

fn in_file(
    r: &mut Request,
    name: &str,
    key: Vec<u8>,
    file: &[u8],
    random: bool,
    cache: &Mutex<Cache>,
) -> Option<Vec<u8>> {
    let mtime = match FileInfo::stat(file) {
        Ok(info) => info.mtime,
        Err(err) => {
            let file = shown(file);
            rerror!(
                r,
                Level::Error,
                "rewrite",
                "AH00661",
                err = err,
                "mod_rewrite: can't access text RewriteMap file {file}"
            );
            return None;
        }
    };
    let shown_key = shown(&key).into_owned();
    let cached = {
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.mtime != mtime {
            *cache = Cache { mtime, values: HashMap::new() };
        }
        cache.values.get(&key).cloned()
    };
    let mut value = match cached {
        Some(value) => {
            let val = shown(&value);
            rewritelog!(r, Trace5, None, "cache lookup OK: map={name}[txt] key={shown_key} -> val={val}");
            value
        }
        None => {
            rewritelog!(r, Trace6, None, "cache lookup FAILED, forcing new map lookup");
            let found = match text::find(file, &key) {
                Ok(found) => found,
                Err(err) => {
                    let file = shown(file);
                    rerror!(
                        r,
                        Level::Error,
                        "rewrite",
                        "AH00655",
                        err = err,
                        "mod_rewrite: can't open text RewriteMap file {file}"
                    );
                    None
                }
            };
            match &found {
                Some(value) => {
                    let val = shown(value);
                    rewritelog!(
                        r,
                        Trace5,
                        None,
                        "map lookup OK: map={name}[txt] key={shown_key} -> val={val}"
                    );
                }
                None => rewritelog!(r, Trace5, None, "map lookup FAILED: map={name}[txt] key={shown_key}"),
            }
            let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            if cache.mtime == mtime {
                cache.values.insert(key, found.clone().unwrap_or_default());
            }
            found?
        }
    };
    if random && !value.is_empty() {
        memo::refuse();
        value = text::pick(&value).to_vec();
        rewritelog!(r, Trace5, None, "randomly chosen the subvalue `{}'", shown(&value));
    }
    (!value.is_empty()).then_some(value)
}

/// Starts the programs of all servers: `run_rewritemap_programs`.
pub(super) fn start_programs(setup: &mut Setup) -> Result<(), String> {
    for server in &setup.servers {
        let conf = server.conf.get(&SERVER);
        if conf.engine != Some(true) {
            continue;
        }
        for map in conf.maps.values() {
            if let Map::Program(program) = &**map {
                program.start()?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_dbm() {
        assert_eq!(dbm_error("dbm", ""), "RewriteMap: bad map:dbm");
        assert_eq!(dbm_error("dbm=x:y", "=x:y"), "RewriteMap: dbm type x is invalid");
        assert!(dbm_error("dbm:y", ":y").contains("not supported"));
    }
}
