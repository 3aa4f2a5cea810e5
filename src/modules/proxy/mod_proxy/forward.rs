//! The server as a proxy that clients ask: what is for it, which hosts it refuses, and the proxies that it asks itself.
//!
//! Answers to `proxy_detect`, `add_proxy`, `ap_proxy_checkproxyblock2` and the matchers of `NoProxy`.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::sync::Arc;

use base64::Engine;
use httpd_conf::to_bytes;

use super::SERVER;
use super::worker::proxy_port_of_scheme;
use crate::config::directive::{Cmd, Done};
use crate::http::method::Method;
use crate::http::status;
use crate::http::uri::Uri;
use crate::log::{self, Level, rerror, shown};
use crate::modules::mappers::mod_rewrite::address::matches_request_vhost;
use crate::regex::{Regex, default_flags};
use crate::request::{ProxyReq, Request, Step};

/// `ProxyRemote`: a proxy that is asked in place of the backend.
pub struct Remote {
    scheme: String,
    regex: Option<Regex>,
    /// The proxy's name.
    pub hostname: String,
    /// Its port.
    pub port: u16,
    /// What it is told about who we are.
    pub credentials: Option<String>,
}

/// `ProxyBlock`: hosts that are not asked.
pub struct Blocked {
    name: String,
    addrs: Vec<IpAddr>,
}

/// `NoProxy`: hosts that are asked without a remote proxy.
pub enum Direct {
    /// A network.
    Network(Ipv4Addr, u32),
    /// All hosts of a domain.
    Domain(String),
    /// One host.
    Host(String),
    /// All hosts with this in their names.
    Word(String),
}

pub(super) fn proxy_remote(cmd: &mut Cmd, what: &str, url: &str, credentials: Option<&str>) -> Done {
    add_remote(cmd, what, url, credentials, "ProxyRemote")
}

pub(super) fn proxy_remote_match(cmd: &mut Cmd, what: &str, url: &str, credentials: Option<&str>) -> Done {
    add_remote(cmd, what, url, credentials, "ProxyRemoteMatch")
}

fn add_remote(cmd: &mut Cmd, what: &str, url: &str, credentials: Option<&str>, name: &str) -> Done {
    let is_regex = name == "ProxyRemoteMatch";
    let bad = || format!("{name}: Bad syntax for a remote proxy server");
    let (scheme, rest) = url.split_once(':').ok_or_else(bad)?;
    let host = rest.strip_prefix("//").filter(|host| !host.is_empty()).ok_or_else(bad)?;
    let (hostname, port) = match host.split_once(':') {
        Some((hostname, text)) => {
            let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let port = text[..digits].parse::<u16>();
            (hostname, port.map_err(|_| format!("{} (bad port number)", bad()))?)
        }
        None => (host, proxy_port_of_scheme(scheme)),
    };
    let regex = match is_regex {
        true => {
            let wrong = "Regular expression for ProxyRemoteMatch could not be compiled.";
            Some(Regex::new(what, default_flags()).map_err(|_| wrong)?)
        }
        false => None,
    };
    let lower = !is_regex && !what.contains(':');
    let remote = Remote {
        scheme: if lower { what.to_ascii_lowercase() } else { what.to_owned() },
        regex,
        hostname: hostname.to_ascii_lowercase(),
        port,
        credentials: credentials.map(|credentials| {
            let coded = base64::engine::general_purpose::STANDARD.encode(to_bytes(credentials));
            format!("Basic {coded}")
        }),
    };
    cmd.server_conf(&SERVER)?.remotes.push(Arc::new(remote));
    Ok(())
}

impl Remote {
    /// Whether it is asked for this URL.
    pub fn is_for(&self, scheme: &[u8], url: &[u8]) -> bool {
        let name = self.scheme.as_bytes();
        if let Some(regex) = &self.regex {
            return name == b"*" || regex.is_match(url);
        }
        name == b"*"
            || match name.contains(&b':') {
                false => scheme.eq_ignore_ascii_case(name),
                true => url.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)),
            }
    }
}

