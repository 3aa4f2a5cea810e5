//! A program at work: what goes in, what comes out, both at once: `ef_unified_filter`.

use std::io;
use std::os::fd::RawFd;

use bytes::{Buf, Bytes};

use super::directives::{DIR, Mode};
use super::{begin, definition};
use crate::body::{Body, Chunk, Content, Pull, Wait};
use crate::conn::input::Pulled;
use crate::filter::{Below, InputFilter};
use crate::http::status;
use crate::log::{Level, rerror};
use crate::request::Request;
use crate::request::program::{Output, Program};

/// How much is given to the program at once.
const PIECE: usize = 64 * 1024;

/// A piece on its way into the program.
#[derive(Default)]
struct Piece {
    /// As it came: what goes on unfiltered when the program does not take it.
    whole: Bytes,
    left: Bytes,
}

/// What came of giving the program something.
enum Given {
    All,
    /// It takes no more now.
    NotYet,
    /// It takes nothing any more.
    Failed,
}

impl Piece {
    fn new(whole: Bytes) -> Piece {
        Piece { left: whole.clone(), whole }
    }

    /// Gives the program what is left of it.
    fn give(&mut self, r: &Request, program: &mut Program) -> Given {
        while !self.left.is_empty() {
            match program.write(&self.left) {
                Ok(Some(count)) => self.left.advance(count),
                Ok(None) => return Given::NotYet,
                Err(err) => {
                    let length = self.whole.len() - self.left.len();
                    rerror!(
                        r,
                        Level::Error,
                        "ext_filter",
                        "AH01461",
                        err = err,
                        "apr_file_write(child input), len {length}"
                    );
                    return Given::Failed;
                }
            }
        }
        self.whole = Bytes::new();
        Given::All
    }
}

/// A reply through a program.
pub(super) struct Through {
    program: Program,
    content: Content,
    length: Option<u64>,
    piece: Piece,
    ended: bool,
    /// The program failed: the rest goes as it is.
    failed: bool,
}

impl Through {
    pub(super) fn new(program: Program, content: Content, length: Option<u64>) -> Through {
        Through { program, content, length, piece: Piece::default(), ended: false, failed: false }
    }

    /// Gives the program what it takes; what is waited for, or is to be answered.
    fn feed(&mut self, r: &mut Request) -> io::Result<Feed> {
        loop {
            match self.piece.give(r, &mut self.program) {
                Given::All => {}
                Given::NotYet => return Ok(Feed::Program),
                Given::Failed => {
                    let err = io::Error::from_raw_os_error(libc::EPIPE);
                    rerror!(
                        r,
                        Level::Error,
                        "ext_filter",
                        "AH01468",
                        err = err,
                        "ef_unified_filter() failed"
                    );
                    self.failed = true;
                    return Ok(Feed::Failed);
                }
            }
            if self.ended {
                return Ok(Feed::Done);
            }
            match self.content.pull_bytes(r, PIECE)? {
                Pull::Chunk(Chunk::Bytes(piece)) => {
                    self.program.moved();
                    self.piece = Piece::new(piece);
                }
                Pull::Chunk(Chunk::File(_)) | Pull::Flush => {}
                Pull::Wait(wait) => return Ok(Feed::Content(wait)),
                Pull::NeedThread => return Ok(Feed::Thread),
                Pull::End(_) => {
                    self.ended = true;
                    self.program.close_stdin();
                    self.program.moved();
                }
            }
        }
    }
}

enum Feed {
    Done,
    Program,
    Content(Wait),
    Thread,
    Failed,
}

