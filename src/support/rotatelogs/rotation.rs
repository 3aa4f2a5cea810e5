//! When a new file is due, and how it takes the place of the old one.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::name;
use super::settings::Settings;
use crate::log::error_log::write_stderr;
use crate::os::{clock, process};

/// The program ends with this code, when it has said this.
#[derive(Debug)]
pub struct Fatal {
    pub code: i32,
    pub text: String,
}

fn fatal(text: String) -> Fatal {
    Fatal { code: 2, text }
}

/// Why a new file is begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    New,
    Time,
    Size,
}

impl Reason {
    /// As `-v` names it.
    fn words(self) -> &'static str {
        match self {
            Reason::New => "Open a new file",
            Reason::Time => "Time interval expired",
            Reason::Size => "Maximum size reached",
        }
    }
}

struct LogFile {
    file: File,
    name: Vec<u8>,
}

/// The files of one run.
pub struct Rotation<'s> {
    settings: &'s Settings,
    current: Option<LogFile>,
    /// The moved time at which the file's interval ends; 0: there was none yet.
    log_end: i64,
    /// Pieces written, or lost, since the file was begun.
    messages: u64,
    /// The place of the file among those of `-n`.
    number: Option<i64>,
    /// Programs of `-p` that were not seen to end.
    programs: Vec<std::process::Child>,
}

