//! mod_data: a reply as a data URL (RFC 2397).
//!
//! Answers to `modules/filters/mod_data.c`.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::body::{Body, Chunk, Content, Pull};
use crate::filter::FilterKind;
use crate::hooks::Hooks;
use crate::module::Module;
use crate::request::Request;

/// The module.
pub static MODULE: Module = Module { name: "data_module", file: "mod_data.c", directives: &[], hooks };

fn hooks(hooks: &mut Hooks) {
    hooks.output_filter("DATA", FilterKind::Resource, wrap);
}

/// What is read of a file at once: a multiple of three.
const PIECE: usize = 48 * 1024;

/// `data_out_filter`.
fn wrap(r: &mut Request, content: Content) -> Content {
    if !r.is_initial() {
        return content;
    }
    // The type, and what follows a blank: its charset.
    let media_type = r.content_type.as_deref().unwrap_or_default();
    let mut words = media_type.split(' ');
    let start =
        format!("data:{}{};base64,", words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let length = r.headers_out.get_str("Content-Length").and_then(|text| text.parse::<u64>().ok());
    match length.filter(|&length| length < i32::MAX as u64) {
        Some(length) => {
            let coded = start.len() as u64 + length.div_ceil(3) * 4;
            r.headers_out.set("Content-Length", coded.to_string());
        }
        None => {
            r.headers_out.unset("Content-Length");
        }
    }
    r.set_content_type("text/plain");
    let len = content.len().map(|len| start.len() as u64 + len.div_ceil(3) * 4);
    Content::Stream(Box::new(DataUrl { start: Some(start), content, tail: Vec::new(), len, ended: false }))
}

struct DataUrl {
    start: Option<String>,
    content: Content,
    /// One or two bytes that wait for the next.
    tail: Vec<u8>,
    len: Option<u64>,
    ended: bool,
}

impl Body for DataUrl {
    fn pull(&mut self, r: &mut Request) -> io::Result<Pull> {
        if let Some(start) = self.start.take() {
            return Ok(Pull::Chunk(Chunk::Bytes(start.into())));
        }
        if self.ended {
            return Ok(Pull::End(None));
        }
        loop {
            match self.content.pull_bytes(r, PIECE)? {
                Pull::Chunk(Chunk::Bytes(bytes)) => {
                    self.tail.extend_from_slice(&bytes);
                    let whole = self.tail.len() / 3 * 3;
                    if whole == 0 {
                        continue;
                    }
                    let coded = STANDARD.encode(&self.tail[..whole]);
                    self.tail.drain(..whole);
                    return Ok(Pull::Chunk(Chunk::Bytes(Bytes::from(coded))));
                }
                Pull::End(trailers) if self.tail.is_empty() => return Ok(Pull::End(trailers)),
                Pull::End(_) => {
                    self.ended = true;
                    let coded = STANDARD.encode(std::mem::take(&mut self.tail));
                    return Ok(Pull::Chunk(Chunk::Bytes(Bytes::from(coded))));
                }
                other => return Ok(other),
            }
        }
    }

    fn len(&self) -> Option<u64> {
        self.len
    }
}
