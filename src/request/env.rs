//! The names of a request's client.
//!
//! Answers to `ap_get_useragent_host` of `server/core.c`. Where it differs: with `HostnameLookups` the name is looked up as soon as the directory is known, on a thread that may block;
//! who asks later finds it.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::OnceLock;

use super::{Request, Step, memo};
use crate::modules::core::{self, Lookups};
use crate::os::host;

/// The name of a client, looked up at most once for a connection.
#[derive(Default, Debug)]
pub struct ClientName {
    name: OnceLock<Option<String>>,
    confirmed: OnceLock<bool>,
}

impl ClientName {
    /// Somebody asked for it, and got one or none.
    pub fn was_looked_up(&self) -> bool {
        self.name.get().is_some()
    }

    /// The name, when it was looked up before.
    fn known(&self) -> Option<&str> {
        self.name.get()?.as_deref()
    }

    /// The name that the resolver knows for `ip`, in lower case. Blocks when nobody has asked before.
    fn look_up(&self, ip: IpAddr) -> Option<&str> {
        self.name.get_or_init(|| host::name_of(ip).map(|name| name.to_ascii_lowercase())).as_deref()
    }

    /// The same, if the name has this address among its own (double reverse lookup).
    fn look_up_twice(&self, ip: IpAddr) -> Option<&str> {
        let name = self.look_up(ip)?;
        let confirmed = self.confirmed.get_or_init(|| {
            let found = (name, 0).to_socket_addrs();
            found.is_ok_and(|mut all| all.any(|addr| addr.ip().to_canonical() == ip.to_canonical()))
        });
        confirmed.then_some(name)
    }
}

impl Request {
    /// The client's name when it was looked up, else its address: `REMOTE_NAME`.
    pub fn remote_name(&self) -> String {
        memo::refuse();
        let client = self.client_name();
        let confirmed = client.confirmed.get().copied().unwrap_or(false);
        let name = match self.dir(&core::DIR).hostname_lookups {
            Some(Lookups::Double) if !confirmed => None,
            _ => client.known(),
        };
        name.unwrap_or(self.useragent_ip()).to_owned()
    }

    /// The client's name, where `HostnameLookups` had it looked up: `REMOTE_HOST`.
    pub fn remote_host(&self) -> Option<&str> {
        memo::refuse();
        let client = self.client_name();
        match self.dir(&core::DIR).hostname_lookups {
            Some(Lookups::Double) if client.confirmed.get() != Some(&true) => None,
            _ => client.known(),
        }
    }

    /// The client's name if it leads back to the client's address: `REMOTE_DOUBLE_REV`. `Err` on a reactor, when it
    /// isn't known yet.
    pub fn confirmed_remote_host(&self) -> Result<Option<&str>, Step> {
        memo::refuse();
        let client = self.client_name();
        let done = client.name.get().is_some_and(|name| name.is_none() || client.confirmed.get().is_some());
        if !done && self.needs_thread() {
            return Err(Step::NeedThread);
        }
        Ok(client.look_up_twice(self.client_addr().ip()))
    }

    /// Looks the client's name up where `HostnameLookups` says so.
    pub(crate) fn look_up_client(&mut self) -> Step {
        let lookups = self.dir(&core::DIR).hostname_lookups.unwrap_or(Lookups::Off);
        if lookups == Lookups::Off {
            return Step::Declined;
        }
        memo::refuse();
        if self.client_name().name.get().is_some() {
            return Step::Declined;
        }
        if self.needs_thread() {
            return Step::NeedThread;
        }
        let ip = self.client_addr().ip();
        match lookups {
            Lookups::Double => self.client_name().look_up_twice(ip),
            _ => self.client_name().look_up(ip),
        };
        Step::Declined
    }
}
