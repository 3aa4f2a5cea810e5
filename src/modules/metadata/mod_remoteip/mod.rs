//! mod_remoteip: who the client is behind proxies.
//!
//! Answers to `modules/metadata/mod_remoteip.c`. Where it differs: a header of addresses is looked at before the memo is, so
//! that replies to clients behind proxies are given again; what it found shows in the note `remoteip-proxy-ip-list` and the logs
//! as in Apache. A name in place of an address (which Apache looks up, too) waits for a thread that may block.

mod proxy_protocol;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bstr::ByteSlice;
use httpd_conf::{getword_conf, to_bytes};

use self::proxy_protocol::Header;
use super::mod_headers;
use crate::config::Runtime;
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done};
use crate::config::server::{Server, Setup};
use crate::expr::Subnet;
use crate::hooks::{Hooks, order};
use crate::http::status;
use crate::log::{Level, connection_event, rerror, server_event};
use crate::module::{Conf, Module, Slot};
use crate::modules::aaa::address_error;
use crate::request::{ConnInfo, Request, Step, UserAgent, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "remoteip_module", file: "mod_remoteip.c", directives: ROWS, hooks };

/// A server's settings.
pub static SERVER: Slot<RemoteIp> = Slot::new();

/// The note that lists the proxies.
const PROXIES: &str = "remoteip-proxy-ip-list";

/// A proxy that is believed.
#[derive(Clone)]
struct Trusted {
    subnet: Subnet,
    /// What it says of local addresses is believed, too, and it isn't mentioned.
    internal: bool,
}

/// An address for which `RemoteIPProxyProtocol` says something.
#[derive(Clone, PartialEq)]
struct Place {
    /// `None`: every one.
    ip: Option<IpAddr>,
    /// 0: every one.
    port: u16,
    /// The place of the server that says it.
    server: usize,
}

/// A server's settings: `remoteip_config_t`.
#[derive(Clone, Default)]
pub struct RemoteIp {
    header: Option<String>,
    proxies_header: Option<String>,
    trusted: Option<Arc<Vec<Trusted>>>,
    /// Only in the main server: the last said comes first.
    enabled: Vec<Place>,
    disabled: Vec<Place>,
    exceptions: Vec<Subnet>,
}

impl Conf for RemoteIp {
    fn merge(&self, child: &Self) -> Self {
        RemoteIp {
            header: child.header.clone().or_else(|| self.header.clone()),
            proxies_header: child.proxies_header.clone().or_else(|| self.proxies_header.clone()),
            trusted: child.trusted.clone().or_else(|| self.trusted.clone()),
            ..RemoteIp::default()
        }
    }
}

static ROWS: &[Directive] = &[
    row(
        "RemoteIPHeader",
        Args::Take1(|cmd, arg| {
            cmd.server_conf(&SERVER)?.header = Some(arg.to_owned());
            Ok(())
        }),
        Allowed::RSRC_CONF,
        "Specifies a request header to trust as the client IP, e.g. X-Forwarded-For",
    ),
    row(
        "RemoteIPProxiesHeader",
        Args::Take1(|cmd, arg| {
            cmd.server_conf(&SERVER)?.proxies_header = Some(arg.to_owned());
            Ok(())
        }),
        Allowed::RSRC_CONF,
        "Specifies a request header to record proxy IP's, e.g. X-Forwarded-By; if not given then do not record",
    ),
    row(
        "RemoteIPTrustedProxy",
        Args::Iterate(|cmd, arg| proxies(cmd, arg, false)),
        Allowed::RSRC_CONF,
        "Specifies one or more proxies which are trusted to present IP headers",
    ),
    row(
        "RemoteIPInternalProxy",
        Args::Iterate(|cmd, arg| proxies(cmd, arg, true)),
        Allowed::RSRC_CONF,
        "Specifies one or more internal (transparent) proxies which are trusted to present IP headers",
    ),
    row(
        "RemoteIPTrustedProxyList",
        Args::Take1(|cmd, arg| proxy_list(cmd, arg, false)),
        Allowed::RSRC_CONF,
        "The filename to read the list of trusted proxies, see the RemoteIPTrustedProxy directive",
    ),
    row(
        "RemoteIPInternalProxyList",
        Args::Take1(|cmd, arg| proxy_list(cmd, arg, true)),
        Allowed::RSRC_CONF,
        "The filename to read the list of internal proxies, see the RemoteIPInternalProxy directive",
    ),
    row(
        "RemoteIPProxyProtocol",
        Args::Flag(proxy_protocol),
        Allowed::RSRC_CONF,
        "Enable PROXY protocol handling ('on', 'off')",
    ),
    row(
        "RemoteIPProxyProtocolExceptions",
        Args::Argv(exceptions),
        Allowed::RSRC_CONF,
        "Disable PROXY protocol handling for this list of networks in CIDR format",
    ),
];

