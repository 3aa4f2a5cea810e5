//! event: a reactor that runs requests to completion, and workers for what blocks.
//!
//! Answers to `child_main` and `listener_thread` of `server/mpm/event/event.c`; differs in that the thread that waits
//! also serves, so a request that never blocks changes no thread. Sockets are registered once, for both directions,
//! edge-triggered: parking a connection costs no system call.
//!
//! `AsyncRequestWorkerFactor` is held against connections that have or had need of a thread (a worker's, or another
//! descriptor than the client's); those that only wait for their client cost none and don't count.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::signal::Signal;

use super::child::{AcceptFailed, Child, GRACE, accept_failed};
use super::scoreboard::WorkerStatus;
use super::timers::{Due, Timers};
use super::workers::Workers;
use crate::conn::idle::Idle;
use crate::conn::task::{Need, Phase, Task};
use crate::log::{self, Level, writer};
use crate::os::clock::{Millis, now_ms, unix_secs};
use crate::os::process;
use crate::request::{Lane, memo};

const CONTROL: Token = Token(usize::MAX - 1);
const WAKE: Token = Token(usize::MAX - 2);
/// Tokens of listeners count down from here; those of connections count up from 0, two each (socket, other descriptor).
const LISTENERS: usize = usize::MAX - 1000;
/// How many connections are taken at once before those that are there have a turn, and the other children theirs.
const ACCEPTS: usize = 16;

/// How often it is looked for open files that nobody asks for any more.
const SWEEP: Millis = 2_000;

/// A connection in its place.
struct Entry {
    held: Held,
    until: Millis,
    queued: Option<u64>,
    /// Another descriptor that it waits for.
    other: Option<i32>,
    idle: bool,
    /// What it waits for, as counted in [`Reactor::phases`].
    phase: Phase,
    /// Events that came while a worker had it, or in the turn before it parked.
    readable: bool,
    closed: bool,
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
    /// Connections that wait for another descriptor than their client's.
    elsewhere: usize,
    /// How many connections are in which [`Phase`].
    phases: [u32; 5],
    stopping: bool,
    /// When files that nobody asks for are closed.
    next_sweep: Millis,
    /// A listening socket can't be used any more.
    sick: bool,
    listening: Listening,
    load: LoadMeter,
}

/// Whether connections are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Listening {
    Yes,
    /// Too many connections need a worker: not until some are done.
    Disabled,
    /// Descriptors are short: not until a connection was closed, or until then.
    Paused(Millis),
    /// The child goes: never again.
    Over,
}

/// How long accepting rests when descriptors are short and nothing could be closed, in milliseconds.
const PAUSE: Millis = 100;

/// How much the reactor has to do: the connections that were ready in a turn, weighed by how long it took, over a second.
/// That is how many threads Apache's event would have at work for them.
struct LoadMeter {
    /// Connection-seconds.
    sum: f64,
    since: Instant,
    shown: u32,
}

impl LoadMeter {
    fn turn(&mut self, began: Instant, ready: usize) {
        self.sum += began.elapsed().as_secs_f64() * ready as f64;
    }

    /// The average, once a second.
    fn read(&mut self, now: Instant) -> Option<u32> {
        let time = now.saturating_duration_since(self.since).as_secs_f64();
        if time < 1.0 {
            return None;
        }
        self.shown = (self.sum / time).round() as u32;
        self.sum = 0.0;
        self.since = now;
        Some(self.shown)
    }
}

/// Serves until told to go and the last connection is done; the process's exit code.
pub fn run(child: &Child) -> i32 {
    if child.prepare().is_err() {
        return super::master::FATAL;
    }
    process::interrupt_on(Signal::SIGTERM);
    // A connection that waits costs little but a descriptor.
    process::raise_descriptor_limit();
    for worker in child.board.workers(child.place) {
        worker.take_place(WorkerStatus::Dead);
    }
    let threads = child.limits.threads_per_child as usize;
    for worker in child.board.workers(child.place).iter().take(threads) {
        worker.take_place(WorkerStatus::Ready);
    }
    // The reactor's requests are shown in the first place, those of workers in theirs.
    crate::conn::task::set_worker(Some((child.place, 0)));
    match Reactor::new(child) {
        Ok(mut reactor) => match reactor.run() {
            Ok(()) if !reactor.sick => 0,
            _ => super::master::SICK,
        },
        Err(_) => super::master::FATAL,
    }
}

