//! A connection that waits for a request: the socket and a few numbers. Ten thousand of them must cost little.
//!
//! The request, its tables and the parser's memory are in a [`Task`]; while a connection waits they serve others. Each
//! thread keeps some that are free.

use std::cell::RefCell;
use std::sync::Arc;

use super::task::Task;
use super::wire::Wire;
use crate::os::clock::{Millis, now_ms};
use crate::request::ConnInfo;

/// How many free tasks a thread keeps.
const SPARE: usize = 64;

thread_local! {
    #[allow(clippy::vec_box)] // They come boxed and go boxed: a task is large.
    static FREE: RefCell<Vec<Box<Task>>> = const { RefCell::new(Vec::new()) };
}

fn spare(task: Box<Task>) {
    FREE.with_borrow_mut(|free| {
        if free.len() < SPARE {
            free.push(task);
        }
    });
}

/// A waiting connection.
pub struct Idle {
    /// The socket. Its buffers are empty and have no memory.
    pub wire: Box<Wire>,
    pub(super) connection: Arc<ConnInfo>,
    pub(super) keepalives: u32,
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) since: Millis,
    pub(super) keep_alive_timeout: Millis,
    /// The process is going away.
    pub stopping: bool,
}

impl Idle {
    /// A connection that was accepted just now.
    pub fn accepted(connection: Arc<ConnInfo>, wire: Wire) -> Idle {
        Idle {
            wire: Box::new(wire),
            connection,
            keepalives: 0,
            requests: 0,
            bytes: 0,
            since: now_ms(),
            keep_alive_timeout: 0,
            stopping: false,
        }
    }

    /// Keeps a task whose connection has ended for others.
    pub fn ended(mut task: Box<Task>) {
        if task.leave() {
            spare(task);
        }
    }

    /// Keeps what a waiting connection needs, and the rest of the task for others. A task that is in the middle of
    /// something comes back as it was.
    pub fn of(mut task: Box<Task>) -> Result<Idle, Box<Task>> {
        let Some(idle) = task.leave_idle() else { return Err(task) };
        spare(task);
        Ok(idle)
    }

    /// The connection goes on, with a free task.
    pub fn wake(self) -> Box<Task> {
        match FREE.with_borrow_mut(Vec::pop) {
            Some(mut task) => {
                task.take_idle(self);
                task
            }
            None => Task::from_idle(self),
        }
    }
}
