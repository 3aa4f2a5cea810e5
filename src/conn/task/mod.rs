//! One connection as a state machine that says what it needs.
//!
//! [`Task::drive`] runs it until it can't go on; the engine answers the [`Need`] in its own way: prefork with `poll`,
//! event with its reactor and workers. Nothing here knows which.

mod between;
mod head;
mod reply;
mod serve;
mod speak;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::idle::Idle;
use super::protocol::{Next, Protocol};
use super::wire::Wire;
use crate::body::Content;
use crate::engine::scoreboard::{ProcessScore, Scoreboard, WorkerScore, WorkerStatus};
use crate::http::head::{Ended, Head, Unfinished};
use crate::http::status;
use crate::log::{Level, rerror};
use crate::os::clock::{Millis, now_ms, unix_micros};
use crate::request::{ConnInfo, Lane, Request, memo};

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
        /// As in [`crate::body::Wait`].
        kept: Option<u64>,
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
    /// A module speaks its own protocol.
    Speak {
        protocol: Box<dyn Protocol>,
        next: Next,
    },
    /// In the phases, or asking handlers.
    Run,
    /// An error that was met in the head or body is to be answered.
    Failed(u16),
    /// An error that came up while the reply was on its way through the filters.
    FailedAgain(u16),
    /// The page of an error waits for the end of the request's body: `ap_finalize_request_protocol`.
    Finish(Content),
    /// The filters of a reply are to be set up, which may block.
    Begin(Content),
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
/// `MAX_SECS_TO_LINGER` and `SECONDS_TO_LINGER`: how long a closing connection is read from, in all, and while nothing comes
/// (in prefork) or when it is to be short.
const LINGER: Duration = Duration::from_secs(30);
const SHORT_LINGER: Duration = Duration::from_secs(2);

/// Whose place on the scoreboard the requests of a thread are shown in.
#[derive(Clone, Copy)]
pub enum Shown {
    /// Nobody's.
    Nowhere,
    /// That of a worker: process and worker.
    Worker(usize, usize),
    /// Those of all workers of a process, one after the other: a reactor. It goes on to the next at most once a
    /// millisecond, so that what is written stays in the processor's caches when there is much to serve.
    Reactor {
        /// The process.
        process: usize,
        /// How many workers it has.
        workers: usize,
        /// The row at hand.
        row: usize,
        /// The time of its first request, in about milliseconds.
        since: i64,
    },
}

thread_local! {
    /// The place on the scoreboard of whoever runs requests in this thread.
    static SHOWN: std::cell::Cell<Shown> = const { std::cell::Cell::new(Shown::Nowhere) };
}

thread_local! {
    /// The second in which this thread last told the scoreboard how much CPU time its process has used.
    static LAST_CPU: std::cell::Cell<i64> = const { std::cell::Cell::new(0) };
}

/// Says whose place on the scoreboard the requests of this thread are shown in.
pub fn set_shown(shown: Shown) {
    SHOWN.set(shown);
}

/// The reactor does nothing for a while.
pub fn show_rest() {
    if let (Shown::Reactor { .. }, Some((_, score))) = (SHOWN.get(), worker_score(row())) {
        score.set_status(WorkerStatus::Ready);
    }
}

/// A request begins: a reactor may go on to its next row.
fn next_row(start: i64) {
    let Shown::Reactor { process, workers, row, since } = SHOWN.get() else { return };
    let now = start >> 10;
    if now != since && workers > 0 {
        show_rest();
        SHOWN.set(Shown::Reactor { process, workers, row: (row + 1) % workers, since: now });
    }
}

/// Shows on the scoreboard what a module does on a connection that has no requests.
pub fn show_other(connection: &ConnInfo, what: &[u8]) {
    let Some((_, score)) = worker_score(row()) else { return };
    let host = connection.base_server.shown.as_bytes();
    score.begin_request(unix_micros() as u64, (0, 0), &connection.client_ip, what, host, "");
}

/// The row of the reactor's latest request.
fn row() -> usize {
    match SHOWN.get() {
        Shown::Reactor { row, .. } => row,
        _ => 0,
    }
}

/// The place of this thread on the scoreboard; of a reactor, that of the request which it began in this row.
fn worker_score(row: usize) -> Option<(&'static ProcessScore, &'static WorkerScore)> {
    let board = Scoreboard::current()?;
    let (process, score) = match SHOWN.get() {
        Shown::Nowhere => return None,
        Shown::Worker(process, worker) => (process, board.workers(process).get(worker)?),
        Shown::Reactor { process, .. } => (process, board.inline(process).get(row)?),
    };
    Some((board.processes().get(process)?, score))
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
    /// How long it is waited for the next request, by the server of the last one.
    keep_alive_timeout: Millis,
    keepalives: u32,
    begun: bool,
    /// Where a reactor shows the request.
    row: usize,
    /// The request was refused before any hook ran: whatever its reply says, it is the last of the connection.
    refused: bool,
    requests: u64,
    /// Bytes of all requests and replies so far.
    bytes: u64,
    /// Its lingering close ends after two seconds: the note `short-lingering-close`.
    short_linger: bool,
    /// A module panicked: who knows what it left behind.
    panicked: bool,
    /// What it waits for is not its client.
    elsewhere: bool,
    /// The client will send nothing more, and nothing that it sent is left unread.
    silent: bool,
    /// The process is going away: no more requests after this one.
    pub stopping: bool,
}

