//! The master: reads, listens, makes children, replaces them, and does what signals and `-k` say.
//!
//! Answers to `main` of `server/main.c` and the `*_run` of the MPMs. It has one thread, so that it can fork at any time.
//! Rooms: [`children`] (one child's life), [`maintain`] (how many), [`restart`], [`stop`], [`signals`], [`pid_file`],
//! [`notify`] (systemd).

mod children;
mod maintain;
mod notify;
mod pid_file;
mod restart;
mod signals;
mod stop;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use signal_hook::consts::{SIGINT, SIGTERM};

use self::children::ChildEntry;
use self::signals::{Signals, Wish};
use super::child::Child;
use super::limits::{Kind, Limits};
use super::listen::{self, Listener};
use super::scoreboard::Scoreboard;
use super::spare::Spare;
use crate::cli::Options;
use crate::config::Runtime;
use crate::config::read::{Failure, Read};
use crate::config::server::Setup;
use crate::log::{self, Level};
use crate::os::process;

/// `APEXIT_CHILDFATAL`: the child can't work and neither would another.
pub const FATAL: i32 = 0xf;
/// `APEXIT_CHILDSICK`: the child had better be replaced.
pub const SICK: i32 = 0x7;

struct Master {
    options: Arc<Options>,
    runtime: Arc<Runtime>,
    limits: Limits,
    /// The listening sockets, by bucket.
    listeners: Vec<Vec<Arc<Listener>>>,
    board: Arc<Scoreboard>,
    children: Vec<ChildEntry>,
    spare: Spare,
    /// How many processors there are.
    cores: usize,
    /// How many children were killed since the last second.
    successive_kills: u32,
    /// A child ended for want of something.
    sick: bool,
    /// A child got to work.
    healthy: bool,
    /// After a restart, while the old children still serve: until when, and whether they finish what they have.
    handing_over: Option<(Instant, bool)>,
    /// After a failed fork.
    no_fork_until: Option<Instant>,
    /// Since systemd was told last.
    seconds: u32,
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

/// A scoreboard with room for a second generation beside the first, so that a restart need not wait for places.
fn make_board(limits: &Limits) -> Result<Arc<Scoreboard>, String> {
    let places = limits.server_limit as usize + limits.server_limit.min(64) as usize;
    Scoreboard::create(places, limits.thread_limit as usize).map_err(|err| {
        format!(
            "{}: AH00004: Unable to create or access scoreboard (anonymous shared memory failure)",
            log::system_error(&err)
        )
    })
}

/// Starts the server by a configuration that was found good, and serves until it is told to end; the exit code.
pub fn start(options: Arc<Options>, setup: Setup, read: Read, limits: Limits) -> i32 {
    let fail = |text: &str| -> i32 {
        log::error_log::write_stderr(&format!("{text}\n"));
        1
    };
    let (runtime, limits) = match open(setup, read, limits) {
        Ok(opened) => opened,
        // By then the log is standard error in Apache.
        Err(Failure(text)) if text == crate::config::server::FAILED && log::write_bare(&text) => return 1,
        // It was logged.
        Err(Failure(text)) if text.is_empty() => return 1,
        Err(Failure(text)) => return fail(&text),
    };
    // Before anybody can connect: what answers can be signalled.
    let mut signals = match Signals::install() {
        Ok(signals) => signals,
        Err(err) => return fail(&format!("{}: unable to listen to signals", log::system_error(&err))),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let buckets = if options.one_process { 1 } else { listen::buckets(&runtime.mpm, cores) };
    let listeners = match listen::open(&runtime.listeners, &[], &runtime.mpm, buckets) {
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
    let board = match make_board(&limits) {
        Ok(board) => board,
        Err(text) => return fail(&text),
    };
    let mut master = Master {
        options,
        runtime,
        limits: limits.for_buckets(buckets as u32),
        listeners,
        board,
        children: Vec::new(),
        spare: Spare::new(buckets),
        cores,
        successive_kills: 0,
        sick: false,
        healthy: false,
        handing_over: None,
        no_fork_until: None,
        seconds: 0,
    };
    if let Err(text) = master.write_pid_file() {
        return fail(&text);
    }
    let code = if master.options.one_process { master.serve_alone() } else { master.serve(&mut signals) };
    master.remove_pid_file();
    code
}

impl Master {
    /// `ap_log_command_line` and "resuming normal operations".
    fn announce(&self) {
        let says = self.limits.kind.messages();
        let text = format!("{} configured -- resuming normal operations", self.runtime.banner.full);
        log::server_event(Level::Notice, says.module, says.resuming, &text);
        let text = format!("Server built: {}", crate::cli::version::built());
        log::server_event(Level::Info, says.module, says.built, &text);
        let line = format!("Command line: '{}'", self.options.command_line);
        log::server_event(Level::Notice, "core", "AH00094", &line);
        log::server_event(Level::Debug, "core", "AH02639", "Using SO_REUSEPORT: yes (1)");
    }

    fn serve(&mut self, signals: &mut Signals) -> i32 {
        const SECOND: Duration = Duration::from_secs(1);
        self.update_board();
        self.notify_processing();
        // Before any child can log something.
        self.announce();
        self.start_children(0, signals);
        let mut next = Instant::now() + SECOND;
        loop {
            let wake = self.handing_over.map_or(next, |(until, _)| next.min(until));
            signals.wait(wake.saturating_duration_since(Instant::now()));
            let mut outcome = self.reap(signals);
            self.see_going(signals);
            self.hand_over();
            match signals.wish() {
                Wish::Nothing => {}
                Wish::Stop => {
                    self.stop();
                    return 0;
                }
                Wish::GracefulStop => {
                    self.stop_gracefully(signals);
                    return 0;
                }
                wish @ (Wish::Restart | Wish::Graceful) => {
                    self.restart(wish == Wish::Graceful, signals);
                    next = Instant::now() + SECOND;
                }
            }
            if outcome.is_ok() && Instant::now() >= next {
                next = Instant::now() + SECOND;
                outcome = self.maintain(signals);
            }
            if let Err(code) = outcome {
                self.stop_now();
                return code;
            }
        }
    }

    /// `startup_children`: `StartServers`, or `least` where that is more.
    fn start_children(&mut self, least: usize, signals: &Signals) {
        let buckets = self.listeners.len().max(1);
        for number in 0..least.max(self.limits.start_servers as usize) {
            if !self.spawn(number % buckets, signals) {
                break;
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
        self.notify_processing();
        self.announce();
        let place = 0;
        let score = &self.board.processes()[place];
        score.begin(self.runtime.generation);
        score.pid.store(std::process::id() as i32, Ordering::Relaxed);
        let code = run_child(&Child {
            runtime: self.runtime.clone(),
            limits: self.limits,
            listeners: std::mem::take(&mut self.listeners).into_iter().next().unwrap_or_default().into(),
            board: self.board.clone(),
            place,
            control: theirs,
            notice: ours,
            master: nix::unistd::getpid(),
        });
        self.log_stop(false);
        code
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
}

/// A child's life; its exit code.
fn run_child(child: &Child) -> i32 {
    child.board.make_current();
    let code = match child.limits.kind {
        Kind::Prefork => super::prefork::run(child),
        Kind::Event { .. } => super::event::run(child),
    };
    log::writer::flush_all();
    crate::os::spawn::wait_for_all();
    code
}
