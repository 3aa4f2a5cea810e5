//! Requests of a case once more, cut in two and in pipelines: where a read ends must not show in the reply.
//!
//! A case with a `replay` section has its `raw` requests, each on a connection of its own, sent again
//!
//! - in two writes, parted behind each byte in turn. The second goes out when the kernel says that the server has read
//!   the first ([`super::kernel`]), so that it really sees two reads. Long requests are parted where lines and names end;
//!   prefork, which would need a process for each connection, and the real Apache get some of the places.
//! - behind another request in the same write, and before another, which is answered if the connection stays open and
//!   must not be if it closes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::case::Case;
use super::client::{self, Connection, Reply};
use super::options::Options;
use super::run;
use super::site::{Engine, Site};
use super::varies::Varies;

/// Connections at once: what event takes easily, and as many as prefork has children for from the start.
const MANY: usize = 128;
const FEW: usize = 2;
/// Requests up to this long are cut behind every byte.
const SHORT: usize = 500;
/// In how many places prefork and the real Apache see a request cut.
const SOME: usize = 5;
/// How long a server may take to read what came.
const READ: Duration = Duration::from_secs(5);
/// What is told of one case, at most.
const TOLD: usize = 5;

/// What goes before and behind in a pipeline.
const NEIGHBOUR: &[u8] = b"GET /neighbour HTTP/1.1\r\nHost: localhost\r\n\r\n";

static REQUESTS: AtomicUsize = AtomicUsize::new(0);
static SPLITS: AtomicUsize = AtomicUsize::new(0);
static PIPELINES: AtomicUsize = AtomicUsize::new(0);

/// How many requests, splits and pipelines were replayed by this run; nothing if none were.
pub fn summary() -> Option<String> {
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (requests, splits, pipelines) = (count(&REQUESTS), count(&SPLITS), count(&PIPELINES));
    (requests > 0).then(|| {
        format!("raw requests: {requests} replayed whole, in {splits} splits and in {pipelines} pipelines")
    })
}

/// One request of the case with what is expected of it.
struct Exchange<'a> {
    site: &'a Site,
    varies: &'a Varies<'a>,
    /// The place in the case, from 1, and what it is called there.
    name: String,
    bytes: Vec<u8>,
    /// Our half is closed behind it.
    eof: bool,
    /// It is only sent on connections of its own: Apache skips empty lines between two requests with less care.
    first: bool,
    expected: &'a str,
}

/// Replays the requests of a case that asks for it; answers what differs.
pub fn check(site: &Site, varies: &Varies, case: &Case, options: &Options) -> Result<String, String> {
    if case.section("replay").is_none() {
        return Ok(String::new());
    }
    let responses = case.responses();
    let requests: Vec<_> = case.sections.iter().filter(|section| section.name == "request").collect();
    let few = options.truth || site.engine == Engine::Prefork;
    let mut alone = Connection::open(site.ports[0].number)?;
    alone.send(NEIGHBOUR);
    let neighbour = run::rendered(&[alone.reply("GET")?], varies)?;
    drop(alone);
    let mut differences = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        let alone =
            request.has_word("new") && requests.get(index + 1).is_none_or(|next| next.has_word("new"));
        let Some(Some(expected)) = responses.get(index) else { continue };
        if !alone || !request.has_word("raw") {
            return Err(format!("request {}: only those that are `new raw` can be replayed", index + 1));
        }
        let exchange = Exchange {
            site,
            varies,
            name: format!("request {} ({})", index + 1, request.comment()),
            bytes: run::request_bytes(site, request),
            eof: request.has_word("eof"),
            first: request.has_word("first"),
            expected,
        };
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        exchange.splits(few, &mut differences)?;
        exchange.pipelines(&neighbour, &mut differences)?;
    }
    let more = differences.len().saturating_sub(TOLD);
    differences.truncate(TOLD);
    if more > 0 {
        differences.push(format!("and {more} more that differ when replayed\n"));
    }
    Ok(differences.concat())
}

