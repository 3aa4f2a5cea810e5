//! The command line: httpd's options and apachectl's verbs.
//!
//! Answers to `main` of `server/main.c`. [`run`] is the whole program: it takes the words apart ([`command`]), answers
//! what needs no configuration ([`usage`], [`version`]), reads the configuration, dumps it
//! ([`crate::config::dump`]), signals the server that runs ([`control`]) or becomes one
//! ([`crate::engine::master`]).

pub mod apachectl;
pub mod command;
pub mod control;
pub mod embedded;
pub mod layout;
pub mod status;
pub mod usage;
pub mod version;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

pub use layout::Layout;

use crate::config::dump;
use crate::config::read::{self, Failure, Read};
use crate::config::server::Setup;
use crate::engine::limits::{self, Limits};
use crate::engine::master;
use crate::log::{self, LogLevels};
use crate::os::process;
use command::{CommandLine, Immediate, Misuse, RunMode, Signal, Verb};

/// What the command line asks for, resolved.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program's name in messages: `apache2` or `httpd`.
    pub program: String,
    /// The whole command line, for the log.
    pub command_line: String,
    /// Where things lie.
    pub layout: &'static Layout,
    /// `-d`, or the layout's.
    pub server_root: String,
    /// `-f`, or the layout's.
    pub config_file: String,
    /// A configuration in the program itself, when there is no file anywhere.
    pub embedded_config: Option<String>,
    /// `-D`.
    pub defines: Vec<String>,
    /// `-C`.
    pub pre_config: Vec<String>,
    /// `-c`.
    pub post_config: Vec<String>,
    /// Stay in the foreground.
    pub foreground: bool,
    /// `-D NO_DETACH`: a session of its own, but no new process.
    pub no_detach: bool,
    /// `-X`, `-D ONE_PROCESS`: serve in this process, without children.
    pub one_process: bool,
    /// Warn about a DocumentRoot that is not there (not with `-T`).
    pub warns_about_document_root: bool,
}

/// The variable in which [`apachectl`] says by which name the server is called, when its file has another.
const NAME: &str = "HTTPD_CALLED_AS";

