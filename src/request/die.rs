//! Ends a request with a status: the custom reply of `ErrorDocument`, or the canned page.
//!
//! Answers to `ap_die` of `modules/http/http_request.c` and `ap_send_error_response` of `http_protocol.c`.

use bstr::ByteSlice;

use super::Request;
use crate::body::{Content, generated};
use crate::expr::Failure;
use crate::http::error_page::ErrorPage;
use crate::http::escape;
use crate::http::method::Method;
use crate::http::status::{self, Status};
use crate::log::{Level, rerror};
use crate::modules::core::{self, ErrorDocument};

/// How an error goes on.
pub enum Death {
    /// With this content.
    Reply(Content),
    /// The request was replaced by one for a local ErrorDocument: run it.
    Redirected,
    /// Where it goes can't be told here: to be asked again on a thread that may block.
    NeedThread,
}

impl Request {
    /// Ends the request with `code`. `recursive`: the error that was being answered when this one came up, or 200.
    pub fn die(&mut self, mut code: Status, recursive: Status) -> Death {
        if !status::is_valid_response(code) {
            rerror!(self, Level::Error, "http", "AH01579", "Invalid response status {code}");
            code = status::INTERNAL_SERVER_ERROR;
        }
        self.status = code;
        if status::drops_connection(code) {
            self.keepalive = false;
            self.notes.set("close", "1");
        }
        if recursive != status::OK {
            // No second try: the canned page for the first error, which mentions that there was another one.
            self.back_out();
            return Death::Reply(self.send_error_response(recursive));
        }
        let custom = match self.dir(&core::DIR).error_document(code) {
            Some(document) => document.clone(),
            None => return Death::Reply(self.send_error_response(0)),
        };
        match custom {
            ErrorDocument::Default => Death::Reply(self.send_error_response(0)),
            ErrorDocument::Text(expr) => {
                let text = match self.evaluate_string(&expr) {
                    Err(Failure::NeedThread) => return Death::NeedThread,
                    text => text.unwrap_or_default(),
                };
                self.reset_filters();
                self.begin_error_response();
                if self.header_only && !self.assbackwards {
                    return Death::Reply(Content::Empty);
                }
                Death::Reply(generated(text, false))
            }
            ErrorDocument::Url(expr) => {
                let url = match self.evaluate_string(&expr) {
                    Err(Failure::NeedThread) => return Death::NeedThread,
                    url => url.unwrap_or_default(),
                };
                if escape::is_url(&url) {
                    self.status = status::MOVED_TEMPORARILY;
                    self.headers_out.set("Location", &url);
                    return Death::Reply(self.send_error_response(0));
                }
                if url.first() == Some(&b'/') {
                    if self.recursion_limit_exceeded() {
                        self.status = status::INTERNAL_SERVER_ERROR;
                        return Death::Reply(self.send_error_response(0));
                    }
                    self.no_local_copy = true;
                    self.subprocess_env.set("REQUEST_METHOD", &self.method_name);
                    if let Some(notes) = self.notes.get("error-notes").map(<[u8]>::to_vec) {
                        self.subprocess_env.set("ERROR_NOTES", notes);
                    }
                    self.internal_redirect(&url);
                    self.method = Method::GET;
                    self.method_name = std::borrow::Cow::Borrowed(b"GET");
                    return Death::Redirected;
                }
                rerror!(
                    self,
                    Level::Error,
                    "http",
                    "AH01580",
                    "Invalid error redirection directive: {}",
                    url.as_bstr()
                );
                Death::Reply(self.send_error_response(status::INTERNAL_SERVER_ERROR))
            }
        }
    }

    /// Goes back to the request that failed first, when its ErrorDocument failed as well. Those in between are kept for the
    /// log.
    fn back_out(&mut self) {
        while let Some(prev) = self.prev.take_if(|prev| prev.status != status::OK) {
            let mut given_up = std::mem::replace(self, *prev);
            let length_unknown = self.length_unknown;
            self.take_connection(&mut given_up);
            self.length_unknown |= length_unknown;
            // A redirected request has the same table as the one that it came from.
            self.err_headers_out = std::mem::take(&mut given_up.err_headers_out);
            if given_up.notes.contains("close") {
                self.notes.set("close", "1");
            }
            given_up.next = std::mem::take(&mut self.next);
            self.next.append(&mut given_up.next);
            self.next.push(given_up);
        }
    }

