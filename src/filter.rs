//! Output filters: a body around a body.
//!
//! Answers to `include/util_filter.h`. Where Apache's filter is called for every brigade and sets itself up at the
//! first, `wrap` is called once, when the reply's headers are still open, and returns the content to pull from: its own
//! around the old, or the old as it was when there is nothing to do.

use std::sync::Arc;

use crate::body::Content;
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

    /// Adds the input filter called `name`, if it is known: `ap_add_input_filter`. Answers whether it is known; there is no
    /// input filter that can be named so far.
    pub fn add_input_filter(&mut self, _name: &str) -> bool {
        false
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
