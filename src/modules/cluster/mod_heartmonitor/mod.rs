//! mod_heartmonitor: keeps what the servers of a group say of themselves in memory that all processes share, or in a file.
//!
//! Answers to `modules/cluster/mod_heartmonitor.c`. One of the children listens; a handler takes the same messages by POST.

pub mod slot;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::ByteSlice;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::{BadAddress, group_address};
use crate::body::Content;
use crate::config::Runtime;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};
use crate::config::server::Setup;
use crate::conn::input::Pulled;
use crate::hooks::{Hooks, order};
use crate::http::escape::unescape_urlencoded;
use crate::http::method::Method;
use crate::http::status;
use crate::log::{self, Level, rerror, shown};
use crate::module::{Conf, Module, Slot};
use crate::modules::mod_watchdog::{self, Watch};
use crate::os::{clock, random};
use crate::request::{Answer, Request, memo};
use crate::slotmem::Slots;
use crate::table::Table;
use crate::text::atoi;

/// The module.
pub static MODULE: Module =
    Module { name: "heartmonitor_module", file: "mod_heartmonitor.c", directives: ROWS, hooks };

static SERVER: Slot<Heartmonitor> = Slot::new();

#[derive(Clone, Default)]
struct Heartmonitor {
    /// `HeartbeatListen`
    listen: Option<SocketAddr>,
    /// `HeartbeatStorage`
    storage: Option<PathBuf>,
    /// `HeartbeatMaxServers`
    max_servers: Option<i32>,
    /// Where the servers are kept unless it is in a file.
    slots: Option<Arc<Slots>>,
}

impl Conf for Heartmonitor {
    fn merge(&self, child: &Self) -> Self {
        Heartmonitor {
            listen: child.listen.or(self.listen),
            storage: child.storage.clone().or_else(|| self.storage.clone()),
            max_servers: child.max_servers.or(self.max_servers),
            slots: child.slots.clone().or_else(|| self.slots.clone()),
        }
    }
}

static ROWS: &[Directive] = &[
    row("HeartbeatListen", heartbeat_listen, "Address to listen for heartbeat requests"),
    row("HeartbeatStorage", heartbeat_storage, "Path to store heartbeat data."),
    row(
        "HeartbeatMaxServers",
        heartbeat_max_servers,
        "Max number of servers when using slotmem (instead file) to store heartbeat data.",
    ),
];

const fn row(name: &'static str, set: fn(&mut Cmd, &str) -> Done, help: &'static str) -> Directive {
    Directive { name, args: Args::Take1(set), allowed: Allowed::RSRC_CONF, help }
}

fn heartbeat_listen(cmd: &mut Cmd, address: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let conf = cmd.server_conf(&SERVER)?;
    if conf.listen.is_some() {
        return Err("HeartbeatListen: May only be specified once.".into());
    }
    conf.listen = Some(group_address(address).map_err(|bad| match bad {
        BadAddress::Unparsable => "HeartbeatListen: Unable to parse multicast address.",
        BadAddress::NoHost => "HeartbeatListen: No host provided in multicast address",
        BadAddress::NoPort => "HeartbeatListen: No port provided in multicast address",
        BadAddress::Unknown => "HeartbeatListen: apr_sockaddr_info_get failed on multicast address",
    })?);
    Ok(())
}

fn heartbeat_storage(cmd: &mut Cmd, path: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let path = cmd.setup()?.runtime_dir_relative(path);
    cmd.server_conf(&SERVER)?.storage = Some(path);
    Ok(())
}

fn heartbeat_max_servers(cmd: &mut Cmd, number: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let number = atoi(number);
    if number != 0 && number < 10 {
        return Err(
            "HeartbeatMaxServers: Should be 0 for file storage, or greater or equal than 10 for slotmem"
                .into(),
        );
    }
    cmd.server_conf(&SERVER)?.max_servers = Some(number);
    Ok(())
}

/// The file where none is named: `DEFAULT_HEARTBEAT_STORAGE`.
const STORAGE: &str = "hb.dat";
/// The name of the watchdog, which Apache spells so in its source, too.
const WATCHDOG: &str = "_heartmonitor_";
/// How many servers there may be where nothing is said.
const MAX_SERVERS: i32 = 10;
/// How often the file is written, and how long a server that is silent stays in it.
const UPDATE: Duration = Duration::from_secs(5);
const SEEN_TIMEOUT: u64 = 30;
/// `MAX_MSG_LEN`
const LONGEST_MESSAGE: usize = 1000;

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.post_config(post_config, order::MIDDLE);
    hooks.handler(handler, order::FIRST).before(&["mod_proxy.c"]);
}

