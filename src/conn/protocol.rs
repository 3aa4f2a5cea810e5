//! A protocol other than HTTP that a module speaks on a connection.
//!
//! Answers to `ap_hook_process_connection` of `server/connection.c`. A module that takes a connection gives what speaks on it; the
//! connection's task asks that on until it ends, on whatever lane the engine has.

use std::io;
use std::time::Duration;

use super::wire::Wire;
use crate::request::ConnInfo;

/// What speaks on a connection.
pub trait Protocol: Send {
    /// Takes what came off the wire, and puts what is to be sent on it: it is called with every piece that comes, and once more
    /// when the client's end came (`wire.eof`). What is put on the wire is sent before more is read.
    fn speak(&mut self, connection: &ConnInfo, wire: &mut Wire) -> Next;
    /// It could not be read or written.
    fn failed(&mut self, connection: &ConnInfo, reading: bool, error: &io::Error);
}

/// How it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// With what comes within this time, now and from now on.
    Read(Duration),
    /// With what comes within the time that was said last.
    Same,
    /// It is over.
    End,
}