const fn row(name: &'static str, args: Args, allowed: Allowed, help: &'static str) -> Directive {
    Directive { name, args, allowed, help }
}

/// `proxies_set`.
fn proxies(cmd: &mut Cmd, arg: &str, internal: bool) -> Done {
    let directive = cmd.name;
    let error = |what: &str| {
        CmdError::from(format!("RemoteIP: Error parsing IP {arg} ({what} error) for {directive}"))
    };
    let (ip, mask) = match arg.split_once('/') {
        Some((ip, mask)) => (ip, Some(mask)),
        None => (arg, None),
    };
    let looks_like_ip = ip.contains(':') || ip.bytes().all(|c| c == b'.' || c.is_ascii_digit());
    let mut found = Vec::new();
    if looks_like_ip {
        found.push(Subnet::new(ip, mask).map_err(|err| error(address_error(err)))?);
    } else if let Some(mask) = mask {
        return Err(format!(
            "RemoteIP: Error parsing IP {arg} the subnet /{mask} is invalid for {directive}"
        )
        .into());
    } else {
        let addresses = (ip, 0).to_socket_addrs().map_err(|_| error("Name or service not known"))?;
        for address in addresses {
            let text = address.ip().to_canonical().to_string();
            let subnet = Subnet::new(&text, None).map_err(|err| error(address_error(err)))?;
            if !found.contains(&subnet) {
                found.push(subnet);
            }
        }
    }
    let trusted = cmd.server_conf(&SERVER)?.trusted.get_or_insert_default();
    Arc::make_mut(trusted).extend(found.into_iter().map(|subnet| Trusted { subnet, internal }));
    Ok(())
}

/// `proxylist_read`.
fn proxy_list(cmd: &mut Cmd, file: &str, internal: bool) -> Done {
    let path = cmd.server_root_relative(file);
    let bytes = match std::fs::read(to_bytes(&path).to_path_lossy()) {
        Ok(bytes) => bytes,
        Err(err) => {
            let err = crate::log::error_words(&err);
            return Err(format!("{}: Could not open file {path}: {err}", cmd.name).into());
        }
    };
    let text = httpd_conf::from_bytes(&bytes);
    for (index, line) in text.lines().enumerate() {
        let mut rest = line.trim();
        loop {
            let word = getword_conf(&mut rest);
            if word.is_empty() || word.starts_with('#') {
                break;
            }
            proxies(cmd, &word, internal)
                .map_err(|err| format!("{} at line {} of {path}", err.message, index + 1))?;
        }
    }
    Ok(())
}

/// The port and name of a server, and where it is defined, for the log.
fn shown_server(server: Option<&Server>) -> String {
    let Some(server) = server else { return String::new() };
    format!(
        "{{{}:{} in {}}}",
        server.hostname.as_deref().unwrap_or("(null)"),
        server.addrs.first().map_or(0, |addr| addr.port),
        server.defined_at.as_ref().map_or("", |at| at.file.as_ref())
    )
}

impl Place {
    fn covers(&self, ip: IpAddr, port: u16) -> bool {
        self.ip.is_none_or(|own| own == ip) && (self.port == 0 || self.port == port)
    }

