//! How many processes and threads: the engine's directives with their defaults, held against each other.
//!
//! Answers to `prefork_check_config`, `event_check_config`.

use crate::config::server::Setup;
use crate::log::{self, Level};
use crate::modules::mpm::{self, MpmConf};

/// Which engine runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A process per connection.
    Prefork,
    /// Reactors and workers. `worker` runs on it and keeps its name.
    Event {
        /// The configuration loads `mpm_worker_module`.
        worker: bool,
    },
}

/// The numbers in force.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Which engine runs.
    pub kind: Kind,
    /// Children at the start.
    pub start_servers: u32,
    /// The most children.
    pub server_limit: u32,
    /// Threads in each child; 1 in prefork.
    pub threads_per_child: u32,
    /// The most threads in a child.
    pub thread_limit: u32,
    /// The most requests at once.
    pub max_request_workers: u32,
    /// Idle children (or threads) to keep at least.
    pub min_spare: u32,
    /// And at most.
    pub max_spare: u32,
}

/// The engine that the configuration loads; the text of the error when it loads none, or several.
pub fn kind(setup: &Setup) -> Result<Kind, String> {
    let program = &setup.options.program;
    match setup.mpms().as_slice() {
        [] => Err(format!("AH00534: {program}: Configuration error: No MPM loaded.")),
        [one] => Ok(if std::ptr::eq(*one, &mpm::PREFORK) {
            Kind::Prefork
        } else {
            Kind::Event { worker: std::ptr::eq(*one, &mpm::WORKER) }
        }),
        _ => Err(format!("AH00534: {program}: Configuration error: More than one MPM loaded.")),
    }
}

fn warn(ah: &str, text: String) {
    log::startup(Level::Warn, "core", ah, &text);
}

impl Limits {
    /// The numbers for this configuration. Those that don't fit are changed, with a warning.
    pub fn of(kind: Kind, conf: &MpmConf) -> Limits {
        match kind {
            Kind::Prefork => prefork(conf),
            Kind::Event { .. } => event(kind, conf),
        }
    }

    /// The most children that may live at once.
    pub fn max_children(&self) -> u32 {
        (self.max_request_workers / self.threads_per_child.max(1)).max(1)
    }
}

fn prefork(conf: &MpmConf) -> Limits {
    let server_limit = conf.server_limit.unwrap_or(256).clamp(1, 200_000);
    let mut max_request_workers = conf.max_request_workers.unwrap_or(server_limit);
    if max_request_workers > server_limit {
        warn(
            "AH00180",
            format!(
                "WARNING: MaxRequestWorkers of {max_request_workers} exceeds ServerLimit value of {server_limit} servers, decreasing MaxRequestWorkers to {server_limit}. To increase, please see the ServerLimit directive."
            ),
        );
        max_request_workers = server_limit;
    } else if max_request_workers < 1 {
        warn(
            "AH00182",
            format!("WARNING: MaxRequestWorkers of {max_request_workers} not allowed, increasing to 1"),
        );
        max_request_workers = 1;
    }
    let mut start_servers = conf.start_servers.unwrap_or(5);
    if start_servers < 1 {
        warn("AH00184", format!("WARNING: StartServers of {start_servers} not allowed, increasing to 1"));
        start_servers = 1;
    }
    let mut min_spare = conf.min_spare_servers.unwrap_or(5);
    if min_spare < 1 {
        warn(
            "AH00186",
            format!(
                "WARNING: MinSpareServers of {min_spare} not allowed, increasing to 1 to avoid almost certain server failure. Please read the documentation."
            ),
        );
        min_spare = 1;
    }
    let max_spare = conf.max_spare_servers.unwrap_or(10).max(min_spare + 1);
    Limits {
        kind: Kind::Prefork,
        start_servers: start_servers.min(max_request_workers),
        server_limit,
        threads_per_child: 1,
        thread_limit: 1,
        max_request_workers,
        min_spare,
        max_spare,
    }
}

fn event(kind: Kind, conf: &MpmConf) -> Limits {
    let thread_limit = conf.thread_limit.unwrap_or(64).clamp(1, 100_000);
    let server_limit = conf.server_limit.unwrap_or(16).clamp(1, 20_000);
    let mut threads_per_child = conf.threads_per_child.unwrap_or(25);
    if threads_per_child > thread_limit {
        warn(
            "AH00515",
            format!(
                "WARNING: ThreadsPerChild of {threads_per_child} exceeds ThreadLimit of {thread_limit}, decreasing to {thread_limit}. To increase, please see the ThreadLimit directive."
            ),
        );
        threads_per_child = thread_limit;
    } else if threads_per_child < 1 {
        warn(
            "AH00517",
            format!("WARNING: ThreadsPerChild of {threads_per_child} not allowed, increasing to 1"),
        );
        threads_per_child = 1;
    }
    let mut max = conf.max_request_workers.unwrap_or(server_limit * threads_per_child);
    if max < threads_per_child {
        warn(
            "AH00519",
            format!(
                "WARNING: MaxRequestWorkers of {max} is less than ThreadsPerChild of {threads_per_child}, increasing to {threads_per_child}. MaxRequestWorkers must be at least as large as the number of threads in a single server."
            ),
        );
        max = threads_per_child;
    }
    let mut children = max / threads_per_child;
    if max % threads_per_child != 0 {
        let rounded = children * threads_per_child;
        warn(
            "AH00513",
            format!(
                "WARNING: MaxRequestWorkers of {max} is not an integer multiple of ThreadsPerChild of {threads_per_child}, decreasing to nearest multiple {rounded}, for a maximum of {children} servers."
            ),
        );
        max = rounded;
    }
    if children > server_limit {
        warn(
            "AH00515",
            format!(
                "WARNING: MaxRequestWorkers of {max} would require {children} servers and would exceed ServerLimit of {server_limit}, decreasing to {}. To increase, please see the ServerLimit directive.",
                server_limit * threads_per_child
            ),
        );
        children = server_limit;
        max = children * threads_per_child;
    }
    let min_spare = conf.min_spare_threads.unwrap_or(75).max(1);
    let max_spare = conf.max_spare_threads.unwrap_or(250).max(min_spare + threads_per_child);
    Limits {
        kind,
        start_servers: conf.start_servers.unwrap_or(3).clamp(1, children),
        server_limit,
        threads_per_child,
        thread_limit,
        max_request_workers: max,
        min_spare,
        max_spare,
    }
}
