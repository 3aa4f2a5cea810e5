//! What the elements do: the handlers of `mod_include.c`, and `exec` of `cgi_common.h`.

use bstr::ByteSlice;

use super::coding::recode;
use super::expand::{decode_html, expand, make_lazy, time, variable};
use super::files::{about_file, below};
use super::included::Included;
use super::page::{Busy, Ssi};
use super::parse::Element;
use super::{expression, legacy};
use crate::http::escape::escape_html;
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::modules::generators::mod_cgi::exec;
use crate::request::Request;

/// What came of an element's begin.
pub(super) enum Done {
    Yes,
    Text(Vec<u8>),
    Error,
    /// Its arguments are to be done, each in turn.
    OneByOne,
}

/// What came of an argument.
pub(super) enum Argued {
    Next,
    Text(Vec<u8>),
    Error,
    Busy(Busy),
}

/// Whether it looks at other files, or starts something.
pub(super) fn may_block(element: &Element) -> bool {
    matches!(&*element.name, b"include" | b"exec" | b"fsize" | b"flastmod" | b"if" | b"elif")
}

/// Begins an element. Where nothing is printed, only conditions are looked at.
pub(super) fn begin(r: &mut Request, ssi: &mut Ssi, element: &mut Element) -> Done {
    let count = element.arguments.len();
    let (fewest, number) = match &*element.name {
        b"comment" => return Done::Yes,
        b"if" | b"elif" => return condition(r, ssi, element),
        b"else" | b"endif" => return closing(r, ssi, element),
        b"printenv" => return printenv(r, ssi, count),
        b"include" => (1, "AH01341"),
        b"echo" => (1, "AH01343"),
        b"config" => (1, "AH01347"),
        b"fsize" => (1, "AH01350"),
        b"flastmod" => (1, "AH01351"),
        b"set" => (2, "AH01362"),
        b"exec" if exec::module(r).is_some() => (1, "AH03195"),
        name => {
            let name = shown(name);
            rerror!(
                r,
                Level::Error,
                "include",
                "AH01371",
                "unknown directive \"{name}\" in parsed doc {}",
                r.filename
            );
            return if ssi.printing { Done::Error } else { Done::Yes };
        }
    };
    let name = shown(&element.name);
    let is_exec = &*element.name == b"exec";
    let module = exec::module(r).filter(|_| is_exec).unwrap_or("include");
    if count < fewest {
        let level = if ssi.printing { Level::Error } else { Level::Warn };
        rerror!(r, level, module, number, "missing argument for {name} element in {}", r.filename);
    }
    if !ssi.printing {
        return Done::Yes;
    }
    if count < fewest {
        return Done::Error;
    }
    if is_exec && ssi.no_exec {
        rerror!(r, Level::Error, module, "AH01228", "exec used but not allowed in {}", r.filename);
        return Done::Error;
    }
    Done::OneByOne
}

/// Does one argument.
pub(super) fn argument(
    r: &mut Request,
    ssi: &mut Ssi,
    element: &mut Element,
    name: &[u8],
    value: &[u8],
) -> Argued {
    match &*element.name {
        b"include" => include(r, ssi, element, name, value),
        b"echo" => echo(r, ssi, element, name, value),
        b"config" => config(r, ssi, name, value),
        b"set" => set(r, ssi, element, name, value),
        b"exec" => exec_argument(r, ssi, name, value),
        _ => about_file(r, ssi, element, name, value),
    }
}

/// `handle_if`, `handle_elif`.
fn condition(r: &mut Request, ssi: &mut Ssi, element: &Element) -> Done {
    let done = evaluate(r, ssi, element);
    if matches!(done, Done::Error) {
        // Nothing is shown before another condition holds, or the end: not even what an `else` has.
        (ssi.printing, ssi.cond_true, ssi.cond_wrong) = (false, false, true);
    }
    done
}

fn evaluate(r: &mut Request, ssi: &mut Ssi, element: &Element) -> Done {
    let is_if = &*element.name == b"if";
    let counts = if is_if { ssi.printing } else { ssi.nesting == 0 };
    if element.arguments.len() != 1 {
        let level = if counts { Level::Error } else { Level::Warn };
        let (number, what) = match (element.arguments.is_empty(), is_if) {
            (false, true) => ("AH01352", "too many arguments"),
            (true, true) => ("AH01353", "missing expr argument"),
            (false, false) => ("AH01356", "too many arguments"),
            (true, false) => ("AH01357", "missing expr argument"),
        };
        rerror!(r, level, "include", number, "{what} for if element in {}", r.filename);
    }
    if !counts {
        ssi.nesting += u32::from(is_if);
        return Done::Yes;
    }
    if element.arguments.len() != 1 {
        return Done::Error;
    }
    let Some((name, value)) = element.arguments.front() else { return Done::Error };
    if name != b"expr" {
        let number = if is_if { "AH01354" } else { "AH01358" };
        let name = shown(name);
        rerror!(
            r,
            Level::Error,
            "include",
            number,
            "unknown parameter \"{name}\" to tag if in {}",
            r.filename
        );
        return Done::Error;
    }
    let Some(expr) = value else {
        if is_if {
            rerror!(
                r,
                Level::Error,
                "include",
                "AH01355",
                "missing expr value for if element in {}",
                r.filename
            );
        } else {
            rerror!(r, Level::Error, "include", "AH01359", "missing expr in elif statement: {}", r.filename);
        }
        return Done::Error;
    };
    if !is_if && ssi.cond_true {
        ssi.printing = false;
        return Done::Yes;
    }
    let holds = if ssi.legacy { legacy::holds(r, ssi, expr) } else { expression::holds(r, ssi, expr) };
    let Ok(holds) = holds else { return Done::Error };
    (ssi.printing, ssi.cond_true) = (holds, holds);
    if is_if {
        ssi.nesting = 0;
    }
    Done::Yes
}

