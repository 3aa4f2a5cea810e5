//! suexec's log: opened with the first line, before the rights to do so are given up, and closed to the script.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use super::built;
use crate::log::error_log::write_stderr;
use crate::log::error_words;
use crate::os::clock;

const TIME: &CStr = c"[%Y-%m-%d %H:%M:%S]: ";

/// The log.
#[derive(Default)]
pub struct Log(Option<File>);

/// The log could not be opened: nothing is done without.
pub struct NoLog;

impl Log {
    /// Something that was refused: the caller is told that, and nothing of the reason.
    pub fn error(&mut self, text: &[u8]) -> Result<(), NoLog> {
        self.open()?;
        write_stderr("suexec policy violation: see suexec log for more details\n");
        self.line(text)
    }

    /// Something that is done.
    pub fn line(&mut self, text: &[u8]) -> Result<(), NoLog> {
        let mut line = Vec::new();
        clock::strftime(TIME, clock::unix_secs(), &mut line);
        line.extend_from_slice(text);
        line.push(b'\n');
        // As in Apache, a full disk stops no script.
        let _ = self.open()?.write_all(&line);
        Ok(())
    }

    fn open(&mut self) -> Result<&mut File, NoLog> {
        match &mut self.0 {
            Some(file) => Ok(file),
            // Rust's files are closed by an exec: the script can't write here.
            closed => match OpenOptions::new().append(true).create(true).open(built::AP_LOG_EXEC) {
                Ok(file) => Ok(closed.insert(file)),
                Err(err) => Err(complain(&err)),
            },
        }
    }
}

fn complain(err: &io::Error) -> NoLog {
    write_stderr(&format!("suexec failure: could not open log file\nfopen: {}\n", error_words(err)));
    NoLog
}
