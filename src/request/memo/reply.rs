//! A reply that was worked out, what it was made from, and how it is given again.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bstr::BString;
use bytes::Bytes;

use super::notes::{Look, Notes, moments_now};
use crate::body::{Content, FileSlice};
use crate::config::merge::DirConf;
use crate::config::server::Server;
use crate::http::persistence::{self, KeepAlive};
use crate::http::{date, status};
use crate::modules::core;
use crate::os::clock;
use crate::request::{FileInfo, Request};
use crate::table::Table;
use crate::text::SharedStr;

/// A file that changed less than this many microseconds ago may change again without a trace in its times.
const SETTLES: i64 = 2_000_000;

/// A reply, what it was made from and what it is.
pub(super) struct Reply {
    the_request: Box<[u8]>,
    hostname: Option<BString>,
    host_port: Option<u16>,
    server: Arc<Server>,
    local_addr: SocketAddr,
    fields: Box<[Field]>,
    client: Option<IpAddr>,
    proxies: Option<String>,
    looks: Box<[Look]>,
    /// The moment of the last look at them.
    looked: u64,

    dir: Arc<DirConf>,
    status: u16,
    uri: BString,
    args: Option<BString>,
    filename: BString,
    path_info: BString,
    finfo: Option<FileInfo>,
    content_type: Option<SharedStr>,
    content_encoding: Option<String>,
    content_languages: Vec<String>,
    handler: Option<SharedStr>,
    mtime: i64,
    allowed: u64,
    nokeepalive: bool,
    pub(super) sendfile: bool,
    /// Those that hold something.
    tables: Box<[(Which, Table)]>,
    pub(super) content: Kept,
    /// The head: up to the date, from there to where `Connection` comes, and the rest.
    head: [Box<[u8]>; 3],
    /// Where the date of `Expires` stands in it, if that depends on the request's time.
    expires: Option<Expires>,
    /// The second in which it was last asked for.
    pub(super) used: i64,
}

/// An `Expires` that is so many seconds later than the request.
#[derive(Clone, Copy)]
struct Expires {
    after: i64,
    /// Which part of the head it stands in, and where.
    part: usize,
    at: usize,
}

/// How long a date is.
const DATE_LEN: usize = 29;

struct Field {
    name: Box<str>,
    values: Box<[Box<[u8]>]>,
}

#[derive(Clone, Copy)]
enum Which {
    HeadersOut,
    ErrHeadersOut,
    SubprocessEnv,
    Notes,
}

pub(super) enum Kept {
    Nothing,
    Bytes(Bytes),
    File(FileSlice),
}

impl Reply {
    /// The reply that `r` is about to send, unless something about it is unusual.
    pub(super) fn of(r: &Request, notes: Notes, content: Kept) -> Option<Reply> {
        let now = r.request_micros();
        let usual = notes.offered
            && matches!(r.status, status::OK | status::NOT_MODIFIED)
            && r.prev.is_none()
            && r.next.is_empty()
            && r.status_line.is_none()
            && r.user.is_none()
            && r.auth_type.is_none()
            && r.responder.is_none()
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
            look.seen.is_err()
                || look.seen.is_ok_and(|f| now - f.mtime.max(f.ctime) > SETTLES || !f.is_file())
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
        let (head, expires) = head_of(r, &notes.before_persistence?, notes.expires)?;
        let mut headers_out = r.headers_out.clone();
        headers_out.unset("Connection");
        headers_out.unset("Keep-Alive");
        let mut tables = vec![(Which::HeadersOut, headers_out)];
        for (which, table) in [
            (Which::ErrHeadersOut, &r.err_headers_out),
            (Which::SubprocessEnv, &r.subprocess_env),
            (Which::Notes, &r.notes),
        ] {
            if !table.is_empty() {
                tables.push((which, table.clone()));
            }
        }
        let mut fields = Vec::with_capacity(notes.fields.len());
        for name in notes.fields {
            let name = String::from_utf8(name).ok()?;
            let values = r.headers_in.iter_all(&name).map(Box::from).collect();
            fields.push(Field { name: name.into(), values });
        }
        Some(Reply {
            the_request: r.the_request.as_slice().into(),
            hostname: r.hostname.clone(),
            host_port: r.host_port,
            server: r.server.clone(),
            local_addr: r.connection.local_addr,
            fields: fields.into(),
            client: notes.client.then(|| r.client_addr().ip()),
            proxies: r.client_proxies().map(str::to_owned),
            looks: notes.looks.into(),
            looked: notes.moment,
            dir: r.dir.clone(),
            status: r.status,
            uri: r.uri.clone(),
            args: r.args.clone(),
            filename: r.filename.clone(),
            path_info: r.path_info.clone(),
            finfo: r.finfo,
            content_type: r.content_type.clone(),
            content_encoding: r.content_encoding.clone(),
            content_languages: r.content_languages.clone(),
            handler: r.handler.clone(),
            mtime: r.mtime,
            allowed: r.allowed,
            nokeepalive: r.subprocess_env.contains("nokeepalive"),
            sendfile: r.dir(&core::DIR).enable_sendfile != Some(false),
            tables: tables.into(),
            content,
            head,
            expires,
            used: now / 1_000_000,
        })
    }

