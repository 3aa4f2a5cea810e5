//! mod_socache_dbm: a cache in a file.
//!
//! Answers to `modules/cache/mod_socache_dbm.c`. Where it differs: the file, which nobody but the server reads, is one of SQLite,
//! which locks it itself; there is nothing in `server-status`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::config::server::Setup;
use crate::hooks::Hooks;
use crate::http::fields::{APR_EGENERAL, EINVAL, ENOSPC};
use crate::log::{Level, server_error, server_event};
use crate::module::Module;
use crate::os::clock;
use crate::socache::{Hints, Socache};

/// The module.
pub static MODULE: Module =
    Module { name: "socache_dbm_module", file: "mod_socache_dbm.c", directives: &[], hooks };

/// As many bytes, identifier and object together, are not kept.
const TOO_MANY: usize = 950;
/// How often to look for what has expired, in microseconds, where the user of the cache doesn't say.
const EXPIRY_INTERVAL: i64 = 30_000_000;
/// How long another process may have the file.
const BUSY: Duration = Duration::from_secs(2);

/// The files of the caches that this process made.
static FILES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn hooks(hooks: &mut Hooks) {
    hooks.socache_provider("dbm", create);
}

/// `socache_dbm_create`: a path, or nothing.
fn create(setup: &Setup, argument: Option<&str>) -> Result<Arc<dyn Socache>, String> {
    let given = argument.filter(|path| !path.is_empty()).map(|path| setup.server_root_relative(path));
    Ok(Arc::new(Dbm { given, ready: OnceLock::new(), last_expiry: AtomicI64::new(0) }))
}

struct Dbm {
    given: Option<String>,
    ready: OnceLock<Ready>,
    last_expiry: AtomicI64,
}

struct Ready {
    file: PathBuf,
    expiry_interval: i64,
    /// Who made it, and takes it away.
    master: u32,
}

/// A failure of SQLite as the error that Apache's libraries would give.
fn failure(error: rusqlite::Error) -> io::Error {
    let code = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::CannotOpen) => libc::ENOENT,
        Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::PermissionDenied) => libc::EACCES,
        Some(rusqlite::ErrorCode::NotADatabase) => EINVAL,
        Some(rusqlite::ErrorCode::DiskFull) => ENOSPC,
        _ => APR_EGENERAL,
    };
    io::Error::from_raw_os_error(code)
}

fn open(file: &Path) -> io::Result<Connection> {
    let open = || {
        let sqlite = Connection::open(file)?;
        sqlite.busy_timeout(BUSY)?;
        // What is lost with the power can be asked for again, and the folder is not the children's to write to.
        sqlite.pragma_update(None, "journal_mode", "MEMORY")?;
        sqlite.pragma_update(None, "synchronous", "OFF")?;
        sqlite.execute_batch(
            "CREATE TABLE IF NOT EXISTS socache (id BLOB PRIMARY KEY, expiry INTEGER, data BLOB) WITHOUT ROWID",
        )?;
        Ok(sqlite)
    };
    open().map_err(failure)
}

impl Dbm {
    /// Opens the file; `number` and `purpose` are for the log if that fails.
    fn open(&self, number: &'static str, purpose: &str) -> io::Result<Connection> {
        let Some(ready) = self.ready.get() else { return Err(io::Error::from_raw_os_error(EINVAL)) };
        open(&ready.file).inspect_err(|err| {
            let text = format!("Cannot open socache DBM file `{}' for {purpose}", ready.file.display());
            server_error(Level::Error, "socache_dbm", number, Some(err), &text);
        })
    }

    /// Removes what has expired, from time to time: `socache_dbm_expire`.
    fn expire(&self) {
        let Some(ready) = self.ready.get() else { return };
        let now = clock::unix_micros();
        if now < self.last_expiry.load(Relaxed).saturating_add(ready.expiry_interval) {
            return;
        }
        self.last_expiry.store(now, Relaxed);
        let Ok(sqlite) = self.open("AH00811", "scanning") else { return };
        let old = sqlite.query_row("SELECT count(*) FROM socache", [], |row| row.get(0)).unwrap_or(0_i64);
        let removed = sqlite.execute("DELETE FROM socache WHERE expiry <= ?1", [now]).unwrap_or(0);
        let new = old - i64::try_from(removed).unwrap_or(0);
        let text = format!("DBM socache expiry: old: {old}, new: {new}, removed: {removed}");
        server_event(Level::Debug, "socache_dbm", "AH00813", &text);
    }
}

