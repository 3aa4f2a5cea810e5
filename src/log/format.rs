//! How a line of the error log looks: Apache's default, or `ErrorLogFormat`.
//!
//! Answers to `do_errorlog_default` and `do_errorlog_format` of `server/log.c`.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use bstr::ByteSlice;

use super::{Context, Level};
use crate::http::date;
use crate::request::{ConnInfo, Request};

/// What a request or connection gives to a line.
#[derive(Clone, Default, Debug)]
pub struct Items {
    /// The client.
    pub client: Option<SocketAddr>,
    /// The request's `Referer`.
    pub referer: Option<Vec<u8>>,
}

impl Items {
    /// Of a request.
    pub fn of_request(r: &Request) -> Items {
        Items {
            client: Some(r.connection.client_addr),
            referer: r.headers_in.get("Referer").map(<[u8]>::to_vec),
        }
    }
    /// Of a connection.
    pub fn of_connection(c: &ConnInfo) -> Items {
        Items { client: Some(c.client_addr), referer: None }
    }
}

/// The format of a log's lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Apache's own.
    #[default]
    Default,
}

/// Control characters and backslashes as `\xHH` and the like, so that a line stays a line: `ap_escape_errorlog_item`.
pub fn escape(text: &[u8]) -> String {
    String::from_utf8_lossy(&crate::http::escape::escape_errorlog_item(text)).into_owned()
}

/// One line, with its end.
pub(crate) fn line(format: &Format, level: Level, module: &str, message: &str, context: &Context) -> String {
    match format {
        Format::Default => default_line(level, module, message, context),
    }
}

fn default_line(level: Level, module: &str, message: &str, context: &Context) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let secs = now.as_secs() as i64;
    let micros = now.as_micros() as i64;
    let time = date::error_log(micros, crate::os::clock::local_offset(secs));
    let pid = std::process::id();
    let mut line = format!(
        "[{}] [{module}:{}] [pid {pid}:tid {}] ",
        time.to_str_lossy(),
        level.name(),
        crate::os::process::thread_id()
    );
    if let Some(error) = &context.error {
        line.push_str(error);
        line.push_str(": ");
    }
    if let Some(client) = &context.items.client {
        line.push_str(&format!("[client {}] ", shown(client)));
    }
    line.push_str(&escape(&httpd_conf::to_bytes(message)));
    if let Some(referer) = &context.items.referer {
        line.push_str(", referer: ");
        line.push_str(&escape(referer));
    }
    line.push('\n');
    line
}

/// An address as Apache prints it: IPv6 without brackets.
fn shown(addr: &SocketAddr) -> String {
    format!("{}:{}", addr.ip().to_canonical(), addr.port())
}
