//! What signals ask of the master.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGWINCH};

use crate::os::process;

/// What the signals asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    Nothing,
    Restart,
    Graceful,
    Stop,
    GracefulStop,
}

/// The signals that the master listens to, by a pipe that a signal writes to. Children write to it, too, when they go.
pub(super) struct Signals {
    pipe: UnixStream,
    write: UnixStream,
    flags: [(i32, Arc<AtomicBool>); 5],
}

impl Signals {
    pub(super) fn install() -> io::Result<Signals> {
        let (pipe, write) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        process::ignore_signals(&[Signal::SIGPIPE]);
        let flags = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGWINCH].map(|signal| (signal, Arc::default()));
        for (signal, flag) in &flags {
            signal_hook::flag::register(*signal, Arc::clone(flag))?;
            signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(SIGCHLD, write.try_clone()?)?;
        Ok(Signals { pipe, write, flags })
    }

    /// In a child: the signals mean again what the system says; those for the master are nothing to it.
    pub(super) fn leave(&self) {
        // The language's own handler of the last two (for stack overflows) would take the first one sent from outside.
        let own = [Signal::SIGTERM, Signal::SIGCHLD, Signal::SIGSEGV, Signal::SIGBUS];
        process::default_signals(&own);
        // Ctrl-C reaches the whole group; it is the master that tells its children.
        process::ignore_signals(&[
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGUSR1,
            Signal::SIGWINCH,
            Signal::SIGPIPE,
        ]);
    }

    /// A child's way to wake the master.
    pub(super) fn notice(&self) -> io::Result<UnixStream> {
        self.write.try_clone()
    }

    /// Until a signal comes, at most this long.
    pub(super) fn wait(&mut self, most: Duration) {
        // Rounded up: a wait of no length would be tried again and again.
        let timeout = PollTimeout::try_from(most.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout).is_ok_and(|n| n > 0) {
            let mut bytes = [0; 64];
            while matches!((&self.pipe).read(&mut bytes), Ok(n) if n == bytes.len()) {}
        }
    }

    fn took(&self, signal: i32) -> bool {
        self.flags.iter().any(|(s, flag)| *s == signal && flag.swap(false, Ordering::Relaxed))
    }

    /// The strongest wish that signals brought since the last call.
    pub(super) fn wish(&self) -> Wish {
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
