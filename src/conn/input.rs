//! The request's body, as it comes in.
//!
//! Answers to `ap_http_filter` (framing, LimitRequestBody) and `ap_discard_request_body` of
//! `modules/http/http_filters.c`. Whoever wants the body pulls it; a reactor never waits for it with a thread.

use std::io;

use bytes::Bytes;

use super::wire::{Progress, Wire};
use crate::body::Wait;
use crate::filter::{Below, ChosenInput};
use crate::http::chunked::{BadChunk, Decoder};
use crate::http::fields::{self, Origin};
use crate::http::head::Framing;
use crate::http::method::Method;
use crate::http::status::{self, Status};
use crate::log::{Level, rerror, server_event, shown};
use crate::modules::core;
use crate::modules::debugging::mod_dumpio::{self, Mode};
use crate::os::clock::{Millis, now_ms};
use crate::request::{Answer, Request};
use crate::table::Table;

/// The state of a request's body. The connection's [`Wire`] lies here while a request is served.
#[derive(Default)]
pub struct Input {
    /// The connection, lent to the request.
    pub wire: Option<Box<Wire>>,
    framing: Framing,
    remaining: u64,
    decoder: Option<Decoder>,
    /// The trailers that came so far.
    trailers: Table,
    received: u64,
    ended: bool,
    /// When it was first asked for.
    begun: Option<Millis>,
    /// Bytes of it that came, with their framing.
    came: u64,
    /// The body can't be read on: the connection must close.
    pub broken: bool,
    /// Its input filters, from the handler to the client.
    pub filters: Vec<ChosenInput>,
    /// What an input filter waits for, if it isn't the client.
    pub elsewhere: Option<Wait>,
    /// What a handler that wants the whole body has of it so far.
    pub kept: Vec<u8>,
}

/// How much of a body Apache's handlers ask for at once, for who dumps it.
const ASKED: u64 = 8192;

/// A piece of a request body.
#[derive(Debug)]
pub enum Pulled {
    /// Data.
    Data(Bytes),
    /// Nothing has come yet: wait until the connection is readable, or for [`Input::elsewhere`].
    Wait,
    /// All of it has come.
    End,
    /// It is wrong, too large, or cut off.
    Bad(Status),
}

impl Input {
    /// How the body is framed, from the head.
    pub fn begin(&mut self, framing: Framing) {
        self.framing = framing;
        self.remaining = 0;
        self.ended = false;
        match framing {
            Framing::None => self.ended = true,
            Framing::Length(length) => {
                self.remaining = length;
                self.ended = length == 0;
            }
            Framing::Chunked => self.decoder = Some(Decoder::new()),
        }
    }

    /// True when the request has a body, even an empty one.
    pub fn has_body(&self) -> bool {
        self.framing != Framing::None
    }

    /// How long `Content-Length` says that the rest is.
    pub fn length(&self) -> u64 {
        self.remaining
    }

    /// True when all of it was read.
    pub fn is_ended(&self) -> bool {
        self.ended
    }
}

impl Request {
    /// The next piece of the body, through the input filters: `ap_get_brigade` of `r->input_filters`.
    #[inline]
    pub fn pull_input(&mut self) -> io::Result<Pulled> {
        if self.input.filters.is_empty() { self.pull_framed() } else { self.pull_filtered() }
    }

    fn pull_filtered(&mut self) -> io::Result<Pulled> {
        self.input.elsewhere = None;
        let mut filters = std::mem::take(&mut self.input.filters);
        let pulled = Below(&mut filters).pull(self);
        let added = std::mem::replace(&mut self.input.filters, filters);
        self.input.filters.extend(added);
        pulled
    }

