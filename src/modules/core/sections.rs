//! The sections: `<Directory>`, `<Files>`, `<Location>`, `<If>`, `<Limit>`, `<VirtualHost>`.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use httpd_conf::next_word;

use super::{CoreDir, DIR};
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done, Forbidden};
use crate::config::read::Inside;
use crate::config::section::{Matcher, Section};
use crate::config::server::{Server, ServerAddr};
use crate::expr::Expr;
use crate::http::method::Method;
use crate::log::{self, Level};
use crate::module::ConfVec;
use crate::regex::{Regex, default_flags};

const HELP_DIRECTORY: &str =
    "Container for directives affecting resources located in the specified directories";
const HELP_LOCATION: &str =
    "Container for directives affecting resources accessed through the specified URL paths";
const HELP_FILES: &str = "Container for directives affecting files matching specified patterns";
const HELP_IF: &str = "Container for directives to be conditionally applied";
const HELP_LIMIT: &str = "Container for authentication directives when accessed using specified HTTP methods";

pub(super) const ROWS: &[Directive] = &[
    section("<Directory", directory, Allowed::RSRC_CONF, HELP_DIRECTORY),
    section("<Location", location, Allowed::RSRC_CONF, HELP_LOCATION),
    section(
        "<VirtualHost",
        virtual_host,
        Allowed::RSRC_CONF,
        "Container to map directives to a particular virtual host, takes one or more host addresses",
    ),
    section("<Files", files, Allowed::ALL.or(Allowed::ACCESS_CONF).or(Allowed::RSRC_CONF), HELP_FILES),
    section("<Limit", limit, Allowed::LIMIT.or(Allowed::AUTHCFG).or(Allowed::ACCESS_CONF), HELP_LIMIT),
    section(
        "<LimitExcept",
        limit_except,
        Allowed::LIMIT.or(Allowed::AUTHCFG).or(Allowed::ACCESS_CONF),
        "Container for authentication directives to be applied when any HTTP method other than those specified is used to access the resource",
    ),
    section("<If", if_section, Allowed::ALL.or(Allowed::ACCESS_CONF).or(Allowed::RSRC_CONF), HELP_IF),
    section(
        "<ElseIf",
        else_if_section,
        Allowed::ALL.or(Allowed::ACCESS_CONF).or(Allowed::RSRC_CONF),
        HELP_IF,
    ),
    section("<Else", else_section, Allowed::ALL.or(Allowed::ACCESS_CONF).or(Allowed::RSRC_CONF), HELP_IF),
    section("<DirectoryMatch", directory_match, Allowed::RSRC_CONF, HELP_DIRECTORY),
    section("<LocationMatch", location_match, Allowed::RSRC_CONF, HELP_LOCATION),
    section(
        "<FilesMatch",
        files_match,
        Allowed::ALL.or(Allowed::ACCESS_CONF).or(Allowed::RSRC_CONF),
        HELP_FILES,
    ),
];

const fn section(
    name: &'static str,
    set: fn(&mut Cmd, &str) -> Done,
    allowed: Allowed,
    help: &'static str,
) -> Directive {
    Directive { name, args: Args::Raw(set), allowed, help }
}

/// The name without its `<`, for messages.
fn plain(cmd: &Cmd) -> &'static str {
    cmd.name.trim_start_matches('<')
}

fn compile(pattern: &str) -> Result<Regex, CmdError> {
    Regex::new(pattern, default_flags()).map_err(|_| CmdError::from("Regex could not be compiled"))
}

fn only_one(cmd: &Cmd, rest: &str) -> Done {
    if rest.is_empty() {
        return Ok(());
    }
    Err(format!("Multiple {}> arguments not (yet) supported.", cmd.name).into())
}

/// What a section's first word matches, with `~` or in the `…Match` form as a regular expression.
enum Named {
    Pattern(String),
    Regex(String, Regex),
}

