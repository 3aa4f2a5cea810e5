//! `RewriteMap`: keys looked up in files, by programs, by functions.

mod program;
mod sql;
mod text;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bstr::{BString, ByteSlice};
use httpd_conf::to_bytes;

use self::program::Program;
use self::sql::SqlMap;
use super::log::rewritelog;
use super::{SERVER, dir_conf};
use crate::config::directive::{Cmd, Done};
use crate::config::server::Setup;
use crate::dbm::{self, Dbm};
use crate::expr::NeedThread;
use crate::http::escape::{Unescape, os_escape_path, unescape_url};
use crate::log::{Level, rerror, shown};
use crate::modules::database::mod_dbd;
use crate::request::{FileInfo, Request, memo};

/// A map: `rewritemap_entry`.
pub(super) enum Map {
    /// `txt:`, `rnd:`, `dbm:`
    File(FileMap),
    /// `dbd:`, `fastdbd:`
    Sql(SqlMap),
    /// `prg:`
    Program(Program),
    /// `int:`
    Internal { function: fn(Vec<u8>) -> Vec<u8>, in_place: bool },
}

/// A map in a file.
pub(super) struct FileMap {
    kind: Kind,
    /// What is opened.
    file: BString,
    /// What is looked at for changes: the file, or both files of a database.
    watched: [Option<BString>; 2],
    cache: Mutex<Cache>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    /// One of several values is picked.
    Random,
    Dbm(dbm::Kind),
}

impl Kind {
    fn is_dbm(self) -> bool {
        matches!(self, Kind::Dbm(_))
    }
    /// As the log has it.
    fn name(self) -> &'static str {
        if self.is_dbm() { "dbm" } else { "txt" }
    }
    /// The numbers of "can't access", for each of the files, and of "can't open".
    fn numbers(self) -> ([&'static str; 2], &'static str) {
        if self.is_dbm() { (["AH00662", "AH00663"], "AH00656") } else { (["AH00661", "AH00661"], "AH00655") }
    }
    /// How the errors call it, when it can't be looked at and when it can't be opened.
    fn called(self) -> [&'static str; 2] {
        if self.is_dbm() {
            ["DBM RewriteMap file", "DBM RewriteMap"]
        } else {
            ["text RewriteMap file", "text RewriteMap file"]
        }
    }
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
        text_map(cmd, file, Kind::Text)
    } else if let Some(file) = behind(source, "rnd:") {
        text_map(cmd, file, Kind::Random)
    } else if let Some(rest) = behind(source, "dbm") {
        let (kind, file) = dbm_source(source, rest)?;
        dbm_map(cmd, kind, file)?
    } else if behind(source, "dbd:").is_some() || behind(source, "fastdbd:").is_some() {
        if !cmd.has_module("mod_dbd.c") {
            return Err("RewriteMap types dbd and fastdbd require mod_dbd!".into());
        }
        let (query, cached) = match behind(source, "dbd:") {
            Some(query) => (query, false),
            None => (behind(source, "fastdbd:").unwrap_or_default(), true),
        };
        mod_dbd::prepare(cmd, query, name)?;
        (Map::Sql(SqlMap::new(cached)), None)
    } else if let Some(command) = behind(source, "prg:") {
        let mut words = crate::log::pipe::tokenize_to_argv(command);
        let file = cmd.server_root_relative(words.first().map_or("", String::as_str));
        match words.first_mut() {
            Some(first) => first.clone_from(&file),
            None => words.push(file.clone()),
        }
        (Map::Program(Program::new(words, options)), Some(file))
    } else if let Some(function) = behind(source, "int:") {
        let Some((function_name, function)) = INTERNAL.iter().find(|(known, _)| *known == function) else {
            return Err(format!("RewriteMap: internal map not found:{function}").into());
        };
        (Map::Internal { function: *function, in_place: *function_name != "escape" }, None)
    } else {
        text_map(cmd, source, Kind::Text)
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

fn text_map(cmd: &Cmd, file: &str, kind: Kind) -> (Map, Option<String>) {
    let file = cmd.server_root_relative(file);
    let bytes = to_bytes(&file).into_owned();
    (Map::File(FileMap::new(kind, bytes, [Some(&file), None])), Some(file))
}

/// The type and the file of `dbm:file` or `dbm=type:file`.
fn dbm_source<'s>(source: &str, rest: &'s str) -> Result<(&'s str, &'s str), String> {
    let found = match rest.split_at_checked(1) {
        Some((":", file)) => Some(("default", file)),
        Some(("=", named)) => named.split_once(':'),
        _ => None,
    };
    found.ok_or_else(|| format!("RewriteMap: bad map:{source}"))
}

