//! Conditions and ranges against what Apache answered.

use super::conditional::*;
use super::date;
use super::range::{Limits, Plan, Request, plan};
use super::recorded::decode;
use crate::table::{Overlap, Table};

const CASES: &str = include_str!("conditional_tests.tsv");

#[test]
fn as_apache_answers_them() {
    let mut multiparts = 0;
    for case in CASES.lines().filter(|l| !l.starts_with('#')) {
        let columns: Vec<Vec<u8>> = case.split('\t').map(decode).collect();
        let [method, etag, modified, now, size, fields, status, content_range, content_type, length, body] =
            &columns[..]
        else {
            panic!("{case}");
        };
        let mut headers_in = Table::new();
        for field in fields.split(|&c| c == b'\n') {
            let field = field.strip_suffix(b"\r").unwrap_or(field);
            let colon = field.iter().position(|&c| c == b':').unwrap();
            headers_in.add(&field[..colon], field[colon + 1..].trim_ascii());
        }
        headers_in.compress(Overlap::Merge);
        let headers_out: Table = [(&b"ETag"[..], etag), (b"Last-Modified", modified)].into_iter().collect();
        let now = date::parse(now).unwrap() * 1_000_000;
        let conditions = Conditions {
            headers_in: &headers_in,
            headers_out: &headers_out,
            is_get: matches!(&method[..], b"GET" | b"HEAD"),
            mtime: 0,
            request_time: now,
            now,
        };
        let size: usize = std::str::from_utf8(size).unwrap().parse().unwrap();
        let content: Vec<u8> = if size == 20 {
            b"0123456789abcdefghij".to_vec()
        } else {
            b"0123456789".iter().copied().cycle().take(size).collect()
        };
        let boundary = content_type.strip_prefix(b"multipart/byteranges; boundary=").unwrap_or(b"none");
        let request = Request {
            conditions,
            ok: true,
            clength: size as u64,
            content_type: Some(b"text/plain"),
            boundary,
            limits: Limits::default(),
        };
        let mut sent = Vec::new();
        let mut shown_length = String::new();
        let mut shown_range = Vec::new();
        let is = match (conditions.meets(), plan(&request).0) {
            (Some(status), _) => status,
            (None, Plan::Unsatisfiable) => 416,
            (None, Plan::Whole) => {
                shown_length = size.to_string();
                200
            }
            (None, Plan::Single { part, content_range }) => {
                sent.extend_from_slice(&content[part.start as usize..(part.start + part.len) as usize]);
                shown_length = part.len.to_string();
                shown_range = content_range;
                206
            }
            (None, Plan::Multipart(multipart)) => {
                multiparts += 1;
                for (head, part) in &multipart.parts {
                    sent.extend_from_slice(head);
                    sent.extend_from_slice(&content[part.start as usize..(part.start + part.len) as usize]);
                }
                sent.extend_from_slice(&multipart.tail);
                assert_eq!(multipart.content_type, *content_type, "{case}");
                if let Some(len) = multipart.len {
                    assert_eq!(len, sent.len() as u64);
                    shown_length = len.to_string();
                }
                206
            }
        };
        if method == b"HEAD" {
            sent.clear();
        }
        assert_eq!(is.to_string().as_bytes(), status, "{case}");
        assert_eq!(shown_range, *content_range, "{case}");
        assert_eq!(shown_length.as_bytes(), length, "{case}");
        assert_eq!(sent.escape_ascii().to_string(), body.escape_ascii().to_string(), "{case}");
    }
    assert!(multiparts > 10);
}

