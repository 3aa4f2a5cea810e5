//! prefork: a process per connection.
//!
//! Answers to `child_main` of `server/mpm/prefork/prefork.c`. The child has one thread; it waits with `epoll` for a
//! connection (the kernel wakes one idle child for each) and with `poll` for its client.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;

use socket2::SockRef;

use super::child::{AcceptFailed, Child, GRACE, accept_failed};
use super::scoreboard::WorkerStatus;
use crate::conn::idle::Idle;
use crate::conn::task::{self, Need, Task};
use crate::conn::wire::Progress;
use crate::log::writer;
use crate::os::clock::{Millis, now_ms};
use crate::os::{process, socket};
use crate::request::Lane;

/// Serves until told to go or until `MaxConnectionsPerChild` is reached; the process's exit code.
pub fn run(child: &Child) -> i32 {
    if child.prepare().is_err() {
        return super::master::FATAL;
    }
    process::interrupt_on(Signal::SIGUSR1);
    process::interrupt_on(Signal::SIGTERM);
    // A master that is killed sends nothing; the control socket's end is only seen between two connections.
    if !child.is_alone() && !process::signal_on_parents_end(Signal::SIGUSR1, child.master) {
        return 0;
    }
    let worker = &child.board.workers(child.place)[0];
    let Ok(epoll) = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC) else { return super::master::FATAL };
    const CONTROL: u64 = u64::MAX;
    for (index, listener) in child.listeners.borrow().iter().enumerate() {
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, index as u64);
        if epoll.add(&**listener, event).is_err() {
            return super::master::FATAL;
        }
    }
    if epoll.add(child.control.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, CONTROL)).is_err() {
        return super::master::FATAL;
    }
    worker.take_place(WorkerStatus::Ready);
    child.wake_master();
    let most = child.runtime.mpm.max_connections_per_child;
    let mut served = 0;
    loop {
        worker.set_status(WorkerStatus::Ready);
        if most > 0 && served >= most || process::was_interrupted(Signal::SIGTERM) {
            return 0;
        }
        let mut events = [EpollEvent::empty(); 8];
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return super::master::FATAL,
        };
        // A connection that woke this child woke no other: it is served before the child goes.
        let called = events[..count].iter().any(|e| e.data() == CONTROL) && child.is_called();
        for event in &events[..count] {
            let Some(listener) = usize::try_from(event.data()).ok().and_then(|i| child.listener(i)) else {
                continue;
            };
            let (stream, client) = match listener.accept_blocking() {
                Ok(accepted) => accepted,
                Err(err) if accept_failed(&err) == AcceptFailed::Passing => continue,
                // Its end frees what is short; the master makes new ones slowly.
                Err(_) => return super::master::SICK,
            };
            served += 1;
            worker.set_status(WorkerStatus::BusyRead);
            let score = child.score();
            score.busy.store(1, Ordering::Relaxed);
            let task = child.task(stream, client, &listener);
            // Told to go while it serves, the child closes its listening sockets: this one, too.
            drop(listener);
            if let Ok(task) = task {
                serve(child, task);
            }
            score.busy.store(0, Ordering::Relaxed);
            // One connection at a time: what else waits is for another child, unless nobody takes it.
            break;
        }
        if called {
            return 0;
        }
    }
}

