//! HTTP/1: a request from its head, the head of a reply, the body's transfer coding.
//!
//! Answers to `ap_read_request` of `server/protocol.c` and `ap_http_header_filter` of `modules/http/http_filters.c`.

use std::borrow::Cow;

use crate::body::Content;
use crate::config::vhost::Vhosts;
use crate::http::conditional::Conditions;
use crate::http::escape::escape_logitem;
use crate::http::head::{Failed, Head};
use crate::http::method::Method;
use crate::http::persistence::{self, KeepAlive, Persistence};
use crate::http::status::Status;
use crate::http::{date, error_page, status};
use crate::log::{Level, rerror, shown};
use crate::modules::core;
use crate::os::clock;
use crate::request::{Request, memo};
use crate::table::{Table, find_token, is_token_char};

impl Request {
    /// Fills the request from a complete head and finds its server. An error is to be answered.
    pub fn begin_request(&mut self, head: &mut Head) -> Result<(), Failed> {
        let strict = self.server.resolved.head.strict();
        self.take_head(head);
        self.log_request_line();
        let host = head.check_host(&mut self.headers_in, strict);
        self.hostname = head.hostname().map(Into::into);
        self.host_port = head.port();
        self.foreign_scheme = head.has_foreign_scheme();
        self.select_server();
        self.log_head(head);
        host?;
        self.check_strict_host()?;
        head.check_request_header(&self.headers_in)?;
        self.expecting_100 = head.expecting_100;
        self.log_head(head);
        if head.close {
            self.notes.set("close", "1");
        }
        self.input.begin(head.framing);
        Ok(())
    }

    /// The request line, in the log.
    pub fn log_request_line(&self) {
        if !self.the_request.is_empty() && self.log_enabled("core", Level::Trace5) {
            let request = escape_logitem(&self.the_request);
            let request = shown(&request);
            rerror!(self, Level::Trace5, "core", "", "Request received from client: {request}");
        }
    }

    /// What the request's head says, in the log.
    pub fn log_headers(&self) {
        if self.log_enabled("http", Level::Trace4) {
            rerror!(self, Level::Trace4, "http", "", "Headers received from client:");
            for (name, value) in self.headers_in.iter() {
                self.log_field(Level::Trace4, name, value);
            }
        }
    }

    /// A header field in the log.
    fn log_field(&self, level: Level, name: &[u8], value: &[u8]) {
        let (name, value) = (escape_logitem(name), escape_logitem(value));
        rerror!(self, level, "http", "", "  {}: {}", shown(&name), shown(&value));
    }

    /// What the reply's head says, in the log.
    fn log_reply_head(&self) {
        let headers = if self.log_enabled("http", Level::Trace4) { ", headers:" } else { "" };
        rerror!(self, Level::Trace3, "http", "", "Response sent with status {}{headers}", self.status);
        if self.log_enabled("http", Level::Trace5) {
            clock::with_dates(self.request_secs(), |dates| {
                self.log_field(Level::Trace5, b"Date", dates.http().as_ref())
            });
            self.log_field(Level::Trace5, b"Server", self.runtime.banner.full.as_bytes());
        }
        if !headers.is_empty() {
            for (name, value) in self.headers_out.iter() {
                self.log_field(Level::Trace4, name, value);
            }
        }
    }

    /// The request line's parts, also of a head that was refused.
    pub fn take_head(&mut self, head: &Head) {
        self.the_request.clear();
        self.the_request.extend_from_slice(head.the_request());
        self.method = head.method.unwrap_or(Method::INVALID);
        self.method_name = match self.method.builtin_token() {
            Some("GET") if head.header_only => Cow::Borrowed(b"HEAD"),
            Some(name) => Cow::Borrowed(name.as_bytes()),
            None => match head.method_token() {
                Some(token) => Cow::Owned(token.to_vec()),
                None => Cow::Borrowed(b"-"),
            },
        };
        self.proto_num = head.version;
        self.protocol = head.protocol;
        self.header_only = head.header_only;
        self.assbackwards = head.assbackwards;
        self.unparsed_uri.clear();
        self.unparsed_uri.extend_from_slice(head.unparsed_uri());
        self.raw_path.clear();
        self.raw_path.extend_from_slice(head.path());
        self.uri.clone_from(&self.raw_path);
        self.args = head.args().map(Into::into);
    }

    fn log_head(&mut self, head: &mut Head) {
        for line in std::mem::take(&mut head.log) {
            self.log_line(&line);
        }
    }

