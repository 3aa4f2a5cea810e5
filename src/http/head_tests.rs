//! Request heads against what Apache made of them, in one piece and split at every byte.

use super::head::{Ended, Failed, Head, Options, Parsed, Unfinished};
use super::recorded::{decode, expected_log, show};
use super::status;
use crate::table::Table;

const CASES: &str = include_str!("head_tests.tsv");

fn options(mode: &str) -> Options<'static> {
    match mode {
        "U" => Options { strict: false, ..Options::default() },
        "L" => Options {
            registered_methods: true,
            allow09: false,
            limit_request_line: 60,
            limit_request_fieldsize: 50,
            limit_request_fields: 3,
            ..Options::default()
        },
        _ => Options::default(),
    }
}

/// Reads a head in pieces of `step` bytes and checks it as the server would.
fn run(
    head: &mut Head,
    headers_in: &mut Table,
    bytes: &[u8],
    step: usize,
    options: &Options<'_>,
) -> Result<(), Failed> {
    head.clear();
    headers_in.clear();
    let mut parsed = Parsed::NeedMore;
    let mut have = 0;
    while parsed == Parsed::NeedMore && have < bytes.len() {
        have = (have + step).min(bytes.len());
        parsed = head.parse(&bytes[..have], headers_in, options);
    }
    match parsed {
        Parsed::NeedMore => match head.ended(Ended::Eof, bytes) {
            Unfinished::Close(_) => return Err(Failed { status: 0, notes: None, unusable_input: true }),
            Unfinished::Reply(failed) => return Err(failed),
        },
        Parsed::Failed(failed) => return Err(failed),
        Parsed::Complete(n) => assert!(n <= have),
    }
    head.check_host(headers_in, options.strict)?;
    head.check_request_header(headers_in)?;
    if head.has_foreign_scheme() {
        return Err(Failed { status: status::BAD_REQUEST, notes: None, unusable_input: false });
    }
    Ok(())
}

fn field(value: Option<&[u8]>) -> Vec<u8> {
    value.unwrap_or(b"-").to_vec()
}

