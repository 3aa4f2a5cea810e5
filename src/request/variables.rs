//! The variables that programs and pages get of a request (RFC 3875).
//!
//! Answers to `ap_add_common_vars`, `ap_add_cgi_vars` and `ap_create_environment` of `server/util_script.c`.

use std::ffi::CString;

use bstr::ByteSlice;

use super::{Request, Step};
use crate::http::escape::{escape_html, os_escape_path};
use crate::modules::core::{self, tokens};
use crate::table::{Overlap, Table};

/// Where programs are looked for when the server itself was told of no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin:/usr/ucb:/usr/bsd:/usr/local/bin";

/// `HTTP_ACCEPT` of `Accept`; `None`: the name has characters that no variable can have (`http2env`).
fn http_variable(r: &Request, name: &[u8]) -> Option<Vec<u8>> {
    let mut variable = b"HTTP_".to_vec();
    for &c in name {
        if c.is_ascii_alphanumeric() {
            variable.push(c.to_ascii_uppercase());
        } else if c == b'-' {
            variable.push(b'_');
        } else {
            use crate::log::{Level, rerror};
            rerror!(
                r,
                Level::Trace1,
                "core",
                "",
                "Not exporting header with invalid name as envvar: {}",
                name.as_bstr()
            );
            return None;
        }
    }
    Some(variable)
}

/// Where the path that is a URI's end begins in it: `ap_find_path_info`.
fn find_path_info(uri: &[u8], path_info: &[u8]) -> usize {
    let (mut at, mut rest) = (uri.len(), path_info.len());
    while at > 0 && rest > 0 && uri[at - 1] == path_info[rest - 1] {
        at -= 1;
        rest -= 1;
        if path_info[rest] == b'/' {
            while at > 0 && uri[at - 1] == b'/' {
                at -= 1;
            }
        }
    }
    // One step back, to the first character that differs, and on to the next slash.
    let at = at.saturating_sub(1);
    uri[at..].iter().position(|&c| c == b'/').map_or(uri.len(), |slash| at + slash)
}

impl Request {
    /// The target as it stands in the request line: `original_uri`.
    fn original_uri(&self) -> &[u8] {
        let mut words = self.the_request.split(|c| c.is_ascii_whitespace()).skip(1);
        words.find(|word| !word.is_empty()).unwrap_or_default()
    }

    /// `ap_document_root`.
    pub fn document_root(&self) -> &[u8] {
        let configured = || self.server.conf.get(&core::SERVER).document_root.as_deref();
        let noted = self.notes.get(super::expr::DOCUMENT_ROOT);
        noted.unwrap_or_else(|| configured().unwrap_or("/usr/local/apache2/htdocs").as_bytes())
    }

    /// A variable of the request, or of this process, or what else is told.
    fn inherit_variable(&self, to: &mut Table, name: &str, fallback: Option<&str>) {
        use std::os::unix::ffi::OsStrExt;
        if let Some(value) = self.subprocess_env.get(name) {
            to.add(name, value);
        } else if let Some(value) = std::env::var_os(name) {
            to.add(name, value.as_bytes());
        } else if let Some(value) = fallback {
            to.add(name, value);
        }
    }

    /// Sets what programs and pages alike are told: `ap_add_common_vars`.
    pub fn add_common_vars(&mut self) {
        let mut vars = Table::new();
        let conf = self.dir(&core::DIR);
        for (name, value) in self.headers_in.iter() {
            match name.to_ascii_lowercase().as_slice() {
                b"content-type" => vars.add("CONTENT_TYPE", value),
                b"content-length" => vars.add("CONTENT_LENGTH", value),
                // It would name a proxy for what the program itself asks for.
                b"proxy" => {}
                b"authorization" | b"proxy-authorization" if conf.cgi_pass_auth != Some(true) => {}
                _ => {
                    if let Some(variable) = http_variable(self, name) {
                        vars.add(variable, value);
                    }
                }
            }
        }
        self.inherit_variable(&mut vars, "PATH", Some(DEFAULT_PATH));
        self.inherit_variable(&mut vars, "LD_LIBRARY_PATH", None);
        vars.add("SERVER_SIGNATURE", tokens::signature(self, ""));
        vars.add("SERVER_SOFTWARE", &self.runtime.banner.full);
        vars.add("SERVER_NAME", escape_html(&self.server_name_for_url()));
        vars.add("SERVER_ADDR", self.connection.local_addr.ip().to_string());
        vars.add("SERVER_PORT", self.server_port().to_string());
        if let Some(host) = self.remote_host() {
            vars.add("REMOTE_HOST", host);
        }
        vars.add("REMOTE_ADDR", self.useragent_ip());
        vars.add("DOCUMENT_ROOT", self.document_root());
        vars.set("REQUEST_SCHEME", self.scheme());
        vars.add("CONTEXT_PREFIX", self.notes.get("context-prefix").unwrap_or_default());
        let root = self.notes.get("context-document-root");
        vars.add("CONTEXT_DOCUMENT_ROOT", root.unwrap_or_else(|| self.document_root()));
        vars.add("SERVER_ADMIN", self.server.admin());
        let file = match self.filename.find_byte(b'?').filter(|_| self.notes.contains("proxy-noquery")) {
            Some(query) => &self.filename[..query],
            None => &self.filename,
        };
        vars.add("SCRIPT_FILENAME", file);
        vars.add("REMOTE_PORT", self.connection.client_addr.port().to_string());
        let before = || std::iter::successors(self.prev.as_deref(), |r| r.prev.as_deref());
        if let Some(user) = &self.user {
            vars.add("REMOTE_USER", user);
        } else if let Some(user) = before().find_map(|r| r.user.as_ref()) {
            vars.add("REDIRECT_REMOTE_USER", user);
        }
        if let Some(auth_type) = &self.auth_type {
            vars.add("AUTH_TYPE", auth_type);
        }
        if let Some(prev) = &self.prev {
            match conf.qualify_redirect_url {
                Some(true) => {
                    // The target as it was parsed, with what it did not say itself.
                    let target = prev.args.as_ref().map_or_else(
                        || prev.raw_path.to_vec(),
                        |args| [prev.raw_path.as_slice(), b"?", args].concat(),
                    );
                    vars.add("REDIRECT_URL", prev.construct_url(&target));
                }
                _ => vars.add("REDIRECT_URL", &prev.uri),
            }
            if let Some(args) = &prev.args {
                vars.add("REDIRECT_QUERY_STRING", args);
            }
        }
        if self.subprocess_env.is_empty() {
            // As Apache: then, and only then, a name may stand twice.
            self.subprocess_env.extend_from(&vars);
        } else {
            self.subprocess_env.overlap(&vars, Overlap::Set);
        }
    }

