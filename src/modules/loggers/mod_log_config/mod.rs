//! mod_log_config: access logs.
//!
//! Answers to `modules/loggers/mod_log_config.c`. Formats are compiled in [`format`], their directives are in [`items`]; the
//! lines go through [`crate::log::writer`]. Differs in that one file is opened once, however many directives name it, so
//! that the lines of one request stay together.

pub mod format;
pub mod items;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use httpd_conf::Origin;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};
use crate::config::server::Setup;
use crate::expr::{self, Expr, Failure, NeedThread};
use crate::hooks::{Hooks, order};
use crate::log::pipe::PipedLog;
use crate::log::writer::{self, Log};
use crate::log::{self, Level, rerror, system_error};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, Step};
use format::{Format, Logged};

/// The module.
pub static MODULE: Module =
    Module { name: "log_config_module", file: "mod_log_config.c", directives: ROWS, hooks };

/// A server's settings.
pub static SERVER: Slot<LogServer> = Slot::new();

/// A server's logs.
#[derive(Clone, Default)]
pub struct LogServer {
    /// `LogFormat` with one word.
    default_format: Option<String>,
    /// Nicknames.
    formats: BTreeMap<String, String>,
    /// `CustomLog`, `TransferLog`, `GlobalLog`.
    logs: Vec<Arc<ConfigLog>>,
    /// Those of the main server.
    inherited: Vec<Arc<ConfigLog>>,
    /// `BufferedLogs`.
    buffered: Option<bool>,
    /// What is written for each request, in order; made when the logs are opened.
    active: Vec<ActiveLog>,
}

impl Conf for LogServer {
    fn merge(&self, child: &Self) -> Self {
        let mut formats = self.formats.clone();
        formats.extend(child.formats.iter().map(|(name, format)| (name.clone(), format.clone())));
        LogServer {
            default_format: child.default_format.clone().or_else(|| self.default_format.clone()),
            formats,
            logs: child.logs.clone(),
            inherited: self.logs.clone(),
            buffered: self.buffered,
            active: Vec::new(),
        }
    }
}

/// One directive that asks for a log.
struct ConfigLog {
    /// As written.
    name: String,
    /// `None`: the server's default.
    format: Option<String>,
    condition: Option<Arc<Condition>>,
    /// `GlobalLog`: virtual hosts with logs of their own write to it too.
    inherit: bool,
    origin: Origin,
}

enum Condition {
    Set(String),
    NotSet(String),
    Expr(Expr),
}

#[derive(Clone)]
struct ActiveLog {
    log: Arc<Log>,
    format: Arc<Format>,
    condition: Option<Arc<Condition>>,
}

static ROWS: &[Directive] = &[
    row(
        "CustomLog",
        Args::Take23(custom_log),
        "a file name, a custom log format string or format name, and an optional \"env=\" or \"expr=\" clause (see docs)",
    ),
    row(
        "GlobalLog",
        Args::Take23(global_log),
        "Same as CustomLog, but forces virtualhosts to inherit the log",
    ),
    row("TransferLog", Args::Take1(transfer_log), "the filename of the access log"),
    row("LogFormat", Args::Take12(log_format), "a log format string (see docs) and an optional format name"),
    row("BufferedLogs", Args::Flag(buffered_logs), "Enable Buffered Logging (experimental)"),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::RSRC_CONF, help }
}

fn custom_log(cmd: &mut Cmd, file: &str, format: &str, clause: Option<&str>) -> Done {
    add_log(cmd, file, Some(format), clause, false)
}

fn global_log(cmd: &mut Cmd, file: &str, format: &str, clause: Option<&str>) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    add_log(cmd, file, Some(format), clause, true)
}

fn transfer_log(cmd: &mut Cmd, file: &str) -> Done {
    add_log(cmd, file, None, None, false)
}

fn add_log(cmd: &mut Cmd, file: &str, format: Option<&str>, clause: Option<&str>, inherit: bool) -> Done {
    let condition = clause.map(|clause| parse_condition(cmd, clause)).transpose()?.map(Arc::new);
    if let Some(format) = format {
        // A nickname is a format too, one of nothing but text; which it is shows when all was read.
        Format::parse(&httpd_conf::to_bytes(format), cmd.hooks())?;
    }
    let origin = cmd.node.origin.clone();
    let log =
        ConfigLog { name: file.to_owned(), format: format.map(str::to_owned), condition, inherit, origin };
    cmd.server_conf(&SERVER)?.logs.push(Arc::new(log));
    Ok(())
}

