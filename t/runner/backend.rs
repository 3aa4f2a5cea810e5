//! The backend of a case: a server that answers what the case's `backend` sections say, one after the other, and keeps what it
//! was asked.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{sleep, spawn};
use std::time::Duration;

use super::case::{Case, Section};
use super::client::{field, find};
use super::render::{bytes_text, dechunked};
use super::run::unescaped;
use super::site::Site;

/// How long it waits for a request, or for the rest of one.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running backend.
pub struct Backend {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    answers: Vec<Answer>,
    state: Mutex<State>,
    over: AtomicBool,
}

#[derive(Default)]
struct State {
    asked: usize,
    connections: usize,
    requests: Vec<String>,
}

/// What is said to one request.
struct Answer {
    bytes: Vec<u8>,
    /// The connection is closed behind it.
    close: bool,
    /// It is reset.
    reset: bool,
    /// No request is waited for.
    unasked: bool,
}

impl Answer {
    fn new(site: &Site, section: &Section) -> Answer {
        let text = site.fill(&section.text());
        let bytes = match section.has_word("raw") {
            true => unescaped(&text.replace('\n', "")),
            false => {
                let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
                let end = if body.is_empty() { "" } else { "\n" };
                format!("{}\r\n\r\n{body}{end}", head.replace('\n', "\r\n")).into_bytes()
            }
        };
        Answer {
            bytes,
            close: section.has_word("close"),
            reset: section.has_word("reset"),
            unasked: section.has_word("unasked"),
        }
    }
}

/// A connection of either kind.
trait Stream: Read + Write + Send {
    fn end(&self, how: Shutdown);
    fn reset(&self);
}

impl Stream for TcpStream {
    fn end(&self, how: Shutdown) {
        _ = self.shutdown(how);
    }
    fn reset(&self) {
        _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Stream for UnixStream {
    fn end(&self, how: Shutdown) {
        _ = self.shutdown(how);
    }
    fn reset(&self) {}
}

impl Backend {
    /// Starts the backend of a case, if it has one.
    pub fn start(site: &Site, case: &Case) -> Result<Option<Backend>, String> {
        let sections: Vec<&Section> = case.sections.iter().filter(|s| s.name == "backend").collect();
        let Some(port) = site.ports.get(3).map(|port| port.number).filter(|_| !sections.is_empty()) else {
            return Ok(None);
        };
        let answers = sections.into_iter().map(|section| Answer::new(site, section)).collect();
        let shared = Arc::new(Shared { answers, state: Mutex::default(), over: AtomicBool::new(false) });
        let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|e| format!("backend: {e}"))?;
        let path = site.root.join("run/backend.sock");
        let socket = UnixListener::bind(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&path, open).map_err(|e| e.to_string())?;
        let accept = shared.clone();
        spawn(move || {
            for stream in listener.incoming().flatten() {
                if accept.over.load(Ordering::Relaxed) {
                    return;
                }
                _ = stream.set_nodelay(true);
                _ = stream.set_read_timeout(Some(PATIENCE));
                let shared = accept.clone();
                spawn(move || shared.serve(stream));
            }
        });
        let accept = shared.clone();
        _ = socket.set_nonblocking(true);
        spawn(move || {
            while !accept.over.load(Ordering::Relaxed) {
                let Ok((stream, _)) = socket.accept() else {
                    sleep(Duration::from_millis(2));
                    continue;
                };
                _ = stream.set_nonblocking(false);
                _ = stream.set_read_timeout(Some(PATIENCE));
                let shared = accept.clone();
                spawn(move || shared.serve(stream));
            }
        });
        Ok(Some(Backend { shared, port }))
    }

    /// What it was asked, request by request.
    pub fn requests(&self) -> String {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).requests.join("\n")
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn serve(&self, mut stream: impl Stream) {
        let connection = self.with(|state| {
            state.connections += 1;
            state.connections
        });
        let mut buffer = Vec::new();
        loop {
            let next = self.with(|state| state.asked);
            let unasked = self.answers.get(next).is_some_and(|answer| answer.unasked);
            let head = match unasked {
                true => Vec::new(),
                false => {
                    match read_until(&mut stream, &mut buffer, |b| find(b, b"\r\n\r\n").map(|at| at + 4)) {
                        Some(head) => head,
                        None => return,
                    }
                }
            };
            let (at, place) = self.with(|state| {
                state.asked += 1;
                if !unasked {
                    state.requests.push(format!("(connection {connection})"));
                }
                (state.asked - 1, state.requests.len().saturating_sub(1))
            });
            let keep = |body: &str| {
                if unasked {
                    return;
                }
                let text = bytes_text(&head).replace("\\r\n", "\n");
                let text = format!("(connection {connection})\n{}\n\n{body}", text.trim_end());
                self.with(|state| state.requests[place] = text.trim_end().to_owned() + "\n");
            };
            let Some(answer) = self.answers.get(at) else {
                keep("(no answer)");
                return;
            };
            keep("(body not read)");
            // Up to here it is said before the request's body is read.
            let mark = find(&answer.bytes, b"@BODY@");
            let (early, late) = match mark {
                Some(mark) => (&answer.bytes[..mark], &answer.bytes[mark + 6..]),
                None => (&b""[..], &answer.bytes[..]),
            };
            say(&mut stream, early);
            if find(&answer.bytes, b"@DEAF@").is_none() && !unasked {
                keep(&read_body(&mut stream, &mut buffer, &head));
            }
            let late = match find(late, b"@DEAF@") {
                Some(at) => [&late[..at], &late[at + 6..]].concat(),
                None => late.to_vec(),
            };
            let (said, echo) = match find(&late, b"@ECHO@") {
                Some(at) => (&late[..at], true),
                None => (&late[..], false),
            };
            say(&mut stream, said);
            if echo {
                self.echo(stream, buffer);
                return;
            }
            if answer.reset {
                stream.reset();
                return;
            }
            if answer.close {
                stream.end(Shutdown::Write);
                sleep(Duration::from_millis(20));
                return;
            }
        }
    }

    /// Says back what it hears, until the end.
    fn echo(&self, mut stream: impl Stream, buffer: Vec<u8>) {
        _ = stream.write_all(&buffer);
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            if stream.write_all(&piece[..count]).is_err() {
                return;
            }
        }
        stream.end(Shutdown::Write);
    }
}

