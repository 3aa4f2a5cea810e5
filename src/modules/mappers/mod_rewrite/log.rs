//! The `rewrite:traceN` lines: `do_rewritelog`.

use std::fmt;
use std::sync::Arc;

use crate::log::{self, Level, shown};
use crate::request::Request;

/// Logs a step of the engine: `rewritelog!(r, Trace2, perdir, "text {}", shown(&bytes))`.
macro_rules! rewritelog {
    ($r:expr, $level:ident, $perdir:expr, $($text:tt)+) => {
        if $r.log_enabled("rewrite", $crate::log::Level::$level) {
            $crate::modules::mappers::mod_rewrite::log::line(
                &*$r, $crate::log::Level::$level, $perdir, format_args!($($text)+),
            );
        }
    };
}
pub(super) use rewritelog;

/// The text with what stands in front of it: who asks for what, and in which directory.
pub(super) fn line(r: &Request, level: Level, perdir: Option<&[u8]>, text: fmt::Arguments<'_>) {
    let redirects = std::iter::successors(r.prev.as_deref(), |prev| prev.prev.as_deref()).count();
    let user = match &r.user {
        None => "-".into(),
        Some(user) if user.is_empty() => "\"\"".into(),
        Some(user) => shown(user),
    };
    let perdir = perdir.map_or(String::new(), |dir| format!("[perdir {}] ", shown(dir)));
    let redirects = if redirects == 0 { String::new() } else { format!("/redir#{redirects}") };
    let text = format_args!(
        "{} - {user} [{}/sid#{:x}][rid#{:x}/{}{redirects}] {perdir}{text}",
        r.remote_name(),
        shown(r.server_name()),
        Arc::as_ptr(&r.server) as usize,
        std::ptr::from_ref(r) as usize,
        if r.is_subrequest { "subreq" } else { "initial" },
    );
    log::request_event(r, level, "rewrite", "", None, text);
}
