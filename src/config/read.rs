//! Reads the configuration: text to tree (crate `httpd-conf`), then tree to settings.
//!
//! Answers to `ap_read_config`, `ap_process_config_tree` and `ap_parse_htaccess` of `server/config.c`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use httpd_conf::{Context, DirectiveFacts, Host, Kind, Node, Reader, Warning, from_bytes};

use super::Runtime;
use super::directive::{Allowed, Args, Cmd, CmdError, Directive, Done, Parents, Scope};
use super::htaccess::Override;
use super::server::{ActiveModule, Server, Setup};
use crate::cli::Options;
use crate::log::{self, Level};
use crate::module::{ConfVec, Module};
use crate::modules;

/// The directives of the active modules, by lower-case name. Several modules may share a name.
#[derive(Default, Clone)]
pub struct Commands {
    rows: HashMap<String, Vec<(&'static Module, &'static Directive)>>,
}

impl Commands {
    /// Adds the rows of a module that was loaded.
    pub fn add(&mut self, module: &'static Module) {
        for row in module.directives {
            self.rows.entry(row.name.to_ascii_lowercase()).or_default().push((module, row));
        }
    }

    /// The rows called `name`; a section's name has its `<`.
    pub fn find(&self, name: &str) -> Option<&[(&'static Module, &'static Directive)]> {
        self.rows.get(&name.to_ascii_lowercase()).map(Vec::as_slice)
    }
}

/// Why the configuration can't be used: what goes to standard error.
#[derive(Debug)]
pub struct Failure(pub String);

/// What a reading leaves, besides the settings, for the dumps.
#[derive(Default)]
pub struct Read {
    /// The tree of the main file, for `DUMP_CONFIG`.
    pub tree: Vec<Node>,
    /// The reader, for `DUMP_INCLUDES` and `.htaccess` files.
    pub reader: Reader,
}

/// Reads everything that the command line names into a tree; what acts on read (`LoadModule`, `Include` …) has acted
/// then: `ap_read_config`. The third value is the error that ended it.
pub fn build(options: &Arc<Options>, generation: u32) -> (Setup, Read, Result<(), Failure>) {
    let mut setup = Setup {
        server_root: PathBuf::from(&options.server_root),
        runtime_dir: None,
        modules: Vec::new(),
        commands: Commands::default(),
        hooks: Default::default(),
        servers: vec![Server::new(0)],
        listeners: Vec::new(),
        pid_file: None,
        scoreboard_file: None,
        mpm: Default::default(),
        unixd: Default::default(),
        defines: Default::default(),
        mutexes: Default::default(),
        methods: Default::default(),
        generation,
        options: options.clone(),
    };
    for module in modules::statics() {
        setup.activate(module, false);
    }
    let mut reader = Reader::new(options.defines.iter().cloned());
    let mut tree = Vec::new();
    let result = read_tree(&mut setup, &mut reader, &mut tree, options)
        .and_then(|()| crate::engine::limits::kind(&setup).map(drop).map_err(Failure));
    setup.defines = reader.defines().map(|(n, v)| (n.to_owned(), v.map(str::to_owned))).collect();
    (setup, Read { tree, reader }, result)
}

fn read_tree(
    setup: &mut Setup,
    reader: &mut Reader,
    tree: &mut Vec<Node>,
    options: &Arc<Options>,
) -> Result<(), Failure> {
    let program = &options.program;
    let first_step = |error: httpd_conf::Error| {
        Failure(format!("{program}: {}", log::format::escape(error.to_string().as_bytes())))
    };
    if !options.pre_config.is_empty() {
        tree.extend(reader.read_lines(&mut Startup { setup }, &options.pre_config).map_err(first_step)?);
    }
    match &options.embedded_config {
        Some(text) => {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            tree.extend(reader.read_lines(&mut Startup { setup }, &lines).map_err(first_step)?);
        }
        None => {
            let file = setup.server_root_relative(&options.config_file);
            // With -C or -c, the default file need not be there.
            let needless = !(options.pre_config.is_empty() && options.post_config.is_empty())
                && file == setup.server_root_relative(options.layout.config_file)
                && !Path::new(&file).exists();
            if !needless {
                tree.extend(reader.read_file(&mut Startup { setup }, Path::new(&file)).map_err(first_step)?);
            }
        }
    }
    if !options.post_config.is_empty() {
        tree.extend(reader.read_lines(&mut Startup { setup }, &options.post_config).map_err(first_step)?);
    }
    Ok(())
}

