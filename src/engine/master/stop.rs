//! The end: at once, or when the children have finished what they have.

use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, waitpid};

use super::Master;
use super::children::ChildEntry;
use super::signals::{Signals, Wish};
use crate::log::{self, Level};

impl Master {
    /// SIGTERM.
    pub(super) fn stop(&mut self) {
        self.notify("STOPPING=1\n");
        self.stop_now();
        self.log_stop(false);
    }

    pub(super) fn log_stop(&self, gracefully: bool) {
        self.remove_pid_file();
        let says = self.limits.kind.messages();
        let (ah, text) = match gracefully {
            false => (says.stopping, "caught SIGTERM, shutting down"),
            true => (says.stopping_gracefully, "caught SIGWINCH, shutting down gracefully"),
        };
        log::server_event(Level::Notice, says.module, ah, text);
    }

    /// SIGWINCH: closes the listening sockets and lets the children finish what they have, for as long as
    /// `GracefulShutdownTimeout` says.
    pub(super) fn stop_gracefully(&mut self, signals: &mut Signals) {
        self.notify("STOPPING=1\n");
        self.listeners.clear();
        for child in &mut self.children {
            child.retire();
        }
        self.log_stop(true);
        let limit = self.runtime.mpm.graceful_shutdown_timeout;
        let end = (!limit.is_zero()).then(|| Instant::now() + limit);
        while !self.children.is_empty() {
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            signals.wait(left.min(Duration::from_secs(1)));
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