impl<'c> Reactor<'c> {
    fn new(child: &'c Child) -> io::Result<Reactor<'c>> {
        let poll = Poll::new()?;
        listen(child, &poll)?;
        poll.registry().register(&mut SourceFd(&child.control_fd()), CONTROL, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let workers = Workers::new(
            waker,
            child.place,
            child.limits.threads_per_child as usize,
            child.runtime.mpm.thread_stack_size,
        );
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
            elsewhere: 0,
            phases: [0; 5],
            stopping: false,
            next_sweep: Millis::MAX,
            sick: false,
            listening: Listening::Yes,
            load: LoadMeter { sum: 0.0, since: Instant::now(), shown: 0 },
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
        let load = (self.load.shown > 0).then_some(1000);
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
            match self.poll.poll(&mut events, self.timeout()) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            memo::turn_begins();
            let began = Instant::now();
            let mut ready = self.again.len();
            let mut accepting: Vec<usize> = Vec::new();
            for event in &events {
                match event.token() {
                    CONTROL => {
                        if self.child.is_called() {
                            self.stop();
                        }
                    }
                    WAKE => {}
                    Token(token) if token > LISTENERS - 1000 => accepting.push(LISTENERS - token),
                    Token(token) => {
                        ready += 1;
                        let key = token / 2;
                        let closed = event.is_read_closed() || event.is_error();
                        self.ready(key, event.is_readable(), closed);
                    }
                }
            }
            for index in accepting {
                ready += self.accept(index)?;
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
            writer::flush_lines();
            self.listen_again()?;
            self.load.turn(began, ready);
            self.publish();
        }
    }

    /// Takes no more connections, and lets those that wait for a next request do so a little longer.
    fn stop(&mut self) {
        if self.stopping {
            return;
        }
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

    fn stop_listening(&mut self) {
        if self.listening == Listening::Yes {
            for listener in self.child.listeners.borrow().iter() {
                // It was registered; that it can't be taken out any more only means it is out.
                let _ = self.poll.registry().deregister(&mut SourceFd(&listener.fd()));
            }
        }
    }

    /// `connections_above_limit`: `Some(true)` when no worker is idle, `Some(false)` when only too many connections need one.
    fn above_limit(&self) -> Option<bool> {
        let threads = self.child.limits.threads_per_child as usize;
        let idle = threads.saturating_sub(self.away);
        if idle == 0 {
            return Some(true);
        }
        // Off by one when disabled, so that it does not change to and fro.
        let off = usize::from(self.listening == Listening::Disabled);
        let factor = self.child.runtime.mpm.async_factor.unwrap_or(2.0);
        let most = threads as f64 + (idle - off) as f64 * factor;
        (self.away + self.elsewhere >= most as usize).then_some(false)
    }

    /// Too many connections need a worker: the other children are to take what comes.
    fn disable(&mut self, all_busy: bool) {
        self.stop_listening();
        self.listening = Listening::Disabled;
        self.child.score().not_accepting.store(true, Ordering::Relaxed);
        if all_busy {
            let text = "All workers busy, not accepting new conns in this process";
            log::server_event(Level::Debug, "mpm_event", "", text);
            let idle = self.phases[Phase::KeepAlive as usize];
            if idle > 0 {
                // So that they may connect to another process.
                let text =
                    format!("All workers are busy or dying, will shutdown {idle} keep-alive connections");
                log::server_event(Level::Trace1, "mpm_event", "", &text);
                self.close_idle(usize::MAX, Task::shut_down);
            }
        } else {
            let text =
                format!("Too many open connections ({}), not accepting new conns in this process", self.open);
            log::server_event(Level::Debug, "mpm_event", "", &text);
        }
    }

    /// Accepts again, once what spoke against it is over.
    fn listen_again(&mut self) -> io::Result<()> {
        match self.listening {
            Listening::Disabled if self.above_limit().is_none() => {
                let threads = self.child.limits.threads_per_child as usize;
                let text = format!(
                    "Accepting new connections again: {} active conns ({} lingering/0 clogged/{} suspended), {} idle workers",
                    self.open,
                    self.phases[Phase::Closing as usize],
                    self.phases[Phase::WaitIo as usize],
                    threads.saturating_sub(self.away)
                );
                log::server_event(Level::Debug, "mpm_event", "AH00457", &text);
            }
            Listening::Paused(until) if now_ms() >= until => {}
            _ => return Ok(()),
        }
        self.listening = Listening::Yes;
        self.child.score().not_accepting.store(false, Ordering::Relaxed);
        listen(self.child, &self.poll)
    }

    /// Ends up to `most` connections that wait for a next request, those first that would end first anyway.
    fn close_idle(&mut self, most: usize, end: fn(&mut Task) -> Need) {
        let mut idle: Vec<(Millis, usize)> = self
            .entries
            .iter()
            .enumerate()
            .filter_map(|(key, entry)| Some((key, entry.as_ref()?)))
            .filter(|(_, entry)| entry.idle && entry.held.is_here() && !entry.readable)
            .map(|(key, entry)| (entry.until, key))
            .collect();
        if idle.len() > most {
            idle.select_nth_unstable(most);
            idle.truncate(most);
        }
        for (_, key) in idle {
            let Some(entry) = self.entries.get_mut(key).and_then(Option::as_mut) else { continue };
            let Some(mut task) = entry.held.take() else { continue };
            let need = end(&mut task);
            self.park(key, task, need);
        }
    }

    /// Descriptors or memory are short: connections that nobody waits for are closed, then accepting is tried again.
    fn relieve(&mut self) {
        let idle = self.phases[Phase::KeepAlive as usize] as usize;
        self.close_idle((idle / 16).max(64), Task::drop_now);
        self.stop_listening();
        self.listening = Listening::Paused(now_ms() + if idle > 0 { 1 } else { PAUSE });
        if idle == 0 {
            self.child.score().not_accepting.store(true, Ordering::Relaxed);
        }
    }

    /// Takes the connections that wait at a socket; how many came.
    fn accept(&mut self, index: usize) -> io::Result<usize> {
        let child = self.child;
        let Some(listener) = child.listener(index) else { return Ok(0) };
        for count in 0..ACCEPTS {
            if self.listening != Listening::Yes {
                return Ok(count);
            }
            if let Some(all_busy) = self.above_limit() {
                self.disable(all_busy);
                return Ok(count);
            }
            let (stream, client) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(count),
                Err(err) => match accept_failed(&err) {
                    AcceptFailed::Passing => break,
                    AcceptFailed::Shortage => {
                        self.relieve();
                        return Ok(count);
                    }
                    // Another child may do better, once this one has finished what it has.
                    AcceptFailed::Broken => {
                        self.sick = true;
                        self.stop();
                        return Ok(count);
                    }
                },
            };
            if let Ok(mut task) = child.task(stream, client, &listener) {
                task.stopping = self.stopping;
                self.insert(Box::new(task));
            }
            let most = child.runtime.mpm.max_connections_per_child;
            if most > 0 && child.score().accepted.load(Ordering::Relaxed) >= most {
                let text = "Stopping process due to MaxConnectionsPerChild";
                log::server_event(Level::Trace1, "mpm_event", "", text);
                self.stop();
                return Ok(count + 1);
            }
        }
        // Edge-triggered: what still waits must be asked for anew.
        self.poll.registry().reregister(
            &mut SourceFd(&listener.fd()),
            Token(LISTENERS - index),
            Interest::READABLE,
        )?;
        Ok(ACCEPTS)
    }

    fn insert(&mut self, mut task: Box<Task>) {
        let key = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        if let Some(wire) = task.wire()
            && self
                .poll
                .registry()
                .register(&mut wire.stream, Token(key * 2), Interest::READABLE | Interest::WRITABLE)
                .is_err()
        {
            self.free.push(key);
            return;
        }
        self.entries[key] = Some(Entry {
            held: Held::Task(task),
            until: Millis::MAX,
            queued: None,
            other: None,
            idle: false,
            phase: Phase::Working,
            readable: false,
            closed: false,
        });
        self.open += 1;
        self.phases[Phase::Working as usize] += 1;
        self.drive(key);
    }

    fn ready(&mut self, key: usize, readable: bool, closed: bool) {
        let Some(entry) = self.entries.get_mut(key).and_then(Option::as_mut) else { return };
        entry.readable |= readable || closed;
        entry.closed |= closed;
        if entry.held.is_here() {
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
        if let Some(fd) = entry.other.take() {
            self.elsewhere -= 1;
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
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

    fn park(&mut self, key: usize, task: Box<Task>, need: Need) {
        let Some(entry) = self.entries.get_mut(key).and_then(Option::as_mut) else { return };
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
                entry.until = until;
                if until != Millis::MAX {
                    entry.queued = self.timers.set(key, until, entry.queued);
                }
            }
            Need::Fd { fd, read, until } => {
                let interest = if read { Interest::READABLE } else { Interest::WRITABLE };
                entry.held = Held::Task(task);
                entry.idle = false;
                entry.until = until;
                entry.queued = self.timers.set(key, until, entry.queued);
                match self.poll.registry().register(&mut SourceFd(&fd), Token(key * 2 + 1), interest) {
                    Ok(()) => {
                        entry.other = Some(fd);
                        self.elsewhere += 1;
                    }
                    // A plain file or the like is always ready.
                    Err(_) => self.again.push(key),
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
        let need = task.expired();
        self.park(due.key, task, need);
    }

    fn remove(&mut self, key: usize) {
        let Some(mut entry) = self.entries.get_mut(key).and_then(Option::take) else { return };
        self.phases[entry.phase as usize] = self.phases[entry.phase as usize].saturating_sub(1);
        if let Some(fd) = entry.other {
            self.elsewhere -= 1;
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
        let fd = match &mut entry.held {
            Held::Task(task) => task.wire().map(|wire| wire.fd()),
            Held::Idle(idle) => Some(idle.wire.fd()),
            Held::Away => None,
        };
        if let Some(fd) = fd {
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
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
        let workers = self.child.board.workers(self.child.place);
        if self.stopping {
            for worker in workers.iter().take(threads as usize) {
                if worker.status() == WorkerStatus::Ready {
                    worker.set_status(WorkerStatus::Graceful);
                }
            }
        } else if let Some(worker) = workers.first() {
            worker.set_status(WorkerStatus::Ready);
        }
    }
}

/// Waits for connections at all its sockets.
fn listen(child: &Child, poll: &Poll) -> io::Result<()> {
    for (index, listener) in child.listeners.borrow().iter().enumerate() {
        let token = Token(LISTENERS - index);
        poll.registry().register(&mut SourceFd(&listener.fd()), token, Interest::READABLE)?;
    }
    Ok(())
}
