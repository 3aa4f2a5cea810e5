//! A file that was asked for once is asked for again: replies that the server remembers must be those that it worked out.
//!
//! The server remembers a reply the second time, once the files have not changed for two seconds, and gives it from
//! the third. While a case waits for that, others have its turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::case::{Case, Section};
use super::client::Connection;
use super::options::Options;
use super::run;
use super::site::Site;
use super::varies::{Source, Varies};

/// When a file's times say that it won't change any more.
const SETTLED: Duration = Duration::from_millis(2100);
/// How often it is asked for then.
const TIMES: usize = 4;
/// How many cases may wait at once for each that works.
pub const WAITING: usize = 16;

static REPLIES: AtomicUsize = AtomicUsize::new(0);

/// How many cases may work at once.
static TURNS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Sets how many cases work at once.
pub fn allow(count: usize) {
    *TURNS.0.lock().unwrap_or_else(PoisonError::into_inner) = count;
}

/// Waits for a turn, and gives it back at the end.
pub struct Turn;

impl Turn {
    pub fn take() -> Turn {
        let free = TURNS.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = TURNS.1.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURNS.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        TURNS.1.notify_one();
    }
}

/// How many replies came again in this run; nothing if none did.
pub fn summary() -> Option<String> {
    let count = REPLIES.load(Ordering::Relaxed);
    (count > 0).then(|| format!("files: {count} replies came again"))
}

/// Asks again, if the case is one request for a file; answers what differs. `since`: when its files were made.
pub fn check(
    site: &Site,
    varies: &Varies,
    case: &Case,
    options: &Options,
    turn: &mut Option<Turn>,
    since: Instant,
) -> Result<String, String> {
    let requests: Vec<&Section> = case.sections.iter().filter(|section| section.name == "request").collect();
    let responses = case.responses();
    let ([request], [Some(expected)]) = (requests.as_slice(), responses.as_slice()) else {
        return Ok(String::new());
    };
    let bytes = run::request_bytes(site, request);
    let method = run::method(&bytes);
    let fits = ["HTTP/1.1 200 ", "HTTP/1.1 304 "].iter().any(|start| expected.starts_with(start))
        && ["\nLast-Modified: ", "\nETag: "].iter().any(|field| expected.contains(field))
        && ["GET", "HEAD"].contains(&method.as_str())
        && ["raw", "eof", "port2", "port3"].iter().all(|word| !request.has_word(word));
    if options.truth || !fits {
        return Ok(String::new());
    }
    drop(turn.take());
    sleep(SETTLED.saturating_sub(since.elapsed()));
    *turn = Some(Turn::take());
    for time in 0..TIMES {
        let mut connection = Connection::open(site.ports[0].number)?;
        connection.send(&bytes);
        let mut replies = vec![connection.reply(&method)?];
        if expected.ends_with("--- closed") && !connection.ended() {
            replies.extend(connection.surplus(super::client::CLOSE)?);
        }
        let got = run::rendered(&replies, varies)?;
        let what = format!("response, asked for again ({} of {TIMES})", time + 1);
        let difference = super::report::difference(&what, expected, &got);
        if !difference.is_empty() {
            return Ok(difference);
        }
        REPLIES.fetch_add(1, Ordering::Relaxed);
    }
    Ok(String::new())
}

/// The lines of the access log after [`check`]: each as often as the request was sent.
pub fn lines(expected: &str, log: &str, varies: &Varies) -> Result<String, String> {
    let log = varies.out_of(log, Source::AccessLog)?;
    let strange: Vec<&str> =
        log.lines().filter(|line| !expected.lines().any(|known| known == *line)).collect();
    Ok(match strange.is_empty() {
        true => String::new(),
        false => format!("access_log, asked for again: lines that nobody expects:\n{}\n", strange.join("\n")),
    })
}
