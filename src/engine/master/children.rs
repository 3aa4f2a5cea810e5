//! The children: made, reaped, asked to go, made to go.
//!
//! Answers to `make_child`, `server_main_loop` of the MPMs and to `ap_process_child_status`, `ap_reclaim_child_processes` of
//! `server/mpm_unix.c`.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};

use super::signals::Signals;
use super::{FATAL, Master, SICK, run_child};
use crate::engine::child::Child;
use crate::engine::limits::Kind;
use crate::engine::scoreboard::{ProcessScore, Scoreboard, WorkerStatus};
use crate::log::{self, Level};
use crate::os::process;

/// A child.
pub(super) struct ChildEntry {
    pub pid: Pid,
    pub place: usize,
    /// The board on which its place is: another one than the master's when the engine was changed.
    pub board: Arc<Scoreboard>,
    /// Whose listening sockets it has.
    pub bucket: usize,
    pub generation: u32,
    control: UnixStream,
    /// Told to finish and go.
    pub retiring: bool,
    /// It went on its own, and that was seen.
    pub seen_going: bool,
    /// Told to end now, and how often it was asked since.
    ending: Option<(Instant, usize)>,
}

impl ChildEntry {
    pub(super) fn score(&self) -> &ProcessScore {
        &self.board.processes()[self.place]
    }

    /// It takes connections.
    pub(super) fn is_serving(&self) -> bool {
        !self.retiring && !self.score().quiescing.load(Ordering::Relaxed)
    }

    /// A child of prefork sleeps where only a signal reaches it; event has nothing to interrupt and ignores it.
    pub(super) fn wake(&self) {
        let _ = process::kill(self.pid.as_raw(), Signal::SIGUSR1);
    }

    /// Asks it to finish what it has and go.
    pub(super) fn retire(&mut self) {
        if !self.retiring {
            self.retiring = true;
            // One that is gone already needs no word.
            let _ = self.control.write_all(b"g");
            self.wake();
        }
    }

    /// Tells it to end now; see [`Master::insist`].
    pub(super) fn end(&mut self) {
        self.retiring = true;
        self.ending.get_or_insert((Instant::now(), 0));
        let _ = process::kill(self.pid.as_raw(), Signal::SIGTERM);
    }
}

/// When a child that was told to end is asked again, after how many milliseconds, and with what.
const INSISTING: [(u64, Signal); 4] =
    [(3000, Signal::SIGTERM), (5000, Signal::SIGTERM), (7000, Signal::SIGTERM), (9000, Signal::SIGKILL)];

impl Master {
    /// Makes a child with the listening sockets of `bucket`, in the first free place that belongs to it.
    pub(super) fn spawn(&mut self, bucket: usize, signals: &Signals) -> bool {
        let buckets = self.listeners.len().max(1);
        let taken: Vec<usize> = self.on_board().map(|c| c.place).collect();
        let places = self.board.processes().len();
        let Some(place) = (0..places).find(|p| p % buckets == bucket && !taken.contains(p)) else {
            return false;
        };
        let Ok((ours, theirs)) = UnixStream::pair() else { return false };
        let Ok(notice) = signals.notice() else { return false };
        if theirs.set_nonblocking(true).is_err() {
            return false;
        }
        let generation = self.runtime.generation;
        let score = &self.board.processes()[place];
        score.begin(generation);
        for worker in self.board.workers(place).iter().take(self.limits.threads_per_child as usize) {
            worker.set_status(WorkerStatus::Starting);
        }
        let master = nix::unistd::getpid();
        match process::fork() {
            Ok(ForkResult::Parent { child }) => {
                score.pid.store(child.as_raw(), Ordering::Relaxed);
                self.children.push(ChildEntry {
                    pid: child,
                    place,
                    board: self.board.clone(),
                    bucket,
                    generation,
                    control: ours,
                    retiring: false,
                    seen_going: false,
                    ending: None,
                });
                self.log_started(place, child, generation);
                true
            }
            Ok(ForkResult::Child) => {
                // It may serve before the master runs on: server-status must find it.
                score.pid.store(std::process::id() as i32, Ordering::Relaxed);
                drop(ours);
                // The other children's ends of the control sockets are not ours to hold: their end must be seen.
                self.children.clear();
                let listeners = std::mem::take(&mut self.listeners);
                signals.leave();
                let child = Child {
                    runtime: self.runtime.clone(),
                    limits: self.limits,
                    listeners: listeners.into_iter().nth(bucket).unwrap_or_default().into(),
                    board: self.board.clone(),
                    place,
                    control: theirs,
                    notice,
                    master,
                };
                let code = run_child(&child);
                process::exit_child(code)
            }
            Err(err) => {
                self.clear_place(&self.board.clone(), place);
                let says = self.limits.kind.messages();
                let text = "fork: Unable to fork new process";
                log::server_error(Level::Error, says.module, says.fork_failed, Some(&err), text);
                // The system is short of something: Apache sleeps for 10 seconds here.
                self.no_fork_until = Some(Instant::now() + Duration::from_secs(10));
                false
            }
        }
    }

