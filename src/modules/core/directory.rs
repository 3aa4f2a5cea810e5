//! Rows that may stand in a directory's settings: `Options`, `AllowOverride`, `ErrorDocument` …

use std::collections::HashSet;
use std::sync::Arc;

use httpd_conf::next_word;

use super::delivery::{
    content_digest, enable_mmap, enable_sendfile, file_etag, limit_request_body, limit_xml_body,
    max_range_overlaps, max_range_reversals, max_ranges, read_buffer_size,
};
use super::options;
use super::{CanonicalName, DIR, EncodedSlashes, ErrorDocument, HandlerName, Lookups, PathInfo, Signature};
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done, Forbidden};
use crate::http::status;
use crate::log::{self, Level, LogLevels};
use crate::modules;

const FILEINFO: Allowed = Allowed::FILEINFO;

pub(super) const ROWS: &[Directive] = &[
    row(
        "AcceptPathInfo",
        Args::Take1(accept_path_info),
        FILEINFO,
        "Set to on or off for PATH_INFO to be accepted by handlers, or default for the per-handler preference",
    ),
    row(
        "AddDefaultCharset",
        Args::Take1(add_default_charset),
        FILEINFO,
        "The name of the default charset to add to any Content-Type without one or 'Off' to disable",
    ),
    row(
        "AllowEncodedSlashes",
        Args::Take1(allow_encoded_slashes),
        Allowed::RSRC_CONF,
        "Allow URLs containing '/' encoded as '%2F'",
    ),
    row(
        "AllowOverride",
        Args::Raw(allow_override),
        Allowed::ACCESS_CONF,
        "Controls what groups of directives can be configured by per-directory config files",
    ),
    row(
        "AllowOverrideList",
        Args::Argv(allow_override_list),
        Allowed::ACCESS_CONF,
        "Controls what individual directives can be configured by per-directory config files",
    ),
    row(
        "CGIPassAuth",
        Args::Flag(cgi_pass_auth),
        Allowed::AUTHCFG,
        "Controls whether HTTP authorization headers, normally hidden, will be passed to scripts",
    ),
    row("CGIVar", Args::Take2(cgi_var), FILEINFO, "Controls how some CGI variables are set"),
    row(
        "ContentDigest",
        Args::Flag(content_digest),
        Allowed::OPTIONS,
        "whether or not to send a Content-MD5 header with each request",
    ),
    row(
        "EnableMMAP",
        Args::Take1(enable_mmap),
        FILEINFO,
        "Controls whether memory-mapping may be used to read files",
    ),
    row(
        "EnableSendfile",
        Args::Take1(enable_sendfile),
        FILEINFO,
        "Controls whether sendfile may be used to transmit files",
    ),
    row("ErrorDocument", Args::Take2(error_document), FILEINFO, "Change responses for HTTP errors"),
    row(
        "DefaultType",
        Args::Take1(default_type),
        FILEINFO,
        "the default media type for otherwise untyped files (DEPRECATED)",
    ),
    row(
        "ReadBufferSize",
        Args::Take1(read_buffer_size),
        Allowed::CONF,
        "Size (in bytes) of the memory buffers used to read data",
    ),
    row("FileETag", Args::Raw(file_etag), FILEINFO, "Specify components used to construct a file's ETag"),
    row("ForceType", Args::Take1(force_type), FILEINFO, "a mime type that overrides other configured type"),
    row(
        "HostnameLookups",
        Args::Take1(hostname_lookups),
        Allowed::CONF,
        "\"on\" to enable, \"off\" to disable reverse DNS lookups, or \"double\" to enable double-reverse DNS lookups",
    ),
    row(
        "LimitRequestBody",
        Args::Take1(limit_request_body),
        Allowed::ALL,
        "Limit (in bytes) on maximum size of request message body",
    ),
    row(
        "LimitXMLRequestBody",
        Args::Take1(limit_xml_body),
        Allowed::ALL,
        "Limit (in bytes) on maximum size of an XML-based request body",
    ),
    row("LogLevel", Args::Iterate(log_level), Allowed::CONF, "Level of verbosity in error logging"),
    row(
        "MaxRangeOverlaps",
        Args::Take1(max_range_overlaps),
        Allowed::CONF,
        "Maximum number of overlaps in Ranges in a request before returning the entire resource, or 0 for unlimited",
    ),
    row(
        "MaxRangeReversals",
        Args::Take1(max_range_reversals),
        Allowed::CONF,
        "Maximum number of reversals in Ranges in a request before returning the entire resource, or 0 for unlimited",
    ),
    row(
        "MaxRanges",
        Args::Take1(max_ranges),
        Allowed::CONF,
        "Maximum number of Ranges in a request before returning the entire resource, or 0 for unlimited",
    ),
    row(
        "Options",
        Args::Raw(set_options),
        Allowed::OPTIONS,
        "Set a number of attributes for a given directory",
    ),
    row(
        "QualifyRedirectURL",
        Args::Flag(qualify_redirect_url),
        FILEINFO,
        "Controls whether the REDIRECT_URL environment variable is fully qualified",
    ),
    row(
        "ServerSignature",
        Args::Take1(server_signature),
        Allowed::ALL,
        "En-/disable server signature (on|off|email)",
    ),
    row(
        "SetHandler",
        Args::Take1(set_handler),
        FILEINFO,
        "a handler name that overrides any other configured handler",
    ),
    row(
        "SetInputFilter",
        Args::Take1(set_input_filter),
        FILEINFO,
        "filter (or ; delimited list of filters) to be run on the request body",
    ),
    row(
        "SetOutputFilter",
        Args::Take1(set_output_filter),
        FILEINFO,
        "filter (or ; delimited list of filters) to be run on the request content",
    ),
    row(
        "UseCanonicalName",
        Args::Take1(use_canonical_name),
        Allowed::CONF,
        "How to work out the ServerName : Port when constructing URLs",
    ),
    row(
        "UseCanonicalPhysicalPort",
        Args::Take1(use_canonical_physical_port),
        Allowed::CONF,
        "Whether to use the physical Port when constructing URLs",
    ),
];

