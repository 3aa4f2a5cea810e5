//! A directive is one row: its name, argument form, where it may stand, what it sets, one line of help.
//!
//! Answers to `include/http_config.h` (`command_rec`, `OR_*`) and `invoke_cmd` of `server/config.c`. The parser, the
//! scope errors, `httpd -L` and the reference page are all made from these rows.

use std::collections::HashSet;
use std::sync::Arc;

use httpd_conf::{Node, Origin, next_word};

use super::Runtime;
use super::server::{Server, Setup};
use crate::hooks::Hooks;
use crate::log::{self, Level};
use crate::module::{Conf, ConfVec, Slot};

/// Where a directive may stand, and which `AllowOverride` class lets it into `.htaccess`: Apache's bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Allowed(pub u16);

impl Allowed {
    /// `<Limit>`-class (Order, Allow, Deny).
    pub const LIMIT: Allowed = Allowed(1);
    /// Options class.
    pub const OPTIONS: Allowed = Allowed(2);
    /// FileInfo class.
    pub const FILEINFO: Allowed = Allowed(4);
    /// AuthConfig class.
    pub const AUTHCFG: Allowed = Allowed(8);
    /// Indexes class.
    pub const INDEXES: Allowed = Allowed(16);
    /// Nothing said (yet).
    pub const UNSET: Allowed = Allowed(32);
    /// In configuration files, inside of `<Directory>` and `<Location>`.
    pub const ACCESS_CONF: Allowed = Allowed(64);
    /// In configuration files, outside of `<Directory>` and `<Location>`.
    pub const RSRC_CONF: Allowed = Allowed(128);
    /// Executed while the file is read.
    pub const EXEC_ON_READ: Allowed = Allowed(256);
    /// A directive that the override doesn't allow is only warned about (`Nonfatal=Override`).
    pub const NONFATAL_OVERRIDE: Allowed = Allowed(512);
    /// An unknown directive is only warned about (`Nonfatal=Unknown`).
    pub const NONFATAL_UNKNOWN: Allowed = Allowed(1024);
    /// No class.
    pub const NONE: Allowed = Allowed(0);
    /// Every override class.
    pub const ALL: Allowed = Allowed(31);

    /// Both sets.
    pub const fn or(self, other: Allowed) -> Allowed {
        Allowed(self.0 | other.0)
    }
    /// `self` without `other`.
    pub const fn without(self, other: Allowed) -> Allowed {
        Allowed(self.0 & !other.0)
    }
    /// True when one of the bits of `other` is set.
    pub const fn any(self, other: Allowed) -> bool {
        self.0 & other.0 != 0
    }
    /// `RSRC_CONF|ACCESS_CONF`.
    pub const CONF: Allowed = Allowed(64 | 128);
}

/// What a setter answers.
pub type Done = Result<(), CmdError>;

/// Why a directive can't be taken: Apache's text, and where, when that is not the directive itself.
#[derive(Debug, Clone)]
pub struct CmdError {
    /// The text below "Syntax error on line …".
    pub message: String,
    /// The directive in error inside of a section.
    pub origin: Option<Origin>,
    /// The message stands alone, without a line that says where: Apache ends at once there.
    pub bare: bool,
}

impl CmdError {
    /// An error that is printed as it is.
    pub fn bare(message: String) -> CmdError {
        CmdError { message, origin: None, bare: true }
    }
}

impl From<String> for CmdError {
    fn from(message: String) -> Self {
        CmdError { message, origin: None, bare: false }
    }
}
impl From<&str> for CmdError {
    fn from(message: &str) -> Self {
        CmdError { message: message.to_owned(), origin: None, bare: false }
    }
}

