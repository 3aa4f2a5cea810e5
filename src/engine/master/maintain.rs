//! Once a second: enough idle workers, and not too many.
//!
//! Answers to `perform_idle_server_maintenance` of the MPMs; the arithmetic is in [`spare`](crate::engine::spare). Differs
//! in that a child which goes on its own (`MaxConnectionsPerChild`) or dies is replaced at once where workers would be
//! wanting, and that the one which is retired is chosen: idle, with few connections, and in a high place.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Master;
use super::children::ChildEntry;
use super::signals::Signals;
use crate::engine::limits::Kind;
use crate::engine::spare::{Advice, Children, Counted};
use crate::log::{self, Level};

/// Every how many seconds modules are told how the server does (`INTERVAL_OF_WRITABLE_PROBES`).
const MONITOR: u32 = 10;

impl Master {
    /// `Err`: the server can't go on.
    pub(super) fn maintain(&mut self, signals: &Signals) -> Result<(), i32> {
        self.update_board();
        self.successive_kills = 0;
        self.insist();
        self.children.iter().filter(|c| c.retiring).for_each(ChildEntry::wake);
        self.seconds = (self.seconds + 1) % MONITOR;
        if self.seconds == 0 {
            self.notify_state();
        }
        if self.no_fork_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        self.no_fork_until = None;
        self.look_for_health()?;
        if self.limits.kind == Kind::Prefork {
            self.maintain_bucket(None, signals);
        } else {
            for bucket in 0..self.listeners.len() {
                self.maintain_bucket(Some(bucket), signals);
            }
        }
        // Connections must not wait in a bucket that nobody looks after.
        for bucket in 0..self.listeners.len() {
            if !self.children.iter().any(|c| c.bucket == bucket && c.is_serving()) {
                self.spawn(bucket, signals);
            }
        }
        Ok(())
    }

    /// A child that ended for want of something is no reason to end, unless none ever got to work.
    fn look_for_health(&mut self) -> Result<(), i32> {
        self.healthy = self.healthy || self.on_board().any(|c| self.board.is_at_work(c.place));
        if !std::mem::take(&mut self.sick) || self.healthy {
            return Ok(());
        }
        let says = self.limits.kind.messages();
        let Some(ah) = says.shortage else { return Ok(()) };
        let text = "A resource shortage or other unrecoverable failure was encountered before any child process initialized successfully... httpd is exiting!";
        log::server_event(Level::Alert, says.module, ah, text);
        Err(1)
    }

    /// One bucket's children, or all of them.
    fn maintain_bucket(&mut self, bucket: Option<usize>, signals: &Signals) {
        let counted = self.count(bucket);
        let children = Children {
            active: self.on_board().filter(|c| c.is_serving()).count() as u32,
            total: self.on_board().count() as u32,
        };
        let (advice, line) = self.spare.advise(&self.limits, bucket.unwrap_or(0), counted, children);
        if let Some(line) = line {
            log::server_event(line.level, self.limits.kind.messages().module, line.ah, &line.text);
        }
        match advice {
            Advice::Keep => {}
            Advice::Retire => self.retire_one(bucket),
            Advice::Spawn(count) => {
                for _ in 0..count {
                    let bucket = bucket.unwrap_or_else(|| self.poorest_bucket());
                    if !self.spawn(bucket, signals) {
                        break;
                    }
                }
            }
        }
    }

    /// Counts what is idle. What a reactor has to do takes no worker: it asks for more children only while there are fewer
    /// than processors, but speaks against fewer children always.
    fn count(&self, bucket: Option<usize>) -> Counted {
        let threads = self.limits.threads_per_child;
        let serving = self.on_board().filter(|c| c.is_serving()).count();
        let mut counted = Counted::default();
        let buckets = self.listeners.len().max(1);
        let places = self.board.processes().len();
        // What waits for a worker in one child speaks against the idle ones of others: there are too few in all.
        let (mut idle, mut spare) = (0_i64, 0_i64);
        counted.free = (0..places).filter(|p| bucket.is_none_or(|b| p % buckets == b)).count() as u32;
        for child in self.on_board().filter(|c| bucket.is_none_or(|b| c.bucket == b)) {
            counted.free = counted.free.saturating_sub(1);
            if !child.is_serving() {
                continue;
            }
            let score = child.score();
            counted.serving += 1;
            counted.threads += threads;
            let mut free = i64::from(threads) - i64::from(score.busy.load(Ordering::Relaxed));
            if score.not_accepting.load(Ordering::Relaxed) {
                free = free.min(0);
            }
            let rest = free - i64::from(score.load.load(Ordering::Relaxed));
            spare += rest;
            idle += if serving < self.cores { rest } else { free };
        }
        counted.idle = u32::try_from(idle).unwrap_or(0);
        counted.spare = u32::try_from(spare).unwrap_or(0);
        counted
    }

    /// The bucket with the fewest children.
    fn poorest_bucket(&self) -> usize {
        let of =
            |bucket: usize| self.children.iter().filter(|c| c.bucket == bucket && c.is_serving()).count();
        (0..self.listeners.len()).min_by_key(|&bucket| of(bucket)).unwrap_or(0)
    }

    /// Lets one child finish and go: one that is idle, rather with few connections, rather in a high place. The last of a
    /// bucket stays.
    fn retire_one(&mut self, bucket: Option<usize>) {
        let serving_in =
            |bucket: usize| self.children.iter().filter(|c| c.bucket == bucket && c.is_serving()).count();
        let chosen = self
            .children
            .iter()
            .enumerate()
            .filter(|(_, c)| {
                bucket.is_none_or(|b| c.bucket == b) && c.is_serving() && serving_in(c.bucket) > 1
            })
            .min_by_key(|(_, c)| {
                let score = c.score();
                let busy = score.busy.load(Ordering::Relaxed);
                (busy, score.connections.load(Ordering::Relaxed), usize::MAX - c.place)
            })
            .map(|(at, _)| at);
        if let Some(child) = chosen.and_then(|at| self.children.get_mut(at)) {
            child.retire();
        }
    }

    /// Children that go on their own, because they reached their limit.
    pub(super) fn see_going(&mut self, signals: &Signals) {
        let mut gone = Vec::new();
        for child in &mut self.children {
            if !child.retiring && !child.seen_going && !child.is_serving() {
                child.seen_going = true;
                gone.push(child.bucket);
            }
        }
        for bucket in gone {
            self.replace(bucket, false, signals);
        }
    }

    /// One that served is gone: another takes its place, when it was `killed`, when nobody else serves its sockets, or when
    /// too few workers are left.
    pub(super) fn replace(&mut self, bucket: usize, killed: bool, signals: &Signals) {
        if self.no_fork_until.is_some() {
            return;
        }
        let serving = self.on_board().filter(|c| c.is_serving()).count() as u32;
        if serving >= self.limits.max_children() {
            return;
        }
        let counted = self.count(Some(bucket));
        let wanted = self.limits.min_spare / self.listeners.len().max(1) as u32;
        if killed || counted.serving == 0 || counted.idle < wanted {
            self.spawn(bucket, signals);
        }
    }
}
