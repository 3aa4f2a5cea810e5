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
pub mod syslog;
pub mod writer;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

pub use error_log::{ErrorLog, open};
pub use level::{Level, LogLevels};

use crate::config::server::Server;
use crate::modules::core;
use crate::modules::metadata::mod_unique_id;
use crate::request::{ConnInfo, Request};
use format::{Formats, Frame, Subject};

/// Where an event goes, and what stands around its message.
#[derive(Clone, Default)]
pub(crate) struct Context {
    /// The log to write to; `None`: standard error.
    log: Option<Arc<ErrorLog>>,
    /// Lines that introduce a connection or request which has not been in the log yet.
    before: Vec<Frame>,
    /// The line.
    frame: Frame,
    /// A message of the start-up: as it stands, without time and level.
    startup: bool,
}

thread_local! {
    static CONTEXT: RefCell<Context> = RefCell::new(Context::default());
}

/// For events that belong to no request: what the main server says.
#[derive(Clone, Default)]
struct Main {
    log: Option<Arc<ErrorLog>>,
    levels: LogLevels,
    formats: Formats,
    /// The main server's name.
    name: String,
}

fn main_log() -> &'static RwLock<Main> {
    static MAIN: OnceLock<RwLock<Main>> = OnceLock::new();
    MAIN.get_or_init(Default::default)
}

/// What the configuration gave rise to before the error log was open. Apache reads it twice at the start: the first time
/// this goes to standard error, the second time to the log (or, where it detached itself in between, to nobody).
static EARLY: Mutex<Vec<Event>> = Mutex::new(Vec::new());

struct Event {
    level: Level,
    module: String,
    ah: String,
    error: Option<io::Error>,
    message: String,
    /// It went to standard error as it stands, without time and level.
    startup: bool,
    /// It passed the level of the start; `LogLevel` has no say.
    serverless: bool,
}

/// `ap_default_loglevel`
static STARTUP_LEVEL: AtomicU8 = AtomicU8::new(level::DEFAULT as u8);

/// Only the levels, as long as no log is open: `-e level`.
pub fn set_levels(levels: LogLevels) {
    STARTUP_LEVEL.store(levels.default.unwrap_or(level::DEFAULT) as u8, Ordering::Relaxed);
    *main_log().write().unwrap_or_else(PoisonError::into_inner) = Main { levels, ..Main::default() };
}

/// `LogLevel` of the main server, from where it stands in the configuration on.
pub fn set_main_levels(levels: LogLevels) {
    main_log().write().unwrap_or_else(PoisonError::into_inner).levels = levels;
}

static THREADED: AtomicBool = AtomicBool::new(false);

/// Says whether several threads of a process serve requests.
pub fn set_threaded(threaded: bool) {
    THREADED.store(threaded, Ordering::Relaxed);
}

fn is_threaded() -> bool {
    THREADED.load(Ordering::Relaxed)
}

fn write_as_it_stands(event: &Event) {
    let log = main_log().read().unwrap_or_else(PoisonError::into_inner).log.clone();
    // Where the log is standard error itself, the line is there already.
    if let Some(log) = log.filter(|log| log.file().is_some()) {
        log.write(event.level, &format!("{}: {}\n", event.ah, event.message));
    }
}

/// Writes a line to the main server's log as it stands; false where that is no file.
pub fn write_bare(line: &str) -> bool {
    let log = main_log().read().unwrap_or_else(PoisonError::into_inner).log.clone();
    match log.filter(|log| log.file().is_some()) {
        Some(log) => {
            log.write(Level::Error, &format!("{line}\n"));
            true
        }
        None => false,
    }
}

/// Where programs of the server complain: in the main error log, also while standard error is still the console.
pub(crate) fn stderr_for_programs() -> Option<OwnedFd> {
    let main = main_log().read().unwrap_or_else(PoisonError::into_inner);
    let file = main.log.as_ref().and_then(|log| log.file()?.try_clone().ok());
    file.map(OwnedFd::from).or_else(|| io::stderr().as_fd().try_clone_to_owned().ok())
}

