//! Which host a request is for, and what it expects: `fix_hostname` and `ap_update_vhost_from_headers` of
//! `server/vhost.c` up to the search of the virtual host, and `ap_check_request_header` of `server/protocol.c`.

use std::net::Ipv6Addr;
use std::str::FromStr;

use super::fields::Level;
use super::head::{Failed, Head};
use super::status;
use crate::table::Table;

/// The Host header that was read last, and what it came to: requests of one connection rarely differ in it.
#[derive(Debug, Default)]
pub(super) struct LastHost {
    src: Vec<u8>,
    strict: bool,
    name: Vec<u8>,
    port: Option<u16>,
    v6: bool,
}

impl LastHost {
    fn is(&self, src: &[u8], strict: bool) -> bool {
        self.strict == strict && self.src == src
    }

    fn keep(&mut self, src: &[u8], strict: bool, name: &[u8], port: Option<u16>, v6: bool) {
        self.src.clear();
        self.src.extend_from_slice(src);
        self.name.clear();
        self.name.extend_from_slice(name);
        (self.strict, self.port, self.v6) = (strict, port, v6);
    }
}

impl Head {
    /// `r->hostname`: lower case, without port, brackets and a trailing dot.
    pub fn hostname(&self) -> Option<&[u8]> {
        self.has_hostname.then_some(&self.hostname[..])
    }

    /// The port that the target or else the Host header names.
    pub fn port(&self) -> Option<u16> {
        match self.host_port {
            Some(port) => Some(port),
            None => self.uri.port_str.is_some().then_some(self.uri.port),
        }
    }

    /// Finds the host in the target or else in the Host header and makes it safe. Where both are there, the
    /// header is rewritten (RFC 9112 3.2.2). Comes before the virtual host is looked for.
    pub fn check_host(&mut self, headers_in: &mut Table, strict: bool) -> Result<(), Failed> {
        let from_target = self.has_hostname;
        let v6 = match headers_in.get("Host") {
            _ if from_target => self.fix_target_hostname(strict)?,
            Some(host) => self.fix_host_header(host, strict)?,
            None => return Ok(()),
        };
        if strict
            && from_target
            && let Some(old) = headers_in.get("Host")
        {
            let new = self.host_header(v6);
            let text = b"Replacing host header '";
            self.log_line(
                Level::Debug,
                2417,
                0,
                &[text, old, b"' with host '", &new, b"' given in the request uri"],
            );
            headers_in.set("Host", &new);
        }
        Ok(())
    }

    /// Is the host there where it must be, and is what is expected something we do? Comes after the virtual
    /// host was found.
    pub fn check_request_header(&mut self, headers_in: &Table) -> Result<(), Failed> {
        let nameless = self.version == 1001 && !headers_in.contains("Host");
        if nameless || (!self.has_hostname && self.version >= 1001) {
            let uri = self.path().to_vec();
            let text = b"client sent HTTP/1.1 request without hostname (see RFC2616 section 14.23): ";
            self.log_line(Level::Debug, 569, 0, &[text, &uri]);
            return Err(Failed { status: status::BAD_REQUEST, notes: None, unusable_input: false });
        }
        match headers_in.get("Expect") {
            None | Some(b"") => {}
            Some(e) if e.eq_ignore_ascii_case(b"100-continue") => self.expecting_100 = true,
            Some(e) => {
                let text = b"client sent an unrecognized expectation value of Expect: ";
                self.log_line(Level::Info, 570, 0, &[text, e]);
                return Err(Failed {
                    status: status::EXPECTATION_FAILED,
                    notes: None,
                    unusable_input: false,
                });
            }
        }
        Ok(())
    }

    fn fix_target_hostname(&mut self, strict: bool) -> Result<bool, Failed> {
        let src = std::mem::take(&mut self.hostname);
        let fixed = self.fix(src.clone(), &src, false, strict);
        // A host that is refused stays as it came.
        if fixed.is_err() {
            self.hostname = src;
        }
        fixed
    }

