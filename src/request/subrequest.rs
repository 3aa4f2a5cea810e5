//! Sub-requests (what would another URI or file give?) and internal redirects (give that instead).
//!
//! Answers to `ap_sub_req_*` of `server/request.c` and `modules/http/http_request.c`.

use std::sync::Arc;

use bstr::{BString, ByteSlice};

use super::phases::{At, Cursor, Outcome};
use super::{Answer, FileInfo, Origin, Request};
use crate::body::{Chunk, Pull, Wait};
use crate::http::status;
use crate::log::{Level, rerror};
use crate::modules::core;
use crate::table::Table;

/// Fields about a request's body, which a sub-request has none of.
const ENTITY_FIELDS: [&str; 10] = [
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-Location",
    "Content-MD5",
    "Content-Range",
    "Content-Type",
    "Expires",
    "Last-Modified",
    "Transfer-Encoding",
];

impl Request {
    /// Takes a URI's path and query apart: what `ap_parse_uri` does for a path.
    pub fn set_uri(&mut self, uri: &[u8]) {
        self.unparsed_uri = uri.into();
        let uri = uri.split_once_str("#").map_or(uri, |(path, _)| path);
        match uri.split_once_str("?") {
            Some((path, query)) => {
                self.raw_path = path.into();
                self.args = Some(query.into());
            }
            None => {
                self.raw_path = uri.into();
                self.args = None;
            }
        }
        self.uri.clone_from(&self.raw_path);
    }

    fn make_sub_request(&self) -> Box<Request> {
        let mut sub = Box::new(Request::new(self.runtime.clone(), self.connection.clone()));
        sub.server = self.server.clone();
        sub.dir = self.server.lookup_defaults.clone();
        sub.lane = self.lane;
        sub.useragent = self.useragent.clone();
        sub.is_subrequest = true;
        sub.origin = Some(self.as_origin(false));
        sub.depth = self.depth + 1;
        sub.request_time = self.request_time;
        sub.the_request = self.the_request.clone();
        sub.proto_num = self.proto_num;
        // As a sub-request is told from others, by programs, too.
        sub.protocol = *b"INCLUDED";
        sub.no_local_copy = true;
        sub.hostname = self.hostname.clone();
        sub.host_port = self.host_port;
        sub.headers_in.copy(&self.headers_in);
        sub.kept_body.clone_from(&self.kept_body);
        let of_body: &[&str] = if sub.kept_body.is_some() { &[] } else { &ENTITY_FIELDS };
        for name in of_body {
            sub.headers_in.unset(name);
        }
        sub.headers_in.watch(self.headers_in.watcher());
        sub.subprocess_env.copy(&self.subprocess_env);
        sub.subprocess_env.watch(self.subprocess_env.watcher());
        sub.rewritten.cookies.clone_from(&self.rewritten.cookies);
        sub.rewritten.of_subs = self.rewritten.of_subs.get_or_init(Default::default).clone().into();
        sub.log_id = self.log_id.clone();
        sub.cursor = Cursor { at: At::Normalize, ..Cursor::default() };
        sub
    }

    /// What a request that comes of this one may take over.
    fn as_origin(&self, redirected: bool) -> Arc<Origin> {
        Arc::new(Origin {
            dir: self.dir.clone(),
            user: self.user.clone(),
            auth_type: self.auth_type.clone(),
            uri: self.uri.clone(),
            origin: self.origin.clone(),
            redirected,
        })
    }

    /// The way that led here, for who looks for a circle: `log_backtrace`. `uri` is where it ends, `origin` what was before.
    fn log_backtrace(&self, uri: &BString, origin: Option<&Origin>) {
        rerror!(self, Level::Debug, "core", "AH00121", "r->uri = {uri}");
        let mut before = origin;
        while let Some(origin) = before {
            let uri = &origin.uri;
            if origin.redirected {
                rerror!(self, Level::Debug, "core", "AH00122", "redirected from r->uri = {uri}");
            } else {
                rerror!(self, Level::Debug, "core", "AH00123", "subrequested from r->uri = {uri}");
            }
            before = origin.origin.as_deref();
        }
    }

