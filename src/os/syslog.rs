//! The system's log.

use std::ffi::{CString, c_int};
use std::sync::Mutex;

/// The names of facilities and their numbers, as `ErrorLog syslog:…` knows them.
const FACILITIES: [(&str, c_int); 20] = [
    ("auth", libc::LOG_AUTH),
    ("authpriv", libc::LOG_AUTHPRIV),
    ("cron", libc::LOG_CRON),
    ("daemon", libc::LOG_DAEMON),
    ("ftp", libc::LOG_FTP),
    ("kern", libc::LOG_KERN),
    ("lpr", libc::LOG_LPR),
    ("mail", libc::LOG_MAIL),
    ("news", libc::LOG_NEWS),
    ("syslog", libc::LOG_SYSLOG),
    ("user", libc::LOG_USER),
    ("uucp", libc::LOG_UUCP),
    ("local0", libc::LOG_LOCAL0),
    ("local1", libc::LOG_LOCAL1),
    ("local2", libc::LOG_LOCAL2),
    ("local3", libc::LOG_LOCAL3),
    ("local4", libc::LOG_LOCAL4),
    ("local5", libc::LOG_LOCAL5),
    ("local6", libc::LOG_LOCAL6),
    ("local7", libc::LOG_LOCAL7),
];

/// The tag that `openlog` was told; the C library goes on using it, so it is never freed.
static OPENED: Mutex<()> = Mutex::new(());

/// The facility whose name begins so, in any case; the empty name is `local7`.
pub fn facility(name: &str) -> Option<c_int> {
    if name.is_empty() {
        return Some(libc::LOG_LOCAL7);
    }
    let begins = |known: &str| known.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    FACILITIES.iter().find(|(known, _)| begins(known)).map(|(_, number)| *number)
}

/// Opens the log under a tag.
pub fn open(tag: &str, facility: c_int) {
    let tag = CString::new(tag.replace('\0', "")).unwrap_or_default();
    let _one = OPENED.lock();
    // SAFETY: the tag is a C string that lives as long as the process, as `openlog` requires.
    unsafe { libc::openlog(tag.into_raw(), libc::LOG_NDELAY | libc::LOG_CONS | libc::LOG_PID, facility) };
}

/// Writes a line of a level, 0 (emerg) to 7 (debug).
pub fn write(level: u8, line: &str) {
    let line = CString::new(line.replace('\0', "")).unwrap_or_default();
    // SAFETY: the format takes one C string, which lives until the call returns.
    unsafe { libc::syslog(c_int::from(level.min(7)), c"%s".as_ptr(), line.as_ptr()) };
}

#[cfg(test)]
mod tests {
    use super::facility;

    #[test]
    fn facilities() {
        assert_eq!(facility("LOCAL3"), Some(libc::LOG_LOCAL3));
        assert_eq!(facility(""), Some(libc::LOG_LOCAL7));
        assert_eq!(facility("nonesuch"), None);
    }
}
