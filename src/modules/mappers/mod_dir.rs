//! mod_dir: index files of directories, the slash at the end of their URLs, a resource to fall back to.
//!
//! Answers to `modules/mappers/mod_dir.c`.

use std::sync::Arc;

use bstr::BString;
use httpd_conf::{getword_conf, to_bytes};

use super::mod_mime::DIR_MAGIC_TYPE;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::{Hooks, order};
use crate::http::escape;
use crate::http::method::Method;
use crate::http::status::{self, Status};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, Step};
use crate::table::Table;

/// The module.
pub static MODULE: Module = Module { name: "dir_module", file: "mod_dir.c", directives: ROWS, hooks };

/// A directory's settings.
pub static DIR: Slot<DirConfig> = Slot::new();

/// `AP_DEFAULT_INDEX`.
const DEFAULT_INDEX: &str = "index.html";
/// The handler by which mod_rewrite redirects a request of a directory.
const REWRITE_REDIRECT_HANDLER: &str = "redirect-handler";

/// A directory's settings: `dir_config_rec`.
#[derive(Clone, Default)]
pub struct DirConfig {
    /// `DirectoryIndex`; empty: disabled.
    index_names: Option<Arc<[BString]>>,
    /// `DirectorySlash`.
    slash: Option<bool>,
    /// `DirectoryCheckHandler`.
    check_handler: Option<bool>,
    /// `DirectoryIndexRedirect`; 0: off.
    redirect_index: Option<Status>,
    /// `FallbackResource`.
    fallback: Option<BString>,
}

impl Conf for DirConfig {
    fn merge(&self, child: &Self) -> Self {
        DirConfig {
            index_names: child.index_names.clone().or_else(|| self.index_names.clone()),
            slash: child.slash.or(self.slash),
            check_handler: child.check_handler.or(self.check_handler),
            redirect_index: child.redirect_index.or(self.redirect_index),
            fallback: child.fallback.clone().or_else(|| self.fallback.clone()),
        }
    }
}

static ROWS: &[Directive] = &[
    row("FallbackResource", Args::Take1(fallback_resource), "Set a default handler"),
    row("DirectoryIndex", Args::Raw(directory_index), "a list of file names"),
    row("DirectorySlash", Args::Flag(directory_slash), "On or Off"),
    row("DirectoryCheckHandler", Args::Flag(directory_check_handler), "On or Off"),
    row("DirectoryIndexRedirect", Args::Take1(directory_index_redirect), "On, Off, or a 3xx status code."),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::INDEXES, help }
}

fn fallback_resource(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.dir(&DIR).fallback = Some(to_bytes(arg).into_owned().into());
    Ok(())
}

/// Lines add up; `disabled` as the only word empties the list.
fn directory_index(cmd: &mut Cmd, args: &str) -> Done {
    let conf = cmd.dir(&DIR);
    let mut names = conf.index_names.as_deref().unwrap_or_default().to_vec();
    let mut rest = args;
    let mut first = true;
    loop {
        let word = getword_conf(&mut rest);
        if word.is_empty() {
            break;
        }
        if first && word.eq_ignore_ascii_case("disabled") && getword_conf(&mut &*rest).is_empty() {
            names.clear();
            break;
        }
        first = false;
        names.push(to_bytes(&word).into_owned().into());
    }
    conf.index_names = Some(names.into());
    Ok(())
}

fn directory_slash(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).slash = Some(on);
    Ok(())
}

fn directory_check_handler(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).check_handler = Some(on);
    Ok(())
}

fn directory_index_redirect(cmd: &mut Cmd, arg: &str) -> Done {
    let code = match arg.to_ascii_lowercase().as_str() {
        "on" | "temp" => status::MOVED_TEMPORARILY,
        "off" => 0,
        "permanent" => status::MOVED_PERMANENTLY,
        "seeother" => status::SEE_OTHER,
        number if number.starts_with(|c: char| c.is_ascii_digit()) => {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            match digits.parse() {
                Ok(code) if status::is_redirect(code) => code,
                _ => return Err("DirectoryIndexRedirect only accepts values between 300 and 399".into()),
            }
        }
        _ => return Err("DirectoryIndexRedirect ON|OFF|permanent|temp|seeother|3xx".into()),
    };
    cmd.dir(&DIR).redirect_index = Some(code);
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.fixups(fixups, order::LAST);
}

/// `dir_fixups`.
fn fixups(r: &mut Request) -> Step {
    match r.finfo {
        Some(info) if info.is_dir() => directory(r),
        None if r.handler.is_none() => fallback(r),
        _ => Step::Declined,
    }
}

