//! Sections: what `<Directory>`, `<Files>`, `<Location>`, `<If>` and `.htaccess` files hold, and what they match.
//!
//! Answers to the `core_dir_config` vectors that `server/request.c` walks. Which sections matched is decided for every
//! request; what they merge to is remembered (see [`super::merge`]).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use super::merge::DirConf;
use crate::expr::Expr;
use crate::fnmatch::{self, fnmatch};
use crate::module::ConfVec;
use crate::regex::Regex;

/// Identifies a section, or a merged configuration, for the life of the process.
pub type SectionId = u32;

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A number that nothing else has.
pub fn fresh_id() -> SectionId {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What a section applies to.
#[derive(Clone)]
pub enum Matcher {
    /// A path, compared as it stands.
    Plain(Vec<u8>),
    /// A shell pattern.
    Glob(Vec<u8>),
    /// A regular expression.
    Regex(Arc<Regex>),
    /// `<If>`.
    If(Arc<Expr>),
    /// `<ElseIf>`: only when no branch before it was taken.
    ElseIf(Arc<Expr>),
    /// `<Else>`.
    Else,
    /// A `.htaccess` file: its folder.
    Htaccess,
}

/// One section with the settings in it.
pub struct Section {
    /// Its number.
    pub id: SectionId,
    /// The pattern as written.
    pub name: String,
    /// What it applies to.
    pub matcher: Matcher,
    /// How deep a `<Directory>` path is: `/` is 0 (as Apache counts), `/var` 1.
    pub components: usize,
    /// The settings, of every module.
    pub conf: ConfVec,
    alone: OnceLock<Arc<DirConf>>,
}

impl Section {
    /// A section with a fresh number.
    pub fn new(name: &str, matcher: Matcher, conf: ConfVec) -> Section {
        let components = count_components(name.as_bytes());
        Section { id: fresh_id(), name: name.to_owned(), matcher, components, conf, alone: OnceLock::new() }
    }

    /// Its settings as the first of several that are merged.
    pub fn alone(&self) -> &Arc<DirConf> {
        self.alone.get_or_init(|| DirConf::root(self.conf.clone()))
    }

    /// The matcher for a path or shell pattern in `<Directory>`, `<Location>`, `<Files>`.
    pub fn path_matcher(name: &str) -> Matcher {
        let bytes = httpd_conf::to_bytes(name).into_owned();
        if httpd_conf::fnmatch_test(name.as_bytes()) { Matcher::Glob(bytes) } else { Matcher::Plain(bytes) }
    }

    /// True for `<DirectoryMatch>` and `<Directory ~>`.
    pub fn is_regex(&self) -> bool {
        matches!(self.matcher, Matcher::Regex(_))
    }

    /// Does a plain or shell-pattern `<Directory>` name exactly `dir` (without its last slash, but `/`)?
    pub fn matches_directory(&self, dir: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Plain(path) => path == dir,
            Matcher::Glob(pattern) => fnmatch(pattern, dir, fnmatch::PATHNAME),
            _ => false,
        }
    }

    /// Does a plain or shell-pattern `<Location>` cover `uri`? A plain one covers what lies below it, up to a slash.
    pub fn matches_location(&self, uri: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Plain(path) => {
                uri.starts_with(path)
                    && (path.last() == Some(&b'/') || uri.len() == path.len() || uri[path.len()] == b'/')
            }
            Matcher::Glob(pattern) => fnmatch(pattern, uri, fnmatch::PATHNAME),
            _ => false,
        }
    }

    /// Does a plain or shell-pattern `<Files>` cover this file name (no folder)?
    pub fn matches_file(&self, name: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Plain(file) => file == name,
            Matcher::Glob(pattern) => fnmatch(pattern, name, fnmatch::PATHNAME),
            _ => false,
        }
    }
}

/// The depth of a directory name: the number of slashes that have something behind them.
pub fn count_components(path: &[u8]) -> usize {
    path.split(|&b| b == b'/').filter(|part| !part.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &str) -> Section {
        Section::new(name, Section::path_matcher(name), ConfVec::new())
    }

    #[test]
    fn depth() {
        assert_eq!(count_components(b"/"), 0);
        assert_eq!(count_components(b"/var"), 1);
        assert_eq!(count_components(b"/var/www/"), 2);
    }

    #[test]
    fn a_location_ends_at_a_slash() {
        let private = section("/private1");
        assert!(private.matches_location(b"/private1"));
        assert!(private.matches_location(b"/private1/a"));
        assert!(!private.matches_location(b"/private1other"));
        assert!(section("/a/").matches_location(b"/a/b"));
        assert!(!section("/a/").matches_location(b"/a"));
    }
}
