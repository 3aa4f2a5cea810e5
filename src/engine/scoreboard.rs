//! What the processes of a server know of each other, in shared memory.
//!
//! Answers to `include/scoreboard.h`. The master makes it before the first fork; children write their own places,
//! everybody reads.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::os::clock;
use crate::os::shared::SharedArray;

/// What a worker does: `SERVER_*`, and its letter in server-status.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
#[repr(u8)]
pub enum WorkerStatus {
    /// No process there (`.`).
    Dead = 0,
    /// Starting up (`S`).
    Starting,
    /// Waiting for a connection (`_`).
    Ready,
    /// Reading a request (`R`).
    BusyRead,
    /// Sending a reply (`W`).
    BusyWrite,
    /// Waiting for the next request of a connection (`K`).
    BusyKeepalive,
    /// Logging (`L`).
    BusyLog,
    /// Looking a name up (`D`).
    BusyDns,
    /// Closing (`C`).
    Closing,
    /// Finishing before it ends (`G`).
    Graceful,
    /// Being cleaned up (`I`).
    IdleKill,
}

impl WorkerStatus {
    const LETTERS: &[u8; 11] = b".S_RWKLDCGI";

    /// The letter in server-status.
    pub fn letter(self) -> char {
        char::from(Self::LETTERS[self as usize])
    }

    /// It has something to do.
    pub fn is_busy(self) -> bool {
        (WorkerStatus::BusyRead..=WorkerStatus::Closing).contains(&self)
    }

    fn from_u8(value: u8) -> WorkerStatus {
        use WorkerStatus::*;
        [
            Dead,
            Starting,
            Ready,
            BusyRead,
            BusyWrite,
            BusyKeepalive,
            BusyLog,
            BusyDns,
            Closing,
            Graceful,
            IdleKill,
        ]
        .get(usize::from(value))
        .copied()
        .unwrap_or(Dead)
    }
}

