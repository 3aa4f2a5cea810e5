//! One request and its reply, step by step: the steps of `proxy_fcgi_handler`, each of which may have to wait.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::NAME;
use super::params::{self, Stop};
use super::stdin::{Stdin, reason, wait_for_client};
use super::talk::{Event, Failure, Talk};
use crate::body::{self, Body, Chunk, Pull};
use crate::http::status::{self, Status};
use crate::log::{Level, rerror};
use crate::modules::proxy::mod_proxy::DIR;
use crate::modules::proxy::mod_proxy::connect;
use crate::modules::proxy::mod_proxy::handler::Target;
use crate::modules::proxy::mod_proxy::pool::Lease;
use crate::modules::proxy::mod_proxy::reach::{Reach, Unreached};
use crate::modules::proxy::mod_proxy::tunnel::Watch;
use crate::os::clock::{Millis, now_ms};
use crate::request::ongoing::Ongoing;
use crate::request::script_header::{self, LONGEST_LINE, Line};
use crate::request::{Answer, Request};

enum Stage {
    Determine,
    Spool,
    Connect,
    Params(Lease),
    Head(Box<Talk>),
    /// What follows is not for the client.
    Discard(Box<Talk>, Discarded),
}

/// What the request answers when the backend is done.
#[derive(Clone, Copy)]
enum Discarded {
    /// A page of ours about this.
    Page(Status),
    /// The head alone.
    Head,
}

/// A request and its reply.
pub(super) struct Exchange {
    target: Arc<Target>,
    reach: Reach,
    stage: Stage,
    stdin: Stdin,
    /// Until when it is waited for more of the body that is kept first.
    until: Option<Millis>,
    watch: Watch,
    reusable: bool,
    /// What came of the head.
    head: Vec<u8>,
    /// What a look for its end has seen of it.
    seen: HeadEnd,
}

/// Looks for the empty line (`handle_headers`).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum HeadEnd {
    #[default]
    Reading,
    Cr,
    CrLf,
    CrLfCr,
    Lf,
}

impl HeadEnd {
    /// How many bytes of `text` belong to the head, if it ends here.
    fn find(&mut self, text: &[u8]) -> Option<usize> {
        for (index, &c) in text.iter().enumerate() {
            *self = match (c, *self) {
                (b'\r', HeadEnd::CrLf) => HeadEnd::CrLfCr,
                (b'\r', _) => HeadEnd::Cr,
                (b'\n', HeadEnd::Lf | HeadEnd::CrLfCr) => return Some(index + 1),
                (b'\n', HeadEnd::Cr) => HeadEnd::CrLf,
                (b'\n', _) => HeadEnd::Lf,
                _ => HeadEnd::Reading,
            };
        }
        None
    }
}

impl Ongoing for Exchange {
    fn go_on(&mut self, r: &mut Request) -> Answer {
        loop {
            let stage = std::mem::replace(&mut self.stage, Stage::Determine);
            let step = match stage {
                Stage::Determine => self.determine(r),
                Stage::Spool => self.spool(r),
                Stage::Connect => self.connect(r),
                Stage::Params(lease) => self.params(r, lease),
                Stage::Head(talk) => self.head(r, talk),
                Stage::Discard(talk, discarded) => self.discard(r, talk, discarded),
            };
            match step {
                Ok(stage) => self.stage = stage,
                Err(answer) => return answer,
            }
        }
    }
}

type Step = Result<Stage, Answer>;

/// The line in the log about what failed.
fn log_failure(r: &Request, failure: &Failure) {
    let port = match r.server_port() {
        port if port == r.default_port() => String::new(),
        port => format!(":{port}"),
    };
    let Failure { number, err, what, .. } = failure;
    let text = match *number {
        "AH01073" => format!("Failed Writing Request to {port}:"),
        "AH01074" => format!("Failed writing Environment to {port}:"),
        _ if what.is_empty() => format!("Error dispatching request to {port}: "),
        _ => format!("Error dispatching request to {port}: ({what})"),
    };
    rerror!(r, Level::Error, NAME, number, err = err, "{text}");
}

