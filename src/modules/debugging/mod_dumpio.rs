//! mod_dumpio: what comes and goes on a connection, in the error log.
//!
//! Answers to `modules/debugging/mod_dumpio.c`. Apache's filter sees what is asked of it and which kinds of buckets pass; here
//! there are neither, so that the connection's task tells of a request's head, body and reply what Apache's filters would have
//! done with them: lines are asked for one by one, a body by its length, replies go out with their head, then their content.

use bytes::Bytes;

use crate::body::{Chunk, FileSlice};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::config::server::Server;
use crate::hooks::Hooks;
use crate::log::{self, Level, shown};
use crate::module::{Conf, Module, Slot};
use crate::modules::core;
use crate::request::ConnInfo;

/// The module.
pub static MODULE: Module = Module { name: "dumpio_module", file: "mod_dumpio.c", directives: ROWS, hooks };

static SERVER: Slot<Dump> = Slot::new();

/// What is dumped of a server's connections. A virtual host has its own settings, or none.
#[derive(Clone, Copy, Default, Debug)]
pub struct Dump {
    /// `DumpIOInput`
    pub input: bool,
    /// `DumpIOOutput`
    pub output: bool,
}

impl Conf for Dump {
    fn merge(&self, child: &Self) -> Self {
        *child
    }
}

static ROWS: &[Directive] = &[
    row("DumpIOInput", dump_io_input, "Enable I/O Dump on Input Data"),
    row("DumpIOOutput", dump_io_output, "Enable I/O Dump on Output Data"),
];

const fn row(name: &'static str, set: fn(&mut Cmd, bool) -> Done, help: &'static str) -> Directive {
    Directive { name, args: Args::Flag(set), allowed: Allowed::RSRC_CONF, help }
}

fn dump_io_input(cmd: &mut Cmd, on: bool) -> Done {
    cmd.server_conf(&SERVER)?.input = on;
    Ok(())
}

fn dump_io_output(cmd: &mut Cmd, on: bool) -> Done {
    cmd.server_conf(&SERVER)?.output = on;
    Ok(())
}

fn hooks(_: &mut Hooks) {}

/// What is dumped of a connection to `server`: `dumpio_pre_conn`.
pub fn of(server: &Server) -> Dump {
    let asked = log::level::is_asked_for(Level::Trace7)
        && server.conf.get(&core::SERVER).log.enabled("dumpio", Level::Trace7);
    if asked { *server.conf.get(&SERVER) } else { Dump::default() }
}

/// `dumpio_MAX_STRING_LEN`: so much of the data is in one line.
const LONGEST: usize = 8192 / 4 - 80;
/// `APR_MMAP_LIMIT` and `APR_BUCKET_BUFF_SIZE`: what is read of a file at once, in the two ways.
const MAPPED: u64 = 4 * 1024 * 1024;
const READ: u64 = 8000;

/// How the filters ask for input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// For a line.
    GetLine,
    /// For so many bytes.
    ReadBytes(u64),
    /// Whether a byte is there.
    Speculative,
}

fn line(c: &ConnInfo, text: &str) {
    log::connection_event(c, Level::Trace7, "dumpio", "", None, format_args!("mod_dumpio: {text}"));
}

/// Input is asked for.
pub fn asked(c: &ConnInfo, mode: Mode) {
    line(
        c,
        &match mode {
            Mode::GetLine => "dumpio_in [getline-blocking] 0 readbytes".to_owned(),
            Mode::ReadBytes(count) => format!("dumpio_in [readbytes-blocking] {count} readbytes"),
            Mode::Speculative => "dumpio_in [speculative-nonblocking] 1 readbytes".to_owned(),
        },
    );
}

/// Data came.
pub fn came(c: &ConnInfo, bytes: &[u8]) {
    data(c, "dumpio_in", "HEAP", bytes);
}

/// Lines came, each of which was asked for. The first byte of one behind another request was looked at before.
pub fn lines(c: &ConnInfo, mut bytes: &[u8], mut looked_at: bool) {
    while !bytes.is_empty() {
        let end = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let (mut one, rest) = bytes.split_at(end);
        asked(c, Mode::GetLine);
        if looked_at && one.len() > 1 {
            came(c, &one[..1]);
            one = &one[1..];
        }
        looked_at = false;
        came(c, one);
        bytes = rest;
    }
}

/// A line was asked for, and the client's end came.
pub fn ended(c: &ConnInfo) {
    asked(c, Mode::GetLine);
    line(c, "dumpio_in - 70014");
}

/// Something goes out: data and marks follow.
pub fn goes(c: &ConnInfo) {
    line(c, "dumpio_out");
}

/// Data goes out.
pub fn sent(c: &ConnInfo, kind: &str, bytes: &[u8]) {
    data(c, "dumpio_out", kind, bytes);
}

/// A mark goes out: `EOS`, `EOR`, `FLUSH`, `EOC`.
pub fn mark(c: &ConnInfo, kind: &str) {
    line(c, &format!(" dumpio_out (metadata-{kind}): 0 bytes"));
}

/// A piece of a reply's content goes out.
pub fn content(c: &ConnInfo, chunk: &Chunk, maps: bool) {
    match chunk {
        Chunk::Bytes(bytes) => sent(c, "HEAP", bytes),
        Chunk::File(slice) => file(c, slice.clone(), maps),
    }
}

/// A file turns into memory as it is looked at.
fn file(c: &ConnInfo, mut slice: FileSlice, maps: bool) {
    let (kind, most) = if maps { ("MMAP", MAPPED) } else { ("HEAP", READ) };
    while slice.len > 0 {
        line(c, &format!(" dumpio_out (data-FILE): {} bytes", slice.len));
        let Ok(bytes): Result<Bytes, _> = slice.read(most.min(slice.len) as usize) else { return };
        text(c, "dumpio_out", kind, &bytes);
    }
}

fn data(c: &ConnInfo, filter: &str, kind: &str, bytes: &[u8]) {
    line(c, &format!(" {filter} (data-{kind}): {} bytes", bytes.len()));
    text(c, filter, kind, bytes);
}

fn text(c: &ConnInfo, filter: &str, kind: &str, bytes: &[u8]) {
    for piece in bytes.chunks(LONGEST) {
        // Apache logs a C string.
        let piece = piece.split(|&byte| byte == 0).next().unwrap_or_default();
        line(c, &format!(" {filter} (data-{kind}): {}", shown(piece)));
    }
}
