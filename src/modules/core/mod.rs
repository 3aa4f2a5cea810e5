//! core: what is always there. Settings and hooks; the rows are in [`server`], [`directory`], [`sections`], [`on_read`].
//!
//! Answers to `server/core.c`.

mod conf;
pub mod default_handler;
mod delivery;
pub mod directory;
pub mod mutex;
pub mod on_read;
pub mod options;
pub mod process;
mod protocol;
pub mod rlimit;
pub mod sections;
pub mod server;
pub mod tokens;
mod upgrade;

use bstr::ByteSlice;

use crate::config::directive::{Allowed, Directive};
use crate::expr::Failure;
use crate::filter::FilterKind;
use crate::hooks::{Hooks, order};
use crate::http::method::Method;
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::module::{Module, Slot};
use crate::request::{Request, Step};

pub use conf::{
    CanonicalName, CoreDir, CoreServer, EncodedSlashes, ErrorDocument, HandlerName, HeadLimits, Lookups,
    PathInfo, Signature, Trace,
};

/// The module.
pub static MODULE: Module = Module { name: "core_module", file: "core.c", directives: ROWS, hooks };

/// A server's core settings.
pub static SERVER: Slot<CoreServer> = Slot::new();
/// A directory's core settings.
pub static DIR: Slot<CoreDir> = Slot::new();

/// All rows, in the order in which `httpd -L` prints them.
#[allow(long_running_const_eval)]
const ROWS: &[Directive] = &ordered_rows();

const TABLES: [&[Directive]; 7] = [
    sections::ROWS,
    directory::ROWS,
    server::ROWS,
    on_read::ROWS,
    protocol::ROWS,
    rlimit::ROWS,
    process::ROWS,
];

/// Apache's order; every row is named here.
const ORDER: &[&str] = &[
    "<Directory",
    "<Location",
    "<VirtualHost",
    "<Files",
    "<Limit",
    "<LimitExcept",
    "<IfModule",
    "<IfDefine",
    "<IfFile",
    "<IfDirective",
    "<IfSection",
    "<DirectoryMatch",
    "<LocationMatch",
    "<FilesMatch",
    "AddDefaultCharset",
    "AcceptPathInfo",
    "Define",
    "UnDefine",
    "Error",
    "<If",
    "<ElseIf",
    "<Else",
    "AccessFileName",
    "DocumentRoot",
    "ErrorDocument",
    "AllowOverride",
    "AllowOverrideList",
    "Options",
    "DefaultType",
    "FileETag",
    "EnableMMAP",
    "EnableSendfile",
    "ReadBufferSize",
    "FlushMaxThreshold",
    "FlushMaxPipelined",
    "Protocol",
    "AcceptFilter",
    "Port",
    "HostnameLookups",
    "ServerAdmin",
    "ServerName",
    "ServerSignature",
    "ServerRoot",
    "DefaultRuntimeDir",
    "ErrorLog",
    "ErrorLogFormat",
    "ServerAlias",
    "ServerPath",
    "Timeout",
    "ContentDigest",
    "UseCanonicalName",
    "UseCanonicalPhysicalPort",
    "Include",
    "IncludeOptional",
    "LogLevel",
    "NameVirtualHost",
    "ServerTokens",
    "LimitRequestLine",
    "LimitRequestFieldsize",
    "LimitRequestFields",
    "LimitRequestBody",
    "LimitXMLRequestBody",
    "Mutex",
    "MaxRanges",
    "MaxRangeOverlaps",
    "MaxRangeReversals",
    "RLimitCPU",
    "RLimitMEM",
    "RLimitNPROC",
    "RegexDefaultOptions",
    "LimitInternalRecursion",
    "CGIPassAuth",
    "CGIVar",
    "QualifyRedirectURL",
    "StrictHostCheck",
    "ForceType",
    "SetHandler",
    "SetOutputFilter",
    "SetInputFilter",
    "AllowEncodedSlashes",
    "ScoreBoardFile",
    "ExtendedStatus",
    "SeeRequestTail",
    "PidFile",
    "MaxRequestsPerChild",
    "MaxConnectionsPerChild",
    "CoreDumpDirectory",
    "MaxMemFree",
    "ThreadStackSize",
    "TraceEnable",
    "MergeTrailers",
    "Protocols",
    "ProtocolsHonorOrder",
    "HttpProtocolOptions",
    "RegisterHttpMethod",
    "MergeSlashes",
];

