//! Expressions about a request: what [`crate::expr::Env`] asks.
//!
//! Answers to the lookups of `server/util_expr_eval.c`.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use bstr::ByteSlice;

use super::{FileInfo, Request, Step};
use crate::expr::env::{Answer, Env, NeedThread, Provided, Severity, Value};
use crate::expr::{Backrefs, Expr, Failure, Variable};
use crate::http::date::Civil;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::modules::core;
use crate::modules::metadata::mod_ident;
use crate::os::clock;
use crate::request::memo;

/// The note with a document root for this request alone: `ap_set_document_root`.
pub const DOCUMENT_ROOT: &str = "document-root";

impl Request {
    /// Is the condition true? A failure's text is for the log, unless a thread is asked for.
    pub fn evaluate(&mut self, expr: &Expr) -> Result<bool, Failure> {
        expr.is_true(self)
    }

    /// The same, keeping what a regular expression captured.
    pub fn evaluate_re(&mut self, expr: &Expr, backrefs: &mut Backrefs) -> Result<bool, Failure> {
        expr.is_true_re(self, backrefs)
    }

    /// The string that the expression gives.
    pub fn evaluate_string(&mut self, expr: &Expr) -> Result<Vec<u8>, Failure> {
        if let Some(constant) = expr.as_constant() {
            return Ok(constant.to_vec());
        }
        expr.to_bytes(self)
    }
}

fn owned<'e>(value: impl Into<Vec<u8>>) -> Value<'e> {
    Some(Cow::Owned(value.into()))
}

fn local(micros: i64) -> Civil {
    let secs = micros / 1_000_000;
    Civil::new(secs, clock::local_offset(secs))
}

