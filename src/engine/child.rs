//! What both kinds of children do: become the user, take connections, know when to go.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use mio::net::TcpStream;
use nix::unistd::Pid;

use super::limits::Limits;
use super::listen::Listener;
use super::scoreboard::{ProcessScore, Scoreboard};
use crate::config::Runtime;
use crate::conn::idle::Idle;
use crate::conn::task::Task;
use crate::conn::wire::Wire;
use crate::log::{self, Level};
use crate::modules::debugging::mod_dumpio;
use crate::modules::metadata::mod_remoteip;
use crate::os::clock::Millis;
use crate::os::process;
use crate::request::ConnInfo;

/// How long a connection between two requests is kept by a child that was told to go, in milliseconds: a client that has its
/// next request on the way gets it answered (with `Connection: close`), not a closed connection.
pub const GRACE: Millis = 2_000;

/// What a child is given.
pub struct Child {
    /// The configuration.
    pub runtime: Arc<Runtime>,
    /// How many of what.
    pub limits: Limits,
    /// The listening sockets, until it is told to go.
    pub listeners: RefCell<Vec<Arc<Listener>>>,
    /// The board.
    pub board: Arc<Scoreboard>,
    /// Its place on the board.
    pub place: usize,
    /// The master's words: a byte asks it to finish and go; its end means that the master is gone.
    pub control: UnixStream,
    /// Wakes the master.
    pub notice: UnixStream,
    /// The master's number.
    pub master: Pid,
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

impl Child {
    /// Its place on the board.
    pub fn score(&self) -> &ProcessScore {
        &self.board.processes()[self.place]
    }

    /// `-X`: it has no master.
    pub fn is_alone(&self) -> bool {
        self.master == nix::unistd::getpid()
    }

    /// True when the master asked it to go, or is gone itself. The word is not taken, so that it is found again.
    pub fn is_called(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.control.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// The `index`th listening socket.
    pub fn listener(&self, index: usize) -> Option<Arc<Listener>> {
        self.listeners.borrow().get(index).cloned()
    }

    /// Closes its copies of the listening sockets, so that none is kept open by a child that only finishes what it has.
    pub fn close_listeners(&self) {
        self.listeners.borrow_mut().clear();
    }

    /// Says that it takes no more connections; the master sees at once that another is wanted.
    pub fn goes(&self) {
        self.score().quiescing.store(true, Ordering::Relaxed);
        self.wake_master();
    }

    /// Lets the master look at the scoreboard.
    pub fn wake_master(&self) {
        use std::io::Write;
        if !self.is_alone() {
            // A pipe that is full wakes the master as well.
            let _ = (&self.notice).write(b"n");
        }
    }

    /// The control socket's descriptor.
    pub fn control_fd(&self) -> RawFd {
        self.control.as_raw_fd()
    }

    /// A task for a connection that was accepted.
    pub fn task(&self, stream: TcpStream, client: SocketAddr, listener: &Listener) -> io::Result<Box<Task>> {
        let local = if listener.is_specific() { listener.addr } else { stream.local_addr()? };
        let names = self.runtime.vhosts.by_address(local.ip(), local.port());
        let base = names
            .as_ref()
            .and_then(|n| n.members().first())
            .and_then(|&index| self.runtime.servers.get(index))
            .unwrap_or_else(|| self.runtime.main_server())
            .clone();
        let dump = mod_dumpio::of(&base);
        let connection = Arc::new(ConnInfo {
            runtime: self.runtime.clone(),
            id: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
            client_addr: SocketAddr::new(client.ip().to_canonical(), client.port()),
            client_ip: address_text(client.ip().to_canonical()),
            client_name: Default::default(),
            local_addr: SocketAddr::new(local.ip().to_canonical(), local.port()),
            names,
            base_server: base,
            log_id: OnceLock::new(),
            proxy_header: mod_remoteip::expects_header(&self.runtime, client.ip(), local),
            proxied: OnceLock::new(),
            dump,
            remote_logname: OnceLock::new(),
        });
        self.score().accepted.fetch_add(1, Ordering::Relaxed);
        let mut task = Idle::accepted(connection.clone(), Wire::new(stream)).wake();
        if let Some(protocol) =
            self.runtime.hooks.process_connection.iter().find_map(|hook| hook(&connection))
        {
            task.speak(protocol);
        }
        Ok(task)
    }

    /// Gives up root for `User` and `Group`, then lets the modules prepare.
    pub fn prepare(&self) -> io::Result<()> {
        if let Some(bytes) = self.runtime.mpm.max_mem_free {
            process::keep_free_memory(bytes);
        }
        let dumps = self.runtime.mpm.core_dump_directory.as_deref();
        self.runtime.unixd.drop_privileges(dumps.is_some())?;
        if let Some(dir) = dumps {
            // Where a core file goes is the folder of the process.
            nix::unistd::chdir(dir)?;
        }
        for hook in self.runtime.hooks.child_init.iter() {
            hook(&self.runtime);
        }
        Ok(())
    }
}

/// An address as text, without the formatting machinery for the common kind: each connection needs it.
fn address_text(ip: IpAddr) -> String {
    let IpAddr::V4(ip) = ip else { return ip.to_string() };
    let mut text = String::with_capacity(15);
    for (index, part) in ip.octets().into_iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        for (at_least, unit) in [(100, 100), (10, 10), (0, 1)] {
            if part >= at_least {
                text.push(char::from(b'0' + part / unit % 10));
            }
        }
    }
    text
}

/// What a failed accept means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcceptFailed {
    /// The client went away, or another child was faster.
    Passing,
    /// Descriptors or memory are short.
    Shortage,
    /// The socket can't be used.
    Broken,
}

/// Logs a failed accept, and says what it means: `ap_unixd_accept`.
pub fn accept_failed(err: &io::Error) -> AcceptFailed {
    match err.raw_os_error() {
        Some(
            libc::ECONNABORTED
            | libc::ECONNRESET
            | libc::ETIMEDOUT
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EPROTO
            | libc::EAGAIN
            | libc::EINTR,
        ) => AcceptFailed::Passing,
        Some(libc::ENETDOWN) => {
            log::server_error(Level::Emerg, "core", "AH02177", Some(err), "apr_socket_accept: giving up.");
            AcceptFailed::Broken
        }
        code => {
            log::server_error(
                Level::Error,
                "core",
                "AH02179",
                Some(err),
                "apr_socket_accept: (client socket)",
            );
            match code {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => AcceptFailed::Shortage,
                _ => AcceptFailed::Broken,
            }
        }
    }
}