/// A short text that one process writes and others read; a read during a write may mix the two.
pub struct SharedText<const WORDS: usize> {
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> SharedText<WORDS> {
    /// Cuts `text` to the room there is.
    pub fn set(&self, text: &[u8]) {
        let (whole, rest) = text.as_chunks::<8>();
        let mut last = [0_u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        let chunks = whole.iter().chain([&last]);
        // What stands behind the first zero byte doesn't count.
        for (word, chunk) in self.words.iter().zip(chunks) {
            word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
        }
    }

    /// The text, up to its first zero byte.
    pub fn get(&self) -> Vec<u8> {
        let mut text: Vec<u8> =
            self.words.iter().flat_map(|w| w.load(Ordering::Relaxed).to_ne_bytes()).collect();
        if let Some(end) = text.iter().position(|&b| b == 0) {
            text.truncate(end);
        }
        text
    }
}

/// One worker: a child of prefork, a thread's worth of requests in event.
pub struct WorkerScore {
    status: AtomicU8,
    /// Requests served in this place.
    pub access_count: AtomicU64,
    /// Bytes sent in this place.
    pub bytes_served: AtomicU64,
    /// Requests served by the process now in this place.
    pub my_access_count: AtomicU64,
    /// Bytes sent by the process now in this place.
    pub my_bytes_served: AtomicU64,
    /// Requests served on the current connection.
    pub conn_count: AtomicU32,
    /// Bytes sent on the current connection.
    pub conn_bytes: AtomicU64,
    /// When the current request began, in microseconds since 1970.
    pub start_time: AtomicU64,
    /// When it ended.
    pub stop_time: AtomicU64,
    /// Time spent on requests in all, in microseconds.
    pub duration: AtomicU64,
    /// When something was written here last, in microseconds since 1970.
    pub last_used: AtomicU64,
    /// The client.
    pub client: SharedText<8>,
    /// The request line.
    pub request: SharedText<8>,
    /// The virtual host.
    pub vhost: SharedText<4>,
    /// The protocol.
    pub protocol: SharedText<2>,
}

impl WorkerScore {
    /// What it does.
    pub fn status(&self) -> WorkerStatus {
        WorkerStatus::from_u8(self.status.load(Ordering::Relaxed))
    }
    /// A request was read and is to be answered. The texts are only looked at by `ExtendedStatus`. `connection`: its
    /// requests with this one, and bytes before it.
    pub fn begin_request(
        &self,
        start: u64,
        connection: (u32, u64),
        client: &str,
        request: &[u8],
        vhost: &[u8],
        protocol: &str,
    ) {
        self.set_status(WorkerStatus::BusyWrite);
        if !EXTENDED.load(Ordering::Relaxed) {
            return;
        }
        self.conn_count.store(connection.0, Ordering::Relaxed);
        self.conn_bytes.store(connection.1, Ordering::Relaxed);
        self.start_time.store(start, Ordering::Relaxed);
        self.last_used.store(start, Ordering::Relaxed);
        self.client.set(client.as_bytes());
        let most = 8 * 8 - 1;
        let shown = if request.len() <= most {
            request
        } else if REQUEST_TAIL.load(Ordering::Relaxed) {
            &request[request.len() - most..]
        } else {
            &request[..most]
        };
        self.request.set(shown);
        self.vhost.set(vhost);
        self.protocol.set(protocol.as_bytes());
    }

    /// It was answered: `ap_increment_counts`. `connection`: requests and bytes of its connection by now.
    pub fn end_request(&self, start: u64, bytes: u64, connection: (u32, u64)) {
        self.set_status(WorkerStatus::Ready);
        if !EXTENDED.load(Ordering::Relaxed) {
            return;
        }
        let now = micros();
        // Only one thread writes here, so that no addition is lost.
        let add = |counter: &AtomicU64, more: u64| {
            counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
        };
        add(&self.access_count, 1);
        add(&self.my_access_count, 1);
        add(&self.bytes_served, bytes);
        add(&self.my_bytes_served, bytes);
        add(&self.duration, now.saturating_sub(start));
        self.start_time.store(start, Ordering::Relaxed);
        self.conn_count.store(connection.0, Ordering::Relaxed);
        self.conn_bytes.store(connection.1, Ordering::Relaxed);
        self.stop_time.store(now, Ordering::Relaxed);
        self.last_used.store(now, Ordering::Relaxed);
    }

    /// Says what it does now.
    pub fn set_status(&self, status: WorkerStatus) {
        self.status.store(status as u8, Ordering::Relaxed);
    }
    /// Begins anew, for a new process in this place.
    pub fn take_place(&self, status: WorkerStatus) {
        self.my_access_count.store(0, Ordering::Relaxed);
        self.my_bytes_served.store(0, Ordering::Relaxed);
        self.conn_count.store(0, Ordering::Relaxed);
        self.conn_bytes.store(0, Ordering::Relaxed);
        self.set_status(status);
    }
}

/// A worker as server-status shows it: in event, what the worker did and what the reactor did in its row.
pub struct Row<'b> {
    worker: &'b WorkerScore,
    inline: &'b WorkerScore,
}

impl<'b> Row<'b> {
    /// What it does.
    pub fn status(&self) -> WorkerStatus {
        match (self.worker.status(), self.inline.status()) {
            (WorkerStatus::Ready, inline) if inline.is_busy() => inline,
            (status, _) => status,
        }
    }

    /// Where its last request stands.
    pub fn last(&self) -> &'b WorkerScore {
        let newer = |a: &WorkerScore, b: &WorkerScore| {
            a.last_used.load(Ordering::Relaxed) > b.last_used.load(Ordering::Relaxed)
        };
        if self.worker.status().is_busy() || newer(self.worker, self.inline) {
            self.worker
        } else {
            self.inline
        }
    }

    /// What both have counted.
    pub fn sum(&self, counter: impl Fn(&WorkerScore) -> &AtomicU64) -> u64 {
        [self.worker, self.inline].iter().map(|score| counter(score).load(Ordering::Relaxed)).sum()
    }
}

/// One child process.
pub struct ProcessScore {
    /// Its number; 0: none in this place.
    pub pid: AtomicI32,
    /// The reading of the configuration that it serves by.
    pub generation: AtomicU32,
    /// It finishes what it has and takes no more.
    pub quiescing: AtomicBool,
    /// Open connections.
    pub connections: AtomicU32,
    /// Connections that wait for the client to take a reply.
    pub write_completion: AtomicU32,
    /// Connections being closed.
    pub lingering_close: AtomicU32,
    /// Connections between two requests.
    pub keep_alive: AtomicU32,
    /// Requests that wait for something other than the client.
    pub suspended: AtomicU32,
    /// Workers at work: in event those of the threads that may block, and what waits for one.
    pub busy: AtomicU32,
    /// What the reactor of event has to do: how many connections were ready in a turn, on the average of a second.
    pub load: AtomicU32,
    /// All its workers are busy, so that it takes no connections.
    pub not_accepting: AtomicBool,
    /// Connections taken so far.
    pub accepted: AtomicU64,
    /// Time the processor spent on it, in microseconds.
    pub cpu: CpuTime,
}

