//! `-v`, `-V`, `-l`: what this program is. No configuration is needed for it, but for the engine's name in `-V`.
//!
//! Answers to `show_compile_settings` of `server/main.c`. Tools take the version of the language that is spoken here
//! from `Server version`; the program's own name and version stand at the end of `-V`.

use std::fmt::Write;
use std::time::UNIX_EPOCH;

use super::Layout;
use crate::engine::limits::Kind;
use crate::http::date;
use crate::modules;
use crate::modules::core::tokens::VERSION;

/// `MODULE_MAGIC_NUMBER_MAJOR`, `MODULE_MAGIC_NUMBER_MINOR` of the version that we are compatible with.
const MAGIC: (u32, u32) = (20_120_211, 142);

/// What `-v` prints.
pub fn version(layout: &Layout) -> String {
    format!("Server version: Apache/{VERSION} ({})\nServer built:   {}\n", layout.platform, built())
}

/// The date of the program's file: nothing is compiled in that would make two builds differ.
pub fn built() -> String {
    let modified = std::env::current_exe().and_then(std::fs::metadata).and_then(|meta| meta.modified());
    let secs = modified.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_secs());
    let day = date::Civil::new(secs as i64, 0);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        day.year, day.month, day.day, day.hour, day.minute, day.second
    )
}

/// What `-l` prints.
pub fn static_modules() -> String {
    let mut out = "Compiled in modules:\n".to_owned();
    for module in modules::statics() {
        let _ = writeln!(out, "  {}", module.file);
    }
    out
}

/// What `-V` prints; `kind` is the engine that the configuration loads.
pub fn settings(layout: &Layout, kind: Option<Kind>) -> String {
    let (major, minor) = pcre2::version();
    let libraries = format!("PCRE {major}.{minor}");
    let mut out = version(layout);
    let _ = writeln!(out, "Server's Module Magic Number: {}:{}", MAGIC.0, MAGIC.1);
    let _ = writeln!(out, "Server loaded:  {libraries}\nCompiled using: {libraries}");
    let _ = writeln!(out, "Architecture:   {}-bit", usize::BITS);
    let _ = writeln!(out, "Server MPM:     {}", kind.map_or("", Kind::name));
    if let Some(kind) = kind {
        let threaded = if kind == Kind::Prefork { "no" } else { "yes (fixed thread count)" };
        let _ = writeln!(out, "  threaded:     {threaded}\n    forked:     yes (variable process count)");
    }
    out.push_str(
        "Server compiled with....
 -D APR_HAS_SENDFILE
 -D APR_HAS_MMAP
 -D APR_HAVE_IPV6 (IPv4-mapped addresses enabled)
 -D APR_USE_PROC_PTHREAD_SERIALIZE
 -D APR_USE_PTHREAD_SERIALIZE
 -D SINGLE_LISTEN_UNSERIALIZED_ACCEPT
 -D APR_HAS_OTHER_CHILD
 -D AP_HAVE_RELIABLE_PIPED_LOGS
 -D DYNAMIC_MODULE_LIMIT=256
",
    );
    let paths = [
        ("HTTPD_ROOT", layout.root),
        ("SUEXEC_BIN", layout.suexec),
        ("DEFAULT_PIDLOG", layout.pid_file),
        ("DEFAULT_SCOREBOARD", layout.scoreboard),
        ("DEFAULT_ERRORLOG", layout.error_log),
        ("AP_TYPES_CONFIG_FILE", layout.types_config_file),
        ("SERVER_CONFIG_FILE", layout.config_file),
    ];
    for (name, path) in paths {
        let _ = writeln!(out, " -D {name}=\"{path}\"");
    }
    let _ = writeln!(out, "Implementation: {} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    out
}
