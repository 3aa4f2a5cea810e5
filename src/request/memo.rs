//! Replies with files that need not be worked out again.
//!
//! Between a request's head and its reply lie fifteen phases, a handler and the output filters; for a file they come to the
//! same reply each time. So while such a request is worked on for the second time, it is noted what it is made from: the
//! request line and host, every header field that somebody asked for, the client's address if somebody did, every look at
//! the file system. The next request for which all of these are the same gets the same reply, after a new look at
//! the files (one `stat` each): an edited page or `.htaccess` is seen by the next request.
//!
//! What can't be noted must be refused with [`refuse`]: time, the environment, files that are read, random numbers, lines for
//! the error log. Every module that takes part in the phases of a request says by [`crate::hooks::Hooks::repeatable`] that it keeps
//! to this; with one that doesn't (a C module), nothing is ever given again. Phases after the reply (the log) run for
//! every request. Apache has nothing like it; h2o and nginx remember open files, not what led to them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bstr::BString;
use bytes::Bytes;

use super::{FileInfo, Lane, Request};
use crate::body::{Content, FileSlice};
use crate::config::merge::DirConf;
use crate::config::server::Server;
use crate::http::method::Method;
use crate::http::persistence::{self, KeepAlive};
use crate::http::{date, status};
use crate::modules::core;
use crate::os::clock;
use crate::table::{Table, Touch};
use crate::text::SharedStr;

/// How many replies a reactor keeps, and how many a process or thread that serves one connection at a time.
const MOST: usize = 4096;
const MOST_IN_THREAD: usize = 256;
/// How many bytes of contents; above it all is forgotten.
const MOST_BYTES: usize = 16 << 20;
/// How many files are kept open, and for how many seconds after they were last asked for.
const MOST_FILES: usize = 64;
const FILES_STAY: i64 = 5;
/// Variants of one request: with other header fields, of other clients.
const VARIANTS: usize = 8;
/// A file that changed less than this many microseconds ago may change again without a trace in its times.
const SETTLES: i64 = 2_000_000;

thread_local! {
    static MEMO: RefCell<Memo> = RefCell::new(Memo::default());
    static NOTES: RefCell<Notes> = RefCell::new(Notes::default());
    /// A request is being noted, and nothing has spoken against it yet.
    static NOTING: Cell<bool> = const { Cell::new(false) };
    static MOMENTS: Cell<Moments> = const { Cell::new(Moments { last: 1, turn: 1, request: 1 }) };
}

/// Points in time, numbered. A look at the file system serves for every request that was there before it.
#[derive(Clone, Copy)]
struct Moments {
    last: u64,
    /// When the reactor's turn began: the poller had told which connections have something to read.
    turn: u64,
    /// Since when a look is good for the request that is served now.
    request: u64,
}

fn moments(change: impl FnOnce(&mut Moments)) {
    let mut moments = MOMENTS.get();
    change(&mut moments);
    MOMENTS.set(moments);
}

/// The poller came back: requests that it reported had begun to arrive before.
pub fn turn_begins() {
    moments(|m| {
        m.last += 1;
        m.turn = m.last;
    });
}

/// The request that comes next was reported by the poller.
pub fn as_of_turn() {
    moments(|m| m.request = m.turn);
}

/// The request that comes next may have been sent just now.
pub fn as_of_now() {
    moments(|m| {
        m.last += 1;
        m.request = m.last;
    });
}

/// What the request that is noted was made from.
#[derive(Default)]
struct Notes {
    /// Header fields somebody asked for.
    fields: Vec<Vec<u8>>,
    client: bool,
    looks: Vec<Look>,
    /// A handler offered its reply to be given again.
    offered: bool,
    /// The names in `headers_out` when it was decided about the connection.
    before_persistence: Option<Vec<Vec<u8>>>,
    /// When it began.
    moment: u64,
}

/// A look at the file system, and what was seen.
struct Look {
    path: Vec<u8>,
    follow: bool,
    seen: Result<FileInfo, i32>,
}

/// What this request comes to depends on something that is not noted: its reply is not kept.
#[inline]
pub fn refuse() {
    NOTING.set(false);
}

