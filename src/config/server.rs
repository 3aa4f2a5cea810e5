//! The main server and its virtual hosts: being set up ([`Setup`]), and finished ([`Server`]).
//!
//! Answers to `server_rec` of `include/httpd.h` and to `ap_fixup_virtual_hosts`, `ap_merge_server_configs`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use httpd_conf::Origin;

use super::merge::{DirConf, Merges};
use super::read::{Commands, Read};
use super::section::Section;
use super::vhost::Vhosts;
use super::{Runtime, htaccess};
use crate::cli::Options;
use crate::config::read::Failure;
use crate::conn::wire::HIGH_WATER;
use crate::hooks::Hooks;
use crate::http::method::MethodRegistry;
use crate::log::ErrorLog;
use crate::module::{ConfVec, Module};
use crate::modules::core;
use crate::modules::core::mutex::Mutexes;
use crate::modules::filters::mod_reqtimeout::{self, ReadTimeouts};
use crate::modules::http_core;
use crate::modules::mpm::{self, MpmConf};
use crate::modules::unixd::UnixdConf;

/// What the start ends with when a module can't do with the configuration (`post_config`).
pub const FAILED: &str = "AH00016: Configuration Failed";

/// A module that is active in this reading.
#[derive(Clone, Copy)]
pub struct ActiveModule {
    /// Which.
    pub module: &'static Module,
    /// True when a `LoadModule` line named it; false when it is there without one.
    pub shared: bool,
}

/// `Listen`: where connections come in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenSpec {
    /// `None`: every address, IPv6 and IPv4.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// The protocol given, `http` or `https`.
    pub protocol: String,
}

/// One address of a `<VirtualHost>`.
#[derive(Clone, Debug)]
pub struct ServerAddr {
    /// As written.
    pub virthost: String,
    /// `None`: `*` or `_default_`.
    pub ip: Option<IpAddr>,
    /// 0: every port.
    pub port: u16,
}

/// What the hot path asks of a server, resolved once.
#[derive(Debug, PartialEq)]
pub struct Resolved {
    /// `TimeOut`.
    pub timeout: Duration,
    /// `KeepAlive`.
    pub keep_alive: bool,
    /// `KeepAliveTimeout`.
    pub keep_alive_timeout: Duration,
    /// `MaxKeepAliveRequests`; 0: no limit.
    pub keep_alive_max: u32,
    /// How a request head is read.
    pub head: core::HeadLimits,
    /// `StrictHostCheck`.
    pub strict_host_check: bool,
    /// `MergeSlashes`.
    pub merge_slashes: bool,
    /// `TraceEnable`.
    pub trace: core::Trace,
    /// `MergeTrailers`.
    pub merge_trailers: bool,
    /// `FlushMaxThreshold`: from how many bytes on what waits is written before more is made.
    pub flush_max_threshold: usize,
    /// `FlushMaxPipelined`: how many replies to pipelined requests may wait for each other.
    pub flush_max_pipelined: u32,
    /// `RequestReadTimeout`, where mod_reqtimeout is active.
    pub read_timeouts: Option<ReadTimeouts>,
}

/// A server: the main one or a virtual host. What every request needs stands together at its beginning (`repr(C)` keeps the order):
/// of thousands of hosts that is what the processor's caches must hold.
#[repr(C)]
pub struct Server {
    /// Its place in the list; 0 is the main server.
    pub index: usize,
    /// What the hot path needs. Of servers that agree in all of it there is one.
    pub resolved: Arc<Resolved>,
    /// Per-directory settings outside of every section. Of servers that say nothing themselves there is one.
    pub lookup_defaults: Arc<DirConf>,
    /// The `KeepAliveTimeout` that a `<VirtualHost>` says itself; else that of the address's first one counts.
    pub keep_alive_timeout: Option<Duration>,
    /// `name:port`, as server-status shows it.
    pub shown: Shown,
    /// Where its `<VirtualHost>` stands.
    pub defined_at: Option<Origin>,
    /// The addresses of its `<VirtualHost>`.
    pub addrs: Vec<ServerAddr>,
    /// `ServerName` without scheme and port.
    pub hostname: Option<String>,
    /// The scheme in `ServerName`.
    pub scheme: Option<String>,
    /// The port in `ServerName`; 0 when none is given.
    pub port: u16,
    /// `ServerAdmin`.
    pub admin: Option<String>,
    /// `ServerPath`.
    pub path: Option<String>,
    /// `ServerAlias` names.
    pub names: Vec<String>,
    /// `ServerAlias` patterns.
    pub wild_names: Vec<String>,
    /// Module settings.
    pub conf: ConfVec,
    /// Per-directory settings outside of every section, while being read.
    pub defaults: ConfVec,
    /// `<Directory>` sections: plain ones by depth, then regular expressions.
    pub directories: Vec<Arc<Section>>,
    /// `<Location>` sections in order.
    pub locations: Vec<Arc<Section>>,
    /// Where its errors go.
    pub error_log: Arc<ErrorLog>,
}

