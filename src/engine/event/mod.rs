//! event: a reactor that runs requests to completion, and workers for what blocks.
//!
//! Answers to `child_main` and `listener_thread` of `server/mpm/event/event.c`; differs in that the thread that waits
//! also serves, so a request that never blocks changes no thread. Sockets are registered once, for both directions,
//! edge-triggered: parking a connection costs no system call.
//! Rooms: [`accept`] (when connections are taken, and when not), [`elsewhere`] (what they wait for besides their clients), [`load`]
//! (how much there is to do).
//!
//! `AsyncRequestWorkerFactor` is held against connections that have or had need of a thread, or of a process of their own;
//! those that wait for their client or a backend cost none and don't count.

mod accept;
mod elsewhere;
mod load;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::signal::Signal;

use self::accept::{ACCEPTS, LAST_ACCEPTS, Listening};
use self::elsewhere::{Elsewhere, Other, Waits};
use self::load::LoadMeter;
use super::child::{Child, GRACE};
use super::scoreboard::WorkerStatus;
use super::timers::{Due, Timers};
use super::workers::Workers;
use crate::conn::idle::Idle;
use crate::conn::task::{Need, Phase, Shown, Task};
use crate::log::{self, Level, writer};
use crate::os::clock::{Millis, now_ms, unix_secs};
use crate::os::process;
use crate::request::{Lane, memo};

const CONTROL: Token = Token(usize::MAX - 1);
const WAKE: Token = Token(usize::MAX - 2);
/// Tokens of listeners count down from here; those of connections count up from 0, two each (socket, other descriptor).
const LISTENERS: usize = usize::MAX - 1000;
/// How often it is looked for open files that nobody asks for any more.
const SWEEP: Millis = 2_000;

/// A connection in its place.
struct Entry {
    held: Held,
    until: Millis,
    queued: Option<u64>,
    /// Another descriptor that it waits for.
    other: Option<Other>,
    idle: bool,
    /// What it waits for, as counted in [`Reactor::phases`].
    phase: Phase,
    /// Events that came while a worker had it, or in the turn before it parked.
    readable: bool,
    closed: bool,
    /// The poller knows the socket. One that is served and closed in its first turn needs none.
    polled: bool,
}

/// Who has a connection.
enum Held {
    /// The reactor: it waits in the middle of something.
    Task(Box<Task>),
    /// The reactor: it waits for a request.
    Idle(Idle),
    /// A worker.
    Away,
}

impl Held {
    fn is_here(&self) -> bool {
        !matches!(self, Held::Away)
    }

    /// The task, to go on with.
    fn take(&mut self) -> Option<Box<Task>> {
        match std::mem::replace(self, Held::Away) {
            Held::Task(task) => Some(task),
            Held::Idle(idle) => Some(idle.wake()),
            Held::Away => None,
        }
    }

    /// Tells it that the process goes away.
    fn stop(&mut self) {
        match self {
            Held::Task(task) => task.stopping = true,
            Held::Idle(idle) => idle.stopping = true,
            Held::Away => {}
        }
    }
}

struct Reactor<'c> {
    child: &'c Child,
    poll: Poll,
    workers: Workers,
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    timers: Timers,
    again: Vec<usize>,
    open: usize,
    /// Connections that a worker has, or that wait for one.
    away: usize,
    /// What connections wait for besides their clients.
    elsewhere: Elsewhere,
    /// How many connections are in which [`Phase`].
    phases: [u32; 5],
    stopping: bool,
    /// When files that nobody asks for are closed.
    next_sweep: Millis,
    /// A listening socket can't be used any more.
    sick: bool,
    listening: Listening,
    load: LoadMeter,
    /// Connections taken since it stood behind the other children.
    since_rotation: usize,
    /// From this number on descriptors are for files, logs and the like, not for connections.
    last_descriptors: i32,
}