    /// `remoteip_sockaddr_compat`.
    fn is_like(&self, other: &Place) -> bool {
        let same_ip = self.ip == other.ip && (self.port == other.port || self.port == 0 || other.port == 0);
        let wild = |one: &Place, two: &Place| one.ip.is_none() && (one.port == 0 || one.port == two.port);
        same_ip || wild(self, other) || wild(other, self)
    }

    fn shown(&self) -> String {
        format!("{}:{}", self.ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), self.port)
    }
}

/// `remoteip_enable_proxy_protocol`.
fn proxy_protocol(cmd: &mut Cmd, on: bool) -> Done {
    let server = cmd.server;
    let setup = cmd.setup()?;
    let places: Vec<Place> = match setup.servers.get(server) {
        Some(own) if own.is_virtual() => own
            .addrs
            .iter()
            .map(|addr| Place { ip: addr.ip.map(|ip| ip.to_canonical()), port: addr.port, server })
            .collect(),
        _ => vec![Place { ip: None, port: 0, server }],
    };
    let Some(main) = setup.servers.first_mut() else { return Ok(()) };
    let mut conf = std::mem::take(main.conf.get_mut(&SERVER));
    let (add, remove) =
        if on { (&mut conf.enabled, &mut conf.disabled) } else { (&mut conf.disabled, &mut conf.enabled) };
    for place in places {
        if let Some(at) = remove.iter().position(|old| old.ip == place.ip && old.port == place.port) {
            let old = remove.remove(at);
            let text = format!(
                "RemoteIPProxyProtocol: previous setting for {} from virtual host {} is being overridden by virtual host {}; new setting is '{}'",
                old.shown(),
                shown_server(setup.servers.get(old.server)),
                shown_server(setup.servers.get(server)),
                if on { "On" } else { "Off" }
            );
            server_event(Level::Notice, "remoteip", "AH03491", &text);
        }
        if !add.iter().any(|old| old.is_like(&place)) {
            add.insert(0, place);
        }
    }
    if let Some(main) = setup.servers.first_mut() {
        *main.conf.get_mut(&SERVER) = conf;
    }
    Ok(())
}

/// `remoteip_disable_networks`.
fn exceptions(cmd: &mut Cmd, words: &[String]) -> Done {
    if words.is_empty() {
        return Err(format!("{} requires an argument", cmd.name).into());
    }
    for word in words {
        let (ip, mask) = match word.split_once('/') {
            Some((ip, mask)) => (ip, Some(mask)),
            None => (word.as_str(), None),
        };
        let subnet = Subnet::new(ip, mask).map_err(|err| match err {
            crate::expr::SubnetError::NotAnAddress => format!("ip address '{ip}' appears to be invalid"),
            err => format!("ip address '{ip}' appears to be invalid: {}", address_error(err)),
        })?;
        if let Some(main) = cmd.setup()?.servers.first_mut() {
            main.conf.get_mut(&SERVER).exceptions.push(subnet);
        }
    }
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.post_config(post_config, order::MIDDLE);
    hooks.ahead(ahead);
    hooks.post_read_request(modify_request, order::FIRST);
}

fn post_config(setup: &mut Setup) -> Result<(), String> {
    /// Apache goes through its phases twice when it starts, and says it twice.
    static STARTED: AtomicBool = AtomicBool::new(false);
    let Some(main) = setup.servers.first() else { return Ok(()) };
    let conf = main.conf.get(&SERVER);
    let times = if STARTED.swap(true, Ordering::Relaxed) { 1 } else { 2 };
    for _ in 0..times {
        for place in &conf.enabled {
            let text = format!("RemoteIPProxyProtocol: enabled on {}", place.shown());
            server_event(Level::Notice, "remoteip", "AH03492", &text);
        }
        for place in &conf.disabled {
            let text = format!("RemoteIPProxyProtocol: disabled on {}", place.shown());
            server_event(Level::Notice, "remoteip", "AH03494", &text);
        }
    }
    Ok(())
}