    /// Children whose place is on the board in use.
    pub(super) fn on_board(&self) -> impl Iterator<Item = &ChildEntry> {
        self.children.iter().filter(|c| Arc::ptr_eq(&c.board, &self.board))
    }

    fn log_started(&self, place: usize, pid: Pid, generation: u32) {
        if matches!(self.limits.kind, Kind::Event { worker: false }) {
            let text = format!("Child {place} started: pid {pid}, gen {generation}, {}", self.counted());
            log::server_event(Level::Debug, "mpm_event", "", &text);
        }
    }

    /// How many there are, as event's lines of debugging end.
    fn counted(&self) -> String {
        let active = self.on_board().filter(|c| c.is_serving()).count();
        let total = self.on_board().count();
        let used = self.on_board().map(|c| c.place + 1).max().unwrap_or(0);
        let limits = &self.limits;
        format!("active {active}/{}, total {total}/{used}/{}", limits.max_children(), limits.server_limit)
    }

    /// Takes note of children that ended. `Err`: the server can't go on.
    pub(super) fn reap(&mut self, signals: &Signals) -> Result<(), i32> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(_) => return Ok(()),
                Ok(status) => status,
            };
            let Some(pid) = status.pid() else { continue };
            let Some(at) = self.children.iter().position(|c| c.pid == pid) else {
                if matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
                    log::pipe::child_ended(pid.as_raw());
                }
                continue;
            };
            let child = self.children.swap_remove(at);
            self.ended(&child, status)?;
            let signaled = matches!(status, WaitStatus::Signaled(..));
            if child.retiring || child.seen_going || !Arc::ptr_eq(&child.board, &self.board) {
                continue;
            }
            if signaled {
                self.successive_kills += 1;
                if self.successive_kills >= 3 {
                    // They would only be killed, too: until the next second nothing is made.
                    if self.successive_kills % 10 == 3
                        && let Some(ah) = self.limits.kind.messages().killed_successively
                    {
                        let text = "children are killed successively!";
                        log::server_event(Level::Warn, self.limits.kind.messages().module, ah, text);
                    }
                    continue;
                }
            }
            self.replace(child.bucket, signaled, signals);
        }
    }

    /// What the end of a child says.
    fn ended(&mut self, child: &ChildEntry, status: WaitStatus) -> Result<(), i32> {
        let quiescing = child.score().quiescing.load(Ordering::Relaxed) || child.retiring;
        self.clear_place(&child.board, child.place);
        if matches!(self.limits.kind, Kind::Event { worker: false }) {
            let text = format!(
                "Child {} stopped: pid {}, gen {}, {}, quiescing {}",
                child.place,
                child.pid,
                child.generation,
                self.counted(),
                i32::from(quiescing)
            );
            log::server_event(Level::Debug, "mpm_event", "", &text);
        }
        let says = self.limits.kind.messages();
        match status {
            WaitStatus::Exited(pid, FATAL) if child.generation == self.runtime.generation => {
                let text = format!("Child {pid} returned a Fatal error... Apache is exiting!");
                log::server_event(Level::Alert, "core", "AH00050", &text);
                return Err(1);
            }
            WaitStatus::Exited(pid, FATAL) => {
                let text = format!("Ignoring fatal error in child of previous generation (pid {pid}).");
                log::server_event(Level::Warn, says.module, says.ignoring_fatal, &text);
            }
            WaitStatus::Exited(_, SICK) => {
                self.sick = true;
                self.spare.slow_down(child.bucket);
            }
            WaitStatus::Signaled(pid, signal, dumped) => self.log_signaled(pid, signal, dumped),
            _ => {}
        }
        Ok(())
    }

    fn log_signaled(&self, pid: Pid, signal: Signal, dumped: bool) {
        if matches!(signal, Signal::SIGTERM | Signal::SIGHUP | Signal::SIGUSR1 | Signal::SIGKILL) {
            return;
        }
        let described = match signal {
            Signal::SIGSEGV => "Segmentation fault",
            Signal::SIGABRT => "Aborted",
            Signal::SIGBUS => "Bus error",
            Signal::SIGFPE => "Floating point exception",
            Signal::SIGILL => "Illegal instruction",
            other => other.as_str(),
        };
        let number = signal as i32;
        if dumped {
            let directory = match &self.runtime.mpm.core_dump_directory {
                Some(dir) => dir.into(),
                None => self.runtime.server_root.to_string_lossy(),
            };
            let text = format!(
                "child pid {pid} exit signal {described} ({number}), possible coredump in {directory}"
            );
            log::server_event(Level::Notice, "core", "AH00051", &text);
        } else {
            let text = format!("child pid {pid} exit signal {described} ({number})");
            log::server_event(Level::Notice, "core", "AH00052", &text);
        }
    }

    fn clear_place(&self, board: &Scoreboard, place: usize) {
        board.processes()[place].end();
        for worker in board.workers(place).iter().chain(board.inline(place)) {
            worker.set_status(WorkerStatus::Dead);
        }
    }

    /// Ends all children now.
    pub(super) fn stop_now(&mut self) {
        for child in &mut self.children {
            child.end();
        }
        let mut pause = 1;
        while !self.children.is_empty() {
            self.wait_for_children(Duration::from_millis(pause));
            pause = (pause * 4).min(200);
            if self.insist() {
                break;
            }
        }
    }

    /// Asks children that were told to end and did not, and in the end makes them. True: nothing more can be done.
    pub(super) fn insist(&mut self) -> bool {
        let mut given_up = !self.children.is_empty();
        for child in &mut self.children {
            let Some((since, asked)) = &mut child.ending else {
                given_up = false;
                continue;
            };
            let pid = child.pid;
            let (text, ah, level) = match INSISTING.get(*asked) {
                Some((after, _)) if since.elapsed() < Duration::from_millis(*after) => {
                    // A child may have gone to sleep just when the signal came.
                    let _ = process::kill(pid.as_raw(), Signal::SIGTERM);
                    given_up = false;
                    continue;
                }
                Some((_, Signal::SIGKILL)) => ("sending a SIGKILL", "AH00046", Level::Error),
                Some(_) => ("sending a SIGTERM", "AH00045", Level::Warn),
                None if since.elapsed() < Duration::from_secs(10) => {
                    given_up = false;
                    continue;
                }
                None if *asked > INSISTING.len() => continue,
                None => {
                    *asked += 1;
                    let text =
                        format!("could not make child process {pid} exit, attempting to continue anyway");
                    log::server_event(Level::Error, "core", "AH00047", &text);
                    continue;
                }
            };
            log::server_event(level, "core", ah, &format!("child process {pid} still did not exit, {text}"));
            let _ = process::kill(pid.as_raw(), INSISTING[*asked].1);
            *asked += 1;
            given_up = false;
        }
        given_up
    }

    /// Reaps children without a thought of new ones.
    pub(super) fn wait_for_children(&mut self, most: Duration) {
        use nix::poll::{PollTimeout, poll};
        let end = Instant::now() + most;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if Instant::now() < end => {
                    let _ = poll(&mut [], PollTimeout::from(1_u8));
                }
                Ok(WaitStatus::StillAlive) => return,
                Ok(status) => {
                    let Some(at) = self.children.iter().position(|c| Some(c.pid) == status.pid()) else {
                        continue;
                    };
                    let child = self.children.swap_remove(at);
                    // The server ends anyway.
                    let _ = self.ended(&child, status);
                    if self.children.is_empty() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }
}