impl Named {
    /// The text and what it matches, where the text is taken as it stands.
    fn into_matcher(self) -> (String, Matcher) {
        match self {
            Named::Regex(text, regex) => (text, Matcher::Regex(Arc::new(regex))),
            Named::Pattern(path) => {
                let matcher = Section::path_matcher(&path);
                (path, matcher)
            }
        }
    }
}

fn named(rest: &mut &str, regex: bool) -> Result<Named, CmdError> {
    let mut first = next_word(rest);
    if regex || first == "~" {
        if !regex {
            first = next_word(rest);
        }
        let compiled = compile(&first)?;
        return Ok(Named::Regex(first, compiled));
    }
    Ok(Named::Pattern(first))
}

const INSIDE: Allowed = Allowed::ALL.or(Allowed::ACCESS_CONF);

fn directory(cmd: &mut Cmd, _: &str) -> Done {
    directory_section(cmd, false)
}

fn directory_match(cmd: &mut Cmd, _: &str) -> Done {
    directory_section(cmd, true)
}

fn directory_section(cmd: &mut Cmd, regex: bool) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let args = cmd.node.required_section_args(plain(cmd))?.to_owned();
    let mut rest = args.as_str();
    // Unlike the other …Match sections, this one takes a "~" too.
    if regex && rest.trim_start().starts_with("~ ") {
        next_word(&mut rest);
    }
    let (path, matcher) = match named(&mut rest, regex)? {
        Named::Regex(text, regex) => (text, Matcher::Regex(Arc::new(regex))),
        Named::Pattern(path) => {
            let canonical = super::on_read::below_current(&path);
            let bare = match canonical.trim_end_matches('/') {
                "" => "/".to_owned(),
                bare => bare.to_owned(),
            };
            let matcher = Section::path_matcher(&bare);
            (bare, matcher)
        }
    };
    let shown = if path.ends_with('/') || matches!(matcher, Matcher::Regex(_)) {
        path.clone()
    } else {
        format!("{path}/")
    };
    let conf = cmd.walk_section(Inside { path: Some(&shown), overrides: Some(INSIDE), server: None })?;
    cmd.server()?.directories.push(Arc::new(Section::new(&path, matcher, conf)));
    only_one(cmd, rest)
}

fn location(cmd: &mut Cmd, _: &str) -> Done {
    location_section(cmd, false)
}

fn location_match(cmd: &mut Cmd, _: &str) -> Done {
    location_section(cmd, true)
}

fn location_section(cmd: &mut Cmd, regex: bool) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let args = cmd.node.required_section_args(plain(cmd))?.to_owned();
    let mut rest = args.as_str();
    let (path, matcher) = named(&mut rest, regex)?.into_matcher();
    let conf = cmd.walk_section(Inside { path: Some(&path), overrides: Some(INSIDE), server: None })?;
    cmd.server()?.locations.push(Arc::new(Section::new(&path, matcher, conf)));
    only_one(cmd, rest)
}

fn files(cmd: &mut Cmd, _: &str) -> Done {
    files_section(cmd, false)
}

fn files_match(cmd: &mut Cmd, _: &str) -> Done {
    files_section(cmd, true)
}

fn files_section(cmd: &mut Cmd, regex: bool) -> Done {
    cmd.check_context(Forbidden(Forbidden::LOCATION.0 | Forbidden::LIMIT.0))?;
    let args = cmd.node.required_section_args(plain(cmd))?.to_owned();
    let mut rest = args.as_str();
    let (path, matcher) = named(&mut rest, regex)?.into_matcher();
    let overrides = cmd.path.is_none().then_some(INSIDE);
    let conf = cmd.walk_section(Inside { path: Some(&path), overrides, server: None })?;
    let section = Arc::new(Section::new(&path, matcher, conf));
    cmd.dir(&DIR).sec_file.get_or_insert_default().push(section);
    only_one(cmd, rest)
}

fn if_section(cmd: &mut Cmd, _: &str) -> Done {
    condition(cmd, Branch::If)
}

fn else_if_section(cmd: &mut Cmd, _: &str) -> Done {
    condition(cmd, Branch::ElseIf)
}

