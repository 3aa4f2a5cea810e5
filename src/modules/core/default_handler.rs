//! The handler of last resort: sends the file.
//!
//! Answers to `default_handler` of `server/core.c` and `ap_send_http_options`, `ap_send_http_trace`.

use bstr::ByteSlice;

use super::{DIR, PathInfo, Trace};
use crate::body::{self, Content, FileSlice};
use crate::conn::file_cache;
use crate::conn::h1::decimal;
use crate::conn::input::Pulled;
use crate::http::conditional::{self, EtagBits};
use crate::http::method::Method;
use crate::http::status::Status;
use crate::http::{date, status};
use crate::log::{Level, rerror, shown};
use crate::request::{Answer, FileInfo, Request, memo};

pub(super) fn handler(r: &mut Request) -> Answer {
    r.allowed |= Method::GET.bit() | Method::OPTIONS.bit() | Method::POST.bit();
    if let Some(answer) = r.discard_request_body() {
        return answer;
    }
    match r.method {
        Method::GET | Method::POST => file(r),
        Method::OPTIONS => send_options(r),
        Method::INVALID => {
            let line = shown(&r.the_request);
            if matches!(r.the_request.get(..2), Some([0x16, 2 | 3])) {
                rerror!(
                    r,
                    Level::Error,
                    "core",
                    "AH00134",
                    "Invalid method in request {line} - possible attempt to establish SSL connection on non-SSL port"
                );
            } else {
                rerror!(r, Level::Error, "core", "AH00135", "Invalid method in request {line}");
            }
            Answer::Status(status::NOT_IMPLEMENTED)
        }
        _ => Answer::Status(status::METHOD_NOT_ALLOWED),
    }
}

fn file(r: &mut Request) -> Answer {
    let Some(info) = r.finfo else {
        rerror!(
            r,
            Level::Info,
            "core",
            "AH00128",
            "File does not exist: {}{}",
            shown(&r.filename),
            shown(&r.path_info)
        );
        return Answer::Status(status::NOT_FOUND);
    };
    if info.is_dir() {
        rerror!(r, Level::Info, "core", "AH00129", "Attempt to serve directory: {}", shown(&r.filename));
        return Answer::Status(status::NOT_FOUND);
    }
    let accepts = r.dir(&DIR).accept_path_info == Some(PathInfo::On);
    if !accepts && !r.path_info.is_empty() {
        rerror!(
            r,
            Level::Info,
            "core",
            "AH00130",
            "File does not exist: {}{}",
            shown(&r.filename),
            shown(&r.path_info)
        );
        return Answer::Status(status::NOT_FOUND);
    }
    // Who dumps replies shows files as such.
    let read = if r.connection.dump.output { file_cache::uncached } else { file_cache::content };
    let content = match read(&r.filename, &info) {
        Ok(content) => content,
        Err(err) => {
            rerror!(
                r,
                Level::Error,
                "core",
                "AH00132",
                err = err,
                "file permissions deny server access: {}",
                shown(&r.filename)
            );
            return Answer::Status(status::FORBIDDEN);
        }
    };
    memo::offer();
    describe(r, &info, &content);
    let met = if r.no_local_copy || !status::is_success(r.status) { None } else { r.conditions().meets() };
    if let Some(code) = met {
        // No error page: the headers made so far, and nothing else.
        r.status = code;
        return Answer::Body(Content::Empty);
    }
    Answer::Body(content)
}

/// `Last-Modified`, `ETag`, `Accept-Ranges`, `Content-Length` of a file.
pub(crate) fn describe(r: &mut Request, info: &FileInfo, content: &Content) {
    r.mtime = r.mtime.max(info.mtime);
    r.set_last_modified();
    let conf = r.dir.clone();
    let bits = conf.get(&DIR).etag_bits();
    if let Some(tag) = r.make_etag(info, bits, content) {
        r.headers_out.set("ETag", tag);
    }
    r.headers_out.set("Accept-Ranges", if conf.get(&DIR).max_ranges == Some(-1) { "none" } else { "bytes" });
    let mut digits = [0; 20];
    r.headers_out.set("Content-Length", decimal(info.size, &mut digits));
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
        self.request_time.div_euclid(1_000_000)
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
            vlist_validator: self.vlist_validator.as_deref(),
        })
    }
}

fn sha1_digest(content: &Content) -> Option<[u8; 20]> {
    use sha1::Digest;
    let mut hash = sha1::Sha1::new();
    each_block(content, |block| hash.update(block))?;
    Some(hash.finalize().into())
}

/// OPTIONS of a file: `ap_send_http_options`. The length is set when the head is written.
fn send_options(r: &mut Request) -> Answer {
    if r.assbackwards {
        return Answer::Declined;
    }
    let allow = r.allow_header();
    r.headers_out.set("Allow", allow);
    // Apache's filters run when this has ended, with nothing to pass on.
    r.cursor.by_type = false;
    Answer::Body(Content::Empty)
}

/// What a body may hold that `TraceEnable extended` gives back.
const MOST_TRACED: u64 = 64 * 1024;

/// TRACE: the request's head comes back as `message/http`: `ap_send_http_trace`.
pub(crate) fn send_trace(r: &mut Request) -> Answer {
    let trace = r.server.resolved.trace;
    let refuse = |r: &mut Request, code: Status, notes: &str| {
        r.notes.set("error-notes", notes);
        Answer::Status(code)
    };
    if trace == Trace::Off {
        return refuse(r, status::METHOD_NOT_ALLOWED, "TRACE denied by server configuration");
    }
    if let Some(coding) = r.headers_in.get("Transfer-Encoding")
        && !coding.eq_ignore_ascii_case(b"chunked")
    {
        // `ap_setup_client_block` is stricter than the reading of heads.
        rerror!(r, Level::Info, "http", "AH01592", "Unknown Transfer-Encoding {}", shown(coding));
        return Answer::Status(status::NOT_IMPLEMENTED);
    }
    if !r.input.is_ended() && trace != Trace::Extended {
        // Apache says so in `ap_setup_client_block` (AH01595), too.
        rerror!(r, Level::Info, "http", "AH01595", "TRACE with body is not allowed for {}", shown(&r.uri));
        return refuse(r, status::REQUEST_ENTITY_TOO_LARGE, "TRACE with a request body is not allowed");
    }
    loop {
        if r.input.length().max(r.input.kept.len() as u64) > MOST_TRACED {
            let notes = "Extended TRACE request bodies cannot exceed 64k\n";
            return refuse(r, status::REQUEST_ENTITY_TOO_LARGE, notes);
        }
        match r.pull_input() {
            Ok(Pulled::Data(data)) => r.input.kept.extend_from_slice(&data),
            Ok(Pulled::End) => break,
            Ok(Pulled::Wait) => return r.wait_for_input(),
            Ok(Pulled::Bad(code)) => return Answer::Status(code),
            Err(_) => return Answer::Status(status::BAD_REQUEST),
        }
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
    body.append(&mut r.input.kept);
    r.set_content_type("message/http");
    // Sent before its end is known to the CONTENT_LENGTH filter: without a length.
    Answer::Body(body::generated(body, true))
}