impl Task {
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
            keep_alive_timeout: self.keep_alive_timeout,
            stopping: self.stopping,
        })
    }

    /// Lets go of a connection that is closed. False when the task is of no more use.
    pub(super) fn leave(&mut self) -> bool {
        if !matches!(self.state, State::Closed) || self.panicked {
            return false;
        }
        if let Some(mut wire) = self.r.input.wire.take() {
            wire.release();
        }
        self.r.reset();
        self.head.clear();
        self.state = State::Head;
        true
    }

    /// Takes over a connection that waited.
    pub(super) fn take_idle(&mut self, idle: Idle) {
        let other_server = !Arc::ptr_eq(&self.r.connection.base_server, &idle.connection.base_server);
        self.r.connection = idle.connection;
        if other_server {
            self.r.reset();
        }
        self.r.input.wire = Some(idle.wire);
        self.state = State::Head;
        self.since = idle.since;
        self.keep_alive_timeout = idle.keep_alive_timeout;
        self.keepalives = idle.keepalives;
        self.begun = false;
        self.refused = false;
        self.requests = idle.requests;
        self.bytes = idle.bytes;
        self.short_linger = false;
        self.silent = false;
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
            keep_alive_timeout: 0,
            keepalives: 0,
            begun: false,
            row: 0,
            refused: false,
            requests: 0,
            bytes: 0,
            short_linger: false,
            panicked: false,
            elsewhere: false,
            silent: false,
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
                | State::Begin(_)
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
    fn show_request(&mut self) {
        let start = self.r.request_micros();
        next_row(start);
        self.row = row();
        let Some((_, score)) = worker_score(self.row) else { return };
        let r = &self.r;
        score.begin_request(
            start as u64,
            (self.requests as u32 + 1, self.bytes),
            r.useragent_ip(),
            &r.the_request,
            r.server.shown.as_bytes(),
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
        self.elsewhere = false;
        if lane == Lane::Thread {
            memo::as_of_now();
        }
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
        if self.elsewhere {
            // Whoever waits knows how long it wanted to, and what it means.
            return self.drive(self.r.lane);
        }
        match self.state {
            State::Head if self.begun || self.requests == 0 => {
                let buffered = self.r.input.wire.as_ref().map(|w| w.buffered().to_vec()).unwrap_or_default();
                if !self.begun {
                    self.r.request_time = unix_micros();
                }
                let limits = &self.r.connection.base_server.resolved.read_timeouts;
                let until = limits.as_ref().map(|l| l.header.until(self.since, buffered.len() as u64));
                // mod_reqtimeout says so, too, where it was TimeOut that ran out.
                if until.is_some_and(|until| until != Millis::MAX) {
                    self.short_linger = true;
                    rerror!(self.r, Level::Info, "reqtimeout", "AH01382", "Request header read timeout");
                }
                match self.head.ended(Ended::Timeout, &buffered) {
                    Unfinished::Reply(failed) => self.refuse(failed),
                    Unfinished::Close(Some(code)) if self.requests == 0 => {
                        self.r.take_head(&self.head);
                        self.r.the_request = "-".into();
                        self.r.status = code;
                        // No more than a line about nothing that was asked for: it may take the time it needs.
                        self.r.lane = Lane::Thread;
                        _ = self.r.log_transaction();
                        return self.close();
                    }
                    Unfinished::Close(_) => return self.close(),
                }
                self.drive(self.r.lane)
            }
            State::Run | State::Finish(_) | State::Drain
                if self.r.input.has_body() && !self.r.input.is_ended() =>
            {
                if self.r.input_until().is_some_and(|until| until != Millis::MAX) {
                    self.short_linger = true;
                    rerror!(self.r, Level::Info, "reqtimeout", "AH01382", "Request body read timeout");
                }
                self.r.input.broken = true;
                if matches!(self.state, State::Drain) {
                    return self.finish_and_shut_down();
                }
                if matches!(self.state, State::Run) {
                    self.state = State::Failed(status::REQUEST_TIME_OUT);
                }
                self.drive(self.r.lane)
            }
            State::Head | State::Speak { .. } => self.shut_down(),
            State::Drain => self.finish_and_shut_down(),
            State::End | State::Linger | State::Closed => self.close(),
            // The client takes nothing, or what the reply is made from does not come.
            _ => self.aborted(),
        }
    }

    /// The reply was sent, but the rest of the request's body does not come.
    fn finish_and_shut_down(&mut self) -> Need {
        self.r.keepalive = false;
        self.finish_request();
        self.state = State::End;
        self.drive(self.r.lane)
    }

    /// Ends a connection that waits for its next request, gently: the client may be sending one just now.
    pub fn shut_down(&mut self) -> Need {
        self.short_linger = true;
        self.state = State::End;
        self.drive(self.r.lane)
    }

    /// Ends it at once, because its descriptor is needed.
    pub fn drop_now(&mut self) -> Need {
        self.close()
    }

    fn panicked(&mut self) -> Need {
        memo::end(&mut self.r, None);
        self.panicked = true;
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
                State::Speak { .. } => self.go_on_speaking(),
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
                State::Begin(_) => self.begin(),
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
}

impl Drop for Task {
    fn drop(&mut self) {
        // A request that was under way is logged even when the connection is dropped (a process that ends).
        if matches!(self.state, State::Reply { .. } | State::Run) {
            self.r.lane = Lane::Thread;
            _ = self.r.log_transaction();
        }
    }
}
