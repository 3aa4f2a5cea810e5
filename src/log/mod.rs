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
use std::sync::{Arc, Mutex, OnceLock};

pub use error_log::{ErrorLog, open};
pub use level::{Level, LogLevels};

use crate::config::server::Server;
use crate::request::{ConnInfo, Request};
use format::Items;

/// Where an event belongs.
#[derive(Clone, Default)]
pub(crate) struct Context {
    /// The log to write to; `None`: standard error.
    pub log: Option<Arc<ErrorLog>>,
    /// What the format may ask for.
    pub items: Items,
    /// The system's error, for `%E`.
    pub error: Option<String>,
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

/// What went to standard error while the configuration was read. Apache reads it twice, and what it says the second time
/// goes to the error log (or, where it detached itself in between, to nobody).
static EARLY: Mutex<Vec<Early>> = Mutex::new(Vec::new());

struct Early {
    level: Level,
    module: String,
    ah: String,
    message: String,
    startup: bool,
    error: Option<String>,
}

fn remember(early: Early) {
    // A server that runs for a year with a broken log must not fill its memory with this.
    const MOST: usize = 10_000;
    let mut list = EARLY.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if list.len() < MOST {
        list.push(early);
    }
}

/// Forgets what was said before the main server's error log was open.
pub fn forget_early_lines() {
    EARLY.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
}

/// Writes what was said before the main server's error log was open to that log too.
pub fn repeat_early_lines() {
    let log = main_log().read().unwrap_or_else(|poisoned| poisoned.into_inner()).0.clone();
    let early = std::mem::take(&mut *EARLY.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let Some(log) = log else { return };
    // The log is standard error itself: they are there already.
    if log.file().is_none() {
        return;
    }
    for line in early {
        if line.startup {
            log.write(line.level, &format!("{}: {}\n", line.ah, line.message));
        } else if LogLevels::default().enabled(&line.module, line.level) {
            let context = Context { log: Some(log.clone()), error: line.error, ..Context::default() };
            emit(context, line.level, &line.module, &line.ah, format_args!("{}", line.message));
        }
    }
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

/// An event of a request: use the [`rerror!`] macro, which first asks whether it is wanted.
pub fn request_event(
    r: &Request,
    level: Level,
    module: &str,
    ah: &str,
    error: Option<&io::Error>,
    message: fmt::Arguments,
) {
    let context = Context {
        log: Some(r.server.error_log.clone()),
        items: Items::of_request(r),
        error: error.map(system_error),
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
    let context = Context {
        log: Some(c.base_server.error_log.clone()),
        items: Items::of_connection(c),
        error: error.map(system_error),
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
    let error = error.map(system_error);
    if log.is_none() {
        remember(Early::new(level, module, ah, message, false, error.clone()));
    }
    let context = Context { log, items: Items::default(), error, startup: false };
    emit(context, level, module, ah, format_args!("{message}"));
}

impl Early {
    fn new(
        level: Level,
        module: &str,
        ah: &str,
        message: &str,
        startup: bool,
        error: Option<String>,
    ) -> Early {
        let owned = |text: &str| text.to_owned();
        Early { level, module: owned(module), ah: owned(ah), message: owned(message), startup, error }
    }
}

/// An event of the server as a whole whose cause is a name that the resolver doesn't know (`EAI_NONAME`).
pub fn server_unresolved(level: Level, module: &str, ah: &str, message: &str) {
    let main = main_log().read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
    if main.1.enabled(module, level) {
        let error = Some("(EAI 2)Name or service not known".to_owned());
        if main.0.is_none() {
            remember(Early::new(level, module, ah, message, false, error.clone()));
        }
        let context = Context { log: main.0, items: Items::default(), error, startup: false };
        emit(context, level, module, ah, format_args!("{message}"));
    }
}

/// A message of the first reading, in place of which the second one logs another.
pub fn startup_first(level: Level, module: &str, ah: &str, message: &str, second: Option<(&str, &str)>) {
    if let Some((ah, message)) = second {
        remember(Early::new(level, module, ah, message, false, None));
    }
    let context = Context { startup: true, ..Context::default() };
    emit(context, level, module, ah, format_args!("{message}"));
}

/// A message of the start-up: to standard error, as it stands behind its AH number.
pub fn startup(level: Level, module: &str, ah: &str, message: &str) {
    let unopened = main_log().read().unwrap_or_else(|poisoned| poisoned.into_inner()).0.is_none();
    if unopened {
        remember(Early::new(level, module, ah, message, true, None));
    }
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