/// Writes, with rests where `@PAUSE:milliseconds@` stands.
fn say(stream: &mut impl Stream, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(at) = find(rest, b"@PAUSE:") {
        let after = &rest[at + 7..];
        let Some(end) = after.iter().position(|b| *b == b'@') else { break };
        let pause = std::str::from_utf8(&after[..end]).ok().and_then(|text| text.parse().ok());
        _ = stream.write_all(&rest[..at]);
        sleep(Duration::from_millis(pause.unwrap_or_default()));
        rest = &after[end + 1..];
    }
    _ = stream.write_all(rest);
}

/// Reads until `end` finds where what is wanted ends, and takes it off the buffer.
fn read_until(
    stream: &mut impl Stream,
    buffer: &mut Vec<u8>,
    end: impl Fn(&[u8]) -> Option<usize>,
) -> Option<Vec<u8>> {
    loop {
        if let Some(end) = end(buffer) {
            return Some(buffer.drain(..end).collect());
        }
        let mut piece = [0; 16384];
        match stream.read(&mut piece) {
            Ok(count @ 1..) => buffer.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

/// A request's body, as it stands in the case.
fn read_body(stream: &mut impl Stream, buffer: &mut Vec<u8>, head: &[u8]) -> String {
    if field(head, "Transfer-Encoding").is_some() {
        // Behind the last chunk there are no trailers, and nothing follows before it is answered.
        let ends = |bytes: &[u8]| bytes.ends_with(b"0\r\n\r\n").then_some(bytes.len());
        return match read_until(stream, buffer, ends) {
            Some(body) => {
                format!("(chunked)\n{}", shown(dechunked(&body).map(|(data, _)| data).unwrap_or_default()))
            }
            None => format!("(cut off)\n{}", shown(std::mem::take(buffer))),
        };
    }
    let length: usize = field(head, "Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
    match read_until(stream, buffer, |bytes| (bytes.len() >= length).then_some(length)) {
        Some(body) => shown(body),
        None => format!("(cut off)\n{}", shown(std::mem::take(buffer))),
    }
}

fn shown(body: Vec<u8>) -> String {
    match body.len() {
        0..=4000 => bytes_text(&body),
        length => format!("({length} bytes)"),
    }
}