impl Exchange<'_> {
    /// Whether the server keeps the connection for more.
    fn is_kept(&self) -> bool {
        !self.eof && !self.expected.ends_with("--- closed")
    }

    fn splits(&self, few: bool, differences: &mut Vec<String>) -> Result<(), String> {
        let mut places = places(&self.bytes);
        if few {
            let step = places.len().div_ceil(SOME).max(1);
            places = places.into_iter().step_by(step).collect();
        }
        // What the reply looks like once it is known to be right: the others need no rendering.
        let mut good: Option<Vec<u8>> = None;
        for batch in places.chunks(if few { FEW } else { MANY }) {
            let mut open = Vec::new();
            for place in batch {
                let mut connection = Connection::open(self.site.ports[0].number)?;
                connection.send(&self.bytes[..*place]);
                open.push(connection);
            }
            wait_until_read(&open)?;
            for (connection, place) in open.iter_mut().zip(batch) {
                connection.send(&self.bytes[*place..]);
                if self.eof {
                    connection.finish();
                }
            }
            for (mut connection, place) in open.into_iter().zip(batch) {
                SPLITS.fetch_add(1, Ordering::Relaxed);
                let reply = self.reply(&mut connection).map_err(|e| self.told(*place, &e))?;
                connection.abort();
                let bytes = without_date(&reply);
                if good.as_ref() == Some(&bytes) {
                    continue;
                }
                let text = run::rendered(&reply, self.varies)?;
                if text == self.expected {
                    good.get_or_insert(bytes);
                } else {
                    differences.push(super::report::difference(
                        &self.told(*place, "reply"),
                        self.expected,
                        &text,
                    ));
                }
            }
        }
        Ok(())
    }

    /// Where the request was cut, with what came of it.
    fn told(&self, place: usize, what: &str) -> String {
        let (before, after) = self.bytes.split_at(place);
        let before = &before[before.len().saturating_sub(40)..];
        let after = &after[..after.len().min(40)];
        let (before, after) = (before.escape_ascii(), after.escape_ascii());
        format!("{}, split after byte {place} (…{before} | {after}…): {what}", self.name)
    }

    /// What comes back: the reply, and with a connection that closes all else until then.
    fn reply(&self, connection: &mut Connection) -> Result<Vec<Reply>, String> {
        let mut replies = vec![connection.reply(&run::method(&self.bytes))?];
        let ends = self.expected.ends_with("--- closed");
        if !connection.ended() {
            let patience = if ends { client::CLOSE } else { Duration::ZERO };
            replies.extend(connection.surplus(patience)?);
        }
        Ok(replies)
    }

    fn pipelines(&self, neighbour: &str, differences: &mut Vec<String>) -> Result<(), String> {
        let fail = |text: String| format!("{}, in a pipeline: {text}", self.name);
        let mut compare = |what: &str, expected: &str, got: &str| {
            let (expected, got) = (without_max(expected), without_max(got));
            let name = format!("{}, {what}", self.name);
            differences.push(super::report::difference(&name, &expected, &got));
        };
        if !self.first && !neighbour.ends_with("--- closed") {
            PIPELINES.fetch_add(1, Ordering::Relaxed);
            let mut behind = Connection::open(self.site.ports[0].number)?;
            behind.send(&[NEIGHBOUR, &self.bytes].concat());
            if self.eof {
                behind.finish();
            }
            let first = run::rendered(&[behind.reply("GET").map_err(fail)?], self.varies)?;
            compare("the one before it", neighbour, &first);
            let second = run::rendered(&self.reply(&mut behind).map_err(fail)?, self.varies)?;
            compare("behind another", self.expected, &second);
            behind.abort();
        }
        if !self.eof {
            PIPELINES.fetch_add(1, Ordering::Relaxed);
            let mut before = Connection::open(self.site.ports[0].number)?;
            before.send(&[&self.bytes, NEIGHBOUR].concat());
            if self.is_kept() {
                let reply = before.reply(&run::method(&self.bytes)).map_err(fail)?;
                compare("before another", self.expected, &run::rendered(&[reply], self.varies)?);
                let next = run::rendered(&[before.reply("GET").map_err(fail)?], self.varies)?;
                compare("the one behind it", neighbour, &next);
            } else {
                let reply = run::rendered(&self.reply(&mut before).map_err(fail)?, self.varies)?;
                compare("before another that must not be answered", self.expected, &reply);
            }
            before.abort();
        }
        differences.retain(|text| !text.is_empty());
        Ok(())
    }
}

/// Behind which bytes a request is cut: all of a short one; of a long one those around ends of lines and names, and
/// some others.
fn places(bytes: &[u8]) -> Vec<usize> {
    let near = |place: &usize| {
        let around = &bytes[place.saturating_sub(2)..bytes.len().min(place + 2)];
        place.is_multiple_of(101)
            || *place < 40
            || place + 40 > bytes.len()
            || around.iter().any(|b| matches!(b, b'\r' | b'\n' | b':'))
    };
    (1..bytes.len()).filter(|place| bytes.len() <= SHORT || near(place)).collect()
}

/// Waits until the server has read all that was sent. Where the kernel does not tell, a rest.
fn wait_until_read(connections: &[Connection]) -> Result<(), String> {
    let until = Instant::now() + READ;
    for connection in connections {
        loop {
            match super::kernel::unread(connection.addresses()?) {
                Ok(0) => break,
                Ok(_) if Instant::now() > until => {
                    return Err("the server does not read the first half of a request".to_owned());
                }
                Ok(_) => sleep(Duration::from_micros(200)),
                Err(_) => {
                    sleep(Duration::from_millis(20));
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// The bytes of replies with the value of their Date fields left out.
fn without_date(replies: &[Reply]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for reply in replies {
        for head in reply.interim.iter().chain([&reply.head]) {
            for line in head.split_inclusive(|b| *b == b'\n') {
                bytes.extend_from_slice(if line.starts_with(b"Date: ") { b"Date" } else { line });
            }
        }
        bytes.extend_from_slice(&reply.body);
        bytes.push(u8::from(reply.closed));
    }
    bytes
}

/// Without what only the first reply of a connection has (`Upgrade`), or counts (`Keep-Alive: …, max=`).
fn without_max(text: &str) -> String {
    let line = |line: &str| match line.split_once(", max=") {
        Some((before, _)) if line.starts_with("Keep-Alive: ") => before.to_owned(),
        _ => line.to_owned(),
    };
    let is_first = |line: &&str| line.starts_with("Upgrade: ") || *line == "Connection: Upgrade";
    text.lines().filter(|line| !is_first(line)).map(line).collect::<Vec<_>>().join("\n")
}
