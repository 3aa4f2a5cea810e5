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

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.translate_name(translate_name, order::REALLY_LAST);
    hooks.map_to_storage(upgrade::map_to_storage, order::REALLY_FIRST);
    hooks.map_to_storage(map_to_storage, order::REALLY_LAST);
    hooks.header_parser(Request::look_up_client, order::REALLY_FIRST).own();
    hooks.type_checker(|_| Step::Ok, order::REALLY_LAST);
    hooks.auth_checker(|_| Step::Declined, order::REALLY_LAST).own();
    hooks.access_checker(|_| Step::Ok, order::REALLY_LAST).own();
    hooks.fixups(core_override_type, order::REALLY_FIRST);
    hooks.handler(upgrade::handler, order::REALLY_FIRST);
    hooks.insert_filter(insert_filter, order::MIDDLE);
    hooks.handler(default_handler::handler, order::REALLY_LAST);
    hooks.output_filter("BYTERANGE", FilterKind::Protocol, crate::conn::byterange::wrap);
}

/// URI to file name below the DocumentRoot: `ap_core_translate`.
pub fn translate_name(r: &mut Request) -> Step {
    if r.proxyreq.is_some() {
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