/// As much of a server's `name:port` as the scoreboard has place for.
#[derive(Clone, Copy, Default)]
pub struct Shown {
    len: u8,
    text: [u8; Shown::MOST],
}

impl Shown {
    const MOST: usize = 31;

    fn of(text: &str) -> Shown {
        let mut shown = Shown::default();
        let len = text.len().min(Shown::MOST);
        shown.text[..len].copy_from_slice(&text.as_bytes()[..len]);
        shown.len = len as u8;
        shown
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.len)]
    }
}

impl Server {
    /// A server in which nothing is set.
    pub fn new(index: usize) -> Server {
        Server {
            index,
            defined_at: None,
            addrs: Vec::new(),
            hostname: None,
            scheme: None,
            port: 0,
            admin: None,
            path: None,
            names: Vec::new(),
            wild_names: Vec::new(),
            conf: ConfVec::new(),
            defaults: ConfVec::new(),
            lookup_defaults: DirConf::root(ConfVec::new()),
            directories: Vec::new(),
            locations: Vec::new(),
            error_log: ErrorLog::stderr(),
            resolved: Arc::new(Resolved::of(&ConfVec::new())),
            keep_alive_timeout: None,
            shown: Shown::default(),
        }
    }

    /// True for a `<VirtualHost>`.
    pub fn is_virtual(&self) -> bool {
        self.index != 0
    }

    /// The name in signatures, redirects and logs.
    pub fn name(&self) -> &str {
        self.hostname.as_deref().unwrap_or("")
    }

    /// `ServerAdmin` or the text that stands for none.
    pub fn admin(&self) -> &str {
        self.admin.as_deref().unwrap_or("[no address given]")
    }

    /// The main server's settings under those of this virtual host: `ap_fixup_virtual_hosts`.
    fn inherit(&mut self, main: &Server) {
        self.keep_alive_timeout = self.conf.get(&http_core::SERVER).keep_alive_timeout;
        // Even where no directive of the core stands in it: the name of the error log isn't inherited.
        self.conf.get_mut(&core::SERVER);
        self.conf = main.conf.merge(&self.conf);
        self.defaults = main.defaults.merge(&self.defaults);
        if self.admin.is_none() {
            self.admin = main.admin.clone();
        }
        let inherited = |theirs: &[Arc<Section>], mine: &mut Vec<Arc<Section>>| {
            let mut all = theirs.to_vec();
            all.append(mine);
            *mine = all;
        };
        inherited(&main.directories, &mut self.directories);
        inherited(&main.locations, &mut self.locations);
    }

    /// Puts `<Directory>` sections into the order in which a walk meets them: `ap_core_reorder_directories`.
    fn order_directories(&mut self) {
        self.directories.sort_by_key(|s| if s.is_regex() { usize::MAX } else { s.components });
    }
}

/// With how many others a server's [`Resolved`] is compared.
const MOST_KNOWN: usize = 16;

impl Resolved {
    fn of(conf: &ConfVec) -> Resolved {
        let server = conf.get(&core::SERVER);
        let http = conf.get(&http_core::SERVER);
        Resolved {
            timeout: server.timeout.unwrap_or(Duration::from_secs(60)),
            keep_alive: http.keep_alive.unwrap_or(true),
            keep_alive_timeout: http.keep_alive_timeout.unwrap_or(Duration::from_secs(5)),
            keep_alive_max: http.keep_alive_max.unwrap_or(100),
            head: server.head_options(),
            strict_host_check: server.strict_host_check == Some(true),
            merge_slashes: server.merge_slashes.unwrap_or(true),
            trace: server.trace.unwrap_or(core::Trace::On),
            merge_trailers: server.merge_trailers.unwrap_or(false),
            flush_max_threshold: server
                .flush_max_threshold
                .map_or(HIGH_WATER, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX).max(1)),
            flush_max_pipelined: server
                .flush_max_pipelined
                .map_or(u32::MAX, |count| u32::try_from(count).unwrap_or(u32::MAX)),
            read_timeouts: None,
        }
    }
}

/// How the server names itself, by `ServerTokens`.
#[derive(Clone, Debug, Default)]
pub struct Banner {
    /// With all that `ServerTokens` lets in: the `Server` header.
    pub full: String,
    /// For `ServerSignature`.
    pub signature: String,
}

