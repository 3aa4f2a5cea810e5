//! `Upgrade`: what a client offers to change to, and what a server announces that it could.
//!
//! Answers to `core_upgrade_handler` of `server/core.c`, `ap_select_protocol`, `ap_get_protocol_upgrades` of
//! `server/protocol.c` and `ap_parse_token_list_strict` of `server/util.c`. No module proposes another protocol yet, so
//! that none is ever changed to.

use super::SERVER;
use crate::http::method::Method;
use crate::log::{Level, connection_event, rerror, shown};
use crate::request::{Answer, Request, Step, memo};
use crate::table::{find_token, is_token_char};

/// The protocol of a connection that nothing was agreed upon for (`AP_PROTOCOL_HTTP1`).
const EXISTING: &[u8] = b"http/1.1";

/// `OPTIONS *` is answered before handlers are asked (`core_upgrade_storage`).
pub(super) fn map_to_storage(r: &mut Request) -> Step {
    if r.method == Method::OPTIONS && r.uri == "*" {
        upgrade(r);
    }
    Step::Declined
}

pub(super) fn handler(r: &mut Request) -> Answer {
    upgrade(r);
    Answer::Declined
}

fn upgrade(r: &mut Request) {
    match r.headers_in.get("Upgrade") {
        Some(offered) if !offered.is_empty() => {
            if !r.headers_in.get("Connection").is_some_and(|connection| find_token(connection, "upgrade")) {
                return;
            }
            match token_list(offered) {
                Ok(offers) if offers.is_empty() => {}
                Ok(offers) => select(r, &offers),
                Err(text) => rerror!(r, Level::Debug, "core", "AH02910", "parsing Upgrade header: {text}"),
            }
        }
        _ => announce(r),
    }
}

/// The first reply of a connection names what else the server speaks, in the order of `Protocols` up to what is spoken.
fn announce(r: &mut Request) {
    let server = r.server.clone();
    let protocols = &server.conf.get(&SERVER).protocols;
    let others: Vec<&str> =
        protocols.iter().map(String::as_str).take_while(|p| p.as_bytes() != EXISTING).collect();
    if !others.is_empty() {
        memo::refuse();
        if r.keepalives > 0 {
            return;
        }
        r.headers_out.set("Upgrade", others.join(","));
        r.headers_out.set("Connection", "Upgrade");
    }
}

/// What is chosen of the client's offers: for the log only, as it can be but the protocol that is spoken.
fn select(r: &Request, offers: &[&[u8]]) {
    let debug = |ah: &str, text: std::fmt::Arguments<'_>| {
        connection_event(&r.connection, Level::Debug, "core", ah, None, text);
    };
    memo::refuse();
    let conf = r.server.conf.get(&SERVER);
    let (configured, choices) = (conf.protocols.join(","), offers.join(&b','));
    let (choices, name) = (shown(&choices), r.server.name());
    debug("AH03155", format_args!("select protocol from {configured}, choices={choices} for server {name}"));
    if conf.protocols.is_empty() {
        return;
    }
    let mut selected = "(none)";
    if offers.contains(&EXISTING) {
        let preferences = if conf.protocols_honor_order == Some(false) { &*choices } else { &configured };
        debug(
            "AH03156",
            format_args!(
                "select protocol, proposals=http/1.1 preferences={preferences} configured={configured}"
            ),
        );
        if conf.protocols.iter().any(|p| p.as_bytes() == EXISTING) {
            selected = "http/1.1";
        }
    }
    debug("AH03157", format_args!("selected protocol={selected}"));
}

/// Tokens between commas; empty members count for nothing, all else is an error.
fn token_list(list: &[u8]) -> Result<Vec<&[u8]>, String> {
    let is_blank = |c: &u8| matches!(c, b' ' | b'\t');
    let mut tokens = Vec::new();
    for member in list.split(|&c| c == b',') {
        let start = member.iter().position(|c| !is_blank(c)).unwrap_or(member.len());
        let member = &member[start..];
        let end = member.iter().position(is_blank).unwrap_or(member.len());
        for (at, &c) in member.iter().enumerate() {
            if !is_token_char(c) && !is_blank(&c) {
                return Err(format!("Encountered illegal separator '\\x{c:02x}'"));
            }
            if at > end && !is_blank(&c) {
                return Err("Encountered illegal whitespace in token".to_owned());
            }
        }
        if end > 0 {
            tokens.push(&member[..end]);
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::token_list;

    #[test]
    fn lists_of_tokens() {
        let tokens = |list: &'static str| token_list(list.as_bytes());
        assert_eq!(tokens("h2c"), Ok(vec![&b"h2c"[..]]));
        assert_eq!(tokens(" a ,, b\t,"), Ok(vec![&b"a"[..], b"b"]));
        assert_eq!(tokens(""), Ok(vec![]));
        assert_eq!(tokens("a b"), Err("Encountered illegal whitespace in token".to_owned()));
        assert_eq!(tokens("TLS/1.0"), Err("Encountered illegal separator '\\x2f'".to_owned()));
    }
}
