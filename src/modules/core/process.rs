//! Rows about the server's processes: their pid file, how long they live, what they leave when they crash.
//!
//! Answers to `server/mpm_common.c`, `ap_set_scoreboard` of `server/scoreboard.c`, `set_regex_default_options` of
//! `server/core.c`.

use std::time::Duration;

use httpd_conf::next_word;

use super::mutex;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};
use crate::log::{self, Level};
use crate::regex::{self, Flags};
use crate::text::atol;

pub(super) const ROWS: &[Directive] = &[
    row("Mutex", Args::Raw(mutex::set), "mutex (or \"default\") and mechanism"),
    row(
        "RegexDefaultOptions",
        Args::Raw(regex_default_options),
        "default options for regexes (prefixed by '+' to add, '-' to del)",
    ),
    row(
        "ScoreBoardFile",
        Args::Take1(scoreboard_file),
        "A file for Apache to maintain runtime process management information",
    ),
    row("PidFile", Args::Take1(pid_file), "A file for logging the server process ID"),
    row(
        "MaxRequestsPerChild",
        Args::Take1(max_requests_per_child),
        "Maximum number of connections a particular child serves before dying. (DEPRECATED, use MaxConnectionsPerChild)",
    ),
    row(
        "MaxConnectionsPerChild",
        Args::Take1(max_connections_per_child),
        "Maximum number of connections a particular child serves before dying.",
    ),
    row(
        "CoreDumpDirectory",
        Args::Take1(core_dump_directory),
        "The location of the directory Apache changes to before dumping core",
    ),
    row(
        "MaxMemFree",
        Args::Take1(max_mem_free),
        "Maximum number of 1k blocks a particular child's allocator may hold.",
    ),
    row(
        "ThreadStackSize",
        Args::Take1(thread_stack_size),
        "Size in bytes of stack used by threads handling client connections",
    ),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::RSRC_CONF, help }
}

fn regex_default_options(cmd: &mut Cmd, args: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let mut flags = regex::default_flags();
    let mut rest = args;
    while !rest.is_empty() {
        let word = next_word(&mut rest);
        if word.eq_ignore_ascii_case("none") {
            flags = Flags::NONE;
            continue;
        }
        let (sign, name) = match word.as_bytes().first() {
            Some(sign @ (b'+' | b'-')) => (Some(*sign), &word[1..]),
            _ => (None, word.as_str()),
        };
        // EXTENDED means nothing any more, and so is not known (as in 2.4.71).
        let known = Flags::by_name(name).filter(|flag| *flag != Flags::EXTENDED);
        let flag = known.ok_or_else(|| format!("{}: option '{name}' unknown", cmd.name))?;
        flags = match sign {
            Some(b'+') => flags | flag,
            Some(_) => flags.without(flag),
            None => flag,
        };
    }
    regex::set_default_flags(flags);
    Ok(())
}

/// Shown by `-S`. The scoreboard itself is anonymous shared memory, so that a crash leaves nothing behind; programs that
/// read Apache's file would need its layout, which is private to Apache.
fn scoreboard_file(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    cmd.setup()?.scoreboard_file = Some(arg.to_owned());
    Ok(())
}

fn pid_file(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    cmd.setup()?.pid_file = Some(arg.to_owned());
    Ok(())
}

fn max_requests_per_child(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let text = "MaxRequestsPerChild is deprecated, use MaxConnectionsPerChild instead.";
    log::serverless_event(Level::Info, "core", "AH00545", text);
    max_connections_per_child(cmd, arg)
}

fn max_connections_per_child(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    cmd.setup()?.mpm.max_connections_per_child = u64::try_from(atol(arg)).unwrap_or(0);
    Ok(())
}

fn core_dump_directory(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let path = cmd.server_root_relative(arg);
    match std::fs::metadata(&path) {
        Err(_) => Err(format!("CoreDumpDirectory {path} does not exist").into()),
        Ok(meta) if !meta.is_dir() => Err(format!("CoreDumpDirectory {path} is not a directory").into()),
        Ok(_) => {
            cmd.setup()?.mpm.core_dump_directory = Some(path);
            Ok(())
        }
    }
}

/// A number of C's `long`, not negative.
fn size(cmd: &Cmd, arg: &str) -> Result<u64, String> {
    let digits = arg.trim_start().trim_start_matches('+');
    let end = digits.bytes().take_while(u8::is_ascii_digit).count();
    let value = if end == 0 { Some(atol(arg)) } else { digits[..end].parse::<i64>().ok() };
    value
        .and_then(|value| u64::try_from(value).ok())
        .ok_or_else(|| format!("Invalid {} value: {arg}", cmd.name))
}

fn max_mem_free(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let kbytes = size(cmd, arg)?;
    // As much as the system's `int` holds; 0: no limit.
    cmd.setup()?.mpm.max_mem_free =
        i32::try_from(kbytes.saturating_mul(1024)).ok().filter(|&bytes| bytes > 0);
    Ok(())
}

fn thread_stack_size(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let value = size(cmd, arg)?;
    cmd.setup()?.mpm.thread_stack_size = usize::try_from(value).ok().filter(|&bytes| bytes > 0);
    Ok(())
}

/// The setter of `GracefulShutdownTimeout`, whose row the engines have.
pub fn graceful_shutdown_timeout(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let seconds = u64::try_from(atol(arg)).unwrap_or(0);
    cmd.setup()?.mpm.graceful_shutdown_timeout = Duration::from_secs(seconds);
    Ok(())
}
