//! The rings in shared memory: each has a queue of entries and the bytes that these point to.
//!
//! Answers to the `shmcb_subcache_…` functions. Whoever calls holds the lock. What another process left behind when it died
//! in the middle may make no sense, but can do no harm: all places are taken modulo the ring's size.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use super::debug;
use crate::log::{Level, level, server_event};
use crate::os::shared::SharedArray;
use crate::socache::Hints;

/// Bytes of Apache's structures: of the whole, of a ring, of an entry.
const HEADER: usize = 88;
const SUBCACHE: usize = 16;
const INDEX: usize = 24;
/// Numbers of a ring before its entries: where the queue begins and how many are in it; the same for the bytes.
const HEAD: usize = 4;
/// Numbers of an entry: expiry, where it begins, and its length with the identifier's, both below `REMOVED`.
const ENTRY: usize = 3;
/// The entry counts no more.
const REMOVED: u64 = 1 << 63;

/// How the memory is divided: the same as in Apache for the same number of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sizes {
    pub without_header: usize,
    pub subcaches: usize,
    /// Entries of a ring.
    pub indexes: usize,
    /// Bytes of a ring with everything.
    pub subcache: usize,
    /// Bytes of a ring for identifiers and objects.
    pub data: usize,
}

impl Sizes {
    pub(super) fn of(bytes: usize, hints: &Hints) -> Sizes {
        let without_header = bytes.saturating_sub(HEADER);
        let said = |hint, usual| if hint == 0 { usual } else { hint };
        let indexes = without_header / (said(hints.avg_obj_size, 150) + said(hints.avg_id_len, 30));
        let mut subcaches: usize = 256;
        while subcaches > 1 && indexes / subcaches < 2 * subcaches {
            subcaches /= 2;
        }
        let indexes = indexes / subcaches;
        let subcache = (without_header / subcaches) & !7;
        let data = subcache.saturating_sub(SUBCACHE + indexes * INDEX);
        Sizes { without_header, subcaches, indexes, subcache, data }
    }
}

/// All rings.
pub(super) struct Rings {
    sizes: Sizes,
    numbers: SharedArray<AtomicU64>,
    bytes: SharedArray<AtomicU8>,
}

/// The ring that an identifier belongs to.
pub(super) struct Ring<'r> {
    sizes: Sizes,
    head: &'r [AtomicU64],
    entries: &'r [AtomicU64],
    bytes: &'r [AtomicU8],
    first: u8,
    number: usize,
}

impl Rings {
    pub(super) fn new(sizes: Sizes) -> io::Result<Rings> {
        let numbers = SharedArray::new(sizes.subcaches * (HEAD + sizes.indexes * ENTRY))?;
        let bytes = SharedArray::new(sizes.subcaches * sizes.data)?;
        Ok(Rings { sizes, numbers, bytes })
    }

    /// Its first byte says which.
    pub(super) fn of(&self, id: &[u8]) -> Ring<'_> {
        let sizes = self.sizes;
        let first = id.first().copied().unwrap_or_default();
        let number = usize::from(first) & (sizes.subcaches - 1);
        let each = HEAD + sizes.indexes * ENTRY;
        let numbers = &self.numbers.as_slice()[number * each..(number + 1) * each];
        let (head, entries) = numbers.split_at(HEAD);
        let bytes = &self.bytes.as_slice()[number * sizes.data..(number + 1) * sizes.data];
        Ring { sizes, head, entries, bytes, first, number }
    }
}

/// An entry as it stands in the queue.
#[derive(Clone, Copy)]
struct Entry {
    expires: i64,
    /// Where its identifier begins.
    at: usize,
    /// Its length, identifier and object.
    len: usize,
    id_len: usize,
    removed: bool,
}

