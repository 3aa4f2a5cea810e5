//! Logs that a program reads: `|program`, `||program`, `|$shell command`.
//!
//! Answers to `ap_open_piped_log` of `server/log.c`. The master starts the programs, as root, before its children, and
//! starts one again that ends (AH00106). Differs in that a program whose log is no longer used sees the end of its input
//! rather than SIGTERM, so it can finish what it has.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::config::server::Setup;
use crate::log::error_log::write_stderr;
use crate::log::system_error;
use crate::os::process::{self, CommandType, Streams};

/// A program that reads lines.
pub struct PipedLog {
    program: String,
    how: CommandType,
    dir: PathBuf,
    purpose: Purpose,
    write: File,
    /// Kept for a program that takes the place of one that ended: what it did not read is not lost.
    read: OwnedFd,
    pid: AtomicI32,
}

/// What a program's lines are, which decides where its own output goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Its complaints go to the main error log.
    Access,
    /// Its complaints go to standard output: it must not keep its own pipe open, or an older one's.
    Errors,
}

/// Those that this process started.
static STARTED: Mutex<Vec<Weak<PipedLog>>> = Mutex::new(Vec::new());

impl PipedLog {
    /// Starts the program that `name` (with its first `|`) says; the error is the text for the console.
    pub fn open(name: &str, setup: &Setup) -> Result<Arc<PipedLog>, String> {
        PipedLog::start_program(name, Purpose::Access, setup)
            .map_err(|err| not_started(command(name).1, &err))
    }

    /// The same for any log; the error log has an error text of its own.
    pub fn start_program(name: &str, purpose: Purpose, setup: &Setup) -> io::Result<Arc<PipedLog>> {
        // Before the server goes to the background; a program must not keep the console from closing.
        let mute = setup.generation == 0 && !setup.options.foreground;
        PipedLog::start_in(name, purpose, Path::new(&setup.server_root), mute)
    }

    fn start_in(name: &str, purpose: Purpose, dir: &Path, mute: bool) -> io::Result<Arc<PipedLog>> {
        let (how, program) = command(name);
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let log = Arc::new(PipedLog {
            program: program.to_owned(),
            how,
            dir: dir.to_owned(),
            purpose,
            write: File::from(write),
            read,
            pid: AtomicI32::new(0),
        });
        log.start(mute)?;
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        started.retain(|log| log.strong_count() > 0);
        started.push(Arc::downgrade(&log));
        Ok(log)
    }

    fn start(&self, mute: bool) -> io::Result<()> {
        let words = tokenize_to_argv(&self.program);
        let stderr = match self.purpose {
            Purpose::Errors => None,
            Purpose::Access => super::stderr_for_programs(),
        };
        let streams = Streams { stdin: self.read.try_clone()?, mute, stderr };
        let pid = process::start(&words, self.how, &self.dir, streams)?;
        self.pid.store(pid, Ordering::Relaxed);
        Ok(())
    }

    /// Gives it lines.
    pub fn write(&self, lines: &[u8]) -> io::Result<()> {
        (&self.write).write_all(lines)
    }

    /// The end that is written to.
    pub fn file(&self) -> &File {
        &self.write
    }
}

/// How `|program`, `||program` and `|$shell command` are to be started.
fn command(name: &str) -> (CommandType, &str) {
    let program = name.strip_prefix('|').unwrap_or(name);
    let program = program.strip_prefix('|').unwrap_or(program);
    match program.strip_prefix('$') {
        Some(command) => (CommandType::Shell, command),
        None => (CommandType::Program, program),
    }
}

fn not_started(program: &str, err: &io::Error) -> String {
    format!("{}: AH00104: unable to start piped log program '{program}'", system_error(err))
}

/// A child of the master ended that serves no requests: when it read a log, it is started again. For a stopping
/// server there is no such call.
pub fn child_ended(pid: i32) {
    let started: Vec<_> = {
        let all = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    };
    for log in started.iter().filter(|log| log.pid.load(Ordering::Relaxed) == pid) {
        // These lines have neither time nor level (`APLOG_STARTUP`).
        let program = &log.program;
        write_stderr(&format!("AH00106: piped log program '{program}' failed unexpectedly\n"));
        if let Err(err) = log.start(false) {
            log.pid.store(0, Ordering::Relaxed);
            write_stderr(&format!(
                "{}\n{}: AH00107: piped_log_maintenance: unable to respawn '{program}'\n",
                not_started(program, &err),
                system_error(&err)
            ));
        }
    }
}

/// Words by blanks, with single and double quotes and backslashes: `apr_tokenize_to_argv`.
pub fn tokenize_to_argv(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches([' ', '\t']);
    while !rest.is_empty() {
        let mut word = String::new();
        let mut quote = None;
        let mut chars = rest.char_indices().peekable();
        let mut end = rest.len();
        while let Some((at, c)) = chars.next() {
            match (c, quote) {
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                ('\\', _) => match chars.peek().copied() {
                    Some((_, next)) if matches!(next, ' ' | '\t' | '"' | '\'' | '\\') => {
                        word.push(next);
                        chars.next();
                    }
                    _ => word.push('\\'),
                },
                (' ' | '\t', None) => {
                    end = at;
                    break;
                }
                (c, _) => word.push(c),
            }
        }
        words.push(word);
        rest = rest[end..].trim_start_matches([' ', '\t']);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_command() {
        assert_eq!(tokenize_to_argv("/bin/cat -n"), ["/bin/cat", "-n"]);
        assert_eq!(tokenize_to_argv(" a 'b c' \"d e\" f\\ g "), ["a", "b c", "d e", "f g"]);
        assert!(tokenize_to_argv("").is_empty());
    }

    #[test]
    fn a_program_gets_the_lines() {
        let path = std::env::temp_dir().join(format!("httpd-{}-piped", std::process::id()));
        let name = format!("|$cat > {}", path.display());
        let log = PipedLog::start_in(&name, Purpose::Access, Path::new("/"), true).unwrap();
        log.write(b"line\n").unwrap();
        let pid = log.pid.load(Ordering::Relaxed);
        drop(log);
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
        assert_eq!(std::fs::read(&path).unwrap(), b"line\n");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_program_that_is_not_there() {
        let name = "|/nowhere/log";
        let error = PipedLog::start_in(name, Purpose::Errors, Path::new("/"), true).map(|_| ()).unwrap_err();
        assert_eq!(
            not_started(command(name).1, &error),
            "(2)No such file or directory: AH00104: unable to start piped log program '/nowhere/log'"
        );
    }
}
