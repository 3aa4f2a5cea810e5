//! What the page says of phases that are not looked up in the hooks.

/// The titles of the page's hook lists with the names of the hooks.
pub(super) type Titles = &'static [(&'static str, &'static str)];

pub(super) const STARTUP: Titles = &[
    ("Pre-Config", "pre_config"),
    ("Check Configuration", "check_config"),
    ("Test Configuration", "test_config"),
    ("Post Configuration", "post_config"),
    ("Open Logs", "open_logs"),
    ("Pre-MPM", "pre_mpm"),
    ("MPM", "mpm"),
    ("Drop Privileges", "drop_privileges"),
    ("Retrieve Optional Functions", "optional_fn_retrieve"),
    ("Child Init", "child_init"),
];

pub(super) const REQUEST: Titles = &[
    ("Pre-Connection", "pre_connection"),
    ("Create Connection", "create_connection"),
    ("Process Connection", "process_connection"),
    ("Create Request", "create_request"),
    ("Pre-Read Request", "pre_read_request"),
    ("Post-Read Request", "post_read_request"),
    ("Header Parse", "header_parser"),
    ("HTTP Scheme", "http_scheme"),
    ("Default Port", "default_port"),
    ("Quick Handler", "quick_handler"),
    ("Pre-Translate Name", "pre_translate_name"),
    ("Translate Name", "translate_name"),
    ("Map to Storage", "map_to_storage"),
    ("Check Access", "access_checker_ex"),
    ("Check Access (legacy)", "access_checker"),
    ("Verify User ID", "check_user_id"),
    ("Note Authentication Failure", "note_auth_failure"),
    ("Verify User Access", "auth_checker"),
    ("Check Type", "type_checker"),
    ("Fixups", "fixups"),
    ("Insert Filters", "insert_filter"),
    ("Content Handlers", "handler"),
    ("Transaction Logging", "log_transaction"),
    ("Insert Errors", "insert_error_filter"),
    ("Generate Log ID", "generate_log_id"),
];

pub(super) const OTHER: Titles = &[
    ("Monitor", "monitor"),
    ("Child Status", "child_status"),
    ("End Generation", "end_generation"),
    ("Error Logging", "error_log"),
    ("Query MPM Attributes", "mpm_query"),
    ("Query MPM Name", "mpm_get_name"),
    ("Register Timed Callback", "mpm_register_timed_callback"),
    ("Extend Expression Parser", "expr_lookup"),
    ("Set Management Items", "get_mgmt_items"),
];

/// Which kinds of settings a module keeps, as its record in Apache says: makes those of a directory, merges them, makes
/// those of a server, merges them. Slots are not bound to modules here, and always merge.
pub(super) fn settings(file: &str) -> [bool; 4] {
    const YES: bool = true;
    const NO: bool = false;
    match file {
        "core.c"
        | "mod_alias.c"
        | "mod_authn_core.c"
        | "mod_authz_core.c"
        | "mod_cache.c"
        | "mod_cache_socache.c"
        | "mod_http2.c"
        | "mod_proxy.c"
        | "mod_rewrite.c"
        | "mod_setenvif.c"
        | "mod_ssl.c" => [YES, YES, YES, YES],
        "mod_cache_disk.c" | "mod_ext_filter.c" | "mod_include.c" | "mod_lua.c" | "mod_session_crypto.c" => {
            [YES, YES, YES, NO]
        }
        "mod_cgi.c" | "mod_cgid.c" | "util_ldap.c" => [YES, NO, YES, YES],
        "mod_actions.c"
        | "mod_allowmethods.c"
        | "mod_auth_basic.c"
        | "mod_auth_form.c"
        | "mod_authn_dbd.c"
        | "mod_authn_socache.c"
        | "mod_authnz_fcgi.c"
        | "mod_authz_dbd.c"
        | "mod_autoindex.c"
        | "mod_buffer.c"
        | "mod_cern_meta.c"
        | "mod_charset_lite.c"
        | "mod_dav.c"
        | "mod_dav_lock.c"
        | "mod_dir.c"
        | "mod_env.c"
        | "mod_expires.c"
        | "mod_filter.c"
        | "mod_headers.c"
        | "mod_ident.c"
        | "mod_imagemap.c"
        | "mod_log_debug.c"
        | "mod_mime.c"
        | "mod_negotiation.c"
        | "mod_proxy_fcgi.c"
        | "mod_proxy_ftp.c"
        | "mod_proxy_html.c"
        | "mod_proxy_scgi.c"
        | "mod_proxy_wstunnel.c"
        | "mod_reflector.c"
        | "mod_request.c"
        | "mod_session.c"
        | "mod_session_cookie.c"
        | "mod_session_dbd.c"
        | "mod_substitute.c"
        | "mod_xml2enc.c" => [YES, YES, NO, NO],
        "mod_deflate.c" | "mod_speling.c" | "mod_suexec.c" | "mod_usertrack.c" => [YES, NO, YES, NO],
        "mod_access_compat.c"
        | "mod_auth_digest.c"
        | "mod_authn_anon.c"
        | "mod_authn_dbm.c"
        | "mod_authn_file.c"
        | "mod_authnz_ldap.c"
        | "mod_authz_dbm.c"
        | "mod_authz_groupfile.c"
        | "mod_authz_user.c"
        | "mod_dialup.c"
        | "mod_logio.c"
        | "mod_sed.c" => [YES, NO, NO, NO],
        "mod_dav_fs.c"
        | "mod_dbd.c"
        | "mod_info.c"
        | "mod_lbmethod_heartbeat.c"
        | "mod_log_config.c"
        | "mod_log_forensic.c"
        | "mod_md.c"
        | "mod_mime_magic.c"
        | "mod_proxy_connect.c"
        | "mod_proxy_express.c"
        | "mod_remoteip.c"
        | "mod_reqtimeout.c"
        | "mod_userdir.c"
        | "mod_vhost_alias.c" => [NO, NO, YES, YES],
        "mod_brotli.c"
        | "mod_bucketeer.c"
        | "mod_case_filter.c"
        | "mod_case_filter_in.c"
        | "mod_dumpio.c"
        | "mod_echo.c"
        | "mod_file_cache.c"
        | "mod_heartbeat.c"
        | "mod_heartmonitor.c"
        | "mod_proxy_hcheck.c"
        | "mod_so.c"
        | "mod_socache_memcache.c"
        | "mod_socache_redis.c" => [NO, NO, YES, NO],
        _ => [NO; 4],
    }
}