const fn row(name: &'static str, args: Args, allowed: Allowed, help: &'static str) -> Directive {
    Directive { name, args, allowed, help }
}

pub(super) fn is(word: &str, name: &str) -> bool {
    word.eq_ignore_ascii_case(name)
}

fn accept_path_info(cmd: &mut Cmd, arg: &str) -> Done {
    let value = if is(arg, "on") {
        PathInfo::On
    } else if is(arg, "off") {
        PathInfo::Off
    } else if is(arg, "default") {
        PathInfo::Default
    } else {
        return Err("AcceptPathInfo must be set to on, off or default".into());
    };
    cmd.dir(&DIR).accept_path_info = Some(value);
    Ok(())
}

fn add_default_charset(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.dir(&DIR).default_charset = Some(if is(arg, "off") {
        None
    } else if is(arg, "on") {
        Some("iso-8859-1".to_owned())
    } else {
        Some(arg.to_owned())
    });
    Ok(())
}

fn allow_encoded_slashes(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let value = if is(arg, "on") {
        EncodedSlashes::On
    } else if is(arg, "off") {
        EncodedSlashes::Off
    } else if is(arg, "nodecode") {
        EncodedSlashes::NoDecode
    } else {
        return Err("AllowEncodedSlashes must be On, Off, or NoDecode".into());
    };
    cmd.dir(&DIR).allow_encoded_slashes = Some(value);
    Ok(())
}

/// Where no `.htaccess` is looked for.
fn is_useless(cmd: &Cmd) -> bool {
    cmd.check_context(Forbidden(Forbidden::LOCATION.0 | Forbidden::FILES.0)).is_err()
}

