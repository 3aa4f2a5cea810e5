//! suexec: what the server calls, set-uid root, to run a script as another user. It checks who asks, for what, and whether
//! that could harm anybody but the script's owner; then it becomes that user, and the script.
//!
//! Answers to `support/suexec.c` in Debian's build (`suexec-pristine`): its checks in its order, its exit codes and the lines
//! of its log. [`built`] is what a build settles, [`environment`] what scripts are told, [`log`](mod@log) where it is written
//! down. Differs in that a SIGPIPE that the caller ignores is not ignored by the script.

mod built;
mod environment;
mod log;

use std::ffi::{CString, OsString};
use std::fs::{Metadata, symlink_metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, Uid, User, chdir, fchdir, getcwd, getuid, initgroups, setgid, setuid};

use crate::log::error_log::write_stderr;
use crate::log::{error_words, system_error};
use crate::os::privileged;
use log::{Log, NoLog};

/// A path has fewer bytes.
const AP_MAXPATH: usize = 4096;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const SET_ID: u32 = 0o6000;
const EXECUTABLE_BY_OWNER: u32 = 0o100;

/// Why there is no script.
enum End {
    /// The caller wanted to see the build's values.
    Shown,
    /// A check failed: the exit code and the log's line.
    Refused(i32, Vec<u8>),
    /// Without a log nothing is done.
    Unlogged,
}

impl From<NoLog> for End {
    fn from(NoLog: NoLog) -> End {
        End::Unlogged
    }
}

/// A check that failed.
fn refused<T>(code: i32, parts: &[&dyn AsRef<[u8]>]) -> Result<T, End> {
    Err(End::Refused(code, line(parts)))
}

fn line(parts: &[&dyn AsRef<[u8]>]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.as_ref()).copied().collect()
}

/// The program, from its arguments to its exit code. `args[0]` is its name. Comes back only without a script.
pub fn run(args: &[OsString]) -> i32 {
    privileged::set_environment(environment::clean(privileged::take_environment()));
    let mut log = Log::default();
    let end = match execute(args, &mut log) {
        Ok(never) => match never {},
        Err(end) => end,
    };
    match end {
        End::Shown => 0,
        End::Unlogged => 1,
        End::Refused(code, text) => log.error(&text).map_or(1, |()| code),
    }
}

/// Everything, in Apache's order.
fn execute(args: &[OsString], log: &mut Log) -> Result<std::convert::Infallible, End> {
    let caller = caller(args.get(1))?;
    let [_, user, group, command, ..] = args else { return refused(101, &[&"too few arguments"]) };
    if caller != built::AP_HTTPD_USER {
        return refused(103, &[&"user mismatch (", &caller, &" instead of ", &built::AP_HTTPD_USER, &")"]);
    }
    let command = command.as_bytes();
    if leaves_folder(command) {
        return refused(104, &[&"invalid command (", &command, &")"]);
    }
    let target = Target::of(user.as_bytes(), group.as_bytes())?;
    log.line(&target.transaction(command))?;
    target.is_allowed(command)?;
    target.become_it(command)?;
    let cwd = in_docroot(&target, command)?;
    check_files(&target, &cwd, command)?;
    if let Some(mask) = built::AP_SUEXEC_UMASK {
        if !mask & WRITABLE_BY_OTHERS != 0 {
            let text = format!(
                "notice: AP_SUEXEC_UMASK of {mask:03o} allows write permission to group and/or other"
            );
            log.error(text.as_bytes())?;
        }
        umask(Mode::from_bits_truncate(mask));
    }
    let err = become_script(&args[3..]);
    refused(255, &[&system_error(&err), &": exec failed (", &command, &")"])
}

/// The name of who calls. The server's user and root may ask for the build's values, as the first argument.
fn caller(first: Option<&OsString>) -> Result<String, End> {
    let uid = getuid();
    let Some(user) = known_user(User::from_uid(uid)) else {
        return refused(102, &[&format!("crit: invalid uid: ({uid})")]);
    };
    if first.is_some_and(|word| word == "-V") && (uid.is_root() || user.name == built::AP_HTTPD_USER) {
        write_stderr(&built::shown());
        return Err(End::Shown);
    }
    Ok(user.name)
}

/// Who was found. A name that is no UTF-8 was changed when it was read, so that it might be somebody else's.
fn known_user(found: nix::Result<Option<User>>) -> Option<User> {
    found.ok().flatten().filter(|user| !user.name.contains(char::REPLACEMENT_CHARACTER))
}

/// True for a command that may not be in the current folder.
fn leaves_folder(command: &[u8]) -> bool {
    command.starts_with(b"/") || command.starts_with(b"../") || command.windows(4).any(|part| part == b"/../")
}

/// A number in place of a name.
fn is_number(word: &[u8]) -> bool {
    word.iter().all(u8::is_ascii_digit)
}

