//! One connection as a state machine that says what it needs.
//!
//! [`Task::drive`] runs it until it can't go on; the engine answers the [`Need`] in its own way: prefork with `poll`,
//! event with its reactor and workers. Nothing here knows which.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::idle::Idle;
use super::input::Pulled;
use super::wire::{Progress, Wire};
use crate::body::{Chunk, Content, Pull, Wait};
use crate::config::Runtime;
use crate::engine::scoreboard::{self, ProcessScore, Scoreboard, WorkerScore};
use crate::http::chunked::{CHUNK_END, ChunkHead, LAST_CHUNK, last_chunk};
use crate::http::head::{Ended, Failed, Head, Parsed, Unfinished};
use crate::http::status;
use crate::log::{Level, rerror};
use crate::os::clock::{Millis, now_ms};
use crate::request::die::Death;
use crate::request::phases::Outcome;
use crate::request::{Answer, ConnInfo, Lane, Request};

/// What a task can't go on without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// The client's socket, readable (or writable), before `until`.
    Io {
        /// To be read from; else to be written to.
        read: bool,
        /// When to give up: then call [`Task::expired`].
        until: Millis,
        /// Between two requests: the engine may close it at any time.
        idle: bool,
    },
    /// Another descriptor, before `until`.
    Fd {
        /// Which.
        fd: i32,
        /// To be read from; else to be written to.
        read: bool,
        /// When to give up.
        until: Millis,
    },
    /// A thread that may block.
    Thread,
    /// A turn, after others had theirs.
    Again,
    /// Nothing: it is over.
    Close,
}

/// Where a task is.
enum State {
    /// Reading a head.
    Head,
    /// In the phases, or asking handlers.
    Run,
    /// An error that was met in the head or body is to be answered.
    Failed(u16),
    /// An error that came up while the reply was on its way through the filters.
    FailedAgain(u16),
    /// The page of an error waits for the end of the request's body: `ap_finalize_request_protocol`.
    Finish(Content),
    /// Writing a reply.
    Reply {
        content: Content,
        chunked: bool,
        done: bool,
    },
    /// The reply is out; what is left of the request's body is read and forgotten.
    Drain,
    /// All is served: what is not written yet, then the end.
    End,
    /// No more is written; the client may still send.
    Linger,
    Closed,
}

/// How many requests of one connection are served before others have a turn.
const TURN: u32 = 16;
/// `MAX_SECS_TO_LINGER` and `SECONDS_TO_LINGER`: how long a closing connection is read from.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_READ: Duration = Duration::from_secs(2);

thread_local! {
    /// The place on the scoreboard of whoever runs requests in this thread: process and worker.
    static WORKER: std::cell::Cell<Option<(usize, usize)>> = const { std::cell::Cell::new(None) };
}

thread_local! {
    /// The second in which this thread last told the scoreboard how much CPU time its process has used.
    static LAST_CPU: std::cell::Cell<i64> = const { std::cell::Cell::new(0) };
}

/// Says whose place on the scoreboard the requests of this thread are shown in.
pub fn set_worker(worker: Option<(usize, usize)>) {
    WORKER.set(worker);
}

/// The place of this thread on the scoreboard.
fn worker_score() -> Option<(&'static ProcessScore, &'static WorkerScore)> {
    let (process, worker) = WORKER.get()?;
    let board = Scoreboard::current()?;
    Some((board.processes().get(process)?, board.workers(process).get(worker)?))
}

/// What a connection waits for, as server-status counts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It is worked on.
    Working,
    /// For the client's request, or for something else than the client.
    WaitIo,
    /// For the client to take a reply.
    Writing,
    /// For the next request.
    KeepAlive,
    /// For the client's end.
    Closing,
}

/// One connection.
pub struct Task {
    /// The request being served; between requests an empty one. Owns the connection's wire.
    r: Box<Request>,
    head: Head,
    state: State,
    /// When the current wait began to count: a head's first byte, or the end of lingering.
    since: Millis,
    keepalives: u32,
    begun: bool,
    requests: u64,
    /// Bytes of all requests and replies so far.
    bytes: u64,
    /// The process is going away: no more requests after this one.
    pub stopping: bool,
}