const ROW_COUNT: usize = {
    let (mut table, mut count) = (0, 0);
    while table < TABLES.len() {
        count += TABLES[table].len();
        table += 1;
    }
    count
};

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

const fn ordered_rows() -> [Directive; ROW_COUNT] {
    const EMPTY: Directive = Directive {
        name: "",
        args: crate::config::directive::Args::OnRead,
        allowed: Allowed::NONE,
        help: "",
    };
    let mut all = [const { EMPTY }; ROW_COUNT];
    let (mut place, mut at) = (0, 0);
    while place < ORDER.len() {
        let mut table = 0;
        while table < TABLES.len() {
            let mut row = 0;
            while row < TABLES[table].len() {
                let Directive { name, args, allowed, help } = TABLES[table][row];
                if same(ORDER[place], name) {
                    all[at] = Directive { name, args, allowed, help };
                    at += 1;
                }
                row += 1;
            }
            table += 1;
        }
        place += 1;
    }
    // A row that the order lacks would be left out in silence.
    assert!(at == ROW_COUNT, "a core row is missing in ORDER");
    all
}

/// `TraceEnable`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trace {
    /// Refused.
    Off,
    /// Answered, without a body.
    On,
    /// Answered, also with a body.
    Extended,
}

/// `AllowEncodedSlashes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EncodedSlashes {
    /// 404.
    Off,
    /// Decoded.
    On,
    /// Kept encoded.
    NoDecode,
}

/// `UseCanonicalName`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CanonicalName {
    /// What the client asked for.
    Off,
    /// `ServerName`.
    On,
    /// The address's name.
    Dns,
}

/// `AcceptPathInfo`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathInfo {
    /// The handler's choice.
    Default,
    /// Always.
    On,
    /// Never.
    Off,
}

/// `ServerSignature`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signature {
    /// None.
    Off,
    /// Name and version.
    On,
    /// With the admin's address.
    Email,
}

/// `HostnameLookups`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookups {
    /// None.
    Off,
    /// Address to name.
    On,
    /// And back.
    Double,
}

/// `ErrorDocument` of one status.
#[derive(Clone)]
pub enum ErrorDocument {
    /// The canned page.
    Default,
    /// A text.
    Text(Arc<Expr>),
    /// A URL, local or not.
    Url(Arc<Expr>),
}

/// What limits a request's head.
#[derive(Clone, Debug)]
pub struct HeadLimits {
    line: usize,
    fields: usize,
    field_size: usize,
    strict: bool,
    allow09: bool,
    registered_methods: bool,
}

impl HeadLimits {
    /// `LimitRequestLine`.
    pub fn request_line(&self) -> usize {
        self.line
    }

    /// In the form that [`head::Head::parse`] takes.
    pub fn options<'m>(&self, methods: &'m MethodRegistry) -> head::Options<'m> {
        head::Options {
            limit_request_line: self.line,
            limit_request_fields: self.fields,
            limit_request_fieldsize: self.field_size,
            strict: self.strict,
            allow09: self.allow09,
            registered_methods: self.registered_methods,
            scheme: "http",
            methods,
        }
    }
    /// `HttpProtocolOptions Strict`.
    pub fn strict(&self) -> bool {
        self.strict
    }
}

