//! What is known of a worker in all processes: its status, since when it fails, what it did.
//!
//! Answers to `proxy_worker_shared` of `mod_proxy.h`. It lies in shared memory, made by the master before it forks. Whoever
//! asks for the score of a name that is in use, also by the configuration before, gets the same one: so it survives a
//! graceful restart.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::os::clock::unix_micros;
use crate::os::shared::SharedArray;

/// `PROXY_WORKER_*`: what a worker is.
pub mod flag {
    /// Errors don't stop it (`I`).
    pub const IGNORE_ERRORS: u32 = 0x0002;
    /// It takes only requests of sessions that it has already (`N`).
    pub const DRAIN: u32 = 0x0004;
    /// The one for backends without a worker.
    pub const GENERIC: u32 = 0x0008;
    /// It goes.
    pub const IN_SHUTDOWN: u32 = 0x0010;
    /// Not to be used (`D`).
    pub const DISABLED: u32 = 0x0020;
    /// Not to be used, and not to be tried again (`S`).
    pub const STOPPED: u32 = 0x0040;
    /// It failed (`E`).
    pub const IN_ERROR: u32 = 0x0080;
    /// Used when all others fail (`H`).
    pub const HOT_STANDBY: u32 = 0x0100;
    /// Nobody's place (`F`).
    pub const FREE: u32 = 0x0200;
    /// Its health check fails (`C`).
    pub const HC_FAIL: u32 = 0x0400;
    /// Used when too few others are left (`R`).
    pub const HOT_SPARE: u32 = 0x0800;

    /// With any of these it is not used.
    pub const NOT_USABLE: u32 = IN_SHUTDOWN | DISABLED | STOPPED | IN_ERROR | HC_FAIL;

    /// The flag that `status=` calls `letter`.
    pub fn by_letter(letter: char) -> Option<u32> {
        Some(match letter.to_ascii_uppercase() {
            'O' => 0x0001,
            'I' => IGNORE_ERRORS,
            'N' => DRAIN,
            'G' => GENERIC,
            'U' => IN_SHUTDOWN,
            'D' => DISABLED,
            'S' => STOPPED,
            'E' => IN_ERROR,
            'H' => HOT_STANDBY,
            'R' => HOT_SPARE,
            'F' => FREE,
            'C' => HC_FAIL,
            _ => return None,
        })
    }
}

/// The numbers of one worker.
#[derive(Default)]
pub struct Score {
    /// Bits of [`flag`].
    pub status: AtomicU32,
    /// When it failed (microseconds since 1970).
    pub error_time: AtomicI64,
    /// How often it was tried again since.
    pub retries: AtomicU32,
    /// Requests that it has now.
    pub busy: AtomicU32,
    /// Requests that it was chosen for.
    pub elected: AtomicU64,
    /// Bytes sent to it.
    pub transferred: AtomicU64,
    /// Bytes read from it.
    pub read: AtomicU64,
    /// Its share of the requests, in hundredths.
    pub lbfactor: AtomicI32,
    /// What the choice counts for it.
    pub lbstatus: AtomicI32,
}

impl Score {
    /// True when it may be asked.
    pub fn is_usable(&self) -> bool {
        self.status.load(Ordering::Relaxed) & flag::NOT_USABLE == 0
    }

    /// True when it has one of these bits.
    pub fn has(&self, bits: u32) -> bool {
        self.status.load(Ordering::Relaxed) & bits != 0
    }

    /// It failed now.
    pub fn fail(&self) {
        self.error_time.store(unix_micros(), Ordering::Relaxed);
        self.status.fetch_or(flag::IN_ERROR, Ordering::Relaxed);
    }
}

/// How many scores are mapped at once.
const SLAB: usize = 32;

/// A worker's place in the shared memory.
pub struct Place {
    slab: Arc<SharedArray<Score>>,
    index: usize,
}

impl Place {
    /// The score there.
    pub fn score(&self) -> &Score {
        &self.slab.as_slice()[self.index]
    }
}

#[derive(Default)]
struct Registry {
    named: HashMap<String, Weak<Place>>,
    newest: Option<Arc<SharedArray<Score>>>,
    used: usize,
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

/// The score of this name, and whether it is a new one.
pub fn score_of(name: &str) -> io::Result<(Arc<Place>, bool)> {
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    let registry = registry.get_or_insert_default();
    if let Some(place) = registry.named.get(name).and_then(Weak::upgrade) {
        return Ok((place, false));
    }
    registry.named.retain(|_, place| place.strong_count() > 0);
    let slab = match registry.newest.take().filter(|_| registry.used < SLAB) {
        Some(slab) => slab,
        None => {
            let slab = Arc::new(SharedArray::new(SLAB)?);
            registry.used = 0;
            slab
        }
    };
    let place = Arc::new(Place { slab: slab.clone(), index: registry.used });
    registry.used += 1;
    registry.newest = Some(slab);
    registry.named.insert(name.to_owned(), Arc::downgrade(&place));
    Ok((place, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_in_use_keeps_its_score() {
        let (first, new) = score_of("state-test-a").expect("memory");
        assert!(new);
        first.score().fail();
        let (again, new) = score_of("state-test-a").expect("memory");
        assert!(!new && !again.score().is_usable());
        let (other, new) = score_of("state-test-b").expect("memory");
        assert!(new && other.score().is_usable());
        drop((first, again));
        let (fresh, new) = score_of("state-test-a").expect("memory");
        assert!(new && fresh.score().is_usable());
    }
}
