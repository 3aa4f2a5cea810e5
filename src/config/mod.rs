//! From the text of the configuration to what serves: rows, reading, sections, merges, virtual hosts.

pub mod directive;
pub mod dump;
pub mod htaccess;
pub mod merge;
pub mod read;
pub mod section;
pub mod server;
pub mod vhost;

use std::path::PathBuf;
use std::sync::Arc;

use crate::hooks::Hooks;
use crate::log::ErrorLog;
use crate::modules::mpm::MpmConf;
use crate::modules::unixd::UnixdConf;
use merge::Merges;
use server::{ActiveModule, ListenSpec, Server};
use vhost::Vhosts;

/// One reading of the configuration, finished: what a generation of children serves by.
pub struct Runtime {
    /// Counts the readings; 0 is the first.
    pub generation: u32,
    /// The program's name in messages: `apache2` or `httpd`.
    pub program: String,
    /// `ServerRoot`.
    pub server_root: PathBuf,
    /// `DefaultRuntimeDir`, absolute.
    pub runtime_dir: String,
    /// The main server, then the virtual hosts in order.
    pub servers: Vec<Arc<Server>>,
    /// The same by address and name.
    pub vhosts: Vhosts,
    /// The active modules in the order of loading.
    pub modules: Vec<ActiveModule>,
    /// Directives of the active modules by lower-case name.
    pub commands: read::Commands,
    /// The phases.
    pub hooks: Hooks,
    /// `Listen`.
    pub listeners: Vec<ListenSpec>,
    /// The engine and its limits.
    pub mpm: MpmConf,
    /// User, group.
    pub unixd: UnixdConf,
    /// Absolute name of the PidFile.
    pub pid_file: PathBuf,
    /// The merges made so far.
    pub merges: Merges,
    /// The `.htaccess` files read so far.
    pub htaccess: htaccess::Cache,
    /// The main server's error log.
    pub error_log: Arc<ErrorLog>,
    /// When this reading was made.
    pub started: std::time::SystemTime,
    /// The value of the `Server` header and of signatures, by `ServerTokens`.
    pub banner: server::Banner,
    /// Knows variables and macros, for `.htaccess` files.
    pub reader: httpd_conf::Reader,
    /// Methods with a number: the known ones and those that `RegisterHttpMethod` added.
    pub methods: crate::http::method::MethodRegistry,
    /// `-D` names and `Define`s.
    pub defines: Vec<String>,
    /// The configuration as read, for mod_info; empty without it.
    pub tree: Vec<httpd_conf::Node>,
    /// The places compiled in.
    pub layout: &'static crate::cli::Layout,
}

impl Runtime {
    /// The main server.
    pub fn main_server(&self) -> &Arc<Server> {
        &self.servers[0]
    }
    /// The name of the engine: `ap_show_mpm`.
    pub fn mpm_name(&self) -> &'static str {
        match self.modules.iter().map(|m| m.module.name).find(|name| name.starts_with("mpm_")) {
            Some("mpm_prefork_module") => "prefork",
            Some("mpm_worker_module") => "worker",
            _ => "event",
        }
    }
    /// True when a module of this file name (`mod_mime.c`) is active.
    pub fn has_module(&self, file: &str) -> bool {
        self.modules.iter().any(|m| m.module.file == file || m.module.name == file)
    }
}
