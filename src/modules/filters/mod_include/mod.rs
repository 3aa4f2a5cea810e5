//! mod_include: pages with elements that the server fills in (SSI).
//!
//! Answers to `modules/filters/mod_include.c`. Where it differs: a page without elements is found out before the reply
//! begins, whatever it is made of in memory; what is included comes as it is pulled, and nobody waits for it with a thread.
//! Rooms: [`parse`] (text and elements), [`page`] (the filter), [`elements`] (what they do), [`coding`]
//! and [`files`] (for some of them), [`included`] (sub-requests),
//! [`expand`] (variables), [`expression`] and [`legacy`] (both kinds of conditions).

mod coding;
mod elements;
mod expand;
mod expression;
mod files;
mod included;
mod legacy;
mod page;
mod parse;

use crate::body::Content;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::filter::FilterKind;
use crate::hooks::{Hooks, order};
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::modules::core::{self, options};
use crate::request::{Request, Step, memo};

/// The module.
pub static MODULE: Module = Module { name: "include_module", file: "mod_include.c", directives: ROWS, hooks };

static DIR: Slot<IncludeDir> = Slot::new();
static SERVER: Slot<IncludeServer> = Slot::new();

/// The output filter's name.
const FILTER: &str = "INCLUDES";
/// The note of a request that a page includes; its value is when the page was changed (`ap_set_module_config` of the
/// request's configuration in Apache).
const PARENT: &str = "mod_include.parent";
/// The note that the included request is such a page itself, and uses the variables of the one that includes it.
const NESTED: &str = "mod_include.nested";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum XBitHack {
    Off,
    On,
    Full,
}

/// A directory's settings: `include_dir_config`.
#[derive(Clone, Default)]
struct IncludeDir {
    error_msg: Option<String>,
    time_format: Option<String>,
    undefined_echo: Option<String>,
    x_bit_hack: Option<XBitHack>,
    last_modified: Option<bool>,
    etag: Option<bool>,
    legacy: Option<bool>,
}

impl Conf for IncludeDir {
    fn merge(&self, child: &Self) -> Self {
        let or = |child: &Option<String>, own: &Option<String>| child.clone().or_else(|| own.clone());
        IncludeDir {
            error_msg: or(&child.error_msg, &self.error_msg),
            time_format: or(&child.time_format, &self.time_format),
            undefined_echo: or(&child.undefined_echo, &self.undefined_echo),
            x_bit_hack: child.x_bit_hack.or(self.x_bit_hack),
            last_modified: child.last_modified.or(self.last_modified),
            etag: child.etag.or(self.etag),
            legacy: child.legacy.or(self.legacy),
        }
    }
}

/// A server's settings: `include_server_config`. A virtual host's are its own.
#[derive(Clone, Default)]
struct IncludeServer {
    start: Option<String>,
    end: Option<String>,
}

impl Conf for IncludeServer {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

const fn row(name: &'static str, args: Args, allowed: Allowed, help: &'static str) -> Directive {
    Directive { name, args, allowed, help }
}

static ROWS: &[Directive] = &[
    row("XBitHack", Args::Take1(x_bit_hack), Allowed::OPTIONS, "Off, On, or Full"),
    row("SSIErrorMsg", Args::Take1(error_msg), Allowed::ALL, "a string"),
    row("SSITimeFormat", Args::Take1(time_format), Allowed::ALL, "a strftime(3) formatted string"),
    row("SSIStartTag", Args::Take1(start_tag), Allowed::RSRC_CONF, "SSI Start String Tag"),
    row("SSIEndTag", Args::Take1(end_tag), Allowed::RSRC_CONF, "SSI End String Tag"),
    row(
        "SSIUndefinedEcho",
        Args::Take1(undefined_echo),
        Allowed::ALL,
        "String to be displayed if an echoed variable is undefined",
    ),
    row(
        "SSILegacyExprParser",
        Args::Flag(legacy),
        Allowed::LIMIT,
        "Whether to use the legacy expression parser compatible with <= 2.2.x. Limited to 'on' or 'off'",
    ),
    row(
        "SSILastModified",
        Args::Flag(last_modified),
        Allowed::LIMIT,
        "Whether to set the last modified header or respect an existing header. Limited to 'on' or 'off'",
    ),
    row(
        "SSIEtag",
        Args::Flag(etag),
        Allowed::LIMIT,
        "Whether to allow the generation of ETags within the server. Existing ETags will be preserved. Limited to 'on' or 'off'",
    ),
];

fn x_bit_hack(cmd: &mut Cmd, arg: &str) -> Done {
    let hack = match arg.to_ascii_lowercase().as_str() {
        "off" => XBitHack::Off,
        "on" => XBitHack::On,
        "full" => XBitHack::Full,
        _ => return Err("XBitHack must be set to Off, On, or Full".into()),
    };
    cmd.dir(&DIR).x_bit_hack = Some(hack);
    Ok(())
}

fn error_msg(cmd: &mut Cmd, text: &str) -> Done {
    cmd.dir(&DIR).error_msg = Some(text.to_owned());
    Ok(())
}

fn time_format(cmd: &mut Cmd, text: &str) -> Done {
    cmd.dir(&DIR).time_format = Some(text.to_owned());
    Ok(())
}

fn undefined_echo(cmd: &mut Cmd, text: &str) -> Done {
    cmd.dir(&DIR).undefined_echo = Some(text.to_owned());
    Ok(())
}

fn legacy(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).legacy = Some(on);
    Ok(())
}