impl Env for Request {
    fn variable(&mut self, variable: Variable) -> Result<Value<'_>, NeedThread> {
        use Variable as V;
        match variable {
            V::RemoteAddr => memo::saw_client(),
            V::ConnRemoteAddr | V::Ipv6 if self.useragent.is_none() => memo::saw_client(),
            V::ConnRemoteAddr | V::Ipv6 => memo::refuse(),
            V::RequestLogId | V::ConnLogId | V::RemotePort | V::RemoteIdent => memo::refuse(),
            _ => {}
        }
        Ok(match variable {
            V::ServerSoftware => owned(self.runtime.banner.full.as_bytes()),
            V::RequestMethod => Some(Cow::Borrowed(&self.method_name)),
            V::RequestScheme => Some(Cow::Borrowed(self.scheme().as_bytes())),
            V::RequestUri => Some(Cow::Borrowed(self.uri.as_slice())),
            V::RequestFilename | V::ScriptFilename => Some(Cow::Borrowed(self.filename.as_slice())),
            V::RemoteHost => owned(self.remote_name()),
            V::RemoteIdent => mod_ident::remote_logname(self, !self.needs_thread())?
                .map(|name| Cow::Borrowed(name.as_bytes())),
            V::RemoteUser => self.user.as_ref().map(|u| Cow::Borrowed(u.as_slice())),
            V::ServerAdmin => self.server.admin.as_ref().map(|a| Cow::Borrowed(a.as_bytes())),
            V::ServerName => Some(self.server_name_for_url()),
            V::ServerPort => owned(self.server_port().to_string()),
            V::ServerProtocol => Some(Cow::Borrowed(&self.protocol)),
            V::PathInfo => Some(Cow::Borrowed(self.path_info.as_slice())),
            V::QueryString => self.args.as_ref().map(|a| Cow::Borrowed(a.as_slice())),
            V::IsSubreq => owned(if self.is_subrequest { "true" } else { "false" }),
            V::DocumentRoot if self.notes.contains(DOCUMENT_ROOT) => {
                self.notes.get(DOCUMENT_ROOT).map(Cow::Borrowed)
            }
            V::DocumentRoot => self
                .server
                .conf
                .get(&core::SERVER)
                .document_root
                .as_ref()
                .map(|d| Cow::Borrowed(d.as_bytes())),
            V::AuthType => self.auth_type.as_ref().map(|a| Cow::Borrowed(a.as_bytes())),
            V::TheRequest => Some(Cow::Borrowed(self.the_request.as_slice())),
            V::ContentType => self.content_type.as_ref().map(|c| Cow::Borrowed(c.as_bytes())),
            V::Handler if self.cursor.by_type => self.handler_by_type().map(|t| Cow::Borrowed(t.as_bytes())),
            V::Handler => self.handler.as_ref().map(|h| Cow::Borrowed(h.as_bytes())),
            V::RequestLogId => self.log_id.get().map(|l| Cow::Borrowed(l.as_bytes())),
            V::ConnLogId => self.connection.log_id.get().map(|l| Cow::Borrowed(l.as_bytes())),
            V::RequestStatus => owned(self.status.to_string()),
            V::RemoteAddr => Some(Cow::Borrowed(self.useragent_ip().as_bytes())),
            V::ConnRemoteAddr => owned(self.connection.client_ip.as_bytes()),
            V::RemotePort => owned(self.connection.client_addr.port().to_string()),
            V::ContextPrefix | V::ContextDocumentRoot => {
                let name =
                    if variable == V::ContextPrefix { "context-prefix" } else { "context-document-root" };
                match self.notes.get(name) {
                    Some(value) => Some(Cow::Borrowed(value)),
                    None if variable == V::ContextDocumentRoot => self
                        .server
                        .conf
                        .get(&core::SERVER)
                        .document_root
                        .as_ref()
                        .map(|d| Cow::Borrowed(d.as_bytes())),
                    None => None,
                }
            }
            V::Https => owned("off"),
            V::Ipv6 => owned(if self.connection.client_addr.is_ipv6() { "on" } else { "off" }),
            _ => None,
        })
    }

    fn request_header(&mut self, name: &[u8]) -> Value<'_> {
        let name = name.to_str().ok()?;
        self.headers_in.get(name).map(Cow::Borrowed)
    }

    fn response_header(&mut self, name: &[u8]) -> Value<'_> {
        memo::saw_reply_field(name);
        let name = name.to_str().ok()?;
        self.headers_out.get(name).or_else(|| self.err_headers_out.get(name)).map(Cow::Borrowed)
    }

    fn note(&mut self, name: &[u8]) -> Value<'_> {
        if name.eq_ignore_ascii_case(b"forensic-id") {
            // It differs from request to request.
            memo::refuse();
        }
        self.notes.get(name.to_str().ok()?).map(Cow::Borrowed)
    }

    fn environment(&mut self, name: &[u8]) -> Value<'_> {
        self.subprocess_env.get(name.to_str().ok()?).map(Cow::Borrowed)
    }

    fn local_time(&mut self) -> Civil {
        memo::refuse();
        local(self.request_micros())
    }

    fn modified_time(&mut self) -> Civil {
        local(self.mtime)
    }

    fn client_address(&mut self) -> Option<IpAddr> {
        memo::saw_client();
        Some(self.client_addr().ip())
    }

    fn resolve(&mut self, host: &[u8]) -> Result<Option<IpAddr>, NeedThread> {
        use std::net::ToSocketAddrs;
        memo::refuse();
        if self.needs_thread() {
            return Err(NeedThread);
        }
        let host = host.to_str_lossy().into_owned();
        Ok((host, 0)
            .to_socket_addrs()
            .ok()
            .and_then(|mut all| all.next())
            .map(|addr| addr.ip().to_canonical()))
    }

    fn subrequest_uri(&mut self, uri: &[u8]) -> Result<Option<u16>, NeedThread> {
        // A condition that holds for the URI it asks about would ask for ever; the sub-request of the same URI ends it.
        if self.is_subrequest && self.origin.as_ref().is_some_and(|main| main.uri == self.uri) {
            return Ok(None);
        }
        match self.sub_req_lookup_uri(uri) {
            Ok(sub) => Ok(Some(sub.status)),
            Err(Step::NeedThread) => Err(NeedThread),
            Err(_) => Ok(Some(status::INTERNAL_SERVER_ERROR)),
        }
    }

    fn subrequest_file(&mut self, file: &[u8]) -> Result<Option<(u16, bool)>, NeedThread> {
        match self.sub_req_lookup_file(file) {
            Ok(sub) => Ok(Some((sub.status, FileInfo::stat(&sub.filename).is_ok()))),
            Err(Step::NeedThread) => Err(NeedThread),
            Err(_) => Ok(None),
        }
    }

    fn stat(&mut self, path: &[u8], follow: bool) -> Option<crate::expr::Stat> {
        memo::refuse();
        crate::expr::env::stat(path, follow)
    }

    fn read_file(&mut self, path: &[u8]) -> Result<Vec<u8>, crate::expr::FileError> {
        memo::refuse();
        crate::expr::env::read_file(path)
    }

    fn provided(&mut self, _: &Provided, _: &[&[u8]]) -> Result<Answer, NeedThread> {
        // No module of ours adds names yet, so none can have been parsed.
        Ok(Answer::Failed("no such name".to_owned()))
    }

    fn merge_vary(&mut self, names: &[u8]) {
        self.headers_out.merge("Vary", names);
    }

    fn log(&mut self, module: &'static str, severity: Severity, message: fmt::Arguments<'_>) {
        let level = match severity {
            Severity::Err => Level::Error,
            Severity::Debug => Level::Debug,
            Severity::Trace4 => Level::Trace4,
            Severity::Trace5 => Level::Trace5,
        };
        rerror!(self, level, module, "", "{message}");
    }
}