/// How the arguments of a directive are cut into words, and who takes them.
#[derive(Clone, Copy)]
pub enum Args {
    /// The rest of the line as it stands.
    Raw(fn(&mut Cmd, &str) -> Done),
    /// None.
    No(fn(&mut Cmd) -> Done),
    /// One.
    Take1(fn(&mut Cmd, &str) -> Done),
    /// Two.
    Take2(fn(&mut Cmd, &str, &str) -> Done),
    /// One or two.
    Take12(fn(&mut Cmd, &str, Option<&str>) -> Done),
    /// Three.
    Take3(fn(&mut Cmd, &str, &str, &str) -> Done),
    /// Two or three.
    Take23(fn(&mut Cmd, &str, &str, Option<&str>) -> Done),
    /// One, two or three.
    Take123(fn(&mut Cmd, &str, Option<&str>, Option<&str>) -> Done),
    /// One or three.
    Take13(fn(&mut Cmd, &str, Option<&str>, Option<&str>) -> Done),
    /// The setter is called once for each word.
    Iterate(fn(&mut Cmd, &str) -> Done),
    /// The setter is called with the first word and each of the others.
    Iterate2(fn(&mut Cmd, &str, &str) -> Done),
    /// All words at once.
    Argv(fn(&mut Cmd, &[String]) -> Done),
    /// On or Off.
    Flag(fn(&mut Cmd, bool) -> Done),
    /// Executed by the reader, before the tree is walked (`Include`, `<IfModule>` …).
    OnRead,
    /// Executed by the server while the file is read (`LoadModule`, `ServerRoot` …); one or more words.
    OnReadRaw(fn(&mut Setup, &str, &Origin) -> Result<(), String>),
}

/// One row of a module's table.
pub struct Directive {
    /// The name; sections start with `<`.
    pub name: &'static str,
    /// The argument form with its setter.
    pub args: Args,
    /// Where it may stand.
    pub allowed: Allowed,
    /// The help text that `httpd -L` prints and errors about the argument count end with. Empty: none.
    pub help: &'static str,
}

/// Where a directive can't stand: `ap_check_cmd_context`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Forbidden(pub u8);

impl Forbidden {
    /// In `<VirtualHost>`.
    pub const VIRTUALHOST: Forbidden = Forbidden(1);
    /// In `<Limit>`.
    pub const LIMIT: Forbidden = Forbidden(2);
    /// In `<Directory>`.
    pub const DIRECTORY: Forbidden = Forbidden(4);
    /// In `<Location>`.
    pub const LOCATION: Forbidden = Forbidden(8);
    /// In `<Files>`, `<If>`.
    pub const FILES: Forbidden = Forbidden(16);
    /// In `.htaccess`.
    pub const HTACCESS: Forbidden = Forbidden(32);
    /// In `<Proxy>`.
    pub const PROXY: Forbidden = Forbidden(64);
    /// `NOT_IN_DIR_LOC_FILE`.
    pub const DIR_LOC_FILE: Forbidden = Forbidden(4 | 8 | 16 | 64);
    /// `NOT_IN_DIR_CONTEXT`.
    pub const DIR_CONTEXT: Forbidden = Forbidden(2 | 4 | 8 | 16 | 64);
    /// `GLOBAL_ONLY`.
    pub const GLOBAL_ONLY: Forbidden = Forbidden(1 | 2 | 4 | 8 | 16 | 64);

    const fn any(self, other: Forbidden) -> bool {
        self.0 & other.0 != 0
    }
}

/// What is being configured: the whole server at its start, or one directory by its `.htaccess`.
pub enum Scope<'a> {
    /// Reading the configuration files.
    Startup(&'a mut Setup),
    /// Reading a `.htaccess` file while serving.
    Htaccess(&'a Arc<Runtime>),
}

/// The enclosing sections, innermost first.
#[derive(Clone, Copy)]
pub struct Parents<'a> {
    node: &'a Node,
    up: Option<&'a Parents<'a>>,
}

