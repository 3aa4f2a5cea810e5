//! Functions on paths, URLs, text and lists against what those of Apache returned.

use super::conditional::{find_etag_strong, find_etag_weak, find_list_item};
use super::escape::*;
use super::head::is_chunked;
use super::path::{Normalize, getparents, no2slash, normalize};
use super::recorded::decode;
use super::status;
use crate::table::{find_last_token, find_token};

const CASES: &str = include_str!("util_tests.tsv");

fn call(function: &str, flags: u16, input: &[u8]) -> (i64, Vec<u8>) {
    let mut text = input.to_vec();
    let unescaped = |mut text: Vec<u8>, how| {
        let status = unescape_url(&mut text, how).err().unwrap_or(0);
        (i64::from(status), text)
    };
    let listed = |find: fn(&[u8], &[u8]) -> bool| {
        let newline = input.iter().position(|&c| c == b'\n').unwrap();
        (i64::from(find(&input[..newline], &input[newline + 1..])), Vec::new())
    };
    let token = |item: &[u8]| String::from_utf8(item.to_vec()).unwrap();
    match function {
        "norm" => {
            let how = Normalize {
                allow_relative: flags & 1 != 0,
                not_above_root: flags & 2 != 0,
                decode_unreserved: flags & 4 != 0,
                merge_slashes: flags & 8 != 0,
            };
            let good = normalize(&mut text, how);
            (i64::from(good), text)
        }
        "getparents" => {
            getparents(&mut text);
            (0, text)
        }
        "no2slash" => {
            no2slash(&mut text);
            (0, text)
        }
        "unesc" => unescaped(text, Unescape::FORBID_SLASHES),
        "unesc2f" => unescaped(text, Unescape::KEEP_SLASHES),
        "unescall" => unescaped(text, Unescape::ALL),
        "unescform" => {
            let status = unescape_urlencoded(&mut text).err().unwrap_or(0);
            (i64::from(status), text)
        }
        "seg" => (0, escape_path_segment(input).into_owned()),
        "ospath" => (0, os_escape_path(input, flags == 1).into_owned()),
        "urlenc" => (0, escape_urlencoded(input).into_owned()),
        "html" => (0, escape_html2(input, flags == 1).into_owned()),
        "logitem" => (0, escape_logitem(input).into_owned()),
        "errorlog" => (0, escape_errorlog_item(input).into_owned()),
        "quotes" => (0, escape_quotes(input).into_owned()),
        "isurl" => (i64::from(is_url(input)), text),
        "listitem" => listed(find_list_item),
        "etagweak" => listed(find_etag_weak),
        "etagstrong" => listed(find_etag_strong),
        "token" => {
            let newline = input.iter().position(|&c| c == b'\n').unwrap();
            (i64::from(find_token(&input[..newline], &token(&input[newline + 1..]))), Vec::new())
        }
        "lasttoken" => {
            let newline = input.iter().position(|&c| c == b'\n').unwrap();
            (i64::from(find_last_token(&input[..newline], &token(&input[newline + 1..]))), Vec::new())
        }
        "chunked" => (i64::from(is_chunked(input)), Vec::new()),
        "status" => (0, status::line_ex(flags).as_bytes().to_vec()),
        other => panic!("{other}"),
    }
}

#[test]
fn as_apache_returns() {
    let mut wrong = Vec::new();
    for case in CASES.lines().filter(|l| !l.starts_with('#')) {
        let columns: Vec<&str> = case.split('\t').collect();
        let [function, flags, input, number, text] = columns[..] else { panic!("{case}") };
        let (is, output) = call(function, flags.parse().unwrap(), &decode(input));
        if is.to_string() != number || output != decode(text) {
            wrong.push(format!("{case} but was {is} {}", output.escape_ascii()));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

#[test]
fn urls_are_constructed() {
    let url =
        |scheme, host: &[u8], port| String::from_utf8(construct_url(scheme, host, port, b"/x")).unwrap();
    assert_eq!(url("http", b"h", 80), "http://h/x");
    assert_eq!(url("https", b"h", 443), "https://h/x");
    assert_eq!(url("https", b"h", 80), "https://h:80/x");
    assert_eq!(url("http", b"::1", 8080), "http://[::1]:8080/x");
}

#[test]
fn proxies_keep_reserved_characters() {
    let mut url = b"%2f%3B%3f%41".to_vec();
    assert_eq!(unescape_url(&mut url, Unescape::PROXY), Ok(()));
    assert_eq!(url, b"%2f%3B%3fA");
    let mut url = b"%41%2d%2f".to_vec();
    assert_eq!(unescape_url(&mut url, Unescape { keep_unreserved: true, ..Unescape::ALL }), Ok(()));
    assert_eq!(url, b"%41%2d/");
}