fn parse_condition(cmd: &Cmd, clause: &str) -> Result<Condition, String> {
    let start = |prefix: &str| {
        clause
            .get(..prefix.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(prefix))
            .then(|| &clause[prefix.len()..])
    };
    if let Some(name) = start("env=") {
        return match name.strip_prefix('!') {
            Some("") => Err("missing environment variable name".to_owned()),
            _ if name.is_empty() => Err("missing environment variable name".to_owned()),
            Some(name) => Ok(Condition::NotSet(name.to_owned())),
            None => Ok(Condition::Set(name.to_owned())),
        };
    }
    let Some(text) = start("expr=") else { return Err("error in condition clause".to_owned()) };
    if text.is_empty() {
        return Err("missing condition".to_owned());
    }
    let options = expr::Options {
        mode: expr::Mode::Condition,
        flags: expr::Flags::DONT_VARY,
        module: "log_config",
        file: cmd.node.origin.file.clone(),
        line: cmd.node.origin.line,
        ..expr::Options::default()
    };
    Expr::parse_with(httpd_conf::to_bytes(text), &options).map(Condition::Expr)
}

fn log_format(cmd: &mut Cmd, format: &str, name: Option<&str>) -> Done {
    Format::parse(&httpd_conf::to_bytes(format), cmd.hooks())?;
    let conf = cmd.server_conf(&SERVER)?;
    match name {
        Some(name) => drop(conf.formats.insert(name.to_owned(), format.to_owned())),
        None => conf.default_format = Some(format.to_owned()),
    }
    Ok(())
}

/// One setting for the whole server, wherever it stands.
fn buffered_logs(cmd: &mut Cmd, on: bool) -> Done {
    let setup = cmd.setup()?;
    if let Some(main) = setup.servers.first_mut() {
        main.conf.get_mut(&SERVER).buffered = Some(on);
    }
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.check_config(check_config, order::MIDDLE);
    hooks.post_config(open_logs, order::MIDDLE).own();
    hooks.log_transaction(log_transaction, order::MIDDLE);
}