fn allow_override(cmd: &mut Cmd, args: &str) -> Done {
    if is_useless(cmd) {
        let origin = &cmd.node.origin;
        let text = format!("Useless use of AllowOverride in line {} of {}.", origin.line, origin.file);
        cmd.log(Level::Warn, "AH00114", &text);
    }
    cmd.check_context(Forbidden::HTACCESS)?;
    let mut classes = Allowed::NONE;
    let mut allowed_options = None;
    let mut rest = args;
    while !rest.is_empty() {
        let word = next_word(&mut rest);
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), None),
        };
        classes = match name.to_ascii_lowercase().as_str() {
            "limit" => classes.or(Allowed::LIMIT),
            "options" => {
                allowed_options = Some(match value {
                    Some(list) => option_list(list)?,
                    // Less than where nothing is said: `MultiViews` and `SymLinksIfOwnerMatch` are not among them.
                    None => options::ALL,
                });
                classes.or(Allowed::OPTIONS)
            }
            "fileinfo" => classes.or(Allowed::FILEINFO),
            "authconfig" => classes.or(Allowed::AUTHCFG),
            "indexes" => classes.or(Allowed::INDEXES),
            "nonfatal" => match value.map(str::to_ascii_lowercase).as_deref() {
                None => return Err(format!("=Override, =Unknown or =All expected after {name}").into()),
                Some("override") => classes.or(Allowed::NONFATAL_OVERRIDE),
                Some("unknown") => classes.or(Allowed::NONFATAL_UNKNOWN),
                Some("all") => classes.or(Allowed::NONFATAL_OVERRIDE).or(Allowed::NONFATAL_UNKNOWN),
                Some(_) => classes,
            },
            "none" => Allowed::NONE,
            "all" => Allowed::ALL,
            _ => return Err(format!("Illegal override option {name}").into()),
        };
    }
    let conf = cmd.dir(&DIR);
    conf.overrides = Some(classes);
    conf.override_opts = allowed_options;
    Ok(())
}

fn option_list(list: &str) -> Result<u16, CmdError> {
    let mut bits = 0;
    for (index, name) in list.split(',').enumerate() {
        match name.to_ascii_lowercase().as_str() {
            "none" if index == 0 => bits = 0,
            "all" if index == 0 => bits = options::ALL | options::MULTIVIEWS | options::SYMLINKS_IF_OWNER,
            "none" => return Err("'None' must be the first (and only) option".into()),
            "all" => return Err("'All' must be the first option".into()),
            _ => match options::bit(name) {
                Some(bit) => bits |= bit,
                None => return Err(format!("Illegal option {name}").into()),
            },
        }
    }
    Ok(bits)
}

fn allow_override_list(cmd: &mut Cmd, names: &[String]) -> Done {
    if is_useless(cmd) {
        let origin = &cmd.node.origin;
        let text = format!("Useless use of AllowOverrideList at {}:{}", origin.file, origin.line);
        cmd.log(Level::Warn, "AH00115", &text);
    }
    cmd.check_context(Forbidden::HTACCESS)?;
    let mut list = HashSet::new();
    for name in names {
        if is(name, "none") {
            if names.len() != 1 {
                return Err("'None' not allowed with other directives in AllowOverrideList".into());
            }
            break;
        }
        let setup = cmd.setup()?;
        let known = setup.commands.find(name).or_else(|| setup.commands.find(&format!("<{name}")));
        match known.and_then(|rows| rows.first()) {
            None => {
                let text = format!(
                    "Discarding unrecognized directive `{name}' in AllowOverrideList at {}:{}",
                    cmd.node.origin.file, cmd.node.origin.line
                );
                cmd.log(Level::Warn, "AH00116", &text);
                continue;
            }
            Some((_, row)) if !row.allowed.any(Allowed::ALL.or(Allowed::ACCESS_CONF)) => {
                let text = format!(
                    "Discarding directive `{name}' not allowed in AllowOverrideList at {}:{}",
                    cmd.node.origin.file, cmd.node.origin.line
                );
                cmd.log(Level::Warn, "AH02304", &text);
                continue;
            }
            Some(_) => {}
        }
        list.insert(name.to_ascii_lowercase());
    }
    cmd.dir(&DIR).override_list = Some(Arc::new(list));
    Ok(())
}

fn default_type(cmd: &mut Cmd, arg: &str) -> Done {
    if !is(arg, "off") && !is(arg, "none") {
        let origin = &cmd.node.origin;
        let text =
            format!("Ignoring deprecated use of DefaultType in line {} of {}.", origin.line, origin.file);
        cmd.log(Level::Warn, "AH00117", &text);
    }
    Ok(())
}

fn cgi_pass_auth(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).cgi_pass_auth = Some(on);
    Ok(())
}

fn cgi_var(cmd: &mut Cmd, name: &str, value: &str) -> Done {
    if name != "REQUEST_URI" {
        return Err(format!("Unrecognized CGI variable: \"{name}\"").into());
    }
    let value = value.to_ascii_lowercase();
    if value != "original-uri" && value != "current-uri" {
        return Err("Valid rules for REQUEST_URI are 'current-uri' and 'original-uri'".into());
    }
    cmd.dir(&DIR).cgi_vars.insert(name.to_owned(), value);
    Ok(())
}

