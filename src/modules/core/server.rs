//! Rows that stand in a server's configuration: names, logs, limits.

use std::sync::Arc;
use std::time::Duration;

use super::{SERVER, Trace, tokens};
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done, Forbidden};
use crate::fnmatch::is_matchexp;
use crate::log::{Level, format};
use crate::text::atol;

const RSRC: Allowed = Allowed::RSRC_CONF;

pub(super) const ROWS: &[Directive] = &[
    row(
        "AccessFileName",
        Args::Raw(access_file_name),
        "Name(s) of per-directory config files (default: .htaccess)",
    ),
    row("DocumentRoot", Args::Take1(document_root), "Root directory of the document tree"),
    row("ErrorLog", Args::Take1(error_log), "The filename of the error log"),
    row("ErrorLogFormat", Args::Take12(error_log_format), "Format string for the ErrorLog"),
    row(
        "ExtendedStatus",
        Args::Flag(extended_status),
        "\"On\" to track extended status information, \"Off\" to disable",
    ),
    row(
        "HttpProtocolOptions",
        Args::Iterate(http_protocol_options),
        "'Allow0.9' or 'Require1.0' (default); 'RegisteredMethods' or 'LenientMethods' (default); 'Unsafe' or 'Strict' (default). Sets HTTP acceptance rules",
    ),
    row(
        "LimitInternalRecursion",
        Args::Take12(limit_internal_recursion),
        "maximum recursion depth of internal redirects and subrequests",
    ),
    row(
        "LimitRequestFields",
        Args::Take1(limit_request_fields),
        "Limit (0 = unlimited) on max number of header fields in a request message",
    ),
    row(
        "LimitRequestFieldsize",
        Args::Take1(limit_request_field_size),
        "Limit on maximum size of an HTTP request header field",
    ),
    row("LimitRequestLine", Args::Take1(limit_request_line), "Limit on maximum size of an HTTP request line"),
    row(
        "MergeSlashes",
        Args::Flag(merge_slashes),
        "Controls whether consecutive slashes in the URI path are merged",
    ),
    row("MergeTrailers", Args::Flag(merge_trailers), "merge request trailers into request headers or not"),
    row("RegisterHttpMethod", Args::Iterate(register_http_method), "Registers non-standard HTTP methods"),
    row(
        "SeeRequestTail",
        Args::Flag(see_request_tail),
        "For extended status, \"On\" to see the last 63 chars of the request line, \"Off\" (default) to see the first 63",
    ),
    row("ServerAdmin", Args::Take1(server_admin), "The email address of the server administrator"),
    row("ServerAlias", Args::Argv(server_alias), "A name or names alternately used to access the server"),
    row("ServerName", Args::Take1(server_name), "The hostname and port of the server"),
    row("ServerPath", Args::Take1(server_path), "The pathname the server can be reached at"),
    row(
        "ServerTokens",
        Args::Take1(server_tokens),
        "Determine tokens displayed in the Server: header - Min(imal), Major, Minor, Prod(uctOnly), OS, or Full",
    ),
    row("StrictHostCheck", Args::Flag(strict_host_check), "Controls whether a hostname match is required"),
    row("Timeout", Args::Take1(timeout), "Timeout duration (sec)"),
    row(
        "TraceEnable",
        Args::Take1(trace_enable),
        "'on' (default), 'off' or 'extended' to trace request body content",
    ),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: RSRC, help }
}

/// `host`, `host:port`, `[v6]:port`, `port`: `apr_parse_addr_port`. Whatever does not end in digits behind a colon is a
/// host.
pub fn split_addr_port(text: &str) -> Option<(Option<&str>, Option<u16>)> {
    let port = |digits: &str| -> Option<u16> { digits.parse::<u16>().ok().filter(|&p| p > 0) };
    let digits = text.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (before, digits) = text.split_at(text.len() - digits);
    if before.is_empty() {
        return Some((None, Some(port(digits)?)));
    }
    let (host, port) = match before.strip_suffix(':') {
        Some(_) if digits.is_empty() => (text, None),
        Some("") => return None,
        Some(host) => (host, Some(port(digits)?)),
        None => (text, None),
    };
    if let Some(rest) = host.strip_prefix('[') {
        let address = rest.strip_suffix(']')?;
        let without_scope = address.split('%').next().unwrap_or(address);
        without_scope.parse::<std::net::Ipv6Addr>().ok()?;
        return Some((Some(address), port));
    }
    Some((Some(host), port))
}

fn access_file_name(cmd: &mut Cmd, args: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    cmd.server_conf(&SERVER)?.access_names = Some(httpd_conf::words(args).map(|w| w.into_owned()).collect());
    Ok(())
}

