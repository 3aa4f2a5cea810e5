//! The header of the PROXY protocol, versions 1 and 2, without I/O.
//!
//! Answers to `remoteip_process_v1_header` and `remoteip_process_v2_header`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bstr::ByteSlice;

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq)]
pub(super) enum Header {
    /// Not enough of them to tell.
    Part,
    /// A header of so many bytes; the client, or nothing about it.
    Whole(usize, Option<Client>),
    /// None, or a wrong one; with what is logged about it.
    Bad(Option<(&'static str, String)>),
}

/// Who a header says that the client is.
#[derive(Debug, PartialEq)]
pub(super) struct Client {
    pub addr: SocketAddr,
    /// As the header has it.
    pub ip: String,
}

/// No header is shorter.
const LEAST: usize = 15;
/// `sizeof(proxy_v1)`: the longest line with its end, and a byte.
const LONGEST_LINE: usize = 108;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD: usize = 16;
/// `sizeof(proxy_v2)`.
const V2_LONGEST: usize = V2_HEAD + 216;

/// Looks at what came.
pub(super) fn parse(bytes: &[u8]) -> Header {
    if bytes.len() < LEAST {
        return Header::Part;
    }
    if bytes.starts_with(SIGNATURE) && bytes.get(12).is_some_and(|version| version & 0xf0 == 0x20) {
        v2(bytes)
    } else if bytes.starts_with(b"PROXY ") {
        v1(bytes)
    } else {
        Header::Bad(None)
    }
}

fn bad(ah: &'static str, text: String) -> Header {
    Header::Bad(Some((ah, format!("RemoteIPProxyProtocol: {text}"))))
}

/// `PROXY TCP4 client server port port`.
fn v1(bytes: &[u8]) -> Header {
    let start = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = start.find(b"\r\n") else {
        if bytes.len() < LONGEST_LINE {
            return Header::Part;
        }
        let text =
            format!("RemoteIPProxyProtocol header too long, got {} expected {LONGEST_LINE}", bytes.len());
        return Header::Bad(Some(("AH10185", text)));
    };
    let line = start[..end].to_str_lossy();
    let missing = |field: &str| bad("AH03497", format!("no {field} found in header '{line}'"));
    let mut words = line.split(' ').filter(|word| !word.is_empty()).skip(1);
    let v6 = match words.next() {
        None => return missing("family"),
        Some("UNKNOWN") => return Header::Whole(end + 2, None),
        Some("TCP4") => false,
        Some("TCP6") => true,
        Some(family) => return bad("AH03499", format!("unknown family '{family}' in header '{line}'")),
    };
    let Some(host) = words.next() else { return missing("client-address") };
    let valid = |c: u8| if v6 { c.is_ascii_hexdigit() || c == b':' } else { c.is_ascii_digit() || c == b'.' };
    if !host.bytes().all(valid) {
        return bad("AH03500", format!("invalid client-address '{host}' found in header '{line}'"));
    }
    if words.next().is_none() {
        return missing("destination-address");
    }
    let Some(word) = words.next() else { return missing("client-port") };
    let digits = word.trim_start_matches(['\t', '\n', '\x0b', '\x0c', '\r']);
    let end_of_number = digits.bytes().position(|c| !c.is_ascii_digit()).unwrap_or(digits.len());
    if end_of_number == 0 {
        return bad("AH03501", format!("error parsing port '{word}' in header '{line}'"));
    }
    // Too large a number wraps, as in sscanf.
    let port = digits[..end_of_number].parse::<u64>().unwrap_or(u64::MAX) as u16;
    let ip = match v6 {
        true => host.parse::<Ipv6Addr>().map(IpAddr::from),
        false => host.parse::<Ipv4Addr>().map(IpAddr::from),
    };
    match ip {
        Ok(ip) => Header::Whole(
            end + 2,
            Some(Client { addr: SocketAddr::new(ip.to_canonical(), port), ip: host.to_owned() }),
        ),
        Err(_) => bad(
            "AH03502",
            format!(
                "error converting family '{}', host '{host}', and port '{port}' to sockaddr; header was '{line}'",
                if v6 { libc::AF_INET6 } else { libc::AF_INET }
            ),
        ),
    }
}

fn v2(bytes: &[u8]) -> Header {
    let Some(&[command, family, high, low]) = bytes.get(12..V2_HEAD) else { return Header::Part };
    let whole = V2_HEAD + usize::from(u16::from_be_bytes([high, low]));
    if whole > V2_LONGEST {
        let text = "RemoteIPProxyProtocol protocol header length too long".to_owned();
        return Header::Bad(Some(("AH10186", text)));
    }
    let Some(addresses) = bytes.get(V2_HEAD..whole) else { return Header::Part };
    // LOCAL: the proxy speaks for itself.
    if command & 0xf == 0 {
        return Header::Whole(whole, None);
    }
    if command & 0xf != 1 {
        return bad("AH03507", format!("unsupported command {command:02x}"));
    }
    let port = |at: usize| addresses.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    // Where a header is too short for its addresses, Apache takes zeros.
    let mut octets = [0; 16];
    let (length, port_at) = match family {
        0x11 => (4, 8),
        0x21 => (16, 32),
        _ => return bad("AH10183", format!("unsupported protocol {family:02x}")),
    };
    for (octet, from) in octets.iter_mut().zip(addresses.iter().take(length)) {
        *octet = *from;
    }
    let ip = match family {
        0x11 => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]),
        _ => IpAddr::from(octets).to_canonical(),
    };
    let client = Client { addr: SocketAddr::new(ip, port(port_at)), ip: ip.to_string() };
    Header::Whole(whole, Some(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> (usize, String, u16) {
        match parse(bytes) {
            Header::Whole(length, Some(client)) => (length, client.ip, client.addr.port()),
            other => panic!("{other:?}"),
        }
    }

    fn error(bytes: &[u8]) -> &'static str {
        match parse(bytes) {
            Header::Bad(Some((ah, _))) => ah,
            Header::Bad(None) => "",
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn version_1() {
        let line = b"PROXY TCP4 10.1.2.3 10.0.0.1 5000 80\r\nGET / HTTP/1.0\r\n";
        assert_eq!(whole(line), (38, "10.1.2.3".to_owned(), 5000));
        for end in 0..38 {
            assert_eq!(parse(&line[..end]), Header::Part);
        }
        assert_eq!(whole(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n").1, "2001:db8::1");
        assert_eq!(parse(b"PROXY UNKNOWN what ever\r\nx"), Header::Whole(25, None));
        assert_eq!(error(b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n"), "AH03499");
        assert_eq!(error(b"PROXY TCP4 1.2.3.x 1.2.3.4 1 2\r\n"), "AH03500");
        assert_eq!(error(b"PROXY TCP4 1.2.3.4.5 1.2.3.4 1 2\r\n"), "AH03502");
        assert_eq!(error(b"PROXY TCP4 1.2.3.4 1.2.3.4 x 2\r\n"), "AH03501");
        assert_eq!(error(b"PROXY TCP4 1.2.3.4\r\n"), "AH03497");
        assert_eq!(error(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 100]].concat()), "AH10185");
        assert_eq!(error(b"GET / HTTP/1.1\r\n"), "");
    }

    #[test]
    fn version_2() {
        let head = |command, family, rest: &[u8]| {
            let length = (rest.len() as u16).to_be_bytes();
            [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
        };
        let v4 = head(0x21, 0x11, &[10, 1, 2, 3, 10, 0, 0, 1, 0x13, 0x88, 0, 80]);
        assert_eq!(whole(&v4), (28, "10.1.2.3".to_owned(), 5000));
        for end in 0..v4.len() {
            assert_eq!(parse(&v4[..end]), Header::Part);
        }
        let mut addresses = [0; 36];
        (addresses[0], addresses[1], addresses[15], addresses[33]) = (0x20, 1, 1, 9);
        assert_eq!(whole(&head(0x21, 0x21, &addresses)), (52, "2001::1".to_owned(), 9));
        assert_eq!(parse(&head(0x20, 0, &[])), Header::Whole(16, None));
        assert_eq!(error(&head(0x22, 0, &[])), "AH03507");
        assert_eq!(error(&head(0x21, 0x31, &[])), "AH10183");
        assert_eq!(error(&head(0x21, 0x11, &[0; 300])), "AH10186");
    }
}
