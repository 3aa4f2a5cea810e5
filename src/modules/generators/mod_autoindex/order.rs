//! The order of a list, and what the query may say about it.
//!
//! Answers to `dsortf`, the query part of `index_directory`, and `apr_strnatcmp`.

use std::cmp::Ordering;
use std::ffi::c_char;

use super::entries::Entry;
use super::{AutoindexDir, opt};
use crate::http::escape::{self, Unescape};
use crate::request::Request;

/// How this list is to be: `IndexOptions`, changed by `?C=…;O=…;F=…;V=…;P=…`.
pub(super) struct Query {
    pub opts: u32,
    /// `N`, `M`, `S` or `D`.
    pub key: u8,
    /// `A` or `D`.
    pub direction: u8,
    pub pattern: Option<Vec<u8>>,
    /// What the links of the columns keep of the query.
    pub column_args: Vec<u8>,
}

impl Query {
    pub fn of(r: &Request, conf: &AutoindexDir) -> Query {
        let mut query = Query {
            opts: conf.opts,
            key: conf.order_key.unwrap_or(b'N'),
            direction: conf.order_direction.unwrap_or(b'A'),
            pattern: None,
            column_args: Vec::new(),
        };
        if query.opts & opt::IGNORE_CLIENT != 0 {
            query.opts |= opt::SUPPRESS_COLSORT;
        } else if let Some(args) = &r.args {
            query.read(args);
        }
        query
    }

    /// Takes the arguments up to the first that is none.
    fn read(&mut self, args: &[u8]) {
        let (mut format, mut version, mut pattern) = (None, None, Vec::new());
        let mut rest = args;
        while let [name, b'=', value @ ..] = rest {
            if *name == b'P' {
                let end = value.iter().position(|c| matches!(c, b'&' | b';')).unwrap_or(value.len());
                rest = value.get(end + 1..).unwrap_or_default();
                let mut text = value[..end].to_vec();
                let plain = Unescape { forbid: b"/", reserved: b"", keep_unreserved: false };
                self.pattern = None;
                if !text.is_empty() && escape::unescape_url(&mut text, plain).is_ok() {
                    pattern = [b";P=", &*escape::os_escape_path(&text, true)].concat();
                    self.pattern = Some(text);
                }
                continue;
            }
            let [choice, behind @ ..] = value else { break };
            rest = match behind {
                [] => behind,
                [b'&' | b';', next @ ..] => next,
                _ => break,
            };
            match (name, choice) {
                (b'C', b'N' | b'M' | b'S' | b'D') => self.key = *choice,
                (b'O', b'A' | b'D') => self.direction = *choice,
                (b'F', b'0'..=b'2') => {
                    self.opts &= !(opt::FANCY_INDEXING * u32::from(*choice == b'0'));
                    self.opts &= !(opt::TABLE_INDEXING * u32::from(*choice != b'2'));
                    if *choice != b'0' {
                        self.opts |= opt::FANCY_INDEXING;
                    }
                    if *choice == b'2' {
                        self.opts |= opt::TABLE_INDEXING;
                    }
                    format = Some(*choice);
                }
                (b'V', b'0' | b'1') => {
                    self.opts &= !opt::VERSION_SORT;
                    if *choice == b'1' {
                        self.opts |= opt::VERSION_SORT;
                    }
                    version = Some(*choice);
                }
                _ => break,
            }
        }
        for (name, choice) in [(b'F', format), (b'V', version)] {
            if let Some(choice) = choice {
                self.column_args.extend_from_slice(&[b';', name, b'=', choice]);
            }
        }
        self.column_args.extend_from_slice(&pattern);
    }
}

/// Sorts the lines.
pub(super) fn sort(entries: &mut [Entry], query: &Query) {
    entries.sort_by(|one, two| compare(one, two, query));
}

