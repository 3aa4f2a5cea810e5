//! Playing one case on one engine: lay out, start, talk, stop, compare.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::again::{self, Turn};
use super::backend::Backend;
use super::case::{Case, Section};
use super::client::{self, Connection, Reply};
use super::options::Options;
use super::render;
use super::replay;
use super::server::{self, Server};
use super::site::{Engine, Site};
use super::varies::{Source, Varies};

/// How long a log line that we expect may come after the reply.
const LOG_LATE: Duration = Duration::from_secs(2);
/// How long a log must rest before a recording takes it as complete.
const LOG_REST: Duration = Duration::from_millis(250);
/// How long we listen for bytes that nobody announced.
const SILENCE: Duration = Duration::from_millis(15);
const TICK: Duration = Duration::from_millis(2);

/// What a log section says when nothing is logged.
pub const NOTHING: &str = "(nothing)";

/// What was seen.
#[derive(Default)]
pub struct Seen {
    /// One text a request.
    pub responses: Vec<String>,
    /// The other recorded sections by name.
    pub sections: Vec<(&'static str, String)>,
    /// Standard error and error log as they are, to be shown with a difference.
    complaints: String,
    /// What differed when the requests were replayed.
    replayed: String,
    /// How many connections there were. Each may be served by a child of its own, which logs when the reply is sent.
    connections: usize,
}

/// How a case went.
pub enum Outcome {
    Passed,
    Ignored,
    Failed(String),
}

/// Plays a case and compares. The real Apache gets two more tries: while the threads of a new event child are still
/// starting, it takes them for busy and closes connections that it keeps alive.
pub fn check(case: &Case, engine: Engine, options: &Options) -> Outcome {
    if case.section("tree").is_some() && !Path::new(super::site::STOCK).join("mods-enabled").is_dir() {
        return Outcome::Ignored;
    }
    if !case.can_be_played() {
        return Outcome::Ignored;
    }
    if !options.truth {
        return check_once(case, engine, options);
    }
    if case.section("differs").is_some() {
        return Outcome::Ignored;
    }
    let mut outcome = check_once(case, engine, options);
    for _ in 0..2 {
        if matches!(outcome, Outcome::Failed(_)) {
            outcome = check_once(case, engine, options);
        }
    }
    outcome
}

fn check_once(case: &Case, engine: Engine, options: &Options) -> Outcome {
    match play(case, engine, options, Some(case)) {
        Ok(seen) => match differences(case, &seen) {
            text if text.is_empty() && seen.replayed.is_empty() => Outcome::Passed,
            text => Outcome::Failed(text + &seen.replayed + &seen.complaints),
        },
        Err(text) => Outcome::Failed(text),
    }
}

/// Plays a case. `expected` tells how many log lines to wait for; without it the logs are waited for until they rest.
pub fn play(case: &Case, engine: Engine, options: &Options, expected: Option<&Case>) -> Result<Seen, String> {
    let mut tries = 0;
    let mut turn = Some(Turn::take());
    loop {
        let site = Site::new(case, engine, options)?;
        let varies = Varies::new(&site, case)?;
        let seen = match case.is_command() {
            true => command(&site, &varies, case),
            false => requests(&site, &varies, case, expected, options, &mut turn),
        };
        tries += 1;
        match seen {
            // Somebody else took one of our ports between our look at it and the server's.
            Err(text) if text.contains("AH00072") && tries < 5 => (),
            Err(text) if options.keep => return Err(format!("{text}\nkept in {}", site.root.display())),
            seen => return seen,
        }
    }
}

fn command(site: &Site, varies: &Varies, case: &Case) -> Result<Seen, String> {
    let outcome = server::command(site, case)?;
    let text = |text: &str| -> Result<String, String> {
        let text = varies.out_of(&varies.out_of(text, Source::ErrorLog)?, Source::Command)?;
        Ok(render::escape_sections(text.trim_end_matches('\n')))
    };
    let mut sections =
        vec![("stdout", text(&outcome.stdout)?), ("stderr", text(&outcome.stderr)?), ("exit", outcome.exit)];
    if case.section("error_log").is_some() {
        sections.push(("error_log", log(site, varies, "error_log")?));
    }
    Ok(Seen { sections, ..Seen::default() })
}

fn requests(
    site: &Site,
    varies: &Varies,
    case: &Case,
    expected: Option<&Case>,
    options: &Options,
    turn: &mut Option<Turn>,
) -> Result<Seen, String> {
    let made = Instant::now();
    let backend = Backend::start(site, case)?;
    let server = Server::start(site, case)?;
    let with_log = |text: String| format!("{text}\n{}", server.complaints());
    let (responses, connections) = talk(site, varies, case, expected).map_err(with_log)?;
    let (count, responses) = (responses.len(), responses);
    let mut seen = Seen { responses, connections, ..Seen::default() };
    // Read before the server is stopped: what it says of its end, or that a child of Apache's event MPM crashes while
    // being ended, is no part of the case.
    for name in ["error_log", "access_log", "stdout", "stderr"] {
        if case.section(name).is_some() {
            wait_for(site, varies, name, expected)?;
            seen.sections.push((name, log(site, varies, name)?));
        }
    }
    if let Some(backend) = &backend {
        let text = varies.out_of(&backend.requests(), Source::Head)?;
        let text = render::escape_sections(text.trim_end_matches('\n'));
        seen.sections.push(("backend_requests", if text.is_empty() { NOTHING.to_owned() } else { text }));
    }
    // What is asked again finds no backend that says the same.
    if backend.is_none() && expected.is_some() && differences(case, &seen).is_empty() {
        seen.replayed = replay::check(site, varies, case, options)?;
        seen.replayed += &again::check(site, varies, case, options, turn, made)?;
        if let Some(section) = case.section("access_log")
            && count == 1
        {
            let text =
                String::from_utf8_lossy(&fs::read(site.log("access_log")).unwrap_or_default()).into_owned();
            seen.replayed += &again::lines(&section.text(), &text, varies)?;
        }
    }
    seen.complaints = server.complaints();
    server.stop()?;
    // A server that says something there, a panic for example, has something to say.
    for name in ["stdout", "stderr"] {
        let text = log(site, varies, name)?;
        if case.section(name).is_none() && text != NOTHING {
            return Err(format!("the server wrote to its {name}:\n{text}"));
        }
    }
    Ok(seen)
}

/// Sends the requests: on the connection at hand while the server leaves it open, unless one asks for a new one.
/// Requests marked `pipelined` go out together with the one before. Answers the replies and how many connections it took.
fn talk(
    site: &Site,
    varies: &Varies,
    case: &Case,
    expected: Option<&Case>,
) -> Result<(Vec<String>, usize), String> {
    let responses = expected.map(Case::responses);
    let requests: Vec<&Section> = case.sections.iter().filter(|section| section.name == "request").collect();
    let mut texts: Vec<String> = Vec::new();
    let mut connection: Option<Connection> = None;
    let mut connections = 0;
    let mut at = 0;
    while at < requests.len() {
        let more = requests[at + 1..].iter().take_while(|request| request.has_word("pipelined")).count();
        let group = &requests[at..=at + more];
        at += group.len();
        let mut open = match connection.take() {
            Some(open) if !open.ended() && !group[0].has_word("new") => open,
            _ => {
                connections += 1;
                Connection::open(port(site, group[0])?)?
            }
        };
        let bytes: Vec<Vec<u8>> = group.iter().map(|request| request_bytes(site, request)).collect();
        open.send(&bytes.concat());
        if group.iter().any(|request| request.has_word("eof")) {
            open.finish();
        }
        for bytes in &bytes {
            let reply = match open.ended() {
                true => Reply { closed: true, ..Reply::default() },
                false => open.reply(&method(bytes))?,
            };
            texts.push(render::reply(&reply, varies)?);
        }
        let last_word = at == requests.len() || requests[at].has_word("new");
        if last_word && !open.ended() {
            // Servers announce that they close, but for a few errors and after our own end of file.
            let closes = |text: &String| text.ends_with("--- closed");
            let patience = match &responses {
                Some(responses) if responses[at - 1].as_ref().is_some_and(closes) => client::CLOSE,
                Some(_) => SILENCE,
                None if group.iter().any(|request| request.has_word("eof")) => client::REPLY,
                None => LOG_REST,
            };
            for reply in open.surplus(patience)? {
                if let Some(last) = texts.last_mut() {
                    append(last, &render::reply(&reply, varies)?);
                }
            }
        }
        connection = Some(open);
    }
    Ok((texts, connections))
}

/// The text of a reply with what came behind it.
pub fn rendered(replies: &[Reply], varies: &Varies) -> Result<String, String> {
    let mut text = String::new();
    for (index, reply) in replies.iter().enumerate() {
        match index {
            0 => text = render::reply(reply, varies)?,
            _ => append(&mut text, &render::reply(reply, varies)?),
        }
    }
    Ok(text)
}

fn append(text: &mut String, more: &str) {
    *text += if more.starts_with('\n') { "" } else { "\n" };
    *text += more;
}

/// `--- request: port2` goes to `@PORT2@`.
fn port(site: &Site, request: &Section) -> Result<u16, String> {
    let index = match () {
        () if request.has_word("port2") => 1,
        () if request.has_word("port3") => 2,
        () => 0,
    };
    site.ports.get(index).map(|port| port.number).ok_or("no such port".to_owned())
}

/// The bytes of a request: lines end in CRLF, and without an empty line in it one is added at the end. `@END@` is
/// nothing, but keeps empty lines before it. In a `raw` request only escapes end lines.
pub fn request_bytes(site: &Site, request: &Section) -> Vec<u8> {
    let text = site.fill(&request.text()).replace("@END@", "");
    if request.has_word("raw") {
        return unescaped(&text.replace('\n', ""));
    }
    let mut bytes = text.replace('\n', "\r\n").into_bytes();
    if client::find(&bytes, b"\r\n\r\n").is_none() {
        bytes.extend_from_slice(b"\r\n\r\n");
    }
    bytes
}

pub fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match chars.next() {
            Some('r') => bytes.push(b'\r'),
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('0') => bytes.push(0),
            Some('x') => {
                let code: String = chars.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&code, 16).unwrap_or(b'?'));
            }
            Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            None => bytes.push(b'\\'),
        }
    }
    bytes
}