fn document_root(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let mut path = cmd.server_root_relative(arg);
    if path.len() > 1 {
        path.truncate(path.trim_end_matches('/').len().max(1));
    }
    if cmd.setup()?.options.warns_about_document_root && !std::path::Path::new(&path).is_dir() {
        if cmd.server == 0 {
            return Err(format!("DocumentRoot '{path}' is not a directory, or is not readable").into());
        }
        // In a virtual host Apache only warns: the folder may come later.
        let text = format!("Warning: DocumentRoot [{path}] does not exist");
        crate::log::startup(crate::log::Level::Warn, "core", "AH00112", &text);
    }
    cmd.server_conf(&SERVER)?.document_root = Some(path);
    Ok(())
}

fn error_log(cmd: &mut Cmd, target: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    cmd.server_conf(&SERVER)?.error_log = Some(target.to_owned());
    Ok(())
}

fn extended_status(cmd: &mut Cmd, on: bool) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    cmd.server_conf(&SERVER)?.extended_status = Some(on);
    Ok(())
}

fn see_request_tail(cmd: &mut Cmd, on: bool) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    cmd.server_conf(&SERVER)?.see_request_tail = Some(on);
    Ok(())
}

/// Sets one of a pair; the other may not have been said for the same server.
fn one_of(setting: &mut Option<bool>, value: bool, pair: &str) -> Done {
    if setting.is_some_and(|before| before != value) {
        return Err(format!("HttpProtocolOptions {pair} are mutually exclusive").into());
    }
    *setting = Some(value);
    Ok(())
}

/// `format`, or `connection|request format`: `set_errorlog_format`.
fn error_log_format(cmd: &mut Cmd, first: &str, second: Option<&str>) -> Done {
    let parse = |text: &str, main| format::parse(&httpd_conf::to_bytes(text), main).map(Arc::new);
    let formats = &mut cmd.server_conf(&SERVER)?.error_log_formats;
    let Some(text) = second else {
        formats.line = Some(parse(first, true)?);
        return Ok(());
    };
    let lines = match first.to_ascii_lowercase().as_str() {
        "connection" => formats.connection.get_or_insert_default(),
        "request" => formats.request.get_or_insert_default(),
        _ => return Err("ErrorLogFormat type must be one of request, connection".into()),
    };
    if !text.is_empty() {
        lines.push(parse(text, false)?);
    }
    Ok(())
}

fn http_protocol_options(cmd: &mut Cmd, word: &str) -> Done {
    const VERSION: &str = "'Allow0.9' and 'Require1.0'";
    const CONFORMANCE: &str = "'Strict' and 'Unsafe'";
    const METHODS: &str = "'RegisteredMethods' and 'LenientMethods'";
    let conf = cmd.server_conf(&SERVER)?;
    match word.to_ascii_lowercase().as_str() {
        "strict" => one_of(&mut conf.strict, true, CONFORMANCE),
        "unsafe" => one_of(&mut conf.strict, false, CONFORMANCE),
        "registeredmethods" => one_of(&mut conf.registered_methods, true, METHODS),
        "lenientmethods" => one_of(&mut conf.registered_methods, false, METHODS),
        "allow0.9" => one_of(&mut conf.allow09, true, VERSION),
        "require1.0" => one_of(&mut conf.allow09, false, VERSION),
        _ => Err("HttpProtocolOptions accepts 'Unsafe' or 'Strict' (default), 'RegisteredMethods' or 'LenientMethods' (default), and 'Require1.0' or 'Allow0.9' (default)".into()),
    }
}

fn limit_internal_recursion(cmd: &mut Cmd, redirects: &str, subrequests: Option<&str>) -> Done {
    // As C's `atoi`, which keeps the low bits of too large a number.
    let number = |text: &str| -> Result<u32, CmdError> {
        match atol(text) as i32 {
            value @ 1.. => Ok(value as u32),
            _ => Err("The recursion limit must be greater than zero.".into()),
        }
    };
    let first = number(redirects)?;
    if first < 4 {
        cmd.log(
            Level::Warn,
            "AH00119",
            "Limiting internal redirects to very low numbers may cause normal requests to fail.",
        );
    }
    let mut second = first;
    if let Some(subrequests) = subrequests {
        second = number(subrequests)?;
        if second < 4 {
            cmd.log(
                Level::Warn,
                "AH00120",
                "Limiting the subrequest depth to a very low level may cause normal requests to fail.",
            );
        }
    }
    let conf = cmd.server_conf(&SERVER)?;
    conf.redirect_limit = Some(first);
    conf.subrequest_limit = Some(second);
    Ok(())
}

fn limit(cmd: &Cmd, arg: &str) -> Result<usize, CmdError> {
    let value: i64 = arg.trim().parse().unwrap_or(0);
    usize::try_from(value)
        .map_err(|_| format!("{} \"{arg}\" must be a non-negative integer", cmd.name).into())
}

