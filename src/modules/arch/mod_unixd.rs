//! mod_unixd: which user the children become.
//!
//! Answers to `modules/arch/unix/mod_unixd.c`.

use std::ffi::CString;
use std::io;

use nix::unistd::{AccessFlags, Gid, Group, Uid, User, access};

use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done, Forbidden};
use crate::hooks::Hooks;
use crate::log::{self, Level};
use crate::module::Module;

/// The module.
pub static MODULE: Module =
    Module { name: "unixd_module", file: "mod_unixd.c", directives: ROWS, hooks: |_: &mut Hooks| {} };

/// User, group and root directory of the children.
#[derive(Clone, Debug)]
pub struct UnixdConf {
    /// `User` as written, which `-S` prints.
    pub user_name: String,
    /// `Group` as written.
    pub group_name: String,
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
            group_name: "#-1".to_owned(),
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

/// What Apache says to `User root` (`BIG_SECURITY_HOLE`).
const RUNNING_AS_ROOT: &str = "Error:\tApache has not been designed to serve pages while\n\trunning as root.  There are known race conditions that\n\twill allow any local user to read any file on the system.\n\tIf you still desire to serve pages as root then\n\tadd -DBIG_SECURITY_HOLE to the CFLAGS env variable\n\tand then rebuild the server.\n\tIt is strongly suggested that you instead modify the User\n\tdirective in your httpd.conf file to list a non-root\n\tuser.\n";

/// `#123`, as `atoi` reads it; `None` for a name.
fn by_number(arg: &str) -> Option<u32> {
    let digits = arg.strip_prefix('#')?;
    Some(digits.parse::<i64>().map_or(0, |number| number as u32))
}

fn user(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let uid = match by_number(arg) {
        Some(number) => Uid::from_raw(number),
        None => match User::from_name(arg) {
            Ok(Some(user)) => user.uid,
            _ => return Err(bad(cmd, "AH00543", "user", arg)),
        },
    };
    if uid.is_root() {
        return Err(RUNNING_AS_ROOT.into());
    }
    let conf = &mut cmd.setup()?.unixd;
    conf.user_name = arg.to_owned();
    conf.uid = Some(uid);
    Ok(())
}

/// Apache ends at once here, without the "Syntax error" line.
fn bad(cmd: &mut Cmd, ah: &str, what: &str, name: &str) -> CmdError {
    let program = cmd.setup().map_or_else(|_| "httpd".to_owned(), |setup| setup.options.program.clone());
    CmdError::bare(format!("{ah}: {program}: bad {what} name {name}"))
}

fn group(cmd: &mut Cmd, arg: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let gid = match by_number(arg) {
        Some(number) => Gid::from_raw(number),
        None => match Group::from_name(arg) {
            Ok(Some(group)) => group.gid,
            _ => return Err(bad(cmd, "AH00544", "group", arg)),
        },
    };
    let conf = &mut cmd.setup()?.unixd;
    conf.group_name = arg.to_owned();
    conf.gid = Some(gid);
    Ok(())
}

/// Why privileges could not be given up.
enum Failed {
    /// Apache logs it and goes on as root: its hook answers -1, which is "declined".
    Declined,
    /// The child ends.
    Fatal(io::Error),
}

fn alert(ah: &str, err: &io::Error, text: &str) {
    log::server_error(Level::Alert, "unixd", ah, Some(err), text);
}

impl UnixdConf {
    /// Why programs can't be run as other users by `wrapper`; `None`: they can.
    pub fn suexec_disabled_reason(&self, wrapper: &str) -> Option<String> {
        use std::os::unix::fs::MetadataExt;
        if self.suexec_disabled {
            return Some("Suexec directive is Off".to_owned());
        }
        let Ok(file) = std::fs::metadata(wrapper) else {
            return Some(format!("Missing suexec binary {wrapper}"));
        };
        let mine = AccessFlags::R_OK | AccessFlags::X_OK;
        let good = file.mode() & 0o4000 != 0 && file.uid() == 0 && access(wrapper, mine).is_ok();
        (!good).then(|| format!("Invalid owner or file mode for {wrapper}"))
    }

