//! What a list of matching sections merges to, remembered.
//!
//! Apache keeps the last walk per request and connection (`prep_walk_cache`); here each step "this configuration, then
//! that section" is made once for all requests of a process. Equal matches therefore give the same [`Arc`], and
//! Apache's rule "same per-directory configuration, don't check access again" is pointer equality.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use super::section::{Section, SectionId, fresh_id};
use crate::module::ConfVec;

/// A merged per-directory configuration.
pub struct DirConf {
    /// Its number; equal numbers mean the same sections in the same order.
    pub id: SectionId,
    conf: ConfVec,
}

impl DirConf {
    /// A configuration that is no merge: a server's own.
    pub fn root(conf: ConfVec) -> Arc<DirConf> {
        Arc::new(DirConf { id: fresh_id(), conf })
    }
}

impl Deref for DirConf {
    type Target = ConfVec;
    fn deref(&self) -> &ConfVec {
        &self.conf
    }
}

/// Two numbers that are already as good as random need no strong hash.
#[derive(Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0.rotate_left(29) ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Step = (SectionId, SectionId);

/// The merges that a process has made. `.htaccess` files that change leave dead entries: at the bound all are dropped.
#[derive(Default)]
pub struct Merges {
    made: Mutex<HashMap<Step, Arc<DirConf>, BuildHasherDefault<PairHasher>>>,
}

const BOUND: usize = 50_000;

impl Merges {
    /// `section` on top of those of the same walk before it. Sections are first merged with each other and then, as a
    /// whole, onto what was there before the walk: for settings that add to what is said below them, it matters.
    pub fn join(&self, walked: Option<Arc<DirConf>>, section: &Section) -> Arc<DirConf> {
        match walked {
            None => section.alone().clone(),
            Some(walked) => self.make((walked.id, section.id), || walked.conf.join(&section.conf)),
        }
    }

    /// What a walk found on top of `base`, which began with a server's settings.
    pub fn overlay(&self, base: &Arc<DirConf>, walked: &Arc<DirConf>) -> Arc<DirConf> {
        self.make((base.id, walked.id), || base.conf.merge(&walked.conf))
    }

    fn make(&self, key: Step, conf: impl FnOnce() -> ConfVec) -> Arc<DirConf> {
        let mut made = self.made.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(found) = made.get(&key) {
            return found.clone();
        }
        if made.len() >= BOUND {
            made.clear();
        }
        let merged = Arc::new(DirConf { id: fresh_id(), conf: conf() });
        made.insert(key, merged.clone());
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::section::Matcher;

    #[test]
    fn equal_walks_give_the_same_arc() {
        let merges = Merges::default();
        let root = DirConf::root(ConfVec::new());
        let one = Section::new("/a", Matcher::Plain(b"/a".to_vec()), ConfVec::new());
        let two = Section::new("/b", Matcher::Plain(b"/b".to_vec()), ConfVec::new());
        let both = || merges.overlay(&root, &merges.join(Some(merges.join(None, &one)), &two));
        let first = both();
        assert!(Arc::ptr_eq(&first, &both()));
        let other = merges.overlay(&root, &merges.join(None, &two));
        assert_ne!(first.id, other.id);
    }
}