    fn fix_host_header(&mut self, src: &[u8], strict: bool) -> Result<bool, Failed> {
        if src.is_empty() {
            return Ok(false);
        }
        if self.last_host.is(src, strict) {
            self.hostname.extend_from_slice(&self.last_host.name);
            self.host_port = self.last_host.port;
            self.has_hostname = true;
            return Ok(self.last_host.v6);
        }
        let v6 = self.read_host_header(src, strict)?;
        if self.has_hostname && self.log.is_empty() {
            self.last_host.keep(src, strict, &self.hostname, self.host_port, v6);
        }
        Ok(v6)
    }

    fn read_host_header(&mut self, src: &[u8], strict: bool) -> Result<bool, Failed> {
        if let Some(plain) = plain_name(src) {
            self.hostname.clear();
            self.hostname.extend_from_slice(plain);
            self.has_hostname = true;
            match &src[plain.len()..] {
                [] => return Ok(false),
                [b':', port @ ..] => {
                    self.host_port = decimal_port(port);
                    if self.host_port.is_some() {
                        return Ok(false);
                    }
                }
                _ => {}
            }
            self.has_hostname = false;
        }
        let mut host = std::mem::take(&mut self.hostname);
        host.clear();
        if src.iter().all(u8::is_ascii_digit) {
            host.extend_from_slice(src);
            return self.fix(host, src, false, strict);
        }
        let Some((name, port)) = parse_addr_port(src) else { return Err(self.malformed(src)) };
        if let Some(port) = port {
            self.host_port = Some(port);
        }
        host.extend_from_slice(name);
        self.fix(host, src, src[0] == b'[', strict)
    }

    /// Makes `host` the hostname if it is sane; says whether it is an IPv6 literal.
    fn fix(&mut self, mut host: Vec<u8>, src: &[u8], v6: bool, strict: bool) -> Result<bool, Failed> {
        let v6 = v6 || (self.has_hostname && host.contains(&b':'));
        if !host.is_empty() && host.iter().all(u8::is_ascii_digit) && src == host {
            if strict {
                let text = b"[strict] purely numeric host names not allowed: ";
                self.log_line(Level::Debug, 2416, 0, &[text, src]);
                return Err(bad_host());
            }
        } else if v6 {
            if !fix_v6_literal(&mut host) {
                return Err(self.malformed(src));
            }
        } else if !host.is_empty() {
            if !fix_name(&mut host) {
                return Err(self.malformed(src));
            }
            if strict && let Err(near) = strict_name(&host) {
                let text: &[u8] = if near < host.len() { b"', problem near: " } else { b"'" };
                let six = &host[near..host.len().min(near + 6)];
                self.log_line(Level::Debug, 2415, 0, &[b"[strict] Invalid host name '", &host, text, six]);
                return Err(self.malformed(src));
            }
        }
        self.hostname = host;
        self.has_hostname = true;
        Ok(v6)
    }

    fn malformed(&mut self, src: &[u8]) -> Failed {
        self.log_line(Level::Debug, 550, 0, &[b"Client sent malformed Host header: ", src]);
        bad_host()
    }

    /// The Host header that the target stands for (`construct_host_header`).
    fn host_header(&self, v6: bool) -> Vec<u8> {
        let (open, close): (&[u8], &[u8]) = if v6 { (b"[", b"]") } else { (b"", b"") };
        let port = self.part(&self.uri.port_str);
        let colon: &[u8] = if port.is_some() { b":" } else { b"" };
        [open, &self.hostname, close, colon, port.unwrap_or_default()].concat()
    }
}

fn bad_host() -> Failed {
    Failed { status: status::BAD_REQUEST, notes: None, unusable_input: false }
}

