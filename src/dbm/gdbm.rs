//! GDBM: a directory of buckets, whose places say where in the file each pair lies.

use std::fs::File;
use std::io;

use super::{open, own_error, read_at, u32_at, u64_at};

/// The first number of a file with offsets of 64 bits, and of one that also counts when it was written.
const MAGIC: [u32; 2] = [0x1357_9acf, 0x1357_9ad1];
/// What the header has at its beginning, as far as it matters here.
const HEADER: usize = 32;
/// Shorter files end within the header.
const LEAST: u64 = 64;
/// What a bucket has before its places: free space of the file, its depth, how many places are taken.
const BUCKET_HEAD: usize = 112;
/// A place: hash, beginning of the key, where the pair lies, how long key and value are.
const PLACE: usize = 24;
/// `GDBM_FILE_OPEN_ERROR`, `GDBM_BAD_MAGIC_NUMBER`, `GDBM_EMPTY_DATABASE`, `GDBM_FILE_EOF`
const FILE_OPEN_ERROR: i32 = 3;
const BAD_MAGIC_NUMBER: i32 = 7;
const EMPTY_DATABASE: i32 = 8;
const FILE_EOF: i32 = 25;

/// A file and what its header says.
pub struct Gdbm {
    file: File,
    len: u64,
    directory: u64,
    directory_bits: u32,
    bucket_size: usize,
    places: u32,
}

impl Gdbm {
    /// Opens the file at `path`.
    pub(super) fn open(path: &[u8]) -> io::Result<Gdbm> {
        let opened = open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (len, file) = opened.map_err(|_| own_error(FILE_OPEN_ERROR))?;
        match len {
            0 => return Err(own_error(EMPTY_DATABASE)),
            1..LEAST => return Err(own_error(FILE_EOF)),
            _ => {}
        }
        Gdbm::of(file, len).ok_or_else(|| own_error(BAD_MAGIC_NUMBER))
    }

    fn of(file: File, len: u64) -> Option<Gdbm> {
        let head = read_at(&file, 0, HEADER)?;
        let number = |at| u32_at(&head, at);
        let gdbm = Gdbm {
            len,
            directory: u64_at(&head, 8)?,
            directory_bits: number(20)?,
            bucket_size: usize::try_from(number(24)?).ok()?,
            places: number(28)?,
            file,
        };
        let fits = u64::try_from(gdbm.bucket_size).ok()? <= len
            && BUCKET_HEAD.checked_add(usize::try_from(gdbm.places).ok()?.checked_mul(PLACE)?)?
                <= gdbm.bucket_size;
        (MAGIC.contains(&number(0)?) && gdbm.places > 0 && gdbm.directory_bits < 32 && fits).then_some(gdbm)
    }

    /// The value of `key`.
    pub(super) fn fetch(&self, key: &[u8]) -> Option<Vec<u8>> {
        let hash = hash(key);
        let entry = u64::from(hash >> (31 - self.directory_bits.min(31)));
        let at = u64_at(&read_at(&self.file, self.directory.checked_add(8 * entry)?, 8)?, 0)?;
        let bucket = read_at(&self.file, at, self.bucket_size)?;
        // What doesn't find its place free is in the next one.
        let first = hash % self.places;
        (first..self.places).chain(0..first).map_while(|index| self.pair(&bucket, index)).find_map(
            |(its_hash, at, key_size, data_size)| {
                let size = key_size.checked_add(data_size)?;
                if its_hash != hash || key_size != key.len() || size as u64 > self.len {
                    return None;
                }
                let mut pair = read_at(&self.file, at, size)?;
                let value = pair.split_off(key_size);
                (pair == key).then_some(value)
            },
        )
    }

    /// The pair at a place, which is not free.
    fn pair(&self, bucket: &[u8], index: u32) -> Option<(u32, u64, usize, usize)> {
        let at = BUCKET_HEAD + usize::try_from(index).ok()?.checked_mul(PLACE)?;
        let hash = u32_at(bucket, at).filter(|&hash| hash != u32::MAX)?;
        let size = |at| usize::try_from(u32_at(bucket, at)?).ok();
        Some((hash, u64_at(bucket, at + 8)?, size(at + 16)?, size(at + 20)?))
    }
}

/// `_gdbm_hash`
fn hash(key: &[u8]) -> u32 {
    let start = 0x238F_13AF_u32.wrapping_mul(key.len() as u32);
    let sum = key.iter().enumerate().fold(start, |sum, (index, &byte)| {
        sum.wrapping_add(u32::from(byte) << (index * 5 % 24)) & 0x7fff_ffff
    });
    1_103_515_243_u32.wrapping_mul(sum).wrapping_add(12345) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes() {
        // As it stands in a file that `htdbm` made.
        assert_eq!(hash(b"joe"), 651_244_950);
    }
}
