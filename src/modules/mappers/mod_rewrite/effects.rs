//! What rules do besides changing the URL: variables, cookies, types and handlers.

use crate::expr::NeedThread;
use crate::http::date::Civil;
use crate::log::shown;
use crate::request::{Request, Step, memo};
use crate::text::atoi;

use super::engine::Engine;
use super::log::rewritelog;
use super::rules::Rule;

const FORCED_MIMETYPE: &str = "rewrite-forced-mimetype";
const FORCED_HANDLER: &str = "rewrite-forced-handler";

/// `E=name:value` and `E=!name`: `do_expand_env`.
pub(super) fn set_env(engine: &mut Engine, r: &mut Request, rule: &Rule) -> Result<(), NeedThread> {
    for text in &rule.flags.env {
        let text = engine.expand(r, text, None, None)?;
        if let Some(name) = text.strip_prefix(b"!") {
            if let Ok(name) = std::str::from_utf8(name) {
                r.subprocess_env.unset(name);
            }
            rewritelog!(r, Trace5, None, "unsetting env variable '{}'", shown(name));
            continue;
        }
        let (name, value) = match text.iter().position(|&c| c == b':') {
            Some(colon) => (&text[..colon], &text[colon + 1..]),
            None => (&text[..], &b""[..]),
        };
        r.subprocess_env.set(name, value);
        rewritelog!(r, Trace5, None, "setting env variable '{}' to '{}'", shown(name), shown(value));
    }
    Ok(())
}

/// `CO=name:value:domain:…`
pub(super) fn set_cookies(engine: &mut Engine, r: &mut Request, rule: &Rule) -> Result<(), NeedThread> {
    for text in &rule.flags.cookies {
        let text = engine.expand(r, text, None, None)?;
        add_cookie(r, &text);
    }
    Ok(())
}

/// `add_cookie`
fn add_cookie(r: &mut Request, text: &[u8]) {
    let (separator, text) = match text.strip_prefix(b";") {
        Some(rest) => (b';', rest),
        None => (b':', text),
    };
    let mut fields = text.split(|&c| c == separator).filter(|field| !field.is_empty());
    let (Some(name), Some(value), Some(domain)) = (fields.next(), fields.next(), fields.next()) else {
        return;
    };
    let shared = |all: &Vec<(_, _)>| all.iter().any(|(known, _)| known == name);
    if r.rewritten.cookies.iter().any(|known| known == name)
        || r.rewritten.shared().is_some_and(|all| shared(&all))
    {
        rewritelog!(r, Trace5, None, "skipping already set cookie '{}'", shown(name));
        return;
    }
    let mut cookie = [name, b"=", value].concat();
    let (expires, path) = (fields.next(), fields.next());
    let (secure, http_only, same_site) = (fields.next(), fields.next(), fields.next());
    cookie.extend_from_slice(b"; path=");
    cookie.extend_from_slice(path.unwrap_or(b"/"));
    cookie.extend_from_slice(b"; domain=");
    cookie.extend_from_slice(domain);
    let minutes = expires.map_or(0, |expires| i64::from(atoi(expires)));
    if minutes != 0 {
        memo::refuse();
        cookie.extend_from_slice(format!("; expires={}", date(r.request_secs() + 60 * minutes)).as_bytes());
    }
    let says = |field: Option<&[u8]>, word: &[u8]| {
        field.is_some_and(|f| f == b"1" || f.eq_ignore_ascii_case(b"true") || f.eq_ignore_ascii_case(word))
    };
    if says(secure, b"secure") {
        cookie.extend_from_slice(b"; secure");
    }
    if says(http_only, b"HttpOnly") {
        cookie.extend_from_slice(b"; HttpOnly");
    }
    if let Some(same_site) = same_site
        && same_site != b"0"
        && !same_site.eq_ignore_ascii_case(b"false")
    {
        cookie.extend_from_slice(b"; SameSite=");
        cookie.extend_from_slice(same_site);
    }
    rewritelog!(r, Trace5, None, "setting cookie '{}'", shown(&cookie));
    if r.is_subrequest
        && let Some(mut shared) = r.rewritten.shared()
    {
        shared.push((name.into(), cookie));
        return;
    }
    r.rewritten.cookies.push(name.into());
    r.err_headers_out.add("Set-Cookie", cookie);
}

/// As Netscape's cookies had it.
fn date(secs: i64) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let t = Civil::new(secs, 0);
    format!(
        "{}, {:02}-{}-{:04} {:02}:{:02}:{:02} GMT",
        DAYS[usize::from(t.weekday) % 7],
        t.day,
        MONTHS[usize::from(t.month).saturating_sub(1) % 12],
        t.year,
        t.hour,
        t.minute,
        t.second
    )
}

/// `T=` and `H=`: to be done when the file is known.
pub(super) fn force_type_handler(
    engine: &mut Engine,
    r: &mut Request,
    rule: &Rule,
) -> Result<(), NeedThread> {
    let flags = &rule.flags;
    for (forced, note, what) in [
        (&flags.forced_mimetype, FORCED_MIMETYPE, "MIME-type"),
        (&flags.forced_handler, FORCED_HANDLER, "Content-handler"),
    ] {
        let Some(forced) = forced else { continue };
        let value = engine.expand(r, forced, Some(rule), None)?.to_ascii_lowercase();
        if value.is_empty() {
            continue;
        }
        let (file, shown_value) = (shown(&r.filename), shown(&value));
        rewritelog!(r, Trace2, engine.perdir, "remember {file} to have {what} '{shown_value}'");
        r.notes.set(note, value);
    }
    Ok(())
}

/// Does what `T=` and `H=` said: `hook_mimetype`.
pub(super) fn mimetype(r: &mut Request) -> Step {
    if let Some(value) = r.notes.get_str(FORCED_MIMETYPE).filter(|v| !v.is_empty()).map(str::to_owned) {
        let file = shown(&r.filename);
        rewritelog!(r, Trace1, None, "force filename {file} to have MIME-type '{value}'");
        r.set_content_type(value);
    }
    if let Some(value) = r.notes.get_str(FORCED_HANDLER).filter(|v| !v.is_empty()).map(str::to_owned) {
        let file = shown(&r.filename);
        rewritelog!(r, Trace1, None, "force filename {file} to have the Content-handler '{value}'");
        r.handler = Some(value.into());
    }
    Step::Ok
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_of_cookies() {
        assert_eq!(super::date(0), "Thu, 01-Jan-1970 00:00:00 GMT");
    }
}
