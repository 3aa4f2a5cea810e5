//! The page as it is pulled: text passes, elements are done as they come: `send_parsed_content`.

use std::io;

use bstr::ByteSlice;
use bytes::Bytes;

use super::elements::{self, Argued, Done};
use super::expand::Captured;
use super::included::{Given, Included};
use super::parse::{self, Element, Fault};
use super::{DIR, NESTED, SERVER};
use crate::body::{Body, Chunk, Content, Pull};
use crate::log::{Level, rerror, shown};
use crate::modules::core::{self, options};
use crate::request::Request;

/// Pages up to this length are looked through before their reply begins (what Apache maps into memory at once).
const LOOKED_THROUGH: u64 = 4 << 20;
/// How much is read of a file at once.
const PIECE: usize = 64 * 1024;

/// What elements know and change: `include_ctx_t`.
pub(super) struct Ssi {
    /// `SSI_FLAG_PRINTING`
    pub(super) printing: bool,
    /// `SSI_FLAG_COND_TRUE`
    pub(super) cond_true: bool,
    /// A condition could not be told.
    pub(super) cond_wrong: bool,
    pub(super) size_in_bytes: bool,
    pub(super) no_exec: bool,
    pub(super) legacy: bool,
    /// How many conditions are open within one that isn't true.
    pub(super) nesting: u32,
    pub(super) error_msg: Vec<u8>,
    pub(super) time_format: Vec<u8>,
    pub(super) undefined_echo: Vec<u8>,
    pub(super) captured: Option<Captured>,
}

/// An element that takes its time: what it is busy with, and its arguments that are left.
pub(super) enum Busy {
    Include { included: Box<Included>, argument: Vec<u8>, on_error: bool },
    Cgi { included: Box<Included> },
    Command(Content),
}

struct Page {
    content: Content,
    /// What was read and not done yet.
    text: Vec<u8>,
    /// The start tag was taken off `text`.
    in_element: bool,
    ended: bool,
    finished: bool,
    start: Vec<u8>,
    end: Vec<u8>,
    ssi: Ssi,
    out: Vec<u8>,
    /// An element whose arguments are not all done.
    element: Option<Element>,
    busy: Option<Busy>,
    /// An element was wrong where nothing is printed: what comes next isn't done, as in Apache.
    faulty: bool,
    /// Nothing was pulled yet.
    fresh: bool,
}

/// Puts the page around its content.
pub(super) fn page(r: &mut Request, mut content: Content) -> Content {
    let server = r.server_conf(&SERVER);
    let start = server.start.as_deref().unwrap_or("<!--#").as_bytes().to_vec();
    let end = server.end.as_deref().unwrap_or("-->").as_bytes().to_vec();
    if matches!(content, Content::Empty) {
        return content;
    }
    if content.len().is_some_and(|len| len <= LOOKED_THROUGH) && !matches!(content, Content::Stream(_)) {
        let mut text = Vec::new();
        while let Ok(Pull::Chunk(Chunk::Bytes(piece))) = content.pull_bytes(r, PIECE) {
            text.extend_from_slice(&piece);
        }
        if parse::find_start(&text, &start).is_err() && !start.is_empty() {
            return Content::Bytes(text.into());
        }
        content = Content::Bytes(text.into());
    }
    let dir = r.dir(&DIR);
    let text = |value: &Option<String>, default: &str| match value {
        Some(text) => httpd_conf::to_bytes(text).into_owned(),
        None => default.as_bytes().to_vec(),
    };
    let ssi = Ssi {
        printing: true,
        cond_true: true,
        cond_wrong: false,
        size_in_bytes: false,
        no_exec: r.dir(&core::DIR).opts.in_force() & options::INC_WITH_EXEC == 0,
        legacy: dir.legacy == Some(true),
        nesting: 0,
        error_msg: text(&dir.error_msg, "[an error occurred while processing this directive]"),
        time_format: text(&dir.time_format, "%A, %d-%b-%Y %H:%M:%S %Z"),
        undefined_echo: text(&dir.undefined_echo, "(none)"),
        captured: None,
    };
    Content::Stream(Box::new(Page {
        content,
        text: Vec::new(),
        in_element: false,
        ended: false,
        finished: false,
        start,
        end,
        ssi,
        out: Vec::new(),
        element: None,
        busy: None,
        faulty: false,
        fresh: true,
    }))
}

