//! Unpacks gzip: INFLATE, which unpacks a reply, and what it shares with the input filter.
//!
//! Answers to `inflate_out_filter`. The two log the same faults by different numbers.

use std::io;

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::{Coder, DIR, SERVER, change_etag, coded};
use crate::body::Content;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::request::Request;
use crate::table::Table;

/// Flags of the gzip header.
const HEAD_CRC: u8 = 2;
const EXTRA_FIELD: u8 = 4;
const ORIG_NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// Unpacks the content where gzip is its outermost coding.
pub(super) fn wrap(r: &mut Request, content: Content) -> Content {
    if !r.is_initial()
        || r.status == status::NO_CONTENT
        || r.headers_out.contains("Content-Range")
        || !take_gzip_off(r)
    {
        return content;
    }
    r.headers_out.unset("Content-Length");
    r.headers_out.unset("Content-MD5");
    let server = r.server.clone();
    let conf = server.conf.get(&SERVER);
    change_etag(r, "gunzip", conf.etag);
    if r.status == status::NOT_MODIFIED {
        return content;
    }
    let unpacker = Unpacker::new(r, Side::Reply);
    coded(r, content, unpacker, conf.buffer_size())
}

/// Takes `gzip` off the codings that the reply names, if it is the outermost: `check_gzip`.
fn take_gzip_off(r: &mut Request) -> bool {
    let found = from_table(&mut r.headers_out).or_else(|| from_table(&mut r.err_headers_out));
    match found {
        Some(found) => {
            if r.content_encoding.is_some() {
                r.content_encoding = r.headers_out.get_str("Content-Encoding").map(str::to_owned);
            }
            found
        }
        None => match r.content_encoding.as_deref().and_then(without_gzip) {
            Some(rest) => {
                r.content_encoding = (!rest.is_empty()).then_some(rest);
                true
            }
            None => false,
        },
    }
}

/// Takes `gzip` off `Content-Encoding`, if it is the outermost coding; `None` without that field.
pub(super) fn from_table(table: &mut Table) -> Option<bool> {
    let encoding = table.get_str("Content-Encoding")?.to_owned();
    Some(match without_gzip(&encoding) {
        Some(rest) if rest.is_empty() => table.unset("Content-Encoding"),
        Some(rest) => {
            table.set("Content-Encoding", rest);
            true
        }
        None => false,
    })
}

/// The codings below gzip; `None` when it is not the outermost that does something.
fn without_gzip(encoding: &str) -> Option<String> {
    let is_gzip = |token: &str| token.eq_ignore_ascii_case("gzip") || token.eq_ignore_ascii_case("x-gzip");
    let mut rest = encoding;
    loop {
        match rest.rsplit_once(',') {
            None => return is_gzip(rest).then(String::new),
            Some((before, last)) => {
                let last = last.trim_start();
                if is_gzip(last) {
                    return Some(before.to_owned());
                }
                if !last.is_empty() && !last.eq_ignore_ascii_case("identity") {
                    return None;
                }
                rest = before;
            }
        }
    }
}

enum Stage {
    /// The first ten bytes.
    Header(Vec<u8>),
    /// The length of the extra field, its first byte being known or not.
    ExtraLength(Option<u8>),
    Extra,
    /// A name or comment, up to its zero byte.
    Text,
    /// So many bytes of the header's check.
    HeadCrc(u8),
    Data,
    /// The checks behind the data.
    Check,
    /// What is not gzip goes through as it is.
    Through,
}

/// Flags as Apache's log has them: a signed byte that was made an `int`.
fn shown_flags(flags: u8) -> i32 {
    i32::from(flags as i8)
}

/// What is unpacked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A reply.
    Reply,
    /// A request's body, with the limit for what comes out; 0: none.
    Request { limit: u64 },
}

pub(super) struct Unpacker {
    side: Side,
    stage: Stage,
    flags: u8,
    extra: usize,
    decompress: Decompress,
    crc: Crc,
    check: Vec<u8>,
    buffer_size: usize,
    ratio_limit: u64,
    ratio_burst: u64,
    ratio_hits: u64,
    coded: Vec<u8>,
    finished: bool,
}

fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl Unpacker {
    pub(super) fn new(r: &Request, side: Side) -> Unpacker {
        let conf = r.server_conf(&SERVER);
        let dir = r.dir(&DIR);
        Unpacker {
            side,
            stage: Stage::Header(Vec::with_capacity(10)),
            flags: 0,
            extra: 0,
            decompress: Decompress::new_with_window_bits(false, conf.window_size.unwrap_or(15).max(9)),
            crc: Crc::new(),
            check: Vec::with_capacity(8),
            buffer_size: conf.buffer_size(),
            ratio_limit: dir.ratio_limit.unwrap_or(200),
            ratio_burst: dir.ratio_burst.unwrap_or(3),
            ratio_hits: 0,
            coded: Vec::new(),
            finished: false,
        }
    }

    /// What comes behind a part of the header that is done.
    fn next_stage(&mut self) {
        self.stage = if self.flags & EXTRA_FIELD != 0 {
            self.flags &= !EXTRA_FIELD;
            Stage::ExtraLength(None)
        } else if self.flags & ORIG_NAME != 0 {
            self.flags &= !ORIG_NAME;
            Stage::Text
        } else if self.flags & COMMENT != 0 {
            self.flags &= !COMMENT;
            Stage::Text
        } else if self.flags & HEAD_CRC != 0 {
            self.flags &= !HEAD_CRC;
            Stage::HeadCrc(2)
        } else {
            Stage::Data
        };
    }

    fn header(&mut self, r: &Request, header: &[u8]) -> io::Result<()> {
        if self.side != Side::Reply {
            return self.request_header(r, header);
        }
        if header[2] != 8 {
            rerror!(r, Level::Debug, "deflate", "AH01404", "inflate: data not deflated!");
            self.coded.extend_from_slice(header);
            self.stage = Stage::Through;
            return Ok(());
        }
        if header[..2] != [0x1f, 0x8b] {
            rerror!(r, Level::Error, "deflate", "AH01405", "inflate: bad header");
            return Err(broken());
        }
        if header[3] & RESERVED != 0 {
            rerror!(
                r,
                Level::Error,
                "deflate",
                "AH02620",
                "inflate: bad flags {:02x}",
                shown_flags(header[3])
            );
            return Err(broken());
        }
        self.flags = header[3];
        self.next_stage();
        Ok(())
    }

    fn request_header(&mut self, r: &Request, header: &[u8]) -> io::Result<()> {
        if header[..2] != [0x1f, 0x8b] {
            rerror!(r, Level::Warn, "deflate", "AH01387", "Zlib: Invalid header");
            return Err(broken());
        }
        if header[3] & RESERVED != 0 {
            rerror!(
                r,
                Level::Warn,
                "deflate",
                "AH01388",
                "Zlib: Invalid flags {:02x}",
                shown_flags(header[3])
            );
            return Err(broken());
        }
        self.flags = header[3];
        self.next_stage();
        Ok(())
    }

    /// Unpacks; what is left of the input then.
    fn data<'i>(&mut self, r: &Request, mut input: &'i [u8]) -> io::Result<&'i [u8]> {
        loop {
            let start = self.coded.len();
            self.coded.reserve_exact(self.buffer_size);
            let (before_in, before_out) = (self.decompress.total_in(), self.decompress.total_out());
            let status = self
                .decompress
                .decompress_vec(input, &mut self.coded, FlushDecompress::None)
                .map_err(|err| {
                    let ah = if self.side == Side::Reply { "AH01409" } else { "AH01392" };
                    rerror!(
                        r,
                        Level::Warn,
                        "deflate",
                        ah,
                        "Zlib error -3 inflating data ({})",
                        err.message().unwrap_or("(null)")
                    );
                    broken()
                })?;
            let taken = usize::try_from(self.decompress.total_in() - before_in).unwrap_or(input.len());
            let made = self.decompress.total_out() - before_out;
            input = input.get(taken..).unwrap_or_default();
            self.crc.update(&self.coded[start..]);
            self.check_limit(r)?;
            self.check_ratio(r)?;
            if status == Status::StreamEnd {
                self.stage = Stage::Check;
                return Ok(input);
            }
            // All is taken and nothing waits for room: more input is needed.
            if input.is_empty() && made < self.buffer_size as u64 || taken == 0 && made == 0 {
                return Ok(&[]);
            }
        }
    }

    /// `DeflateInflateLimitRequestBody`.
    fn check_limit(&self, r: &Request) -> io::Result<()> {
        let Side::Request { limit } = self.side else { return Ok(()) };
        let length = self.decompress.total_out();
        if limit == 0 || length <= limit {
            return Ok(());
        }
        rerror!(
            r,
            Level::Warn,
            "deflate",
            "AH02648",
            "Inflated content length of {length} is larger than the configured limit of {limit}"
        );
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Content that grows too much is an attack: `check_ratio`.
    fn check_ratio(&mut self, r: &Request) -> io::Result<()> {
        let Some(ratio) = self.decompress.total_out().checked_div(self.decompress.total_in()) else {
            return Ok(());
        };
        if ratio < self.ratio_limit {
            self.ratio_hits = 0;
            return Ok(());
        }
        self.ratio_hits += 1;
        if self.ratio_hits <= self.ratio_burst {
            return Ok(());
        }
        rerror!(
            r,
            Level::Warn,
            "deflate",
            if self.side == Side::Reply { "AH02650" } else { "AH02649" },
            "Inflated content ratio is larger than the configured limit {} by {} time(s)",
            self.ratio_limit,
            self.ratio_burst
        );
        Err(broken())
    }
}

/// How a request's body ends.
impl Unpacker {
    /// True when nothing of the body has come yet.
    pub(super) fn is_fresh(&self) -> bool {
        matches!(&self.stage, Stage::Header(header) if header.is_empty())
    }

    fn finish_request(&self, r: &Request) -> io::Result<()> {
        let (ah, text) = match self.stage {
            Stage::Check if self.check.len() == 8 => return Ok(()),
            Stage::Header(_) => {
                ("AH02619", "Encountered premature end-of-stream while reading inflate header")
            }
            _ => ("AH02481", "Encountered premature end-of-stream while inflating"),
        };
        rerror!(r, Level::Error, "deflate", ah, "{text}");
        Err(broken())
    }

