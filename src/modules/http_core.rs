//! http_core: persistent connections.
//!
//! Answers to `modules/http/http_core.c`.

use std::time::Duration;

use crate::body::Content;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};
use crate::hooks::{Hooks, order};
use crate::http::method::Method;
use crate::module::{Conf, Module, Slot};
use crate::request::{Answer, Request, Step};

/// The module.
pub static MODULE: Module = Module { name: "http_module", file: "http_core.c", directives: ROWS, hooks };

/// A server's settings.
pub static SERVER: Slot<HttpServer> = Slot::new();

/// `KeepAlive` and what belongs to it.
#[derive(Clone, Default)]
pub struct HttpServer {
    /// `KeepAlive`.
    pub keep_alive: Option<bool>,
    /// `KeepAliveTimeout`.
    pub keep_alive_timeout: Option<Duration>,
    /// `MaxKeepAliveRequests`.
    pub keep_alive_max: Option<u32>,
}

impl Conf for HttpServer {
    fn merge(&self, child: &Self) -> Self {
        HttpServer {
            keep_alive: child.keep_alive.or(self.keep_alive),
            keep_alive_timeout: child.keep_alive_timeout.or(self.keep_alive_timeout),
            keep_alive_max: child.keep_alive_max.or(self.keep_alive_max),
        }
    }
}

static ROWS: &[Directive] = &[
    Directive {
        name: "KeepAliveTimeout",
        args: Args::Take1(keep_alive_timeout),
        allowed: Allowed::RSRC_CONF,
        help: "Keep-Alive timeout duration (sec)",
    },
    Directive {
        name: "MaxKeepAliveRequests",
        args: Args::Take1(max_keep_alive_requests),
        allowed: Allowed::RSRC_CONF,
        help: "Maximum number of Keep-Alive requests per connection, or 0 for infinite",
    },
    Directive {
        name: "KeepAlive",
        args: Args::Flag(keep_alive),
        allowed: Allowed::RSRC_CONF,
        help: "Whether persistent connections should be On or Off",
    },
];

fn keep_alive_timeout(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let timeout =
        super::mpm::parse_timeout(arg, Duration::from_secs(1)).ok_or("KeepAliveTimeout has wrong format")?;
    cmd.server_conf(&SERVER)?.keep_alive_timeout = Some(timeout);
    Ok(())
}

fn max_keep_alive_requests(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let digits: String = arg.chars().take_while(char::is_ascii_digit).collect();
    cmd.server_conf(&SERVER)?.keep_alive_max = Some(digits.parse().unwrap_or(0));
    Ok(())
}

fn keep_alive(cmd: &mut Cmd, on: bool) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    cmd.server_conf(&SERVER)?.keep_alive = Some(on);
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.map_to_storage(send_options, order::MIDDLE);
    hooks.map_to_storage(send_trace, order::MIDDLE);
}

/// `OPTIONS *` asks about the server: an empty reply, without `Allow`.
fn send_options(r: &mut Request) -> Step {
    if r.method == Method::OPTIONS && r.uri == "*" { Step::Done } else { Step::Declined }
}

/// Answers OPTIONS and TRACE, which a proxy was asked for, about this server itself.
pub fn answer_for_itself(r: &mut Request) -> Answer {
    if r.method == Method::TRACE {
        return super::core::default_handler::send_trace(r);
    }
    let allow = r.allow_header();
    r.headers_out.set("Allow", allow);
    Answer::Body(Content::Empty)
}

/// TRACE has no file, and nobody is asked for access.
fn send_trace(r: &mut Request) -> Step {
    if r.method != Method::TRACE {
        return Step::Declined;
    }
    r.responder = Some(super::core::default_handler::send_trace);
    Step::Done
}
