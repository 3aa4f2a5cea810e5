//! The content that a script writes, pulled as the client takes it; and what is left to do when the reply is out.

use std::io;

use bytes::Bytes;

use super::Flavor;
use super::exchange::{Feed, TURN, client};
use super::script_log::log_stderr;
use crate::body::{Body, Chunk, Pull};
use crate::log::{Level, rerror};
use crate::request::ongoing::Ongoing;
use crate::request::program::{self, Program};
use crate::request::{Answer, Request};

/// The content.
pub(super) struct Output {
    flavor: &'static Flavor,
    /// What was read with the head.
    begun: Option<Bytes>,
    script: Program,
    feed: Feed,
    ended: bool,
}

/// What the content-length filter of Apache says when the content breaks off.
pub(super) fn log_broken(r: &Request) {
    rerror!(
        r,
        Level::Error,
        "core",
        "AH00574",
        err = io::Error::other("(70007)The timeout specified has expired"),
        "ap_content_length_filter: apr_bucket_read() failed"
    );
}

/// No content came after the head: that goes out, then the connection ends.
pub(super) struct HeadOnly(pub(super) bool);

impl Body for HeadOnly {
    fn pull(&mut self, _: &mut Request) -> io::Result<Pull> {
        match std::mem::replace(&mut self.0, true) {
            false => Ok(Pull::Flush),
            true => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn len(&self) -> Option<u64> {
        None
    }
}

impl Output {
    pub(super) fn new(
        flavor: &'static Flavor,
        begun: Bytes,
        script: Program,
        feed: Feed,
        ended: bool,
    ) -> Output {
        let begun = Some(begun).filter(|begun| !begun.is_empty());
        Output { flavor, begun, script, feed, ended }
    }
}

impl Body for Output {
    fn pull(&mut self, r: &mut Request) -> io::Result<Pull> {
        if let Some(begun) = self.begun.take() {
            return Ok(Pull::Chunk(Chunk::Bytes(begun)));
        }
        log_stderr(r, self.flavor, &mut self.script);
        let mut text = Vec::new();
        if !self.ended {
            match self.script.read(&mut text)? {
                program::Output::Some => return Ok(Pull::Chunk(Chunk::Bytes(text.into()))),
                program::Output::NotYet => {}
                program::Output::End => self.ended = true,
            }
        }
        // A request whose body is wrong, or does not come, has its reply all the same by now.
        let lacks = self.feed.go_on(r, &mut self.script).unwrap_or(super::exchange::Lacks::Nothing);
        if self.ended {
            let rest = Rest::new(self.flavor, self.script.take(), self.feed.take());
            r.ongoing = Some(Box::new(rest));
            return Ok(Pull::End(None));
        }
        if !self.script.is_late() {
            let stdin = lacks == super::exchange::Lacks::Script;
            return Ok(Pull::Wait(self.script.wait(true, stdin, client(r, lacks))?));
        }
        if self.flavor.reads_stderr {
            rerror!(
                r,
                Level::Warn,
                self.flavor.module,
                "AH01220",
                "Timeout waiting for output from CGI script {}",
                r.filename
            );
        }
        log_broken(r);
        Err(io::ErrorKind::TimedOut.into())
    }

    fn len(&self) -> Option<u64> {
        None
    }
}

/// What is left of a script when its reply is out: its last words for the log, and output that nobody wants.
pub(super) struct Rest {
    flavor: &'static Flavor,
    script: Program,
    feed: Feed,
    ended: bool,
}

impl Rest {
    pub(super) fn new(flavor: &'static Flavor, script: Program, feed: Feed) -> Rest {
        Rest { flavor, script, feed, ended: false }
    }
}

impl Ongoing for Rest {
    fn go_on(&mut self, r: &mut Request) -> Answer {
        let _ = self.feed.go_on(r, &mut self.script);
        let mut text = Vec::new();
        // In turns, so that a script that never ends keeps nobody else from theirs.
        for _ in 0..TURN {
            text.clear();
            match self.script.read(&mut text) {
                Ok(program::Output::Some) => {}
                Ok(program::Output::NotYet) => break,
                Ok(program::Output::End) | Err(_) => self.ended = true,
            }
        }
        let open = log_stderr(r, self.flavor, &mut self.script);
        if (open || !self.ended)
            && !self.script.is_late()
            && let Ok(wait) = self.script.wait(!self.ended, false, None)
        {
            return Answer::Wait(wait);
        }
        Answer::Declined
    }
}
