//! `LogFormat` strings, compiled once to a list of items.
//!
//! Answers to `parse_log_string` and `process_item` of `modules/loggers/mod_log_config.c`.

use std::cell::Cell;
use std::sync::Arc;

use super::items::{self, Field};
use crate::hooks::Hooks;
use crate::modules::metadata::mod_ident;
use crate::request::Request;

/// The format that is used where none is given.
pub const DEFAULT: &str = "%h %l %u %t \"%r\" %>s %b";

/// A compiled format.
pub struct Format {
    items: Vec<Item>,
    /// `%l` is among them.
    asks_client: bool,
}

enum Item {
    Text(Vec<u8>),
    Field(Field),
    /// A field with `<`, `>` or statuses before it.
    Picky {
        field: Field,
        original: bool,
        /// With `!`: every status but these.
        except: bool,
        statuses: Vec<u16>,
    },
}

/// A request that is logged: the last of a chain of internal redirects, and the first.
pub struct Logged<'r> {
    /// The request that was answered.
    pub last: &'r Request,
    /// The request that came.
    pub original: &'r Request,
    end: Cell<i64>,
}

impl<'r> Logged<'r> {
    /// Of the chain that ends with `last`.
    pub fn new(last: &'r Request) -> Logged<'r> {
        Logged { last, original: last.original(), end: Cell::new(0) }
    }

    /// When the request ended, in microseconds since 1970: the same for all lines about it.
    pub fn end(&self) -> i64 {
        if self.end.get() == 0 {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            self.end.set(now.map_or(0, |d| d.as_micros() as i64));
        }
        self.end.get()
    }
}

/// What a module adds to `LogFormat`: its letter, and what it appends for `%{argument}letter`. False: nothing, a hyphen.
#[derive(Clone, Copy)]
pub struct LogItem {
    /// The letter, or `^` with two letters.
    pub tag: &'static str,
    /// Looks at the request that came, not at the one that was answered, unless `<` or `>` say otherwise.
    pub original: bool,
    /// Appends the value.
    pub write: fn(&Request, &[u8], &mut Vec<u8>) -> bool,
}

impl Format {
    /// Compiles `text`. The error is Apache's.
    pub fn parse(text: &[u8], hooks: &Hooks) -> Result<Arc<Format>, String> {
        let mut items = Vec::new();
        let mut rest = text;
        let mut pending: Vec<u8> = Vec::new();
        while let Some(&first) = rest.first() {
            if first != b'%' {
                rest = text_item(rest, &mut pending);
                continue;
            }
            rest = &rest[1..];
            if let Some(behind) = rest.strip_prefix(b"%") {
                pending.push(b'%');
                rest = behind;
                continue;
            }
            let (item, behind) = field_item(rest, hooks)?;
            if !pending.is_empty() {
                items.push(Item::Text(std::mem::take(&mut pending)));
            }
            items.push(item);
            rest = behind;
        }
        pending.push(b'\n');
        items.push(Item::Text(pending));
        let asks = |item: &Item| match item {
            Item::Field(field) | Item::Picky { field, .. } => matches!(field, Field::RemoteLogname),
            Item::Text(_) => false,
        };
        let asks_client = items.iter().any(asks);
        Ok(Arc::new(Format { items, asks_client }))
    }

    /// Whether the line can't be written on a reactor: the client's host is to be asked first.
    pub fn needs_thread(&self, logged: &Logged) -> bool {
        self.asks_client
            && self.items.iter().any(|item| {
                let (field, original) = match item {
                    Item::Field(field) => (field, field.wants_original()),
                    Item::Picky { field, original, .. } => (field, *original),
                    Item::Text(_) => return false,
                };
                let r = if original { logged.original } else { logged.last };
                matches!(field, Field::RemoteLogname) && mod_ident::remote_logname(r, false).is_err()
            })
    }

