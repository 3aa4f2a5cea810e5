//! Rows about protocols and sockets: `Protocol`, `Protocols`, `AcceptFilter`, and those that mean nothing any more.
//!
//! Answers to `set_protocol`, `set_protocols`, `set_accf_map` of `server/core.c`, `ap_set_name_virtual_host` of
//! `server/vhost.c`, `ap_set_deprecated` of `server/config.c`.

use super::SERVER;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};
use crate::log::{self, Level};

pub(super) const ROWS: &[Directive] = &[
    row("Protocol", Args::Take1(protocol), "Set the Protocol for httpd to use."),
    row("AcceptFilter", Args::Take2(accept_filter), "Set the Accept Filter to use for a protocol"),
    row("Port", Args::Take1(port), "Port was replaced with Listen in Apache 2.0"),
    row(
        "NameVirtualHost",
        Args::Take1(name_virtual_host),
        "A numeric IP address:port, or the name of a host",
    ),
    row("Protocols", Args::Iterate(protocols), "Controls which protocols are allowed"),
    row(
        "ProtocolsHonorOrder",
        Args::Take1(protocols_honor_order),
        "'off' (default) or 'on' to respect given order of protocols, by default the client specified order determines selection",
    ),
    row(
        "FlushMaxThreshold",
        Args::Take1(flush_max_threshold),
        "Maximum threshold above which pending data are flushed to the network",
    ),
    row(
        "FlushMaxPipelined",
        Args::Take1(flush_max_pipelined),
        "Maximum number of pipelined responses (pending) above which they are flushed to the network",
    ),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::RSRC_CONF, help }
}

/// What a server speaks, for modules that ask (mod_ssl turns itself on for `https`); `Listen` says it per socket.
fn protocol(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    cmd.server_conf(&SERVER)?.protocol = Some(arg.to_ascii_lowercase());
    Ok(())
}

/// `none` for a protocol lets the kernel hand over its connections before data came ([`crate::engine::listen`]); on
/// Linux every other name means the same.
fn accept_filter(cmd: &mut Cmd, protocol: &str, filter: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let filters = &mut cmd.setup()?.mpm.accept_filters;
    filters.insert(protocol.to_ascii_lowercase(), filter.to_ascii_lowercase());
    Ok(())
}

fn port(_: &mut Cmd, _: &str) -> Done {
    Err("Port was replaced with Listen in Apache 2.0".into())
}

/// Nothing: every address with several virtual hosts is chosen from by name. Apache warns once in its life.
fn name_virtual_host(cmd: &mut Cmd, _: &str) -> Done {
    static WARNED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    if !WARNED.swap(true, std::sync::atomic::Ordering::Relaxed) {
        let text = format!(
            "NameVirtualHost has no effect and will be removed in the next release {}:{}",
            cmd.node.origin.file, cmd.node.origin.line
        );
        log::startup_first(Level::Notice, "core", "AH00548", &text, None);
    }
    Ok(())
}

fn protocols(cmd: &mut Cmd, name: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    cmd.server_conf(&SERVER)?.protocols.push(name.to_owned());
    Ok(())
}

fn protocols_honor_order(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let on = match arg.to_ascii_lowercase().as_str() {
        "on" => true,
        "off" => false,
        _ => return Err("ProtocolsHonorOrder must be 'on' or 'off'".into()),
    };
    cmd.server_conf(&SERVER)?.protocols_honor_order = Some(on);
    Ok(())
}

fn flush_max_threshold(cmd: &mut Cmd, arg: &str) -> Done {
    match arg.parse::<u32>() {
        Ok(bytes) => {
            cmd.server_conf(&SERVER)?.flush_max_threshold = Some(bytes);
            Ok(())
        }
        Err(_) => Err(format!("parameter must be a number between 0 and (4294967295U)): {arg}").into()),
    }
}

/// Without it replies wait for each other up to `FlushMaxThreshold`; Apache lets 5 wait.
fn flush_max_pipelined(cmd: &mut Cmd, arg: &str) -> Done {
    match arg.parse::<i32>() {
        Ok(count @ -1..) => {
            cmd.server_conf(&SERVER)?.flush_max_pipelined = Some(count);
            Ok(())
        }
        _ => Err(format!("parameter must be a number between -1 and (2147483647): {arg}").into()),
    }
}