impl Ring<'_> {
    /// The identifier's first byte.
    pub(super) fn first(&self) -> u8 {
        self.first
    }

    /// Which ring it is.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    fn head(&self, which: usize) -> usize {
        self.head[which].load(Relaxed) as usize
    }

    fn set_head(&self, which: usize, number: usize) {
        self.head[which].store(number as u64, Relaxed);
    }

    /// Where in the queue the `nth` entry is.
    fn place(&self, nth: usize) -> usize {
        self.head(0).wrapping_add(nth) % self.sizes.indexes
    }

    /// How many entries there are.
    fn used(&self) -> usize {
        self.head(1).min(self.sizes.indexes)
    }

    /// How many bytes they take.
    fn data_used(&self) -> usize {
        self.head(3).min(self.sizes.data)
    }

    fn entry(&self, place: usize) -> Entry {
        let number = |which: usize| self.entries[place * ENTRY + which].load(Relaxed);
        let lengths = number(2);
        Entry {
            expires: number(0) as i64,
            at: number(1) as usize % self.sizes.data.max(1),
            len: (lengths & 0xffff_ffff) as usize,
            id_len: (lengths >> 32 & 0x7fff_ffff) as usize,
            removed: lengths & REMOVED != 0,
        }
    }

    fn set_entry(&self, place: usize, entry: Entry) {
        let removed = if entry.removed { REMOVED } else { 0 };
        let lengths = entry.len as u64 | (entry.id_len as u64) << 32 | removed;
        for (which, number) in [entry.expires as u64, entry.at as u64, lengths].into_iter().enumerate() {
            self.entries[place * ENTRY + which].store(number, Relaxed);
        }
    }

    fn write(&self, at: usize, data: &[u8]) {
        for (offset, byte) in data.iter().enumerate() {
            self.bytes[(at + offset) % self.sizes.data].store(*byte, Relaxed);
        }
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes[at % self.sizes.data].load(Relaxed)
    }

    /// The place of the entry called `id`, whose object is no longer than `most`.
    fn find(&self, id: &[u8], most: usize) -> Option<(usize, Entry)> {
        (0..self.used()).map(|nth| self.place(nth)).map(|place| (place, self.entry(place))).find(
            |(_, entry)| {
                !entry.removed
                    && entry.id_len == id.len()
                    && entry.len.checked_sub(entry.id_len).is_some_and(|len| len <= most)
                    && id.iter().enumerate().all(|(offset, byte)| self.byte(entry.at + offset) == *byte)
            },
        )
    }

    /// From one place of the bytes to another one, around the ring.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.sizes.data - from }
    }

    /// Lets the oldest `count` entries go.
    fn drop_oldest(&self, count: usize) {
        let used = self.used();
        if count >= used {
            self.set_head(0, self.place(used));
            self.set_head(1, 0);
            self.set_head(3, 0);
            return;
        }
        let next = self.entry(self.place(count)).at;
        let freed = self.distance(self.head(2) % self.sizes.data, next);
        self.set_head(0, self.place(count));
        self.set_head(1, used - count);
        self.set_head(2, next);
        self.set_head(3, self.data_used().saturating_sub(freed));
    }

    /// Lets go what was removed or has expired, up to the first entry that counts.
    fn expire(&self, now: i64) {
        let (mut freed, mut expired) = (0, 0);
        for nth in 0..self.used() {
            let entry = self.entry(self.place(nth));
            if entry.removed {
                freed += 1;
            } else if entry.expires <= now {
                expired += 1;
            } else {
                break;
            }
        }
        if freed + expired == 0 {
            return;
        }
        debug!("AH00842", "expiring {expired} and reclaiming {freed} removed socache entries");
        if freed + expired == self.used() {
            self.set_head(1, 0);
            self.set_head(3, 0);
        } else {
            self.drop_oldest(freed + expired);
        }
        debug!("AH00843", "we now have {} socache entries", self.used());
    }

    /// Puts an entry behind the others; the oldest make room. False where it is too large.
    pub(super) fn store(&self, id: &[u8], data: &[u8], expires: i64, now: i64) -> bool {
        let len = id.len() + data.len();
        let size = self.sizes.data;
        if len > size {
            let text = format!("inserting socache entry larger ({len}) than subcache data area ({size})");
            server_event(Level::Error, "socache_shmcb", "AH00844", &text);
            return false;
        }
        self.expire(now);
        if size - self.data_used() < len || self.used() == self.sizes.indexes {
            debug!(
                "AH00845",
                "about to force-expire, subcache: idx_used={}, data_used={}",
                self.used(),
                self.data_used()
            );
            loop {
                self.drop_oldest(1);
                if self.used() == 0 || size - self.data_used() >= len {
                    break;
                }
            }
            debug!(
                "AH00846",
                "finished force-expire, subcache: idx_used={}, data_used={}",
                self.used(),
                self.data_used()
            );
        }
        let at = (self.head(2) % size + self.data_used()) % size;
        let data_at = (at + id.len()) % size;
        self.write(at, id);
        self.write(data_at, data);
        let place = self.place(self.used());
        self.set_entry(place, Entry { expires, at, len, id_len: id.len(), removed: false });
        self.set_head(3, self.data_used() + len);
        self.set_head(1, self.used() + 1);
        debug!("AH00847", "insert happened at idx={place}, data=({at}:{data_at})");
        debug!(
            "AH00848",
            "finished insert, subcache: idx_pos/idx_used={}/{}, data_pos/data_used={}/{}",
            self.head(0),
            self.used(),
            self.head(2),
            self.data_used()
        );
        true
    }

    /// The object called `id`.
    pub(super) fn retrieve(&self, id: &[u8], most: usize, now: i64) -> Option<Vec<u8>> {
        let Some((place, entry)) = self.find(id, most) else {
            debug!("AH00851", "shmcb_subcache_retrieve found no match");
            return None;
        };
        debug!("AH00849", "match at idx={place}, data={}", entry.at);
        if entry.expires <= now {
            self.set_entry(place, Entry { removed: true, ..entry });
            debug!("AH00850", "shmcb_subcache_retrieve discarding expired entry");
            return None;
        }
        Some((entry.id_len..entry.len).map(|offset| self.byte(entry.at + offset)).collect())
    }

    /// Forgets `id`; false where it isn't known.
    pub(super) fn remove(&self, id: &[u8]) -> bool {
        let Some((place, entry)) = self.find(id, usize::MAX) else { return false };
        debug!("AH00852", "possible match at idx={place}, data={}", entry.at);
        self.set_entry(place, Entry { removed: true, ..entry });
        debug!("AH00853", "shmcb_subcache_remove removing matching entry");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings() -> Rings {
        let sizes = Sizes { without_header: 0, subcaches: 2, indexes: 4, subcache: 0, data: 64 };
        Rings::new(sizes).unwrap()
    }

    #[test]
    fn divided_as_in_apache() {
        let hints = Hints { avg_id_len: 64, avg_obj_size: 32, expiry_interval: 0 };
        let sizes = Sizes::of(512 * 1024, &hints);
        assert_eq!((sizes.without_header, sizes.subcaches, sizes.indexes), (524_200, 32, 170));
        assert_eq!((sizes.subcache, sizes.data), (16376, 16376 - 16 - 170 * 24));
    }

    #[test]
    fn kept_until_it_expires() {
        let rings = rings();
        let ring = rings.of(b"abcd");
        assert!(ring.store(b"abcd", b"value", 10, 0));
        assert_eq!(ring.retrieve(b"abcd", 99, 9), Some(b"value".to_vec()));
        assert_eq!(ring.retrieve(b"abcd", 4, 9), None);
        assert_eq!(ring.retrieve(b"abce", 99, 9), None);
        assert_eq!(ring.retrieve(b"abcd", 99, 10), None);
        assert_eq!(ring.retrieve(b"abcd", 99, 9), None);
        assert!(!ring.remove(b"abcd"));
    }

    #[test]
    fn the_oldest_go_around_the_ring() {
        let rings = rings();
        let ring = rings.of(b"k");
        for round in 0..50_u8 {
            let id = [b'k', b'k', b'k', round];
            let object = vec![round; usize::from(round % 23)];
            assert!(ring.store(&id, &object, 10, 0));
            assert_eq!(ring.retrieve(&id, 99, 0), Some(object));
            assert!(ring.used() <= 4 && ring.data_used() <= 64);
        }
        assert_eq!(ring.retrieve(&[b'k', b'k', b'k', 1], 99, 0), None);
        assert!(!ring.store(b"kkkk", &[0; 61], 10, 0));
        assert!(ring.remove(&[b'k', b'k', b'k', 49]));
    }
}
