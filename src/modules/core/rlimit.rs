//! `RLimitCPU`, `RLimitMEM`, `RLimitNPROC`: what the programs that the server starts may use.
//!
//! Answers to `ap_unixd_set_rlimit` of `os/unix/unixd.c`. What starts a program sets the limits in the new process.

use nix::sys::resource::{Resource, getrlimit};

use super::DIR;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::log::{self, Level};
use crate::os::spawn::ResourceLimit;
use crate::request::Request;
use crate::text::atol;

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
    fn limits() {
        let now = Limit { soft: 10, hard: 100 };
        assert_eq!(resolve(now, "max", None, false), (Limit { soft: 100, hard: 100 }, false));
        assert_eq!(resolve(now, "5", Some("50"), false), (Limit { soft: 5, hard: 50 }, false));
        assert_eq!(resolve(now, "5", Some("500"), false), (Limit { soft: 5, hard: 100 }, true));
        assert_eq!(resolve(now, "0", Some("500"), true), (Limit { soft: 10, hard: 500 }, false));
    }
}
