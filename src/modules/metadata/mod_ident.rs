//! mod_ident: who the client's host says that the client is (RFC 1413).
//!
//! Answers to `modules/metadata/mod_ident.c` and to `ap_get_remote_logname` of `server/core.c`. The host is asked when somebody
//! wants to know (`%l` in a log, `REMOTE_IDENT`), at most once for a connection, on a thread that may block.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::config::server::Server;
use crate::expr::NeedThread;
use crate::hooks::{Hooks, order};
use crate::log::{self, Level};
use crate::module::{Conf, Module, Slot};
use crate::request::{ConnInfo, Request};
use crate::text::{atoi, is_space};

/// The module.
pub static MODULE: Module = Module { name: "ident_module", file: "mod_ident.c", directives: ROWS, hooks };

static DIR: Slot<Ident> = Slot::new();

/// A directory's settings: `ident_config_rec`.
#[derive(Clone, Default)]
struct Ident {
    check: Option<bool>,
    /// In seconds; negative: without end.
    timeout: Option<i32>,
}

impl Conf for Ident {
    fn merge(&self, child: &Self) -> Self {
        Ident { check: child.check.or(self.check), timeout: child.timeout.or(self.timeout) }
    }
}

static ROWS: &[Directive] = &[
    Directive {
        name: "IdentityCheck",
        args: Args::Flag(identity_check),
        allowed: Allowed::CONF,
        help: "Enable identd (RFC 1413) user lookups - SLOW",
    },
    Directive {
        name: "IdentityCheckTimeout",
        args: Args::Take1(identity_check_timeout),
        allowed: Allowed::CONF,
        help: "Identity check (RFC 1413) timeout duration (sec)",
    },
];

fn identity_check(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).check = Some(on);
    Ok(())
}

fn identity_check_timeout(cmd: &mut Cmd, seconds: &str) -> Done {
    cmd.dir(&DIR).timeout = Some(atoi(seconds));
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.insert_filter(may_be_asked, order::MIDDLE).own();
}

/// A filter that wants to know can't say that it needs a thread for that.
fn may_be_asked(r: &mut Request) {
    r.filters_need_thread |= remote_logname(r, false).is_err();
}

/// What is said of a client whose host says nothing.
const UNKNOWN: &str = "unknown";
const PORT: u16 = 113;
/// `RFC1413_MAXDATA`
const LONGEST_REPLY: usize = 1000;
/// `RFC1413_USERLEN`
const LONGEST_USER: usize = 512;

/// The client's name by its host, where `IdentityCheck` is on: `ap_get_remote_logname`.
pub fn remote_logname(r: &Request, may_block: bool) -> Result<Option<&str>, NeedThread> {
    let connection = &r.connection;
    if let Some(name) = connection.remote_logname.get() {
        return Ok(Some(name));
    }
    let conf = r.dir(&DIR);
    if conf.check != Some(true) {
        return Ok(None);
    }
    if !may_block {
        return Err(NeedThread);
    }
    let ask =
        || look_up(connection, &r.server, conf.timeout.unwrap_or(30)).unwrap_or_else(|| UNKNOWN.to_owned());
    Ok(Some(connection.remote_logname.get_or_init(ask)))
}

/// `ap_ident_lookup`.
fn look_up(connection: &ConnInfo, server: &Server, timeout: i32) -> Option<String> {
    let timeout = u64::try_from(timeout).ok().map(Duration::from_secs);
    // That a host knows nothing of this protocol is no error.
    let socket = connect(connection, server, timeout)?;
    query(socket, server, connection.client_addr.port(), connection.local_addr.port())
}