    /// The checks behind the data have come.
    fn check_request(&self, r: &Request) -> io::Result<()> {
        let (input, output) = (self.decompress.total_in(), self.decompress.total_out());
        rerror!(r, Level::Debug, "deflate", "AH01393", "Zlib: Inflated {input} to {output} : URL {}", r.uri);
        let Some((crc, length)) = self.checks() else { return Err(broken()) };
        if crc != self.crc.sum() {
            rerror!(r, Level::Warn, "deflate", "AH01394", "Zlib: CRC error inflating data");
            return Err(broken());
        }
        if length != output as u32 {
            let text =
                format!("Zlib: Length {output} of inflated data does not match expected value {length}");
            rerror!(r, Level::Warn, "deflate", "AH01395", "{text}");
            return Err(broken());
        }
        Ok(())
    }

    /// Checksum and length, once they have come.
    fn checks(&self) -> Option<(u32, u32)> {
        let number = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).ok();
        Some((self.check.get(..4).and_then(number)?, self.check.get(4..8).and_then(number)?))
    }
}

impl Coder for Unpacker {
    fn code(&mut self, r: &mut Request, piece: &[u8]) -> io::Result<()> {
        let mut input = piece;
        while let Some((&first, behind)) = input.split_first() {
            match &mut self.stage {
                Stage::Header(header) => {
                    header.push(first);
                    input = behind;
                    if header.len() == 10 {
                        let header = std::mem::take(header);
                        self.header(r, &header)?;
                    }
                }
                Stage::ExtraLength(low) => {
                    input = behind;
                    match *low {
                        None => *low = Some(first),
                        Some(low) => {
                            self.extra = usize::from(low) | usize::from(first) << 8;
                            self.stage = Stage::Extra;
                        }
                    }
                }
                Stage::Extra => {
                    let part = self.extra.min(input.len());
                    self.extra -= part;
                    input = &input[part..];
                    if self.extra == 0 {
                        self.next_stage();
                    }
                }
                Stage::Text => {
                    input = behind;
                    if first == 0 {
                        self.next_stage();
                    }
                }
                Stage::HeadCrc(left) => {
                    *left -= 1;
                    input = behind;
                    if *left == 0 {
                        self.next_stage();
                    }
                }
                Stage::Data => input = self.data(r, input)?,
                Stage::Check => {
                    let part = (8 - self.check.len()).min(input.len());
                    self.check.extend_from_slice(&input[..part]);
                    input = &input[part..];
                    if self.side != Side::Reply {
                        if part > 0 && self.check.len() == 8 {
                            self.check_request(r)?;
                        }
                        if !input.is_empty() {
                            let (ah, text) = match part {
                                0 => ("AH02482", "Encountered extra data after compressed data"),
                                _ => ("AH02485", "Encountered extra data after compressed data"),
                            };
                            rerror!(r, Level::Error, "deflate", ah, "{text}");
                            return Err(broken());
                        }
                    } else if part == 0 {
                        let text = format!(
                            "Zlib: {} bytes of garbage at the end of compressed stream.",
                            input.len()
                        );
                        rerror!(r, Level::Debug, "deflate", "AH01407", "{text}");
                        return Ok(());
                    }
                }
                Stage::Through => {
                    self.coded.extend_from_slice(input);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self, _: &mut Request) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, r: &mut Request) -> io::Result<()> {
        if std::mem::replace(&mut self.finished, true) || matches!(self.stage, Stage::Through) {
            return Ok(());
        }
        if self.side != Side::Reply {
            return self.finish_request(r);
        }
        let (input, output) = (self.decompress.total_in(), self.decompress.total_out());
        rerror!(r, Level::Debug, "deflate", "AH01398", "Zlib: Inflated {input} to {output} : URL {}", r.uri);
        let Some((crc, length)) = self.checks() else {
            rerror!(r, Level::Error, "deflate", "AH01401", "Zlib: Validation bytes not present");
            return Err(broken());
        };
        if crc != self.crc.sum() {
            rerror!(r, Level::Error, "deflate", "AH01399", "Zlib: Checksum of inflated stream invalid");
            return Err(broken());
        }
        if length != output as u32 {
            rerror!(r, Level::Error, "deflate", "AH01400", "Zlib: Length of inflated stream invalid");
            return Err(broken());
        }
        Ok(())
    }

    fn coded(&mut self) -> &mut Vec<u8> {
        &mut self.coded
    }
}

#[cfg(test)]
mod tests {
    use super::without_gzip;

    #[test]
    fn the_outermost_coding() {
        assert_eq!(without_gzip("gzip").as_deref(), Some(""));
        assert_eq!(without_gzip("br, x-gzip").as_deref(), Some("br"));
        assert_eq!(without_gzip("gzip, identity").as_deref(), Some(""));
        assert_eq!(without_gzip("gzip, br"), None);
        assert_eq!(without_gzip("br"), None);
    }
}
