//! The command line (what `cargo test -- …` passes to any test program) and the environment of the runner.
//!
//! `HTTPD` names another server than the one just built; one whose file is called `apache2` is taken as the truth that
//! the cases were recorded from, so that cases marked `differs` are left out. `RECORD=1` records what is missing,
//! `RECORD=all` everything; `KEEP=1` keeps the temporary folders.

use std::path::PathBuf;

/// What the run is for.
pub enum Mode {
    Check,
    Record { all: bool },
}

/// The options of one run.
pub struct Options {
    pub mode: Mode,
    pub httpd: PathBuf,
    pub truth: bool,
    pub keep: bool,
    pub list: bool,
    pub quiet: bool,
    pub threads: usize,
    exact: bool,
    filters: Vec<String>,
    skip: Vec<String>,
}

impl Options {
    /// Reads `std::env::args` and the environment.
    pub fn from_process() -> Result<Options, String> {
        let (httpd, truth) = match std::env::var_os("HTTPD") {
            Some(path) => {
                let path = PathBuf::from(path);
                let truth = path.file_name().is_some_and(|name| name == "apache2");
                (path, truth)
            }
            None => (PathBuf::from(env!("CARGO_BIN_EXE_httpd")), false),
        };
        let httpd = httpd.canonicalize().map_err(|e| format!("{}: {e}", httpd.display()))?;
        let mode = match std::env::var("RECORD").as_deref() {
            Ok("all") => Mode::Record { all: true },
            Ok("") | Ok("0") | Err(_) => Mode::Check,
            Ok(_) => Mode::Record { all: false },
        };
        let cpus = std::thread::available_parallelism().map_or(2, usize::from);
        let mut options = Options {
            mode,
            httpd,
            truth,
            keep: std::env::var_os("KEEP").is_some(),
            list: false,
            quiet: false,
            threads: cpus * 2,
            exact: false,
            filters: Vec::new(),
            skip: Vec::new(),
        };
        options.read(std::env::args().skip(1))?;
        Ok(options)
    }

    fn read(&mut self, mut args: impl Iterator<Item = String>) -> Result<(), String> {
        while let Some(arg) = args.next() {
            let (name, mut value) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (arg, None),
            };
            match name.as_str() {
                "--list" => self.list = true,
                "-q" | "--quiet" => self.quiet = true,
                "--exact" => self.exact = true,
                "--skip" => self.skip.extend(value.take().or_else(|| args.next())),
                "--test-threads" => {
                    let text = value.take().or_else(|| args.next()).unwrap_or_default();
                    self.threads =
                        text.parse().ok().filter(|n| *n > 0).ok_or(format!("--test-threads {text:?}"))?;
                }
                // Options of libtest that take a value and mean nothing here.
                "--color" | "--format" | "--logfile" | "-Z" if value.is_none() => _ = args.next(),
                _ if name.starts_with('-') => (),
                _ => self.filters.push(name),
            }
        }
        Ok(())
    }

    /// Whether the filters leave the job of this name.
    pub fn wants(&self, name: &str) -> bool {
        let hit = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(hit)) && !self.skip.iter().any(hit)
    }
}
