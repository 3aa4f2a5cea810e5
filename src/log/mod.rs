//! The error log: levels by module, directory and server; AH numbers; where the lines go.
//!
//! Answers to `server/log.c`. Events go through `tracing` (target = module, fields for level, AH number and message);
//! [`subscriber`] formats them by [`format`] and writes each as one line. Where a message belongs (which server's
//! log, which client) is in the [`Context`] that the emitting functions here set around the event.

pub mod error_log;
pub mod format;
pub mod level;
pub mod pipe;
pub mod subscriber;
pub mod writer;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

pub use error_log::{ErrorLog, open};
pub use level::{Level, LogLevels};

use crate::config::server::Server;
use crate::request::{ConnInfo, Request};
use format::{Items, Subject};

/// Where an event belongs.
#[derive(Clone, Default)]
pub(crate) struct Context {
    /// The log to write to; `None`: standard error.
    pub log: Option<Arc<ErrorLog>>,
    /// What the format may ask for.
    pub items: Items,
    /// The system's error, for `%E`.
    pub error: Option<String>,
    /// Lines by `ErrorLogFormat`, made already: those that come once, then the message's.
    pub lines: Option<Vec<String>>,
    /// A message of the start-up: to standard error as it stands, without time and level.
    pub startup: bool,
}

thread_local! {
    static CONTEXT: RefCell<Context> = RefCell::new(Context::default());
}

static MAIN: OnceLock<std::sync::RwLock<(Option<Arc<ErrorLog>>, LogLevels)>> = OnceLock::new();

fn main_log() -> &'static std::sync::RwLock<(Option<Arc<ErrorLog>>, LogLevels)> {
    MAIN.get_or_init(Default::default)
}

/// The log and levels for events that belong to no request: those of the main server.
pub fn set_main(log: Option<Arc<ErrorLog>>, levels: LogLevels) {
    *main_log().write().unwrap_or_else(|poisoned| poisoned.into_inner()) = (log, levels);
}

fn emit(context: Context, level: Level, module: &str, ah: &str, message: fmt::Arguments) {
    CONTEXT.with(|cell| {
        if let Ok(mut current) = cell.try_borrow_mut() {
            *current = context;
        }
    });
    let ap_level = level as u64;
    match level {
        Level::Emerg | Level::Alert | Level::Crit | Level::Error => {
            tracing::error!(ap_level, module, ah, "{message}");
        }
        Level::Warn => tracing::warn!(ap_level, module, ah, "{message}"),
        Level::Notice | Level::Info => tracing::info!(ap_level, module, ah, "{message}"),
        Level::Debug => tracing::debug!(ap_level, module, ah, "{message}"),
        _ => tracing::trace!(ap_level, module, ah, "{message}"),
    }
}

/// The lines by `ErrorLogFormat`, and before the first message of a connection or request those that come once for it;
/// `None` where there is no such format. Connection and request get their numbers (`%L`) here.
fn custom_lines(
    r: Option<&Request>,
    c: &ConnInfo,
    server: &Server,
    level: Level,
    module: &str,
    ah: &str,
    error: Option<&str>,
    message: fmt::Arguments,
) -> Option<Vec<String>> {
    let conf = server.conf.get(&crate::modules::core::SERVER);
    let mut lines = Vec::new();
    let once = Subject { connection: Some(c), server: Some(server.name()), ..Subject::default() };
    if c.log_id.get().is_none() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let _ = c.log_id.set(format::generate_log_id(now.as_micros() as u64));
        lines.extend(conf.error_log_conn.iter().flatten().filter_map(|f| f.custom_line("", &once)));
    }
    let once = Subject { request: r, ..once };
    if let Some(r) = r.filter(|r| r.log_id.get().is_none()) {
        let _ = r.log_id.set(format::generate_log_id(r.request_micros() as u64));
        lines.extend(conf.error_log_req.iter().flatten().filter_map(|f| f.custom_line("", &once)));
    }
    let format = &server.error_log.format;
    if *format == format::Format::Default && lines.is_empty() {
        return None;
    }
    let message = if ah.is_empty() { message.to_string() } else { format!("{ah}: {message}") };
    let about = Subject { level: Some(level), module, error, ..once };
    match format {
        format::Format::Custom(_) => lines.extend(format.custom_line(&message, &about)),
        format::Format::Default => {
            let items = r.map_or_else(|| Items::of_connection(c), Items::of_request);
            let context = Context { items, error: error.map(str::to_owned), ..Context::default() };
            lines.push(format::default_line(level, module, &message, &context, server.error_log.is_syslog()));
        }
    }
    Some(lines)
}

