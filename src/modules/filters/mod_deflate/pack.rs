//! DEFLATE: a reply packed with gzip (RFC 1952).
//!
//! Answers to `deflate_out_filter`.

use std::io;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::{Coder, DeflateServer, SERVER, change_etag, coded, trace};
use crate::body::Content;
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::request::Request;

/// Magic, deflate, no flags, no time, Unix.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// The header, the checks at the end, and the header fields that a packed reply has more.
const OVERHEAD: u64 = HEADER.len() as u64 + 8 + 50;

/// Packs the content, where the client takes it and it is worth it.
pub(super) fn wrap(r: &mut Request, content: Content) -> Content {
    if let Some(length) = content.len().filter(|&length| length <= OVERHEAD) {
        rerror!(r, Level::Trace1, "deflate", "", "Not compressing very small response of {length} bytes");
        return content;
    }
    if !may_pack(r) {
        return content;
    }
    let encoding = encoding(r);
    if let Some(encoding) = &encoding {
        let mut rest = encoding.as_slice();
        loop {
            let token = get_token(&mut rest, false);
            if token.is_empty() {
                break;
            }
            if !matches!(token, b"identity" | b"7bit" | b"8bit" | b"binary") {
                trace(r, "Not compressing (content-encoding already set)");
                return content;
            }
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    r.headers_out.merge("Vary", "Accept-Encoding");
    if r.subprocess_env.contains("force-gzip") {
        trace(r, "Forcing compression (force-gzip set)");
    } else {
        match r.headers_in.get("Accept-Encoding") {
            None => return content,
            Some(accepts) => {
                let found = gzip_token(accepts);
                if let (token, Some(quality)) = found {
                    let (token, quality) = (shown(token), shown(quality));
                    rerror!(r, Level::Trace1, "deflate", "", "token: '{token}' - q: '{quality}'");
                }
                if !accepts_gzip(found) {
                    trace(r, "Not compressing (no Accept-Encoding: gzip or q=0)");
                    return content;
                }
            }
        }
    }
    let server = r.server.clone();
    let conf = server.conf.get(&SERVER);
    let packer = if r.status == status::NOT_MODIFIED { None } else { Some(Packer::new(conf)) };
    let packer = match packer {
        Some(Ok(packer)) => Some(packer),
        Some(Err(())) => {
            rerror!(
                r,
                Level::Error,
                "deflate",
                "AH01383",
                "unable to init Zlib: deflateInit2 returned -2: URL {}",
                r.uri
            );
            return content;
        }
        None => None,
    };
    if encoding.is_none_or(|e| e.eq_ignore_ascii_case(b"identity")) {
        r.headers_out.set("Content-Encoding", "gzip");
    } else {
        r.headers_out.merge("Content-Encoding", "gzip");
    }
    if r.content_encoding.is_some() {
        r.content_encoding = r.headers_out.get_str("Content-Encoding").map(str::to_owned);
    }
    r.headers_out.unset("Content-Length");
    r.headers_out.unset("Content-MD5");
    change_etag(r, "gzip", conf.etag);
    match packer {
        Some(packer) => coded(r, content, packer, conf.buffer_size() + HEADER.len()),
        // Of a 304, only the header fields change (RFC 9110, 15.4.5).
        None => content,
    }
}

/// Is this a reply that can be packed at all?
fn may_pack(r: &Request) -> bool {
    let reason = if r.is_subrequest {
        "subrequest"
    } else if r.status == status::NO_CONTENT {
        "no content"
    } else if r.subprocess_env.contains("no-gzip") {
        "no-gzip"
    } else if r.headers_out.contains("Content-Range") {
        "content-range"
    } else {
        let html = r.content_type.as_deref().is_some_and(|t| t.starts_with("text/html"));
        if !html && r.subprocess_env.get("gzip-only-text/html") == Some(b"1") {
            trace(r, "Not compressing, (gzip-only-text/html)");
            return false;
        }
        return true;
    };
    rerror!(r, Level::Trace1, "deflate", "", "Not compressing ({reason})");
    false
}

/// The codings that the reply has already.
fn encoding(r: &Request) -> Option<Vec<u8>> {
    let parts = [
        r.headers_out.get("Content-Encoding"),
        r.err_headers_out.get("Content-Encoding"),
        r.content_encoding.as_deref().map(str::as_bytes),
    ];
    let present: Vec<&[u8]> = parts.into_iter().flatten().collect();
    (!present.is_empty()).then(|| present.join(&b","[..]))
}

/// The next word of a list, up to a comma, semicolon or (unless `white` is taken) white space: `ap_get_token`.
fn get_token<'t>(rest: &mut &'t [u8], white: bool) -> &'t [u8] {
    let text = rest.trim_ascii_start();
    let mut end = 0;
    while let Some(&c) = text.get(end) {
        if c == b';' || c == b',' || !white && c.is_ascii_whitespace() {
            break;
        }
        end += 1;
        if c == b'"' {
            end += text[end..].iter().position(|&c| c == b'"').map_or(text.len() - end, |at| at + 1);
        }
    }
    *rest = text[end..].trim_ascii_start();
    &text[..end]
}