fn last_modified(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).last_modified = Some(on);
    Ok(())
}

fn etag(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).etag = Some(on);
    Ok(())
}

fn tag(cmd: &Cmd, tag: &str) -> Result<Option<String>, crate::config::directive::CmdError> {
    if tag.contains(|c: char| c.is_ascii_whitespace() || c == '\x0b') {
        return Err(format!("{} may not contain any whitespaces", cmd.name).into());
    }
    Ok(Some(tag.to_owned()))
}

fn start_tag(cmd: &mut Cmd, text: &str) -> Done {
    let start = tag(cmd, text)?;
    cmd.server_conf(&SERVER)?.start = start;
    Ok(())
}

fn end_tag(cmd: &mut Cmd, text: &str) -> Done {
    let end = tag(cmd, text)?;
    cmd.server_conf(&SERVER)?.end = end;
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.fixups(fixup, order::LAST);
    hooks.insert_filter(set_up, order::REALLY_LAST).own();
    hooks.output_filter(FILTER, FilterKind::Resource, wrap);
}

/// `include_fixup`.
fn fixup(r: &mut Request) -> Step {
    if r.handler.as_deref() == Some("server-parsed") {
        if r.content_type.as_deref().is_none_or(str::is_empty) {
            r.set_content_type("text/html");
        }
        r.handler = Some("default-handler".into());
    } else {
        let hack = r.dir(&DIR).x_bit_hack.unwrap_or(XBitHack::Off);
        let may_run = r.finfo.is_some_and(|file| file.mode & 0o100 != 0);
        let is_html = r.content_type.as_deref().is_some_and(|kind| kind.starts_with("text/html"));
        if hack == XBitHack::Off || !may_run || !is_html {
            return Step::Declined;
        }
    }
    r.add_output_filter(FILTER);
    Step::Declined
}

fn is_full(r: &Request) -> bool {
    let full = r.dir(&DIR).x_bit_hack == Some(XBitHack::Full);
    full && r.finfo.is_some_and(|file| file.mode & 0o010 != 0)
}

/// `includes_setup`: what a page is made of may change without the page.
fn set_up(r: &mut Request) {
    if !r.output_filters.iter().any(|filter| filter.name == FILTER) {
        return;
    }
    memo::refuse();
    if !is_full(r) {
        r.no_local_copy = true;
    }
    if r.dir(&DIR).etag != Some(true) {
        r.notes.set("no-etag", "");
    }
    // Where a path follows the page, it is looked up where it leads.
    r.filters_need_thread |= !r.path_info.is_empty();
}

/// `includes_filter`.
fn wrap(r: &mut Request, content: Content) -> Content {
    if r.dir(&core::DIR).opts.in_force() & options::INCLUDES == 0 {
        rerror!(
            r,
            Level::Warn,
            "include",
            "AH01374",
            "mod_include: Options +Includes (or IncludesNoExec) wasn't set, INCLUDES filter removed: {}",
            r.uri
        );
        return content;
    }
    memo::refuse();
    match r.notes.get_str(PARENT).and_then(|mtime| mtime.parse().ok()) {
        Some(mtime) => {
            r.notes.set(NESTED, "");
            if let Some(file) = &mut r.finfo {
                file.mtime = mtime;
            }
        }
        None => {
            r.add_common_vars();
            // On a reactor, a path behind the page is not looked up; `set_up` saw to that.
            let _ = r.add_cgi_vars();
            expand::add_include_vars(r);
            expand::add_query(r);
        }
    }
    r.headers_out.unset("Content-Length");
    if r.dir(&DIR).last_modified == Some(true) {
        if let Some(file) = r.finfo
            && !r.headers_out.contains("Last-Modified")
        {
            r.mtime = r.mtime.max(file.mtime);
            r.set_last_modified();
        }
    } else if is_full(r) {
        r.mtime = r.mtime.max(r.finfo.map_or(0, |file| file.mtime));
        r.set_last_modified();
    } else {
        r.headers_out.unset("Last-Modified");
    }
    page::page(r, content)
}
