//! A lock between the threads of all processes of the server: `apr_global_mutex`.
//!
//! A record lock on a file without a name, which the kernel gives back when a process dies, and inside of a process a
//! lock for its threads.

use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The lock. Made by the master, before the processes that it is between.
pub struct GlobalMutex {
    threads: Mutex<()>,
    file: File,
}

/// What holds it.
pub struct Held<'m> {
    mutex: &'m GlobalMutex,
    _thread: MutexGuard<'m, ()>,
}

impl GlobalMutex {
    /// A lock that nobody holds.
    pub fn new() -> io::Result<GlobalMutex> {
        let file = File::from(memfd_create(c"global-mutex", MFdFlags::MFD_CLOEXEC)?);
        Ok(GlobalMutex { threads: Mutex::default(), file })
    }

    /// Waits for it.
    pub fn lock(&self) -> io::Result<Held<'_>> {
        let thread = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        self.set(libc::F_WRLCK)?;
        Ok(Held { mutex: self, _thread: thread })
    }

    fn set(&self, kind: i32) -> io::Result<()> {
        let lock = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        loop {
            match fcntl(&self.file, FcntlArg::F_SETLKW(&lock)) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Of a lock that is held, nothing but a closed file could keep us from giving it back.
        let _ = self.mutex.set(libc::F_UNLCK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let mutex = GlobalMutex::new().unwrap();
        let held = mutex.lock().unwrap();
        assert!(mutex.threads.try_lock().is_err());
        drop(held);
        assert!(mutex.lock().is_ok());
    }
}