impl<'a> Parents<'a> {
    /// `node` inside of `up`.
    pub fn below(node: &'a Node, up: Option<&'a Parents<'a>>) -> Parents<'a> {
        Parents { node, up }
    }
    /// The section itself.
    pub fn innermost(&self) -> &'a Node {
        self.node
    }
    fn find(&self, names: &[&str]) -> Option<&'a str> {
        let mut at = Some(self);
        while let Some(parent) = at {
            if names.iter().any(|n| parent.node.name.eq_ignore_ascii_case(n)) {
                return Some(&parent.node.name);
            }
            at = parent.up;
        }
        None
    }
}

/// What a setter works on: Apache's `cmd_parms`.
pub struct Cmd<'a> {
    /// The whole server, or the directory being served.
    pub scope: Scope<'a>,
    /// The server being configured: its place in [`Setup::servers`] (0 is the main server).
    pub server: usize,
    /// The per-directory settings being filled.
    pub dir: &'a mut ConfVec,
    /// The directory, URL or file pattern of the enclosing section; `None` outside of one.
    pub path: Option<&'a str>,
    /// The directive.
    pub node: &'a Node,
    /// The directive's name as its row has it.
    pub name: &'static str,
    /// The sections around it.
    pub parents: Option<&'a Parents<'a>>,
    /// What may stand here.
    pub overrides: Allowed,
    /// Which `Options` may be set here (`AllowOverride Options=…`).
    pub override_opts: u16,
    /// The directives that `AllowOverrideList` lets in, in lower case.
    pub override_list: Option<&'a HashSet<String>>,
    /// The methods of the enclosing `<Limit>` (a bit each); `None` outside of one.
    pub limited: Option<u64>,
}

impl<'a> Cmd<'a> {
    /// The module's settings for this directory, to be changed.
    pub fn dir<T: Conf>(&mut self, slot: &Slot<T>) -> &mut T {
        self.dir.get_mut(slot)
    }

    /// The whole server being set up. An error in `.htaccess`, where there is none.
    pub fn setup(&mut self) -> Result<&mut Setup, CmdError> {
        match &mut self.scope {
            Scope::Startup(setup) => Ok(setup),
            Scope::Htaccess(_) => Err(format!("{} cannot occur within htaccess files", self.name).into()),
        }
    }

    /// The virtual host (or main server) being set up.
    pub fn server(&mut self) -> Result<&mut Server, CmdError> {
        let index = self.server;
        let name = self.name;
        match &mut self.scope {
            Scope::Startup(setup) => {
                setup.servers.get_mut(index).ok_or_else(|| CmdError::from(format!("{name}: no such server")))
            }
            Scope::Htaccess(_) => Err(format!("{name} cannot occur within htaccess files").into()),
        }
    }

    /// The module's settings for this server, to be changed.
    pub fn server_conf<T: Conf>(&mut self, slot: &Slot<T>) -> Result<&mut T, CmdError> {
        Ok(self.server()?.conf.get_mut(slot))
    }

    /// The hooks and providers of the modules loaded so far.
    pub fn hooks(&self) -> &Hooks {
        match &self.scope {
            Scope::Startup(setup) => &setup.hooks,
            Scope::Htaccess(runtime) => &runtime.hooks,
        }
    }

    /// True when a module of this file name is active, e.g. `mod_mime.c`.
    pub fn has_module(&self, file: &str) -> bool {
        match &self.scope {
            Scope::Startup(setup) => setup.has_module(file),
            Scope::Htaccess(runtime) => runtime.has_module(file),
        }
    }

    /// Warns about a directive. A virtual host's warnings are lost while the files are read, as in Apache: its log is not
    /// open yet.
    pub fn warn(&self, module: &str, ah: &str, text: &str) {
        if self.server == 0 || self.in_htaccess() {
            crate::log::server_event(crate::log::Level::Warn, module, ah, text);
        }
    }

    /// True in a `.htaccess` file.
    pub fn in_htaccess(&self) -> bool {
        matches!(self.scope, Scope::Htaccess(_))
    }

