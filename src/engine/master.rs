//! The master: reads, listens, makes children, replaces them, and does what signals and `-k` say.
//!
//! Answers to `main` of `server/main.c` and the `*_run` of the MPMs. It has one thread, so that it can fork at any time.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGWINCH};

use super::child::Child;
use super::limits::{Kind, Limits};
use super::listen::{self, Listener};
use super::scoreboard::{Scoreboard, WorkerStatus};
use crate::cli::Options;
use crate::config::Runtime;
use crate::config::read::{self, Failure, Read};
use crate::config::server::Setup;
use crate::log::{self, Level};
use crate::os::process;

/// `APEXIT_CHILDFATAL`: the child can't work and neither would another.
pub const FATAL: i32 = 0xf;
/// `APEXIT_CHILDSICK`: the child had better be replaced.
pub const SICK: i32 = 0x7;

/// The most children that are made in one second.
const MAX_SPAWN_RATE: u32 = 32;

struct ChildEntry {
    pid: Pid,
    place: usize,
    generation: u32,
    control: UnixStream,
    /// Told to finish and go.
    retiring: bool,
}

struct Master {
    options: Arc<Options>,
    runtime: Arc<Runtime>,
    limits: Limits,
    listeners: Vec<Arc<Listener>>,
    board: Arc<Scoreboard>,
    children: Vec<ChildEntry>,
    spawn_rate: u32,
    hold_off: u32,
    reported_full: bool,
}

/// What the signals asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wish {
    Nothing,
    Restart,
    Graceful,
    Stop,
    GracefulStop,
}

/// Reads the configuration and makes everything that a generation needs, but no child.
fn prepare(options: &Arc<Options>, generation: u32) -> Result<(Arc<Runtime>, Limits), Failure> {
    let (mut setup, read, built) = read::build(options, generation);
    built?;
    let limits = crate::cli::check(&mut setup, &read)?;
    open(setup, read, limits)
}

/// Opens the logs of a configuration that was found good.
fn open(mut setup: Setup, read: Read, limits: Limits) -> Result<(Arc<Runtime>, Limits), Failure> {
    if setup.generation == 0 && !setup.options.foreground {
        log::forget_early_lines();
    }
    log::open(&mut setup).map_err(Failure)?;
    log::set_threaded(!matches!(limits.kind, Kind::Prefork));
    setup.open_logs()?;
    Ok((setup.finish(read), limits))
}

/// Starts the server by a configuration that was found good, and serves until it is told to end; the exit code.
pub fn start(options: Arc<Options>, setup: Setup, read: Read, limits: Limits) -> i32 {
    let fail = |text: &str| -> i32 {
        log::error_log::write_stderr(&format!("{text}\n"));
        1
    };
    let (runtime, limits) = match open(setup, read, limits) {
        Ok(opened) => opened,
        Err(Failure(text)) => return fail(&text),
    };
    // Before anybody can connect: what answers can be signalled.
    let mut signals = match Signals::install() {
        Ok(signals) => signals,
        Err(err) => return fail(&format!("{}: unable to listen to signals", log::system_error(&err))),
    };
    let listeners = match listen::open(&runtime.listeners, &[], &runtime.mpm) {
        Ok(listeners) => listeners,
        Err(text) => {
            let first = if text.is_empty() { text } else { format!("{text}\n") };
            return fail(&format!(
                "{first}no listening sockets available, shutting down\nAH00015: Unable to open logs"
            ));
        }
    };
    if !options.foreground {
        match process::daemonize(!options.no_detach) {
            Ok(true) => return 0,
            Ok(false) => {}
            Err(err) => return fail(&format!("{}: unable to detach", log::system_error(&err))),
        }
    }
    if let Some(file) = runtime.error_log.file() {
        // What children and libraries print belongs into the error log.
        let _ = process::put_in_place_of_stderr(file.as_fd());
    }
    // Room for a second generation beside the first, so that a restart need not wait for places.
    let places = limits.server_limit as usize + limits.server_limit.min(64) as usize;
    let board = match Scoreboard::create(places, limits.thread_limit as usize) {
        Ok(board) => board,
        Err(err) => {
            return fail(&format!("{}: AH00004: Unable to create the scoreboard", log::system_error(&err)));
        }
    };
    let mut master = Master {
        options,
        runtime,
        limits,
        listeners,
        board,
        children: Vec::new(),
        spawn_rate: 1,
        hold_off: 0,
        reported_full: false,
    };
    if let Err(text) = master.write_pid_file() {
        return fail(&text);
    }
    let code = if master.options.one_process { master.serve_alone() } else { master.serve(&mut signals) };
    master.remove_pid_file();
    code
}

