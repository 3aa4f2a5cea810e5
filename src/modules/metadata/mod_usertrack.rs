//! mod_usertrack: a cookie that tells one client from another.
//!
//! Answers to `modules/metadata/mod_usertrack.c`.

use std::sync::Arc;

use bstr::{BString, ByteSlice};
use httpd_conf::to_bytes;

use super::time_span::{self, BadSpan};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::{Hooks, order};
use crate::http::date;
use crate::module::{Conf, Module, Slot};
use crate::os::random;
use crate::regex::{Flags, Regex};
use crate::request::{Request, Step, memo};
use crate::text::atol;

/// The module.
pub static MODULE: Module =
    Module { name: "usertrack_module", file: "mod_usertrack.c", directives: ROWS, hooks };

/// A server's settings.
pub static SERVER: Slot<Expires> = Slot::new();
/// A directory's settings.
pub static DIR: Slot<Tracking> = Slot::new();

/// How long the cookie lives, in seconds; 0: with the browser.
#[derive(Clone, Default)]
pub struct Expires(i64);

impl Conf for Expires {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Style {
    Netscape,
    Cookie,
    Cookie2,
}

/// A directory's settings: `cookie_dir_rec`.
#[derive(Clone)]
pub struct Tracking {
    enabled: bool,
    style: Style,
    name: BString,
    domain: Option<BString>,
    secure: bool,
    http_only: bool,
    same_site: Option<&'static str>,
    /// Finds the cookie among those that came.
    regex: Option<Arc<Regex>>,
}

impl Default for Tracking {
    fn default() -> Tracking {
        Tracking {
            enabled: false,
            style: Style::Netscape,
            name: "Apache".into(),
            domain: None,
            secure: false,
            http_only: false,
            same_site: None,
            regex: pattern(b"Apache"),
        }
    }
}

impl Conf for Tracking {
    /// Nothing is inherited once one of the directives stands in a section.
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

static ROWS: &[Directive] = &[
    row("CookieExpires", Args::Take1(expires), "an expiry date code"),
    row("CookieDomain", Args::Take1(domain), "domain to which this cookie applies"),
    row("CookieStyle", Args::Take1(style), "'Netscape', 'Cookie' (RFC2109), or 'Cookie2' (RFC2965)"),
    row("CookieTracking", Args::Flag(tracking), "whether or not to enable cookies"),
    row("CookieName", Args::Take1(name), "name of the tracking cookie"),
    row("CookieSameSite", Args::Take1(same_site), "SameSite setting"),
    row("CookieSecure", Args::Flag(secure), "is cookie secure"),
    row("CookieHttpOnly", Args::Flag(http_only), "is cookie http only"),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::FILEINFO, help }
}

/// `set_cookie_exp`.
fn expires(cmd: &mut Cmd, arg: &str) -> Done {
    let is_digit = |c: char| c.is_ascii_digit();
    if arg.starts_with(is_digit) && arg.ends_with(is_digit) {
        cmd.server_conf(&SERVER)?.0 = atol(arg);
        return Ok(());
    }
    let seconds = time_span::parse(arg).map_err(|err| match err {
        BadSpan::NoNumber(_) => "bad expires code, numeric value expected.",
        BadSpan::NoUnit => "bad expires code, missing <type>",
        BadSpan::UnknownUnit(_) => "bad expires code, unrecognized type",
    })?;
    cmd.server_conf(&SERVER)?.0 = seconds.into();
    Ok(())
}

fn domain(cmd: &mut Cmd, name: &str) -> Done {
    let Some(behind) = name.strip_prefix('.') else {
        return Err("CookieDomain values must begin with a dot".into());
    };
    if !behind.contains('.') {
        return Err("CookieDomain values must contain at least one embedded dot".into());
    }
    cmd.dir(&DIR).domain = Some(to_bytes(name).into_owned().into());
    Ok(())
}

fn style(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.dir(&DIR).style = match arg.to_ascii_lowercase().as_str() {
        "netscape" => Style::Netscape,
        "cookie" | "rfc2109" => Style::Cookie,
        "cookie2" | "rfc2965" => Style::Cookie2,
        _ => return Err(format!("Invalid {} keyword: '{arg}'", cmd.name).into()),
    };
    Ok(())
}

fn tracking(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).enabled = on;
    Ok(())
}

