//! rotatelogs: writes what it reads to a file, and to a new one when it is time or when the file is large enough.
//!
//! Answers to `support/rotatelogs.c`; its messages and exit codes are kept. [`settings`] is the command line, [`name`] how
//! files are called, [`rotation`] what is done. Differs in that sizes of 2 GiB and more are what they say (Apache counts
//! them in 32 bits), and that the programs of `-p` get SIGCHLD as every program does.

mod name;
mod rotation;
mod settings;

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::log::error_log::write_stderr;
use rotation::{Fatal, Rotation};
use settings::{Misuse, Settings};

/// As much as is read at once.
const BUFSIZE: usize = 65536;

/// The program, from its arguments to its exit code. `args[0]` is its name.
pub fn run(args: &[OsString]) -> i32 {
    let settings = match settings::parse(args) {
        Ok(settings) => settings,
        Err(Misuse::Usage(reason)) => {
            if let Some(reason) = reason {
                write_stderr(&format!("{reason}\n"));
            }
            let program = args.first().map(|word| word.to_string_lossy()).unwrap_or_default();
            write_stderr(&settings::usage(&program));
            return 1;
        }
        Err(Misuse::Text(text)) => {
            write_stderr(&format!("{text}\n"));
            return 1;
        }
    };
    if settings.verbose {
        write_stderr(&settings.summary());
    }
    match serve(&settings) {
        Ok(()) => 0,
        Err(Fatal { code, text }) => {
            write_stderr(&text);
            code
        }
    }
}

/// Writes what comes until its end.
fn serve(settings: &Settings) -> Result<(), Fatal> {
    let mut rotation = Rotation::new(settings);
    if settings.force_open {
        rotation.rotate()?;
    }
    let mut stdin = std::io::stdin().lock();
    let mut buffer = vec![0; BUFSIZE];
    loop {
        let length = if settings.create_empty
            && settings.rotation_time > 0
            && !has_input(&stdin, rotation.seconds_left())?
        {
            0
        } else {
            match stdin.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(Fatal { code: 3, text: String::new() }),
            }
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        rotation.write(bytes)?;
        if settings.echo
            && std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()).is_err()
        {
            return Err(Fatal { code: 4, text: "Unable to write to stdout\n".to_owned() });
        }
    }
}

/// Waits for input, at most until the file's time is over.
fn has_input(stdin: &impl AsFd, seconds: i64) -> Result<bool, Fatal> {
    if seconds <= 0 {
        return Ok(false);
    }
    let timeout = PollTimeout::try_from(seconds.saturating_mul(1000)).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(_) => Err(Fatal { code: 5, text: "Unable to poll stdin\n".to_owned() }),
    }
}
