//! Reading a head, and what becomes of one that is refused or does not come.

use super::{Need, State, Task};
use crate::conn::wire::Progress;
use crate::http::head::{Ended, Failed, Parsed, Unfinished};
use crate::modules::debugging::mod_dumpio;
use crate::modules::metadata::mod_remoteip::{self, Received};
use crate::os::clock::{now_ms, unix_micros};

impl Task {
    pub(super) fn read_head(&mut self) -> Option<Need> {
        loop {
            let r = &mut *self.r;
            let Some(wire) = r.input.wire.as_deref_mut() else { return Some(self.close()) };
            if r.connection.awaits_proxy_header() {
                match mod_remoteip::read_header(&r.connection, wire.buffered()) {
                    Received::Done(consumed) => wire.take(consumed),
                    Received::Part => {}
                    Received::Bad => return Some(self.close()),
                }
            }
            if !wire.buffered().is_empty() && !r.connection.awaits_proxy_header() {
                if !self.begun {
                    self.begun = true;
                    // The first request's time began with the connection.
                    if self.requests > 0 {
                        self.since = now_ms();
                    }
                    r.request_time = unix_micros();
                    r.keepalives = self.keepalives;
                }
                let options = r.connection.base_server.resolved.head.options(&r.runtime.methods);
                match self.head.parse(wire.buffered(), &mut r.headers_in, &options) {
                    Parsed::Complete(consumed) => {
                        if r.connection.dump.input {
                            mod_dumpio::lines(&r.connection, &wire.buffered()[..consumed], self.requests > 0);
                        }
                        wire.take(consumed);
                        r.bytes_in = consumed as u64;
                        match self.r.begin_request(&mut self.head) {
                            Ok(()) => {
                                self.show_request();
                                self.state = State::Run;
                            }
                            Err(failed) => self.refuse(failed),
                        }
                        return None;
                    }
                    Parsed::Failed(failed) => {
                        if r.connection.dump.input {
                            mod_dumpio::lines(&r.connection, wire.buffered(), self.requests > 0);
                        }
                        self.r.take_head(&self.head);
                        self.r.log_request_line();
                        self.refuse(failed);
                        return None;
                    }
                    Parsed::NeedMore => {}
                }
            }
            if !wire.is_flushed() {
                match wire.flush() {
                    Ok(Progress::Blocked) => return self.wait_client(false),
                    Ok(_) => {}
                    Err(_) => return Some(self.close()),
                }
                continue;
            }
            match wire.fill() {
                Ok(Progress::Done) => {}
                Ok(Progress::Blocked) => return self.wait_head(),
                Ok(Progress::Closed) => return self.head_ended(),
                Err(_) => return Some(self.close()),
            }
        }
    }

    pub(super) fn wait_head(&mut self) -> Option<Need> {
        let resolved = &self.r.connection.base_server.resolved;
        if self.begun || self.requests == 0 {
            let inactive = now_ms() + resolved.timeout.as_millis() as u64;
            let got = self.r.input.wire.as_ref().map_or(0, |w| w.buffered().len());
            let until = match &resolved.read_timeouts {
                Some(timeouts) => inactive.min(timeouts.header.until(self.since, got as u64)),
                None => inactive,
            };
            return Some(Need::Io { read: true, until, idle: false });
        }
        let until = now_ms() + self.keep_alive_timeout;
        if let Some(wire) = self.r.input.wire.as_deref_mut() {
            wire.release();
        }
        Some(Need::Io { read: true, until, idle: true })
    }

    pub(super) fn head_ended(&mut self) -> Option<Need> {
        let c = self.r.connection.clone();
        if c.dump.input {
            mod_dumpio::ended(&c);
        }
        if !self.begun {
            if c.dump.output {
                mod_dumpio::goes(&c);
                mod_dumpio::mark(&c, "FLUSH");
                mod_dumpio::mark(&c, "EOC");
            }
            return Some(self.close());
        }
        let buffered = self.r.input.wire.as_ref().map(|w| w.buffered().to_vec()).unwrap_or_default();
        let watched = self.r.connection.base_server.resolved.read_timeouts.is_some();
        let why = if watched { Ended::WatchedEof } else { Ended::Eof };
        match self.head.ended(why, &buffered) {
            Unfinished::Reply(failed) => {
                self.refuse(failed);
                None
            }
            Unfinished::Close(_) => Some(self.close()),
        }
    }

    /// A head that can't be served: its error is answered and, where what follows can't be told, the connection closed.
    pub(super) fn refuse(&mut self, failed: Failed) {
        self.refused = true;
        self.r.take_head(&self.head);
        for line in std::mem::take(&mut self.head.log) {
            self.r.log_line(&line);
        }
        if let Some(notes) = failed.notes {
            self.r.notes.set("error-notes", notes);
        }
        if failed.unusable_input {
            self.r.input.broken = true;
        } else {
            self.r.input.begin(self.head.framing);
        }
        self.state = State::Failed(failed.status);
    }
}