/// The first word of a request.
pub fn method(request: &[u8]) -> String {
    let end = request.iter().position(|b| *b == b' ').unwrap_or(0);
    String::from_utf8_lossy(&request[..end]).into_owned()
}

/// A log or output file without what varies.
fn log(site: &Site, varies: &Varies, name: &str) -> Result<String, String> {
    let bytes = fs::read(site.log(name)).unwrap_or_default();
    let source = if name == "access_log" { Source::AccessLog } else { Source::ErrorLog };
    let text = varies.out_of(&String::from_utf8_lossy(&bytes), source)?;
    let text = render::escape_sections(text.trim_end_matches('\n'));
    Ok(if text.is_empty() { NOTHING.to_owned() } else { text })
}

/// Waits until a log has as many lines as expected, or, while recording, until it rests: servers log after replying.
fn wait_for(site: &Site, varies: &Varies, name: &str, expected: Option<&Case>) -> Result<(), String> {
    match expected.and_then(|case| case.section(name)) {
        Some(section) => {
            let until = Instant::now() + LOG_LATE;
            let lines = section.lines().iter().filter(|line| *line != NOTHING).count();
            let have = |text: String| text.lines().filter(|line| *line != NOTHING).count();
            while have(log(site, varies, name)?) < lines && Instant::now() < until {
                sleep(TICK);
            }
        }
        None => {
            let mut last = (0, Instant::now());
            while last.1.elapsed() < LOG_REST {
                let size = fs::metadata(site.log(name)).map_or(0, |file| file.len());
                if size != last.0 {
                    last = (size, Instant::now());
                }
                sleep(TICK);
            }
        }
    }
    Ok(())
}