/// The cookie called `name` at the beginning or behind another.
fn pattern(name: &[u8]) -> Option<Arc<Regex>> {
    let mut escaped = Vec::with_capacity(name.len() * 2);
    for &c in name {
        if !c.is_ascii_alphanumeric() {
            escaped.push(b'\\');
        }
        escaped.push(c);
    }
    let pattern = [b"^", &*escaped, b"=([^;,]+)|[;,][ \t]*", &*escaped, b"=([^;,]+)"].concat();
    Regex::from_bytes(&pattern, Flags::EXTENDED).ok().map(Arc::new)
}

fn name(cmd: &mut Cmd, name: &str) -> Done {
    let bytes = to_bytes(name);
    let Some(regex) = pattern(&bytes) else {
        return Err("Regular expression could not be compiled.".into());
    };
    let conf = cmd.dir(&DIR);
    conf.name = bytes.into_owned().into();
    conf.regex = Some(regex);
    Ok(())
}

fn same_site(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.dir(&DIR).same_site = Some(match arg.to_ascii_lowercase().as_str() {
        "strict" => "SameSite=Strict",
        "lax" => "SameSite=Lax",
        "none" => "SameSite=None",
        _ => return Err("CookieSameSite accepts 'Strict', 'Lax', or 'None'".into()),
    });
    Ok(())
}

fn secure(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).secure = on;
    Ok(())
}

fn http_only(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).http_only = on;
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.fixups(spot_cookie, order::REALLY_FIRST);
}

/// `spot_cookie`.
fn spot_cookie(r: &mut Request) -> Step {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    if !conf.enabled || r.is_subrequest {
        return Step::Declined;
    }
    if let Some(cookies) = r.headers_in.get("Cookie")
        && let Some(captures) = conf.regex.as_ref().and_then(|regex| regex.captures(cookies))
    {
        let group = if captures.get(2).is_some() { 2 } else { 1 };
        let value = captures.text(cookies, group).to_vec();
        r.notes.set("cookie", value);
        return Step::Declined;
    }
    make_cookie(r, conf);
    Step::Ok
}

fn make_cookie(r: &mut Request, conf: &Tracking) {
    memo::refuse();
    let value = format!("{:x}.{:x}", u32::from_ne_bytes(random::bytes()), r.request_time);
    let expires = r.server_conf(&SERVER).0;
    let mut cookie = format!("{}={value}; path=/", conf.name.to_str_lossy()).into_bytes();
    if expires != 0 && conf.style == Style::Netscape {
        // As RFC 822 has it, with hyphens and two digits of the year.
        let date = date::rfc822(r.request_secs().saturating_add(expires));
        let date = date.to_str_lossy();
        let (day, rest) = date.split_at(5);
        let parts: Vec<&str> = rest.split(' ').collect();
        if let [number, month, year, time, zone] = parts.as_slice() {
            let year = year.get(2..).unwrap_or_default();
            cookie.extend_from_slice(
                format!("; expires={day}{number}-{month}-{year} {time} {zone}").as_bytes(),
            );
        }
    } else if expires != 0 {
        cookie.extend_from_slice(format!("; max-age={expires}").as_bytes());
    }
    if let Some(domain) = &conf.domain {
        cookie.extend_from_slice(b"; domain=");
        cookie.extend_from_slice(domain);
        if conf.style == Style::Cookie2 {
            cookie.extend_from_slice(b"; version=1");
        }
    }
    for attribute in [conf.same_site, conf.secure.then_some("Secure"), conf.http_only.then_some("HttpOnly")]
        .into_iter()
        .flatten()
    {
        cookie.extend_from_slice(b"; ");
        cookie.extend_from_slice(attribute.as_bytes());
    }
    let field = if conf.style == Style::Cookie2 { "Set-Cookie2" } else { "Set-Cookie" };
    r.err_headers_out.add(field, cookie);
    r.notes.set("cookie", value);
}
