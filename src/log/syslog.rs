//! `ErrorLog syslog[:facility[:tag]]`: the system's log.
//!
//! Answers to the syslog part of `open_error_log` in `server/log.c`, and to `openlog` and `syslog` of the C library, whose
//! messages (RFC 3164) are written to `/dev/log` here. Differs in that every log keeps its own facility and tag, where
//! the C library has one of each for a process.

use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;

use super::Level;
use crate::os::clock;

const SOCKET: &str = "/dev/log";

/// `facilities` of `log.c` with their numbers of RFC 3164.
const FACILITIES: [(&str, u8); 20] = [
    ("auth", 4),
    ("authpriv", 10),
    ("cron", 9),
    ("daemon", 3),
    ("ftp", 11),
    ("kern", 0),
    ("lpr", 6),
    ("mail", 2),
    ("news", 7),
    ("syslog", 5),
    ("user", 1),
    ("uucp", 8),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
const LOCAL7: u8 = 23;

/// A way to the system's log.
pub struct Syslog {
    facility: u8,
    tag: String,
    /// Connected with the first message, and again when the system's logger was started anew.
    socket: Mutex<Option<UnixDatagram>>,
}

impl Syslog {
    /// By what stands in `ErrorLog`; `None` when it is not about syslog.
    pub fn named(name: &str, program: &str) -> Option<Result<Syslog, String>> {
        let rest = name.strip_prefix("syslog")?;
        let (facility, tag) = match rest.strip_prefix(':') {
            Some(rest) => rest.split_once(':').unwrap_or((rest, "")),
            None if rest.is_empty() => ("", ""),
            None => return None,
        };
        let tag = if tag.is_empty() { program } else { tag };
        // As with strncasecmp, the beginning of a name will do.
        let known = FACILITIES.iter().find(|(name, _)| {
            name.get(..facility.len()).is_some_and(|start| start.eq_ignore_ascii_case(facility))
        });
        let facility = match (facility, known) {
            ("", _) => LOCAL7,
            (_, Some((_, number))) => *number,
            (_, None) => {
                let fname = rest.trim_start_matches(':');
                return Some(Err(format!(
                    "(20024)The given path is misformatted or contained invalid characters: AH10036: {program}: could not open syslog error log {fname}."
                )));
            }
        };
        Some(Ok(Syslog { facility, tag: tag.to_owned(), socket: Mutex::new(None) }))
    }

    /// Sends one line. What the system's logger doesn't take is lost.
    pub fn write(&self, level: Level, line: &str) {
        let severity = (level as u8).min(Level::Debug as u8);
        let mut message = format!("<{}>", self.facility << 3 | severity).into_bytes();
        let secs = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs() as i64);
        clock::strftime(c"%h %e %T ", secs, &mut message);
        message.extend_from_slice(format!("{}[{}]: ", self.tag, std::process::id()).as_bytes());
        message.extend_from_slice(line.trim_end_matches('\n').as_bytes());
        let mut socket = self.socket.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if socket.as_ref().is_some_and(|socket| socket.send(&message).is_ok()) {
            return;
        }
        *socket = UnixDatagram::unbound().and_then(|new| new.connect(SOCKET).map(|()| new)).ok();
        if let Some(socket) = socket.as_ref() {
            // Lost when the logger is gone again.
            _ = socket.send(&message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let facility = |name| Syslog::named(name, "httpd").map(|log| log.map(|log| (log.facility, log.tag)));
        assert_eq!(facility("syslog"), Some(Ok((23, "httpd".to_owned()))));
        assert_eq!(facility("syslog:user"), Some(Ok((1, "httpd".to_owned()))));
        assert_eq!(facility("syslog:local1:web"), Some(Ok((17, "web".to_owned()))));
        assert_eq!(facility("syslog::web"), Some(Ok((23, "web".to_owned()))));
        assert!(facility("syslog:nobody").is_some_and(|log| log.is_err()));
        assert_eq!(facility("syslog.txt"), None);
    }
}
