//! mod_watchdog: `WatchdogInterval`, how often what runs beside the requests is looked after.
//!
//! Answers to `modules/core/mod_watchdog.c`. A module that has something to look after in one child at a time gives a [`Watch`]; each
//! child has a thread for it, which waits until it holds the watch's lock. Differs: no module asks for one in every child, or in
//! the master.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::FcntlArg;
use nix::sys::memfd::MFdFlags;
use nix::sys::signal::SigSet;

use crate::config::Runtime;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};
use crate::config::server::Setup;
use crate::hooks::{Hooks, order};
use crate::log::{self, Level, server_event};
use crate::module::{Conf, Module, Slot};

/// The module.
pub static MODULE: Module =
    Module { name: "watchdog_module", file: "mod_watchdog.c", directives: ROWS, hooks };

/// The main server's settings.
pub static SERVER: Slot<Watchdog> = Slot::new();

/// The shortest interval: `AP_WD_TM_SLICE`.
const SLICE: Duration = Duration::from_millis(100);

/// `WatchdogInterval`, and what there is to look after.
#[derive(Clone, Default)]
pub struct Watchdog {
    interval: Option<Duration>,
    watches: Vec<Arc<Watch>>,
}

/// The name of the watch that is always there.
pub const SINGLETON: &str = "_singleton_";

/// Something that one of the children looks after, until it ends; then another one does.
pub struct Watch {
    name: &'static str,
    /// Whoever holds its lock looks after it. A lock of `fcntl` is the process's, and ends with it.
    lock: File,
    work: fn(&Arc<Runtime>),
}

impl Watch {
    /// One that lets `work` run in a thread.
    pub fn new(name: &'static str, work: fn(&Arc<Runtime>)) -> io::Result<Watch> {
        let lock = nix::sys::memfd::memfd_create("watchdog", MFdFlags::MFD_CLOEXEC)?;
        Ok(Watch { name, lock: File::from(lock), work })
    }

    fn is_ours(&self) -> bool {
        let whole = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        nix::fcntl::fcntl(&self.lock, FcntlArg::F_SETLK(&whole)).is_ok()
    }

    fn run(&self, runtime: &Arc<Runtime>) {
        // Signals are for the thread that serves.
        let _ = SigSet::all().thread_block();
        while !self.is_ours() {
            pause(interval(runtime));
        }
        let text = format!("Singleton Watchdog ({}) running", self.name);
        server_event(Level::Debug, "watchdog", "AH02972", &text);
        (self.work)(runtime);
    }
}

/// Adds something to look after: from `post_config`, before the last ones.
pub fn watch(setup: &mut Setup, watch: Watch) {
    setup.servers[0].conf.get_mut(&SERVER).watches.push(Arc::new(watch));
}

/// `WatchdogInterval`
pub fn interval(runtime: &Runtime) -> Duration {
    runtime.main_server().conf.get(&SERVER).interval()
}

/// Rests, in a watch's thread.
pub fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

impl Watchdog {
    /// How often a watchdog's callbacks run.
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_secs(1))
    }
}

impl Conf for Watchdog {
    fn merge(&self, child: &Self) -> Self {
        Watchdog { interval: child.interval.or(self.interval), watches: self.watches.clone() }
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
    hooks.child_init(child_init, order::MIDDLE);
}

/// `wd_child_init_hook`
fn child_init(runtime: &Arc<Runtime>) {
    let watches = &runtime.main_server().conf.get(&SERVER).watches;
    if watches.is_empty() {
        server_event(Level::Debug, "watchdog", "AH02980", "Watchdog: nothing configured?");
    }
    for watch in watches {
        let (runtime, watch) = (runtime.clone(), watch.clone());
        let name = watch.name;
        let thread = std::thread::Builder::new().name("watchdog".to_owned());
        if let Err(err) = thread.spawn(move || watch.run(&runtime)) {
            let text = "Watchdog: Failed to create child worker thread.";
            log::server_error(Level::Crit, "watchdog", "AH01573", Some(&err), text);
            return;
        }
        let text = format!("Watchdog: Created child worker thread ({name}).");
        server_event(Level::Debug, "watchdog", "AH02981", &text);
    }
}

/// Says what there is to look after: the two watchdogs that Apache always has, and those of modules.
fn look_for_work(setup: &mut Setup) -> Result<(), String> {
    let conf = setup.servers[0].conf.get(&SERVER);
    let interval = conf.interval().as_millis();
    let say = |ah, text: &str| server_event(Level::Debug, "watchdog", ah, text);
    // The number has a digit more than others.
    say("AH010033", &format!("Watchdog: Running with WatchdogInterval {interval}ms"));
    say("AH02974", "Watchdog: found parent providers.");
    say("AH02977", "Watchdog: found child providers.");
    let others = conf.watches.iter().map(|watch| watch.name).filter(|name| *name != SINGLETON);
    for name in [SINGLETON, "_default_"].into_iter().chain(others) {
        say("AH02978", &format!("Watchdog: Looking for child ({name})."));
        if conf.watches.iter().any(|watch| watch.name == name) {
            say("AH02979", &format!("Watchdog: Created singleton mutex ({name})."));
        }
    }
    Ok(())
}
