//! Whether the connection stays open after a reply, and the header fields that say so: `ap_set_keepalive` of
//! `http_protocol.c`.

use std::borrow::Cow;

use super::head::is_chunked;
use super::status::{self, Status};
use crate::table::{Table, find_token};

/// What the decision depends on, beside the header fields.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// `KeepAlive`
    pub enabled: bool,
    /// `KeepAliveTimeout` in whole seconds, as it is shown; `timeout_positive` says whether it is more than none.
    pub timeout_secs: u64,
    pub timeout_positive: bool,
    /// `MaxKeepAliveRequests`; 0 is no limit.
    pub max_requests: u32,
    /// Requests of this connection that kept it open so far (`conn->keepalives`).
    pub keepalives: u32,
    /// The request's version (`r->proto_num`).
    pub version: u16,
    pub header_only: bool,
    pub status: Status,
    /// The connection was marked to close already (`AP_CONN_CLOSE`).
    pub close: bool,
    /// The client still waits for `100 Continue`.
    pub expecting_100: bool,
    /// The variable `nokeepalive` is set.
    pub nokeepalive: bool,
    /// The server process goes away.
    pub stopping: bool,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// What the client is told.
    pub told: Told,
    /// The connection stays open.
    pub keep: bool,
    /// The body is to be sent chunked, as its length is not known (`r->chunked`).
    pub chunked: bool,
    /// The new `conn->keepalives`.
    pub keepalives: u32,
}

/// What the header fields of the reply say about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing: it is what the client expects.
    Nothing,
    /// It stays open, which the client asked for: so many seconds, for so many more requests.
    KeepAlive(u64, Option<i64>),
    /// It is closed.
    Close,
}

impl Persistence {
    /// The header fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, Cow<'static, str>)> {
        let keep_alive = match self.told {
            Told::KeepAlive(timeout, None) => Some(format!("timeout={timeout}")),
            Told::KeepAlive(timeout, Some(left)) => Some(format!("timeout={timeout}, max={left}")),
            _ => None,
        };
        let connection = match self.told {
            Told::Nothing => None,
            Told::KeepAlive(..) => Some("Keep-Alive"),
            Told::Close => Some("close"),
        };
        let keep_alive = keep_alive.map(|value| ("Keep-Alive", Cow::Owned(value)));
        keep_alive.into_iter().chain(connection.map(|value| ("Connection", Cow::Borrowed(value))))
    }
}

/// Decides, and writes `Connection` and `Keep-Alive` into `headers_out`.
pub fn set_keepalive(k: &KeepAlive, headers_in: &Table, headers_out: &mut Table) -> Persistence {
    let wimpy = headers_out.has_token("Connection", "close");
    let decided = decide_for(k, headers_in, has_length(k, headers_out), wimpy);
    for (name, value) in decided.fields() {
        match name {
            "Connection" if wimpy => {}
            "Connection" => headers_out.merge(name, &*value),
            _ => headers_out.set(name, &*value),
        }
    }
    decided
}

/// Decides about a reply that says nothing about the connection yet. `has_length`: where it ends can be told from its head.
pub fn decide(k: &KeepAlive, headers_in: &Table, has_length: bool) -> Persistence {
    decide_for(k, headers_in, has_length, false)
}

/// `wimpy`: the reply says already that the connection is closed.
fn decide_for(k: &KeepAlive, headers_in: &Table, has_length: bool, wimpy: bool) -> Persistence {
    let left = i64::from(k.max_requests) - i64::from(k.keepalives);
    let connection = headers_in.get("Connection").unwrap_or_default();
    let ka_sent = !connection.is_empty() && find_token(connection, "keep-alive");

    let mut chunked = false;
    let usable = !k.close && !k.expecting_100;
    let delimited = usable
        && (has_length || {
            chunked = k.version >= 1001;
            chunked
        });
    let keep = delimited
        && k.enabled
        && k.timeout_positive
        && (k.max_requests == 0 || left > 0)
        && !status::drops_connection(k.status)
        && !wimpy
        && (connection.is_empty() || !find_token(connection, "close"))
        && (!k.nokeepalive || headers_in.contains("Via"))
        && (ka_sent || k.version >= 1001)
        && !k.stopping;
    if keep {
        let told = match ka_sent {
            true => Told::KeepAlive(k.timeout_secs, (k.max_requests != 0).then_some(left)),
            false => Told::Nothing,
        };
        return Persistence { told, keep, chunked, keepalives: k.keepalives.saturating_add(1) };
    }
    let last = !k.close && k.max_requests != 0 && left == 0;
    Persistence { told: Told::Close, keep, chunked, keepalives: k.keepalives.saturating_add(u32::from(last)) }
}

