//! Files of keys and values, looked up without a server: read, never written.
//!
//! Answers to `apr_dbm` of APR-util as Debian builds it: `default` is Berkeley DB, `sdbm` and `gdbm` are there, `ndbm` is not.
//! Where it differs: each look-up reads the pages that it needs and takes no locks; Berkeley DB and GDBM are read in the
//! byte order of this machine, as their files are made here.

mod berkeley;
mod gdbm;
mod sdbm;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// `APR_EDSOOPEN`: there is no driver of this name.
const NO_DRIVER: i32 = 20019;

/// What kind of file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `sdbm`: two files, `.pag` and `.dir`.
    Sdbm,
    /// `gdbm`
    Gdbm,
    /// `db` and `default`
    Berkeley,
}

impl Kind {
    /// The kind that directives call so, in any case.
    pub fn named(name: &str) -> Option<Kind> {
        Some(match name.to_ascii_lowercase().as_str() {
            "default" | "db" => Kind::Berkeley,
            "sdbm" => Kind::Sdbm,
            "gdbm" => Kind::Gdbm,
            _ => return None,
        })
    }

    /// The files that a database at `path` consists of: `apr_dbm_get_usednames_ex`.
    pub fn used_names(self, path: &str) -> (String, Option<String>) {
        match self {
            Kind::Sdbm => (format!("{path}.dir"), Some(format!("{path}.pag"))),
            Kind::Gdbm | Kind::Berkeley => (path.to_owned(), None),
        }
    }
}

/// A database that is open.
pub enum Dbm {
    #[doc(hidden)]
    Sdbm(sdbm::Sdbm),
    #[doc(hidden)]
    Gdbm(gdbm::Gdbm),
    #[doc(hidden)]
    Berkeley(berkeley::Berkeley),
}

impl Dbm {
    /// Opens the file at `path` of the kind that `name` is for: `apr_dbm_open_ex`.
    pub fn open(name: &str, path: &[u8]) -> io::Result<Dbm> {
        match Kind::named(name) {
            Some(kind) => Dbm::open_kind(kind, path),
            None => Err(io::Error::from_raw_os_error(NO_DRIVER)),
        }
    }

    /// Opens the file at `path`.
    pub fn open_kind(kind: Kind, path: &[u8]) -> io::Result<Dbm> {
        Ok(match kind {
            Kind::Sdbm => Dbm::Sdbm(sdbm::Sdbm::open(path)?),
            Kind::Gdbm => Dbm::Gdbm(gdbm::Gdbm::open(path)?),
            Kind::Berkeley => Dbm::Berkeley(berkeley::Berkeley::open(path)?),
        })
    }

    /// The value of `key`. A file that is damaged where it is looked for says nothing.
    pub fn fetch(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self {
            Dbm::Sdbm(file) => file.fetch(key),
            Dbm::Gdbm(file) => file.fetch(key),
            Dbm::Berkeley(file) => file.fetch(key),
        }
    }
}

/// An error that has a number in the library which the file belongs to: `APR_OS_START_USERERR` and that.
fn own_error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(120_000 + number)
}

fn open(path: &[u8]) -> io::Result<File> {
    File::open(OsStr::from_bytes(path))
}

/// `size` bytes at `offset`; none where the file ends before.
fn read_at(file: &File, offset: u64, size: usize) -> Option<Vec<u8>> {
    let mut page = vec![0; size];
    file.read_exact_at(&mut page, offset).ok()?;
    Some(page)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        assert_eq!(Kind::named("Default"), Some(Kind::Berkeley));
        assert_eq!(Kind::named("SDBM"), Some(Kind::Sdbm));
        assert_eq!(Kind::named("ndbm"), None);
        assert_eq!(Kind::Sdbm.used_names("/m"), ("/m.dir".to_owned(), Some("/m.pag".to_owned())));
        assert_eq!(Kind::Gdbm.used_names("/m"), ("/m".to_owned(), None));
    }
}
