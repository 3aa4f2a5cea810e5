//! Where a server's files lie, by the name it is called by.

/// Compiled-in places of a distribution.
#[derive(Debug)]
pub struct Layout {
    /// `HTTPD_ROOT`.
    pub root: &'static str,
    /// `SERVER_CONFIG_FILE`, below the root unless absolute.
    pub config_file: &'static str,
    /// `DEFAULT_PIDLOG`.
    pub pid_file: &'static str,
    /// `DEFAULT_ERRORLOG`.
    pub error_log: &'static str,
    /// `DEFAULT_REL_RUNTIMEDIR`.
    pub runtime_dir: &'static str,
    /// `AP_TYPES_CONFIG_FILE`.
    pub types_config_file: &'static str,
    /// What stands behind the version in `Server`.
    pub platform: &'static str,
    /// `LoadModule` of a module that is there without is an error, as in Debian.
    pub static_modules_are_fixed: bool,
}

/// Debian: called as `apache2`.
pub static DEBIAN: Layout = Layout {
    root: "/etc/apache2",
    config_file: "apache2.conf",
    pid_file: "/var/run/apache2.pid",
    error_log: "logs/error_log",
    runtime_dir: "/var/run",
    types_config_file: "mime.types",
    platform: "Debian",
    static_modules_are_fixed: true,
};

/// Upstream's: called as `httpd`.
pub static UPSTREAM: Layout = Layout {
    root: "/usr/local/apache2",
    config_file: "conf/httpd.conf",
    pid_file: "logs/httpd.pid",
    error_log: "logs/error_log",
    runtime_dir: "logs",
    types_config_file: "conf/mime.types",
    platform: "Unix",
    static_modules_are_fixed: false,
};

/// Red Hat's: called as `httpd` where `/etc/httpd` exists and upstream's place doesn't.
pub static RED_HAT: Layout = Layout {
    root: "/etc/httpd",
    config_file: "conf/httpd.conf",
    pid_file: "/run/httpd/httpd.pid",
    error_log: "logs/error_log",
    runtime_dir: "/run/httpd",
    types_config_file: "conf/mime.types",
    platform: "Red Hat Enterprise Linux",
    static_modules_are_fixed: false,
};
