//! The engines as modules: `mpm_event_module`, `mpm_prefork_module`, `mpm_worker_module` (which runs on event).
//!
//! Answers to `server/mpm_common.c`, `server/listen.c` and the tables of `server/mpm/*`. What the directives set is in
//! [`MpmConf`]; what is done with it is in [`crate::engine`].

use std::net::IpAddr;
use std::time::Duration;

use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done, Forbidden};
use crate::config::server::ListenSpec;
use crate::hooks::Hooks;
use crate::module::Module;

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
    /// `ThreadStackSize`.
    pub thread_stack_size: Option<usize>,
    /// `ListenBacklog`.
    pub listen_backlog: Option<i32>,
    /// `GracefulShutdownTimeout`.
    pub graceful_shutdown_timeout: Duration,
    /// `MaxMemFree`, in KiB.
    pub max_mem_free: Option<u64>,
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
const LISTEN_BACKLOG: Directive = row(
    "ListenBacklog",
    Args::Take1(listen_backlog),
    "Maximum length of the queue of pending connections, as used by listen(2)",
);
const RECEIVE_BUFFER: Directive =
    row("ReceiveBufferSize", Args::Take1(receive_buffer_size), "Receive buffer size in bytes");
const SEND_BUFFER: Directive =
    row("SendBufferSize", Args::Take1(send_buffer_size), "Send buffer size in bytes");
const PID_FILE: Directive = row("PidFile", Args::Take1(pid_file), "A file for logging the server process ID");
const MAX_CONNECTIONS: Directive = row(
    "MaxConnectionsPerChild",
    Args::Take1(max_connections_per_child),
    "Maximum number of connections a particular child serves before dying.",
);
const MAX_REQUESTS: Directive = row(
    "MaxRequestsPerChild",
    Args::Take1(max_connections_per_child),
    "Deprecated, use MaxConnectionsPerChild",
);
const GRACEFUL_TIMEOUT: Directive = row(
    "GracefulShutdownTimeout",
    Args::Take1(graceful_shutdown_timeout),
    "Maximum time in seconds to wait for child processes to complete transactions during shutdown",
);
const MAX_MEM_FREE: Directive = row(
    "MaxMemFree",
    Args::Take1(max_mem_free),
    "Maximum number of 1k blocks a particular child's allocator may hold.",
);
const THREAD_STACK: Directive = row(
    "ThreadStackSize",
    Args::Take1(thread_stack_size),
    "Size in bytes of stack used by threads handling client connections",
);
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
    LISTEN,
    LISTEN_BACKLOG,
    SEND_BUFFER,
    RECEIVE_BUFFER,
    PID_FILE,
    MAX_REQUESTS,
    MAX_CONNECTIONS,
    MAX_MEM_FREE,
    THREAD_STACK,
    GRACEFUL_TIMEOUT,
    START_SERVERS,
    SERVER_LIMIT,
    MAX_CLIENTS,
    MAX_WORKERS,
    MIN_SPARE_THREADS,
    MAX_SPARE_THREADS,
    THREADS_PER_CHILD,
    THREAD_LIMIT,
    ASYNC_FACTOR,
];

static WORKER_ROWS: &[Directive] = &[
    LISTEN,
    LISTEN_BACKLOG,
    SEND_BUFFER,
    RECEIVE_BUFFER,
    PID_FILE,
    MAX_REQUESTS,
    MAX_CONNECTIONS,
    MAX_MEM_FREE,
    THREAD_STACK,
    GRACEFUL_TIMEOUT,
    START_SERVERS,
    MIN_SPARE_THREADS,
    MAX_SPARE_THREADS,
    MAX_CLIENTS,
    MAX_WORKERS,
    THREADS_PER_CHILD,
    SERVER_LIMIT,
    THREAD_LIMIT,
];

static PREFORK_ROWS: &[Directive] = &[
    LISTEN,
    LISTEN_BACKLOG,
    SEND_BUFFER,
    RECEIVE_BUFFER,
    PID_FILE,
    MAX_REQUESTS,
    MAX_CONNECTIONS,
    MAX_MEM_FREE,
    GRACEFUL_TIMEOUT,
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
];