/// What `stat` (with `follow`) or `lstat` said of `path`.
pub fn saw(path: &[u8], follow: bool, seen: Result<FileInfo, i32>) {
    if !NOTING.get() {
        return;
    }
    NOTES.with_borrow_mut(|notes| match notes.looks.iter().find(|l| l.follow == follow && l.path == path) {
        None => notes.looks.push(Look { path: path.to_vec(), follow, seen }),
        Some(before) if before.seen == seen => {}
        Some(_) => refuse(),
    });
}

/// The client's address matters.
pub fn saw_client() {
    if NOTING.get() {
        NOTES.with_borrow_mut(|notes| notes.client = true);
    }
}

/// A handler's reply may be given again.
pub fn offer() {
    if NOTING.get() {
        NOTES.with_borrow_mut(|notes| notes.offered = true);
    }
}

fn saw_field(touch: Touch<'_>) {
    if !NOTING.get() {
        return;
    }
    match touch {
        Touch::All | Touch::Change => refuse(),
        Touch::Name(name) => NOTES.with_borrow_mut(|notes| {
            if !notes.fields.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                notes.fields.push(name.to_vec());
            }
        }),
    }
}

/// What follows depends on the connection, and is worked out for every reply.
pub fn decide_persistence(r: &mut Request) {
    if !NOTING.get() {
        return;
    }
    r.headers_in.watch(None);
    if ["Connection", "Keep-Alive", "Transfer-Encoding"].iter().any(|name| r.headers_out.contains(name)) {
        return refuse();
    }
    let names = r.headers_out.iter().map(|(name, _)| name.to_vec()).collect();
    NOTES.with_borrow_mut(|notes| notes.before_persistence = Some(names));
}

/// A reply, what it was made from and what it is.
struct Reply {
    the_request: Box<[u8]>,
    hostname: Option<BString>,
    host_port: Option<u16>,
    server: Arc<Server>,
    local_addr: SocketAddr,
    fields: Box<[Field]>,
    client: Option<IpAddr>,
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
    sendfile: bool,
    /// Those that hold something.
    tables: Box<[(Which, Table)]>,
    content: Kept,
    /// The head: up to the date, from there to where `Connection` comes, and the rest.
    head: [Box<[u8]>; 3],
    /// The second in which it was last asked for.
    used: i64,
}

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

enum Kept {
    Nothing,
    Bytes(Bytes),
    File(FileSlice),
}

#[derive(Default)]
struct Memo {
    replies: HashMap<u64, Vec<Reply>, Hashed>,
    count: usize,
    bytes: usize,
    files: usize,
    /// Which requests came once, as far as they were not pushed out by others.
    once: Vec<u32>,
    hasher: foldhash::fast::RandomState,
}

/// The key is a hash already.
#[derive(Clone, Copy, Default)]
struct Hashed;

struct Key(u64);

impl BuildHasher for Hashed {
    type Hasher = Key;
    fn build_hasher(&self) -> Key {
        Key(0)
    }
}

