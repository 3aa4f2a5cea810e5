//! HTTP/1 without I/O: bytes and the clock go in, values come out.
//!
//! * [`head`]: the head of a request, with [`request_line`] and [`host`]
//! * [`date`]: dates of headers and logs
//! * [`method`]: method numbers
//! * [`status`]: status codes, their lines and classes
//! * [`uri`]: a URI's parts

pub mod date;
pub mod head;
#[cfg(test)]
mod head_tests;
pub mod host;
pub mod method;
mod request_line;
pub mod status;
pub mod uri;
