//! What the scoreboard says, added up.

use std::sync::atomic::Ordering::Relaxed;

use crate::engine::scoreboard::{ProcessScore, Scoreboard, WorkerStatus};

/// Threads of one process.
#[derive(Clone, Copy, Default)]
pub(super) struct Threads {
    pub busy: u32,
    pub graceful: u32,
    pub idle: u32,
}

/// The sums over all processes.
#[derive(Default)]
pub(super) struct Counts {
    /// All threads.
    pub all: Threads,
    /// By process.
    pub threads: Vec<Threads>,
    /// A letter for each worker, with its process; a blank for one above the limits.
    pub letters: Vec<(usize, char)>,
    pub accesses: u64,
    pub kbytes: u64,
    /// Microseconds spent on requests.
    pub duration: u64,
    /// Microseconds of the processor: user, system, and those of children that ended.
    pub cpu: [u64; 4],
}

impl Counts {
    pub fn of(board: &Scoreboard) -> Counts {
        let mut counts = Counts::default();
        let (generation, server_limit, threads_per_child, max_children) = match board.global() {
            Some(global) => (
                global.generation.load(Relaxed),
                global.server_limit.load(Relaxed) as usize,
                global.threads_per_child.load(Relaxed) as usize,
                global.max_children.load(Relaxed) as usize,
            ),
            None => (0, 1, 1, 1),
        };
        let mut bytes = 0;
        for (place, process) in board.processes().iter().enumerate() {
            let mut threads = Threads::default();
            for (index, row) in board.rows(place).enumerate() {
                let status = row.status();
                let beyond = place >= max_children || index >= threads_per_child;
                let disabled = beyond && status == WorkerStatus::Dead;
                // The places for a second generation are not Apache's.
                if place < server_limit || status != WorkerStatus::Dead {
                    counts.letters.push((place, if disabled { ' ' } else { status.letter() }));
                }
                if is_there(process) && !process.quiescing.load(Relaxed) {
                    match status {
                        WorkerStatus::Ready => {
                            threads.idle += 1;
                            if process.generation.load(Relaxed) == generation {
                                counts.all.idle += 1;
                            }
                        }
                        WorkerStatus::Dead | WorkerStatus::Starting | WorkerStatus::IdleKill => {}
                        WorkerStatus::Graceful => threads.graceful += 1,
                        _ => threads.busy += 1,
                    }
                }
                counts.accesses += row.sum(|score| &score.access_count);
                bytes += row.sum(|score| &score.bytes_served);
                counts.duration += row.sum(|score| &score.duration);
            }
            counts.all.busy += threads.busy;
            counts.all.graceful += threads.graceful;
            counts.threads.push(threads);
            if is_there(process) {
                counts.cpu[0] += process.cpu.user.load(Relaxed);
                counts.cpu[1] += process.cpu.system.load(Relaxed);
            }
        }
        counts.kbytes = bytes >> 10;
        if let Some(global) = board.global() {
            counts.cpu[0] += global.cpu.user.load(Relaxed);
            counts.cpu[1] += global.cpu.system.load(Relaxed);
            counts.cpu[2] += global.cpu_children.user.load(Relaxed);
            counts.cpu[3] += global.cpu_children.system.load(Relaxed);
        }
        counts
    }
}

/// A process is in this place.
pub(super) fn is_there(process: &ProcessScore) -> bool {
    process.pid.load(Relaxed) != 0
}