/// The number in a pid file.
pub fn read_pid_file(path: &std::path::Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok().filter(|&pid: &i32| pid > 1)
}

impl Master {
    fn program_name(&self) -> &str {
        &self.runtime.banner.full
    }

    fn write_pid_file(&self) -> Result<(), String> {
        let path = &self.runtime.pid_file;
        let temporary = path.with_extension("pid.new");
        std::fs::write(&temporary, format!("{}\n", std::process::id()))
            .and_then(|()| std::fs::rename(&temporary, path))
            .map_err(|err| {
                format!(
                    "{}: AH00099: could not create {}\nAH00100: {}: could not log pid to file {}",
                    log::system_error(&err),
                    path.display(),
                    self.options.program,
                    path.display()
                )
            })
    }

    /// `ap_remove_pid`, unless another server's number is in it by now.
    fn remove_pid_file(&self) {
        if read_pid_file(&self.runtime.pid_file) == Some(std::process::id() as i32) {
            let path = self.runtime.pid_file.display();
            match std::fs::remove_file(&self.runtime.pid_file) {
                Ok(()) => {
                    let text = format!("removed PID file {path} (pid={})", std::process::id());
                    log::server_event(Level::Info, "core", "AH00096", &text);
                }
                Err(err) => {
                    let text =
                        format!("{}: AH00095: failed to remove PID file {path}", log::system_error(&err));
                    log::server_event(Level::Error, "core", "", &text);
                }
            }
        }
    }

