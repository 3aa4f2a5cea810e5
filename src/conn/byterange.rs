//! The BYTERANGE filter: a reply of 200 cut down to the ranges that were asked for.
//!
//! Answers to `ap_byterange_filter` of `modules/http/byterange_filter.c`; what to send is planned in
//! [`crate::http::range`].

use std::collections::VecDeque;

use bytes::Bytes;

use crate::body::{Chunk, Chunks, Content, FileSlice};
use crate::http::range::{self, Limits, Part, Plan};
use crate::http::status;
use crate::modules::core;
use crate::request::Request;

/// Puts the ranges in place of the whole, where the request asks for it and the content can be cut.
pub fn wrap(r: &mut Request, content: Content) -> Content {
    if r.status != status::OK
        || r.assbackwards
        || !r.headers_in.contains("Range") && !r.headers_in.contains("Request-Range")
    {
        return content;
    }
    let Some(clength) = content.len() else { return content };
    if !matches!(content, Content::Bytes(_) | Content::File(_)) {
        return content;
    }
    let conf = r.dir.clone();
    let conf = conf.get(&core::DIR);
    let limit = |value: Option<i64>, default: u32| match value {
        None => Some(default),
        Some(0) => None,
        Some(value) => u32::try_from(value).ok(),
    };
    let content_type = r.full_content_type();
    let boundary = boundary(r);
    let (plan, log) = range::plan(&range::Request {
        conditions: r.conditions(),
        ok: true,
        clength,
        content_type: content_type.as_deref().map(str::as_bytes),
        boundary: boundary.as_bytes(),
        limits: Limits {
            // `none` allows no range, and no overlap; for reversals it is no limit in Apache.
            max_ranges: if conf.max_ranges == Some(-1) { Some(0) } else { limit(conf.max_ranges, 200) },
            max_overlaps: if conf.max_overlaps == Some(-1) { Some(0) } else { limit(conf.max_overlaps, 20) },
            max_reversals: limit(conf.max_reversals, 20),
        },
    });
    if let Some(line) = log {
        r.log_line(&line);
    }
    match plan {
        Plan::Whole => content,
        Plan::Unsatisfiable => {
            r.error_bucket = Some(status::RANGE_NOT_SATISFIABLE);
            Content::Empty
        }
        Plan::Single { part, content_range } => {
            r.status = status::PARTIAL_CONTENT;
            r.headers_out.set("Content-Range", content_range);
            r.headers_out.set("Content-Length", part.len.to_string());
            match cut(&content, part) {
                Chunk::Bytes(bytes) => Content::Bytes(bytes),
                Chunk::File(slice) => Content::File(slice),
            }
        }
        Plan::Multipart(multipart) => {
            r.status = status::PARTIAL_CONTENT;
            let mut chunks = VecDeque::new();
            for (head, part) in multipart.parts {
                chunks.push_back(Chunk::Bytes(Bytes::from(head)));
                chunks.push_back(cut(&content, part));
            }
            chunks.push_back(Chunk::Bytes(Bytes::from(multipart.tail)));
            r.content_type = Some(String::from_utf8_lossy(&multipart.content_type).into_owned().into());
            match multipart.len {
                Some(len) => r.headers_out.set("Content-Length", len.to_string()),
                None => {
                    r.headers_out.unset("Content-Length");
                    r.length_unknown = true;
                }
            }
            Content::Stream(Box::new(Chunks(chunks)))
        }
    }
}

fn cut(content: &Content, part: Part) -> Chunk {
    match content {
        Content::Bytes(bytes) => {
            let start = usize::try_from(part.start).unwrap_or(usize::MAX).min(bytes.len());
            let end = start.saturating_add(usize::try_from(part.len).unwrap_or(usize::MAX)).min(bytes.len());
            Chunk::Bytes(bytes.slice(start..end))
        }
        Content::File(slice) => Chunk::File(FileSlice {
            file: slice.file.clone(),
            offset: slice.offset + part.start,
            len: part.len.min(slice.len.saturating_sub(part.start)),
        }),
        Content::Empty | Content::Then(..) | Content::Stream(_) => Chunk::Bytes(Bytes::new()),
    }
}

/// Sixteen hexadecimal digits that no content is likely to hold, from the time of the request and its connection.
fn boundary(r: &Request) -> String {
    let micros = r.request_time as u64;
    let mixed = (micros ^ r.connection.id.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}")
}
