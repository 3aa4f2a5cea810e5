//! Asks the schemes: directly, or by way of a remote proxy (`proxy_handler`).

use std::sync::Arc;

use super::errors::proxyerror;
use super::worker::{Kinds, Worker, find};
use super::{SERVER, canon, forward};
use crate::http::method::Method;
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::modules::core::Trace;
use crate::request::ongoing::Ongoing;
use crate::request::{Answer, ProxyReq, Request, Step, memo};

/// What a scheme is asked for.
pub struct Target {
    /// The worker for it.
    pub worker: Arc<Worker>,
    /// The URL, in canonical form.
    pub url: Vec<u8>,
    /// The remote proxy to ask in place of the backend: name and port.
    pub proxy: Option<(String, u16)>,
}

/// What a scheme says to a request.
pub enum Handled {
    /// Not mine.
    Declined,
    /// An error of the request itself.
    Status(u16),
    /// It goes on with this.
    Begun(Box<dyn Ongoing>),
}

/// A scheme's handler (`proxy_hook_scheme_handler`).
pub type SchemeHandler = fn(&mut Request, &Arc<Target>) -> Handled;

pub(super) fn handler(r: &mut Request) -> Answer {
    let by_handler = r.handler.as_deref().is_some_and(|handler| handler.starts_with("proxy:"));
    if r.proxyreq.is_none() && by_handler {
        let before = r.filename.clone();
        let mut filename = r.handler.as_deref().unwrap_or_default().as_bytes().to_vec();
        filename.extend_from_slice(&before);
        r.filename = filename.into();
        r.proxyreq = Some(ProxyReq::Reverse);
        match canon::canon_url(r) {
            Step::Ok => {}
            other => {
                r.filename = before;
                r.proxyreq = None;
                return if let Step::Status(code) = other { Answer::Status(code) } else { Answer::Declined };
            }
        }
    } else if r.proxyreq.is_none() || !r.filename.starts_with(b"proxy:") {
        return Answer::Declined;
    }
    memo::refuse();
    let url = r.filename[6..].to_vec();
    let Some(colon) = url.iter().position(|&c| c == b':') else {
        rerror!(r, Level::Debug, "proxy", "AH01141", "proxy_handler no URL in {}", r.filename);
        return Answer::Status(status::BAD_REQUEST);
    };
    let Some(is_direct) = forward::is_direct(r) else { return Answer::NeedThread };
    if let Some(answer) = max_forwards(r).or_else(|| trace(r)) {
        return answer;
    }
    let server = r.server.clone();
    if let Some(domain) = &server.conf.get(&SERVER).domain
        && forward::with_domain(r, domain)
    {
        return Answer::Status(forward::NEEDS_DOMAIN);
    }
    let remotes = if is_direct { usize::MAX } else { 0 };
    r.begin_ongoing(Proxying {
        scheme: url[..colon].to_vec(),
        url,
        next_remote: remotes,
        by_remote: false,
        inner: None,
    })
}

/// One fewer proxy may follow.
fn max_forwards(r: &mut Request) -> Option<Answer> {
    let left = match r.headers_in.get("Max-Forwards") {
        None => r.server_conf(&SERVER).max_forwards.unwrap_or(-1),
        Some(text) => {
            let number =
                std::str::from_utf8(text).ok().and_then(|text| text.trim_start().parse::<i64>().ok());
            match number.filter(|&number| number >= 0 && number != i64::MAX) {
                None => {
                    let text = format!("Max-Forwards value '{}' could not be parsed", shown(text));
                    rerror!(r, Level::Warn, "proxy", "AH10188", "{text}");
                    let reason = b"Max-Forwards request header could not be parsed";
                    return Some(Answer::Status(proxyerror(r, status::BAD_REQUEST, reason)));
                }
                Some(0) => {
                    return Some(match r.method {
                        // The client means us.
                        Method::TRACE | Method::OPTIONS => {
                            r.proxyreq = None;
                            crate::modules::http_core::answer_for_itself(r)
                        }
                        _ => {
                            let reason = b"Max-Forwards has reached zero - proxy loop?";
                            Answer::Status(proxyerror(r, status::BAD_REQUEST, reason))
                        }
                    });
                }
                Some(number) => number - 1,
            }
        }
    };
    if left >= 0 {
        r.headers_in.set("Max-Forwards", left.to_string());
    }
    None
}

