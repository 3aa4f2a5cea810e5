//! The head of a backend's reply, read line by line (`ap_proxy_read_headers`).

use bstr::ByteSlice;

use super::NAME;
use crate::http::date;
use crate::log::{Level, rerror, shown};
use crate::modules::proxy::mod_proxy::SERVER;
use crate::modules::proxy::mod_proxy::conf::BadHeader;
use crate::modules::proxy::mod_proxy::pool::Conn;
use crate::modules::proxy::mod_proxy::reverse::{cookie_reverse_map, location_reverse_map};
use crate::request::Request;

/// What a look at the input gave.
pub(super) enum Line {
    /// A line without its end.
    Some(Vec<u8>),
    /// The line is not whole yet.
    NotYet,
    /// The line is longer than it may be; its begin.
    TooLong(Vec<u8>),
}

/// Takes the next line, of no more than `most` bytes; with the lines that begin with a blank, where `fold`. `ended`: nothing
/// more will come.
pub(super) fn next_line(conn: &mut Conn, most: usize, fold: bool, ended: bool) -> Line {
    let buffered = conn.buffered();
    let Some(mut end) = buffered.find_byte(b'\n') else {
        if buffered.len() <= most {
            return Line::NotYet;
        }
        let line = buffered[..most].to_vec();
        conn.take(most);
        return Line::TooLong(line);
    };
    let without_cr = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).len();
    let mut line = buffered[..without_cr(&buffered[..end])].to_vec();
    if fold && !line.is_empty() {
        // A head that is folded without end must not fill the memory.
        while line.len() <= most {
            match buffered.get(end + 1) {
                Some(b' ' | b'\t') => {}
                // The next byte decides.
                None if !ended => return Line::NotYet,
                _ => break,
            }
            let Some(len) = buffered[end + 1..].find_byte(b'\n') else {
                if ended || buffered.len() - end > most {
                    // The line has no end: what there is of it goes with it.
                    line.extend_from_slice(&buffered[end + 1..]);
                    end = buffered.len() - 1;
                    break;
                }
                return Line::NotYet;
            };
            let next = &buffered[end + 1..end + 1 + len];
            line.extend_from_slice(&next[..without_cr(next)]);
            end += 1 + len;
        }
    }
    conn.take(end + 1);
    if line.len() > most {
        line.truncate(most);
        return Line::TooLong(line);
    }
    Line::Some(line)
}

/// What the fields of a head came to.
pub(super) enum Fields {
    /// All are read.
    Done,
    /// More must come.
    NotYet,
    /// The head is none, or the connection ended in it.
    Bad,
}

/// `HTTP/#.# ###*`: the version and the rest from the status on.
pub(super) fn status_line(line: &[u8]) -> Option<(u8, u8, &[u8])> {
    let digit = |at: usize| line.get(at).filter(|c| c.is_ascii_digit()).map(|c| c - b'0');
    let (major, minor) = (digit(5)?, digit(7)?);
    let fits = line.starts_with(b"HTTP/") && line[6] == b'.' && line.get(8) == Some(&b' ');
    (fits && digit(9).is_some() && digit(10).is_some() && digit(11).is_some())
        .then(|| (major, minor, &line[9..]))
}

/// Reads the fields of a head into `r.headers_out`. `begun`: whether there were any.
pub(super) fn read_fields(
    r: &mut Request,
    conn: &mut Conn,
    most: usize,
    ended: bool,
    begun: &mut bool,
) -> Fields {
    loop {
        let line = match next_line(conn, most, true, ended) {
            Line::Some(line) => line,
            Line::NotYet if ended => {
                log_unreadable(r, std::io::Error::other("(70014)End of file found"));
                return Fields::Bad;
            }
            Line::NotYet => return Fields::NotYet,
            Line::TooLong(line) => {
                let part = line.len().min(128) / 2;
                let (first, last) = (shown(&line[..part]), shown(&line[line.len() - part..]));
                rerror!(
                    r,
                    Level::Warn,
                    NAME,
                    "AH10124",
                    err = std::io::Error::from_raw_os_error(nix::errno::Errno::ENOSPC as i32),
                    "header size is over the limit allowed by ResponseFieldSize ({most} bytes). Bad response header: '{first}[...]{last}'"
                );
                return Fields::Bad;
            }
        };
        if line.is_empty() {
            return Fields::Done;
        }
        rerror!(r, Level::Trace4, NAME, "", "{}", shown(&line));
        let Some(colon) = line.find_byte(b':') else {
            // Some backends say a second status line among their fields.
            if status_line(&line).is_none() {
                match r.server_conf(&SERVER).bad_header.unwrap_or_default() {
                    BadHeader::IsError => return Fields::Bad,
                    BadHeader::StartBody => {
                        let method = shown(&r.method_name).into_owned();
                        if *begun {
                            let text = format!(
                                "Starting body due to bogus non-header in headers returned by {} ({method})",
                                shown(&r.uri)
                            );
                            rerror!(r, Level::Warn, NAME, "AH01098", "{text}");
                        } else {
                            let text = format!("No HTTP headers returned by {} ({method})", shown(&r.uri));
                            rerror!(r, Level::Warn, NAME, "AH01099", "{text}");
                        }
                        return Fields::Done;
                    }
                    BadHeader::Ignore => {}
                }
            }
            let method = shown(&r.method_name).into_owned();
            let text = format!("Ignoring bogus HTTP header returned by {} ({method})", shown(&r.uri));
            rerror!(r, Level::Warn, NAME, "AH01100", "{text}");
            continue;
        };
        let blank = |c: &u8| c.is_ascii_whitespace() || *c == 0x0b;
        let value = &line[colon + 1..];
        let start = value.iter().position(|c| !blank(c)).unwrap_or(value.len());
        let end = value.iter().rposition(|c| !blank(c)).map_or(start, |last| last + 1);
        add_field(r, &line[..colon], &value[start..end]);
        *begun = true;
    }
}

/// The connection failed while a head was read.
pub(super) fn log_unreadable(r: &Request, err: std::io::Error) {
    rerror!(r, Level::Warn, NAME, "AH10404", err = err, "Error reading headers from backend");
}

/// A field, with names of the backend made ours, and dates in the one form (`process_proxy_header`).
fn add_field(r: &mut Request, name: &[u8], value: &[u8]) {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    let changed = match name.len() {
        4 | 7 | 13 if is("Date") || is("Expires") || is("Last-Modified") => {
            date::parse(value).filter(|&time| time != 0).map(|time| date::rfc822(time).to_vec())
        }
        3 | 8 | 11 | 16 if is("Location") || is("Content-Location") || is("URI") || is("Destination") => {
            location_reverse_map(r, value)
        }
        10 if is("Set-Cookie") => cookie_reverse_map(r, value),
        _ => None,
    };
    r.headers_out.add(name, changed.as_deref().unwrap_or(value));
}

#[cfg(test)]
mod tests {
    use super::status_line;

    #[test]
    fn status_lines() {
        assert_eq!(status_line(b"HTTP/1.1 200 OK"), Some((1, 1, &b"200 OK"[..])));
        assert_eq!(status_line(b"HTTP/1.0 404"), Some((1, 0, &b"404"[..])));
        for bad in ["HTTP/1.1 20", "HTTP/1.1200", "HTP/1.1 200", "HTTP/11 200", "", "HTTP/1.1"] {
            assert_eq!(status_line(bad.as_bytes()), None, "{bad}");
        }
    }
}
