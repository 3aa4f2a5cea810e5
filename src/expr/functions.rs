//! Functions of text, and the operators' tests that need nothing but their arguments: server/util_expr_eval.c,
//! `ap_escape_uri` and `ap_unescape_url_keep2f` of server/util.c, `apr_pescape_ldap` and `apr_base64_decode` of apr.

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::{Digest, Md5};
use sha1::Sha1;

/// A function of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    OsEnv,
    Env,
    Resp,
    Req,
    Note,
    ReqEnv,
    ReqNoVary,
    ToLower,
    ToUpper,
    Escape,
    Unescape,
    File,
    FileSize,
    Base64,
    Unbase64,
    Sha1,
    Md5,
    Ldap,
}

/// Names of functions; `http` is mod_ssl's old name for `req`.
const FUNCTIONS: [(&str, Function); 19] = [
    ("osenv", Function::OsEnv),
    ("env", Function::Env),
    ("resp", Function::Resp),
    ("req", Function::Req),
    ("http", Function::Req),
    ("note", Function::Note),
    ("reqenv", Function::ReqEnv),
    ("req_novary", Function::ReqNoVary),
    ("tolower", Function::ToLower),
    ("toupper", Function::ToUpper),
    ("escape", Function::Escape),
    ("unescape", Function::Unescape),
    ("file", Function::File),
    ("filesize", Function::FileSize),
    ("base64", Function::Base64),
    ("unbase64", Function::Unbase64),
    ("sha1", Function::Sha1),
    ("md5", Function::Md5),
    ("ldap", Function::Ldap),
];

impl Function {
    /// The function of that name in any case, with its name as the table has it.
    pub(super) fn by_name(name: &str) -> Option<(&'static str, Function)> {
        FUNCTIONS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
    }
}

/// What Apache takes a C string to be: all before the first NUL.
pub(super) fn c_string(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(nul) = text.iter().position(|&c| c == 0) {
        text.truncate(nul);
    }
    text
}

/// Percent-encodes what does not belong in a path (`ap_escape_uri`).
pub(super) fn escape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    for &c in text {
        if c.is_ascii_alphanumeric() || b"$-_.+!*'(),:;@&=/~".contains(&c) {
            out.push(c);
        } else {
            out.push(b'%');
            out.extend(hex(c));
        }
    }
    out
}

/// Why [`unescape`] fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadEscape {
    /// A `%` without two hexadecimal digits.
    Bad,
    /// `%00`.
    Forbidden,
}

/// Decodes percent-encoding, `%2f` excepted.
pub(super) fn unescape(text: &[u8]) -> Result<Vec<u8>, BadEscape> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    let mut forbidden = false;
    let mut bad = false;
    while let Some((&c, tail)) = rest.split_first() {
        rest = tail;
        if c != b'%' {
            out.push(c);
            continue;
        }
        match tail {
            [high, low, after @ ..] if let (Some(h), Some(l)) = (digit(*high), digit(*low)) => {
                match h << 4 | l {
                    b'/' => out.extend([b'%', *high, *low]),
                    0 => forbidden = true,
                    decoded => out.push(decoded),
                }
                rest = after;
            }
            _ => bad = true,
        }
    }
    match (bad, forbidden) {
        (true, _) => Err(BadEscape::Bad),
        (false, true) => Err(BadEscape::Forbidden),
        _ => Ok(out),
    }
}

fn digit(c: u8) -> Option<u8> {
    char::from(c).to_digit(16).and_then(|d| d.try_into().ok())
}

fn hex(c: u8) -> [u8; 2] {
    let digit = |d: u8| if d < 10 { b'0' + d } else { b'a' + d - 10 };
    [digit(c >> 4), digit(c & 15)]
}

fn hex_of(digest: &[u8]) -> Vec<u8> {
    digest.iter().copied().flat_map(hex).collect()
}

pub(super) fn sha1(text: &[u8]) -> Vec<u8> {
    hex_of(&Sha1::digest(text))
}

pub(super) fn md5(text: &[u8]) -> Vec<u8> {
    hex_of(&Md5::digest(text))
}

pub(super) fn base64(text: &[u8]) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.encode(text).into_bytes()
}

/// Decodes up to the first character that does not belong to base64, whatever it is.
pub(super) fn unbase64(text: &[u8]) -> Vec<u8> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &ALPHABET,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let is_base64 = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/');
    let mut valid = text.iter().position(|c| !is_base64(c)).unwrap_or(text.len());
    // A last character alone has too few bits for a byte.
    valid -= usize::from(valid % 4 == 1);
    c_string(LENIENT.decode(text.get(..valid).unwrap_or_default()).unwrap_or_default())
}

/// Escapes for both filters and names of LDAP (`APR_ESCAPE_LDAP_ALL`).
pub(super) fn ldap(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    for &c in text {
        if c.is_ascii_control() || !c.is_ascii() || b"\"()*+,;<>\\".contains(&c) {
            out.push(b'\\');
            out.extend(hex(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// The number that a text starts with (`apr_atoi64`): blanks, a sign, digits; clamped to 64 bits.
pub(super) fn integer(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let text = match text {
        // C counts the vertical tab among the blanks.
        [b'\x0b', rest @ ..] => return integer(rest),
        _ => text,
    };
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    digits.iter().take_while(|c| c.is_ascii_digit()).fold(0i64, |n, c| {
        let d = i64::from(c - b'0');
        n.saturating_mul(10).saturating_add(if negative { -d } else { d })
    })
}

/// `-T`: not empty, `0`, `off`, `no` or `false`.
pub(super) fn is_true(text: &[u8]) -> bool {
    !(text.is_empty()
        || text == b"0"
        || ["off", "no", "false"].iter().any(|w| text.eq_ignore_ascii_case(w.as_bytes())))
}

/// mod_ssl's old order of texts: the shorter is less, then bytes as C's signed `char`.
pub(super) fn compare_ssl(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let signed = |&c: &u8| c as i8;
    a.len().cmp(&b.len()).then_with(|| a.iter().map(signed).cmp(b.iter().map(signed)))
}
