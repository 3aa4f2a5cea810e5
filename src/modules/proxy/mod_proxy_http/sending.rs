//! How a request's body is sent: with its length, in chunks, or kept until its length is known (`ap_proxy_http_prefetch`).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, Write};

use bytes::Bytes;

use super::NAME;
use crate::body::Wait;
use crate::conn::input::Pulled;
use crate::http::head::strict_length;
use crate::http::status::{self, Status};
use crate::log::{Level, rerror, shown};
use crate::modules::proxy::mod_proxy::tunnel::Watch;
use crate::request::{Answer, Request};

/// So much is read before it is decided how to send (`MAX_MEM_SPOOL`); with 80 bytes less, no more is asked for.
const PREFETCHED: usize = 16_384;
const ENOUGH: usize = PREFETCHED - 80;
/// How much of a body is put behind the head before it is sent.
const PIECE: usize = 64 * 1024;

/// How it is sent (`rb_methods`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    /// With a length that is known, or without a body.
    StreamLength,
    /// In chunks.
    StreamChunked,
    /// All of it is kept first.
    Spool,
}

/// A request's body on its way to the backend.
pub(super) struct Sending {
    pub(super) method: Method,
    /// It is not waited for the begin of the body.
    pub(super) nonblocking: bool,
    /// None of it can have come.
    pub(super) nothing_yet: bool,
    /// What was read and not sent.
    pieces: VecDeque<Bytes>,
    read: u64,
    /// All of it was read.
    ended: bool,
    /// The last of it was put behind what is to be sent.
    finished: bool,
    /// The length that was announced.
    length: Option<u64>,
    /// What was too much for the memory.
    file: Option<File>,
    watch: Watch,
}

/// What stops it.
pub(super) enum Stop {
    /// More must come from the client.
    Wait(Wait),
    /// It is wrong, or does not come.
    Failed(Status),
}

/// What a body that can't be read is answered with, and how the log calls the reason (`ap_map_http_request_error`).
fn reason(r: &Request, code: Status) -> io::Error {
    let text = match code {
        status::REQUEST_TIME_OUT => "(70007)The timeout specified has expired",
        _ if r.input.wire.as_ref().is_some_and(|wire| wire.eof) => {
            "(70008)Partial results are valid but processing is incomplete"
        }
        _ => "(-102)Unknown error -102",
    };
    io::Error::other(text)
}

impl Sending {
    pub(super) fn new() -> Sending {
        Sending {
            method: Method::StreamLength,
            nonblocking: false,
            nothing_yet: false,
            pieces: VecDeque::new(),
            read: 0,
            ended: false,
            finished: false,
            length: None,
            file: None,
            watch: Watch::default(),
        }
    }

    /// How much of it was read.
    pub(super) fn count(&self) -> u64 {
        self.read
    }

    /// True when there is nothing (more) to send.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// It has no body, or is a sub-request, which has none.
    pub(super) fn skip(&mut self) {
        (self.ended, self.finished) = (true, true);
    }

    fn wait(&mut self, r: &Request) -> Stop {
        let Answer::Wait(wait) = r.wait_for_input() else { return Stop::Failed(status::BAD_REQUEST) };
        let until = r
            .input_until()
            .map(|until| std::time::Duration::from_millis(until.saturating_sub(crate::os::clock::now_ms())));
        let timeout = until.map_or(wait.timeout, |until| until.min(wait.timeout));
        // Through a descriptor of our own, so that we are asked when the time is over, too.
        match self.watch.wait(&[(wait.fd, true)], timeout) {
            Ok(wait) => Stop::Wait(wait),
            Err(_) => Stop::Failed(status::INTERNAL_SERVER_ERROR),
        }
    }

    /// Reads a piece; false when nothing came.
    fn pull(&mut self, r: &mut Request) -> Result<bool, Status> {
        if let Some(wire) = r.input.wire.as_deref_mut() {
            wire.readable = true;
        }
        match r.pull_input() {
            Ok(Pulled::Data(data)) => {
                self.read += data.len() as u64;
                if !data.is_empty() {
                    self.pieces.push_back(data);
                }
                self.ended = r.input.is_ended() && r.input.filters.is_empty();
                Ok(true)
            }
            Ok(Pulled::Wait) => Ok(false),
            Ok(Pulled::End) => {
                self.ended = true;
                Ok(true)
            }
            Ok(Pulled::Bad(code)) => Err(code),
            Err(_) => Err(status::BAD_REQUEST),
        }
    }

