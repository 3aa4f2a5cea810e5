//! Conditional requests and validators: `ap_meets_conditions` of `http_protocol.c`, `ap_make_etag` of
//! `http_etag.c`, `ap_find_etag_strong`/`weak` of `util.c` and `ap_set_last_modified` of `protocol.c`.

use super::date::{self, Micros};
use super::fields::is_space;
use super::status::{self, Status};
use crate::table::Table;

/// What the conditions are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    pub headers_in: &'a Table,
    /// `ETag`, `Last-Modified` and, where a proxy set it, `Date` of the reply.
    pub headers_out: &'a Table,
    /// The method is GET or HEAD.
    pub is_get: bool,
    /// When the resource was changed (`r->mtime`), 0 if that is not known; counts where there is no Last-Modified.
    pub mtime: Micros,
    /// When the request was read.
    pub request_time: Micros,
    /// What time it is now.
    pub now: Micros,
}

/// How a condition compares (`ap_condition_e`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The request has no such condition.
    None,
    NoMatch,
    Weak,
    Strong,
}

impl Conditions<'_> {
    /// The status that a reply of 200 turns into, if any: 304 or 412 (`ap_meets_conditions`). Only asked for
    /// replies of 2xx with `no_local_copy` unset.
    pub fn meets(&self) -> Option<Status> {
        use Condition::{NoMatch, None as Unset, Strong, Weak};
        if self.if_match() == NoMatch {
            return Some(status::PRECONDITION_FAILED);
        }
        // What one condition found modified, no later one makes unmodified.
        let mut not_modified = None;
        match self.if_unmodified_since() {
            NoMatch => not_modified = Some(false),
            Weak | Strong => return Some(status::PRECONDITION_FAILED),
            Unset => {}
        }
        match self.if_none_match() {
            NoMatch => not_modified = Some(false),
            Weak | Strong if !self.is_get => return Some(status::PRECONDITION_FAILED),
            Weak | Strong => not_modified = not_modified.or(Some(true)),
            Unset => {}
        }
        match self.if_modified_since() {
            NoMatch => not_modified = Some(false),
            Weak | Strong if self.is_get => not_modified = not_modified.or(Some(true)),
            _ => {}
        }
        // RFC 9110 13.2.2: with If-Range the range decides, not the other conditions.
        if self.if_range() != Unset {
            return None;
        }
        (not_modified == Some(true)).then_some(status::NOT_MODIFIED)
    }

    /// If-Match
    pub fn if_match(&self) -> Condition {
        let Some(tags) = self.headers_in.get("If-Match") else { return Condition::None };
        if tags.first() == Some(&b'*') || self.etag().is_some_and(|tag| find_etag_strong(tags, tag)) {
            Condition::Strong
        } else {
            Condition::NoMatch
        }
    }

    /// If-Unmodified-Since: matches where the resource was modified.
    pub fn if_unmodified_since(&self) -> Condition {
        let Some(since) = self.headers_in.get("If-Unmodified-Since") else { return Condition::None };
        match date::parse(since) {
            Some(since) if self.modified() > since => self.strength(),
            _ => Condition::NoMatch,
        }
    }

    /// If-None-Match
    pub fn if_none_match(&self) -> Condition {
        let Some(tags) = self.headers_in.get("If-None-Match") else { return Condition::None };
        if tags.first() == Some(&b'*') {
            return Condition::Strong;
        }
        let Some(tag) = self.etag() else { return Condition::NoMatch };
        if self.is_get && !self.headers_in.contains("Range") {
            if find_etag_weak(tags, tag) { Condition::Weak } else { Condition::NoMatch }
        } else if find_etag_strong(tags, tag) {
            Condition::Strong
        } else {
            Condition::NoMatch
        }
    }

    /// If-Modified-Since: matches where the resource was not modified.
    pub fn if_modified_since(&self) -> Condition {
        let Some(since) = self.headers_in.get("If-Modified-Since") else { return Condition::None };
        let since = date::parse(since).unwrap_or(0);
        if since >= self.modified() && since <= self.date() { self.strength() } else { Condition::NoMatch }
    }

    /// If-Range; means nothing without Range.
    pub fn if_range(&self) -> Condition {
        let Some(validator) = self.headers_in.get("If-Range") else { return Condition::None };
        if !self.headers_in.contains("Range") {
            return Condition::None;
        }
        if validator.first() == Some(&b'"') {
            return if self.etag() == Some(validator) { Condition::Strong } else { Condition::NoMatch };
        }
        let same = date::parse(validator).unwrap_or(0) == self.modified();
        if same && self.date() >= self.modified() + 60 { Condition::Strong } else { Condition::NoMatch }
    }

    fn etag(&self) -> Option<&[u8]> {
        self.headers_out.get("ETag")
    }

    /// Last-Modified or what stands for it, in seconds.
    fn modified(&self) -> i64 {
        let time = if self.mtime != 0 { self.mtime } else { self.now };
        self.headers_out.get("Last-Modified").and_then(date::parse).unwrap_or(time / 1_000_000)
    }

    /// Date or the time of the request, in seconds.
    fn date(&self) -> i64 {
        self.headers_out.get("Date").and_then(date::parse).unwrap_or(self.request_time / 1_000_000)
    }

    /// RFC 9110 8.8.2.2: a date less than a minute old is a weak validator, which ranges cannot do with.
    fn strength(&self) -> Condition {
        if self.date() >= self.modified() + 60 {
            Condition::Strong
        } else if self.headers_in.contains("Range") {
            Condition::NoMatch
        } else {
            Condition::Weak
        }
    }
}