impl Hasher for Key {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A reply that was made before: its head is in the buffer that was given.
pub struct Again {
    /// Its content.
    pub content: Content,
    /// Whether files may go by `sendfile`.
    pub sendfile: bool,
}

/// Makes the reply to a request that has not begun its phases, if one is known. Else notes what its reply will be made from,
/// where that is worth it, until [`end`].
pub fn recall(r: &mut Request, stopping: bool, head: &mut Vec<u8>) -> Option<Again> {
    if !is_candidate(r) {
        return None;
    }
    MEMO.with_borrow_mut(|memo| {
        let hash = memo.hash(r);
        match memo.find(hash, r) {
            Some(reply) => {
                reply.restore(r);
                reply.write_head(r, stopping, head);
                Some(Again { content: reply.content(), sendfile: reply.sendfile })
            }
            None => {
                if memo.came_before(hash) {
                    begin(r);
                }
                None
            }
        }
    })
}

/// A plain request for something, in its first phase.
fn is_candidate(r: &Request) -> bool {
    r.method == Method::GET
        && r.runtime.hooks.all_repeatable()
        && !r.assbackwards
        && !r.proxyreq
        && !r.foreign_scheme
        && !r.expecting_100
        && !r.input.has_body()
        && !r.input.broken
        && r.notes.is_empty()
        && r.subprocess_env.is_empty()
}

fn begin(r: &mut Request) {
    NOTES.with_borrow_mut(|notes| *notes = Notes { moment: MOMENTS.get().last, ..Notes::default() });
    r.headers_in.watch(Some(saw_field));
    NOTING.set(true);
}

/// The request's first run is over. Keeps the reply if it is whole, with the `content` that is about to be sent.
pub fn end(r: &mut Request, content: Option<&Content>) {
    r.headers_in.watch(None);
    if !NOTING.replace(false) {
        return;
    }
    let Some(content) = content else { return };
    let notes = NOTES.with_borrow_mut(std::mem::take);
    MEMO.with_borrow_mut(|memo| {
        let in_thread = r.lane == Lane::Thread;
        let kept = match content {
            Content::Empty => Kept::Nothing,
            Content::Bytes(bytes) => Kept::Bytes(bytes.clone()),
            Content::File(slice) if !in_thread && memo.files < MOST_FILES => Kept::File(slice.clone()),
            _ => return,
        };
        if let Some(reply) = Reply::of(r, notes, kept) {
            let hash = memo.hash(r);
            memo.keep(hash, reply, if in_thread { MOST_IN_THREAD } else { MOST });
        }
    });
}

/// Whether files are kept open.
pub fn keeps_files() -> bool {
    MEMO.with_borrow(|memo| memo.files > 0)
}

/// Closes files that nobody asked for lately. True while others are kept open: call again in some seconds.
pub fn sweep(now: i64) -> bool {
    MEMO.with_borrow_mut(|memo| {
        if memo.files > 0 {
            memo.retain(|reply| !matches!(reply.content, Kept::File(_)) || now - reply.used < FILES_STAY);
        }
        memo.files > 0
    })
}

/// Closes all files: descriptors are short.
pub fn close_files() -> bool {
    MEMO.with_borrow_mut(|memo| {
        let had = memo.files > 0;
        memo.retain(|reply| !matches!(reply.content, Kept::File(_)));
        had
    })
}

impl Memo {
    fn hash(&self, r: &Request) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(&r.the_request);
        hasher.write_usize(r.server.index);
        if let Some(host) = &r.hostname {
            hasher.write(host);
        }
        hasher.finish()
    }

    fn find(&mut self, hash: u64, r: &Request) -> Option<&Reply> {
        let variants = self.replies.get_mut(&hash)?;
        let at = variants.iter().position(|reply| reply.fits(r))?;
        if !variants[at].is_current() {
            let old = variants.swap_remove(at);
            self.forget(&old);
            return None;
        }
        let reply = self.replies.get_mut(&hash)?.get_mut(at)?;
        reply.used = r.request_secs();
        Some(reply)
    }

    /// True when a request with this hash came before.
    fn came_before(&mut self, hash: u64) -> bool {
        const PLACES: usize = 2048;
        if self.once.is_empty() {
            self.once.resize(PLACES, 0);
        }
        let tag = (hash >> 32) as u32;
        std::mem::replace(&mut self.once[hash as usize % PLACES], tag) == tag
    }

    fn keep(&mut self, hash: u64, reply: Reply, most: usize) {
        if self.count >= most || self.bytes >= MOST_BYTES {
            let once = std::mem::take(&mut self.once);
            *self = Memo { once, hasher: self.hasher.clone(), ..Memo::default() };
        }
        self.count += 1;
        self.bytes += reply.size();
        self.files += usize::from(matches!(reply.content, Kept::File(_)));
        let variants = self.replies.entry(hash).or_default();
        let oldest = (variants.len() >= VARIANTS).then(|| variants.remove(0));
        variants.push(reply);
        if let Some(oldest) = oldest {
            self.forget(&oldest);
        }
    }

