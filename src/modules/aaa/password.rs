//! Does a password fit a hash as `htpasswd` writes them?
//!
//! Answers to `apr_password_validate` and `apr_md5_encode` of APR. What is no hash of APR's is one of crypt(3); there the
//! old DES form, `$1$`, `$5$`, `$6$`, `$7$` (scrypt) and `$y$` (yescrypt) are known, `$gy$`, `$md5$`, `$3$` and `_` aren't. A
//! password that stands in the file as it is never fits, as on every Unix.

use base64::Engine;
use md5::{Digest, Md5};
use sha1::Sha1;

/// True when the check takes long, so that no reactor may make it.
pub fn is_slow(hash: &[u8]) -> bool {
    !hash.starts_with(b"{SHA}")
}

/// `apr_password_validate`.
pub fn validate(password: &[u8], hash: &[u8]) -> bool {
    if let Some(sum) = hash.strip_prefix(b"{SHA}") {
        let encoded = base64::engine::general_purpose::STANDARD.encode(Sha1::digest(password));
        return encoded.as_bytes() == sum;
    }
    // The crates below cut their texts by bytes: only plain characters are let through.
    let Some(text) = std::str::from_utf8(hash).ok().filter(|text| text.is_ascii()) else { return false };
    if text.starts_with("$apr1$") {
        return apr1(password, text) == text;
    }
    if let Some(rest) = text.strip_prefix("$2") {
        // Three letters for one algorithm; `$2x$` is that of a program with a mistake.
        return text.len() == 60
            && rest.starts_with(['a', 'b', 'y'])
            && bcrypt::verify(password, text).unwrap_or(false);
    }
    if text.starts_with("$1$") {
        return pwhash::md5_crypt::verify(password, text);
    }
    if text.starts_with("$5$") {
        return pwhash::sha256_crypt::verify(password, text);
    }
    if text.starts_with("$6$") {
        return pwhash::sha512_crypt::verify(password, text);
    }
    if let Some(rest) = text.strip_prefix("$7$") {
        return scrypt(password, rest).is_some_and(|sum| same(sum.as_bytes(), rest));
    }
    if let Some(rest) = text.strip_prefix("$y$") {
        return yescrypt(password, text, rest);
    }
    text.len() == 13 && pwhash::unix_crypt::verify(password, text)
}

/// More memory than this is not given to the check of a password; Debian's `mkpasswd` goes to a sixteenth of it.
const MEMORY: u64 = 1 << 31;

/// `$7$`: one digit for the power of two, five for the size of a block, five for how many there are, then salt and sum.
/// The sum that belongs to the password, as it stands behind the last `$`.
fn scrypt(password: &[u8], rest: &str) -> Option<String> {
    let (parameters, sum) = rest.rsplit_once('$')?;
    let salt = parameters.get(11..)?.as_bytes();
    let mut digits = parameters.bytes().map_while(digit);
    let power = digits.next()?;
    let mut number = || (0..5).try_fold(0, |number, place| Some(number | digits.next()? << (6 * place)));
    let (block, parallel) = (number()?, number()?);
    let n = affordable(power, block, parallel)?;
    let parameters = yescrypt::Params::new(yescrypt::Mode::Classic, n, block, parallel).ok()?;
    let mut out = [0; 32];
    yescrypt::yescrypt(password, salt, &parameters, &mut out).ok()?;
    let mut text = String::with_capacity(sum.len());
    for three in out.chunks(3) {
        let bits = three.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        to64(&mut text, bits, three.len() + 1);
    }
    Some(text)
}