    /// True when redirects and sub-requests lead in a circle: `ap_is_recursion_limit_exceeded`.
    pub fn recursion_limit_exceeded(&self) -> bool {
        let server = self.server.conf.get(&core::SERVER);
        let limits = [server.redirect_limit.unwrap_or(10), server.subrequest_limit.unwrap_or(10)];
        // A sub-request is one too many; the way ends where it was asked for.
        let (uri, before) = match &self.origin {
            Some(main) if self.is_subrequest => (&main.uri, main.origin.as_deref()),
            _ => (&self.uri, self.origin.as_deref()),
        };
        let (mut redirects, mut subrequests) = (0, 0);
        for step in std::iter::successors(before, |step| step.origin.as_deref()) {
            if step.redirected {
                redirects += 1;
            } else {
                subrequests += 1;
            }
            if redirects >= limits[0] {
                rerror!(
                    self,
                    Level::Error,
                    "core",
                    "AH00124",
                    "Request exceeded the limit of {} internal redirects due to probable configuration error. Use 'LimitInternalRecursion' to increase the limit if necessary. Use 'LogLevel debug' to get a backtrace.",
                    limits[0]
                );
            } else if subrequests >= limits[1] {
                rerror!(
                    self,
                    Level::Error,
                    "core",
                    "AH00125",
                    "Request exceeded the limit of {} subrequest nesting levels due to probable configuration error. Use 'LimitInternalRecursion' to increase the limit if necessary. Use 'LogLevel debug' to get a backtrace.",
                    limits[1]
                );
            } else {
                continue;
            }
            self.log_backtrace(uri, before);
            return true;
        }
        false
    }

    fn run_sub_request(mut self: Box<Self>) -> Result<Box<Request>, super::Step> {
        if self.recursion_limit_exceeded() {
            self.status = status::INTERNAL_SERVER_ERROR;
            return Ok(self);
        }
        match self.process_request_internal() {
            Outcome::Serve | Outcome::Done => {}
            Outcome::Status(code) => self.status = code,
            Outcome::NeedThread => return Err(super::Step::NeedThread),
        }
        Ok(self)
    }

    /// What `uri` would give: run up to the fixups. Its status is 200 when it can be served.
    ///
    /// `Err` is `NeedThread`, for the hook that asks to pass on.
    pub fn sub_req_lookup_uri(&self, uri: &[u8]) -> Result<Box<Request>, super::Step> {
        self.lookup_uri(self.make_sub_request(), uri)
    }

    /// The same with this request's method, and its body where that is kept: `ap_sub_req_method_uri`.
    pub fn sub_req_method_uri(&self, uri: &[u8]) -> Result<Box<Request>, super::Step> {
        let mut sub = self.make_sub_request();
        sub.method = self.method;
        sub.method_name.clone_from(&self.method_name);
        self.lookup_uri(sub, uri)
    }

    fn lookup_uri(&self, mut sub: Box<Request>, uri: &[u8]) -> Result<Box<Request>, super::Step> {
        if uri.first() == Some(&b'/') {
            sub.set_uri(uri);
        } else {
            let cut = self.uri.rfind_byte(b'/').map_or(0, |at| at + 1);
            sub.set_uri(&[&*crate::http::escape::os_escape_path(&self.uri[..cut], true), uri].concat());
        }
        sub.run_sub_request()
    }

    /// What the file `name` (absolute, or beside this request's file) would give.
    pub fn sub_req_lookup_file(&self, name: &[u8]) -> Result<Box<Request>, super::Step> {
        self.lookup_path(name)
    }

    /// What a directory entry beside this request's file would give, with this request's `path_info` and query string
    /// (`AP_SUBREQ_MERGE_ARGS`); `info` spares it a `stat`.
    pub fn sub_req_lookup_dirent(&self, name: &[u8], info: FileInfo) -> Result<Box<Request>, super::Step> {
        let mut sub = self.make_sub_request();
        let parent = |path: &[u8]| path.rfind_byte(b'/').map_or(0, |at| at + 1);
        let uri = self.uri.strip_suffix(self.path_info.as_slice()).unwrap_or(&self.uri);
        // A symbolic link shows what it is in the walk only.
        let slash: &[u8] = if info.is_dir() { b"/" } else { b"" };
        let behind = if self.path_info.is_empty() { slash } else { &self.path_info };
        sub.uri = [&uri[..parent(uri)], name, behind].concat().into();
        sub.raw_path.clone_from(&sub.uri);
        sub.unparsed_uri.clone_from(&sub.uri);
        sub.args.clone_from(&self.args);
        sub.path_info.clone_from(&self.path_info);
        sub.filename = [&self.filename[..parent(&self.filename)], name, slash].concat().into();
        sub.finfo = Some(info);
        sub.cursor = Cursor { at: At::MapToStorage, ..Cursor::default() };
        sub.run_sub_request()
    }

