//! mod_watchdog: `WatchdogInterval`, how often what runs beside the requests is looked after.
//!
//! Answers to `modules/core/mod_watchdog.c`. Differs: there are no watchdog threads yet, as no module of ours asks for one.

use std::time::Duration;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};
use crate::hooks::Hooks;
use crate::module::{Conf, Module, Slot};

/// The module.
pub static MODULE: Module =
    Module { name: "watchdog_module", file: "mod_watchdog.c", directives: ROWS, hooks: |_: &mut Hooks| {} };

/// The main server's settings.
pub static SERVER: Slot<Watchdog> = Slot::new();

/// The shortest interval: `AP_WD_TM_SLICE`.
const SLICE: Duration = Duration::from_millis(100);

/// `WatchdogInterval`.
#[derive(Clone, Default)]
pub struct Watchdog {
    interval: Option<Duration>,
}

impl Watchdog {
    /// How often a watchdog's callbacks run.
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_secs(1))
    }
}

impl Conf for Watchdog {
    fn merge(&self, child: &Self) -> Self {
        Watchdog { interval: child.interval.or(self.interval) }
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "WatchdogInterval",
    args: Args::Take1(watchdog_interval),
    allowed: Allowed::RSRC_CONF,
    help: "Watchdog interval in seconds",
}];

fn watchdog_interval(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let interval = super::mpm::parse_timeout(arg, Duration::from_secs(1))
        .ok_or("Unparse-able WatchdogInterval setting")?;
    if interval < SLICE {
        return Err(format!("Invalid WatchdogInterval: minimal value {}ms", SLICE.as_millis()).into());
    }
    cmd.server_conf(&SERVER)?.interval = Some(interval);
    Ok(())
}
