//! Memory in equal slots, which a name leads to: what mod_heartmonitor keeps the servers of its group in, and mod_proxy the
//! workers of its balancers.
//!
//! Answers to `include/ap_slotmem.h`. The kinds are mod_slotmem_shm (all processes have the same slots) and mod_slotmem_plain
//! (each has its own). A slot in shared memory outlives restarts as long as the server runs: who asks for the same name with the
//! same sizes again gets the same slots, which new and old children then share. Slots are taken and given back by one atomic step, so that
//! two processes never take the same; what stands in one may be read while another writes it, as in Apache.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::server::Setup;
use crate::os::shared::SharedArray;

/// Finds or makes what is called by a name: so many slots of so many bytes.
pub type SlotmemProvider = fn(&Setup, &str, usize, usize) -> io::Result<Arc<Slots>>;

/// Where the bytes lie.
enum Memory {
    Shared(SharedArray<AtomicU8>),
    Own(Vec<AtomicU8>),
}

/// The slots of one name: `ap_slotmem_instance_t`.
pub struct Slots {
    /// The name that the log tells.
    name: String,
    size: usize,
    count: usize,
    /// A byte for each slot that says whether it is taken, then the slots.
    memory: Memory,
}

/// Why a slot could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no such slot, or none that is free.
    Invalid,
    /// Nobody took it.
    NotTaken,
}

impl Slots {
    /// In memory that processes made later share.
    pub fn shared(name: &str, size: usize, count: usize) -> io::Result<Slots> {
        let memory = Memory::Shared(SharedArray::new(bytes(size, count)?)?);
        Ok(Slots { name: name.to_owned(), size, count, memory })
    }

    /// In memory that each process has for itself.
    pub fn own(name: &str, size: usize, count: usize) -> io::Result<Slots> {
        let memory = Memory::Own((0..bytes(size, count)?).map(|_| AtomicU8::new(0)).collect());
        Ok(Slots { name: name.to_owned(), size, count, memory })
    }

    fn memory(&self) -> &[AtomicU8] {
        match &self.memory {
            Memory::Shared(memory) => memory.as_slice(),
            Memory::Own(memory) => memory,
        }
    }

    fn taken(&self) -> &[AtomicU8] {
        self.memory().get(..self.count).unwrap_or_default()
    }

    fn slot(&self, id: usize) -> Result<&[AtomicU8], Refused> {
        let taken = self.taken().get(id).ok_or(Refused::Invalid)?;
        if taken.load(Ordering::Acquire) == 0 {
            return Err(Refused::NotTaken);
        }
        let start = self.count + id * self.size;
        self.memory().get(start..start + self.size).ok_or(Refused::Invalid)
    }

    /// The name that the log tells.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many bytes a slot has: `slot_size`.
    pub fn slot_size(&self) -> usize {
        self.size
    }

    /// How many slots there are: `num_slots`.
    pub fn num_slots(&self) -> usize {
        self.count
    }

    /// How many nobody has taken: `num_free_slots`.
    pub fn num_free_slots(&self) -> usize {
        self.taken().iter().filter(|taken| taken.load(Ordering::Relaxed) == 0).count()
    }

    /// Takes a free slot: `grab`.
    pub fn grab(&self) -> Result<usize, Refused> {
        let take =
            |taken: &AtomicU8| taken.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        self.taken().iter().position(take).ok_or(Refused::Invalid)
    }

    /// Takes this one, whoever had it: `fgrab`.
    pub fn grab_at(&self, id: usize) -> Result<(), Refused> {
        self.taken().get(id).ok_or(Refused::Invalid)?.store(1, Ordering::Release);
        Ok(())
    }

    /// Gives a slot back: `release`.
    pub fn release(&self, id: usize) -> Result<(), Refused> {
        match self.taken().get(id).ok_or(Refused::Invalid)?.swap(0, Ordering::AcqRel) {
            0 => Err(Refused::NotTaken),
            _ => Ok(()),
        }
    }

    /// What stands in a slot that is taken: `get`.
    pub fn get(&self, id: usize) -> Result<Vec<u8>, Refused> {
        Ok(self.slot(id)?.iter().map(|byte| byte.load(Ordering::Relaxed)).collect())
    }

    /// Writes to the beginning of a slot that is taken; what does not fit is cut off: `put`.
    pub fn put(&self, id: usize, data: &[u8]) -> Result<(), Refused> {
        for (byte, new) in self.slot(id)?.iter().zip(data) {
            byte.store(*new, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The slots that are taken, each with what stands in it: `doall`.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
        (0..self.count).filter_map(|id| Some((id, self.get(id).ok()?)))
    }

    fn is(&self, name: &str, size: usize, count: usize) -> bool {
        self.name == name && self.size == size && self.count == count
    }
}

fn bytes(size: usize, count: usize) -> io::Result<usize> {
    let whole = size.checked_add(1).and_then(|each| each.checked_mul(count));
    whole.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// All that one kind has made: `globallistmem`.
pub struct Known(Mutex<Vec<Arc<Slots>>>);

impl Known {
    /// Nothing.
    pub const fn new() -> Known {
        Known(Mutex::new(Vec::new()))
    }

    /// What has this name and these sizes, if it was made before.
    pub fn find(&self, name: &str, size: usize, count: usize) -> Option<Arc<Slots>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|slots| slots.is(name, size, count)).cloned()
    }

    /// Keeps it, in place of what had this name with other sizes.
    pub fn add(&self, slots: Slots) -> Arc<Slots> {
        let slots = Arc::new(slots);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|old| old.name != slots.name);
        known.push(slots.clone());
        slots
    }
}

impl Default for Known {
    fn default() -> Self {
        Known::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_taken_and_given_back() {
        for slots in [Slots::shared("a", 4, 2), Slots::own("a", 4, 2)] {
            let slots = slots.expect("memory for eight bytes");
            assert_eq!((slots.grab(), slots.grab(), slots.grab()), (Ok(0), Ok(1), Err(Refused::Invalid)));
            assert_eq!(slots.put(1, b"abcdefg"), Ok(()));
            assert_eq!(slots.get(1).as_deref(), Ok(&b"abcd"[..]));
            assert_eq!(slots.release(0), Ok(()));
            assert_eq!(slots.release(0), Err(Refused::NotTaken));
            assert_eq!((slots.get(0), slots.get(2)), (Err(Refused::NotTaken), Err(Refused::Invalid)));
            assert_eq!(slots.iter().map(|(id, _)| id).collect::<Vec<_>>(), [1]);
            assert_eq!(slots.num_free_slots(), 1);
            assert_eq!((slots.grab_at(0), slots.grab_at(2)), (Ok(()), Err(Refused::Invalid)));
        }
    }

    #[test]
    fn a_name_leads_to_what_it_led_to_before() {
        let known = Known::new();
        let first = known.add(Slots::own("a", 4, 2).expect("memory"));
        assert!(known.find("a", 4, 2).is_some_and(|again| Arc::ptr_eq(&again, &first)));
        assert!(known.find("a", 4, 3).is_none());
        assert!(Slots::own("a", usize::MAX, 2).is_err());
    }
}
