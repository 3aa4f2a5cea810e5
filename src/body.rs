//! A response body is pulled: asked for its next chunk when the socket can take one.
//!
//! Takes the place of Apache's bucket brigades (`include/util_filter.h`). A file stays a file until something needs its
//! bytes. A filter is a body around a body, so none can be half written.

use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::request::Request;
use crate::table::Table;

/// A part of an open file.
#[derive(Clone, Debug)]
pub struct FileSlice {
    /// The file.
    pub file: Arc<File>,
    /// First byte.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

impl FileSlice {
    /// The bytes, for a filter that must see them: at most `most`, and the slice moves on behind them.
    pub fn read(&mut self, most: usize) -> io::Result<Bytes> {
        use std::os::unix::fs::FileExt;
        let want = usize::try_from(self.len).unwrap_or(usize::MAX).min(most);
        let mut buffer = vec![0; want];
        let mut filled = 0;
        while filled < want {
            match self.file.read_at(&mut buffer[filled..], self.offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        if filled == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.truncate(filled);
        self.offset += filled as u64;
        self.len -= filled as u64;
        Ok(Bytes::from(buffer))
    }
}

/// A piece of a body.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A part of a file.
    File(FileSlice),
}

impl Chunk {
    /// How many bytes.
    pub fn len(&self) -> u64 {
        match self {
            Chunk::Bytes(bytes) => bytes.len() as u64,
            Chunk::File(slice) => slice.len,
        }
    }
    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a body that can't go on waits for.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// A socket or pipe of a backend.
    pub fd: RawFd,
    /// To be read from (else: written to).
    pub read: bool,
    /// How long at most.
    pub timeout: Duration,
    /// A number that no other descriptor has, before or after it: it stays open over many waits, of this request and others.
    pub kept: Option<u64>,
}

/// The answer of a body that was asked for more.
#[derive(Debug)]
pub enum Pull {
    /// More of it.
    Chunk(Chunk),
    /// Send what is there; more will come.
    Flush,
    /// Not before this descriptor is ready.
    Wait(Wait),
    /// Not on a reactor: it would block.
    NeedThread,
    /// That was all; trailers, if any.
    End(Option<Box<Table>>),
}

/// Something that makes a body as it is asked for it.
#[allow(clippy::len_without_is_empty)] // A length that is not known is neither.
pub trait Body: Send {
    /// The next piece.
    fn pull(&mut self, r: &mut Request) -> io::Result<Pull>;
    /// How long it will be, where that is known before it is made.
    fn len(&self) -> Option<u64>;
}

/// A response body: the common kinds as they are, the others behind [`Body`].
#[derive(Default)]
pub enum Content {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A part of a file.
    File(FileSlice),
    /// A piece, then the rest.
    Then(Chunk, Box<Content>),
    /// Made as it is pulled.
    Stream(Box<dyn Body>),
}

impl Content {
    /// The length, where known.
    pub fn len(&self) -> Option<u64> {
        match self {
            Content::Empty => Some(0),
            Content::Bytes(bytes) => Some(bytes.len() as u64),
            Content::File(slice) => Some(slice.len),
            Content::Then(chunk, rest) => Some(chunk.len() + rest.len()?),
            Content::Stream(body) => body.len(),
        }
    }

    /// True when it is known to hold nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// The next piece.
    pub fn pull(&mut self, r: &mut Request) -> io::Result<Pull> {
        match std::mem::take(self) {
            Content::Empty => Ok(Pull::End(None)),
            Content::Bytes(bytes) => Ok(Pull::Chunk(Chunk::Bytes(bytes))),
            Content::File(slice) => Ok(Pull::Chunk(Chunk::File(slice))),
            Content::Then(chunk, rest) => {
                *self = *rest;
                Ok(Pull::Chunk(chunk))
            }
            Content::Stream(mut body) => {
                let pulled = body.pull(r);
                if !matches!(pulled, Ok(Pull::End(_)) | Err(_)) {
                    *self = Content::Stream(body);
                }
                pulled
            }
        }
    }

    /// The next piece as bytes in memory, for a filter: files are read in pieces of `most`.
    pub fn pull_bytes(&mut self, r: &mut Request, most: usize) -> io::Result<Pull> {
        match self.pull(r)? {
            Pull::Chunk(Chunk::File(mut slice)) => {
                let bytes = slice.read(most)?;
                if slice.len > 0 {
                    let rest = std::mem::take(self);
                    *self = Content::Then(Chunk::File(slice), Box::new(rest));
                }
                Ok(Pull::Chunk(Chunk::Bytes(bytes)))
            }
            other => Ok(other),
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content::Bytes(Bytes::from(bytes))
    }
}
impl From<String> for Content {
    fn from(text: String) -> Self {
        Content::Bytes(Bytes::from(text))
    }
}

/// What Apache collects of a page made by a handler before it begins to send (`APR_BUCKET_BUFF_SIZE`).
const COLLECTED: usize = 8000;

/// A page made by a handler. As in Apache, the length of a long one is not told, so it goes chunked; nor is it when parts
/// of it were `sent_apart`, by sub-requests.
pub fn generated(page: Vec<u8>, sent_apart: bool) -> Content {
    if page.len() <= COLLECTED && !sent_apart {
        return Content::from(page);
    }
    Content::Stream(Box::new(Unmeasured(Bytes::from(page))))
}

struct Unmeasured(Bytes);

impl Body for Unmeasured {
    fn pull(&mut self, _: &mut Request) -> io::Result<Pull> {
        let page = std::mem::take(&mut self.0);
        Ok(if page.is_empty() { Pull::End(None) } else { Pull::Chunk(Chunk::Bytes(page)) })
    }
    fn len(&self) -> Option<u64> {
        None
    }
}

/// Several chunks, one after the other.
pub struct Chunks(pub std::collections::VecDeque<Chunk>);

impl Body for Chunks {
    fn pull(&mut self, _: &mut Request) -> io::Result<Pull> {
        Ok(self.0.pop_front().map_or(Pull::End(None), Pull::Chunk))
    }
    fn len(&self) -> Option<u64> {
        Some(self.0.iter().map(Chunk::len).sum())
    }
}
