//! The PidFile.
//!
//! Answers to `ap_log_pid`, `ap_remove_pid` of `server/log.c`. Differs in that another server's file is not removed.

use std::path::Path;

use super::Master;
use crate::log::{self, Level};

/// The number in a pid file.
fn read(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok().filter(|&pid: &i32| pid > 1)
}

impl Master {
    pub(super) fn write_pid_file(&self) -> Result<(), String> {
        let path = &self.runtime.pid_file;
        if self.runtime.generation == 0 && path.exists() {
            let path = path.display();
            let text = format!("pid file {path} overwritten -- Unclean shutdown of previous Apache run?");
            log::server_event(Level::Warn, "core", "AH00098", &text);
        }
        let temporary = path.with_extension("pid.new");
        std::fs::write(&temporary, format!("{}\n", std::process::id()))
            .and_then(|()| std::fs::rename(&temporary, path))
            .map_err(|err| {
                format!(
                    "{}: AH00099: could not create {}\nAH00100: {}: could not log pid to file {}",
                    log::system_error(&err),
                    path.display(),
                    self.options.program,
                    path.display()
                )
            })
    }

    /// `ap_remove_pid`, unless another server's number is in it by now.
    pub(super) fn remove_pid_file(&self) {
        if read(&self.runtime.pid_file) == Some(std::process::id() as i32) {
            let path = self.runtime.pid_file.display();
            match std::fs::remove_file(&self.runtime.pid_file) {
                Ok(()) => {
                    let text = format!("removed PID file {path} (pid={})", std::process::id());
                    log::server_event(Level::Info, "core", "AH00096", &text);
                }
                Err(err) => {
                    let text = format!("failed to remove PID file {path}");
                    log::server_error(Level::Error, "core", "AH00095", Some(&err), &text);
                }
            }
        }
    }
}