/// `hm_post_config`
fn post_config(setup: &mut Setup) -> Result<(), String> {
    let default = setup.runtime_dir_relative(STORAGE);
    let conf = setup.servers[0].conf.get_mut(&SERVER);
    let storage = conf.storage.get_or_insert_with(|| default.clone()).clone();
    let max_servers = conf.max_servers.unwrap_or(MAX_SERVERS);
    let listens = conf.listen.is_some();
    if let Some(count) = usize::try_from(max_servers).ok().filter(|count| *count > 0) {
        let slots = create_slots(setup, count)?;
        setup.servers[0].conf.get_mut(&SERVER).slots = Some(slots);
    }
    // A virtual host knows nothing of what the directives say.
    for server in setup.servers.iter_mut().skip(1) {
        server.conf.get_mut(&SERVER).storage = Some(default.clone());
    }
    setup.servers[0].conf.get_mut(&SERVER).storage = Some(storage);
    if listens {
        let watch = Watch::new(WATCHDOG, monitor).map_err(|err| err.to_string())?;
        mod_watchdog::watch(setup, watch);
        let text = format!("wd callback {WATCHDOG}");
        log::server_event(Level::Debug, "heartmonitor", "AH02096", &text);
    }
    Ok(())
}

fn create_slots(setup: &Setup, count: usize) -> Result<Arc<Slots>, String> {
    let failed = |ah: &str, text: &str| {
        log::server_event(Level::Emerg, "heartmonitor", ah, text);
        "AH00016: Configuration Failed".to_owned()
    };
    let Some(create) = setup.hooks.find_slotmem("shm") else {
        let text = "failed to lookup provider 'shm' for 'slotmem', maybe you need to load mod_slotmem_shm?";
        return Err(failed("AH02284", text));
    };
    create(setup, "mod_heartmonitor", slot::SIZE, count)
        .map_err(|_| failed("AH02285", "slotmem_create for status failed"))
}

/// A server of the group: `hm_server_t`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Node {
    ready: i32,
    busy: i32,
    port: u32,
    /// When it was heard of, in seconds since 1970.
    seen: i64,
}

impl Node {
    fn of(fields: &Table, seen: i64) -> Node {
        let number = |name: &str| fields.get(name).map_or(0, atoi);
        let port = fields.get("port").map_or(80, |port| atoi(port) as u32);
        Node { ready: number("ready"), busy: number("busy"), port, seen }
    }

    fn line(&self, ip: &[u8], now: i64) -> Vec<u8> {
        let seen = now.saturating_sub(self.seen) as u32;
        let (ready, busy, port) = (self.ready as u32, self.busy as u32, self.port);
        let fields = format!(" &ready={ready}&busy={busy}&lastseen={seen}&port={port}\n");
        [ip, fields.as_bytes()].concat()
    }
}

/// `qs_to_table`
fn fields(text: &[u8]) -> Table {
    let mut table = Table::new();
    for field in text.split(|&byte| byte == b'&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once_str("=").unwrap_or((field, b"1"));
        // Plus signs stay; what can't be decoded stays as far as it came.
        let decoded = |part: &[u8]| {
            let mut part = part.replace("+", "%2b");
            let _ = unescape_urlencoded(&mut part);
            part
        };
        table.set(decoded(name), decoded(value));
    }
    table
}

fn crit(ah: &str, err: &io::Error, text: &str) {
    log::server_error(Level::Crit, "heartmonitor", ah, Some(err), text);
}

/// `hm_listen`
fn listen(address: SocketAddr) -> Option<Socket> {
    let step = |result: io::Result<()>, ah: &str, text: &str| result.map_err(|err| crit(ah, &err, text)).ok();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
        .map_err(|err| crit("AH02068", &err, "Failed to create listening socket."))
        .ok()?;
    step(socket.set_reuse_address(true), "AH02069", "Failed to set APR_SO_REUSEADDR to 1 on socket.")?;
    step(socket.set_nonblocking(true), "AH02070", "Failed to set APR_SO_NONBLOCK to 1 on socket.")?;
    step(socket.bind(&address.into()), "AH02071", "Failed to bind on socket.")?;
    let SocketAddr::V4(group) = address else { return None };
    let joined = socket.join_multicast_v4(group.ip(), &Ipv4Addr::UNSPECIFIED);
    step(joined, "AH02072", "Failed to join multicast group")?;
    step(socket.set_multicast_loop_v4(true), "AH02073", "Failed to accept localhost mulitcast on socket.")?;
    Some(socket)
}