    /// The next piece of the body as the client sent it, without its framing: `ap_http_filter`.
    pub(crate) fn pull_framed(&mut self) -> io::Result<Pulled> {
        if self.input.ended {
            return Ok(Pulled::End);
        }
        if self.input.broken {
            return Ok(Pulled::Bad(status::BAD_REQUEST));
        }
        // Backends have limits of their own.
        let limit = if self.proxyreq.is_some() { 0 } else { self.limit_request_body() };
        if self.input.begun.is_none() {
            self.input.begun = Some(now_ms());
            if let Framing::Length(length) = self.input.framing
                && limit > 0
                && length > limit
            {
                rerror!(
                    self,
                    Level::Info,
                    "http",
                    "AH01588",
                    "Requested content-length of {length} is larger than the configured limit of {limit}"
                );
                return Ok(self.bail_out(status::REQUEST_ENTITY_TOO_LARGE));
            }
            if self.expecting_100 && self.proto_num >= 1001 {
                if !status::is_success(self.status) {
                    // The client waits for a go-ahead that it won't get: nothing comes.
                    self.input.ended = true;
                    return Ok(Pulled::End);
                }
                self.expecting_100 = false;
                self.input.broken = !self.send_continue()?;
            }
        }
        if self.input_until().is_some_and(|until| now_ms() >= until) {
            rerror!(self, Level::Info, "reqtimeout", "AH01382", "Request body read timeout");
            self.input.broken = true;
            return Ok(Pulled::Bad(status::REQUEST_TIME_OUT));
        }
        // What is buffered may be the start of a line: then more of it must come, too.
        let mut starved = self.input.wire.as_ref().is_none_or(|wire| wire.buffered().is_empty());
        loop {
            let Some(wire) = self.input.wire.as_mut() else { return Ok(Pulled::End) };
            if starved {
                match wire.fill()? {
                    Progress::Done => {}
                    Progress::Blocked => return Ok(Pulled::Wait),
                    Progress::Closed => return Ok(self.cut_off()),
                }
            }
            if let Some(pulled) = self.decode(limit)? {
                return Ok(pulled);
            }
            starved = true;
        }
    }

    /// How long a body may be; 0: no limit (`ap_get_limit_req_body`).
    pub fn limit_request_body(&self) -> u64 {
        self.dir(&core::DIR).limit_request_body.unwrap_or(1 << 30)
    }

    /// Until when the body must have come, by `RequestReadTimeout` and by how fast it comes.
    pub fn input_until(&self) -> Option<Millis> {
        let begun = self.input.begun?;
        // A connection whose own server has no limits keeps none.
        self.connection.base_server.resolved.read_timeouts.as_ref()?;
        let limits = self.server.resolved.read_timeouts.as_ref()?;
        (self.method != Method::CONNECT).then(|| limits.body.until(begun, self.input.came))
    }

    fn decode(&mut self, limit: u64) -> io::Result<Option<Pulled>> {
        let options = self.server.resolved.head.clone();
        let runtime = self.runtime.clone();
        let input = &mut self.input;
        let Some(wire) = input.wire.as_mut() else { return Ok(Some(Pulled::End)) };
        let Some(decoder) = input.decoder.as_mut() else {
            let part = usize::try_from(input.remaining).unwrap_or(usize::MAX).min(wire.buffered().len());
            let data = Bytes::copy_from_slice(&wire.buffered()[..part]);
            if self.connection.dump.input {
                mod_dumpio::asked(&self.connection, Mode::ReadBytes(input.remaining.min(ASKED)));
                mod_dumpio::came(&self.connection, &data);
            }
            wire.take(part);
            self.bytes_in += part as u64;
            let input = &mut self.input;
            input.came += part as u64;
            input.remaining -= part as u64;
            input.received += part as u64;
            input.ended = input.remaining == 0;
            return Ok(Some(Pulled::Data(data)));
        };
        let trailers = &mut input.trailers;
        let decoded = match decoder.decode(wire.buffered(), trailers, &options.options(&runtime.methods)) {
            Ok(decoded) => decoded,
            Err(bad) => return Ok(Some(self.bad_chunk(bad))),
        };
        let data = Bytes::copy_from_slice(decoded.data);
        let (consumed, end) = (decoded.consumed, decoded.end);
        if self.connection.dump.input {
            mod_dumpio::lines(&self.connection, &wire.buffered()[..consumed - data.len()], false);
            if !data.is_empty() {
                mod_dumpio::asked(&self.connection, Mode::ReadBytes(data.len() as u64));
                mod_dumpio::came(&self.connection, &data);
            }
        }
        wire.take(consumed);
        self.bytes_in += consumed as u64;
        self.input.came += consumed as u64;
        if end && !self.input.trailers.is_empty() {
            let trailers = std::mem::take(&mut self.input.trailers);
            if self.server.resolved.merge_trailers {
                self.headers_in.extend_from(&trailers);
            }
            self.trailers_in = trailers;
        }
        let input = &mut self.input;
        input.received += data.len() as u64;
        input.ended = end;
        if limit > 0 && input.received > limit {
            let received = input.received;
            rerror!(
                self,
                Level::Info,
                "http",
                "AH01591",
                "Read content length of {received} is larger than the configured limit of {limit}"
            );
            return Ok(Some(self.bail_out(status::REQUEST_ENTITY_TOO_LARGE)));
        }
        Ok(match (data.is_empty(), end) {
            (false, _) => Some(Pulled::Data(data)),
            (true, true) => Some(Pulled::End),
            (true, false) => None,
        })
    }

