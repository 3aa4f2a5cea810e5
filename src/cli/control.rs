//! `-k`: finding the server that runs, and telling it.
//!
//! Answers to `ap_signal_server` of `server/mpm_unix.c` and `ap_read_pid` of `server/log.c`.

use std::io;
use std::path::Path;

use nix::sys::signal::Signal as Number;

use super::command::Signal;
use super::{print, say};
use crate::log::system_error;
use crate::os::process;

/// What a pid file says.
#[derive(Debug, PartialEq, Eq)]
pub enum PidFile {
    /// There is none.
    Absent,
    /// The number in it.
    Pid(i32),
    /// It holds no number.
    Corrupt,
    /// It can't be read.
    Unreadable(String),
}

/// What the pid file at `path` says.
pub fn read_pid_file(path: &Path) -> PidFile {
    match std::fs::read(path) {
        Ok(content) => parse_pid(&content).map_or(PidFile::Corrupt, PidFile::Pid),
        Err(err) if err.kind() == io::ErrorKind::NotFound => PidFile::Absent,
        Err(err) => PidFile::Unreadable(system_error(&err)),
    }
}

/// The digits at the start. A file that is longer than any number is none of ours.
fn parse_pid(content: &[u8]) -> Option<i32> {
    const LONGEST: usize = 25;
    let digits = content.iter().take_while(|b| b.is_ascii_digit()).count();
    if content.len() >= LONGEST {
        return None;
    }
    std::str::from_utf8(&content[..digits]).ok()?.parse().ok()
}

/// Sends what `signal` stands for to the server whose pid file is at `path` (`shown`: as configured). `None`: there is
/// nothing to be told, and this process is to become the server.
pub fn signal_server(signal: Signal, path: &Path, shown: &str) -> Option<i32> {
    let corrupt = |reason: &str| {
        say(&format!(
            "{reason}: AH00058: Error retrieving pid file {shown}\nAH00059: Remove it before continuing if it is corrupted.\n"
        ));
        Some(1)
    };
    let (running, status) = match read_pid_file(path) {
        PidFile::Absent => (None, "httpd (no pid file) not running\n".to_owned()),
        // A container gives its first process the same number each time.
        PidFile::Pid(pid) if pid != std::process::id() as i32 && process::is_ours_to_signal(pid) => {
            (Some(pid), format!("httpd (pid {pid}) already running\n"))
        }
        PidFile::Pid(pid) => (None, format!("httpd (pid {pid}?) not running\n")),
        PidFile::Corrupt => return corrupt("(20014)Internal error (specific information not available)"),
        PidFile::Unreadable(reason) => return corrupt(&reason),
    };
    let Some(pid) = running else {
        return match signal {
            Signal::Stop | Signal::GracefulStop => Some(print(&status)),
            Signal::Restart | Signal::Graceful => {
                print("httpd not running, trying to start\n");
                None
            }
            Signal::Start => None,
        };
    };
    let number = match signal {
        Signal::Start => return Some(print(&status)),
        Signal::Restart => Number::SIGHUP,
        Signal::Graceful => Number::SIGUSR1,
        Signal::GracefulStop => Number::SIGWINCH,
        Signal::Stop => Number::SIGTERM,
    };
    match process::kill(pid, number) {
        Ok(()) => Some(0),
        Err(err) => {
            say(&format!("{}: AH00057: sending signal to server\n", system_error(&err)));
            // Apache ends a failed stop with 0.
            Some(i32::from(signal != Signal::Stop))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_files() {
        assert_eq!(parse_pid(b"123\n"), Some(123));
        assert_eq!(parse_pid(b"abc\n"), None);
        assert_eq!(parse_pid(b""), None);
        assert_eq!(parse_pid(b"-5"), None);
        assert_eq!(parse_pid(b"12 x"), Some(12));
        assert_eq!(parse_pid(b"1234567890123456789012345"), None);
        assert_eq!(read_pid_file(Path::new("/nonexistent/httpd.pid")), PidFile::Absent);
        assert!(matches!(read_pid_file(Path::new("/")), PidFile::Unreadable(_)));
    }
}
