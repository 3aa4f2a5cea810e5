//! What goes on between a request and its script until the reply can begin: the request's body to the script, the head of
//! the reply from it. Both at once: a script may write before it has read everything.
//!
//! Answers to `cgi_handle_request` and `cgi_handle_response`.

use std::os::fd::RawFd;

use bstr::ByteSlice;
use bytes::{Buf, Bytes};

use super::output::{HeadOnly, Output, Rest};
use super::script_log::{Entry, log_stderr};
use super::{Flavor, SERVER};
use crate::body::{Content, generated};
use crate::conn::input::Pulled;
use crate::http::method::Method;
use crate::http::status::{self, Status};
use crate::log::{Level, rerror};
use crate::request::ongoing::Ongoing;
use crate::request::program::{self, Program};
use crate::request::script_header::{self, LONGEST_LINE, Line};
use crate::request::{Answer, Request};

/// So much of a script's output is kept while the request's body has not come; then the reply begins without.
const KEPT: usize = 64 * 1024;
/// So many pieces are written before others have a turn.
pub(super) const TURN: u32 = 64;

/// The request's body on its way to the script.
pub(super) struct Feed {
    flavor: &'static Flavor,
    state: FeedState,
    pending: Bytes,
    /// The begin of it, for `ScriptLog`.
    posted: Vec<u8>,
    posted_most: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FeedState {
    /// The script reads it.
    Feeding,
    /// The script doesn't: it is read and forgotten.
    Soaking,
    /// It is over.
    Done,
}

/// What the feed can't go on without.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lacks {
    Nothing,
    /// The script must read.
    Script,
    /// The client must send.
    Client,
}

impl Feed {
    pub(super) fn is_done(&self) -> bool {
        self.state == FeedState::Done
    }

    /// What goes on with it; this one is over.
    pub(super) fn take(&mut self) -> Feed {
        let over = Feed {
            flavor: self.flavor,
            state: FeedState::Done,
            pending: Bytes::new(),
            posted: Vec::new(),
            posted_most: 0,
        };
        std::mem::replace(self, over)
    }

    fn stop(&mut self, script: &mut Program) {
        self.state = FeedState::Done;
        self.pending = Bytes::new();
        script.close_stdin();
    }

    /// Goes on as far as it can.
    pub(super) fn go_on(&mut self, r: &mut Request, script: &mut Program) -> Result<Lacks, Status> {
        for _ in 0..TURN {
            if !self.pending.is_empty() {
                match script.write(&self.pending) {
                    Ok(Some(count)) => self.pending.advance(count),
                    Ok(None) => return Ok(Lacks::Script),
                    Err(err) => self.give_up(r, script, err),
                }
                continue;
            }
            if self.state == FeedState::Done {
                return Ok(Lacks::Nothing);
            }
            match r.pull_input() {
                Ok(Pulled::Data(data)) => {
                    script.moved();
                    if self.state == FeedState::Feeding {
                        let room = self.posted_most - self.posted.len();
                        self.posted.extend_from_slice(&data[..data.len().min(room)]);
                        self.pending = data;
                    }
                }
                Ok(Pulled::Wait) => return Ok(Lacks::Client),
                Ok(Pulled::End) => self.stop(script),
                Ok(Pulled::Bad(code)) => return Err(self.broken(r, script, code)),
                Err(_) => return Err(self.broken(r, script, status::BAD_REQUEST)),
            }
        }
        // The script, and the client, are still there in the next turn.
        Ok(if self.pending.is_empty() { Lacks::Client } else { Lacks::Script })
    }

    /// The script doesn't read on.
    fn give_up(&mut self, r: &Request, script: &mut Program, err: std::io::Error) {
        rerror!(
            r,
            Level::Error,
            self.flavor.module,
            "AH02651",
            err = err,
            "Error writing request body to script {}",
            r.filename
        );
        self.state = FeedState::Soaking;
        self.pending = Bytes::new();
        script.close_stdin();
        script.moved();
    }

    /// The body is wrong, or doesn't come.
    fn broken(&mut self, r: &mut Request, script: &mut Program, code: Status) -> Status {
        self.stop(script);
        // What comes through the filters as an error has no number of its own (`AP_FILTER_ERROR`).
        let reason = match code {
            status::REQUEST_TIME_OUT => "(70007)The timeout specified has expired",
            _ if r.input.wire.as_ref().is_some_and(|wire| wire.eof) => {
                "(70008)Partial results are valid but processing is incomplete"
            }
            _ => "(-102)Unknown error -102",
        };
        rerror!(
            r,
            Level::Error,
            self.flavor.module,
            self.flavor.body_broken,
            err = std::io::Error::other(reason),
            "Error reading request entity data"
        );
        code
    }

    /// It was waited too long for what it lacks.
    pub(super) fn late(&mut self, r: &mut Request, script: &mut Program, lacks: Lacks) -> Result<(), Status> {
        match lacks {
            Lacks::Nothing => Ok(()),
            Lacks::Script => {
                let err = std::io::Error::other("(70007)The timeout specified has expired");
                self.give_up(r, script, err);
                Ok(())
            }
            Lacks::Client => {
                r.input.broken = true;
                Err(self.broken(r, script, status::REQUEST_TIME_OUT))
            }
        }
    }
}

