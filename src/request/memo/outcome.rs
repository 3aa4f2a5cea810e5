//! What requests came to: the part of a kept reply that requests to many virtual hosts share.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bstr::BString;
use bytes::Bytes;

use super::notes::{Look, Moments, Notes};
use crate::body::{Content, FileSlice};
use crate::config::merge::DirConf;
use crate::http::{date, status};
use crate::modules::core;
use crate::request::{FileInfo, Request};
use crate::table::Table;
use crate::text::SharedStr;

/// What a request came to, but for what belongs to the host that it was sent to. Five thousand hosts with one `DocumentRoot`
/// have one of it, with one copy of the content, and one look at the files.
#[derive(PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) the_request: Box<[u8]>,
    pub(super) fields: Box<[Field]>,
    pub(super) looks: Looks,
    end: Shape,
    /// The requests that were redirected to the last one, the first of them first.
    before: Box<[Shape]>,
    pub(super) nokeepalive: bool,
    pub(super) sendfile: bool,
    pub(super) content: Kept,
    /// The head: up to the date, from there to where `Connection` comes, and the rest.
    pub(super) head: [Box<[u8]>; 3],
    /// Where the date of `Expires` stands in it, if that depends on the request's time.
    pub(super) expires: Option<Expires>,
}

impl Hash for Outcome {
    /// Of what tells most of them apart.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.the_request.hash(state);
        self.end.filename.hash(state);
        self.head.hash(state);
    }
}

/// A header field that somebody asked for, and what it held.
#[derive(PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    pub(super) values: Box<[Box<[u8]>]>,
}

/// Looks at the file system.
pub(super) struct Looks {
    list: Box<[Look]>,
    /// The moment of the last look at all of them.
    at: Cell<u64>,
}

impl Looks {
    /// Are the files the same? Looks at them, unless somebody has since this request came.
    pub(super) fn are_current(&self, moments: Moments) -> bool {
        if self.at.get() >= moments.request {
            return true;
        }
        let current = self.list.iter().all(|look| look.holds(moments));
        if current {
            self.at.set(moments.last);
        }
        current
    }
}

impl PartialEq for Looks {
    fn eq(&self, other: &Looks) -> bool {
        self.list == other.list
    }
}

impl Eq for Looks {}

/// An `Expires` that is so many seconds later than the request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Expires {
    pub(super) after: i64,
    /// Which part of the head it stands in, and where.
    pub(super) part: usize,
    pub(super) at: usize,
}

/// A content that is kept.
pub(super) enum Kept {
    Nothing,
    Bytes(Bytes),
    File(FileSlice),
}

impl PartialEq for Kept {
    /// Of replies to the same request, after the same looks: the same part of a file is the same.
    fn eq(&self, other: &Kept) -> bool {
        match (self, other) {
            (Kept::Nothing, Kept::Nothing) => true,
            (Kept::Bytes(a), Kept::Bytes(b)) => a == b,
            (Kept::File(a), Kept::File(b)) => (a.offset, a.len) == (b.offset, b.len),
            _ => false,
        }
    }
}

impl Eq for Kept {}

/// What a request was like in the end: what the log asks for.
#[derive(PartialEq, Eq)]
struct Shape {
    status: u16,
    unparsed_uri: BString,
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
    /// Those that hold something.
    tables: Box<[(Which, Table)]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    HeadersOut,
    ErrHeadersOut,
    SubprocessEnv,
    Notes,
}

const ALL: [Which; 4] = [Which::HeadersOut, Which::ErrHeadersOut, Which::SubprocessEnv, Which::Notes];

impl Which {
    fn of(self, r: &Request) -> &Table {
        match self {
            Which::HeadersOut => &r.headers_out,
            Which::ErrHeadersOut => &r.err_headers_out,
            Which::SubprocessEnv => &r.subprocess_env,
            Which::Notes => &r.notes,
        }
    }

