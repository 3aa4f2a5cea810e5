//! mod_authz_host: `Require ip`, `host`, `forward-dns`, `local`.
//!
//! Answers to `modules/aaa/mod_authz_host.c`. Names are looked up on threads that may block.

use std::net::{IpAddr, ToSocketAddrs};

use httpd_conf::{from_bytes, next_word};

use super::{AuthzStatus, Requirement, address_error, evaluate_required, in_domain, parse_required};
use crate::config::directive::{Cmd, CmdError};
use crate::expr::{Expr, Subnet, SubnetError};
use crate::hooks::Hooks;
use crate::log::{Level, rerror};
use crate::module::Module;
use crate::request::{Request, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "authz_host_module", file: "mod_authz_host.c", directives: &[], hooks };

fn hooks(hooks: &mut Hooks) {
    hooks.authz_provider("ip", ip);
    hooks.authz_provider("host", host);
    hooks.authz_provider("forward-dns", forward_dns);
    hooks.authz_provider("local", local);
}

type Made = Result<Box<dyn Requirement>, CmdError>;

/// The client's address is in one of these.
struct Ip(Vec<Subnet>);

fn ip(_: &mut Cmd, line: &str) -> Made {
    let mut rest = line;
    let mut subnets = Vec::new();
    loop {
        let word = next_word(&mut rest);
        if word.is_empty() {
            break;
        }
        subnets.push(Subnet::parse(&word).map_err(|error| match error {
            SubnetError::NotAnAddress => format!("ip address '{word}' appears to be invalid"),
            error => format!("ip address '{word}' appears to be invalid: {}", address_error(error)),
        })?);
    }
    if subnets.is_empty() {
        return Err("'require ip' requires an argument".into());
    }
    Ok(Box::new(Ip(subnets)))
}

impl Requirement for Ip {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        let client = r.useragent_addr();
        self.0.iter().any(|subnet| subnet.contains(client)).into()
    }
}

/// The client's name, which leads back to its address, lies in one of the domains that the expression gives.
struct Host {
    line: String,
    expr: Expr,
}

fn host(cmd: &mut Cmd, line: &str) -> Made {
    Ok(Box::new(Host { line: line.to_owned(), expr: parse_required(cmd, line)? }))
}

impl Requirement for Host {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        let client = match r.confirmed_remote_host() {
            Ok(name) => name.map(str::to_owned),
            Err(_) => return AuthzStatus::NeedThread,
        };
        let Some(client) = client else {
            rerror!(
                r,
                Level::Error,
                "authz_host",
                "AH01753",
                "access check of '{}' to {} failed, reason: unable to get the remote host name",
                self.line,
                r.uri
            );
            return AuthzStatus::Denied;
        };
        let domains = match evaluate_required(r, &self.expr, ("authz_host", "host"), "AH02593") {
            Ok(domains) => domains,
            Err(status) => return status,
        };
        let domains = from_bytes(&domains);
        let mut rest: &str = &domains;
        // No name has a '#': it is a comment that was meant for the line.
        if let Some(comment) = rest.find('#') {
            if comment == 0 {
                rerror!(
                    r,
                    Level::Error,
                    "authz_host",
                    "AH10120",
                    "authz_host authorize: dubious empty 'Require host {rest}' with only comment"
                );
                return AuthzStatus::Denied;
            }
            rerror!(
                r,
                Level::Warn,
                "authz_host",
                "AH10121",
                "authz_host authorize: ignoring comment in 'Require host {rest}'"
            );
            rest = &rest[..comment];
        }
        loop {
            let domain = next_word(&mut rest);
            if domain.is_empty() {
                return AuthzStatus::Denied;
            }
            if in_domain(&domain, &client) {
                return AuthzStatus::Granted;
            }
        }
    }

    fn may_block(&self) -> bool {
        true
    }
}

/// One of the names that the expression gives has the client's address.
struct ForwardDns(Expr);

fn forward_dns(cmd: &mut Cmd, line: &str) -> Made {
    Ok(Box::new(ForwardDns(parse_required(cmd, line)?)))
}

impl Requirement for ForwardDns {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        if r.needs_thread() {
            return AuthzStatus::NeedThread;
        }
        let names = match evaluate_required(r, &self.0, ("authz_host", "forward-dns"), "AH03354") {
            Ok(names) => names,
            Err(status) => return status,
        };
        let names = from_bytes(&names);
        let mut rest: &str = &names;
        loop {
            let word = next_word(&mut rest);
            let (name, comment) = match word.split_once('#') {
                Some((name, _)) => (name, true),
                None => (word.as_str(), false),
            };
            if name.is_empty() {
                return AuthzStatus::Denied;
            }
            if has_address_of_client(r, name) {
                return AuthzStatus::Granted;
            }
            if comment {
                return AuthzStatus::Denied;
            }
        }
    }

    fn may_block(&self) -> bool {
        true
    }
}

fn has_address_of_client(r: &Request, name: &str) -> bool {
    memo::refuse();
    let Ok(addresses) = (name, 0).to_socket_addrs() else {
        rerror!(r, Level::Warn, "authz_host", "AH03356", "No sockaddr info for \"{name}\"");
        return false;
    };
    let client = r.useragent_addr();
    for address in addresses {
        let matches = address.ip().to_canonical() == client;
        rerror!(
            r,
            Level::Debug,
            "authz_host",
            "AH03355",
            "access check for {} as '{name}': {}",
            r.useragent_ip(),
            if matches { "yes" } else { "no" }
        );
        if matches {
            return true;
        }
    }
    false
}

/// The client is this machine.
struct Local;

fn local(_: &mut Cmd, _: &str) -> Made {
    Ok(Box::new(Local))
}

impl Requirement for Local {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        let client = r.useragent_addr();
        let loopback = match client {
            IpAddr::V4(v4) => v4.is_loopback(),
            IpAddr::V6(v6) => v6.is_loopback(),
        };
        (loopback || client == r.connection.local_addr.ip().to_canonical()).into()
    }
}
