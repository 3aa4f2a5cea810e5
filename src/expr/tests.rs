//! Expected values are what Apache 2.4.71 gave for the same text: `ap_expr_parse`, `ap_expr_exec` and `ap_expr_str_exec`, for
//! the request that [`Request`] describes.

use std::fmt;
use std::net::IpAddr;

use super::*;
use crate::http::date::Civil;

/// `GET /x/y.html?q=1&r=a%20b` with a few headers, notes and environment variables.
#[derive(Default)]
struct Request {
    vary: String,
    log: Vec<(Severity, String)>,
    may_block: bool,
}

fn find<'v>(values: &[(&str, &'v str)], name: &[u8]) -> Value<'v> {
    values
        .iter()
        .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
        .map(|(_, v)| v.as_bytes().into())
}

impl Env for Request {
    fn variable(&mut self, variable: Variable) -> Result<Value<'_>, NeedThread> {
        Ok(Some(
            match variable {
                Variable::RequestUri => "/x/y.html",
                Variable::QueryString => "q=1&r=a%20b",
                Variable::RemoteAddr => "127.0.0.1",
                Variable::RequestStatus => "200",
                Variable::IsSubreq => "false",
                Variable::RemoteHost if !self.may_block => return Err(NeedThread),
                Variable::RemoteHost => "localhost",
                _ => return Ok(None),
            }
            .as_bytes()
            .into(),
        ))
    }
    fn request_header(&mut self, name: &[u8]) -> Value<'_> {
        find(
            &[
                ("Host", "Ex.org:80"),
                ("X-A", "alpha"),
                ("X-N", "42"),
                ("Accept", "*/*"),
                ("Referer", "http://r/"),
            ],
            name,
        )
    }
    fn response_header(&mut self, name: &[u8]) -> Value<'_> {
        find(&[("X-Out", "out one"), ("X-Err", "err one")], name)
    }
    fn note(&mut self, name: &[u8]) -> Value<'_> {
        find(&[("n1", "note one")], name)
    }
    fn environment(&mut self, name: &[u8]) -> Value<'_> {
        find(&[("e1", "env one")], name)
    }
    fn local_time(&mut self) -> Civil {
        Civil { year: 2026, month: 3, day: 9, hour: 7, minute: 5, second: 1, weekday: 1 }
    }
    fn modified_time(&mut self) -> Civil {
        Civil { year: 1970, month: 1, day: 1, ..Civil::default() }
    }
    fn client_address(&mut self) -> Option<IpAddr> {
        Some([127, 0, 0, 1].into())
    }
    fn resolve(&mut self, host: &[u8]) -> Result<Option<IpAddr>, NeedThread> {
        Ok((host == b"localhost").then_some([127, 0, 0, 1].into()))
    }
    fn subrequest_uri(&mut self, uri: &[u8]) -> Result<Option<u16>, NeedThread> {
        Ok(Some(if uri == b"/x" { 302 } else { 404 }))
    }
    fn subrequest_file(&mut self, file: &[u8]) -> Result<Option<(u16, bool)>, NeedThread> {
        Ok(Some((200, file == b"/x")))
    }
    fn provided(&mut self, call: &Provided, args: &[&[u8]]) -> Result<Answer, NeedThread> {
        Ok(match call.kind {
            Kind::Variable => Answer::Text(format!("{}-{}", call.id, call.name).into_bytes()),
            Kind::ListFunction => Answer::List(vec![b"one".to_vec(), args.concat()]),
            Kind::Unary => Answer::Truth(args == [b"yes"]),
            _ => Answer::Failed("no such thing".to_owned()),
        })
    }
    fn merge_vary(&mut self, names: &[u8]) {
        self.vary.push_str(&String::from_utf8_lossy(names));
    }
    fn log(&mut self, _: &'static str, severity: Severity, message: fmt::Arguments<'_>) {
        self.log.push((severity, message.to_string()));
    }
}

fn holds(text: impl AsRef<[u8]>, flags: Flags) -> Result<bool, Failure> {
    Expr::parse(text, Mode::Condition, flags).unwrap().is_true(&mut Request::default())
}