/// The client's socket, where it is waited for.
pub(super) fn client(r: &Request, lacks: Lacks) -> Option<RawFd> {
    let elsewhere = r.input.elsewhere.map(|wait| wait.fd);
    elsewhere.or_else(|| r.input.wire.as_ref().map(|wire| wire.fd())).filter(|_| lacks == Lacks::Client)
}

/// How an exchange ends.
#[derive(Clone, Copy)]
enum End {
    Status(Status),
    /// Not modified, says what the script said.
    NotModified,
    /// The script named another place on this server.
    Redirect,
}

enum Stage {
    /// The head is being read.
    Head,
    /// The head is done; its first content decides whether the length is known.
    First,
    /// What else the script says is not for the client.
    Discard(End, Option<Entry>),
}

/// A request and its script.
pub(super) struct Exchange {
    flavor: &'static Flavor,
    script: Program,
    feed: Feed,
    /// What the script wrote.
    text: Vec<u8>,
    /// Up to where the head is known to be incomplete.
    seen: usize,
    ended: bool,
    nph: bool,
    stage: Stage,
}

impl Ongoing for Exchange {
    fn go_on(&mut self, r: &mut Request) -> Answer {
        loop {
            match &self.stage {
                Stage::Head => {
                    if let Some(answer) = self.head(r) {
                        return answer;
                    }
                }
                Stage::First => return self.first(r),
                Stage::Discard(end, _) => {
                    let end = *end;
                    return self.discard(r, end);
                }
            }
        }
    }
}

impl Exchange {
    pub(super) fn new(r: &Request, flavor: &'static Flavor, script: Program, nph: bool) -> Exchange {
        let conf = r.server_conf(&SERVER);
        let feed = Feed {
            flavor,
            state: FeedState::Feeding,
            pending: Bytes::new(),
            posted: Vec::new(),
            posted_most: if conf.log.is_some() { conf.log_buffer } else { 0 },
        };
        Exchange { flavor, script, feed, text: Vec::new(), seen: 0, ended: false, nph, stage: Stage::Head }
    }

    /// Reads what the script has written; false when it has written nothing more.
    fn read(&mut self) -> bool {
        match self.script.read(&mut self.text) {
            Ok(program::Output::Some) => true,
            Ok(program::Output::NotYet) => false,
            Ok(program::Output::End) | Err(_) => !std::mem::replace(&mut self.ended, true),
        }
    }

    /// Whether all of the head is there, or enough of it to see that it is none.
    fn head_is_there(&mut self) -> bool {
        if self.nph || self.ended {
            return true;
        }
        loop {
            let rest = &self.text[self.seen..];
            // A line that is too long is cut, as `next_line` does.
            let end = rest.find_byte(b'\n').filter(|&end| end < LONGEST_LINE);
            let length = match end {
                Some(end) => end,
                None if rest.len() >= LONGEST_LINE => LONGEST_LINE,
                None => return false,
            };
            // The empty line, or one that is none of a head.
            if !rest[..length].contains(&b':') {
                return true;
            }
            self.seen += length + usize::from(end.is_some());
        }
    }

