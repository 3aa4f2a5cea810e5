//! Modules for trying things out (`modules/test`).

pub mod mod_dialup;
