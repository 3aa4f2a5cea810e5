//! A request on its way through the phases.
//!
//! Answers to `request_rec` of `include/httpd.h`; fields keep Apache's names and meaning, so that a C module's view can
//! be filled from it. The phases are in [`phases`], which sections apply in [`walk`], sub-requests and internal
//! redirects in [`subrequest`], error replies in [`die`].

pub mod die;
pub mod env;
pub mod expr;
pub mod memo;
pub mod ongoing;
pub mod phases;
pub mod program;
pub mod script_header;
pub mod subrequest;
pub mod variables;
pub mod walk;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bstr::BString;

use crate::body::{Content, Wait};
use crate::config::Runtime;
use crate::config::merge::DirConf;
use crate::config::server::Server;
use crate::config::vhost::Names;
use crate::conn::input::Input;
use crate::filter::Chosen;
use crate::http::method::Method;
use crate::http::status::Status;
use crate::module::{Conf, Slot};
use crate::modules::debugging::mod_dumpio::Dump;
use crate::os::clock;
use crate::table::Table;
use crate::text::SharedStr;

pub use walk::FileInfo;

/// What a hook says of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Not mine.
    Declined,
    /// Done with it; others may go on.
    Ok,
    /// The reply is made (or the phase must not go on).
    Done,
    /// Ends the request with this status.
    Status(Status),
    /// Would block: run it again on a thread that may.
    NeedThread,
}

/// What a handler gives.
pub enum Answer {
    /// Not mine.
    Declined,
    /// An error reply, or one without content.
    Status(Status),
    /// The content. The status is `r.status`.
    Body(Content),
    /// Answer with what this local URL gives.
    Redirect(BString),
    /// The same, and what it gives is of this request's media type, unless it is known to be of another
    /// (`ap_internal_redirect_handler`).
    RedirectHandler(BString),
    /// Would block: run it again on a thread that may.
    NeedThread,
    /// Not before this descriptor is ready.
    Wait(Wait),
}

/// How a request came to be for a backend (`PROXYREQ_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyReq {
    /// The client asked for it: it takes us for its proxy.
    Proxy,
    /// The configuration says so; the client knows nothing of it.
    Reverse,
}

/// Who runs a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// A reactor: nothing here may block.
    Reactor,
    /// A thread (or process) of its own.
    Thread,
}

/// The connection that a request came by.
pub struct ConnInfo {
    /// The configuration it is served by.
    pub runtime: Arc<Runtime>,
    /// A number, unique within the process.
    pub id: u64,
    /// The client.
    pub client_addr: SocketAddr,
    /// Its address as text.
    pub client_ip: String,
    /// Its name, when somebody has asked for it.
    pub client_name: env::ClientName,
    /// Where it connected to.
    pub local_addr: SocketAddr,
    /// The servers of that address; `None`: only the main one.
    pub names: Option<Arc<Names>>,
    /// The server of the address, before a name is known.
    pub base_server: Arc<Server>,
    /// A number for the error log that ties the connection's lines together (`%{c}L`).
    pub log_id: OnceLock<String>,
    /// The connection begins with a header of the PROXY protocol.
    pub proxy_header: bool,
    /// The client that this header named.
    pub proxied: OnceLock<Arc<UserAgent>>,
    /// What of it is dumped (mod_dumpio).
    pub dump: Dump,
    /// Who the client is by what its host says (mod_ident), when somebody has asked for it.
    pub remote_logname: OnceLock<String>,
}

impl ConnInfo {
    /// The header of the PROXY protocol is still to come.
    #[inline]
    pub fn awaits_proxy_header(&self) -> bool {
        self.proxy_header && self.proxied.get().is_none()
    }
}

/// A client behind proxies: who it is, where that isn't who is connected.
#[derive(Debug)]
pub struct UserAgent {
    /// Its address; port 0: not known.
    pub addr: SocketAddr,
    /// The address as text.
    pub ip: String,
    /// Its name, when somebody has asked for it.
    pub name: env::ClientName,
    /// The proxies between, which one is told of.
    pub proxies: Option<String>,
}

