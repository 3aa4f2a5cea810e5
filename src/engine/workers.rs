//! Threads for what blocks: tasks come from the reactor, and go back to it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use mio::Waker;

use super::scoreboard::{Scoreboard, WorkerStatus};
use crate::conn::task::{self, Need, Task};
use crate::log::writer;
use crate::request::Lane;

/// A task that comes back: its place in the reactor, and what it needs next.
pub struct Returned {
    /// Where it was.
    pub key: usize,
    /// The task.
    pub task: Box<Task>,
    /// What it needs.
    pub need: Need,
}

#[derive(Default)]
struct Shared {
    waiting: VecDeque<(usize, Box<Task>)>,
    returned: Vec<Returned>,
    idle: usize,
    threads: usize,
    ended: bool,
}

/// The workers of one child. They are started when first needed, up to `ThreadsPerChild`.
pub struct Workers {
    shared: Arc<(Mutex<Shared>, Condvar)>,
    waker: Arc<Waker>,
    /// The child's place on the scoreboard.
    place: usize,
    most: usize,
    stack: Option<usize>,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Workers {
    /// None running yet, of the child in `place`; at most `most`, each with `stack` bytes.
    pub fn new(waker: Arc<Waker>, place: usize, most: usize, stack: Option<usize>) -> Workers {
        Workers { shared: Arc::default(), waker, place, most: most.max(1), stack }
    }

    /// Hands a task over.
    pub fn submit(&self, key: usize, task: Box<Task>) {
        let (start, worker) = {
            let mut shared = lock(&self.shared.0);
            shared.waiting.push_back((key, task));
            let start = shared.idle < shared.waiting.len() && shared.threads < self.most;
            if start {
                shared.threads += 1;
            }
            // The first place is the reactor's own.
            (start, shared.threads % self.most)
        };
        if start && !self.start_thread(worker) {
            lock(&self.shared.0).threads -= 1;
        }
        self.shared.1.notify_one();
    }

    fn start_thread(&self, worker: usize) -> bool {
        let shared = self.shared.clone();
        let waker = self.waker.clone();
        let mut builder = std::thread::Builder::new().name("worker".to_owned());
        if let Some(stack) = self.stack {
            builder = builder.stack_size(stack.max(64 * 1024));
        }
        let place = self.place;
        let run = move || {
            task::set_shown(task::Shown::Worker(place, worker));
            work(&shared, &waker, || {
                // What the task waits for now is no thread's business.
                let workers = Scoreboard::current().map_or(&[][..], |board| board.workers(place));
                if let Some(score) = workers.get(worker) {
                    score.set_status(WorkerStatus::Ready);
                }
            });
        };
        builder.spawn(run).is_ok()
    }

    /// What came back since the last call.
    pub fn take_returned(&self) -> Vec<Returned> {
        std::mem::take(&mut lock(&self.shared.0).returned)
    }

    /// How many threads run a task now.
    pub fn busy(&self) -> usize {
        let shared = lock(&self.shared.0);
        shared.threads - shared.idle
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        lock(&self.shared.0).ended = true;
        self.shared.1.notify_all();
    }
}

fn work(shared: &(Mutex<Shared>, Condvar), waker: &Waker, rest: impl Fn()) {
    let mut state = lock(&shared.0);
    loop {
        if let Some((key, mut task)) = state.waiting.pop_front() {
            drop(state);
            let need = loop {
                match task.drive(Lane::Thread) {
                    Need::Thread | Need::Again => {}
                    need => break need,
                }
            };
            writer::flush_lines();
            rest();
            state = lock(&shared.0);
            state.returned.push(Returned { key, task, need });
            drop(state);
            // Without a reactor there is nobody to take it back, and the process is ending.
            let _ = waker.wake();
            state = lock(&shared.0);
            continue;
        }
        if state.ended {
            return;
        }
        state.idle += 1;
        state = shared.1.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        state.idle -= 1;
    }
}
