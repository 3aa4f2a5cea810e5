//! The socket, the bytes read from it, and what waits to be written: the only place that knows partial writes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use bytes::Bytes;
use mio::net::TcpStream;

use crate::body::{Chunk, FileSlice};
use crate::os::socket;

/// What came of an attempt to read or write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It went on.
    Done,
    /// The socket would block.
    Blocked,
    /// The other side closed.
    Closed,
}

/// Pieces up to this many bytes are copied behind the head: cheaper than to gather them.
const COPIED: usize = 4 * 1024;
/// How much is read at once.
const READ_SIZE: usize = 16 * 1024;
/// How many spare buffers a thread keeps, and how large they may be.
const SPARE: usize = 64;
const SPARE_SIZE: usize = 64 * 1024;

thread_local! {
    /// What `read` writes to; only what came is copied from here.
    static SCRATCH: RefCell<Box<[u8; READ_SIZE]>> = RefCell::new(Box::new([0; READ_SIZE]));
    /// Buffers that idle connections gave back.
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A spare buffer in place of one that has no memory.
fn borrow_memory(buffer: &mut Vec<u8>) {
    if buffer.capacity() == 0
        && let Some(spare) = BUFFERS.with_borrow_mut(Vec::pop)
    {
        *buffer = spare;
    }
}

/// Keeps the memory of an empty buffer for another connection.
fn give_memory_back(buffer: &mut Vec<u8>) {
    if buffer.is_empty() && buffer.capacity() > 0 {
        let spare = std::mem::take(buffer);
        if spare.capacity() <= SPARE_SIZE {
            BUFFERS.with_borrow_mut(|spares| {
                if spares.len() < SPARE {
                    spares.push(spare);
                }
            });
        }
    }
}
/// Above this the wire is flushed before more of a body is asked for.
pub const HIGH_WATER: usize = 64 * 1024;

/// A connection's socket and buffers. An idle one owns no buffer.
pub struct Wire {
    /// The socket, non-blocking.
    pub stream: TcpStream,
    input: Vec<u8>,
    /// Up to where `input` was taken.
    taken: usize,
    /// False once a read found the socket empty; the engine sets it again.
    pub readable: bool,
    /// The client sent its end.
    pub eof: bool,
    /// The poller said that the client's end has come: a short read doesn't mean that nothing follows.
    pub hung_up: bool,
    /// Bytes to be written before `queue`.
    pub head: Vec<u8>,
    head_sent: usize,
    queue: VecDeque<Chunk>,
    queued: usize,
    /// Bytes written so far.
    pub written: u64,
    /// Whether files may go by `sendfile`.
    pub sendfile: bool,
    /// How much may wait before more is made.
    pub high_water: usize,
    /// How many whole replies wait.
    pub pipelined: u32,
}

impl Wire {
    /// Around an accepted socket.
    pub fn new(stream: TcpStream) -> Wire {
        Wire {
            stream,
            input: Vec::new(),
            taken: 0,
            readable: true,
            eof: false,
            hung_up: false,
            head: Vec::new(),
            head_sent: 0,
            queue: VecDeque::new(),
            queued: 0,
            written: 0,
            sendfile: true,
            high_water: HIGH_WATER,
            pipelined: 0,
        }
    }

    /// The socket's descriptor.
    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Takes the buffer that the next reply's head is written to.
    pub fn take_head(&mut self) -> Vec<u8> {
        borrow_memory(&mut self.head);
        std::mem::take(&mut self.head)
    }

    /// What was read and not taken yet.
    pub fn buffered(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    /// Takes `count` bytes off what was read.
    pub fn take(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.input.len());
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
    }

    /// Gives the memory of the buffers back: the connection is idle.
    pub fn release(&mut self) {
        give_memory_back(&mut self.input);
        give_memory_back(&mut self.head);
        if self.queue.is_empty() && self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
    }

    /// Reads what is there, once. A short read means that the socket is empty.
    pub fn fill(&mut self) -> io::Result<Progress> {
        if self.eof {
            return Ok(Progress::Closed);
        }
        if !self.readable {
            return Ok(Progress::Blocked);
        }
        if self.taken > 0 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        self.receive(socket::Blocking::Never)
    }

    /// Reads in prefork, where the process may sleep for it: up to the socket's timeout, or until a signal comes.
    pub fn fill_sleeping(&mut self) -> io::Result<Progress> {
        if self.eof {
            return Ok(Progress::Closed);
        }
        self.receive(socket::Blocking::UntilTimeout)
    }

    fn receive(&mut self, blocking: socket::Blocking) -> io::Result<Progress> {
        let read = SCRATCH.with_borrow_mut(|scratch| {
            loop {
                match socket::recv(self.stream.as_fd(), &mut scratch[..], blocking) {
                    Err(err)
                        if err.kind() == io::ErrorKind::Interrupted
                            && blocking == socket::Blocking::Never => {}
                    Ok(count) => {
                        borrow_memory(&mut self.input);
                        self.input.extend_from_slice(&scratch[..count]);
                        break Ok(count);
                    }
                    Err(err) => break Err(err),
                }
            }
        });
        match read {
            Ok(0) => {
                self.eof = true;
                Ok(Progress::Closed)
            }
            Ok(count) => {
                self.readable = count == READ_SIZE || self.hung_up;
                Ok(Progress::Done)
            }
            Err(err) if matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                self.readable = false;
                Ok(Progress::Blocked)
            }
            Err(err) => Err(err),
        }
    }

    /// Puts a piece behind what waits to be written.
    pub fn push(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Bytes(bytes) if bytes.is_empty() => {}
            Chunk::Bytes(bytes) if self.queue.is_empty() && bytes.len() <= COPIED => {
                self.head.extend_from_slice(&bytes);
            }
            Chunk::Bytes(bytes) => {
                self.queued += bytes.len();
                self.queue.push_back(Chunk::Bytes(bytes));
            }
            Chunk::File(slice) if slice.len == 0 => {}
            Chunk::File(slice) => {
                self.queued = HIGH_WATER;
                self.queue.push_back(Chunk::File(slice));
            }
        }
    }

    /// Puts bytes behind what waits to be written.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        if self.queue.is_empty() {
            self.head.extend_from_slice(bytes);
        } else {
            self.push(Chunk::Bytes(Bytes::copy_from_slice(bytes)));
        }
    }

    /// True when nothing waits to be written.
    pub fn is_flushed(&self) -> bool {
        self.head_sent == self.head.len() && self.queue.is_empty()
    }

    /// True when pieces wait behind the head buffer, or part of it was sent: nothing can be added to the buffer then.
    pub fn is_holding(&self) -> bool {
        self.head_sent > 0 || !self.queue.is_empty()
    }

    /// True when enough waits that it should be written before more is made.
    pub fn is_full(&self) -> bool {
        self.head.len() + self.queued >= self.high_water
    }

    /// Writes until all is gone or the socket would block.
    pub fn flush(&mut self) -> io::Result<Progress> {
        while !self.is_flushed() {
            let sent = match self.write_some() {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => sent,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Blocked),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(err),
            };
            self.written += sent as u64;
            self.advance(sent);
        }
        self.head.clear();
        self.head_sent = 0;
        self.queued = 0;
        self.pipelined = 0;
        Ok(Progress::Done)
    }

    /// One system call: as many pieces of memory as there are before a file, or a piece of the file.
    fn write_some(&mut self) -> io::Result<usize> {
        const MOST: usize = 16;
        let unsent = &self.head[self.head_sent..];
        let file_next = matches!(self.queue.front(), Some(Chunk::File(_)));
        if unsent.is_empty() && file_next {
            let use_sendfile = self.sendfile;
            if let Some(Chunk::File(slice)) = self.queue.front() {
                if use_sendfile {
                    let sent = socket::sendfile(self.stream.as_fd(), &slice.file, slice.offset, slice.len)?;
                    // The file became shorter than it was when its length was sent.
                    return if sent == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(sent) };
                }
                let mut copy: FileSlice = slice.clone();
                let bytes = copy.read(HIGH_WATER)?;
                return (&self.stream).write(&bytes);
            }
        }
        if file_next {
            return socket::send_more(self.stream.as_fd(), unsent);
        }
        if self.queue.is_empty() {
            return (&self.stream).write(unsent);
        }
        let mut slices = [IoSlice::new(&[]); MOST];
        let mut count = 0;
        if !unsent.is_empty() {
            slices[0] = IoSlice::new(unsent);
            count = 1;
        }
        for chunk in &self.queue {
            match chunk {
                Chunk::Bytes(bytes) if count < MOST => {
                    slices[count] = IoSlice::new(bytes);
                    count += 1;
                }
                _ => break,
            }
        }
        (&self.stream).write_vectored(&slices[..count])
    }

    fn advance(&mut self, mut sent: usize) {
        let of_head = sent.min(self.head.len() - self.head_sent);
        self.head_sent += of_head;
        sent -= of_head;
        while sent > 0 {
            let finished = match self.queue.front_mut() {
                Some(Chunk::Bytes(bytes)) => {
                    let part = sent.min(bytes.len());
                    bytes::Buf::advance(bytes, part);
                    sent -= part;
                    bytes.is_empty()
                }
                Some(Chunk::File(slice)) => {
                    let part = (sent as u64).min(slice.len);
                    slice.offset += part;
                    slice.len -= part;
                    sent -= part as usize;
                    slice.len == 0
                }
                None => return,
            };
            if finished {
                self.queue.pop_front();
            }
        }
    }
}
