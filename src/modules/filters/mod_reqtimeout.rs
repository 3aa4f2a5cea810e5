//! mod_reqtimeout: how long a request's head and body may take.
//!
//! Answers to `modules/filters/mod_reqtimeout.c`. The connection's state machine keeps the time
//! ([`crate::conn::task`]); here are the limits.

use std::time::Duration;

/// The limits in force for a server.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadTimeouts {
    /// Time for the head; `None`: no limit.
    pub header: Option<Duration>,
    /// The most that bytes received can prolong it to.
    pub header_max: Option<Duration>,
    /// Bytes that prolong it by a second.
    pub header_rate: Option<u32>,
    /// The same for the body.
    pub body: Option<Duration>,
    /// See `header_max`.
    pub body_max: Option<Duration>,
    /// See `header_rate`.
    pub body_rate: Option<u32>,
}
