//! What systemd is told, where it listens and mod_systemd is loaded.
//!
//! Answers to `modules/arch/unix/mod_systemd.c`; the words are those of `sd_notify(3)`.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::Ordering;

use super::Master;
use crate::engine::scoreboard::{is_extended, micros};

/// Sends one message to the socket that the environment names.
fn send(socket: &str, text: &str) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

impl Master {
    pub(super) fn notify(&self, text: &str) {
        if self.runtime.modules.iter().any(|m| m.module.file == "mod_systemd.c")
            && let Ok(socket) = std::env::var("NOTIFY_SOCKET")
        {
            // Nobody there is no reason not to serve.
            let _ = send(&socket, text);
        }
    }

    /// `systemd_pre_mpm`.
    pub(super) fn notify_processing(&self) {
        let pid = std::process::id();
        self.notify(&format!("READY=1\nSTATUS=Processing requests...\nMAINPID={pid}"));
    }

    /// `systemd_monitor`: how the server does.
    pub(super) fn notify_state(&self) {
        if !is_extended() {
            return;
        }
        let load = self.board.load();
        let since = self.board.global().map_or(0, |global| global.restart_time.load(Ordering::Relaxed));
        let seconds = (micros().saturating_sub(since) / 1_000_000).max(1) as f64;
        self.notify(&format!(
            "READY=1\nSTATUS=Total requests: {}; Idle/Busy workers {}/{};Requests/sec: {}; Bytes served/sec: {}B/sec\n",
            load.accesses,
            load.idle,
            load.busy,
            three_digits(load.accesses as f64 / seconds),
            sized((load.bytes as f64 / seconds) as u64)
        ));
    }
}

/// `%.3g`, for numbers from a thousandth to a thousand.
fn three_digits(value: f64) -> String {
    let whole = (value.abs().max(0.001).log10().floor() as i32 + 1).clamp(-2, 3);
    let text = format!("{value:.*}", usize::try_from(3 - whole).unwrap_or(0));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Four places: `apr_strfsize`.
fn sized(bytes: u64) -> String {
    if bytes < 973 {
        return format!("{bytes:3} ");
    }
    let mut rest = 0;
    let mut size = bytes;
    for letter in "KMGTPE".chars() {
        rest = size & 1023;
        size >>= 10;
        if size >= 973 {
            continue;
        }
        if size < 9 || size == 9 && rest < 973 {
            let mut tenths = (rest * 5 + 256) / 512;
            if tenths >= 10 {
                size += 1;
                tenths = 0;
            }
            return format!("{size}.{tenths}{letter}");
        }
        if rest >= 512 {
            size += 1;
        }
        return format!("{size:3}{letter}");
    }
    let _ = rest;
    "****".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!([sized(0), sized(972), sized(2048), sized(15_000)], ["  0 ", "972 ", "2.0K", " 15K"]);
        assert_eq!(sized(5 << 30), "5.0G");
    }

    #[test]
    fn numbers() {
        let all = [0.0, 0.5, 12.345, 1234.5].map(three_digits);
        assert_eq!(all, ["0", "0.5", "12.3", "1234"]);
    }

    #[test]
    fn a_message_arrives() {
        let path = std::env::temp_dir().join(format!("httpd-{}-notify", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap(), "READY=1\n").unwrap();
        let mut buffer = [0; 64];
        let count = socket.recv(&mut buffer).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(&buffer[..count], b"READY=1\n");
    }
}