/// The number that digits are: `atoi`, which keeps the low half of a long.
fn number(digits: &[u8]) -> u32 {
    let long = digits.iter().fold(0_i64, |number, digit| {
        number.saturating_mul(10).saturating_add(i64::from(digit.wrapping_sub(b'0')))
    });
    long as u32
}

/// Whom the script is to run as.
struct Target<'a> {
    /// As the server said them.
    said: (&'a [u8], &'a [u8]),
    user: User,
    group: Group,
    /// The script belongs to the user's pages (`~user`), not to the server's.
    userdir: bool,
}

impl<'a> Target<'a> {
    fn of(user: &'a [u8], group: &'a [u8]) -> Result<Target<'a>, End> {
        let (user, userdir) = match user.strip_prefix(b"~") {
            Some(user) => (user, true),
            None => (user, false),
        };
        let said = (user, group);
        let user = if is_number(user) {
            known_user(User::from_uid(Uid::from_raw(number(user))))
                .ok_or_else(|| End::Refused(121, line(&[&"invalid target user id: (", &user, &")"])))?
        } else {
            std::str::from_utf8(user)
                .ok()
                .and_then(|name| known_user(User::from_name(name)))
                .ok_or_else(|| End::Refused(105, line(&[&"invalid target user name: (", &user, &")"])))?
        };
        let group = if is_number(group) {
            let found = Group::from_gid(Gid::from_raw(number(group)));
            found
                .ok()
                .flatten()
                .ok_or_else(|| End::Refused(106, line(&[&"invalid target group id: (", &group, &")"])))?
        } else {
            std::str::from_utf8(group)
                .ok()
                .and_then(|name| Group::from_name(name).ok().flatten())
                .ok_or_else(|| End::Refused(106, line(&[&"invalid target group name: (", &group, &")"])))?
        };
        Ok(Target { said, user, group, userdir })
    }

    fn transaction(&self, command: &[u8]) -> Vec<u8> {
        let (user, group) = self.said;
        let (own_user, own_group) = (&self.user.name, &self.group.name);
        line(&[&"uid: (", &user, &"/", own_user, &") gid: (", &group, &"/", own_group, &") cmd: ", &command])
    }

    fn is_allowed(&self, command: &[u8]) -> Result<(), End> {
        let (uid, gid) = (self.user.uid, self.group.gid);
        if uid.is_root() || uid.as_raw() < built::AP_UID_MIN {
            let uid = uid.to_string();
            return refused(107, &[&"cannot run as forbidden uid (", &uid, &"/", &command, &")"]);
        }
        if gid.as_raw() == 0 || gid.as_raw() < built::AP_GID_MIN {
            let gid = gid.to_string();
            return refused(108, &[&"cannot run as forbidden gid (", &gid, &"/", &command, &")"]);
        }
        Ok(())
    }

    /// Gives all rights up but the target's, for good; what is looked at from now on is looked at with these.
    fn become_it(&self, command: &[u8]) -> Result<(), End> {
        let failed = |code, what: &str, id: String, err: io::Error| {
            let words = error_words(&err);
            refused(code, &[&"failed to ", &what, &" (", &id, &": ", &command, &"): ", &words])
        };
        let (uid, gid) = (self.user.uid, self.group.gid);
        let name = CString::new(self.user.name.as_str()).unwrap_or_default();
        setgid(gid)
            .and_then(|()| initgroups(&name, gid))
            .or_else(|err| failed(109, "setgid/initgroups", gid.to_string(), err.into()))?;
        setuid(uid).or_else(|err| failed(110, "setuid", uid.to_string(), err.into()))
    }
}

/// The current folder as the system knows it.
fn current_folder() -> Option<Vec<u8>> {
    let folder = getcwd().ok()?.into_os_string().into_vec();
    (folder.len() < AP_MAXPATH).then_some(folder)
}

/// The current folder, which must be the folder that scripts may lie in, or below it. The way there is gone, so that
/// symbolic links make no difference.
fn in_docroot(target: &Target, command: &[u8]) -> Result<Vec<u8>, End> {
    let Some(cwd) = current_folder() else {
        return refused(111, &[&"cannot get current working directory"]);
    };
    let Ok(here) = open(".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) else {
        return refused(111, &[&"cannot open current working directory"]);
    };
    let (code, named) = match target.userdir {
        true => (112, target.user.dir.as_path()),
        false => (113, Path::new(built::AP_DOC_ROOT)),
    };
    let visit = || {
        chdir(named).ok()?;
        if target.userdir {
            chdir(built::AP_USERDIR_SUFFIX).ok()?;
        }
        let docroot = current_folder()?;
        fchdir(&here).ok()?;
        Some(docroot)
    };
    let Some(docroot) = visit() else {
        return refused(code, &[&"cannot get docroot information (", &named.as_os_str().as_bytes(), &")"]);
    };
    if !is_in(&cwd, &docroot) {
        return refused(114, &[&"command not in docroot (", &cwd, &"/", &command, &")"]);
    }
    Ok(cwd)
}