impl Exchange {
    pub(super) fn new(target: Arc<Target>) -> Exchange {
        Exchange {
            reach: Reach::new("FCGI", target.clone()),
            target,
            stage: Stage::Determine,
            stdin: Stdin::default(),
            until: None,
            watch: Watch::default(),
            reusable: false,
            head: Vec::new(),
            seen: HeadEnd::default(),
        }
    }

    fn determine(&mut self, r: &mut Request) -> Step {
        self.reach.determine(r)?;
        let chunked = r.headers_in.contains("Transfer-Encoding");
        if chunked {
            r.headers_in.unset("Content-Length");
        }
        self.stdin = Stdin::new(r);
        self.stdin.prefetch(r).map_err(|code| self.bad_body(r, "AH01095", "prefetch", code))?;
        let length = r.headers_in.contains("Content-Length");
        if self.stdin.is_ended() {
            if length || chunked || self.stdin.count() > 0 {
                r.headers_in.set("Content-Length", self.stdin.count().to_string());
                r.headers_in.unset("Transfer-Encoding");
            }
        } else if !(length && r.input.filters.is_empty()) && r.subprocess_env.contains("proxy-sendcl") {
            return Ok(Stage::Spool);
        }
        Ok(Stage::Connect)
    }

    fn spool(&mut self, r: &mut Request) -> Step {
        let before = self.stdin.count();
        let spooled = self.stdin.spool(r);
        if self.stdin.count() != before {
            self.until = None;
        }
        match spooled {
            Ok(true) => {
                r.headers_in.set("Content-Length", self.stdin.count().to_string());
                r.headers_in.unset("Transfer-Encoding");
                Ok(Stage::Connect)
            }
            Ok(false) => match wait_for_client(r) {
                Some(wait) => {
                    let now = now_ms();
                    let until = *self.until.get_or_insert(now + wait.timeout.as_millis() as Millis);
                    if now >= until {
                        r.input.broken = true;
                        return Err(self.bad_body(r, "AH02608", "read", status::REQUEST_TIME_OUT));
                    }
                    self.stage = Stage::Spool;
                    let timeout = Duration::from_millis(until - now);
                    match self.watch.wait(&[(wait.fd, wait.read)], timeout) {
                        Ok(wait) => Err(Answer::Wait(wait)),
                        Err(_) => Err(Answer::Status(status::INTERNAL_SERVER_ERROR)),
                    }
                }
                None => Err(Answer::Status(status::BAD_REQUEST)),
            },
            Err(code) => Err(self.bad_body(r, "AH02608", "read", code)),
        }
    }

    fn bad_body(&self, r: &mut Request, number: &str, what: &str, code: Status) -> Answer {
        let (backend, client) = (self.reach.backend(), r.connection.client_ip.clone());
        let text = format!("{what} request body failed to {backend} from {client} ()");
        rerror!(r, Level::Error, "proxy", number, err = reason(r, code), "{text}");
        Answer::Status(code)
    }

    fn connect(&mut self, r: &mut Request) -> Step {
        // A backend need not be made for several requests by one connection: only where the configuration says so.
        self.reusable = self.target.worker.params.disable_reuse == Some(false)
            && self.target.worker.keeps_connections()
            && !r.subprocess_env.contains("proxy-nokeepalive");
        match self.reach.connect(r) {
            Ok(lease) => Ok(Stage::Params(lease)),
            Err(Unreached::Answer(answer)) => {
                self.stage = Stage::Connect;
                Err(answer)
            }
            Err(Unreached::Failed) => {
                let host = &self.reach.peer.hostname;
                rerror!(r, Level::Error, NAME, "AH01079", "failed to make connection to backend: {host}");
                Err(Answer::Status(status::SERVICE_UNAVAILABLE))
            }
        }
    }

