//! mod_speling: finds the file that a misspelled URL means.
//!
//! Answers to `modules/mappers/mod_speling.c`.

use std::borrow::Cow;

use bstr::ByteSlice;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::{Hooks, order};
use crate::http::escape::{escape_html, os_escape_path};
use crate::http::method::Method;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, Step, memo};

/// The module.
pub static MODULE: Module = Module { name: "speling_module", file: "mod_speling.c", directives: ROWS, hooks };

/// A directory's settings.
pub static DIR: Slot<Speling> = Slot::new();

/// A directory's settings: `spconfig`.
#[derive(Clone, Default)]
pub struct Speling {
    enabled: Option<bool>,
    case_only: Option<bool>,
    basename: Option<bool>,
}

impl Conf for Speling {
    /// Nothing is inherited once one of the directives stands in a section.
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

static ROWS: &[Directive] = &[
    row("CheckSpelling", check_spelling, "whether or not to fix miscapitalized/misspelled requests"),
    row("CheckCaseOnly", check_case_only, "whether or not to fix only miscapitalized requests"),
    row("CheckBasenameMatch", check_basename_match, "whether or not to fix files with the same base name"),
];

const fn row(name: &'static str, set: fn(&mut Cmd, bool) -> Done, help: &'static str) -> Directive {
    Directive { name, args: Args::Flag(set), allowed: Allowed::OPTIONS, help }
}

fn check_spelling(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).enabled = Some(on);
    Ok(())
}

fn check_case_only(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).case_only = Some(on);
    Ok(())
}

fn check_basename_match(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).basename = Some(on);
    Ok(())
}

/// How a name differs from the one asked for, the nearest first: `sp_reason`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Reason {
    Miscapitalized,
    Transposition,
    MissingChar,
    ExtraChar,
    SimpleTypo,
    VeryDifferent,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Reason::Miscapitalized => "miscapitalized",
            Reason::Transposition => "transposed characters",
            Reason::MissingChar => "character missing",
            Reason::ExtraChar => "extra character",
            Reason::SimpleTypo => "mistyped character",
            Reason::VeryDifferent => "common basename",
        }
    }

    /// `spdist`.
    fn between(bad: &[u8], name: &[u8]) -> Reason {
        let same = bad.iter().zip(name).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
        let (s, t) = (&bad[same..], &name[same..]);
        let is = |a: &[u8], b: &[u8]| a.eq_ignore_ascii_case(b);
        match (s, t) {
            ([], []) => Reason::Miscapitalized,
            ([s0, s1, s2 @ ..], [t0, t1, t2 @ ..])
                if s0.eq_ignore_ascii_case(t1) && t0.eq_ignore_ascii_case(s1) && is(s2, t2) =>
            {
                Reason::Transposition
            }
            ([_, s1 @ ..], [_, t1 @ ..]) if is(s1, t1) => Reason::SimpleTypo,
            ([_, s1 @ ..], _) if is(s1, t) => Reason::ExtraChar,
            (_, [_, t1 @ ..]) if is(s, t1) => Reason::MissingChar,
            _ => Reason::VeryDifferent,
        }
    }
}

struct Candidate {
    name: Vec<u8>,
    reason: Reason,
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.fixups(check_speling, order::LAST);
}

/// The names in a directory that are near to `bad`. `Err`: the name itself is there.
fn candidates(conf: &Speling, directory: std::fs::ReadDir, bad: &[u8]) -> Result<Vec<Candidate>, ()> {
    use std::os::unix::ffi::OsStrExt;
    let base = |name: &[u8]| name.find_byte(b'.').unwrap_or(name.len());
    let mut found = Vec::new();
    // What the system lists as "." and "..", too, is passed over by Rust; no name of a file is near to them.
    for entry in directory.flatten() {
        let name = entry.file_name();
        let name = name.as_bytes();
        if name == bad {
            return Err(());
        }
        let reason = Reason::between(bad, name);
        let near = reason == Reason::Miscapitalized
            || conf.case_only != Some(true) && reason != Reason::VeryDifferent;
        let common = conf.basename != Some(false)
            && base(name) == base(bad)
            && name[..base(name)].eq_ignore_ascii_case(&bad[..base(bad)]);
        if near {
            found.push(Candidate { name: name.to_vec(), reason });
        } else if common {
            found.push(Candidate { name: name.to_vec(), reason: Reason::VeryDifferent });
        }
    }
    found.sort_by_key(|candidate| candidate.reason);
    Ok(found)
}