/// The folders of log files must be there: `log_check_config`.
fn check_config(setup: &mut Setup) -> Result<(), String> {
    let mut errors = Vec::new();
    for server in &setup.servers {
        let conf = server.conf.get(&SERVER);
        // A virtual host without settings of its own shares those of the main server.
        if server.index != 0 && conf.inherited.is_empty() && !conf.logs.is_empty() {
            let main = setup.servers[0].conf.get(&SERVER);
            if main.logs.first().is_some_and(|first| Arc::ptr_eq(first, &conf.logs[0])) {
                continue;
            }
        }
        for log in conf.logs.iter().filter(|log| !log.name.starts_with('|')) {
            let path = setup.server_root_relative(&log.name);
            let dir = match path.rfind('/') {
                Some(at) => &path[..=at],
                None => "/",
            };
            let error = match std::fs::metadata(dir) {
                Ok(info) if info.is_dir() => continue,
                Ok(_) => std::io::Error::from_raw_os_error(libc::ENOTDIR),
                Err(err) => err,
            };
            errors.push(format!(
                "{}: AH02297: Cannot access directory '{dir}' for log file '{}' defined at {}:{}",
                system_error(&error),
                log.name,
                log.origin.file,
                log.origin.line
            ));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
}

/// Opens the logs and compiles the formats: `init_config_log`.
fn open_logs(setup: &mut Setup) -> Result<(), String> {
    let buffered = setup.servers[0].conf.get(&SERVER).buffered.unwrap_or(false);
    let mut opened: HashMap<String, Arc<Log>> = HashMap::new();
    let mut compiled: HashMap<String, Arc<Format>> = HashMap::new();
    let mut format_of = |text: &str, setup: &Setup| match compiled.get(text) {
        Some(format) => Ok(format.clone()),
        None => {
            let format = Format::parse(&httpd_conf::to_bytes(text), &setup.hooks)?;
            compiled.insert(text.to_owned(), format.clone());
            Ok::<_, String>(format)
        }
    };
    let named = nicknames(setup);
    for index in 0..setup.servers.len() {
        let conf = setup.servers[index].conf.get(&SERVER).clone();
        let own = !conf.logs.is_empty();
        let inherited = conf.inherited.iter().filter(|log| log.inherit || !own);
        let mut active = Vec::new();
        for log in conf.logs.iter().chain(inherited) {
            let text = match &log.format {
                Some(name) => named.get(&Arc::as_ptr(log)).unwrap_or(name),
                None => conf
                    .default_format
                    .as_ref()
                    .map_or(format::DEFAULT, |name| conf.text_of(name).unwrap_or(name)),
            };
            let format = format_of(text, setup)?;
            let name = if log.name.starts_with('|') {
                log.name.clone()
            } else {
                setup.server_root_relative(&log.name)
            };
            let writer = match opened.get(&name) {
                Some(writer) => writer.clone(),
                None => {
                    let writer = open(&name, setup, buffered)?;
                    opened.insert(name, writer.clone());
                    writer
                }
            };
            active.push(ActiveLog { log: writer, format, condition: log.condition.clone() });
        }
        if !active.is_empty() {
            setup.servers[index].conf.get_mut(&SERVER).active = active;
        }
    }
    Ok(())
}

/// What the nicknames in the directives stand for. A virtual host without logs of its own looks for them in its own formats
/// too, and what it finds holds for everybody who writes to the main server's logs, as in Apache.
fn nicknames(setup: &Setup) -> HashMap<*const ConfigLog, String> {
    let mut named = HashMap::new();
    for server in &setup.servers {
        let conf = server.conf.get(&SERVER);
        let logs = if conf.logs.is_empty() { &conf.inherited } else { &conf.logs };
        for log in logs {
            if let Some(text) = log.format.as_ref().and_then(|name| conf.text_of(name)) {
                named.insert(Arc::as_ptr(log), text.to_owned());
            }
        }
    }
    named
}

impl LogServer {
    /// What a nickname stands for here.
    fn text_of(&self, name: &str) -> Option<&str> {
        let text = self.formats.get(name).map(String::as_str);
        text.or((name == "CLF").then_some(format::DEFAULT))
    }
}

fn open(name: &str, setup: &Setup, buffered: bool) -> Result<Arc<Log>, String> {
    const FAILED: &str = "AH00015: Unable to open logs";
    if name.starts_with('|') {
        let pipe = PipedLog::open(name, setup).map_err(|text| format!("{text}\n{FAILED}"))?;
        return Ok(Log::pipe(name.to_owned(), pipe, buffered));
    }
    Log::file(name, buffered).map_err(|err| {
        let text = format!("could not open transfer log file {name}.");
        log::server_error(Level::Error, "log_config", "AH00649", Some(&err), &text);
        FAILED.to_owned()
    })
}

/// One line in each log that is for this request: `multi_log_transaction`.
fn log_transaction(r: &mut Request) -> Step {
    let server = r.server.clone();
    let active = &server.conf.get(&SERVER).active;
    // Conditions may change a request (submatches), so they come first; most logs have none.
    let mut held = 0_u64;
    for (index, log) in active.iter().enumerate().filter(|(_, log)| log.condition.is_some()) {
        match log.condition.as_ref().map(|condition| condition.holds(r)) {
            Some(Ok(false)) => held |= 1_u64.checked_shl(index as u32).unwrap_or(0),
            Some(Err(NeedThread)) => return Step::NeedThread,
            _ => {}
        }
    }
    let logged = Logged::new(r);
    let asks = |(index, log): (usize, &ActiveLog)| {
        held & 1_u64.checked_shl(index as u32).unwrap_or(0) == 0 && log.format.needs_thread(&logged)
    };
    if r.needs_thread() && active.iter().enumerate().any(asks) {
        return Step::NeedThread;
    }
    for (index, log) in active.iter().enumerate() {
        if held & 1_u64.checked_shl(index as u32).unwrap_or(0) == 0 {
            writer::append(&log.log, |out| log.format.write(&logged, out));
        }
    }
    Step::Ok
}

impl Condition {
    /// Judged of the request that came, before internal redirects.
    fn holds(&self, r: &mut Request) -> Result<bool, NeedThread> {
        Ok(match self {
            Condition::Set(name) => r.original().subprocess_env.contains(name),
            Condition::NotSet(name) => !r.original().subprocess_env.contains(name),
            Condition::Expr(expr) => {
                let lane = r.lane;
                let mut original = r;
                while original.prev.is_some() {
                    let Some(prev) = original.prev.as_deref_mut() else { return Ok(false) };
                    original = prev;
                }
                original.lane = lane;
                match original.evaluate(expr) {
                    Ok(holds) => holds,
                    Err(Failure::NeedThread) => return Err(NeedThread),
                    Err(err) => {
                        rerror!(
                            original,
                            Level::Warn,
                            "log_config",
                            "AH00644",
                            "Error evaluating log condition: {err}"
                        );
                        false
                    }
                }
            }
        })
    }
}