/// The log for events that belong to no request: that of the main server.
pub fn set_main(server: &Server) {
    let conf = server.conf.get(&core::SERVER);
    let main = Main {
        log: Some(server.error_log.clone()),
        levels: conf.log.clone(),
        formats: conf.error_log_formats.clone(),
        name: server.name().to_owned(),
    };
    *main_log().write().unwrap_or_else(PoisonError::into_inner) = main;
    let early = std::mem::take(&mut *EARLY.lock().unwrap_or_else(PoisonError::into_inner));
    for event in early {
        if event.startup {
            write_as_it_stands(&event);
            continue;
        }
        if event.serverless {
            serverless_event(event.level, &event.module, &event.ah, &event.message);
            continue;
        }
        server_error(event.level, &event.module, &event.ah, event.error.as_ref(), &event.message);
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
#[track_caller]
pub fn request_event(
    r: &Request,
    level: Level,
    module: &str,
    ah: &str,
    error: Option<&io::Error>,
    message: fmt::Arguments,
) {
    // It is to be written for every such request.
    crate::request::memo::refuse();
    let subject = Subject {
        request: Some(r),
        connection: Some(&r.connection),
        server_name: Some(r.server.name()),
        level: Some(level),
        module,
        error,
        line: Location::caller().line(),
        syslog: r.server.error_log.is_syslog(),
    };
    emit(context(&r.server, &subject), level, module, ah, message);
}

/// An event of a connection.
#[track_caller]
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
    let subject = Subject {
        request: None,
        connection: Some(c),
        server_name: Some(c.base_server.name()),
        level: Some(level),
        module,
        error,
        line: Location::caller().line(),
        syslog: c.base_server.error_log.is_syslog(),
    };
    emit(context(&c.base_server, &subject), level, module, ah, message);
}

/// An event of one of the servers, by its own level and in its own log.
#[track_caller]
pub fn event_of(
    server: &Server,
    level: Level,
    module: &str,
    ah: &str,
    error: Option<&io::Error>,
    message: &str,
) {
    if !levels_of(server).enabled(module, level) {
        return;
    }
    let subject = Subject {
        request: None,
        connection: None,
        server_name: Some(server.name()),
        level: Some(level),
        module,
        error,
        line: Location::caller().line(),
        syslog: server.error_log.is_syslog(),
    };
    emit(context(server, &subject), level, module, ah, format_args!("{message}"));
}

/// The context of an event of a connection or request, which get their numbers with their first line.
fn context(server: &Server, subject: &Subject) -> Context {
    let formats = &server.conf.get(&core::SERVER).error_log_formats;
    let mut before = Vec::new();
    let mut introduce = |lines: &Option<Vec<Arc<Vec<format::Item>>>>, request| {
        let subject = Subject { request, level: None, module: "", error: None, ..*subject };
        for items in lines.iter().flatten() {
            before.extend(Frame::of_items(items, &subject));
        }
    };
    if let Some(c) = subject.connection
        && c.log_id.get().is_none()
    {
        _ = c.log_id.set(log_id(now_micros()));
        introduce(&formats.connection, None);
    }
    if let Some(r) = subject.request
        && r.log_id.get().is_none()
    {
        _ = r.log_id.set(mod_unique_id::generate_log_id(r).unwrap_or_else(|| log_id(r.request_micros())));
        introduce(&formats.request, Some(r));
    }
    Context { log: Some(server.error_log.clone()), before, frame: formats.frame(subject), startup: false }
}

fn now_micros() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// Eleven characters from the time, the process and the thread: `core_generate_log_id`.
fn log_id(micros: i64) -> String {
    use base64::Engine;
    let pid = u64::from(std::process::id());
    let thread = crate::os::process::pthread_id();
    let id = (micros as u64) ^ (pid << 40) ^ (pid >> 24 << 56) ^ (thread << 32);
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(id.to_ne_bytes())
}

/// An event of the server as a whole.
#[track_caller]
pub fn server_event(level: Level, module: &str, ah: &str, message: &str) {
    server_error(level, module, ah, None, message);
}

/// The same with the system's error.
#[track_caller]
pub fn server_error(level: Level, module: &str, ah: &str, error: Option<&io::Error>, message: &str) {
    if main_log().read().unwrap_or_else(PoisonError::into_inner).levels.enabled(module, level) {
        write_server_event(level, module, ah, error, message, false);
    }
}

/// An event of the reading that Apache logs without a server: the level of the start (`-e`) decides, not `LogLevel`.
#[track_caller]
pub fn serverless_event(level: Level, module: &str, ah: &str, message: &str) {
    if level == Level::Notice || level as u8 <= STARTUP_LEVEL.load(Ordering::Relaxed) {
        write_server_event(level, module, ah, None, message, true);
    }
}

#[track_caller]
fn write_server_event(
    level: Level,
    module: &str,
    ah: &str,
    error: Option<&io::Error>,
    message: &str,
    serverless: bool,
) {
    let main = main_log().read().unwrap_or_else(PoisonError::into_inner).clone();
    if main.log.is_none() {
        EARLY.lock().unwrap_or_else(PoisonError::into_inner).push(Event {
            level,
            module: module.to_owned(),
            ah: ah.to_owned(),
            error: error.map(|error| match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::other(error.to_string()),
            }),
            message: message.to_owned(),
            startup: false,
            serverless,
        });
    }
    let subject = Subject {
        level: Some(level),
        module,
        error,
        line: Location::caller().line(),
        syslog: main.log.as_ref().is_some_and(|log| log.is_syslog()),
        server_name: Some(&main.name),
        ..Subject::default()
    };
    let frame = main.formats.frame(&subject);
    let context = Context { log: main.log, frame, ..Context::default() };
    emit(context, level, module, ah, format_args!("{message}"));
}

