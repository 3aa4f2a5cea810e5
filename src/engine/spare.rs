//! How many children there should be: once a second, what is idle is held against what is wanted.
//!
//! Answers to `perform_idle_server_maintenance` of `server/mpm/prefork/prefork.c` and `server/mpm/event/event.c`. Nothing
//! here forks or looks at the scoreboard: the numbers come in, the advice goes out.

use super::limits::{Kind, Limits};
use crate::log::Level;

/// The most children that are made in one second (`MAX_SPAWN_RATE`).
pub const MAX_SPAWN_RATE: u32 = 32;

/// What is counted in one bucket of listening sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Workers that wait for work, or are just starting: too few of them ask for more children.
    pub idle: u32,
    /// The same, less what else the children have to do: too many of them ask for fewer children.
    pub spare: u32,
    /// Workers of all its children, also of those that only finish what they have.
    pub threads: u32,
    /// Its children that take connections.
    pub serving: u32,
    /// Places for more children.
    pub free: u32,
}

/// What is counted over all buckets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Children {
    /// That take connections (`active_daemons`).
    pub active: u32,
    /// With those that finish what they have (`total_daemons`).
    pub total: u32,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Nothing.
    Keep,
    /// Let one child finish and go.
    Retire,
    /// Make so many.
    Spawn(u32),
}

/// A line for the error log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its level.
    pub level: Level,
    /// Its number.
    pub ah: &'static str,
    /// Its text.
    pub text: String,
}

/// What is remembered from one second to the next, over restarts, too (`retained`).
#[derive(Clone, Debug)]
pub struct Spare {
    /// How many children the next round makes, by bucket; doubled as long as that was not enough.
    rates: Vec<u32>,
    /// Rounds in which it is not doubled: after a graceful restart.
    hold_off: u32,
    /// "reached MaxRequestWorkers" was said. Once in the server's life is enough.
    full_reported: bool,
    /// "within MinSpareThreads of" was said.
    near_reported: bool,
}

impl Spare {
    /// Nothing remembered.
    pub fn new(buckets: usize) -> Spare {
        Spare { rates: vec![1; buckets.max(1)], hold_off: 0, full_reported: false, near_reported: false }
    }

    /// After a graceful restart the numbers need some time to settle.
    pub fn hold_off(&mut self) {
        self.hold_off = 10;
    }

    /// A child ended for want of something: no more than one at a time now.
    pub fn slow_down(&mut self, bucket: usize) {
        if let Some(rate) = self.rates.get_mut(bucket) {
            *rate = 1;
        }
    }

    /// What to do about one bucket, and what to say.
    pub fn advise(
        &mut self,
        limits: &Limits,
        bucket: usize,
        counted: Counted,
        children: Children,
    ) -> (Advice, Option<Line>) {
        if self.rates.len() <= bucket {
            self.rates.resize(bucket + 1, 1);
        }
        match limits.kind {
            Kind::Prefork => self.prefork(limits, bucket, counted, children),
            Kind::Event { .. } => self.event(limits, bucket, counted, children),
        }
    }

    fn double(&mut self, bucket: usize, most: u32) {
        if self.hold_off > 0 {
            self.hold_off -= 1;
        } else if self.rates[bucket] < most {
            self.rates[bucket] *= 2;
        }
    }

    /// Apache counts all buckets of prefork together; the rate is that of the first one.
    fn prefork(
        &mut self,
        limits: &Limits,
        bucket: usize,
        counted: Counted,
        children: Children,
    ) -> (Advice, Option<Line>) {
        let rate = self.rates[bucket];
        if counted.spare > limits.max_spare {
            self.rates[bucket] = 1;
            return (Advice::Retire, None);
        }
        if counted.idle >= limits.min_spare {
            self.rates[bucket] = 1;
            return (Advice::Keep, None);
        }
        let free = counted.free.min(limits.max_request_workers.saturating_sub(children.active));
        if free == 0 {
            self.rates[bucket] = 1;
            let first = !std::mem::replace(&mut self.full_reported, true);
            let ah = limits.kind.messages().reached;
            return (Advice::Keep, first.then(|| line(Level::Error, ah, REACHED)));
        }
        let busy = (rate >= 8).then(|| {
            let text = format!(
                "server seems busy, (you may need to increase StartServers, or Min/MaxSpareServers), spawning {rate} children, there are {} idle, and {} total children",
                counted.idle, children.total
            );
            line(Level::Info, limits.kind.messages().busy, &text)
        });
        self.double(bucket, MAX_SPAWN_RATE);
        (Advice::Spawn(rate.min(free)), busy)
    }