    /// Counts a reply off that was taken out.
    fn forget(&mut self, reply: &Reply) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(reply.size());
        self.files = self.files.saturating_sub(usize::from(matches!(reply.content, Kept::File(_))));
    }

    fn retain(&mut self, stays: impl Fn(&Reply) -> bool) {
        let mut gone = Vec::new();
        self.replies.retain(|_, variants| {
            gone.extend(variants.extract_if(.., |reply| !stays(reply)));
            !variants.is_empty()
        });
        for reply in &gone {
            self.forget(reply);
        }
    }
}

impl Reply {
    /// The reply that `r` is about to send, unless something about it is unusual.
    fn of(r: &Request, notes: Notes, content: Kept) -> Option<Reply> {
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
        let head = head_of(r, &notes.before_persistence?)?;
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
            client: notes.client.then(|| r.connection.client_addr.ip()),
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
            used: now / 1_000_000,
        })
    }

    /// Would the request come to this reply, if the files are the same?
    fn fits(&self, r: &Request) -> bool {
        *self.the_request == **r.the_request
            && Arc::ptr_eq(&self.server, &r.server)
            && self.hostname == r.hostname
            && self.host_port == r.host_port
            && self.local_addr == r.connection.local_addr
            && self.client.is_none_or(|ip| ip == r.connection.client_addr.ip())
            && self.fields.iter().all(|field| r.headers_in.has_only(&field.name, &field.values))
    }

    /// Are the files the same? Looks at them, unless somebody has since this request came.
    fn is_current(&mut self) -> bool {
        let moments = MOMENTS.get();
        if self.looked >= moments.request {
            return true;
        }
        let current = self.looks.iter().all(|look| {
            let seen = if look.follow { FileInfo::stat(&look.path) } else { FileInfo::lstat(&look.path) };
            seen.map_err(|err| err.raw_os_error().unwrap_or(0)) == look.seen
        });
        if current {
            self.looked = moments.last;
        }
        current
    }

    /// Makes the request what it was when the reply was made.
    fn restore(&self, r: &mut Request) {
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
    }

    /// Decides about the connection and writes the head.
    fn write_head(&self, r: &mut Request, stopping: bool, out: &mut Vec<u8>) {
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
        let [start, middle, rest] = &self.head;
        out.extend_from_slice(start);
        clock::with_dates(r.request_secs(), |dates| out.extend_from_slice(dates.http()));
        out.extend_from_slice(middle);
        for (name, value) in decided.fields() {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
            r.headers_out.add(name, &*value);
        }
        out.extend_from_slice(rest);
        r.keepalive = decided.keep;
        r.keepalives = decided.keepalives;
    }

    fn content(&self) -> Content {
        match &self.content {
            Kept::Nothing => Content::Empty,
            Kept::Bytes(bytes) => Content::Bytes(bytes.clone()),
            Kept::File(slice) => Content::File(slice.clone()),
        }
    }

    /// About how much memory it takes.
    fn size(&self) -> usize {
        let content = if let Kept::Bytes(bytes) = &self.content { bytes.len() } else { 0 };
        let head: usize = self.head.iter().map(|part| part.len()).sum();
        size_of::<Reply>() + content + 3 * head + self.the_request.len()
    }
}

fn copy(to: &mut BString, from: &BString) {
    to.clear();
    to.extend_from_slice(from);
}

/// The head in three parts, between which come the date and what says whether the connection stays open.
fn head_of(r: &Request, before_persistence: &[Vec<u8>]) -> Option<[Box<[u8]>; 3]> {
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
        let part = if before.next().is_some_and(|b| b.eq_ignore_ascii_case(name)) {
            &mut *middle
        } else {
            &mut *rest
        };
        if is(name, "Connection") || is(name, "Keep-Alive") {
            continue;
        }
        if is(name, "Date") || is(name, "Server") || is(name, "Transfer-Encoding") {
            return None;
        }
        part.extend_from_slice(name);
        part.extend_from_slice(b": ");
        part.extend_from_slice(value);
        part.extend_from_slice(b"\r\n");
    }
    rest.extend_from_slice(b"\r\n");
    Some(parts.map(Vec::into_boxed_slice))
}
