//! Contents of small files, kept by each process for as long as `stat` says that they are the same.
//!
//! A file is known by name, device, inode, size and time of change, all of which every request looks at anyway
//! (directory walk), so that a change is seen by the next request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::body::{Content, FileSlice};
use crate::request::FileInfo;

/// Larger files are sent by `sendfile`.
const LARGEST: u64 = 16 * 1024;
/// The most that is kept, in bytes of content.
const MOST: usize = 32 << 20;

struct Entry {
    info: FileInfo,
    bytes: Bytes,
}

#[derive(Default)]
struct Cache {
    entries: HashMap<Vec<u8>, Entry, foldhash::fast::RandomState>,
    size: usize,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::new(Cache::default());
}

/// The content of the file `name`, of which `info` was just found out.
pub fn content(name: &[u8], info: &FileInfo) -> io::Result<Content> {
    if info.size > LARGEST {
        return uncached(name, info);
    }
    CACHE.with(|cache| {
        let mut cache = cache.borrow_mut();
        if let Some(entry) = cache.entries.get(name)
            && entry.info == *info
        {
            return Ok(Content::Bytes(entry.bytes.clone()));
        }
        let file = open(name)?;
        let mut slice = FileSlice { file: Arc::new(file), offset: 0, len: info.size };
        let bytes = if info.size == 0 { Bytes::new() } else { slice.read(LARGEST as usize)? };
        // A file written in this very second may change again without a trace in its time.
        let settled = crate::os::clock::unix_secs() - info.mtime.max(info.ctime) / 1_000_000 > 1;
        if settled && bytes.len() as u64 == info.size {
            if cache.size + bytes.len() > MOST {
                cache.entries.clear();
                cache.size = 0;
            }
            cache.size += bytes.len();
            if let Some(old) =
                cache.entries.insert(name.to_vec(), Entry { info: *info, bytes: bytes.clone() })
            {
                cache.size -= old.bytes.len();
            }
        }
        Ok(Content::Bytes(bytes))
    })
}

/// The same as a file, however small it is.
pub fn uncached(name: &[u8], info: &FileInfo) -> io::Result<Content> {
    Ok(Content::File(FileSlice { file: Arc::new(open(name)?), offset: 0, len: info.size }))
}

fn open(name: &[u8]) -> io::Result<File> {
    File::open(Path::new(OsStr::from_bytes(name)))
}
