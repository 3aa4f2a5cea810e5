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

impl Kind {
    /// As `-V` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Prefork => "prefork",
            Kind::Event { worker: false } => "event",
            Kind::Event { worker: true } => "worker",
        }
    }
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

/// What the checks of one engine are called: the numbers of its messages, its name in the log.
struct Checks {
    log_name: &'static str,
    /// At the start; on a restart it is the next number.
    server_limit: u32,
    thread_limit: u32,
    threads: u32,
    too_few: u32,
    multiple: u32,
    too_many: u32,
    start: u32,
    spare: u32,
    most_threads: i64,
}

const EVENT: Checks = Checks {
    log_name: "mpm_event",
    server_limit: 497,
    thread_limit: 502,
    threads: 507,
    too_few: 511,
    multiple: 513,
    too_many: 515,
    start: 517,
    spare: 519,
    most_threads: 100_000,
};

const WORKER: Checks = Checks {
    log_name: "mpm_worker",
    server_limit: 300,
    thread_limit: 305,
    threads: 310,
    too_few: 314,
    multiple: 316,
    too_many: 318,
    start: 320,
    spare: 322,
    most_threads: 20_000,
};

/// Where a warning goes: to standard error at the first start (in full), to the log on a restart (in short).
#[derive(Clone, Copy)]
struct Warn {
    log_name: &'static str,
    startup: bool,
}

impl Warn {
    /// `long` has the number `ah` and goes to the console, `short` the next one and goes to the log.
    fn say(self, ah: u32, long: &str, short: &str) {
        if self.startup {
            let (first, second) = (format!("AH{ah:05}"), format!("AH{:05}", ah + 1));
            let text = format!("WARNING: {long}");
            log::startup_first(Level::Warn, self.log_name, &first, &text, Some((&second, short)));
        } else {
            log::server_event(Level::Warn, self.log_name, &format!("AH{:05}", ah + 1), short);
        }
    }
}

impl Limits {
    /// The numbers for this configuration. Those that don't fit are changed, with a warning; so are those that can't be
    /// changed while the server runs, whose first values `retained` has.
    pub fn of(kind: Kind, conf: &MpmConf, startup: bool, retained: Option<&Limits>) -> Limits {
        let retained = retained.filter(|first| first.kind == kind);
        match kind {
            Kind::Prefork => prefork(conf, Warn { log_name: "mpm_prefork", startup }, retained),
            Kind::Event { worker } => {
                event(kind, conf, if worker { &WORKER } else { &EVENT }, startup, retained)
            }
        }
    }

    /// At least one child for each of so many buckets of listening sockets, and a margin of one (`prefork_run`,
    /// `event_run`).
    pub fn for_buckets(mut self, buckets: u32) -> Limits {
        let threads = self.threads_per_child;
        if self.max_children() < buckets {
            self.max_request_workers = buckets * threads;
        }
        self.start_servers = self.start_servers.max(buckets);
        self.min_spare = self.min_spare.max(match self.kind {
            Kind::Prefork => buckets,
            Kind::Event { .. } => threads * (buckets - 1) + buckets,
        });
        self.max_spare = self.max_spare.max(match self.kind {
            Kind::Prefork => self.min_spare + buckets,
            Kind::Event { .. } => self.min_spare + (threads + 1) * buckets,
        });
        self
    }

    /// The most children that may live at once.
    pub fn max_children(&self) -> u32 {
        (self.max_request_workers / self.threads_per_child.max(1)).max(1)
    }
}

/// A number as the directive gave it, or the default.
fn given(value: Option<i64>, default: i64) -> i64 {
    value.unwrap_or(default)
}

/// `ServerLimit` and `ThreadLimit`: from 1 to what Apache is compiled with.
fn clamp_limit(warn: Warn, ah: u32, name: &str, what: &str, value: i64, most: i64) -> i64 {
    if value > most {
        warn.say(
            ah,
            &format!("{name} of {value} exceeds compile-time limit of {most} {what}, decreasing to {most}."),
            &format!("{name} of {value} exceeds compile-time limit of {most}, decreasing to match"),
        );
        most
    } else {
        at_least_one(warn, ah + 2, name, value)
    }
}