fn else_section(cmd: &mut Cmd, _: &str) -> Done {
    condition(cmd, Branch::Else)
}

#[derive(Clone, Copy, PartialEq)]
enum Branch {
    If,
    ElseIf,
    Else,
}

fn condition(cmd: &mut Cmd, branch: Branch) -> Done {
    cmd.check_context(Forbidden::LIMIT)?;
    let args = cmd.node.section_args(plain(cmd))?.to_owned();
    let mut rest = args.as_str();
    let matcher = if branch == Branch::Else {
        if !rest.is_empty() {
            return Err("<Else> does not take an argument".into());
        }
        Matcher::Else
    } else {
        cmd.node.required_section_args(plain(cmd))?;
        let text = next_word(&mut rest);
        let expr = cmd
            .parse_condition(&text)
            .map_err(|error| CmdError::from(format!("Cannot parse condition clause: {error}")))?;
        if branch == Branch::If { Matcher::If(Arc::new(expr)) } else { Matcher::ElseIf(Arc::new(expr)) }
    };
    let overrides = cmd.path.is_none().then_some(INSIDE);
    let conf = cmd.walk_section(Inside { path: Some("*If"), overrides, server: None })?;
    let section = Arc::new(Section::new("*If", matcher, conf));
    add_branch(cmd.dir(&DIR), section, branch)?;
    if rest.is_empty() {
        return Ok(());
    }
    Err(format!("Multiple {}> arguments not supported.", cmd.name).into())
}

/// `ap_add_if_conf`: an `<ElseIf>` or `<Else>` needs something before it.
fn add_branch(conf: &mut CoreDir, section: Arc<Section>, branch: Branch) -> Done {
    let sections = conf.sec_if.get_or_insert_default();
    if branch != Branch::If {
        match sections.last() {
            None => {
                return Err(
                    "<Else> or <ElseIf> section without previous <If> or <ElseIf> section in same scope"
                        .into(),
                );
            }
            Some(last) if matches!(last.matcher, Matcher::Else) => {
                return Err(
                    "<Else> or <ElseIf> section without previous <If> or <ElseIf> section in same scope"
                        .into(),
                );
            }
            Some(_) => {}
        }
    }
    sections.push(section);
    Ok(())
}

fn limit(cmd: &mut Cmd, _: &str) -> Done {
    limit_section(cmd, false)
}

fn limit_except(cmd: &mut Cmd, _: &str) -> Done {
    limit_section(cmd, true)
}

fn limit_section(cmd: &mut Cmd, except: bool) -> Done {
    let args = cmd.node.required_section_args(plain(cmd))?.to_owned();
    let mut rest = args.as_str();
    let mut mask = 0_u64;
    while !rest.is_empty() {
        let name = next_word(&mut rest);
        let mut number = Method::builtin(name.as_bytes()).unwrap_or(Method::INVALID);
        if number == Method::TRACE && !except {
            return Err("TRACE cannot be controlled by <Limit>, see TraceEnable".into());
        }
        if number == Method::INVALID {
            let row = cmd.name;
            number = match cmd.setup() {
                Ok(setup) => setup.methods.register(name.as_bytes()).unwrap_or(Method::INVALID),
                Err(_) => {
                    return Err(format!(
                        "Could not register method '{name}' for {row} from .htaccess configuration"
                    )
                    .into());
                }
            };
        }
        mask |= number.bit();
    }
    if except {
        mask = !mask;
    }
    let before = cmd.limited.unwrap_or(u64::MAX);
    if before & mask == 0 {
        return Err(format!("{}> directive excludes all methods", cmd.name).into());
    }
    if before & mask == before {
        return Err(format!("{}> directive specifies methods already excluded", cmd.name).into());
    }
    cmd.walk_here(Some(before & mask), cmd.overrides)
}