/// A server's core settings.
#[derive(Clone, Default)]
pub struct CoreServer {
    /// `TimeOut`.
    pub timeout: Option<Duration>,
    /// `MergeSlashes`.
    pub merge_slashes: Option<bool>,
    /// `TraceEnable`.
    pub trace: Option<Trace>,
    /// `MergeTrailers`.
    pub merge_trailers: Option<bool>,
    /// `FlushMaxThreshold`, in bytes.
    pub flush_max_threshold: Option<u32>,
    /// `FlushMaxPipelined`; -1: no limit.
    pub flush_max_pipelined: Option<i32>,
    /// `StrictHostCheck`.
    pub strict_host_check: Option<bool>,
    /// `LogLevel`.
    pub log: LogLevels,
    /// `ErrorLog`.
    pub error_log: Option<String>,
    /// `ExtendedStatus`.
    pub extended_status: Option<bool>,
    /// `SeeRequestTail`.
    pub see_request_tail: Option<bool>,
    /// `ErrorLogFormat`.
    pub error_log_formats: Formats,
    /// `AccessFileName`.
    pub access_names: Option<Vec<String>>,
    /// `DocumentRoot`.
    pub document_root: Option<String>,
    /// `LimitInternalRecursion`, first value.
    pub redirect_limit: Option<u32>,
    /// `LimitInternalRecursion`, second value.
    pub subrequest_limit: Option<u32>,
    /// `LimitRequestLine`.
    pub limit_line: Option<usize>,
    /// `LimitRequestFields`.
    pub limit_fields: Option<usize>,
    /// `LimitRequestFieldSize`.
    pub limit_field_size: Option<usize>,
    /// `HttpProtocolOptions Strict|Unsafe`.
    pub strict: Option<bool>,
    /// `HttpProtocolOptions Allow0.9|Require1.0`.
    pub allow09: Option<bool>,
    /// `HttpProtocolOptions RegisteredMethods|LenientMethods`.
    pub registered_methods: Option<bool>,
    /// `ServerTokens`.
    pub tokens: Option<tokens::Tokens>,
    /// `Protocol`.
    pub protocol: Option<String>,
    /// `Protocols`; empty: not said.
    pub protocols: Vec<String>,
    /// `ProtocolsHonorOrder`.
    pub protocols_honor_order: Option<bool>,
}

impl Conf for CoreServer {
    fn merge(&self, child: &Self) -> Self {
        CoreServer {
            timeout: child.timeout.or(self.timeout),
            merge_slashes: child.merge_slashes.or(self.merge_slashes),
            trace: child.trace.or(self.trace),
            merge_trailers: child.merge_trailers.or(self.merge_trailers),
            flush_max_threshold: child.flush_max_threshold.or(self.flush_max_threshold),
            flush_max_pipelined: child.flush_max_pipelined.or(self.flush_max_pipelined),
            strict_host_check: child.strict_host_check.or(self.strict_host_check),
            log: self.log.merge(&child.log),
            // A virtual host without an ErrorLog of its own shares the main server's open file.
            error_log: child.error_log.clone(),
            error_log_formats: self.error_log_formats.merge(&child.error_log_formats),
            access_names: child.access_names.clone().or_else(|| self.access_names.clone()),
            document_root: child.document_root.clone().or_else(|| self.document_root.clone()),
            redirect_limit: child.redirect_limit.or(self.redirect_limit),
            subrequest_limit: child.subrequest_limit.or(self.subrequest_limit),
            limit_line: child.limit_line.or(self.limit_line),
            limit_fields: child.limit_fields.or(self.limit_fields),
            limit_field_size: child.limit_field_size.or(self.limit_field_size),
            strict: child.strict.or(self.strict),
            allow09: child.allow09.or(self.allow09),
            registered_methods: child.registered_methods.or(self.registered_methods),
            extended_status: child.extended_status.or(self.extended_status),
            see_request_tail: child.see_request_tail.or(self.see_request_tail),
            tokens: child.tokens.or(self.tokens),
            protocol: child.protocol.clone().or_else(|| self.protocol.clone()),
            protocols: if child.protocols.is_empty() { &self.protocols } else { &child.protocols }.clone(),
            protocols_honor_order: child.protocols_honor_order.or(self.protocols_honor_order),
        }
    }
}

impl CoreServer {
    /// The names of `.htaccess` files.
    pub fn access_names(&self) -> &[String] {
        static DEFAULT: std::sync::LazyLock<[String; 1]> =
            std::sync::LazyLock::new(|| [".htaccess".to_owned()]);
        self.access_names.as_deref().unwrap_or(&*DEFAULT)
    }

    /// What limits a request's head.
    pub fn head_options(&self) -> HeadLimits {
        HeadLimits {
            line: self.limit_line.unwrap_or(8190),
            fields: self.limit_fields.unwrap_or(100),
            field_size: self.limit_field_size.unwrap_or(8190),
            strict: self.strict.unwrap_or(true),
            allow09: self.allow09.unwrap_or(true),
            registered_methods: self.registered_methods.unwrap_or(false),
        }
    }
}

