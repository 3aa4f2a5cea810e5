//! Taking a URI apart without changing it, as `apr_uri_parse` and `apr_uri_parse_hostinfo` of APR do.

use std::ops::Range;

/// The parts of a URI as ranges of the text it was parsed from; `None` where APR leaves a null pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uri {
    pub scheme: Option<Range<usize>>,
    pub hostinfo: Option<Range<usize>>,
    pub user: Option<Range<usize>>,
    pub password: Option<Range<usize>>,
    /// Without the brackets of an IPv6 literal.
    pub hostname: Option<Range<usize>>,
    pub port_str: Option<Range<usize>>,
    pub port: u16,
    pub path: Option<Range<usize>>,
    pub query: Option<Range<usize>>,
    pub fragment: Option<Range<usize>>,
}

/// The text is no URI (`APR_EGENERAL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadUri;

impl Uri {
    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Uri::default();
    }

    /// Parses `text[from..]`; the ranges count from the start of `text` (`apr_uri_parse`).
    pub fn parse(&mut self, text: &[u8], from: usize) -> Result<(), BadUri> {
        self.clear();
        let Some(rest) = text.get(from..) else { return Err(BadUri) };
        // Two slashes begin an authority, one or three a path.
        if rest.first() == Some(&b'/') && (rest.get(1) != Some(&b'/') || rest.get(2) == Some(&b'/')) {
            self.path_onwards(text, from);
            return Ok(());
        }
        let mut at = from;
        if rest.starts_with(b"//") {
            at += 2;
        } else {
            let name = rest.iter().take_while(|c| is_scheme_char(**c)).count();
            if !rest.first().is_some_and(u8::is_ascii_alphabetic) || rest.get(name) != Some(&b':') {
                // RFC 3986 4.2: a relative path's first segment has no colon.
                if rest.iter().find(|c| b":/?#".contains(c)) == Some(&b':') {
                    return Err(BadUri);
                }
                self.path_onwards(text, from);
                return Ok(());
            }
            self.scheme = Some(from..from + name);
            at += name + 1;
            if !text[at..].starts_with(b"//") {
                self.path_onwards(text, at);
                return Ok(());
            }
            at += 2;
        }
        let end = position(text, at, |c| matches!(c, b'/' | b'?' | b'#'));
        self.hostinfo = Some(at..end);
        let mut host = at;
        if let Some(sign) = text[at..end].iter().rposition(|&c| c == b'@').map(|i| at + i) {
            match text[at..sign].iter().position(|&c| c == b':').map(|i| at + i) {
                Some(colon) => {
                    self.user = Some(at..colon);
                    self.password = Some(colon + 1..sign);
                }
                None => self.user = Some(at..sign),
            }
            host = sign + 1;
        }
        self.host(text, host, end)?;
        self.path_onwards(text, end);
        Ok(())
    }

    /// Parses `host:port`, the target of CONNECT, which needs its port (`apr_uri_parse_hostinfo`).
    pub fn parse_hostinfo(&mut self, text: &[u8], from: usize) -> Result<(), BadUri> {
        self.clear();
        let Some(rest) = text.get(from..) else { return Err(BadUri) };
        self.hostinfo = Some(from..text.len());
        let (host, colon) = if rest.first() == Some(&b'[') {
            let close = from + rest.iter().position(|&c| c == b']').ok_or(BadUri)?;
            if text.get(close + 1) != Some(&b':') {
                return Err(BadUri);
            }
            (from + 1..close, close + 1)
        } else {
            let colon = from + rest.iter().position(|&c| c == b':').ok_or(BadUri)?;
            (from..colon, colon)
        };
        self.hostname = Some(host);
        self.port_str = Some(colon + 1..text.len());
        if colon + 1 == text.len() {
            return Err(BadUri);
        }
        self.port = strtol_port(&text[colon + 1..]).ok_or(BadUri)?;
        Ok(())
    }

    fn host(&mut self, text: &[u8], start: usize, end: usize) -> Result<(), BadUri> {
        let host = &text[start..end];
        let (name, colon) = if host.first() == Some(&b'[') {
            let close = start + host.iter().position(|&c| c == b']').ok_or(BadUri)?;
            if close + 1 < end && text[close + 1] == b':' {
                (start + 1..close, Some(close + 1))
            } else {
                (start + 1..(end - 1).max(start + 1), None)
            }
        } else {
            match host.iter().position(|&c| c == b':').map(|i| start + i) {
                Some(colon) => (start..colon, Some(colon)),
                None => (start..end, None),
            }
        };
        self.hostname = Some(name);
        let Some(colon) = colon else { return Ok(()) };
        self.port_str = Some(colon + 1..end);
        if colon + 1 < end {
            self.port = strtol_port(&text[colon + 1..end]).ok_or(BadUri)?;
        } else {
            self.port = self.scheme.clone().and_then(|s| port_of_scheme(&text[s])).unwrap_or(0);
        }
        Ok(())
    }

    fn path_onwards(&mut self, text: &[u8], start: usize) {
        let end = position(text, start, |c| matches!(c, b'?' | b'#'));
        if start < end {
            self.path = Some(start..end);
        }
        match text.get(end) {
            Some(b'?') => {
                let hash = position(text, end + 1, |c| c == b'#');
                self.query = Some(end + 1..hash);
                if hash < text.len() {
                    self.fragment = Some(hash + 1..text.len());
                }
            }
            Some(_) => self.fragment = Some(end + 1..text.len()),
            None => {}
        }
    }
}

