//! Maps that an SQL query answers: `lookup_map_dbd`.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use super::super::log::rewritelog;
use super::Cache;
use crate::log::{Level, rerror, shown};
use crate::modules::database::mod_dbd;
use crate::request::Request;

/// A query, called like the map.
pub(in super::super) struct SqlMap {
    /// `fastdbd:` remembers the answers.
    cache: Option<Mutex<Cache>>,
}

impl SqlMap {
    /// `dbd:`, or `fastdbd:` with a cache.
    pub(super) fn new(cached: bool) -> SqlMap {
        SqlMap { cache: cached.then(Mutex::default) }
    }

    /// The value of `key`.
    pub(super) fn look_up(&self, r: &Request, name: &str, key: Vec<u8>) -> Option<Vec<u8>> {
        let shown_key = shown(&key).into_owned();
        let cache = || self.cache.as_ref().map(|cache| cache.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(cache) = cache() {
            if let Some(value) = cache.values.get(&key) {
                let val = shown(value);
                rewritelog!(r, Trace5, None, "cache lookup OK: map={name}[SQL] key={shown_key}, val={val}");
                return Some(value.clone()).filter(|value| !value.is_empty());
            }
            rewritelog!(r, Trace6, None, "cache lookup FAILED, forcing new map lookup");
        }
        let value = ask(r, name, &key);
        match &value {
            Some(value) => {
                let val = shown(value);
                rewritelog!(r, Trace5, None, "SQL map lookup OK: map {name} key={shown_key}, val={val}");
            }
            None => rewritelog!(r, Trace5, None, "SQL map lookup FAILED: map {name} key={shown_key}"),
        }
        if let Some(mut cache) = cache() {
            cache.values.insert(key, value.clone().unwrap_or_default());
        }
        value
    }
}

/// What the database has; one of the rows, if there are several.
fn ask(r: &Request, label: &str, key: &[u8]) -> Option<Vec<u8>> {
    let Some(dbd) = mod_dbd::acquire(&r.server) else {
        let text = "rewritemap: No db handle available! Check your database access";
        rerror!(r, Level::Error, "rewrite", "AH02963", "{text}");
        return None;
    };
    let found = match dbd.select(label, &[key]) {
        Ok(found) => found,
        Err(words) => {
            let key = shown(key);
            rerror!(r, Level::Error, "rewrite", "AH00657", "rewritemap: error {words} querying for {key}");
            return None;
        }
    };
    let mut values: Vec<_> = found.first_column().collect();
    if values.len() > 1 {
        rewritelog!(r, Trace3, None, "Multiple values found for {}", shown(key));
    }
    // Each `RandomState` is another one.
    let chosen = RandomState::new().hash_one(0) % values.len().max(1) as u64;
    let chosen = usize::try_from(chosen).ok().filter(|&index| index < values.len())?;
    values.swap_remove(chosen)
}
