//! `apachectl status` and `fullstatus`: the page of mod_status, fetched from the server on this machine.
//!
//! The address is `APACHE_STATUSURL`, or the first address that the configuration listens on without TLS. `status` shows
//! the short form of the page (`?auto`), `fullstatus` the page as text.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use super::{Options, print, say};
use crate::config::read::{self, Failure};
use crate::config::server::ListenSpec;

const PATIENCE: Duration = Duration::from_secs(10);
/// More than any status page has.
const MOST: u64 = 16 << 20;

/// Where the page is.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
    path: String,
}

impl Target {
    /// `http://host[:port]/path`.
    fn parse(url: &str) -> Option<Target> {
        let rest = url.strip_prefix("http://")?;
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, "/"),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, 80),
        };
        let sane = |text: &str| !text.bytes().any(|b| b <= b' ' || b == 0x7f);
        (!host.is_empty() && sane(host) && sane(path)).then(|| Target {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// The first address without TLS that the configuration listens on, by way of this machine.
    fn of_listeners(listeners: &[ListenSpec]) -> Option<Target> {
        let spec = listeners.iter().find(|l| l.protocol != "https")?;
        let host = match spec.ip {
            Some(IpAddr::V6(ip)) if !ip.is_unspecified() => format!("[{ip}]"),
            Some(IpAddr::V4(ip)) if !ip.is_unspecified() => ip.to_string(),
            _ => "localhost".to_owned(),
        };
        Some(Target { host, port: spec.port, path: "/server-status".to_owned() })
    }

    fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        if self.host == "localhost" {
            let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(both.iter().map(|ip| SocketAddr::new(*ip, self.port)).collect());
        }
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        Ok((host, self.port).to_socket_addrs()?.collect())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for addr in self.addresses()? {
            match TcpStream::connect_timeout(&addr, PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(err) => last = err,
            }
        }
        Err(last)
    }

    /// The reply's body; an error when its status is not 200.
    fn fetch(&self) -> Result<String, String> {
        let fetched = || -> io::Result<Vec<u8>> {
            let mut stream = self.connect()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            // HTTP/1.0: a body that ends with the connection needs no framing.
            let host =
                if self.port == 80 { self.host.clone() } else { format!("{}:{}", self.host, self.port) };
            write!(stream, "GET {} HTTP/1.0\r\nHost: {host}\r\n\r\n", self.path)?;
            let mut reply = Vec::new();
            stream.take(MOST).read_to_end(&mut reply)?;
            Ok(reply)
        };
        let url = format!("http://{}:{}{}", self.host, self.port, self.path);
        let reply = fetched().map_err(|err| format!("{url}: {err}"))?;
        body_of(&reply).map_err(|status| format!("{url}: {status}"))
    }
}

/// The body of a reply; the status line as the error when it is not 200.
fn body_of(reply: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(reply);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("the server sent no reply")?;
    let line = head.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(line.to_owned()),
    }
}

/// Shows the page. The exit code is 1 when it can't be had.
pub fn show(full: bool, url: Option<&str>, options: Options) -> i32 {
    let target = match url {
        Some(url) => Target::parse(url).ok_or_else(|| format!("{url}: not an address of a status page")),
        None => configured(options),
    };
    let fetched = target.and_then(|mut target| {
        if !full {
            target.path.push_str("?auto");
        }
        target.fetch()
    });
    match fetched {
        Ok(page) if full => print(&plain_text(&page)),
        Ok(page) => print(&page),
        Err(text) => {
            say(&format!(
                "{text}\nmod_status must be active, and let this machine see its page, for status and fullstatus.\n"
            ));
            1
        }
    }
}

fn configured(options: Options) -> Result<Target, String> {
    let (mut setup, read, built) = read::build(&Arc::new(options), 0);
    built.and_then(|()| read::walk(&mut setup, &read.tree)).map_err(|Failure(text)| text)?;
    Target::of_listeners(&setup.listeners)
        .ok_or_else(|| "the configuration listens nowhere without TLS".to_owned())
}

/// HTML as text: tags are dropped, rows and blocks become lines, cells are kept apart.
fn plain_text(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        push_text(&mut out, &rest[..open]);
        let Some(close) = rest[open..].find('>') else { return out };
        let tag = &rest[open + 1..open + close];
        let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '/').collect();
        match name.to_ascii_lowercase().as_str() {
            "br" | "/tr" | "/p" | "/h1" | "/h2" | "/dt" | "/dl" | "hr" | "/pre" | "/table" | "/title"
            | "/dd"
                if !out.ends_with("\n\n") =>
            {
                out.push('\n');
            }
            "/td" | "/th" => out.push('\t'),
            _ => {}
        }
        rest = &rest[open + close + 1..];
    }
    push_text(&mut out, rest);
    out
}

fn push_text(out: &mut String, text: &str) {
    if text.trim().is_empty() {
        return;
    }
    let text = text.trim_matches('\n');
    out.push_str(
        &text
            .replace("&nbsp;", " ")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&amp;", "&"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_page() {
        let target = |host: &str, port, path: &str| Target { host: host.into(), port, path: path.into() };
        assert_eq!(Target::parse("http://localhost:81/s?x"), Some(target("localhost", 81, "/s?x")));
        assert_eq!(Target::parse("http://[::1]/s"), Some(target("[::1]", 80, "/s")));
        assert_eq!(Target::parse("https://a/"), None);
        assert_eq!(Target::parse("http://a/ b"), None);
        let listen =
            |ip: Option<IpAddr>, port, protocol: &str| ListenSpec { ip, port, protocol: protocol.into() };
        assert_eq!(
            Target::of_listeners(&[listen(None, 443, "https"), listen(None, 8080, "http")]),
            Some(target("localhost", 8080, "/server-status"))
        );
        assert_eq!(Target::of_listeners(&[listen(None, 443, "https")]), None);
    }

    #[test]
    fn replies() {
        assert_eq!(body_of(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nTotal: 1\n"), Ok("Total: 1\n".to_owned()));
        assert_eq!(body_of(b"HTTP/1.1 404 Not Found\r\n\r\nx"), Err("HTTP/1.1 404 Not Found".to_owned()));
        assert!(body_of(b"").is_err());
    }

    #[test]
    fn pages_as_text() {
        let html = "<h1>Status</h1>\n<dl><dt>A &amp; B</dt></dl><table><tr><td>1</td><td>2</td></tr></table>";
        assert_eq!(plain_text(html), "Status\nA & B\n\n1\t2\t\n\n");
        assert_eq!(plain_text("a<b"), "a");
    }
}