/// The port that a scheme has when none is written (`apr_uri_port_of_scheme`).
pub fn port_of_scheme(scheme: &[u8]) -> Option<u16> {
    const PORTS: [(&str, u16); 16] = [
        ("http", 80),
        ("ftp", 21),
        ("https", 443),
        ("gopher", 70),
        ("ldap", 389),
        ("nntp", 119),
        ("snews", 563),
        ("imap", 143),
        ("pop", 110),
        ("sip", 5060),
        ("rtsp", 554),
        ("wais", 210),
        ("z39.50r", 210),
        ("z39.50s", 210),
        ("prospero", 191),
        ("nfs", 2049),
    ];
    PORTS.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(scheme)).map(|(_, port)| *port)
}

fn is_scheme_char(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.')
}

/// The index of the first byte at or after `from` that is so, or the length of `text`.
fn position(text: &[u8], from: usize, is: impl Fn(u8) -> bool) -> usize {
    text[from..].iter().position(|&c| is(c)).map_or(text.len(), |i| from + i)
}

/// A port as `strtol` reads it, cut to 16 bits as APR does; `None` when anything but the number is there.
fn strtol_port(text: &[u8]) -> Option<u16> {
    let start = text.iter().take_while(|c| matches!(c, b' ' | b'\t'..=b'\r')).count();
    let (negative, digits) = match text[start..].split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, &text[start..]),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0i64, |n, d| n.saturating_mul(10).saturating_add(i64::from(d - b'0')));
    Some(if negative { -n } else { n } as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<Vec<(&'static str, &str)>, BadUri> {
        let mut uri = Uri::default();
        uri.parse(text.as_bytes(), 0)?;
        let named = [
            ("scheme", &uri.scheme),
            ("user", &uri.user),
            ("password", &uri.password),
            ("hostname", &uri.hostname),
            ("port_str", &uri.port_str),
            ("path", &uri.path),
            ("query", &uri.query),
            ("fragment", &uri.fragment),
        ];
        Ok(named.into_iter().filter_map(|(n, r)| r.clone().map(|r| (n, &text[r]))).collect())
    }

    #[test]
    fn origin_form() {
        assert_eq!(parts("/a/b?c=d?e"), Ok(vec![("path", "/a/b"), ("query", "c=d?e")]));
        assert_eq!(parts("/a?"), Ok(vec![("path", "/a"), ("query", "")]));
        assert_eq!(parts("/a?b#c"), Ok(vec![("path", "/a"), ("query", "b"), ("fragment", "c")]));
        assert_eq!(parts("/a#c?b"), Ok(vec![("path", "/a"), ("fragment", "c?b")]));
        assert_eq!(parts("*"), Ok(vec![("path", "*")]));
        assert_eq!(parts(""), Ok(vec![]));
        assert_eq!(parts("?x"), Ok(vec![("query", "x")]));
    }

    #[test]
    fn absolute_form() {
        assert_eq!(
            parts("http://u:p@h:81/x?y#z"),
            Ok(vec![
                ("scheme", "http"),
                ("user", "u"),
                ("password", "p"),
                ("hostname", "h"),
                ("port_str", "81"),
                ("path", "/x"),
                ("query", "y"),
                ("fragment", "z")
            ])
        );
        assert_eq!(parts("http://h?y"), Ok(vec![("scheme", "http"), ("hostname", "h"), ("query", "y")]));
        assert_eq!(
            parts("HTTPS://[::1]:8/"),
            Ok(vec![("scheme", "HTTPS"), ("hostname", "::1"), ("port_str", "8"), ("path", "/")])
        );
        assert_eq!(
            parts("http://h:/"),
            Ok(vec![("scheme", "http"), ("hostname", "h"), ("port_str", ""), ("path", "/")])
        );
        assert_eq!(parts("mailto:x@y"), Ok(vec![("scheme", "mailto"), ("path", "x@y")]));
        assert_eq!(parts("1x:y"), Err(BadUri));
        assert_eq!(parts("a/b:c"), Ok(vec![("path", "a/b:c")]));
        assert_eq!(parts("///x"), Ok(vec![("path", "///x")]));
        assert_eq!(parts("//h/x"), Ok(vec![("hostname", "h"), ("path", "/x")]));
        assert_eq!(
            parts("http://[::1]x/a"),
            Ok(vec![("scheme", "http"), ("hostname", "::1]"), ("path", "/a")])
        );
        assert_eq!(parts("http://h:8x/"), Err(BadUri));
        assert_eq!(parts("http://[::1/"), Err(BadUri));
    }

    #[test]
    fn hostinfo() {
        let mut uri = Uri::default();
        assert_eq!(uri.parse_hostinfo(b"h:443", 0), Ok(()));
        assert_eq!((uri.hostname.clone(), uri.port), (Some(0..1), 443));
        assert_eq!(uri.parse_hostinfo(b"[::1]:443", 0), Ok(()));
        assert_eq!((uri.hostname.clone(), uri.port), (Some(1..4), 443));
        for bad in ["", "h", "h:", "h:x", "[::1]", "[::1:4"] {
            assert_eq!(uri.parse_hostinfo(bad.as_bytes(), 0), Err(BadUri), "{bad}");
        }
    }
}