/// What the page can do next.
enum Next {
    /// More of the same.
    On,
    /// Nothing before more was read.
    Starved,
    /// This is to be answered.
    Answer(Pull),
}

impl Body for Page {
    fn pull(&mut self, r: &mut Request) -> io::Result<Pull> {
        if std::mem::replace(&mut self.fresh, false) && r.notes.contains(NESTED) {
            super::expand::add_query(r);
        }
        loop {
            if self.out.len() >= PIECE {
                return Ok(self.flush());
            }
            let next = if self.busy.is_some() {
                self.go_on_busy(r)?
            } else if self.element.is_some() {
                self.go_on_element(r)
            } else {
                self.parse(r)
            };
            match next {
                Next::On => {}
                Next::Answer(pull) if self.out.is_empty() => return Ok(pull),
                Next::Answer(pull) => return Ok(self.flush_before(pull)),
                Next::Starved if self.ended => {
                    self.finish(r);
                    self.finished = true;
                    return Ok(if self.out.is_empty() { Pull::End(None) } else { self.flush() });
                }
                Next::Starved => match self.content.pull_bytes(r, PIECE)? {
                    Pull::Chunk(Chunk::Bytes(piece)) => {
                        self.faulty = false;
                        self.text.extend_from_slice(&piece);
                    }
                    Pull::Chunk(Chunk::File(_)) => {}
                    Pull::End(_) => self.ended = true,
                    pull if self.out.is_empty() => return Ok(pull),
                    pull => return Ok(self.flush_before(pull)),
                },
            }
        }
    }

    fn len(&self) -> Option<u64> {
        None
    }
}

impl Page {
    fn flush(&mut self) -> Pull {
        Pull::Chunk(Chunk::Bytes(Bytes::from(std::mem::take(&mut self.out))))
    }

    /// What was made goes out before what comes next, which is found again; only a chunk would not be.
    fn flush_before(&mut self, pull: Pull) -> Pull {
        if let Pull::Chunk(Chunk::Bytes(piece)) = pull {
            self.out.extend_from_slice(&piece);
        }
        self.flush()
    }

    fn error(&mut self) {
        self.out.extend_from_slice(&self.ssi.error_msg);
    }

    /// Passes text on up to the next element, and takes that off.
    fn parse(&mut self, r: &mut Request) -> Next {
        if self.finished {
            return Next::Answer(Pull::End(None));
        }
        if !self.in_element {
            let (up_to, found) = match parse::find_start(&self.text, &self.start) {
                Ok(at) => (at, true),
                Err(at) => (at, false),
            };
            if self.ssi.printing {
                self.out.extend_from_slice(&self.text[..up_to]);
            }
            self.text.drain(..up_to + if found { self.start.len() } else { 0 });
            self.in_element = found;
            if !found {
                return Next::Starved;
            }
        }
        // Without an end tag there is no use in trying.
        if self.text.find(&self.end).is_none() {
            return Next::Starved;
        }
        let Some((element, used)) = parse::element(&self.text, &self.end) else { return Next::Starved };
        self.text.drain(..used);
        self.in_element = false;
        log_faults(r, &element);
        self.faulty |= !element.faults.is_empty();
        if self.faulty {
            if self.ssi.printing {
                self.error();
                self.faulty = false;
            }
            return Next::On;
        }
        self.element = Some(element);
        Next::On
    }

    /// Begins an element, or does its next argument.
    fn go_on_element(&mut self, r: &mut Request) -> Next {
        let Some(mut element) = self.element.take() else { return Next::On };
        if elements::may_block(&element) && r.needs_thread() {
            self.element = Some(element);
            return Next::Answer(Pull::NeedThread);
        }
        if !std::mem::replace(&mut element.progress.begun, true) {
            match elements::begin(r, &mut self.ssi, &mut element) {
                Done::Yes => {}
                Done::Text(text) => self.out.extend_from_slice(&text),
                Done::Error => self.error(),
                Done::OneByOne => self.element = Some(element),
            }
            return Next::On;
        }
        let Some((name, Some(value))) = element.arguments.pop_front() else {
            if element.progress.failed {
                self.error();
            }
            return Next::On;
        };
        match elements::argument(r, &mut self.ssi, &mut element, &name, &value) {
            Argued::Next => self.element = Some(element),
            Argued::Text(text) => {
                self.out.extend_from_slice(&text);
                self.element = Some(element);
            }
            Argued::Error => self.error(),
            Argued::Busy(busy) => {
                self.busy = Some(busy);
                self.element = Some(element);
            }
        }
        Next::On
    }

