//! The operating system: fork, signals, users, shared memory, raw descriptors.
//!
//! One of the two folders in which `unsafe` is allowed (the other is `dso/`); each block says why it is sound.
#![allow(unsafe_code)]

pub mod clock;
pub mod global_mutex;
pub mod host;
pub mod privileged;
pub mod process;
pub mod random;
pub mod shared;
pub mod socket;
pub mod spawn;