/// What a sub-request or redirected request may take over from the one it came from: authentication, when the
/// per-directory configuration is the same.
pub struct Origin {
    /// Its per-directory configuration.
    pub dir: Arc<DirConf>,
    /// Its user.
    pub user: Option<BString>,
    /// How the user was authenticated.
    pub auth_type: Option<String>,
    /// Its URI's path.
    pub uri: BString,
    /// What it came from itself.
    pub origin: Option<Arc<Origin>>,
    /// It was redirected, rather than asked about.
    pub redirected: bool,
}

/// What mod_rewrite keeps in the pool of a request, which internal redirects share.
#[derive(Clone, Debug, Default)]
pub struct Rewritten {
    /// A rule with `END` ended it: nothing is rewritten any more. Sub-requests don't know.
    pub ended: bool,
    /// The names of the cookies that rules set.
    pub cookies: Vec<BString>,
    /// What they set in sub-requests, which is the main request's, whatever becomes of those: names and fields.
    pub of_subs: OnceLock<Arc<Mutex<Vec<(BString, Vec<u8>)>>>>,
}

impl Rewritten {
    /// What is shared with sub-requests, once there are any.
    pub fn shared(&self) -> Option<MutexGuard<'_, Vec<(BString, Vec<u8>)>>> {
        self.of_subs.get().map(|shared| shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request.
pub struct Request {
    /// The configuration it is served by.
    pub runtime: Arc<Runtime>,
    /// The virtual host.
    pub server: Arc<Server>,
    /// The connection.
    pub connection: Arc<ConnInfo>,
    /// The client, where it isn't who is connected (mod_remoteip).
    pub useragent: Option<Arc<UserAgent>>,
    /// Where it is in the phases.
    pub(crate) cursor: phases::Cursor,
    /// Who runs it now.
    pub lane: Lane,
    /// True for a sub-request.
    pub is_subrequest: bool,
    /// What it came from, when it is a sub-request or redirected.
    pub origin: Option<Arc<Origin>>,
    /// The request that was redirected internally to this one.
    pub prev: Option<Box<Request>>,
    /// The requests for ErrorDocuments that this one, which failed first, was redirected to and came back from; the next
    /// one is the last.
    pub(crate) next: Vec<Request>,
    /// How many internal redirects and sub-requests led here.
    pub depth: u32,

    /// When its first byte came, in microseconds since 1970.
    pub request_time: i64,
    /// The request line.
    pub the_request: BString,
    /// The method.
    pub method: Method,
    /// The method's name as sent.
    pub method_name: Cow<'static, [u8]>,
    /// The protocol: 1001 for HTTP/1.1, 9 for HTTP/0.9.
    pub proto_num: u16,
    /// The same as text, as the client sent it.
    pub protocol: [u8; 8],
    /// HEAD: no content is sent.
    pub header_only: bool,
    /// HTTP/0.9: no head is sent.
    pub assbackwards: bool,
    /// The request is for a backend: how it came to be.
    pub proxyreq: Option<ProxyReq>,
    /// Setting up its output filters may block.
    pub filters_need_thread: bool,
    /// Its target has a scheme other than http and https.
    pub foreign_scheme: bool,
    /// The name asked for, lower case: from the URI or `Host`.
    pub hostname: Option<BString>,
    /// The port in the absolute URI or in `Host`.
    pub host_port: Option<u16>,
    /// The URI as sent.
    pub unparsed_uri: BString,
    /// The path while it is being decoded (`parsed_uri.path`).
    pub(crate) raw_path: BString,
    /// The decoded path.
    pub uri: BString,
    /// What is behind `?`.
    pub args: Option<BString>,
    /// The file.
    pub filename: BString,
    /// What follows the file in the URI.
    pub path_info: BString,
    /// What a `stat` of the file said.
    pub finfo: Option<FileInfo>,
    /// Settings of the sections that matched.
    pub dir: Arc<DirConf>,

    /// As received.
    pub headers_in: Table,
    /// To be sent with success.
    pub headers_out: Table,
    /// To be sent always, also with errors and after internal redirects.
    pub err_headers_out: Table,
    /// Variables for CGI, SSI, logs and conditions.
    pub subprocess_env: Table,
    /// Notes from module to module.
    pub notes: Table,

    /// The reply's status.
    pub status: Status,
    /// A status line other than the usual one.
    pub status_line: Option<String>,
    /// The reply's media type.
    pub content_type: Option<SharedStr>,
    /// The reply's coding.
    pub content_encoding: Option<String>,
    /// The reply's languages.
    pub content_languages: Vec<String>,
    /// The validator of the list of variants it was chosen from: a part of its entity tag.
    pub vlist_validator: Option<Vec<u8>>,
    /// The name of the handler wanted.
    pub handler: Option<SharedStr>,
    /// When the content changed last (microseconds since 1970; 0: unknown).
    pub mtime: i64,
    /// Methods that would be allowed, for `Allow`: a bit each.
    pub allowed: u64,
    /// Further methods that would be allowed.
    pub allowed_extensions: Vec<String>,
    /// The user, once authenticated.
    pub user: Option<BString>,
    /// How.
    pub auth_type: Option<String>,
    /// No cache may keep the reply.
    pub no_cache: bool,
    /// The reply goes out without a length, though it is known: its first part went through the CONTENT_LENGTH filter
    /// before its end did.
    pub length_unknown: bool,
    /// An error that an output filter met before the head was sent (an error bucket): it is answered in place of the
    /// content.
    pub error_bucket: Option<Status>,
    /// What makes the reply when a hook before the handlers said [`Step::Done`]; without it, the reply is empty.
    pub responder: Option<fn(&mut Request) -> Answer>,
    /// What goes on for it with something that is waited for; it is asked in place of the handler that left it.
    pub ongoing: Option<Box<dyn ongoing::Ongoing>>,
    /// There is no file behind this request: `If-Modified-Since` and ranges make no sense.
    pub no_local_copy: bool,
    /// A `<Location>` section applies to the request.
    pub(crate) located: bool,
    /// Bytes of the body sent, for the log.
    pub bytes_sent: u64,
    /// Bytes of head and body sent and received on the wire (`%O`, `%I`).
    pub bytes_out: u64,
    /// See `bytes_out`.
    pub bytes_in: u64,
    /// The connection stays open after this reply.
    pub keepalive: bool,
    /// How many requests the connection has served.
    pub keepalives: u32,
    /// `Expect: 100-continue`, not answered yet.
    pub expecting_100: bool,
    /// The output filters chosen.
    pub output_filters: Vec<Chosen>,
    /// The request body.
    pub input: Input,
    /// The body that mod_request keeps, for sub-requests and redirects: who reads it there gets it once more.
    pub kept_body: Option<Arc<Vec<u8>>>,
    /// A number for the log that ties the request's lines together (`%L`).
    pub log_id: OnceLock<String>,
    /// Trailers of the request's body, unless `MergeTrailers` put them into `headers_in`.
    pub trailers_in: Table,
    /// Trailers of the reply's body.
    pub trailers_out: Table,
    /// The client went away before it had all of the reply.
    pub aborted: bool,
    /// How long the first byte of the reply took, where that is tracked.
    pub ttfb: Option<Duration>,
    /// What mod_rewrite did.
    pub rewritten: Rewritten,
    /// Whose pages mod_userdir found the file among.
    pub userdir_user: Option<BString>,
    /// The submatches of the last regular expression in an expression.
    pub(crate) captures: Vec<Option<Vec<u8>>>,
}

impl Request {
    /// A request about which nothing is known yet.
    pub fn new(runtime: Arc<Runtime>, connection: Arc<ConnInfo>) -> Request {
        let server = connection.base_server.clone();
        Request {
            dir: server.lookup_defaults.clone(),
            runtime,
            server,
            connection,
            useragent: None,
            cursor: phases::Cursor::default(),
            lane: Lane::Thread,
            is_subrequest: false,
            origin: None,
            prev: None,
            next: Vec::new(),
            depth: 0,
            request_time: 0,
            the_request: BString::default(),
            method: Method::GET,
            method_name: Cow::Borrowed(b"GET"),
            proto_num: 1000,
            protocol: *b"HTTP/1.0",
            header_only: false,
            assbackwards: false,
            proxyreq: None,
            foreign_scheme: false,
            filters_need_thread: false,
            hostname: None,
            host_port: None,
            unparsed_uri: BString::default(),
            raw_path: BString::default(),
            uri: BString::default(),
            args: None,
            filename: BString::default(),
            path_info: BString::default(),
            finfo: None,
            headers_in: Table::new(),
            headers_out: Table::new(),
            err_headers_out: Table::new(),
            subprocess_env: Table::new(),
            notes: Table::new(),
            status: 200,
            status_line: None,
            content_type: None,
            content_encoding: None,
            content_languages: Vec::new(),
            vlist_validator: None,
            handler: None,
            mtime: 0,
            allowed: 0,
            allowed_extensions: Vec::new(),
            user: None,
            auth_type: None,
            no_cache: false,
            length_unknown: false,
            error_bucket: None,
            responder: None,
            ongoing: None,
            no_local_copy: false,
            located: false,
            bytes_sent: 0,
            bytes_out: 0,
            bytes_in: 0,
            keepalive: false,
            keepalives: 0,
            expecting_100: false,
            output_filters: Vec::new(),
            input: Input::default(),
            kept_body: None,
            log_id: OnceLock::new(),
            trailers_in: Table::new(),
            trailers_out: Table::new(),
            aborted: false,
            ttfb: None,
            rewritten: Rewritten::default(),
            userdir_user: None,
            captures: Vec::new(),
        }
    }

    /// Makes it ready for the next request of the same connection; buffers are kept.
    pub fn reset(&mut self) {
        let server = self.connection.base_server.clone();
        self.dir = server.lookup_defaults.clone();
        self.server = server;
        self.useragent = None;
        self.cursor = phases::Cursor::default();
        self.is_subrequest = false;
        self.origin = None;
        self.prev = None;
        self.next.clear();
        self.depth = 0;
        self.the_request.clear();
        self.method = Method::GET;
        self.method_name = Cow::Borrowed(b"GET");
        self.proto_num = 1000;
        self.protocol = *b"HTTP/1.0";
        self.header_only = false;
        self.assbackwards = false;
        self.proxyreq = None;
        self.foreign_scheme = false;
        self.filters_need_thread = false;
        self.hostname = None;
        self.host_port = None;
        self.unparsed_uri.clear();
        self.raw_path.clear();
        self.uri.clear();
        self.args = None;
        self.filename.clear();
        self.path_info.clear();
        self.finfo = None;
        self.headers_in.clear();
        self.headers_out.clear();
        self.err_headers_out.clear();
        self.subprocess_env.clear();
        self.notes.clear();
        self.status = 200;
        self.status_line = None;
        self.content_type = None;
        self.content_encoding = None;
        self.content_languages.clear();
        self.vlist_validator = None;
        self.handler = None;
        self.mtime = 0;
        self.allowed = 0;
        self.allowed_extensions.clear();
        self.user = None;
        self.auth_type = None;
        self.no_cache = false;
        self.length_unknown = false;
        self.error_bucket = None;
        self.responder = None;
        self.ongoing = None;
        self.no_local_copy = false;
        self.located = false;
        self.bytes_sent = 0;
        self.bytes_out = 0;
        self.bytes_in = 0;
        self.keepalive = false;
        self.expecting_100 = false;
        self.output_filters.clear();
        self.input = Input::default();
        self.kept_body = None;
        self.log_id = OnceLock::new();
        self.trailers_in.clear();
        self.trailers_out.clear();
        self.aborted = false;
        self.ttfb = None;
        self.rewritten = Rewritten::default();
        self.userdir_user = None;
        self.captures.clear();
    }

    /// A module's settings for this request's directory.
    #[inline]
    pub fn dir<'a, T: Conf>(&'a self, slot: &'a Slot<T>) -> &'a T {
        self.dir.get(slot)
    }

    /// A module's settings for this request's server.
    #[inline]
    pub fn server_conf<'a, T: Conf>(&'a self, slot: &'a Slot<T>) -> &'a T {
        self.server.conf.get(slot)
    }

    /// True when what follows would block and this is a reactor: answer `NeedThread` then.
    pub fn needs_thread(&self) -> bool {
        self.lane == Lane::Reactor
    }

    /// True for the first request of a chain: no sub-request, no internal redirect.
    pub fn is_initial(&self) -> bool {
        !self.is_subrequest && self.prev.is_none()
    }

    /// The request as the client sent it, before internal redirects.
    pub fn original(&self) -> &Request {
        let mut at = self;
        while let Some(prev) = &at.prev {
            at = prev;
        }
        at
    }

    /// The client's address as text (`useragent_ip`).
    pub fn useragent_ip(&self) -> &str {
        memo::saw_client();
        match &self.useragent {
            Some(useragent) => &useragent.ip,
            None => &self.connection.client_ip,
        }
    }

    /// The client's address (`useragent_addr`); IPv4 in IPv6 clothes as IPv4.
    pub fn useragent_addr(&self) -> IpAddr {
        memo::saw_client();
        self.client_addr().ip().to_canonical()
    }

    /// The client's address and port, for what the memo needn't know of.
    pub(crate) fn client_addr(&self) -> SocketAddr {
        self.useragent.as_ref().map_or(self.connection.client_addr, |useragent| useragent.addr)
    }

    /// The client's name.
    fn client_name(&self) -> &env::ClientName {
        self.useragent.as_ref().map_or(&self.connection.client_name, |useragent| &useragent.name)
    }

    /// The proxies that the client is behind, as mod_remoteip tells of them.
    pub(crate) fn client_proxies(&self) -> Option<&str> {
        self.useragent.as_ref()?.proxies.as_deref()
    }

    /// Somebody has asked for the client's name.
    pub fn client_was_looked_up(&self) -> bool {
        self.client_name().was_looked_up()
    }

    /// Sets the media type of the reply.
    pub fn set_content_type(&mut self, value: impl Into<SharedStr>) {
        self.content_type = Some(value.into());
    }

    /// The scheme that the client used.
    pub fn scheme(&self) -> &'static str {
        match self.server.scheme.as_deref() {
            Some("https") => "https",
            _ => "http",
        }
    }

    /// The port of [`Request::scheme`] that needs no mention.
    pub fn default_port(&self) -> u16 {
        if self.scheme() == "https" { 443 } else { 80 }
    }

    /// `ap_get_server_name`: by `UseCanonicalName` the configured name, or what the client asked for.
    pub fn server_name(&self) -> &[u8] {
        use crate::modules::core::{self, CanonicalName};
        let configured = || self.server.name().as_bytes();
        match self.dir(&core::DIR).use_canonical_name.unwrap_or(CanonicalName::Off) {
            CanonicalName::On | CanonicalName::Dns => configured(),
            CanonicalName::Off => match &self.hostname {
                Some(name) => name,
                None => configured(),
            },
        }
    }

    /// The same as it stands in a URL: `ap_get_server_name_for_url`.
    pub fn server_name_for_url(&self) -> Cow<'_, [u8]> {
        let name = self.server_name();
        match name.contains(&b':') {
            true => Cow::Owned([b"[", name, b"]"].concat()),
            false => Cow::Borrowed(name),
        }
    }

