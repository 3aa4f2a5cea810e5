//! Restarts: the configuration is read anew, new children take over, old ones finish.
//!
//! Answers to the end of `prefork_run` and `event_run` and to `main` of `server/main.c`. Differs: a configuration that can't
//! be used leaves all as it is (Apache ends); new children start before the old ones are told to go, and as many as were busy
//! (Apache: `StartServers`, and under load the rest at one, two, four … a second); the engine may be another one afterwards (Apache
//! refuses).

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::signals::Signals;
use super::{Master, make_board, open};
use crate::config::Runtime;
use crate::config::read::{self, Failure};
use crate::engine::limits::{Kind, Limits};
use crate::engine::listen;
use crate::engine::scoreboard::WorkerStatus;
use crate::log::{self, Level};
use crate::os::process;

/// How long the old children stay at most when new ones don't get to work.
const HAND_OVER: Duration = Duration::from_secs(1);

impl Master {
    /// Reads the configuration and makes everything that a generation needs, but no child.
    fn prepare(&self) -> Result<(Arc<Runtime>, Limits), Failure> {
        let (mut setup, read, built) = read::build(&self.options, self.runtime.generation + 1);
        built?;
        let limits = crate::cli::check(&mut setup, &read, Some(&self.limits))?;
        open(setup, read, limits)
    }

    /// Reads the configuration anew and lets new children take over. When it can't be read, the old one goes on.
    pub(super) fn restart(&mut self, graceful: bool, signals: &Signals) {
        let says = self.limits.kind.messages();
        let (ah, text) = if graceful { says.graceful } else { says.restart };
        log::server_event(Level::Notice, says.module, ah, text);
        self.notify("RELOADING=1\nSTATUS=Reading configuration...\n");
        let (engine, busy) = (self.limits.kind, self.busy_children());
        let taken = self.prepare().and_then(|(runtime, limits)| self.take_over(runtime, limits));
        if let Err(Failure(text)) = taken {
            log::set_main(self.runtime.main_server());
            log::set_threaded(!matches!(self.limits.kind, Kind::Prefork));
            let text = format!("the new configuration can't be used, going on with the old one: {text}");
            log::server_event(Level::Error, "core", "", &text);
            self.notify("READY=1\nSTATUS=Processing requests...\n");
            return;
        }
        self.notify("READY=1\nSTATUS=Configuration loaded.\n");
        // The new children first: there is no moment without somebody to take a connection.
        self.update_board();
        self.announce();
        let most = self.limits.max_request_workers / self.limits.threads_per_child.max(1);
        let least = if self.limits.kind == engine { busy.min(most as usize) } else { 0 };
        self.start_children(least, signals);
        self.handing_over = Some((Instant::now() + HAND_OVER, graceful));
        self.hand_over();
        self.spare.hold_off();
        self.notify_processing();
    }

    /// How many children have something to do.
    fn busy_children(&self) -> usize {
        let busy = |place| self.board.rows(place).any(|row| row.status().is_busy());
        self.on_board().filter(|c| c.is_serving() && busy(c.place)).count()
    }

    /// Lets the old children go, once new ones are at work in every bucket.
    pub(super) fn hand_over(&mut self) {
        let Some((until, graceful)) = self.handing_over else { return };
        let generation = self.runtime.generation;
        let works = |bucket: usize| {
            self.on_board().any(|c| {
                c.bucket == bucket
                    && c.generation == generation
                    && c.is_serving()
                    && self.board.is_at_work(c.place)
            })
        };
        if Instant::now() < until && !(0..self.listeners.len()).all(works) {
            return;
        }
        self.handing_over = None;
        for child in self.children.iter_mut().filter(|c| c.generation != generation) {
            child.retire();
            if graceful && let [worker] = child.board.workers(child.place) {
                // A child of prefork does not say so itself.
                worker.set_status(WorkerStatus::Graceful);
            }
            if !graceful {
                child.end();
            }
        }
    }

    /// From here on the new configuration counts. An error leaves all as it was.
    fn take_over(&mut self, runtime: Arc<Runtime>, limits: Limits) -> Result<(), Failure> {
        // The sockets that stay are the same ones: no connection is lost in between.
        let buckets = self.listeners.len();
        let listeners =
            listen::open(&runtime.listeners, &self.listeners, &runtime.mpm, buckets).map_err(Failure)?;
        if limits.kind != self.limits.kind {
            self.board = make_board(&limits).map_err(Failure)?;
        }
        self.listeners = listeners;
        let old_pid_file = self.runtime.pid_file.clone();
        self.runtime = runtime;
        self.limits = limits.for_buckets(buckets as u32);
        if old_pid_file != self.runtime.pid_file {
            let _ = std::fs::remove_file(old_pid_file);
            if let Err(text) = self.write_pid_file() {
                log::server_event(Level::Error, "core", "", &text);
            }
        }
        if let Some(file) = self.runtime.error_log.file() {
            let _ = process::put_in_place_of_stderr(file.as_fd());
        }
        Ok(())
    }
}