/// An event of a request: use the [`rerror!`] macro, which first asks whether it is wanted.
pub fn request_event(
    r: &Request,
    level: Level,
    module: &str,
    ah: &str,
    error: Option<&io::Error>,
    message: fmt::Arguments,
) {
    let error = error.map(system_error);
    let lines = custom_lines(Some(r), &r.connection, &r.server, level, module, ah, error.as_deref(), message);
    let context = Context {
        log: Some(r.server.error_log.clone()),
        items: Items::of_request(r),
        error,
        lines,
        startup: false,
    };
    emit(context, level, module, ah, message);
}

/// An event of a connection.
pub fn connection_event(
    c: &ConnInfo,
    level: Level,
    module: &str,
    ah: &str,
    error: Option<&io::Error>,
    message: fmt::Arguments,
) {
    if !levels_of(&c.base_server).enabled(module, level) {
        return;
    }
    let error = error.map(system_error);
    let lines = custom_lines(None, c, &c.base_server, level, module, ah, error.as_deref(), message);
    let context = Context {
        log: Some(c.base_server.error_log.clone()),
        items: Items::of_connection(c),
        error,
        lines,
        startup: false,
    };
    emit(context, level, module, ah, message);
}

/// An event of the server as a whole.
pub fn server_event(level: Level, module: &str, ah: &str, message: &str) {
    server_error(level, module, ah, None, message);
}

/// The same with the system's error.
pub fn server_error(level: Level, module: &str, ah: &str, error: Option<&io::Error>, message: &str) {
    let log = {
        let main = main_log().read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !main.1.enabled(module, level) {
            return;
        }
        main.0.clone()
    };
    let context =
        Context { log, items: Items::default(), error: error.map(system_error), lines: None, startup: false };
    emit(context, level, module, ah, format_args!("{message}"));
}

/// An event of the server as a whole whose cause is a name that the resolver doesn't know (`EAI_NONAME`).
pub fn server_unresolved(level: Level, module: &str, ah: &str, message: &str) {
    let main = main_log().read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
    if main.1.enabled(module, level) {
        let error = Some("(EAI 2)Name or service not known".to_owned());
        let context = Context { log: main.0, items: Items::default(), error, lines: None, startup: false };
        emit(context, level, module, ah, format_args!("{message}"));
    }
}

/// A message of the start-up: to standard error, as it stands behind its AH number.
pub fn startup(level: Level, module: &str, ah: &str, message: &str) {
    let context = Context { startup: true, ..Context::default() };
    emit(context, level, module, ah, format_args!("{message}"));
}

fn levels_of(server: &Server) -> &LogLevels {
    &server.conf.get(&crate::modules::core::SERVER).log
}

/// Bytes from outside in a message. Those that are no UTF-8 come through it, as [`format::escape`] knows.
pub fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    httpd_conf::from_bytes(bytes)
}

/// `(2)No such file or directory`, as `%E` prints it.
pub fn system_error(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => format!("({code}){}", nix::errno::Errno::from_raw(code).desc_as_apr()),
        None => error.to_string(),
    }
}

/// The words of `strerror`, which `nix` has in a slightly different form.
trait Description {
    fn desc_as_apr(self) -> String;
}

impl Description for nix::errno::Errno {
    fn desc_as_apr(self) -> String {
        let full = io::Error::from_raw_os_error(self as i32).to_string();
        match full.rfind(" (os error") {
            Some(at) => full[..at].to_owned(),
            None => full,
        }
    }
}

impl Request {
    /// Is an event of `module` at `level` wanted here? By the directory's `LogLevel`, else the server's.
    #[inline]
    pub fn log_enabled(&self, module: &str, level: Level) -> bool {
        let dir = &self.dir(&crate::modules::core::DIR).log;
        if dir.is_set() { dir.enabled(module, level) } else { levels_of(&self.server).enabled(module, level) }
    }
}

/// Logs an event of a request: `rerror!(r, Level::Error, "core", "AH00128", "File does not exist: {}", name)`.
/// `err = error,` before the text adds the system's error.
#[macro_export]
macro_rules! rerror {
    ($r:expr, $level:expr, $module:expr, $ah:expr, err = $err:expr, $($text:tt)+) => {
        if $r.log_enabled($module, $level) {
            $crate::log::request_event(&$r, $level, $module, $ah, Some(&$err), format_args!($($text)+));
        }
    };
    ($r:expr, $level:expr, $module:expr, $ah:expr, $($text:tt)+) => {
        if $r.log_enabled($module, $level) {
            $crate::log::request_event(&$r, $level, $module, $ah, None, format_args!($($text)+));
        }
    };
}
pub use crate::rerror;
