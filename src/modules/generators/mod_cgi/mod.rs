//! mod_cgi and mod_cgid: programs that make replies.
//!
//! Answers to `modules/generators/mod_cgi.c`, `mod_cgid.c` and `cgi_common.h`. Both names load the same code; what
//! differs is what they log, and where a script's standard error goes: mod_cgi reads it and logs it line by line, mod_cgid
//! leaves it to the error log's file. Where it differs: mod_cgid needs no daemon, because starting a script costs a large
//! server no more than a small one ([`crate::os::spawn`]); `ScriptSock` is taken, and there is no socket. A script's reply
//! is read while the request's body is still being written to it, so that neither can wait for the other forever.
//! Rooms: [`handler`] (may it run, and how), [`exchange`] (request to it, head from
//! it), [`output`] (its content), [`script_log`] (`ScriptLog`), [`exec`] (`<!--#exec -->`).

mod exchange;
pub mod exec;
mod handler;
mod output;
mod script_log;

use std::time::Duration;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};
use crate::hooks::{Hooks, order};
use crate::module::{Conf, Module, Slot};
use crate::modules::mpm::parse_timeout;
use crate::request::{Answer, Request};
use crate::text::atol;

/// mod_cgi.
pub static CGI: Module = Module {
    name: "cgi_module",
    file: "mod_cgi.c",
    directives: &[
        SCRIPT_LOG,
        SCRIPT_LOG_LENGTH,
        SCRIPT_LOG_BUFFER,
        Directive {
            name: "CGIScriptTimeout",
            args: Args::Take1(script_timeout),
            allowed: Allowed::CONF,
            help: "The amount of time to wait between successful reads from the CGI script, in seconds.",
        },
    ],
    hooks: |hooks| register(hooks, |r| handler::handler(r, &Flavor::CGI)),
};

/// mod_cgid.
pub static CGID: Module = Module {
    name: "cgid_module",
    file: "mod_cgid.c",
    directives: &[
        SCRIPT_LOG,
        SCRIPT_LOG_LENGTH,
        SCRIPT_LOG_BUFFER,
        Directive {
            name: "ScriptSock",
            args: Args::Take1(script_socket),
            allowed: Allowed::RSRC_CONF,
            help: "the name of the socket to use for communication with the cgi daemon.",
        },
        Directive {
            name: "CGIDScriptTimeout",
            args: Args::Take1(script_timeout),
            allowed: Allowed::CONF,
            help: "The amount of time to wait between successful reads from the CGI script, in seconds.",
        },
    ],
    hooks: |hooks| register(hooks, |r| handler::handler(r, &Flavor::CGID)),
};

static SERVER: Slot<CgiServer> = Slot::new();
static DIR: Slot<CgiDir> = Slot::new();

const SCRIPT_LOG: Directive = Directive {
    name: "ScriptLog",
    args: Args::Take1(script_log),
    allowed: Allowed::RSRC_CONF,
    help: "the name of a log for script debugging info",
};
const SCRIPT_LOG_LENGTH: Directive = Directive {
    name: "ScriptLogLength",
    args: Args::Take1(script_log_length),
    allowed: Allowed::RSRC_CONF,
    help: "the maximum length (in bytes) of the script debug log",
};
const SCRIPT_LOG_BUFFER: Directive = Directive {
    name: "ScriptLogBuffer",
    args: Args::Take1(script_log_buffer),
    allowed: Allowed::RSRC_CONF,
    help: "the maximum size (in bytes) to record of a POST request",
};

/// A server's settings: `cgi_server_conf`.
#[derive(Clone)]
struct CgiServer {
    log: Option<String>,
    log_length: i64,
    log_buffer: usize,
}

impl Default for CgiServer {
    fn default() -> Self {
        CgiServer { log: None, log_length: 10_385_760, log_buffer: 1024 }
    }
}

impl Conf for CgiServer {
    fn merge(&self, child: &Self) -> Self {
        if child.log.is_some() { child.clone() } else { self.clone() }
    }
}

/// A directory's settings: `cgi_dirconf`.
#[derive(Clone, Default)]
struct CgiDir {
    timeout: Duration,
}

impl Conf for CgiDir {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

fn script_log(cmd: &mut Cmd, path: &str) -> Done {
    let path = cmd.server_root_relative(path);
    cmd.server_conf(&SERVER)?.log = Some(path);
    Ok(())
}

fn script_log_length(cmd: &mut Cmd, number: &str) -> Done {
    cmd.server_conf(&SERVER)?.log_length = atol(number);
    Ok(())
}

fn script_log_buffer(cmd: &mut Cmd, number: &str) -> Done {
    cmd.server_conf(&SERVER)?.log_buffer = usize::try_from(atol(number)).unwrap_or(0);
    Ok(())
}

/// There is no socket to name.
fn script_socket(cmd: &mut Cmd, _: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)
}

fn script_timeout(cmd: &mut Cmd, text: &str) -> Done {
    let Some(timeout) = parse_timeout(text, Duration::from_secs(1)) else {
        return Err(format!("{} has wrong format", cmd.name).into());
    };
    cmd.dir(&DIR).timeout = timeout;
    Ok(())
}

fn register(hooks: &mut Hooks, handler: fn(&mut Request) -> Answer) {
    hooks.repeatable();
    hooks.handler(handler, order::MIDDLE);
}

/// What tells mod_cgi from mod_cgid.
struct Flavor {
    /// As it stands in the log.
    module: &'static str,
    /// The script's standard error is read and logged.
    reads_stderr: bool,
    exec_off: &'static str,
    nph_included: &'static str,
    not_found: &'static str,
    directory: &'static str,
    path_info: &'static str,
    body_broken: &'static str,
}

impl Flavor {
    const CGI: Flavor = Flavor {
        module: "cgi",
        reads_stderr: true,
        exec_off: "AH02809",
        nph_included: "AH02810",
        not_found: "AH02811",
        directory: "AH02812",
        path_info: "AH02813",
        body_broken: "AH01225",
    };
    const CGID: Flavor = Flavor {
        module: "cgid",
        reads_stderr: false,
        exec_off: "AH01262",
        nph_included: "AH01263",
        not_found: "AH01264",
        directory: "AH01265",
        path_info: "AH01266",
        body_broken: "AH01270",
    };
}

/// How long it is waited for a script.
fn timeout(r: &Request) -> Duration {
    Some(r.dir(&DIR).timeout).filter(|timeout| !timeout.is_zero()).unwrap_or(r.server.resolved.timeout)
}
