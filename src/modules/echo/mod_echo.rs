//! mod_echo: sends every line back.
//!
//! Answers to `modules/echo/mod_echo.c`.

use std::io;

use bstr::ByteSlice;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::conn::protocol::{Next, Protocol};
use crate::conn::task;
use crate::conn::wire::Wire;
use crate::hooks::{Hooks, order};
use crate::log::{self, Level};
use crate::module::{Conf, Module, Slot};
use crate::request::ConnInfo;

/// The module.
pub static MODULE: Module = Module { name: "echo_module", file: "mod_echo.c", directives: ROWS, hooks };

static SERVER: Slot<Echo> = Slot::new();

/// `ProtocolEcho`. A virtual host has its own, or none.
#[derive(Clone, Default)]
struct Echo {
    enabled: bool,
}

impl Conf for Echo {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "ProtocolEcho",
    args: Args::Flag(protocol_echo),
    allowed: Allowed::RSRC_CONF,
    help: "Run an echo server on this host",
}];

fn protocol_echo(cmd: &mut Cmd, on: bool) -> Done {
    cmd.server_conf(&SERVER)?.enabled = on;
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.process_connection(process_connection, order::MIDDLE);
}

/// `process_echo_connection`.
fn process_connection(connection: &ConnInfo) -> Option<Box<dyn Protocol>> {
    let on = connection.base_server.conf.get(&SERVER).enabled;
    on.then(|| Box::new(Lines { searched: 0 }) as Box<dyn Protocol>)
}

/// A line that is longer goes back in pieces: `HUGE_STRING_LEN`.
const LONGEST: usize = 8192;

struct Lines {
    /// So much of what came holds no line feed.
    searched: usize,
}

impl Protocol for Lines {
    fn speak(&mut self, connection: &ConnInfo, wire: &mut Wire) -> Next {
        let mut spoke = false;
        loop {
            let came = wire.buffered();
            let line = came[self.searched..].find_byte(b'\n').map(|at| self.searched + at + 1);
            let line = match line {
                Some(end) => end,
                None if came.len() > LONGEST || wire.eof => came.len(),
                None => {
                    self.searched = came.len();
                    break;
                }
            };
            if line == 0 {
                break;
            }
            let line = came[..line].to_vec();
            task::show_other(connection, &[b"ECHO ", line.lines().next().unwrap_or_default()].concat());
            wire.push_bytes(&line);
            wire.take(line.len());
            self.searched = 0;
            spoke = true;
        }
        let base = &connection.base_server.resolved;
        if wire.eof && !spoke {
            let text = format!("ProtocolEcho: Error - read empty brigade from {}!", connection.client_ip);
            log::event_of(&connection.base_server, Level::Info, "echo", "AH01612", None, &text);
        }
        match (wire.eof, spoke) {
            (true, _) => Next::End,
            (false, true) => Next::Read(base.keep_alive_timeout),
            (false, false) => Next::Same,
        }
    }

    fn failed(&mut self, connection: &ConnInfo, reading: bool, error: &io::Error) {
        let (ah, what) = if reading { ("AH01611", "reading from") } else { ("AH01613", "writing to") };
        let text = format!("ProtocolEcho: Failure {what} {}", connection.client_ip);
        log::event_of(&connection.base_server, Level::Info, "echo", ah, Some(error), &text);
    }
}