impl ProcessScore {
    /// A new process takes this place.
    pub fn begin(&self, generation: u32) {
        self.end();
        self.accepted.store(0, Ordering::Relaxed);
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// Its process is gone.
    pub fn end(&self) {
        self.pid.store(0, Ordering::Relaxed);
        self.quiescing.store(false, Ordering::Relaxed);
        self.not_accepting.store(false, Ordering::Relaxed);
        for counter in [
            &self.connections,
            &self.write_completion,
            &self.lingering_close,
            &self.keep_alive,
            &self.suspended,
            &self.busy,
            &self.load,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// The whole server at a glance: `ap_sload_t`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Workers that wait for work.
    pub idle: u32,
    /// Workers at work.
    pub busy: u32,
    /// Requests served.
    pub accesses: u64,
    /// Bytes sent.
    pub bytes: u64,
}

/// Time that the processor spent, in microseconds.
#[derive(Default)]
pub struct CpuTime {
    /// In programs.
    pub user: AtomicU64,
    /// In the system.
    pub system: AtomicU64,
    /// When this was asked for last, in microseconds since 1970.
    asked: AtomicU64,
}

impl CpuTime {
    /// Asks the system, at most once a second.
    pub fn update(&self, of: nix::sys::resource::UsageWho) {
        let now = micros();
        if now.saturating_sub(self.asked.load(Ordering::Relaxed)) < 1_000_000 {
            return;
        }
        self.asked.store(now, Ordering::Relaxed);
        if let Ok(usage) = nix::sys::resource::getrusage(of) {
            let micros = |time: nix::sys::time::TimeVal| {
                (time.tv_sec() as u64).saturating_mul(1_000_000).saturating_add(time.tv_usec() as u64)
            };
            self.user.store(micros(usage.user_time()), Ordering::Relaxed);
            self.system.store(micros(usage.system_time()), Ordering::Relaxed);
        }
    }
}

/// What is known of the server as a whole; the master writes it.
pub struct GlobalScore {
    /// When this generation began, in microseconds since 1970.
    pub restart_time: AtomicU64,
    /// The reading of the configuration that new children serve by.
    pub generation: AtomicU32,
    /// Threads in each child.
    pub threads_per_child: AtomicU32,
    /// The most children.
    pub max_children: AtomicU32,
    /// `ServerLimit`: the places that Apache would have.
    pub server_limit: AtomicU32,
    /// The master's own time.
    pub cpu: CpuTime,
    /// That of children that have ended.
    pub cpu_children: CpuTime,
}

/// `ExtendedStatus`.
static EXTENDED: AtomicBool = AtomicBool::new(false);
/// `SeeRequestTail`.
static REQUEST_TAIL: AtomicBool = AtomicBool::new(false);

/// Says what is kept of each request: `ExtendedStatus`, `SeeRequestTail`.
pub fn keep_requests(extended: bool, tail: bool) {
    EXTENDED.store(extended, Ordering::Relaxed);
    REQUEST_TAIL.store(tail, Ordering::Relaxed);
}

/// `ExtendedStatus` is on.
pub fn is_extended() -> bool {
    EXTENDED.load(Ordering::Relaxed)
}

/// The whole board.
pub struct Scoreboard {
    processes: SharedArray<ProcessScore>,
    workers: SharedArray<WorkerScore>,
    global: SharedArray<GlobalScore>,
    /// Workers in each process.
    pub thread_limit: usize,
    /// When the server was started, in microseconds since 1970.
    pub started: u64,
}

static CURRENT: OnceLock<Arc<Scoreboard>> = OnceLock::new();

/// Microseconds since 1970.
pub fn micros() -> u64 {
    clock::unix_micros() as u64
}

/// How many of a hundred workers are idle, and how many busy: `ap_get_sload`. Below zero: nobody can tell.
pub fn load() -> (i64, i64) {
    match counts() {
        None | Some((0, 0)) => (-1, -1),
        Some((ready, busy)) => (ready * 100 / (ready + busy), busy * 100 / (ready + busy)),
    }
}

/// How many workers are idle, and how many busy.
pub fn counts() -> Option<(i64, i64)> {
    let board = Scoreboard::current()?;
    let generation = board.global().map_or(0, |global| global.generation.load(Ordering::Relaxed));
    let (mut ready, mut busy) = (0, 0);
    for (place, process) in board.processes().iter().enumerate() {
        let counts = process.pid.load(Ordering::Relaxed) != 0
            && !process.quiescing.load(Ordering::Relaxed)
            && process.generation.load(Ordering::Relaxed) == generation;
        for row in board.rows(place).filter(|_| counts) {
            match row.status() {
                WorkerStatus::Ready => ready += 1,
                WorkerStatus::Dead | WorkerStatus::Starting | WorkerStatus::IdleKill => {}
                _ => busy += 1,
            }
        }
    }
    Some((ready, busy))
}

impl Scoreboard {
    /// A board for `processes` of `threads` workers each.
    pub fn create(processes: usize, threads: usize) -> io::Result<Arc<Scoreboard>> {
        Ok(Arc::new(Scoreboard {
            processes: SharedArray::new(processes)?,
            workers: SharedArray::new(processes * threads * 2)?,
            global: SharedArray::new(1)?,
            thread_limit: threads,
            started: micros(),
        }))
    }

    /// In a child: this is the board that it is shown on.
    pub fn make_current(self: &Arc<Self>) {
        CURRENT.get_or_init(|| self.clone());
    }

    /// The board of this process, once it serves.
    pub fn current() -> Option<&'static Arc<Scoreboard>> {
        CURRENT.get()
    }

    /// The process in this place has started.
    pub fn is_at_work(&self, process: usize) -> bool {
        let started = |worker: &WorkerScore| worker.status() as u8 >= WorkerStatus::Ready as u8;
        self.workers(process).first().is_some_and(started)
    }

    /// The whole at a glance: `ap_get_sload`.
    pub fn load(&self) -> Load {
        let mut load = Load::default();
        let generation = self.global().map_or(0, |global| global.generation.load(Ordering::Relaxed));
        for (place, process) in self.processes().iter().enumerate() {
            let serves = process.pid.load(Ordering::Relaxed) != 0
                && !process.quiescing.load(Ordering::Relaxed)
                && process.generation.load(Ordering::Relaxed) == generation;
            for row in self.rows(place) {
                load.accesses += row.sum(|score| &score.access_count);
                load.bytes += row.sum(|score| &score.bytes_served);
                match row.status() {
                    WorkerStatus::Dead | WorkerStatus::Starting | WorkerStatus::IdleKill => {}
                    WorkerStatus::Ready if serves => load.idle += 1,
                    WorkerStatus::Ready => {}
                    _ => load.busy += 1,
                }
            }
        }
        load
    }

    /// The server as a whole.
    pub fn global(&self) -> Option<&GlobalScore> {
        self.global.as_slice().first()
    }

    /// Notes what the master knows: at the start, on a restart, and once a second.
    pub fn update_global(
        &self,
        generation: u32,
        server_limit: u32,
        threads_per_child: u32,
        max_children: u32,
    ) {
        use nix::sys::resource::UsageWho;
        let Some(global) = self.global() else { return };
        if global.restart_time.load(Ordering::Relaxed) == 0
            || global.generation.load(Ordering::Relaxed) != generation
        {
            global.restart_time.store(micros(), Ordering::Relaxed);
        }
        global.generation.store(generation, Ordering::Relaxed);
        global.server_limit.store(server_limit, Ordering::Relaxed);
        global.threads_per_child.store(threads_per_child, Ordering::Relaxed);
        global.max_children.store(max_children, Ordering::Relaxed);
        global.cpu.update(UsageWho::RUSAGE_SELF);
        global.cpu_children.update(UsageWho::RUSAGE_CHILDREN);
    }

    /// All process places.
    pub fn processes(&self) -> &[ProcessScore] {
        self.processes.as_slice()
    }

    /// The workers of a process.
    pub fn workers(&self, process: usize) -> &[WorkerScore] {
        let start = process * self.thread_limit * 2;
        self.workers.as_slice().get(start..start + self.thread_limit).unwrap_or(&[])
    }

    /// A second record for each worker of a process of event: its reactor shows in them, one after the other, what it serves
    /// itself. A record has one writer, so that no addition is lost and none costs a locked one.
    pub fn inline(&self, process: usize) -> &[WorkerScore] {
        let start = (process * 2 + 1) * self.thread_limit;
        self.workers.as_slice().get(start..start + self.thread_limit).unwrap_or(&[])
    }

    /// The workers of a process with what the reactor did in their rows.
    pub fn rows(&self, process: usize) -> impl Iterator<Item = Row<'_>> {
        self.workers(process).iter().zip(self.inline(process)).map(|(worker, inline)| Row { worker, inline })
    }
}