/// Serves until told to go and the last connection is done; the process's exit code.
pub fn run(child: &Child) -> i32 {
    if child.prepare().is_err() {
        return super::master::FATAL;
    }
    process::interrupt_on(Signal::SIGTERM);
    // A connection that waits costs little but a descriptor.
    process::raise_descriptor_limit();
    let Ok(mut reactor) = Reactor::new(child) else { return super::master::FATAL };
    for worker in child.board.workers(child.place) {
        worker.take_place(WorkerStatus::Dead);
    }
    for inline in child.board.inline(child.place) {
        inline.take_place(WorkerStatus::Dead);
    }
    let threads = child.limits.threads_per_child as usize;
    for worker in child.board.workers(child.place).iter().take(threads) {
        worker.take_place(WorkerStatus::Ready);
    }
    child.wake_master();
    let (process, workers) = (child.place, threads.min(child.board.thread_limit));
    crate::conn::task::set_shown(Shown::Reactor { process, workers, row: 0, since: 0 });
    match reactor.run() {
        Ok(()) if !reactor.sick => 0,
        _ => super::master::SICK,
    }
}

impl<'c> Reactor<'c> {
    fn new(child: &'c Child) -> io::Result<Reactor<'c>> {
        let poll = Poll::new()?;
        accept::listen(child, &poll)?;
        poll.registry().register(&mut SourceFd(&child.control_fd()), CONTROL, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let threads = child.limits.threads_per_child as usize;
        let workers = Workers::new(waker, child.place, threads, stack_size(child));
        Ok(Reactor {
            child,
            poll,
            workers,
            entries: Vec::new(),
            free: Vec::new(),
            timers: Timers::new(now_ms()),
            again: Vec::new(),
            open: 0,
            away: 0,
            elsewhere: Elsewhere::default(),
            phases: [0; 5],
            stopping: false,
            next_sweep: Millis::MAX,
            sick: false,
            listening: Listening::Yes,
            since_rotation: 0,
            last_descriptors: accept::last_descriptors(child.limits.threads_per_child),
            load: LoadMeter::new(),
        })
    }

    /// How long to sleep at most.
    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = now_ms();
        let timers = self.timers.sleep(now);
        let paused = match self.listening {
            Listening::Paused(until) => Some(until.saturating_sub(now).max(1)),
            _ => None,
        };
        // What is shown of the load must not stay when there is none any more.
        let load = (self.load.is_shown()).then_some(1000);
        let sweep = (self.next_sweep != Millis::MAX).then(|| self.next_sweep.saturating_sub(now) + 1);
        [timers, paused, load, sweep].into_iter().flatten().min().map(Duration::from_millis)
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(512);
        let mut due: Vec<Due> = Vec::new();
        loop {
            // SIGTERM: what is under way is dropped, but no line for a log is.
            if self.stopping && self.open == 0 || process::was_interrupted(Signal::SIGTERM) {
                return Ok(());
            }
            // Lines for logs go out before it waits, not before it looks whether there is more to serve.
            let timeout = if writer::has_lines() { Some(Duration::ZERO) } else { self.timeout() };
            match self.poll.poll(&mut events, timeout) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            memo::turn_begins();
            let began = Instant::now();
            let mut ready = self.again.len();
            let mut accepting: Vec<usize> = Vec::new();
            let mut called = false;
            for event in &events {
                match event.token() {
                    CONTROL => called = true,
                    WAKE => {}
                    Token(token) if token > LISTENERS - 1000 => accepting.push(LISTENERS - token),
                    Token(token) if elsewhere::is_kept(token) => {
                        if let Some(key) = self.elsewhere.ready(event) {
                            ready += 1;
                            self.drive(key);
                        }
                    }
                    Token(token) => {
                        ready += 1;
                        let key = token / 2;
                        let closed = event.is_read_closed() || event.is_error();
                        self.ready(key, event.is_readable(), closed);
                    }
                }
            }
            for index in accepting {
                ready += self.accept(index, ACCEPTS);
            }
            for returned in self.workers.take_returned() {
                ready += 1;
                self.give_back(returned.key, returned.task, returned.need);
            }
            for key in std::mem::take(&mut self.again) {
                self.drive(key);
            }
            self.timers.due(now_ms(), &mut due);
            for due in due.drain(..) {
                self.time_is_up(due);
            }
            if now_ms() >= self.next_sweep {
                let more = memo::sweep(unix_secs());
                self.next_sweep = if more { now_ms() + SWEEP } else { Millis::MAX };
            } else if self.next_sweep == Millis::MAX && memo::keeps_files() {
                self.next_sweep = now_ms() + SWEEP;
            }
            if ready == 0 {
                writer::flush_lines();
            } else {
                writer::flush_old_lines();
            }
            if called && self.child.is_called() {
                self.stop();
            }
            self.review()?;
            self.load.turn(began, ready);
            self.publish();
        }
    }

    /// Takes no more connections, and lets those that wait for a next request do so a little longer.
    fn stop(&mut self) {
        if self.stopping {
            return;
        }
        // What woke this child may have woken no other.
        self.drain_listeners(LAST_ACCEPTS);
        self.stopping = true;
        self.child.goes();
        self.stop_listening();
        self.listening = Listening::Over;
        self.child.close_listeners();
        for key in 0..self.entries.len() {
            let Some(entry) = self.entries[key].as_mut() else { continue };
            entry.held.stop();
            if (entry.idle || entry.phase == Phase::Closing) && entry.held.is_here() {
                entry.until = entry.until.min(now_ms() + GRACE);
                entry.queued = self.timers.set(key, entry.until, entry.queued);
            }
        }
    }

    fn insert(&mut self, task: Box<Task>) {
        let key = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.entries[key] = Some(Entry {
            held: Held::Task(task),
            until: Millis::MAX,
            queued: None,
            other: None,
            idle: false,
            phase: Phase::Working,
            readable: false,
            closed: false,
            polled: false,
        });
        self.open += 1;
        self.phases[Phase::Working as usize] += 1;
        self.drive(key);
    }

    fn ready(&mut self, key: usize, readable: bool, closed: bool) {
        let Some(entry) = self.entries.get_mut(key).and_then(Option::as_mut) else { return };
        entry.readable |= readable || closed;
        entry.closed |= closed;
        // One that waits for a request has nothing to write.
        let wanted = match entry.held {
            Held::Task(_) => true,
            Held::Idle(_) => entry.readable,
            Held::Away => false,
        };
        if wanted {
            memo::as_of_turn();
            self.advance(key);
        }
    }

    /// Lets a connection go on that the poller has not reported.
    fn drive(&mut self, key: usize) {
        memo::as_of_now();
        self.advance(key);
    }

    /// Lets a connection go on, and does what it needs then.
    fn advance(&mut self, key: usize) {
        let Some(entry) = self.entries.get_mut(key).and_then(Option::as_mut) else { return };
        let Some(mut task) = entry.held.take() else { return };
        if entry.readable
            && let Some(wire) = task.wire()
        {
            wire.readable = true;
            wire.hung_up |= entry.closed;
        }
        entry.readable = false;
        if let Some(other) = entry.other.take() {
            self.elsewhere.over(self.poll.registry(), other);
        }
        let need = task.drive(Lane::Reactor);
        self.park(key, task, need);
    }

    fn give_back(&mut self, key: usize, mut task: Box<Task>, need: Need) {
        self.away -= 1;
        if self.stopping {
            task.stopping = true;
        }
        let came = self.entries.get(key).and_then(Option::as_ref).is_some_and(|e| e.readable);
        self.park(key, task, need);
        if came
            && let Some(Some(entry)) = self.entries.get(key)
            && entry.held.is_here()
        {
            self.drive(key);
        }
    }

    fn park(&mut self, key: usize, mut task: Box<Task>, need: Need) {
        let Some(entry) = self.entries.get_mut(key).and_then(Option::as_mut) else { return };
        if need != Need::Close
            && !entry.polled
            && let Some(wire) = task.wire()
        {
            let both = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut wire.stream, Token(key * 2), both).is_err() {
                self.remove(key);
                return;
            }
            entry.polled = true;
        }
        let phase = task.phase(need);
        if phase != entry.phase {
            self.phases[entry.phase as usize] = self.phases[entry.phase as usize].saturating_sub(1);
            self.phases[phase as usize] += 1;
            entry.phase = phase;
        }
        match need {
            Need::Close => {
                entry.held = Held::Task(task);
                self.remove(key);
            }
            Need::Again => {
                entry.held = Held::Task(task);
                self.again.push(key);
            }
            Need::Thread => {
                entry.idle = false;
                entry.until = Millis::MAX;
                self.away += 1;
                self.workers.submit(key, task);
            }
            Need::Io { until, idle, .. } => {
                entry.held = match Idle::of(task) {
                    Ok(idle) => Held::Idle(idle),
                    Err(task) => Held::Task(task),
                };
                entry.idle = idle;
                // A child that goes does not wait for long.
                let until = if idle && self.stopping { until.min(now_ms() + GRACE) } else { until };
                entry.until = until;
                if until != Millis::MAX {
                    entry.queued = self.timers.set(key, until, entry.queued);
                }
            }
            Need::Fd { fd, read, until, kept } => {
                entry.held = Held::Task(task);
                entry.idle = false;
                entry.until = until;
                entry.queued = self.timers.set(key, until, entry.queued);
                match self.elsewhere.wait(self.poll.registry(), key, fd, read, kept) {
                    Waits::For(other) => entry.other = Some(other),
                    Waits::Not => self.again.push(key),
                }
            }
        }
    }