fn dbm_map(cmd: &Cmd, name: &str, file: &str) -> Result<(Map, Option<String>), String> {
    let Some(kind) = dbm::Kind::named(name) else {
        return Err(format!("RewriteMap: dbm type {name} is invalid"));
    };
    let file = cmd.server_root_relative(file);
    let (first, second) = kind.used_names(&file);
    let bytes = to_bytes(&file).into_owned();
    let map = FileMap::new(Kind::Dbm(kind), bytes, [Some(&first), second.as_deref()]);
    Ok((Map::File(map), Some(first)))
}

impl FileMap {
    fn new(kind: Kind, file: Vec<u8>, watched: [Option<&str>; 2]) -> FileMap {
        let watched = watched.map(|name| Some(to_bytes(name?).into_owned().into()));
        FileMap { kind, file: file.into(), watched, cache: Mutex::default() }
    }

    /// The value of `key` in the file as it is now.
    fn find(&self, key: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
        match self.kind {
            Kind::Dbm(kind) => Ok(Dbm::open_kind(kind, &self.file)?.fetch(key)),
            Kind::Text | Kind::Random => text::find(&self.file, key),
        }
    }
}

/// True when the rules are traced and there is a map that may block: on a thread from the start, nothing is logged twice.
pub(super) fn want_thread(r: &Request) -> bool {
    let blocks = |map: &Arc<Map>| matches!(**map, Map::Program(_) | Map::Sql(_));
    r.needs_thread()
        && r.log_enabled("rewrite", Level::Trace1)
        && r.server.conf.get(&SERVER).maps.values().any(blocks)
}

/// The value of `key` in the map `name`; none where the map or the key isn't there. `lookup_map`
pub(super) fn look_up(r: &mut Request, name: &[u8], key: Vec<u8>) -> Result<Option<Vec<u8>>, NeedThread> {
    let server = r.server.clone();
    let Some(map) = server.conf.get(&SERVER).maps.get(name.as_bstr()) else { return Ok(None) };
    let name = shown(name);
    Ok(match &**map {
        Map::File(map) => in_file(r, &name, key, map),
        Map::Sql(map) => {
            memo::refuse();
            if r.needs_thread() {
                return Err(NeedThread);
            }
            map.look_up(r, &name, key)
        }
        Map::Program(program) => {
            memo::refuse();
            if r.needs_thread() {
                return Err(NeedThread);
            }
            let value = program.ask(r, &key);
            log_found(r, &name, &shown(&key), value.as_deref());
            value
        }
        Map::Internal { function, in_place } => {
            let value = function(key.clone());
            // What works on the key itself has changed it by now.
            let key = if *in_place { &value } else { &key };
            log_found(r, &name, &shown(key), Some(&value));
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

fn in_file(r: &mut Request, name: &str, key: Vec<u8>, map: &FileMap) -> Option<Vec<u8>> {
    let kind = map.kind;
    let complain = |r: &Request, number: &str, what: &str, err: std::io::Error, file: &[u8]| {
        let file = shown(file);
        rerror!(r, Level::Error, "rewrite", number, err = err, "mod_rewrite: can't {what} {file}");
    };
    let [accessed, opened] = kind.called();
    let (no_access, not_open) = kind.numbers();
    let mut mtime = 0;
    for (file, number) in map.watched.iter().flatten().zip(no_access) {
        match FileInfo::stat(file) {
            Ok(info) => mtime = mtime.max(info.mtime),
            Err(err) => {
                complain(r, number, &format!("access {accessed}"), err, file);
                return None;
            }
        }
    }
    let shown_key = shown(&key).into_owned();
    let type_name = kind.name();
    let cached = {
        let mut cache = map.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.mtime != mtime {
            *cache = Cache { mtime, values: HashMap::new() };
        }
        cache.values.get(&key).cloned()
    };
    let mut value = match cached {
        Some(value) => {
            let val = shown(&value);
            rewritelog!(
                r,
                Trace5,
                None,
                "cache lookup OK: map={name}[{type_name}] key={shown_key} -> val={val}"
            );
            value
        }
        None => {
            rewritelog!(r, Trace6, None, "cache lookup FAILED, forcing new map lookup");
            let found = map.find(&key).unwrap_or_else(|err| {
                complain(r, not_open, &format!("open {opened}"), err, &map.file);
                None
            });
            log_found(r, &format!("{name}[{type_name}]"), &shown_key, found.as_deref());
            let mut cache = map.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if cache.mtime == mtime {
                cache.values.insert(key, found.clone().unwrap_or_default());
            }
            found?
        }
    };
    if kind == Kind::Random && !value.is_empty() {
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
    fn sources_of_dbm() {
        assert_eq!(dbm_source("dbm", ""), Err("RewriteMap: bad map:dbm".to_owned()));
        assert_eq!(dbm_source("dbm=x", "=x"), Err("RewriteMap: bad map:dbm=x".to_owned()));
        assert_eq!(dbm_source("dbm:f", ":f"), Ok(("default", "f")));
        assert_eq!(dbm_source("dbm=sdbm:f", "=sdbm:f"), Ok(("sdbm", "f")));
    }
}
