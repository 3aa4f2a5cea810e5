//! Maps that a program answers: `rewritemap_program_child`, `lookup_map_program`. The master starts it; all children
//! write keys to it and read values from it, one at a time.
//!
//! Differs: the lock is a record lock on a file without a name; what `Mutex` says of `rewrite-map` does not matter.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::log::{Level, rerror};
use crate::os::process;
use crate::request::Request;

/// A program, to be started or running.
pub(in super::super) struct Program {
    words: Vec<String>,
    user: Option<String>,
    group: Option<String>,
    running: OnceLock<Running>,
}

struct Running {
    pid: i32,
    pipes: Mutex<(File, File)>,
    lock: File,
}

impl Program {
    /// The program `words[0]`, to be run as the user and group in `options`.
    pub(super) fn new(words: Vec<String>, options: Option<&str>) -> Program {
        let mut names =
            options.unwrap_or_default().split(':').filter(|name| !name.is_empty()).map(str::to_owned);
        Program { words, user: names.next(), group: names.next(), running: OnceLock::new() }
    }

    /// Starts it, unless it runs.
    pub(super) fn start(&self) -> Result<(), String> {
        if self.running.get().is_some() || self.words.first().is_none_or(String::is_empty) {
            return Ok(());
        }
        match self.run() {
            Ok(running) => {
                let _ = self.running.set(running);
                Ok(())
            }
            Err(err) => {
                let text = format!("mod_rewrite: could not start RewriteMap program {}", self.words[0]);
                crate::log::server_error(Level::Error, "rewrite", "AH00654", Some(&err), &text);
                // Apache starts programs when it has read the configuration for the second time.
                crate::log::server_event(Level::Emerg, "", "AH00020", "Configuration Failed, exiting");
                Err(String::new())
            }
        }
    }

    fn run(&self) -> std::io::Result<Running> {
        let dir = Path::new(&self.words[0]).parent().unwrap_or(Path::new("/"));
        // The console that standard error still is may be gone before the program.
        let stderr = crate::log::stderr_for_programs();
        let (user, group) = (self.user.as_deref(), self.group.as_deref());
        let (pid, input, output) = process::start_filter(&self.words, dir, user, group, stderr)?;
        let lock = File::from(memfd_create(c"rewrite-map", MFdFlags::MFD_CLOEXEC)?);
        Ok(Running { pid, pipes: Mutex::new((input, output)), lock })
    }

    /// The value of `key`, or none where the program says NULL, or doesn't run.
    pub(super) fn ask(&self, r: &Request, key: &[u8]) -> Option<Vec<u8>> {
        let running = self.running.get()?;
        // A line feed would leave a second answer behind.
        if key.contains(&b'\n') {
            return None;
        }
        let mut pipes = running.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(err) = running.set_lock(libc::F_WRLCK) {
            rerror!(
                r,
                Level::Error,
                "rewrite",
                "AH00659",
                err = err,
                "apr_global_mutex_lock(rewrite_mapr_lock_acquire) failed"
            );
            return None;
        }
        let (input, output) = &mut *pipes;
        let mut value = Vec::new();
        if input.write_all(&[key, b"\n"].concat()).is_ok() {
            // Byte by byte: what is behind the line is the next one's, maybe of another process.
            let mut byte = [0];
            while matches!(output.read(&mut byte), Ok(1)) && byte != *b"\n" {
                value.push(byte[0]);
            }
        }
        if let Err(err) = running.set_lock(libc::F_UNLCK) {
            rerror!(
                r,
                Level::Error,
                "rewrite",
                "AH00660",
                err = err,
                "apr_global_mutex_unlock(rewrite_mapr_lock_acquire) failed"
            );
            return None;
        }
        (!value.eq_ignore_ascii_case(b"NULL")).then_some(value)
    }
}

impl Running {
    fn set_lock(&self, kind: i32) -> std::io::Result<()> {
        let lock = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        loop {
            match fcntl(&self.lock, FcntlArg::F_SETLKW(&lock)) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }
}

impl Drop for Running {
    /// The configuration is given up: the program ends with it. (The copy of a child says nothing.)
    fn drop(&mut self) {
        if process::in_charge() {
            process::end_program(self.pid);
        }
    }
}