impl Task {
    /// For a connection just accepted.
    pub fn new(runtime: Arc<Runtime>, connection: Arc<ConnInfo>, wire: Wire) -> Task {
        let mut task = Task::around(Request::new(runtime, connection));
        task.r.input.wire = Some(Box::new(wire));
        task
    }

    /// What the connection needs while it waits for a request, if that is all it does. The task is free then.
    pub(super) fn leave_idle(&mut self) -> Option<Idle> {
        let waits = matches!(self.state, State::Head)
            && !self.begun
            && self.r.input.wire.as_ref().is_some_and(|w| w.is_flushed() && w.buffered().is_empty());
        if !waits {
            return None;
        }
        let mut wire = self.r.input.wire.take()?;
        wire.release();
        Some(Idle {
            wire,
            connection: self.r.connection.clone(),
            keepalives: self.keepalives,
            requests: self.requests,
            bytes: self.bytes,
            since: self.since,
            stopping: self.stopping,
        })
    }

    /// Takes over a connection that waited.
    pub(super) fn take_idle(&mut self, idle: Idle) {
        let other_server = !Arc::ptr_eq(&self.r.connection.base_server, &idle.connection.base_server);
        self.r.connection = idle.connection;
        if other_server {
            self.r.reset();
        }
        self.r.input.wire = Some(idle.wire);
        self.head.clear();
        self.state = State::Head;
        self.since = idle.since;
        self.keepalives = idle.keepalives;
        self.begun = false;
        self.requests = idle.requests;
        self.bytes = idle.bytes;
        self.stopping = idle.stopping;
    }

    /// A task for a connection that waited.
    pub(super) fn from_idle(idle: Idle) -> Box<Task> {
        let runtime = idle.connection.runtime.clone();
        let mut task = Box::new(Task::around(Request::new(runtime, idle.connection.clone())));
        task.take_idle(idle);
        task
    }

    fn around(r: Request) -> Task {
        Task {
            r: Box::new(r),
            head: Head::new(),
            state: State::Head,
            since: now_ms(),
            keepalives: 0,
            begun: false,
            requests: 0,
            bytes: 0,
            stopping: false,
        }
    }

    /// The connection's wire.
    pub fn wire(&mut self) -> Option<&mut Wire> {
        self.r.input.wire.as_deref_mut()
    }

    /// The request being served, for the scoreboard.
    pub fn request(&self) -> &Request {
        &self.r
    }

    /// True while a request is being served (not between two, not when closing).
    pub fn is_busy(&self) -> bool {
        matches!(
            self.state,
            State::Run
                | State::Failed(_)
                | State::FailedAgain(_)
                | State::Finish(_)
                | State::Reply { .. }
                | State::Drain
        ) || self.begun
    }

    /// What it waits for, given what it needs.
    pub fn phase(&self, need: Need) -> Phase {
        match (need, &self.state) {
            (Need::Io { idle: true, .. }, _) => Phase::KeepAlive,
            (Need::Io { .. }, State::Linger) => Phase::Closing,
            (Need::Io { read: false, .. }, _) => Phase::Writing,
            (Need::Io { .. } | Need::Fd { .. }, _) => Phase::WaitIo,
            _ => Phase::Working,
        }
    }

    /// Shows the request that begins on the scoreboard.
    fn show_request(&self) {
        let Some((_, score)) = worker_score() else { return };
        let r = &self.r;
        let start = r.request_micros();
        let conn_count = self.requests as u32 + 1;
        score.begin_request(
            start as u64,
            conn_count,
            r.useragent_ip(),
            &r.the_request,
            &r.server.shown,
            "http/1.1",
        );
    }

    /// How many requests were served.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Goes on until it can't. A panic in a module ends the request with 500, not the process.
    pub fn drive(&mut self, lane: Lane) -> Need {
        self.r.lane = lane;
        if lane == Lane::Thread && matches!(self.state, State::Run) {
            // It came from the reactor's place on the scoreboard.
            self.show_request();
        }
        match catch_unwind(AssertUnwindSafe(|| self.advance())) {
            Ok(need) => need,
            Err(_) => self.panicked(),
        }
    }