    fn lookup_path(&self, name: &[u8]) -> Result<Box<Request>, super::Step> {
        let mut sub = self.make_sub_request();
        if name.first() == Some(&b'/') {
            sub.filename = super::walk::canonical_path(name).into();
        } else {
            let mut dir = self.filename.clone();
            if self.finfo.is_some_and(|f| f.is_dir()) {
                if dir.last() != Some(&b'/') {
                    dir.push(b'/');
                }
            } else {
                let cut = dir.rfind_byte(b'/').map_or(0, |at| at + 1);
                dir.truncate(cut);
            }
            dir.extend_from_slice(name);
            sub.filename = super::walk::canonical_path(&dir).into();
        }
        // Beside this request's file, it has a URI beside this request's; else none can be told.
        let folder = |path: &[u8]| path.rfind_byte(b'/').map_or(0, |at| at + 1);
        let beside = sub.filename.strip_prefix(&self.filename[..folder(&self.filename)]);
        let uri: BString = match beside.filter(|name| !name.is_empty() && !name.contains(&b'/')) {
            Some(name) => [&self.uri[..folder(&self.uri)], name].concat().into(),
            None => BString::default(),
        };
        sub.unparsed_uri = uri.clone();
        sub.raw_path = uri.clone();
        sub.uri = uri;
        // The name came from the file system: nothing to decode.
        sub.cursor = Cursor { at: At::MapToStorage, ..Cursor::default() };
        sub.run_sub_request()
    }

    /// Runs a sub-request's handler and collects its content: `ap_run_sub_req`. `None`: it failed.
    ///
    /// `Err` is `NeedThread`, for the handler that asks to pass on.
    pub fn run_for_bytes(&mut self) -> Result<Option<Vec<u8>>, super::Step> {
        let mut content = loop {
            match self.invoke_handler() {
                Answer::Body(content) => break self.apply_output_filters(content),
                Answer::NeedThread => return Err(super::Step::NeedThread),
                Answer::Wait(wait) => self.wait_on_thread(wait)?,
                Answer::Redirect(_) | Answer::RedirectHandler(_) | Answer::Status(_) | Answer::Declined => {
                    return Ok(None);
                }
            }
        };
        let mut bytes = Vec::new();
        loop {
            match content.pull_bytes(self, 64 * 1024) {
                Ok(Pull::Chunk(Chunk::Bytes(piece))) => bytes.extend_from_slice(&piece),
                Ok(Pull::Chunk(Chunk::File(mut slice))) => {
                    while slice.len > 0 {
                        let Ok(piece) = slice.read(64 * 1024) else { return Ok(None) };
                        bytes.extend_from_slice(&piece);
                    }
                }
                Ok(Pull::Flush) => {}
                Ok(Pull::Wait(wait)) => self.wait_on_thread(wait)?,
                Ok(Pull::NeedThread) => return Err(super::Step::NeedThread),
                Ok(Pull::End(_)) => return Ok(Some(bytes)),
                Err(_) => return Ok(None),
            }
        }
    }