/// Executes the tree: `ap_process_config_tree`.
pub fn walk(setup: &mut Setup, tree: &[Node]) -> Result<(), Failure> {
    walk_top(setup, tree).map_err(|error| {
        let message = log::format::escape(error.message.as_bytes());
        if error.bare {
            return Failure(message);
        }
        let origin = error.origin.map_or_else(String::new, |o| format!("Syntax error on {o}:\n"));
        Failure(format!("AH00526: {origin}{message}"))
    })
}

/// Executes the whole tree for the main server.
fn walk_top(setup: &mut Setup, tree: &[Node]) -> Result<(), CmdError> {
    let Some(first) = tree.first() else { return Ok(()) };
    // What stands outside of every section is the main server's own; nothing else may touch it meanwhile.
    let mut dir = std::mem::take(&mut setup.servers[0].defaults);
    let walked = {
        let mut cmd = Cmd {
            scope: Scope::Startup(setup),
            server: 0,
            dir: &mut dir,
            path: None,
            node: first,
            name: "",
            parents: None,
            overrides: Allowed::RSRC_CONF.or(Allowed::ALL.without(Allowed::AUTHCFG.or(Allowed::LIMIT))),
            override_opts: crate::modules::core::options::ALL,
            override_list: None,
            limited: None,
        };
        cmd.walk(tree)
    };
    setup.servers[0].defaults = dir;
    walked
}

impl Cmd<'_> {
    /// Executes directives one after the other, here: `ap_walk_config`.
    pub fn walk(&mut self, nodes: &[Node]) -> Done {
        for node in nodes {
            self.execute(node)?;
        }
        Ok(())
    }

    /// Executes the directives of a section with settings of its own: what `<Directory>` and the like do.
    pub fn walk_section(&mut self, inside: Inside<'_>) -> Result<ConfVec, CmdError> {
        let mut dir = ConfVec::new();
        let parents = Parents::below(self.node, self.parents);
        let node = self.node;
        let mut inner = Cmd {
            scope: match &mut self.scope {
                Scope::Startup(setup) => Scope::Startup(setup),
                Scope::Htaccess(runtime) => Scope::Htaccess(runtime),
            },
            server: inside.server.unwrap_or(self.server),
            dir: &mut dir,
            path: inside.path,
            node,
            name: "",
            parents: Some(&parents),
            overrides: inside.overrides.unwrap_or(self.overrides),
            override_opts: self.override_opts,
            override_list: self.override_list,
            limited: self.limited,
        };
        inner.walk(node.children.as_deref().unwrap_or(&[]))?;
        Ok(dir)
    }

    /// Executes the directives of a section that has no settings of its own (`<Limit>`): they go where this one stands.
    pub fn walk_here(&mut self, limited: Option<u64>, overrides: Allowed) -> Done {
        let parents = Parents::below(self.node, self.parents);
        let node = self.node;
        let mut inner = Cmd {
            scope: match &mut self.scope {
                Scope::Startup(setup) => Scope::Startup(setup),
                Scope::Htaccess(runtime) => Scope::Htaccess(runtime),
            },
            server: self.server,
            dir: self.dir,
            path: self.path,
            node,
            name: "",
            parents: Some(&parents),
            overrides,
            override_opts: self.override_opts,
            override_list: self.override_list,
            limited,
        };
        inner.walk(node.children.as_deref().unwrap_or(&[]))
    }

    fn execute(&mut self, node: &Node) -> Done {
        let here = |mut error: CmdError| {
            error.origin.get_or_insert_with(|| node.origin.clone());
            error
        };
        let name = node.directive();
        let found = match &self.scope {
            Scope::Startup(setup) => setup.commands.find(&name).map(<[_]>::to_vec),
            Scope::Htaccess(runtime) => runtime.commands.find(&name).map(<[_]>::to_vec),
        };
        let Some(rows) = found else {
            if self.overrides.any(Allowed::NONFATAL_UNKNOWN) {
                let text = format!(
                    "Unknown directive {} perhaps misspelled or defined by a module not included in the server configuration",
                    name.to_ascii_lowercase()
                );
                log::server_event(Level::Warn, "core", "AH02296", &text);
                return Ok(());
            }
            return Err(here(CmdError::from(format!(
                "Invalid command '{name}', perhaps misspelled or defined by a module not included in the server configuration"
            ))));
        };
        for (_, row) in rows {
            if row.allowed.any(Allowed::EXEC_ON_READ) {
                continue;
            }
            let mut one = Cmd {
                scope: match &mut self.scope {
                    Scope::Startup(setup) => Scope::Startup(setup),
                    Scope::Htaccess(runtime) => Scope::Htaccess(runtime),
                },
                server: self.server,
                dir: self.dir,
                path: self.path,
                node,
                name: row.name,
                parents: self.parents,
                overrides: self.overrides,
                override_opts: self.override_opts,
                override_list: self.override_list,
                limited: self.limited,
            };
            one.invoke(row).map_err(here)?;
        }
        Ok(())
    }
}

