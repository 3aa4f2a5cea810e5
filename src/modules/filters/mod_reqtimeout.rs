//! mod_reqtimeout: how long a request's head and body may take.
//!
//! Answers to `modules/filters/mod_reqtimeout.c`. The connection's state machine keeps the time ([`crate::conn::task`],
//! [`crate::conn::input`]); here are the limits and how received bytes prolong them.

use httpd_conf::next_word;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::Hooks;
use crate::module::{Conf, ConfVec, Module, Slot};
use crate::os::clock::Millis;

/// The module.
pub static MODULE: Module =
    Module { name: "reqtimeout_module", file: "mod_reqtimeout.c", directives: ROWS, hooks };

/// A server's settings.
pub static SERVER: Slot<ReqtimeoutServer> = Slot::new();

/// `RequestReadTimeout`: its three stages.
#[derive(Clone, Default)]
pub struct ReqtimeoutServer {
    handshake: Option<Stage>,
    header: Option<Stage>,
    body: Option<Stage>,
}

impl Conf for ReqtimeoutServer {
    fn merge(&self, child: &Self) -> Self {
        ReqtimeoutServer {
            handshake: child.handshake.or(self.handshake),
            header: child.header.or(self.header),
            body: child.body.or(self.body),
        }
    }
}

/// One stage of a request: how long it may take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stage {
    /// Seconds at first; 0: no limit.
    timeout: u64,
    /// The most that received bytes prolong them to; 0: no limit.
    max: u64,
    /// So many bytes prolong them by a second; 0: none do.
    min_rate: u64,
}

const HEADER: Stage = Stage { timeout: 20, max: 40, min_rate: 500 };
const BODY: Stage = Stage { timeout: 20, max: 0, min_rate: 500 };

impl Stage {
    /// Until when a stage that began at `since` must be over, `got` bytes of it having come.
    pub fn until(&self, since: Millis, got: u64) -> Millis {
        if self.timeout == 0 {
            return Millis::MAX;
        }
        let first = self.timeout.saturating_mul(1000);
        // Apache counts microseconds for each byte, cut to a whole number.
        let more = 1_000_000_u64.checked_div(self.min_rate).unwrap_or(0).saturating_mul(got) / 1000;
        let limit = first.saturating_add(more);
        let limit = if self.max > 0 { limit.min(self.max.saturating_mul(1000)) } else { limit };
        since.saturating_add(limit)
    }
}

/// The limits in force for a server.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadTimeouts {
    /// For the TLS handshake.
    pub handshake: Stage,
    /// For the head.
    pub header: Stage,
    /// For the body.
    pub body: Stage,
}

/// What a server's directives come to; `None`: nothing is limited.
pub fn limits(conf: &ConfVec) -> Option<ReadTimeouts> {
    let conf = conf.get(&SERVER);
    let limits = ReadTimeouts {
        handshake: conf.handshake.unwrap_or_default(),
        header: conf.header.unwrap_or(HEADER),
        body: conf.body.unwrap_or(BODY),
    };
    let off = limits.handshake.timeout == 0 && limits.header.timeout == 0 && limits.body.timeout == 0;
    (!off).then_some(limits)
}

static ROWS: &[Directive] = &[Directive {
    name: "RequestReadTimeout",
    args: Args::Raw(request_read_timeout),
    allowed: Allowed::RSRC_CONF,
    help: "Set various timeout parameters for TLS handshake and/or reading request headers and body",
}];

fn hooks(_: &mut Hooks) {}

fn request_read_timeout(cmd: &mut Cmd, args: &str) -> Done {
    let conf = cmd.server_conf(&SERVER)?;
    let mut rest = args;
    while !rest.is_empty() {
        let word = next_word(&mut rest);
        let Some((key, value)) = word.split_once('=') else {
            return Err(
                "Invalid RequestReadTimeout parameter. Parameter must be in the form 'key=value'".into()
            );
        };
        let stage = match key.to_ascii_lowercase().as_str() {
            "handshake" => Ok(&mut conf.handshake),
            "header" => Ok(&mut conf.header),
            "body" => Ok(&mut conf.body),
            _ => Err("Unknown RequestReadTimeout parameter".to_owned()),
        };
        stage
            .and_then(|stage| parse_stage(value).map(|parsed| *stage = Some(parsed)))
            .map_err(|text| format!("RequestReadTimeout: {key}={value}: {text}"))?;
    }
    Ok(())
}

/// `timeout[-max][,MinRate=rate]`: `set_reqtimeout_param`.
fn parse_stage(value: &str) -> Result<Stage, String> {
    const RATE: &str = ",minrate=";
    let Some(at) = value.to_ascii_lowercase().find(RATE) else {
        if value.contains('-') {
            return Err("Must set MinRate option if using timeout range".to_owned());
        }
        return Ok(Stage { timeout: parse_int(value)?, ..Stage::default() });
    };
    let min_rate = parse_int(&value[at + RATE.len()..])?;
    if min_rate == 0 {
        return Err("Minimum data rate must be larger than 0".to_owned());
    }
    let (initial, max) = match value[..at].split_once('-') {
        Some((initial, max)) => (initial, parse_int(max)?),
        None => (&value[..at], 0),
    };
    let timeout = parse_int(initial)?;
    if max != 0 && timeout >= max {
        return Err("Maximum timeout must be larger than initial timeout".to_owned());
    }
    Ok(Stage { timeout, max, min_rate })
}

/// A number as `strtol` reads it, and nothing behind it.
fn parse_int(text: &str) -> Result<u64, String> {
    let trimmed = text.trim_start();
    let unsigned = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(format!("Value '{text}' not numerical"));
    }
    if digits < unsigned.len() {
        return Err(format!("Cannot parse '{}'", &unsigned[digits..]));
    }
    let value: u64 = unsigned.parse().unwrap_or(u64::from(u32::MAX >> 1));
    if trimmed.starts_with('-') && value > 0 {
        return Err("Value must be non-negative".to_owned());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages() {
        assert_eq!(parse_stage("20"), Ok(Stage { timeout: 20, max: 0, min_rate: 0 }));
        assert_eq!(parse_stage("20-40,MinRate=500"), Ok(Stage { timeout: 20, max: 40, min_rate: 500 }));
        assert_eq!(parse_stage("20,minrate=0"), Err("Minimum data rate must be larger than 0".to_owned()));
        assert_eq!(parse_stage("x"), Err("Value 'x' not numerical".to_owned()));
        assert_eq!(parse_stage("5x"), Err("Cannot parse 'x'".to_owned()));
        assert_eq!(parse_stage("-5,MinRate=1"), Err("Value '' not numerical".to_owned()));
        assert_eq!(
            parse_stage("5-5,MinRate=1"),
            Err("Maximum timeout must be larger than initial timeout".to_owned())
        );
    }

    #[test]
    fn bytes_prolong() {
        let stage = Stage { timeout: 20, max: 40, min_rate: 500 };
        assert_eq!(stage.until(1000, 0), 21_000);
        assert_eq!(stage.until(1000, 500), 22_000);
        assert_eq!(stage.until(1000, 1_000_000), 41_000);
        assert_eq!(Stage::default().until(1000, 5), Millis::MAX);
    }
}