    /// The time of a [`Need::Io`] is over.
    pub fn expired(&mut self) -> Need {
        match self.state {
            State::Head if self.begun || self.requests == 0 => {
                let buffered = self.r.input.wire.as_ref().map(|w| w.buffered().to_vec()).unwrap_or_default();
                if !self.begun {
                    self.r.request_time = SystemTime::now();
                }
                let limits = &self.r.connection.base_server.resolved.read_timeouts;
                let until = limits.as_ref().map(|l| l.header.until(self.since, buffered.len() as u64));
                if until.is_some_and(|until| now_ms() >= until) {
                    rerror!(self.r, Level::Info, "reqtimeout", "AH01382", "Request header read timeout");
                }
                match self.head.ended(Ended::Timeout, &buffered) {
                    Unfinished::Reply(failed) => self.refuse(failed),
                    Unfinished::Close(Some(code)) if self.requests == 0 => {
                        self.r.take_head(&self.head);
                        self.r.status = code;
                        self.r.log_transaction();
                        return self.close();
                    }
                    Unfinished::Close(_) => return self.close(),
                }
                self.drive(self.r.lane)
            }
            State::Run | State::Finish(_) | State::Drain
                if self.r.input.has_body() && !self.r.input.is_ended() =>
            {
                if self.r.input_until().is_some_and(|until| now_ms() >= until) {
                    rerror!(self.r, Level::Info, "reqtimeout", "AH01382", "Request body read timeout");
                }
                self.r.input.broken = true;
                if matches!(self.state, State::Drain) {
                    return self.close();
                }
                if matches!(self.state, State::Run) {
                    self.state = State::Failed(status::REQUEST_TIME_OUT);
                }
                self.drive(self.r.lane)
            }
            _ => self.close(),
        }
    }

    fn panicked(&mut self) -> Need {
        rerror!(self.r, Level::Crit, "core", "", "a module panicked while serving {}", self.r.the_request);
        if matches!(self.state, State::Run | State::Head) {
            self.state = State::Failed(status::INTERNAL_SERVER_ERROR);
            self.r.notes.set("close", "1");
            if let Ok(need) = catch_unwind(AssertUnwindSafe(|| self.advance())) {
                return need;
            }
        }
        self.close()
    }

    fn close(&mut self) -> Need {
        self.state = State::Closed;
        Need::Close
    }

    fn advance(&mut self) -> Need {
        let mut turns = 0;
        loop {
            let need = match &mut self.state {
                State::Head => self.read_head(),
                State::Run => self.run(),
                State::Failed(code) => {
                    let code = *code;
                    // A request that was redirected to an ErrorDocument has its status.
                    let recursive = if self.r.prev.is_some() { self.r.status } else { status::OK };
                    self.die(code, recursive)
                }
                State::FailedAgain(code) => {
                    let code = *code;
                    self.die(code, self.r.status)
                }
                State::Finish(_) => self.finish(),
                State::Reply { .. } => self.reply(),
                State::Drain => {
                    let need = self.drain();
                    turns += 1;
                    if need.is_none() && turns >= TURN { Some(Need::Again) } else { need }
                }
                State::End => self.end(),
                State::Linger => self.linger(),
                State::Closed => Some(Need::Close),
            };
            if let Some(need) = need {
                return need;
            }
        }
    }

    fn wait_client(&mut self, read: bool) -> Option<Need> {
        let timeout = self.r.server.resolved.timeout;
        Some(Need::Io { read, until: now_ms() + timeout.as_millis() as u64, idle: false })
    }

    // ---- reading a head

    fn read_head(&mut self) -> Option<Need> {
        loop {
            let runtime = self.r.runtime.clone();
            let base = self.r.connection.base_server.clone();
            let options = base.resolved.head.options(&runtime.methods);
            let Some(wire) = self.r.input.wire.as_deref_mut() else { return Some(self.close()) };
            if !wire.buffered().is_empty() {
                if !self.begun {
                    self.begun = true;
                    // The first request's time began with the connection.
                    if self.requests > 0 {
                        self.since = now_ms();
                    }
                    self.r.request_time = SystemTime::now();
                    self.r.keepalives = self.keepalives;
                }
                match self.head.parse(wire.buffered(), &mut self.r.headers_in, &options) {
                    Parsed::Complete(consumed) => {
                        wire.take(consumed);
                        self.r.bytes_in = consumed as u64;
                        match self.r.begin_request(&mut self.head) {
                            Ok(()) => {
                                self.show_request();
                                self.state = State::Run;
                            }
                            Err(failed) => self.refuse(failed),
                        }
                        return None;
                    }
                    Parsed::Failed(failed) => {
                        self.refuse(failed);
                        return None;
                    }
                    Parsed::NeedMore => {}
                }
            }
            if !wire.is_flushed() {
                match wire.flush() {
                    Ok(Progress::Blocked) => return self.wait_client(false),
                    Ok(_) => {}
                    Err(_) => return Some(self.close()),
                }
                continue;
            }
            match wire.fill() {
                Ok(Progress::Done) => {}
                Ok(Progress::Blocked) => return self.wait_head(),
                Ok(Progress::Closed) => return self.head_ended(),
                Err(_) => return Some(self.close()),
            }
        }
    }