/// Where the directives of a section stand.
#[derive(Default)]
pub struct Inside<'p> {
    /// The section's path or pattern.
    pub path: Option<&'p str>,
    /// What may stand there; `None`: as around it.
    pub overrides: Option<Allowed>,
    /// The virtual host; `None`: as around it.
    pub server: Option<usize>,
}

impl Setup {
    /// Makes a module's directives and hooks known.
    pub fn activate(&mut self, module: &'static Module, shared: bool) {
        self.modules.push(ActiveModule { module, shared });
        self.commands.add(module);
        self.hooks.register(module);
    }
}

/// Answers the reader's questions while the server's own files are read.
struct Startup<'s> {
    setup: &'s mut Setup,
}

fn file_kind(path: &Path) -> Option<Kind> {
    let meta = std::fs::metadata(path).ok()?;
    Some(if meta.is_file() {
        Kind::File
    } else if meta.is_dir() {
        Kind::Dir
    } else {
        Kind::Other
    })
}

fn environment(name: &str) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    std::env::var_os(name).map(|value| from_bytes(value.as_bytes()).into_owned())
}

fn facts(rows: Option<&[(&'static Module, &'static Directive)]>) -> Option<DirectiveFacts> {
    let (_, row) = rows?.first()?;
    Some(DirectiveFacts {
        name: row.name,
        on_read: row.allowed.any(Allowed::EXEC_ON_READ),
        raw_body: false,
        help: row.help,
    })
}

fn warned(warning: Warning) {
    let level = match warning.level {
        httpd_conf::Level::Error => Level::Error,
        httpd_conf::Level::Warn => Level::Warn,
    };
    log::server_event(level, warning.module, warning.id, &warning.message);
}

fn regex_match(pattern: &str, subject: &str) -> Option<bool> {
    let regex = crate::regex::Regex::new(pattern, crate::regex::default_flags()).ok()?;
    Some(regex.is_match(subject.as_bytes()))
}

impl Host for Startup<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
    fn kind(&self, path: &Path) -> Option<Kind> {
        file_kind(path)
    }
    fn is_link(&self, path: &Path) -> bool {
        path.is_symlink()
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(dir)?.map(|entry| entry.map(|e| e.file_name())).collect()
    }
    fn env(&self, name: &str) -> Option<String> {
        environment(name)
    }
    fn server_root(&self) -> &Path {
        &self.setup.server_root
    }
    fn has_module(&self, name: &str) -> bool {
        self.setup.has_module(name)
    }
    fn directive(&self, name: &str) -> Option<DirectiveFacts> {
        facts(self.setup.commands.find(name))
    }
    fn on_read(&mut self, node: &Node, _parents: &[&str]) -> Result<(), String> {
        let rows = self.setup.commands.find(&node.directive()).map(<[_]>::to_vec).unwrap_or_default();
        for (_, row) in rows {
            if let Args::OnReadRaw(set) = row.args {
                set(self.setup, &node.args, &node.origin)?;
            }
        }
        Ok(())
    }
    fn check_context(&self, _name: &str, _parents: &[&str]) -> Result<Context, String> {
        Ok(Context::Allowed)
    }
    fn warn(&mut self, warning: Warning) {
        warned(warning);
    }
    fn regex_match(&self, pattern: &str, subject: &str) -> Option<bool> {
        regex_match(pattern, subject)
    }
}

