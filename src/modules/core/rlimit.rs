//! `RLimitCPU`, `RLimitMEM`, `RLimitNPROC`: what the programs that the server starts may use.
//!
//! Answers to `ap_unixd_set_rlimit` of `os/unix/unixd.c`. What starts a program sets the limits in the new process.

use nix::sys::resource::{Resource, getrlimit};

use super::DIR;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::log::{self, Level};
use crate::os::spawn::ResourceLimit;
use crate::request::Request;

pub(super) const ROWS: &[Directive] = &[
    row("RLimitCPU", Args::Take12(limit_cpu), "Soft/hard limits for max CPU usage in seconds"),
    row("RLimitMEM", Args::Take12(limit_mem), "Soft/hard limits for max memory usage per process"),
    row("RLimitNPROC", Args::Take12(limit_nproc), "soft/hard limits for max number of processes per uid"),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::ALL.or(Allowed::CONF), help }
}

/// A soft and a hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In force.
    pub soft: u64,
    /// The most that the process may raise it to.
    pub hard: u64,
}

/// What a program that the server starts for a request may use.
pub fn of(r: &Request) -> Vec<ResourceLimit> {
    let dir = r.dir(&DIR);
    let limits = [
        (Resource::RLIMIT_CPU, dir.limit_cpu),
        (Resource::RLIMIT_AS, dir.limit_mem),
        (Resource::RLIMIT_NPROC, dir.limit_nproc),
    ];
    limits.into_iter().filter_map(|(what, limit)| limit.map(|l| (what, l.soft, l.hard))).collect()
}

/// The digits at the start, as C's `atol`.
pub fn atol(text: &str) -> i64 {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let mut value: i64 = 0;
    for digit in digits.bytes().take_while(u8::is_ascii_digit) {
        value = value.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    }
    if negative { -value } else { value }
}

/// What the words mean on top of the limit in force; the second value is true when a limit above it was asked for that
/// only root may set.
fn resolve(in_force: Limit, soft: &str, hard: Option<&str>, root: bool) -> (Limit, bool) {
    let cur = if soft.eq_ignore_ascii_case("max") { in_force.hard } else { atol(soft) as u64 };
    let max = hard.map_or(0, atol) as u64;
    let mut limit = in_force;
    if root {
        if cur != 0 {
            limit.soft = cur;
        }
        if max != 0 {
            limit.hard = max;
        }
        return (limit, false);
    }
    limit.soft = cur;
    let too_high = max != 0 && max > in_force.hard;
    if max != 0 && !too_high {
        limit.hard = max;
    }
    (limit, too_high)
}

fn limit(cmd: &Cmd, resource: Resource, soft: &str, hard: Option<&str>) -> Option<Limit> {
    let in_force = match getrlimit(resource) {
        Ok((soft, hard)) => Limit { soft, hard },
        Err(err) => {
            let text = format!("{}: getrlimit failed", cmd.name);
            log::server_error(Level::Error, "core", "AH02172", Some(&err.into()), &text);
            return None;
        }
    };
    let (limit, too_high) = resolve(in_force, soft, hard, nix::unistd::geteuid().is_root());
    if too_high {
        let text = format!("Must be uid 0 to raise maximum {}", cmd.name);
        log::server_event(Level::Error, "core", "AH02174", &text);
    }
    Some(limit)
}

fn limit_cpu(cmd: &mut Cmd, soft: &str, hard: Option<&str>) -> Done {
    let limit = limit(cmd, Resource::RLIMIT_CPU, soft, hard);
    cmd.dir(&DIR).limit_cpu = limit;
    Ok(())
}

fn limit_mem(cmd: &mut Cmd, soft: &str, hard: Option<&str>) -> Done {
    let limit = limit(cmd, Resource::RLIMIT_AS, soft, hard);
    cmd.dir(&DIR).limit_mem = limit;
    Ok(())
}

fn limit_nproc(cmd: &mut Cmd, soft: &str, hard: Option<&str>) -> Done {
    let limit = limit(cmd, Resource::RLIMIT_NPROC, soft, hard);
    cmd.dir(&DIR).limit_nproc = limit;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_atol() {
        assert_eq!((atol("12x"), atol(" -3"), atol("x"), atol("+4")), (12, -3, 0, 4));
        assert_eq!(atol("99999999999999999999"), i64::MAX);
    }

    #[test]
    fn limits() {
        let now = Limit { soft: 10, hard: 100 };
        assert_eq!(resolve(now, "max", None, false), (Limit { soft: 100, hard: 100 }, false));
        assert_eq!(resolve(now, "5", Some("50"), false), (Limit { soft: 5, hard: 50 }, false));
        assert_eq!(resolve(now, "5", Some("500"), false), (Limit { soft: 5, hard: 100 }, true));
        assert_eq!(resolve(now, "0", Some("500"), true), (Limit { soft: 10, hard: 500 }, false));
    }
}
