//! mod_unixd: which user the children become.
//!
//! Answers to `modules/arch/unix/mod_unixd.c`.

use nix::unistd::{Gid, Group, Uid, User};

use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done, Forbidden};
use crate::hooks::Hooks;
use crate::module::Module;

/// The module.
pub static MODULE: Module =
    Module { name: "unixd_module", file: "mod_unixd.c", directives: ROWS, hooks: |_: &mut Hooks| {} };

/// User, group and root directory of the children.
#[derive(Clone, Debug)]
pub struct UnixdConf {
    /// The user's name, for supplementary groups.
    pub user_name: String,
    /// `User`; `None`: not said.
    pub uid: Option<Uid>,
    /// `Group`; `None`: not said.
    pub gid: Option<Gid>,
    /// `ChrootDir`.
    pub chroot_dir: Option<String>,
    /// `Suexec Off`.
    pub suexec_disabled: bool,
}

impl Default for UnixdConf {
    fn default() -> Self {
        UnixdConf {
            user_name: "#-1".to_owned(),
            uid: None,
            gid: None,
            chroot_dir: None,
            suexec_disabled: false,
        }
    }
}

static ROWS: &[Directive] = &[
    row("User", Args::Take1(user), "Effective user id for this server"),
    row("Group", Args::Take1(group), "Effective group id for this server"),
    row("ChrootDir", Args::Take1(chroot_dir), "The directory to chroot(2) into"),
    row("Suexec", Args::Flag(suexec), "Enable or disable suEXEC support"),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::RSRC_CONF, help }
}

fn user(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let (name, uid) = match arg.strip_prefix('#') {
        Some(number) => {
            let uid = Uid::from_raw(number.parse().unwrap_or(u32::MAX));
            let name = User::from_uid(uid).ok().flatten().map_or_else(|| arg.to_owned(), |u| u.name);
            (name, uid)
        }
        None => match User::from_name(arg) {
            Ok(Some(user)) => (user.name, user.uid),
            _ => return Err(bad("user", arg)),
        },
    };
    let conf = &mut cmd.setup()?.unixd;
    conf.user_name = name;
    conf.uid = Some(uid);
    Ok(())
}

fn bad(what: &str, name: &str) -> CmdError {
    let program = std::env::args().next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or("httpd").to_owned();
    // Apache ends at once here, without the "Syntax error" line.
    CmdError::from(format!("{program}: bad {what} name {name}"))
}

fn group(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let gid = match arg.strip_prefix('#') {
        Some(number) => Gid::from_raw(number.parse().unwrap_or(u32::MAX)),
        None => match Group::from_name(arg) {
            Ok(Some(group)) => group.gid,
            _ => return Err(bad("group", arg)),
        },
    };
    cmd.setup()?.unixd.gid = Some(gid);
    Ok(())
}

fn chroot_dir(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    if !std::path::Path::new(arg).is_dir() {
        return Err("ChrootDir must be a valid directory".into());
    }
    cmd.setup()?.unixd.chroot_dir = Some(arg.to_owned());
    Ok(())
}

fn suexec(cmd: &mut Cmd, on: bool) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    if on {
        return Err("suEXEC support is disabled: suEXEC is not supported by this server".into());
    }
    cmd.setup()?.unixd.suexec_disabled = true;
    Ok(())
}