    /// A size or trailers that are wrong.
    fn bad_chunk(&mut self, bad: BadChunk) -> Pulled {
        for line in &bad.log {
            self.log_line(line);
        }
        if let Some(notes) = bad.notes {
            self.notes.set("error-notes", notes);
        }
        if bad.in_trailers {
            // The error of a reader, not a bucket that goes out.
            self.input.broken = true;
            return Pulled::Bad(bad.status);
        }
        self.bail_out(bad.status)
    }

    /// The client's end came before that of the body.
    fn cut_off(&mut self) -> Pulled {
        self.input.broken = true;
        let watched = self.input_until().is_some();
        let input = &mut self.input;
        if let (Some(decoder), Some(wire)) = (&mut input.decoder, &input.wire)
            && let Some(bad) = decoder.end_of_input(wire.buffered(), watched)
        {
            return self.bad_chunk(bad);
        }
        Pulled::Bad(status::BAD_REQUEST)
    }

    /// `HTTP/1.1 100 Continue`, before the body is asked for. False when the client doesn't take it at once.
    fn send_continue(&mut self) -> io::Result<bool> {
        let Some(wire) = self.input.wire.as_mut() else { return Ok(true) };
        wire.push_bytes(b"HTTP/1.1 100 Continue\r\n\r\n");
        Ok(wire.flush()? == Progress::Done)
    }

    /// What a handler answers that must wait for more of the body.
    pub fn wait_for_input(&self) -> Answer {
        let timeout = self.server.resolved.timeout;
        match &self.input.wire {
            Some(_) if self.input.elsewhere.is_some() => {
                self.input.elsewhere.map_or(Answer::Status(status::BAD_REQUEST), Answer::Wait)
            }
            Some(wire) => Answer::Wait(Wait { fd: wire.fd(), read: true, timeout, kept: None }),
            None => Answer::Status(status::BAD_REQUEST),
        }
    }

    /// An error of the framing or a limit: `bail_out_on_error`. The error goes through the output filters as a bucket of
    /// its own, so that its page has no length.
    fn bail_out(&mut self, code: Status) -> Pulled {
        self.input.broken = true;
        self.length_unknown = true;
        Pulled::Bad(code)
    }

    /// Reads the rest of the body and forgets it: `ap_discard_request_body`. An answer is to be passed on by the handler,
    /// which is then asked again.
    #[inline]
    pub fn discard_request_body(&mut self) -> Option<Answer> {
        // Filters have their say about a body, even one whose last bytes have come.
        let ended = self.input.ended && (self.input.filters.is_empty() || !self.input.has_body());
        if ended || self.is_subrequest || self.input.broken || self.notes.contains("close") {
            return None;
        }
        self.read_and_forget()
    }

    fn read_and_forget(&mut self) -> Option<Answer> {
        loop {
            match self.pull_input() {
                Ok(Pulled::Data(_)) => {}
                Ok(Pulled::Wait) => return Some(self.wait_for_input()),
                Ok(Pulled::End) => return None,
                Ok(Pulled::Bad(code)) => return Some(Answer::Status(code)),
                Err(_) => {
                    self.input.broken = true;
                    return Some(Answer::Status(status::BAD_REQUEST));
                }
            }
        }
    }

    /// Logs what the HTTP parser noted.
    pub(crate) fn log_line(&mut self, line: &fields::LogLine) {
        let level = match line.level {
            fields::Level::Warning => Level::Warn,
            fields::Level::Info => Level::Info,
            fields::Level::Debug => Level::Debug,
        };
        let ah = if line.ah == 0 { String::new() } else { format!("AH{:05}", line.ah) };
        let text = shown(&line.text);
        let module = match line.origin {
            Origin::Core => "core",
            Origin::Http => "http",
            Origin::Server => return server_event(level, "core", &ah, &text),
        };
        if line.error == 0 {
            rerror!(self, level, module, &ah, "{text}");
        } else {
            let error = format!("({}){}", line.error, apr_error_text(line.error));
            rerror!(self, level, module, &ah, err = io::Error::other(error), "{text}");
        }
    }
}

/// `apr_strerror` of the few codes that the parser reports.
fn apr_error_text(code: i32) -> String {
    match code {
        fields::APR_EGENERAL => "Internal error (specific information not available)".to_owned(),
        fields::APR_EOF => "End of file found".to_owned(),
        code => {
            let full = io::Error::from_raw_os_error(code).to_string();
            full.split(" (os error").next().unwrap_or_default().to_owned()
        }
    }
}