    /// Appends the line for a request.
    pub fn write(&self, logged: &Logged, out: &mut Vec<u8>) {
        for item in &self.items {
            let (field, original) = match item {
                Item::Text(text) => {
                    out.extend_from_slice(text);
                    continue;
                }
                Item::Field(field) => (field, field.wants_original()),
                Item::Picky { field, original, except, statuses } => {
                    let listed = statuses.contains(&logged.last.status);
                    if !statuses.is_empty() && listed == *except {
                        out.push(b'-');
                        continue;
                    }
                    (field, *original)
                }
            };
            let r = if original { logged.original } else { logged.last };
            if !field.write(r, logged, out) {
                out.push(b'-');
            }
        }
    }
}

/// Takes plain text up to the next `%`, with its escapes.
fn text_item<'t>(text: &'t [u8], out: &mut Vec<u8>) -> &'t [u8] {
    let mut at = 0;
    while let Some(&c) = text.get(at).filter(|&&c| c != b'%') {
        at += 1;
        if c != b'\\' {
            out.push(c);
            continue;
        }
        let escaped = match text.get(at) {
            Some(b'\\') => b'\\',
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            _ => {
                out.push(b'\\');
                continue;
            }
        };
        out.push(escaped);
        at += 1;
    }
    &text[at..]
}

/// Takes one directive, behind its `%`.
fn field_item<'t>(mut rest: &'t [u8], hooks: &Hooks) -> Result<(Item, &'t [u8]), String> {
    let mut except = false;
    let mut original = None;
    let mut statuses: Vec<u16> = Vec::new();
    let mut argument: &[u8] = b"";
    while let Some(&c) = rest.first() {
        match c {
            b'!' => except = !except,
            b'<' => original = Some(true),
            b'>' => original = Some(false),
            b',' => {}
            b'{' => {
                let inside = &rest[1..];
                match inside.iter().position(|&c| c == b'}') {
                    Some(end) => {
                        argument = &inside[..end];
                        // `ap_getword` takes further ends along.
                        let more = inside[end..].iter().take_while(|&&c| c == b'}').count();
                        rest = &inside[end + more..];
                    }
                    None => {
                        argument = inside;
                        rest = &[];
                    }
                }
                continue;
            }
            b'0'..=b'9' => {
                let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
                let number = rest[..digits]
                    .iter()
                    .fold(0_u32, |n, d| n.saturating_mul(10).saturating_add(u32::from(d - b'0')));
                // A number that is no status never matches one.
                statuses.push(u16::try_from(number).unwrap_or(u16::MAX));
                rest = &rest[digits..];
                continue;
            }
            _ => {
                let (field, length) = items::find(rest, argument, hooks).ok_or_else(|| {
                    format!("Unrecognized LogFormat directive %{}", String::from_utf8_lossy(&rest[..1]))
                })?;
                let default = field.wants_original();
                let picky = !statuses.is_empty() || original.is_some_and(|o| o != default);
                let item = if picky {
                    Item::Picky { field, original: original.unwrap_or(default), except, statuses }
                } else {
                    Item::Field(field)
                };
                return Ok((item, &rest[length..]));
            }
        }
        rest = &rest[1..];
    }
    Err("Ran off end of LogFormat parsing args to some directive".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Format::parse(text.as_bytes(), &Hooks::default()).map(|_| ()).unwrap_err()
    }

    #[test]
    fn errors() {
        assert_eq!(error("%Z"), "Unrecognized LogFormat directive %Z");
        assert_eq!(error("%200,"), "Ran off end of LogFormat parsing args to some directive");
        assert_eq!(error("%{abc"), "Ran off end of LogFormat parsing args to some directive");
    }

    #[test]
    fn text_with_escapes() {
        let mut out = Vec::new();
        assert_eq!(text_item(br"a\tb\x\\c%d", &mut out), b"%d");
        assert_eq!(out, b"a\tb\\x\\c");
    }

    #[test]
    fn neighbouring_texts_are_one() {
        let format = Format::parse(b"a%%b", &Hooks::default()).unwrap();
        assert!(matches!(&format.items[..], [Item::Text(text)] if text == b"a%b\n"));
    }
}