    fn wait_head(&mut self) -> Option<Need> {
        let resolved = &self.r.connection.base_server.resolved;
        if self.begun || self.requests == 0 {
            let inactive = now_ms() + resolved.timeout.as_millis() as u64;
            let got = self.r.input.wire.as_ref().map_or(0, |w| w.buffered().len());
            let until = match &resolved.read_timeouts {
                Some(timeouts) => inactive.min(timeouts.header.until(self.since, got as u64)),
                None => inactive,
            };
            return Some(Need::Io { read: true, until, idle: false });
        }
        if self.stopping {
            return Some(self.close());
        }
        let until = now_ms() + resolved.keep_alive_timeout.as_millis() as u64;
        if let Some(wire) = self.r.input.wire.as_deref_mut() {
            wire.release();
        }
        Some(Need::Io { read: true, until, idle: true })
    }

    fn head_ended(&mut self) -> Option<Need> {
        if !self.begun {
            return Some(self.close());
        }
        let buffered = self.r.input.wire.as_ref().map(|w| w.buffered().to_vec()).unwrap_or_default();
        match self.head.ended(Ended::Eof, &buffered) {
            Unfinished::Reply(failed) => {
                self.refuse(failed);
                None
            }
            Unfinished::Close(_) => Some(self.close()),
        }
    }

    /// A head that can't be served: its error is answered and, where what follows can't be told, the connection closed.
    fn refuse(&mut self, failed: Failed) {
        self.r.take_head(&self.head);
        for line in std::mem::take(&mut self.head.log) {
            self.r.log_line(&line);
        }
        if let Some(notes) = failed.notes {
            self.r.notes.set("error-notes", notes);
        }
        if failed.unusable_input {
            self.r.input.broken = true;
        } else {
            self.r.input.begin(self.head.framing);
        }
        self.state = State::Failed(failed.status);
    }

    // ---- serving

    fn run(&mut self) -> Option<Need> {
        loop {
            let answer = match self.r.process_request_internal() {
                Outcome::NeedThread => return Some(Need::Thread),
                // Even 200, which `Redirect 200` gives, is answered with a page.
                Outcome::Status(code) => {
                    self.state = State::Failed(code);
                    return None;
                }
                Outcome::Done => match self.r.responder {
                    Some(responder) => responder(&mut self.r),
                    None => Answer::Body(Content::Empty),
                },
                Outcome::Serve => self.r.invoke_handler(),
            };
            match answer {
                Answer::NeedThread => return Some(Need::Thread),
                Answer::Wait(wait) => return Some(self.wait_for(wait)),
                Answer::Body(content) => self.begin_reply(content),
                Answer::Status(code) => self.state = State::Failed(code),
                Answer::Redirect(uri) => {
                    if self.r.recursion_limit_exceeded() {
                        self.state = State::Failed(status::INTERNAL_SERVER_ERROR);
                        return None;
                    }
                    self.r.internal_redirect(&uri);
                    continue;
                }
                Answer::Declined => self.state = State::Failed(status::NOT_FOUND),
            }
            return None;
        }
    }

    fn wait_for(&mut self, wait: Wait) -> Need {
        let own = self.r.input.wire.as_ref().map(|w| w.fd());
        let until = now_ms() + wait.timeout.as_millis() as u64;
        if own == Some(wait.fd) {
            let until = if wait.read { until.min(self.r.input_until().unwrap_or(until)) } else { until };
            Need::Io { read: wait.read, until, idle: false }
        } else {
            Need::Fd { fd: wait.fd, read: wait.read, until }
        }
    }

    fn die(&mut self, code: u16, recursive: u16) -> Option<Need> {
        match self.r.die(code, recursive) {
            Death::Reply(content) => self.state = State::Finish(content),
            Death::Redirected => self.state = State::Run,
        }
        None
    }

