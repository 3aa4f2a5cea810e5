//! mod_asis: files that hold the head of their reply.
//!
//! Answers to `modules/generators/mod_asis.c`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::body::{Content, FileSlice};
use crate::hooks::{Hooks, order};
use crate::http::method::Method;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::Module;
use crate::request::script_header::{self, Line};
use crate::request::{Answer, Request, memo};

/// The module.
pub static MODULE: Module = Module { name: "asis_module", file: "mod_asis.c", directives: &[], hooks };

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.handler(handler, order::MIDDLE);
}

/// `asis_handler`.
fn handler(r: &mut Request) -> Answer {
    if !matches!(r.handler.as_deref(), Some("httpd/send-as-is" | "send-as-is")) || r.method != Method::GET {
        return Answer::Declined;
    }
    memo::refuse();
    let Some(info) = r.finfo else {
        rerror!(r, Level::Info, "asis", "AH01233", "File does not exist: {}", r.filename);
        return Answer::Status(status::NOT_FOUND);
    };
    let file = match File::open(std::ffi::OsStr::from_bytes(&r.filename)) {
        Ok(file) => Arc::new(file),
        Err(err) => {
            rerror!(
                r,
                Level::Error,
                "asis",
                "AH01234",
                err = err,
                "file permissions deny server access: {}",
                r.filename
            );
            return Answer::Status(status::FORBIDDEN);
        }
    };
    let mut offset = 0;
    let mut reader = BufReader::new(&*file);
    let mut line = || {
        let mut line = Vec::new();
        let most = script_header::LONGEST_LINE as u64;
        let count = reader.by_ref().take(most).read_until(b'\n', &mut line).unwrap_or(0);
        offset += count as u64;
        if count > 0 { Line::Text(line) } else { Line::End }
    };
    // What is wrong with it is logged; what could be read counts.
    let _ = script_header::scan(r, "asis", None, &mut line);
    if let Some(location) = r.headers_out.get("Location")
        && location.first() == Some(&b'/')
        && (r.status == status::OK || status::is_redirect(r.status))
    {
        let location = location.to_vec();
        r.status = status::OK;
        r.method_name = std::borrow::Cow::Borrowed(b"GET");
        return Answer::RedirectHandler(location.into());
    }
    if r.header_only {
        return Answer::Body(Content::Empty);
    }
    let len = info.size.saturating_sub(offset);
    Answer::Body(Content::File(FileSlice { file, offset, len }))
}
