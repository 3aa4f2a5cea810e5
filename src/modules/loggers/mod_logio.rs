//! mod_logio: bytes in and out, and the time to the first byte.
//!
//! Answers to `modules/loggers/mod_logio.c`. The connection counts ([`Request::bytes_in`], [`Request::bytes_out`]); the
//! directives `%I %O %S %^FB` are in [`super::mod_log_config::items`]. Differs on a kept connection, where Apache counts
//! bytes twice that it peeked at.

use crate::body::Content;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::filter::FilterKind;
use crate::hooks::{Hooks, order};
use crate::module::{Conf, Module, Slot};
use crate::request::Request;

/// The module.
pub static MODULE: Module = Module { name: "logio_module", file: "mod_logio.c", directives: ROWS, hooks };

/// A directory's settings.
pub static DIR: Slot<LogioDir> = Slot::new();

/// `LogIOTrackTTFB`. A section that says nothing of it leaves what is outside as it is.
#[derive(Clone, Default)]
pub struct LogioDir {
    track_ttfb: bool,
}

impl Conf for LogioDir {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "LogIOTrackTTFB",
    args: Args::Flag(track_ttfb),
    allowed: Allowed::ALL.or(Allowed::CONF),
    help: "Set to 'ON' to enable tracking time to first byte",
}];

fn track_ttfb(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).track_ttfb = on;
    Ok(())
}

const FILTER: &str = "LOGIO_TTFB_OUT";

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.insert_filter(insert_filter, order::LAST);
    hooks.output_filter(FILTER, FilterKind::Resource, first_byte);
}

fn insert_filter(r: &mut Request) {
    if r.dir(&DIR).track_ttfb {
        r.add_output_filter(FILTER);
    }
}

/// The content begins to come: that is the time.
fn first_byte(r: &mut Request, content: Content) -> Content {
    r.ttfb.get_or_insert(r.age());
    content
}
