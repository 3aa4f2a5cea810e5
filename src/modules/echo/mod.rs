//! A protocol for trying out (`modules/echo`).

pub mod mod_echo;
