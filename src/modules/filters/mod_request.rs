//! mod_request: keeps a request's body, so that sub-requests and redirects can read it once more.
//!
//! Answers to `modules/filters/mod_request.c`. Where it differs: what is read of a kept body is not kept again.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::conn::input::Pulled;
use crate::filter::{Below, FilterKind, InputFilter};
use crate::hooks::{Hooks, order};
use crate::http::head::strict_length;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::Request;

/// The module.
pub static MODULE: Module = Module { name: "request_module", file: "mod_request.c", directives: ROWS, hooks };

static DIR: Slot<RequestDir> = Slot::new();

#[derive(Clone, Default)]
struct RequestDir {
    /// `KeptBodySize`.
    keep: Option<u64>,
}

impl Conf for RequestDir {
    fn merge(&self, child: &Self) -> Self {
        RequestDir { keep: child.keep.or(self.keep) }
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "KeptBodySize",
    args: Args::Take1(kept_body_size),
    allowed: Allowed::ACCESS_CONF,
    help: "Maximum size of request bodies kept aside for use by filters",
}];

fn kept_body_size(cmd: &mut Cmd, text: &str) -> Done {
    let number = text.trim_start_matches([' ', '\t']).trim_start_matches('+');
    match number.parse::<i64>() {
        Ok(size) if size >= 0 => cmd.dir(&DIR).keep = Some(size as u64),
        _ => return Err("KeptBodySize must be a valid size in bytes, or zero.".into()),
    }
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.insert_filter(insert, order::LAST);
}

/// `ap_request_insert_filter`
pub fn insert(r: &mut Request) {
    if let Some(kept) = r.kept_body.clone() {
        r.headers_in.unset("Transfer-Encoding");
        r.headers_in.set("Content-Length", kept.len().to_string());
        r.choose_input_filter(FilterKind::Resource, Box::new(Kept { body: Bytes::from_owner(Whole(kept)) }));
    } else if let Some(keep) = r.dir(&DIR).keep.filter(|&keep| keep > 0) {
        if !r.input.has_body() {
            r.kept_body = Some(Arc::default());
            return;
        }
        r.choose_input_filter(
            FilterKind::Resource,
            Box::new(Keep { begun: false, ended: false, limit: keep, remaining: keep }),
        );
    }
}

/// A kept body, as what owns [`Bytes`].
struct Whole(Arc<Vec<u8>>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// `kept_body_filter`: first what was kept, then what is still to come.
struct Kept {
    body: Bytes,
}

/// How much of a kept body is given at once.
const PIECE: usize = 8192;

impl InputFilter for Kept {
    fn pull(&mut self, r: &mut Request, below: &mut Below<'_>) -> io::Result<Pulled> {
        if self.body.is_empty() {
            return below.pull(r);
        }
        Ok(Pulled::Data(self.body.split_to(self.body.len().min(PIECE))))
    }
}

/// `keep_body_filter`.
struct Keep {
    begun: bool,
    /// All of it came: what comes now is what was kept.
    ended: bool,
    limit: u64,
    remaining: u64,
}

impl InputFilter for Keep {
    fn pull(&mut self, r: &mut Request, below: &mut Below<'_>) -> io::Result<Pulled> {
        let too_large = |r: &mut Request, ah: &'static str, length: u64, limit: u64| {
            // The page comes through the filters as an error that was met there.
            r.length_unknown = true;
            r.kept_body = None;
            rerror!(
                r,
                Level::Error,
                "request",
                ah,
                "Requested content-length of {length} is larger than the configured limit of {limit}"
            );
            Pulled::Bad(status::REQUEST_ENTITY_TOO_LARGE)
        };
        if !std::mem::replace(&mut self.begun, true)
            && let Some(text) = r.headers_in.get("Content-Length")
        {
            match strict_length(text) {
                None => {
                    let text = String::from_utf8_lossy(text);
                    rerror!(r, Level::Error, "request", "AH01411", "Invalid Content-Length '{text}'");
                    return Ok(Pulled::Bad(status::REQUEST_ENTITY_TOO_LARGE));
                }
                Some(length) if length > self.limit => {
                    return Ok(too_large(r, "AH01412", length, self.limit));
                }
                Some(_) => {}
            }
        }
        if self.ended {
            return below.pull(r);
        }
        r.kept_body.get_or_insert_default();
        let pulled = below.pull(r)?;
        match &pulled {
            Pulled::End => self.ended = true,
            Pulled::Bad(_) => r.kept_body = None,
            _ => {}
        }
        if let Pulled::Data(data) = &pulled {
            let length = data.len() as u64;
            if length > self.remaining {
                // Apache never sets the limit that it logs here.
                return Ok(too_large(r, "AH01413", length, 0));
            }
            self.remaining -= length;
            if let Some(kept) = &mut r.kept_body {
                Arc::make_mut(kept).extend_from_slice(data);
            }
        }
        Ok(pulled)
    }
}