    /// The virtual host by name: `ap_update_vhost_from_headers`.
    fn select_server(&mut self) {
        let Some(names) = &self.connection.names else { return };
        let host = self.hostname.as_ref().map(|h| h.as_slice());
        let index = if names.len() == 1 && host.is_some() {
            names.members().first().copied().unwrap_or(0)
        } else {
            Vhosts::select(Some(names), host, &self.uri)
        };
        if index != self.server.index
            && let Some(server) = self.runtime.servers.get(index)
        {
            self.server = server.clone();
            self.dir = server.lookup_defaults.clone();
        }
    }

    /// `StrictHostCheck`: a name that no server of the address has is refused.
    fn check_strict_host(&mut self) -> Result<(), Failed> {
        if !self.server.resolved.strict_host_check || self.hostname.is_none() {
            return Ok(());
        }
        let host = self.hostname.as_ref().map_or(&[][..], |h| h.as_slice());
        let named = |server: &crate::config::server::Server| {
            let same = |name: &str| name.as_bytes().eq_ignore_ascii_case(host);
            server.hostname.as_deref().is_some_and(same)
                || server.names.iter().any(|n| same(n))
                || server
                    .wild_names
                    .iter()
                    .any(|n| crate::fnmatch::strcmp_match(host, n.to_ascii_lowercase().as_bytes()))
        };
        if named(&self.server) {
            return Ok(());
        }
        let host = shown(host);
        match &self.server.defined_at {
            None => rerror!(
                self,
                Level::Warn,
                "core",
                "AH10156",
                "Requested hostname '{host}' did not match any ServerName/ServerAlias in the global server configuration "
            ),
            Some(at) => rerror!(
                self,
                Level::Warn,
                "core",
                "AH10157",
                "Requested hostname '{host}' did not match any ServerName/ServerAlias in the matching virtual host (default vhost for current connection is {}:{})",
                at.file,
                at.line
            ),
        }
        Err(Failed { status: status::BAD_REQUEST, notes: None, unusable_input: false })
    }

    /// True when the client has said that this request is its last, and it had no body that anything could follow.
    pub(crate) fn client_is_done(&self) -> bool {
        let said = self.headers_in.get("Connection").unwrap_or_default();
        let last = match self.proto_num {
            1001.. => find_token(said, "close"),
            _ => !find_token(said, "keep-alive"),
        };
        last && self.method == Method::GET && !self.input.has_body() && status::is_success(self.status)
    }

