//! May the script run, and how: `cgi_handler`, `cgid_handler`.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use super::exchange::Exchange;
use super::script_log::script_error;
use super::{Flavor, timeout};
use crate::http::escape::{Unescape, escape_shell_cmd, unescape_url};
use crate::http::status;
use crate::log::{self, Level, rerror, shown};
use crate::modules::arch::suexec;
use crate::modules::core::{self, PathInfo, options};
use crate::os::spawn::{self, SpawnError};
use crate::request::program::Program;
use crate::request::variables::c_string;
use crate::request::{Answer, Request, Step, memo};
use bstr::ByteSlice;

/// The media type of scripts, from when handlers were chosen by it.
pub(super) const MAGIC_TYPE: &str = "application/x-httpd-cgi";
/// More words than a program may get (`APACHE_ARG_MAX`).
const MOST_WORDS: usize = 131_072;

pub(super) fn handler(r: &mut Request, flavor: &'static Flavor) -> Answer {
    if !matches!(r.handler.as_deref(), Some("cgi-script" | MAGIC_TYPE)) {
        return Answer::Declined;
    }
    memo::refuse();
    let name = r.filename.rsplit_str("/").next().unwrap_or_default();
    let nph = name.starts_with(b"nph-");
    let refuse = |r: &Request, code, number, text: &str| {
        script_error(r, flavor, code, number, text.as_bytes());
        Answer::Status(code)
    };
    let forced = r.notes.get("alias-forced-type");
    let is_script_aliased = forced.is_some_and(|handler| handler.eq_ignore_ascii_case(b"cgi-script"));
    let dir = r.dir(&core::DIR);
    if dir.opts.in_force() & options::EXEC_CGI == 0 && !is_script_aliased {
        let text = "Options ExecCGI is off in this directory";
        return refuse(r, status::FORBIDDEN, flavor.exec_off, text);
    }
    if nph && r.is_subrequest {
        return refuse(r, status::FORBIDDEN, flavor.nph_included, "attempt to include NPH CGI script");
    }
    let Some(file) = r.finfo else {
        return refuse(r, status::NOT_FOUND, flavor.not_found, "script not found or unable to stat");
    };
    if file.is_dir() {
        return refuse(r, status::FORBIDDEN, flavor.directory, "attempt to invoke directory as script");
    }
    if dir.accept_path_info == Some(PathInfo::Off) && !r.path_info.is_empty() {
        let text = "AcceptPathInfo off disallows user's path";
        return refuse(r, status::NOT_FOUND, flavor.path_info, text);
    }
    // To start a process takes longer than to serve a file.
    if r.needs_thread() {
        return Answer::NeedThread;
    }
    r.add_common_vars();
    match r.add_cgi_vars() {
        Err(Step::NeedThread) => return Answer::NeedThread,
        Err(_) => return Answer::Status(status::INTERNAL_SERVER_ERROR),
        Ok(()) => {}
    }
    match run(r, flavor) {
        Ok(script) => r.begin_ongoing(Exchange::new(r, flavor, script, nph)),
        Err(err) => {
            rerror!(
                r,
                Level::Error,
                flavor.module,
                "AH01223",
                err = err,
                "couldn't spawn child process: {}",
                r.filename
            );
            Answer::Status(status::INTERNAL_SERVER_ERROR)
        }
    }
}

/// The words of a query without an equals sign are words for the command line (RFC 3875 4.4).
fn command_line(r: &Request) -> Vec<CString> {
    let mut words = vec![c_string(r.filename.as_slice())];
    let args = r.args.as_ref().filter(|args| !args.is_empty() && !args.contains(&b'='));
    for word in args.iter().flat_map(|args| args.split(|&c| c == b'+')).take(MOST_WORDS) {
        let mut word = word.to_vec();
        // A wrong escape stays as it is.
        let _ = unescape_url(&mut word, Unescape { forbid: b"/", reserved: b"", keep_unreserved: false });
        words.push(c_string(escape_shell_cmd(&word)));
    }
    words
}

/// Starts the script.
fn run(r: &Request, flavor: &'static Flavor) -> std::io::Result<Program> {
    let argv = command_line(r);
    let env = r.create_environment();
    start(r, flavor, &c_string(r.filename.as_slice()), &argv, &env, true)
}

/// Starts a program in the folder of the request's file. One that can't be run has said so on its standard error, and
/// nothing else.
pub(super) fn start(
    r: &Request,
    flavor: &'static Flavor,
    file: &CString,
    argv: &[CString],
    env: &[CString],
    reads: bool,
) -> std::io::Result<Program> {
    let cut = r.filename.rfind_byte(b'/').map_or(0, |slash| slash + 1);
    let dir = c_string(&r.filename[..cut]);
    let limits = core::rlimit::of(r);
    // The wrapper runs programs, not lines for a shell.
    let name = if reads { file.to_bytes() } else { argv.last().map_or(&b""[..], |line| line.to_bytes()) };
    let own = if reads { argv } else { &[] };
    let wrapped = suexec::wrapped(r, name, own);
    let (file, argv) = wrapped.as_ref().map_or((file, argv), |(file, argv)| (file, argv.as_slice()));
    let mut failed = None;
    let begin = |stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: Option<OwnedFd>| {
        let program =
            spawn::Program { file, argv, env, dir: Some(&dir), limits: &limits, stdin, stdout, stderr };
        match spawn::start(program) {
            Ok(pid) => Some(pid),
            Err(err) => {
                failed = Some(err);
                None
            }
        }
    };
    let killed_by = (!flavor.reads_stderr).then_some(flavor.module);
    let script = Program::start(killed_by, timeout(r), reads, reads && flavor.reads_stderr, begin)?;
    let (err, text) = match failed {
        None => return Ok(script),
        Some(SpawnError::Fork(err)) => return Err(err),
        Some(SpawnError::Chdir(err)) => (err, "change of working directory failed".to_owned()),
        Some(SpawnError::Limit(err)) => (err, "setting of resource limits failed".to_owned()),
        Some(SpawnError::Exec(err)) => (err, format!("exec of '{}' failed", shown(file.to_bytes()))),
    };
    if flavor.reads_stderr {
        let text = format!("{}: {text}", log::system_error(&err));
        script_error(r, flavor, r.status, "AH01215", &httpd_conf::to_bytes(&text));
    } else {
        log::server_error(Level::Error, flavor.module, "AH01241", Some(&err), &text);
    }
    Ok(script)
}
