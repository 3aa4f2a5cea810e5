//! Access logs: lines of one turn go out together.
//!
//! A line is appended to its file's buffer in this thread; the engine writes the buffers at the end of a turn (event), or
//! before it waits (prefork). Files are opened for appending, so that lines of several processes stay whole.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

thread_local! {
    static PENDING: RefCell<Vec<(Arc<File>, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

/// More than this is written at once.
const MOST: usize = 32 * 1024;

/// Adds a line to a log.
pub fn append(file: &Arc<File>, line: &[u8]) {
    PENDING.with(|pending| {
        let mut pending = pending.borrow_mut();
        let at = match pending.iter().position(|(f, _)| Arc::ptr_eq(f, file)) {
            Some(at) => at,
            None => {
                pending.push((file.clone(), Vec::with_capacity(4096)));
                pending.len() - 1
            }
        };
        let (file, buffer) = &mut pending[at];
        buffer.extend_from_slice(line);
        if buffer.len() >= MOST {
            write(file, buffer);
        }
    });
}

fn write(file: &File, buffer: &mut Vec<u8>) {
    // A log that can't be written (disk full) must not keep the server from serving.
    let _ = (&mut &*file).write_all(buffer);
    buffer.clear();
}

/// Writes what this thread has.
pub fn flush_lines() {
    PENDING.with(|pending| {
        for (file, buffer) in pending.borrow_mut().iter_mut() {
            if !buffer.is_empty() {
                write(file, buffer);
            }
        }
    });
}