    /// Puts back what [`Request::back_out`] set aside: the log shows how the whole chain ended.
    pub(crate) fn come_back(&mut self) {
        while let Some(next) = self.next.pop() {
            let mut before = std::mem::replace(self, next);
            self.take_connection(&mut before);
            self.next = std::mem::take(&mut before.next);
            self.prev = Some(Box::new(before));
        }
    }

    /// Takes over what belongs to the connection rather than to one of the requests of a chain.
    fn take_connection(&mut self, other: &mut Request) {
        self.input = std::mem::take(&mut other.input);
        self.lane = other.lane;
        self.keepalive = other.keepalive;
        self.keepalives = other.keepalives;
        self.expecting_100 = other.expecting_100;
        self.length_unknown = other.length_unknown;
        self.bytes_in = other.bytes_in;
        self.bytes_out = other.bytes_out;
        self.aborted = other.aborted;
        self.ttfb = other.ttfb;
    }

    /// What filters would do to content they don't do to an error's; others may.
    fn reset_filters(&mut self) {
        self.output_filters.clear();
        let runtime = self.runtime.clone();
        for hook in runtime.hooks.insert_error_filter.iter() {
            hook(self);
        }
    }

    /// Puts the headers of an error reply in place of those of success.
    fn begin_error_response(&mut self) {
        if self.assbackwards {
            return;
        }
        let location = self
            .headers_out
            .get("Location")
            .or_else(|| self.err_headers_out.get("Location"))
            .map(<[u8]>::to_vec);
        self.headers_out = std::mem::take(&mut self.err_headers_out);
        if (status::is_redirect(self.status) || self.status == status::CREATED)
            && let Some(location) = location.filter(|l| !l.is_empty())
        {
            self.headers_out.set("Location", location);
        }
        self.content_languages.clear();
        self.content_encoding = None;
        if self.subprocess_env.contains("suppress-error-charset") {
            self.content_type = Some("text/html".into());
        } else {
            self.content_type = Some("text/html; charset=iso-8859-1".into());
        }
        if matches!(self.status, status::METHOD_NOT_ALLOWED | status::NOT_IMPLEMENTED) {
            let allow = self.allow_header();
            self.headers_out.set("Allow", allow);
        }
    }

    /// The canned page for `self.status`; `recursive`: the error met while answering the first one (0: none).
    pub fn send_error_response(&mut self, recursive: Status) -> Content {
        self.reset_filters();
        if self.status == status::NOT_MODIFIED {
            return Content::Empty;
        }
        self.begin_error_response();
        if self.header_only && !self.assbackwards || status::is_header_only(self.status) {
            return Content::Empty;
        }
        let signature = core::tokens::signature(self, "<hr>\n");
        let mut page = Vec::with_capacity(512);
        ErrorPage {
            status: self.status,
            status_line: self.status_line.as_deref().map(str::as_bytes),
            // An ErrorDocument is asked for with GET, and that is still the method while its failure is answered.
            method: if self.next.is_empty() { &self.method_name } else { b"GET" },
            location: self.headers_out.get("Location").unwrap_or_default(),
            expect: self.headers_in.get("Expect"),
            error_notes: self.notes.get("error-notes"),
            variant_list: self.notes.get("variant-list"),
            verbose_error_to: self.notes.get("verbose-error-to"),
            server_admin: self.server.admin().as_bytes(),
            recursive_error: (recursive != 0).then_some(recursive),
            signature: &signature,
        }
        .write(&mut page);
        Content::from(page)
    }

    /// The methods that would be allowed, as the `Allow` header lists them: `make_allow`.
    pub fn allow_header(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for method in Method::builtins() {
            if self.allowed & method.bit() == 0 || method == Method::TRACE {
                continue;
            }
            names.extend(method.builtin_token().map(str::to_owned));
            if method == Method::GET {
                names.push("HEAD".to_owned());
            }
        }
        if self.server.resolved.trace != core::Trace::Off {
            names.push("TRACE".to_owned());
        }
        names.extend(self.allowed_extensions.iter().cloned());
        names.join(",")
    }
}
