//! The handler of last resort: sends the file.
//!
//! Answers to `default_handler` of `server/core.c` and `ap_send_http_options`, `ap_send_http_trace`.

use bstr::ByteSlice;

use super::{DIR, PathInfo, Trace};
use crate::body::{Content, FileSlice};
use crate::conn::file_cache;
use crate::http::conditional::{self, EtagBits};
use crate::http::method::Method;
use crate::http::{date, status};
use crate::log::{Level, rerror};
use crate::request::{Answer, FileInfo, Request};

pub(super) fn handler(r: &mut Request) -> Answer {
    r.allowed |= Method::GET.bit() | Method::OPTIONS.bit() | Method::POST.bit();
    match r.discard_request_body() {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => return r.wait_for_input(),
        Ok(Err(code)) => return Answer::Status(code),
        Err(_) => return Answer::Status(status::BAD_REQUEST),
    }
    match r.method {
        Method::GET | Method::POST => file(r),
        Method::OPTIONS => send_options(r),
        Method::INVALID => {
            let line = &r.the_request;
            let hint = if line.first() == Some(&0x16) && matches!(line.get(1), Some(2 | 3)) {
                rerror!(
                    r,
                    Level::Error,
                    "core",
                    "AH00134",
                    "Invalid method in request {} - possible attempt to establish SSL connection on non-SSL port",
                    r.the_request
                );
                status::NOT_IMPLEMENTED
            } else {
                rerror!(r, Level::Error, "core", "AH00135", "Invalid method in request {}", r.the_request);
                status::NOT_IMPLEMENTED
            };
            Answer::Status(hint)
        }
        _ => Answer::Status(status::METHOD_NOT_ALLOWED),
    }
}

fn file(r: &mut Request) -> Answer {
    let Some(info) = r.finfo else {
        rerror!(r, Level::Info, "core", "AH00128", "File does not exist: {}{}", r.filename, r.path_info);
        return Answer::Status(status::NOT_FOUND);
    };
    if info.is_dir() {
        rerror!(r, Level::Info, "core", "AH00129", "Attempt to serve directory: {}", r.filename);
        return Answer::Status(status::NOT_FOUND);
    }
    let accepts = r.dir(&DIR).accept_path_info == Some(PathInfo::On);
    if !accepts && !r.path_info.is_empty() {
        rerror!(r, Level::Info, "core", "AH00130", "File does not exist: {}{}", r.filename, r.path_info);
        return Answer::Status(status::NOT_FOUND);
    }
    let content = match file_cache::content(&r.filename, &info) {
        Ok(content) => content,
        Err(err) => {
            rerror!(
                r,
                Level::Error,
                "core",
                "AH00132",
                err = err,
                "file permissions deny server access: {}",
                r.filename
            );
            return Answer::Status(status::FORBIDDEN);
        }
    };
    describe(r, &info, &content);
    let met = if r.no_local_copy || !status::is_success(r.status) { None } else { r.conditions().meets() };
    if let Some(code) = met {
        // 304 keeps the headers made so far; 412 gets the canned page.
        return Answer::Status(code);
    }
    r.headers_out.set("Content-Length", info.size.to_string());
    Answer::Body(content)
}

/// `Last-Modified`, `ETag`, `Accept-Ranges` of a file.
fn describe(r: &mut Request, info: &FileInfo, content: &Content) {
    r.mtime = r.mtime.max(info.mtime);
    r.set_last_modified();
    let conf = r.dir.clone();
    let bits = conf.get(&DIR).etag_bits();
    if let Some(tag) = r.make_etag(info, bits, content) {
        r.headers_out.set("ETag", tag);
    }
    r.headers_out.set("Accept-Ranges", if conf.get(&DIR).max_ranges == Some(-1) { "none" } else { "bytes" });
    if conf.get(&DIR).content_md5 == Some(true)
        && let Some(digest) = content_md5(content)
    {
        r.headers_out.set("Content-MD5", digest);
    }
}

fn content_md5(content: &Content) -> Option<String> {
    use base64::Engine;
    use md5::Digest;
    let mut hash = md5::Md5::new();
    each_block(content, |block| hash.update(block))?;
    Some(base64::engine::general_purpose::STANDARD.encode(hash.finalize()))
}

/// Shows the bytes of a file's content to `see`, block by block.
fn each_block(content: &Content, mut see: impl FnMut(&[u8])) -> Option<()> {
    match content {
        Content::Bytes(bytes) => see(bytes),
        Content::File(slice) => {
            let mut slice: FileSlice = slice.clone();
            while slice.len > 0 {
                see(&slice.read(64 * 1024).ok()?);
            }
        }
        Content::Empty => {}
        Content::Then(..) | Content::Stream(_) => return None,
    }
    Some(())
}

impl Request {
    /// `Last-Modified` from [`Request::mtime`], never in the future: `ap_set_last_modified`.
    pub fn set_last_modified(&mut self) {
        let now = self.request_secs();
        if self.mtime > 0 {
            let secs = (self.mtime / 1_000_000).min(now);
            self.headers_out.set("Last-Modified", date::rfc822(secs));
        }
    }

    /// When the request came, in seconds since 1970.
    pub fn request_secs(&self) -> i64 {
        self.request_time.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
    }

    /// The ETag of a file: `ap_make_etag`.
    pub fn make_etag(&self, info: &FileInfo, bits: EtagBits, content: &Content) -> Option<Vec<u8>> {
        let digest = if bits.has(EtagBits::DIGEST) { sha1_digest(content) } else { None };
        conditional::make_etag(&conditional::EtagSource {
            bits,
            // A folder counts as well: only what does not exist has no size (`APR_NOFILE`).
            is_file: true,
            inode: info.inode,
            size: info.size,
            mtime: info.mtime,
            request_time: self.request_micros(),
            force_weak: self.notes.contains("force-weak-etag"),
            digest,
            vlist_validator: self.notes.get("vlist-validator"),
        })
    }
}

fn sha1_digest(content: &Content) -> Option<[u8; 20]> {
    use sha1::Digest;
    let mut hash = sha1::Sha1::new();
    each_block(content, |block| hash.update(block))?;
    Some(hash.finalize().into())
}

pub(crate) fn send_options(r: &mut Request) -> Answer {
    let allow = r.allow_header();
    r.headers_out.set("Content-Length", "0");
    r.headers_out.set("Allow", allow);
    Answer::Body(Content::Empty)
}

/// TRACE: the request's head comes back as `message/http`: `ap_send_http_trace`.
pub(crate) fn send_trace(r: &mut Request) -> Answer {
    let trace = r.server.resolved.trace;
    let refuse = |r: &mut Request, notes: &str| {
        r.notes.set("error-notes", notes);
    };
    if trace == Trace::Off {
        refuse(r, "TRACE denied by server configuration");
        return Answer::Status(status::METHOD_NOT_ALLOWED);
    }
    if r.input.has_body() && trace != Trace::Extended {
        refuse(r, "TRACE with a request body is not allowed");
        return Answer::Status(status::REQUEST_ENTITY_TOO_LARGE);
    }
    let mut body = r.the_request.to_vec();
    body.extend_from_slice(b"\r\n");
    for (name, value) in r.headers_in.iter() {
        body.extend_from_slice(name.trim());
        body.extend_from_slice(b": ");
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"\r\n");
    r.set_content_type("message/http");
    Answer::Body(Content::from(body))
}
