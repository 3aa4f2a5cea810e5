//! mod_dialup: files at the pace of a modem.
//!
//! Answers to `modules/test/mod_dialup.c`. Where it differs: it works with prefork, too, where Apache never sends the rest; a
//! request whose last byte is sent is over, and not a second later.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use bytes::Bytes;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::body::{Body, Chunk, Content, Pull, Wait};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::conn::file_cache;
use crate::hooks::{Hooks, order};
use crate::http::method::Method;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::modules::core::default_handler::describe;
use crate::request::{Answer, Request, memo};

/// The module.
pub static MODULE: Module = Module { name: "dialup_module", file: "mod_dialup.c", directives: ROWS, hooks };

static DIR: Slot<Dialup> = Slot::new();

#[derive(Clone, Default)]
struct Dialup {
    bytes_per_second: usize,
}

impl Conf for Dialup {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "ModemStandard",
    args: Args::Take1(modem_standard),
    allowed: Allowed::ACCESS_CONF,
    help: "Modem Standard to.. simulate. Must be one of: 'V.21', 'V.26bis', 'V.32', 'V.34', or 'V.92'",
}];

/// The standards, with their bytes per second.
const STANDARDS: [(&str, usize); 6] = [
    ("V.21", 12),
    ("V.26bis", 300),
    ("V.32", 1200),
    ("V.34", 3600),
    ("V.92", 7000),
    ("i-was-rich-and-got-a-leased-line", 187_500),
];

fn modem_standard(cmd: &mut Cmd, name: &str) -> Done {
    let standard = STANDARDS.iter().find(|(standard, _)| standard.eq_ignore_ascii_case(name));
    let (_, rate) = standard.ok_or("mod_dialup: Unknown Modem Standard specified.")?;
    cmd.dir(&DIR).bytes_per_second = *rate;
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.handler(handler, order::REALLY_LAST - 1);
}

/// `dialup_handler`. What it doesn't take is for the core's handler.
fn handler(r: &mut Request) -> Answer {
    let rate = r.dir(&DIR).bytes_per_second;
    let Some(info) = r.finfo.filter(|info| !info.is_dir() && rate > 0 && r.method == Method::GET) else {
        return Answer::Declined;
    };
    memo::refuse();
    let Ok(content) = file_cache::uncached(&r.filename, &info) else { return Answer::Declined };
    describe(r, &info, &content);
    if r.conditions().meets().is_some() {
        rerror!(
            r,
            Level::Error,
            "dialup",
            "AH01869",
            "dialup: declined, meets conditions, good luck core handler"
        );
        return Answer::Declined;
    }
    let Ok(timer) =
        TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
    else {
        rerror!(r, Level::Error, "dialup", "AH01870", "dialup: failed, send pulse");
        return Answer::Status(status::INTERNAL_SERVER_ERROR);
    };
    let pulses = Pulses { content, rest: Bytes::new(), rate, timer, left: rate, next: Step::Send };
    Answer::Body(Content::Stream(Box::new(pulses)))
}

/// A content, so many bytes a second.
struct Pulses {
    content: Content,
    /// What was read, and is not for this second.
    rest: Bytes,
    rate: usize,
    timer: TimerFd,
    /// What may be sent in this second.
    left: usize,
    next: Step,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Send,
    Flush,
    Sleep,
}

impl Body for Pulses {
    fn pull(&mut self, r: &mut Request) -> io::Result<Pull> {
        match self.next {
            Step::Send => {}
            Step::Flush => {
                self.timer
                    .set(Expiration::OneShot(Duration::from_secs(1).into()), TimerSetTimeFlags::empty())?;
                self.next = Step::Sleep;
                return Ok(Pull::Flush);
            }
            Step::Sleep if !self.is_over()? => {
                let fd = self.timer.as_fd().as_raw_fd();
                return Ok(Pull::Wait(Wait { fd, read: true, timeout: Duration::from_secs(60), kept: None }));
            }
            Step::Sleep => {
                self.left = self.rate;
                self.next = Step::Send;
            }
        }
        if self.rest.is_empty() {
            match self.content.pull_bytes(r, self.rate)? {
                Pull::Chunk(Chunk::Bytes(bytes)) => self.rest = bytes,
                other => return Ok(other),
            }
        }
        let piece = self.rest.split_to(self.left.min(self.rest.len()));
        self.left -= piece.len();
        // What is the last needs no second of its own.
        if self.left == 0 && !(self.rest.is_empty() && self.content.is_empty()) {
            self.next = Step::Flush;
        }
        Ok(Pull::Chunk(Chunk::Bytes(piece)))
    }

    fn len(&self) -> Option<u64> {
        Some(self.content.len()? + self.rest.len() as u64)
    }
}

impl Pulses {
    /// The second is over.
    fn is_over(&self) -> io::Result<bool> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.timer.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
    }
}
