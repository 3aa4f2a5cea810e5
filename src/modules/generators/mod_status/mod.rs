//! mod_status: what the server does now (`server-status`).
//!
//! Answers to `modules/generators/mod_status.c`. What is counted is read from the scoreboard in [`counts`], the page and
//! `?auto` are written in [`report`]. Differs in that processor time is known of processes, not of threads, and that
//! what the reactor of a child of event serves is shown in the rows of its workers in turn.

mod counts;
mod report;

use crate::body;
use crate::config::directive::Directive;
use crate::config::server::Setup;
use crate::engine::scoreboard::{self, Scoreboard};
use crate::hooks::{Hooks, order};
use crate::http::method::Method;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::Module;
use crate::modules::core;
use crate::request::{Answer, Request};
use counts::Counts;
use report::Report;

/// The module. `ExtendedStatus` and `SeeRequestTail` are rows of the core.
pub static MODULE: Module = Module { name: "status_module", file: "mod_status.c", directives: ROWS, hooks };

static ROWS: &[Directive] = &[];

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.handler(handler, order::MIDDLE);
    hooks.post_config(post_config, order::MIDDLE);
}

/// `ExtendedStatus` is on by default where this module is there.
fn post_config(setup: &mut Setup) -> Result<(), String> {
    let conf = setup.servers[0].conf.get(&core::SERVER);
    scoreboard::keep_requests(conf.extended_status.unwrap_or(true), conf.see_request_tail.unwrap_or(false));
    Ok(())
}

/// `status_handler`.
fn handler(r: &mut Request) -> Answer {
    if !matches!(r.handler.as_deref(), Some("server-status" | "application/x-httpd-status")) {
        return Answer::Declined;
    }
    let Some(board) = Scoreboard::current() else {
        rerror!(r, Level::Error, "status", "AH01237", "Server status unavailable in inetd mode");
        return Answer::Status(status::INTERNAL_SERVER_ERROR);
    };
    r.allowed = Method::GET.bit();
    if r.method != Method::GET {
        return Answer::Declined;
    }
    r.set_content_type("text/html; charset=ISO-8859-1");
    let args = r.args.clone().unwrap_or_default();
    let args = String::from_utf8_lossy(&args);
    if let Some(at) = args.find("refresh") {
        let digits = args[at + "refresh".len()..].strip_prefix('=').unwrap_or_default();
        let end = digits.bytes().take_while(u8::is_ascii_digit).count();
        let seconds: u32 = digits[..end].parse().unwrap_or(0);
        r.headers_out.set("Refresh", if seconds < 1 { 10 } else { seconds }.to_string());
    }
    let short = args.contains("auto");
    if short {
        r.set_content_type("text/plain; charset=ISO-8859-1");
    }
    let report = Report {
        board,
        counts: Counts::of(board),
        short,
        no_table: args.contains("notable"),
        extended: scoreboard::is_extended(),
        now: scoreboard::micros(),
    };
    Answer::Body(body::generated(report.write(r), false))
}
