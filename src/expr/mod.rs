//! Apache's expressions (`ap_expr`), for `<If>`, `Require expr`, SetEnvIfExpr, `expr=` and strings with `%{…}` in them:
//! server/util_expr_*.{c,y,l}.
//!
//! An [`Expr`] is parsed once, while the configuration is read, and asks an [`Env`] for what it needs to know when it is
//! evaluated. It knows nothing of requests itself.

pub mod env;
mod eval;
mod functions;
mod lexer;
mod parser;
pub mod subnet;
#[cfg(test)]
mod tests;
mod variables;

use std::sync::Arc;

pub use env::{Answer, Env, FileError, Kind, NeedThread, Provided, Provider, Severity, Stat, Value};
pub use eval::{Backrefs, Failure};
pub use subnet::{Subnet, SubnetError};
pub use variables::{VARIABLES, Variable};

use crate::regex::Regex;
use functions::Function;

/// What the text of an expression is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A condition, true or false.
    #[default]
    Condition,
    /// A string with `%{…}` in it (`AP_EXPR_FLAG_STRING_RESULT`).
    String,
}

/// `AP_EXPR_FLAG_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// Nothing special.
    pub const NONE: Flags = Flags(0);
    /// Compare as SSLRequire did: by length first, `-eq` like `==`.
    pub const SSL_EXPR_COMPAT: Flags = Flags(1);
    /// Don't add the headers that were looked at to Vary.
    pub const DONT_VARY: Flags = Flags(2);
    /// Refuse what reads or tests files: mod_include and mod_authnz_fcgi set it.
    pub const RESTRICTED: Flags = Flags(4);
    /// Refuse `file` and `filesize` only: for `.htaccess` files.
    pub const RESTRICTED_FILE_FUNC: Flags = Flags(16);

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// How an expression is parsed.
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    /// Condition or string.
    pub mode: Mode,
    /// Flags.
    pub flags: Flags,
    /// What modules add.
    pub providers: &'a [&'static Provider],
    /// The module that asks, for the log; empty: the core.
    pub module: &'static str,
    /// The file that it is written in, for the log.
    pub file: Arc<str>,
    /// And the line.
    pub line: u32,
}

/// A parsed expression (`ap_expr_info_t`).
#[derive(Debug)]
pub struct Expr {
    nodes: Vec<Node>,
    root: Id,
    mode: Mode,
    flags: Flags,
    module: &'static str,
    file: Arc<str>,
    line: u32,
}

impl Expr {
    /// Parses `text`; the error is worded as Apache does.
    pub fn parse(text: impl AsRef<[u8]>, mode: Mode, flags: Flags) -> Result<Expr, String> {
        Expr::parse_with(text, &Options { mode, flags, ..Options::default() })
    }

    /// The same with providers, and with the place for the log.
    pub fn parse_with(text: impl AsRef<[u8]>, options: &Options<'_>) -> Result<Expr, String> {
        let (nodes, root) = parser::parse(text.as_ref(), options)?;
        let Options { mode, flags, module, ref file, line, .. } = *options;
        let module = if module.is_empty() { "core" } else { module };
        Ok(Expr { nodes, root, mode, flags, module, file: file.clone(), line })
    }

    /// The text of a string without anything to evaluate in it.
    pub fn as_constant(&self) -> Option<&[u8]> {
        match self.nodes.get(self.root) {
            Some(Node::Text(text)) if self.mode == Mode::String => Some(text),
            _ => None,
        }
    }

    /// Whether evaluating it may answer [`Failure::NeedThread`]: it asks for names of hosts, or for sub-requests. For callers
    /// that can't stop in the middle.
    pub fn may_block(&self) -> bool {
        self.nodes.iter().any(|node| {
            matches!(
                node,
                Node::Unary(Some(UnaryOp::SubrequestFile | UnaryOp::SubrequestUri | UnaryOp::Provided(_)), _)
                    | Node::Binary(Some(BinaryOp::IpMatch(_) | BinaryOp::Provided(_)), ..)
                    | Node::Provided(..)
            )
        })
    }

    /// Whether `variable` is named in it: `Require expr` asks for a login where REMOTE_USER is.
    pub fn uses(&self, variable: Variable) -> bool {
        self.nodes.iter().any(|node| matches!(node, Node::Variable(used) if *used == variable))
    }

    /// Condition or string.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// Index of a node.
type Id = usize;

/// Whether a match is asked for, or its absence.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Truth {
    Straight,
    Negated,
}

/// The twelve comparisons: by number, then by text.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    StrEq,
    StrNe,
    StrLt,
    StrLe,
    StrGt,
    StrGe,
}

impl Comparison {
    fn token_name(self) -> &'static str {
        match self {
            Comparison::Eq => "T_OP_EQ",
            Comparison::Ne => "T_OP_NE",
            Comparison::Lt => "T_OP_LT",
            Comparison::Le => "T_OP_LE",
            Comparison::Gt => "T_OP_GT",
            Comparison::Ge => "T_OP_GE",
            Comparison::StrEq => "T_OP_STR_EQ",
            Comparison::StrNe => "T_OP_STR_NE",
            Comparison::StrLt => "T_OP_STR_LT",
            Comparison::StrLe => "T_OP_STR_LE",
            Comparison::StrGt => "T_OP_STR_GT",
            Comparison::StrGe => "T_OP_STR_GE",
        }
    }
}

/// A node; conditions first, then words.
#[derive(Debug)]
enum Node {
    Constant(bool),
    Not(Id),
    Or(Id, Id),
    And(Id, Id),
    Compare(Comparison, Id, Id),
    In(Id, List),
    Matches(Id, Option<Regex>, Truth),
    Unary(Option<UnaryOp>, Id),
    Binary(Option<BinaryOp>, Id, Id),
    Digit(Vec<u8>),
    Text(Vec<u8>),
    Variable(Variable),
    Concat(Id, Id),
    Call(Function, Id),
    Backref(u8),
    Provided(Box<Provided>, Option<Id>),
    /// A lookup failed; parsing does too, in the end.
    Missing,
}

/// What `-in` looks through.
#[derive(Debug)]
enum List {
    Words(Vec<Id>),
    Call(Option<Box<Provided>>, Id),
}

#[derive(Debug)]
enum UnaryOp {
    NotEmpty,
    Empty,
    Remote(Subnet),
    True,
    Directory,
    Exists,
    File,
    FileNotEmpty,
    Link,
    Executable,
    SubrequestFile,
    SubrequestUri,
    Provided(Box<Provided>),
}

#[derive(Debug)]
enum BinaryOp {
    IpMatch(Subnet),
    FnMatch,
    StrMatch,
    StrCMatch,
    Provided(Box<Provided>),
}