/// Drives one connection to its end.
fn serve(child: &Child, mut task: Box<Task>) {
    let worker = &child.board.workers(child.place)[0];
    worker.conn_count.store(0, Ordering::Relaxed);
    worker.conn_bytes.store(0, Ordering::Relaxed);
    task::set_shown(task::Shown::Worker(child.place, 0));
    let write_timeout = child.runtime.main_server().resolved.timeout;
    if let Some(wire) = task.wire() {
        // A write that the client doesn't take ends with it, and is then waited for once more by `wait`.
        let _ = SockRef::from(&wire.stream).set_write_timeout(Some(write_timeout).filter(|t| !t.is_zero()));
    }
    let mut timeout = None;
    let mut need = task.drive(Lane::Thread);
    loop {
        writer::flush_lines();
        need = match need {
            Need::Close => break,
            Need::Again | Need::Thread => task.drive(Lane::Thread),
            Need::Io { read, until, idle } => {
                if idle {
                    worker.set_status(WorkerStatus::BusyKeepalive);
                }
                let Some(fd) = task.wire().map(|w| w.fd()) else { break };
                let waited = if read && !task.stopping {
                    sleep(child, until, &mut task, idle, &mut timeout)
                } else {
                    wait(child, fd, read, until, &mut task, idle)
                };
                match waited {
                    Waited::Ready => {
                        worker.set_status(WorkerStatus::BusyRead);
                        task.drive(Lane::Thread)
                    }
                    Waited::Expired => task.expired(),
                    Waited::Gone => break,
                }
            }
            Need::Fd { fd, read, until, .. } => match wait(child, fd, read, until, &mut task, false) {
                Waited::Ready => task.drive(Lane::Thread),
                Waited::Expired => task.expired(),
                Waited::Gone => break,
            },
        };
    }
    Idle::ended(task);
    writer::flush_lines();
    task::set_shown(task::Shown::Nowhere);
}

enum Waited {
    Ready,
    Expired,
    /// Told to go while nothing was under way.
    Gone,
}

/// Sleeps in `recv` itself, which spares a system call for each request. The master's word to go comes with a signal that
/// interrupts it, and leaves a mark when the child is awake; should it fall between the look at the mark and the sleep, the
/// master sends it again a second later.
fn sleep(
    child: &Child,
    until: Millis,
    task: &mut Task,
    idle: bool,
    timeout: &mut Option<Duration>,
) -> Waited {
    loop {
        let now = now_ms();
        if now >= until {
            return Waited::Expired;
        }
        if process::was_interrupted(Signal::SIGTERM) {
            return Waited::Gone;
        }
        if process::was_interrupted(Signal::SIGUSR1) && child.is_called() {
            task.stopping = true;
            child.close_listeners();
            let fd = task.wire().map_or(-1, |w| w.fd());
            return wait(child, fd, true, until, task, idle);
        }
        let Some(wire) = task.wire() else { return Waited::Gone };
        // Whole seconds, so that it is the same for one request after the other and need not be set again.
        let left = until - now;
        let rounded = Duration::from_millis(if left > 1000 { left.div_ceil(1000) * 1000 } else { left });
        if *timeout != Some(rounded) {
            if SockRef::from(&wire.stream).set_read_timeout(Some(rounded)).is_err() {
                return Waited::Gone;
            }
            *timeout = Some(rounded);
        }
        match wire.fill_sleeping() {
            Ok(Progress::Done | Progress::Closed) => return Waited::Ready,
            Err(_) => return Waited::Gone,
            // The time is over, or a signal came.
            Ok(Progress::Blocked) => {}
        }
    }
}

fn wait(child: &Child, fd: i32, read: bool, mut until: Millis, task: &mut Task, idle: bool) -> Waited {
    if task.stopping && idle {
        until = until.min(now_ms() + GRACE);
    }
    loop {
        let now = now_ms();
        if now >= until {
            return Waited::Expired;
        }
        if process::was_interrupted(Signal::SIGTERM) {
            return Waited::Gone;
        }
        let Some(borrowed) = socket::borrow(fd) else { return Waited::Gone };
        let flags = if read { PollFlags::POLLIN } else { PollFlags::POLLOUT };
        let mut fds = [PollFd::new(borrowed, flags), PollFd::new(child.control.as_fd(), PollFlags::POLLIN)];
        let watched = if task.stopping { &mut fds[..1] } else { &mut fds[..] };
        let timeout = PollTimeout::try_from(until - now).unwrap_or(PollTimeout::MAX);
        match poll(watched, timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return Waited::Gone,
            Ok(_) => {}
        }
        let ready = fds[0].revents().is_some_and(|e| !e.is_empty());
        let control = fds[1].revents().is_some_and(|e| !e.is_empty());
        if control && !task.stopping {
            // The byte stays in the socket: the accept loop finds it again.
            task.stopping = true;
            child.close_listeners();
            if idle {
                until = until.min(now + GRACE);
            }
        }
        if ready {
            if let Some(wire) = task.wire() {
                wire.readable = true;
            }
            return Waited::Ready;
        }
    }
}
