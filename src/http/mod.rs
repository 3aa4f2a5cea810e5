//! HTTP/1 without I/O: bytes and the clock go in, values come out.
//!
//! * [`head`]: the head of a request, with [`fields`], [`host`] and [`uri`]; [`method`]: method numbers
//! * [`chunked`]: the chunked coding, both ways
//! * [`conditional`]: preconditions and validators; [`range`]: byte ranges
//! * [`persistence`]: whether the connection stays open
//! * [`error_page`]: the pages of errors and redirects; [`status`]: status codes, their lines and classes
//! * [`escape`] and [`path`]: escaping, unescaping and canonical paths
//! * [`date`]: dates of headers and logs

pub mod chunked;
pub mod conditional;
#[cfg(test)]
mod conditional_tests;
pub mod date;
pub mod error_page;
pub mod escape;
pub mod fields;
pub mod head;
#[cfg(test)]
mod head_tests;
pub mod host;
pub mod method;
pub mod path;
pub mod persistence;
pub mod range;
#[cfg(test)]
mod recorded;
mod request_line;
pub mod status;
pub mod uri;
#[cfg(test)]
mod util_tests;
