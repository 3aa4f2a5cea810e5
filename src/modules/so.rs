//! mod_so: `LoadModule` makes a built-in module active.
//!
//! Answers to `modules/core/mod_so.c`. The file named need not exist: the module is in this program.

use httpd_conf::{Origin, next_word};

use crate::config::directive::{Allowed, Args, Directive};
use crate::config::server::Setup;
use crate::hooks::Hooks;
use crate::log::{self, Level};
use crate::module::Module;

/// The module.
pub static MODULE: Module =
    Module { name: "so_module", file: "mod_so.c", directives: ROWS, hooks: |_: &mut Hooks| {} };

const ALLOWED: Allowed = Allowed::RSRC_CONF.or(Allowed::EXEC_ON_READ);

static ROWS: &[Directive] = &[
    Directive {
        name: "LoadModule",
        args: Args::OnReadRaw(load_module),
        allowed: ALLOWED,
        help: "a module name and the name of a shared object file to load it from",
    },
    Directive {
        name: "LoadFile",
        args: Args::OnReadRaw(load_file),
        allowed: ALLOWED,
        help: "shared object file or library to load into the server at runtime",
    },
];

fn load_module(setup: &mut Setup, args: &str, _: &Origin) -> Result<(), String> {
    let mut rest = args;
    let (name, file) = (next_word(&mut rest), next_word(&mut rest));
    if name.is_empty() || file.is_empty() || !rest.is_empty() {
        return Err(
            "LoadModule takes two arguments, a module name and the name of a shared object file to load it from"
                .to_owned(),
        );
    }
    if let Some(active) = setup.modules.iter_mut().find(|m| m.module.name == name) {
        if active.shared {
            log::server_event(
                Level::Warn,
                "so",
                "AH01574",
                &format!("module {name} is already loaded, skipping"),
            );
            return Ok(());
        }
        if setup.options.layout.static_modules_are_fixed {
            return Err(format!("module {name} is built-in and can't be loaded"));
        }
        active.shared = true;
        return Ok(());
    }
    let path = setup.server_root_relative(&file);
    let Some(module) = super::find(&name) else {
        return Err(missing(&name, &file, &path));
    };
    setup.activate(module, true);
    if setup.generation == 0 {
        let text = format!("loaded module {name} from {path}");
        log::serverless_event(Level::Debug, "so", "AH01575", &text);
    }
    Ok(())
}

/// The error for a module that is not built in: what Apache says of a file that it can't open, or that has no such
/// module. A file that does have it is another program's module, which this server can't run.
fn missing(name: &str, file: &str, path: &str) -> String {
    let Ok(content) = std::fs::read(path) else { return cannot_open(file, path) };
    let symbol = name.as_bytes();
    if !symbol.is_empty() && content.windows(symbol.len()).any(|window| window == symbol) {
        return format!(
            "Can't locate API module structure `{name}' in file {path}: modules in shared objects are not supported by this server, and none of its own has that name"
        );
    }
    format!("Can't locate API module structure `{name}' in file {path}: {path}: undefined symbol: {name}")
}

/// What `dlopen` says. A name without a slash is looked for in the folders of the system last.
fn cannot_open(file: &str, path: &str) -> String {
    let looked_for = if file.contains('/') { path } else { file };
    format!(
        "Cannot load {file} into server: {looked_for}: cannot open shared object file: No such file or directory"
    )
}

/// A library that some module of Apache needs (libxml2, liblua). None is needed here, so that it only has to exist.
fn load_file(setup: &mut Setup, args: &str, _: &Origin) -> Result<(), String> {
    let mut rest = args;
    let mut file = next_word(&mut rest);
    if file.is_empty() {
        return Err("LoadFile requires at least one argument, shared object file or library to load into the server at runtime".to_owned());
    }
    while !file.is_empty() {
        let path = setup.server_root_relative(&file);
        if !std::path::Path::new(&path).is_file() && !is_library(&file) {
            return Err(cannot_open(&file, &path));
        }
        file = next_word(&mut rest);
    }
    Ok(())
}

/// True for a bare name that lies in one of the folders of the system's libraries.
fn is_library(name: &str) -> bool {
    if name.contains('/') {
        return false;
    }
    let mut folders: Vec<std::path::PathBuf> =
        ["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"].map(Into::into).into();
    for parent in ["/lib", "/usr/lib", "/usr/local/lib"] {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        folders.extend(entries.map(|e| e.path()).filter(|p| p.to_string_lossy().contains("-linux-")));
    }
    folders.iter().any(|folder| folder.join(name).is_file())
}