impl Body for Through {
    fn pull(&mut self, r: &mut Request) -> io::Result<Pull> {
        if self.failed {
            return self.content.pull(r);
        }
        let feed = self.feed(r)?;
        if let Feed::Failed = feed {
            let whole = std::mem::take(&mut self.piece).whole;
            return Ok(Pull::Chunk(Chunk::Bytes(whole)));
        }
        let mut text = Vec::new();
        match self.program.read(&mut text)? {
            Output::Some => return Ok(Pull::Chunk(Chunk::Bytes(text.into()))),
            Output::End if matches!(feed, Feed::Done) => return Ok(Pull::End(None)),
            Output::End | Output::NotYet => {}
        }
        let source: Option<RawFd> = match feed {
            Feed::Thread => return Ok(Pull::NeedThread),
            Feed::Content(wait) if !wait.read => return Ok(Pull::Wait(wait)),
            Feed::Content(wait) => Some(wait.fd),
            _ => None,
        };
        // Who waits for its content knows itself for how long.
        if source.is_none() && self.program.is_late() {
            let err = io::Error::other("(70007)The timeout specified has expired");
            rerror!(
                r,
                Level::Error,
                "ext_filter",
                "AH01466",
                err = err,
                "apr_file_read(child output), len 0"
            );
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Pull::Wait(self.program.wait(true, matches!(feed, Feed::Program), source)?))
    }

    fn len(&self) -> Option<u64> {
        self.length
    }
}

/// A request's body through a program: `ef_input_filter`.
pub(super) struct InputThrough {
    name: &'static str,
    state: State,
    piece: Piece,
    ended: bool,
}

enum State {
    Fresh,
    Running(Box<Program>),
    /// None of its business.
    Aside,
    Over,
}

impl InputThrough {
    pub(super) fn new(name: &'static str) -> InputThrough {
        InputThrough { name, state: State::Fresh, piece: Piece::default(), ended: false }
    }

    fn begin(&self, r: &mut Request) -> Result<State, u16> {
        let Some(filter) = definition(r, self.name, Mode::Input) else { return Ok(State::Aside) };
        match begin(r, &filter) {
            Ok(Some(program)) => Ok(State::Running(Box::new(program))),
            Ok(None) => Ok(State::Aside),
            Err(err) => {
                let removes = r.dir(&DIR).removes == Some(true);
                let what = if removes { "removing" } else { "aborting" };
                rerror!(
                    r,
                    Level::Error,
                    "ext_filter",
                    "AH01470",
                    err = err,
                    "can't initialise input filter {}: {what}",
                    self.name.to_ascii_lowercase()
                );
                if removes { Ok(State::Aside) } else { Err(status::INTERNAL_SERVER_ERROR) }
            }
        }
    }
}

impl InputFilter for InputThrough {
    fn pull(&mut self, r: &mut Request, below: &mut Below<'_>) -> io::Result<Pulled> {
        if matches!(self.state, State::Fresh) {
            match self.begin(r) {
                Ok(state) => self.state = state,
                Err(code) => return Ok(Pulled::Bad(code)),
            }
        }
        let program = match &mut self.state {
            State::Running(program) => program,
            State::Over => return Ok(Pulled::End),
            State::Fresh | State::Aside => return below.pull(r),
        };
        let (mut wants_program, mut wants_client) = (false, false);
        loop {
            match self.piece.give(r, program) {
                Given::All => {}
                Given::NotYet => {
                    wants_program = true;
                    break;
                }
                Given::Failed => {
                    self.state = State::Aside;
                    return Ok(Pulled::Bad(status::INTERNAL_SERVER_ERROR));
                }
            }
            if self.ended {
                break;
            }
            match below.pull(r)? {
                Pulled::Data(data) => {
                    program.moved();
                    self.piece = Piece::new(data);
                }
                Pulled::Wait => {
                    wants_client = true;
                    break;
                }
                Pulled::End => {
                    self.ended = true;
                    program.close_stdin();
                    program.moved();
                }
                bad @ Pulled::Bad(_) => return Ok(bad),
            }
        }
        let mut text = Vec::new();
        match program.read(&mut text)? {
            Output::Some => return Ok(Pulled::Data(text.into())),
            Output::End if self.ended => {
                self.state = State::Over;
                return Ok(Pulled::End);
            }
            Output::End | Output::NotYet => {}
        }
        if program.is_late() {
            return Ok(Pulled::Bad(status::REQUEST_TIME_OUT));
        }
        let below_waits = r.input.elsewhere.map(|wait| wait.fd);
        let client = below_waits.or_else(|| r.input.wire.as_ref().map(|wire| wire.fd()));
        r.input.elsewhere = Some(program.wait(true, wants_program, client.filter(|_| wants_client))?);
        Ok(Pulled::Wait)
    }
}