    /// What the conditional headers are judged by.
    pub fn conditions(&self) -> Conditions<'_> {
        let request_time = self.request_micros();
        Conditions {
            headers_in: &self.headers_in,
            headers_out: &self.headers_out,
            is_get: self.method == Method::GET,
            mtime: self.mtime,
            request_time,
            now: request_time,
        }
    }

    /// When the request came, in microseconds since 1970.
    pub fn request_micros(&self) -> i64 {
        self.request_time
    }

    /// The media type as it is sent, with the charset that `AddDefaultCharset` gives it: `ap_make_content_type`.
    pub fn full_content_type(&self) -> Option<Cow<'_, str>> {
        let media_type = self.content_type.as_deref()?;
        let charset = match &self.dir(&core::DIR).default_charset {
            Some(Some(charset)) => charset,
            _ => return Some(Cow::Borrowed(media_type)),
        };
        let is_text = ["text/plain", "text/html"].iter().any(|text| {
            media_type.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
                && !media_type[text.len()..].starts_with(|c: char| c.is_ascii_alphanumeric())
        });
        if !is_text || media_type.to_ascii_lowercase().contains("charset=") {
            return Some(Cow::Borrowed(media_type));
        }
        Some(Cow::Owned(format!("{media_type}; charset={charset}")))
    }

    /// No header field of the reply may hold what would end it: `check_headers`. A folded value is unfolded.
    pub fn check_headers(&mut self) -> bool {
        let strict = self.server.resolved.head.strict();
        let mut folded = false;
        for (name, value) in self.headers_out.iter().chain(self.err_headers_out.iter()) {
            let good_name = match strict {
                true => name.iter().all(|&c| is_token_char(c)),
                false => name.iter().all(|&c| c > b' ' && c != 0x7f),
            };
            if name.is_empty() {
                rerror!(
                    self,
                    Level::Error,
                    "http",
                    "AH02428",
                    "Empty response header name, aborting request"
                );
                return false;
            }
            if !good_name {
                let name = shown(name);
                rerror!(
                    self,
                    Level::Error,
                    "http",
                    "AH02429",
                    "Response header name '{name}' contains invalid characters, aborting request"
                );
                return false;
            }
            if value.iter().all(|&c| is_field_content(c)) {
                continue;
            }
            if let Err(at) = unfold(value) {
                let (name, value) = (shown(name), shown(value.get(at..).unwrap_or_default()));
                rerror!(
                    self,
                    Level::Error,
                    "http",
                    "AH02430",
                    "Response header '{name}' value of '{value}' contains invalid characters, aborting request"
                );
                return false;
            }
            folded = true;
        }
        if folded {
            for table in [&mut self.headers_out, &mut self.err_headers_out] {
                let mut unfolded = Table::new();
                for (name, value) in table.iter() {
                    unfolded.add(name, unfold(value).unwrap_or_default());
                }
                *table = unfolded;
            }
        }
        true
    }

    /// After [`Request::check_headers`] failed: the status to end with, or `None` the second time, when only an empty reply
    /// is left.
    pub fn forget_headers(&mut self, content: &Content) -> Option<Status> {
        self.headers_out.clear();
        self.err_headers_out.clear();
        self.content_type = None;
        self.content_encoding = None;
        self.content_languages.clear();
        let again = self.notes.contains("check_headers_recursion");
        self.notes.set("check_headers_recursion", "true");
        if again {
            self.status = status::INTERNAL_SERVER_ERROR;
            self.notes.set("close", "1");
            return None;
        }
        // The filter that tells the length has seen the end of this content, and expects no second one.
        self.length_unknown |= content.len().is_some();
        Some(status::INTERNAL_SERVER_ERROR)
    }

    /// Decides about the connection and appends the reply's head to `out`. True when the body goes chunked.
    pub fn reply_head(&mut self, content: &Content, stopping: bool, out: &mut Vec<u8>) -> bool {
        self.set_length(content);
        if !self.err_headers_out.is_empty() {
            self.headers_out = Table::overlay(&self.err_headers_out, &self.headers_out);
        }
        self.fix_vary();
        if self.notes.contains("no-etag") {
            self.headers_out.unset("ETag");
        }
        let down = self.downgraded();
        memo::decide_persistence(self);
        let decided = self.set_keepalive(stopping, down);
        if self.no_cache && !self.headers_out.contains("Expires") {
            self.headers_out.add("Expires", date::rfc822(self.request_secs()));
        }
        if self.assbackwards {
            return false;
        }
        let mut chunked = decided.chunked;
        if status::is_header_only(self.status) {
            self.headers_out.unset("Transfer-Encoding");
            self.headers_out.unset("Content-Length");
            self.content_type = None;
            self.content_encoding = None;
            self.content_languages.clear();
            chunked = false;
        } else if chunked {
            self.headers_out.merge("Transfer-Encoding", "chunked");
            self.headers_out.unset("Content-Length");
        }
        if let Some(media_type) = self.full_content_type() {
            let media_type = media_type.into_owned();
            self.headers_out.set("Content-Type", media_type);
        }
        if let Some(encoding) = &self.content_encoding {
            self.headers_out.set("Content-Encoding", encoding);
        }
        self.add_content_languages();
        // Nobody knows whether a handler that answered HEAD with nothing would answer GET so.
        if self.header_only && self.headers_out.get("Content-Length") == Some(b"0") {
            self.headers_out.unset("Content-Length");
        }
        if self.log_enabled("http", Level::Trace3) {
            self.log_reply_head();
        }
        self.write_head(down, out);
        chunked && !self.header_only
    }

    fn set_keepalive(&mut self, stopping: bool, down: bool) -> Persistence {
        let conf = &self.server.resolved;
        let decided = persistence::set_keepalive(
            &KeepAlive {
                enabled: conf.keep_alive,
                timeout_secs: conf.keep_alive_timeout.as_secs(),
                timeout_positive: !conf.keep_alive_timeout.is_zero(),
                max_requests: conf.keep_alive_max,
                keepalives: self.keepalives,
                version: self.proto_num,
                header_only: self.header_only,
                status: self.status,
                close: self.notes.contains("close") || self.assbackwards || self.input.broken || down,
                expecting_100: self.expecting_100,
                nokeepalive: self.subprocess_env.contains("nokeepalive"),
                stopping,
            },
            &self.headers_in,
            &mut self.headers_out,
        );
        self.keepalive = decided.keep;
        self.keepalives = decided.keepalives;
        decided
    }

    /// The reply is given up for an error page: about the connection it has been decided already, and it is counted.
    pub fn give_up_reply(&mut self, content: &Content, stopping: bool) {
        self.set_length(content);
        // They were among the others by now, and are lost with them.
        self.err_headers_out.clear();
        let down = self.downgraded();
        if !self.set_keepalive(stopping, down).keep {
            self.notes.set("close", "1");
        }
        self.length_unknown = true;
    }

    /// `Content-Length`, where the length is known before the head goes out: `ap_content_length_filter`.
    fn set_length(&mut self, content: &Content) {
        let Some(length) = content.len().filter(|_| !self.length_unknown) else { return };
        let no_body = self.header_only || status::is_header_only(self.status);
        if no_body && length == 0 && self.headers_out.contains("Content-Length") {
            return;
        }
        let mut digits = [0; 20];
        self.headers_out.set("Content-Length", decimal(length, &mut digits));
    }

    /// Each name once in `Vary`; none for clients that it confuses (`force-no-vary`).
    fn fix_vary(&mut self) {
        if self.subprocess_env.contains("force-no-vary") {
            self.headers_out.unset("Vary");
            self.proto_num = 1000;
            self.subprocess_env.set("force-response-1.0", "1");
        } else if self.headers_out.contains("Vary") {
            let mut names: Vec<&[u8]> = Vec::new();
            for (_, value) in self.headers_out.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"Vary")) {
                for name in value.split(|&b| b == b',' || b.is_ascii_whitespace()).filter(|n| !n.is_empty()) {
                    if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                        names.push(name);
                    }
                }
            }
            let vary = names.join(&b","[..]);
            if !vary.is_empty() {
                self.headers_out.set("Vary", vary);
            }
        }
    }

    /// `downgrade-1.0` and `force-response-1.0`: true when the reply must look like HTTP/1.0.
    fn downgraded(&mut self) -> bool {
        if self.subprocess_env.is_empty() || self.assbackwards {
            return false;
        }
        if self.proto_num > 1000 && self.subprocess_env.contains("downgrade-1.0") {
            self.proto_num = 1000;
        }
        self.proto_num == 1000 && self.subprocess_env.contains("force-response-1.0")
    }

    fn add_content_languages(&mut self) {
        if self.content_languages.is_empty() {
            return;
        }
        let mut all = self.content_languages.join(",");
        if let Some(present) = self.headers_out.get_str("Content-Language") {
            for language in present.split(',').map(str::trim).filter(|l| !l.is_empty()) {
                if !self.content_languages.iter().any(|known| known.eq_ignore_ascii_case(language)) {
                    all.push(',');
                    all.push_str(&language.to_ascii_lowercase());
                }
            }
        }
        self.headers_out.set("Content-Language", all);
    }

    /// Status line, `Date`, `Server`, then the headers in order.
    fn write_head(&mut self, down: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(if down { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
        let custom = error_page::head_line(self.status, self.status_line.as_deref().map(str::as_bytes));
        match &custom {
            Some(line) => out.extend_from_slice(line),
            None => out.extend_from_slice(status::line_ex(self.status).as_bytes()),
        }
        out.extend_from_slice(b"\r\nDate: ");
        match self.proxyreq.and_then(|_| self.headers_out.get("Date")) {
            Some(value) => out.extend_from_slice(value),
            None => clock::with_dates(self.request_secs(), |dates| out.extend_from_slice(dates.http())),
        }
        // A backend that names itself is named.
        let theirs = self.proxyreq.and_then(|_| self.headers_out.get("Server"));
        let server = theirs.unwrap_or(self.runtime.banner.full.as_bytes());
        if !server.is_empty() {
            out.extend_from_slice(b"\r\nServer: ");
            out.extend_from_slice(server);
        }
        out.extend_from_slice(b"\r\n");
        for (name, value) in self.headers_out.iter() {
            if name.eq_ignore_ascii_case(b"Date") || name.eq_ignore_ascii_case(b"Server") {
                continue;
            }
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// What may stand in a field's value: no control characters but tabs.
fn is_field_content(c: u8) -> bool {
    c >= b' ' && c != 0x7f || c == b'\t'
}

/// A value with line ends that blanks follow (RFC 9110 5.5, obs-fold) in one line; the place of anything else that may
/// not stand in it, as an error.
fn unfold(value: &[u8]) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(value.len());
    let mut at = 0;
    while let Some(rest) = value.get(at..).filter(|rest| !rest.is_empty()) {
        let good = rest.iter().position(|&c| !is_field_content(c)).unwrap_or(rest.len());
        let (text, after) = rest.split_at(good);
        out.extend_from_slice(text);
        match after {
            [] => break,
            [b'\r', b'\n', b' ' | b'\t', ..] => {
                let blanks = after[2..].iter().take_while(|c| matches!(c, b' ' | b'\t')).count();
                out.push(b' ');
                at += good + 2 + blanks;
            }
            _ => return Err(at),
        }
    }
    Ok(out)
}

/// `number` in decimal digits, without an allocation.
pub fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn numbers() {
        assert_eq!(decimal(0, &mut [0; 20]), b"0");
        assert_eq!(decimal(u64::MAX, &mut [0; 20]), b"18446744073709551615");
    }
}