    /// `ap_get_server_port`.
    pub fn server_port(&self) -> u16 {
        use crate::modules::core::{self, CanonicalName};
        let conf = self.dir(&core::DIR);
        let physical = self.connection.local_addr.port();
        let use_physical = conf.use_canonical_phys_port.unwrap_or(false);
        let server = Some(self.server.port).filter(|&p| p != 0);
        let physical = Some(physical).filter(|&p| use_physical && p != 0);
        match conf.use_canonical_name.unwrap_or(CanonicalName::Off) {
            CanonicalName::Off | CanonicalName::Dns => self.host_port.or(physical).or(server),
            CanonicalName::On => server.or(physical),
        }
        .unwrap_or_else(|| self.default_port())
    }

    /// `scheme://name[:port]path`: `ap_construct_url`.
    pub fn construct_url(&self, path: &[u8]) -> Vec<u8> {
        let port = self.server_port();
        let mut url = format!("{}://", self.scheme()).into_bytes();
        url.extend_from_slice(&self.server_name_for_url());
        if port != self.default_port() {
            url.extend_from_slice(format!(":{port}").as_bytes());
        }
        url.extend_from_slice(path);
        url
    }

    /// How long ago the request came.
    pub fn age(&self) -> Duration {
        Duration::from_micros(u64::try_from(clock::unix_micros() - self.request_time).unwrap_or(0))
    }
}