    fn event(
        &mut self,
        limits: &Limits,
        bucket: usize,
        counted: Counted,
        children: Children,
    ) -> (Advice, Option<Line>) {
        let says = limits.kind.messages();
        let buckets = self.rates.len() as u32;
        let (max_children, rate) = (limits.max_children(), self.rates[bucket]);
        if counted.spare > limits.max_spare / buckets {
            self.rates[bucket] = 1;
            // Those that finish what they have may do so for long: no more of them than leave room for a restart.
            let room = children.active == children.total
                || limits.server_limit.saturating_sub(children.total) > max_children;
            return (if room { Advice::Retire } else { Advice::Keep }, None);
        }
        if counted.idle >= limits.min_spare / buckets {
            self.rates[bucket] = 1;
            return (Advice::Keep, None);
        }
        if counted.threads >= limits.max_request_workers / buckets {
            self.rates[bucket] = 1;
            let (said, ah, text) = if counted.idle == 0 {
                (&mut self.full_reported, says.reached, REACHED)
            } else {
                (&mut self.near_reported, says.near, NEAR)
            };
            let first = !std::mem::replace(said, true);
            return (Advice::Keep, first.then(|| line(Level::Error, ah, text)));
        }
        if counted.free == 0 {
            self.rates[bucket] = 1;
            return (Advice::Keep, Some(line(Level::Error, says.full.0, says.full.1)));
        }
        let mut count = rate.min(counted.free);
        if count + children.active > max_children {
            count = max_children.saturating_sub(children.active);
            if count == 0 {
                self.rates[bucket] = 1;
                self.hold_off += 1;
            }
        }
        let busy = (self.rates[bucket] >= 8).then(|| {
            let text = format!(
                "server seems busy, (you may need to increase StartServers, ThreadsPerChild or Min/MaxSpareThreads), spawning {count} children, there are around {} idle threads, {} active children, and {} children that are shutting down",
                counted.idle, children.active, children.total
            );
            line(Level::Info, says.busy, &text)
        });
        self.double(bucket, MAX_SPAWN_RATE / buckets);
        (if count > 0 { Advice::Spawn(count) } else { Advice::Keep }, busy)
    }
}

const REACHED: &str =
    "server reached MaxRequestWorkers setting, consider raising the MaxRequestWorkers setting";
const NEAR: &str =
    "server is within MinSpareThreads of MaxRequestWorkers, consider raising the MaxRequestWorkers setting";