/// Whether the list has the strong tag (`ap_find_etag_strong`).
pub fn find_etag_strong(list: &[u8], tag: &[u8]) -> bool {
    tag.first() == Some(&b'"') && find_item(list, tag, |item| (item.first() == Some(&b'"')).then_some(0))
}

/// Whether the list has the tag, weak or strong (`ap_find_etag_weak`).
pub fn find_etag_weak(list: &[u8], tag: &[u8]) -> bool {
    let opaque = |item: &[u8]| match item {
        [b'W', b'/', b'"', ..] => Some(2),
        [b'"', ..] => Some(0),
        _ => None,
    };
    opaque(tag).is_some_and(|skip| find_item(list, &tag[skip..], opaque))
}

/// Whether a list has an item, blanks and case apart (`ap_find_list_item`).
pub fn find_list_item(list: &[u8], item: &[u8]) -> bool {
    find_item(list, item, |_| Some(0))
}

/// Looks through a list. `start` says how many bytes of an item to skip, or that the list ends there.
fn find_item(list: &[u8], wanted: &[u8], start: impl Fn(&[u8]) -> Option<usize>) -> bool {
    let mut rest = list;
    loop {
        let blank = rest.iter().position(|&c| c != b',' && !is_space(c)).unwrap_or(rest.len());
        rest = &rest[blank..];
        let Some(skip) = start(rest) else { return false };
        rest = &rest[skip..];
        if rest.is_empty() {
            return false;
        }
        let (same, len) = Matcher { wanted, at: 0, good: true }.item(rest);
        if same {
            return true;
        }
        rest = &rest[len..];
    }
}

/// Compares one list item: case counts only in comments, quoted strings and quoted pairs, blanks are one or none.
struct Matcher<'a> {
    wanted: &'a [u8],
    at: usize,
    good: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Blank {
    No,
    /// Blanks came; one is due before the next byte.
    Due,
    /// Behind a separator blanks do not count.
    Swallow,
}

impl Matcher<'_> {
    fn expect(&mut self, c: u8, exact: bool) {
        if self.good {
            let is = self.wanted.get(self.at).copied().unwrap_or(0);
            self.at += 1;
            self.good = if exact { is == c } else { is.eq_ignore_ascii_case(&c) };
        }
    }

    /// Reads an item from the start of `text`; says whether it is the wanted one, and its length.
    fn item(mut self, text: &[u8]) -> (bool, usize) {
        let (mut in_pair, mut in_string, mut comments) = (false, false, 0u32);
        let mut blank = Blank::No;
        let mut len = 0;
        for &c in text {
            let inside = in_string || comments > 0;
            if c == b',' && !in_pair && !inside {
                break;
            }
            len += 1;
            if in_pair {
                in_pair = false;
                self.expect(c, true);
                continue;
            }
            match c {
                b' ' | b'\t' => {
                    if blank != Blank::No || !self.good {
                        continue;
                    }
                    if inside {
                        self.expect(c, true)
                    } else {
                        blank = Blank::Due
                    }
                    continue;
                }
                b'=' | b'/' | b';' => {
                    if !inside {
                        blank = Blank::Swallow;
                    }
                    self.expect(c, true);
                    continue;
                }
                b'\\' => in_pair = true,
                b'"' if comments == 0 => in_string = !in_string,
                b'(' if !in_string => comments += 1,
                b')' => comments = comments.saturating_sub(1),
                _ => {}
            }
            if blank == Blank::Due && c != b')' {
                self.expect(b' ', true);
            }
            let quoted = inside || matches!(c, b'\\' | b'"' | b'(' | b')');
            self.expect(c, quoted);
            blank = Blank::No;
        }
        (self.good && self.at == self.wanted.len(), len)
    }
}

