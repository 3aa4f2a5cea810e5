//! mod_log_debug: messages for the error log from the phases of a request.
//!
//! Answers to `modules/loggers/mod_log_debug.c`. Where it differs: `quick_handler`, a phase that only caches use, speaks when
//! a request's head was read.

use std::sync::Arc;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::expr::{Expr, Failure, Mode};
use crate::hooks::{Hooks, order};
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::{Answer, Request, Step, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "log_debug_module", file: "mod_log_debug.c", directives: ROWS, hooks };

static DIR: Slot<LogDebug> = Slot::new();

/// The phases that messages can come from.
const HOOKS: [&str; 13] = [
    "log_transaction",
    "quick_handler",
    "handler",
    "translate_name",
    "map_to_storage",
    "fixups",
    "type_checker",
    "check_access",
    "check_access_ex",
    "check_authn",
    "check_authz",
    "insert_filter",
    "pre_translate_name",
];

struct Entry {
    message: Expr,
    condition: Option<Expr>,
    /// `None`: every one.
    hook: Option<&'static str>,
    file: String,
    line: u64,
}

#[derive(Clone, Default)]
struct LogDebug {
    entries: Vec<Arc<Entry>>,
}

impl Conf for LogDebug {
    fn merge(&self, child: &Self) -> Self {
        LogDebug { entries: [self.entries.as_slice(), &child.entries].concat() }
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "LogMessage",
    args: Args::Take123(log_message),
    allowed: Allowed::CONF,
    help: "Log a debug message to the error log if this config block is used for  a request",
}];

fn log_message(cmd: &mut Cmd, text: &str, second: Option<&str>, third: Option<&str>) -> Done {
    let message = cmd
        .parse_dont_vary(text, Mode::String)
        .map_err(|err| format!("Could not parse message expression '{text}': {err}"))?;
    let (file, line) = (cmd.node.origin.file.to_string(), cmd.node.origin.line as u64);
    let mut entry = Entry { message, condition: None, hook: Some(HOOKS[0]), file, line };
    let behind = |arg: &str, prefix: &str| {
        let start = arg.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if start { arg.get(prefix.len()..).map(str::to_owned) } else { None }
    };
    for arg in [second, third].into_iter().map_while(|arg| arg) {
        if let Some(name) = behind(arg, "hook=") {
            entry.hook = match HOOKS.iter().find(|hook| hook.eq_ignore_ascii_case(&name)) {
                Some(hook) => Some(hook),
                None if name == "*" || name.eq_ignore_ascii_case("all") => None,
                None => return Err(format!("Invalid hook name: {name}").into()),
            };
        } else if let Some(text) = behind(arg, "expr=") {
            let condition = cmd
                .parse_dont_vary(&text, Mode::Condition)
                .map_err(|err| format!("Could not parse expression '{text}': {err}"))?;
            entry.condition = Some(condition);
        } else {
            return Err(format!("Invalid argument {arg}").into());
        }
    }
    cmd.dir(&DIR).entries.push(Arc::new(entry));
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.log_transaction(|r| speak(r, "log_transaction"), order::FIRST);
    hooks.post_read_request(|r| speak(r, "quick_handler"), order::REALLY_LAST).own();
    hooks.handler(
        |r| match speak(r, "handler") {
            Step::NeedThread => Answer::NeedThread,
            _ => Answer::Declined,
        },
        order::FIRST,
    );
    hooks.pre_translate_name(|r| speak(r, "pre_translate_name"), order::FIRST);
    hooks.translate_name(|r| speak(r, "translate_name"), order::FIRST);
    hooks.map_to_storage(|r| speak(r, "map_to_storage"), order::FIRST);
    hooks.fixups(|r| speak(r, "fixups"), order::FIRST);
    hooks.type_checker(|r| speak(r, "type_checker"), order::FIRST);
    hooks.access_per_uri();
    hooks.access_checker(|r| speak(r, "check_access"), order::FIRST);
    hooks.access_checker_ex(|r| speak(r, "check_access_ex"), order::FIRST);
    hooks.check_user_id(|r| speak(r, "check_authn"), order::FIRST);
    hooks.auth_checker(|r| speak(r, "check_authz"), order::FIRST);
    hooks.insert_filter(
        |r| {
            speak(r, "insert_filter");
        },
        order::FIRST,
    );
}

/// `do_debug_log`.
fn speak(r: &mut Request, hook: &'static str) -> Step {
    if r.dir(&DIR).entries.is_empty() {
        return Step::Declined;
    }
    let dir = r.dir.clone();
    let here = |entry: &&Arc<Entry>| entry.hook.is_none_or(|own| own == hook);
    let entries: Vec<&Arc<Entry>> = dir.get(&DIR).entries.iter().filter(here).collect();
    if entries.is_empty() {
        return Step::Declined;
    }
    memo::refuse();
    let blocks = |entry: &&Arc<Entry>| {
        entry.message.may_block() || entry.condition.as_ref().is_some_and(Expr::may_block)
    };
    // A filter can't ask for a thread; what would block is left out there.
    if hook != "insert_filter" && r.needs_thread() && entries.iter().any(blocks) {
        return Step::NeedThread;
    }
    for entry in entries {
        if let Some(condition) = &entry.condition {
            match r.evaluate(condition) {
                Ok(true) => {}
                Ok(false) | Err(Failure::NeedThread) => continue,
                Err(err) => {
                    rerror!(r, Level::Error, "log_debug", "AH00640", "Can't evaluate condition: {err}");
                    continue;
                }
            }
        }
        let message = match r.evaluate_string(&entry.message) {
            Ok(message) => message,
            Err(err) => {
                rerror!(r, Level::Error, "log_debug", "AH00641", "Can't evaluate message expression: {err}");
                continue;
            }
        };
        let message = String::from_utf8_lossy(&message);
        if r.log_enabled("log_debug", Level::Debug) {
            rerror!(
                r,
                Level::Info,
                "log_debug",
                "",
                "{message} ({hook} hook, {}:{})",
                entry.file,
                entry.line
            );
        } else {
            rerror!(r, Level::Info, "log_debug", "", "{message}");
        }
    }
    Step::Declined
}
