//! Berkeley DB: hash files as APR makes them, and B-trees, which it reads, too. Without encryption and checksums.

use std::cmp::Ordering;
use std::fs::File;
use std::io;

use super::{open, own_error, read_at, u16_at, u32_at};

const HASH_MAGIC: u32 = 0x0006_1561;
const BTREE_MAGIC: u32 = 0x0005_3162;
/// The versions of files whose pages look so, since Berkeley DB 3.
const HASH_VERSIONS: std::ops::RangeInclusive<u32> = 7..=10;
const BTREE_VERSIONS: std::ops::RangeInclusive<u32> = 8..=10;
/// The part of the first page that is looked at.
const META: usize = 512;
/// What a page has before the offsets of its items.
const PAGE_HEAD: usize = 26;
const LEAST_PAGE: u32 = 512;
const MOST_PAGE: u32 = 65536;

/// Page types.
const INTERNAL: u8 = 3;
const LEAF: u8 = 5;
const OVERFLOW: u8 = 7;
/// Item types of a hash page.
const H_KEYDATA: u8 = 1;
const H_DUPLICATE: u8 = 2;
const H_OFFPAGE: u8 = 3;
/// Item types of a B-tree's page.
const B_KEYDATA: u8 = 1;
const B_OVERFLOW: u8 = 3;

/// What is hashed to tell the hash function.
const CHARKEY: &[u8] = b"%$sniglet^&\0";

/// A file and what its first page says.
pub struct Berkeley {
    file: File,
    page_size: usize,
    /// How many pages there are.
    pages: u64,
    access: Access,
}

enum Access {
    Hash { max_bucket: u32, high_mask: u32, low_mask: u32, spares: Vec<u32> },
    Btree { root: u32 },
}

impl Berkeley {
    /// Opens the file at `path`.
    pub(super) fn open(path: &[u8]) -> io::Result<Berkeley> {
        let file = open(path).map_err(|err| own_error(err.raw_os_error().unwrap_or(libc::EIO)))?;
        Berkeley::of(file).ok_or_else(|| own_error(libc::EINVAL))
    }

    fn of(file: File) -> Option<Berkeley> {
        let meta = read_at(&file, 0, META)?;
        let number = |at| u32_at(&meta, at);
        let page_size = number(20)?;
        let plain = meta[24] == 0 && meta[26] & 1 == 0;
        if !plain || !page_size.is_power_of_two() || !(LEAST_PAGE..=MOST_PAGE).contains(&page_size) {
            return None;
        }
        let version = number(16)?;
        let access = match number(12)? {
            HASH_MAGIC if HASH_VERSIONS.contains(&version) && number(92)? == hash(CHARKEY) => Access::Hash {
                max_bucket: number(72)?,
                high_mask: number(76)?,
                low_mask: number(80)?,
                spares: (0..32).map_while(|index| number(96 + 4 * index)).collect(),
            },
            BTREE_MAGIC if BTREE_VERSIONS.contains(&version) => Access::Btree { root: number(88)? },
            _ => return None,
        };
        let pages = file.metadata().ok()?.len() / u64::from(page_size);
        Some(Berkeley { page_size: usize::try_from(page_size).ok()?, pages, access, file })
    }

    /// The value of `key`, the first one if there are several.
    pub(super) fn fetch(&self, key: &[u8]) -> Option<Vec<u8>> {
        match &self.access {
            Access::Hash { max_bucket, high_mask, low_mask, spares } => {
                let hash = hash(key);
                let mut bucket = hash & high_mask;
                if bucket > *max_bucket {
                    bucket &= low_mask;
                }
                // Buckets are made by doubling: each doubling lies together, somewhere.
                let doubling = bucket.checked_add(1)?.checked_next_power_of_two()?.trailing_zeros();
                let first = bucket.checked_add(*spares.get(usize::try_from(doubling).ok()?)?)?;
                self.chain(first).find_map(|page| self.in_bucket(&page, key))
            }
            Access::Btree { root } => self.in_tree(*root, key),
        }
    }

    fn page(&self, number: u32) -> Option<Page> {
        let bytes = read_at(&self.file, u64::from(number) * self.page_size as u64, self.page_size)?;
        Some(Page(bytes))
    }