fn at_least_one(warn: Warn, ah: u32, name: &str, value: i64) -> i64 {
    if value < 1 {
        let short = format!("{name} of {value} not allowed, increasing to 1");
        warn.say(ah, &format!("{short}."), &short);
        return 1;
    }
    value
}

fn at_least_one_spare(warn: Warn, ah: u32, name: &str, value: i64) -> i64 {
    if value < 1 {
        let short = format!("{name} of {value} not allowed, increasing to 1");
        warn.say(
            ah,
            &format!("{short} to avoid almost certain server failure. Please read the documentation."),
            &short,
        );
        return 1;
    }
    value
}

/// A limit that the scoreboard was made for: it stays what it was at the start.
fn keep_first(warn: Warn, ah: u32, name: &str, value: i64, first: Option<u32>) -> i64 {
    let Some(first) = first.map(i64::from).filter(|&first| first != value) else { return value };
    let text =
        format!("changing {name} to {value} from original value of {first} not allowed during restart");
    log::server_event(Level::Warn, warn.log_name, &format!("AH{ah:05}"), &text);
    first
}

fn narrow(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

fn prefork(conf: &MpmConf, warn: Warn, retained: Option<&Limits>) -> Limits {
    const MOST: i64 = 200_000;
    let server_limit = clamp_limit(warn, 175, "ServerLimit", "servers", given(conf.server_limit, 256), MOST);
    let server_limit =
        keep_first(warn, 179, "ServerLimit", server_limit, retained.map(|first| first.server_limit));
    let mut max = given(conf.max_request_workers, 256);
    if max > server_limit {
        warn.say(
            180,
            &format!(
                "MaxRequestWorkers of {max} exceeds ServerLimit value of {server_limit} servers, decreasing MaxRequestWorkers to {server_limit}. To increase, please see the ServerLimit directive."
            ),
            &format!("MaxRequestWorkers of {max} exceeds ServerLimit value of {server_limit}, decreasing to match"),
        );
        max = server_limit;
    } else {
        max = at_least_one(warn, 182, "MaxRequestWorkers", max);
    }
    let start_servers = at_least_one(warn, 184, "StartServers", given(conf.start_servers, 5));
    let min_spare = at_least_one_spare(warn, 186, "MinSpareServers", given(conf.min_spare_servers, 5));
    let max_spare = given(conf.max_spare_servers, 10).max(min_spare + 1);
    Limits {
        kind: Kind::Prefork,
        start_servers: narrow(start_servers.min(max)),
        server_limit: narrow(server_limit),
        threads_per_child: 1,
        thread_limit: 1,
        max_request_workers: narrow(max),
        min_spare: narrow(min_spare),
        max_spare: narrow(max_spare),
    }
}

fn event(kind: Kind, conf: &MpmConf, ah: &Checks, startup: bool, retained: Option<&Limits>) -> Limits {
    const MOST_SERVERS: i64 = 20_000;
    let warn = Warn { log_name: ah.log_name, startup };
    let server_limit = clamp_limit(
        warn,
        ah.server_limit,
        "ServerLimit",
        "servers",
        given(conf.server_limit, 16),
        MOST_SERVERS,
    );
    let server_limit = keep_first(
        warn,
        ah.server_limit + 4,
        "ServerLimit",
        server_limit,
        retained.map(|first| first.server_limit),
    );
    let thread_limit = clamp_limit(
        warn,
        ah.thread_limit,
        "ThreadLimit",
        "threads",
        given(conf.thread_limit, 64),
        ah.most_threads,
    );
    let thread_limit = keep_first(
        warn,
        ah.thread_limit + 4,
        "ThreadLimit",
        thread_limit,
        retained.map(|first| first.thread_limit),
    );
    let mut threads = given(conf.threads_per_child, 25);
    if threads > thread_limit {
        warn.say(
            ah.threads,
            &format!(
                "ThreadsPerChild of {threads} exceeds ThreadLimit of {thread_limit} threads, decreasing to {thread_limit}. To increase, please see the ThreadLimit directive."
            ),
            &format!("ThreadsPerChild of {threads} exceeds ThreadLimit of {thread_limit}, decreasing to match"),
        );
        threads = thread_limit;
    } else {
        threads = at_least_one(warn, ah.threads + 2, "ThreadsPerChild", threads);
    }
    // Apache's default is 16 × 25, whatever ServerLimit and ThreadsPerChild are.
    let mut max = given(conf.max_request_workers, 400);
    if max < threads {
        warn.say(
            ah.too_few,
            &format!(
                "MaxRequestWorkers of {max} is less than ThreadsPerChild of {threads}, increasing to {threads}. MaxRequestWorkers must be at least as large as the number of threads in a single server."
            ),
            &format!("MaxRequestWorkers of {max} is less than ThreadsPerChild of {threads}, increasing to match"),
        );
        max = threads;
    }
    let mut children = max / threads;
    if max % threads != 0 {
        let nearest = children * threads;
        warn.say(
            ah.multiple,
            &format!(
                "MaxRequestWorkers of {max} is not an integer multiple of ThreadsPerChild of {threads}, decreasing to nearest multiple {nearest}, for a maximum of {children} servers."
            ),
            &format!(
                "MaxRequestWorkers of {max} is not an integer multiple of ThreadsPerChild of {threads}, decreasing to nearest multiple {nearest}"
            ),
        );
        max = nearest;
    }
    if children > server_limit {
        let most = server_limit * threads;
        warn.say(
            ah.too_many,
            &format!(
                "MaxRequestWorkers of {max} would require {children} servers and would exceed ServerLimit of {server_limit}, decreasing to {most}. To increase, please see the ServerLimit directive."
            ),
            &format!(
                "MaxRequestWorkers of {max} would require {children} servers and exceed ServerLimit of {server_limit}, decreasing to {most}"
            ),
        );
        children = server_limit;
        max = most;
    }
    let start_servers = at_least_one(warn, ah.start, "StartServers", given(conf.start_servers, 3));
    let min_spare = at_least_one_spare(warn, ah.spare, "MinSpareThreads", given(conf.min_spare_threads, 75));
    let max_spare = given(conf.max_spare_threads, 250).max(min_spare + threads);
    Limits {
        kind,
        start_servers: narrow(start_servers.min(children)),
        server_limit: narrow(server_limit),
        threads_per_child: narrow(threads),
        thread_limit: narrow(thread_limit),
        max_request_workers: narrow(max),
        min_spare: narrow(min_spare),
        max_spare: narrow(max_spare),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_do_not_fit_are_changed() {
        let conf = MpmConf { server_limit: Some(0), max_request_workers: Some(500), ..MpmConf::default() };
        let limits = Limits::of(Kind::Prefork, &conf, true, None);
        assert_eq!((limits.server_limit, limits.max_request_workers, limits.start_servers), (1, 1, 1));
        let conf = MpmConf { max_request_workers: Some(5001), ..MpmConf::default() };
        let limits = Limits::of(Kind::Event { worker: false }, &conf, true, None);
        assert_eq!((limits.max_request_workers, limits.max_children()), (400, 16));
    }

    #[test]
    fn what_the_scoreboard_was_made_for_stays() {
        let kind = Kind::Event { worker: false };
        let first = Limits::of(kind, &MpmConf::default(), true, None);
        let conf = MpmConf { server_limit: Some(40), thread_limit: Some(10), ..MpmConf::default() };
        let again = Limits::of(kind, &conf, false, Some(&first));
        assert_eq!((again.server_limit, again.thread_limit, again.threads_per_child), (16, 64, 25));
        let other = Limits::of(Kind::Prefork, &conf, false, Some(&first));
        assert_eq!(other.server_limit, 40);
    }

    #[test]
    fn every_bucket_has_a_child() {
        let limits =
            Limits::of(Kind::Event { worker: false }, &MpmConf::default(), true, None).for_buckets(5);
        assert_eq!((limits.start_servers, limits.min_spare, limits.max_spare), (5, 105, 250));
    }
}
