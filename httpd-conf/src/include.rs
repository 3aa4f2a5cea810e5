//! `Include` and `IncludeOptional`: files, folders and wildcards.
//!
//! Answers to `include_config` of server/core.c, `ap_process_fnmatch_configs`, `ap_process_resource_config`
//! and `dump_config_name` of server/config.c, and `ap_dir_nofnmatch` and `ap_dir_fnmatch` of server/util.c.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::encoding::{from_bytes, to_bytes};
use crate::glob::{fnmatch, fnmatch_test};
use crate::lines::{Lines, MAX_CONFIG};
use crate::path::{filepath_merge, join};
use crate::reader::{File, Reader, one_argument};
use crate::{DirectiveFacts, Error, Host, Kind, Level, Node, Warning};

/// AP_MAX_INCLUDE_DEPTH
const MAX_INCLUDE_DEPTH: u32 = 128;
/// AP_MAX_FNMATCH_DIR_DEPTH
const MAX_FOLDER_DEPTH: u32 = 128;
/// What Apache puts before the errors of folders and wildcards.
const PREFIX: &str = "Include/IncludeOptional: ";

/// A file that was read. Displays as a line of `-D DUMP_INCLUDES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// How many `Include`s it is away from the main file.
    pub depth: u32,
    /// Line of the last `Include` met, 0 before the first. (That of the including file, unless the file
    /// before it in a folder or wildcard had an `Include` too: Apache keeps one number for all.)
    pub line: u32,
    /// Its name.
    pub file: Box<str>,
}

impl fmt::Display for Included {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:1$}", "", 2 * (self.depth as usize + 1))?;
        match self.line {
            0 => f.write_str("(*)")?,
            line => write!(f, "({line})")?,
        }
        write!(f, " {}", self.file)
    }
}

/// What is known about includes beyond one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) depth: u32,
    line: u32,
    pub(crate) log: Vec<Included>,
}

/// One walk over what a path means.
struct Walk<'a> {
    optional: bool,
    /// How many folders deep.
    depth: u32,
    nodes: &'a mut Vec<Node>,
}

impl Reader {
    pub(crate) fn include(
        &mut self,
        host: &mut dyn Host,
        file: &mut File,
        facts: &DirectiveFacts,
        args: &str,
    ) -> Result<(), String> {
        let name = one_argument(facts, args)?;
        if self.includes.depth >= MAX_INCLUDE_DEPTH {
            return Err(format!(
                "Exceeded maximum include depth of {MAX_INCLUDE_DEPTH}, There appears to be a recursion."
            ));
        }
        let root = host.server_root().as_os_str().as_bytes().to_vec();
        let Some(path) = filepath_merge(&root, &to_bytes(&name)) else {
            return Err(format!("Invalid Include path {name}"));
        };
        self.includes.line = file.lines.origin().line;
        self.includes.depth += 1;
        let mut nodes = Vec::new();
        let read = self.read_matching(host, &path, facts.name == "IncludeOptional", &mut nodes);
        self.includes.depth -= 1;
        read.map_err(|error| error.to_string())?;
        file.add_all(nodes);
        Ok(())
    }

    /// Reads the file, the files in the folder, or what matches the wildcard.
    pub(crate) fn read_matching(
        &mut self,
        host: &mut dyn Host,
        path: &[u8],
        optional: bool,
        nodes: &mut Vec<Node>,
    ) -> Result<(), Error> {
        let mut walk = Walk { optional, depth: 0, nodes };
        if !fnmatch_test(path) {
            return self.read_path(host, &mut walk, path);
        }
        if !path.starts_with(b"/") {
            return fail(format!("Include must have an absolute path, {}", from_bytes(path)));
        }
        let slashes = path.iter().take_while(|b| **b == b'/').count();
        self.read_wildcard(host, &mut walk, b"/".to_vec(), &path[slashes..])
    }

    /// Below `dir`, what matches `pattern`, segment by segment.
    fn read_wildcard(
        &mut self,
        host: &mut dyn Host,
        walk: &mut Walk<'_>,
        mut dir: Vec<u8>,
        mut pattern: &[u8],
    ) -> Result<(), Error> {
        loop {
            let (segment, rest) = match pattern.iter().position(|b| *b == b'/') {
                Some(slash) => (&pattern[..slash], Some(&pattern[slash + 1..])),
                None => (pattern, None),
            };
            if fnmatch_test(segment) {
                return self.read_matches(host, walk, &dir, segment, rest);
            }
            dir = join(&dir, segment);
            match rest {
                Some(rest) => pattern = rest,
                None => return self.read_path(host, walk, &dir),
            }
        }
    }

