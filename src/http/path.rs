//! Paths of URLs made canonical: `ap_normalize_path`, `ap_getparents` and `ap_no2slash` of `server/util.c`.

/// What [`normalize`] does beyond removing dot segments (`AP_NORMALIZE_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Normalize {
    /// Take paths that do not start with a slash.
    pub allow_relative: bool,
    /// Fail where `..` leads above the root.
    pub not_above_root: bool,
    /// Decode escapes of characters that need none (RFC 3986 2.3), and fail at escapes that are none.
    pub decode_unreserved: bool,
    /// Make one slash of several.
    pub merge_slashes: bool,
}

/// Removes `.` and `..` segments in place; says whether the path is a good one.
pub fn normalize(path: &mut Vec<u8>, how: Normalize) -> bool {
    let at = |p: &[u8], i: usize| p.get(i).copied().unwrap_or(0);
    let ends_segment = |p: &[u8], i: usize| matches!(at(p, i), 0 | b'/');
    let (mut read, mut write) = (1, 1);
    if path.first() != Some(&b'/') {
        if path == b"*" {
            return true;
        }
        if !how.allow_relative || path.is_empty() {
            return false;
        }
        (read, write) = (0, 0);
    }
    let mut good = true;
    while read < path.len() {
        if how.decode_unreserved && path[read] == b'%' {
            match hex_pair(&path[read + 1..]) {
                Some(c) if is_unreserved(c) => {
                    read += 2;
                    path[read] = c;
                }
                Some(_) => {}
                None => good = false,
            }
        }
        if write == 0 || path[write - 1] == b'/' {
            if how.merge_slashes && path[read] == b'/' {
                while at(path, read) == b'/' {
                    read += 1;
                }
                continue;
            }
            if path[read] == b'.' {
                if ends_segment(path, read + 1) {
                    read += 2;
                    continue;
                }
                // The second dot may still be escaped, as only the byte at hand was decoded.
                let escaped = how.decode_unreserved
                    && path[read + 1..].get(..3).is_some_and(|e| e.eq_ignore_ascii_case(b"%2e"));
                let last = if escaped { read + 3 } else { read + 1 };
                if (escaped || at(path, last) == b'.') && ends_segment(path, last + 1) {
                    if write > 1 {
                        write -= 1;
                        while write > 0 && path[write - 1] != b'/' {
                            write -= 1;
                        }
                    } else if how.not_above_root {
                        good = false;
                    }
                    read = last + 2;
                    continue;
                }
            }
        }
        path[write] = path[read];
        write += 1;
        read += 1;
    }
    path.truncate(write);
    good
}

/// Removes `.` and `..` segments; a path that leads above its root becomes empty (`ap_getparents`).
pub fn getparents(path: &mut Vec<u8>) {
    if !normalize(path, Normalize { allow_relative: true, not_above_root: true, ..Normalize::default() }) {
        path.clear();
    }
}

/// Makes one slash of several (`ap_no2slash`).
pub fn no2slash(path: &mut Vec<u8>) {
    path.dedup_by(|next, before| *next == b'/' && *before == b'/');
}

/// The byte that two hexadecimal digits at the start of `text` stand for.
pub(super) fn hex_pair(text: &[u8]) -> Option<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    Some(digit(*text.first()?)? << 4 | digit(*text.get(1)?)?)
}

/// RFC 3986 2.3
pub(super) fn is_unreserved(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~')
}
