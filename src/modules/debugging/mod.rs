//! Modules for finding out what happens (`modules/debugging`).

pub mod mod_dumpio;
