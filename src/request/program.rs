//! A program that works on a request: its process, and the pipes to it. Nobody sleeps for it: it is waited for by its one
//! descriptor ([`Program::wait`]), and ends with whoever holds it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::unistd::pipe2;

use crate::body::Wait;
use crate::log::{self, Level};
use crate::os::clock::{Millis, now_ms};
use crate::os::{socket, spawn};

/// How much is read of a program's output at once.
const READ_SIZE: usize = 32 * 1024;
/// How much of its complaints is taken at once.
const COMPLAINTS: usize = 128 * 1024;

/// What came of reading a program's output.
pub enum Output {
    /// Bytes were appended.
    Some,
    /// Nothing now.
    NotYet,
    /// That was all.
    End,
}

/// A program.
pub struct Program {
    /// The module that says so when it had to be killed.
    killed_by: Option<&'static str>,
    pid: Option<i32>,
    /// What it reads, until it has all.
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    /// All that it is waited for, as one descriptor.
    poller: Option<Epoll>,
    /// What the poller looks at: a descriptor, and whether it is to be read from.
    watched: Vec<(RawFd, bool)>,
    /// How long it is waited for the next sign of life.
    timeout: Duration,
    until: Millis,
}

/// A pipe: for the program, and for us, which doesn't block.
fn pipe(we_write: bool) -> io::Result<(OwnedFd, File)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let (theirs, ours) = if we_write { (read, write) } else { (write, read) };
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((theirs, File::from(ours)))
}

impl Program {
    /// The pipes for a program, which `start` then starts with its ends of them: what it reads, if it does; where it writes;
    /// and where it complains, if somebody wants to know.
    pub fn start(
        killed_by: Option<&'static str>,
        timeout: Duration,
        reads: bool,
        complains: bool,
        start: impl FnOnce(Option<OwnedFd>, OwnedFd, Option<OwnedFd>) -> Option<i32>,
    ) -> io::Result<Program> {
        let input = if reads { Some(pipe(true)?) } else { None };
        let (stdout, our_stdout) = pipe(false)?;
        let error = if complains { Some(pipe(false)?) } else { None };
        let (stdin, our_stdin) = input.unzip();
        let (stderr, our_stderr) = error.unzip();
        let pid = start(stdin, stdout, stderr);
        Ok(Program {
            killed_by,
            pid,
            stdin: our_stdin,
            stdout: Some(our_stdout),
            stderr: our_stderr,
            poller: None,
            watched: Vec::new(),
            timeout,
            until: now_ms() + timeout.as_millis() as u64,
        })
    }

    /// It gave a sign of life, or got something: the time counts anew.
    pub fn moved(&mut self) {
        self.until = now_ms() + self.timeout.as_millis() as u64;
    }

    /// There was none for too long.
    pub fn is_late(&self) -> bool {
        now_ms() >= self.until
    }

    /// Appends what it has written; at most `READ_SIZE` bytes.
    pub fn read(&mut self, to: &mut Vec<u8>) -> io::Result<Output> {
        let Some(stdout) = &mut self.stdout else { return Ok(Output::End) };
        let before = to.len();
        to.resize(before + READ_SIZE, 0);
        let read = loop {
            match stdout.read(&mut to[before..]) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        to.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => {
                self.forget(self.stdout.as_ref().map(File::as_raw_fd));
                self.stdout = None;
                Ok(Output::End)
            }
            Ok(_) => {
                self.moved();
                Ok(Output::Some)
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(Output::NotYet),
            Err(err) => Err(err),
        }
    }

    /// Writes to it; how much it took. `None`: nothing now.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let Some(stdin) = &mut self.stdin else { return Err(io::ErrorKind::BrokenPipe.into()) };
        match stdin.write(bytes) {
            Ok(count) => {
                self.moved();
                Ok(Some(count))
            }
            Err(err) if matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(err) => Err(err),
        }
    }

    /// It gets no more to read.
    pub fn close_stdin(&mut self) {
        self.forget(self.stdin.as_ref().map(File::as_raw_fd));
        self.stdin = None;
    }

    /// Takes what it has written to standard error. True when it may write more.
    pub fn take_stderr(&mut self, text: &mut Vec<u8>) -> bool {
        let mut piece = [0; 4096];
        loop {
            let Some(stderr) = &mut self.stderr else { return false };
            match stderr.read(&mut piece) {
                Ok(0) => {}
                Ok(count) => {
                    text.extend_from_slice(&piece[..count]);
                    if text.len() > COMPLAINTS {
                        return true;
                    }
                    continue;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => {}
            }
            self.forget(self.stderr.as_ref().map(File::as_raw_fd));
            self.stderr = None;
        }
    }

    fn forget(&mut self, fd: Option<RawFd>) {
        if let Some(fd) = fd {
            self.watched.retain(|&watched| watched.0 != fd);
            if let (Some(fd), Some(poller)) = (socket::borrow(fd), &self.poller) {
                let _ = poller.delete(fd);
            }
        }
    }

    /// What goes on with it; this one is none any more.
    pub fn take(&mut self) -> Program {
        Program {
            killed_by: self.killed_by,
            pid: self.pid.take(),
            stdin: self.stdin.take(),
            stdout: self.stdout.take(),
            stderr: self.stderr.take(),
            poller: self.poller.take(),
            watched: std::mem::take(&mut self.watched),
            timeout: self.timeout,
            until: self.until,
        }
    }

    /// Waits for its standard error, for its output if it is to be read, for it to read more, and for more from `client`.
    pub fn wait(&mut self, output: bool, input: bool, client: Option<RawFd>) -> io::Result<Wait> {
        let mut wanted: Vec<(RawFd, bool)> = Vec::with_capacity(4);
        wanted.extend(self.stdout.as_ref().filter(|_| output).map(|file| (file.as_raw_fd(), true)));
        wanted.extend(self.stderr.as_ref().map(|file| (file.as_raw_fd(), true)));
        wanted.extend(self.stdin.as_ref().filter(|_| input).map(|file| (file.as_raw_fd(), false)));
        wanted.extend(client.map(|fd| (fd, true)));
        let poller = match self.poller.take() {
            Some(poller) => poller,
            None => Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        };
        for &(fd, _) in self.watched.iter().filter(|watched| !wanted.contains(watched)) {
            if let Some(fd) = socket::borrow(fd) {
                let _ = poller.delete(fd);
            }
        }
        for &(fd, read) in wanted.iter().filter(|wanted| !self.watched.contains(wanted)) {
            let flags = if read { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLOUT };
            if let Some(fd) = socket::borrow(fd) {
                poller.add(fd, EpollEvent::new(flags, 0))?;
            }
        }
        self.watched = wanted;
        let timeout = Duration::from_millis(self.until.saturating_sub(now_ms()));
        let fd = poller.0.as_raw_fd();
        self.poller = Some(poller);
        Ok(Wait { fd, read: true, timeout, kept: None })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It must see the end of what it reads and writes before it is told to end itself.
        (self.stdin, self.stdout, self.stderr) = (None, None, None);
        let Some(pid) = self.pid else { return };
        let killed = self.killed_by.map(|module| -> spawn::Killed {
            Box::new(move || {
                let text = format!("CGI process {pid} didn't exit, sending SIGKILL");
                log::server_event(Level::Error, module, "AH01259", &text);
                log::writer::flush_lines();
            })
        });
        spawn::leave(pid, killed);
    }
}
