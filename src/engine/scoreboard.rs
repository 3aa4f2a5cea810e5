//! What the processes of a server know of each other, in shared memory.
//!
//! Answers to `include/scoreboard.h`. The master makes it before the first fork; children write their own places,
//! everybody reads.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::os::shared::SharedArray;

/// What a worker does: `SERVER_*`, and its letter in server-status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
        let mut chunks = text.chunks(8);
        for word in &self.words {
            let mut bytes = [0_u8; 8];
            if let Some(chunk) = chunks.next() {
                bytes[..chunk.len()].copy_from_slice(chunk);
            }
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
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
    /// Requests being served.
    pub busy: AtomicU32,
    /// Connections taken so far.
    pub accepted: AtomicU64,
}

/// The whole board.
pub struct Scoreboard {
    processes: SharedArray<ProcessScore>,
    workers: SharedArray<WorkerScore>,
    /// Workers in each process.
    pub thread_limit: usize,
    /// When the server was started, in microseconds since 1970.
    pub started: u64,
}

static CURRENT: OnceLock<Arc<Scoreboard>> = OnceLock::new();

/// Microseconds since 1970.
pub fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

impl Scoreboard {
    /// A board for `processes` of `threads` workers each, known to this process and its children from now on.
    pub fn create(processes: usize, threads: usize) -> io::Result<Arc<Scoreboard>> {
        let board = Arc::new(Scoreboard {
            processes: SharedArray::new(processes)?,
            workers: SharedArray::new(processes * threads)?,
            thread_limit: threads,
            started: micros(),
        });
        Ok(CURRENT.get_or_init(|| board).clone())
    }

    /// The board of this server, once it runs.
    pub fn current() -> Option<&'static Arc<Scoreboard>> {
        CURRENT.get()
    }

    /// All process places.
    pub fn processes(&self) -> &[ProcessScore] {
        self.processes.as_slice()
    }

    /// The workers of a process.
    pub fn workers(&self, process: usize) -> &[WorkerScore] {
        let start = process * self.thread_limit;
        self.workers.as_slice().get(start..start + self.thread_limit).unwrap_or(&[])
    }
}