fn failure(error: &str) -> Failure {
    Failure::Error(error.to_owned())
}

/// Mode, flags, text, and the error (or OK) of `ap_expr_parse`.
const PARSED: &[(Mode, Flags, &str, &str)] = &[
    (Mode::Condition, Flags::NONE, "", "syntax error, unexpected $end"),
    (Mode::Condition, Flags::NONE, "foo", "syntax error, unexpected $end, expecting '('"),
    (Mode::Condition, Flags::NONE, "'a'", "syntax error, unexpected $end"),
    (Mode::Condition, Flags::NONE, "true)", "syntax error, unexpected ')', expecting $end"),
    (
        Mode::Condition,
        Flags::NONE,
        "(true",
        "syntax error, unexpected $end, expecting T_OP_OR or T_OP_AND or ')'",
    ),
    (Mode::Condition, Flags::NONE, "!", "syntax error, unexpected $end"),
    (Mode::Condition, Flags::NONE, "true true", "syntax error, unexpected T_TRUE, expecting $end"),
    (Mode::Condition, Flags::NONE, "true &&", "syntax error, unexpected $end"),
    (Mode::Condition, Flags::NONE, "%{FOO} == 'a'", "Variable 'FOO' does not exist"),
    (Mode::Condition, Flags::NONE, "%{FOO} == %", "syntax error, unexpected T_ERROR: Parse error near '%'"),
    (
        Mode::Condition,
        Flags::NONE,
        "%{HTTP_HOST",
        "syntax error, unexpected T_ERROR, expecting T_VAR_END or ':': Unterminated string or variable",
    ),
    (
        Mode::Condition,
        Flags::NONE,
        "%{HTTP_HOST",
        "syntax error, unexpected T_ERROR, expecting T_VAR_END or ':': Unterminated string or variable",
    ),
    (Mode::Condition, Flags::NONE, "%{}", "syntax error, unexpected T_VAR_END, expecting T_ID"),
    (
        Mode::Condition,
        Flags::NONE,
        "%{REQ-X} == 1",
        "syntax error, unexpected T_ERROR, expecting T_VAR_END or ':': Invalid character in variable name '-'",
    ),
    (
        Mode::Condition,
        Flags::NONE,
        "%{req:} == 1",
        "syntax error, unexpected T_VAR_END, expecting T_ERROR or T_STRING or T_REGEX_BACKREF or T_VAR_BEGIN",
    ),
    (Mode::Condition, Flags::NONE, "%{req:X", "Unterminated string or variable"),
    (Mode::Condition, Flags::NONE, "%{req:\n}", "Unterminated string or variable"),
    (Mode::Condition, Flags::NONE, "'abc", "Unterminated string or variable"),
    (Mode::Condition, Flags::NONE, "'a\nb' == 'c'", "Unterminated string or variable"),
    (
        Mode::Condition,
        Flags::NONE,
        "req('a' == 'b'",
        "syntax error, unexpected T_OP_STR_EQ, expecting T_OP_CONCAT or ')'",
    ),
    (Mode::Condition, Flags::NONE, "req == 'a'", "syntax error, unexpected T_OP_STR_EQ, expecting '('"),
    (Mode::Condition, Flags::NONE, "nofn('a') == 'b'", "Function 'nofn' does not exist"),
    (Mode::Condition, Flags::NONE, "replace('a') == 'b'", "Function 'replace' does not exist"),
    (
        Mode::Condition,
        Flags::NONE,
        "'a' in 'b'",
        "syntax error, unexpected T_STR_BEGIN, expecting T_ID or '{'",
    ),
    (Mode::Condition, Flags::NONE, "'a' in f 'b'", "syntax error, unexpected T_STR_BEGIN, expecting '('"),
    (Mode::Condition, Flags::NONE, "'a' in f('b')", "List-returning function 'f' does not exist"),
    (Mode::Condition, Flags::NONE, "'a' in {'b'", "syntax error, unexpected $end, expecting '}' or ','"),
    (Mode::Condition, Flags::NONE, "'a' in {}", "syntax error, unexpected '}'"),
    (
        Mode::Condition,
        Flags::NONE,
        "'a' =~ 'b'",
        "syntax error, unexpected T_STR_BEGIN, expecting T_REGEX or T_REGEX_I",
    ),
    (
        Mode::Condition,
        Flags::NONE,
        "'a' =~ /b",
        "syntax error, unexpected $end, expecting T_REGEX or T_REGEX_I",
    ),
    (Mode::Condition, Flags::NONE, "'a' =~ /(/", "Failed to compile regular expression"),
    (
        Mode::Condition,
        Flags::NONE,
        "%{FOO} =~ /(/",
        "Failed to compile regular expression: Variable 'FOO' does not exist",
    ),
    (Mode::Condition, Flags::NONE, "'a' =~ /b/s", "syntax error, unexpected T_ID, expecting $end"),
    (Mode::Condition, Flags::NONE, "-Q 'a'", "Unary operator '-Q' does not exist"),
    (Mode::Condition, Flags::NONE, "'a' -xx 'b'", "Binary operator '-xx' does not exist"),
    (Mode::Condition, Flags::NONE, "-f", "syntax error, unexpected $end"),
    (Mode::Condition, Flags::NONE, "-R '10.0.0.0/33'", "parsing of subnet/netmask failed"),
    (Mode::Condition, Flags::NONE, "-R 10", "-R requires subnet/netmask as constant argument"),
    (Mode::Condition, Flags::NONE, "-R %{HTTP_HOST}", "-R requires subnet/netmask as constant argument"),
    (
        Mode::Condition,
        Flags::NONE,
        "'a' -IpMatch %{HTTP_HOST}",
        "-IpMatch requires subnet/netmask as constant argument",
    ),
    (Mode::Condition, Flags::NONE, "'a' -ipmatch 'x'", "parsing of subnet/netmask failed"),
    (Mode::Condition, Flags::NONE, "'\\777' == ''", "Escape sequence out of bound"),
    (Mode::Condition, Flags::NONE, "'\\18' == ''", "Bad escape sequence"),
    (Mode::Condition, Flags::NONE, "'\\9' == ''", "Bad escape sequence"),
    (
        Mode::Condition,
        Flags::NONE,
        "true # x",
        "syntax error, unexpected T_ERROR, expecting $end: Parse error near '#'",
    ),
    (Mode::Condition, Flags::NONE, "1 == 1 == 1", "syntax error, unexpected T_OP_STR_EQ, expecting $end"),
    (Mode::Condition, Flags::NONE, "'a' . == 'b'", "syntax error, unexpected T_OP_STR_EQ"),
    (Mode::Condition, Flags::NONE, "mine == 1", "syntax error, unexpected T_OP_STR_EQ, expecting '('"),
    (Mode::Condition, Flags::NONE, "m_a_x == 1", "syntax error, unexpected T_OP_STR_EQ, expecting '('"),
    (Mode::Condition, Flags::NONE, "- == 1", "Parse error near '-'"),
    (Mode::Condition, Flags::NONE, "'a' == \"b'", "Unterminated string or variable"),
    (
        Mode::Condition,
        Flags::NONE,
        "%{SSL_CLIENT_VERIFY} == 'a'",
        "Variable 'SSL_CLIENT_VERIFY' does not exist",
    ),
    (
        Mode::Condition,
        Flags::NONE,
        "'a' in PeerExtList('b')",
        "List-returning function 'PeerExtList' does not exist",
    ),
    (Mode::Condition, Flags::NONE, "\r", "Parse error near '\r'"),
    (
        Mode::String,
        Flags::NONE,
        "%{HTTP_HOST",
        "syntax error, unexpected T_ERROR, expecting T_VAR_END or ':': Unterminated string or variable",
    ),
    (
        Mode::String,
        Flags::NONE,
        "%{",
        "syntax error, unexpected T_ERROR, expecting T_ID: Unterminated string or variable",
    ),
    (Mode::String, Flags::NONE, "%{req:a", "Unterminated string or variable"),
    (Mode::String, Flags::NONE, "a\nb", "Unterminated string or variable"),
    (Mode::String, Flags::NONE, "\\400", "Escape sequence out of bound"),
    (Mode::String, Flags::NONE, "%{nofn:a}", "Function 'nofn' does not exist"),
    (
        Mode::String,
        Flags::NONE,
        "%{file:x}%{x}%{",
        "syntax error, unexpected T_ERROR, expecting T_ID: Unterminated string or variable",
    ),
    (Mode::String, Flags::NONE, "%{req:%{}}", "syntax error, unexpected T_VAR_END, expecting T_ID"),
    (Mode::Condition, Flags::RESTRICTED, "file('a') == 'b'", "file not available in restricted context"),
    (
        Mode::Condition,
        Flags::RESTRICTED,
        "%{FileSize:a} -gt 0",
        "filesize not available in restricted context",
    ),
    (Mode::Condition, Flags::RESTRICTED, "-d 'a'", "-d not available in restricted context"),
    (Mode::Condition, Flags::RESTRICTED, "-f 'a'", "-f not available in restricted context"),
    (Mode::Condition, Flags::RESTRICTED, "-x 'a'", "-x not available in restricted context"),
    (Mode::Condition, Flags::RESTRICTED, "-F 'a'", "OK"),
    (
        Mode::Condition,
        Flags::RESTRICTED_FILE_FUNC,
        "file('a') == 'b'",
        "file not available in restricted context",
    ),
    (
        Mode::Condition,
        Flags::RESTRICTED_FILE_FUNC,
        "%{FileSize:a} -gt 0",
        "filesize not available in restricted context",
    ),
    (Mode::Condition, Flags::RESTRICTED_FILE_FUNC, "-d 'a'", "OK"),
    (Mode::Condition, Flags::RESTRICTED_FILE_FUNC, "-f 'a'", "OK"),
    (Mode::Condition, Flags::RESTRICTED_FILE_FUNC, "-x 'a'", "OK"),
    (Mode::Condition, Flags::RESTRICTED_FILE_FUNC, "-F 'a'", "OK"),
];

