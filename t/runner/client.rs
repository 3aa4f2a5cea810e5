//! The client: writes the bytes of requests, reads replies by HTTP's framing, notices when the server closes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a reply may take.
pub const REPLY: Duration = Duration::from_secs(15);
/// How long the end of a connection may take that was recorded as closed: less than the KeepAliveTimeout by default.
pub const CLOSE: Duration = Duration::from_secs(4);

/// A connection to the server.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    ended: bool,
}

/// One reply as it came, interim ones (1xx) before it.
#[derive(Default)]
pub struct Reply {
    pub interim: Vec<Vec<u8>>,
    /// Status line and header fields with the empty line; empty where the server sent none (HTTP/0.9).
    pub head: Vec<u8>,
    /// The body as on the wire, with its chunk lines.
    pub body: Vec<u8>,
    pub chunked: bool,
    pub closed: bool,
}

impl Connection {
    /// Connects to a port of 127.0.0.1.
    pub fn open(port: u16) -> Result<Connection, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| format!("connect: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(Connection { stream, buffer: Vec::new(), ended: false })
    }

    /// Whether the server has closed.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Writes a request; each `@PAUSE:milliseconds@` in it is a rest. That the server closes early is no error: it
    /// shows in what is read.
    pub fn send(&mut self, request: &[u8]) {
        let mut rest = request;
        while let Some(at) = find(rest, b"@PAUSE:") {
            let after = &rest[at + 7..];
            let Some(end) = after.iter().position(|b| *b == b'@') else { break };
            let pause = std::str::from_utf8(&after[..end]).ok().and_then(|text| text.parse().ok());
            _ = self.stream.write_all(&rest[..at]);
            sleep(Duration::from_millis(pause.unwrap_or_default()));
            rest = &after[end + 1..];
        }
        _ = self.stream.write_all(rest);
    }

    /// Closes our half.
    pub fn finish(&mut self) {
        _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The server's and our address.
    pub fn addresses(&self) -> Result<[SocketAddr; 2], String> {
        let both = self.stream.peer_addr().and_then(|peer| Ok([peer, self.stream.local_addr()?]));
        both.map_err(|e| e.to_string())
    }

    /// Ends the connection at once, so that it leaves nothing in the tables of the kernel.
    pub fn abort(self) {
        _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Reads the reply to a request of this method.
    pub fn reply(&mut self, method: &str) -> Result<Reply, String> {
        let mut reply = Reply::default();
        let until = Instant::now() + REPLY;
        loop {
            while !self.buffer.starts_with(b"HTTP/") && self.buffer.len() < 5 && self.more(until)? {}
            if !self.buffer.starts_with(b"HTTP/") {
                return self.rest(reply, until);
            }
            let end = loop {
                match find(&self.buffer, b"\r\n\r\n") {
                    Some(at) => break at + 4,
                    None if self.more(until)? => (),
                    None => return self.rest(reply, until),
                }
            };
            let head: Vec<u8> = self.buffer.drain(..end).collect();
            if status(&head) / 100 == 1 && status(&head) != 101 {
                reply.interim.push(head);
                continue;
            }
            reply.head = head;
            break;
        }
        let status = status(&reply.head);
        if method == "HEAD" || status == 204 || status == 304 {
            // Has no body.
        } else if field(&reply.head, "Transfer-Encoding").is_some_and(|value| value.contains("chunked")) {
            reply.chunked = true;
            self.chunks(&mut reply, until)?;
        } else if let Some(length) = field(&reply.head, "Content-Length") {
            let length: usize = length.parse().map_err(|_| format!("Content-Length {length:?}"))?;
            while self.buffer.len() < length && self.more(until)? {}
            let have = length.min(self.buffer.len());
            reply.body.extend(self.buffer.drain(..have));
        } else {
            return self.rest(reply, until);
        }
        if field(&reply.head, "Connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return self.rest(reply, until);
        }
        reply.closed = self.ended && self.buffer.is_empty();
        Ok(reply)
    }

    /// What comes within a time, if the server says something more, reply by reply, and that it closes.
    pub fn surplus(&mut self, patience: Duration) -> Result<Vec<Reply>, String> {
        let until = Instant::now() + patience;
        while !self.ended && matches!(self.more(until), Ok(true)) {}
        let mut replies = Vec::new();
        while self.buffer.starts_with(b"HTTP/") {
            replies.push(self.reply("GET")?);
        }
        let closed = self.ended && replies.last().is_none_or(|last| !last.closed);
        if closed || !self.buffer.is_empty() {
            replies.push(Reply { body: std::mem::take(&mut self.buffer), closed, ..Reply::default() });
        }
        Ok(replies)
    }

    /// Takes everything until the server closes as the rest of the reply.
    fn rest(&mut self, mut reply: Reply, until: Instant) -> Result<Reply, String> {
        while self.more(until)? {}
        reply.body.append(&mut self.buffer);
        reply.closed = true;
        Ok(reply)
    }

    /// Takes chunks and trailers, as far as they come.
    fn chunks(&mut self, reply: &mut Reply, until: Instant) -> Result<(), String> {
        let mut at = 0;
        loop {
            let end = loop {
                match find(&self.buffer[at..], b"\r\n") {
                    Some(found) => break at + found + 2,
                    None if self.more(until)? => (),
                    None => return self.take_body(reply, self.buffer.len()),
                }
            };
            let line = String::from_utf8_lossy(&self.buffer[at..end - 2]).into_owned();
            let size = line.split(';').next().unwrap_or_default().trim();
            let Ok(size) = usize::from_str_radix(size, 16) else {
                return Err(format!("chunk line {line:?}"));
            };
            if size == 0 {
                break;
            }
            at = end + size + 2;
            while self.buffer.len() < at {
                if !self.more(until)? {
                    return self.take_body(reply, self.buffer.len());
                }
            }
        }
        loop {
            match find(&self.buffer[at..], b"\r\n\r\n") {
                Some(found) => return self.take_body(reply, at + found + 4),
                None if self.more(until)? => (),
                None => return self.take_body(reply, self.buffer.len()),
            }
        }
    }

    fn take_body(&mut self, reply: &mut Reply, length: usize) -> Result<(), String> {
        reply.body.extend(self.buffer.drain(..length));
        Ok(())
    }

    /// Reads some; false when the server has closed.
    fn more(&mut self, until: Instant) -> Result<bool, String> {
        let mut chunk = [0; 16384];
        loop {
            if self.ended {
                return Ok(false);
            }
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).map_err(|e| e.to_string())?;
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(true);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => (),
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    self.ended = true;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let so_far = String::from_utf8_lossy(&self.buffer);
                    return Err(format!("no (further) answer; so far: {so_far:?}"));
                }
                Err(e) => return Err(format!("read: {e}")),
            }
        }
    }
}

/// The status code of a head.
fn status(head: &[u8]) -> u16 {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
}

/// The value of a header field of a head.
pub fn field(head: &[u8], name: &str) -> Option<String> {
    String::from_utf8_lossy(head).lines().skip(1).find_map(|line| {
        let (n, value) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// Where `needle` begins.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