    /// `path` below ServerRoot unless it is absolute: `ap_server_root_relative`.
    pub fn server_root_relative(&self, path: &str) -> String {
        match &self.scope {
            Scope::Startup(setup) => setup.server_root_relative(path),
            Scope::Htaccess(runtime) => super::server::below_root(&runtime.server_root, path),
        }
    }

    /// Logs what is odd about the directive. In a virtual host that has no `LogLevel` yet, Apache says nothing.
    pub fn log(&self, level: Level, ah: &str, text: &str) {
        let silent = match &self.scope {
            Scope::Startup(setup) => setup.servers.get(self.server).is_some_and(|server| {
                server.is_virtual()
                    && !server.conf.get(&crate::modules::core::SERVER).log.enabled_if_set("core", level)
            }),
            Scope::Htaccess(_) => false,
        };
        if !silent {
            log::server_event(level, "core", ah, text);
        }
    }

    /// The name as errors print it: a section gets its `>` back.
    fn shown_name(&self) -> String {
        if self.name.starts_with('<') { format!("{}>", self.name) } else { self.name.to_owned() }
    }

    /// An error where the directive stands in one of the `forbidden` places: `ap_check_cmd_context`.
    pub fn check_context(&self, forbidden: Forbidden) -> Done {
        let name = self.shown_name();
        if forbidden.any(Forbidden::VIRTUALHOST) && self.server != 0 {
            return Err(format!("{name} cannot occur within <VirtualHost> section").into());
        }
        if forbidden.any(Forbidden::DIR_CONTEXT) && self.limited.is_some() {
            return Err(format!("{name} cannot occur within <Limit> or <LimitExcept> section").into());
        }
        if forbidden.any(Forbidden::HTACCESS) && self.in_htaccess() {
            return Err(format!("{name} cannot occur within htaccess files").into());
        }
        if forbidden.0 & Forbidden::DIR_LOC_FILE.0 == Forbidden::DIR_LOC_FILE.0 && self.path.is_some() {
            return Err(format!("{name} cannot occur within directory context").into());
        }
        let kinds: [(Forbidden, &[&str]); 4] = [
            (Forbidden::DIRECTORY, &["Directory", "DirectoryMatch"]),
            (Forbidden::LOCATION, &["Location", "LocationMatch"]),
            (Forbidden::FILES, &["Files", "FilesMatch", "If", "ElseIf", "Else"]),
            (Forbidden::PROXY, &["Proxy", "ProxyMatch"]),
        ];
        for (kind, names) in kinds {
            if forbidden.any(kind)
                && let Some(found) = self.parents.and_then(|p| p.find(names))
            {
                return Err(format!("{name} cannot occur within <{found}> section").into());
            }
        }
        Ok(())
    }

    /// True when one of the enclosing sections has one of these names.
    pub fn inside(&self, names: &[&str]) -> bool {
        self.parents.is_some_and(|p| p.find(names).is_some())
    }

    /// Executes one directive: checks where it stands, cuts its words, calls its setter.
    pub fn invoke(&mut self, row: &'static Directive) -> Done {
        self.name = row.name;
        let listed = self
            .override_list
            .is_some_and(|l| l.contains(&row.name.trim_start_matches('<').to_ascii_lowercase()));
        if !self.overrides.any(row.allowed) && !listed {
            if self.overrides.any(Allowed::NONFATAL_OVERRIDE) {
                let text = format!("{} in .htaccess forbidden by AllowOverride", row.name);
                log::server_event(Level::Warn, "core", "AH02295", &text);
                return Ok(());
            }
            if let Some(parent) = self.parents {
                return Err(format!("{} not allowed in <{}> context", row.name, parent.node.name).into());
            }
            return Err(format!("{} not allowed here", row.name).into());
        }
        let args: &str = &self.node.args;
        apply(self, row, args)
    }
}

