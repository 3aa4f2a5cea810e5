//! Random bytes.

use std::fs::File;
use std::io::Read;

/// Bytes that nobody can guess; where the system has none to give, from the time and the process.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    if filled.is_err() {
        let seed = super::clock::unix_micros() as u64 ^ u64::from(std::process::id()) << 40;
        for (byte, from) in bytes.iter_mut().zip(seed.to_ne_bytes().into_iter().cycle()) {
            *byte = from;
        }
    }
    bytes
}