    /// Reads the request's body before an error's page goes out: what is wrong with it is an error of its own.
    fn finish(&mut self) -> Option<Need> {
        let bailed_out = self.r.length_unknown;
        if !status::drops_connection(self.r.status) {
            match self.r.discard_request_body() {
                Some(Answer::Wait(wait)) => return Some(self.wait_for(wait)),
                Some(Answer::Status(code)) if self.r.length_unknown && !bailed_out => {
                    self.state = State::FailedAgain(code);
                    return None;
                }
                _ => {}
            }
        }
        let State::Finish(content) = &mut self.state else { return None };
        let content = std::mem::take(content);
        self.begin_reply(content);
        None
    }

    fn begin_reply(&mut self, content: Content) {
        let r = &mut self.r;
        let content = r.apply_output_filters(content);
        let content = super::byterange::wrap(r, content);
        if let Some(code) = r.error_bucket.take() {
            r.length_unknown = true;
            self.state = State::FailedAgain(code);
            return;
        }
        let content = match r.check_headers() {
            true => content,
            false => match r.forget_headers() {
                Some(code) => {
                    self.state = State::FailedAgain(code);
                    return;
                }
                None => Content::Empty,
            },
        };
        // The head is written where the wire takes it from, unless something still waits before it.
        let waiting = r.input.wire.as_ref().is_some_and(|w| w.is_holding());
        let mut out = match r.input.wire.as_deref_mut() {
            Some(wire) if !waiting => wire.take_head(),
            _ => Vec::new(),
        };
        let before = out.len();
        let chunked = r.reply_head(&content, self.stopping, &mut out);
        r.bytes_out = (out.len() - before) as u64;
        let sendfile = r.dir(&crate::modules::core::DIR).enable_sendfile != Some(false);
        let no_body = r.header_only && !r.assbackwards || status::is_header_only(r.status);
        if let Some(wire) = r.input.wire.as_deref_mut() {
            wire.sendfile = sendfile;
            if waiting {
                wire.push_bytes(&out);
            } else {
                wire.head = out;
            }
        }
        let content = if no_body { Content::Empty } else { content };
        self.state = State::Reply { content, chunked, done: no_body };
    }

    // ---- writing a reply

    fn reply(&mut self) -> Option<Need> {
        loop {
            let State::Reply { content, chunked, done } = &mut self.state else { return None };
            let full = self.r.input.wire.as_ref().is_none_or(|w| w.is_full());
            if !*done && !full {
                match content.pull(&mut self.r) {
                    Ok(Pull::Chunk(chunk)) => {
                        let len = chunk.len();
                        if len > 0 {
                            self.r.bytes_sent += len;
                            self.r.bytes_out += len;
                            let chunked = *chunked;
                            self.push(chunk, len, chunked);
                        }
                        continue;
                    }
                    Ok(Pull::End(trailers)) => {
                        *done = true;
                        if *chunked && let Some(wire) = self.r.input.wire.as_deref_mut() {
                            match trailers {
                                Some(trailers) => wire.push_bytes(&last_chunk(&trailers)),
                                None => wire.push_bytes(LAST_CHUNK),
                            }
                        }
                    }
                    Ok(Pull::Flush) => {}
                    Ok(Pull::Wait(wait)) => {
                        let Some(wire) = self.r.input.wire.as_deref_mut() else { return Some(self.close()) };
                        match wire.flush() {
                            Ok(Progress::Blocked) => return self.wait_client(false),
                            Ok(_) => return Some(self.wait_for(wait)),
                            Err(_) => return Some(self.aborted()),
                        }
                    }
                    Ok(Pull::NeedThread) => return Some(Need::Thread),
                    Err(err) => {
                        rerror!(self.r, Level::Error, "core", "", err = err, "the reply's content broke off");
                        return Some(self.aborted());
                    }
                }
            }
            let State::Reply { done, .. } = &self.state else { return None };
            let done = *done;
            let Some(wire) = self.r.input.wire.as_deref_mut() else { return Some(self.close()) };
            // Replies to pipelined requests go out together.
            let more_requests = done && self.r.keepalive && !wire.buffered().is_empty() && !wire.is_full();
            if !more_requests {
                match wire.flush() {
                    Ok(Progress::Blocked) => return self.wait_client(false),
                    Ok(_) => {}
                    Err(_) => return Some(self.aborted()),
                }
            }
            if done {
                self.state = State::Drain;
                return None;
            }
        }
    }

