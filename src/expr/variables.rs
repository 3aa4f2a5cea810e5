//! The variables of `%{NAME}`: the tables of server/util_expr_eval.c.

use std::borrow::Cow;

use super::env::{Env, NeedThread};
use crate::http::date::Civil;

/// A variable of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variable {
    /// Year, four digits.
    TimeYear,
    /// Month, 01 to 12.
    TimeMon,
    /// Day of the month.
    TimeDay,
    /// Hour.
    TimeHour,
    /// Minute.
    TimeMin,
    /// Second.
    TimeSec,
    /// Day of the week, 0 is Sunday.
    TimeWday,
    /// All of these, fourteen digits.
    Time,
    /// As the Server header has it.
    ServerSoftware,
    /// The major module magic number.
    ApiVersion,
    /// Header User-Agent.
    HttpUserAgent,
    /// Header Proxy-Connection.
    HttpProxyConnection,
    /// Header Referer.
    HttpReferer,
    /// Header Cookie.
    HttpCookie,
    /// Header Forwarded.
    HttpForwarded,
    /// Header Host.
    HttpHost,
    /// Header Accept.
    HttpAccept,
    /// `r->method`.
    RequestMethod,
    /// `ap_http_scheme`.
    RequestScheme,
    /// `r->uri`.
    RequestUri,
    /// `r->filename`.
    RequestFilename,
    /// `ap_get_useragent_host(REMOTE_NAME)`: may ask the DNS.
    RemoteHost,
    /// `ap_get_remote_logname`.
    RemoteIdent,
    /// `r->user`.
    RemoteUser,
    /// ServerAdmin.
    ServerAdmin,
    /// `ap_get_server_name_for_url`.
    ServerName,
    /// `ap_get_server_port`.
    ServerPort,
    /// `r->protocol`.
    ServerProtocol,
    /// `r->filename` again.
    ScriptFilename,
    /// `r->path_info`.
    PathInfo,
    /// `r->args`.
    QueryString,
    /// "true" or "false".
    IsSubreq,
    /// `ap_document_root`.
    DocumentRoot,
    /// `r->ap_auth_type`.
    AuthType,
    /// The request line.
    TheRequest,
    /// `r->content_type`, of the reply.
    ContentType,
    /// `r->handler`.
    Handler,
    /// `r->log_id`.
    RequestLogId,
    /// Owner of the file, by name.
    ScriptUser,
    /// Group of the file, by name.
    ScriptGroup,
    /// Environment DOCUMENT_URI, else `r->uri`.
    DocumentUri,
    /// `r->mtime`, as fourteen digits of local time.
    LastModified,
    /// `ap_context_prefix`.
    ContextPrefix,
    /// `ap_context_document_root`.
    ContextDocumentRoot,
    /// `r->status`.
    RequestStatus,
    /// `r->useragent_ip`.
    RemoteAddr,
    /// Port of the client.
    RemotePort,
    /// "on" or "off".
    Https,
    /// "on" or "off".
    Ipv6,
    /// `c->log_id`.
    ConnLogId,
    /// `c->client_ip`.
    ConnRemoteAddr,
    /// "on" or "off".
    Http2,
}

