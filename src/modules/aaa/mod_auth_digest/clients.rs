//! What is known of clients, in memory that all children share: how often each used its nonce, and the last one-time nonce.
//!
//! Answers to the client list of `mod_auth_digest.c`. Where it differs: the list is a table of fixed places without locks; a
//! new client takes the place of the oldest one of its bucket, where Apache collects garbage when its memory is full.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::os::shared::SharedArray;

/// Places in a bucket (`HASH_DEPTH`).
const DEPTH: usize = 5;
/// Numbers of a place: the key, the count, the last nonce's time and 20 bytes of hash.
const WIDTH: usize = 6;
/// Numbers before the places: the last key, the one-time nonces' counter.
const HEAD: usize = 2;

/// `AuthDigestShmemSize`, as a number of buckets.
static BUCKETS: AtomicUsize = AtomicUsize::new(15);
static TABLE: OnceLock<SharedArray<AtomicU64>> = OnceLock::new();

/// Bytes of Apache's list, of a bucket's head and of an entry.
const LIST: i64 = 48;
const POINTER: i64 = 8;
const ENTRY: i64 = 32;
/// The least that `AuthDigestShmemSize` may say.
pub(super) const LEAST: i64 = LIST + POINTER + ENTRY;

/// Makes it as large as Apache's would be in so many bytes; answers the number of buckets.
pub(super) fn set_size(bytes: i64) -> usize {
    let buckets = ((bytes - LIST) / (POINTER + DEPTH as i64 * ENTRY)).max(1);
    let buckets = usize::try_from(buckets).unwrap_or(1);
    BUCKETS.store(buckets, Relaxed);
    buckets
}

/// Makes the table, once for the life of the server: children of before a restart go on using it.
pub(super) fn create() -> std::io::Result<()> {
    if TABLE.get().is_none() {
        let table = SharedArray::new(HEAD + BUCKETS.load(Relaxed) * DEPTH * WIDTH)?;
        // Nobody else makes it: the master has one thread.
        let _ = TABLE.set(table);
    }
    Ok(())
}

/// A client's place.
#[derive(Clone, Copy)]
pub(super) struct Client(&'static [AtomicU64]);

fn bucket(table: &'static [AtomicU64], key: u64) -> &'static [AtomicU64] {
    let places = &table[HEAD.min(table.len())..];
    let size = DEPTH * WIDTH;
    let count = (places.len() / size).max(1) as u64;
    let at = (key % count) as usize * size;
    places.get(at..at + size).unwrap_or_default()
}

impl Client {
    /// The client called `key`, if it is known.
    pub fn find(key: u64) -> Option<Client> {
        let table = TABLE.get().filter(|_| key != 0)?.as_slice();
        bucket(table, key).chunks_exact(WIDTH).find(|place| place[0].load(Relaxed) == key).map(Client)
    }

    /// A new one.
    pub fn create() -> Option<Client> {
        let table = TABLE.get()?.as_slice();
        let key = table.first()?.fetch_add(1, Relaxed) + 1;
        // Keys only grow: the smallest is the oldest, 0 a free place.
        let place = bucket(table, key).chunks_exact(WIDTH).min_by_key(|place| place[0].load(Relaxed))?;
        for number in &place[1..] {
            number.store(0, Relaxed);
        }
        place[0].store(key, Relaxed);
        Some(Client(place))
    }

    /// Its name, the `opaque` that it sends.
    pub fn key(self) -> u64 {
        self.0[0].load(Relaxed)
    }

    /// How often it used its nonce.
    pub fn count(self) -> u64 {
        self.0[1].load(Relaxed)
    }

    /// It used its nonce once more.
    pub fn used(self) {
        self.0[1].fetch_add(1, Relaxed);
    }

    /// It gets a new nonce.
    pub fn restart(self) {
        self.0[1].store(0, Relaxed);
    }

    /// The nonce that it may use next, once.
    pub fn set_last_nonce(self, time: i64, hash: &[u8; 20]) {
        for (number, value) in self.0[2..].iter().zip(numbers(time, hash)) {
            number.store(value, Relaxed);
        }
    }

    /// Is this the nonce that it may use?
    pub fn is_last_nonce(self, time: i64, hash: &[u8; 20]) -> bool {
        self.0[2..].iter().zip(numbers(time, hash)).all(|(number, value)| number.load(Relaxed) == value)
    }
}

/// The next one-time nonce's number; `None` without shared memory.
pub(super) fn next_one_time() -> Option<i64> {
    TABLE.get()?.as_slice().get(1).map(|counter| counter.fetch_add(1, Relaxed) as i64)
}

fn numbers(time: i64, hash: &[u8; 20]) -> [u64; 4] {
    let number =
        |from: usize| hash.iter().skip(from).take(8).fold(0, |number, &byte| number << 8 | u64::from(byte));
    [time as u64, number(0), number(8), number(16)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_and_go() {
        assert_eq!(set_size(400), 2);
        create().unwrap();
        let first = Client::create().unwrap();
        assert_eq!(Client::find(first.key()).map(Client::key), Some(first.key()));
        first.used();
        assert_eq!(Client::find(first.key()).unwrap().count(), 1);
        let hash = [7; 20];
        first.set_last_nonce(5, &hash);
        assert!(first.is_last_nonce(5, &hash) && !first.is_last_nonce(6, &hash));
        let key = first.key();
        let places = TABLE.get().unwrap().as_slice().len() / WIDTH;
        for _ in 0..=places {
            Client::create();
        }
        assert!(Client::find(key).is_none());
        assert!(Client::find(0).is_none());
    }
}
