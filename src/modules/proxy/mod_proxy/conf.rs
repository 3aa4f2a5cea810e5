//! The settings of servers and directories, and the directives that set one value each.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use super::balancer::Balancer;
use super::forward::{Blocked, Direct, Remote};
use super::pass::Alias;
use super::reverse::Mapping;
use super::worker::{IO_BUFFER_SIZE, Worker};
use super::{DIR, SERVER};
use crate::config::directive::{Cmd, Done};
use crate::http::status::{self, Status};
use crate::module::Conf;
use crate::text::atoi;
use crate::text::atol;

/// `ProxyVia`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Via {
    /// The field is passed on as it is.
    #[default]
    Off,
    /// We add ourselves.
    On,
    /// The same, with our version.
    Full,
    /// The field is taken off requests.
    Block,
}

/// `ProxyBadHeader`: what a line without a colon in a reply's head means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BadHeader {
    /// The reply is none.
    #[default]
    IsError,
    /// Nothing.
    Ignore,
    /// The content begins.
    StartBody,
}

/// `ProxyStatus`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ShowStatus {
    #[default]
    Off,
    On,
    Full,
}

/// A server's settings: `proxy_server_conf`.
#[derive(Clone)]
pub struct ProxyServer {
    pub remotes: Vec<Arc<Remote>>,
    pub sections: Vec<Arc<super::access::ProxySection>>,
    pub aliases: Vec<Arc<Alias>>,
    pub blocked: Vec<Arc<Blocked>>,
    pub direct: Vec<Arc<Direct>>,
    pub workers: Vec<Arc<Worker>>,
    pub balancers: Vec<Arc<Balancer>>,
    pub requests: Option<bool>,
    pub domain: Option<String>,
    pub via: Option<Via>,
    pub receive_buffer_size: Option<usize>,
    pub io_buffer_size: Option<usize>,
    pub max_forwards: Option<i64>,
    pub timeout: Option<Duration>,
    pub bad_header: Option<BadHeader>,
    pub show_status: Option<ShowStatus>,
    pub source_address: Option<IpAddr>,
    pub balancer_growth: Option<i32>,
    pub balancer_persist: bool,
    pub balancer_inherit: Option<bool>,
    pub pass_inherit: Option<bool>,
    /// One of the aliases is for URIs that are not decoded yet.
    pub map_encoded_one: bool,
    /// All are.
    pub map_encoded_all: bool,
    /// The workers for backends that have none of their own.
    pub forward_worker: Arc<Worker>,
    pub reverse_worker: Arc<Worker>,
}

impl Default for ProxyServer {
    fn default() -> ProxyServer {
        ProxyServer {
            remotes: Vec::new(),
            sections: Vec::new(),
            aliases: Vec::new(),
            blocked: Vec::new(),
            direct: Vec::new(),
            workers: Vec::new(),
            balancers: Vec::new(),
            requests: None,
            domain: None,
            via: None,
            receive_buffer_size: None,
            io_buffer_size: None,
            max_forwards: None,
            timeout: None,
            bad_header: None,
            show_status: None,
            source_address: None,
            balancer_growth: None,
            balancer_persist: false,
            balancer_inherit: None,
            pass_inherit: None,
            map_encoded_one: false,
            map_encoded_all: true,
            forward_worker: Arc::new(Worker::generic("forward")),
            reverse_worker: Arc::new(Worker::generic("reverse")),
        }
    }
}

fn both<T: Clone>(base: &[T], more: &[T]) -> Vec<T> {
    [base, more].concat()
}