/// Every variable and its name.
pub const VARIABLES: [(&str, Variable); 52] = [
    ("TIME_YEAR", Variable::TimeYear),
    ("TIME_MON", Variable::TimeMon),
    ("TIME_DAY", Variable::TimeDay),
    ("TIME_HOUR", Variable::TimeHour),
    ("TIME_MIN", Variable::TimeMin),
    ("TIME_SEC", Variable::TimeSec),
    ("TIME_WDAY", Variable::TimeWday),
    ("TIME", Variable::Time),
    ("SERVER_SOFTWARE", Variable::ServerSoftware),
    ("API_VERSION", Variable::ApiVersion),
    ("HTTP_USER_AGENT", Variable::HttpUserAgent),
    ("HTTP_PROXY_CONNECTION", Variable::HttpProxyConnection),
    ("HTTP_REFERER", Variable::HttpReferer),
    ("HTTP_COOKIE", Variable::HttpCookie),
    ("HTTP_FORWARDED", Variable::HttpForwarded),
    ("HTTP_HOST", Variable::HttpHost),
    ("HTTP_ACCEPT", Variable::HttpAccept),
    ("REQUEST_METHOD", Variable::RequestMethod),
    ("REQUEST_SCHEME", Variable::RequestScheme),
    ("REQUEST_URI", Variable::RequestUri),
    ("REQUEST_FILENAME", Variable::RequestFilename),
    ("REMOTE_HOST", Variable::RemoteHost),
    ("REMOTE_IDENT", Variable::RemoteIdent),
    ("REMOTE_USER", Variable::RemoteUser),
    ("SERVER_ADMIN", Variable::ServerAdmin),
    ("SERVER_NAME", Variable::ServerName),
    ("SERVER_PORT", Variable::ServerPort),
    ("SERVER_PROTOCOL", Variable::ServerProtocol),
    ("SCRIPT_FILENAME", Variable::ScriptFilename),
    ("PATH_INFO", Variable::PathInfo),
    ("QUERY_STRING", Variable::QueryString),
    ("IS_SUBREQ", Variable::IsSubreq),
    ("DOCUMENT_ROOT", Variable::DocumentRoot),
    ("AUTH_TYPE", Variable::AuthType),
    ("THE_REQUEST", Variable::TheRequest),
    ("CONTENT_TYPE", Variable::ContentType),
    ("HANDLER", Variable::Handler),
    ("REQUEST_LOG_ID", Variable::RequestLogId),
    ("SCRIPT_USER", Variable::ScriptUser),
    ("SCRIPT_GROUP", Variable::ScriptGroup),
    ("DOCUMENT_URI", Variable::DocumentUri),
    ("LAST_MODIFIED", Variable::LastModified),
    ("CONTEXT_PREFIX", Variable::ContextPrefix),
    ("CONTEXT_DOCUMENT_ROOT", Variable::ContextDocumentRoot),
    ("REQUEST_STATUS", Variable::RequestStatus),
    ("REMOTE_ADDR", Variable::RemoteAddr),
    ("REMOTE_PORT", Variable::RemotePort),
    ("HTTPS", Variable::Https),
    ("IPV6", Variable::Ipv6),
    ("CONN_LOG_ID", Variable::ConnLogId),
    ("CONN_REMOTE_ADDR", Variable::ConnRemoteAddr),
    ("HTTP2", Variable::Http2),
];

/// `MODULE_MAGIC_NUMBER_MAJOR` of Apache 2.4.
const API_VERSION: &str = "20120211";

impl Variable {
    /// The variable of that name, in any case.
    pub fn by_name(name: &str) -> Option<Variable> {
        VARIABLES
            .into_iter()
            .find_map(|(known, variable)| known.eq_ignore_ascii_case(name).then_some(variable))
    }

    /// The header that an `HTTP_…` variable stands for.
    pub(super) fn header(self) -> Option<&'static str> {
        Some(match self {
            Variable::HttpUserAgent => "User-Agent",
            Variable::HttpProxyConnection => "Proxy-Connection",
            Variable::HttpReferer => "Referer",
            Variable::HttpCookie => "Cookie",
            Variable::HttpForwarded => "Forwarded",
            Variable::HttpHost => "Host",
            Variable::HttpAccept => "Accept",
            _ => return None,
        })
    }
}

/// The value of a variable; those of the clock are made here, the rest is asked for.
pub(super) fn value(env: &mut dyn Env, variable: Variable) -> Result<Cow<'_, [u8]>, NeedThread> {
    let part: fn(Civil) -> String = match variable {
        Variable::TimeYear => |t| format!("{:04}", t.year),
        Variable::TimeMon => |t| format!("{:02}", t.month),
        Variable::TimeDay => |t| format!("{:02}", t.day),
        Variable::TimeHour => |t| format!("{:02}", t.hour),
        Variable::TimeMin => |t| format!("{:02}", t.minute),
        Variable::TimeSec => |t| format!("{:02}", t.second),
        Variable::TimeWday => |t| t.weekday.to_string(),
        Variable::Time => |t| t.digits(),
        Variable::LastModified => return Ok(env.modified_time().digits().into_bytes().into()),
        Variable::ApiVersion => return Ok(API_VERSION.as_bytes().into()),
        _ => return Ok(env.variable(variable)?.unwrap_or_default()),
    };
    Ok(part(env.local_time()).into_bytes().into())
}