    /// What matches `segment` in `dir`, and `rest` below it.
    fn read_matches(
        &mut self,
        host: &mut dyn Host,
        walk: &mut Walk<'_>,
        dir: &[u8],
        segment: &[u8],
        rest: Option<&[u8]>,
    ) -> Result<(), Error> {
        let names = match host.list(as_path(dir)) {
            Ok(names) => names,
            Err(e) if walk.optional && e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return fail(could_not_open_dir(dir, &e)),
        };
        let mut paths: Vec<Vec<u8>> = names
            .into_iter()
            .map(OsStringExt::into_vec)
            .filter(|name| fnmatch(segment, name))
            .map(|name| join(dir, &name))
            // A link is no folder here, wherever it leads.
            .filter(|path| rest.is_none() || is_dir(host, path) && !host.is_link(as_path(path)))
            .collect();
        if paths.is_empty() && !walk.optional {
            return fail(format!(
                "{PREFIX}No matches for the wildcard '{}' in '{}', failing",
                from_bytes(segment),
                from_bytes(dir)
            ));
        }
        paths.sort_unstable();
        for path in paths {
            match rest {
                Some(rest) => self.read_wildcard(host, walk, path, rest)?,
                None => self.read_path(host, walk, &path)?,
            }
        }
        Ok(())
    }

    /// A path without wildcards: a file, or all that is in a folder, hidden files included.
    fn read_path(&mut self, host: &mut dyn Host, walk: &mut Walk<'_>, path: &[u8]) -> Result<(), Error> {
        if !is_dir(host, path) {
            if walk.optional && host.kind(as_path(path)).is_none() {
                return Ok(());
            }
            return self.read_one(host, path, walk.nodes);
        }
        walk.depth += 1;
        if walk.depth > MAX_FOLDER_DEPTH {
            return fail(format!(
                "{PREFIX}Directory '{}' exceeds the maximum include directory nesting level of {MAX_FOLDER_DEPTH}. \
                 You have probably a recursion somewhere.",
                from_bytes(path)
            ));
        }
        let mut paths: Vec<Vec<u8>> = match host.list(as_path(path)) {
            Ok(names) => names.into_iter().map(|name| join(path, name.as_bytes())).collect(),
            Err(e) => return fail(could_not_open_dir(path, &e)),
        };
        paths.sort_unstable();
        for path in paths {
            self.read_path(host, walk, &path)?;
        }
        walk.depth -= 1;
        Ok(())
    }

    /// One file. Its sections have to be closed in it.
    fn read_one(&mut self, host: &mut dyn Host, path: &[u8], nodes: &mut Vec<Node>) -> Result<(), Error> {
        let name = from_bytes(path);
        if host.kind(as_path(path)) == Some(Kind::Other) && path != b"/dev/null" {
            host.warn(Warning {
                id: "AH00554",
                level: Level::Error,
                module: "core",
                message: format!("Access to file {name} denied by server: not a regular file"),
            });
            return fail(format!("Could not open configuration file {name}: Bad file descriptor"));
        }
        let content = match host.read(as_path(path)) {
            Ok(content) => content,
            Err(e) => return fail(format!("Could not open configuration file {name}: {}", reason(&e))),
        };
        self.includes.log.push(Included {
            depth: self.includes.depth,
            line: self.includes.line,
            file: (&*name).into(),
        });
        nodes.append(&mut self.build(host, Lines::of_file(&name, into_text(content), MAX_CONFIG))?);
        Ok(())
    }
}

/// The text without a copy where it can be had.
fn into_text(content: Vec<u8>) -> String {
    match from_bytes(&content) {
        std::borrow::Cow::Owned(text) => text,
        std::borrow::Cow::Borrowed(_) => String::from_utf8(content).unwrap_or_default(),
    }
}

fn is_dir(host: &dyn Host, path: &[u8]) -> bool {
    host.kind(as_path(path)) == Some(Kind::Dir)
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

fn could_not_open_dir(dir: &[u8], error: &io::Error) -> String {
    format!("{PREFIX}Could not open directory {}: {}", from_bytes(dir), reason(error))
}

/// The system's text alone.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_string(),
        None => text,
    }
}