/// A directory's core settings.
#[derive(Clone, Default)]
pub struct CoreDir {
    /// `Options`, absolute or relative.
    pub opts: options::Opts,
    /// `AllowOverride`: the classes; `None`: not said.
    pub overrides: Option<Allowed>,
    /// `AllowOverride Options=…`.
    pub override_opts: Option<u16>,
    /// `AllowOverrideList`.
    pub override_list: Option<Arc<HashSet<String>>>,
    /// `AcceptPathInfo`.
    pub accept_path_info: Option<PathInfo>,
    /// `FileETag`.
    pub etag: Option<EtagBits>,
    /// `FileETag +…`.
    pub etag_add: EtagBits,
    /// `FileETag -…`.
    pub etag_remove: EtagBits,
    /// `EnableMMAP`.
    pub enable_mmap: Option<bool>,
    /// `EnableSendfile`.
    pub enable_sendfile: Option<bool>,
    /// `ServerSignature`.
    pub signature: Option<Signature>,
    /// `UseCanonicalName`.
    pub use_canonical_name: Option<CanonicalName>,
    /// `UseCanonicalPhysicalPort`.
    pub use_canonical_phys_port: Option<bool>,
    /// `HostnameLookups`.
    pub hostname_lookups: Option<Lookups>,
    /// `ContentDigest`.
    pub content_md5: Option<bool>,
    /// `AddDefaultCharset`; `Some(None)`: off.
    pub default_charset: Option<Option<String>>,
    /// `LimitRequestBody`.
    pub limit_request_body: Option<u64>,
    /// `LimitXMLRequestBody`.
    pub limit_xml_body: Option<u64>,
    /// `ForceType`; `Some(None)`: none.
    pub force_type: Option<Option<String>>,
    /// `SetHandler`; `Some(None)`: none.
    pub handler: Option<Option<HandlerName>>,
    /// `SetOutputFilter`.
    pub output_filters: Option<String>,
    /// `SetInputFilter`.
    pub input_filters: Option<String>,
    /// `ErrorDocument`s by status.
    pub error_documents: BTreeMap<Status, ErrorDocument>,
    /// `<Files>` sections in order.
    pub sec_file: Option<Vec<Arc<Section>>>,
    /// `<If>` sections in order.
    pub sec_if: Option<Vec<Arc<Section>>>,
    /// `AllowEncodedSlashes`.
    pub allow_encoded_slashes: Option<EncodedSlashes>,
    /// `LogLevel`.
    pub log: LogLevels,
    /// `CGIPassAuth`.
    pub cgi_pass_auth: Option<bool>,
    /// `CGIVar`.
    pub cgi_vars: BTreeMap<String, String>,
    /// `QualifyRedirectURL`.
    pub qualify_redirect_url: Option<bool>,
    /// `MaxRanges`; negative: none are served, 0: no limit.
    pub max_ranges: Option<i64>,
    /// `MaxRangeOverlaps`.
    pub max_overlaps: Option<i64>,
    /// `MaxRangeReversals`.
    pub max_reversals: Option<i64>,
    /// `RLimitCPU`.
    pub limit_cpu: Option<rlimit::Limit>,
    /// `RLimitMEM`.
    pub limit_mem: Option<rlimit::Limit>,
    /// `RLimitNPROC`.
    pub limit_nproc: Option<rlimit::Limit>,
}

/// `SetHandler`: a name, or an expression that gives one.
#[derive(Clone)]
pub enum HandlerName {
    /// A name.
    Name(String),
    /// An expression that is no constant.
    Expr(Arc<Expr>),
}

impl HandlerName {
    /// Handlers have lower-case names; the path of a proxy's socket is as it is.
    pub fn in_case(name: &str) -> String {
        if name.starts_with("proxy:unix") { name.to_owned() } else { name.to_ascii_lowercase() }
    }
}

fn joined<T: Clone>(mine: &Option<Vec<T>>, theirs: &Option<Vec<T>>) -> Option<Vec<T>> {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => Some(mine.iter().chain(theirs).cloned().collect()),
        (mine, theirs) => theirs.clone().or_else(|| mine.clone()),
    }
}

