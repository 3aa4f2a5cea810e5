//! Between two requests: the rest of a body, the log, the next request or the end of the connection.

use super::{LAST_CPU, LINGER, Need, SHORT_LINGER, State, Task, worker_score};
use crate::conn::input::Pulled;
use crate::conn::wire::Progress;
use crate::engine::scoreboard;
use crate::http::head::LIMIT_BLANK_LINES;
use crate::modules::debugging::mod_dumpio::{self, Mode};
use crate::os::clock::now_ms;
use crate::request::{Answer, Lane, Step, memo};

impl Task {
    pub(super) fn drain(&mut self) -> Option<Need> {
        match self.r.go_on() {
            Some(Answer::Wait(wait)) => return Some(self.wait_for(wait)),
            Some(Answer::NeedThread) => return Some(Need::Thread),
            _ => {}
        }
        if self.r.keepalive && !self.r.input.is_ended() {
            match self.r.pull_framed() {
                Ok(Pulled::Data(_)) => return None,
                Ok(Pulled::Wait) => {
                    let resolved = &self.r.server.resolved;
                    let inactive = now_ms() + resolved.timeout.as_millis() as u64;
                    let until = inactive.min(self.r.input_until().unwrap_or(inactive));
                    return Some(Need::Io { read: true, until, idle: false });
                }
                Ok(Pulled::End) => {}
                Ok(Pulled::Bad(_)) | Err(_) => self.r.keepalive = false,
            }
        }
        if self.r.keepalive && !self.skip_blank_lines() {
            self.r.keepalive = false;
        }
        if let Some(need) = self.finish_request() {
            return Some(need);
        }
        let over = !self.r.keepalive || self.stopping || self.refused;
        self.dump_end(over);
        if over {
            self.silent = self.r.client_is_done();
            self.state = State::End;
            return None;
        }
        let base = &self.r.connection.base_server.resolved;
        let timeout = self.r.server.keep_alive_timeout.unwrap_or(base.keep_alive_timeout);
        self.keep_alive_timeout = timeout.as_millis() as u64;
        let wire = self.r.input.wire.take();
        self.r.reset();
        // The next one may have been sent after this one was answered.
        memo::as_of_now();
        self.r.input.wire = wire;
        self.head.clear();
        self.state = State::Head;
        None
    }

    /// What Apache's filters see at the end of a request.
    fn dump_end(&mut self, over: bool) {
        let c = &self.r.connection;
        if c.dump.output {
            mod_dumpio::goes(c);
            mod_dumpio::mark(c, "EOR");
        }
        let next = self.r.input.wire.as_ref().and_then(|wire| wire.buffered().first());
        if !over && c.dump.input {
            mod_dumpio::asked(c, Mode::Speculative);
            if let Some(first) = next {
                mod_dumpio::came(c, &[*first]);
            }
        }
        // `ap_process_request` ends so, which event goes round.
        if (over || next.is_none()) && c.dump.output && self.r.runtime.mpm_name() == "prefork" {
            mod_dumpio::goes(c);
            mod_dumpio::mark(c, "FLUSH");
        }
        if over && c.dump.output {
            mod_dumpio::goes(c);
            mod_dumpio::mark(c, "FLUSH");
            mod_dumpio::mark(c, "EOC");
        }
    }

    /// Takes off the empty lines that have come behind a request, even those of a bare LF; false where there are too many:
    /// `ap_check_pipeline`.
    fn skip_blank_lines(&mut self) -> bool {
        let Some(wire) = self.r.input.wire.as_deref_mut() else { return false };
        for _ in 0..=LIMIT_BLANK_LINES {
            match wire.buffered() {
                [b'\n', ..] => wire.take(1),
                [b'\r', b'\n', ..] => wire.take(2),
                _ => return true,
            }
        }
        false
    }

    pub(super) fn end(&mut self) -> Option<Need> {
        let Some(wire) = self.r.input.wire.as_deref_mut() else { return Some(self.close()) };
        match wire.flush() {
            Ok(Progress::Done) => {}
            Ok(Progress::Blocked) => return self.wait_client(false),
            _ => return Some(self.close()),
        }
        if self.r.lane == Lane::Thread {
            // A client that sees the end may ask another process: this request stands before its next in the log.
            crate::log::writer::flush_lines();
        }
        if self.silent && wire.buffered().is_empty() && !wire.readable {
            // Whoever asked for the close sends nothing more (RFC 9112 9.6), so that no reset can overtake the reply.
            return Some(self.close());
        }
        if wire.stream.shutdown(std::net::Shutdown::Write).is_err() {
            return Some(self.close());
        }
        wire.readable = true;
        self.since = now_ms();
        self.state = State::Linger;
        None
    }

    /// The request is over: it is logged, which may need a thread.
    pub(super) fn finish_request(&mut self) -> Option<Need> {
        self.r.come_back();
        if self.r.log_transaction() == Step::NeedThread {
            return Some(Need::Thread);
        }
        self.requests += 1;
        self.begun = false;
        self.keepalives = self.r.keepalives;
        if self.r.lane == Lane::Thread {
            // The next read may block (prefork), and the line is not to wait for it.
            crate::log::writer::flush_lines();
        }
        self.bytes += self.r.bytes_in + self.r.bytes_out;
        if let Some((process, score)) = worker_score(self.row) {
            let start = self.r.request_micros() as u64;
            score.end_request(start, self.r.bytes_in + self.r.bytes_out, (self.requests as u32, self.bytes));
            // Asking the system is dearer than all the rest here; once a second is what a page can show.
            if scoreboard::is_extended() && LAST_CPU.replace(self.r.request_secs()) != self.r.request_secs() {
                process.cpu.update(nix::sys::resource::UsageWho::RUSAGE_SELF);
            }
        }
        None
    }

    pub(super) fn linger(&mut self) -> Option<Need> {
        let short = SHORT_LINGER.as_millis() as u64;
        let most = if self.short_linger || self.stopping { short } else { LINGER.as_millis() as u64 };
        let end = self.since + most;
        // Where a process waits for it, it does not wait for a client that is silent.
        let silent = if self.r.runtime.mpm_name() == "prefork" { short } else { most };
        loop {
            if now_ms() >= end {
                return Some(self.close());
            }
            let Some(wire) = self.r.input.wire.as_deref_mut() else { return Some(self.close()) };
            let buffered = wire.buffered().len();
            wire.take(buffered);
            match wire.fill() {
                Ok(Progress::Done) => {}
                Ok(Progress::Blocked) => {
                    wire.release();
                    let until = end.min(now_ms() + silent);
                    return Some(Need::Io { read: true, until, idle: false });
                }
                Ok(Progress::Closed) | Err(_) => return Some(self.close()),
            }
        }
    }
}