    /// Reads the begin of the body, and decides.
    pub(super) fn prefetch(
        &mut self,
        r: &mut Request,
        force10: bool,
        backend: &str,
        late: bool,
    ) -> Result<(), Stop> {
        if r.is_subrequest || !r.input.has_body() && r.input.filters.is_empty() {
            self.skip();
            return Ok(());
        }
        while !self.nothing_yet && !self.ended && (self.read as usize) < ENOUGH {
            match self.pull(r) {
                Ok(true) => {}
                Ok(false) if self.nonblocking => break,
                Ok(false) if late => {
                    return Err(self.failed(r, "AH01095", "prefetch", backend, status::REQUEST_TIME_OUT));
                }
                Ok(false) => return Err(self.wait(r)),
                Err(code) => return Err(self.failed(r, "AH01095", "prefetch", backend, code)),
            }
        }
        let chunked = r.headers_in.contains("Transfer-Encoding");
        let length = r.headers_in.get("Content-Length").filter(|_| !chunked);
        let env = |name| r.subprocess_env.contains(name);
        let (send_length, send_chunks) =
            (env("proxy-sendcl"), env("proxy-sendchunks") || env("proxy-sendchunked"));
        self.method = if self.ended {
            if chunked || length.is_some() || self.read > 0 {
                self.length = Some(self.read);
            }
            Method::StreamLength
        } else if chunked {
            if force10 || send_length && !send_chunks { Method::Spool } else { Method::StreamChunked }
        } else if let Some(length) = length {
            if r.input.filters.is_empty() {
                let Some(length) = strict_length(length) else {
                    let text = shown(length);
                    rerror!(
                        r,
                        Level::Error,
                        NAME,
                        "AH01085",
                        "could not parse request Content-Length ({text})"
                    );
                    return Err(Stop::Failed(status::BAD_REQUEST));
                };
                self.length = Some(length);
                Method::StreamLength
            } else if !force10 && send_chunks && !send_length {
                Method::StreamChunked
            } else {
                Method::Spool
            }
        } else {
            Method::Spool
        };
        Ok(())
    }

    fn failed(&self, r: &mut Request, number: &str, what: &str, backend: &str, code: Status) -> Stop {
        let c = r.connection.clone();
        rerror!(
            r,
            Level::Error,
            "proxy",
            number,
            err = reason(r, code),
            "{what} request body failed to {backend} from {} ()",
            c.client_ip
        );
        if code == status::REQUEST_TIME_OUT {
            r.input.broken = true;
        }
        Stop::Failed(code)
    }

    /// Keeps all of the body, in memory or else in a file.
    pub(super) fn spool(&mut self, r: &mut Request, backend: &str, late: bool) -> Result<(), Stop> {
        if self.method != Method::Spool {
            return Ok(());
        }
        loop {
            if self.read > PREFETCHED as u64
                && let Err(err) = self.spill()
            {
                let text = "creation of temporary file in directory /tmp failed";
                rerror!(r, Level::Error, "proxy", "AH01090", err = err, "{text}");
                return Err(Stop::Failed(status::INTERNAL_SERVER_ERROR));
            }
            if self.ended {
                break;
            }
            match self.pull(r) {
                Ok(true) => {}
                Ok(false) if late => {
                    return Err(self.failed(r, "AH02608", "read", backend, status::REQUEST_TIME_OUT));
                }
                Ok(false) => return Err(self.wait(r)),
                Err(code) => return Err(self.failed(r, "AH02608", "read", backend, code)),
            }
        }
        let announced = r.headers_in.contains("Transfer-Encoding") || r.headers_in.contains("Content-Length");
        self.length = Some(self.read).filter(|&read| read > 0 || announced);
        if let Some(file) = &mut self.file {
            _ = file.rewind();
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(crate::os::process::temporary_file()?),
        };
        for piece in self.pieces.drain(..) {
            file.write_all(&piece)?;
        }
        Ok(())
    }

    /// The field about the body.
    pub(super) fn write_fields(&self, out: &mut Vec<u8>) {
        match (self.method, self.length) {
            (Method::StreamChunked, _) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            (_, Some(length)) => out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes()),
            (_, None) => {}
        }
    }

    /// Puts the next of the body behind `out`, as far as it is there.
    pub(super) fn fill(
        &mut self,
        r: &mut Request,
        out: &mut Vec<u8>,
        backend: &str,
        late: bool,
    ) -> Result<(), Stop> {
        while !self.finished && out.len() < PIECE {
            if let Some(file) = &mut self.file {
                let before = out.len();
                out.resize(before + PIECE, 0);
                let count = file.read(&mut out[before..]).unwrap_or(0);
                out.truncate(before + count);
                self.finished = count == 0;
                continue;
            }
            if let Some(piece) = self.pieces.pop_front() {
                if self.method == Method::StreamChunked {
                    out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    out.extend_from_slice(&piece);
                    out.extend_from_slice(b"\r\n");
                } else {
                    out.extend_from_slice(&piece);
                }
                continue;
            }
            if self.ended {
                if self.method == Method::StreamChunked {
                    out.extend_from_slice(b"0\r\n\r\n");
                }
                if self.length.is_some_and(|length| length != self.read)
                    && self.method == Method::StreamLength
                {
                    let (read, length) = (self.read, self.length.unwrap_or(0));
                    let what = if read > length { "more" } else { "less" };
                    rerror!(
                        r,
                        Level::Error,
                        NAME,
                        "AH01086",
                        "read {what} bytes of request body than expected (got {read}, expected {length})"
                    );
                    return Err(Stop::Failed(status::INTERNAL_SERVER_ERROR));
                }
                if r.subprocess_env.contains("proxy-sendextracrlf") {
                    out.extend_from_slice(b"\r\n");
                }
                self.finished = true;
                break;
            }
            match self.pull(r) {
                Ok(true) => {}
                // What is there is sent first.
                Ok(false) if !out.is_empty() => break,
                Ok(false) if late => {
                    return Err(self.failed(r, "AH02608", "read", backend, status::REQUEST_TIME_OUT));
                }
                Ok(false) => return Err(self.wait(r)),
                Err(code) => return Err(self.failed(r, "AH02608", "read", backend, code)),
            }
        }
        Ok(())
    }
}
