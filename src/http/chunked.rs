//! The chunked coding (RFC 9112 7.1): a decoder that takes what Apache's `ap_http_filter` takes
//! (`http_filters.c`), and what goes around the chunks of a reply (`chunk_filter.c`).

use super::fields::{FieldReader, Level, LogLine, Origin, is_ctl};
use super::head::Options;
use super::status::{self, Status};
use crate::table::Table;

/// Decodes a chunked body as it comes in.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// Data left in the current chunk, or the size read so far.
    remaining: u64,
    /// Hexadecimal digits that still fit.
    digits_left: u8,
    /// Bytes of the current size line.
    line_len: usize,
    blanks: u8,
    trailers: FieldReader,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The start of a size line.
    #[default]
    Chunk,
    Size,
    Extension,
    /// Blanks behind the size.
    Blanks,
    /// The LF of a size line.
    Lf,
    Data,
    /// CRLF behind the data, and its LF.
    DataEnd,
    DataEndLf,
    Trailers,
    Done,
}

/// Blanks taken behind a size (errata 4667 of RFC 7230).
const MAX_BLANKS: u8 = 10;

/// What one call of [`Decoder::decode`] made of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// How much of the input is done with, the data included.
    pub consumed: usize,
    /// Data of the body; the last of what was consumed.
    pub data: &'a [u8],
    /// The body is complete and its trailers are read.
    pub end: bool,
}

/// A body that is refused. The connection cannot be used any further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadChunk {
    /// 400, or 413 where a number or a line is too long.
    pub status: Status,
    /// For the error log, in order.
    pub log: Vec<LogLine>,
    /// The `error-notes`, where there are any.
    pub notes: Option<&'static str>,
    /// The error is in the trailers.
    pub in_trailers: bool,
}

/// `APR_ENOSPC` and `APR_EINVAL`, the two ways in which a size line can be wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Overflow,
    Invalid,
}