fn trace(r: &mut Request) -> Option<Answer> {
    if r.method != Method::TRACE {
        return None;
    }
    if r.server.resolved.trace != Trace::Off {
        return None;
    }
    let text = "TRACE forbidden by server configuration";
    r.notes.set("error-notes", text);
    r.notes.set("verbose-error-to", "*");
    rerror!(r, Level::Error, "proxy", "AH01139", "{text}");
    Some(Answer::Status(status::METHOD_NOT_ALLOWED))
}

/// A request that is being proxied.
struct Proxying {
    scheme: Vec<u8>,
    url: Vec<u8>,
    /// Which of the remote proxies is looked at next.
    next_remote: usize,
    /// The scheme asks a remote proxy.
    by_remote: bool,
    inner: Option<Box<dyn Ongoing>>,
}

impl Ongoing for Proxying {
    fn go_on(&mut self, r: &mut Request) -> Answer {
        loop {
            let Some(inner) = &mut self.inner else {
                match self.next(r) {
                    Some(answer) => return answer,
                    None => continue,
                }
            };
            let answer = inner.go_on(r);
            match answer {
                Answer::Wait(_) | Answer::NeedThread => return answer,
                // The remote proxy doesn't answer, and nothing was sent to it that can't be sent again.
                Answer::Status(status::BAD_GATEWAY) if self.by_remote && !r.input.has_body() => {
                    self.inner = None;
                }
                _ => {
                    r.notes.unset("proxy-basic-creds");
                    return answer;
                }
            }
        }
    }
}

impl Proxying {
    /// Asks the schemes about the next remote proxy, or the backend itself. `None`: one has begun, or is to be asked again.
    fn next(&mut self, r: &mut Request) -> Option<Answer> {
        r.notes.unset("proxy-basic-creds");
        let server = r.server.clone();
        let conf = server.conf.get(&SERVER);
        let worker = match find(&conf.workers, &self.url, Kinds::Any) {
            Some(at) => conf.workers[at].clone(),
            None => {
                r.subprocess_env.set("proxy-nokeepalive", "1");
                match r.proxyreq {
                    Some(ProxyReq::Proxy) => conf.forward_worker.clone(),
                    _ => conf.reverse_worker.clone(),
                }
            }
        };
        let mut target = Target { worker, url: self.url.clone(), proxy: None };
        self.by_remote = false;
        while let Some(remote) = conf.remotes.get(self.next_remote) {
            self.next_remote += 1;
            if !remote.is_for(&self.scheme, &self.url) {
                continue;
            }
            rerror!(r, Level::Debug, "proxy", "AH01142", "Trying to run scheme_handler against proxy");
            if let Some(credentials) = &remote.credentials {
                r.notes.set("proxy-basic-creds", credentials);
            }
            target.proxy = Some((remote.hostname.clone(), remote.port));
            self.by_remote = true;
            break;
        }
        if !self.by_remote {
            rerror!(
                r,
                Level::Debug,
                "proxy",
                "AH01143",
                "Running scheme {} handler (attempt 0)",
                shown(&self.scheme)
            );
        }
        let target = Arc::new(target);
        let runtime = r.runtime.clone();
        for scheme in runtime.hooks.scheme_handler.iter() {
            match scheme(r, &target) {
                Handled::Declined => {}
                Handled::Status(code) => return Some(Answer::Status(code)),
                Handled::Begun(inner) => {
                    self.inner = Some(inner);
                    return None;
                }
            }
        }
        if self.by_remote {
            return None;
        }
        rerror!(
            r,
            Level::Warn,
            "proxy",
            "AH01144",
            "No protocol handler was valid for the URL {} (scheme '{}'). If you are using a DSO version of mod_proxy, make sure the proxy submodules are included in the configuration using LoadModule.",
            r.uri,
            shown(&self.scheme)
        );
        Some(Answer::Status(status::INTERNAL_SERVER_ERROR))
    }
}
