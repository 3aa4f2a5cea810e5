//! The case runner: replays every `t/<module>/*.case` against the server, on prefork and on event.
//!
//! A case is a text file with its own configuration, files, requests and the expected replies; what is expected was
//! recorded from a real Apache 2.4 (`scripts/record`). `t/README.md` explains the format. The rooms:
//!
//! - [`runner::options`] reads the command line (cargo's usual test arguments) and the environment
//! - [`runner::case`] parses case files and writes them back
//! - [`runner::site`] lays out a server root in a temporary folder; [`runner::ports`] finds free ports for it
//! - [`runner::server`] starts and stops the server; [`runner::client`] talks to it
//! - [`runner::render`] turns replies into text; [`runner::varies`] says what may vary in it
//! - [`runner::run`] plays one case; [`runner::replay`] plays raw requests split and in
//!   pipelines; [`runner::record`] writes what it saw into the case; [`runner::report`] prints

// Tests start servers and wait for them.
#![allow(clippy::disallowed_methods)]

mod runner;
mod stock;

use std::process::ExitCode;

fn main() -> ExitCode {
    runner::main()
}
