//! The variables of `%{NAME}`: the tables of server/util_expr_eval.c.

use std::borrow::Cow;

use super::env::{Env, LocalTime, NeedThread};

macro_rules! variables {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// A variable of the core.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Variable { $($(#[$doc])* $variant,)* }

        /// Every variable and its name.
        pub const VARIABLES: &[(&str, Variable)] = &[$(($name, Variable::$variant),)*];
    };
}

variables! {
    /// Year, four digits.
    TimeYear "TIME_YEAR",
    /// Month, 01 to 12.
    TimeMon "TIME_MON",
    /// Day of the month.
    TimeDay "TIME_DAY",
    /// Hour.
    TimeHour "TIME_HOUR",
    /// Minute.
    TimeMin "TIME_MIN",
    /// Second.
    TimeSec "TIME_SEC",
    /// Day of the week, 0 is Sunday.
    TimeWday "TIME_WDAY",
    /// All of these, fourteen digits.
    Time "TIME",
    /// As the Server header has it.
    ServerSoftware "SERVER_SOFTWARE",
    /// The major module magic number.
    ApiVersion "API_VERSION",
    /// Header User-Agent.
    HttpUserAgent "HTTP_USER_AGENT",
    /// Header Proxy-Connection.
    HttpProxyConnection "HTTP_PROXY_CONNECTION",
    /// Header Referer.
    HttpReferer "HTTP_REFERER",
    /// Header Cookie.
    HttpCookie "HTTP_COOKIE",
    /// Header Forwarded.
    HttpForwarded "HTTP_FORWARDED",
    /// Header Host.
    HttpHost "HTTP_HOST",
    /// Header Accept.
    HttpAccept "HTTP_ACCEPT",
    /// `r->method`.
    RequestMethod "REQUEST_METHOD",
    /// `ap_http_scheme`.
    RequestScheme "REQUEST_SCHEME",
    /// `r->uri`.
    RequestUri "REQUEST_URI",
    /// `r->filename`.
    RequestFilename "REQUEST_FILENAME",
    /// `ap_get_useragent_host(REMOTE_NAME)`: may ask the DNS.
    RemoteHost "REMOTE_HOST",
    /// `ap_get_remote_logname`.
    RemoteIdent "REMOTE_IDENT",
    /// `r->user`.
    RemoteUser "REMOTE_USER",
    /// ServerAdmin.
    ServerAdmin "SERVER_ADMIN",
    /// `ap_get_server_name_for_url`.
    ServerName "SERVER_NAME",
    /// `ap_get_server_port`.
    ServerPort "SERVER_PORT",
    /// `r->protocol`.
    ServerProtocol "SERVER_PROTOCOL",
    /// `r->filename` again.
    ScriptFilename "SCRIPT_FILENAME",
    /// `r->path_info`.
    PathInfo "PATH_INFO",
    /// `r->args`.
    QueryString "QUERY_STRING",
    /// "true" or "false".
    IsSubreq "IS_SUBREQ",
    /// `ap_document_root`.
    DocumentRoot "DOCUMENT_ROOT",
    /// `r->ap_auth_type`.
    AuthType "AUTH_TYPE",
    /// The request line.
    TheRequest "THE_REQUEST",
    /// `r->content_type`, of the reply.
    ContentType "CONTENT_TYPE",
    /// `r->handler`.
    Handler "HANDLER",
    /// `r->log_id`.
    RequestLogId "REQUEST_LOG_ID",
    /// Owner of the file, by name.
    ScriptUser "SCRIPT_USER",
    /// Group of the file, by name.
    ScriptGroup "SCRIPT_GROUP",
    /// Environment DOCUMENT_URI, else `r->uri`.
    DocumentUri "DOCUMENT_URI",
    /// `r->mtime`, as fourteen digits of local time.
    LastModified "LAST_MODIFIED",
    /// `ap_context_prefix`.
    ContextPrefix "CONTEXT_PREFIX",
    /// `ap_context_document_root`.
    ContextDocumentRoot "CONTEXT_DOCUMENT_ROOT",
    /// `r->status`.
    RequestStatus "REQUEST_STATUS",
    /// `r->useragent_ip`.
    RemoteAddr "REMOTE_ADDR",
    /// Port of the client.
    RemotePort "REMOTE_PORT",
    /// "on" or "off".
    Https "HTTPS",
    /// "on" or "off".
    Ipv6 "IPV6",
    /// `c->log_id`.
    ConnLogId "CONN_LOG_ID",
    /// `c->client_ip`.
    ConnRemoteAddr "CONN_REMOTE_ADDR",
    /// "on" or "off".
    Http2 "HTTP2",
}

/// `MODULE_MAGIC_NUMBER_MAJOR` of Apache 2.4.
const API_VERSION: &str = "20120211";

impl Variable {
    /// The variable of that name, in any case.
    pub fn by_name(name: &str) -> Option<Variable> {
        VARIABLES.iter().find_map(|&(known, variable)| known.eq_ignore_ascii_case(name).then_some(variable))
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
    let part: fn(LocalTime) -> String = match variable {
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