/// Conditions.
const CONDITIONS: &[(&[u8], Result<bool, &str>)] = &[
    (b"true", Ok(true)),
    (b"!false", Ok(true)),
    (b"!!true", Ok(true)),
    (b"true && false || true", Ok(true)),
    (b"false && true || true", Ok(true)),
    (b"true || false && false", Ok(true)),
    (b"!true || true", Ok(true)),
    (b"'a' == 'a'", Ok(true)),
    (b"'a' = 'b'", Ok(false)),
    (b"'a' != 'b'", Ok(true)),
    (b"'B' < 'a'", Ok(true)),
    (b"'abc' > 'abd'", Ok(false)),
    (b"'10' < '9'", Ok(true)),
    (b"'10' -lt '9'", Ok(false)),
    (b"10 -eq ' +10x'", Ok(true)),
    (b"'x' -eq 0", Ok(true)),
    (b"9223372036854775808 -eq 9223372036854775807", Ok(true)),
    (b"-7 lt 3", Ok(true)),
    (b"'a' in {'b','a'}", Ok(true)),
    (b"'a' -in {'b'}", Ok(false)),
    (b"'abc' =~ /B/i", Ok(true)),
    (b"'abc' !~ m#^a.c$#", Ok(false)),
    (b"'abc' =~ m,b, && true", Ok(true)),
    (b"'abc' =~ /(b)(.)/ && $2 == 'c' && '$1-$0' == 'b-bc'", Ok(true)),
    (b"'abc' =~ /(b)/ && 'x' =~ /x/ && $1 == 'b'", Ok(true)),
    (b"'abc' =~ /(b)/ && !('x' =~ /(y)/) && $1 == ''", Ok(true)),
    (b"'ab\\n' =~ /b$/", Ok(false)),
    (b"-n %{HTTP_HOST}", Ok(true)),
    (b"-z %{req:Nope}", Ok(true)),
    (b"-T 'off'", Ok(false)),
    (b"-T 'OFFx'", Ok(true)),
    (b"-T 'no'", Ok(false)),
    (b"-T '0'", Ok(false)),
    (b"-T '00'", Ok(true)),
    (b"-R '127.0.0.0/8'", Ok(true)),
    (b"-R '10.1'", Ok(false)),
    (b"%{REMOTE_ADDR} -ipmatch '127.0.0.1'", Ok(true)),
    (b"'::1' -ipmatch '::/64'", Ok(true)),
    (b"'/a/b' -fnmatch '/*'", Ok(false)),
    (b"'/a/b' -fnmatch '/*/?'", Ok(true)),
    (b"'/a/b' -strmatch '/*'", Ok(true)),
    (b"'ABC' -strcmatch 'a[b]c'", Ok(true)),
    (b"'ABC' -strmatch 'a[b]c'", Ok(false)),
    (b"%{http_host} == 'Ex.org:80'", Ok(true)),
    (b"req('x-a') . '-' . %{note:n1} == 'alpha-note one'", Ok(true)),
    (b"env('n1') == 'note one' and reqenv('n1') eq '' and env('e1') == 'env one'", Ok(true)),
    (b"resp('X-Out') == 'out one' && %{resp:X-Err} == 'err one'", Ok(true)),
    (b"-d '/' && -e '/' && !-f '/' && !-s '/' && -x '/' && !-L '/' && !-h '/'", Ok(true)),
    (b"filesize('/') == '0'", Ok(true)),
    (b"-f '/nonexistent'", Ok(false)),
    (b"file('/nonexistent') == ''", Err("Cannot open file /nonexistent")),
    (b"false && file('/nonexistent') == ''", Ok(false)),
    (b"%{API_VERSION} -ge 20120211", Ok(true)),
    (b"%{IS_SUBREQ} == 'false'", Ok(true)),
    (b"not false", Ok(true)),
    (b"1 . 2 == 12", Ok(true)),
    (b"'a' == 'a' . ''", Ok(true)),
];

