//! Filters: for replies a body around a body, for requests a pull around a pull.
//!
//! Answers to `include/util_filter.h`. Where Apache's filter is called for every brigade and sets itself up at the
//! first, `wrap` is called once, when the reply's headers are still open, and returns the content to pull from: its own
//! around the old, or the old as it was when there is nothing to do.
//!
//! An input filter is made when it is added and sets itself up when the body is first asked for, as Apache's do. It gets
//! what lies below it, towards the client, with each pull, and asks that for more as it needs it.

use std::io;
use std::sync::Arc;

use crate::body::Content;
use crate::conn::input::Pulled;
use crate::request::Request;

/// Where in the chain a filter stands: content first, connection last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FilterKind {
    /// Changes the content (includes).
    Resource,
    /// Changes the coding (deflate).
    ContentSet,
    /// Works on the reply as a whole (byte ranges).
    Protocol,
    /// Codes for the transfer.
    Transcode,
}

/// A registered output filter.
#[derive(Clone)]
pub struct OutputFilter {
    /// The name as registered, e.g. `DEFLATE`.
    pub name: &'static str,
    /// Its place.
    pub kind: FilterKind,
    /// Puts it around the content.
    pub wrap: fn(&mut Request, Content) -> Content,
}

/// A filter chosen for one request.
#[derive(Clone)]
pub struct Chosen {
    /// The name as registered.
    pub name: &'static str,
    /// Its place.
    pub kind: FilterKind,
    /// Puts it around the content.
    pub wrap: Wrap,
}

/// How a chosen filter is put around the content.
#[derive(Clone)]
pub enum Wrap {
    /// As it was registered.
    Plain(fn(&mut Request, Content) -> Content),
    /// With settings of its own.
    Shared(Arc<dyn Fn(&mut Request, Content) -> Content + Send + Sync>),
}

/// A registered input filter.
#[derive(Clone)]
pub struct InputFilterRow {
    /// The name as registered, e.g. `DEFLATE`.
    pub name: &'static str,
    /// Its place.
    pub kind: FilterKind,
    /// Makes one for a request.
    pub make: fn() -> Box<dyn InputFilter>,
}

/// Changes a request's body as it is read.
pub trait InputFilter: Send {
    /// The next piece, made of what `below` gives.
    fn pull(&mut self, r: &mut Request, below: &mut Below<'_>) -> io::Result<Pulled>;
}

/// An input filter chosen for one request.
pub struct ChosenInput {
    kind: FilterKind,
    filter: Box<dyn InputFilter>,
}

/// What lies below an input filter: the filters nearer to the client, then the body as it was framed.
pub struct Below<'f>(pub(crate) &'f mut [ChosenInput]);

impl Below<'_> {
    /// The next piece.
    pub fn pull(&mut self, r: &mut Request) -> io::Result<Pulled> {
        match self.0.split_first_mut() {
            Some((first, rest)) => first.filter.pull(r, &mut Below(rest)),
            None => r.pull_framed(),
        }
    }
}

impl Request {
    /// Adds the output filter called `name`, if it is known: `ap_add_output_filter`. Filters of one kind keep the order in
    /// which they were added. Answers whether it is known.
    pub fn add_output_filter(&mut self, name: &str) -> bool {
        let runtime = self.runtime.clone();
        let Some(filter) = runtime.hooks.find_filter(name) else { return false };
        self.choose_output_filter(Chosen {
            name: filter.name,
            kind: filter.kind,
            wrap: Wrap::Plain(filter.wrap),
        });
        true
    }

    /// Adds an output filter in its place.
    pub fn choose_output_filter(&mut self, chosen: Chosen) {
        let at = self
            .output_filters
            .iter()
            .position(|f| f.kind > chosen.kind)
            .unwrap_or(self.output_filters.len());
        self.output_filters.insert(at, chosen);
    }

    /// Adds the input filter called `name`, if it is known: `ap_add_input_filter`. Of one kind, the first added is nearest
    /// to the handler. Answers whether it is known.
    pub fn add_input_filter(&mut self, name: &str) -> bool {
        let runtime = self.runtime.clone();
        let Some(filter) = runtime.hooks.find_input_filter(name) else { return false };
        self.choose_input_filter(filter.kind, (filter.make)());
        true
    }

    /// Adds an input filter in its place. One that is added while the body is pulled gets what comes from then on.
    pub fn choose_input_filter(&mut self, kind: FilterKind, filter: Box<dyn InputFilter>) {
        let filters = &mut self.input.filters;
        let at = filters.iter().position(|f| f.kind > kind).unwrap_or(filters.len());
        filters.insert(at, ChosenInput { kind, filter });
    }

    /// Lets every chosen filter wrap `content`, in order. A filter may add others behind itself while it wraps.
    pub fn apply_output_filters(&mut self, mut content: Content) -> Content {
        let mut next = 0;
        while let Some(filter) = self.output_filters.get(next) {
            let wrap = filter.wrap.clone();
            next += 1;
            content = match wrap {
                Wrap::Plain(wrap) => wrap(self, content),
                Wrap::Shared(wrap) => wrap(self, content),
            };
        }
        content
    }
}
