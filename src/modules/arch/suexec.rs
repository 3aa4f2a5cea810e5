//! Programs that run as somebody else, by the wrapper that comes with Apache.
//!
//! Answers to `ap_os_create_privileged_process` of `os/unix/unixd.c`. As in Apache, the wrapper counts only where it is there,
//! belongs to root and is set-uid; else programs run as the server's user.

use std::ffi::CString;

use nix::unistd::{Gid, Uid};

use crate::request::Request;
use crate::request::variables::c_string;

/// Whom a request's programs run as: `ap_unix_identity_t`.
#[derive(Clone, Copy, Debug)]
pub struct SuexecIdentity {
    /// The user.
    pub uid: Uid,
    /// The group.
    pub gid: Gid,
    /// The programs are that user's own pages'.
    pub userdir: bool,
}

/// The wrapper with its words, in place of a program and its own, where the request's programs run as somebody else.
pub(crate) fn wrapped(r: &Request, program: &[u8], arguments: &[CString]) -> Option<(CString, Vec<CString>)> {
    let SuexecIdentity { uid, gid, userdir } =
        r.runtime.hooks.get_suexec_identity.iter().find_map(|ask| ask(r))?;
    let wrapper = r.runtime.layout.suexec;
    if r.runtime.unixd.suexec_disabled_reason(wrapper).is_some() {
        return None;
    }
    // It takes a file of its folder only.
    let name = program.rsplit(|&c| c == b'/').next().unwrap_or_default();
    let user = if userdir { format!("~{uid}") } else { uid.to_string() };
    let wrapper = c_string(wrapper);
    let mut words = vec![wrapper.clone(), c_string(user), c_string(gid.to_string()), c_string(name)];
    words.extend_from_slice(arguments.get(1..).unwrap_or_default());
    Some((wrapper, words))
}
