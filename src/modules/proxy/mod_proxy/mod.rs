//! mod_proxy: requests that others answer.
//!
//! Answers to `modules/proxy/mod_proxy.c` and `proxy_util.c`. What is said to backends is the schemes' business
//! (`mod_proxy_http` and others), which take part in the phases `canon_handler` and `scheme_handler`. A request waits for its
//! backend as an [`crate::request::ongoing::Ongoing`], on no thread. Rooms: [`conf`] (settings), [`worker`] (one backend and its
//! parameters), [`balancer`] (several, as configured), [`state`] (what all processes know of a worker), [`pool`] (its
//! connections), [`connect`] (making one), [`pass`] and [`servlet`] (`ProxyPass`), [`reverse`] (`ProxyPassReverse`), [`forward`]
//! (as a proxy for clients), [`access`] (`<Proxy>`), [`canon`] (URLs), [`handler`] (who answers), [`header`] (the request's head as
//! backends get it), [`tunnel`] (both ways until the end), [`errors`].

pub mod access;
pub mod balancer;
pub mod canon;
pub mod conf;
pub mod connect;
pub mod errors;
pub mod forward;
pub mod handler;
pub mod header;
pub mod pass;
pub mod pool;
pub mod reverse;
mod servlet;
pub mod state;
pub mod tunnel;
pub mod worker;

use crate::config::directive::{Allowed, Args, Cmd, Directive};
use crate::config::server::Setup;
use crate::hooks::{Hooks, order};
use crate::log::{self, Level};
use crate::module::{Module, Slot};
use crate::request::{Request, Step};

use conf::{ProxyDir, ProxyServer};

/// The module.
pub static MODULE: Module =
    Module { name: "proxy_module", file: "mod_proxy.c", directives: ROWS, hooks: register };

/// A server's settings.
pub static SERVER: Slot<ProxyServer> = Slot::new();
/// A directory's settings.
pub static DIR: Slot<ProxyDir> = Slot::new();

const ROWS: &[Directive] = &[
    server(
        "<Proxy",
        Args::Raw(access::proxy),
        "Container for directives affecting resources located in the proxied location",
    ),
    server(
        "<ProxyMatch",
        Args::Raw(access::proxy_match),
        "Container for directives affecting resources located in the proxied location, in regular expression syntax",
    ),
    server("ProxyRequests", Args::Flag(conf::requests), "on if the true proxy requests should be accepted"),
    server(
        "ProxyRemote",
        Args::Take23(forward::proxy_remote),
        "a scheme, partial URL or '*' and a proxy server",
    ),
    server(
        "ProxyRemoteMatch",
        Args::Take23(forward::proxy_remote_match),
        "a regex pattern and a proxy server",
    ),
    anywhere(
        "ProxyPassInterpolateEnv",
        Args::Flag(conf::interpolate),
        "Interpolate Env Vars in reverse Proxy",
    ),
    anywhere("ProxyPass", Args::Raw(pass::proxy_pass), "a virtual path and a URL"),
    anywhere("ProxyPassMatch", Args::Raw(pass::proxy_pass_match), "a virtual path and a URL"),
    anywhere(
        "ProxyPassReverse",
        Args::Take123(reverse::pass_reverse),
        "a virtual path and a URL for reverse proxy behaviour",
    ),
    anywhere(
        "ProxyPassReverseCookiePath",
        Args::Take23(reverse::cookie_path),
        "Path rewrite rule for proxying cookies",
    ),
    anywhere(
        "ProxyPassReverseCookieDomain",
        Args::Take23(reverse::cookie_domain),
        "Domain rewrite rule for proxying cookies",
    ),
    server(
        "ProxyBlock",
        Args::Iterate(forward::proxy_block),
        "A list of names, hosts or domains to which the proxy will not connect",
    ),
    server(
        "ProxyReceiveBufferSize",
        Args::Take1(conf::receive_buffer_size),
        "Receive buffer size for outgoing HTTP and FTP connections in bytes",
    ),
    server(
        "ProxyIOBufferSize",
        Args::Take1(conf::io_buffer_size),
        "IO buffer size for outgoing HTTP and FTP connections in bytes",
    ),
    server(
        "ProxyMaxForwards",
        Args::Take1(conf::max_forwards),
        "The maximum number of proxies a request may be forwarded through.",
    ),
    server(
        "NoProxy",
        Args::Iterate(forward::no_proxy),
        "A list of domains, hosts, or subnets to which the proxy will connect directly",
    ),
    server(
        "ProxyDomain",
        Args::Take1(forward::proxy_domain),
        "The default intranet domain name (in absence of a domain in the URL)",
    ),
    server(
        "ProxyVia",
        Args::Take1(conf::via),
        "Configure Via: proxy header header to one of: on | off | block | full",
    ),
    anywhere(
        "ProxyErrorOverride",
        Args::Iterate(conf::error_override),
        "use our error handling pages instead of the servers' we are proxying",
    ),
    anywhere(
        "ProxyPreserveHost",
        Args::Flag(conf::preserve_host),
        "on if we should preserve host header while proxying",
    ),
    server(
        "ProxyTimeout",
        Args::Take1(conf::timeout),
        "Set the timeout (in seconds) for a proxied connection. This overrides the server timeout",
    ),
    server(
        "ProxyBadHeader",
        Args::Take1(conf::bad_header),
        "How to handle bad header line in response: IsError | Ignore | StartBody",
    ),
    anywhere(
        "BalancerMember",
        Args::Raw(balancer::add_member),
        "A balancer name and scheme with list of params",
    ),
    server(
        "BalancerGrowth",
        Args::Take1(conf::balancer_growth),
        "Number of additional Balancers that can be added post-config",
    ),
    server(
        "BalancerPersist",
        Args::Flag(conf::balancer_persist),
        "on if the balancer should persist changes on reboot/restart made via the Balancer Manager",
    ),
    server(
        "BalancerInherit",
        Args::Flag(conf::balancer_inherit),
        "on if this server should inherit Balancers and Workers defined in the main server (Setting to off recommended if using the Balancer Manager)",
    ),
    server(
        "ProxyPassInherit",
        Args::Flag(conf::pass_inherit),
        "on if this server should inherit all ProxyPass directives defined in the main server (Setting to off recommended if using the Balancer Manager)",
    ),
    server(
        "ProxyStatus",
        Args::Take1(conf::show_status),
        "Configure Status: proxy status to one of: on | off | full",
    ),
    anywhere("ProxySet", Args::Raw(access::proxy_set), "A balancer or worker name with list of params"),
    server(
        "ProxySourceAddress",
        Args::Take1(conf::source_address),
        "Configure local source IP used for request forward",
    ),
    anywhere(
        "ProxyAddHeaders",
        Args::Flag(conf::add_headers),
        "on if X-Forwarded-* headers should be added or completed",
    ),
    anywhere(
        "Proxy100Continue",
        Args::Flag(conf::forward_100_continue),
        "on if 100-Continue should be forwarded to the origin server, off if the proxy should handle it by itself",
    ),
];

