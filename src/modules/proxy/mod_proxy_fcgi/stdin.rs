//! A request's body on its way to a backend that takes it piece by piece.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, Write};

use bytes::Bytes;

use crate::body::Wait;
use crate::conn::input::Pulled;
use crate::http::status::{self, Status};
use crate::request::{Answer, Request};

/// So much is kept in memory (`MAX_MEM_SPOOL`).
const IN_MEMORY: u64 = 16_384;
/// So much of what was kept in a file is taken at once.
const PIECE: usize = 64 * 1024;

/// A body.
#[derive(Default)]
pub struct Stdin {
    pieces: VecDeque<Bytes>,
    read: u64,
    /// All of it was read.
    ended: bool,
    file: Option<File>,
}

/// What a look at it gave.
pub enum Piece {
    /// Some of it.
    Data(Bytes),
    /// Nothing has come.
    NotYet,
    /// That was all.
    End,
    /// It is wrong.
    Failed(Status),
}

impl Stdin {
    /// The body of `r`.
    pub fn new(r: &Request) -> Stdin {
        let none = r.is_subrequest || !r.input.has_body() && r.input.filters.is_empty();
        Stdin { ended: none, ..Stdin::default() }
    }

    /// True when all of it was read from the client.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// How much of it was read.
    pub fn count(&self) -> u64 {
        self.read
    }

    /// Reads a piece; false when nothing has come.
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

    /// Reads what has come by now, up to what is kept in memory (`ap_proxy_prefetch_input`).
    pub fn prefetch(&mut self, r: &mut Request) -> Result<(), Status> {
        while !self.ended && self.read < IN_MEMORY && self.pull(r)? {}
        Ok(())
    }

    /// Reads all of it, into a file what is too much for the memory (`ap_proxy_spool_input`); false: more must come.
    pub fn spool(&mut self, r: &mut Request) -> Result<bool, Status> {
        loop {
            if self.read > IN_MEMORY && self.spill().is_err() {
                return Err(status::INTERNAL_SERVER_ERROR);
            }
            if self.ended {
                break;
            }
            if !self.pull(r)? {
                return Ok(false);
            }
        }
        if let Some(file) = &mut self.file {
            file.rewind().map_err(|_| status::INTERNAL_SERVER_ERROR)?;
        }
        Ok(true)
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

    /// The next of it.
    pub fn next(&mut self, r: &mut Request) -> Piece {
        loop {
            if let Some(file) = &mut self.file {
                let mut piece = vec![0; PIECE];
                match file.read(&mut piece) {
                    Ok(0) => self.file = None,
                    Ok(count) => {
                        piece.truncate(count);
                        return Piece::Data(piece.into());
                    }
                    Err(_) => return Piece::Failed(status::INTERNAL_SERVER_ERROR),
                }
            }
            if let Some(piece) = self.pieces.pop_front() {
                return Piece::Data(piece);
            }
            if self.ended {
                return Piece::End;
            }
            match self.pull(r) {
                Ok(true) => {}
                Ok(false) => return Piece::NotYet,
                Err(code) => return Piece::Failed(code),
            }
        }
    }
}

/// Waiting for more of the body; `None` where there is nobody to wait for.
pub fn wait_for_client(r: &Request) -> Option<Wait> {
    let Answer::Wait(wait) = r.wait_for_input() else { return None };
    let now = crate::os::clock::now_ms();
    let until = r.input_until().map(|until| std::time::Duration::from_millis(until.saturating_sub(now)));
    Some(Wait { timeout: until.map_or(wait.timeout, |until| until.min(wait.timeout)), ..wait })
}

/// Why a body that ended with `code` could not be read, as the log calls it.
pub fn reason(r: &Request, code: Status) -> io::Error {
    let text = match code {
        status::REQUEST_TIME_OUT => "(70007)The timeout specified has expired",
        _ if r.input.wire.as_ref().is_some_and(|wire| wire.eof) => "(70014)End of file found",
        _ => "(-102)Unknown error -102",
    };
    io::Error::other(text)
}
