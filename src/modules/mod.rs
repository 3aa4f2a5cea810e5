//! All modules: the one list that `LoadModule` chooses from.
//!
//! A folder for each of Apache's families; a module's file has the name of its page in the manual.

pub mod aaa;
pub mod arch;
pub mod cache;
pub mod cluster;
pub mod core;
pub mod database;
pub mod debugging;
pub mod echo;
pub mod filters;
pub mod generators;
pub mod http_core;
pub mod loggers;
pub mod mappers;
pub mod metadata;
pub mod mod_macro;
pub mod mod_watchdog;
pub mod mpm;
pub mod proxy;
pub mod slotmem;
pub mod so;
pub mod test;

pub use arch::mod_unixd as unixd;

use crate::module::Module;

/// Every module that is built in, in the order of Apache's `modules.c`: what is always there first.
pub static ALL: &[&Module] = &[
    &core::MODULE,
    &so::MODULE,
    &mod_watchdog::MODULE,
    &http_core::MODULE,
    &loggers::mod_log_config::MODULE,
    &loggers::mod_logio::MODULE,
    &loggers::mod_log_debug::MODULE,
    &loggers::mod_log_forensic::MODULE,
    &metadata::mod_version::MODULE,
    &unixd::MODULE,
    &arch::mod_systemd::MODULE,
    &mpm::EVENT,
    &mpm::PREFORK,
    &mpm::WORKER,
    &cluster::mod_heartbeat::MODULE,
    &cluster::mod_heartmonitor::MODULE,
    &slotmem::mod_slotmem_shm::MODULE,
    &slotmem::mod_slotmem_plain::MODULE,
    &cache::mod_socache_shmcb::MODULE,
    &cache::mod_socache_dbm::MODULE,
    &cache::mod_socache_memcache::MODULE,
    &cache::mod_socache_redis::MODULE,
    &database::mod_dbd::MODULE,
    &debugging::mod_dumpio::MODULE,
    &echo::mod_echo::MODULE,
    &filters::mod_data::MODULE,
    &filters::mod_deflate::MODULE,
    &filters::mod_ext_filter::MODULE,
    &filters::mod_include::MODULE,
    &filters::mod_filter::MODULE,
    &filters::mod_reqtimeout::MODULE,
    &filters::mod_request::MODULE,
    &generators::mod_info::MODULE,
    &generators::mod_status::MODULE,
    &generators::mod_autoindex::MODULE,
    &generators::mod_asis::MODULE,
    &generators::mod_suexec::MODULE,
    &generators::mod_cgi::CGID,
    &generators::mod_cgi::CGI,
    // aaa
    &aaa::mod_authn_file::MODULE,
    &aaa::mod_authn_dbm::MODULE,
    &aaa::mod_authn_anon::MODULE,
    &aaa::mod_authn_dbd::MODULE,
    &aaa::mod_authn_socache::MODULE,
    &aaa::mod_authn_core::MODULE,
    &aaa::mod_authz_host::MODULE,
    &aaa::mod_authz_groupfile::MODULE,
    &aaa::mod_authz_user::MODULE,
    &aaa::mod_authz_dbm::MODULE,
    &aaa::mod_authz_owner::MODULE,
    &aaa::mod_authz_dbd::MODULE,
    &aaa::mod_authz_core::MODULE,
    &aaa::mod_access_compat::MODULE,
    &aaa::mod_auth_basic::MODULE,
    &aaa::mod_auth_digest::MODULE,
    &aaa::mod_allowmethods::MODULE,
    // mappers
    &mappers::mod_alias::MODULE,
    &mappers::mod_dir::MODULE,
    &mappers::mod_mime::MODULE,
    &mappers::mod_negotiation::MODULE,
    &mappers::mod_vhost_alias::MODULE,
    &mappers::mod_speling::MODULE,
    &mappers::mod_userdir::MODULE,
    &mappers::mod_actions::MODULE,
    &mappers::mod_imagemap::MODULE,
    &mappers::mod_rewrite::MODULE,
    // proxy
    &proxy::mod_proxy::MODULE,
    &proxy::mod_proxy_fcgi::MODULE,
    &proxy::mod_proxy_http::MODULE,
    // metadata
    &metadata::mod_env::MODULE,
    &metadata::mod_mime_magic::MODULE,
    &metadata::mod_cern_meta::MODULE,
    &metadata::mod_expires::MODULE,
    &metadata::mod_headers::MODULE,
    &metadata::mod_ident::MODULE,
    &metadata::mod_unique_id::MODULE,
    &metadata::mod_setenvif::MODULE,
    &metadata::mod_remoteip::MODULE,
    &metadata::mod_usertrack::MODULE,
    &test::mod_dialup::MODULE,
    // core
    &mod_macro::MODULE,
];

/// The modules that are active without a `LoadModule` line, in the order of Debian's build. Upstream's and Red Hat's configurations
/// load some of these by name, which is then taken as said (see [`so`]).
pub fn statics() -> impl Iterator<Item = &'static Module> {
    const FILES: [&str; 8] = [
        "core.c",
        "mod_so.c",
        "mod_watchdog.c",
        "http_core.c",
        "mod_log_config.c",
        "mod_logio.c",
        "mod_version.c",
        "mod_unixd.c",
    ];
    FILES.iter().filter_map(|file| ALL.iter().find(|m| m.file == *file).copied())
}

/// The built-in module with this identifier (`alias_module`).
pub fn find(name: &str) -> Option<&'static Module> {
    ALL.iter().find(|m| m.name == name).copied()
}

/// The module whose directive this is, as it stands in the error log (`alias`).
pub fn of_directive(name: &str) -> &'static str {
    let module = ALL.iter().find(|m| m.directives.iter().any(|row| row.name == name));
    module.and_then(|m| m.name.strip_suffix("_module")).unwrap_or("core")
}

/// True for media types that once named handlers and still do.
pub fn names_handler(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/x-httpd-cgi"
            | "text/x-server-parsed-html"
            | "application/x-httpd-imap"
            | "application/x-httpd-status"
            | "application/x-type-map"
            | "httpd/send-as-is"
            | "httpd/unix-directory"
    )
}