impl Socache for Dbm {
    fn init(&self, namespace: &str, hints: &Hints, setup: &Setup) -> io::Result<()> {
        let file = match &self.given {
            Some(path) => PathBuf::from(path),
            None => setup.runtime_dir_relative(&format!("socache-dbm-{namespace}")),
        };
        FILES.lock().unwrap_or_else(PoisonError::into_inner).push(file.clone());
        let interval = hints.expiry_interval;
        let ready = Ready {
            file: file.clone(),
            expiry_interval: if interval == 0 { EXPIRY_INTERVAL } else { interval },
            master: std::process::id(),
        };
        // It is made ready once for each reading of the configuration.
        let _ = self.ready.set(ready);
        // The system's own error, in the range that the libraries' errors have in Apache.
        let made =
            std::fs::OpenOptions::new().create(true).append(true).open(&file).map_err(|err| {
                io::Error::from_raw_os_error(120_000 + err.raw_os_error().unwrap_or(libc::EIO))
            });
        made.and_then(|_| open(&file)).inspect_err(|err| {
            let text = format!("Cannot create socache DBM file `{}'", file.display());
            server_error(Level::Error, "socache_dbm", "AH00804", Some(err), &text);
        })?;
        if nix::unistd::geteuid().is_root()
            && let Err(err) = nix::unistd::chown(&file, setup.unixd.uid, None)
        {
            let text = format!("Can't change owner of {}", file.display());
            server_error(Level::Error, "socache_dbm", "AH00802", Some(&err.into()), &text);
        }
        self.expire();
        Ok(())
    }

    fn store(&self, id: &[u8], expiry: i64, data: &[u8]) -> io::Result<()> {
        let len = id.len() + data.len();
        if len >= TOO_MANY {
            let text = format!("data size too large for DBM socache: {len} >= {TOO_MANY}");
            server_event(Level::Debug, "socache_dbm", "AH00806", &text);
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let sqlite = self.open("AH00807", "writing (store)")?;
        let stored = sqlite.execute(
            "INSERT OR REPLACE INTO socache (id, expiry, data) VALUES (?1, ?2, ?3)",
            params![id, expiry, data],
        );
        stored.map_err(failure).inspect_err(|err| {
            let file = self.ready.get().map(|ready| ready.file.display().to_string()).unwrap_or_default();
            let text = format!("Cannot store socache object to DBM file `{file}'");
            server_error(Level::Error, "socache_dbm", "AH00808", Some(err), &text);
        })?;
        self.expire();
        Ok(())
    }

    fn retrieve(&self, id: &[u8], most: usize) -> io::Result<Option<Vec<u8>>> {
        self.expire();
        let sqlite = self.open("AH00809", "reading (fetch)")?;
        let row = |row: &rusqlite::Row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?));
        let found = sqlite
            .query_row("SELECT expiry, data FROM socache WHERE id = ?1", [id], row)
            .optional()
            .map_err(failure)?;
        match found {
            // Apache takes it for a damaged entry.
            None => Err(io::Error::from_raw_os_error(APR_EGENERAL)),
            Some((_, data)) if data.len() > most => Err(io::Error::from_raw_os_error(ENOSPC)),
            Some((expiry, _)) if expiry <= clock::unix_micros() => {
                self.remove(id)?;
                Ok(None)
            }
            Some((_, data)) => Ok(Some(data)),
        }
    }

    fn remove(&self, id: &[u8]) -> io::Result<bool> {
        let sqlite = self.open("AH00810", "writing (delete)")?;
        let removed = sqlite.execute("DELETE FROM socache WHERE id = ?1", [id]).map_err(failure)?;
        Ok(removed > 0)
    }
}

impl Drop for Dbm {
    /// Takes the file away with the last cache that is in it: after a restart the new one has the same.
    fn drop(&mut self) {
        let Some(ready) = self.ready.get().filter(|ready| ready.master == std::process::id()) else { return };
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = files.iter().position(|file| *file == ready.file) {
            files.swap_remove(at);
        }
        if !files.contains(&ready.file) {
            let _ = std::fs::remove_file(&ready.file);
        }
    }
}