/// Does a connection of `client` to `local` begin with a header of the PROXY protocol? `remoteip_hook_pre_connection`.
pub fn expects_header(runtime: &Runtime, client: IpAddr, local: SocketAddr) -> bool {
    let conf = runtime.main_server().conf.get(&SERVER);
    if conf.enabled.is_empty() {
        return false;
    }
    let (ip, port) = (local.ip().to_canonical(), local.port());
    conf.enabled.iter().any(|place| place.covers(ip, port))
        && !conf.disabled.iter().any(|place| place.covers(ip, port))
        && !conf.exceptions.iter().any(|subnet| subnet.contains(client))
}

/// How the reading of the PROXY protocol's header goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// It was so long.
    Done(usize),
    /// There is more to come.
    Part,
    /// The connection is to be closed.
    Bad,
}

/// Looks at the first bytes of a connection: `remoteip_input_filter`.
pub fn read_header(c: &ConnInfo, bytes: &[u8]) -> Received {
    let (length, client) = match proxy_protocol::parse(bytes) {
        Header::Part => return Received::Part,
        Header::Bad(None) => return Received::Bad,
        Header::Bad(Some((ah, text))) => {
            connection_event(c, Level::Error, "remoteip", ah, None, format_args!("{text}"));
            return Received::Bad;
        }
        Header::Whole(length, client) => (length, client),
    };
    let (addr, ip) = match client {
        Some(client) => (client.addr, client.ip),
        None => (c.client_addr, c.client_ip.clone()),
    };
    let (shown, port) = (ip.clone(), addr.port());
    // Nobody else sets it.
    let _ = c.proxied.set(Arc::new(UserAgent { addr, ip, name: Default::default(), proxies: None }));
    connection_event(
        c,
        Level::Debug,
        "remoteip",
        "AH03511",
        None,
        format_args!("RemoteIPProxyProtocol: received valid PROXY header: {shown}:{port}"),
    );
    Received::Done(length)
}

/// A name must be looked up, which would block.
struct WouldBlock;

/// Finds out about the client before the memo is asked, where that can be done at once.
fn ahead(r: &mut Request) {
    // Who changes the header first must be waited for; and a line of the log is to be written once.
    let waits = mod_headers::changes_request_early(r) || r.log_enabled("remoteip", Level::Debug);
    if r.useragent.is_none() && !waits {
        let _ = find_client(r);
    }
}

/// `remoteip_modify_request`.
fn modify_request(r: &mut Request) -> Step {
    if r.server_conf(&SERVER).header.is_none() && !r.connection.proxy_header {
        return Step::Declined;
    }
    if r.connection.awaits_proxy_header() {
        rerror!(
            r,
            Level::Warn,
            "remoteip",
            "AH03496",
            "RemoteIPProxyProtocol data is missing, but required! Aborting request."
        );
        return Step::Status(status::BAD_REQUEST);
    }
    if (r.useragent.is_none() || !r.is_initial()) && find_client(r).is_err() {
        return Step::NeedThread;
    }
    if let Some(proxies) = r.client_proxies().map(str::to_owned) {
        r.notes.set(PROXIES, proxies);
    }
    Step::Ok
}

/// Sets who the client is, by the PROXY protocol or a header.
fn find_client(r: &mut Request) -> Result<(), WouldBlock> {
    if r.connection.proxy_header {
        if let Some(client) = r.connection.proxied.get().cloned() {
            r.useragent = Some(client.clone());
            rerror!(
                r,
                Level::Trace1,
                "remoteip",
                "",
                "Using {} as client's IP from PROXY protocol",
                client.ip
            );
        }
        return Ok(());
    }
    let server = r.server.clone();
    let conf = server.conf.get(&SERVER);
    let Some(header) = &conf.header else { return Ok(()) };
    let Some(list) = r.headers_in.get(header).map(<[u8]>::to_vec) else { return Ok(()) };
    memo::saw_client();
    let Some(found) = last_trusted(r, conf, header, &list)? else { return Ok(()) };
    match found.remaining {
        Some(rest) => r.headers_in.set(header, rest),
        None => {
            r.headers_in.unset(header);
        }
    }
    if let (Some(header), Some(proxies)) = (&conf.proxies_header, &found.proxies) {
        r.headers_in.set(header, proxies);
    }
    r.useragent = Some(Arc::new(UserAgent {
        addr: SocketAddr::new(found.ip, 0),
        ip: found.ip.to_string(),
        name: Default::default(),
        proxies: found.proxies.clone(),
    }));
    match &found.proxies {
        Some(proxies) => rerror!(
            r,
            Level::Trace1,
            "remoteip",
            "",
            "Using {} as client's IP by proxies {proxies}",
            found.ip
        ),
        None => {
            rerror!(r, Level::Trace1, "remoteip", "", "Using {} as client's IP by internal proxies", found.ip)
        }
    }
    Ok(())
}

