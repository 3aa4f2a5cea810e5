//! Access logs: lines of one turn go out together.
//!
//! Answers to `ap_default_log_writer` and `ap_buffered_log_writer` of `modules/loggers/mod_log_config.c`. A line is formatted
//! straight into its log's buffer in this thread; the engine writes the buffers before it waits, and event with more to do
//! than it can wait for every few milliseconds. Files are opened for appending, so that lines of several processes stay whole.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use super::pipe::PipedLog;
use crate::os::clock::{Millis, now_ms};

/// More than this is written at once.
const MOST: usize = 8 * 1024;
/// How many milliseconds lines wait for others, while there are requests to serve.
const AGE: Millis = 10;
/// `PIPE_BUF`: what several processes write to a pipe stays whole up to this length.
const PIPE_BUF: usize = 4096;
/// `LOG_BUFSIZE`: a line and what `BufferedLogs` holds of others are at most this long.
const BUFFERED: usize = 4096;

static IDS: AtomicUsize = AtomicUsize::new(0);
static BUFFERED_LOGS: RwLock<Vec<Weak<Log>>> = RwLock::new(Vec::new());

/// A log that lines are appended to.
pub struct Log {
    /// A number, unique within the process and its children.
    id: usize,
    /// The name it was opened by.
    pub name: String,
    target: Target,
    /// `BufferedLogs On`: lines are kept until there are enough of them.
    kept: Option<Mutex<Vec<u8>>>,
}

enum Target {
    File(File),
    Pipe(Arc<PipedLog>),
}

impl Log {
    /// Opens a file for appending.
    pub fn file(path: &str, buffered: bool) -> io::Result<Arc<Log>> {
        let file = super::error_log::append(Path::new(path))?;
        Ok(Log::new(path.to_owned(), Target::File(file), buffered))
    }

    /// Around a program that reads the lines.
    pub fn pipe(name: String, pipe: Arc<PipedLog>, buffered: bool) -> Arc<Log> {
        Log::new(name, Target::Pipe(pipe), buffered)
    }

    fn new(name: String, target: Target, buffered: bool) -> Arc<Log> {
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let log = Arc::new(Log { id, name, target, kept: buffered.then(Mutex::default) });
        if buffered {
            let mut all = BUFFERED_LOGS.write().unwrap_or_else(PoisonError::into_inner);
            all.retain(|log| log.strong_count() > 0);
            all.push(Arc::downgrade(&log));
        }
        log
    }

    /// Writes lines with one system call.
    fn write(&self, lines: &[u8]) {
        // A log that can't be written (disk full) must not keep the server from serving.
        let _ = match &self.target {
            Target::File(file) => (&mut &*file).write_all(lines),
            Target::Pipe(pipe) => pieces(lines).try_for_each(|piece| pipe.write(piece)),
        };
    }

    fn keep(&self, kept: &Mutex<Vec<u8>>, lines: &[u8]) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() + lines.len() > BUFFERED && !kept.is_empty() {
            self.write(&kept);
            kept.clear();
        }
        if lines.len() >= BUFFERED {
            self.write(lines);
        } else {
            kept.extend_from_slice(lines);
        }
    }

    fn write_kept(&self) {
        if let Some(kept) = &self.kept {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if !kept.is_empty() {
                self.write(&kept);
                kept.clear();
            }
        }
    }
}