fn virtual_host(cmd: &mut Cmd, _: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let args = cmd.node.required_section_args(plain(cmd))?.to_owned();
    let origin = cmd.node.origin.clone();
    let setup = cmd.setup()?;
    let index = setup.servers.len();
    let mut server = Server::new(index);
    server.defined_at = Some(origin);
    let default_port = setup.servers[0].port;
    let mut rest = args.as_str();
    while !rest.is_empty() {
        let word = next_word(&mut rest);
        if word.is_empty() {
            break;
        }
        server.addrs.extend(addresses(&word, default_port)?);
    }
    // The port in redirects to itself, until a ServerName says another.
    server.port = server.addrs.first().map_or(0, |addr| addr.port);
    if server.port == 0 {
        server.port = default_port;
    }
    setup.servers.push(server);
    let defaults: ConfVec = cmd.walk_section(Inside { path: None, overrides: None, server: Some(index) })?;
    cmd.setup()?.servers[index].defaults = defaults;
    Ok(())
}

/// One address of a `<VirtualHost>`: `get_addresses`.
fn addresses(word: &str, default_port: u16) -> Result<Vec<ServerAddr>, CmdError> {
    let invalid = || CmdError::from("The address or port is invalid");
    let (text, any_port) = match word.strip_suffix(":*") {
        Some(text) => (text, true),
        None => (word, word == "*"),
    };
    let (host, port) = super::server::split_addr_port(text).ok_or_else(invalid)?;
    let Some(host) = host else {
        return Err("Missing address for VirtualHost".into());
    };
    let port = match port {
        Some(port) => port,
        None if any_port => 0,
        None => default_port,
    };
    let one = |ip: Option<IpAddr>| ServerAddr { virthost: host.to_owned(), ip, port };
    if host == "*" || host.eq_ignore_ascii_case("_default_") {
        return Ok(vec![one(None)]);
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![one(Some(ip))]);
    }
    match (host, port).to_socket_addrs() {
        Ok(found) => {
            let mut all: Vec<ServerAddr> = Vec::new();
            for addr in found {
                if !all.iter().any(|a| a.ip == Some(addr.ip())) {
                    all.push(one(Some(addr.ip())));
                }
            }
            Ok(all)
        }
        Err(_) => {
            // A path is to Apache the name of a socket, to which nobody ever comes.
            if !host.starts_with('/') {
                let text = format!("Could not resolve host name {host} -- ignoring!");
                log::server_unresolved(Level::Error, "core", "AH00547", &text);
            }
            Ok(Vec::new())
        }
    }
}

impl Cmd<'_> {
    /// Compiles a condition; in `.htaccess` the functions that read files are left out.
    pub fn parse_condition(&self, text: &str) -> Result<Expr, String> {
        self.parse_expr(text, crate::expr::Mode::Condition, self.expr_flags())
    }

    /// Compiles an expression that gives a string.
    pub fn parse_string(&self, text: &str) -> Result<Expr, String> {
        self.parse_expr(text, crate::expr::Mode::String, self.expr_flags())
    }

    /// Compiles an expression whose use doesn't make the reply vary (`AP_EXPR_FLAG_DONT_VARY`).
    pub fn parse_dont_vary(&self, text: &str, mode: crate::expr::Mode) -> Result<Expr, String> {
        self.parse_expr(text, mode, self.expr_flags() | crate::expr::Flags::DONT_VARY)
    }

    /// What expressions may do here.
    pub fn expr_flags(&self) -> crate::expr::Flags {
        use crate::expr::Flags;
        if self.in_htaccess() { Flags::RESTRICTED_FILE_FUNC } else { Flags::NONE }
    }

    fn parse_expr(
        &self,
        text: &str,
        mode: crate::expr::Mode,
        flags: crate::expr::Flags,
    ) -> Result<Expr, String> {
        Expr::parse_with(
            httpd_conf::to_bytes(text),
            &crate::expr::Options {
                mode,
                flags,
                providers: &[],
                module: crate::modules::of_directive(self.name),
                file: self.node.origin.file.clone(),
                line: self.node.origin.line,
            },
        )
    }
}