/// Conditions compared as SSLRequire did.
const SSL_CONDITIONS: &[(&[u8], Result<bool, &str>)] = &[
    (b"'b' > 'aa'", Ok(false)),
    (b"'10' > '9'", Ok(true)),
    (b"10 -gt 9", Ok(true)),
    (b"10 -eq '010'", Ok(false)),
    (b"'\xe9' < 'a'", Ok(true)),
    (b"'ab' == 'ab'", Ok(true)),
];

/// What is added to Vary.
const VARY: &[(&[u8], &str)] = &[
    (b"%{HTTP_ACCEPT} == %{HTTP_REFERER}", "Referer, Accept"),
    (b"'%{HTTP_ACCEPT}%{HTTP_REFERER}%{req:X-A}' == ''", "X-A, Referer, Accept"),
    (b"'%{HTTP_ACCEPT}%{HTTP_REFERER}' == ''", "Accept, Referer"),
    (b"%{HTTP_HOST} == ''", ""),
    (b"http('x-a') == req_novary('y')", "x-a"),
    (b"true || %{HTTP_COOKIE} == ''", ""),
    (b"%{HTTP_COOKIE} == '' && req('') == ''", "Cookie, "),
    (b"%{HTTP_ACCEPT} in {%{HTTP_COOKIE}, %{HTTP_FORWARDED}}", "Accept, Forwarded, Cookie"),
    (b"%{HTTP_ACCEPT} -strmatch %{HTTP_COOKIE}", "Cookie, Accept"),
];

