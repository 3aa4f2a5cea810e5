//! Byte ranges (RFC 9110 14): `ap_set_byterange` and the BYTERANGE filter of `byterange_filter.c`, as a plan of
//! what to send.

use super::conditional::{Condition, Conditions};
use super::fields::{Level, LogLine, Origin};
use super::head::strict_length;

/// `MaxRanges`, `MaxRangeOverlaps` and `MaxRangeReversals`; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_ranges: Option<u32>,
    pub max_overlaps: Option<u32>,
    pub max_reversals: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_ranges: Some(200), max_overlaps: Some(20), max_reversals: Some(20) }
    }
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The whole body, with the status it has.
    Whole,
    /// 416: no range is satisfiable.
    Unsatisfiable,
    /// 206 with one range and the field `Content-Range`.
    Single { part: Part, content_range: Vec<u8> },
    /// 206 with several ranges, as `multipart/byteranges`.
    Multipart(Multipart),
}

/// A range of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub start: u64,
    pub len: u64,
}

/// A multipart body: of each part its head and then its bytes, at the end `tail`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multipart {
    /// `Content-Type` of the reply.
    pub content_type: Vec<u8>,
    pub parts: Vec<(Vec<u8>, Part)>,
    pub tail: Vec<u8>,
    /// The length of all of it. Apache sends more than 32 parts in several turns and does not tell their length,
    /// but sends them chunked.
    pub len: Option<u64>,
}

/// What [`plan`] looks at.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub conditions: Conditions<'a>,
    /// The reply's status is 200 and the request not HTTP/0.9.
    pub ok: bool,
    /// The length of the whole body.
    pub clength: u64,
    /// `Content-Type` of the reply, with its charset.
    pub content_type: Option<&'a [u8]>,
    /// `ap_multipart_boundary`
    pub boundary: &'a [u8],
    pub limits: Limits,
}

/// Reads the Range of a request and says what to send, and what Apache would log.
pub fn plan(request: &Request<'_>) -> (Plan, Option<LogLine>) {
    let (ranges, log) = match set_byterange(request) {
        Found::None => return (Plan::Whole, None),
        Found::Unsatisfiable => return (Plan::Unsatisfiable, None),
        Found::Ranges(ranges, log) => (ranges, log),
    };
    let over = |n: usize, limit: Option<u32>| limit.is_some_and(|limit| n > limit as usize);
    let plan = if ranges.merged.is_empty()
        || over(ranges.merged.len(), request.limits.max_ranges)
        || over(ranges.overlaps, request.limits.max_overlaps)
        || over(ranges.reversals, request.limits.max_reversals)
    {
        Plan::Whole
    } else if let [(start, end)] = ranges.merged[..] {
        let content_range = format!("bytes {start}-{end}/{}", request.clength).into_bytes();
        Plan::Single { part: Part { start, len: end - start + 1 }, content_range }
    } else {
        Plan::Multipart(multipart(request, &ranges.merged))
    };
    (plan, Some(log))
}

fn multipart(request: &Request<'_>, ranges: &[(u64, u64)]) -> Multipart {
    let mut head = [b"\r\n--", request.boundary].concat();
    if let Some(content_type) = request.content_type {
        head.extend_from_slice(b"\r\nContent-type: ");
        head.extend_from_slice(content_type);
    }
    head.extend_from_slice(b"\r\nContent-range: bytes ");
    let tail = [b"\r\n--", request.boundary, b"--\r\n"].concat();
    let mut len = tail.len() as u64;
    let mut parts = Vec::with_capacity(ranges.len());
    for &(start, end) in ranges {
        let numbers = format!("{start}-{end}/{}\r\n\r\n", request.clength);
        let head = [&head, numbers.as_bytes()].concat();
        let part = Part { start, len: end - start + 1 };
        len += head.len() as u64 + part.len;
        parts.push((head, part));
    }
    let content_type = [b"multipart/byteranges; boundary=", request.boundary].concat();
    let len = (ranges.len() <= 32).then_some(len);
    Multipart { content_type, parts, tail, len }
}

enum Found {
    None,
    Unsatisfiable,
    Ranges(Ranges, LogLine),
}