pub(super) fn on_off(arg: &str, error: &str) -> Result<bool, CmdError> {
    if is(arg, "on") {
        Ok(true)
    } else if is(arg, "off") {
        Ok(false)
    } else {
        Err(error.into())
    }
}

fn error_document(cmd: &mut Cmd, code: &str, message: &str) -> Done {
    let digits: String = code.chars().take_while(char::is_ascii_digit).collect();
    let number: u16 = digits.parse().unwrap_or(0);
    if status::known_line(number).is_none() {
        return Err(format!("Unsupported HTTP response code {code}").into());
    }
    let is_text = message.contains(' ');
    let remote = !is_text && crate::http::escape::is_url(message.as_bytes());
    let local = !is_text && message.starts_with('/');
    if number == 401 && remote {
        let text = format!(
            "{}:{} cannot use a full URL in a 401 ErrorDocument directive --- ignoring!",
            cmd.node.origin.file, cmd.node.origin.line
        );
        cmd.log(Level::Notice, "AH00113", &text);
        return Ok(());
    }
    let document = if is(message, "default") {
        ErrorDocument::Default
    } else {
        let expr = Arc::new(
            cmd.parse_string(message)
                .map_err(|error| format!("Cannot parse expression in ErrorDocument: {error}"))?,
        );
        if local || remote { ErrorDocument::Url(expr) } else { ErrorDocument::Text(expr) }
    };
    cmd.dir(&DIR).error_documents.insert(number, document);
    Ok(())
}

fn force_type(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.dir(&DIR).force_type = Some((!is(arg, "none")).then(|| arg.to_owned()));
    Ok(())
}

fn hostname_lookups(cmd: &mut Cmd, arg: &str) -> Done {
    let value = if is(arg, "on") {
        Lookups::On
    } else if is(arg, "off") {
        Lookups::Off
    } else if is(arg, "double") {
        Lookups::Double
    } else {
        return Err("parameter must be 'on', 'off', or 'double'".into());
    };
    cmd.dir(&DIR).hostname_lookups = Some(value);
    Ok(())
}

/// `LogLevel`, per server or per directory: `set_loglevel`.
fn log_level(cmd: &mut Cmd, arg: &str) -> Done {
    const KEYWORDS: &str =
        "Log level keyword must be one of emerg/alert/crit/error/warn/notice/info/debug/trace1/.../trace8";
    let (module, word) = match arg.split_once(':') {
        Some((module, word)) => (Some(module), word),
        None => (None, arg),
    };
    if let (Some(module), "") = (module, word) {
        return Err(format!("Module specifier '{module}' must be followed by a log level keyword").into());
    }
    let level = Level::parse(word).ok_or_else(|| match module {
        Some(_) => format!("{arg}: {KEYWORDS}"),
        None => KEYWORDS.to_owned(),
    })?;
    log::level::ask_for(level);
    let module = match module {
        None => None,
        Some(word) => {
            let found = modules::ALL
                .iter()
                .find(|m| m.file == word || m.name == word || m.name.strip_suffix("_module") == Some(word))
                .filter(|found| cmd.has_module(found.file));
            Some(*found.ok_or_else(|| format!("Cannot find module {word}"))?)
        }
    };
    let in_directory = cmd.path.is_some();
    let levels: &mut LogLevels =
        if in_directory { &mut cmd.dir(&DIR).log } else { &mut cmd.server_conf(&super::SERVER)?.log };
    match &module {
        Some(module) => {
            let name = module.name.strip_suffix("_module").unwrap_or(module.name);
            levels.modules.insert(name.to_owned(), level);
        }
        None => {
            levels.default = Some(level);
            levels.modules.clear();
        }
    }
    let levels = (!in_directory).then(|| levels.clone());
    // A virtual host's log isn't open yet.
    if cmd.server != 0 || cmd.in_htaccess() {
        return Ok(());
    }
    if let Some(levels) = levels {
        log::set_main_levels(levels);
    }
    let subject = match module {
        Some(module) => format!("module {}", module.file),
        None => "all modules".to_owned(),
    };
    log::server_event(Level::Trace3, "core", "", &format!("Setting LogLevel for {subject} to {word}"));
    Ok(())
}

