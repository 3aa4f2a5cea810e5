//! mod_userdir: the pages of users, under `/~user`.
//!
//! Answers to `modules/mappers/mod_userdir.c`.

use bstr::{BString, ByteSlice};
use httpd_conf::{getword_conf, to_bytes};
use nix::unistd::User;

use super::mod_alias::set_context_info;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::{Hooks, order};
use crate::http::status;
use crate::module::{Conf, Module, Slot};
use crate::modules::arch::suexec::SuexecIdentity;
use crate::request::{FileInfo, Request, Step, memo};

/// The module.
pub static MODULE: Module = Module { name: "userdir_module", file: "mod_userdir.c", directives: ROWS, hooks };

/// A server's settings.
pub static SERVER: Slot<UserDir> = Slot::new();

/// A server's settings: `userdir_config`.
#[derive(Clone, Default)]
pub struct UserDir {
    /// `disabled` (or `enabled`) without names.
    disabled: Option<bool>,
    /// Where the pages are, to be tried in this order.
    places: Option<Vec<BString>>,
    enabled_users: Vec<BString>,
    disabled_users: Vec<BString>,
}

impl Conf for UserDir {
    fn merge(&self, child: &Self) -> Self {
        UserDir {
            disabled: child.disabled.or(self.disabled),
            places: child.places.clone().or_else(|| self.places.clone()),
            enabled_users: child.enabled_users.clone(),
            disabled_users: child.disabled_users.clone(),
        }
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "UserDir",
    args: Args::Raw(user_dir),
    allowed: Allowed::RSRC_CONF,
    help: "the public subdirectory in users' home directories, or 'disabled', or 'disabled username username...', or 'enabled username username...'",
}];

fn words(line: &str) -> Vec<BString> {
    let mut rest = line;
    let mut words = Vec::new();
    while !rest.is_empty() {
        words.push(to_bytes(&getword_conf(&mut rest)).into_owned().into());
    }
    words
}

/// `set_user_dir`.
fn user_dir(cmd: &mut Cmd, args: &str) -> Done {
    let mut rest = args;
    let keyword = getword_conf(&mut rest).to_ascii_lowercase();
    if keyword.is_empty() {
        return Err("UserDir requires an argument.".into());
    }
    let conf = cmd.server_conf(&SERVER)?;
    let disable = keyword == "disable" || keyword == "disabled";
    if !disable && keyword != "enable" && keyword != "enabled" {
        conf.places = Some(words(args));
    } else if rest.is_empty() {
        conf.disabled = Some(disable);
    } else if disable {
        conf.disabled_users.extend(words(rest));
    } else {
        conf.enabled_users.extend(words(rest));
    }
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks
        .translate_name(translate_userdir, order::MIDDLE)
        .after(&["mod_alias.c"])
        .before(&["mod_vhost_alias.c"]);
    hooks.get_suexec_identity(suexec_identity, order::FIRST);
}

/// Where a user's pages may be.
enum Place {
    File(Vec<u8>),
    Url(Vec<u8>),
    Nowhere,
}

/// One word of `UserDir`, for one user; `rest` is what follows the user in the URL.
fn place(pattern: &[u8], user: &[u8], rest: &[u8]) -> Place {
    let absolute = pattern.first() == Some(&b'/');
    let (prefix, behind) = match pattern.split_once_str("*") {
        Some((prefix, behind)) => (Some(prefix), behind),
        None => (None, pattern),
    };
    if behind.is_empty() || absolute {
        return match prefix {
            Some(prefix) if prefix.contains(&b':') && !absolute => {
                Place::Url([prefix, user, behind, rest].concat())
            }
            Some(prefix) => Place::File([prefix, user, behind].concat()),
            None => Place::File([behind, b"/", user].concat()),
        };
    }
    if let Some(prefix) = prefix
        && prefix.contains(&b':')
    {
        return Place::Url([prefix, user, rest].concat());
    }
    // Who has an account is not noted.
    memo::refuse();
    let home = user.to_str().ok().and_then(|name| User::from_name(name).ok().flatten());
    match home {
        Some(account) => {
            use std::os::unix::ffi::OsStrExt;
            Place::File([account.dir.as_os_str().as_bytes(), b"/", behind].concat())
        }
        None => Place::Nowhere,
    }
}

/// `translate_userdir`.
fn translate_userdir(r: &mut Request) -> Step {
    let Some(path) = r.uri.strip_prefix(b"/~") else { return Step::Declined };
    let server = r.server.clone();
    let conf = server.conf.get(&SERVER);
    let Some(places) = &conf.places else { return Step::Declined };
    let cut = path.find_byte(b'/').unwrap_or(path.len());
    let (user, rest) = (path[..cut].to_vec(), path[cut..].to_vec());
    let listed = |users: &[BString]| users.iter().any(|name| name.eq_ignore_ascii_case(&user));
    if user.is_empty()
        || matches!(user.as_slice(), [_, b'.'] | [_, b'.', b'.'])
        || listed(&conf.disabled_users)
        || conf.disabled == Some(true) && !listed(&conf.enabled_users)
    {
        return Step::Declined;
    }
    // Accounts may be looked for in directories elsewhere.
    if places.iter().any(|place| place.first() != Some(&b'/')) && r.needs_thread() {
        return Step::NeedThread;
    }
    for (index, pattern) in places.iter().enumerate() {
        let file = match place(pattern, &user, &rest) {
            Place::Url(url) => {
                r.headers_out.set("Location", url);
                return Step::Status(status::MOVED_TEMPORARILY);
            }
            Place::Nowhere => continue,
            Place::File(file) => file,
        };
        // The last one is taken even if it isn't there.
        if index + 1 == places.len() || FileInfo::stat(&file).is_ok() {
            r.filename = [file.as_slice(), &rest].concat().into();
            let prefix = [b"/~", user.as_slice()].concat();
            set_context_info(r, Some(&prefix), &file);
            r.userdir_user = Some(user.into());
            return Step::Ok;
        }
    }
    Step::Declined
}

/// Scripts among a user's pages run as that user: `get_suexec_id_doer`.
fn suexec_identity(r: &Request) -> Option<SuexecIdentity> {
    let name = r.userdir_user.as_ref()?.to_str().ok()?;
    let account = User::from_name(name).ok().flatten()?;
    Some(SuexecIdentity { uid: account.uid, gid: account.gid, userdir: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_a_user() {
        let shown = |pattern: &str| match place(pattern.as_bytes(), b"bob", b"/x") {
            Place::File(file) => String::from_utf8(file).unwrap(),
            Place::Url(url) => format!("URL {}", url.as_bstr()),
            Place::Nowhere => "nowhere".to_owned(),
        };
        assert_eq!(shown("/usr/web"), "/usr/web/bob");
        assert_eq!(shown("/home/*/www"), "/home/bob/www");
        assert_eq!(shown("http://example.com/users"), "nowhere");
        assert_eq!(shown("http://example.com/*/users"), "URL http://example.com/bob/x");
        assert_eq!(shown("http://example.com/~*"), "URL http://example.com/~bob/x");
    }
}