/// Whole lines, as many at once as a pipe takes in one piece.
fn pieces(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let most = lines.len().min(PIPE_BUF);
        let end = if most == lines.len() { None } else { lines[..most].iter().rposition(|&c| c == b'\n') };
        let next = match end {
            Some(end) => end + 1,
            // One long line, or all of the rest.
            None => lines[most..].iter().position(|&c| c == b'\n').map_or(lines.len(), |end| most + end + 1),
        };
        let (piece, rest) = lines.split_at(next);
        lines = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// What this thread has of a log.
struct Pending {
    log: Arc<Log>,
    lines: Vec<u8>,
}

#[derive(Default)]
struct Thread {
    /// By [`Log::id`].
    logs: Vec<Option<Pending>>,
    /// Those that have lines.
    dirty: Vec<usize>,
    /// Since when.
    since: Millis,
}

thread_local! {
    static THREAD: RefCell<Thread> = const { RefCell::new(Thread { logs: Vec::new(), dirty: Vec::new(), since: 0 }) };
}

/// Adds what `format` appends to a log. `format` must not log to a log of this kind itself.
pub fn append(log: &Arc<Log>, format: impl FnOnce(&mut Vec<u8>)) {
    THREAD.with(|thread| {
        let Ok(mut thread) = thread.try_borrow_mut() else { return };
        let thread = &mut *thread;
        if thread.logs.len() <= log.id {
            thread.logs.resize_with(log.id + 1, || None);
        }
        let Some(entry) = thread.logs.get_mut(log.id) else { return };
        let pending =
            entry.get_or_insert_with(|| Pending { log: log.clone(), lines: Vec::with_capacity(BUFFERED) });
        if pending.lines.is_empty() {
            if thread.dirty.is_empty() {
                thread.since = now_ms();
            }
            thread.dirty.push(log.id);
        }
        format(&mut pending.lines);
        if pending.lines.len() >= MOST {
            pending.write();
        }
    });
}

impl Pending {
    fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        match &self.log.kept {
            Some(kept) => self.log.keep(kept, &self.lines),
            None => self.log.write(&self.lines),
        }
        self.lines.clear();
    }
}

/// Whether this thread has lines that are not written.
pub fn has_lines() -> bool {
    THREAD.with_borrow(|thread| !thread.dirty.is_empty())
}

/// Writes what this thread has if it has waited long enough.
pub fn flush_old_lines() {
    if THREAD.with_borrow(|thread| !thread.dirty.is_empty() && now_ms() >= thread.since + AGE) {
        flush_lines();
    }
}

/// Writes what this thread has.
pub fn flush_lines() {
    THREAD.with(|thread| {
        let Ok(mut thread) = thread.try_borrow_mut() else { return };
        let thread = &mut *thread;
        for id in thread.dirty.drain(..) {
            if let Some(Some(pending)) = thread.logs.get_mut(id) {
                pending.write();
            }
        }
    });
}

/// Writes what this thread has and what `BufferedLogs` kept: the process ends.
pub fn flush_all() {
    flush_lines();
    let all = BUFFERED_LOGS.read().unwrap_or_else(PoisonError::into_inner);
    for log in all.iter().filter_map(Weak::upgrade) {
        log.write_kept();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(name: &str) -> String {
        std::env::temp_dir().join(format!("httpd-{}-{name}", std::process::id())).display().to_string()
    }

    #[test]
    fn lines_go_out_at_the_end_of_a_turn() {
        let path = temporary("turn");
        let log = Log::file(&path, false).unwrap();
        append(&log, |out| out.extend_from_slice(b"one\n"));
        append(&log, |out| out.extend_from_slice(b"two\n"));
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        flush_lines();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_pipe_gets_whole_lines() {
        let line = [[b'x'; 1499].as_slice(), b"\n"].concat();
        let lengths = |lines: &[u8]| pieces(lines).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(&line.repeat(5)), [3000, 3000, 1500]);
        let long = [[b'y'; 5000].as_slice(), b"\n"].concat();
        assert_eq!(lengths(&[&line[..], &long, &line].concat()), [1500, 5001, 1500]);
        assert_eq!(lengths(b"no end"), [6]);
        assert!(lengths(b"").is_empty());
    }

    #[test]
    fn buffered_lines_wait_until_there_are_enough() {
        let path = temporary("kept");
        let log = Log::file(&path, true).unwrap();
        append(&log, |out| out.extend_from_slice(&[b'a'; 3000]));
        flush_lines();
        assert_eq!(std::fs::read(&path).unwrap().len(), 0);
        append(&log, |out| out.extend_from_slice(&[b'b'; 3000]));
        flush_lines();
        assert_eq!(std::fs::read(&path).unwrap().len(), 3000);
        flush_all();
        assert_eq!(std::fs::read(&path).unwrap().len(), 6000);
        std::fs::remove_file(path).unwrap();
    }
}
