//! mod_socache_shmcb: a cache in shared memory, in rings that push out their oldest entries.
//!
//! Answers to `modules/cache/mod_socache_shmcb.c`. Where it differs: the memory has no name, whatever file is given; there is
//! nothing in `server-status`.

mod ring;

use std::io;
use std::sync::{Arc, OnceLock};

use self::ring::{Rings, Sizes};
use crate::config::server::Setup;
use crate::hooks::Hooks;
use crate::http::fields::{EINVAL, ENOSPC};
use crate::log::{Level, level, server_event};
use crate::module::Module;
use crate::os::clock;
use crate::os::global_mutex::GlobalMutex;
use crate::socache::{DEFAULT_PROVIDER, Hints, Socache};

/// The module.
pub static MODULE: Module =
    Module { name: "socache_shmcb_module", file: "mod_socache_shmcb.c", directives: &[], hooks };

const DEFAULT_SIZE: usize = 512 * 1024;
const LEAST_SIZE: i64 = 8192;
/// `SHMCB_MAX_SIZE`
const MOST_SIZE: i64 = u32::MAX as i64;
/// Shorter identifiers are refused.
const LEAST_ID: usize = 4;

fn hooks(hooks: &mut Hooks) {
    hooks.socache_provider("shmcb", create);
    hooks.socache_provider(DEFAULT_PROVIDER, create);
}

/// Logs at level debug; the text is only made where it is wanted.
macro_rules! debug {
    ($number:literal, $($text:tt)+) => {
        if level::is_asked_for(Level::Debug) {
            server_event(Level::Debug, "socache_shmcb", $number, &format!($($text)+));
        }
    };
}
use debug;

/// `socache_shmcb_create`: a path, and in parentheses how many bytes.
fn create(_: &Setup, argument: Option<&str>) -> Result<Arc<dyn Socache>, String> {
    let size = match argument.filter(|text| !text.is_empty()) {
        Some(argument) => size_of(argument)?,
        None => DEFAULT_SIZE,
    };
    Ok(Arc::new(Shmcb { size, shared: OnceLock::new() }))
}

fn size_of(argument: &str) -> Result<usize, String> {
    let Some((_, behind)) = argument.rsplit_once('(') else {
        return match argument.ends_with(')') {
            true => Err("Invalid argument: no opening parenthesis".to_owned()),
            false => Ok(DEFAULT_SIZE),
        };
    };
    let Some(number) = behind.strip_suffix(')') else {
        return Err(
            "Invalid argument: no closing parenthesis or cache size missing after pathname with parenthesis"
                .to_owned(),
        );
    };
    let number = number.trim_start();
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    if !digits.bytes().all(|c| c.is_ascii_digit()) || (digits.is_empty() && !number.is_empty()) {
        return Err("Invalid argument: cache size not numerical".to_owned());
    }
    let size: i64 = match number.parse() {
        Ok(size) => size,
        Err(_) if digits.is_empty() => 0,
        Err(_) => i64::MAX,
    };
    // A negative size is a very large one.
    if (0..LEAST_SIZE).contains(&size) {
        return Err(format!("Invalid argument: size has to be >= {LEAST_SIZE} bytes"));
    }
    match usize::try_from(size) {
        Ok(bytes) if size < MOST_SIZE => Ok(bytes),
        _ => Err(format!("Invalid argument: size has to be < {MOST_SIZE} bytes on this platform")),
    }
}

struct Shmcb {
    size: usize,
    shared: OnceLock<(GlobalMutex, Rings)>,
}

impl Shmcb {
    /// Lets `work` have the rings; nobody else has them meanwhile.
    fn with<T>(&self, work: impl FnOnce(&Rings) -> T) -> io::Result<T> {
        let Some((mutex, rings)) = self.shared.get() else {
            return Err(io::Error::from_raw_os_error(EINVAL));
        };
        let _held = mutex.lock()?;
        Ok(work(rings))
    }
}

fn too_short(number: &'static str, id: &[u8]) -> io::Error {
    let text = format!("unusably short id provided ({} bytes)", id.len());
    server_event(Level::Error, "socache_shmcb", number, &text);
    io::Error::from_raw_os_error(EINVAL)
}