/// `hm_watchdog_callback`
fn monitor(runtime: &Arc<Runtime>) {
    let conf = runtime.main_server().conf.get(&SERVER);
    let Some(address) = conf.listen else { return };
    let Some(socket) = listen(address) else {
        let text = "Unable to listen for connections!";
        log::server_event(Level::Crit, "heartmonitor", "AH02090", text);
        return;
    };
    let text = format!("{WATCHDOG} listener started.");
    log::server_event(Level::Debug, "heartmonitor", "AH02091", &text);
    let mut nodes = BTreeMap::new();
    loop {
        match (&conf.slots, &conf.storage) {
            (Some(slots), _) => slot::update_all(slots, &nodes),
            (None, Some(storage)) => write_all(storage, &nodes),
            (None, None) => {}
        }
        let begun = Instant::now();
        while begun.elapsed() < UPDATE {
            use std::os::fd::AsFd;
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(1000_u16)).is_ok_and(|ready| ready > 0) {
                receive(&socket, &mut nodes);
            }
        }
    }
}

/// `hm_recv`, `hm_processmsg`
fn receive(socket: &Socket, nodes: &mut BTreeMap<String, Node>) {
    let mut buffer = [0; LONGEST_MESSAGE];
    let udp = match socket.try_clone() {
        Ok(socket) => std::net::UdpSocket::from(socket),
        Err(err) => return crit("AH02089", &err, "recvfrom failed"),
    };
    let (length, from) = match udp.recv_from(&mut buffer) {
        Ok(received) => received,
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
            return crit("AH02088", &err, "would block");
        }
        Err(err) => return crit("AH02089", &err, "recvfrom failed"),
    };
    let fields = fields(c_string(&buffer[..length]));
    let text = |name: &str| fields.get(name).map(|value| value.to_str_lossy().into_owned());
    match (fields.contains("v"), text("busy"), text("ready")) {
        (true, Some(busy), Some(ready)) => {
            let text = format!("{from} busy={busy} ready={ready}");
            log::server_event(Level::Debug, "heartmonitor", "AH02086", &text);
            let ip = from.ip().to_string();
            let heard = Node::of(&fields, clock::unix_secs());
            // The port is that of its first message.
            let port = nodes.get(&ip).map_or(heard.port, |node| node.port);
            nodes.insert(ip, Node { port, ..heard });
        }
        _ => {
            let text = format!("malformed message from {from}");
            log::server_event(Level::Crit, "heartmonitor", "AH02087", &text);
        }
    }
}