/// Ranges with first and last byte, those that touch made one.
#[derive(Default)]
struct Ranges {
    merged: Vec<(u64, u64)>,
    overlaps: usize,
    reversals: usize,
}

fn set_byterange(request: &Request<'_>) -> Found {
    let headers_out = request.conditions.headers_out;
    let Some(range) = request.conditions.headers_in.get("Range") else { return Found::None };
    let Some(list) = range.get(..6).filter(|unit| unit.eq_ignore_ascii_case(b"bytes=")).map(|_| &range[6..])
    else {
        return Found::None;
    };
    let multiple =
        |ct: &[u8]| ct.get(..20).is_some_and(|ct| ct.eq_ignore_ascii_case(b"multipart/byteranges"));
    if !request.ok
        || request.clength == 0
        || headers_out.contains("Content-Range")
        || headers_out.get("Content-Type").is_some_and(multiple)
        || request.conditions.if_range() == Condition::NoMatch
    {
        return Found::None;
    }
    let Some((ranges, unsatisfiable)) = merge(list, request.clength) else { return Found::None };
    if ranges.merged.is_empty() && unsatisfiable {
        return Found::Unsatisfiable;
    }
    let sum = ranges.merged.iter().fold(0u64, |sum, (start, end)| sum.saturating_add(end - start + 1));
    if sum > request.clength {
        return Found::None;
    }
    let merged: Vec<String> = ranges.merged.iter().map(|(start, end)| format!("{start}-{end}")).collect();
    let (overlaps, reversals) = (ranges.overlaps, ranges.reversals);
    let rest = format!(" | {} ({overlaps} : {reversals} : {})", merged.join(","), request.clength);
    let log = LogLine::new(Level::Debug, 1583, 0, &[b"Range: ", list, rest.as_bytes()]).of(Origin::Http);
    Found::Ranges(ranges, log)
}

/// Reads the ranges one by one and joins each with the one before where they touch; `None` where one is malformed.
/// Says also whether one lay behind the end.
fn merge(list: &[u8], clength: u64) -> Option<(Ranges, bool)> {
    let mut found = Ranges::default();
    let mut unsatisfiable = false;
    let mut current: Option<(u64, u64)> = None;
    for spec in words(list) {
        let Some((start, end)) = parse_spec(spec, clength)? else {
            // "0-" is everything.
            found.merged.clear();
            current = Some((0, clength - 1));
            break;
        };
        if start >= clength {
            unsatisfiable = true;
            continue;
        }
        let end = end.min(clength - 1);
        let Some((mut ostart, mut oend)) = current else {
            current = Some((start, end));
            continue;
        };
        let mut joined = start >= ostart && end <= oend;
        if start < ostart && end >= ostart - 1 {
            ostart = start;
            found.reversals += 1;
            joined = true;
        }
        if end >= oend && start <= oend + 1 {
            oend = end;
            joined = true;
        }
        if joined {
            found.overlaps += 1;
            current = Some((ostart, oend));
        } else {
            found.merged.push((ostart, oend));
            current = Some((start, end));
        }
    }
    found.merged.extend(current);
    Some((found, unsatisfiable))
}

/// The words between commas, up to the first empty one; several commas count as one (`ap_getword`).
fn words(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let end = rest.iter().position(|&c| c == b',').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let next = after.iter().position(|&c| c != b',').unwrap_or(after.len());
        rest = &after[next..];
        (!word.is_empty()).then_some(word)
    })
}

/// First and last byte of one range, the last perhaps behind the end. The outer `None` is for malformed ones, the
/// inner for `0-`.
fn parse_spec(spec: &[u8], clength: u64) -> Option<Option<(u64, u64)>> {
    let dash = spec.iter().position(|&c| c == b'-')?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        let n = strict_length(last).filter(|&n| n > 0)?;
        return Some(Some((clength.saturating_sub(n), clength - 1)));
    }
    let start = strict_length(first)?;
    if last.is_empty() {
        return Some((start > 0).then_some((start, clength - 1)));
    }
    let end = strict_length(last)?;
    (start <= end).then_some(Some((start, end)))
}
