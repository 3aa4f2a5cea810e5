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
    /// Says how long the content is good, before anything stores it (`AP_FTYPE_CONTENT_SET - 2`).
    BeforeCache,
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
    pub wrap: Wrap,
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

impl Wrap {
    /// Puts the filter around `content`.
    pub fn around(&self, r: &mut Request, content: Content) -> Content {
        match self {
            Wrap::Plain(wrap) => wrap(r, content),
            Wrap::Shared(wrap) => wrap(r, content),
        }
    }
}

/// Makes an input filter for a request.
pub type MakeInput = Arc<dyn Fn() -> Box<dyn InputFilter> + Send + Sync>;

/// A registered input filter.
#[derive(Clone)]
pub struct InputFilterRow {
    /// The name as registered, e.g. `DEFLATE`.
    pub name: &'static str,
    /// Its place.
    pub kind: FilterKind,
    /// Makes one for a request.
    pub make: MakeInput,
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
        self.choose_output_filter(Chosen { name: filter.name, kind: filter.kind, wrap: filter.wrap.clone() });
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
            content = wrap.around(self, content);
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::OnceLock;

    use bytes::Bytes;

    use super::*;
    use crate::cli::Options;
    use crate::cli::layout::UPSTREAM;
    use crate::config::read;
    use crate::request::ConnInfo;

    /// A request without a connection, on a server without a configuration.
    fn request() -> Request {
        let options = Options {
            program: "httpd".to_owned(),
            command_line: String::new(),
            layout: &UPSTREAM,
            server_root: "/".to_owned(),
            config_file: String::new(),
            embedded_config: Some(String::new()),
            defines: Vec::new(),
            pre_config: Vec::new(),
            post_config: Vec::new(),
            foreground: true,
            no_detach: true,
            one_process: true,
            warns_about_document_root: false,
        };
        // That there is no engine doesn't matter here.
        let (setup, read, _) = read::build(&Arc::new(options), 0);
        let runtime = setup.finish(read);
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
        let connection = ConnInfo {
            runtime: runtime.clone(),
            id: 0,
            client_addr: addr,
            client_ip: "127.0.0.1".to_owned(),
            client_name: Default::default(),
            local_addr: addr,
            names: None,
            base_server: runtime.main_server().clone(),
            log_id: OnceLock::new(),
            proxy_header: false,
            proxied: OnceLock::new(),
            dump: Default::default(),
            remote_logname: OnceLock::new(),
        };
        Request::new(runtime, Arc::new(connection))
    }

    /// What comes from the client, in its place below all filters.
    struct Client(VecDeque<Pulled>);

    impl InputFilter for Client {
        fn pull(&mut self, _: &mut Request, _: &mut Below<'_>) -> io::Result<Pulled> {
            Ok(self.0.pop_front().unwrap_or(Pulled::End))
        }
    }

    /// Puts its letter before every piece; at the end it says so.
    struct Letter(&'static str, bool);

    impl InputFilter for Letter {
        fn pull(&mut self, r: &mut Request, below: &mut Below<'_>) -> io::Result<Pulled> {
            Ok(match below.pull(r)? {
                Pulled::Data(piece) => Pulled::Data([self.0.as_bytes(), &piece].concat().into()),
                Pulled::End if !std::mem::replace(&mut self.1, true) => Pulled::Data(self.0.into()),
                other => other,
            })
        }
    }

    fn data(text: &'static str) -> Pulled {
        Pulled::Data(Bytes::from(text))
    }

    /// A handler that gives the body back: what it read, and how often it had to wait.
    fn echo(r: &mut Request) -> (String, usize, Option<u16>) {
        let (mut text, mut waits) = (String::new(), 0);
        loop {
            match r.pull_input() {
                Ok(Pulled::Data(piece)) => text += &format!("{} ", String::from_utf8_lossy(&piece)),
                Ok(Pulled::Wait) => waits += 1,
                Ok(Pulled::End) => return (text, waits, None),
                Ok(Pulled::Bad(code)) => return (text, waits, Some(code)),
                Err(_) => return (text, waits, Some(0)),
            }
        }
    }

    #[test]
    fn the_first_added_is_nearest_to_the_handler() {
        let mut r = request();
        let client = Client(VecDeque::from([data("1"), Pulled::Wait, data("2")]));
        r.choose_input_filter(FilterKind::Transcode, Box::new(client));
        r.choose_input_filter(FilterKind::ContentSet, Box::new(Letter("c", false)));
        r.choose_input_filter(FilterKind::Resource, Box::new(Letter("a", false)));
        r.choose_input_filter(FilterKind::Resource, Box::new(Letter("b", false)));
        assert_eq!(echo(&mut r), ("abc1 abc2 abc ab a ".to_owned(), 1, None));
    }

    #[test]
    fn a_fault_goes_up() {
        let mut r = request();
        let client = Client(VecDeque::from([data("1"), Pulled::Bad(413)]));
        r.choose_input_filter(FilterKind::Transcode, Box::new(client));
        r.choose_input_filter(FilterKind::Resource, Box::new(Letter("a", false)));
        assert_eq!(echo(&mut r), ("a1 ".to_owned(), 0, Some(413)));
    }

    #[test]
    fn without_filters_the_body_comes_as_it_is() {
        let mut r = request();
        assert!(!r.add_input_filter("NONE"));
        assert_eq!(echo(&mut r), (String::new(), 0, None));
    }

    #[test]
    fn a_kept_body_comes_once_more() {
        use crate::modules::filters::mod_request;
        let mut r = request();
        r.headers_in.set("Transfer-Encoding", "chunked");
        r.kept_body = Some(Arc::new(vec![b'x'; 8195]));
        mod_request::insert(&mut r);
        let mut sub = request();
        sub.kept_body.clone_from(&r.kept_body);
        mod_request::insert(&mut sub);
        for mut r in [r, sub] {
            assert_eq!(r.headers_in.get_str("Content-Length"), Some("8195"));
            assert!(!r.headers_in.contains("Transfer-Encoding"));
            let (text, _, end) = echo(&mut r);
            assert_eq!((text.len(), end), (8192 + 1 + 3 + 1, None));
        }
    }
}