fn apply(cmd: &mut Cmd, row: &'static Directive, args: &str) -> Done {
    let mut rest = args;
    let takes = |what: &str| -> Done {
        let help = if row.help.is_empty() { String::new() } else { format!(", {}", row.help) };
        Err(format!("{} {what}{help}", row.name).into())
    };
    match row.args {
        Args::OnRead | Args::OnReadRaw(_) => Ok(()),
        Args::Raw(set) => set(cmd, args),
        Args::Argv(set) => {
            let mut words = Vec::new();
            while !rest.is_empty() {
                let word = next_word(&mut rest);
                if word.is_empty() && rest.is_empty() {
                    break;
                }
                words.push(word);
            }
            set(cmd, &words)
        }
        Args::No(set) => {
            if !args.is_empty() {
                return Err(format!("{} takes no arguments", row.name).into());
            }
            set(cmd)
        }
        Args::Take1(set) => {
            let one = next_word(&mut rest);
            if one.is_empty() || !rest.is_empty() {
                return takes("takes one argument");
            }
            set(cmd, &one)
        }
        Args::Take2(set) => {
            let (one, two) = (next_word(&mut rest), next_word(&mut rest));
            if one.is_empty() || two.is_empty() || !rest.is_empty() {
                return takes("takes two arguments");
            }
            set(cmd, &one, &two)
        }
        Args::Take12(set) => {
            let (one, two) = (next_word(&mut rest), next_word(&mut rest));
            if one.is_empty() || !rest.is_empty() {
                return takes("takes 1-2 arguments");
            }
            set(cmd, &one, given(&two))
        }
        Args::Take3(set) => {
            let (one, two, three) = (next_word(&mut rest), next_word(&mut rest), next_word(&mut rest));
            if one.is_empty() || two.is_empty() || three.is_empty() || !rest.is_empty() {
                return takes("takes three arguments");
            }
            set(cmd, &one, &two, &three)
        }
        Args::Take23(set) => {
            let (one, two) = (next_word(&mut rest), next_word(&mut rest));
            let three = next_if_any(&mut rest);
            if one.is_empty() || two.is_empty() || !rest.is_empty() {
                return takes("takes two or three arguments");
            }
            set(cmd, &one, &two, three.as_deref())
        }
        Args::Take123(set) => {
            let one = next_word(&mut rest);
            let (two, three) = (next_if_any(&mut rest), next_if_any(&mut rest));
            if one.is_empty() || !rest.is_empty() {
                return takes("takes one, two or three arguments");
            }
            set(cmd, &one, two.as_deref(), three.as_deref())
        }
        Args::Take13(set) => {
            let one = next_word(&mut rest);
            let (two, three) = (next_if_any(&mut rest), next_if_any(&mut rest));
            let lone_second = two.as_deref().is_some_and(|t| !t.is_empty()) && three.is_none();
            if one.is_empty() || lone_second || !rest.is_empty() {
                return takes("takes one or three arguments");
            }
            set(cmd, &one, two.as_deref(), three.as_deref())
        }
        Args::Iterate(set) => {
            let mut word = next_word(&mut rest);
            if word.is_empty() {
                return takes("requires at least one argument");
            }
            while !word.is_empty() {
                set(cmd, &word)?;
                word = next_word(&mut rest);
            }
            Ok(())
        }
        Args::Iterate2(set) => {
            let one = next_word(&mut rest);
            if one.is_empty() || rest.is_empty() {
                return takes("requires at least two arguments");
            }
            loop {
                let two = next_word(&mut rest);
                if two.is_empty() {
                    return Ok(());
                }
                set(cmd, &one, &two)?;
            }
        }
        Args::Flag(set) => {
            let word = next_word(&mut rest);
            if word.eq_ignore_ascii_case("on") {
                set(cmd, true)
            } else if word.eq_ignore_ascii_case("off") {
                set(cmd, false)
            } else {
                Err(format!("{} must be On or Off", row.name).into())
            }
        }
    }
}

fn given(word: &str) -> Option<&str> {
    (!word.is_empty()).then_some(word)
}

fn next_if_any(rest: &mut &str) -> Option<String> {
    (!rest.is_empty()).then(|| next_word(rest))
}