fn fail(message: String) -> Result<(), Error> {
    Err(Error { origin: None, message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, read_with};

    /// Reads /r/f with the other files there; gives the tree or the error.
    fn with(files: &[(&str, &str)], text: &str) -> (String, Fake) {
        let mut host = Fake::default();
        for (name, content) in files {
            host.files.insert(name.into(), content.as_bytes().to_vec());
        }
        (read_with(&mut host, text), host)
    }

    fn error(text: &str) -> String {
        with(&[("/r/d/x.conf", "X")], text).0.replace("Syntax error on line 1 of /r/f: ", "")
    }

    #[test]
    fn files_folders_and_wildcards_in_order() {
        let files = [
            ("/r/d/b.conf", "B"),
            ("/r/d/a.conf", "A"),
            ("/r/d/.h", "H"),
            ("/r/d/s/z", "Z"),
            ("/r/e/b.conf", "E"),
        ];
        assert_eq!(with(&files, "include d\nL").0, "1 H \n1 A \n1 B \n1 Z \n2 L \n");
        assert_eq!(with(&files, "Include /r/./d/../d/*.conf").0, "1 A \n1 B \n");
        assert_eq!(
            with(&files, "<Files x>\nInclude ?/b.conf\nY\n</Files>").0,
            "1 <Files x>\n  1 B \n  1 E \n  3 Y \n"
        );
        assert_eq!(with(&files, "Include d/*").0, "1 A \n1 B \n1 Z \n");
        assert_eq!(with(&files, "Include d/s*/").0, "1 Z \n");
        assert_eq!(with(&files, "Define W [de]\nInclude ${W}/b.conf").0, "1 B \n1 E \n");
    }

    #[test]
    fn links_to_folders_do_not_match_within_a_path() {
        let mut host = Fake::default();
        host.files.insert("/r/lnk/a".into(), b"A".to_vec());
        host.links.insert("/r/lnk".into());
        assert_eq!(
            read_with(&mut host, "Include l*/a"),
            "Syntax error on line 1 of /r/f: Include/IncludeOptional: No matches for the wildcard 'l*' in '/r', failing"
        );
        assert_eq!(read_with(&mut host, "Include l*"), "1 A \n");
        assert_eq!(read_with(&mut host, "Include lnk/a*"), "1 A \n");
    }

    #[test]
    fn what_is_not_there() {
        for (text, message) in [
            ("Include no", "Could not open configuration file /r/no: No such file or directory"),
            ("Include no*", "Include/IncludeOptional: No matches for the wildcard 'no*' in '/r', failing"),
            (
                "Include no/a*",
                "Include/IncludeOptional: Could not open directory /r/no: No such file or directory",
            ),
            ("IncludeOptional no\nIncludeOptional no*\nIncludeOptional no/a*\nIncludeOptional n*/a", ""),
            ("Include", "Include takes one argument, Name(s) of the config file(s)"),
            ("IncludeOptional a b", "IncludeOptional takes one argument, Name or pattern"),
        ] {
            assert_eq!(error(text), message, "{text}");
        }
        let long = "x".repeat(5000);
        assert_eq!(error(&format!("Include {long}")), format!("Invalid Include path {long}"));
    }

    #[test]
    fn no_regular_file() {
        let (tree, host) = with(&[], "Include /dev/zero");
        assert_eq!(
            tree,
            "Syntax error on line 1 of /r/f: Could not open configuration file /dev/zero: Bad file descriptor"
        );
        assert_eq!(
            host.warnings,
            ["core AH00554: Access to file /dev/zero denied by server: not a regular file"]
        );
    }

    #[test]
    fn errors_name_every_file_on_the_way() {
        let files = [("/r/a", "\nInclude b"), ("/r/b", "<Files x>\n"), ("/r/c", "</Files>")];
        assert_eq!(
            with(&files, "A\nB\nInclude a").0,
            "Syntax error on line 3 of /r/f: Syntax error on line 2 of /r/a: Syntax error on line 1 of /r/b: \
             /r/b:1: <Files> was not closed."
        );
        // A section can't be closed by another file.
        assert_eq!(
            with(&files, "<Files x>\nInclude c").0,
            "Syntax error on line 2 of /r/f: Syntax error on line 1 of /r/c: </Files> without matching <Files> section"
        );
    }

    #[test]
    fn recursion() {
        let text = with(&[], "Include f").0;
        assert!(text.ends_with(": Exceeded maximum include depth of 128, There appears to be a recursion."));
        assert_eq!(text.matches("Syntax error on line 1 of /r/f: ").count(), 129);
    }

    #[test]
    fn the_main_file_may_be_a_folder() {
        let mut host = Fake::default();
        host.files.insert("/r/d/b".into(), b"Include a*".to_vec());
        host.files.insert("/r/d/c".into(), b"C".to_vec());
        host.files.insert("/r/a1".into(), b"A".to_vec());
        let mut reader = Reader::new([]);
        let nodes = reader.read_file(&mut host, Path::new("/r/d")).unwrap();
        assert_eq!(nodes.iter().map(|n| &*n.name).collect::<Vec<_>>(), ["A", "C"]);
        let log: Vec<String> = reader.includes().iter().map(ToString::to_string).collect();
        assert_eq!(log, ["  (*) /r/d/b", "    (1) /r/a1", "  (1) /r/d/c"]);
    }
}
