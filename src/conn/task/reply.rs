//! Pulling a reply's content and writing it: as much as the socket takes.

use super::{Need, State, Task};
use crate::body::{Chunk, Pull};
use crate::conn::wire::Progress;
use crate::http::chunked::{CHUNK_END, ChunkHead, LAST_CHUNK, last_chunk};
use crate::log::{Level, rerror};
use crate::modules::core;
use crate::modules::debugging::mod_dumpio;

impl Task {
    pub(super) fn reply(&mut self) -> Option<Need> {
        loop {
            let State::Reply { content, chunked, done } = &mut self.state else { return None };
            let full = self.r.input.wire.as_ref().is_none_or(|w| w.is_full());
            if !*done && !full {
                match content.pull(&mut self.r) {
                    Ok(Pull::Chunk(chunk)) => {
                        let len = chunk.len();
                        if len > 0 {
                            self.r.bytes_sent += len;
                            self.r.bytes_out += len;
                            let chunked = *chunked;
                            self.push(chunk, len, chunked);
                        }
                        continue;
                    }
                    Ok(Pull::End(trailers)) => {
                        *done = true;
                        if self.r.connection.dump.output {
                            if *chunked {
                                mod_dumpio::sent(&self.r.connection, "IMMORTAL", LAST_CHUNK);
                            }
                            mod_dumpio::mark(&self.r.connection, "EOS");
                        }
                        if *chunked && let Some(wire) = self.r.input.wire.as_deref_mut() {
                            let last = trailers.map(|trailers| last_chunk(&trailers));
                            let last = last.as_deref().unwrap_or(LAST_CHUNK);
                            self.r.bytes_out += last.len() as u64;
                            wire.push_bytes(last);
                        }
                    }
                    Ok(Pull::Flush) => {}
                    Ok(Pull::Wait(wait)) => {
                        let Some(wire) = self.r.input.wire.as_deref_mut() else { return Some(self.close()) };
                        match wire.flush() {
                            Ok(Progress::Blocked) => return self.wait_client(false),
                            Ok(_) => return Some(self.wait_for(wait)),
                            Err(_) => return Some(self.aborted()),
                        }
                    }
                    Ok(Pull::NeedThread) => return Some(Need::Thread),
                    // Whoever waited for it has logged that.
                    Err(err) if err.kind() == std::io::ErrorKind::TimedOut => return Some(self.aborted()),
                    Err(err) => {
                        rerror!(self.r, Level::Error, "core", "", err = err, "the reply's content broke off");
                        return Some(self.aborted());
                    }
                }
            }
            let State::Reply { done, .. } = &self.state else { return None };
            let done = *done;
            let Some(wire) = self.r.input.wire.as_deref_mut() else { return Some(self.close()) };
            // Replies to pipelined requests go out together.
            let more_requests = done
                && self.r.keepalive
                && !wire.buffered().is_empty()
                && !wire.is_full()
                && wire.pipelined < self.r.server.resolved.flush_max_pipelined;
            if more_requests {
                wire.pipelined += 1;
            } else {
                match wire.flush() {
                    Ok(Progress::Blocked) => return self.wait_client(false),
                    Ok(_) => {}
                    Err(_) => return Some(self.aborted()),
                }
            }
            if done {
                self.state = State::Drain;
                return None;
            }
        }
    }

    pub(super) fn push(&mut self, chunk: Chunk, len: u64, chunked: bool) {
        if self.r.connection.dump.output {
            self.dump(&chunk, len, chunked);
        }
        let Some(wire) = self.r.input.wire.as_deref_mut() else { return };
        if chunked {
            let head = ChunkHead::new(len);
            self.r.bytes_out += (head.as_ref().len() + CHUNK_END.len()) as u64;
            wire.push_bytes(head.as_ref());
            wire.push(chunk);
            wire.push_bytes(CHUNK_END);
        } else {
            wire.push(chunk);
        }
    }

    fn dump(&self, chunk: &Chunk, len: u64, chunked: bool) {
        let c = &self.r.connection;
        if chunked {
            mod_dumpio::sent(c, "TRANSIENT", ChunkHead::new(len).as_ref());
        }
        mod_dumpio::content(c, chunk, self.r.dir(&core::DIR).enable_mmap != Some(false));
        if chunked {
            mod_dumpio::sent(c, "IMMORTAL", CHUNK_END);
        }
    }

    /// The client went away: the request is logged as far as it came.
    pub(super) fn aborted(&mut self) -> Need {
        self.r.keepalive = false;
        self.r.aborted = true;
        self.r.ongoing = None;
        match self.finish_request() {
            Some(need) => {
                // To be logged on a thread; then there is nobody to write to.
                self.state = State::Drain;
                need
            }
            None => self.close(),
        }
    }
}
