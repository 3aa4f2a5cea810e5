//! The engines as modules: `mpm_event_module`, `mpm_prefork_module`, `mpm_worker_module` (which runs on event).
//!
//! Answers to `server/mpm_common.c`, `server/listen.c` and the tables of `server/mpm/*`. What the directives set is in
//! [`MpmConf`]; what is done with it is in [`crate::engine`].

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done, Forbidden};
use crate::config::server::ListenSpec;
use crate::hooks::Hooks;
use crate::log::{self, Level};
use crate::module::Module;
use crate::text::atol;

/// Many connections a process.
pub static EVENT: Module =
    Module { name: "mpm_event_module", file: "event.c", directives: EVENT_ROWS, hooks: none };
/// One connection a process.
pub static PREFORK: Module =
    Module { name: "mpm_prefork_module", file: "prefork.c", directives: PREFORK_ROWS, hooks: none };
/// Apache's threaded engine before event.
pub static WORKER: Module =
    Module { name: "mpm_worker_module", file: "worker.c", directives: WORKER_ROWS, hooks: none };

fn none(_: &mut Hooks) {}

/// True for the three above.
pub fn is_mpm(module: &Module) -> bool {
    matches!(module.file, "event.c" | "prefork.c" | "worker.c")
}

/// What the engine's directives set; the unset ones have other defaults in each engine.
#[derive(Clone, Debug, Default)]
pub struct MpmConf {
    /// `StartServers`.
    pub start_servers: Option<i64>,
    /// `MinSpareServers`.
    pub min_spare_servers: Option<i64>,
    /// `MaxSpareServers`.
    pub max_spare_servers: Option<i64>,
    /// `MinSpareThreads`.
    pub min_spare_threads: Option<i64>,
    /// `MaxSpareThreads`.
    pub max_spare_threads: Option<i64>,
    /// `ThreadsPerChild`.
    pub threads_per_child: Option<i64>,
    /// `ThreadLimit`.
    pub thread_limit: Option<i64>,
    /// `ServerLimit`.
    pub server_limit: Option<i64>,
    /// `MaxRequestWorkers`.
    pub max_request_workers: Option<i64>,
    /// `MaxConnectionsPerChild`; 0: no limit.
    pub max_connections_per_child: u64,
    /// `AsyncRequestWorkerFactor`.
    pub async_factor: Option<f64>,
    /// `MaxMemFree`, in bytes: how much free memory the allocator of a child keeps.
    pub max_mem_free: Option<i32>,
    /// `ThreadStackSize`.
    pub thread_stack_size: Option<usize>,
    /// `ListenCoresBucketsRatio`.
    pub cores_buckets_ratio: Option<u32>,
    /// `ListenBacklog`.
    pub listen_backlog: Option<i32>,
    /// `GracefulShutdownTimeout`.
    pub graceful_shutdown_timeout: Duration,
    /// `CoreDumpDirectory`.
    pub core_dump_directory: Option<String>,
    /// `AcceptFilter` by protocol, both in lower case.
    pub accept_filters: BTreeMap<String, String>,
    /// `ListenTCPDeferAccept`, in seconds.
    pub defer_accept: Option<i32>,
    /// `ReceiveBufferSize`.
    pub receive_buffer_size: Option<usize>,
    /// `SendBufferSize`.
    pub send_buffer_size: Option<usize>,
}

const RSRC: Allowed = Allowed::RSRC_CONF;

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: RSRC, help }
}

const LISTEN: Directive = row(
    "Listen",
    Args::Argv(listen),
    "A port number or a numeric IP address and a port number, and an optional protocol",
);
const GRACEFUL_TIMEOUT: Directive = row(
    "GracefulShutdownTimeout",
    Args::Take1(super::core::process::graceful_shutdown_timeout),
    "Maximum time in seconds to wait for child processes to complete transactions during shutdown",
);
const LISTEN_CORES_BUCKETS_RATIO: Directive = row(
    "ListenCoresBucketsRatio",
    Args::Take1(listen_cores_buckets_ratio),
    "Ratio between the number of CPU cores (online) and the number of listeners buckets",
);
const LISTEN_TCP_DEFER_ACCEPT: Directive = row(
    "ListenTCPDeferAccept",
    Args::Take1(listen_tcp_defer_accept),
    "Value set for the socket option TCP_DEFER_ACCEPT if it is set",
);
const LISTEN_BACKLOG: Directive = row(
    "ListenBacklog",
    Args::Take1(listen_backlog),
    "Maximum length of the queue of pending connections, as used by listen(2)",
);
const RECEIVE_BUFFER: Directive =
    row("ReceiveBufferSize", Args::Take1(receive_buffer_size), "Receive buffer size in bytes");
const SEND_BUFFER: Directive =
    row("SendBufferSize", Args::Take1(send_buffer_size), "Send buffer size in bytes");
