//! SDBM: pages of pairs in a `.pag` file; the bits of a tree in the `.dir` file say which page a hash belongs to.

use std::fs::File;
use std::io;

use super::{open, u16_at};

/// `PBLKSIZ`
const PAGE: usize = 1024;
/// More bits than a hash has are not looked at.
const MOST_BITS: u32 = 31;

/// Both files of a database.
pub struct Sdbm {
    pages: File,
    /// The whole of the `.dir` file: a bit for each page at most.
    tree: Vec<u8>,
}

impl Sdbm {
    /// Opens `path.pag` and reads `path.dir`.
    pub(super) fn open(path: &[u8]) -> io::Result<Sdbm> {
        let mut tree = Vec::new();
        io::Read::read_to_end(&mut open(&[path, b".dir"].concat())?, &mut tree)?;
        let pages = open(&[path, b".pag"].concat())?;
        Ok(Sdbm { pages, tree })
    }

    /// The value of `key`.
    pub(super) fn fetch(&self, key: &[u8]) -> Option<Vec<u8>> {
        let number = page_number(&self.tree, hash(key));
        let page = super::read_at(&self.pages, number * PAGE as u64, PAGE)?;
        in_page(&page, key).map(<[u8]>::to_vec)
    }
}

/// `sdbm_hash`; its characters have signs.
fn hash(key: &[u8]) -> u64 {
    key.iter().fold(0_u64, |hash, &byte| hash.wrapping_mul(65599).wrapping_add(byte as i8 as u64))
}

/// Goes down the tree as far as its bits are set: each level takes one more bit of the hash. `getpage`
fn page_number(tree: &[u8], hash: u64) -> u64 {
    let (mut node, mut bits) = (0_u64, 0);
    let is_split = |node: u64| {
        let byte = usize::try_from(node / 8).ok().and_then(|at| tree.get(at));
        byte.is_some_and(|byte| byte & (1 << (node % 8)) != 0)
    };
    while bits < MOST_BITS && is_split(node) {
        node = 2 * node + if hash & (1 << bits) == 0 { 1 } else { 2 };
        bits += 1;
    }
    hash & ((1 << bits) - 1)
}

/// A page begins with the number of offsets, then comes where each key and each value begins; they lie from the page's
/// end downwards.
fn in_page<'p>(page: &'p [u8], key: &[u8]) -> Option<&'p [u8]> {
    let number = |index: usize| u16_at(page, 2 * index).map(usize::from);
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

    #[test]
    fn pages_of_a_tree() {
        assert_eq!(page_number(&[], 5), 0);
        // The root is split, and its right half once more.
        assert_eq!(page_number(&[0b101], 0b110), 0b0);
        assert_eq!(page_number(&[0b101], 0b111), 0b11);
        assert_eq!(page_number(&[0xff; 4], u64::MAX), 0b1_1111);
    }
}
