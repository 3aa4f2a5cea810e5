//! mod_suexec: scripts run as the user and group of their virtual host, by the wrapper that comes with Apache.
//!
//! Answers to `modules/generators/mod_suexec.c`. What is done with it stands in `modules/arch/suexec.rs`.

use nix::unistd::{Gid, Group, Uid, User};

use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done, Forbidden};
use crate::config::server::Setup;
use crate::hooks::{Hooks, order};
use crate::log::{self, Level};
use crate::module::{Conf, Module, Slot};
use crate::modules::arch::suexec::SuexecIdentity;
use crate::request::Request;

/// The module.
pub static MODULE: Module = Module { name: "suexec_module", file: "mod_suexec.c", directives: ROWS, hooks };

static DIR: Slot<SuexecDir> = Slot::new();

/// Whom a server's scripts run as: `suexec_config_t`.
#[derive(Clone, Default)]
struct SuexecDir {
    identity: Option<(Uid, Gid)>,
}

impl Conf for SuexecDir {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "SuexecUserGroup",
    args: Args::Take2(user_group),
    allowed: Allowed::RSRC_CONF,
    help: "User and group for spawned processes",
}];

fn user_group(cmd: &mut Cmd, user: &str, group: &str) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let setup = cmd.setup()?;
    if let Some(reason) = setup.unixd.suexec_disabled_reason(setup.options.layout.suexec) {
        return Err(format!("SuexecUserGroup configured, but suEXEC is disabled: {reason}").into());
    }
    let program = setup.options.program.clone();
    let bad = |number: &str, what: &str, name: &str| {
        CmdError::bare(format!("{number}: {program}: bad {what} name {name}"))
    };
    let number = |name: &str| name.strip_prefix('#').map(|digits| digits.parse::<u32>().unwrap_or(0));
    let uid = match number(user) {
        Some(uid) => Uid::from_raw(uid),
        None => User::from_name(user).ok().flatten().ok_or_else(|| bad("AH00543", "user", user))?.uid,
    };
    let gid = match number(group) {
        Some(gid) => Gid::from_raw(gid),
        None => Group::from_name(group).ok().flatten().ok_or_else(|| bad("AH00544", "group", group))?.gid,
    };
    cmd.dir(&DIR).identity = Some((uid, gid));
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.post_config(post_config, order::MIDDLE);
    hooks.get_suexec_identity(identity, order::MIDDLE);
}

/// `suexec_post_config`.
fn post_config(setup: &mut Setup) -> Result<(), String> {
    let wrapper = setup.options.layout.suexec;
    if setup.unixd.suexec_disabled_reason(wrapper).is_none() {
        let text = format!("suEXEC mechanism enabled (wrapper: {wrapper})");
        log::server_event(Level::Notice, "suexec", "AH01232", &text);
    }
    Ok(())
}

fn identity(r: &Request) -> Option<SuexecIdentity> {
    let (uid, gid) = r.dir(&DIR).identity?;
    Some(SuexecIdentity { uid, gid, userdir: false })
}