impl Decoder {
    /// A decoder at the start of a body.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Whether the whole body was decoded.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes up to the end of the next piece of data, or as far as the input goes. The caller takes `consumed`
    /// bytes off and calls again, with more input if neither data nor the end was there. Trailers are added to
    /// `trailers`.
    pub fn decode<'a>(
        &mut self,
        input: &'a [u8],
        trailers: &mut Table,
        options: &Options<'_>,
    ) -> Result<Decoded<'a>, BadChunk> {
        let mut at = 0;
        loop {
            match self.state {
                State::Data => {
                    let rest = input.get(at..).unwrap_or_default();
                    let n = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(rest.len());
                    self.remaining -= n as u64;
                    if self.remaining == 0 {
                        self.state = State::DataEnd;
                    }
                    return Ok(Decoded { consumed: at + n, data: &rest[..n], end: false });
                }
                State::Trailers => {
                    let mut log = Vec::new();
                    let rest = input.get(at..).unwrap_or_default();
                    let end = match self.trailers.read(rest, trailers, options, &mut log) {
                        Ok(end) => end,
                        Err(bad) => return Err(bad_trailers(bad.status, bad.notes, log)),
                    };
                    let read = self.trailers.lines.start;
                    self.trailers.lines.shift(read);
                    if end {
                        self.state = State::Done;
                    }
                    return Ok(Decoded { consumed: at + read, data: &[], end });
                }
                State::Done => return Ok(Decoded { consumed: at, data: &[], end: true }),
                _ => {}
            }
            let Some(&c) = input.get(at) else {
                self.limit_line(options).map_err(bad_size)?;
                return Ok(Decoded { consumed: at, data: &[], end: false });
            };
            at += 1;
            self.step(c, options).map_err(bad_size)?;
        }
    }

    /// The connection ended within the body (`APR_INCOMPLETE`); in the trailers that is an error of its own.
    /// mod_reqtimeout holds back a line that isn't whole.
    pub fn end_of_input(&mut self, input: &[u8], held_back: bool) -> Option<BadChunk> {
        if self.state != State::Trailers {
            return None;
        }
        let mut log = Vec::new();
        let bad = self.trailers.end(input, held_back, &mut log);
        Some(bad_trailers(bad.status, bad.notes, log))
    }

    /// Takes one byte of what is not data.
    fn step(&mut self, c: u8, options: &Options<'_>) -> Result<(), Wrong> {
        match (self.state, c) {
            (State::DataEnd, b'\r') => {
                self.state = State::DataEndLf;
                return Ok(());
            }
            (State::DataEnd, b'\n') if !options.strict => {
                self.state = State::Chunk;
                return Ok(());
            }
            (State::DataEndLf, b'\n') => {
                self.state = State::Chunk;
                return Ok(());
            }
            (State::DataEnd | State::DataEndLf, _) => return Err(Wrong::Invalid),
            _ => {}
        }
        if self.state == State::Chunk {
            if !c.is_ascii_hexdigit() {
                return Err(Wrong::Invalid);
            }
            self.state = State::Size;
            self.remaining = 0;
            self.digits_left = 16;
            self.line_len = 0;
            self.blanks = 0;
        }
        self.line_len += 1;
        match (self.state, c) {
            (state, b'\n') => {
                if options.strict && state != State::Lf {
                    return Err(Wrong::Invalid);
                }
                self.limit_line(options)?;
                self.line_len = 0;
                self.state = if self.remaining > 0 { State::Data } else { State::Trailers };
            }
            (State::Lf, _) => return Err(Wrong::Invalid),
            (_, b'\r') => self.state = State::Lf,
            (_, b';') => self.state = State::Extension,
            (State::Extension, c) => {
                if is_ctl(c) {
                    return Err(Wrong::Invalid);
                }
            }
            (_, b' ' | b'\t') => {
                self.state = State::Blanks;
                self.blanks += 1;
                if self.blanks > MAX_BLANKS {
                    return Err(Wrong::Invalid);
                }
            }
            (State::Size, c) => return self.digit(c),
            _ => return Err(Wrong::Invalid),
        }
        Ok(())
    }

    fn digit(&mut self, c: u8) -> Result<(), Wrong> {
        // Leading zeros do not count.
        if self.remaining == 0 && c == b'0' {
            return Ok(());
        }
        // Apache counts the digit before it looks whether it is one.
        self.digits_left = self.digits_left.checked_sub(1).ok_or(Wrong::Overflow)?;
        let digit = char::from(c).to_digit(16).ok_or(Wrong::Invalid)?;
        self.remaining = self.remaining << 4 | u64::from(digit);
        if i64::try_from(self.remaining).is_err() {
            return Err(Wrong::Overflow);
        }
        Ok(())
    }

    /// A size line is no longer than LimitRequestFieldSize.
    fn limit_line(&self, options: &Options<'_>) -> Result<(), Wrong> {
        if self.line_len > options.limit_request_fieldsize { Err(Wrong::Overflow) } else { Ok(()) }
    }
}

fn bad_size(wrong: Wrong) -> BadChunk {
    let (status, error, text): (_, _, &[u8]) = match wrong {
        Wrong::Overflow => (
            status::REQUEST_ENTITY_TOO_LARGE,
            super::fields::ENOSPC,
            b"Error reading/parsing chunk (overflow) ",
        ),
        Wrong::Invalid => (status::BAD_REQUEST, super::fields::EINVAL, b"Error reading/parsing chunk  "),
    };
    let line = LogLine::new(Level::Info, 1590, error, &[text]).of(Origin::Http);
    BadChunk { status, log: vec![line], notes: None, in_trailers: false }
}

fn bad_trailers(status: Status, notes: Option<&'static str>, mut log: Vec<LogLine>) -> BadChunk {
    let colon = if notes.is_some() { ": " } else { "" };
    let text = format!("Error while reading HTTP trailer: {status}{colon}{}", notes.unwrap_or_default());
    log.push(LogLine::new(Level::Info, 2656, 0, &[text.as_bytes()]).of(Origin::Http));
    BadChunk { status, log, notes, in_trailers: true }
}

/// The line in front of a chunk of `len` bytes, which is more than none.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHead {
    text: [u8; 18],
    len: u8,
}

impl ChunkHead {
    /// The line for a chunk of this many bytes.
    pub fn new(len: u64) -> ChunkHead {
        let digits = (64 - len.leading_zeros()).div_ceil(4).max(1);
        let mut head = ChunkHead { text: [0; 18], len: digits as u8 + 2 };
        for (i, to) in head.text[..digits as usize].iter_mut().rev().enumerate() {
            *to = b"0123456789abcdef"[(len >> (4 * i)) as usize & 15];
        }
        head.text[digits as usize..][..2].copy_from_slice(CHUNK_END);
        head
    }
}