    /// Passes on what the element is busy with.
    fn go_on_busy(&mut self, r: &mut Request) -> io::Result<Next> {
        let given = match &mut self.busy {
            Some(Busy::Include { included, .. } | Busy::Cgi { included }) => included.pull(r),
            Some(Busy::Command(content)) => content.pull(r).map(|pull| match pull {
                Pull::End(_) => Given::End,
                pull => Given::Pull(pull),
            }),
            None => return Ok(Next::On),
        };
        // What broke off was logged; the page goes on behind it.
        let given = match given {
            Ok(given) => given,
            Err(err) if err.kind() == io::ErrorKind::TimedOut => Given::End,
            Err(err) => return Err(err),
        };
        match given {
            Given::Pull(pull @ Pull::Chunk(_)) if self.out.is_empty() => Ok(Next::Answer(pull)),
            Given::Pull(Pull::Chunk(Chunk::Bytes(piece))) => {
                self.out.extend_from_slice(&piece);
                Ok(Next::On)
            }
            Given::Pull(Pull::Chunk(Chunk::File(mut slice))) => {
                while slice.len > 0 {
                    let piece = slice.read(PIECE)?;
                    self.out.extend_from_slice(&piece);
                }
                Ok(Next::On)
            }
            Given::Pull(pull) => Ok(Next::Answer(pull)),
            Given::End => {
                if let (Some(Busy::Include { .. }), Some(element)) = (self.busy.take(), &mut self.element) {
                    element.progress.failed = false;
                }
                Ok(Next::On)
            }
            Given::Failed(code) => {
                match (self.busy.take(), &mut self.element) {
                    (Some(Busy::Include { argument, on_error, .. }), Some(element)) => {
                        elements::log_include(r, &argument, &format!(", subrequest returned {code}"));
                        if on_error {
                            // What was to be shown instead failed as well.
                            element.arguments.clear();
                        }
                        element.progress.failed = true;
                    }
                    (Some(Busy::Cgi { included }), _) if crate::http::status::is_redirect(code) => {
                        if let Some(location) = included.location() {
                            let location = crate::http::escape::escape_html(&location).into_owned();
                            let link = [b"<a href=\"", &location[..], b"\">", &location, b"</a>"].concat();
                            self.out.extend_from_slice(&link);
                        }
                    }
                    _ => {}
                }
                Ok(Next::On)
            }
        }
    }

    /// The page is over.
    fn finish(&mut self, r: &Request) {
        if self.in_element {
            // What is wrong in the part that is there was found as it came.
            self.text.push(b' ');
            self.text.extend_from_slice(&self.end);
            if let Some((element, _)) = parse::element(&self.text, &self.end) {
                log_faults(r, &element);
            }
            rerror!(
                r,
                Level::Error,
                "include",
                "AH01372",
                "SSI directive was not properly finished at the end of parsed document {}",
                r.filename
            );
            if self.ssi.printing {
                self.error();
            }
        } else if self.ssi.printing {
            // The begin of a start tag.
            self.out.append(&mut self.text);
        }
        if !self.ssi.printing {
            rerror!(
                r,
                Level::Warn,
                "include",
                "AH01373",
                "missing closing endif directive in parsed document {}",
                r.filename
            );
        }
    }
}

/// Logs what is wrong with an element.
fn log_faults(r: &Request, element: &Element) {
    let name = shown(&element.name);
    let file = &r.filename;
    for fault in &element.faults {
        match fault {
            Fault::NoName => rerror!(
                r,
                Level::Error,
                "include",
                "AH01368",
                "missing directive name in parsed document {file}"
            ),
            Fault::Quote | Fault::NoArgumentName => {
                let number = if *fault == Fault::Quote { "AH01369" } else { "AH01370" };
                rerror!(
                    r,
                    Level::Error,
                    "include",
                    number,
                    "missing argument name for value to tag {name} in {file}"
                );
            }
        }
    }
}
