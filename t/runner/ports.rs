//! Free TCP ports on 127.0.0.1, never the same for two cases, nor for two runs at the same time.
//!
//! They are taken below the kernel's ephemeral range, so that no client connection can sit on one, and are reserved
//! by a lock on a file of that name for as long as the [`Port`] lives. All have five digits: a reply that names the
//! port is equally long whatever the port.

use std::fs::File;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::fcntl::{Flock, FlockArg};

const FIRST: u16 = 12_000;
const COUNT: u16 = 16_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A reserved port.
pub struct Port {
    pub number: u16,
    _lock: Flock<File>,
}

/// Reserves a free port.
pub fn reserve() -> Result<Port, String> {
    let folder = std::env::temp_dir().join("httpd-cases-ports");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    // Runs start at different places, so that they seldom meet.
    let start = (std::process::id() as u16).wrapping_mul(61);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let number = FIRST + start.wrapping_add(step) % COUNT;
        // A file of another user is a port of another user.
        let Ok(file) = File::create(folder.join(number.to_string())) else { continue };
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
        if TcpListener::bind(("127.0.0.1", number)).is_ok() {
            return Ok(Port { number, _lock: lock });
        }
    }
    Err("no free port".to_owned())
}
