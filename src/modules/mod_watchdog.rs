//! mod_watchdog: `WatchdogInterval`, how often what runs beside the requests is looked after.
//!
//! Answers to `modules/core/mod_watchdog.c`. Differs: there are no watchdog threads yet, as no module of ours asks for one.

use std::time::Duration;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};
use crate::config::server::Setup;
use crate::hooks::{Hooks, order};
use crate::log::{Level, server_event};
use crate::module::{Conf, Module, Slot};

/// The module.
pub static MODULE: Module =
    Module { name: "watchdog_module", file: "mod_watchdog.c", directives: ROWS, hooks };

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

fn hooks(hooks: &mut Hooks) {
    hooks.post_config(look_for_work, order::LAST);
    hooks.child_init(
        |_| server_event(Level::Debug, "watchdog", "AH02980", "Watchdog: nothing configured?"),
        order::MIDDLE,
    );
}

/// Says what there is to look after: the two watchdogs that Apache always has, and nothing for them to do.
fn look_for_work(setup: &mut Setup) -> Result<(), String> {
    let interval = setup.servers[0].conf.get(&SERVER).interval().as_millis();
    let say = |ah, text: &str| server_event(Level::Debug, "watchdog", ah, text);
    // The number has a digit more than others.
    say("AH010033", &format!("Watchdog: Running with WatchdogInterval {interval}ms"));
    say("AH02974", "Watchdog: found parent providers.");
    say("AH02977", "Watchdog: found child providers.");
    say("AH02978", "Watchdog: Looking for child (_singleton_).");
    say("AH02978", "Watchdog: Looking for child (_default_).");
    Ok(())
}