impl Conf for CoreDir {
    fn merge(&self, child: &Self) -> Self {
        let mut error_documents = self.error_documents.clone();
        error_documents.extend(child.error_documents.iter().map(|(k, v)| (*k, v.clone())));
        let mut cgi_vars = self.cgi_vars.clone();
        cgi_vars.extend(child.cgi_vars.iter().map(|(k, v)| (k.clone(), v.clone())));
        // An absolute FileETag replaces all; relative ones add up.
        let (etag, etag_add, etag_remove) = if child.etag.is_some() {
            (child.etag, child.etag_add, child.etag_remove)
        } else {
            let add = self.etag_add.without(child.etag_remove).with(child.etag_add);
            let remove = self.etag_remove.without(child.etag_add).with(child.etag_remove);
            // Relative ones change what was said before, not the default: `-MTime` alone leaves MTime and Size.
            let bits = self.etag.unwrap_or(EtagBits::UNSET).without(remove).with(add);
            let bits = if bits == EtagBits::NONE { bits } else { bits.without(EtagBits::NONE) };
            ((bits != EtagBits::UNSET).then_some(bits), add, remove)
        };
        CoreDir {
            opts: self.opts.merge(&child.opts),
            overrides: child.overrides.or(self.overrides),
            override_opts: child.override_opts.or(self.override_opts),
            override_list: child.override_list.clone().or_else(|| self.override_list.clone()),
            accept_path_info: child.accept_path_info.or(self.accept_path_info),
            etag,
            etag_add,
            etag_remove,
            enable_mmap: child.enable_mmap.or(self.enable_mmap),
            enable_sendfile: child.enable_sendfile.or(self.enable_sendfile),
            signature: child.signature.or(self.signature),
            use_canonical_name: child.use_canonical_name.or(self.use_canonical_name),
            use_canonical_phys_port: child.use_canonical_phys_port.or(self.use_canonical_phys_port),
            hostname_lookups: child.hostname_lookups.or(self.hostname_lookups),
            content_md5: child.content_md5.or(self.content_md5),
            default_charset: child.default_charset.clone().or_else(|| self.default_charset.clone()),
            limit_request_body: child.limit_request_body.or(self.limit_request_body),
            limit_xml_body: child.limit_xml_body.or(self.limit_xml_body),
            force_type: child.force_type.clone().or_else(|| self.force_type.clone()),
            handler: child.handler.clone().or_else(|| self.handler.clone()),
            output_filters: child.output_filters.clone().or_else(|| self.output_filters.clone()),
            input_filters: child.input_filters.clone().or_else(|| self.input_filters.clone()),
            error_documents,
            sec_file: joined(&self.sec_file, &child.sec_file),
            sec_if: joined(&self.sec_if, &child.sec_if),
            // Not inherited: a virtual host says it for itself.
            allow_encoded_slashes: child.allow_encoded_slashes,
            log: self.log.merge(&child.log),
            cgi_pass_auth: child.cgi_pass_auth.or(self.cgi_pass_auth),
            cgi_vars,
            qualify_redirect_url: child.qualify_redirect_url.or(self.qualify_redirect_url),
            max_ranges: child.max_ranges.or(self.max_ranges),
            max_overlaps: child.max_overlaps.or(self.max_overlaps),
            max_reversals: child.max_reversals.or(self.max_reversals),
            limit_cpu: child.limit_cpu.or(self.limit_cpu),
            limit_mem: child.limit_mem.or(self.limit_mem),
            limit_nproc: child.limit_nproc.or(self.limit_nproc),
        }
    }
}

impl CoreDir {
    /// The `Options` in force: `ap_allow_options`.
    #[inline]
    pub fn options(&self) -> u16 {
        self.opts.in_force()
    }

    /// What `.htaccess` files may do here. Without `AllowOverride`, nothing.
    pub fn override_in_force(&self) -> Override {
        Override {
            classes: self.overrides.unwrap_or(Allowed::NONE),
            options: self.override_opts.unwrap_or(options::ANY),
            list: self.override_list.clone(),
        }
    }

    /// The `ErrorDocument` for a status.
    pub fn error_document(&self, code: Status) -> Option<&ErrorDocument> {
        self.error_documents.get(&code)
    }