/// Strings.
const STRINGS: &[(&[u8], Result<&[u8], &str>)] = &[
    (b"", Ok(b"")),
    (b"plain text", Ok(b"plain text")),
    (b"http://%{HTTP_HOST}/", Ok(b"http://Ex.org:80/")),
    (b"%{req:X-A}%{REQUEST_URI}?%{QUERY_STRING}", Ok(b"alpha/x/y.html?q=1&r=a%20b")),
    (b"'quoted' \"both\" %", Ok(b"'quoted' \"both\" %")),
    (b"%{tolower:A%{req:X-N}B}", Ok(b"a42b")),
    (b"$1$a$", Ok(b"$a$")),
    (b"\\$1 \\%{HTTP_HOST} \\n|\\101\\0cut", Ok(b"$1 %{HTTP_HOST} \n|A")),
    (b"%{escape:a b/c?d#%e&=~\\\\}", Ok(b"a%20b/c%3fd%23%25e&=~%5c")),
    (b"%{unescape:%41%2f%2F%20b}", Ok(b"A%2f%2F b")),
    (b"[%{unescape:%4}%{unescape:%00}]", Ok(b"[]")),
    (b"%{base64:hello}%{unbase64:aGVsbG8}", Ok(b"aGVsbG8=hello")),
    (b"%{unbase64:aGVs*bG8=}|%{unbase64:aGVsb}|%{unbase64:AGE=}", Ok(b"hel|hel|")),
    (b"%{md5:%{REMOTE_USER}}", Ok(b"d41d8cd98f00b204e9800998ecf8427e")),
    (b"%{sha1:abc}", Ok(b"a9993e364706816aba3e25717850c26c9cd0d89d")),
    (b"%{ldap:a*(b)\\\\c,d=e;\xe9}", Ok(b"a\\2a\\28b\\29\\5cc\\2cd=e\\3b\\e9")),
    (b"%{toupper:\xe9x}", Ok(b"\xe9X")),
    (b"%{file:/nonexistent}", Err("Cannot open file /nonexistent")),
    (b"%{REQUEST_STATUS}%{REMOTE_USER}", Ok(b"200")),
    (b"100%", Ok(b"100%")),
];

