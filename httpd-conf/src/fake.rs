//! A host in memory, for the tests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Context, DirectiveFacts, Host, Kind, Node, Reader, Warning};

/// Files, environment and modules as a test wants them; it keeps what was logged and what was run.
pub(crate) struct Fake {
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    pub(crate) links: BTreeSet<PathBuf>,
    pub(crate) env: HashMap<String, String>,
    pub(crate) root: PathBuf,
    pub(crate) modules: Vec<String>,
    pub(crate) warnings: Vec<String>,
    /// Directives that acted on read, with the sections around them.
    pub(crate) run: Vec<String>,
    /// What `check_context` answers.
    pub(crate) context: Result<Context, String>,
}

impl Default for Fake {
    fn default() -> Fake {
        Fake {
            files: BTreeMap::new(),
            links: BTreeSet::new(),
            env: HashMap::new(),
            root: "/r".into(),
            modules: vec!["mod_macro.c".into(), "mod_version.c".into()],
            warnings: Vec::new(),
            run: Vec::new(),
            context: Ok(Context::Allowed),
        }
    }
}

const ON_READ: [(&str, &str); 17] = [
    ("Define", "Define a variable."),
    ("UnDefine", "Undefine a variable."),
    ("Include", "Name(s) of the config file(s)"),
    ("IncludeOptional", "Name or pattern"),
    ("<IfDefine", ""),
    ("<IfModule", ""),
    ("<IfFile", ""),
    ("<IfDirective", ""),
    ("<IfSection", ""),
    ("LoadModule", "a module name"),
    ("<LuaHookFixups", ""),
    ("<IfVersion", "a comparison operator, a version (and a delimiter)"),
    ("<Macro", ""),
    ("Use", ""),
    ("UndefMacro", "Remove a macro definition."),
    ("MacroIgnoreEmptyArgs", ""),
    ("MacroIgnoreBadNesting", ""),
];
const PLAIN: [&str; 5] = ["ServerName", "<Directory", "<Files", "<VirtualHost", "Error"];

impl Host for Fake {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::from_raw_os_error(2))
    }

    fn kind(&self, path: &Path) -> Option<Kind> {
        if path.starts_with("/dev") {
            return Some(Kind::Other);
        }
        if self.files.contains_key(path) {
            return Some(Kind::File);
        }
        self.files.keys().any(|f| f.starts_with(path)).then_some(Kind::Dir)
    }

    fn is_link(&self, path: &Path) -> bool {
        self.links.contains(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let names: BTreeSet<OsString> = self
            .files
            .keys()
            .filter_map(|f| f.strip_prefix(dir).ok()?.components().next())
            .map(|c| c.as_os_str().to_os_string())
            .collect();
        if names.is_empty() {
            return Err(io::Error::from_raw_os_error(2));
        }
        Ok(names.into_iter().rev().collect())
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn server_root(&self) -> &Path {
        &self.root
    }

    fn has_module(&self, name: &str) -> bool {
        self.modules.iter().any(|m| m == name)
    }

    fn directive(&self, name: &str) -> Option<DirectiveFacts> {
        let fact =
            |name, on_read, help| DirectiveFacts { name, on_read, raw_body: name == "<LuaHookFixups", help };
        let on_read = ON_READ.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        if let Some((name, help)) = on_read {
            let module = match *name {
                "<Macro" | "Use" | "UndefMacro" | "MacroIgnoreEmptyArgs" | "MacroIgnoreBadNesting" => {
                    "mod_macro.c"
                }
                "<IfVersion" => "mod_version.c",
                _ => return Some(fact(name, true, help)),
            };
            return self.has_module(module).then(|| fact(name, true, help));
        }
        PLAIN.iter().find(|n| n.eq_ignore_ascii_case(name)).map(|name| fact(name, false, ""))
    }

    fn on_read(&mut self, node: &Node, parents: &[&str]) -> Result<(), String> {
        self.run.push(format!("{} in {parents:?}", show_one(node, 0).trim_end()));
        match &*node.args {
            "bad" => Err("Cannot load".to_string()),
            module => {
                self.modules.push(module.to_string());
                Ok(())
            }
        }
    }

    fn check_context(&self, _: &str, _: &[&str]) -> Result<Context, String> {
        self.context.clone()
    }

    fn warn(&mut self, warning: Warning) {
        self.warnings.push(format!("{} {}: {}", warning.module, warning.id, warning.message));
    }

    /// Enough of a regex for the tests: `^` and plain text.
    fn regex_match(&self, pattern: &str, subject: &str) -> Option<bool> {
        if pattern.contains('(') {
            return None;
        }
        Some(match pattern.strip_prefix('^') {
            Some(text) => subject.starts_with(text),
            None => subject.contains(pattern),
        })
    }
}

/// The tree as text: line, directive, arguments, indented by depth.
pub(crate) fn show(nodes: &[Node]) -> String {
    nodes.iter().map(|n| show_one(n, 0)).collect()
}

fn show_one(node: &Node, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let mut text = format!("{indent}{} {} {}\n", node.origin.line, node.directive(), node.raw_args());
    for child in node.children.iter().flatten() {
        text += &show_one(child, depth + 1);
    }
    text
}

/// Reads `text` as the file /r/f: the tree, or the error as Apache prints it.
pub(crate) fn read(text: &str) -> String {
    read_with(&mut Fake::default(), text)
}

pub(crate) fn read_with(host: &mut Fake, text: &str) -> String {
    host.files.insert("/r/f".into(), text.as_bytes().to_vec());
    match Reader::new(["Cli".to_string()]).read_file(host, Path::new("/r/f")) {
        Ok(nodes) => show(&nodes),
        Err(error) => error.to_string(),
    }
}