    /// Would the request come to this reply, if the files are the same?
    pub(super) fn fits(&self, r: &Request) -> bool {
        *self.the_request == **r.the_request
            && Arc::ptr_eq(&self.server, &r.server)
            && self.hostname == r.hostname
            && self.host_port == r.host_port
            && self.local_addr == r.connection.local_addr
            && self.client.is_none_or(|ip| ip == r.client_addr().ip())
            && self.proxies.as_deref() == r.client_proxies()
            && self.fields.iter().all(|field| r.headers_in.has_only(&field.name, &field.values))
    }

    /// Are the files the same? Looks at them, unless somebody has since this request came.
    pub(super) fn is_current(&mut self) -> bool {
        let moments = moments_now();
        if self.looked >= moments.request {
            return true;
        }
        let current = self.looks.iter().all(|look| look.holds(moments));
        if current {
            self.looked = moments.last;
        }
        current
    }

    /// Makes the request what it was when the reply was made.
    pub(super) fn restore(&self, r: &mut Request) {
        r.dir.clone_from(&self.dir);
        r.status = self.status;
        copy(&mut r.uri, &self.uri);
        if r.args != self.args {
            r.args.clone_from(&self.args);
        }
        copy(&mut r.filename, &self.filename);
        copy(&mut r.path_info, &self.path_info);
        r.finfo = self.finfo;
        r.content_type.clone_from(&self.content_type);
        r.content_encoding.clone_from(&self.content_encoding);
        r.content_languages.clone_from(&self.content_languages);
        r.handler.clone_from(&self.handler);
        r.mtime = self.mtime;
        r.allowed = self.allowed;
        for (which, table) in &self.tables {
            match which {
                Which::HeadersOut => r.headers_out.copy(table),
                Which::ErrHeadersOut => r.err_headers_out.copy(table),
                Which::SubprocessEnv => r.subprocess_env.copy(table),
                Which::Notes => r.notes.copy(table),
            }
        }
        if let Some(expires) = self.expires {
            r.headers_out.set("Expires", date::rfc822(r.request_secs() + expires.after));
        }
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
                nokeepalive: self.nokeepalive,
                stopping,
            },
            &r.headers_in,
            true,
        );
        out.extend_from_slice(&self.head[0]);
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
        out.extend_from_slice(&self.head[part]);
        if let Some(expires) = self.expires.filter(|expires| expires.part == part)
            && let Some(place) = out.get_mut(before + expires.at..before + expires.at + DATE_LEN)
        {
            place.copy_from_slice(&date::rfc822(r.request_secs() + expires.after));
        }
    }

    pub(super) fn content(&self) -> Content {
        match &self.content {
            Kept::Nothing => Content::Empty,
            Kept::Bytes(bytes) => Content::Bytes(bytes.clone()),
            Kept::File(slice) => Content::File(slice.clone()),
        }
    }

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        let content = if let Kept::Bytes(bytes) = &self.content { bytes.len() } else { 0 };
        let head: usize = self.head.iter().map(|part| part.len()).sum();
        size_of::<Reply>() + content + 3 * head + self.the_request.len()
    }
}

fn copy(to: &mut BString, from: &BString) {
    to.clear();
    to.extend_from_slice(from);
}

/// The head in three parts, between which come the date and what says whether the connection stays open; and the place of an
/// `Expires` that lies so many seconds `after` the request. If somebody put another one into its place, that stands for itself.
fn head_of(
    r: &Request,
    before_persistence: &[Vec<u8>],
    after: Option<i64>,
) -> Option<([Box<[u8]>; 3], Option<Expires>)> {
    let date = after.map(|after| date::rfc822(r.request_secs() + after));
    let mut expires = None;
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    let [start, middle, rest] = &mut parts;
    start.extend_from_slice(b"HTTP/1.1 ");
    start.extend_from_slice(status::line_ex(r.status).as_bytes());
    start.extend_from_slice(b"\r\nDate: ");
    let server = &r.runtime.banner.full;
    if !server.is_empty() {
        middle.extend_from_slice(b"\r\nServer: ");
        middle.extend_from_slice(server.as_bytes());
    }
    middle.extend_from_slice(b"\r\n");
    let has_length = r.headers_out.contains("Content-Length");
    let is = |name: &[u8], other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    let mut before = before_persistence.iter().filter(|name| has_length || !is(name, "Content-Length"));
    for (name, value) in r.headers_out.iter() {
        let (number, part) = match before.next().is_some_and(|b| b.eq_ignore_ascii_case(name)) {
            true => (1, &mut *middle),
            false => (2, &mut *rest),
        };
        if is(name, "Connection") || is(name, "Keep-Alive") {
            continue;
        }
        if is(name, "Date") || is(name, "Server") || is(name, "Transfer-Encoding") {
            return None;
        }
        part.extend_from_slice(name);
        part.extend_from_slice(b": ");
        if let (Some(after), Some(date)) = (after, date)
            && is(name, "Expires")
            && value == date
            && expires.replace(Expires { after, part: number, at: part.len() }).is_some()
        {
            return None;
        }
        part.extend_from_slice(value);
        part.extend_from_slice(b"\r\n");
    }
    rest.extend_from_slice(b"\r\n");
    Some((parts.map(Vec::into_boxed_slice), expires))
}
