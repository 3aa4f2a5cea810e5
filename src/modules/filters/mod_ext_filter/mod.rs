//! mod_ext_filter: programs as filters, of replies and of requests' bodies.
//!
//! Answers to `modules/filters/mod_ext_filter.c`. Where it differs: what the program prints is passed on as it comes; Apache
//! keeps all that it prints for one piece of input. Rooms: [`directives`] (definitions), [`through`] (the program at work).

mod directives;
mod through;

use std::ffi::CString;
use std::io;
use std::sync::Arc;

use self::directives::{DIR, Definition, Mode, SERVER};
use self::through::Through;
use crate::body::{Chunk, Content, Pull};
use crate::hooks::{Hooks, order};
use crate::http::escape::{Unescape, escape_shell_cmd, unescape_url};
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::module::Module;
use crate::modules::core::rlimit;
use crate::os::spawn::{self, SpawnError};
use crate::request::program::Program;
use crate::request::variables::c_string;
use crate::request::{Request, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "ext_filter_module", file: "mod_ext_filter.c", directives: directives::ROWS, hooks };

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.insert_filter(set_up, order::REALLY_LAST).own();
}

/// To start a program takes time, and so does what it makes of a short reply.
fn set_up(r: &mut Request) {
    let chosen = r.output_filters.iter().any(|filter| definition(r, filter.name, Mode::Output).is_some());
    if chosen {
        memo::refuse();
        r.filters_need_thread = true;
    }
}

/// `find_filter_def`.
fn definition(r: &Request, name: &str, mode: Mode) -> Option<Arc<Definition>> {
    let name = name.to_ascii_lowercase();
    let of = |server: &crate::config::server::Server| server.conf.get(&SERVER).filters.get(&name).cloned();
    of(&r.server).or_else(|| of(r.runtime.main_server())).filter(|found| found.mode == mode)
}

/// `init_filter_instance`: the program for this request. `Ok(None)`: it is none of its business.
fn begin(r: &mut Request, filter: &Definition) -> io::Result<Option<Program>> {
    let mut noop = false;
    if let Some(wanted) = &filter.in_type {
        let media_type = match filter.mode {
            Mode::Input => r.headers_in.get_str("Content-Type"),
            Mode::Output => r.content_type.as_deref(),
        };
        let bare = media_type.map(|media_type| media_type.split(';').next().unwrap_or_default());
        noop = bare.is_none_or(|bare| !bare.eq_ignore_ascii_case(wanted));
    }
    noop |= filter.enable_env.as_deref().is_some_and(|name| !r.subprocess_env.contains(name));
    noop |= filter.disable_env.as_deref().is_some_and(|name| r.subprocess_env.contains(name));
    let program = if noop { None } else { Some(start(r, filter)?) };
    if !noop {
        if let Some(media_type) = &filter.out_type {
            r.set_content_type(media_type.clone());
        }
        if !filter.preserves_length {
            r.headers_out.unset("Content-Length");
        }
    }
    if r.log_enabled("ext_filter", Level::Trace1) {
        log_begin(r, filter, noop);
    }
    Ok(program)
}

fn log_begin(r: &Request, filter: &Definition, noop: bool) {
    let stderr = if r.dir(&DIR).log_stderr == Some(true) { "LogStderr" } else { "NoLogStderr" };
    let length = if filter.preserves_length { "PreservesContentLength" } else { "!PreserveContentLength" };
    rerror!(
        r,
        Level::Trace1,
        "ext_filter",
        "",
        "{}filtering `{}' of type `{}' through `{}', cfg ExtFilterOptions {stderr} {length} ExtFilterInType {} ExtFilterOuttype {}",
        if noop { "NOT " } else { "" },
        r.uri,
        r.content_type.as_deref().unwrap_or("(unspecified)"),
        filter.command(),
        filter.in_type.as_deref().unwrap_or("*/*"),
        filter.out_type.as_deref().unwrap_or("(unchanged)")
    );
}

