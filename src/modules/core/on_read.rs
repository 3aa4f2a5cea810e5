//! Rows that act while the file is read. Most belong to the reader (crate `httpd-conf`) and stand here for their context,
//! their help and `httpd -L`; `ServerRoot` and `DefaultRuntimeDir` change the [`Setup`].

use httpd_conf::{Origin, next_word};

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::config::server::Setup;

const EXEC: Allowed = Allowed::EXEC_ON_READ;
const RSRC: Allowed = Allowed::RSRC_CONF.or(EXEC);
const ANYWHERE: Allowed = Allowed::ALL.or(Allowed::CONF).or(EXEC);

pub(super) const ROWS: &[Directive] = &[
    row(
        "<IfDefine",
        Args::OnRead,
        ANYWHERE,
        "Container for directives based on existence of command line defines",
    ),
    row(
        "<IfDirective",
        Args::OnRead,
        ANYWHERE,
        "Container for directives based on existence of named directive",
    ),
    row("<IfFile", Args::OnRead, ANYWHERE, "Container for directives based on existence of files on disk"),
    row(
        "<IfModule",
        Args::OnRead,
        ANYWHERE,
        "Container for directives based on existence of specified modules",
    ),
    row("<IfSection", Args::OnRead, ANYWHERE, "Container for directives based on existence of named section"),
    row(
        "DefaultRuntimeDir",
        Args::OnReadRaw(default_runtime_dir),
        RSRC,
        "Common directory for run-time files (shared memory, locks, etc.)",
    ),
    row(
        "Define",
        Args::OnRead,
        Allowed::CONF.or(EXEC),
        "Define a variable, optionally to a value.  Same as passing -D to the command line.",
    ),
    row("Error", Args::Raw(generate_error), Allowed::ALL, "Generate error message from within configuration"),
    row(
        "Include",
        Args::OnRead,
        Allowed::CONF.or(EXEC),
        "Name(s) of the config file(s) to be included; fails if the wildcard does not match at least one file",
    ),
    row(
        "IncludeOptional",
        Args::OnRead,
        Allowed::CONF.or(EXEC),
        "Name or pattern of the config file(s) to be included; ignored if the file does not exist or the pattern does not match any files",
    ),
    row(
        "ServerRoot",
        Args::OnReadRaw(server_root),
        RSRC,
        "Common directory of server-related files (logs, confs, etc.)",
    ),
    row(
        "UnDefine",
        Args::OnRead,
        Allowed::CONF.or(EXEC),
        "Undefine the existence of a variable. Undo a Define.",
    ),
];

const fn row(name: &'static str, args: Args, allowed: Allowed, help: &'static str) -> Directive {
    Directive { name, args, allowed, help }
}

/// The one word of a directive that takes one.
pub(crate) fn one_word(name: &str, args: &str, help: &str) -> Result<String, String> {
    let mut rest = args;
    let word = next_word(&mut rest);
    if word.is_empty() || !rest.is_empty() {
        return Err(format!("{name} takes one argument, {help}"));
    }
    Ok(word)
}

/// `path` below the folder that the process is in unless it is absolute: `apr_filepath_merge` without a root.
pub(super) fn below_current(path: &str) -> String {
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    crate::config::server::below_root(&here, path)
}

/// Fails with its own text.
fn generate_error(_: &mut Cmd, args: &str) -> Done {
    Err(httpd_conf::error_directive(args).into())
}

fn server_root(setup: &mut Setup, args: &str, _: &Origin) -> Result<(), String> {
    let word = one_word("ServerRoot", args, "Common directory of server-related files (logs, confs, etc.)")?;
    if !std::path::Path::new(&word).is_dir() {
        return Err("ServerRoot must be a valid directory".to_owned());
    }
    let absolute = below_current(&word);
    let root = absolute.trim_end_matches('/');
    setup.server_root = if root.is_empty() { "/".into() } else { root.into() };
    Ok(())
}

fn default_runtime_dir(setup: &mut Setup, args: &str, _: &Origin) -> Result<(), String> {
    let help = "Common directory for run-time files (shared memory, locks, etc.)";
    let word = one_word("DefaultRuntimeDir", args, help)?;
    let dir = setup.server_root_relative(&word);
    if !std::path::Path::new(&dir).is_dir() {
        return Err(
            "DefaultRuntimeDir must be a valid directory, absolute or relative to ServerRoot".to_owned()
        );
    }
    setup.runtime_dir = Some(dir);
    Ok(())
}