const START_SERVERS: Directive =
    row("StartServers", Args::Take1(start_servers), "Number of child processes launched at server startup");
const SERVER_LIMIT: Directive =
    row("ServerLimit", Args::Take1(server_limit), "Maximum number of child processes for this run of Apache");
const MAX_WORKERS: Directive = row(
    "MaxRequestWorkers",
    Args::Take1(max_request_workers),
    "Maximum number of threads alive at the same time",
);
const MAX_CLIENTS: Directive =
    row("MaxClients", Args::Take1(max_request_workers), "Deprecated name of MaxRequestWorkers");
const MIN_SPARE_THREADS: Directive = row(
    "MinSpareThreads",
    Args::Take1(min_spare_threads),
    "Minimum number of idle threads, to handle request spikes",
);
const MAX_SPARE_THREADS: Directive =
    row("MaxSpareThreads", Args::Take1(max_spare_threads), "Maximum number of idle threads");
const THREADS_PER_CHILD: Directive =
    row("ThreadsPerChild", Args::Take1(threads_per_child), "Number of threads each child creates");
const THREAD_LIMIT: Directive = row(
    "ThreadLimit",
    Args::Take1(thread_limit),
    "Maximum number of worker threads per child process for this run of Apache - Upper limit for ThreadsPerChild",
);
const ASYNC_FACTOR: Directive = row(
    "AsyncRequestWorkerFactor",
    Args::Take1(async_request_worker_factor),
    "How many additional connects will be accepted per idle worker thread",
);

static EVENT_ROWS: &[Directive] = &[
    LISTEN_BACKLOG,
    LISTEN_CORES_BUCKETS_RATIO,
    LISTEN,
    SEND_BUFFER,
    RECEIVE_BUFFER,
    LISTEN_TCP_DEFER_ACCEPT,
    START_SERVERS,
    SERVER_LIMIT,
    MIN_SPARE_THREADS,
    MAX_SPARE_THREADS,
    MAX_CLIENTS,
    MAX_WORKERS,
    THREADS_PER_CHILD,
    THREAD_LIMIT,
    ASYNC_FACTOR,
    GRACEFUL_TIMEOUT,
];

static WORKER_ROWS: &[Directive] = &[
    LISTEN_BACKLOG,
    LISTEN_CORES_BUCKETS_RATIO,
    LISTEN,
    SEND_BUFFER,
    RECEIVE_BUFFER,
    LISTEN_TCP_DEFER_ACCEPT,
    START_SERVERS,
    MIN_SPARE_THREADS,
    MAX_SPARE_THREADS,
    MAX_WORKERS,
    MAX_CLIENTS,
    THREADS_PER_CHILD,
    SERVER_LIMIT,
    THREAD_LIMIT,
    GRACEFUL_TIMEOUT,
];

static PREFORK_ROWS: &[Directive] = &[
    LISTEN_BACKLOG,
    LISTEN_CORES_BUCKETS_RATIO,
    LISTEN,
    SEND_BUFFER,
    RECEIVE_BUFFER,
    LISTEN_TCP_DEFER_ACCEPT,
    START_SERVERS,
    row(
        "MinSpareServers",
        Args::Take1(min_spare_servers),
        "Minimum number of idle children, to handle request spikes",
    ),
    row("MaxSpareServers", Args::Take1(max_spare_servers), "Maximum number of idle children"),
    row("MaxClients", Args::Take1(max_request_workers), "Deprecated name of MaxRequestWorkers"),
    row(
        "MaxRequestWorkers",
        Args::Take1(max_request_workers),
        "Maximum number of children alive at the same time",
    ),
    row(
        "ServerLimit",
        Args::Take1(server_limit),
        "Maximum value of MaxRequestWorkers for this run of Apache",
    ),
    GRACEFUL_TIMEOUT,
];

/// A number of the unit that the letters behind it begin with (`ms`, `s`, `mi`, `h`), of `default` where nothing
/// follows: `ap_timeout_parameter_parse`.
pub fn parse_timeout(text: &str, default: Duration) -> Option<Duration> {
    let end = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (digits, rest) = text.split_at_checked(end)?;
    let value: u64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let unit = match rest.as_bytes() {
        [] => default,
        [b's', ..] => Duration::from_secs(1),
        [b'm', b's', ..] => Duration::from_millis(1),
        [b'm', b'i', ..] => Duration::from_secs(60),
        [b'h', ..] => Duration::from_secs(3600),
        _ => return None,
    };
    let micros = u128::from(value).checked_mul(unit.as_micros())?;
    i64::try_from(micros).ok().map(|micros| Duration::from_micros(micros.unsigned_abs()))
}

/// A number that an `int` of C holds; what is wrong with it is said when all are known (`check_config`).
fn count(cmd: &Cmd, arg: &str) -> Result<i64, CmdError> {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    // `atoi` keeps the low bits of too large a number.
    Ok(i64::from(atol(arg) as i32))
}

