//! A reply that was worked out, for whom, and how it is given again.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use bstr::BString;

use super::notes::{Look, Notes, moments_now};
use super::outcome::{Dirs, Kept, Outcome, chain};
use crate::config::server::Server;
use crate::http::persistence::{self, KeepAlive};
use crate::http::{date, status};
use crate::os::clock;
use crate::request::Request;

/// A file that changed less than this many microseconds ago may change again without a trace in its times.
const SETTLES: i64 = 2_000_000;

/// How long a date is.
const DATE_LEN: usize = 29;

/// A reply: what hosts may share, and what is this host's own.
pub(super) struct Reply {
    hostname: Option<BString>,
    host_port: Option<u16>,
    server: Arc<Server>,
    local_addr: SocketAddr,
    client: Option<IpAddr>,
    proxies: Option<String>,
    dirs: Dirs,
    pub(super) outcome: Rc<Outcome>,
    /// The second in which it was last asked for.
    pub(super) used: i64,
}

/// What `r` came to, unless something about the reply that is about to be sent is unusual.
pub(super) fn outcome(r: &Request, notes: Notes, content: Kept) -> Option<Outcome> {
    let now = r.request_micros();
    let usual = notes.offered
        && matches!(r.status, status::OK | status::NOT_MODIFIED)
        && r.next.is_empty()
        && r.status_line.is_none()
        && chain(r).all(|r| r.user.is_none() && r.auth_type.is_none() && r.responder.is_none())
        && chain(r).skip(1).all(|r| r.status == status::OK)
        && r.vlist_validator.is_none()
        && r.allowed_extensions.is_empty()
        && !r.no_cache
        && !r.no_local_copy
        && !r.length_unknown
        && !r.notes.contains("close")
        && r.trailers_out.is_empty()
        && r.ttfb.is_none()
        && !["downgrade-1.0", "force-response-1.0", "force-no-vary"]
            .iter()
            .any(|name| r.subprocess_env.contains(name));
    let settled = |look: &Look| {
        look.seen.is_err() || look.seen.is_ok_and(|f| now - f.mtime.max(f.ctime) > SETTLES || !f.is_file())
    };
    // A date in the future becomes one of the past some day.
    let future = |name: &str| {
        let date = r.headers_in.get(name).and_then(date::parse);
        date.is_some_and(|date| date >= now / 1_000_000)
    };
    if !usual
        || !notes.looks.iter().all(settled)
        || now - r.mtime <= SETTLES
        || ["If-Modified-Since", "If-Unmodified-Since", "If-Range"].into_iter().any(future)
    {
        return None;
    }
    Outcome::of(r, notes, content)
}

impl Reply {
    /// The reply to `r`.
    pub(super) fn of(r: &Request, client_matters: bool, outcome: Rc<Outcome>) -> Reply {
        Reply {
            hostname: r.hostname.clone(),
            host_port: r.host_port,
            server: r.server.clone(),
            local_addr: r.connection.local_addr,
            client: client_matters.then(|| r.client_addr().ip()),
            proxies: r.client_proxies().map(str::to_owned),
            dirs: Dirs::of(r),
            outcome,
            used: r.request_secs(),
        }
    }

    /// Would the request come to this reply, if the files are the same?
    pub(super) fn fits(&self, r: &Request) -> bool {
        Arc::ptr_eq(&self.server, &r.server)
            && self.hostname == r.hostname
            && self.host_port == r.host_port
            && self.local_addr == r.connection.local_addr
            && self.client.is_none_or(|ip| ip == r.client_addr().ip())
            && self.proxies.as_deref() == r.client_proxies()
            && *self.outcome.the_request == **r.the_request
            && self.outcome.fields.iter().all(|field| r.headers_in.has_only(&field.name, &field.values))
    }

    /// Are the files the same?
    pub(super) fn is_current(&self) -> bool {
        self.outcome.looks.are_current(moments_now())
    }

    /// Makes the request what it was when the reply was made.
    pub(super) fn restore(&self, r: &mut Request) {
        self.outcome.restore(r, &self.dirs);
    }

    /// Decides about the connection and writes the head.
    pub(super) fn write_head(&self, r: &mut Request, stopping: bool, out: &mut Vec<u8>) {
        let conf = &r.server.resolved;
        let decided = persistence::decide(
            &KeepAlive {
                enabled: conf.keep_alive,
                timeout_secs: conf.keep_alive_timeout.as_secs(),
                timeout_positive: !conf.keep_alive_timeout.is_zero(),
                max_requests: conf.keep_alive_max,
                keepalives: r.keepalives,
                version: r.proto_num,
                header_only: r.header_only,
                status: r.status,
                close: false,
                expecting_100: false,
                nokeepalive: self.outcome.nokeepalive,
                stopping,
            },
            &r.headers_in,
            true,
        );
        out.extend_from_slice(&self.outcome.head[0]);
        clock::with_dates(r.request_secs(), |dates| out.extend_from_slice(dates.http()));
        self.write_part(1, r, out);
        for (name, value) in decided.fields() {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
            r.headers_out.add(name, &*value);
        }
        self.write_part(2, r, out);
        r.keepalive = decided.keep;
        r.keepalives = decided.keepalives;
    }

    /// A part of the head, with the right date in `Expires`.
    fn write_part(&self, part: usize, r: &Request, out: &mut Vec<u8>) {
        let before = out.len();
        out.extend_from_slice(&self.outcome.head[part]);
        if let Some(expires) = self.outcome.expires.filter(|expires| expires.part == part)
            && let Some(place) = out.get_mut(before + expires.at..before + expires.at + DATE_LEN)
        {
            place.copy_from_slice(&date::rfc822(r.request_secs() + expires.after));
        }
    }
}
