//! `ProxyPassReverse` and its cookies: names of backends in replies become ours.

use super::canon::interpolate;
use super::{DIR, SERVER, balancer};
use crate::config::directive::{Cmd, Done, Forbidden};
use crate::http::escape::is_url;
use crate::request::{ProxyReq, Request};

/// One mapping: what clients see, and what backends say; or the other way round, for cookies.
#[derive(Clone, Debug)]
pub struct Mapping {
    fake: String,
    real: String,
    interpolate: bool,
}

impl Mapping {
    fn of(&self, r: &Request) -> (String, String) {
        match self.interpolate && r.dir(&DIR).interpolate == Some(true) {
            true => (interpolate(r, &self.fake), interpolate(r, &self.real)),
            false => (self.fake.clone(), self.real.clone()),
        }
    }
}

pub(super) fn pass_reverse(cmd: &mut Cmd, first: &str, second: Option<&str>, third: Option<&str>) -> Done {
    cmd.check_context(Forbidden(Forbidden::DIRECTORY.0 | Forbidden::FILES.0))?;
    let is_word = |text: &str| text.eq_ignore_ascii_case("interpolate");
    let mapping = match (cmd.path, second) {
        (None, Some(real)) if !is_word(real) => {
            Mapping { fake: first.to_owned(), real: real.to_owned(), interpolate: third.is_some() }
        }
        (None, _) => return Err("ProxyPassReverse needs a path when not defined in a location".into()),
        (Some(_), Some(word)) if !is_word(word) => {
            return Err("ProxyPassReverse can not have a path when defined in a location".into());
        }
        (Some(path), word) => {
            Mapping { fake: path.to_owned(), real: first.to_owned(), interpolate: word.is_some() }
        }
    };
    cmd.dir(&DIR).reverse.push(mapping);
    Ok(())
}

fn cookie_mapping(fake: &str, real: &str, word: Option<&str>) -> Mapping {
    Mapping { fake: fake.to_owned(), real: real.to_owned(), interpolate: word.is_some() }
}

pub(super) fn cookie_path(cmd: &mut Cmd, from: &str, to: &str, word: Option<&str>) -> Done {
    cmd.dir(&DIR).cookie_paths.push(cookie_mapping(from, to, word));
    Ok(())
}

pub(super) fn cookie_domain(cmd: &mut Cmd, from: &str, to: &str, word: Option<&str>) -> Done {
    cmd.dir(&DIR).cookie_domains.push(cookie_mapping(from, to, word));
    Ok(())
}

fn starts_with_ci(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The path of a URL, from its slash on.
fn path_of(url: &[u8]) -> Option<&[u8]> {
    let host = url.windows(3).position(|three| three == b"://")? + 3;
    let slash = url[host..].iter().position(|&c| c == b'/')?;
    Some(&url[host + slash..])
}

/// A URL that a backend named, as clients must see it (`ap_proxy_location_reverse_map`); `None`: as it is.
pub fn location_reverse_map(r: &Request, url: &[u8]) -> Option<Vec<u8>> {
    let dir = r.dir(&DIR);
    if r.proxyreq != Some(ProxyReq::Reverse) || dir.reverse.is_empty() {
        return None;
    }
    let full = |path: Vec<u8>| Some(if is_url(&path) { path } else { r.construct_url(&path) });
    let conf = r.server_conf(&SERVER);
    for mapping in &dir.reverse {
        let (fake, real) = mapping.of(r);
        let (fake, real) = (fake.as_bytes(), real.as_str());
        let members = balancer::is_balancer(real).then(|| balancer::find_balancer(&conf.balancers, real));
        if let Some(at) = members.flatten() {
            let path = real.get(11..).and_then(|rest| rest.find('/').map(|at| &rest[at..]));
            let path = path.filter(|path| path.len() > 1).unwrap_or_default().as_bytes();
            for member in &conf.balancers[at].members {
                let mut name = member.name.as_bytes();
                if !path.is_empty() {
                    name = name.strip_suffix(b"/").unwrap_or(name);
                }
                if !starts_with_ci(url, name) || !url[name.len()..].starts_with(path) {
                    continue;
                }
                let rest = &url[name.len() + path.len()..];
                let doubled = path.is_empty() && fake == b"/" && rest.first() == Some(&b'/');
                return full(if doubled { rest.to_vec() } else { [fake, rest].concat() });
            }
            continue;
        }
        let real = real.as_bytes();
        let part = if real.first() == Some(&b'/') { path_of(url).unwrap_or(url) } else { url };
        if !real.is_empty() && starts_with_ci(part, real) {
            return full([fake, &part[real.len()..]].concat());
        }
    }
    None
}

/// A cookie of a backend, with the path and domain that clients must see (`ap_proxy_cookie_reverse_map`); `None`: as it is.
pub fn cookie_reverse_map(r: &Request, cookie: &[u8]) -> Option<Vec<u8>> {
    let dir = r.dir(&DIR);
    let nothing = dir.cookie_paths.is_empty() && dir.cookie_domains.is_empty();
    if r.proxyreq != Some(ProxyReq::Reverse) || nothing {
        return None;
    }
    let mut out = Vec::with_capacity(cookie.len() + 32);
    let mut changed = false;
    for (index, attribute) in cookie.split(|&c| c == b';').enumerate() {
        if index > 0 {
            out.push(b';');
        }
        let start = attribute.iter().position(|c| !c.is_ascii_whitespace()).unwrap_or(attribute.len());
        let word = &attribute[start..];
        let (key, mappings, with_case) = match word {
            _ if starts_with_ci(word, b"path=") => (5, &dir.cookie_paths, true),
            _ if starts_with_ci(word, b"domain=") => (7, &dir.cookie_domains, false),
            _ => {
                out.extend_from_slice(attribute);
                continue;
            }
        };
        let value = &word[key..];
        let fits =
            |from: &[u8]| if with_case { value.starts_with(from) } else { starts_with_ci(value, from) };
        let found = mappings.iter().map(|mapping| mapping.of(r)).find(|(from, _)| fits(from.as_bytes()));
        match found {
            Some((_, to)) => {
                changed = true;
                out.extend_from_slice(&attribute[..start + key]);
                out.extend_from_slice(to.as_bytes());
            }
            None => out.extend_from_slice(attribute),
        }
    }
    changed.then_some(out)
}
