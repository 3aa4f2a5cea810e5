//! How much a reactor has to do, for the arithmetic of children.

use std::time::Instant;

/// The connections that were ready in a turn, weighed by how long it took, over a second. That is how many threads Apache's
/// event would have at work for them.
pub(super) struct LoadMeter {
    /// Connection-seconds.
    sum: f64,
    since: Instant,
    shown: u32,
}

impl LoadMeter {
    pub(super) fn new() -> LoadMeter {
        LoadMeter { sum: 0.0, since: Instant::now(), shown: 0 }
    }

    /// The last average was not nothing.
    pub(super) fn is_shown(&self) -> bool {
        self.shown > 0
    }

    /// A turn is over that served so many connections.
    pub(super) fn turn(&mut self, began: Instant, ready: usize) {
        self.sum += began.elapsed().as_secs_f64() * ready as f64;
    }

    /// The average, once a second.
    pub(super) fn read(&mut self, now: Instant) -> Option<u32> {
        let time = now.saturating_duration_since(self.since).as_secs_f64();
        if time < 1.0 {
            return None;
        }
        self.shown = (self.sum / time).round() as u32;
        self.sum = 0.0;
        self.since = now;
        Some(self.shown)
    }
}