fn set_options(cmd: &mut Cmd, args: &str) -> Done {
    let mut opts = cmd.dir(&DIR).opts;
    let (mut first, mut relative, mut all_none) = (true, false, false);
    let mut rest = args;
    const MIXED: &str = "Either all Options must start with + or -, or no Option may.";
    while !rest.is_empty() {
        let word = next_word(&mut rest);
        let (sign, name) = match word.as_bytes().first() {
            Some(sign @ (b'+' | b'-')) => (Some(*sign), &word[1..]),
            _ => (None, word.as_str()),
        };
        if sign.is_some() {
            if !relative && !first && !all_none {
                return Err(MIXED.into());
            }
            relative = true;
        } else if first {
            opts.absolute = Some(0);
            (opts.add, opts.remove) = (0, 0);
        } else if relative {
            return Err(MIXED.into());
        }
        let bit = if is(name, "none") || is(name, "all") {
            let shown = if is(name, "none") { "None" } else { "All" };
            if !first {
                let which = if is(name, "none") { "Option" } else { "option" };
                return Err(format!("'Options {shown}' must be the first {which} given.").into());
            }
            if relative {
                return Err(format!("You may not use 'Options +{shown}' or 'Options -{shown}'.").into());
            }
            all_none = true;
            if is(name, "none") { 0 } else { options::ALL }
        } else if is(name, "runscripts") {
            options::MULTIVIEWS | options::EXEC_CGI
        } else {
            options::bit(name).ok_or_else(|| format!("Illegal option {name}"))?
        };
        if cmd.override_opts & bit != bit && cmd.in_htaccess() {
            return Err(format!("Option {name} not allowed here").into());
        }
        match sign {
            Some(b'-') => {
                opts.remove |= bit;
                opts.add &= !bit;
                opts.absolute = opts.absolute.map(|a| a & !bit);
            }
            Some(_) => {
                opts.add |= bit;
                opts.remove &= !bit;
                opts.absolute = opts.absolute.map(|a| a | bit);
            }
            None => opts.absolute = Some(opts.absolute.unwrap_or(0) | bit),
        }
        first = false;
    }
    cmd.dir(&DIR).opts = opts;
    Ok(())
}

fn qualify_redirect_url(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).qualify_redirect_url = Some(on);
    Ok(())
}

fn server_signature(cmd: &mut Cmd, arg: &str) -> Done {
    let value = if is(arg, "on") {
        Signature::On
    } else if is(arg, "off") {
        Signature::Off
    } else if is(arg, "email") {
        Signature::Email
    } else {
        return Err("ServerSignature: use one of: off | on | email".into());
    };
    cmd.dir(&DIR).signature = Some(value);
    Ok(())
}

fn set_handler(cmd: &mut Cmd, arg: &str) -> Done {
    // Always a string expression; `expr=` in front of it would be part of the name.
    let expr = cmd.parse_string(arg).map_err(|error| format!("Can't parse expression : {error}"))?;
    let value = match expr.as_constant().map(|name| HandlerName::in_case(&String::from_utf8_lossy(name))) {
        None => Some(HandlerName::Expr(Arc::new(expr))),
        Some(name) => (name != "none").then_some(HandlerName::Name(name)),
    };
    cmd.dir(&DIR).handler = Some(value);
    Ok(())
}

fn set_input_filter(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.dir(&DIR).input_filters = Some(arg.to_owned());
    Ok(())
}

fn set_output_filter(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.dir(&DIR).output_filters = Some(arg.to_owned());
    Ok(())
}

fn use_canonical_name(cmd: &mut Cmd, arg: &str) -> Done {
    let value = if is(arg, "on") {
        CanonicalName::On
    } else if is(arg, "off") {
        CanonicalName::Off
    } else if is(arg, "dns") {
        CanonicalName::Dns
    } else {
        return Err("parameter must be 'on', 'off', or 'dns'".into());
    };
    cmd.dir(&DIR).use_canonical_name = Some(value);
    Ok(())
}

fn use_canonical_physical_port(cmd: &mut Cmd, arg: &str) -> Done {
    let on = on_off(arg, "parameter must be 'on' or 'off'")?;
    cmd.dir(&DIR).use_canonical_phys_port = Some(on);
    Ok(())
}
