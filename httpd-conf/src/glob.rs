//! Wildcards.
//!
//! Answers to APR's `apr_fnmatch_test` and to `apr_fnmatch` with APR_FNM_PERIOD, as `Include` uses them: `*`,
//! `?`, `[…]`, a backslash before what is meant literally, and no match of a leading `.` by anything but a
//! `.`.

/// Whether `pattern` has a wildcard in it.
pub fn fnmatch_test(pattern: &[u8]) -> bool {
    let mut open = false;
    let mut bytes = pattern.iter();
    while let Some(b) = bytes.next() {
        match b {
            b'?' | b'*' => return true,
            b'\\' if bytes.next().is_none() => return false,
            b'[' => open = true,
            b']' if open => return true,
            _ => {}
        }
    }
    false
}

/// Whether `name`, without slashes, matches `pattern`.
pub fn fnmatch(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && !(pattern.starts_with(b".") || pattern.starts_with(b"\\.")) {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    // Where to go on after a mismatch: behind the last `*`, with one more byte of the name eaten by it.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, n));
            continue;
        }
        match (pattern.get(p), name.get(n)) {
            (None, None) => return true,
            (Some(_), Some(byte)) => {
                if let Some(next) = one(pattern, p, *byte) {
                    p = next;
                    n += 1;
                    continue;
                }
            }
            _ => {}
        }
        match retry {
            Some((after, eaten)) if eaten < name.len() => {
                retry = Some((after, eaten + 1));
                (p, n) = (after, eaten + 1);
            }
            _ => return false,
        }
    }
}

/// If the element of the pattern at `p` matches `byte`: where the next element is.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    let c = *pattern.get(p)?;
    match c {
        b'?' => Some(p + 1),
        b'[' => match set(pattern, p + 1, byte) {
            Some((hit, next)) => hit.then_some(next),
            None => (byte == b'[').then_some(p + 1),
        },
        b'\\' if p + 1 < pattern.len() => (pattern.get(p + 1) == Some(&byte)).then_some(p + 2),
        _ => (byte == c).then_some(p + 1),
    }
}

/// The set whose inside begins at `p`: whether it has `byte`, and where it ends; `None` if it is never
/// closed, and so no set.
fn set(pattern: &[u8], mut p: usize, byte: u8) -> Option<(bool, usize)> {
    let negate = matches!(pattern.get(p), Some(b'!' | b'^'));
    if negate {
        p += 1;
    }
    let mut hit = false;
    let mut first = true;
    loop {
        let mut c = *pattern.get(p)?;
        if c == b']' && !first {
            return Some((hit != negate, p + 1));
        }
        if c == b'\\' {
            p += 1;
            c = *pattern.get(p)?;
        }
        first = false;
        if pattern.get(p + 1) == Some(&b'-') && pattern.get(p + 2).is_some_and(|b| *b != b']') {
            p += if pattern.get(p + 2) == Some(&b'\\') { 3 } else { 2 };
            let end = *pattern.get(p)?;
            // APR compares `char`, which is signed.
            hit |= (byte as i8) >= (c as i8) && (byte as i8) <= (end as i8);
        } else {
            hit |= byte == c;
        }
        p += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_wildcard() {
        for (pattern, yes) in [
            ("a", false),
            ("a*", true),
            ("a?", true),
            ("[a", false),
            ("a]", false),
            ("[a]", true),
            ("\\*", false),
            ("\\", false),
        ] {
            assert_eq!(fnmatch_test(pattern.as_bytes()), yes, "{pattern}");
        }
    }

    #[test]
    fn matching() {
        for (pattern, name, yes) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            (".*", ".conf", true),
            ("\\.*", ".conf", true),
            ("[.]*", ".conf", false),
            ("*", "", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYb", false),
            ("?", "ab", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]]", "]", true),
            ("[a\\]]", "]", true),
            ("[a", "[a", true),
            ("[a", "a", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a\\", "a\\", true),
            ("0[0-9]-*.conf", "01-x.conf", true),
        ] {
            assert_eq!(fnmatch(pattern.as_bytes(), name.as_bytes()), yes, "{pattern} {name}");
        }
    }
}