fn c_string(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The AH numbers of [`replace`]'s steps.
type Numbers = [&'static str; 4];

/// `hm_file_update_stats`
fn write_all(storage: &Path, nodes: &BTreeMap<String, Node>) {
    let now = clock::unix_secs();
    let recent = nodes.iter().filter(|(_, node)| now.saturating_sub(node.seen) <= SEEN_TIMEOUT as i64);
    let lines: Vec<u8> = recent.flat_map(|(ip, node)| node.line(ip.as_bytes(), now)).collect();
    replace(storage, &lines, ["AH02081", "AH02083", "AH02084", "AH02085"]);
}

/// `hm_file_update_stat`: the line of one server is changed, the others grow older.
fn write_one(storage: &Path, ip: &str, node: &Node) {
    let now = clock::unix_secs();
    let mut lines = Vec::new();
    let mut updated = false;
    if let Ok(content) = fs::read(storage) {
        let modified = fs::metadata(storage).and_then(|meta| meta.modified()).ok();
        let age = modified.and_then(|at| at.elapsed().ok()).map_or(0, |age| age.as_secs() as i64);
        for line in content.lines() {
            match line.find_byte(b' ').filter(|_| line.first() != Some(&b'#')) {
                None => lines.extend_from_slice(&[line, b"\n"].concat()),
                Some(end) if &line[..end] == ip.as_bytes() => {
                    lines.extend_from_slice(&node.line(ip.as_bytes(), now));
                    updated = true;
                }
                Some(end) => {
                    let fields = fields(&line[end..]);
                    let seen = fields.get("lastseen").map_or(SEEN_TIMEOUT as i64, |at| i64::from(atoi(at)));
                    lines.extend_from_slice(&Node::of(&fields, now - age - seen).line(&line[..end], now));
                }
            }
        }
    }
    if !updated {
        lines.extend_from_slice(&node.line(ip.as_bytes(), now));
    }
    replace(storage, &lines, ["AH02074", "AH02078", "AH02079", "AH02080"]);
}

/// A new file in place of the old one.
fn replace(storage: &Path, lines: &[u8], [open, close, permit, rename]: Numbers) {
    let suffix: [u8; 6] = random::bytes();
    let suffix: String = suffix.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    let mut name = storage.as_os_str().to_owned();
    name.push(format!(".tmp.{suffix}"));
    let path = Path::new(&name);
    let shown = path.display();
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(err) => return crit(open, &err, &format!("Unable to open tmp file: {shown}")),
    };
    if let Err(err) = file.write_all(lines) {
        return crit(close, &err, &format!("Unable to close file: {shown}"));
    }
    if let Err(err) = file.set_permissions(fs::Permissions::from_mode(0o444)) {
        return crit(permit, &err, &format!("Unable to set file permissions on {shown}"));
    }
    if let Err(err) = fs::rename(path, storage) {
        crit(rename, &err, &format!("Unable to move file: {shown} -> {}", storage.display()));
    }
}

/// `hm_handler`
fn handler(r: &mut Request) -> Answer {
    if r.handler.as_deref() != Some("heartbeat") {
        return Answer::Declined;
    }
    memo::refuse();
    if r.method != Method::POST {
        return Answer::Status(status::METHOD_NOT_ALLOWED);
    }
    let server = r.server.clone();
    if server.conf.get(&SERVER).listen.is_none() || server.is_virtual() {
        rerror!(r, Level::Error, "heartmonitor", "AH10561", "Heartbeat monitoring not active");
        return Answer::Status(status::SERVICE_UNAVAILABLE);
    }
    // One read: what came of it.
    let message = match r.pull_input() {
        Ok(Pulled::Data(data)) => data,
        Ok(Pulled::End) => Default::default(),
        Ok(Pulled::Wait) => return r.wait_for_input(),
        Ok(Pulled::Bad(code)) => return Answer::Status(code),
        Err(_) => return Answer::Status(status::BAD_REQUEST),
    };
    let fields = fields(c_string(&message[..message.len().min(LONGEST_MESSAGE)]));
    if !(fields.contains("busy") && fields.contains("ready")) {
        let text = "Missing required parameters: busy and/or ready";
        rerror!(r, Level::Error, "heartmonitor", "AH10563", "{text}");
        return Answer::Status(status::BAD_REQUEST);
    }
    let node = posted(r, &fields);
    let conf = server.conf.get(&SERVER);
    let ip = &r.connection.client_ip;
    match (&conf.slots, &conf.storage) {
        (Some(slots), _) => slot::update(slots, ip, &node),
        (None, Some(storage)) => write_one(storage, ip, &node),
        (None, None) => {}
    }
    r.set_content_type("text/plain");
    Answer::Body(Content::from("OK".to_owned()))
}

/// What a message by POST says; what is no number counts for nothing.
fn posted(r: &Request, fields: &Table) -> Node {
    let number = |name: &str| fields.get(name).map(whole_number);
    let bad = |ah: &'static str, name: &str, instead: &str| {
        let value = shown(fields.get(name).unwrap_or_default());
        rerror!(r, Level::Warn, "heartmonitor", ah, "Invalid {name} value: {value}, using {instead}");
    };
    let port = match number("port") {
        None => 80,
        Some(Some(port @ 1..=65535)) => port as u32,
        Some(_) => {
            bad("AH10564", "port", "default 80");
            80
        }
    };
    let [busy, ready] = [("busy", "AH10565"), ("ready", "AH10566")].map(|(name, ah)| {
        let number = number(name).flatten();
        if number.is_none() {
            bad(ah, name, "0");
        }
        number.unwrap_or(0) as i32
    });
    Node { ready, busy, port, seen: clock::unix_secs() }
}

/// A number with nothing behind it.
fn whole_number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.trim_start();
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let fields = fields(b"v=1&ready=75&busy=%30&port=8080&&x");
        assert_eq!(fields.get("x"), Some(&b"1"[..]));
        let node = Node::of(&fields, 1000);
        assert_eq!(node, Node { ready: 75, busy: 0, port: 8080, seen: 1000 });
        assert_eq!(node.line(b"10.0.0.1", 1003), b"10.0.0.1 &ready=75&busy=0&lastseen=3&port=8080\n");
    }
}
