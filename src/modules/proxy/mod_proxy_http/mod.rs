//! mod_proxy_http: backends that speak HTTP.
//!
//! Answers to `modules/proxy/mod_proxy_http.c`. Rooms: [`exchange`] (one request, step by step), [`sending`] (how its
//! body is sent), [`receiving`] (the reply, step by step), [`reply`] (the lines of its head), [`warning`] (one of its fields),
//! [`content`] (its content). Where it differs: the lines of a head are
//! looked for here rather than by httparse, because Apache takes more than that does: folded fields, bare line feeds, lines
//! without a colon (`ProxyBadHeader`), replies without a head.

pub(in crate::modules::proxy) mod content;
mod exchange;
mod receiving;
mod reply;
mod sending;
mod warning;

use std::sync::Arc;

use crate::hooks::{Hooks, order};
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::module::Module;
use crate::modules::core::{self, EncodedSlashes};
use crate::modules::proxy::mod_proxy::canon::{canon_netloc, canonenc_path};
use crate::modules::proxy::mod_proxy::handler::{Handled, Target};
use crate::request::{ProxyReq, Request, Step};

/// The module.
pub static MODULE: Module =
    Module { name: "proxy_http_module", file: "mod_proxy_http.c", directives: &[], hooks: register };

/// As it stands in the log.
const NAME: &str = "proxy_http";

fn register(hooks: &mut Hooks) {
    hooks.canon_handler(canon, order::FIRST);
    hooks.scheme_handler(scheme, order::FIRST);
}

/// The scheme, whether it is one over TLS, and what is behind its colon.
fn split_scheme(url: &[u8]) -> Option<(&'static str, bool, &[u8])> {
    let colon = url.iter().position(|&c| c == b':')?;
    let known = [("http", false), ("https", true), ("ws", false), ("wss", true)];
    let (name, tls) =
        known.into_iter().find(|(name, _)| url[..colon].eq_ignore_ascii_case(name.as_bytes()))?;
    Some((name, tls, &url[colon + 1..]))
}

/// True where a character of a URL must not be sent on as it is: a control character or a blank.
fn has_blanks(text: &[u8]) -> bool {
    text.iter().any(|&c| c <= b' ' || c == 0x7f)
}

fn canon(r: &mut Request, url: &[u8]) -> Step {
    let Some((scheme, tls, rest)) = split_scheme(url) else { return Step::Declined };
    rerror!(r, Level::Trace1, NAME, "", "HTTP: canonicalising URL {}", shown(rest));
    let (host, port, path) = match canon_netloc(rest) {
        Ok(parts) => parts,
        Err(err) => {
            rerror!(r, Level::Error, NAME, "AH01083", "error parsing URL {}: {err}", shown(rest));
            return Step::Status(status::BAD_REQUEST);
        }
    };
    let (mut search, mut is_raw) = (None, true);
    let mut escaped = None;
    if r.proxyreq == Some(ProxyReq::Reverse) && !r.notes.contains("proxy-nocanon") {
        search = r.args.clone();
        if !r.notes.contains("proxy-noencode") {
            let slashes = r.dir(&core::DIR).allow_encoded_slashes == Some(EncodedSlashes::NoDecode);
            match canonenc_path(path, slashes) {
                Some(path) => escaped = Some(path),
                None => return Step::Status(status::BAD_REQUEST),
            }
            is_raw = false;
        }
    }
    if is_raw && has_blanks(path) {
        let text = "To be forwarded path contains control characters or spaces";
        rerror!(r, Level::Error, NAME, "AH10415", "{text}");
        return Step::Status(status::FORBIDDEN);
    }
    if search.as_ref().is_some_and(|search| has_blanks(search)) {
        let text = "To be forwarded query string contains control characters or spaces";
        rerror!(r, Level::Error, NAME, "AH10408", "{text}");
        return Step::Status(status::FORBIDDEN);
    }
    let mut filename = Vec::with_capacity(url.len() + 16);
    filename.extend_from_slice(b"proxy:");
    filename.extend_from_slice(scheme.as_bytes());
    filename.extend_from_slice(b"://");
    if host.contains(&b':') {
        filename.extend_from_slice(&[b"[", &host[..], b"]"].concat());
    } else {
        filename.extend_from_slice(&host);
    }
    if let Some(port) = port.filter(|&port| port != if tls { 443 } else { 80 }) {
        filename.extend_from_slice(format!(":{port}").as_bytes());
    }
    filename.push(b'/');
    filename.extend_from_slice(escaped.as_deref().unwrap_or(path));
    if let Some(search) = search {
        filename.push(b'?');
        filename.extend_from_slice(&search);
    }
    r.filename = filename.into();
    Step::Ok
}

fn scheme(r: &mut Request, target: &Arc<Target>) -> Handled {
    let url = &target.url;
    let known = match split_scheme(url) {
        None if target.proxy.is_some() && url.get(..4).is_some_and(|s| s.eq_ignore_ascii_case(b"ftp:")) => {
            Some(("ftp", false, &url[4..]))
        }
        known => known,
    };
    let (scheme, tls) = match known {
        Some((scheme, tls, rest)) if rest.starts_with(b"//") && rest.len() > 2 => (scheme, tls),
        _ => {
            rerror!(r, Level::Debug, NAME, "AH01113", "HTTP: declining URL {}", shown(url));
            return Handled::Declined;
        }
    };
    if tls {
        // There is no TLS towards backends yet.
        let text = format!("HTTP: declining URL {} (mod_ssl not configured?)", shown(url));
        rerror!(r, Level::Debug, NAME, "AH01112", "{text}");
        return Handled::Declined;
    }
    rerror!(r, Level::Trace1, NAME, "", "HTTP: serving URL {}", shown(url));
    Handled::Begun(Box::new(exchange::Exchange::new(scheme, target.clone())))
}