impl Socache for Shmcb {
    fn init(&self, _: &str, hints: &Hints, _: &Setup) -> io::Result<()> {
        debug!("AH00821", "shmcb_init allocated {} bytes of shared memory", self.size);
        let sizes = Sizes::of(self.size, hints);
        debug!(
            "AH00822",
            "for {} bytes ({} including header), recommending {} subcaches, {} indexes each",
            sizes.without_header,
            self.size,
            sizes.subcaches,
            sizes.indexes
        );
        if sizes.indexes < 5 || sizes.data == 0 {
            server_event(Level::Error, "socache_shmcb", "AH00823", "shared memory segment too small");
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        debug!("AH00824", "shmcb_init_memory choices follow");
        debug!("AH00825", "subcache_num = {}", sizes.subcaches);
        debug!("AH00826", "subcache_size = {}", sizes.subcache);
        debug!("AH00827", "subcache_data_offset = {}", sizes.subcache - sizes.data);
        debug!("AH00828", "subcache_data_size = {}", sizes.data);
        debug!("AH00829", "index_num = {}", sizes.indexes);
        let rings = Rings::new(sizes).and_then(|rings| Ok((GlobalMutex::new()?, rings)));
        let made = rings.inspect_err(|err| {
            let text = "Could not allocate shared memory segment for shmcb socache";
            crate::log::server_error(Level::Error, "socache_shmcb", "AH00819", Some(err), text);
        })?;
        // It is made once for each reading of the configuration.
        let _ = self.shared.set(made);
        server_event(Level::Info, "socache_shmcb", "AH00830", "Shared memory socache initialised");
        Ok(())
    }

    fn store(&self, id: &[u8], expiry: i64, data: &[u8]) -> io::Result<()> {
        let now = clock::unix_micros();
        self.with(|rings| {
            let ring = rings.of(id);
            debug!("AH00831", "socache_shmcb_store (0x{:02x} -> subcache {})", ring.first(), ring.number());
            if id.len() < LEAST_ID {
                return Err(too_short("AH00832", id));
            }
            ring.remove(id);
            if !ring.store(id, data, expiry, now) {
                server_event(Level::Error, "socache_shmcb", "AH00833", "can't store an socache entry!");
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            debug!("AH00834", "leaving socache_shmcb_store successfully");
            Ok(())
        })?
    }

    fn retrieve(&self, id: &[u8], most: usize) -> io::Result<Option<Vec<u8>>> {
        let now = clock::unix_micros();
        self.with(|rings| {
            let ring = rings.of(id);
            debug!(
                "AH00835",
                "socache_shmcb_retrieve (0x{:02x} -> subcache {})",
                ring.first(),
                ring.number()
            );
            let found = ring.retrieve(id, most, now);
            debug!("AH00836", "leaving socache_shmcb_retrieve successfully");
            found
        })
    }

    fn remove(&self, id: &[u8]) -> io::Result<bool> {
        self.with(|rings| {
            let ring = rings.of(id);
            debug!("AH00837", "socache_shmcb_remove (0x{:02x} -> subcache {})", ring.first(), ring.number());
            if id.len() < LEAST_ID {
                return Err(too_short("AH00838", id));
            }
            let removed = ring.remove(id);
            debug!("AH00839", "leaving socache_shmcb_remove successfully");
            Ok(removed)
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size_of("/x"), Ok(DEFAULT_SIZE));
        assert_eq!(size_of("/x(9000)"), Ok(9000));
        for (text, error) in [
            ("/x(9000", "Invalid argument: no closing parenthesis"),
            ("/x)", "Invalid argument: no opening parenthesis"),
            ("/x(9k)", "Invalid argument: cache size not numerical"),
            ("/x(8191)", "Invalid argument: size has to be >= 8192 bytes"),
            ("/x()", "Invalid argument: size has to be >= 8192 bytes"),
            ("/x(-1)", "Invalid argument: size has to be < "),
        ] {
            assert!(size_of(text).unwrap_err().starts_with(error), "{text}");
        }
    }
}