/// The name of gzip in `Accept-Encoding`, empty where there is none, and its parameters, where there are any.
fn gzip_token(accepts: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut rest = accepts;
    let mut token = get_token(&mut rest, false);
    while !token.is_empty() && !token.eq_ignore_ascii_case(b"gzip") {
        while let Some(behind) = rest.strip_prefix(b";") {
            rest = behind;
            get_token(&mut rest, true);
        }
        rest = rest.strip_prefix(b",").unwrap_or(rest);
        token = get_token(&mut rest, false);
    }
    if rest.is_empty() {
        return (token, None);
    }
    while let Some(behind) = rest.strip_prefix(b";") {
        rest = behind;
    }
    (token, Some(get_token(&mut rest, true)))
}

/// Does `Accept-Encoding` name gzip, and not with a quality of nothing?
fn accepts_gzip((token, quality): (&[u8], Option<&[u8]>)) -> bool {
    let nothing = |quality: &[u8]| quality.len() >= 3 && b"q=0.000".starts_with(quality);
    !token.is_empty() && !quality.is_some_and(nothing)
}

/// Symbols in a block of zlib-rs.
const BLOCK: usize = 16 * 1024;

/// A gzip stream being made.
struct Packer {
    compress: Compress,
    crc: Crc,
    coded: Vec<u8>,
    finished: bool,
    /// Blocks that came out so far, and how much there was after an even number of them.
    blocks: u64,
    settled: usize,
}

impl Packer {
    fn new(conf: &DeflateServer) -> Result<Packer, ()> {
        // The lowest level of zlib-rs makes a quarter more than zlib's does; the next one is its like.
        let level = conf.level.map_or(Compression::default(), |level| Compression::new(level.max(2)));
        let bits = conf.window_size.unwrap_or(15);
        // zlib takes no raw stream with a smaller window either.
        if bits < 9 {
            return Err(());
        }
        Ok(Packer {
            compress: Compress::new_with_window_bits(level, false, bits),
            crc: Crc::new(),
            coded: HEADER.to_vec(),
            finished: false,
            blocks: 0,
            settled: 0,
        })
    }

    fn run(&mut self, mut input: &[u8], flush: FlushCompress) -> io::Result<()> {
        loop {
            self.coded.reserve(input.len().clamp(1024, 32 * 1024));
            let (before, room) = (self.compress.total_in(), self.coded.capacity() - self.coded.len());
            let out_before = self.compress.total_out();
            let status =
                self.compress.compress_vec(input, &mut self.coded, flush).map_err(io::Error::other)?;
            let taken = usize::try_from(self.compress.total_in() - before).unwrap_or(input.len());
            input = input.get(taken..).unwrap_or_default();
            let made = self.compress.total_out() - out_before;
            let more = made == room as u64;
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => input.is_empty() && !more,
            };
            if done {
                return Ok(());
            }
        }
    }
}

