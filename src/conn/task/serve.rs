//! A request in its phases, its handler, its end with an error; then the head of its reply.

use super::{Need, State, Task};
use crate::body::{Content, Wait};
use crate::http::status;
use crate::modules::debugging::mod_dumpio;
use crate::os::clock::now_ms;
use crate::request::die::Death;
use crate::request::phases::Outcome;
use crate::request::{Answer, memo};

impl Task {
    pub(super) fn run(&mut self) -> Option<Need> {
        if self.r.is_fresh() {
            if !self.r.runtime.hooks.aheads().is_empty() {
                let runtime = self.r.runtime.clone();
                runtime.hooks.aheads().iter().for_each(|ahead| ahead(&mut self.r));
            }
            if !self.r.connection.dump.output && self.answer_again() {
                return None;
            }
        }
        let need = self.run_phases();
        let content = match &self.state {
            State::Reply { content, chunked: false, .. } if need.is_none() => Some(content),
            _ => None,
        };
        memo::end(&mut self.r, content);
        need
    }

    /// Gives a reply that was made before.
    fn answer_again(&mut self) -> bool {
        let r = &mut *self.r;
        let Some(wire) = r.input.wire.as_deref_mut().filter(|wire| !wire.is_holding()) else { return false };
        let mut head = wire.take_head();
        let before = head.len();
        let again = memo::recall(r, self.stopping, &mut head);
        r.bytes_out = (head.len() - before) as u64;
        let Some(wire) = r.input.wire.as_deref_mut() else { return false };
        wire.head = head;
        let Some(again) = again else { return false };
        wire.sendfile = again.sendfile;
        self.state = State::Reply { content: again.content, chunked: false, done: false };
        true
    }

    fn run_phases(&mut self) -> Option<Need> {
        loop {
            let answer = match self.r.process_request_internal() {
                Outcome::NeedThread => return Some(Need::Thread),
                // Even 200, which `Redirect 200` gives, is answered with a page.
                Outcome::Status(code) => {
                    self.state = State::Failed(code);
                    return None;
                }
                Outcome::Done => match self.r.responder {
                    Some(responder) => responder(&mut self.r),
                    // Nothing is sent before the request's body has come.
                    None => {
                        self.state = State::Finish(Content::Empty);
                        return None;
                    }
                },
                Outcome::Serve => self.r.invoke_handler(),
            };
            match answer {
                Answer::NeedThread => return Some(Need::Thread),
                Answer::Wait(wait) => return Some(self.wait_for(wait)),
                Answer::Body(content) => self.begin_reply(content),
                Answer::Status(code) => self.state = State::Failed(code),
                Answer::Redirect(_) | Answer::RedirectHandler(_) if self.r.recursion_limit_exceeded() => {
                    self.state = State::Failed(status::INTERNAL_SERVER_ERROR);
                    return None;
                }
                Answer::RedirectHandler(uri) => {
                    let media_type = self.r.content_type.clone();
                    self.r.internal_redirect(&uri);
                    self.r.content_type = media_type;
                    continue;
                }
                Answer::Redirect(uri) => {
                    self.r.internal_redirect(&uri);
                    continue;
                }
                Answer::Declined => self.state = State::Failed(status::NOT_FOUND),
            }
            return None;
        }
    }

    pub(super) fn wait_for(&mut self, wait: Wait) -> Need {
        let own = self.r.input.wire.as_ref().map(|w| w.fd());
        let until = now_ms() + wait.timeout.as_millis() as u64;
        if own == Some(wait.fd) {
            let until = if wait.read { until.min(self.r.input_until().unwrap_or(until)) } else { until };
            Need::Io { read: wait.read, until, idle: false }
        } else {
            self.elsewhere = true;
            Need::Fd { fd: wait.fd, read: wait.read, until, kept: wait.kept }
        }
    }

    pub(super) fn die(&mut self, code: u16, recursive: u16) -> Option<Need> {
        match self.r.die(code, recursive) {
            Death::Reply(content) => self.state = State::Finish(content),
            Death::Redirected => self.state = State::Run,
            Death::NeedThread => return Some(Need::Thread),
        }
        None
    }

    /// Reads the request's body before an error's page goes out: what is wrong with it is an error of its own.
    pub(super) fn finish(&mut self) -> Option<Need> {
        let bailed_out = self.r.length_unknown;
        if !status::drops_connection(self.r.status) {
            match self.r.discard_request_body() {
                Some(Answer::Wait(wait)) => return Some(self.wait_for(wait)),
                Some(Answer::Status(code)) if !bailed_out => {
                    // The error's page takes the place of the one that was not sent yet (`end_output_stream`).
                    self.r.length_unknown = true;
                    self.state = State::FailedAgain(code);
                    return None;
                }
                _ => {}
            }
        }
        let State::Finish(content) = &mut self.state else { return None };
        let content = std::mem::take(content);
        self.begin_reply(content);
        None
    }

    /// Begins a reply that waited for a thread.
    pub(super) fn begin(&mut self) -> Option<Need> {
        if self.r.filters_need_thread && self.r.needs_thread() {
            return Some(Need::Thread);
        }
        let State::Begin(content) = &mut self.state else { return None };
        let content = std::mem::take(content);
        self.begin_reply(content);
        None
    }

    pub(super) fn begin_reply(&mut self, content: Content) {
        let r = &mut self.r;
        if r.filters_need_thread && r.needs_thread() {
            self.state = State::Begin(content);
            return;
        }
        let of_subs = r.rewritten.shared().map(|mut all| std::mem::take(&mut *all));
        for (_, cookie) in of_subs.into_iter().flatten() {
            r.err_headers_out.add("Set-Cookie", cookie);
        }
        let content = r.apply_output_filters(content);
        let content = crate::conn::byterange::wrap(r, content);
        if let Some(code) = r.error_bucket.take() {
            r.give_up_reply(&content, self.stopping);
            self.state = State::FailedAgain(code);
            return;
        }
        let content = match r.check_headers() {
            true => content,
            false => match r.forget_headers(&content) {
                Some(code) => {
                    self.state = State::FailedAgain(code);
                    return;
                }
                None => Content::Empty,
            },
        };
        // The head is written where the wire takes it from, unless something still waits before it.
        let waiting = r.input.wire.as_ref().is_some_and(|w| w.is_holding());
        let mut out = match r.input.wire.as_deref_mut() {
            Some(wire) if !waiting => wire.take_head(),
            _ => Vec::new(),
        };
        let before = out.len();
        let chunked = r.reply_head(&content, self.stopping, &mut out);
        r.bytes_out = (out.len() - before) as u64;
        let dumped = if r.connection.dump.output { out[before..].to_vec() } else { Vec::new() };
        let sendfile = r.dir(&crate::modules::core::DIR).enable_sendfile != Some(false);
        let no_body = r.header_only && !r.assbackwards || status::is_header_only(r.status);
        if let Some(wire) = r.input.wire.as_deref_mut() {
            wire.sendfile = sendfile;
            wire.high_water = r.server.resolved.flush_max_threshold;
            if waiting {
                wire.push_bytes(&out);
            } else {
                wire.head = out;
            }
        }
        if r.connection.dump.output {
            mod_dumpio::goes(&r.connection);
            mod_dumpio::sent(&r.connection, "HEAP", &dumped);
            if no_body {
                mod_dumpio::mark(&r.connection, "EOS");
            } else {
                mod_dumpio::goes(&r.connection);
            }
        }
        let content = if no_body { Content::Empty } else { content };
        self.state = State::Reply { content, chunked, done: no_body };
    }
}
