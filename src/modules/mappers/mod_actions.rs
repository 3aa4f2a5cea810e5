//! mod_actions: scripts for media types and methods.
//!
//! Answers to `modules/mappers/mod_actions.c`.

use std::collections::BTreeMap;

use bstr::BString;
use httpd_conf::to_bytes;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::{Hooks, order};
use crate::http::escape::os_escape_path;
use crate::http::method::Method;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::{Answer, Request};

/// The module.
pub static MODULE: Module = Module { name: "actions_module", file: "mod_actions.c", directives: ROWS, hooks };

/// A directory's settings.
pub static DIR: Slot<Actions> = Slot::new();

#[derive(Clone)]
struct Action {
    script: BString,
    /// It doesn't matter whether there is a file.
    is_virtual: bool,
}

/// A directory's settings: `action_dir_config`.
#[derive(Clone, Default)]
pub struct Actions {
    /// By media type or handler, in lower case.
    types: BTreeMap<String, Action>,
    /// By method.
    scripts: BTreeMap<u8, BString>,
}

impl Conf for Actions {
    fn merge(&self, child: &Self) -> Self {
        let mut merged = self.clone();
        merged.types.extend(child.types.clone());
        merged.scripts.extend(child.scripts.clone());
        merged
    }
}

static ROWS: &[Directive] = &[
    Directive {
        name: "Action",
        args: Args::Take23(action),
        allowed: Allowed::FILEINFO,
        help: "a media type followed by a script name",
    },
    Directive {
        name: "Script",
        args: Args::Take2(script),
        allowed: Allowed::CONF,
        help: "a method followed by a script name",
    },
];

fn action(cmd: &mut Cmd, media_type: &str, script: &str, option: Option<&str>) -> Done {
    if let Some(option) = option.filter(|option| !option.eq_ignore_ascii_case("virtual")) {
        return Err(format!("unrecognized option '{option}'").into());
    }
    let action = Action { script: to_bytes(script).into_owned().into(), is_virtual: option.is_some() };
    cmd.dir(&DIR).types.insert(media_type.to_ascii_lowercase(), action);
    Ok(())
}

fn script(cmd: &mut Cmd, name: &str, script: &str) -> Done {
    let method = cmd.setup()?.methods.register(&to_bytes(name)).unwrap_or(Method::INVALID);
    if method == Method::TRACE {
        return Err("TRACE not allowed for Script".into());
    }
    if method == Method::INVALID {
        return Err(format!("Could not register method '{name}' for Script").into());
    }
    let script = to_bytes(script).into_owned().into();
    cmd.dir(&DIR).scripts.insert(method.number(), script);
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.handler(handler, order::LAST);
}

/// `action_handler`.
fn handler(r: &mut Request) -> Answer {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    if conf.types.is_empty() && conf.scripts.is_empty() {
        return Answer::Declined;
    }
    // That Apache adds the methods to `r->allowed` shows nowhere: `Allow` is made of others.
    let mut script = match conf.scripts.get(&r.method.number()) {
        // A GET is for the script only when it brings a query.
        Some(_) if r.method == Method::GET && r.args.is_none() => None,
        found => found,
    };
    // A script that isn't one would be asked for again and again.
    if script.is_some() && r.prev.as_ref().is_some_and(|prev| prev.prev.is_some()) {
        return Answer::Declined;
    }
    let name = match (&r.handler, &r.content_type) {
        (Some(handler), _) => Some(handler.to_string()),
        // The type that a redirect brought along isn't trusted; one of the same name that was found since passes for it.
        (None, media_type) if r.prev.as_ref().is_some_and(|prev| prev.content_type == *media_type) => None,
        (None, Some(media_type)) => {
            Some(media_type.split(';').next().unwrap_or_default().trim_end().to_owned())
        }
        (None, None) => None,
    };
    if let Some(name) = name
        && let Some(action) = conf.types.get(&name.to_ascii_lowercase())
    {
        if !action.is_virtual && r.finfo.is_none() {
            rerror!(r, Level::Info, "actions", "AH00652", "File does not exist: {}", r.filename);
            return Answer::Status(status::NOT_FOUND);
        }
        script = Some(&action.script);
        r.subprocess_env.set("HANDLER", name);
        if action.is_virtual {
            r.notes.set("virtual_script", "1");
        }
    }
    let Some(script) = script else { return Answer::Declined };
    let mut uri = [script.as_slice(), &os_escape_path(&r.uri, true)].concat();
    if let Some(args) = &r.args {
        uri.push(b'?');
        uri.extend_from_slice(args);
    }
    Answer::RedirectHandler(uri.into())
}