/// What differs between what a case expects and what was seen, as text; empty if nothing.
fn differences(case: &Case, seen: &Seen) -> String {
    let mut text = String::new();
    let expected = case.responses();
    for (index, got) in seen.responses.iter().enumerate() {
        let what = match expected.len() {
            1 => "response".to_owned(),
            _ => format!("response {}", index + 1),
        };
        match expected.get(index).cloned().flatten() {
            Some(expected) => text += &super::report::difference(&what, &expected, got),
            None => text += &format!("{what} is not recorded (scripts/record); got:\n{got}\n"),
        }
    }
    if case.is_command() && case.section("exit").is_none() {
        return "not recorded (scripts/record)\n".to_owned();
    }
    for (name, got) in &seen.sections {
        match case.section(name) {
            Some(section) if section.lines().is_empty() => {
                text += &format!("{name} is not recorded (scripts/record); got:\n{got}\n");
            }
            section => {
                let expected = section.map(Section::text).unwrap_or_default();
                if *name == "access_log" && seen.connections > 1 && same_lines(&expected, got) {
                    continue;
                }
                text += &super::report::difference(name, &expected, got);
            }
        }
    }
    text
}

/// True for the same lines in any order: the children of several connections log in no order that Apache promises.
fn same_lines(one: &str, other: &str) -> bool {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    sorted(one) == sorted(other)
}