/// True when `folder` is `docroot`, or below it.
fn is_in(folder: &[u8], docroot: &[u8]) -> bool {
    folder.strip_prefix(docroot).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Nobody but the target may have been able to change the script, or to put it there.
fn check_files(target: &Target, cwd: &[u8], command: &[u8]) -> Result<(), End> {
    let folder = match symlink_metadata(Path::new(std::ffi::OsStr::from_bytes(cwd))) {
        Ok(folder) if folder.is_dir() => folder,
        _ => return refused(115, &[&"cannot stat directory: (", &cwd, &")"]),
    };
    if folder.mode() & WRITABLE_BY_OTHERS != 0 {
        return refused(116, &[&"directory is writable by others: (", &cwd, &")"]);
    }
    let program = match symlink_metadata(Path::new(std::ffi::OsStr::from_bytes(command))) {
        Ok(program) if !program.is_symlink() => program,
        _ => return refused(117, &[&"cannot stat program: (", &command, &")"]),
    };
    if program.mode() & WRITABLE_BY_OTHERS != 0 {
        return refused(118, &[&"file is writable by others: (", &cwd, &"/", &command, &")"]);
    }
    if program.mode() & SET_ID != 0 {
        return refused(119, &[&"file is either setuid or setgid: (", &cwd, &"/", &command, &")"]);
    }
    let (uid, gid) = (target.user.uid.as_raw(), target.group.gid.as_raw());
    let is_own = |file: &Metadata| file.uid() == uid && file.gid() == gid;
    if !is_own(&folder) || !is_own(&program) {
        let text = format!(
            "target uid/gid ({uid}/{gid}) mismatch with directory ({}/{}) or program ({}/{})",
            folder.uid(),
            folder.gid(),
            program.uid(),
            program.gid()
        );
        return refused(120, &[&text]);
    }
    if program.mode() & EXECUTABLE_BY_OWNER == 0 {
        return refused(121, &[&"file has no execute permission: (", &cwd, &"/", &command, &")"]);
    }
    Ok(())
}

/// Becomes the script: its name, and what else the server said. Comes back only if that fails.
fn become_script(words: &[OsString]) -> io::Error {
    let words: Result<Vec<CString>, _> = words.iter().map(|word| CString::new(word.as_bytes())).collect();
    match words.as_deref() {
        Ok(words @ [file, ..]) => privileged::become_program(file, words),
        _ => io::ErrorKind::InvalidInput.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stay_in_their_folder() {
        for bad in ["/bin/sh", "../x", "a/../x", "a/b/../../x"] {
            assert!(leaves_folder(bad.as_bytes()), "{bad}");
        }
        for good in ["x", "a/x", "..", "..x", "a/..", "", "x../y"] {
            assert!(!leaves_folder(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn numbers_are_as_atoi_reads_them() {
        assert!(is_number(b"") && is_number(b"0123") && !is_number(b"-1") && !is_number(b"1x"));
        assert_eq!((number(b""), number(b"0123"), number(b"4294967297")), (0, 123, 1));
        assert_eq!(number(b"99999999999999999999"), u32::MAX);
    }

    #[test]
    fn folders_are_compared_by_whole_names() {
        assert!(is_in(b"/var/www", b"/var/www") && is_in(b"/var/www/a", b"/var/www"));
        assert!(!is_in(b"/var/www2", b"/var/www") && !is_in(b"/var", b"/var/www"));
        // The whole disk is no docroot.
        assert!(!is_in(b"/var", b"/"));
    }

    fn end<T>(result: Result<T, End>) -> (i32, String) {
        match result {
            Err(End::Refused(code, text)) => (code, String::from_utf8(text).unwrap()),
            _ => panic!("not refused"),
        }
    }

    #[test]
    fn targets_must_be_there_and_be_nobody_special() {
        let of = |user: &'static str, group: &'static str| Target::of(user.as_bytes(), group.as_bytes());
        assert_eq!(end(of("no such", "0")), (105, "invalid target user name: (no such)".to_owned()));
        assert_eq!(end(of("~4294967295", "0")), (121, "invalid target user id: (4294967295)".to_owned()));
        assert_eq!(end(of("0", "no such")), (106, "invalid target group name: (no such)".to_owned()));
        assert_eq!(end(of("0", "4294967295")), (106, "invalid target group id: (4294967295)".to_owned()));
        let root = of("~0", "root").unwrap_or_else(|_| panic!("no root"));
        assert!(root.userdir);
        assert_eq!(root.transaction(b"x"), b"uid: (0/root) gid: (root/root) cmd: x");
        assert_eq!(end(root.is_allowed(b"x")), (107, "cannot run as forbidden uid (0/x)".to_owned()));
    }
}