/// The program, from its arguments to its exit code.
pub fn run(args: &[OsString]) -> i32 {
    log::subscriber::install();
    let by_apachectl = std::env::var(NAME).ok().filter(|name| matches!(name.as_str(), "apache2" | "httpd"));
    let called = by_apachectl
        .or_else(|| args.first().map(|word| word.to_string_lossy().into_owned()))
        .unwrap_or_default();
    if apachectl::is_name(base_name(&called)) {
        return apachectl::run(args);
    }
    let line = match command::parse(args) {
        Ok(line) => line,
        Err(Misuse(text)) => {
            if let Some(text) = text {
                say(&format!("{text}\n"));
            }
            say(&usage::text(&called));
            return 1;
        }
    };
    let layout = Layout::of(base_name(&called));
    match line.immediate {
        Some(Immediate::Version) => return print(&version::version(layout)),
        Some(Immediate::Modules) => return print(&version::static_modules()),
        Some(Immediate::Usage) => {
            say(&usage::text(&called));
            return 1;
        }
        None => {}
    }
    match line.verb {
        Some(verb) => apachectl::obey(verb, args),
        None => {
            let command_line = args.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
            configured(line, base_name(&called), command_line, layout)
        }
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Writes to standard output; nobody there is no reason to fail.
pub(crate) fn print(text: &str) -> i32 {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&httpd_conf::to_bytes(text)).and_then(|()| out.flush());
    0
}

/// Writes to standard error.
pub(crate) fn say(text: &str) {
    log::error_log::write_stderr(text);
}

impl Options {
    /// The command line with the places of the layout filled in.
    pub fn of(line: &CommandLine, program: &str, command_line: String, layout: &'static Layout) -> Options {
        let defines = |name: &str| line.defines.iter().any(|d| d == name);
        let one_process = defines("DEBUG") || defines("ONE_PROCESS");
        Options {
            program: program.to_owned(),
            command_line,
            layout,
            // Children change their folder; a relative root would mean something else to them.
            server_root: absolute(line.server_root.as_deref().unwrap_or(layout.root)),
            config_file: line.config_file.clone().unwrap_or_else(|| layout.config_file.to_owned()),
            embedded_config: None,
            defines: line.defines.clone(),
            pre_config: line.pre_config.clone(),
            post_config: line.post_config.clone(),
            foreground: one_process || defines("FOREGROUND"),
            no_detach: defines("NO_DETACH"),
            one_process,
            warns_about_document_root: line.checks_document_root,
        }
    }
}

fn absolute(path: &str) -> String {
    let path = match std::env::current_dir() {
        Ok(here) if !path.starts_with('/') => here.join(path).to_string_lossy().into_owned(),
        _ => path.to_owned(),
    };
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

/// What needs a configuration.
fn configured(line: CommandLine, program: &str, command_line: String, layout: &'static Layout) -> i32 {
    let mut options = Options::of(&line, program, command_line, layout);
    if let Some(file) = &line.startup_log
        && let Err(text) = replace_stderr(file, &options)
    {
        say(&format!("{text}\n"));
    }
    log::set_levels(LogLevels { default: line.startup_level, ..LogLevels::default() });
    let mut site = None;
    if line.config_file.is_none() && layout.is_without_configuration(&options.server_root) {
        match embedded::Site::make(&line) {
            Ok(made) => {
                options.embedded_config = Some(made.config());
                options.server_root = made.root().display().to_string();
                options.foreground = true;
                site = Some(made);
            }
            Err(text) => {
                say(&format!("{program}: {text}\n"));
                return 1;
            }
        }
    }
    let code = obey(&line, &Arc::new(options), site.as_ref());
    drop(site);
    code
}

fn replace_stderr(file: &str, options: &Options) -> Result<(), String> {
    let path = crate::config::server::below_root(Path::new(&options.server_root), file);
    let failed = |err: std::io::Error| {
        let program = &options.program;
        format!("{}: AH00086: {program}: could not open error log file {file}.", log::system_error(&err))
    };
    let log = log::error_log::append(Path::new(&path)).map_err(failed)?;
    process::put_in_place_of_stderr(log.as_fd()).map_err(failed)
}

/// Longer lines are cut, as `ap_log_error` does (`MAX_STRING_LEN`).
const LONGEST_LINE: usize = 8190;

fn fail(Failure(text): Failure) -> i32 {
    for line in text.split('\n') {
        let end = (0..=line.len().min(LONGEST_LINE)).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
        say(&format!("{}\n", &line[..end]));
    }
    1
}

fn obey(line: &CommandLine, options: &Arc<Options>, site: Option<&embedded::Site>) -> i32 {
    let (mut setup, read, built) = read::build(options, 0);
    if options.defines.iter().any(|d| d == "DUMP_INCLUDES") {
        print(&dump::includes(&read.reader));
    }
    if line.show_settings {
        let code = built.map_or_else(fail, |()| 0);
        print(&version::settings(options.layout, limits::kind(&setup).ok()));
        return code;
    }
    if let Err(failure) = built {
        return fail(failure);
    }
    let limits = match check(&mut setup, &read, None) {
        Ok(limits) => limits,
        Err(failure) => return fail(failure),
    };
    match line.mode {
        RunMode::ConfigDump if line.show_directives => return print(&dump::directives(&setup)),
        RunMode::ConfigDump | RunMode::ConfigTest => {
            print(&dump::requested(&setup, &read));
            if line.mode == RunMode::ConfigTest {
                say("Syntax OK\n");
            }
            return 0;
        }
        RunMode::Normal => {}
    }
    let signal = line.signal.unwrap_or(Signal::Start);
    if let Some(code) = control::signal_server(signal, &setup.pid_path(), setup.pid_name()) {
        return code;
    }
    if let Some(site) = site {
        site.announce();
    }
    master::start(options.clone(), setup, read, limits)
}

/// Executes the tree and holds the settings against each other: what `-t` looks at, and every start before it opens
/// anything. `retained`: the limits of the server that runs.
pub fn check(setup: &mut Setup, read: &Read, retained: Option<&Limits>) -> Result<Limits, Failure> {
    read::walk(setup, &read.tree)?;
    setup.complete()?;
    dump_vhosts(setup);
    setup.check_error_logs()?;
    let kind = limits::kind(setup).map_err(Failure)?;
    Ok(Limits::of(kind, &setup.mpm, setup.generation == 0, retained))
}

fn dump_vhosts(setup: &Setup) {
    if setup.generation == 0 && setup.options.defines.iter().any(|d| d == "DUMP_VHOSTS") {
        print(&dump::vhosts(setup));
    }
}

/// Does what a word of apachectl asks for, by this program's own options: [`apachectl`] has set the environment.
pub(crate) fn verb_words(verb: Verb) -> Option<&'static [&'static str]> {
    Some(match verb {
        Verb::Signal(Signal::Start) => &["-k", "start"],
        Verb::Signal(Signal::Restart) => &["-k", "restart"],
        Verb::Signal(Signal::Graceful) => &["-k", "graceful"],
        Verb::Signal(Signal::GracefulStop) => &["-k", "graceful-stop"],
        Verb::Signal(Signal::Stop) => &["-k", "stop"],
        Verb::ConfigTest => &["-t"],
        Verb::Status | Verb::FullStatus => return None,
    })
}
