//! Maps in SDBM files, as `httxt2dbm -f sdbm` writes them: `lookup_map_dbmfile`, `apr_sdbm`.
//!
//! The pages are looked through one after the other; what was found is remembered for the version of the file.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

/// `PBLKSIZ`
const PAGE: usize = 1024;

/// The value of `key` in the pages of the file.
pub(super) fn find(file: &[u8], key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let content = std::fs::read(OsStr::from_bytes(file))?;
    Ok(content.chunks_exact(PAGE).find_map(|page| in_page(page, key)).map(<[u8]>::to_vec))
}

/// A page begins with the number of offsets, then comes where each key and each value begins; they lie from the page's
/// end downwards.
fn in_page<'p>(page: &'p [u8], key: &[u8]) -> Option<&'p [u8]> {
    let number = |index: usize| {
        let bytes = page.get(2 * index..2 * index + 2)?;
        Some(usize::from(u16::from_ne_bytes(bytes.try_into().ok()?)))
    };
    let count = number(0)?;
    let mut end = page.len();
    for index in (1..count).step_by(2) {
        let (key_at, value_at) = (number(index)?, number(index + 1)?);
        if page.get(key_at..end)? == key {
            return page.get(value_at..key_at);
        }
        end = value_at;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_a_page() {
        let mut page = vec![0; PAGE];
        for (at, number) in [4_u16, 1021, 1020, 1017, 1016].iter().enumerate() {
            page[2 * at..2 * at + 2].copy_from_slice(&number.to_ne_bytes());
        }
        page[1016..].copy_from_slice(b"2two1one");
        assert_eq!(in_page(&page, b"one"), Some(&b"1"[..]));
        assert_eq!(in_page(&page, b"two"), Some(&b"2"[..]));
        assert_eq!(in_page(&page, b"three"), None);
        page[0] = 0xff;
        page[1] = 0xff;
        assert_eq!(in_page(&page, b"three"), None);
    }
}
