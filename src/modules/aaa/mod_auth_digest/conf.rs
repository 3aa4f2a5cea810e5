//! The directives.

use std::sync::Arc;

use super::{DIR, SECOND, clients};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::log::{Level, server_event};
use crate::module::Conf;
use crate::modules::aaa::mod_authn_core::Provider;

#[derive(Clone)]
pub(super) struct DigestDir {
    pub(super) providers: Arc<Vec<Provider>>,
    /// Microseconds; 0: good once, below: for ever.
    pub(super) lifetime: i64,
    pub(super) check_nc: bool,
    pub(super) algorithm: String,
    /// `AuthDigestDomain`.
    pub(super) domain: Vec<String>,
}

impl Default for DigestDir {
    fn default() -> DigestDir {
        DigestDir {
            providers: Arc::default(),
            lifetime: 300 * SECOND,
            check_nc: false,
            algorithm: "MD5".to_owned(),
            domain: Vec::new(),
        }
    }
}

impl Conf for DigestDir {
    /// Nothing is inherited once one of the directives stands in a section.
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

pub(super) static ROWS: &[Directive] = &[
    row(
        "AuthDigestProvider",
        Args::Iterate(provider),
        "specify the auth providers for a directory or location",
    ),
    row("AuthDigestQop", Args::Iterate(qop), "A list of quality-of-protection options"),
    row("AuthDigestNonceLifetime", Args::Take1(lifetime), "Maximum lifetime of the server nonce (seconds)"),
    row(
        "AuthDigestNcCheck",
        Args::Flag(|cmd, on| {
            cmd.dir(&DIR).check_nc = on;
            Ok(())
        }),
        "Whether or not to check the nonce-count sent by the client",
    ),
    row("AuthDigestAlgorithm", Args::Take1(algorithm), "The algorithm used for the hash calculation"),
    row(
        "AuthDigestDomain",
        Args::Iterate(|cmd, uri| {
            cmd.dir(&DIR).domain.push(uri.to_owned());
            Ok(())
        }),
        "A list of URI's which belong to the same protection space as the current URI",
    ),
    Directive {
        name: "AuthDigestShmemSize",
        args: Args::Take1(shmem_size),
        allowed: Allowed::RSRC_CONF,
        help: "The amount of shared memory to allocate for keeping track of clients",
    },
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::AUTHCFG, help }
}

fn provider(cmd: &mut Cmd, name: &str) -> Done {
    let Some(provider) = Provider::find(cmd, name) else {
        return Err(format!("Unknown Authn provider: {name}").into());
    };
    if !provider.has_realm_hash() {
        return Err(format!("The '{name}' Authn provider doesn't support Digest Authentication").into());
    }
    Arc::make_mut(&mut cmd.dir(&DIR).providers).push(provider);
    Ok(())
}

/// There is no other any more than the one that every challenge offers.
fn qop(_: &mut Cmd, word: &str) -> Done {
    match word.eq_ignore_ascii_case("auth") {
        true => Ok(()),
        false => Err("AuthDigestQop is deprecated: only 'auth' is supported".into()),
    }
}

/// The number that `text` begins with, as `strtol` reads it, and what follows.
fn strtol(text: &str) -> (i64, &str) {
    let start = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = start.strip_prefix(['-', '+']).unwrap_or(start);
    let end = digits.bytes().position(|c| !c.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 {
        return (0, text);
    }
    let number = digits[..end].parse::<i64>().unwrap_or(i64::MAX);
    (if start.starts_with('-') { -number } else { number }, &digits[end..])
}

fn lifetime(cmd: &mut Cmd, text: &str) -> Done {
    let (seconds, rest) = strtol(text);
    if rest.starts_with(|c: char| !c.is_ascii_whitespace()) {
        return Err(format!("Invalid time in AuthDigestNonceLifetime: {text}").into());
    }
    cmd.dir(&DIR).lifetime = seconds.saturating_mul(SECOND);
    Ok(())
}

fn algorithm(cmd: &mut Cmd, name: &str) -> Done {
    if !name.eq_ignore_ascii_case("MD5") {
        return Err(format!("Unsupported algorithm in AuthDigestAlgorithm: {name}").into());
    }
    cmd.dir(&DIR).algorithm = name.to_owned();
    Ok(())
}

fn shmem_size(_: &mut Cmd, text: &str) -> Done {
    let (number, rest) = strtol(text);
    let size = match rest.trim_start().bytes().next() {
        None | Some(b'b' | b'B') => number,
        Some(b'k' | b'K') => number.saturating_mul(1024),
        Some(b'm' | b'M') => number.saturating_mul(1_048_576),
        _ => return Err(format!("Invalid size in AuthDigestShmemSize: {text}").into()),
    };
    if size < clients::LEAST {
        let least = clients::LEAST;
        return Err(format!("size in AuthDigestShmemSize too small: {size} < {least}").into());
    }
    let buckets = clients::set_size(size);
    let text = format!("Set shmem-size: {size}, num-buckets: {buckets}");
    server_event(Level::Debug, "auth_digest", "AH01763", &text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(strtol("12k"), (12, "k"));
        assert_eq!(strtol("-5"), (-5, ""));
        assert_eq!(strtol("x"), (0, "x"));
    }
}
