//! What an expression may ask of the request, the connection and the server: the members of `ap_expr_eval_ctx_t`, and
//! what modules add by `ap_hook_expr_lookup`.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use super::variables::Variable;
use crate::http::date::Civil;

/// A value, or none (which expressions take for the empty string).
pub type Value<'e> = Option<Cow<'e, [u8]>>;

/// The answer takes time (DNS, a subrequest, a slow disk) and this thread must not block: evaluate again on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedThread;

/// The largest file that `file()` reads.
pub const MAX_FILE_SIZE: u64 = 10 * 1024 * 1024;

/// Where an expression's facts come from.
pub trait Env {
    /// A variable; those of the clock, of request headers, LAST_MODIFIED and API_VERSION are not asked for here.
    fn variable(&mut self, variable: Variable) -> Result<Value<'_>, NeedThread>;
    /// `r->headers_in`, first value.
    fn request_header(&mut self, name: &[u8]) -> Value<'_>;
    /// `r->headers_out`, else `r->err_headers_out`, first value.
    fn response_header(&mut self, name: &[u8]) -> Value<'_>;
    /// `r->notes`.
    fn note(&mut self, name: &[u8]) -> Value<'_>;
    /// `r->subprocess_env`.
    fn environment(&mut self, name: &[u8]) -> Value<'_>;
    /// The process's environment.
    fn os_environment(&mut self, name: &[u8]) -> Value<'_> {
        let name = OsStr::from_bytes(name);
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            return None;
        }
        std::env::var_os(name).map(|value| value.as_bytes().to_vec().into())
    }
    /// Now, in local time.
    fn local_time(&mut self) -> Civil;
    /// `r->mtime`, in local time.
    fn modified_time(&mut self) -> Civil;
    /// `r->useragent_addr`, for `-R`.
    fn client_address(&mut self) -> Option<IpAddr>;
    /// The first address of a host name, for `-ipmatch`; numeric ones are not asked for.
    fn resolve(&mut self, host: &[u8]) -> Result<Option<IpAddr>, NeedThread>;
    /// Status of a subrequest for a URI (`-U`, `-A`). None where the main request has the same URI, which ends recursion.
    fn subrequest_uri(&mut self, uri: &[u8]) -> Result<Option<u16>, NeedThread>;
    /// Status of a subrequest for a file, and whether that file exists (`-F`).
    fn subrequest_file(&mut self, file: &[u8]) -> Result<Option<(u16, bool)>, NeedThread>;
    /// Facts of a file, or of the link itself where `follow` is not set.
    fn stat(&mut self, path: &[u8], follow: bool) -> Option<Stat> {
        stat(path, follow)
    }
    /// The content of a file, for `file()`.
    fn read_file(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        read_file(path)
    }
    /// What a module's own function, operator or variable gives.
    fn provided(&mut self, call: &Provided, args: &[&[u8]]) -> Result<Answer, NeedThread>;
    /// Adds the names of headers that the condition looked at to the reply's Vary (`apr_table_merge`).
    fn merge_vary(&mut self, names: &[u8]);
    /// Writes to the error log, as the module that the expression belongs to.
    fn log(&mut self, module: &'static str, severity: Severity, message: fmt::Arguments<'_>);
}

/// What [`Env::stat`] says.
pub fn stat(path: &[u8], follow: bool) -> Option<Stat> {
    let path = OsStr::from_bytes(path);
    let meta = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) }.ok()?;
    Some(Stat {
        is_file: meta.is_file(),
        is_dir: meta.is_dir(),
        is_link: meta.is_symlink(),
        executable: meta.permissions().mode() & 0o111 != 0,
        size: meta.len(),
    })
}

/// What [`Env::read_file`] gives.
pub fn read_file(path: &[u8]) -> Result<Vec<u8>, FileError> {
    let mut file = fs::File::open(OsStr::from_bytes(path)).map_err(|_| FileError::Open)?;
    let size = file.metadata().map_err(|_| FileError::Read)?.len();
    if size > MAX_FILE_SIZE {
        return Err(FileError::TooLarge);
    }
    let mut content = Vec::new();
    // Only as much as the size says: what has none (a pipe, /proc) is empty.
    file.by_ref().take(size).read_to_end(&mut content).map_err(|_| FileError::Read)?;
    Ok(content)
}

/// Levels that evaluation logs at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// A failure.
    Err,
    /// AH00538.
    Debug,
    /// Each result.
    Trace4,
    /// Each subrequest.
    Trace5,
}

/// Why `file()` has no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    /// It cannot be opened.
    Open,
    /// It has more than [`MAX_FILE_SIZE`] bytes.
    TooLarge,
    /// It cannot be read.
    Read,
    /// This thread must not block on it.
    NeedThread,
}

/// What file operators ask about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// A regular file.
    pub is_file: bool,
    /// A directory.
    pub is_dir: bool,
    /// A symbolic link.
    pub is_link: bool,
    /// Any of the three execute bits.
    pub executable: bool,
    /// Bytes.
    pub size: u64,
}

/// What is looked up while an expression is parsed (`AP_EXPR_FUNC_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `%{NAME}`.
    Variable,
    /// `name(…)` or `%{name:…}`.
    Function,
    /// `-in name(…)`.
    ListFunction,
    /// `-x …`.
    Unary,
    /// `… -name …`.
    Binary,
}

/// A module's own variables, functions and operators (`ap_hook_expr_lookup`, or the `lookup_fn` of `ap_expr_parse`): mod_ssl's
/// `SSL_*` and `PeerExtList`, mod_include's `v`, mod_proxy_hcheck's `hc`. They are asked before the core's.
pub struct Provider {
    /// Module that it belongs to.
    pub module: &'static str,
    /// Takes the kind, the name, and the argument if it is constant; gives none where the name isn't known here, else a
    /// number of the provider's choice, or the text of a parse error.
    pub lookup: fn(Kind, &str, Option<&[u8]>) -> Option<Result<u32, String>>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Provider").field(&self.module).finish()
    }
}

/// A place in an expression that a [`Provider`] answers for.
#[derive(Clone, Debug)]
pub struct Provided {
    /// Who answers.
    pub provider: &'static Provider,
    /// What `lookup` gave.
    pub id: u32,
    /// What is answered.
    pub kind: Kind,
    /// The name as it was written.
    pub name: Box<str>,
}

/// What a [`Provider`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// For variables and functions.
    Text(Vec<u8>),
    /// For list functions.
    List(Vec<Vec<u8>>),
    /// For operators.
    Truth(bool),
    /// Evaluation fails, with this text.
    Failed(String),
}
