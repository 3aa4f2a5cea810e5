//! Memory in slots (`modules/slotmem`); see [`crate::slotmem`].

pub mod mod_slotmem_plain;
pub mod mod_slotmem_shm;