#[test]
fn other_methods_fail_where_get_is_not_modified() {
    let headers_out: Table =
        [("ETag", "\"a\""), ("Last-Modified", "Sun, 09 Sep 2001 01:46:40 GMT")].into_iter().collect();
    let meets = |name: &str, value: &str| {
        let headers_in: Table = [(name, value)].into_iter().collect();
        let now = 2_000_000_000_000_000;
        Conditions {
            headers_in: &headers_in,
            headers_out: &headers_out,
            is_get: false,
            mtime: 0,
            request_time: now,
            now,
        }
        .meets()
    };
    assert_eq!(meets("If-None-Match", "*"), Some(412));
    assert_eq!(meets("If-None-Match", "\"a\""), Some(412));
    assert_eq!(meets("If-None-Match", "W/\"a\""), None);
    assert_eq!(meets("If-Modified-Since", "Sun, 09 Sep 2001 01:46:40 GMT"), None);
    assert_eq!(meets("If-Match", "\"b\""), Some(412));
}

#[test]
fn list_items() {
    assert!(find_list_item(b"a, b , c", b"b"));
    assert!(find_list_item(b"A; q = 1", b"a;q=1"));
    assert!(find_list_item(b"x y", b"x y"));
    assert!(find_list_item(b"x   y", b"x y"));
    assert!(!find_list_item(b"xy", b"x y"));
    assert!(!find_list_item(b"\"A\"", b"\"a\""));
    assert!(!find_list_item(b"ab", b"a"));
    assert!(!find_list_item(b"a", b"ab"));
    assert!(!find_list_item(b"", b"a"));
    assert!(find_list_item(b"\"a,b\", c", b"c"));
    assert!(!find_list_item(b"\"a,b\", c", b"b\""));
}

#[test]
fn tags() {
    let source = EtagSource {
        bits: EtagBits::UNSET,
        is_file: true,
        inode: 0x12f,
        size: 20,
        mtime: 1_000_000_000_000_000,
        request_time: 1_000_000_001_000_000,
        force_weak: false,
        digest: None,
        vlist_validator: None,
    };
    let tag = |s: EtagSource<'_>| make_etag(&s).map(|t| String::from_utf8(t).unwrap());
    assert_eq!(tag(source).as_deref(), Some("\"14-38d7ea4c68000\""));
    assert_eq!(
        tag(EtagSource { request_time: source.request_time - 1, ..source }).as_deref(),
        Some("W/\"14-38d7ea4c68000\"")
    );
    assert_eq!(
        tag(EtagSource { bits: EtagBits::ALL, ..source }).as_deref(),
        Some("\"12f-14-38d7ea4c68000\"")
    );
    assert_eq!(tag(EtagSource { bits: EtagBits::INODE, ..source }).as_deref(), Some("\"12f\""));
    assert_eq!(tag(EtagSource { bits: EtagBits::NONE, ..source }), None);
    let negotiated = EtagSource { size: 2, vlist_validator: Some(b"\"660eae3cc6120\""), ..source };
    assert_eq!(tag(negotiated).as_deref(), Some("\"2-38d7ea4c68000;660eae3cc6120"));
    let negotiated = EtagSource { vlist_validator: Some(b"W/\"660eae3cc6120\""), ..negotiated };
    assert_eq!(tag(negotiated).as_deref(), Some("W/\"2-38d7ea4c68000;660eae3cc6120"));
    let digest = [
        0xf5, 0x72, 0xd3, 0x96, 0xfa, 0xe9, 0x20, 0x66, 0x28, 0x71, 0x4f, 0xb2, 0xce, 0x00, 0xf7, 0x2e, 0x94,
        0xf2, 0x25, 0x8f,
    ];
    assert_eq!(
        tag(EtagSource { digest: Some(digest), ..source }).as_deref(),
        Some("\"9XLTlvrpIGYocU+yzgD3LpTyJY8=\"")
    );
    assert_eq!(tag(EtagSource { is_file: false, size: 0, ..source }).as_deref(), Some("\"38d7ea4c68000\""));
    assert_eq!(
        tag(EtagSource { size: 0, bits: EtagBits::SIZE, force_weak: true, ..source }).as_deref(),
        Some("W/\"0\"")
    );
}

#[test]
fn last_modified_is_not_in_the_future() {
    assert_eq!(rationalize_mtime(5, 10, || 20), 5);
    assert_eq!(rationalize_mtime(15, 10, || 20), 15);
    assert_eq!(rationalize_mtime(25, 10, || 20), 20);
}