fn compare(one: &Entry, two: &Entry, query: &Query) -> Ordering {
    let is_parent = |entry: &Entry| entry.name.first() == Some(&b'/');
    if is_parent(one) || is_parent(two) {
        return is_parent(two).cmp(&is_parent(one));
    }
    if one.first != two.first {
        return two.first.cmp(&one.first);
    }
    let (a, b) = if query.direction == b'A' { (one, two) } else { (two, one) };
    let by_version = query.opts & opt::VERSION_SORT != 0;
    let ignore_case = query.opts & opt::IGNORE_CASE != 0;
    let by_key = match query.key {
        b'M' => a.modified.cmp(&b.modified),
        b'S' => a.size.cmp(&b.size),
        b'D' => {
            let text = |entry: &'_ Entry| entry.description.clone().unwrap_or_default();
            let (a, b) = (text(a), text(b));
            if by_version { natural(&a, &b, false) } else { a.cmp(&b) }
        }
        _ => Ordering::Equal,
    };
    by_key
        .then_with(
            || if by_version && ignore_case { natural(&a.name, &b.name, true) } else { Ordering::Equal },
        )
        .then_with(|| if by_version { natural(&a.name, &b.name, false) } else { Ordering::Equal })
        .then_with(|| {
            if ignore_case {
                a.name.to_ascii_lowercase().cmp(&b.name.to_ascii_lowercase())
            } else {
                Ordering::Equal
            }
        })
        .then_with(|| a.name.cmp(&b.name))
}

/// Runs of digits count as numbers, with leading zeros as fractions: `apr_strnatcmp`.
fn natural(a: &[u8], b: &[u8], fold_case: bool) -> Ordering {
    let at = |text: &[u8], i: usize| text.get(i).copied().unwrap_or(0);
    let (mut i, mut j) = (0, 0);
    loop {
        while at(a, i).is_ascii_whitespace() {
            i += 1;
        }
        while at(b, j).is_ascii_whitespace() {
            j += 1;
        }
        let (mut c, mut d) = (at(a, i), at(b, j));
        if c.is_ascii_digit() && d.is_ascii_digit() {
            let (left, right) = (&a[i..], &b[j..]);
            let result =
                if c == b'0' || d == b'0' { left_aligned(left, right) } else { right_aligned(left, right) };
            if result != Ordering::Equal {
                return result;
            }
        }
        if c == 0 && d == 0 {
            return Ordering::Equal;
        }
        if fold_case {
            (c, d) = (c.to_ascii_uppercase(), d.to_ascii_uppercase());
        }
        if c != d {
            // As the C library's `char`, which has a sign on some machines.
            return (c as c_char).cmp(&(d as c_char));
        }
        i += 1;
        j += 1;
    }
}

/// The longer run of digits is the larger; of equal ones the first difference counts.
fn right_aligned(a: &[u8], b: &[u8]) -> Ordering {
    let run = |text: &[u8]| text.iter().take_while(|c| c.is_ascii_digit()).count();
    let (left, right) = (run(a), run(b));
    left.cmp(&right).then_with(|| a[..left].cmp(&b[..right]))
}

/// The first difference counts.
fn left_aligned(a: &[u8], b: &[u8]) -> Ordering {
    let run = |text: &[u8]| text.iter().take_while(|c| c.is_ascii_digit()).count();
    a[..run(a)].cmp(&b[..run(b)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order() {
        let less = |a: &str, b: &str| assert_eq!(natural(a.as_bytes(), b.as_bytes(), false), Ordering::Less);
        less("fn2", "fn10");
        less("fn1.01", "fn1.1");
        less("a", "b");
        less("1", "1a");
        assert_eq!(natural(b"A2", b"a2", true), Ordering::Equal);
    }

    #[test]
    fn queries() {
        let mut query = Query { opts: 0, key: b'N', direction: b'A', pattern: None, column_args: Vec::new() };
        query.read(b"C=S;O=D&F=2;V=1;P=*.txt;X=1;C=N");
        assert_eq!((query.key, query.direction), (b'S', b'D'));
        assert_eq!(query.opts, opt::FANCY_INDEXING | opt::TABLE_INDEXING | opt::VERSION_SORT);
        assert_eq!(query.pattern.as_deref(), Some(&b"*.txt"[..]));
        assert_eq!(query.column_args, b";F=2;V=1;P=*.txt");
        query.read(b"C=SX");
        assert_eq!(query.key, b'S');
    }
}