impl Conf for ProxyServer {
    fn merge(&self, child: &Self) -> Self {
        let pass_inherit = child.pass_inherit.or(self.pass_inherit);
        let balancer_inherit = child.balancer_inherit.or(self.balancer_inherit);
        let (inherits, passes) = (balancer_inherit.unwrap_or(true), pass_inherit.unwrap_or(true));
        ProxyServer {
            remotes: if passes { both(&self.remotes, &child.remotes) } else { child.remotes.clone() },
            sections: both(&self.sections, &child.sections),
            aliases: both(&self.aliases, &child.aliases),
            blocked: both(&self.blocked, &child.blocked),
            direct: both(&self.direct, &child.direct),
            workers: if inherits || passes {
                both(&self.workers, &child.workers)
            } else {
                child.workers.clone()
            },
            balancers: if inherits || passes {
                super::balancer::merge(&self.balancers, &child.balancers)
            } else {
                child.balancers.clone()
            },
            requests: child.requests.or(self.requests),
            domain: child.domain.clone().or_else(|| self.domain.clone()),
            via: child.via.or(self.via),
            receive_buffer_size: child.receive_buffer_size.or(self.receive_buffer_size),
            io_buffer_size: child.io_buffer_size.or(self.io_buffer_size),
            max_forwards: child.max_forwards.or(self.max_forwards),
            timeout: child.timeout.or(self.timeout),
            bad_header: child.bad_header.or(self.bad_header),
            show_status: child.show_status.or(self.show_status),
            source_address: child.source_address.or(self.source_address),
            balancer_growth: child.balancer_growth.or(self.balancer_growth),
            balancer_persist: child.balancer_persist,
            balancer_inherit,
            pass_inherit,
            map_encoded_one: self.map_encoded_one || child.map_encoded_one,
            map_encoded_all: self.map_encoded_all && child.map_encoded_all,
            forward_worker: self.forward_worker.clone(),
            reverse_worker: self.reverse_worker.clone(),
        }
    }
}

impl ProxyServer {
    /// How much is asked of a backend at once.
    pub fn io_buffer(&self) -> usize {
        self.io_buffer_size.unwrap_or(IO_BUFFER_SIZE)
    }
}

/// A directory's settings: `proxy_dir_conf`.
#[derive(Clone, Default)]
pub struct ProxyDir {
    /// `ProxyPass` in a `<Location>`.
    pub alias: Option<Arc<Alias>>,
    /// `ProxyPassReverse`.
    pub reverse: Vec<Mapping>,
    pub cookie_paths: Vec<Mapping>,
    pub cookie_domains: Vec<Mapping>,
    pub interpolate: Option<bool>,
    pub preserve_host: Option<bool>,
    pub error_override: Option<bool>,
    /// The errors that it is about; none: all.
    pub error_override_codes: Vec<Status>,
    pub add_headers: Option<bool>,
    pub forward_100_continue: Option<bool>,
}

impl Conf for ProxyDir {
    fn merge(&self, child: &Self) -> Self {
        let mut codes = both(&self.error_override_codes, &child.error_override_codes);
        codes.sort_unstable();
        ProxyDir {
            alias: child.alias.clone().or_else(|| self.alias.clone()),
            reverse: both(&self.reverse, &child.reverse),
            cookie_paths: both(&self.cookie_paths, &child.cookie_paths),
            cookie_domains: both(&self.cookie_domains, &child.cookie_domains),
            interpolate: child.interpolate.or(self.interpolate),
            preserve_host: child.preserve_host.or(self.preserve_host),
            error_override: child.error_override.or(self.error_override),
            error_override_codes: codes,
            add_headers: child.add_headers.or(self.add_headers),
            forward_100_continue: child.forward_100_continue.or(self.forward_100_continue),
        }
    }
}

impl ProxyDir {
    /// Whether an error of the backend gets a page of ours (`ap_proxy_should_override`).
    pub fn should_override(&self, code: Status) -> bool {
        self.error_override == Some(true)
            && match self.error_override_codes.is_empty() {
                true => status::is_error(code),
                false => self.error_override_codes.contains(&code),
            }
    }
}

pub(super) fn requests(cmd: &mut Cmd, on: bool) -> Done {
    cmd.server_conf(&SERVER)?.requests = Some(on);
    Ok(())
}

pub(super) fn interpolate(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).interpolate = Some(on);
    Ok(())
}

pub(super) fn preserve_host(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).preserve_host = Some(on);
    Ok(())
}

pub(super) fn add_headers(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).add_headers = Some(on);
    Ok(())
}

pub(super) fn forward_100_continue(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).forward_100_continue = Some(on);
    Ok(())
}

pub(super) fn receive_buffer_size(cmd: &mut Cmd, text: &str) -> Done {
    let size = atoi(httpd_conf::to_bytes(text));
    if size < 512 && size != 0 {
        return Err("ProxyReceiveBufferSize must be >= 512 bytes, or 0 for system default.".into());
    }
    cmd.server_conf(&SERVER)?.receive_buffer_size = usize::try_from(size).ok();
    Ok(())
}

pub(super) fn io_buffer_size(cmd: &mut Cmd, text: &str) -> Done {
    let size = match atol(text) {
        0 => IO_BUFFER_SIZE,
        size @ 512.. => size as usize,
        _ => return Err("ProxyIOBufferSize must be >= 512 bytes, or 0 for system default.".into()),
    };
    cmd.server_conf(&SERVER)?.io_buffer_size = Some(size);
    Ok(())
}

