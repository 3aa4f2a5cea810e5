//! mod_request: how large a request's body may be where it is kept for filters.
//!
//! Answers to `modules/filters/mod_request.c`.

use std::io;

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

fn insert(r: &mut Request) {
    if let Some(body) = &r.kept_body {
        let body = Some(body.clone());
        let length = body.as_ref().map_or(0, Bytes::len);
        r.headers_in.unset("Transfer-Encoding");
        r.headers_in.set("Content-Length", length.to_string());
        // Those of the request that read it have had their say.
        r.input.filters.clear();
        r.choose_input_filter(FilterKind::Resource, Box::new(Kept { body }));
    } else if let Some(keep) = r.dir(&DIR).keep.filter(|&keep| keep > 0) {
        if !r.input.has_body() {
            r.kept_body = Some(Bytes::new());
            return;
        }
        r.choose_input_filter(
            FilterKind::Resource,
            Box::new(Keep { begun: false, limit: keep, remaining: keep, body: Vec::new() }),
        );
    }
}

/// `keep_body_filter`.
struct Keep {
    begun: bool,
    limit: u64,
    remaining: u64,
    body: Vec<u8>,
}

/// `kept_body_filter`: the body once more.
struct Kept {
    body: Option<Bytes>,
}

impl InputFilter for Kept {
    fn pull(&mut self, _: &mut Request, _: &mut Below<'_>) -> io::Result<Pulled> {
        let body = self.body.take().filter(|body| !body.is_empty());
        Ok(body.map_or(Pulled::End, Pulled::Data))
    }
}

impl InputFilter for Keep {
    fn pull(&mut self, r: &mut Request, below: &mut Below<'_>) -> io::Result<Pulled> {
        let too_large = |r: &mut Request, ah: &'static str, length: u64, limit: u64| {
            // The page comes through the filters as an error that was met there.
            r.length_unknown = true;
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
        let pulled = below.pull(r)?;
        if let Pulled::Data(data) = &pulled {
            let length = data.len() as u64;
            if length > self.remaining {
                // Apache never sets the limit that it logs here.
                return Ok(too_large(r, "AH01413", length, 0));
            }
            self.remaining -= length;
            self.body.extend_from_slice(data);
        }
        if matches!(pulled, Pulled::End) {
            r.kept_body = Some(std::mem::take(&mut self.body).into());
        }
        Ok(pulled)
    }
}