/// The addresses are those of the connection: only ports are asked about.
fn connect(connection: &ConnInfo, server: &Server, timeout: Option<Duration>) -> Option<Socket> {
    let crit = |ah: &str, err: io::Error, text: &str| {
        log::event_of(server, Level::Crit, "ident", ah, Some(&err), text);
    };
    let local = SocketAddr::new(connection.local_addr.ip(), 0);
    let client = SocketAddr::new(connection.client_addr.ip(), PORT);
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, None)
        .map_err(|err| crit("AH01494", err, "rfc1413: error creating query socket"))
        .ok()?;
    socket
        .set_read_timeout(timeout.filter(|timeout| !timeout.is_zero()))
        .and_then(|()| socket.set_write_timeout(timeout.filter(|timeout| !timeout.is_zero())))
        .map_err(|err| crit("AH01495", err, "rfc1413: error setting query socket timeout"))
        .ok()?;
    socket
        .bind(&local.into())
        .map_err(|err| crit("AH01496", err, "rfc1413: Error binding query socket to local port"))
        .ok()?;
    match timeout {
        // No time at all is never enough.
        Some(Duration::ZERO) => return None,
        Some(timeout) => socket.connect_timeout(&client.into(), timeout),
        None => socket.connect(&client.into()),
    }
    .ok()?;
    Some(socket)
}

/// `rfc1413_query`.
fn query(mut socket: Socket, server: &Server, client_port: u16, our_port: u16) -> Option<String> {
    if let Err(err) = socket.write_all(format!("{client_port},{our_port}\r\n").as_bytes()) {
        let text = "write: rfc1413: error sending request";
        log::event_of(server, Level::Crit, "ident", "AH01497", Some(&err), text);
        return None;
    }
    let mut reply = [0; LONGEST_REPLY];
    let mut length = 0;
    while !reply[..length].contains(&b'\n') && length < LONGEST_REPLY {
        let failed = match socket.read(&mut reply[length..]) {
            Ok(0) => io::Error::other("(70014)End of file found"),
            Ok(count) => {
                length += count;
                continue;
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                io::Error::other("(70007)The timeout specified has expired")
            }
            Err(err) => err,
        };
        let text = "read: rfc1413: error reading response";
        log::event_of(server, Level::Crit, "ident", "AH01498", Some(&failed), text);
        return None;
    }
    let (ports, user) = parse(&reply[..length])?;
    (ports == [client_port, our_port]).then_some(user)
}

/// `6193, 23 : USERID : UNIX : stjohns`: the two ports and the user.
fn parse(reply: &[u8]) -> Option<([u16; 2], String)> {
    let mut rest = reply;
    let client_port = port(&mut rest)?;
    expect(&mut rest, b",")?;
    let our_port = port(&mut rest)?;
    expect(&mut rest, b":")?;
    expect(&mut rest, b"USERID")?;
    expect(&mut rest, b":")?;
    let system = rest.iter().position(|&byte| byte == b':').filter(|&length| length > 0)?;
    let user = skip_space(&rest[system + 1..]);
    let end = user.iter().position(|&byte| is_space(byte) || byte == 0).unwrap_or(user.len());
    let user = &user[..end.min(LONGEST_USER)];
    (!user.is_empty()).then(|| ([client_port, our_port], String::from_utf8_lossy(user).into_owned()))
}

fn skip_space(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|&&byte| is_space(byte)).count()..]
}

fn port(rest: &mut &[u8]) -> Option<u16> {
    let text = skip_space(rest);
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    *rest = &text[digits..];
    std::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

fn expect(rest: &mut &[u8], word: &[u8]) -> Option<()> {
    *rest = skip_space(rest).strip_prefix(word)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let parsed = |reply: &str| parse(reply.as_bytes()).map(|(ports, user)| (ports[0], ports[1], user));
        assert_eq!(parsed("6193, 23 : USERID : UNIX : stjohns\r\n"), Some((6193, 23, "stjohns".to_owned())));
        assert_eq!(parsed("1,2:USERID:OTHER :a b\r\n"), Some((1, 2, "a".to_owned())));
        assert_eq!(parsed("6195, 23 : ERROR : NO-USER\r\n"), None);
        assert_eq!(parsed("1,2:USERID::user\r\n"), None);
        assert_eq!(parsed("1,2:USERID:UNIX: \r\n"), None);
        assert_eq!(parsed("99999,2:USERID:UNIX:x\r\n"), None);
    }
}