/// Whether the end of the reply can be told without closing or chunking.
fn has_length(k: &KeepAlive, headers_out: &Table) -> bool {
    k.header_only
        || status::is_header_only(k.status)
        || headers_out.contains("Content-Length")
        || headers_out.get("Transfer-Encoding").is_some_and(is_chunked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: KeepAlive = KeepAlive {
        enabled: true,
        timeout_secs: 5,
        timeout_positive: true,
        max_requests: 100,
        keepalives: 0,
        version: 1001,
        header_only: false,
        status: 200,
        close: false,
        expecting_100: false,
        nokeepalive: false,
        stopping: false,
    };

    fn decide(k: KeepAlive, request: &[(&str, &str)], reply: &[(&str, &str)]) -> (Persistence, String) {
        let headers_in: Table = request.iter().copied().collect();
        let mut headers_out: Table = reply.iter().copied().collect();
        let p = set_keepalive(&k, &headers_in, &mut headers_out);
        let shown = headers_out
            .iter()
            .filter(|(n, _)| *n != b"Content-Length")
            .map(|(n, v)| format!("{}: {}", n.escape_ascii(), v.escape_ascii()))
            .collect::<Vec<_>>();
        (p, shown.join("; "))
    }

    const LENGTH: &[(&str, &str)] = &[("Content-Length", "3")];

    #[test]
    fn http_1_1_persists() {
        let (p, shown) = decide(DEFAULT, &[], LENGTH);
        assert_eq!((p.keep, p.chunked, p.keepalives, &*shown), (true, false, 1, ""));
        let (p, shown) = decide(DEFAULT, &[("Connection", "Keep-Alive")], &[]);
        assert_eq!((p.keep, p.chunked, p.keepalives), (true, true, 1));
        assert_eq!(shown, "Keep-Alive: timeout=5, max=100; Connection: Keep-Alive");
        let (_, shown) = decide(
            KeepAlive { keepalives: 99, ..DEFAULT },
            &[("Connection", "Upgrade, keep-alive")],
            &[("Connection", "Upgrade")],
        );
        assert_eq!(shown, "Connection: Upgrade, Keep-Alive; Keep-Alive: timeout=5, max=1");
        let (_, shown) =
            decide(KeepAlive { max_requests: 0, ..DEFAULT }, &[("Connection", "keep-alive")], LENGTH);
        assert_eq!(shown, "Keep-Alive: timeout=5; Connection: Keep-Alive");
    }

    #[test]
    fn closes() {
        let closed = |k: KeepAlive, request: &[(&str, &str)], reply: &[(&str, &str)]| {
            let (p, shown) = decide(k, request, reply);
            assert_eq!((p.keep, &*shown), (false, "Connection: close"));
            p
        };
        let p = closed(DEFAULT, &[("Connection", "close")], &[]);
        assert_eq!((p.chunked, p.keepalives), (true, 0));
        closed(KeepAlive { version: 1000, ..DEFAULT }, &[], LENGTH);
        let p = closed(KeepAlive { version: 1000, ..DEFAULT }, &[("Connection", "keep-alive")], &[]);
        assert!(!p.chunked);
        closed(KeepAlive { status: 400, ..DEFAULT }, &[], LENGTH);
        closed(KeepAlive { enabled: false, ..DEFAULT }, &[], LENGTH);
        closed(KeepAlive { stopping: true, ..DEFAULT }, &[], LENGTH);
        closed(KeepAlive { nokeepalive: true, ..DEFAULT }, &[], LENGTH);
        closed(KeepAlive { expecting_100: true, ..DEFAULT }, &[], LENGTH);
        let p = closed(KeepAlive { close: true, ..DEFAULT }, &[], &[]);
        assert!(!p.chunked);
        let p = closed(KeepAlive { keepalives: 100, ..DEFAULT }, &[], LENGTH);
        assert_eq!(p.keepalives, 101);
        closed(DEFAULT, &[], &[("Connection", "close")]);
    }

    #[test]
    fn http_1_0_persists_when_asked() {
        let (p, shown) =
            decide(KeepAlive { version: 1000, ..DEFAULT }, &[("Connection", "keep-alive")], LENGTH);
        assert!(p.keep);
        assert_eq!(shown, "Keep-Alive: timeout=5, max=100; Connection: Keep-Alive");
        let (p, _) = decide(KeepAlive { nokeepalive: true, ..DEFAULT }, &[("Via", "1.1 x")], LENGTH);
        assert!(p.keep);
    }
}