/// An event of the server as a whole whose cause is a name that the resolver doesn't know (`EAI_NONAME`).
#[track_caller]
pub fn server_unresolved(level: Level, module: &str, ah: &str, message: &str) {
    server_error(level, module, ah, Some(&io::Error::other("(EAI 2)Name or service not known")), message);
}

fn remember(level: Level, module: &str, ah: &str, message: &str, startup: bool) {
    let event = Event {
        level,
        module: module.to_owned(),
        ah: ah.to_owned(),
        error: None,
        message: message.to_owned(),
        startup,
        serverless: false,
    };
    EARLY.lock().unwrap_or_else(PoisonError::into_inner).push(event);
}

/// Forgets what was said before the main server's error log was open.
pub fn forget_early_lines() {
    EARLY.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// A message of the first reading, in place of which the second one logs another (number and text), or nothing.
pub fn startup_first(level: Level, module: &str, ah: &str, message: &str, second: Option<(&str, &str)>) {
    if let Some((ah, message)) = second {
        remember(level, module, ah, message, false);
    }
    let context = Context { startup: true, ..Context::default() };
    emit(context, level, module, ah, format_args!("{message}"));
}

/// A message of the start-up: to standard error, as it stands behind its AH number.
pub fn startup(level: Level, module: &str, ah: &str, message: &str) {
    // Once the log is open, standard error is that log.
    if main_log().read().unwrap_or_else(PoisonError::into_inner).log.is_none() {
        remember(level, module, ah, message, true);
    }
    let context = Context { startup: true, ..Context::default() };
    emit(context, level, module, ah, format_args!("{message}"));
}

fn levels_of(server: &Server) -> &LogLevels {
    &server.conf.get(&core::SERVER).log
}

/// Bytes from outside in a message. Those that are no UTF-8 come through it, as [`Frame::line`] knows.
pub fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    httpd_conf::from_bytes(bytes)
}

/// `(2)No such file or directory`, as `%E` prints it.
pub fn system_error(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => format!("({code}){}", error_words(error)),
        None => error.to_string(),
    }
}

/// The words of `apr_strerror`: those of `strerror`, and APR's for its own numbers.
pub fn error_words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(20014) => return "Internal error (specific information not available)".to_owned(),
        Some(20019) => return "DSO load failed".to_owned(),
        Some(70007) => return "The timeout specified has expired".to_owned(),
        Some(70015) => return "Could not find specified socket in poll list.".to_owned(),
        Some(120_000..) => return "APR does not understand this error code".to_owned(),
        _ => {}
    }
    let mut words = error.to_string();
    if let Some(at) = words.rfind(" (os error") {
        words.truncate(at);
    }
    words
}

impl Request {
    /// Is an event of `module` at `level` wanted here? By the directory's `LogLevel`, else the server's.
    #[inline]
    pub fn log_enabled(&self, module: &str, level: Level) -> bool {
        if !level::is_asked_for(level) {
            return false;
        }
        let dir = &self.dir(&core::DIR).log;
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
