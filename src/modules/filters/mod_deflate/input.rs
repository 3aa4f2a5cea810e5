//! DEFLATE as an input filter: a packed request body unpacked.
//!
//! Answers to `deflate_in_filter`.

use std::io;

use super::unpack::{Side, Unpacker, from_table};
use super::{Coder, DIR};
use crate::conn::input::Pulled;
use crate::filter::{Below, InputFilter};
use crate::http::status::{self, Status};
use crate::request::Request;

/// The filter, not set up yet.
pub(super) fn make() -> Box<dyn InputFilter> {
    Box::new(Inflate::New)
}

enum Inflate {
    /// The body was not asked for yet.
    New,
    /// There is nothing to unpack.
    Aside,
    Unpacking(Box<Unpacker>),
    /// All of it was unpacked.
    Done,
    Failed(Status),
}

impl Inflate {
    fn begin(r: &mut Request) -> Inflate {
        // A range of something packed can't be unpacked.
        if !r.is_initial()
            || r.headers_in.contains("Content-Range")
            || from_table(&mut r.headers_in) != Some(true)
        {
            return Inflate::Aside;
        }
        // Without a limit of its own, what comes out has that of what comes in.
        let limit = match r.dir(&DIR).inflate_limit.unwrap_or(0) {
            0 => r.limit_request_body(),
            limit => limit,
        };
        Inflate::Unpacking(Box::new(Unpacker::new(r, Side::Request { limit })))
    }
}

impl InputFilter for Inflate {
    fn pull(&mut self, r: &mut Request, below: &mut Below<'_>) -> io::Result<Pulled> {
        if matches!(self, Inflate::New) {
            *self = Inflate::begin(r);
        }
        let unpacker = match self {
            Inflate::New | Inflate::Aside => return below.pull(r),
            Inflate::Done => return Ok(Pulled::End),
            Inflate::Failed(code) => return Ok(Pulled::Bad(*code)),
            Inflate::Unpacking(unpacker) => unpacker,
        };
        loop {
            let piece = match below.pull(r)? {
                Pulled::Data(piece) => piece,
                Pulled::End => {
                    // A body without a byte is none.
                    let ended = if unpacker.is_fresh() { Ok(()) } else { unpacker.finish(r) };
                    *self = ended.map_or_else(failed, |()| Inflate::Done);
                    return self.pull(r, below);
                }
                other => return Ok(other),
            };
            if unpacker.is_fresh() && !piece.is_empty() {
                r.headers_in.unset("Content-Length");
                r.headers_in.unset("Content-MD5");
            }
            if let Err(err) = unpacker.code(r, &piece) {
                *self = failed(err);
                return self.pull(r, below);
            }
            let unpacked = std::mem::take(unpacker.coded());
            if !unpacked.is_empty() {
                return Ok(Pulled::Data(unpacked.into()));
            }
        }
    }
}

/// `ap_map_http_request_error`.
fn failed(err: io::Error) -> Inflate {
    Inflate::Failed(match err.kind() {
        io::ErrorKind::StorageFull => status::REQUEST_ENTITY_TOO_LARGE,
        _ => status::BAD_REQUEST,
    })
}