/// `FileETag`: what tags are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EtagBits(u8);

impl EtagBits {
    /// Nothing was said; that is MTime and Size.
    pub const UNSET: EtagBits = EtagBits(0);
    pub const NONE: EtagBits = EtagBits(1);
    pub const MTIME: EtagBits = EtagBits(2);
    pub const INODE: EtagBits = EtagBits(4);
    pub const SIZE: EtagBits = EtagBits(8);
    pub const DIGEST: EtagBits = EtagBits(16);
    pub const ALL: EtagBits = EtagBits(2 | 4 | 8);

    /// These and those.
    pub const fn with(self, more: EtagBits) -> EtagBits {
        EtagBits(self.0 | more.0)
    }

    /// These without those.
    pub const fn without(self, less: EtagBits) -> EtagBits {
        EtagBits(self.0 & !less.0)
    }

    /// Whether one of those is among these.
    pub const fn has(self, some: EtagBits) -> bool {
        self.0 & some.0 != 0
    }
}

/// What a tag is made from.
#[derive(Clone, Copy, Debug)]
pub struct EtagSource<'a> {
    pub bits: EtagBits,
    /// It is a file (or folder), which has an inode and a size.
    pub is_file: bool,
    pub inode: u64,
    pub size: u64,
    pub mtime: Micros,
    pub request_time: Micros,
    pub force_weak: bool,
    /// SHA-1 of the content, given where `FileETag Digest` or a strong tag is asked for and it is a regular file.
    pub digest: Option<[u8; 20]>,
    /// The validator of the list of variants, `"tag"` or `W/"tag"` (`r->vlist_validator`).
    pub vlist_validator: Option<&'a [u8]>,
}

/// The tag of a resource, `None` where `FileETag None` wants none (`ap_make_etag_ex`).
pub fn make_etag(source: &EtagSource<'_>) -> Option<Vec<u8>> {
    let mut weak = source.force_weak;
    let vlv = source.vlist_validator.map(|v| match v.first() {
        Some(b'W') => {
            weak = true;
            v.get(3..).unwrap_or_default()
        }
        _ => v.get(1..).unwrap_or_default(),
    });
    let mut tag = Vec::with_capacity(3 + 3 * 17 + vlv.map_or(0, <[u8]>::len));
    if let Some(digest) = source.digest {
        use base64::Engine;
        start_tag(&mut tag, weak);
        tag.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(digest).as_bytes());
        return Some(end_tag(tag, vlv));
    }
    if source.bits.has(EtagBits::NONE) {
        return None;
    }
    let bits =
        if source.bits == EtagBits::UNSET { EtagBits::MTIME.with(EtagBits::SIZE) } else { source.bits };
    // It could change again within the same second.
    weak |= source.request_time.saturating_sub(source.mtime) < 1_000_000;
    start_tag(&mut tag, weak);
    let bits = if source.is_file { bits } else { EtagBits::MTIME };
    let parts = [
        (EtagBits::INODE, source.inode),
        (EtagBits::SIZE, source.size),
        (EtagBits::MTIME, source.mtime as u64),
    ];
    let mut first = true;
    for (bit, number) in parts {
        if bits.has(bit) {
            if !first {
                tag.push(b'-');
            }
            first = false;
            push_hex(&mut tag, number);
        }
    }
    Some(end_tag(tag, vlv))
}

fn start_tag(tag: &mut Vec<u8>, weak: bool) {
    tag.extend_from_slice(if weak { b"W/\"" } else { b"\"" });
}

fn end_tag(mut tag: Vec<u8>, vlv: Option<&[u8]>) -> Vec<u8> {
    match vlv {
        Some(vlv) => {
            tag.push(b';');
            // Apache's copy ends one byte early and loses the closing quote.
            tag.extend_from_slice(vlv.split_last().map_or(&[], |(_, rest)| rest));
        }
        None => tag.push(b'"'),
    }
    tag
}

fn push_hex(out: &mut Vec<u8>, n: u64) {
    let digits = (64 - n.leading_zeros()).div_ceil(4).max(1);
    for i in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(n >> (4 * i)) as usize & 15]);
    }
}

/// The time that Last-Modified tells: never one in the future (`ap_rationalize_mtime`). `now` is asked only where
/// the request is older than the resource.
pub fn rationalize_mtime(mtime: Micros, request_time: Micros, now: impl FnOnce() -> Micros) -> Micros {
    let now = if mtime < request_time { request_time } else { now() };
    mtime.min(now)
}