pub(super) fn proxy_block(cmd: &mut Cmd, name: &str) -> Done {
    let blocked = &mut cmd.server_conf(&SERVER)?.blocked;
    if !blocked.iter().any(|known| known.name.eq_ignore_ascii_case(name)) {
        let found = (name, 0).to_socket_addrs();
        let addrs = found.map(|all| all.map(|addr| addr.ip()).collect()).unwrap_or_default();
        blocked.push(Arc::new(Blocked { name: name.to_owned(), addrs }));
    }
    Ok(())
}

/// Whether `ProxyBlock` forbids this host (`ap_proxy_checkproxyblock2`). Without `addrs`, only its name counts.
pub fn is_blocked(r: &Request, host: &str, addrs: &[IpAddr]) -> bool {
    for entry in &r.server_conf(&SERVER).blocked {
        let name = entry.name.as_str();
        rerror!(r, Level::Trace2, "proxy", "", "checking remote machine [{host}] against [{name}]");
        if host.contains(name) || name.starts_with('*') {
            let text = format!("connect to remote machine {host} blocked: name {name} matched");
            rerror!(r, Level::Warn, "proxy", "AH00916", "{text}");
            return true;
        }
        if let Some(ip) = entry.addrs.iter().find(|ip| addrs.contains(ip)) {
            let text = format!("connect to remote machine {host} blocked: IP {ip} matched");
            rerror!(r, Level::Warn, "proxy", "AH00917", "{text}");
            return true;
        }
    }
    false
}

pub(super) fn no_proxy(cmd: &mut Cmd, name: &str) -> Done {
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    let direct = if let Some((addr, bits)) = network(name) {
        Direct::Network(addr, bits)
    } else if name.starts_with('.') && is_name(name) {
        Direct::Domain(name.trim_end_matches('.').to_ascii_lowercase())
    } else if !name.starts_with('.') && is_name(name) && (name, 0).to_socket_addrs().is_ok() {
        Direct::Host(name.trim_end_matches('.').to_ascii_lowercase())
    } else {
        Direct::Word(name.to_owned())
    };
    cmd.server_conf(&SERVER)?.direct.push(Arc::new(direct));
    Ok(())
}

/// An address of up to four numbers, with a mask or one that its zeroes at the end suggest (`ap_proxy_is_ipaddr`).
fn network(text: &str) -> Option<(Ipv4Addr, u32)> {
    let (quads, bits) = match text.split_once('/') {
        Some((quads, bits)) => (quads, Some(bits.parse::<u32>().ok().filter(|&bits| bits <= 32)?)),
        None => (text, None),
    };
    let mut octets = [0u8; 4];
    let mut count = 0;
    let trimmed = if quads.split('.').count() > 4 { quads } else { quads.strip_suffix('.').unwrap_or(quads) };
    for quad in trimmed.split('.') {
        *octets.get_mut(count)? = quad.parse().ok()?;
        count += 1;
    }
    let addr = Ipv4Addr::from(octets);
    let bits = match bits {
        Some(bits) => bits,
        None => {
            while count > 0 && octets[count - 1] == 0 {
                count -= 1;
            }
            if count == 0 {
                return None;
            }
            let bits = 8 * count as u32;
            if bits != 32 {
                let text = format!("Warning: NetMask not supplied with IP-Addr; guessing: {addr}/{bits}");
                log::startup(Level::Info, "proxy", "AH00900", &text);
            }
            bits
        }
    };
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    if addr.to_bits() & !mask != 0 {
        let text = format!("Warning: NetMask and IP-Addr disagree in {addr}/{bits}");
        log::startup(Level::Info, "proxy", "AH00901", &text);
    }
    Some((Ipv4Addr::from_bits(addr.to_bits() & mask), bits))
}