    fn of_mut(self, r: &mut Request) -> &mut Table {
        match self {
            Which::HeadersOut => &mut r.headers_out,
            Which::ErrHeadersOut => &mut r.err_headers_out,
            Which::SubprocessEnv => &mut r.subprocess_env,
            Which::Notes => &mut r.notes,
        }
    }
}

/// A request and those that it was redirected from.
pub(super) fn chain(r: &Request) -> impl Iterator<Item = &Request> {
    std::iter::successors(Some(r), |r| r.prev.as_deref())
}

impl Outcome {
    /// What `r`, which is about to be answered, came to; if its head is made as most are.
    pub(super) fn of(r: &Request, notes: Notes, content: Kept) -> Option<Outcome> {
        let (head, expires) = head_of(r, &notes.before_persistence?, notes.expires)?;
        let mut before: Vec<Shape> = chain(r).skip(1).map(Shape::of).collect();
        before.reverse();
        let mut fields = Vec::with_capacity(notes.fields.len());
        for name in notes.fields {
            let name = String::from_utf8(name).ok()?;
            let values = r.headers_in.iter_all(&name).map(Box::from).collect();
            fields.push(Field { name: name.into(), values });
        }
        Some(Outcome {
            the_request: r.the_request.as_slice().into(),
            fields: fields.into(),
            looks: Looks { list: notes.looks.into(), at: Cell::new(notes.moment) },
            end: Shape::of(r),
            before: before.into(),
            nokeepalive: r.subprocess_env.contains("nokeepalive"),
            sendfile: r.dir(&core::DIR).enable_sendfile != Some(false),
            content,
            head,
            expires,
        })
    }

    /// Makes the request what it was, with those that it was redirected from. Each has its configuration from `dirs`.
    pub(super) fn restore(&self, r: &mut Request, dirs: &Dirs) {
        for (shape, dir) in self.before.iter().zip(&dirs.before) {
            shape.restore(r, dir);
            r.internal_redirect(b"");
        }
        self.end.restore(r, &dirs.end);
        if let Some(expires) = self.expires {
            r.headers_out.set("Expires", date::rfc822(r.request_secs() + expires.after));
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
        size_of::<Outcome>() * (1 + self.before.len()) + content + 3 * head + self.the_request.len()
    }
}

/// The configuration for the place that each request of a chain came to.
pub(super) struct Dirs {
    end: Arc<DirConf>,
    before: Box<[Arc<DirConf>]>,
}

impl Dirs {
    pub(super) fn of(r: &Request) -> Dirs {
        let mut before: Vec<Arc<DirConf>> = chain(r).skip(1).map(|r| r.dir.clone()).collect();
        before.reverse();
        Dirs { end: r.dir.clone(), before: before.into() }
    }
}

impl Shape {
    fn of(r: &Request) -> Shape {
        let mut tables = Vec::new();
        for which in ALL {
            let mut table = which.of(r).clone();
            if which == Which::HeadersOut {
                table.unset("Connection");
                table.unset("Keep-Alive");
            }
            if !table.is_empty() {
                tables.push((which, table));
            }
        }
        Shape {
            status: r.status,
            unparsed_uri: r.unparsed_uri.clone(),
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
            tables: tables.into(),
        }
    }

    fn restore(&self, r: &mut Request, dir: &Arc<DirConf>) {
        r.dir.clone_from(dir);
        r.status = self.status;
        copy(&mut r.unparsed_uri, &self.unparsed_uri);
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
        let mut tables = self.tables.iter().peekable();
        for which in ALL {
            match tables.next_if(|(listed, _)| *listed == which) {
                Some((_, table)) => which.of_mut(r).copy(table),
                None => which.of_mut(r).clear(),
            }
        }
    }
}

fn copy(to: &mut BString, from: &BString) {
    if to != from {
        to.clear();
        to.extend_from_slice(from);
    }
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
