//! The command line: httpd's options and apachectl's verbs.

pub mod layout;

pub use layout::Layout;

/// What the command line asks for, resolved.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program's name in messages: `apache2` or `httpd`.
    pub program: String,
    /// The whole command line, for the log.
    pub command_line: String,
    /// Where things lie.
    pub layout: &'static Layout,
    /// `-d`, or the layout's.
    pub server_root: String,
    /// `-f`, or the layout's.
    pub config_file: String,
    /// A configuration in the program itself, when there is no file anywhere.
    pub embedded_config: Option<String>,
    /// `-D`.
    pub defines: Vec<String>,
    /// `-C`.
    pub pre_config: Vec<String>,
    /// `-c`.
    pub post_config: Vec<String>,
    /// Stay in the foreground.
    pub foreground: bool,
    /// Warn about a DocumentRoot that is not there (not with `-T`).
    pub warns_about_document_root: bool,
}