    fn params(&mut self, r: &mut Request, mut lease: Lease) -> Step {
        let mut out = lease.conn.as_mut().map(|conn| std::mem::take(&mut conn.output)).unwrap_or_default();
        out.clear();
        match params::write(r, self.reusable, &mut out) {
            Ok(()) => {}
            Err(Stop::NeedThread) => {
                self.stage = Stage::Params(lease);
                return Err(Answer::NeedThread);
            }
            Err(Stop::Failed) => {
                let err = io::Error::other("(20014)Internal error (specific information not available)");
                let code = status::SERVICE_UNAVAILABLE;
                log_failure(r, &Failure { number: "AH01074", err, what: "", code });
                return Err(Answer::Status(code));
            }
        }
        let timeout = connect::timeout(r, &self.target.worker);
        Ok(Stage::Head(Box::new(Talk::new(lease, std::mem::take(&mut self.stdin), out, timeout))))
    }

    /// Until the head is there.
    fn head(&mut self, r: &mut Request, mut talk: Box<Talk>) -> Step {
        loop {
            match talk.next(r) {
                Ok(Event::Wait(wait)) => {
                    self.stage = Stage::Head(talk);
                    return Err(Answer::Wait(wait));
                }
                Ok(Event::Stdout(text)) => match self.seen.find(&text) {
                    Some(end) => {
                        self.head.extend_from_slice(&text[..end]);
                        return self.reply(r, talk, text.slice(end..));
                    }
                    None => self.head.extend_from_slice(&text),
                },
                // What has come of a head is sent as it is.
                Ok(Event::StdoutEnd) => {
                    let text = Bytes::from(std::mem::take(&mut self.head));
                    return Err(content(talk, text, true, self.reusable).answer(r));
                }
                Ok(Event::End) => {
                    talk.release(self.reusable);
                    return Err(Answer::Body(body::Content::Empty));
                }
                Err(failure) => {
                    log_failure(r, &failure);
                    return Err(Answer::Status(failure.code));
                }
            }
        }
    }

    /// The head is there, and what stands behind it in the same record.
    fn reply(&mut self, r: &mut Request, talk: Box<Talk>, begun: Bytes) -> Step {
        let text = std::mem::take(&mut self.head);
        let (mut at, mut behind) = (0, 0);
        // A head that is wrong is shown by what stands last.
        let mut line = || match next_line(&text, &mut at) {
            Line::End => next_line(&begun, &mut behind),
            line => line,
        };
        let scanned = script_header::scan(r, NAME, None, &mut line);
        if !r.subprocess_env.contains("ap_trust_cgilike_cl") {
            r.headers_out.unset("Content-Length");
        }
        r.headers_out.unset("Transfer-Encoding");
        if let Err(code) = scanned {
            r.status = code;
            if matches!(code, status::NOT_MODIFIED | status::PRECONDITION_FAILED) {
                return Ok(Stage::Discard(talk, Discarded::Head));
            }
            rerror!(r, Level::Error, NAME, "AH01070", "Error parsing script headers");
            let err = io::Error::from_raw_os_error(nix::errno::Errno::EINVAL as i32);
            log_failure(r, &Failure { number: "AH01075", err, what: "", code });
            return Err(Answer::Body(body::Content::Empty));
        }
        if r.dir(&DIR).should_override(r.status) && r.is_initial() {
            let code = r.status;
            r.status = status::OK;
            return Ok(Stage::Discard(talk, Discarded::Page(code)));
        }
        Err(content(talk, begun, false, self.reusable).answer(r))
    }

    fn discard(&mut self, r: &mut Request, mut talk: Box<Talk>, discarded: Discarded) -> Step {
        loop {
            match talk.next(r) {
                Ok(Event::Wait(wait)) => {
                    self.stage = Stage::Discard(talk, discarded);
                    return Err(Answer::Wait(wait));
                }
                Ok(Event::Stdout(_) | Event::StdoutEnd) => continue,
                Ok(Event::End) => talk.release(self.reusable),
                Err(failure) => log_failure(r, &failure),
            }
            return Err(match discarded {
                Discarded::Page(code) => Answer::Status(code),
                Discarded::Head => Answer::Body(body::Content::Empty),
            });
        }
    }
}