fn line(level: Level, ah: &'static str, text: &str) -> Line {
    Line { level, ah, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::mpm::MpmConf;

    fn prefork() -> Limits {
        Limits::of(Kind::Prefork, &MpmConf::default(), true, None)
    }

    fn event() -> Limits {
        Limits::of(Kind::Event { worker: false }, &MpmConf::default(), true, None)
    }

    fn children(active: u32, total: u32) -> Children {
        Children { active, total }
    }

    /// Prefork with 256 at most, all of them busy: 1, 2, 4 … 32 a second, and one word at the end.
    #[test]
    fn prefork_doubles_up_to_32() {
        let (limits, mut spare) = (prefork(), Spare::new(1));
        let (mut live, mut made, mut said) = (5, Vec::new(), Vec::new());
        for _ in 0..20 {
            let counted = Counted { idle: 0, spare: 0, threads: live, serving: live, free: 256 - live };
            let (advice, line) = spare.advise(&limits, 0, counted, children(live, live));
            said.extend(line.map(|line| line.ah));
            let Advice::Spawn(count) = advice else { continue };
            made.push(count);
            live += count;
        }
        assert_eq!(made, [1, 2, 4, 8, 16, 32, 32, 32, 32, 32, 32, 28]);
        assert_eq!(live, 256);
        assert_eq!(said.iter().filter(|ah| **ah == "AH00161").count(), 1);
        assert_eq!(said.iter().filter(|ah| **ah == "AH00162").count(), 9);
    }

    #[test]
    fn a_pause_ends_the_doubling() {
        let (limits, mut spare) = (prefork(), Spare::new(1));
        let ask = |spare: &mut Spare, idle| {
            spare
                .advise(
                    &limits,
                    0,
                    Counted { idle, spare: idle, threads: 10, serving: 10, free: 246 },
                    children(10, 10),
                )
                .0
        };
        assert_eq!(ask(&mut spare, 0), Advice::Spawn(1));
        assert_eq!(ask(&mut spare, 0), Advice::Spawn(2));
        assert_eq!(ask(&mut spare, 7), Advice::Keep);
        assert_eq!(ask(&mut spare, 0), Advice::Spawn(1));
        assert_eq!(ask(&mut spare, 11), Advice::Retire);
    }

    #[test]
    fn after_a_graceful_restart_it_does_not_double() {
        let (limits, mut spare) = (prefork(), Spare::new(1));
        spare.hold_off();
        for _ in 0..11 {
            let counted = Counted { idle: 0, spare: 0, threads: 5, serving: 5, free: 251 };
            assert_eq!(spare.advise(&limits, 0, counted, children(5, 5)).0, Advice::Spawn(1));
        }
        let counted = Counted { idle: 0, spare: 0, threads: 5, serving: 5, free: 251 };
        assert_eq!(spare.advise(&limits, 0, counted, children(5, 5)).0, Advice::Spawn(2));
    }

    #[test]
    fn event_keeps_within_its_limits() {
        let (limits, mut spare) = (event(), Spare::new(1));
        let full = Counted { idle: 0, spare: 0, threads: 400, serving: 16, free: 0 };
        let (advice, line) = spare.advise(&limits, 0, full, children(16, 16));
        assert_eq!((advice, line.map(|l| l.ah)), (Advice::Keep, Some("AH00484")));
        assert_eq!(spare.advise(&limits, 0, full, children(16, 16)).1, None);
        let near = Counted { idle: 20, spare: 20, threads: 400, serving: 16, free: 0 };
        assert_eq!(spare.advise(&limits, 0, near, children(16, 16)).1.map(|l| l.ah), Some("AH10159"));
        let no_place = Counted { idle: 0, spare: 0, threads: 100, serving: 4, free: 0 };
        assert_eq!(spare.advise(&limits, 0, no_place, children(4, 16)).1.map(|l| l.ah), Some("AH03490"));
        let idle = Counted { idle: 300, spare: 300, threads: 300, serving: 12, free: 4 };
        assert_eq!(spare.advise(&limits, 0, idle, children(12, 12)).0, Advice::Retire);
        // One is on its way out already, and there is no room to spare.
        assert_eq!(spare.advise(&limits, 0, idle, children(12, 13)).0, Advice::Keep);
    }

    #[test]
    fn each_bucket_has_its_share() {
        let (limits, mut spare) = (event(), Spare::new(2));
        let counted = Counted { idle: 40, spare: 40, threads: 50, serving: 2, free: 8 };
        assert_eq!(spare.advise(&limits, 0, counted, children(4, 4)).0, Advice::Keep);
        let counted = Counted { idle: 30, spare: 30, threads: 50, serving: 2, free: 8 };
        assert_eq!(spare.advise(&limits, 1, counted, children(4, 4)).0, Advice::Spawn(1));
    }
}
