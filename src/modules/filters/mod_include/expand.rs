//! Variables, and text with variables in it: `get_include_var`, `ap_ssi_parse_string`, `decodehtml`.

use bstr::ByteSlice;

use super::page::Ssi;
use crate::http::escape::{Unescape, escape_shell_cmd, unescape_url};
use crate::log::{Level, rerror, shown};
use crate::os::clock;
use crate::regex::{Captures, MAX_REG_MATCH};
use crate::request::Request;
use crate::request::variables::c_string;

/// What the last regular expression of a condition captured: `backref_t`.
#[derive(Default)]
pub(super) struct Captured {
    pub(super) source: Vec<u8>,
    pub(super) pattern: Option<Vec<u8>>,
    pub(super) groups: usize,
    pub(super) captures: Option<Captures>,
}

/// Variables whose value is made when it is asked for; until then it is empty.
const LAZY: [&str; 4] = ["DATE_LOCAL", "DATE_GMT", "LAST_MODIFIED", "USER_NAME"];

/// `add_include_vars`.
pub(super) fn add_include_vars(r: &mut Request) {
    for name in &LAZY[..3] {
        r.subprocess_env.set(name, "");
    }
    r.subprocess_env.set("DOCUMENT_URI", &r.uri);
    r.subprocess_env.set("DOCUMENT_ARGS", r.args.as_deref().map_or(&b""[..], |args| args));
    if !r.path_info.is_empty() {
        r.subprocess_env.set("DOCUMENT_PATH_INFO", &r.path_info);
    }
    r.subprocess_env.set("USER_NAME", "");
    let name = r.filename.rfind_byte(b'/').map(|slash| &r.filename[slash + 1..]);
    r.subprocess_env.set("DOCUMENT_NAME", name.unwrap_or(&r.uri));
    if r.args.is_some() {
        add_unescaped(r);
    }
}

fn add_unescaped(r: &mut Request) {
    let mut args = r.args.clone().unwrap_or_default().to_vec();
    let _ = unescape_url(&mut args, Unescape::FORBID_SLASHES);
    r.subprocess_env.set("QUERY_STRING_UNESCAPED", escape_shell_cmd(&args));
}

/// The query of the page, also of one that is included.
pub(super) fn add_query(r: &mut Request) {
    if let Some(args) = &r.args {
        r.subprocess_env.set("QUERY_STRING", args);
        add_unescaped(r);
    }
}

/// A time as `ap_ht_time` writes it.
pub(super) fn time(format: &[u8], micros: i64, utc: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let format = c_string(format);
    let secs = micros.div_euclid(1_000_000);
    match utc {
        true => clock::strftime_utc(&format, secs, &mut out),
        false => clock::strftime(&format, secs, &mut out),
    }
    out
}

/// `add_include_vars_lazy`.
pub(super) fn make_lazy(r: &mut Request, name: &str, format: &[u8]) -> Option<Vec<u8>> {
    let changed = r.finfo.map_or(0, |file| file.mtime);
    let value = match name.to_ascii_uppercase().as_str() {
        "DATE_LOCAL" => time(format, r.request_time, false),
        "DATE_GMT" => time(format, r.request_time, true),
        "LAST_MODIFIED" => time(format, changed, false),
        "USER_NAME" => {
            let uid = r.finfo.map(|file| nix::unistd::Uid::from_raw(file.uid));
            let user = uid.and_then(|uid| nix::unistd::User::from_uid(uid).ok().flatten());
            user.map_or_else(|| b"<unknown>".to_vec(), |user| user.name.into_bytes())
        }
        _ => return None,
    };
    r.subprocess_env.set(name, &value);
    Some(value)
}

/// A variable's value: `get_include_var`.
pub(super) fn variable(r: &mut Request, ssi: &Ssi, name: &[u8]) -> Option<Vec<u8>> {
    if let [digit @ b'0'..=b'9'] = name {
        let index = usize::from(digit - b'0');
        let (file, level) = (&r.filename, Level::Warn);
        let Some((captured, captures)) = ssi.captured.as_ref().and_then(|c| Some((c, c.captures.as_ref()?)))
        else {
            rerror!(r, level, "include", "AH01329", "regex capture ${index} refers to no regex in {file}");
            return None;
        };
        if captured.groups < index || index >= MAX_REG_MATCH {
            let pattern = captured.pattern.as_deref().map_or("(null)".into(), shown);
            rerror!(
                r,
                level,
                "include",
                "AH01330",
                "regex capture ${index} is out of range (last regex was: '{pattern}') in {file}"
            );
            return None;
        }
        let (from, to) = captures.get(index)?;
        return captured.source.get(from..to).map(<[u8]>::to_vec);
    }
    let name = name.to_str().ok()?;
    let value = r.subprocess_env.get(name)?;
    if value.is_empty()
        && let Some(lazy) = LAZY.iter().find(|lazy| lazy.eq_ignore_ascii_case(name))
    {
        return make_lazy(r, lazy, &ssi.time_format);
    }
    Some(value.to_vec())
}