impl<'s> Rotation<'s> {
    /// Without a file yet.
    pub fn new(settings: &'s Settings) -> Rotation<'s> {
        Rotation { settings, current: None, log_end: 0, messages: 0, number: None, programs: Vec::new() }
    }

    /// The time, moved by the offset in force, and that offset.
    fn now(&self) -> (i64, i64) {
        let secs = clock::unix_secs();
        let offset = if self.settings.use_localtime {
            // Asked for anew each time: it changes with summer time.
            i64::from(clock::local_offset(secs))
        } else {
            self.settings.utc_offset
        };
        (secs + offset, offset)
    }

    fn say(&self, text: std::fmt::Arguments) {
        if self.settings.verbose {
            write_stderr(&format!("{text}\n"));
        }
    }

    /// How long until the file's interval ends.
    pub fn seconds_left(&self) -> i64 {
        if self.log_end == 0 { self.settings.rotation_time } else { self.log_end - self.now().0 }
    }

    /// Whether a new file is due: `checkRotate`.
    fn due(&self) -> Option<Reason> {
        let reason = match &self.current {
            None => Reason::New,
            Some(log) => {
                let size = self.settings.rotation_size;
                if size > 0 && log.file.metadata().is_ok_and(|info| info.len() > size) {
                    Reason::Size
                } else if self.settings.rotation_time > 0 && self.now().0 >= self.log_end {
                    Reason::Time
                } else {
                    return None;
                }
            }
        };
        self.say(format_args!("File rotation needed, reason: {}", reason.words()));
        Some(reason)
    }

    /// Begins a new file, and ends the old one when that is possible: `doRotate`.
    pub fn rotate(&mut self) -> Result<(), Fatal> {
        self.rotate_because(None)
    }

    fn rotate_because(&mut self, reason: Option<Reason>) -> Result<(), Fatal> {
        let settings = self.settings;
        let (now, offset) = self.now();
        let mut start = now;
        if settings.rotation_time > 0 {
            let interval = now.div_euclid(settings.rotation_time) * settings.rotation_time;
            // In the middle of an interval that has a file, the name says when this one began.
            start = if interval < self.log_end { now } else { interval };
            self.log_end = interval + settings.rotation_time;
        }
        let numbered = settings.num_files > 0 && !settings.truncate && !settings.use_strftime;
        let number = numbered.then(|| match self.number {
            Some(number) if number != settings.num_files - 1 => number + 1,
            _ => 0,
        });
        let new = name::of_file(settings, start, offset, number);
        let shown = String::from_utf8_lossy(&new).into_owned();
        if settings.create_path {
            self.create_folder(&new)?;
        }
        self.say(format_args!("Opening file {shown}"));
        // -n and -T empty files that take another's place only.
        let takes_over = self.current.is_some() && (settings.num_files > 0 || settings.truncate_rotated_only);
        let opened = open(&new, settings.truncate || takes_over);
        match opened {
            Ok(file) => {
                self.post_rotate(&new)?;
                self.number = number;
                if let Some(old) = self.current.take() {
                    self.say(format_args!("Closing file {}", String::from_utf8_lossy(&old.name)));
                }
                self.current = Some(LogFile { file, name: new });
                // The first of numbered files may be full from an earlier run.
                if settings.num_files > 0
                    && reason == Some(Reason::New)
                    && !settings.truncate
                    && let Some(reason) = self.due()
                {
                    self.rotate_because(Some(reason))?;
                }
            }
            Err(err) => {
                let error = words(&err);
                if self.current.is_none() {
                    return Err(fatal(format!("Could not open log file '{shown}' ({error})\n")));
                }
                // As long as it is each time, because it may come again.
                let text = format!(
                    "Resetting log file due to error opening new log file, {:10} messages lost: {error:<25.25}\n",
                    self.messages
                );
                self.truncate_and_write(&text)?;
            }
        }
        self.messages = 0;
        Ok(())
    }

    fn create_folder(&self, name: &[u8]) -> Result<(), Fatal> {
        let Some(at) = name.iter().rposition(|&byte| byte == b'/').filter(|at| *at > 0) else {
            return Ok(());
        };
        let folder = String::from_utf8_lossy(&name[..at]).into_owned();
        self.say(format_args!("Creating directory tree {folder}"));
        std::fs::create_dir_all(OsStr::from_bytes(&name[..at]))
            .map_err(|err| fatal(format!("Could not create directory '{folder}' ({})\n", words(&err))))
    }

    /// The link, and the program of `-p`.
    fn post_rotate(&mut self, new: &[u8]) -> Result<(), Fatal> {
        let settings = self.settings;
        let file = OsStr::from_bytes(new);
        if let Some(link) = &settings.link_file {
            // It is not there the first time; what else is wrong shows when it is made.
            _ = std::fs::remove_file(link);
            let (from, to) = (file.to_string_lossy(), link.to_string_lossy());
            self.say(format_args!("Linking {from} to {to}"));
            std::fs::hard_link(file, link)
                .map_err(|err| fatal(format!("Error linking file {from} to {to} ({})\n", words(&err))))?;
        }
        let Some(program) = &settings.post_rotate else { return Ok(()) };
        self.programs.retain_mut(|program| matches!(program.try_wait(), Ok(None)));
        let shown = program.to_string_lossy();
        self.say(format_args!("Calling post-rotate program: {shown}"));
        let mut arguments = vec![file.to_owned()];
        arguments.extend(self.current.as_ref().map(|log| OsString::from_vec(log.name.clone())));
        match process::spawn(Path::new(program), &arguments) {
            Ok(program) => self.programs.push(program),
            Err(err) => {
                write_stderr(&format!("Could not spawn post-rotate process '{shown}': {}\n", words(&err)));
            }
        }
        Ok(())
    }

    /// Writes bytes, to a new file when one is due.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Fatal> {
        if let Some(reason) = self.due() {
            self.rotate_because(Some(reason))?;
        }
        self.messages += 1;
        let Some(log) = &mut self.current else { return Ok(()) };
        let Err(err) = log.file.write_all(bytes) else { return Ok(()) };
        let offset = log.file.stream_position().map_or(-1, |at| at as i64);
        let text = format!(
            "Error {} writing to log file at offset {offset}. {:10} messages lost ({})\n",
            err.raw_os_error().unwrap_or(0),
            self.messages,
            words(&err)
        );
        self.truncate_and_write(&text)
    }

    /// Makes room for a message about what was lost.
    fn truncate_and_write(&mut self, text: &str) -> Result<(), Fatal> {
        let Some(log) = &mut self.current else { return Ok(()) };
        let name = String::from_utf8_lossy(&log.name);
        if log.file.set_len(0).is_err() {
            return Err(fatal(format!("Error truncating the file {name}\n")));
        }
        log.file
            .write_all(text.as_bytes())
            .map_err(|_| fatal(format!("Error writing error ({text}) to the file {name}\n")))
    }
}

/// Behind what is there, or in its place.
fn open(name: &[u8], truncate: bool) -> io::Result<File> {
    // `truncate` does not go with `append` in the standard library, but it does in the kernel.
    let truncate = if truncate { libc::O_TRUNC } else { 0 };
    OpenOptions::new().append(true).create(true).custom_flags(truncate).open(OsStr::from_bytes(name))
}

/// `strerror`.
fn words(error: &io::Error) -> String {
    crate::log::error_words(error)
}
