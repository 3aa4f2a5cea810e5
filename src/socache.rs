//! Small objects that all processes of the server share: what mod_authn_socache keeps passwords in, and mod_ssl its sessions.
//!
//! Answers to `include/ap_socache.h`. The kinds are mod_socache_shmcb, mod_socache_dbm,
//! mod_socache_memcache and mod_socache_redis; but for the first, who asks may have to wait, which no reactor may. Where it differs:
//! a cache locks itself, so that its users need no `Mutex`.

use std::io;
use std::sync::Arc;

use crate::config::server::Setup;

/// What a cache is told about its use: `ap_socache_hints`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints {
    /// How long identifiers are, about; 0: not known.
    pub avg_id_len: usize,
    /// How long objects are, about; 0: not known.
    pub avg_obj_size: usize,
    /// How often to look for what has expired, in microseconds; 0: not said.
    pub expiry_interval: i64,
}

/// A cache: `ap_socache_instance_t`.
pub trait Socache: Send + Sync {
    /// Makes it ready, in the master. `namespace` says who uses it, in letters that a file name may have.
    fn init(&self, namespace: &str, hints: &Hints, setup: &Setup) -> io::Result<()>;

    /// Keeps `data` under `id` until `expiry` (microseconds since 1970).
    fn store(&self, id: &[u8], expiry: i64, data: &[u8]) -> io::Result<()>;

    /// What is kept under `id`, if it is no longer than `most`.
    fn retrieve(&self, id: &[u8], most: usize) -> io::Result<Option<Vec<u8>>>;

    /// Forgets `id`; false where it wasn't known.
    fn remove(&self, id: &[u8]) -> io::Result<bool>;
}

/// Makes a cache from what follows its kind in a directive, e.g. the file and the size in `shmcb:/path(512000)`.
pub type SocacheProvider = fn(&Setup, Option<&str>) -> Result<Arc<dyn Socache>, String>;

/// The kind that is there for those who choose none.
pub const DEFAULT_PROVIDER: &str = "default";