impl Direct {
    /// Whether this host is asked directly; `None`: only the resolver can tell, which may block.
    fn is_for(&self, host: &str, may_block: bool) -> Option<bool> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        Some(match self {
            Direct::Domain(domain) => host.len() > domain.len() && host.ends_with(domain.as_str()),
            Direct::Host(name) => host == *name,
            Direct::Word(word) => host.contains(word.as_str()),
            Direct::Network(net, bits) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                let within = |ip: IpAddr| match ip.to_canonical() {
                    IpAddr::V4(ip) => ip.to_bits() & mask == net.to_bits(),
                    IpAddr::V6(_) => false,
                };
                match host.parse::<IpAddr>() {
                    Ok(ip) => within(ip),
                    Err(_) if !may_block => return None,
                    Err(_) => (host.as_str(), 0)
                        .to_socket_addrs()
                        .is_ok_and(|mut all| all.any(|addr| within(addr.ip()))),
                }
            }
        })
    }
}

/// Whether `NoProxy` says that the request's host is asked directly; `None`: to be asked again on a thread.
pub(super) fn is_direct(r: &Request) -> Option<bool> {
    let list = &r.server_conf(&SERVER).direct;
    let host = r.hostname.as_deref().map(|host| shown(host).into_owned()).unwrap_or_default();
    for entry in list.iter().filter(|_| !host.is_empty()) {
        if entry.is_for(&host, !r.needs_thread())? {
            return Some(true);
        }
    }
    Some(false)
}

pub(super) fn proxy_domain(cmd: &mut Cmd, domain: &str) -> Done {
    if !domain.starts_with('.') {
        return Err("ProxyDomain: domain name must start with a dot.".into());
    }
    cmd.server_conf(&SERVER)?.domain = Some(domain.to_owned());
    Ok(())
}

/// The URL with `ProxyDomain` behind a host without a domain (`proxy_needsdomain`).
pub(super) fn with_domain(r: &mut Request, domain: &str) -> bool {
    let mut uri = Uri::default();
    if r.method != Method::GET || uri.parse(&r.unparsed_uri, 0).is_err() {
        return false;
    }
    let Some(range) = uri.hostname else { return false };
    let host = &r.unparsed_uri[range.clone()];
    if host.contains(&b'.') || host.contains(&b':') || host.eq_ignore_ascii_case(b"localhost") {
        return false;
    }
    let mut url = r.unparsed_uri[..range.end].to_vec();
    url.extend_from_slice(domain.as_bytes());
    url.extend_from_slice(&r.unparsed_uri[range.end..]);
    let referer = r.headers_in.get("Referer").map(|referer| format!(" from {}", shown(referer)));
    let text =
        format!("Domain missing: {} sent to {}{}", shown(&r.uri), shown(&url), referer.unwrap_or_default());
    rerror!(r, Level::Info, "proxy", "AH01138", "{text}");
    r.headers_out.set("Location", url);
    true
}

/// Is the request for a proxy? (`proxy_detect`)
pub(super) fn detect(r: &mut Request) -> Step {
    if r.server_conf(&SERVER).requests != Some(true) {
        return Step::Declined;
    }
    let mut uri = Uri::default();
    let for_us = match r.method {
        Method::CONNECT => uri.parse_hostinfo(&r.unparsed_uri, 0).is_err(),
        _ => {
            let parsed = uri.parse(&r.unparsed_uri, 0).is_ok();
            let part =
                |range: &Option<std::ops::Range<usize>>| range.clone().map(|range| &r.unparsed_uri[range]);
            match part(&uri.scheme).filter(|_| parsed) {
                None => true,
                Some(scheme) => {
                    let port = uri.port_str.as_ref().map_or(r.default_port(), |_| uri.port);
                    scheme.eq_ignore_ascii_case(r.scheme().as_bytes())
                        && part(&uri.hostname).is_some_and(|host| matches_request_vhost(r, host, port))
                }
            }
        }
    };
    if !for_us {
        r.proxyreq = Some(ProxyReq::Proxy);
        r.uri.clone_from(&r.unparsed_uri);
        r.filename = [b"proxy:", r.uri.as_slice()].concat().into();
        r.handler = Some("proxy-server".into());
    }
    Step::Declined
}

/// The status for a request that lacks its domain.
pub(super) const NEEDS_DOMAIN: u16 = status::MOVED_PERMANENTLY;
