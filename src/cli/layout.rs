//! Where a server's files lie, by the name it is called by.

use std::path::Path;

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
    /// `DOCUMENT_LOCATION`: the DocumentRoot without a directive.
    pub document_root: &'static str,
    /// `DEFAULT_SCOREBOARD`.
    pub scoreboard: &'static str,
    /// `SUEXEC_BIN`.
    pub suexec: &'static str,
    /// Set by a shell before apachectl does anything.
    pub envvars: &'static str,
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
    pid_file: "/run/apache2.pid",
    error_log: "logs/error_log",
    runtime_dir: "/var/run/apache2",
    document_root: "/var/www/html",
    scoreboard: "logs/apache_runtime_status",
    suexec: "/usr/lib/apache2/suexec",
    envvars: "/etc/apache2/envvars",
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
    document_root: "/usr/local/apache2/htdocs",
    scoreboard: "logs/apache_runtime_status",
    suexec: "/usr/local/apache2/bin/suexec",
    envvars: "/usr/local/apache2/bin/envvars",
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
    document_root: "/var/www/html",
    scoreboard: "logs/apache_runtime_status",
    suexec: "/usr/sbin/suexec",
    envvars: "/etc/sysconfig/httpd",
    types_config_file: "conf/mime.types",
    platform: "Red Hat Enterprise Linux",
    static_modules_are_fixed: false,
};

impl Layout {
    /// The layout of a program called `name`. A program called neither `apache2` nor `httpd` is upstream's or Red Hat's
    /// where that is, else Debian's where that is.
    pub fn of(name: &str) -> &'static Layout {
        match name {
            "apache2" | "apache2ctl" => &DEBIAN,
            "httpd" => httpd(),
            _ if !UPSTREAM.exists() && !RED_HAT.exists() && DEBIAN.exists() => &DEBIAN,
            _ => httpd(),
        }
    }

    fn exists(&self) -> bool {
        Path::new(self.root).is_dir()
    }

    /// True when nobody put a configuration where this layout has it. Debian's never counts as empty: there, a missing
    /// file is an error, as it is to every script that calls `apache2`.
    pub fn is_without_configuration(&self, server_root: &str) -> bool {
        let file = crate::config::server::below_root(Path::new(server_root), self.config_file);
        !std::ptr::eq(self, &DEBIAN) && server_root == self.root && !Path::new(&file).exists()
    }
}

fn httpd() -> &'static Layout {
    if !UPSTREAM.exists() && RED_HAT.exists() { &RED_HAT } else { &UPSTREAM }
}