/// `init_ext_filter_process`.
fn start(r: &mut Request, filter: &Definition) -> io::Result<Program> {
    let _ = r.add_cgi_vars();
    r.add_common_vars();
    r.subprocess_env.set("DOCUMENT_URI", &r.uri);
    r.subprocess_env.set("DOCUMENT_PATH_INFO", &r.path_info);
    if let Some(args) = &r.args {
        let mut unescaped = args.to_vec();
        let _ = unescape_url(&mut unescaped, Unescape::FORBID_SLASHES);
        r.subprocess_env.set("QUERY_STRING_UNESCAPED", escape_shell_cmd(&unescaped));
    }
    let env = r.create_environment();
    let argv: Vec<CString> =
        filter.words.iter().map(|word| c_string(httpd_conf::to_bytes(word).into_owned())).collect();
    let limits = rlimit::of(r);
    let logs = r.dir(&DIR).log_stderr == Some(true);
    let null =
        if logs { None } else { Some(std::fs::OpenOptions::new().write(true).open("/dev/null")?.into()) };
    let mut failed = None;
    let timeout = r.server.resolved.timeout;
    let program = Program::start(None, timeout, true, false, |stdin, stdout, _| {
        let file = argv.first()?;
        let (argv, env, limits) = (&argv[..], &env[..], &limits[..]);
        let program = spawn::Program { file, argv, env, dir: None, limits, stdin, stdout, stderr: null };
        spawn::start(program).map_err(|err| failed = Some(err)).ok()
    })?;
    match failed {
        None => Ok(program),
        Some(
            SpawnError::Fork(err) | SpawnError::Chdir(err) | SpawnError::Limit(err) | SpawnError::Exec(err),
        ) => {
            let command = shown(filter.command().as_bytes()).into_owned();
            rerror!(
                r,
                Level::Error,
                "ext_filter",
                "AH01458",
                err = err,
                "couldn't create child process to run `{command}'"
            );
            Err(err)
        }
    }
}

/// How much of a reply is waited for, to tell its length.
const MEASURED: usize = 64 * 1024;

/// `ef_output_filter`.
fn wrap(r: &mut Request, name: &'static str, content: Content) -> Content {
    let Some(filter) = definition(r, name, Mode::Output) else {
        rerror!(r, Level::Error, "ext_filter", "AH01459", "couldn't find definition of filter '{name}'");
        return content;
    };
    let program = match begin(r, &filter) {
        Ok(Some(program)) => program,
        Ok(None) => return content,
        Err(err) => {
            let removes = r.dir(&DIR).removes == Some(true);
            let what = if removes { "removing" } else { "aborting" };
            rerror!(
                r,
                Level::Error,
                "ext_filter",
                "AH01467",
                err = err,
                "can't initialise output filter {}: {what}",
                name.to_ascii_lowercase()
            );
            if removes {
                return content;
            }
            r.status_line = Some("500 Internal Server Error".to_owned());
            r.error_bucket = Some(status::INTERNAL_SERVER_ERROR);
            return Content::Empty;
        }
    };
    let at_hand = !matches!(content, Content::Stream(_));
    let length = content.len().filter(|_| filter.preserves_length);
    let mut through = Content::Stream(Box::new(Through::new(program, content, length)));
    if !at_hand || length.is_some() {
        return through;
    }
    // What is made of content that is all there comes in one piece, as far as it is short.
    let mut text = Vec::new();
    while text.len() < MEASURED {
        match through.pull(r) {
            Ok(Pull::Chunk(Chunk::Bytes(piece))) => text.extend_from_slice(&piece),
            Ok(Pull::Chunk(Chunk::File(mut slice))) => {
                while let Ok(piece) = slice.read(MEASURED)
                    && !piece.is_empty()
                {
                    text.extend_from_slice(&piece);
                }
            }
            Ok(Pull::Flush) => {}
            Ok(Pull::Wait(wait)) => {
                if r.wait_on_thread(wait).is_err() {
                    break;
                }
            }
            Ok(Pull::NeedThread) | Err(_) => break,
            Ok(Pull::End(_)) => return Content::Bytes(text.into()),
        }
    }
    Content::Then(Chunk::Bytes(text.into()), Box::new(through))
}
