//! What the core's directives set, for a server and for a directory, and what a section means on top of another.
//!
//! Answers to `core_server_config` and `core_dir_config` of `include/http_core.h` and their merges in `server/core.c`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{options, rlimit, tokens};
use crate::config::directive::Allowed;
use crate::config::htaccess::Override;
use crate::config::section::Section;
use crate::expr::Expr;
use crate::http::conditional::EtagBits;
use crate::http::head;
use crate::http::method::MethodRegistry;
use crate::http::status::Status;
use crate::log::LogLevels;
use crate::log::format::Formats;
use crate::module::Conf;

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
#[derive(Clone, Debug, PartialEq)]
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