    /// What an ETag is made of.
    pub fn etag_bits(&self) -> EtagBits {
        // What + and - said counts once more here, for it does nothing to words of the same line otherwise.
        let bits = self.etag.unwrap_or(EtagBits::UNSET).without(self.etag_remove).with(self.etag_add);
        if bits == EtagBits::UNSET { EtagBits::MTIME.with(EtagBits::SIZE) } else { bits }
    }
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.translate_name(translate_name, order::REALLY_LAST);
    hooks.map_to_storage(upgrade::map_to_storage, order::REALLY_FIRST);
    hooks.map_to_storage(map_to_storage, order::REALLY_LAST);
    hooks.header_parser(Request::look_up_client, order::REALLY_FIRST);
    hooks.type_checker(|_| Step::Ok, order::REALLY_LAST);
    hooks.auth_checker(|_| Step::Declined, order::REALLY_LAST);
    hooks.access_checker(|_| Step::Ok, order::REALLY_LAST);
    hooks.fixups(core_override_type, order::REALLY_FIRST);
    hooks.handler(upgrade::handler, order::REALLY_FIRST);
    hooks.insert_filter(insert_filter, order::MIDDLE);
    hooks.handler(default_handler::handler, order::REALLY_LAST);
    hooks.output_filter("BYTERANGE", FilterKind::Protocol, crate::conn::byterange::wrap);
}

/// URI to file name below the DocumentRoot: `ap_core_translate`.
pub fn translate_name(r: &mut Request) -> Step {
    if r.proxyreq {
        return Step::Status(status::FORBIDDEN);
    }
    if r.uri.first() != Some(&b'/') && r.uri != "*" {
        crate::log::rerror!(
            r,
            crate::log::Level::Error,
            "core",
            "AH00126",
            "Invalid URI in request '{}' {}",
            r.uri,
            r.the_request
        );
        return Step::Status(status::BAD_REQUEST);
    }
    let server = r.server.clone();
    let root = server.conf.get(&SERVER).document_root.as_deref().unwrap_or("/usr/local/apache2/htdocs");
    let path = r.uri.trim_start_with(|c| c == '/');
    // With room for slashes and an end (`apr_filepath_merge`).
    if root.len() + path.len() + 4 > libc::PATH_MAX as usize {
        let err = std::io::Error::from_raw_os_error(libc::ENAMETOOLONG);
        let request = shown(&r.the_request);
        rerror!(r, Level::Error, "core", "AH00127", err = err, "Cannot map {request} to file");
        return Step::Status(status::FORBIDDEN);
    }
    r.filename.clear();
    r.filename.extend_from_slice(root.trim_end_matches('/').as_bytes());
    if r.uri == "*" {
        r.filename.push(b'/');
    }
    r.filename.extend_from_slice(&r.uri);
    Step::Ok
}

/// Directory and file sections: `core_map_to_storage`.
fn map_to_storage(r: &mut Request) -> Step {
    let step = r.directory_walk();
    if step != Step::Ok {
        return step;
    }
    r.file_walk()
}

/// `ForceType` and `SetHandler`: `core_override_type`.
fn core_override_type(r: &mut Request) -> Step {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    if let Some(Some(media_type)) = &conf.force_type {
        r.set_content_type(media_type.clone());
    }
    match &conf.handler {
        Some(Some(HandlerName::Name(name))) => r.handler = Some(name.clone().into()),
        Some(Some(HandlerName::Expr(expr))) => match expr.to_bytes(r) {
            Ok(name) => {
                let name = HandlerName::in_case(&String::from_utf8_lossy(&name));
                if name != "none" {
                    r.handler = Some(name.into());
                }
            }
            Err(Failure::NeedThread) => return Step::NeedThread,
            Err(Failure::Error(error)) => {
                let error = shown(error.as_ref());
                rerror!(r, Level::Error, "core", "AH03154", "Can't evaluate handler expression: {error}");
                return Step::Status(status::INTERNAL_SERVER_ERROR);
            }
        },
        _ => {}
    }
    // AcceptPathInfo Off refuses what the handler might have taken: the default handler looks at it.
    Step::Ok
}

/// `SetOutputFilter` and `SetInputFilter`: `core_insert_filter`.
fn insert_filter(r: &mut Request) {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    for name in names_of(conf.output_filters.as_deref()) {
        if !r.add_output_filter(name) {
            unknown_filter(r, name);
        }
    }
    for name in names_of(conf.input_filters.as_deref()) {
        if !r.add_input_filter(name) {
            unknown_filter(r, name);
        }
    }
}

fn names_of(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.unwrap_or_default().split(';').filter(|name| !name.is_empty())
}

fn unknown_filter(r: &Request, name: &str) {
    rerror!(r, Level::Error, "core", "AH00082", "an unknown filter was not added: {name}");
}

/// True for methods that a plain file answers.
pub fn is_get_or_post(method: Method) -> bool {
    method == Method::GET || method == Method::POST
}