/// Puts the values of variables into a text. A variable that isn't set becomes nothing, or stays with `leave_name`.
pub(super) fn expand(r: &mut Request, ssi: &Ssi, text: &[u8], leave_name: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = text.get(at) {
        match c {
            b'\\' => {
                if text.get(at + 1) == Some(&b'$') {
                    at += 1;
                }
                out.push(text[at]);
                at += 1;
            }
            b'$' => {
                let behind = &text[at + 1..];
                let (name, next) = if behind.first() == Some(&b'{') {
                    let Some(close) = behind.find_byte(b'}') else {
                        rerror!(
                            r,
                            Level::Error,
                            "include",
                            "AH01331",
                            "Missing '}}' on variable \"{}\" in {}",
                            shown(&behind[1..]),
                            r.filename
                        );
                        break;
                    };
                    (&behind[1..close], at + close + 2)
                } else {
                    let is_name = |c: &u8| *c == b'_' || c.is_ascii_alphanumeric();
                    let length = behind.iter().take_while(|c| is_name(c)).count();
                    (&behind[..length], at + 1 + length)
                };
                if name.is_empty() {
                    out.push(b'$');
                    at += 1;
                    continue;
                }
                match variable(r, ssi, name) {
                    Some(value) => out.extend_from_slice(&value),
                    // Up to the brace, not with it, as Apache.
                    None if leave_name => {
                        out.extend_from_slice(&text[at..next - usize::from(behind[0] == b'{')]);
                    }
                    None => {}
                }
                at = next;
            }
            c => {
                out.push(c);
                at += 1;
            }
        }
    }
    out
}

/// The entities of ISO 8859-1, and the byte that each stands for.
const ENTITIES: [(&str, u8); 66] = [
    ("lt", b'<'),
    ("gt", b'>'),
    ("amp", b'&'),
    ("ETH", 0o320),
    ("eth", 0o360),
    ("quot", b'"'),
    ("Auml", 0o304),
    ("Euml", 0o313),
    ("Iuml", 0o317),
    ("Ouml", 0o326),
    ("Uuml", 0o334),
    ("auml", 0o344),
    ("euml", 0o353),
    ("iuml", 0o357),
    ("ouml", 0o366),
    ("uuml", 0o374),
    ("yuml", 0o377),
    ("Acirc", 0o302),
    ("Aring", 0o305),
    ("AElig", 0o306),
    ("Ecirc", 0o312),
    ("Icirc", 0o316),
    ("Ocirc", 0o324),
    ("Ucirc", 0o333),
    ("THORN", 0o336),
    ("szlig", 0o337),
    ("acirc", 0o342),
    ("aring", 0o345),
    ("aelig", 0o346),
    ("ecirc", 0o352),
    ("icirc", 0o356),
    ("ocirc", 0o364),
    ("ucirc", 0o373),
    ("thorn", 0o376),
    ("Agrave", 0o300),
    ("Aacute", 0o301),
    ("Atilde", 0o303),
    ("Ccedil", 0o307),
    ("Egrave", 0o310),
    ("Eacute", 0o311),
    ("Igrave", 0o314),
    ("Iacute", 0o315),
    ("Ntilde", 0o321),
    ("Ograve", 0o322),
    ("Oacute", 0o323),
    ("Otilde", 0o325),
    ("Oslash", 0o330),
    ("Ugrave", 0o331),
    ("Uacute", 0o332),
    ("Yacute", 0o335),
    ("agrave", 0o340),
    ("aacute", 0o341),
    ("atilde", 0o343),
    ("ccedil", 0o347),
    ("egrave", 0o350),
    ("eacute", 0o351),
    ("igrave", 0o354),
    ("iacute", 0o355),
    ("ntilde", 0o361),
    ("ograve", 0o362),
    ("oacute", 0o363),
    ("otilde", 0o365),
    ("oslash", 0o370),
    ("ugrave", 0o371),
    ("uacute", 0o372),
    ("yacute", 0o375),
];

/// Puts characters in place of entities; unknown ones stay, numbers of no character vanish.
pub(super) fn decode_html(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find_byte(b'&') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find_byte(b';') else { break };
        let name = &rest[1..end];
        if let Some(digits) = name.strip_prefix(b"#") {
            let number = digits.iter().try_fold(0u32, |number, c| {
                c.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u32::from(c - b'0')))
            });
            match number {
                None | Some(0..=8 | 11..=31 | 127..=160 | 256..) => {}
                Some(code) => out.push(code as u8),
            }
            rest = &rest[end + 1..];
            continue;
        }
        match ENTITIES.iter().find(|(entity, _)| entity.as_bytes() == name) {
            Some(&(_, c)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                out.push(b'&');
                rest = &rest[1..];
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::decode_html;

    #[test]
    fn entities() {
        let decoded = |text: &str| String::from_utf8_lossy(&decode_html(text.as_bytes())).into_owned();
        assert_eq!(decoded("a &lt;&amp;lt;&quot; b"), "a <&lt;\" b");
        assert_eq!(decoded("&nope; &#65;&#00;&#6x;&unfinished"), "&nope; A&unfinished");
        assert_eq!(decode_html(b"&szlig;&Agrave;"), [0o337, 0o300]);
    }
}
