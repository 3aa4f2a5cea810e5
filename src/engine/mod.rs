//! The engines: who waits, and who lives.
//!
//! [`master`] reads the configuration, holds the listening sockets, makes and replaces children. A child runs one of
//! two loops around the same [`Task`](crate::conn::task::Task): [`prefork`] (one connection, `poll`) or [`event`]
//! (a reactor and workers). [`scoreboard`] is what they know of each other.

pub mod child;
pub mod event;
pub mod limits;
pub mod listen;
pub mod master;
pub mod messages;
pub mod prefork;
pub mod scoreboard;
pub mod spare;
pub mod timers;
pub mod workers;