const fn server(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::RSRC_CONF, help }
}

const fn anywhere(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::CONF, help }
}

fn register(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.handler(handler::handler, order::FIRST);
    hooks.pre_translate_name(pass::pre_translate, order::MIDDLE);
    // mod_rewrite has its say about the URI before.
    hooks.translate_name(pass::translate_name, order::FIRST).after(&["mod_rewrite.c"]);
    hooks.map_to_storage(map_to_storage, order::FIRST);
    // Its [P] in a directory gives a URL that must be made canonical, too.
    hooks.fixups(fixups, order::FIRST).after(&["mod_rewrite.c"]);
    hooks.post_read_request(forward::detect, order::FIRST);
    hooks.post_config(post_config, order::MIDDLE);
}

/// The settings for the request's backend, in place of those for files (`proxy_map_location`).
fn map_to_storage(r: &mut Request) -> Step {
    if r.proxyreq.is_none() || !r.filename.starts_with(b"proxy:") {
        return Step::Declined;
    }
    access::walk(r);
    Step::Ok
}

fn fixups(r: &mut Request) -> Step {
    canon::canon_url(r)
}

/// Gives each worker its place in the memory that all processes share.
fn post_config(setup: &mut Setup) -> Result<(), String> {
    for (index, server) in setup.servers.iter().enumerate() {
        let conf = server.conf.get(&SERVER);
        let fail = |err: std::io::Error| format!("no shared memory for workers: {err}");
        for worker in &conf.workers {
            worker.share(&format!("{index} {}", worker.full_name())).map_err(fail)?;
        }
        for balancer in &conf.balancers {
            for member in &balancer.members {
                member.share(&format!("{index} {} {}", balancer.name, member.full_name())).map_err(fail)?;
            }
        }
    }
    Ok(())
}

/// A line about the configuration while it is read.
fn log_config(cmd: &Cmd, level: Level, ah: &str, text: &str) {
    if let crate::config::directive::Scope::Startup(setup) = &cmd.scope
        && let Some(server) = setup.servers.get(cmd.server)
    {
        log::event_of(server, level, "proxy", ah, None, text);
    }
}