/// `handle_else`, `handle_endif`.
fn closing(r: &Request, ssi: &mut Ssi, element: &Element) -> Done {
    let is_else = &*element.name == b"else";
    let too_many = !element.arguments.is_empty();
    if too_many {
        let level = if ssi.nesting == 0 { Level::Error } else { Level::Warn };
        let (number, name) = if is_else { ("AH01360", "else") } else { ("AH01361", "endif") };
        rerror!(r, level, "include", number, "{name} directive does not take tags in {}", r.filename);
    }
    if ssi.nesting > 0 {
        ssi.nesting -= u32::from(!is_else);
        return Done::Yes;
    }
    if too_many {
        return if ssi.printing || !is_else { Done::Error } else { Done::Yes };
    }
    if is_else && ssi.cond_wrong {
        return Done::Yes;
    }
    if is_else && ssi.cond_true {
        ssi.printing = false;
    } else {
        (ssi.printing, ssi.cond_true, ssi.cond_wrong) = (true, true, false);
    }
    Done::Yes
}

/// `handle_printenv`.
fn printenv(r: &mut Request, ssi: &Ssi, count: usize) -> Done {
    if count > 0 {
        let level = if ssi.printing { Level::Error } else { Level::Warn };
        rerror!(r, level, "include", "AH01367", "printenv directive does not take tags in {}", r.filename);
    }
    if !ssi.printing {
        return Done::Yes;
    }
    if count > 0 {
        return Done::Error;
    }
    let mut text = Vec::new();
    let all: Vec<_> = r.subprocess_env.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    for (name, value) in all {
        let lazy = name.to_str().ok().filter(|_| value.is_empty());
        let value = lazy.and_then(|name| make_lazy(r, name, &ssi.time_format)).unwrap_or(value);
        text.extend_from_slice(&[&*escape_html(&name), b"=", &escape_html(&value), b"\n"].concat());
    }
    Done::Text(text)
}

/// `handle_include`.
fn include(r: &mut Request, ssi: &Ssi, element: &mut Element, name: &[u8], value: &[u8]) -> Argued {
    if !matches!(name, b"virtual" | b"file" | b"onerror") {
        let name = shown(name);
        rerror!(
            r,
            Level::Error,
            "include",
            "AH01342",
            "unknown parameter \"{name}\" to tag include in {}",
            r.filename
        );
        return Argued::Error;
    }
    let failed = element.progress.failed;
    let value = decode_html(value);
    let path = expand(r, ssi, &value, false);
    let sub = match name {
        b"file" => match below(&path) {
            Ok(path) => r.sub_req_lookup_file(&path),
            Err(err) => {
                let shown_value = shown(&value);
                rerror!(
                    r,
                    Level::Error,
                    "include",
                    "",
                    err = err,
                    "unable to include file \"{shown_value}\" in parsed file {}",
                    r.filename
                );
                return include_failed(element);
            }
        },
        b"virtual" if failed => return Argued::Next,
        b"onerror" if !failed => return Argued::Next,
        _ if r.kept_body.is_some() => r.sub_req_method_uri(&path),
        _ => r.sub_req_lookup_uri(&path),
    };
    let Ok(sub) = sub else { return include_failed(element) };
    if sub.status != status::OK {
        log_include(r, &value, &format!(", subrequest setup returned {}", sub.status));
        return include_failed(element);
    }
    let is_text = sub.content_type.as_deref().is_none_or(|media_type| media_type.starts_with("text/"));
    if ssi.no_exec && !is_text {
        let value = shown(&value);
        rerror!(
            r,
            Level::Error,
            "include",
            "",
            "unable to include potential exec \"{value}\" in parsed file {}, content type not text/*",
            r.filename
        );
        return include_failed(element);
    }
    let included = Box::new(Included::new(r, sub));
    Argued::Busy(Busy::Include { included, argument: value, on_error: failed })
}

/// An include failed: the next may be shown in its place; when that one fails, too, nothing else is tried.
fn include_failed(element: &mut Element) -> Argued {
    if element.progress.failed {
        element.arguments.clear();
    }
    element.progress.failed = true;
    Argued::Next
}

