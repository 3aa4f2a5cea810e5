//! What is in a compressed file: `zmagic`, `uncompress`.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bstr::ByteSlice;

use super::LOOKED_AT;
use crate::log::{Level, rerror, shown};
use crate::os::process;
use crate::request::{Request, Step};

/// How a file is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Compress,
    Gzip,
    Pack,
}

impl Kind {
    /// By its first bytes.
    pub fn of(content: &[u8]) -> Option<Kind> {
        match content {
            [0x1f, 0x9d, ..] => Some(Kind::Compress),
            [0x1f, 0x8b, ..] => Some(Kind::Gzip),
            [0x1f, 0x1e, ..] => Some(Kind::Pack),
            _ => None,
        }
    }

    /// The coding that the reply has.
    pub fn coding(self) -> &'static str {
        if self == Kind::Compress { "x-compress" } else { "x-gzip" }
    }

    /// The beginning of what is in the request's file. `None`: nothing can be read, and the log says so.
    pub fn unpacked(self, r: &Request) -> Result<Option<Vec<u8>>, Step> {
        let mut inside = Vec::with_capacity(LOOKED_AT);
        if self == Kind::Gzip {
            if let Ok(file) = File::open(std::ffi::OsStr::from_bytes(&r.filename)) {
                // What came before an error counts.
                let _ =
                    flate2::read::MultiGzDecoder::new(file).take(LOOKED_AT as u64).read_to_end(&mut inside);
            }
        } else {
            if r.needs_thread() {
                return Err(Step::NeedThread);
            }
            let folder = r.filename.rfind_byte(b'/').map_or(&b"/"[..], |end| &r.filename[..=end]);
            let words = [&b"gzip"[..], b"-dcq", &r.filename];
            match process::output_of(&words, Path::new(std::ffi::OsStr::from_bytes(folder)), LOOKED_AT) {
                Ok(output) => inside = output,
                Err(err) => {
                    rerror!(
                        r,
                        Level::Error,
                        "mime_magic",
                        "AH01552",
                        "mod_mime_magic: could not execute `gzip'."
                    );
                    rerror!(
                        r,
                        Level::Error,
                        "mime_magic",
                        "AH01553",
                        err = err,
                        "mod_mime_magic: couldn't spawn uncompress process: {}",
                        shown(&r.uri)
                    );
                    return Ok(None);
                }
            }
        }
        if inside.is_empty() {
            let err = std::io::Error::other("(70014)End of file found");
            rerror!(
                r,
                Level::Error,
                "mime_magic",
                "AH01554",
                err = err,
                "mod_mime_magic: read failed from uncompress of {}",
                shown(&r.filename)
            );
            return Ok(None);
        }
        Ok(Some(inside))
    }
}
