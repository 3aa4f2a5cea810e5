//! A connection on which a module speaks a protocol of its own.

use super::{Need, State, Task};
use crate::conn::protocol::{Next, Protocol};
use crate::conn::wire::Progress;
use crate::os::clock::now_ms;

impl Task {
    /// Lets a module speak on this connection, from its first byte on.
    pub fn speak(&mut self, protocol: Box<dyn Protocol>) {
        let timeout = self.r.connection.base_server.resolved.timeout;
        self.state = State::Speak { protocol, next: Next::Read(timeout) };
    }

    pub(super) fn go_on_speaking(&mut self) -> Option<Need> {
        let connection = self.r.connection.clone();
        let State::Speak { protocol, next } = &mut self.state else { return None };
        let Some(wire) = self.r.input.wire.as_deref_mut() else { return Some(self.close()) };
        match wire.flush() {
            Ok(Progress::Done) => {}
            Ok(Progress::Blocked) => {
                let timeout = connection.base_server.resolved.timeout;
                let until = now_ms() + timeout.as_millis() as u64;
                return Some(Need::Io { read: false, until, idle: false });
            }
            Ok(Progress::Closed) => return Some(self.close()),
            Err(err) => {
                protocol.failed(&connection, false, &err);
                return Some(self.close());
            }
        }
        let Next::Read(timeout) = *next else {
            self.state = State::End;
            return None;
        };
        match wire.fill() {
            Ok(Progress::Done | Progress::Closed) => match protocol.speak(&connection, wire) {
                Next::Same => {}
                other => *next = other,
            },
            Ok(Progress::Blocked) => {
                let until = now_ms() + timeout.as_millis() as u64;
                return Some(Need::Io { read: true, until, idle: false });
            }
            Err(err) => {
                protocol.failed(&connection, true, &err);
                return Some(self.close());
            }
        }
        // Others have their turn between two pieces.
        Some(Need::Again)
    }
}