pub(super) fn max_forwards(cmd: &mut Cmd, text: &str) -> Done {
    cmd.server_conf(&SERVER)?.max_forwards = Some(atol(text));
    Ok(())
}

pub(super) fn timeout(cmd: &mut Cmd, text: &str) -> Done {
    let seconds = atoi(httpd_conf::to_bytes(text));
    let Some(seconds) = u64::try_from(seconds).ok().filter(|&seconds| seconds > 0) else {
        return Err("Proxy Timeout must be at least 1 second.".into());
    };
    cmd.server_conf(&SERVER)?.timeout = Some(Duration::from_secs(seconds));
    Ok(())
}

pub(super) fn via(cmd: &mut Cmd, text: &str) -> Done {
    let via = match text.to_ascii_lowercase().as_str() {
        "off" => Via::Off,
        "on" => Via::On,
        "block" => Via::Block,
        "full" => Via::Full,
        _ => return Err("ProxyVia must be one of: off | on | full | block".into()),
    };
    cmd.server_conf(&SERVER)?.via = Some(via);
    Ok(())
}

pub(super) fn bad_header(cmd: &mut Cmd, text: &str) -> Done {
    let bad = match text.to_ascii_lowercase().as_str() {
        "iserror" => BadHeader::IsError,
        "ignore" => BadHeader::Ignore,
        "startbody" => BadHeader::StartBody,
        _ => return Err("ProxyBadHeader must be one of: IsError | Ignore | StartBody".into()),
    };
    cmd.server_conf(&SERVER)?.bad_header = Some(bad);
    Ok(())
}

pub(super) fn show_status(cmd: &mut Cmd, text: &str) -> Done {
    let show = match text.to_ascii_lowercase().as_str() {
        "off" => ShowStatus::Off,
        "on" => ShowStatus::On,
        "full" => ShowStatus::Full,
        _ => return Err("ProxyStatus must be one of: off | on | full".into()),
    };
    cmd.server_conf(&SERVER)?.show_status = Some(show);
    Ok(())
}

pub(super) fn error_override(cmd: &mut Cmd, text: &str) -> Done {
    let dir = cmd.dir(&DIR);
    if text.eq_ignore_ascii_case("off") || text.eq_ignore_ascii_case("on") {
        dir.error_override = Some(text.eq_ignore_ascii_case("on"));
        return Ok(());
    }
    let Some(on) = dir.error_override else {
        return Err("ProxyErrorOverride first parameter must be one of: off | on".into());
    };
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("ProxyErrorOverride: status codes to intercept must be numeric".into());
    }
    if !on {
        return Err("ProxyErrorOverride: status codes must follow a value of 'on'".into());
    }
    let code = Status::try_from(atol(text)).ok().filter(|&code| status::is_error(code));
    let Some(code) = code else {
        let text =
            "ProxyErrorOverride: status codes to intercept must be valid HTTP Status Codes >=400 && <600";
        return Err(text.into());
    };
    dir.error_override_codes.push(code);
    dir.error_override_codes.sort_unstable();
    Ok(())
}

pub(super) fn source_address(cmd: &mut Cmd, text: &str) -> Done {
    let found = (text, 0).to_socket_addrs().ok().and_then(|mut all| all.next());
    let Some(addr) = found else { return Err("ProxySourceAddress invalid value".into()) };
    cmd.server_conf(&SERVER)?.source_address = Some(addr.ip());
    Ok(())
}

pub(super) fn balancer_growth(cmd: &mut Cmd, text: &str) -> Done {
    let growth = atoi(httpd_conf::to_bytes(text));
    if !(0..=1000).contains(&growth) {
        return Err("BalancerGrowth must be between 0 and 1000".into());
    }
    cmd.server_conf(&SERVER)?.balancer_growth = Some(growth);
    Ok(())
}

pub(super) fn balancer_persist(cmd: &mut Cmd, on: bool) -> Done {
    cmd.server_conf(&SERVER)?.balancer_persist = on;
    Ok(())
}

pub(super) fn balancer_inherit(cmd: &mut Cmd, on: bool) -> Done {
    cmd.server_conf(&SERVER)?.balancer_inherit = Some(on);
    Ok(())
}

pub(super) fn pass_inherit(cmd: &mut Cmd, on: bool) -> Done {
    cmd.server_conf(&SERVER)?.pass_inherit = Some(on);
    Ok(())
}