/// Says that something can't be included.
pub(super) fn log_include(r: &Request, value: &[u8], why: &str) {
    let value = shown(value);
    rerror!(
        r,
        Level::Error,
        "include",
        "",
        "unable to include \"{value}\" in parsed file {}{why}",
        r.filename
    );
}

/// `handle_echo`.
fn echo(r: &mut Request, ssi: &Ssi, element: &mut Element, name: &[u8], value: &[u8]) -> Argued {
    let value = decode_html(value);
    match name {
        b"var" => {
            let name = expand(r, ssi, &value, false);
            match variable(r, ssi, &name) {
                None => Argued::Text(ssi.undefined_echo.clone()),
                Some(value) => recode(r, element, value, b"entity").map_or(Argued::Error, Argued::Text),
            }
        }
        b"decoding" => {
            element.progress.decoding = Some(value);
            Argued::Next
        }
        b"encoding" => {
            element.progress.encoding = Some(value);
            Argued::Next
        }
        name => {
            let name = shown(name);
            rerror!(
                r,
                Level::Error,
                "include",
                "AH01346",
                "unknown parameter \"{name}\" in tag echo of {}",
                r.filename
            );
            Argued::Error
        }
    }
}

/// `handle_config`.
fn config(r: &mut Request, ssi: &mut Ssi, name: &[u8], value: &[u8]) -> Argued {
    let text = expand(r, ssi, value, false);
    match name {
        b"errmsg" => ssi.error_msg = text,
        b"echomsg" => ssi.undefined_echo = text,
        b"timefmt" => {
            let changed = r.finfo.map_or(0, |file| file.mtime);
            let (now, format) = (r.request_time, &text);
            r.subprocess_env.set("DATE_LOCAL", time(format, now, false));
            r.subprocess_env.set("DATE_GMT", time(format, now, true));
            r.subprocess_env.set("LAST_MODIFIED", time(format, changed, false));
            ssi.time_format = text;
        }
        b"sizefmt" if text == b"bytes" => ssi.size_in_bytes = true,
        b"sizefmt" if text == b"abbrev" => ssi.size_in_bytes = false,
        b"sizefmt" => {
            let text = shown(&text);
            rerror!(
                r,
                Level::Error,
                "include",
                "AH01348",
                "unknown value \"{text}\" to parameter \"sizefmt\" of tag config in {}",
                r.filename
            );
            return Argued::Error;
        }
        name => {
            let name = shown(name);
            rerror!(
                r,
                Level::Error,
                "include",
                "AH01349",
                "unknown parameter \"{name}\" to tag config in {}",
                r.filename
            );
            return Argued::Error;
        }
    }
    Argued::Next
}

/// `handle_set`.
fn set(r: &mut Request, ssi: &Ssi, element: &mut Element, name: &[u8], value: &[u8]) -> Argued {
    match name {
        b"var" => {
            let value = decode_html(value);
            element.progress.variable = Some(expand(r, ssi, &value, false));
        }
        b"decoding" => element.progress.decoding = Some(value.to_vec()),
        b"encoding" => element.progress.encoding = Some(value.to_vec()),
        b"value" => {
            let Some(variable) = element.progress.variable.clone() else {
                rerror!(
                    r,
                    Level::Error,
                    "include",
                    "AH01363",
                    "variable must precede value in set directive in {}",
                    r.filename
                );
                return Argued::Error;
            };
            let value = expand(r, ssi, value, false);
            let Ok(value) = recode(r, element, value, b"none") else { return Argued::Error };
            r.subprocess_env.set(variable, value);
        }
        _ => {
            rerror!(r, Level::Error, "include", "AH01366", "Invalid tag for set directive in {}", r.filename);
            return Argued::Error;
        }
    }
    Argued::Next
}

/// `cgi_handle_exec`.
fn exec_argument(r: &mut Request, ssi: &Ssi, name: &[u8], value: &[u8]) -> Argued {
    let Some(module) = exec::module(r) else { return Argued::Error };
    let value = decode_html(value);
    match name {
        b"cmd" => {
            let mut command = expand(r, ssi, &value, true);
            command.truncate(8191);
            match exec::command(r, &command) {
                Some(content) => Argued::Busy(Busy::Command(content)),
                None => {
                    rerror!(
                        r,
                        Level::Error,
                        module,
                        "AH01229",
                        "execution failure for parameter \"cmd\" to tag exec in file {}",
                        r.filename
                    );
                    Argued::Error
                }
            }
        }
        b"cgi" => {
            let uri = expand(r, ssi, &value, false);
            match exec::script(r, &uri) {
                Some(sub) => Argued::Busy(Busy::Cgi { included: Box::new(Included::new(r, sub)) }),
                None => {
                    let value = shown(&value);
                    rerror!(
                        r,
                        Level::Error,
                        module,
                        "AH01230",
                        "invalid CGI ref \"{value}\" in {}",
                        r.filename
                    );
                    Argued::Error
                }
            }
        }
        name => {
            let name = shown(name);
            rerror!(
                r,
                Level::Error,
                module,
                "AH01231",
                "unknown parameter \"{name}\" to tag exec in {}",
                r.filename
            );
            Argued::Error
        }
    }
}