/// Compares without telling by the time how much was right.
fn same(sum: &[u8], hash: &str) -> bool {
    let expected = hash.rsplit('$').next().unwrap_or_default().as_bytes();
    expected.len() == sum.len() && expected.iter().zip(sum).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn yescrypt(password: &[u8], text: &str, rest: &str) -> bool {
    use yescrypt::{PasswordHashRef, PasswordVerifier, Yescrypt};
    if cost(rest).is_none() {
        return false;
    }
    PasswordHashRef::new(text).is_ok_and(|hash| Yescrypt::default().verify_password(password, hash).is_ok())
}

/// The table that `$y$` needs, if it may have it. Behind the flavour stand the power of two and the size of a block; then,
/// if at all, which other numbers follow, of which the first is how many blocks there are.
fn cost(rest: &str) -> Option<u64> {
    let parameters = rest.split('$').next()?;
    let mut digits = parameters.bytes().skip(1).map_while(digit).peekable();
    let (power, block) = (number(&mut digits, 1)?, number(&mut digits, 1)?);
    let others = if digits.peek().is_some() { number(&mut digits, 1)? } else { 0 };
    let parallel = if others & 1 != 0 { number(&mut digits, 2)? } else { 1 };
    affordable(power, block, parallel)
}

/// A number of one digit or more, of which the first says how many there are.
fn number(digits: &mut impl Iterator<Item = u32>, least: u32) -> Option<u32> {
    let mut next = || digits.next();
    let first = next()?;
    let (mut start, mut end, mut more, mut bits, mut number) = (0, 47, 0, 0, least);
    while first > end {
        number = number.checked_add((end + 1 - start).checked_shl(bits)?)?;
        (start, end) = (end + 1, end + 1 + (62 - end) / 2);
        more += 1;
        bits += 6;
    }
    number = number.checked_add((first - start).checked_shl(bits)?)?;
    for _ in 0..more {
        bits -= 6;
        number = number.checked_add(next()?.checked_shl(bits)?)?;
    }
    Some(number)
}

/// Two to the power of `power`, when tables of so many blocks fit into [`MEMORY`].
fn affordable(power: u32, block: u32, parallel: u32) -> Option<u64> {
    let n = 1_u64.checked_shl(power)?;
    let blocks = n.checked_add(u64::from(parallel))?;
    let size = blocks.checked_mul(128)?.checked_mul(u64::from(block))?;
    (size <= MEMORY).then_some(n)
}

/// APR's form of the MD5 hash, with the salt of `hash` (`$apr1$salt$…`): `apr_md5_encode`.
fn apr1(password: &[u8], hash: &str) -> String {
    const MAGIC: &str = "$apr1$";
    let salt: &str = hash.get(MAGIC.len()..).and_then(|rest| rest.split('$').next()).unwrap_or("");
    let salt = salt.get(..8).unwrap_or(salt);

    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut outer = Md5::new().chain_update(password).chain_update(MAGIC).chain_update(salt);
    for taken in (0..password.len()).step_by(16) {
        outer.update(&inner[..(password.len() - taken).min(16)]);
    }
    let mut bits = password.len();
    while bits != 0 {
        match password.first() {
            Some(first) if bits & 1 == 0 => outer.update([*first]),
            _ => outer.update([0]),
        }
        bits >>= 1;
    }
    let mut sum = outer.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        if round & 1 == 1 {
            next.update(password)
        } else {
            next.update(sum)
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if round & 1 == 1 {
            next.update(sum)
        } else {
            next.update(password)
        }
        sum = next.finalize();
    }

    let mut text = format!("{MAGIC}{salt}$");
    for (high, middle, low) in [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)] {
        let bits = u32::from(sum[high]) << 16 | u32::from(sum[middle]) << 8 | u32::from(sum[low]);
        to64(&mut text, bits, 4);
    }
    to64(&mut text, u32::from(sum[11]), 2);
    text
}

const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn digit(character: u8) -> Option<u32> {
    DIGITS.iter().position(|digit| *digit == character).map(|at| at as u32)
}

/// Six bits a character, the low ones first.
fn to64(text: &mut String, mut bits: u32, count: usize) {
    for _ in 0..count {
        text.push(char::from(DIGITS[(bits & 63) as usize]));
        bits >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `htpasswd` and `openssl passwd` make of "secret".
    const HASHES: [&str; 11] = [
        "$2y$05$0mgaIBiKVuFiJNAQzkxHxuNpp7KoUe2ULu9xCoR8Xs3Tk8oYMY3sC",
        "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/",
        "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1",
        "$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.",
        "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
        "9BNYAPacUW5hk",
        "$7$46..../....a$qB5tjdx96v269861VXn2PGoyFBVsR84DN.hXBml0Ax0",
        "$y$j51.5$abcdefghijklmnop$FORVP/PQ6k6b2G7ds1pMoQzgXdT5gUOhjlyDOGTkWZ4",
        "$y$j9T$abcdefghijklmnop$3dL1LkYnZM.OVXuVdnnaKVDlLYT92dRwOzDZ5XiVCe.",
        "$y$j75$NX3aLLGlkS3mQ3W/8lVc61$GdYKkWh.3iuByC7dao7emP4XKiKip/toj7XPmQAlbW3",
    ];

    #[test]
    fn hashes_of_every_kind() {
        for hash in HASHES {
            assert!(validate(b"secret", hash.as_bytes()), "{hash}");
            assert!(!validate(b"wrong", hash.as_bytes()), "{hash}");
        }
    }

    #[test]
    fn a_password_longer_than_a_block() {
        let hash = b"$apr1$kPQEl.BG$cKPj97ieebTO15cKCh0y41";
        assert!(validate(b"a very long password, longer than sixteen", hash));
        assert!(!validate(b"", hash));
    }

    #[test]
    fn what_is_no_hash_never_fits() {
        for text in [
            "secret",
            "",
            "$y$",
            "$y$j9T$",
            "$y$jzzzzzzzz$a$b",
            "$7$",
            "$7$CU..../....$",
            "$7$zzzzzzzzzzz$a",
            "$apr1$",
            "$2y$",
            "$2y$05$short",
            "$1$",
            "$6$",
            "{SHA}",
            "\u{e4}bcdefghijkl",
        ] {
            assert!(!validate(b"secret", text.as_bytes()), "{text}");
            assert!(!validate(b"", text.as_bytes()), "{text}");
        }
        assert!(!validate(b"secret", b"$6$\xff\xfe$x"));
    }
}