/// `check_speling`.
fn check_speling(r: &mut Request) -> Step {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    if conf.enabled != Some(true)
        || r.method != Method::GET
        || r.finfo.is_some()
        || r.proxyreq.is_some()
        || r.is_subrequest
        || *r.uri == *b"/"
    {
        return Step::Declined;
    }
    let Some(slash) = r.filename.rfind_byte(b'/') else { return Step::Declined };
    let bad = r.filename[slash + 1..].to_vec();
    let misspelled = [bad.as_slice(), &r.path_info].concat();
    let Some(url) = r.uri.strip_suffix(misspelled.as_slice()).map(<[u8]>::to_vec) else {
        return Step::Declined;
    };
    // What is in a directory isn't noted.
    memo::refuse();
    let Ok(directory) = r.filename[..slash].to_os_str().map(std::fs::read_dir) else { return Step::Declined };
    let Ok(directory) = directory else { return Step::Declined };
    let Ok(found) = candidates(conf, directory, &bad) else { return Step::Ok };
    let Some(first) = found.first() else { return Step::Ok };
    let referer = r.headers_in.get("Referer").map(<[u8]>::to_vec);
    let unambiguous = found.get(1).is_none_or(|second| second.reason != first.reason);
    if first.reason == Reason::VeryDifferent || !unambiguous {
        return several(r, &url, &found, referer.as_deref());
    }
    let mut target = os_escape_path(&[&url, first.name.as_slice(), &r.path_info].concat(), true).into_owned();
    if let Some(args) = &r.args {
        target.push(b'?');
        target.extend_from_slice(args);
    }
    let location = r.construct_url(&target);
    r.headers_out.set("Location", location);
    let target = target.as_bstr();
    match &referer {
        Some(referer) => rerror!(
            r,
            Level::Info,
            "speling",
            "AH03224",
            "Fixed spelling: {} to {target} from {}",
            r.uri,
            referer.as_bstr()
        ),
        None => rerror!(r, Level::Info, "speling", "AH03225", "Fixed spelling: {} to {target}", r.uri),
    }
    Step::Status(status::MOVED_PERMANENTLY)
}

/// A list to choose from.
fn several(r: &mut Request, url: &[u8], found: &[Candidate], referer: Option<&[u8]>) -> Step {
    let mut list = b"The document name you requested (<code>".to_vec();
    list.extend_from_slice(&escape_html(&r.uri));
    list.extend_from_slice(
        b"</code>) could not be found on this server.\nHowever, we found documents with names similar to the one you requested.<p>Available documents:\n<ul>\n",
    );
    let mut variants = Vec::new();
    for (index, candidate) in found.iter().enumerate() {
        let mut target = [url, &candidate.name, &r.path_info].concat();
        if let Some(args) = &r.args {
            target.push(b'?');
            target.extend_from_slice(args);
        }
        let escaped: Cow<'_, [u8]> = os_escape_path(&target, true);
        let reason = candidate.reason.text().as_bytes();
        variants.push([b"\"", &*escaped, b"\";\"", reason, b"\""].join(&b","[..]));
        for part in [b"<li><a href=\"", &*escaped, b"\">", &*escape_html(&target), b"</a> (", reason, b")\n"]
        {
            list.extend_from_slice(part);
        }
        let next = found.get(index + 1).map(|next| next.reason);
        if index > 0 && candidate.reason != Reason::VeryDifferent && next == Some(Reason::VeryDifferent) {
            list.extend_from_slice(
                b"</ul>\nFurthermore, the following related documents were found:\n<ul>\n",
            );
        }
    }
    list.extend_from_slice(b"</ul>\n");
    if let Some(referer) = referer {
        list.extend_from_slice(b"Please consider informing the owner of the referring page <tt>");
        list.extend_from_slice(&escape_html(referer));
        list.extend_from_slice(b"</tt> about the broken link.\n");
    }
    r.notes.set("variant-list", list);
    r.subprocess_env.merge("VARIANTS", variants.join(&b","[..]));
    let count = found.len();
    match referer {
        Some(referer) => rerror!(
            r,
            Level::Info,
            "speling",
            "AH03226",
            "Spelling fix: {}: {count} candidates from {}",
            r.uri,
            referer.as_bstr()
        ),
        None => rerror!(r, Level::Info, "speling", "AH03227", "Spelling fix: {}: {count} candidates", r.uri),
    }
    Step::Status(status::MULTIPLE_CHOICES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (bad, name, reason) in [
            ("Index.html", "index.html", Reason::Miscapitalized),
            ("idnex.html", "index.html", Reason::Transposition),
            ("inde.html", "index.html", Reason::MissingChar),
            ("indexx.html", "index.html", Reason::ExtraChar),
            ("indez.html", "index.html", Reason::SimpleTypo),
            ("index.htm", "index.html", Reason::MissingChar),
            ("index", "index.html", Reason::VeryDifferent),
            ("ab", "ba", Reason::Transposition),
            ("a", "b", Reason::SimpleTypo),
            ("a", "", Reason::ExtraChar),
        ] {
            assert_eq!(Reason::between(bad.as_bytes(), name.as_bytes()), reason, "{bad} {name}");
        }
    }
}
