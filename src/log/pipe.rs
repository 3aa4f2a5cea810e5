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

use crate::log::{Level, server_event, system_error};
use crate::os::process::{self, CommandType};

/// A program that reads lines.
pub struct PipedLog {
    program: String,
    how: CommandType,
    dir: PathBuf,
    write: File,
    /// Kept for a program that takes the place of one that ended: what it did not read is not lost.
    read: OwnedFd,
    pid: AtomicI32,
}

/// Those that this process started.
static STARTED: Mutex<Vec<Weak<PipedLog>>> = Mutex::new(Vec::new());

impl PipedLog {
    /// Starts the program that `name` (with its first `|`) says; the error is the text for the console.
    pub fn open(name: &str, server_root: &Path) -> Result<Arc<PipedLog>, String> {
        PipedLog::start_program(name, server_root).map_err(|err| {
            let (_, program) = command(name);
            format!("{}: AH00104: unable to start piped log program '{program}'", system_error(&err))
        })
    }

    /// The same for the error log, which has an error text of its own.
    pub fn start_program(name: &str, server_root: &Path) -> io::Result<Arc<PipedLog>> {
        let (how, program) = command(name);
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let log = Arc::new(PipedLog {
            program: program.to_owned(),
            how,
            dir: server_root.to_owned(),
            write: File::from(write),
            read,
            pid: AtomicI32::new(0),
        });
        log.start()?;
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        started.retain(|log| log.strong_count() > 0);
        started.push(Arc::downgrade(&log));
        Ok(log)
    }

    fn start(&self) -> io::Result<()> {
        let words = tokenize_to_argv(&self.program);
        let pid = process::start(&words, self.how, &self.dir, self.read.try_clone()?)?;
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

/// A child of the master ended that serves no requests: when it read a log, it is started again. For a stopping
/// server there is no such call.
pub fn child_ended(pid: i32) {
    let started: Vec<_> = {
        let all = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    };
    for log in started.iter().filter(|log| log.pid.load(Ordering::Relaxed) == pid) {
        let text = format!("piped log program '{}' failed unexpectedly", log.program);
        server_event(Level::Error, "core", "AH00106", &text);
        if let Err(err) = log.start() {
            log.pid.store(0, Ordering::Relaxed);
            let text = format!("piped_log_maintenance: unable to respawn '{}'", log.program);
            super::server_error(Level::Error, "core", "AH00107", Some(&err), &text);
        }
    }
}

/// Words by blanks, with single and double quotes and backslashes: `apr_tokenize_to_argv`.
fn tokenize_to_argv(line: &str) -> Vec<String> {
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
        let log = PipedLog::open(&name, Path::new("/")).unwrap();
        log.write(b"line\n").unwrap();
        let pid = log.pid.load(Ordering::Relaxed);
        drop(log);
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
        assert_eq!(std::fs::read(&path).unwrap(), b"line\n");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_program_that_is_not_there() {
        let error = PipedLog::open("|/nowhere/log", Path::new("/")).map(|_| ()).unwrap_err();
        assert_eq!(
            error,
            "(2)No such file or directory: AH00104: unable to start piped log program '/nowhere/log'"
        );
    }
}