/// The name at the start of a Host header if it is of the usual kind: lower-case labels, none of them empty and the
/// last with a letter first, before the end or a colon. Such a name needs no changes and no checks.
fn plain_name(src: &[u8]) -> Option<&[u8]> {
    let mut label_start = 0;
    let mut end = src.len();
    for (i, c) in src.iter().enumerate() {
        match c {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'.' if i > label_start => label_start = i + 1,
            b':' => {
                end = i;
                break;
            }
            _ => return None,
        }
    }
    let last = src.get(label_start..end)?;
    last.first().is_some_and(u8::is_ascii_lowercase).then(|| &src[..end])
}

/// A port of no more than five digits.
fn decimal_port(text: &[u8]) -> Option<u16> {
    if text.is_empty() || text.len() > 5 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = text.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
    u16::try_from(n).ok().filter(|&p| p > 0)
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port` (`apr_parse_addr_port`), where a scope of the
/// address is refused.
pub fn parse_addr_port(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let digits = text.iter().rev().take_while(|c| c.is_ascii_digit()).count();
    let before = text.len() - digits;
    let mut name = text;
    let mut port = None;
    if digits > 0 && before > 0 && text[before - 1] == b':' {
        if before == 1 {
            return None;
        }
        // As atoi reads it, wrapped to 32 bits.
        let n =
            text[before..].iter().fold(0i64, |n, d| n.saturating_mul(10).saturating_add(i64::from(d - b'0')));
        port = Some(u16::try_from(n as i32).ok().filter(|&p| p > 0)?);
        name = &text[..before - 1];
    }
    if name.first() == Some(&b'[') {
        name = name[1..].strip_suffix(b"]")?;
        Ipv6Addr::from_str(std::str::from_utf8(name).ok()?).ok()?;
    }
    Some((name, port))
}

fn fix_v6_literal(host: &mut [u8]) -> bool {
    let mut double_colon = false;
    for i in 0..host.len() {
        let next = host.get(i + 1).copied();
        match host[i] {
            c if c.is_ascii_hexdigit() => host[i] = c.to_ascii_lowercase(),
            b':' if next == Some(b':') => {
                if double_colon {
                    return false;
                }
                double_colon = true;
            }
            b':' if next == Some(b'.') => return false,
            b':' => {}
            b'.' if matches!(next, Some(b':' | b'.')) => return false,
            b'.' => {}
            _ => return false,
        }
    }
    true
}

fn fix_name(host: &mut Vec<u8>) -> bool {
    if host.iter().any(|c| matches!(c, b'/' | b'\\')) || host.windows(2).any(|w| w == b"..") {
        return false;
    }
    host.make_ascii_lowercase();
    if host.last() == Some(&b'.') {
        host.pop();
    }
    true
}

/// `HttpProtocolOptions Strict`: letters, digits, `-`, `_` and dots, and numbers only where they are an IPv4
/// address. The error is where the trouble is.
fn strict_name(host: &[u8]) -> Result<(), usize> {
    let digit = |i: usize| host.get(i).is_some_and(u8::is_ascii_digit);
    let (mut dotted_decimal, mut leading_zeroes, mut dots) = (true, false, 0);
    for (i, c) in host.iter().enumerate() {
        match c {
            b'-' | b'_' => dotted_decimal = false,
            c if c.is_ascii_alphabetic() => dotted_decimal = false,
            b'.' => {
                dots += 1;
                leading_zeroes |= host.get(i + 1) == Some(&b'0') && digit(i + 2);
            }
            c if c.is_ascii_digit() => {}
            _ => return Err(i),
        }
    }
    if dotted_decimal {
        leading_zeroes |= host.first() == Some(&b'.') || (host.first() == Some(&b'0') && digit(1));
        return if leading_zeroes || dots != 3 { Err(host.len()) } else { Ok(()) };
    }
    // RFC 1123 2.1: the top-level domain starts with a letter.
    match host.iter().rposition(|&c| c == b'.') {
        Some(dot) if host.get(dot + 1).is_some_and(|c| !c.is_ascii_alphabetic()) => Err(dot),
        _ => Ok(()),
    }
}
