//! mod_authn_file: passwords in a text file.
//!
//! Answers to `modules/aaa/mod_authn_file.c`, and to `ap_cfg_getline` of `server/util.c` for its lines. Where it
//! differs: the file is read in one go, and slow hashes are computed on a thread that may block.

use std::borrow::Cow;
use std::io;
use std::os::unix::fs::FileTypeExt;

use super::{AuthnProvider, AuthnStatus, mod_authn_socache, password};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::Hooks;
use crate::log::{Level, rerror, server_event};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "authn_file_module", file: "mod_authn_file.c", directives: ROWS, hooks };

static DIR: Slot<FileDir> = Slot::new();

#[derive(Clone, Default)]
struct FileDir {
    /// `AuthUserFile`.
    file: Option<String>,
}

impl Conf for FileDir {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "AuthUserFile",
    args: Args::Take1(user_file),
    allowed: Allowed::AUTHCFG,
    help: "text file containing user IDs and passwords",
}];

fn hooks(hooks: &mut Hooks) {
    hooks.authn_provider("file", &File);
}

fn user_file(cmd: &mut Cmd, path: &str) -> Done {
    let path = cmd.server_root_relative(path);
    cmd.dir(&DIR).file = Some(path);
    Ok(())
}

struct File;

impl AuthnProvider for File {
    fn check_password(&self, r: &mut Request, user: &[u8], password: &[u8]) -> AuthnStatus {
        let content = match read(r, "AH01619", "AH01620") {
            Ok(content) => content,
            Err(status) => return status,
        };
        let found = Lines(&content).find_map(|line| {
            let mut rest = &*line;
            (word(&mut rest) == user).then(|| word(&mut rest).to_vec())
        });
        let Some(hash) = found else { return AuthnStatus::UserNotFound };
        if r.needs_thread() && password::is_slow(&hash) {
            return AuthnStatus::NeedThread;
        }
        mod_authn_socache::store(r, "file", user, None, &hash);
        if password::validate(password, &hash) { AuthnStatus::Granted } else { AuthnStatus::Denied }
    }

    fn get_realm_hash(&self, r: &mut Request, user: &[u8], realm: &[u8]) -> Result<Vec<u8>, AuthnStatus> {
        let content = read(r, "AH01621", "AH01622")?;
        let hash = Lines(&content)
            .find_map(|line| {
                let mut rest = &*line;
                (word(&mut rest) == user && word(&mut rest) == realm).then(|| word(&mut rest).to_vec())
            })
            .ok_or(AuthnStatus::UserNotFound)?;
        mod_authn_socache::store(r, "file", user, Some(realm), &hash);
        Ok(hash)
    }
}

/// The file's content. Errors are logged under these numbers.
fn read(r: &Request, unset: &'static str, unreadable: &'static str) -> Result<Vec<u8>, AuthnStatus> {
    let Some(name) = &r.dir(&DIR).file else {
        rerror!(r, Level::Error, "authn_file", unset, "AuthUserFile not specified in the configuration");
        return Err(AuthnStatus::GeneralError);
    };
    open_and_read(name).map_err(|error| {
        rerror!(
            r,
            Level::Error,
            "authn_file",
            unreadable,
            err = error,
            "Could not open password file: {name}"
        );
        AuthnStatus::GeneralError
    })
}

/// `ap_pcfg_openfile`: nothing but regular files.
pub(super) fn open_and_read(name: &str) -> io::Result<Vec<u8>> {
    memo::refuse();
    let path = httpd_conf::to_bytes(name);
    let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&path);
    let meta = std::fs::metadata(path)?;
    // Opening a FIFO would wait for who writes into it.
    if !meta.is_file() && (meta.file_type().is_fifo() || name != "/dev/null") {
        let text = format!("Access to file {name} denied by server: not a regular file");
        server_event(Level::Error, "core", "AH00554", &text);
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    std::fs::read(path)
}

/// The text up to the next colon; colons that follow each other count as one: `ap_getword`.
pub(super) fn word<'l>(rest: &mut &'l [u8]) -> &'l [u8] {
    let text: &'l [u8] = rest;
    let end = text.iter().position(|&b| b == b':').unwrap_or(text.len());
    let after = text[end..].iter().position(|&b| b != b':').map_or(text.len(), |more| end + more);
    *rest = &text[after..];
    &text[..end]
}

/// The lines that are no comment: without white space at the ends, continued behind a backslash.
pub(super) struct Lines<'c>(pub(super) &'c [u8]);

/// Longer lines end the reading (`MAX_STRING_LEN`).
const MAX_LINE: usize = 8192 - 1;

impl<'c> Iterator for Lines<'c> {
    type Item = Cow<'c, [u8]>;

    fn next(&mut self) -> Option<Cow<'c, [u8]>> {
        loop {
            let line = self.logical()?;
            if line.first().is_some_and(|&b| b != b'#') {
                return Some(line);
            }
        }
    }
}

impl<'c> Lines<'c> {
    fn logical(&mut self) -> Option<Cow<'c, [u8]>> {
        let mut joined: Cow<'c, [u8]> = Cow::Borrowed(&[]);
        while !self.0.is_empty() {
            let end = self.0.iter().position(|&b| b == b'\n');
            let line = &self.0[..end.unwrap_or(self.0.len())];
            self.0 = end.and_then(|end| self.0.get(end + 1..)).unwrap_or(&[]);
            let bare = line.strip_suffix(b"\r").unwrap_or(line);
            // What is behind a NUL is lost on C.
            let line = line.split(|&b| b == 0).next().unwrap_or(line);
            let (part, goes_on) = match bare.strip_suffix(b"\\") {
                Some(part) if end.is_some() && !bare.contains(&0) => (part, true),
                _ => (line, false),
            };
            if joined.len() + part.len() >= MAX_LINE {
                self.0 = &[];
                return None;
            }
            if joined.is_empty() {
                joined = Cow::Borrowed(part);
            } else {
                joined.to_mut().extend_from_slice(part);
            }
            if !goes_on {
                break;
            }
            if self.0.is_empty() {
                break;
            }
            continue;
        }
        if joined.is_empty() && self.0.is_empty() {
            return None;
        }
        Some(match joined {
            Cow::Borrowed(text) => Cow::Borrowed(trim(text)),
            Cow::Owned(text) => Cow::Owned(trim(&text).to_vec()),
        })
    }
}

fn trim(text: &[u8]) -> &[u8] {
    let space = |b: &u8| b.is_ascii_whitespace() || *b == 0x0b;
    let start = text.iter().position(|b| !space(b)).unwrap_or(text.len());
    let end = text.iter().rposition(|b| !space(b)).map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        Lines(text.as_bytes()).map(|l| String::from_utf8_lossy(&l).into_owned()).collect()
    }

    #[test]
    fn lines_as_a_configuration_file_has_them() {
        assert_eq!(lines("# no\n\n  a:b \r\n\tc:d"), ["a:b", "c:d"]);
        assert_eq!(lines("a:\\\nb\nc\\"), ["a:b", "c\\"]);
        assert_eq!(lines("a\0b\nc"), ["a", "c"]);
        assert_eq!(lines(&format!("a\n{}\nb", "x".repeat(9000))), ["a"]);
    }

    #[test]
    fn words_between_colons() {
        let mut rest: &[u8] = b"joe::hash:more";
        assert_eq!(word(&mut rest), b"joe");
        assert_eq!(word(&mut rest), b"hash");
        assert_eq!(word(&mut rest), b"more");
        assert_eq!(word(&mut rest), b"");
    }
}
