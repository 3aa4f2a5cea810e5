//! Which server answers: by the address a connection came to, then by the name it asked for.
//!
//! Answers to `server/vhost.c`. Apache walks a chain of names for each request; here every chain has a hash of its
//! names, and only patterns (`*.example.com`) are tried one by one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::server::Server;
use crate::fnmatch::strcmp_match;

/// The servers behind one address and port, in the order of the configuration.
#[derive(Default)]
pub struct Names {
    /// Places in [`Vhosts::servers`]; the first is the default.
    members: Vec<usize>,
    /// Lower-case name → position in `members` of the first server that has it.
    exact: HashMap<Vec<u8>, usize>,
    /// What follows the `*` of patterns like `*.example.com` → position of the first server that has it.
    suffixes: HashMap<Vec<u8>, usize>,
    /// How long those are, each length once.
    suffix_lengths: Vec<usize>,
    /// The other patterns, lower case, in order.
    wild: Vec<(Vec<u8>, usize)>,
    /// `<VirtualHost name>`: the address text itself, the last thing tried.
    virthosts: HashMap<Vec<u8>, usize>,
    /// `ServerPath`s, in order.
    paths: Vec<(Vec<u8>, usize)>,
}

impl Names {
    fn add(&mut self, index: usize, server: &Server, virthost: &str) {
        let at = self.members.len();
        self.members.push(index);
        let lower = |name: &str| name.to_ascii_lowercase().into_bytes();
        if let Some(name) = &server.hostname {
            self.exact.entry(lower(name)).or_insert(at);
        }
        for name in &server.names {
            self.exact.entry(lower(name)).or_insert(at);
        }
        for name in &server.wild_names {
            let pattern = lower(name);
            match pattern.strip_prefix(b"*") {
                Some(suffix) if !suffix.contains(&b'*') && !suffix.contains(&b'?') => {
                    if !self.suffix_lengths.contains(&suffix.len()) {
                        self.suffix_lengths.push(suffix.len());
                    }
                    self.suffixes.entry(suffix.to_vec()).or_insert(at);
                }
                _ => self.wild.push((pattern, at)),
            }
        }
        self.virthosts.entry(lower(virthost)).or_insert(at);
        if let Some(path) = &server.path {
            self.paths.push((path.clone().into_bytes(), at));
        }
    }

    /// The first server in order that has this name (lower case), else the one whose address is written so.
    fn by_name(&self, name: &[u8]) -> Option<usize> {
        let exact = self.exact.get(name).copied();
        let suffix = self
            .suffix_lengths
            .iter()
            .filter_map(|&len| self.suffixes.get(name.get(name.len().checked_sub(len)?..)?).copied())
            .min();
        let hashed = [exact, suffix].into_iter().flatten().min();
        let wild = self
            .wild
            .iter()
            .take_while(|(_, at)| hashed.is_none_or(|h| *at < h))
            .find(|(pattern, _)| strcmp_match(name, pattern))
            .map(|(_, at)| *at);
        wild.or(hashed).or_else(|| self.virthosts.get(name).copied()).map(|at| self.members[at])
    }

    /// The server whose `ServerPath` covers `uri`, for clients that send no Host.
    fn by_path(&self, uri: &[u8]) -> Option<usize> {
        let covers = |path: &[u8]| {
            uri.starts_with(path)
                && (uri.len() == path.len() || path.last() == Some(&b'/') || uri[path.len()] == b'/')
        };
        self.paths.iter().find(|(path, _)| covers(path)).map(|(_, at)| self.members[*at])
    }

    /// How many servers share the address: with one, there is nothing to choose.
    pub fn len(&self) -> usize {
        self.members.len()
    }
    /// True when none is there.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
    /// The servers in order.
    pub fn members(&self) -> &[usize] {
        &self.members
    }
}

/// All virtual hosts by address.
#[derive(Default)]
pub struct Vhosts {
    /// Address (`None`: any) and port (0: any) → who listens there.
    by_addr: HashMap<(Option<IpAddr>, u16), Arc<Names>>,
}

impl Vhosts {
    /// Puts every `<VirtualHost>` under its addresses. `servers[0]` is the main server.
    pub fn compile(servers: &[Arc<Server>]) -> Vhosts {
        let mut building: HashMap<(Option<IpAddr>, u16), Names> = HashMap::new();
        for (index, server) in servers.iter().enumerate().skip(1) {
            for addr in &server.addrs {
                building.entry((addr.ip, addr.port)).or_default().add(index, server, &addr.virthost);
            }
        }
        Vhosts { by_addr: building.into_iter().map(|(key, names)| (key, Arc::new(names))).collect() }
    }

    /// The servers behind a local address: the exact address first, then any address; a port before "any port".
    pub fn by_address(&self, ip: IpAddr, port: u16) -> Option<Arc<Names>> {
        let ip = ip.to_canonical();
        [(Some(ip), port), (Some(ip), 0), (None, port), (None, 0)]
            .iter()
            .find_map(|key| self.by_addr.get(key))
            .cloned()
    }

    /// The server for a request: by `Host`, else by `ServerPath`, else the address's first.
    pub fn select(names: Option<&Names>, host: Option<&[u8]>, uri: &[u8]) -> usize {
        let Some(names) = names else { return 0 };
        let first = names.members.first().copied().unwrap_or(0);
        match host {
            Some(host) if !host.is_empty() => names.by_name(host).unwrap_or(first),
            _ => names.by_path(uri).unwrap_or(first),
        }
    }

    /// Every address with its servers, for `-S`.
    pub fn iter(&self) -> impl Iterator<Item = (&(Option<IpAddr>, u16), &Arc<Names>)> {
        self.by_addr.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(servers: &[(&str, &[&str])]) -> Names {
        let mut names = Names::default();
        for (index, (name, wild)) in servers.iter().enumerate() {
            let mut server = Server::new(index + 1);
            server.hostname = Some((*name).to_owned());
            server.wild_names = wild.iter().map(|w| (*w).to_owned()).collect();
            names.add(index + 1, &server, "*");
        }
        names
    }

    #[test]
    fn the_first_in_order_wins() {
        let names = names(&[
            ("a.example.com", &["*.Example.com"]),
            ("b.example.com", &["b?.test", "*.org"]),
            ("*x", &["b1.test"]),
        ]);
        assert_eq!(names.by_name(b"a.example.com"), Some(1));
        assert_eq!(names.by_name(b"b.example.com"), Some(1));
        assert_eq!(names.by_name(b"b1.test"), Some(2));
        assert_eq!(names.by_name(b"www.w3.org"), Some(2));
        assert_eq!(names.by_name(b"nowhere"), None);
    }
}