impl Coder for Packer {
    fn code(&mut self, r: &mut Request, piece: &[u8]) -> io::Result<()> {
        self.crc.update(piece);
        // A block has at least so many bytes of input, so no more than one comes out of a slice.
        for slice in piece.chunks(BLOCK) {
            let before = self.compress.total_out();
            self.run(slice, FlushCompress::None).inspect_err(|err| {
                rerror!(r, Level::Error, "deflate", "AH01386", "Zlib error deflating data ({err})");
            })?;
            if self.compress.total_out() > before {
                self.blocks += 1;
                if self.blocks.is_multiple_of(2) {
                    self.settled = self.coded.len();
                }
            }
        }
        Ok(())
    }

    /// With `DeflateMemLevel 9`, Apache's blocks are twice as long as those here.
    fn overflows(&mut self, buffer_size: usize) -> bool {
        self.settled > buffer_size
    }

    fn flush(&mut self, r: &mut Request) -> io::Result<()> {
        self.run(&[], FlushCompress::Sync).inspect_err(|err| {
            rerror!(r, Level::Error, "deflate", "AH01385", "Zlib error flushing zlib output buffer ({err})");
        })
    }

    fn finish(&mut self, r: &mut Request) -> io::Result<()> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        self.run(&[], FlushCompress::Finish)?;
        self.coded.extend_from_slice(&self.crc.sum().to_le_bytes());
        self.coded.extend_from_slice(&(self.compress.total_in() as u32).to_le_bytes());
        let (input, output) = (self.compress.total_in(), self.compress.total_out());
        rerror!(
            r,
            Level::Debug,
            "deflate",
            "AH01384",
            "Zlib: Compressed {input} to {output} : URL {}",
            r.uri
        );
        let server = r.server.clone();
        let conf = server.conf.get(&SERVER);
        let ratio = (output * 100).checked_div(input).unwrap_or(0);
        for (name, value, shown) in [
            (&conf.input_note, input, input > 0),
            (&conf.output_note, output, output > 0),
            (&conf.ratio_note, ratio, input > 0),
        ] {
            if let Some(name) = name {
                r.notes.set(name, if shown { value.to_string() } else { "-".to_owned() });
            }
        }
        Ok(())
    }

    fn coded(&mut self) -> &mut Vec<u8> {
        &mut self.coded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_gzip() {
        assert!(accepts_gzip(gzip_token(b"gzip")));
        assert!(accepts_gzip(gzip_token(b"br, GZIP;q=0.5")));
        assert!(accepts_gzip(gzip_token(b"br;q=1.0;x=\"a,b\" , gzip")));
        assert!(!accepts_gzip(gzip_token(b"gzip;q=0")));
        assert!(!accepts_gzip(gzip_token(b"gzip;q=0.00")));
        assert!(!accepts_gzip(gzip_token(b"*")));
        assert!(!accepts_gzip(gzip_token(b"")));
    }

    #[test]
    fn a_stream_that_gzip_reads() {
        use std::io::Read;
        let text = b"some text that can be packed ".repeat(5000);
        let mut packer = Packer::new(&DeflateServer::default()).unwrap_or_else(|()| panic!("zlib"));
        for piece in text.chunks(7000) {
            packer.crc.update(piece);
            packer.run(piece, FlushCompress::None).unwrap();
        }
        packer.run(&[], FlushCompress::Finish).unwrap();
        packer.coded.extend_from_slice(&packer.crc.sum().to_le_bytes());
        packer.coded.extend_from_slice(&(text.len() as u32).to_le_bytes());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packer.coded[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, text);
    }
}