    fn time_is_up(&mut self, due: Due) {
        let Some(entry) = self.entries.get_mut(due.key).and_then(Option::as_mut) else { return };
        if entry.queued != Some(due.at) {
            return;
        }
        entry.queued = None;
        if !entry.held.is_here() || entry.until == Millis::MAX {
            return;
        }
        if now_ms() < entry.until {
            entry.queued = self.timers.set(due.key, entry.until, None);
            return;
        }
        let Some(mut task) = entry.held.take() else { return };
        if let Some(other) = entry.other.take() {
            self.elsewhere.over(self.poll.registry(), other);
        }
        let need = task.expired();
        self.park(due.key, task, need);
    }

    fn remove(&mut self, key: usize) {
        let Some(entry) = self.entries.get_mut(key).and_then(Option::take) else { return };
        self.phases[entry.phase as usize] = self.phases[entry.phase as usize].saturating_sub(1);
        if let Some(other) = entry.other {
            self.elsewhere.over(self.poll.registry(), other);
        }
        // With its descriptor, the poller forgets the socket.
        if let Held::Task(task) = entry.held {
            Idle::ended(task);
        }
        self.open -= 1;
        self.free.push(key);
    }

    /// Writes the counts to the board, once a turn.
    fn publish(&mut self) {
        let score = self.child.score();
        let threads = self.child.limits.threads_per_child;
        score.connections.store(self.open as u32, Ordering::Relaxed);
        score.busy.store(self.away as u32, Ordering::Relaxed);
        for (counter, phase) in [
            (&score.suspended, Phase::WaitIo),
            (&score.write_completion, Phase::Writing),
            (&score.keep_alive, Phase::KeepAlive),
            (&score.lingering_close, Phase::Closing),
        ] {
            counter.store(self.phases[phase as usize], Ordering::Relaxed);
        }
        if let Some(load) = self.load.read(Instant::now()) {
            score.load.store(load, Ordering::Relaxed);
        }
        // Between two turns the reactor serves nobody; what waits is counted above.
        crate::conn::task::show_rest();
        if self.stopping {
            let workers = self.child.board.workers(self.child.place);
            // Workers without work are gone; the reactor finishes what there is.
            for (index, worker) in workers.iter().take(threads as usize).enumerate() {
                if index == 0 {
                    worker.set_status(WorkerStatus::Graceful);
                } else if worker.status() == WorkerStatus::Ready {
                    worker.set_status(WorkerStatus::Dead);
                }
            }
        }
    }
}

/// `ThreadStackSize`, where the system takes it.
fn stack_size(child: &Child) -> Option<usize> {
    let size = child.runtime.mpm.thread_stack_size?;
    if size >= libc::PTHREAD_STACK_MIN {
        return Some(size);
    }
    let err = io::Error::from_raw_os_error(libc::EINVAL);
    let text = format!("WARNING: ThreadStackSize of {size} is inappropriate, using default");
    log::server_error(Level::Warn, "mpm_event", "AH02436", Some(&err), &text);
    None
}