fn listen(cmd: &mut Cmd, args: &[String]) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let (address, protocol) = match args {
        [address] => (address, None),
        [address, protocol] => (address, Some(protocol)),
        _ => return Err("Listen requires 1 or 2 arguments.".into()),
    };
    let (host, port) = super::core::server::split_addr_port(address).ok_or("Invalid address or port")?;
    let Some(port) = port else { return Err("Port must be specified".into()) };
    let protocol = match protocol {
        Some(protocol) => protocol.to_ascii_lowercase(),
        None if port == 443 => "https".to_owned(),
        None => "http".to_owned(),
    };
    let ips: Vec<Option<IpAddr>> = match host.filter(|host| *host != "*") {
        None => vec![None],
        Some(host) => match (host, port).to_socket_addrs() {
            Ok(addresses) => addresses.map(|addr| Some(addr.ip())).collect(),
            Err(_) => {
                let text = format!("alloc_listener: failed to set up sockaddr for {host}");
                log::server_unresolved(Level::Crit, "core", "AH00077", &text);
                return Err("Listen setup failed".into());
            }
        },
    };
    let listeners = &mut cmd.setup()?.listeners;
    if listeners.iter().any(|l| l.port == port && ips.contains(&l.ip)) {
        return Err("Cannot define multiple Listeners on the same IP:port".into());
    }
    for ip in ips {
        let spec = ListenSpec { ip, port, protocol: protocol.clone() };
        if !listeners.contains(&spec) {
            listeners.push(spec);
        }
    }
    Ok(())
}

fn listen_cores_buckets_ratio(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let ratio = atol(arg);
    if ratio < 1 {
        return Err("ListenCoresBucketsRatio must be > 0".into());
    }
    cmd.setup()?.mpm.cores_buckets_ratio = Some(u32::try_from(ratio).unwrap_or(u32::MAX));
    Ok(())
}

fn listen_tcp_defer_accept(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let seconds = atol(arg);
    if seconds < 1 {
        return Err("ListenTCPDeferAccept must be > 0".into());
    }
    cmd.setup()?.mpm.defer_accept = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
    Ok(())
}

fn listen_backlog(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let value = atol(arg);
    if value < 1 {
        return Err("ListenBacklog must be > 0".into());
    }
    cmd.setup()?.mpm.listen_backlog = Some(i32::try_from(value).unwrap_or(i32::MAX));
    Ok(())
}

fn buffer_size(cmd: &Cmd, arg: &str) -> Result<Option<usize>, CmdError> {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let value = atol(arg);
    if value < 512 && value != 0 {
        return Err(format!("{} must be >= 512 bytes, or 0 for system default.", cmd.name).into());
    }
    Ok(usize::try_from(value).ok().filter(|&v| v > 0))
}

fn receive_buffer_size(cmd: &mut Cmd, arg: &str) -> Done {
    let value = buffer_size(cmd, arg)?;
    cmd.setup()?.mpm.receive_buffer_size = value;
    Ok(())
}

fn send_buffer_size(cmd: &mut Cmd, arg: &str) -> Done {
    let value = buffer_size(cmd, arg)?;
    cmd.setup()?.mpm.send_buffer_size = value;
    Ok(())
}

macro_rules! counts {
    ($($setter:ident => $field:ident),* $(,)?) => {
        $(
            fn $setter(cmd: &mut Cmd, arg: &str) -> Done {
                let value = count(cmd, arg)?;
                cmd.setup()?.mpm.$field = Some(value);
                Ok(())
            }
        )*
    };
}

counts! {
    start_servers => start_servers,
    min_spare_servers => min_spare_servers,
    max_spare_servers => max_spare_servers,
    min_spare_threads => min_spare_threads,
    max_spare_threads => max_spare_threads,
    threads_per_child => threads_per_child,
    thread_limit => thread_limit,
    server_limit => server_limit,
    max_request_workers => max_request_workers,
}

fn async_request_worker_factor(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let value: f64 = arg.parse().map_err(|_| "error parsing value")?;
    if value <= 0.0 {
        return Err(format!("{} argument must be a positive number", cmd.name).into());
    }
    cmd.setup()?.mpm.async_factor = Some(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let second = Duration::from_secs(1);
        assert_eq!(parse_timeout("5", second), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("500ms", second), Some(Duration::from_millis(500)));
        assert_eq!(parse_timeout("5mix", second), Some(Duration::from_secs(300)));
        assert_eq!(parse_timeout("ms", second), Some(Duration::ZERO));
        assert_eq!(parse_timeout("x", second), None);
        assert_eq!(parse_timeout("5S", second), None);
        assert_eq!(parse_timeout("-5", second), None);
    }
}
