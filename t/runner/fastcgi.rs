//! What the backend of a case was asked by FastCGI, SCGI or uwsgi: where a request ends, and how it reads.

use super::client::find;
use super::render::bytes_text;

/// How a backend is spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// FastCGI 1.0.
    Fcgi,
    /// SCGI.
    Scgi,
    /// uwsgi.
    Uwsgi,
}

impl Protocol {
    /// By the word of a `backend` section.
    pub fn by_word(has_word: impl Fn(&str) -> bool) -> Option<Protocol> {
        let known = [("fcgi", Protocol::Fcgi), ("scgi", Protocol::Scgi), ("uwsgi", Protocol::Uwsgi)];
        known.into_iter().find(|(word, _)| has_word(word)).map(|(_, protocol)| protocol)
    }

    /// Where the request ends; `early`: what belongs to its head.
    pub fn end(self, bytes: &[u8], early: bool) -> Option<usize> {
        let body = |head: usize, variables: &[(Vec<u8>, Vec<u8>)]| {
            let length = variables.iter().find(|(name, _)| name == b"CONTENT_LENGTH");
            let length = length.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
            let end = head + if early { 0 } else { length.unwrap_or(0) };
            (bytes.len() >= end).then_some(end)
        };
        match self {
            Protocol::Fcgi => {
                let mut at = 0;
                loop {
                    let (kind, content, next) = record(bytes, at)?;
                    at = next;
                    if content.is_empty() && (kind == 5 || early && kind == 4) {
                        return Some(at);
                    }
                }
            }
            Protocol::Scgi => {
                let (start, end) = netstring(bytes)?;
                body(end + 1, &scgi_variables(&bytes[start..end]))
            }
            Protocol::Uwsgi => {
                let end = 4 + usize::from(u16::from_le_bytes([*bytes.get(1)?, *bytes.get(2)?]));
                body(end, &uwsgi_variables(bytes.get(4..end)?))
            }
        }
    }

    /// As it stands in the case: the variables, those first that come first, and the body.
    pub fn shown(self, bytes: &[u8]) -> String {
        let mut text = String::new();
        let mut body = Vec::new();
        let mut variables = Vec::new();
        match self {
            Protocol::Fcgi => {
                let (mut at, mut params) = (0, Vec::new());
                while let Some((kind, content, next)) = record(bytes, at) {
                    match kind {
                        1 => {
                            text += &format!("BEGIN_REQUEST {}\n", bytes_text(content).trim_end_matches('\\'))
                        }
                        4 => params.extend_from_slice(content),
                        _ => body.extend_from_slice(content),
                    }
                    at = next;
                }
                variables = fcgi_variables(&params);
            }
            Protocol::Scgi => {
                if let Some((start, end)) = netstring(bytes) {
                    variables = scgi_variables(&bytes[start..end]);
                    body = bytes[end + 1..].to_vec();
                }
            }
            Protocol::Uwsgi => {
                let end = 4 + usize::from(u16::from_le_bytes([bytes[1], bytes[2]]));
                variables = uwsgi_variables(&bytes[4..end]);
                body = bytes[end..].to_vec();
            }
        }
        for (name, value) in variables {
            let value = if name == b"REMOTE_PORT" { "(port)".to_owned() } else { short(&value) };
            text += &format!("{}={value}\n", bytes_text(&name));
        }
        if !body.is_empty() {
            text += &format!("\n{}\n", short(&body));
        }
        text
    }
}

fn short(value: &[u8]) -> String {
    match value.len() {
        0..=4000 => bytes_text(value).trim_end_matches('\n').to_owned(),
        length => format!("({length} bytes)"),
    }
}

/// A record: its type, its content, where the next begins.
fn record(bytes: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let head = bytes.get(at..at + 8)?;
    let end = at + 8 + usize::from(u16::from_be_bytes([head[4], head[5]]));
    let next = end + usize::from(head[6]);
    bytes.get(..next)?;
    Some((head[1], &bytes[at + 8..end], next))
}

fn fcgi_variables(params: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fn length(params: &[u8], at: &mut usize) -> Option<usize> {
        let first = *params.get(*at)?;
        if first < 0x80 {
            *at += 1;
            return Some(usize::from(first));
        }
        let four: [u8; 4] = params.get(*at..*at + 4)?.try_into().ok()?;
        *at += 4;
        Some((u32::from_be_bytes(four) & 0x7fff_ffff) as usize)
    }
    let (mut variables, mut at) = (Vec::new(), 0);
    while let Some(name) = length(params, &mut at)
        && let Some(value) = length(params, &mut at)
        && let Some(pair) = params.get(at..at + name + value)
    {
        variables.push((pair[..name].to_vec(), pair[name..].to_vec()));
        at += name + value;
    }
    variables
}

fn netstring(bytes: &[u8]) -> Option<(usize, usize)> {
    let colon = find(bytes, b":")?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    let end = colon + 1 + length;
    bytes.get(end)?;
    Some((colon + 1, end))
}

fn scgi_variables(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let words: Vec<&[u8]> = text.split(|&c| c == 0).collect();
    words.chunks_exact(2).map(|pair| (pair[0].to_vec(), pair[1].to_vec())).collect()
}

fn uwsgi_variables(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut words, mut rest) = (Vec::new(), text);
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        words.push(behind[..length].to_vec());
        rest = &behind[length..];
    }
    words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}