/// The next line of a head, without CRs: `getsfunc_BRIGADE`.
fn next_line(text: &[u8], at: &mut usize) -> Line {
    let mut line = Vec::new();
    for &c in &text[*at..] {
        *at += 1;
        match c {
            b'\n' => return Line::Text(line),
            b'\r' => {}
            c => line.push(c),
        }
        if line.len() == LONGEST_LINE {
            return Line::Text(line);
        }
    }
    if line.is_empty() { Line::End } else { Line::Rest(line) }
}

/// The content of a reply, pulled as the client takes it.
struct Content {
    talk: Box<Talk>,
    begun: VecDeque<Bytes>,
    /// The backend has ended it; what follows all the same is not sent.
    over: bool,
    /// The backend is done, or can't be understood.
    done: bool,
    broken: bool,
    reusable: bool,
}

fn content(talk: Box<Talk>, begun: Bytes, over: bool, reusable: bool) -> Content {
    let begun = Some(begun).filter(|begun| !begun.is_empty()).into_iter().collect();
    Content { talk, begun, over, done: false, broken: false, reusable }
}

impl Content {
    /// The reply: at once where all of it has come by now, and then the connection is free.
    fn answer(mut self, r: &mut Request) -> Answer {
        // Apache hands on what comes record by record: only content that is none has a known length.
        let mut length_unknown = !self.begun.is_empty() && !self.over;
        loop {
            match self.talk.said(r) {
                Ok(Some(Event::Stdout(text))) if !self.over => {
                    length_unknown = true;
                    self.begun.push_back(text);
                }
                Ok(Some(Event::StdoutEnd)) => self.over = true,
                Ok(Some(Event::End)) => {
                    self.talk.release(self.reusable);
                    self.done = true;
                    break;
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(failure) => {
                    self.broke(r, &failure);
                    break;
                }
            }
        }
        r.length_unknown |= length_unknown;
        if self.done && !self.broken && self.begun.len() <= 1 {
            let text = self.begun.pop_front();
            return Answer::Body(text.map_or(body::Content::Empty, body::Content::Bytes));
        }
        Answer::Body(body::Content::Stream(Box::new(self)))
    }

    /// It breaks off: what the client has by now is all that it gets.
    fn broke(&mut self, r: &mut Request, failure: &Failure) {
        log_failure(r, failure);
        r.keepalive = false;
        self.talk.release(false);
        (self.done, self.broken) = (true, true);
    }
}

impl Body for Content {
    fn pull(&mut self, r: &mut Request) -> io::Result<Pull> {
        loop {
            if let Some(begun) = self.begun.pop_front() {
                return Ok(Pull::Chunk(Chunk::Bytes(begun)));
            }
            if self.broken {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if self.done {
                return Ok(Pull::End(None));
            }
            match self.talk.next(r) {
                Ok(Event::Stdout(text)) if !self.over => return Ok(Pull::Chunk(Chunk::Bytes(text))),
                Ok(Event::Stdout(_)) => {}
                Ok(Event::StdoutEnd) => self.over = true,
                Ok(Event::End) => {
                    self.talk.release(self.reusable);
                    self.done = true;
                }
                Ok(Event::Wait(wait)) => return Ok(Pull::Wait(wait)),
                Err(failure) => {
                    self.broke(r, &failure);
                    return Ok(Pull::Flush);
                }
            }
        }
    }

    fn len(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_end() {
        let end = |text: &str| HeadEnd::default().find(text.as_bytes());
        assert_eq!(end("A: b\r\n\r\nbody"), Some(8));
        assert_eq!(end("A: b\n\nbody"), Some(6));
        assert_eq!(end("A: b\r\n\nbody"), None);
        assert_eq!(end("A: b\n\r\nbody"), None);
        let mut parts = HeadEnd::default();
        assert_eq!(parts.find(b"A: b\r\n\r"), None);
        assert_eq!(parts.find(b"\nbody"), Some(1));
    }
}