fn limit_request_fields(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let value = limit(cmd, arg).map_err(|_| {
        CmdError::from(format!("LimitRequestFields \"{arg}\" must be a non-negative integer (0 = no limit)"))
    })?;
    cmd.server_conf(&SERVER)?.limit_fields = Some(value);
    Ok(())
}

fn limit_request_field_size(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let value = limit(cmd, arg)?;
    cmd.server_conf(&SERVER)?.limit_field_size = Some(value);
    Ok(())
}

fn limit_request_line(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let value = limit(cmd, arg)?;
    cmd.server_conf(&SERVER)?.limit_line = Some(value);
    Ok(())
}

fn merge_slashes(cmd: &mut Cmd, on: bool) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    cmd.server_conf(&SERVER)?.merge_slashes = Some(on);
    Ok(())
}

fn merge_trailers(cmd: &mut Cmd, on: bool) -> Done {
    cmd.server_conf(&SERVER)?.merge_trailers = Some(on);
    Ok(())
}

fn register_http_method(cmd: &mut Cmd, name: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    cmd.setup()?.methods.register(name.as_bytes());
    Ok(())
}

fn server_admin(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    cmd.server()?.admin = Some(arg.to_owned());
    Ok(())
}

fn server_alias(cmd: &mut Cmd, names: &[String]) -> Done {
    if cmd.server == 0 {
        return Err("ServerAlias only used in <VirtualHost>".into());
    }
    let server = cmd.server()?;
    for name in names {
        if is_matchexp(name) {
            server.wild_names.push(name.clone());
        } else {
            server.names.push(name.clone());
        }
    }
    Ok(())
}

/// `[scheme://]name[:port]`. A literal IPv6 address is none: its bracket is a pattern to Apache, its colon a port.
fn server_name(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    if httpd_conf::fnmatch_test(arg.as_bytes()) {
        return Err(
            format!("Invalid ServerName \"{arg}\" use ServerAlias to set multiple server names.").into()
        );
    }
    let (scheme, rest) = match arg.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, arg),
    };
    let (host, port) = match rest.split_once(':') {
        Some((host, digits)) => {
            let port = u16::try_from(atol(digits) as i32).ok().filter(|&port| port > 0);
            let outside =
                || format!("The port number \"{arg}\" is outside the appropriate range (i.e., 1..65535).");
            (host, port.ok_or_else(outside)?)
        }
        None => (rest, 0),
    };
    let server = cmd.server()?;
    server.hostname = Some(host.to_owned());
    if scheme.is_some() {
        server.scheme = scheme;
    }
    server.port = port;
    Ok(())
}

fn server_path(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    cmd.server()?.path = Some(arg.to_owned());
    Ok(())
}

fn server_tokens(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let value = tokens::Tokens::parse(arg).ok_or(
        "ServerTokens takes 1 argument: 'Prod(uctOnly)', 'Major', 'Minor', 'Min(imal)', 'OS', or 'Full'",
    )?;
    cmd.server_conf(&SERVER)?.tokens = Some(value);
    Ok(())
}

fn strict_host_check(cmd: &mut Cmd, on: bool) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    cmd.server_conf(&SERVER)?.strict_host_check = Some(on);
    Ok(())
}

fn timeout(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let seconds = u64::try_from(atol(arg) as i32).unwrap_or(0);
    // None at all is what a virtual host inherits by.
    cmd.server_conf(&SERVER)?.timeout = (seconds > 0).then(|| Duration::from_secs(seconds));
    Ok(())
}

fn trace_enable(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let value = match arg.to_ascii_lowercase().as_str() {
        "on" => Trace::On,
        "off" => Trace::Off,
        "extended" => Trace::Extended,
        _ => return Err("TraceEnable must be one of 'on', 'off', or 'extended'".into()),
    };
    cmd.server_conf(&SERVER)?.trace = Some(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::split_addr_port;

    #[test]
    fn addresses() {
        assert_eq!(split_addr_port("80"), Some((None, Some(80))));
        assert_eq!(split_addr_port("*:80"), Some((Some("*"), Some(80))));
        assert_eq!(split_addr_port("[::1]:8080"), Some((Some("::1"), Some(8080))));
        assert_eq!(split_addr_port("127.0.0.1"), Some((Some("127.0.0.1"), None)));
        assert_eq!(split_addr_port("a:99999"), None);
        assert_eq!(split_addr_port("x:y:z"), Some((Some("x:y:z"), None)));
        assert_eq!(split_addr_port("[::1]"), Some((Some("::1"), None)));
        assert_eq!(split_addr_port("[::1]x:80"), None);
        assert_eq!(split_addr_port(":80"), None);
        assert_eq!(split_addr_port(""), None);
    }
}
