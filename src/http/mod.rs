//! HTTP/1 without I/O: bytes and the clock go in, values come out.
//!
//! * [`date`]: dates of headers and logs
//! * [`status`]: status codes, their lines and classes

pub mod date;
pub mod status;
