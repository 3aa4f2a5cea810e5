//! What the reader asks of the server: files, modules, directives.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use crate::{Node, Warning};

/// What a path is, links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A device, a pipe, a socket.
    Other,
}

/// What the reader must know about a directive that a loaded module has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectiveFacts {
    /// Its name in the module's table, for a section with the leading `<` and without a `>`: `<Directory`.
    pub name: &'static str,
    /// It acts while the file is read (EXEC_ON_READ) and leaves nothing in the tree.
    pub on_read: bool,
    /// A section whose lines are not directives (mod_lua's `<LuaHookFixups>`). They are taken as they stand
    /// up to the closing tag, are the children of the node (`args` is the line, `name` empty), and the node,
    /// after [`Host::on_read`] accepted it, stays in the tree.
    pub raw_body: bool,
    /// The table's help text, which argument errors end with.
    pub help: &'static str,
}

/// Whether one of the reader's own directives may run where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// It may.
    Allowed,
    /// It is passed over, and the host has logged that (AH02295: `AllowOverride Nonfatal=Override`).
    Ignored,
}

/// The server, as the reader sees it.
pub trait Host {
    /// Content of the file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// What the path is, links followed; `None` when it is not there or can't be looked at.
    fn kind(&self, path: &Path) -> Option<Kind>;
    /// Whether the path itself is a symbolic link. (A wildcard within an Include's path does not match links
    /// to folders.)
    fn is_link(&self, path: &Path) -> bool;
    /// Names in the folder, in any order, without `.` and `..`.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// An environment variable, as [`crate::from_bytes`] gives it.
    fn env(&self, name: &str) -> Option<String>;
    /// ServerRoot as it is now. It changes while reading, for the directive acts on read.
    fn server_root(&self) -> &Path;
    /// For `<IfModule>`: whether `mod_alias.c` or `alias_module` is loaded.
    fn has_module(&self, name: &str) -> bool;
    /// The directive of the modules that are loaded now; `name` in any case, a section's with its leading
    /// `<`.
    fn directive(&self, name: &str) -> Option<DirectiveFacts>;
    /// Runs a directive that acts on read and is not one of the reader's own: LoadModule, ServerRoot,
    /// DefaultRuntimeDir and so on, argument and context checks included. `parents` are the sections around
    /// it, outermost first.
    fn on_read(&mut self, node: &Node, parents: &[&str]) -> Result<(), String>;
    /// Whether the override in force lets the reader's own directive `name` (`Define`, `<IfModule` …) run
    /// here. In a server's file it always does; in a .htaccess the error is `Define not allowed here`.
    fn check_context(&self, name: &str, parents: &[&str]) -> Result<Context, String>;
    /// Logs a warning.
    fn warn(&mut self, warning: Warning);
    /// For `<IfVersion ~ regex>`: whether the regex matches; `None` when it can't be compiled.
    fn regex_match(&self, pattern: &str, subject: &str) -> Option<bool>;
    /// The version of Apache that we are compatible with.
    fn version(&self) -> [u32; 3] {
        [2, 4, 71]
    }
}
