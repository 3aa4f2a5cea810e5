//! mod_expires: how long a reply is good, by its media type.
//!
//! Answers to `modules/metadata/mod_expires.c`. A time that counts from the access is told to the memo, which keeps
//! `Expires` up to date in replies that are given again.

use std::sync::Arc;

use httpd_conf::getword_conf;

use super::time_span::{self, BadSpan};
use crate::body::Content;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::filter::FilterKind;
use crate::hooks::{Hooks, order};
use crate::http::{date, status};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, memo};
use crate::text::atoi;

/// The module.
pub static MODULE: Module = Module { name: "expires_module", file: "mod_expires.c", directives: ROWS, hooks };

/// A directory's settings.
pub static DIR: Slot<ExpiresDir> = Slot::new();

/// What the seconds are counted from.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Base {
    Access,
    Modification,
}

/// A date: so many seconds after something.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Code {
    base: Base,
    seconds: i64,
}

/// A directory's settings: `expires_dir_config`.
#[derive(Clone, Default)]
pub struct ExpiresDir {
    active: Option<bool>,
    /// A type with a `*` was named here. It is not inherited.
    wildcards: bool,
    default: Option<Code>,
    /// By media type; the first counts.
    by_type: Arc<Vec<(String, Code)>>,
}

impl Conf for ExpiresDir {
    fn merge(&self, child: &Self) -> Self {
        let by_type = match (self.by_type.is_empty(), child.by_type.is_empty()) {
            (true, _) => child.by_type.clone(),
            (_, true) => self.by_type.clone(),
            _ => Arc::new([child.by_type.as_slice(), &self.by_type].concat()),
        };
        ExpiresDir {
            active: child.active.or(self.active),
            wildcards: child.wildcards,
            default: child.default.or(self.default),
            by_type,
        }
    }
}

impl ExpiresDir {
    fn of_type(&self, media_type: &str) -> Option<Code> {
        self.by_type.iter().find(|(name, _)| name.eq_ignore_ascii_case(media_type)).map(|(_, code)| *code)
    }

    /// The date for a media type.
    fn code(&self, media_type: Option<&str>) -> Option<Code> {
        let bare = media_type.map(|t| t.split(';').next().unwrap_or_default().trim_end());
        let wild = || {
            let (major, _) = media_type.filter(|_| self.wildcards)?.split_once('/')?;
            self.of_type(&format!("{major}/*"))
        };
        bare.and_then(|bare| self.of_type(bare)).or_else(wild).or(self.default)
    }
}

static ROWS: &[Directive] = &[
    row("ExpiresActive", Args::Flag(active), "Limited to 'on' or 'off'"),
    row("ExpiresByType", Args::Take2(by_type), "a MIME type followed by an expiry date code"),
    row("ExpiresDefault", Args::Take1(default), "an expiry date code"),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::INDEXES, help }
}

fn active(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).active = Some(on);
    Ok(())
}

fn by_type(cmd: &mut Cmd, media_type: &str, code: &str) -> Done {
    let Some((_, minor)) = media_type.rsplit_once('/') else {
        return Err("Invalid mimetype: should contain a slash".into());
    };
    let conf = cmd.dir(&DIR);
    if minor == "*" {
        conf.wildcards = true;
    }
    let code = parse(code).map_err(|err| format!("'ExpiresByType {media_type} {code}': {err}"))?;
    let all = Arc::make_mut(&mut conf.by_type);
    match all.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(media_type)) {
        Some((_, old)) => *old = code,
        None => all.push((media_type.to_owned(), code)),
    }
    Ok(())
}

fn default(cmd: &mut Cmd, code: &str) -> Done {
    let parsed = parse(code).map_err(|err| format!("'ExpiresDefault {code}': {err}"))?;
    cmd.dir(&DIR).default = Some(parsed);
    Ok(())
}

/// `A3600`, or `access plus 1 hour`: `check_code`.
fn parse(code: &str) -> Result<Code, String> {
    if let Some(seconds) = code.strip_prefix('A') {
        return Ok(Code { base: Base::Access, seconds: atoi(seconds).into() });
    }
    if let Some(seconds) = code.strip_prefix('M') {
        return Ok(Code { base: Base::Modification, seconds: atoi(seconds).into() });
    }
    let mut rest = code;
    let first = getword_conf(&mut rest).into_owned();
    let base = match first.bytes().next().map(|c| c.to_ascii_lowercase()) {
        Some(b'n' | b'a') => Base::Access,
        Some(b'm') => Base::Modification,
        _ => return Err(format!("bad expires code, unrecognised <base> '{first}'")),
    };
    let seconds = time_span::parse(rest).map_err(|err| match err {
        BadSpan::NoNumber(word) => format!("bad expires code, numeric value expected <num> '{word}'"),
        BadSpan::NoUnit => "bad expires code, missing <type>".to_owned(),
        BadSpan::UnknownUnit(word) => format!("bad expires code, unrecognised <type>'{word}'"),
    })?;
    Ok(Code { base, seconds: seconds.into() })
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.output_filter("MOD_EXPIRES", FilterKind::BeforeCache, filter);
    hooks.insert_error_filter(insert, order::MIDDLE);
    hooks.insert_filter(insert, order::MIDDLE);
}

/// `expires_insert_filter`.
fn insert(r: &mut Request) {
    if status::is_error(r.status) || r.is_subrequest {
        return;
    }
    let conf = r.dir(&DIR);
    if conf.active == Some(true) && (!conf.by_type.is_empty() || conf.default.is_some()) {
        r.add_output_filter("MOD_EXPIRES");
    }
}

/// `expires_filter`.
fn filter(r: &mut Request, content: Content) -> Content {
    if status::is_error(r.status)
        || r.err_headers_out.contains("Expires")
        || r.headers_out.contains("Expires")
    {
        return content;
    }
    if let Some(code) = r.dir(&DIR).code(r.content_type.as_deref()) {
        set_expiration_fields(r, code);
    }
    content
}

fn set_expiration_fields(r: &mut Request, code: Code) {
    let base = match (code.base, r.finfo) {
        (Base::Access, _) => r.request_time,
        (Base::Modification, Some(info)) => {
            memo::refuse();
            info.mtime
        }
        (Base::Modification, None) => return,
    };
    let expires = base.saturating_add(code.seconds * 1_000_000).max(r.request_time);
    let age = (expires - r.request_time) / 1_000_000;
    let secs = expires.div_euclid(1_000_000);
    r.headers_out.merge("Cache-Control", format!("max-age={age}"));
    r.headers_out.set("Expires", date::rfc822(secs));
    memo::expires(secs - r.request_secs());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        let access = |seconds| Ok(Code { base: Base::Access, seconds });
        assert_eq!(parse("A3600"), access(3600));
        assert_eq!(parse("now"), access(0));
        assert_eq!(parse("access plus 1 month 2 min 1 s"), access(30 * 86400 + 121));
        assert_eq!(parse("access 1 year"), access(365 * 86400));
        assert_eq!(parse("M-5"), Ok(Code { base: Base::Modification, seconds: -5 }));
        assert_eq!(parse("never plus nothing").unwrap_err().split('\'').nth(1), Some("nothing"));
        assert_eq!(parse("x").unwrap_err(), "bad expires code, unrecognised <base> 'x'");
        assert_eq!(parse("now plus 1").unwrap_err(), "bad expires code, missing <type>");
        assert_eq!(parse("now 1 eon").unwrap_err(), "bad expires code, unrecognised <type>'eon'");
        assert_eq!(
            parse("now plus day").unwrap_err(),
            "bad expires code, numeric value expected <num> 'day'"
        );
    }
}
