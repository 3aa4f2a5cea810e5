//! Memory that the master shares with its children: made before the first fork, gone with the last process.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Types that may lie in shared memory: only atomics and arrays of them, for which all zeroes are a valid value.
///
/// # Safety
/// The type must be valid when its bytes are zero, have no pointers, no `Drop`, and be `Sync` by its atomics.
pub unsafe trait Zeroed: Sync {}

// SAFETY: `WorkerScore` is made of atomics and arrays of atomics only; zero is valid for each.
unsafe impl Zeroed for crate::engine::scoreboard::WorkerScore {}
// SAFETY: `ProcessScore` is made of atomics only; zero is valid for each.
unsafe impl Zeroed for crate::engine::scoreboard::ProcessScore {}
// SAFETY: `GlobalScore` is made of atomics only; zero is valid for each.
unsafe impl Zeroed for crate::engine::scoreboard::GlobalScore {}

// SAFETY: `WorkerScore` of the proxy is made of atomics only; zero is valid for each.
unsafe impl Zeroed for crate::modules::proxy::mod_proxy::state::Score {}

// SAFETY: an atomic; zero is valid for it.
unsafe impl Zeroed for std::sync::atomic::AtomicU64 {}
// SAFETY: an atomic; zero is valid for it.
unsafe impl Zeroed for std::sync::atomic::AtomicU8 {}

/// `len` values of `T` in anonymous shared memory.
pub struct SharedArray<T: Zeroed> {
    start: NonNull<T>,
    len: usize,
    bytes: NonZeroUsize,
}

// SAFETY: the memory is only reached through `&T`, and `T` is `Sync` (a bound of `Zeroed`).
unsafe impl<T: Zeroed> Send for SharedArray<T> {}
// SAFETY: as above.
unsafe impl<T: Zeroed> Sync for SharedArray<T> {}

impl<T: Zeroed> SharedArray<T> {
    /// Zeroed memory.
    pub fn new(len: usize) -> std::io::Result<SharedArray<T>> {
        let bytes = NonZeroUsize::new(len.saturating_mul(size_of::<T>())).unwrap_or(NonZeroUsize::MIN);
        // SAFETY: a fresh anonymous mapping aliases nothing; page alignment is enough for any `T` of ours.
        let memory = unsafe {
            mmap_anonymous(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED)
        }?;
        Ok(SharedArray { start: memory.cast(), len, bytes })
    }

    /// All values.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: the mapping is `len` values long, lives as long as `self`, and zeroes are valid values of `T`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Zeroed> Drop for SharedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrowed from it outlives `self`.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}
