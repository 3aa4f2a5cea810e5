//! `.htaccess` files: looked at with one `stat` for each request, read once for each version of the file.
//!
//! Answers to `ap_parse_htaccess` of `server/config.c`. A file is a section whose identity is its path, device, inode,
//! size, times and the override in force: when one of these changes, it is another section.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::Runtime;
use super::directive::Allowed;
use super::section::{Matcher, Section};
use crate::log::{self, Level};
use crate::module::ConfVec;
use crate::request::FileInfo;

/// What a directory lets its `.htaccess` files do: `AllowOverride`, `AllowOverrideList`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Override {
    /// The classes.
    pub classes: Allowed,
    /// Which `Options` may be set.
    pub options: u16,
    /// Single directives, in lower case.
    pub list: Option<Arc<HashSet<String>>>,
}

/// Why a directory can't be served because of its `.htaccess`.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// A directive in it is wrong: 500, and the log line's text.
    Syntax(String),
    /// It can't be opened: 403 (AH00529).
    Denied(String, Arc<std::io::Error>),
}

struct Entry {
    version: FileInfo,
    allowed: Override,
    section: Result<Arc<Section>, Trouble>,
}

/// The files read so far.
#[derive(Default)]
pub struct Cache {
    entries: Mutex<HashMap<Vec<u8>, Entry>>,
}

const BOUND: usize = 20_000;

impl Cache {
    /// The section of the first of `names` that lies in `dir`, if any does.
    pub fn look(
        &self,
        runtime: &Arc<Runtime>,
        server: usize,
        dir: &[u8],
        names: &[String],
        allowed: &Override,
    ) -> Result<Option<Arc<Section>>, Trouble> {
        for name in names {
            let mut path = dir.to_vec();
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            let file = Path::new(OsStr::from_bytes(&path));
            let info = match FileInfo::stat(&path) {
                Ok(info) => info,
                Err(err) => match err.raw_os_error() {
                    Some(libc::ENOENT | libc::ENOTDIR) => continue,
                    _ => {
                        return Err(Trouble::Denied(
                            String::from_utf8_lossy(&path).into_owned(),
                            Arc::new(err),
                        ));
                    }
                },
            };
            if !info.is_file() && file != Path::new("/dev/null") {
                let shown = String::from_utf8_lossy(&path).into_owned();
                let text = format!("Access to file {shown} denied by server: not a regular file");
                log::server_event(Level::Error, "core", "AH00554", &text);
                let error = std::io::Error::from_raw_os_error(libc::EBADF);
                return Err(Trouble::Denied(shown, Arc::new(error)));
            }
            let mut entries = self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if let Some(entry) = entries.get(&path)
                && entry.version == info
                && entry.allowed == *allowed
            {
                return entry.section.clone().map(Some);
            }
            if entries.len() >= BOUND {
                entries.clear();
            }
            if let Err(err) = readable(file, &info) {
                return Err(Trouble::Denied(String::from_utf8_lossy(&path).into_owned(), Arc::new(err)));
            }
            let section = read(runtime, server, dir, file, allowed);
            entries.insert(path, Entry { version: info, allowed: allowed.clone(), section: section.clone() });
            return section.map(Some);
        }
        Ok(None)
    }
}

/// Can it be opened, and is it a file? As `ap_pcfg_openfile` finds out.
fn readable(file: &Path, info: &FileInfo) -> std::io::Result<()> {
    std::fs::File::open(file)?;
    if info.is_file() || file == Path::new("/dev/null") {
        return Ok(());
    }
    let text = format!("Access to file {} denied by server: not a regular file", file.display());
    crate::log::server_event(crate::log::Level::Error, "core", "AH00554", &text);
    Err(std::io::Error::from_raw_os_error(libc::EBADF))
}

fn read(
    runtime: &Arc<Runtime>,
    server: usize,
    dir: &[u8],
    file: &Path,
    allowed: &Override,
) -> Result<Arc<Section>, Trouble> {
    let shown = file.display().to_string();
    let mut conf = ConfVec::new();
    super::read::htaccess(runtime, server, &String::from_utf8_lossy(dir), file, allowed, &mut conf)
        .map_err(Trouble::Syntax)?;
    Ok(Arc::new(Section::new(&shown, Matcher::Htaccess, conf)))
}