/// Everything that the directives of one reading set.
pub struct Setup {
    /// What the command line said.
    pub options: Arc<Options>,
    /// `ServerRoot`.
    pub server_root: PathBuf,
    /// `DefaultRuntimeDir`.
    pub runtime_dir: Option<String>,
    /// The active modules in the order of loading.
    pub modules: Vec<ActiveModule>,
    /// Their directives by name.
    pub commands: Commands,
    /// Their hooks.
    pub hooks: Hooks,
    /// The main server and the virtual hosts.
    pub servers: Vec<Server>,
    /// `Listen`.
    pub listeners: Vec<ListenSpec>,
    /// `PidFile`.
    pub pid_file: Option<String>,
    /// `ScoreBoardFile`.
    pub scoreboard_file: Option<String>,
    /// The engine's directives.
    pub mpm: MpmConf,
    /// User, group.
    pub unixd: UnixdConf,
    /// `-D` names and `Define`s with values.
    pub defines: BTreeMap<String, Option<String>>,
    /// `Mutex`.
    pub mutexes: Mutexes,
    /// Methods with a number, for `<Limit>`.
    pub methods: MethodRegistry,
    /// Counts the readings of this process.
    pub generation: u32,
}

impl Setup {
    /// `path` below ServerRoot unless it is absolute.
    pub fn server_root_relative(&self, path: &str) -> String {
        below_root(&self.server_root, path)
    }

    /// True when a module of this file name or identifier is active.
    pub fn has_module(&self, name: &str) -> bool {
        self.modules.iter().any(|m| m.module.file == name || m.module.name == name)
    }