/// Answers the reader's questions for a `.htaccess` file.
struct InHtaccess<'r> {
    runtime: &'r Arc<Runtime>,
    allowed: &'r Override,
}

impl InHtaccess<'_> {
    /// What becomes of a directive that may not stand in the file.
    fn forbidden(&self, name: &str) -> Result<Context, String> {
        if self.allowed.classes.any(Allowed::NONFATAL_OVERRIDE) {
            let text = format!("{name} in .htaccess forbidden by AllowOverride");
            log::server_event(Level::Warn, "core", "AH02295", &text);
            return Ok(Context::Ignored);
        }
        Err(format!("{name} not allowed here"))
    }
}

impl Host for InHtaccess<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
    fn kind(&self, path: &Path) -> Option<Kind> {
        file_kind(path)
    }
    fn is_link(&self, path: &Path) -> bool {
        path.is_symlink()
    }
    fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
        Ok(Vec::new())
    }
    fn env(&self, name: &str) -> Option<String> {
        environment(name)
    }
    fn server_root(&self) -> &Path {
        &self.runtime.server_root
    }
    fn has_module(&self, name: &str) -> bool {
        self.runtime.has_module(name)
    }
    fn directive(&self, name: &str) -> Option<DirectiveFacts> {
        facts(self.runtime.commands.find(name))
    }
    fn on_read(&mut self, node: &Node, _: &[&str]) -> Result<(), String> {
        self.forbidden(&node.directive()).map(drop)
    }
    fn check_context(&self, name: &str, _parents: &[&str]) -> Result<Context, String> {
        let allowed = self
            .runtime
            .commands
            .find(name)
            .and_then(|rows| rows.first())
            .is_some_and(|(_, row)| self.allowed.classes.any(row.allowed));
        let plain = name.trim_start_matches('<').to_ascii_lowercase();
        if allowed || self.allowed.list.as_ref().is_some_and(|l| l.contains(&plain)) {
            return Ok(Context::Allowed);
        }
        self.forbidden(name)
    }
    fn warn(&mut self, warning: Warning) {
        warned(warning);
    }
    fn regex_match(&self, pattern: &str, subject: &str) -> Option<bool> {
        regex_match(pattern, subject)
    }
}

/// Reads a `.htaccess` file into `conf`. The error is the text of the log line.
pub fn htaccess(
    runtime: &Arc<Runtime>,
    server: usize,
    dir: &str,
    file: &Path,
    allowed: &Override,
    conf: &mut ConfVec,
) -> Result<(), String> {
    let name = file.display().to_string();
    let content = std::fs::read(file).map_err(|err| format!("{name}: {}", log::system_error(&err)))?;
    let mut host = InHtaccess { runtime, allowed };
    let tree = runtime
        .reader
        .read_htaccess(&mut host, &name, &content)
        .map_err(|error| format!("{name}: {}", error.message))?;
    let Some(first) = tree.first() else { return Ok(()) };
    let dir = if dir.ends_with('/') { dir.to_owned() } else { format!("{dir}/") };
    let mut cmd = Cmd {
        scope: Scope::Htaccess(runtime),
        server,
        dir: conf,
        path: Some(&dir),
        node: first,
        name: "",
        parents: None,
        overrides: allowed.classes,
        override_opts: allowed.options,
        override_list: allowed.list.as_deref(),
        limited: None,
    };
    cmd.walk(&tree).map_err(|error| format!("{name}: {}", error.message))
}