impl AsRef<[u8]> for ChunkHead {
    fn as_ref(&self) -> &[u8] {
        &self.text[..usize::from(self.len)]
    }
}

/// What follows the data of a chunk.
pub const CHUNK_END: &[u8; 2] = b"\r\n";

/// The last chunk and the end of a body without trailers.
pub const LAST_CHUNK: &[u8; 5] = b"0\r\n\r\n";

/// The last chunk and the end of a body with trailers.
pub fn last_chunk(trailers: &Table) -> Vec<u8> {
    let mut out = b"0\r\n".to_vec();
    for (name, value) in trailers.iter() {
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{decode, expected_log, show};
    use super::*;

    const CASES: &str = include_str!("chunked_tests.tsv");

    #[derive(Debug, PartialEq, Eq)]
    struct Outcome {
        status: Status,
        body: String,
        trailers: [String; 2],
        log: String,
    }

    /// Feeds the body in pieces of `step` bytes.
    fn run(bytes: &[u8], step: usize, options: &Options<'_>) -> Outcome {
        let mut decoder = Decoder::new();
        let mut trailers = Table::new();
        let mut body = Vec::new();
        let (mut start, mut have) = (0, 0);
        let result = loop {
            match decoder.decode(&bytes[start..have], &mut trailers, options) {
                Err(bad) => break Err(bad),
                Ok(decoded) => {
                    assert!(bytes[start..start + decoded.consumed].ends_with(decoded.data));
                    start += decoded.consumed;
                    body.extend_from_slice(decoded.data);
                    if decoded.end {
                        assert!(decoder.is_done());
                        break Ok(());
                    }
                    if !decoded.data.is_empty() {
                        continue;
                    }
                }
            }
            if have == bytes.len() {
                let incomplete = BadChunk {
                    status: status::BAD_REQUEST,
                    log: Vec::new(),
                    notes: None,
                    in_trailers: false,
                };
                break Err(decoder.end_of_input(&bytes[start..], false).unwrap_or(incomplete));
            }
            have = bytes.len().min(have.saturating_add(step));
        };
        let ok = result.is_ok();
        let trailer = |name: &str| match trailers.get(name) {
            Some(value) => value.escape_ascii().to_string(),
            None => "-".into(),
        };
        Outcome {
            status: result.as_ref().map_or_else(|bad| bad.status, |()| 200),
            body: if ok { body.escape_ascii().to_string() } else { String::new() },
            trailers: [trailer("X"), trailer("Y")],
            log: result.map_or_else(|bad| show(&bad.log), |()| String::new()),
        }
    }

    #[test]
    fn as_apache_reads_them() {
        let cases = CASES.lines().filter(|l| !l.starts_with('#'));
        for case in cases {
            let columns: Vec<&str> = case.split('\t').collect();
            let bytes = decode(columns[1]);
            let options = Options { strict: columns[0] == "S", ..Options::default() };
            let text = |i: usize| decode(columns[i]).escape_ascii().to_string();
            let expected = Outcome {
                status: columns[2].parse().unwrap(),
                body: text(3),
                trailers: [text(4), text(5)],
                log: expected_log(columns[6]),
            };
            for step in [usize::MAX, 1, 2, 3, 5] {
                let mut is = run(&bytes, step, &options);
                // Apache joins repeated trailers only where it takes them.
                if is.status != 200 {
                    is.trailers = expected.trailers.clone();
                }
                assert_eq!(is, expected, "{} {} in steps of {step}", columns[0], columns[1]);
            }
        }
    }

    #[test]
    fn framing_of_replies() {
        for (n, text) in [
            (1, "1\r\n"),
            (15, "f\r\n"),
            (16, "10\r\n"),
            (8000, "1f40\r\n"),
            (u64::MAX, "ffffffffffffffff\r\n"),
        ] {
            assert_eq!(ChunkHead::new(n).as_ref(), text.as_bytes());
        }
        assert_eq!(last_chunk(&Table::new()), LAST_CHUNK);
        let trailers: Table = [("A", "1"), ("B", "2")].into_iter().collect();
        assert_eq!(last_chunk(&trailers), b"0\r\nA: 1\r\nB: 2\r\n\r\n");
    }
}