/// What a list of addresses comes to.
struct Found {
    ip: IpAddr,
    /// What is left of the list.
    remaining: Option<Vec<u8>>,
    /// The external proxies.
    proxies: Option<String>,
}

/// Goes back through the list, as long as who says it is trusted.
fn last_trusted(
    r: &Request,
    conf: &RemoteIp,
    header: &str,
    list: &[u8],
) -> Result<Option<Found>, WouldBlock> {
    let mut internal = conf.trusted.is_some();
    let mut ip = r.client_addr().ip().to_canonical();
    let mut remaining = Some(list.to_vec());
    let mut proxies: Option<String> = None;
    let mut any = false;
    while let Some(rest) = &remaining {
        if let Some(trusted) = &conf.trusted {
            let Some(by) = trusted.iter().find(|t| t.subnet.contains(ip)) else { break };
            // An external proxy can't make an internal one of who it speaks for.
            internal &= by.internal;
        }
        let comma = rest.rfind_byte(b',');
        let last = &rest[comma.map_or(0, |at| at + 1)..];
        let bare = last.trim_start_with(|c| c == ' ');
        let word = bare.trim_end_with(|c| c == ' ');
        if word.is_empty() {
            if comma.is_none() {
                remaining = Some(Vec::new());
            }
            break;
        }
        // Up to and with the word, as it stays when the word can't be taken.
        let with_word = match comma {
            Some(_) => rest[..rest.len() - (bare.len() - word.len())].to_vec(),
            None => word.to_vec(),
        };
        let Some(next) = address(r, word)? else {
            rerror!(
                r,
                Level::Debug,
                "remoteip",
                "AH01568",
                err = std::io::Error::other("(EAI 2)Name or service not known"),
                "RemoteIP: Header {header} value of {} cannot be parsed as a client IP",
                word.as_bstr()
            );
            remaining = Some(with_word);
            break;
        };
        if !internal && is_private(next) {
            rerror!(
                r,
                Level::Debug,
                "remoteip",
                "AH01569",
                "RemoteIP: Header {header} value of {} appears to be a private IP or nonsensical.  Ignored",
                word.as_bstr()
            );
            remaining = Some(with_word);
            break;
        }
        if !internal {
            proxies = Some(match proxies {
                Some(before) => format!("{before}, {ip}"),
                None => ip.to_string(),
            });
        }
        any = true;
        ip = next;
        remaining = comma.map(|at| rest[..at].to_vec());
    }
    Ok(any.then_some(Found { ip, remaining, proxies }))
}

/// The address that a word of the header is, or whose name it is.
fn address(r: &Request, word: &[u8]) -> Result<Option<IpAddr>, WouldBlock> {
    let Ok(word) = word.to_str() else { return Ok(None) };
    if let Ok(ip) = word.parse::<IpAddr>() {
        return Ok(Some(ip.to_canonical()));
    }
    if r.needs_thread() {
        return Err(WouldBlock);
    }
    let found = (word, 0).to_socket_addrs().ok().and_then(|mut all| all.next());
    Ok(found.map(|addr| addr.ip().to_canonical()))
}

/// Not of the internet (RFC 3330), or not a global unicast address (RFC 4291).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.octets()[0] & 0xe0 != 0x20,
    }
}
