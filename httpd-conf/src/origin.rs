//! Where a directive stands, and what is reported about it.
//!
//! Answers to `ap_directive_t`'s `filename` and `line_num`, and to the texts that
//! `ap_process_resource_config` puts around an error.

use std::fmt;
use std::sync::Arc;

/// The line that a directive was read from.
///
/// A directive that was continued over several lines has the number of its last one, as in Apache. In a
/// macro, `file` is mod_macro's description of the use and `line` counts the lines of the macro's body,
/// without its comments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Path of the file, or the description of the macro or of the command line.
    pub file: Arc<str>,
    /// Line number, from 1.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of {}", self.line, self.file)
    }
}

/// Why the configuration could not be read.
///
/// Displays as Apache prints an error of the first step: `Syntax error on line 3 of /etc/httpd.conf: …`. (An
/// error of the second step, the walk, is printed on two lines, the first being AH00526; that is the server's
/// to do.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The directive that is at fault, if the error has one.
    pub origin: Option<Origin>,
    /// The text after the origin. An error in an included file begins with that file's own `Syntax error on
    /// line …`.
    pub message: String,
}

impl Error {
    /// An error with a known place.
    pub fn new(origin: &Origin, message: impl Into<String>) -> Error {
        Error { origin: Some(origin.clone()), message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "Syntax error on {origin}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

/// Severity of a [`Warning`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `error`
    Error,
    /// `warn`
    Warn,
}

/// A line for the error log that does not stop the reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Number of the message, such as `AH00111`.
    pub id: &'static str,
    /// Severity.
    pub level: Level,
    /// Name of the module that Apache logs it under, as in `[core:warn]`.
    pub module: &'static str,
    /// Text after the number.
    pub message: String,
}