/// A time with a unit (`ms`, `s`, `min`, `h`), `default` where none is given: `ap_timeout_parameter_parse`.
pub fn parse_timeout(text: &str, default: Duration) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let value: u64 = text.get(..digits)?.parse().ok()?;
    let unit = match text[digits..].to_ascii_lowercase().as_str() {
        "" => default,
        "s" => Duration::from_secs(1),
        "ms" => Duration::from_millis(1),
        "mi" | "min" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return None,
    };
    unit.checked_mul(u32::try_from(value).ok()?)
}

/// The digits at the start, as `atoi`.
fn number(arg: &str) -> i64 {
    let digits = arg.trim_start();
    let end = digits
        .char_indices()
        .find(|&(i, c)| !(c.is_ascii_digit() || i == 0 && (c == '-' || c == '+')))
        .map_or(digits.len(), |(i, _)| i);
    digits[..end].parse().unwrap_or(0)
}

/// A number that an `int` of C holds; what is wrong with it is said when all are known (`check_config`).
fn count(cmd: &Cmd, arg: &str) -> Result<i64, CmdError> {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    Ok(number(arg).clamp(i64::from(i32::MIN), i64::from(i32::MAX)))
}

fn listen(cmd: &mut Cmd, args: &[String]) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let options = args.iter().skip(1).position(|a| a.starts_with("options=")).map(|at| at + 1);
    if args.is_empty() || args.len() > 3 {
        return Err("Listen requires 1-3 arguments".into());
    }
    let (host, port) = super::core::server::split_addr_port(&args[0]).ok_or("Invalid address or port")?;
    let ip =
        match host {
            None | Some("*") => None,
            Some(host) => Some(host.parse::<IpAddr>().map_err(|_| {
                CmdError::from(format!("alloc_listener: failed to set up sockaddr for {host}"))
            })?),
        };
    let Some(port) = port else { return Err("Port must be specified".into()) };
    let protocol = match args.get(1).filter(|_| options != Some(1)) {
        Some(protocol) => protocol.to_ascii_lowercase(),
        None if port == 443 => "https".to_owned(),
        None => "http".to_owned(),
    };
    let spec = ListenSpec { ip, port, protocol };
    let setup = cmd.setup()?;
    if setup.listeners.iter().any(|l| l.ip == spec.ip && l.port == spec.port) {
        return Err("Cannot define multiple Listeners on the same IP:port".into());
    }
    setup.listeners.push(spec);
    Ok(())
}

fn listen_backlog(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let value = number(arg);
    if value < 1 {
        return Err("ListenBacklog must be > 0".into());
    }
    cmd.setup()?.mpm.listen_backlog = Some(i32::try_from(value).unwrap_or(i32::MAX));
    Ok(())
}

fn buffer_size(cmd: &Cmd, arg: &str) -> Result<Option<usize>, CmdError> {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let value = number(arg);
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

fn pid_file(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    cmd.setup()?.pid_file = Some(arg.to_owned());
    Ok(())
}

fn max_connections_per_child(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let value = number(arg).max(0) as u64;
    cmd.setup()?.mpm.max_connections_per_child = value;
    Ok(())
}

fn graceful_shutdown_timeout(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let value = Duration::from_secs(number(arg).max(0) as u64);
    cmd.setup()?.mpm.graceful_shutdown_timeout = value;
    Ok(())
}

fn max_mem_free(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let value: u64 = arg.parse().map_err(|_| CmdError::from(format!("Invalid MaxMemFree value: {arg}")))?;
    cmd.setup()?.mpm.max_mem_free = Some(value);
    Ok(())
}

fn thread_stack_size(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let value: usize =
        arg.parse().map_err(|_| CmdError::from(format!("Invalid ThreadStackSize value: {arg}")))?;
    cmd.setup()?.mpm.thread_stack_size = Some(value);
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
    let value: f64 = arg.parse().map_err(|_| "unable to parse factor")?;
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
        assert_eq!(parse_timeout("x", second), None);
    }

    #[test]
    fn numbers_as_atoi() {
        assert_eq!(number("12x"), 12);
        assert_eq!(number("-3"), -3);
        assert_eq!(number("abc"), 0);
    }
}