#[test]
fn parse_errors_are_apaches() {
    for &(mode, flags, text, error) in PARSED {
        let parsed = Expr::parse(text, mode, flags).err();
        assert_eq!(parsed.as_deref().unwrap_or("OK"), error, "{text}");
    }
}

#[test]
fn conditions() {
    for &(text, expected) in CONDITIONS {
        assert_eq!(holds(text, Flags::NONE), expected.map_err(failure), "{}", String::from_utf8_lossy(text));
    }
    for &(text, expected) in SSL_CONDITIONS {
        let got = holds(text, Flags::SSL_EXPR_COMPAT);
        assert_eq!(got, expected.map_err(failure), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn strings() {
    for &(text, expected) in STRINGS {
        let got = Expr::parse(text, Mode::String, Flags::NONE).unwrap().to_bytes(&mut Request::default());
        assert_eq!(got, expected.map(<[u8]>::to_vec).map_err(failure), "{}", String::from_utf8_lossy(text));
    }
    assert!(Expr::parse("/plain", Mode::String, Flags::NONE).unwrap().as_constant().is_some());
    assert!(Expr::parse("/%{HTTP_HOST}", Mode::String, Flags::NONE).unwrap().as_constant().is_none());
}

#[test]
fn vary_names_what_was_looked_at() {
    for &(text, expected) in VARY {
        let expr = Expr::parse(text, Mode::Condition, Flags::NONE).unwrap();
        let mut request = Request::default();
        expr.is_true(&mut request).unwrap();
        assert_eq!(request.vary, expected, "{}", String::from_utf8_lossy(text));
    }
    let mut request = Request::default();
    let expr = Expr::parse("%{HTTP_ACCEPT} == ''", Mode::Condition, Flags::DONT_VARY).unwrap();
    assert_eq!(expr.is_true(&mut request), Ok(false));
    assert_eq!(request.vary, "");
}

#[test]
fn recursion_has_a_limit() {
    let limit = || Err(failure("Recursion limit reached"));
    let calls = |n: usize| format!("{}'a'{} == 'a'", "tolower(".repeat(n), ")".repeat(n));
    assert_eq!(holds(calls(18), Flags::NONE), Ok(true));
    assert_eq!(holds(calls(19), Flags::NONE), limit());
    let groups = |n: usize| format!("{}true{}", "(".repeat(n), " && true)".repeat(n));
    assert_eq!(holds(groups(19), Flags::NONE), Ok(true));
    assert_eq!(holds(groups(20), Flags::NONE), limit());
    // Chains are not deep, nor are parentheses that hold nothing together.
    assert_eq!(holds(format!("{}true", "false || ".repeat(500)), Flags::NONE), Ok(true));
    assert_eq!(holds(format!("{}true", "!".repeat(51)), Flags::NONE), Ok(false));
    assert_eq!(holds(format!("{}'a' != ''", "'a' . ".repeat(500)), Flags::NONE), Ok(true));
    assert_eq!(holds(format!("{}true{}", "(".repeat(100), ")".repeat(100)), Flags::NONE), Ok(true));
    let deep = format!("{}true{}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(Expr::parse(deep, Mode::Condition, Flags::NONE).err().as_deref(), Some("memory exhausted"));
    let deep = "%{md5:".repeat(100_000);
    assert_eq!(Expr::parse(deep, Mode::String, Flags::NONE).err().as_deref(), Some("memory exhausted"));
}

#[test]
fn pieces_have_a_limit() {
    let error = |text: String| Expr::parse(text, Mode::Condition, Flags::NONE).err();
    assert_eq!(error(format!("'{}' == ''", "x".repeat(8191))), None);
    assert_eq!(error(format!("'{}' == ''", "x".repeat(8192))).as_deref(), Some("String too long"));
    assert_eq!(error(format!("'' =~ /{}/", "x".repeat(8191))), None);
    let long = "syntax error, unexpected T_ERROR, expecting T_REGEX or T_REGEX_I: Regexp too long";
    assert_eq!(error(format!("'' =~ /{}/", "x".repeat(8192))).as_deref(), Some(long));
}

#[test]
fn what_stops_flex_is_an_error() {
    for (mode, text) in
        [(Mode::Condition, "%{req:'a'} == ''"), (Mode::Condition, "'abc\\"), (Mode::String, "abc\\")]
    {
        assert_eq!(
            Expr::parse(text, mode, Flags::NONE).err().as_deref(),
            Some("flex scanner jammed"),
            "{text}"
        );
    }
}

#[test]
fn captures_outlive_the_condition() {
    let mut backrefs = Backrefs::default();
    let mut request = Request::default();
    let expr = Expr::parse("%{REQUEST_URI} =~ m#^/(.)/(.*)$#", Mode::Condition, Flags::NONE).unwrap();
    assert_eq!(expr.is_true_re(&mut request, &mut backrefs), Ok(true));
    assert_eq!((backrefs.get(1), backrefs.get(2), backrefs.get(3)), (&b"x"[..], &b"y.html"[..], &b""[..]));
    let text = Expr::parse("$2 in $1", Mode::String, Flags::NONE).unwrap();
    assert_eq!(text.to_bytes_re(&mut request, &mut backrefs), Ok(b"y.html in x".to_vec()));
    assert_eq!(text.to_bytes(&mut request), Ok(b" in ".to_vec()));
    let other = Expr::parse("'a' =~ /(b)/", Mode::Condition, Flags::NONE).unwrap();
    assert_eq!(other.is_true_re(&mut request, &mut backrefs), Ok(false));
    assert!(backrefs.matched().is_none());
}

#[test]
fn time() {
    let text = "%{TIME_YEAR}-%{TIME_MON}-%{TIME_DAY} %{TIME_HOUR}:%{TIME_MIN}:%{TIME_SEC} %{TIME_WDAY} %{TIME} %{LAST_MODIFIED}";
    let got =
        Expr::parse(text, Mode::String, Flags::NONE).unwrap().to_bytes(&mut Request::default()).unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), "2026-03-09 07:05:01 1 20260309070501 19700101000000");
}

#[test]
fn a_thread_is_asked_for() {
    let expr = Expr::parse("%{REMOTE_HOST} == 'localhost'", Mode::Condition, Flags::NONE).unwrap();
    assert_eq!(expr.is_true(&mut Request::default()), Err(Failure::NeedThread));
    assert_eq!(expr.is_true(&mut Request { may_block: true, ..Request::default() }), Ok(true));
}

#[test]
fn variables_in_use() {
    let expr = Expr::parse("false && 'x%{remote_user}' == ''", Mode::Condition, Flags::NONE).unwrap();
    assert!(expr.uses(Variable::RemoteUser) && !expr.uses(Variable::RemoteHost));
}

#[test]
fn subrequests_and_names() {
    assert_eq!(holds("-U '/x' && -A '/x' && !-U '/y'", Flags::NONE), Ok(true));
    assert_eq!(holds("-F '/x' && !-F '/y'", Flags::NONE), Ok(true));
    assert_eq!(
        holds("'localhost' -ipmatch '127.0.0.0/8' && !('x' -ipmatch '127.0.0.1')", Flags::NONE),
        Ok(true)
    );
}

#[test]
fn the_log_names_the_place() {
    let options = Options { file: "/etc/x.conf".into(), line: 7, ..Options::default() };
    let mut request = Request::default();
    for text in ["true", "file('/nonexistent') == ''", "-U '/x'", "unescape('%zz') == ''"] {
        let _ = Expr::parse_with(text, &options).unwrap().is_true(&mut request);
    }
    let string = Options { mode: Mode::String, ..options };
    Expr::parse_with("%{HTTP_HOST}", &string).unwrap().to_bytes(&mut request).unwrap();
    let lines: Vec<_> = request.log.iter().map(|(severity, line)| (*severity, line.as_str())).collect();
    assert_eq!(
        lines,
        [
            (Severity::Trace4, "Evaluation of expression from /etc/x.conf:7 gave: 1"),
            (
                Severity::Err,
                "Evaluation of expression from /etc/x.conf:7 failed: Cannot open file /nonexistent"
            ),
            (Severity::Trace5, "Subrequest for -U /x at /etc/x.conf:7 gave status: 302"),
            (Severity::Trace4, "Evaluation of expression from /etc/x.conf:7 gave: 1"),
            (Severity::Debug, "AH00538: Bad % escape in unescape('%zz') at /etc/x.conf:7"),
            (Severity::Trace4, "Evaluation of expression from /etc/x.conf:7 gave: 1"),
            (Severity::Trace4, "Evaluation of string expression from /etc/x.conf:7 gave: Ex.org:80"),
        ]
    );
}

static PROVIDER: Provider = Provider {
    module: "ssl_module",
    lookup: |kind, name, constant| match (kind, name) {
        (Kind::Variable, _) if name.starts_with("SSL_") => Some(Ok(1)),
        (Kind::ListFunction, "PeerExtList") => {
            Some(constant.map(|_| 2).ok_or_else(|| "constant wanted".to_owned()))
        }
        (Kind::Unary, "A") => Some(Ok(3)),
        (Kind::Function, "ssl") => Some(Ok(4)),
        _ => None,
    },
};

#[test]
fn modules_add_their_own() {
    let options = Options { providers: &[&PROVIDER], ..Options::default() };
    let parse = |text: &str| Expr::parse_with(text, &options);
    let holds = |text: &str| parse(text).unwrap().is_true(&mut Request::default());
    assert_eq!(holds("%{SSL_X} == '1-SSL_X'"), Ok(true));
    assert_eq!(holds("'two' in PeerExtList('two') && !('x' in PeerExtList('two'))"), Ok(true));
    assert_eq!(holds("-A 'yes' && !-A 'no'"), Ok(true));
    assert_eq!(holds("%{ssl:x} == ''"), Err(failure("no such thing")));
    assert_eq!(parse("'a' in PeerExtList(%{SSL_X})").err().as_deref(), Some("constant wanted"));
    assert_eq!(parse("%{TLS_X} == ''").err().as_deref(), Some("Variable 'TLS_X' does not exist"));
}
