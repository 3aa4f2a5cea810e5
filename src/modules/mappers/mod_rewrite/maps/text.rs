//! Maps in text files: `lookup_map_txtfile`, `select_random_value_part`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::super::arguments::is_space;

/// `REWRITE_MAX_TXT_MAP_LINE`: longer lines are taken apart.
const MAX_LINE: usize = 1024;

/// The value of `key`: the second word of the first line whose first word it is.
pub(super) fn find(file: &[u8], key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let content = std::fs::read(OsStr::from_bytes(file))?;
    let lines = content.split_inclusive(|&c| c == b'\n').flat_map(|line| line.chunks(MAX_LINE));
    Ok(lines.into_iter().find_map(|line| value_of(line, key)).map(<[u8]>::to_vec))
}

fn value_of<'l>(line: &'l [u8], key: &[u8]) -> Option<&'l [u8]> {
    if line.first().is_none_or(|&c| c == b'#' || is_space(c)) || key.iter().any(|&c| is_space(c)) {
        return None;
    }
    let rest = line.strip_prefix(key).filter(|rest| rest.first().copied().is_some_and(is_space))?;
    let start = rest.iter().position(|&c| !is_space(c))?;
    rest[start..].split(|&c| is_space(c)).next()
}

/// One of the values that `|` separates.
pub(super) fn pick(value: &[u8]) -> &[u8] {
    let count = value.split(|&c| c == b'|').count();
    let index = random_below(count);
    value.split(|&c| c == b'|').nth(index).unwrap_or(value)
}

fn random_below(count: usize) -> usize {
    use std::hash::{BuildHasher, RandomState};
    // Each `RandomState` is another one.
    (RandomState::new().hash_one(0) % count.max(1) as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(value_of(b"key \t value more\n", b"key"), Some(&b"value"[..]));
        assert_eq!(value_of(b"keys value\n", b"key"), None);
        assert_eq!(value_of(b"key \n", b"key"), None);
        assert_eq!(value_of(b"# value\n", b"#"), None);
    }

    #[test]
    fn one_of_several() {
        assert_eq!(pick(b"only"), b"only");
        assert!([&b"a"[..], b"b"].contains(&pick(b"a|b")));
    }
}