    /// The engine that a `LoadModule` line chose.
    pub fn mpms(&self) -> Vec<&'static Module> {
        self.modules.iter().map(|m| m.module).filter(|m| mpm::is_mpm(m)).collect()
    }

    /// The PidFile as configured.
    pub fn pid_name(&self) -> &str {
        self.pid_file.as_deref().unwrap_or(self.options.layout.pid_file)
    }

    /// Absolute name of the PidFile: below ServerRoot, whatever `DefaultRuntimeDir` says.
    pub fn pid_path(&self) -> PathBuf {
        PathBuf::from(self.server_root_relative(self.pid_name()))
    }

    /// `name` below the runtime directory unless it is absolute.
    pub fn runtime_dir_relative(&self, name: &str) -> PathBuf {
        if name.starts_with('/') {
            return PathBuf::from(name);
        }
        let dir = self.runtime_dir.as_deref().unwrap_or(self.options.layout.runtime_dir);
        PathBuf::from(self.server_root_relative(dir)).join(name)
    }

    /// Lets the virtual hosts inherit, and orders the sections. Called once, when everything was read.
    pub fn merge_servers(&mut self) {
        let limits_reading = self.has_module(mod_reqtimeout::MODULE.file);
        let first_port = self.listeners.first().map_or(80, |listener| listener.port);
        if let Some((main, virtuals)) = self.servers.split_first_mut() {
            for server in virtuals.iter_mut() {
                server.inherit(main);
            }
            // What thousands of hosts have in common stays in the processor's caches.
            let mut known: Vec<Arc<Resolved>> = Vec::new();
            let defaults = DirConf::root(self.servers[0].defaults.clone());
            for server in self.servers.iter_mut() {
                server.order_directories();
                let mut resolved = Resolved::of(&server.conf);
                let port = match (server.port, server.addrs.first()) {
                    (0, Some(addr)) if addr.port != 0 => addr.port,
                    (0, _) => first_port,
                    (port, _) => port,
                };
                server.shown = Shown::of(&format!("{}:{port}", server.name()));
                if limits_reading {
                    resolved.read_timeouts = mod_reqtimeout::limits(&server.conf);
                }
                server.resolved = match known.iter().find(|known| ***known == resolved) {
                    Some(known) => known.clone(),
                    None => Arc::new(resolved),
                };
                if known.len() < MOST_KNOWN && Arc::strong_count(&server.resolved) == 1 {
                    known.push(server.resolved.clone());
                }
                server.lookup_defaults = match server.defaults.is(&defaults) {
                    true => defaults.clone(),
                    false => DirConf::root(server.defaults.clone()),
                };
            }
        }
    }

    /// What is left to do when everything was read: names, inheritance, what modules check. Before the logs are open.
    pub fn complete(&mut self) -> Result<(), Failure> {
        self.name_main_server();
        self.name_virtual_servers();
        self.merge_servers();
        self.hooks.sort();
        let hooks: Vec<_> = self.hooks.check_config.iter().collect();
        for hook in hooks {
            hook(self).map_err(|text| Failure(format!("{text}\nAH00014: Configuration check failed")))?;
        }
        Ok(())
    }

    /// Lets the modules open their logs and finish what they set up, once the error logs are open.
    pub fn open_logs(&mut self) -> Result<(), Failure> {
        let hooks: Vec<_> = self.hooks.post_config.iter().collect();
        for hook in hooks {
            hook(self).map_err(Failure)?;
        }
        Ok(())
    }

    /// A main server without `ServerName` is called as the machine (AH00558 when that has no full name).
    fn name_main_server(&mut self) {
        if self.servers[0].hostname.is_some() {
            return;
        }
        let (name, full) = crate::os::host::full_name();
        if !full {
            let text = format!(
                "{}: Could not reliably determine the server's fully qualified domain name, using {name}. Set the 'ServerName' directive globally to suppress this message",
                self.options.program
            );
            crate::log::startup(crate::log::Level::Alert, "core", "AH00558", &text);
        }
        self.servers[0].hostname = Some(name);
    }

    /// A virtual host without `ServerName` is called as the main server where it takes any address, else as its first
    /// address: the end of `ap_fini_vhost_config`, which goes from the last to the first.
    fn name_virtual_servers(&mut self) {
        let Some((main, virtuals)) = self.servers.split_first_mut() else { return };
        for server in virtuals.iter_mut().rev().filter(|s| s.hostname.is_none()) {
            let takes_any = |addr: &ServerAddr| addr.ip.is_none_or(|ip| ip.is_unspecified());
            server.hostname = match server.addrs.first().and_then(|addr| addr.ip) {
                _ if server.addrs.iter().any(takes_any) => main.hostname.clone(),
                None => Some("bogus_host_without_forward_dns".to_owned()),
                Some(ip) => Some(crate::os::host::name_of(ip).unwrap_or_else(|| {
                    let text = format!(
                        "Failed to resolve server name for {ip} (check DNS) -- or specify an explicit ServerName"
                    );
                    crate::log::server_unresolved(crate::log::Level::Error, "core", "AH00549", &text);
                    "bogus_host_without_reverse_dns".to_owned()
                })),
            };
        }
    }

    /// The folders of all error logs must be there: `core_check_config`.
    pub fn check_error_logs(&self) -> Result<(), Failure> {
        let mut missing = Vec::new();
        for server in &self.servers {
            let own = server.conf.get(&core::SERVER).error_log.as_deref();
            let name = match own {
                Some(name) => name,
                None if server.index == 0 => self.options.layout.error_log,
                None => continue,
            };
            if name.starts_with('|') || name == "syslog" || name.starts_with("syslog:") {
                continue;
            }
            let path = self.server_root_relative(name);
            let dir = path.rfind('/').map_or("/", |at| &path[..=at]);
            let error = match std::fs::metadata(dir) {
                Ok(meta) if meta.is_dir() => continue,
                Ok(_) => std::io::Error::from_raw_os_error(nix::errno::Errno::ENOTDIR as i32),
                Err(error) => error,
            };
            let log = match &server.defined_at {
                Some(origin) => format!("error log of vhost defined at {}:{}", origin.file, origin.line),
                None => "main error log".to_owned(),
            };
            let error = crate::log::system_error(&error);
            missing.push(format!("{error}: AH02291: Cannot access directory '{dir}' for {log}"));
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.push("AH00014: Configuration check failed".to_owned());
        Err(Failure(missing.join("\n")))
    }

    /// The finished reading. The error logs must be open ([`crate::log::open`]).
    pub fn finish(self, read: Read) -> Arc<Runtime> {
        let pid_file = self.pid_path();
        let runtime_dir = self.runtime_dir_relative("").to_string_lossy().trim_end_matches('/').to_owned();
        let banner = core::tokens::banner(&self);
        let servers: Vec<Arc<Server>> = self.servers.into_iter().map(Arc::new).collect();
        let vhosts = Vhosts::compile(&servers);
        let shows_tree = self.modules.iter().any(|m| m.module.file == "mod_info.c");
        Arc::new(Runtime {
            generation: self.generation,
            program: self.options.program.clone(),
            runtime_dir,
            server_root: self.server_root,
            error_log: servers[0].error_log.clone(),
            vhosts,
            servers,
            modules: self.modules,
            commands: self.commands,
            hooks: self.hooks,
            listeners: self.listeners,
            mpm: self.mpm,
            unixd: self.unixd,
            pid_file,
            merges: Merges::default(),
            htaccess: htaccess::Cache::default(),
            started: std::time::SystemTime::now(),
            banner,
            reader: read.reader,
            tree: if shows_tree { read.tree } else { Vec::new() },
            layout: self.options.layout,
            methods: self.methods,
            defines: self.defines.into_keys().collect(),
        })
    }
}

/// `path` below `root` unless it is absolute; `.` and `..` are resolved in the text, as `apr_filepath_merge` does.
pub fn below_root(root: &Path, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", root.display()) };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let trailing = if joined.len() > 1 && joined.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{trailing}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_the_root() {
        assert_eq!(below_root(Path::new("/etc/apache2"), "ports.conf"), "/etc/apache2/ports.conf");
        assert_eq!(below_root(Path::new("/etc/apache2"), "/x/../y/"), "/y/");
        assert_eq!(below_root(Path::new("/"), "a"), "/a");
    }
}