    fn mpm_name(&self) -> &'static str {
        match self.limits.kind {
            Kind::Prefork => "mpm_prefork",
            Kind::Event { worker: false } => "mpm_event",
            Kind::Event { worker: true } => "mpm_worker",
        }
    }

    /// `ap_log_command_line` and "resuming normal operations".
    fn announce(&self) {
        let (resuming, built) = match self.limits.kind {
            Kind::Prefork => ("AH00163", "AH00164"),
            Kind::Event { worker: false } => ("AH00489", "AH00490"),
            Kind::Event { worker: true } => ("AH00292", "AH00293"),
        };
        let text = format!("{} configured -- resuming normal operations", self.program_name());
        log::server_event(Level::Notice, self.mpm_name(), resuming, &text);
        let text = format!("Server built: {}", crate::cli::version::built());
        log::server_event(Level::Info, self.mpm_name(), built, &text);
        let line = format!("Command line: '{}'", self.options.command_line);
        log::server_event(Level::Notice, "core", "AH00094", &line);
        // Every process could listen for itself; where one listens for all, that is no other option of the sockets.
        log::server_event(Level::Debug, "core", "AH02639", "Using SO_REUSEPORT: yes (1)");
    }

    fn serve(&mut self, signals: &mut Signals) -> i32 {
        self.update_board();
        self.announce();
        for _ in 0..self.limits.start_servers {
            if !self.spawn(signals) {
                break;
            }
        }
        loop {
            signals.wait(Duration::from_secs(1));
            if let Err(code) = self.reap(signals) {
                self.stop_now();
                return code;
            }
            match signals.wish() {
                Wish::Nothing => self.maintain(signals),
                Wish::Stop => {
                    self.stop_now();
                    self.log_stop("caught SIGTERM, shutting down");
                    return 0;
                }
                Wish::GracefulStop => {
                    self.stop_gracefully(signals);
                    self.log_stop("caught SIGWINCH, shutting down gracefully");
                    return 0;
                }
                wish @ (Wish::Restart | Wish::Graceful) => self.restart(wish == Wish::Graceful, signals),
            }
        }
    }

    /// `-X`: this process serves itself; SIGTERM and SIGINT ask it to finish and go.
    fn serve_alone(&mut self) -> i32 {
        let Ok((ours, theirs)) = UnixStream::pair() else { return 1 };
        let ready = theirs.set_nonblocking(true).and_then(|()| ours.set_nonblocking(true));
        for signal in [SIGTERM, SIGINT] {
            let told =
                ready.as_ref().map_err(|err| io::Error::from(err.kind())).and_then(|()| ours.try_clone());
            if told.and_then(|pipe| signal_hook::low_level::pipe::register(signal, pipe)).is_err() {
                return 1;
            }
        }
        process::ignore_signals(&[Signal::SIGPIPE]);
        self.update_board();
        self.announce();
        let place = 0;
        self.board.processes()[place].pid.store(std::process::id() as i32, Ordering::Relaxed);
        let code = run_child(&Child {
            runtime: self.runtime.clone(),
            limits: self.limits,
            listeners: std::mem::take(&mut self.listeners).into(),
            board: self.board.clone(),
            place,
            control: theirs,
        });
        self.log_stop("caught SIGTERM, shutting down");
        code
    }

    fn log_stop(&self, text: &str) {
        self.remove_pid_file();
        let ah = match (self.limits.kind, text.contains("gracefully")) {
            (Kind::Prefork, false) => "AH00169",
            (Kind::Prefork, true) => "AH00170",
            (Kind::Event { .. }, false) => "AH00491",
            (Kind::Event { .. }, true) => "AH00492",
        };
        log::server_event(Level::Notice, self.mpm_name(), ah, text);
    }

    /// Makes a child in a free place.
    fn spawn(&mut self, signals: &Signals) -> bool {
        let taken: Vec<usize> = self.children.iter().map(|c| c.place).collect();
        let Some(place) = (0..self.board.processes().len()).find(|p| !taken.contains(p)) else {
            return false;
        };
        let Ok((ours, theirs)) = UnixStream::pair() else { return false };
        if theirs.set_nonblocking(true).is_err() {
            return false;
        }
        let score = &self.board.processes()[place];
        for counter in [&score.connections, &score.busy, &score.keep_alive, &score.write_completion] {
            counter.store(0, Ordering::Relaxed);
        }
        score.accepted.store(0, Ordering::Relaxed);
        score.quiescing.store(false, Ordering::Relaxed);
        score.generation.store(self.runtime.generation, Ordering::Relaxed);
        for worker in self.board.workers(place).iter().take(self.limits.threads_per_child as usize) {
            worker.set_status(WorkerStatus::Starting);
        }
        match process::fork() {
            Ok(ForkResult::Parent { child }) => {
                score.pid.store(child.as_raw(), Ordering::Relaxed);
                let generation = self.runtime.generation;
                self.children.push(ChildEntry {
                    pid: child,
                    place,
                    generation,
                    control: ours,
                    retiring: false,
                });
                true
            }
            Ok(ForkResult::Child) => {
                // It may serve before the master runs on: server-status must find it.
                score.pid.store(std::process::id() as i32, Ordering::Relaxed);
                drop(ours);
                // The other children's ends of the control sockets are not ours to hold: their end must be seen.
                self.children.clear();
                signals.leave();
                let child = Child {
                    runtime: self.runtime.clone(),
                    limits: self.limits,
                    listeners: std::mem::take(&mut self.listeners).into(),
                    board: self.board.clone(),
                    place,
                    control: theirs,
                };
                let code = run_child(&child);
                process::exit_child(code)
            }
            Err(err) => {
                log::server_error(
                    Level::Error,
                    self.mpm_name(),
                    "AH00159",
                    Some(&err),
                    "fork: Unable to fork new process",
                );
                false
            }
        }
    }

    /// Takes note of children that ended. `Err`: the server can't go on.
    fn reap(&mut self, signals: &Signals) -> Result<(), i32> {
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
            self.clear_place(child.place);
            match status {
                WaitStatus::Exited(_, FATAL) if child.generation == self.runtime.generation => {
                    let text = format!("Child {pid} returned a Fatal error... Server is exiting!");
                    log::server_event(Level::Alert, "core", "AH00050", &text);
                    return Err(1);
                }
                WaitStatus::Signaled(_, signal, dumped) => self.log_signaled(pid, signal, dumped),
                _ => {}
            }
            // A child that ended without being asked is replaced at once; one that reached its limit, too.
            if !child.retiring && (self.children.len() as u32) < self.limits.start_servers {
                self.spawn(signals);
            }
        }
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
            let text = format!(
                "child pid {pid} exit signal {described} ({number}), possible coredump in {}",
                self.core_dump_directory()
            );
            log::server_event(Level::Notice, "core", "AH00051", &text);
        } else {
            let text = format!("child pid {pid} exit signal {described} ({number})");
            log::server_event(Level::Notice, "core", "AH00052", &text);
        }
    }

    fn core_dump_directory(&self) -> std::borrow::Cow<'_, str> {
        match &self.runtime.mpm.core_dump_directory {
            Some(dir) => dir.into(),
            None => self.runtime.server_root.to_string_lossy(),
        }
    }

    fn clear_place(&self, place: usize) {
        self.board.processes()[place].pid.store(0, Ordering::Relaxed);
        for worker in self.board.workers(place) {
            worker.set_status(WorkerStatus::Dead);
        }
    }

    /// Tells the board what only the master knows.
    fn update_board(&self) {
        let limits = &self.limits;
        self.board.update_global(
            self.runtime.generation,
            limits.server_limit,
            limits.threads_per_child,
            limits.max_children(),
        );
    }

    /// Once a second: enough idle workers, and not too many (`perform_idle_server_maintenance`).
    fn maintain(&mut self, signals: &Signals) {
        self.update_board();
        let threads = self.limits.threads_per_child;
        let mut idle = 0;
        let mut active = 0;
        for child in &self.children {
            if child.retiring {
                child.wake();
                continue;
            }
            let score = &self.board.processes()[child.place];
            if score.quiescing.load(Ordering::Relaxed) {
                continue;
            }
            active += 1;
            idle += threads.saturating_sub(score.busy.load(Ordering::Relaxed));
        }
        if idle > self.limits.max_spare && active > 1 {
            self.spawn_rate = 1;
            // The youngest idle one goes.
            let board = self.board.clone();
            let surplus = self
                .children
                .iter_mut()
                .rev()
                .find(|c| !c.retiring && board.processes()[c.place].busy.load(Ordering::Relaxed) == 0);
            if let Some(child) = surplus {
                child.retire();
            }
        } else if idle < self.limits.min_spare {
            if active >= self.limits.max_children() || self.children.len() >= self.board.processes().len() {
                if !self.reported_full && idle == 0 {
                    let ah = if self.limits.kind == Kind::Prefork { "AH00161" } else { "AH00484" };
                    let text = "server reached MaxRequestWorkers setting, consider raising the MaxRequestWorkers setting";
                    log::server_event(Level::Error, self.mpm_name(), ah, text);
                    self.reported_full = true;
                }
                self.spawn_rate = 1;
                return;
            }
            let wanted = self.spawn_rate.min(self.limits.max_children() - active);
            for _ in 0..wanted {
                if !self.spawn(signals) {
                    break;
                }
            }
            if self.hold_off > 0 {
                self.hold_off -= 1;
            } else if self.spawn_rate < MAX_SPAWN_RATE {
                self.spawn_rate *= 2;
            }
        } else {
            self.spawn_rate = 1;
            self.reported_full = false;
        }
    }

    /// Reads the configuration anew and lets new children take over. When it can't be read, the old one goes on.
    fn restart(&mut self, graceful: bool, signals: &Signals) {
        let (ah, word) = match (self.limits.kind, graceful) {
            (Kind::Prefork, true) => ("AH00171", "Graceful restart requested, doing restart"),
            (Kind::Prefork, false) => ("AH00173", "SIGHUP received.  Attempting to restart"),
            (_, true) => ("AH00493", "SIGUSR1 received.  Doing graceful restart"),
            (_, false) => ("AH00494", "SIGHUP received.  Attempting to restart"),
        };
        log::server_event(Level::Notice, self.mpm_name(), ah, word);
        let prepared = prepare(&self.options, self.runtime.generation + 1);
        let (runtime, limits) = match prepared {
            Ok(prepared) => prepared,
            Err(Failure(text)) => {
                log::set_main(self.runtime.main_server());
                let text = format!("the new configuration can't be used, going on with the old one: {text}");
                log::server_event(Level::Error, "core", "", &text);
                return;
            }
        };
        // The sockets that stay are the same ones: no connection is lost in between.
        match listen::open(&runtime.listeners, &self.listeners, &runtime.mpm) {
            Ok(listeners) => self.listeners = listeners,
            Err(text) => {
                let text = format!("{text}; going on with the old configuration");
                log::server_event(Level::Error, "core", "", &text);
                return;
            }
        }
        let old_pid_file = self.runtime.pid_file.clone();
        self.runtime = runtime;
        self.limits = Limits {
            server_limit: self.limits.server_limit,
            thread_limit: self.limits.thread_limit,
            threads_per_child: limits.threads_per_child.min(self.limits.thread_limit),
            ..limits
        };
        if old_pid_file != self.runtime.pid_file {
            let _ = std::fs::remove_file(old_pid_file);
            if let Err(text) = self.write_pid_file() {
                log::server_event(Level::Error, "core", "", &text);
            }
        }
        if let Some(file) = self.runtime.error_log.file() {
            let _ = process::put_in_place_of_stderr(file.as_fd());
        }
        // The new children first: there is no moment without somebody to take a connection.
        let old: Vec<Pid> = self.children.iter().map(|c| c.pid).collect();
        self.update_board();
        self.announce();
        for _ in 0..self.limits.start_servers {
            if !self.spawn(signals) {
                break;
            }
        }
        for child in self.children.iter_mut().filter(|c| old.contains(&c.pid)) {
            child.retire();
            if !graceful {
                let _ = process::kill(child.pid.as_raw(), Signal::SIGTERM);
            }
        }
        self.spawn_rate = 1;
        self.hold_off = 10;
    }

    /// Ends all children now.
    fn stop_now(&mut self) {
        // Again and again: a child may have gone to sleep just when the signal came.
        for _ in 0..30 {
            for child in &self.children {
                let _ = process::kill(child.pid.as_raw(), Signal::SIGTERM);
            }
            self.wait_for_children(Duration::from_millis(100));
        }
        for child in &self.children {
            let _ = process::kill(child.pid.as_raw(), Signal::SIGKILL);
        }
        self.wait_for_children(Duration::from_secs(3));
    }

    fn wait_for_children(&mut self, most: Duration) {
        let end = Instant::now() + most;
        while !self.children.is_empty() && Instant::now() < end {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => {
                    let _ = poll(&mut [], PollTimeout::from(10_u8));
                }
                Ok(status) => {
                    if let Some(pid) = status.pid() {
                        self.children.retain(|c| c.pid != pid);
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Closes the listening sockets and lets the children finish what they have.
    fn stop_gracefully(&mut self, signals: &mut Signals) {
        self.listeners.clear();
        self.remove_pid_file();
        for child in &mut self.children {
            child.retire();
        }
        let limit = self.runtime.mpm.graceful_shutdown_timeout;
        let end = (!limit.is_zero()).then(|| Instant::now() + limit);
        while !self.children.is_empty() {
            signals.wait(Duration::from_secs(1));
            self.children.iter().for_each(ChildEntry::wake);
            while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                match status.pid() {
                    Some(pid) => self.children.retain(|c| c.pid != pid),
                    None => break,
                }
            }
            if signals.wish() == Wish::Stop || end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
        }
        self.stop_now();
    }
}

/// A child's life; its exit code.
fn run_child(child: &Child) -> i32 {
    let code = match child.limits.kind {
        Kind::Prefork => super::prefork::run(child),
        Kind::Event { .. } => super::event::run(child),
    };
    log::writer::flush_lines();
    code
}

impl ChildEntry {
    /// A child of prefork sleeps where only a signal reaches it; event has nothing to interrupt and ignores it.
    fn wake(&self) {
        let _ = process::kill(self.pid.as_raw(), Signal::SIGUSR1);
    }

    /// Asks it to finish what it has and go.
    fn retire(&mut self) {
        if !self.retiring {
            self.retiring = true;
            // One that is gone already needs no word.
            let _ = self.control.write_all(b"g");
            self.wake();
        }
    }
}

/// The signals that the master listens to, by a pipe that a signal writes to.
struct Signals {
    pipe: UnixStream,
    flags: [(i32, Arc<std::sync::atomic::AtomicBool>); 5],
}

impl Signals {
    fn install() -> io::Result<Signals> {
        let (pipe, write) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        process::ignore_signals(&[Signal::SIGPIPE]);
        let flags = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGWINCH].map(|signal| (signal, Arc::default()));
        for (signal, flag) in &flags {
            signal_hook::flag::register(*signal, Arc::clone(flag))?;
            signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(SIGCHLD, write)?;
        Ok(Signals { pipe, flags })
    }

    /// In a child: the signals mean again what the system says; those for the master are nothing to it.
    fn leave(&self) {
        // The language's own handler of the last two (for stack overflows) would take the first one sent from outside.
        let own = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD, Signal::SIGSEGV, Signal::SIGBUS];
        process::default_signals(&own);
        process::ignore_signals(&[Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGWINCH, Signal::SIGPIPE]);
    }

    /// Until a signal comes, at most this long.
    fn wait(&mut self, most: Duration) {
        let timeout = PollTimeout::try_from(most.as_millis()).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout).is_ok_and(|n| n > 0) {
            let mut bytes = [0; 64];
            use std::io::Read;
            while matches!((&self.pipe).read(&mut bytes), Ok(n) if n == bytes.len()) {}
        }
    }

    fn took(&self, signal: i32) -> bool {
        self.flags.iter().any(|(s, flag)| *s == signal && flag.swap(false, Ordering::Relaxed))
    }

    /// The strongest wish that signals brought since the last call.
    fn wish(&self) -> Wish {
        let stop = self.took(SIGTERM) | self.took(SIGINT);
        let (graceful_stop, restart, graceful) = (self.took(SIGWINCH), self.took(SIGHUP), self.took(SIGUSR1));
        match (stop, graceful_stop, restart, graceful) {
            (true, ..) => Wish::Stop,
            (_, true, ..) => Wish::GracefulStop,
            (_, _, true, _) => Wish::Restart,
            (_, _, _, true) => Wish::Graceful,
            _ => Wish::Nothing,
        }
    }
}
