//! The numbers and words under which each engine says the same things.
//!
//! Answers to the `ap_log_error` calls of `server/mpm/{prefork,event,worker}`.

use super::limits::Kind;

/// A number and its text.
pub type Message = (&'static str, &'static str);

/// What one engine says.
pub struct Messages {
    /// Its name in the log.
    pub module: &'static str,
    /// "… configured -- resuming normal operations".
    pub resuming: &'static str,
    /// "Server built: …".
    pub built: &'static str,
    /// A fork failed.
    pub fork_failed: &'static str,
    /// A child of an earlier generation can't work; followed by " (pid …)."
    pub ignoring_fatal: &'static str,
    /// Children die one after the other; prefork does not say so.
    pub killed_successively: Option<&'static str>,
    /// No child ever got ready; prefork goes on trying.
    pub shortage: Option<&'static str>,
    /// All workers are taken.
    pub reached: &'static str,
    /// Nearly all are.
    pub near: &'static str,
    /// No place for another child.
    pub full: Message,
    /// Many children are to be made.
    pub busy: &'static str,
    /// SIGTERM.
    pub stopping: &'static str,
    /// SIGWINCH.
    pub stopping_gracefully: &'static str,
    /// SIGUSR1.
    pub graceful: Message,
    /// SIGHUP.
    pub restart: Message,
}

static PREFORK: Messages = Messages {
    module: "mpm_prefork",
    resuming: "AH00163",
    built: "AH00164",
    fork_failed: "AH00159",
    ignoring_fatal: "AH00166",
    killed_successively: None,
    shortage: None,
    reached: "AH00161",
    near: "",
    full: ("", ""),
    busy: "AH00162",
    stopping: "AH00169",
    stopping_gracefully: "AH00170",
    graceful: ("AH00171", "Graceful restart requested, doing restart"),
    restart: ("AH00173", HUP),
};

static EVENT: Messages = Messages {
    module: "mpm_event",
    resuming: "AH00489",
    built: "AH00490",
    fork_failed: "AH00481",
    ignoring_fatal: "AH00487",
    killed_successively: Some("AH10392"),
    shortage: Some("AH02324"),
    reached: "AH00484",
    near: "AH10159",
    // So it stands in Apache.
    full: ("AH03490", "scoreboard is full, not at MaxRequestWorkers.Increase ServerLimit."),
    busy: "AH00486",
    stopping: "AH00491",
    stopping_gracefully: "AH00492",
    graceful: ("AH00493", USR1),
    restart: ("AH00494", HUP),
};

static WORKER: Messages = Messages {
    module: "mpm_worker",
    resuming: "AH00292",
    built: "AH00293",
    fork_failed: "AH00283",
    ignoring_fatal: "AH00290",
    killed_successively: Some("AH10393"),
    shortage: Some("AH02325"),
    reached: "AH00286",
    near: "AH00287",
    full: ("AH00288", "scoreboard is full, not at MaxRequestWorkers"),
    busy: "AH00289",
    stopping: "AH00295",
    stopping_gracefully: "AH00296",
    graceful: ("AH00297", USR1),
    restart: ("AH00298", HUP),
};

const USR1: &str = "SIGUSR1 received.  Doing graceful restart";
const HUP: &str = "SIGHUP received.  Attempting to restart";

impl Kind {
    /// What this engine says.
    pub fn messages(self) -> &'static Messages {
        match self {
            Kind::Prefork => &PREFORK,
            Kind::Event { worker: false } => &EVENT,
            Kind::Event { worker: true } => &WORKER,
        }
    }
}