#[test]
fn as_apache_reads_them() {
    let mut head = Head::new();
    let mut headers_in = Table::new();
    let mut wrong = Vec::new();
    for case in CASES.lines().filter(|l| !l.starts_with('#')) {
        let columns: Vec<&str> = case.split('\t').collect();
        let bytes = decode(columns[1]);
        let options = options(columns[0]);
        let expected: u16 = columns[2].parse().unwrap();
        // Long ones are split less often.
        for step in [usize::MAX / 2, 1, 2, 3, 7].into_iter().take(if bytes.len() > 300 { 2 } else { 5 }) {
            let result = run(&mut head, &mut headers_in, &bytes, step, &options);
            let mut saw = Vec::new();
            let mut see = |what: &str, is: Vec<u8>, should: Vec<u8>| {
                if is != should {
                    saw.push(format!("{what}: {} instead of {}", is.escape_ascii(), should.escape_ascii()));
                }
            };
            // What the server accepts, Apache answered through its configuration or its handlers.
            let status = result.map_or_else(|f| f.status, |()| if expected == 200 { 200 } else { 302 });
            see("status", status.to_string().into(), expected.to_string().into());
            let notes = result
                .err()
                .and_then(|f| f.notes)
                .map_or("", |n| if n.starts_with("Size") { "size" } else { "fields" });
            see("notes", notes.into(), columns[3].into());
            let logs = expected_log(columns[4]);
            see("log", show(&head.log).into(), logs.into());
            if columns.len() > 5 {
                let column = |i: usize| decode(columns[i]);
                // The access log hides passwords.
                if head.uri().password.is_none() {
                    see("request", head.the_request().to_vec(), column(5));
                }
                see("method", field(head.method_token()), column(6));
                // Once translated, %U is no longer what was read.
                if head.path() != b"/" || expected != 200 {
                    let path = if head.method_token().is_none() { b"-" } else { head.path() };
                    see("path", path.to_vec(), column(7));
                }
                let query = head.args().filter(|q| !q.is_empty()).map_or(Vec::new(), |q| [b"?", q].concat());
                see("query", query, column(8));
                // An unknown protocol is never answered in kind; only the log of Apache still names it.
                if column(9).to_ascii_uppercase().starts_with(b"HTTP/") {
                    see("protocol", head.protocol.to_vec(), column(9));
                }
                if result.is_ok() {
                    see("Host", field(headers_in.get("Host")), column(10));
                    see("Content-Length", field(headers_in.get("Content-Length")), column(11));
                    see("X", field(headers_in.get("X")), column(12));
                    let host = head.hostname().unwrap_or(b"localhost");
                    let host = if host.contains(&b':') { [b"[", host, b"]"].concat() } else { host.to_vec() };
                    let port = head.port().filter(|&p| p != 80).map_or(String::new(), |p| format!(":{p}"));
                    if !columns[13].is_empty() {
                        see("host", [host, port.into_bytes()].concat(), column(13));
                    }
                }
            }
            if !saw.is_empty() {
                let sent: String = columns[1].chars().take(160).collect();
                wrong.push(format!("{} {sent} in steps of {step}:\n    {}", columns[0], saw.join("\n    ")));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// Every accepted byte and every state of a head as text.
fn snapshot(head: &Head, headers_in: &Table, result: Result<(), Failed>) -> String {
    let uri = head.uri();
    let close = (head.close, head.expecting_100, head.header_only, head.assbackwards);
    format!(
        "{result:?} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {headers_in:?} {}",
        head.the_request().escape_ascii(),
        head.method,
        head.version,
        std::str::from_utf8(&head.protocol).unwrap(),
        head.framing,
        close,
        uri,
        head.hostname(),
        head.port(),
        show(&head.log)
    )
}

#[test]
fn the_fast_path_reads_what_the_slow_one_reads() {
    let seeds: [&[u8]; 3] = [
        b"GET /a?b HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\naccept: x\r\nConnection: close\r\n\r\n",
        b"POST /p HTTP/1.0\r\nContent-Length: 12\r\nExpect: 100-continue\r\nX: \t y \r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    let bytes = b"\r\n\t\0 \x0b\x0c\x7f\x80\xff\"(),/:;<=>?@[\\]{}#%0aZ*";
    let mut random = 12_345u64;
    let mut next = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % n
    };
    let (mut fast, mut slow) = (Head::new(), Head::new());
    let (mut fast_in, mut slow_in) = (Table::new(), Table::new());
    let limited = Options {
        limit_request_line: 20,
        limit_request_fields: 3,
        limit_request_fieldsize: 24,
        ..Options::default()
    };
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut text = seeds[next(3)].to_vec();
        for _ in 0..next(4) {
            let (at, c) = (next(text.len()), bytes[next(bytes.len())]);
            match next(3) {
                0 => text[at] = c,
                1 => text.insert(at, c),
                _ => drop(text.remove(at)),
            }
        }
        let options = if next(4) == 0 { limited } else { Options::default() };
        let fast_result = run(&mut fast, &mut fast_in, &text, usize::MAX / 2, &options);
        let slow_result = run(&mut slow, &mut slow_in, &text, 1, &options);
        accepted += usize::from(fast_result.is_ok());
        assert_eq!(
            snapshot(&fast, &fast_in, fast_result),
            snapshot(&slow, &slow_in, slow_result),
            "{}",
            text.escape_ascii()
        );
    }
    assert!(accepted > 2_000);
}

#[test]
fn a_slow_client_costs_no_more_than_its_bytes() {
    let mut text = b"GET / HTTP/1.1\r\n".to_vec();
    for i in 0..90 {
        text.extend_from_slice(format!("X-{i}: {}\r\n", "v".repeat(5000)).as_bytes());
    }
    text.extend_from_slice(b"Host: h\r\n\r\n");
    // 450 kB byte by byte: looking at all of it each time would be 10^11 steps.
    assert_eq!(run(&mut Head::new(), &mut Table::new(), &text, 1, &Options::default()), Ok(()));
}