    fn wait(&mut self, r: &Request, output: bool, lacks: Lacks) -> Answer {
        match self.script.wait(output, lacks == Lacks::Script, client(r, lacks)) {
            Ok(wait) => Answer::Wait(wait),
            Err(err) => {
                let module = self.flavor.module;
                rerror!(
                    r,
                    Level::Error,
                    module,
                    "AH01218",
                    err = err,
                    "apr_pollset_add(); check system or user limits"
                );
                Answer::Status(status::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// It was waited too long for the script's output.
    fn log_late(&self, r: &Request) {
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
    }

    fn head(&mut self, r: &mut Request) -> Option<Answer> {
        log_stderr(r, self.flavor, &mut self.script);
        let lacks = match self.feed.go_on(r, &mut self.script) {
            Ok(lacks) => lacks,
            Err(code) => return Some(Answer::Status(code)),
        };
        let has_room = |exchange: &Exchange| exchange.feed.is_done() || exchange.text.len() < KEPT;
        while has_room(self) && !self.head_is_there() && self.read() {}
        if !self.feed.is_done() {
            // It may fill the pipe before it reads on.
            while has_room(self) && self.read() {}
        }
        log_stderr(r, self.flavor, &mut self.script);
        if self.head_is_there() && (self.feed.is_done() || self.text.len() >= KEPT) {
            return self.scan(r, false);
        }
        if !self.script.is_late() {
            let output = !self.ended && has_room(self);
            return Some(self.wait(r, output, lacks));
        }
        if lacks == Lacks::Nothing {
            self.log_late(r);
            return self.scan(r, true);
        }
        self.feed.late(r, &mut self.script, lacks).err().map(Answer::Status)
    }

    /// Takes the head. `None`: to go on with the next stage.
    fn scan(&mut self, r: &mut Request, late: bool) -> Option<Answer> {
        if self.nph {
            // It speaks with the client itself.
            r.output_filters.clear();
            r.assbackwards = true;
            r.keepalive = false;
            r.notes.set("close", "1");
            self.stage = Stage::First;
            return None;
        }
        let mut last = Vec::new();
        let mut at = 0;
        let text = std::mem::take(&mut self.text);
        let mut line = || next_line(&text, &mut at, late);
        let scanned = script_header::scan(r, self.flavor.module, Some(&mut last), &mut line);
        self.text = text;
        self.text.drain(..at);
        if !r.subprocess_env.contains("ap_trust_cgilike_cl") {
            r.headers_out.unset("Content-Length");
        }
        r.headers_out.unset("Transfer-Encoding");
        if let Err(code) = scanned {
            let end = if code == status::NOT_MODIFIED { End::NotModified } else { End::Status(code) };
            if late {
                self.ended = true;
                self.text.clear();
            }
            let entry = Entry::begin(r, code, &self.feed.posted, &last);
            self.stage = Stage::Discard(end, entry);
            return None;
        }
        self.stage = match r.headers_out.get("Location") {
            Some(location) if r.status == status::OK => {
                let here = location.first() == Some(&b'/');
                let end = if here { End::Redirect } else { End::Status(status::MOVED_TEMPORARILY) };
                Stage::Discard(end, None)
            }
            _ => Stage::First,
        };
        None
    }

    /// The begin of the content, then the reply. When the script is done at once, its length is known.
    fn first(&mut self, r: &mut Request) -> Answer {
        log_stderr(r, self.flavor, &mut self.script);
        while self.text.len() < KEPT && self.read() {}
        let mut late = false;
        if self.text.is_empty() && !self.ended {
            if !self.script.is_late() {
                let lacks = match self.feed.go_on(r, &mut self.script) {
                    Ok(lacks) => lacks,
                    Err(code) => return Answer::Status(code),
                };
                return self.wait(r, true, lacks);
            }
            self.log_late(r);
            super::output::log_broken(r);
            late = true;
        }
        // Without a reader here, the script is asked for no more than what is wanted of it.
        let text = Bytes::from(std::mem::take(&mut self.text));
        let is_over = self.ended && self.feed.is_done();
        let headless = r.header_only && !r.assbackwards || status::is_header_only(r.status);
        let (script, feed) = (self.script.take(), self.feed.take());
        if late {
            drop(script);
            return Answer::Body(Content::Stream(Box::new(HeadOnly(false))));
        }
        if is_over || headless {
            // Nobody reads what a HEAD would have given; the script comes to its end all the same.
            let content = if is_over { Content::Bytes(text) } else { generated(Vec::new(), true) };
            r.ongoing = Some(Box::new(Rest::new(self.flavor, script, feed)));
            return Answer::Body(content);
        }
        Answer::Body(Content::Stream(Box::new(Output::new(self.flavor, text, script, feed, self.ended))))
    }

    /// Reads and forgets the rest of what the script says, then ends.
    fn discard(&mut self, r: &mut Request, end: End) -> Answer {
        let Stage::Discard(_, entry) = &mut self.stage else { return Answer::Declined };
        let mut open = log_stderr(r, self.flavor, &mut self.script);
        for _ in 0..TURN {
            if !self.text.is_empty() {
                if let Some(entry) = entry {
                    entry.stdout(&self.text);
                }
                self.text.clear();
            }
            if self.ended {
                break;
            }
            match self.script.read(&mut self.text) {
                Ok(program::Output::Some) => {}
                Ok(program::Output::NotYet) => {
                    open = true;
                    break;
                }
                Ok(program::Output::End) | Err(_) => self.ended = true,
            }
        }
        open |= !self.ended;
        if self.ended {
            open = log_stderr(r, self.flavor, &mut self.script);
        }
        let timed_out = matches!(end, End::Status(status::GATEWAY_TIME_OUT));
        if open && !self.script.is_late() && !timed_out {
            let ended = self.ended;
            return self.wait(r, !ended, Lacks::Nothing);
        }
        match end {
            End::Status(code) => Answer::Status(code),
            End::NotModified => {
                r.status = status::NOT_MODIFIED;
                Answer::Body(Content::Empty)
            }
            End::Redirect => {
                r.method = Method::GET;
                r.method_name = std::borrow::Cow::Borrowed(b"GET");
                r.headers_in.unset("Content-Length");
                let location = r.headers_out.get("Location").unwrap_or_default().to_vec();
                Answer::RedirectHandler(location.into())
            }
        }
    }
}

/// The next line of a head, without CRs: `getsfunc_BRIGADE`.
fn next_line(text: &[u8], at: &mut usize, late: bool) -> Line {
    let mut line = Vec::new();
    for &c in &text[*at..] {
        *at += 1;
        match c {
            b'\n' => return Line::Text(line),
            b'\r' => {}
            c => line.push(c),
        }
        if line.len() == LONGEST_LINE {
            return Line::Text(line);
        }
    }
    if late { Line::TimedOut } else { Line::End }
}
