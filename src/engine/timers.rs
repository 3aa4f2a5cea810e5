//! Deadlines of many connections: a wheel of tenths of a second.
//!
//! Setting one costs nothing while an earlier entry of the same connection is still on the wheel, which is what happens
//! with every request of a busy connection: the entry is looked at when its time comes, and put further on.

use crate::os::clock::Millis;

/// Length of a tick in milliseconds.
pub const TICK: Millis = 100;
const SLOTS: usize = 4096;

/// An entry that came up: whose, and what it was set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The connection's place.
    pub key: usize,
    /// The tick it was queued for.
    pub at: u64,
}

/// The wheel.
pub struct Timers {
    slots: Vec<Vec<Due>>,
    /// The next tick to look at.
    next: u64,
    entries: usize,
}

impl Timers {
    /// An empty wheel at the time `now`.
    pub fn new(now: Millis) -> Timers {
        Timers { slots: vec![Vec::new(); SLOTS], next: now / TICK, entries: 0 }
    }

    /// The tick in which `until` is over; too far ones come up early and are put on again.
    fn tick_of(&self, until: Millis) -> u64 {
        let tick = until / TICK + 1;
        tick.clamp(self.next, self.next + SLOTS as u64 - 1)
    }

    /// Queues `key` for `until`, unless `queued` (what the last call answered) comes up before. Answers what is queued now.
    pub fn set(&mut self, key: usize, until: Millis, queued: Option<u64>) -> Option<u64> {
        let at = self.tick_of(until);
        if let Some(queued) = queued
            && queued <= at
            && queued >= self.next
        {
            return Some(queued);
        }
        self.slots[(at % SLOTS as u64) as usize].push(Due { key, at });
        self.entries += 1;
        Some(at)
    }

    /// Takes out what has come up by `now`.
    pub fn due(&mut self, now: Millis, out: &mut Vec<Due>) {
        let until = now / TICK;
        while self.next <= until {
            let slot = &mut self.slots[(self.next % SLOTS as u64) as usize];
            self.entries -= slot.len();
            out.append(slot);
            self.next += 1;
        }
    }

    /// How long the reactor may sleep: until the next tick while anything is queued.
    pub fn sleep(&self, now: Millis) -> Option<Millis> {
        (self.entries > 0).then(|| (self.next * TICK).saturating_sub(now).max(1) + TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_up_once_and_not_before() {
        let mut timers = Timers::new(0);
        let queued = timers.set(7, 1_000, None);
        assert_eq!(timers.set(7, 5_000, queued), queued);
        let mut due = Vec::new();
        timers.due(1_000, &mut due);
        assert!(due.is_empty());
        timers.due(1_200, &mut due);
        assert_eq!(due, [Due { key: 7, at: queued.unwrap() }]);
        assert_eq!(timers.sleep(1_200), None);
    }

    #[test]
    fn an_earlier_deadline_is_queued_again() {
        let mut timers = Timers::new(0);
        let late = timers.set(1, 60_000, None);
        let early = timers.set(1, 500, late);
        assert!(early < late);
        let mut due = Vec::new();
        timers.due(700, &mut due);
        assert_eq!(due.len(), 1);
    }

    #[test]
    fn a_far_deadline_comes_up_early_to_be_set_again() {
        let mut timers = Timers::new(0);
        timers.set(1, 10_000_000, None);
        let mut due = Vec::new();
        timers.due(SLOTS as u64 * TICK, &mut due);
        assert_eq!(due.len(), 1);
    }
}
