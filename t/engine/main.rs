//! The engines with real processes: children that die, restarts under load, signals, limits, slow clients.
//!
//! Each test starts the built program in a folder and on a port of its own, and ends it by pid. None asserts how long
//! something takes; what is waited for is waited for 20 seconds.

// Tests start servers and wait for them.
#![allow(clippy::disallowed_methods)]

mod backends;
mod changes;
mod client;
mod databases;
mod deaths;
mod limits;
mod restarts;
mod scripts;
mod server;
mod serving;
mod slow;

/// Both of them.
const ENGINES: [&str; 2] = ["prefork", "event"];
