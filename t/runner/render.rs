//! Replies as the text that stands in a case file.
//!
//! Heads are shown without their CRs; bodies as they are, with `\r` and `\xNN` for what is no text. A chunked body, one
//! that is compressed, and one that is shown as its length and SHA-1 only, stand under a line that says so. Where one
//! chunk ends and the next begins is the sender's business (RFC 9112 section 7.1) and is not shown; trailers are.

use std::io::Read;

use sha1::{Digest, Sha1};

use super::client::{Reply, field};
use super::varies::{Source, Varies};

/// Longer bodies are shown as a digest.
const LONG: usize = 12_000;
const LONG_PAGE: usize = 64_000;

/// The text of a reply.
pub fn reply(reply: &Reply, varies: &Varies) -> Result<String, String> {
    let mut text = String::new();
    for head in &reply.interim {
        text += &head_text(head, varies)?;
        text += "\n\n";
    }
    let mut head = head_text(&reply.head, varies)?;
    let coding = field(&reply.head, "Content-Encoding").unwrap_or_default();
    let (mut content, mut how, mut trailer) = (reply.body.clone(), Vec::new(), String::new());
    if reply.chunked {
        match dechunked(&reply.body) {
            Some((data, rest)) => {
                how.push("chunked".to_owned());
                content = data;
                trailer = bytes_text(rest).replace("\\r", "").trim_end().to_owned();
            }
            None => how.push("chunked, cut off".to_owned()),
        }
    }
    if matches!(coding.as_str(), "gzip" | "x-gzip") {
        head = head.lines().map(packed_length).collect::<Vec<_>>().join("\n");
        if let Some(plain) = inflated(&content) {
            how.push(coding);
            content = plain;
        }
    }
    let mut body = String::new();
    // A page that the server wrote is to be read when it differs.
    let most = if content.starts_with(b"<!DOCTYPE") { LONG_PAGE } else { LONG };
    if content.len() > most {
        how.push(format!("{} bytes, SHA-1 {}", content.len(), hex(&Sha1::digest(&content))));
    } else {
        body = bytes_text(&content);
    }
    if !how.is_empty() {
        body = format!("({})\n{body}", how.join(", "));
    }
    if !trailer.is_empty() {
        body = format!("{}\n(trailer)\n{trailer}", body.trim_end());
    }
    text += &head;
    if !reply.head.is_empty() && !body.is_empty() {
        text += "\n\n";
    }
    let boundary = field(&reply.head, "Content-Type")
        .and_then(|value| value.split_once("boundary=").map(|(_, boundary)| boundary.to_owned()));
    let body = match boundary {
        Some(boundary) => body.replace(&boundary, "@BOUNDARY@"),
        None => body,
    };
    text += &varies.out_of(&body, Source::Anywhere)?;
    let mut text = escape_sections(text.trim_end_matches('\n'));
    if reply.closed {
        text += "\n--- closed";
    }
    Ok(text)
}

fn head_text(head: &[u8], varies: &Varies) -> Result<String, String> {
    let text = bytes_text(head).replace("\\r\n", "\n");
    varies.out_of(text.trim_end_matches('\n'), Source::Head)
}

/// Text as it is; controls other than line feed and tab, and what is no UTF-8, as escapes.
pub fn bytes_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' => text.push(c),
                '\r' => text += "\\r",
                c if c.is_ascii_control() => text += &format!("\\x{:02x}", c as u32),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

/// A line that would read as the head of a section or case gets a backslash in front.
pub fn escape_sections(text: &str) -> String {
    let line = |line: &str| match line.starts_with("--- ") || line.starts_with("=== ") {
        true => format!("\\{line}"),
        false => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The content and the trailer section of a chunked body; `None` where it is not whole.
pub fn dechunked(body: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut content = Vec::new();
    let mut rest = body;
    loop {
        let end = super::client::find(rest, b"\r\n")?;
        let line = String::from_utf8_lossy(&rest[..end]);
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return rest.ends_with(b"\r\n").then_some((content, rest));
        }
        content.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// The plain text of a compressed body; `None` where it cannot be read.
fn inflated(content: &[u8]) -> Option<Vec<u8>> {
    if content.is_empty() {
        return None;
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(content).read_to_end(&mut plain).ok()?;
    Some(plain)
}

/// The length of what is packed depends on the compressor.
fn packed_length(line: &str) -> String {
    match line.rsplit_once('/') {
        _ if line.starts_with("Content-Length: ") => "Content-Length: @GZIP@".to_owned(),
        Some((range, _)) if line.starts_with("Content-Range: ") => format!("{range}/@GZIP@"),
        _ => line.to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