    /// Waits for a descriptor, on a thread that may.
    pub(crate) fn wait_on_thread(&self, wait: Wait) -> Result<(), super::Step> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        if self.needs_thread() {
            return Err(super::Step::NeedThread);
        }
        let Some(fd) = crate::os::socket::borrow(wait.fd) else {
            return Err(super::Step::Status(status::INTERNAL_SERVER_ERROR));
        };
        let flags = if wait.read { PollFlags::POLLIN } else { PollFlags::POLLOUT };
        let timeout = PollTimeout::try_from(wait.timeout.as_millis()).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, flags)], timeout) {
            Ok(0) => Err(super::Step::Status(status::GATEWAY_TIME_OUT)),
            _ => Ok(()),
        }
    }

    /// Replaces this request by one for `uri`; the old one is its `prev`: `internal_internal_redirect`.
    pub fn internal_redirect(&mut self, uri: &[u8]) {
        let mut new = Request::new(self.runtime.clone(), self.connection.clone());
        new.set_uri(uri);
        new.lane = self.lane;
        new.useragent = self.useragent.clone();
        new.server = self.server.clone();
        new.dir = self.server.lookup_defaults.clone();
        new.origin = Some(self.as_origin(true));
        new.is_subrequest = self.is_subrequest;
        new.depth = self.depth;
        new.method = self.method;
        new.method_name = self.method_name.clone();
        new.the_request = self.the_request.clone();
        new.allowed = self.allowed;
        new.status = self.status;
        new.assbackwards = self.assbackwards;
        new.header_only = self.header_only;
        new.proto_num = self.proto_num;
        new.protocol = self.protocol;
        new.hostname = self.hostname.clone();
        new.host_port = self.host_port;
        new.request_time = self.request_time;
        new.headers_in = std::mem::take(&mut self.headers_in);
        self.headers_in.copy(&new.headers_in);
        if status::is_redirect(new.status)
            && let Some(location) = self.headers_out.get("Location")
        {
            new.headers_out.set("Location", location);
        }
        if self.notes.contains("redirect-keeps-vary")
            && let Some(vary) = self.headers_out.get("Vary")
        {
            new.headers_out.set("Vary", vary);
        }
        new.rewritten.clone_from(&self.rewritten);
        new.err_headers_out.clone_from(&self.err_headers_out);
        for (name, value) in self.subprocess_env.iter() {
            new.subprocess_env.set([b"REDIRECT_", name].concat(), value);
        }
        new.subprocess_env.set("REDIRECT_STATUS", self.status.to_string());
        new.no_cache = self.no_cache;
        new.no_local_copy = self.no_local_copy;
        new.vlist_validator = self.vlist_validator.clone();
        if self.notes.contains("close") {
            // It is about the connection.
            new.notes.set("close", "1");
        }
        new.keepalives = self.keepalives;
        new.keepalive = self.keepalive;
        new.bytes_in = self.bytes_in;
        new.expecting_100 = self.expecting_100;
        new.log_id = self.log_id.clone();
        new.kept_body.clone_from(&self.kept_body);
        new.input = std::mem::take(&mut self.input);
        let old = std::mem::replace(self, new);
        self.prev = Some(Box::new(old));
    }

    /// Makes this request what the sub-request `sub` found, without running it again: `ap_internal_fast_redirect`.
    pub fn internal_fast_redirect(&mut self, mut sub: Box<Request>) {
        self.filename = std::mem::take(&mut sub.filename);
        self.uri = std::mem::take(&mut sub.uri);
        self.args = sub.args.take();
        self.path_info = std::mem::take(&mut sub.path_info);
        self.finfo = sub.finfo;
        self.handler = sub.handler.take();
        self.content_type = sub.content_type.take();
        self.content_encoding = sub.content_encoding.take();
        self.content_languages = std::mem::take(&mut sub.content_languages);
        self.dir = sub.dir.clone();
        self.proxyreq = sub.proxyreq;
        self.no_cache &= sub.no_cache;
        self.no_local_copy &= sub.no_local_copy;
        self.mtime = sub.mtime;
        self.rewritten.cookies = std::mem::take(&mut sub.rewritten.cookies);
        overlay_onto(&mut self.notes, &sub.notes);
        overlay_onto(&mut self.headers_out, &sub.headers_out);
        overlay_onto(&mut self.err_headers_out, &sub.err_headers_out);
        // It began with a copy of the variables; those that it unset stay, as in Apache, but none is there twice.
        let mut before = std::mem::replace(&mut self.subprocess_env, std::mem::take(&mut sub.subprocess_env));
        let watcher = before.watcher();
        before.watch(None);
        self.subprocess_env.watch(None);
        for (name, value) in before.iter() {
            self.subprocess_env.set_if_absent(name, value);
        }
        self.subprocess_env.watch(watcher);
        if sub.user.is_some() {
            self.user = sub.user.take();
        }
        if sub.auth_type.is_some() {
            self.auth_type = sub.auth_type.take();
        }
        self.output_filters = std::mem::take(&mut sub.output_filters);
    }
}

/// `theirs`, then `mine`: what is asked for by name is found in the sub-request's first.
fn overlay_onto(mine: &mut Table, theirs: &Table) {
    if !theirs.is_empty() {
        *mine = Table::overlay(theirs, mine);
    }
}
