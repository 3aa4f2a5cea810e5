//! mod_heartbeat: tells a group of servers how much this one has to do.
//!
//! Answers to `modules/cluster/mod_heartbeat.c`. One of the children sends, as Apache's singleton watchdog does.

use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::BadAddress;
use crate::config::Runtime;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};
use crate::config::server::Setup;
use crate::engine::scoreboard;
use crate::hooks::{Hooks, order};
use crate::log::{self, Level};
use crate::module::{Conf, Module, Slot};
use crate::modules::mod_watchdog::{self, Watch};

/// The module.
pub static MODULE: Module =
    Module { name: "heartbeat_module", file: "mod_heartbeat.c", directives: ROWS, hooks };

static SERVER: Slot<Heartbeat> = Slot::new();

#[derive(Clone, Default)]
struct Heartbeat {
    /// `HeartbeatAddress`
    address: Option<SocketAddr>,
}

impl Conf for Heartbeat {
    fn merge(&self, child: &Self) -> Self {
        Heartbeat { address: child.address.or(self.address) }
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "HeartbeatAddress",
    args: Args::Take1(heartbeat_address),
    allowed: Allowed::RSRC_CONF,
    help: "Address to send heartbeat requests",
}];

fn heartbeat_address(cmd: &mut Cmd, address: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let conf = cmd.server_conf(&SERVER)?;
    if conf.address.is_some() {
        return Err("HeartbeatAddress: May only be specified once.".into());
    }
    conf.address = Some(super::group_address(address).map_err(|bad| match bad {
        BadAddress::Unparsable => "HeartbeatAddress: Unable to parse address.",
        BadAddress::NoHost => "HeartbeatAddress: No host provided in address",
        BadAddress::NoPort => "HeartbeatAddress: No port provided in address",
        BadAddress::Unknown => "HeartbeatAddress: apr_sockaddr_info_get failed.",
    })?);
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.post_config(post_config, order::MIDDLE).own();
}

fn post_config(setup: &mut Setup) -> Result<(), String> {
    if setup.servers[0].conf.get(&SERVER).address.is_some() {
        let watch = Watch::new(mod_watchdog::SINGLETON, beat).map_err(|err| err.to_string())?;
        mod_watchdog::watch(setup, watch);
    }
    Ok(())
}

/// `hb_watchdog_step`, again and again.
fn beat(runtime: &Arc<Runtime>) {
    let Some(address) = runtime.main_server().conf.get(&SERVER).address else { return };
    let interval = mod_watchdog::interval(runtime);
    loop {
        let (ready, busy) = scoreboard::counts().unwrap_or((0, 0));
        send(address, &format!("v=1&ready={ready}&busy={busy}"));
        mod_watchdog::pause(interval);
    }
}

/// `hb_monitor`
fn send(address: SocketAddr, message: &str) {
    let warn = |ah: &str, err: std::io::Error, what: &str| {
        log::server_error(Level::Warn, "heartbeat", ah, Some(&err), &format!("Heartbeat: {what} failed"));
    };
    let socket = match Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)) {
        Ok(socket) => socket,
        Err(err) => return warn("AH02097", err, "apr_socket_create"),
    };
    if let Err(err) = socket.set_multicast_loop_v4(true) {
        return warn("AH02098", err, "apr_mcast_loopback");
    }
    if let Err(err) = socket.send_to(message.as_bytes(), &address.into()) {
        warn("AH02099", err, "apr_socket_sendto");
    }
}
