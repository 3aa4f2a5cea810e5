//! Replies as the text that stands in a case file.
//!
//! Heads are shown without their CRs; bodies as they are on the wire, with `\r` and `\xNN` for what is no text. A
//! compressed body is shown unpacked under a line that says so, a long one as its length and SHA-1.

use std::io::Read;

use sha1::{Digest, Sha1};

use super::client::{Reply, field};
use super::varies::{Source, Varies};

/// Longer bodies are shown as a digest.
const LONG: usize = 12_000;

/// The text of a reply.
pub fn reply(reply: &Reply, varies: &Varies) -> Result<String, String> {
    let mut text = String::new();
    for head in &reply.interim {
        text += &head_text(head, varies)?;
        text += "\n\n";
    }
    let mut head = head_text(&reply.head, varies)?;
    let coding = field(&reply.head, "Content-Encoding").unwrap_or_default();
    let content = if reply.chunked { dechunked(&reply.body) } else { reply.body.clone() };
    let body = match inflated(&coding, &content) {
        Some(plain) => {
            head = head
                .lines()
                .map(
                    |line| if line.starts_with("Content-Length: ") { "Content-Length: @GZIP@" } else { line },
                )
                .collect::<Vec<_>>()
                .join("\n");
            let chunked = if reply.chunked { ", chunked" } else { "" };
            format!("({coding}{chunked})\n{}", body_text(&plain))
        }
        None if content.len() > LONG => {
            let chunked = if reply.chunked { "chunked, " } else { "" };
            format!("({chunked}{} bytes, SHA-1 {})", content.len(), hex(&Sha1::digest(&content)))
        }
        None => body_text(&reply.body),
    };
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

fn body_text(body: &[u8]) -> String {
    if body.len() > LONG {
        return format!("({} bytes, SHA-1 {})", body.len(), hex(&Sha1::digest(body)));
    }
    bytes_text(body)
}

/// Text as it is; controls other than line feed and tab, and what is no UTF-8, as escapes.
fn bytes_text(bytes: &[u8]) -> String {
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

fn dechunked(body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut rest = body;
    while let Some(at) = super::client::find(rest, b"\r\n") {
        let line = String::from_utf8_lossy(&rest[..at]);
        let size = line.split(';').next().unwrap_or_default().trim().to_owned();
        let Ok(size) = usize::from_str_radix(&size, 16) else { break };
        let Some(data) = rest.get(at + 2..at + 2 + size) else { break };
        content.extend_from_slice(data);
        rest = rest.get(at + 4 + size..).unwrap_or_default();
    }
    content
}

/// The plain text of a compressed body; `None` where it is not compressed, or cannot be read.
fn inflated(coding: &str, content: &[u8]) -> Option<Vec<u8>> {
    if !matches!(coding, "gzip" | "x-gzip") || content.is_empty() {
        return None;
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(content).read_to_end(&mut plain).ok()?;
    Some(plain)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