    /// A page and those that follow it; no more than there are.
    fn chain(&self, first: u32) -> impl Iterator<Item = Page> + '_ {
        let mut next = Some(first);
        (0..=self.pages).map_while(move |_| {
            let page = self.page(next?)?;
            next = page.next();
            Some(page)
        })
    }

    /// What is too long for a page.
    fn overflow(&self, first: u32, len: usize) -> Option<Vec<u8>> {
        let mut data = Vec::new();
        for page in self.chain(first).take_while(|page| page.kind() == OVERFLOW) {
            data.extend_from_slice(page.0.get(PAGE_HEAD..)?.get(..usize::from(u16_at(&page.0, 22)?))?);
            if data.len() >= len {
                break;
            }
        }
        (data.len() == len).then_some(data)
    }

    /// The address and the length of what lies elsewhere; both kinds of page have them at the same place.
    fn elsewhere(&self, item: &[u8]) -> Option<Vec<u8>> {
        self.overflow(u32_at(item, 4)?, usize::try_from(u32_at(item, 8)?).ok()?)
    }

    /// The value of `key` on one page of a hash: keys and values take turns.
    fn in_bucket(&self, page: &Page, key: &[u8]) -> Option<Vec<u8>> {
        let index = (0..page.count())
            .step_by(2)
            .find(|&index| self.hash_item(page, index).is_some_and(|found| found == key))?;
        self.hash_item(page, index + 1)
    }

    fn hash_item(&self, page: &Page, index: usize) -> Option<Vec<u8>> {
        let end = if index == 0 { self.page_size } else { page.offset(index - 1)? };
        let item = page.0.get(page.offset(index)?..end)?;
        match *item.first()? {
            H_KEYDATA => Some(item[1..].to_vec()),
            H_DUPLICATE => {
                let len = usize::from(u16_at(item, 1)?);
                Some(item.get(3..)?.get(..len)?.to_vec())
            }
            H_OFFPAGE => self.elsewhere(item),
            _ => None,
        }
    }

    fn in_tree(&self, root: u32, key: &[u8]) -> Option<Vec<u8>> {
        let mut number = root;
        // No tree is as deep as that.
        for _ in 0..32 {
            let page = self.page(number)?;
            match page.kind() {
                INTERNAL => number = self.child(&page, key)?,
                LEAF => return self.in_leaf(&page, key),
                _ => return None,
            }
        }
        None
    }

    /// The last child that doesn't begin behind `key`; the first one begins before everything.
    fn child(&self, page: &Page, key: &[u8]) -> Option<u32> {
        let behind = |index: &usize| {
            let item = page.item(*index)?;
            let found = match item.get(2)? & 0x7f {
                B_OVERFLOW => self.elsewhere(item.get(12..)?)?,
                _ => item.get(12..)?.get(..usize::from(u16_at(item, 0)?))?.to_vec(),
            };
            Some(found.as_slice().cmp(key) == Ordering::Greater)
        };
        let mut chosen = 0;
        for index in 1..page.count() {
            if behind(&index)? {
                break;
            }
            chosen = index;
        }
        u32_at(page.item(chosen)?, 4)
    }

    fn in_leaf(&self, page: &Page, key: &[u8]) -> Option<Vec<u8>> {
        let index = (0..page.count())
            .step_by(2)
            .find(|&index| self.tree_item(page, index).is_some_and(|found| found == key))?;
        self.tree_item(page, index + 1)
    }

    fn tree_item(&self, page: &Page, index: usize) -> Option<Vec<u8>> {
        let item = page.item(index)?;
        match *item.get(2)? {
            B_KEYDATA => Some(item.get(3..)?.get(..usize::from(u16_at(item, 0)?))?.to_vec()),
            B_OVERFLOW => self.elsewhere(item),
            // What was deleted has the highest bit.
            _ => None,
        }
    }
}

struct Page(Vec<u8>);

impl Page {
    fn next(&self) -> Option<u32> {
        u32_at(&self.0, 16).filter(|&number| number != 0)
    }
    fn kind(&self) -> u8 {
        self.0.get(25).copied().unwrap_or_default()
    }
    /// How many items it has.
    fn count(&self) -> usize {
        u16_at(&self.0, 20).map_or(0, usize::from)
    }
    fn offset(&self, index: usize) -> Option<usize> {
        u16_at(&self.0, PAGE_HEAD + 2 * index).map(usize::from)
    }
    /// The item of a tree's page; it says itself how long it is.
    fn item(&self, index: usize) -> Option<&[u8]> {
        self.0.get(self.offset(index)?..)
    }
}

/// The hash function of Fowler, Noll and Vo, which starts from 0: `__ham_func5`.
fn hash(key: &[u8]) -> u32 {
    key.iter().fold(0, |hash: u32, &byte| hash.wrapping_mul(16_777_619) ^ u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes() {
        // As it stands in files that `htdbm` made.
        assert_eq!(hash(CHARKEY), 0x5e68_8dd1);
    }
}