    /// Sets what programs are told besides: `ap_add_cgi_vars`. `Err` is `NeedThread`, for the handler that asks to pass on.
    pub fn add_cgi_vars(&mut self) -> Result<(), Step> {
        self.subprocess_env.set("GATEWAY_INTERFACE", "CGI/1.1");
        self.subprocess_env.set("SERVER_PROTOCOL", self.protocol);
        self.subprocess_env.set("REQUEST_METHOD", &self.method_name);
        self.subprocess_env.set("QUERY_STRING", self.args.as_deref().map_or(&b""[..], |args| args));
        let rule = self.dir(&core::DIR).cgi_vars.get("REQUEST_URI");
        let uri = match rule.is_some_and(|rule| rule == "current-uri") {
            true => self.uri.to_vec(),
            false => self.original_uri().to_vec(),
        };
        self.subprocess_env.set("REQUEST_URI", uri);
        if self.path_info.is_empty() || self.is_subrequest {
            self.subprocess_env.set("SCRIPT_NAME", &self.uri);
        } else {
            let start = find_path_info(&self.uri, &self.path_info);
            self.subprocess_env.set("SCRIPT_NAME", &self.uri[..start]);
        }
        if self.path_info.is_empty() {
            return Ok(());
        }
        self.subprocess_env.set("PATH_INFO", &self.path_info);
        self.add_path_translated()
    }

    /// Where the path would lead if it were the URI's: `PATH_TRANSLATED`.
    pub(crate) fn add_path_translated(&mut self) -> Result<(), Step> {
        let path = os_escape_path(&self.path_info, true).into_owned();
        let sub = self.sub_req_lookup_uri(&path)?;
        if !sub.filename.is_empty() {
            let translated = [sub.filename.as_slice(), &sub.path_info].concat();
            self.subprocess_env.set("PATH_TRANSLATED", translated);
        }
        Ok(())
    }

    /// The variables as a program gets them: `ap_create_environment`.
    pub fn create_environment(&self) -> Vec<CString> {
        let mut env = Vec::with_capacity(self.subprocess_env.len() + 1);
        if !self.subprocess_env.contains("TZ")
            && let Some(tz) = std::env::var_os("TZ")
        {
            use std::os::unix::ffi::OsStrExt;
            env.push([b"TZ=", tz.as_bytes()].concat());
        }
        for (name, value) in self.subprocess_env.iter() {
            let mut entry = Vec::with_capacity(name.len() + value.len() + 1);
            entry.extend(name.iter().enumerate().map(|(index, &c)| match c.is_ascii_alphanumeric() {
                true if index > 0 || !c.is_ascii_digit() => c,
                _ => b'_',
            }));
            entry.push(b'=');
            entry.extend_from_slice(value);
            env.push(entry);
        }
        env.into_iter().map(c_string).collect()
    }
}

/// The bytes up to the first NUL, as C would see them.
pub fn c_string(bytes: impl Into<Vec<u8>>) -> CString {
    let mut bytes = bytes.into();
    if let Some(nul) = bytes.find_byte(0) {
        bytes.truncate(nul);
    }
    CString::new(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_behind_a_script() {
        let script = |uri: &'static str, info: &str| &uri[..find_path_info(uri.as_bytes(), info.as_bytes())];
        assert_eq!(script("/cgi/a.cgi/x/y", "/x/y"), "/cgi/a.cgi");
        assert_eq!(script("/cgi/a.cgi//x", "/x"), "/cgi/a.cgi");
        assert_eq!(script("/x", "/x"), "");
        assert_eq!(script("/other", "/x"), "/other");
    }
}