    /// In a child: becomes `User` and `Group`, below `ChrootDir` (`unixd_drop_privileges`).
    pub fn drop_privileges(&self, dumps_core: bool) -> io::Result<()> {
        match self.try_drop(dumps_core) {
            Ok(()) | Err(Failed::Declined) => Ok(()),
            Err(Failed::Fatal(err)) => Err(err),
        }
    }

    fn try_drop(&self, dumps_core: bool) -> Result<(), Failed> {
        let root = nix::unistd::geteuid().is_root();
        let fatal = |ah: &str, text: &str, err: io::Error| {
            alert(ah, &err, text);
            Failed::Fatal(err)
        };
        if root {
            self.set_groups()?;
        }
        if let Some(dir) = self.chroot_dir.as_deref() {
            if !root {
                let err = io::ErrorKind::PermissionDenied.into();
                return Err(fatal("AH02158", "Cannot chroot when not started as root", err));
            }
            nix::unistd::chdir(dir)
                .map_err(|err| fatal("AH02159", &format!("Can't chdir to {dir}"), err.into()))?;
            nix::unistd::chroot(dir)
                .map_err(|err| fatal("AH02160", &format!("Can't chroot to {dir}"), err.into()))?;
            nix::unistd::chdir("/").map_err(|err| fatal("AH02161", "Can't chdir to new root", err.into()))?;
        }
        if root {
            let uid = self.uid.unwrap_or(Uid::from_raw(u32::MAX));
            let text = format!("setuid: unable to change to uid: {uid}");
            nix::unistd::setuid(uid).map_err(|err| fatal("AH02162", &text, err.into()))?;
        }
        if dumps_core {
            let text = "set dumpable failed - this child will not coredump after software errors";
            nix::sys::prctl::set_dumpable(true).map_err(|err| fatal("AH02163", text, err.into()))?;
        }
        Ok(())
    }

    /// `set_group_privs`.
    fn set_groups(&self) -> Result<(), Failed> {
        let (user, gid) = match self.account() {
            Ok((user, _, gid)) => (user, gid),
            Err((ah, text)) => {
                log::server_event(Level::Alert, "unixd", ah, &text);
                return Err(Failed::Declined);
            }
        };
        nix::unistd::setgid(gid).map_err(|err| {
            alert("AH02156", &err.into(), &format!("setgid: unable to set group id to Group {gid}"));
            Failed::Declined
        })?;
        let name = CString::new(user.as_str()).map_err(|_| Failed::Declined)?;
        nix::unistd::initgroups(&name, gid).map_err(|err| {
            let text = format!("initgroups: unable to set groups for User {user} and Group {gid}");
            alert("AH02157", &err.into(), &text);
            Failed::Declined
        })
    }

    /// The account that the children become; an error is the log line's number and text.
    fn account(&self) -> Result<(String, Uid, Gid), (&'static str, String)> {
        let uid = self.uid.unwrap_or(Uid::from_raw(u32::MAX));
        let gid = self.gid.unwrap_or(Gid::from_raw(u32::MAX));
        if !self.user_name.starts_with('#') {
            return Ok((self.user_name.clone(), uid, gid));
        }
        match User::from_uid(uid) {
            Ok(Some(user)) => Ok((user.name, uid, gid)),
            _ => Err((
                "AH02155",
                format!(
                    "getpwuid: couldn't determine user name from uid {uid}, you probably need to modify the User directive"
                ),
            )),
        }
    }
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
    let setup = cmd.setup()?;
    let reason = setup.unixd.suexec_disabled_reason(setup.options.layout.suexec);
    if on && let Some(reason) = reason {
        return Err(format!("suEXEC isn't supported: {reason}").into());
    }
    setup.unixd.suexec_disabled = !on;
    Ok(())
}