/// `name` with the request's query string.
fn with_args(r: &Request, name: &[u8]) -> Vec<u8> {
    match &r.args {
        Some(args) => [name, b"?", args].concat(),
        None => name.to_vec(),
    }
}

/// Can this sub-request take the place of the request?
fn is_servable(sub: &Request) -> bool {
    sub.status == status::OK
        && (sub.handler.as_deref() == Some("proxy-server") || sub.finfo.is_some_and(|f| f.is_file()))
}

/// Takes over the headers and notes of a sub-request whose status becomes ours.
fn take_reply(r: &mut Request, sub: &Request) {
    let overlay = |under: &mut Table, over: &Table| {
        if !over.is_empty() {
            under.extend_from(over);
        }
    };
    overlay(&mut r.notes, &sub.notes);
    overlay(&mut r.headers_out, &sub.headers_out);
    overlay(&mut r.err_headers_out, &sub.err_headers_out);
}

/// Nothing is there, and nobody handles it: `fixup_dflt`.
fn fallback(r: &mut Request) -> Step {
    let dir = r.dir.clone();
    let Some(name) = &dir.get(&DIR).fallback else { return Step::Declined };
    if name.eq_ignore_ascii_case(b"disabled") {
        return Step::Declined;
    }
    let sub = match r.sub_req_lookup_uri(&with_args(r, name)) {
        Ok(sub) => sub,
        Err(step) => return step,
    };
    if is_servable(&sub) {
        r.internal_fast_redirect(sub);
        return Step::Ok;
    }
    let code = sub.status;
    if status::is_redirect(code) {
        take_reply(r, &sub);
        return Step::Status(code);
    }
    if code != status::NOT_FOUND && code != status::OK {
        return Step::Status(code);
    }
    Step::Declined
}

/// `fixup_dir`.
fn directory(r: &mut Request) -> Step {
    if r.handler.is_none() {
        r.handler = Some(DIR_MAGIC_TYPE.into());
    }
    if !r.path_info.is_empty() {
        return Step::Declined;
    }
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    if r.uri.last() != Some(&b'/') {
        return add_slash(r, conf);
    }
    // mod_rewrite is about to redirect, or somebody else handles directories: the type must not stay behind.
    let stand_aside = r.handler.as_deref() == Some(REWRITE_REDIRECT_HANDLER)
        || conf.check_handler == Some(true) && r.handler.as_deref() != Some(DIR_MAGIC_TYPE);
    if stand_aside {
        if r.content_type.as_deref() == Some(DIR_MAGIC_TYPE) {
            r.content_type = None;
        }
        return Step::Declined;
    }
    let default = [BString::from(DEFAULT_INDEX)];
    let names: &[BString] = conf.index_names.as_deref().unwrap_or(&default);
    let mut failed: Option<Status> = None;
    for (index, name) in names.iter().enumerate() {
        let sub = match r.sub_req_lookup_uri(&with_args(r, name)) {
            Ok(sub) => sub,
            Err(step) => return step,
        };
        if is_servable(&sub) {
            if let Some(code) = conf.redirect_index.filter(|&code| code != 0) {
                let location = r.construct_url(&sub.uri);
                r.headers_out.set("Location", location);
                return Step::Status(code);
            }
            r.internal_fast_redirect(sub);
            return Step::Ok;
        }
        let code = sub.status;
        let is_last = index + 1 == names.len();
        if status::is_redirect(code)
            || is_last && (code == status::NOT_ACCEPTABLE || code == status::UNAUTHORIZED)
        {
            take_reply(r, &sub);
            return Step::Status(code);
        }
        if let Some(list) = sub.notes.get("variant-list") {
            // What mod_negotiation leaves for the page of the main request.
            r.notes.set("variant-list", list);
        }
        // Something is wrong with an index: better that error at the end than a listing of the folder.
        if code != status::NOT_FOUND && code != status::OK {
            failed = Some(code);
        }
    }
    if let Some(code) = failed {
        return Step::Status(code);
    }
    let tried = bstr::join(",", names);
    r.notes.set("dir-index-names", tried);
    Step::Declined
}

/// Sends the client to the URL with a slash at its end, so that relative links work.
fn add_slash(r: &mut Request, conf: &DirConfig) -> Step {
    if conf.slash == Some(false) {
        return Step::Declined;
    }
    if r.method != Method::GET && r.subprocess_env.contains("redirect-carefully") {
        return Step::Declined;
    }
    let mut path = escape::os_escape_path(&r.uri, true).into_owned();
    path.push(b'/');
    let url = r.construct_url(&with_args(r, &path));
    r.headers_out.set("Location", url);
    Step::Status(status::MOVED_PERMANENTLY)
}