    fn push(&mut self, chunk: Chunk, len: u64, chunked: bool) {
        let Some(wire) = self.r.input.wire.as_deref_mut() else { return };
        if chunked {
            wire.push_bytes(ChunkHead::new(len).as_ref());
            wire.push(chunk);
            wire.push_bytes(CHUNK_END);
        } else {
            wire.push(chunk);
        }
    }

    /// The client went away: the request is logged as far as it came.
    fn aborted(&mut self) -> Need {
        self.r.keepalive = false;
        self.r.aborted = true;
        self.finish_request();
        self.close()
    }

    // ---- between requests

    fn drain(&mut self) -> Option<Need> {
        if self.r.keepalive && !self.r.input.is_ended() {
            match self.r.pull_framed() {
                Ok(Pulled::Data(_)) => return None,
                Ok(Pulled::Wait) => {
                    let resolved = &self.r.server.resolved;
                    let inactive = now_ms() + resolved.timeout.as_millis() as u64;
                    let until = inactive.min(self.r.input_until().unwrap_or(inactive));
                    return Some(Need::Io { read: true, until, idle: false });
                }
                Ok(Pulled::End) => {}
                Ok(Pulled::Bad(_)) | Err(_) => self.r.keepalive = false,
            }
        }
        self.finish_request();
        if !self.r.keepalive || self.stopping {
            self.state = State::End;
            return None;
        }
        let wire = self.r.input.wire.take();
        self.r.reset();
        self.r.input.wire = wire;
        self.head.clear();
        self.state = State::Head;
        None
    }

    fn end(&mut self) -> Option<Need> {
        let Some(wire) = self.r.input.wire.as_deref_mut() else { return Some(self.close()) };
        match wire.flush() {
            Ok(Progress::Done) => {}
            Ok(Progress::Blocked) => return self.wait_client(false),
            _ => return Some(self.close()),
        }
        if self.r.lane == Lane::Thread {
            // A client that sees the end may ask another process: this request stands before its next in the log.
            crate::log::writer::flush_lines();
        }
        if wire.stream.shutdown(std::net::Shutdown::Write).is_err() {
            return Some(self.close());
        }
        wire.readable = true;
        self.since = now_ms();
        self.state = State::Linger;
        None
    }

    fn finish_request(&mut self) {
        self.requests += 1;
        self.begun = false;
        self.keepalives = self.r.keepalives;
        self.r.come_back();
        self.r.log_transaction();
        if self.r.lane == Lane::Thread {
            // The next read may block (prefork), and the line is not to wait for it.
            crate::log::writer::flush_lines();
        }
        self.bytes += self.r.bytes_in + self.r.bytes_out;
        if let Some((process, score)) = worker_score() {
            let start = self.r.request_micros() as u64;
            score.end_request(start, self.r.bytes_in + self.r.bytes_out, (self.requests as u32, self.bytes));
            // Asking the system is dearer than all the rest here; once a second is what a page can show.
            if scoreboard::is_extended() && LAST_CPU.replace(self.r.request_secs()) != self.r.request_secs() {
                process.cpu.update(nix::sys::resource::UsageWho::RUSAGE_SELF);
            }
        }
    }

    fn linger(&mut self) -> Option<Need> {
        let end = self.since + LINGER.as_millis() as u64;
        loop {
            if now_ms() >= end {
                return Some(self.close());
            }
            let Some(wire) = self.r.input.wire.as_deref_mut() else { return Some(self.close()) };
            let buffered = wire.buffered().len();
            wire.take(buffered);
            match wire.fill() {
                Ok(Progress::Done) => {}
                Ok(Progress::Blocked) => {
                    wire.release();
                    let until = end.min(now_ms() + LINGER_READ.as_millis() as u64);
                    return Some(Need::Io { read: true, until, idle: false });
                }
                Ok(Progress::Closed) | Err(_) => return Some(self.close()),
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // A request that was under way is logged even when the connection is dropped (a process that ends).
        if matches!(self.state, State::Reply { .. } | State::Run) {
            self.r.log_transaction();
        }
    }
}
