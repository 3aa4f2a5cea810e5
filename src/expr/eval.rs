//! Evaluation: server/util_expr_eval.c.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;

use super::env::{Answer, Env, FileError, NeedThread, Provided, Severity};
use super::functions::{self, BadEscape, Function};
use super::variables;
use super::{BinaryOp, Comparison, Expr, Flags, Id, List, Node, Truth, UnaryOp, Variable};
use crate::fnmatch::{self, fnmatch};
use crate::regex::Captures;

/// `AP_EXPR_MAX_RECURSION`.
const MAX_RECURSION: u32 = 20;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Evaluation failed, and this was logged ("Evaluation of expression from … failed: …").
    Error(String),
    /// The answer has to be waited for.
    NeedThread,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Error(text) => f.write_str(text),
            Failure::NeedThread => f.write_str("it needs a thread that may block"),
        }
    }
}

impl From<NeedThread> for Failure {
    fn from(_: NeedThread) -> Failure {
        Failure::NeedThread
    }
}

/// What the last match with groups captured: `$0` to `$9`. A caller that goes on to use them keeps one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backrefs {
    subject: Option<Vec<u8>>,
    captures: Captures,
}

impl Backrefs {
    /// From a match that the caller made.
    pub fn new(subject: Vec<u8>, captures: Captures) -> Backrefs {
        Backrefs { subject: Some(subject), captures }
    }

    /// `$n`; empty where there was no match or the group took no part.
    pub fn get(&self, n: usize) -> &[u8] {
        match &self.subject {
            Some(subject) if n < crate::regex::MAX_REG_MATCH => self.captures.text(subject, n),
            _ => b"",
        }
    }

    /// What was matched, and where; none after a match that failed.
    pub fn matched(&self) -> Option<(&[u8], &Captures)> {
        Some((self.subject.as_deref()?, &self.captures))
    }
}

impl Expr {
    /// Whether the condition holds (`ap_expr_exec`).
    pub fn is_true(&self, env: &mut dyn Env) -> Result<bool, Failure> {
        self.is_true_re(env, &mut Backrefs::default())
    }

    /// The same with `$0` to `$9` of the caller's, which a match in it replaces (`ap_expr_exec_re`).
    pub fn is_true_re(&self, env: &mut dyn Env, backrefs: &mut Backrefs) -> Result<bool, Failure> {
        let mut eval = Eval::new(self, env, backrefs);
        let result = eval.condition(self.root);
        let (error, vary) = (eval.error.take(), eval.vary.take());
        let result = self.finish(env, result, error)?;
        env.log(
            self.module,
            Severity::Trace4,
            format_args!(
                "Evaluation of expression from {}:{} gave: {}",
                self.file,
                self.line,
                u8::from(result)
            ),
        );
        if let Some(vary) = vary
            && !self.flags.intersects(Flags::DONT_VARY)
        {
            env.merge_vary(&vary);
        }
        Ok(result)
    }

    /// The string (`ap_expr_str_exec`).
    pub fn to_bytes(&self, env: &mut dyn Env) -> Result<Vec<u8>, Failure> {
        self.to_bytes_re(env, &mut Backrefs::default())
    }

    /// The same with `$0` to `$9` of the caller's (`ap_expr_str_exec_re`).
    pub fn to_bytes_re(&self, env: &mut dyn Env, backrefs: &mut Backrefs) -> Result<Vec<u8>, Failure> {
        if let Some(constant) = self.as_constant() {
            return Ok(constant.to_vec());
        }
        let mut eval = Eval::new(self, env, backrefs);
        let result = eval.word(self.root).map(Cow::into_owned);
        let error = eval.error.take();
        let result = self.finish(env, result, error)?;
        env.log(
            self.module,
            Severity::Trace4,
            format_args!(
                "Evaluation of string expression from {}:{} gave: {}",
                self.file,
                self.line,
                String::from_utf8_lossy(&result)
            ),
        );
        Ok(result)
    }

    fn finish<T>(
        &self,
        env: &mut dyn Env,
        result: Result<T, NeedThread>,
        error: Option<String>,
    ) -> Result<T, Failure> {
        let result = result?;
        let Some(error) = error else { return Ok(result) };
        env.log(
            self.module,
            Severity::Err,
            format_args!("Evaluation of expression from {}:{} failed: {error}", self.file, self.line),
        );
        Err(Failure::Error(error))
    }
}

/// `ap_expr_eval_ctx_t`.
struct Eval<'x, 'e> {
    expr: &'x Expr,
    env: &'e mut dyn Env,
    backrefs: &'e mut Backrefs,
    level: u32,
    error: Option<String>,
    /// Headers that were looked at; an empty name counts too, as it does in Apache.
    vary: Option<Vec<u8>>,
}

impl<'x, 'e> Eval<'x, 'e> {
    fn new(expr: &'x Expr, env: &'e mut dyn Env, backrefs: &'e mut Backrefs) -> Eval<'x, 'e> {
        Eval { expr, env, backrefs, level: 0, error: None, vary: None }
    }

    fn node(&self, id: Id) -> &'x Node {
        self.expr.nodes.get(id).unwrap_or(&Node::Missing)
    }

    /// Goes one level deeper; from the limit on, nothing more is evaluated.
    fn enter(&mut self) -> bool {
        if self.level < MAX_RECURSION {
            self.level += 1;
            return true;
        }
        self.error = Some("Recursion limit reached".to_owned());
        self.level = u32::MAX;
        false
    }

    fn leave(&mut self) {
        // Apache counts down from INT_MAX too; what follows stays above the limit all the same.
        self.level -= u32::from(self.level > 0);
    }

    fn condition(&mut self, id: Id) -> Result<bool, NeedThread> {
        if !self.enter() {
            return Ok(false);
        }
        let result = self.condition_here(id);
        self.leave();
        result
    }

    /// Chains of `!`, `||` and `&&` to the right take no level of their own.
    fn condition_here(&mut self, mut id: Id) -> Result<bool, NeedThread> {
        let mut negated = false;
        loop {
            let result = match self.node(id) {
                Node::Constant(truth) => *truth,
                Node::Not(inner) => {
                    negated = !negated;
                    id = *inner;
                    continue;
                }
                Node::Or(left, right) => {
                    if !self.operand(*left)? {
                        id = *right;
                        continue;
                    }
                    true
                }
                Node::And(left, right) => {
                    if self.operand(*left)? {
                        id = *right;
                        continue;
                    }
                    false
                }
                Node::Unary(Some(op), word) => self.unary(op, *word)?,
                Node::Binary(Some(op), left, right) => self.binary(op, *left, *right)?,
                Node::Compare(comparison, left, right) => self.compare(*comparison, *left, *right)?,
                Node::In(word, list) => self.contained(*word, list)?,
                Node::Matches(word, regex, truth) => {
                    let subject = self.owned(*word)?;
                    let Some(regex) = regex else { return Ok(false) };
                    // A pattern without groups leaves $0 to $9 as they were.
                    let found = if regex.groups() > 0 {
                        let captures = regex.captures(&subject);
                        let found = captures.is_some();
                        self.backrefs.subject = captures.map(|captures| {
                            self.backrefs.captures = captures;
                            subject
                        });
                        found
                    } else {
                        regex.is_match(&subject)
                    };
                    found == (*truth == Truth::Straight)
                }
                _ => {
                    self.error = Some("Internal evaluation error: Unknown expression node".to_owned());
                    return Ok(negated);
                }
            };
            return Ok(result != negated);
        }
    }

    /// The left side of `||` or `&&`, a `!` before which takes no level.
    fn operand(&mut self, id: Id) -> Result<bool, NeedThread> {
        match self.node(id) {
            Node::Not(inner) => Ok(!self.condition(*inner)?),
            _ => self.condition(id),
        }
    }

    fn compare(&mut self, comparison: Comparison, left: Id, right: Id) -> Result<bool, NeedThread> {
        // The right side first, as the compiled Apache does: it shows in the order of Vary.
        let right: Cow<'_, [u8]> = match self.node(right) {
            Node::Text(text) | Node::Digit(text) if self.level < MAX_RECURSION => Cow::Borrowed(text),
            _ => Cow::Owned(self.owned(right)?),
        };
        let ssl = self.expr.flags.intersects(Flags::SSL_EXPR_COMPAT);
        let left = self.word(left)?;
        let order = match comparison {
            _ if ssl => functions::compare_ssl(&left, &right),
            Comparison::Eq
            | Comparison::Ne
            | Comparison::Lt
            | Comparison::Le
            | Comparison::Gt
            | Comparison::Ge => functions::integer(&left).cmp(&functions::integer(&right)),
            _ => left.as_ref().cmp(right.as_ref()),
        };
        Ok(match comparison {
            Comparison::Eq | Comparison::StrEq => order == Ordering::Equal,
            Comparison::Ne | Comparison::StrNe => order != Ordering::Equal,
            Comparison::Lt | Comparison::StrLt => order == Ordering::Less,
            Comparison::Le | Comparison::StrLe => order != Ordering::Greater,
            Comparison::Gt | Comparison::StrGt => order == Ordering::Greater,
            Comparison::Ge | Comparison::StrGe => order != Ordering::Less,
        })
    }

    fn contained(&mut self, word: Id, list: &'x List) -> Result<bool, NeedThread> {
        let needle = self.owned(word)?;
        match list {
            List::Words(words) => {
                for &word in words {
                    if *self.word(word)? == *needle {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            List::Call(Some(provided), argument) => {
                let argument = self.owned(*argument)?;
                match self.ask(provided, &[&argument])? {
                    Some(Answer::List(values)) => Ok(values.contains(&needle)),
                    _ => Ok(false),
                }
            }
            List::Call(None, _) => Ok(false),
        }
    }

    fn ask(&mut self, provided: &Provided, args: &[&[u8]]) -> Result<Option<Answer>, NeedThread> {
        Ok(match self.env.provided(provided, args)? {
            Answer::Failed(error) => {
                self.error = Some(error);
                None
            }
            answer => Some(answer),
        })
    }

    fn unary(&mut self, op: &'x UnaryOp, word: Id) -> Result<bool, NeedThread> {
        let arg = self.owned(word)?;
        let stat = |eval: &mut Self, follow| eval.env.stat(&arg, follow).unwrap_or_default();
        Ok(match op {
            UnaryOp::NotEmpty => !arg.is_empty(),
            UnaryOp::Empty => arg.is_empty(),
            UnaryOp::True => functions::is_true(&arg),
            UnaryOp::Remote(subnet) => self.env.client_address().is_some_and(|ip| subnet.contains(ip)),
            UnaryOp::Directory => stat(self, true).is_dir,
            UnaryOp::Exists => self.env.stat(&arg, true).is_some(),
            UnaryOp::File => stat(self, true).is_file,
            UnaryOp::FileNotEmpty => {
                let stat = stat(self, true);
                stat.is_file && stat.size > 0
            }
            UnaryOp::Link => stat(self, false).is_link,
            UnaryOp::Executable => stat(self, false).executable,
            UnaryOp::SubrequestFile => match self.env.subrequest_file(&arg)? {
                Some((status, exists)) => {
                    self.log_subrequest('F', &arg, status);
                    status < 300 && exists
                }
                None => false,
            },
            UnaryOp::SubrequestUri => match self.env.subrequest_uri(&arg)? {
                Some(status) => {
                    self.log_subrequest('U', &arg, status);
                    status < 400
                }
                None => false,
            },
            UnaryOp::Provided(provided) => matches!(self.ask(provided, &[&arg])?, Some(Answer::Truth(true))),
        })
    }

    fn log_subrequest(&mut self, op: char, arg: &[u8], status: u16) {
        let Expr { file, line, .. } = self.expr;
        let arg = String::from_utf8_lossy(arg);
        self.env.log(
            self.expr.module,
            Severity::Trace5,
            format_args!("Subrequest for -{op} {arg} at {file}:{line} gave status: {status}"),
        );
    }

    fn binary(&mut self, op: &'x BinaryOp, left: Id, right: Id) -> Result<bool, NeedThread> {
        let right = self.owned(right)?;
        let left = self.owned(left)?;
        Ok(match op {
            BinaryOp::IpMatch(subnet) => {
                let ip = std::str::from_utf8(&left).ok().and_then(|text| text.parse::<IpAddr>().ok());
                match ip {
                    Some(ip) => subnet.contains(ip),
                    None => self.env.resolve(&left)?.is_some_and(|ip| subnet.contains(ip)),
                }
            }
            BinaryOp::FnMatch => fnmatch(&right, &left, fnmatch::PATHNAME),
            BinaryOp::StrMatch => fnmatch(&right, &left, fnmatch::NONE),
            BinaryOp::StrCMatch => fnmatch(&right, &left, fnmatch::CASE_BLIND),
            BinaryOp::Provided(provided) => {
                matches!(self.ask(provided, &[&left, &right])?, Some(Answer::Truth(true)))
            }
        })
    }

    fn owned(&mut self, id: Id) -> Result<Vec<u8>, NeedThread> {
        self.word(id).map(Cow::into_owned)
    }

    /// A word's value, borrowed from the expression, the captures or the request where that can be.
    fn word(&mut self, id: Id) -> Result<Cow<'_, [u8]>, NeedThread> {
        if !self.enter() {
            return Ok(Cow::Borrowed(b""));
        }
        match self.node(id) {
            Node::Concat(left, right) => {
                let mut out = Vec::new();
                let result = self.concat(id, *left, *right, &mut out);
                self.leave();
                result.map(|()| out.into())
            }
            Node::Call(function, argument) => {
                let argument = self.owned(*argument);
                self.leave();
                self.call(*function, argument?)
            }
            Node::Provided(provided, argument) => {
                let argument = argument.map(|argument| self.owned(argument)).transpose();
                self.leave();
                let argument = argument?;
                let args: &[&[u8]] = match &argument {
                    Some(argument) => &[argument],
                    None => &[],
                };
                match self.ask(provided, args)? {
                    Some(Answer::Text(text)) => Ok(functions::c_string(text).into()),
                    _ => Ok(Cow::Borrowed(b"")),
                }
            }
            leaf => {
                self.leave();
                match leaf {
                    Node::Text(text) | Node::Digit(text) => Ok(Cow::Borrowed(text)),
                    Node::Backref(n) => Ok(Cow::Borrowed(self.backrefs.get(usize::from(*n)))),
                    Node::Variable(variable) => self.variable(*variable),
                    _ => {
                        self.error =
                            Some("Internal evaluation error: Unknown word expression node".to_owned());
                        Ok(Cow::Borrowed(b""))
                    }
                }
            }
        }
    }

    /// Apache's three ways to join: two plain parts; a chain to the left, from its end; a chain to the right. The order
    /// shows in Vary, and in which part fails last.
    fn concat(&mut self, id: Id, left: Id, right: Id, out: &mut Vec<u8>) -> Result<(), NeedThread> {
        let mut parts = Vec::new();
        if matches!(self.node(left), Node::Concat(..)) {
            let mut at = id;
            while let Node::Concat(left, right) = self.node(at) {
                parts.push(self.owned(*right)?);
                at = *left;
            }
            parts.push(self.owned(at)?);
            parts.reverse();
        } else {
            parts.push(self.owned(left)?);
            let mut at = right;
            while let Node::Concat(left, right) = self.node(at) {
                parts.push(self.owned(*left)?);
                at = *right;
            }
            parts.push(self.owned(at)?);
        }
        *out = parts.concat();
        Ok(())
    }

    fn add_vary(&mut self, name: &[u8]) {
        // RFC 9110 section 12.5.5: Host is part of the target, never of the selection.
        if name.eq_ignore_ascii_case(b"Host") {
            return;
        }
        match &mut self.vary {
            None => self.vary = Some(name.to_vec()),
            Some(vary) => {
                vary.extend_from_slice(b", ");
                vary.extend_from_slice(name);
            }
        }
    }

    fn variable(&mut self, variable: Variable) -> Result<Cow<'_, [u8]>, NeedThread> {
        if let Some(header) = variable.header() {
            self.add_vary(header.as_bytes());
            return Ok(self.env.request_header(header.as_bytes()).unwrap_or_default());
        }
        variables::value(self.env, variable)
    }

    fn call(&mut self, function: Function, arg: Vec<u8>) -> Result<Cow<'_, [u8]>, NeedThread> {
        let made = match function {
            Function::Req => {
                self.add_vary(&arg);
                return Ok(self.env.request_header(&arg).unwrap_or_default());
            }
            Function::ReqNoVary => return Ok(self.env.request_header(&arg).unwrap_or_default()),
            Function::Resp => return Ok(self.env.response_header(&arg).unwrap_or_default()),
            Function::Note => return Ok(self.env.note(&arg).unwrap_or_default()),
            Function::ReqEnv => return Ok(self.env.environment(&arg).unwrap_or_default()),
            Function::OsEnv => return Ok(self.env.os_environment(&arg).unwrap_or_default()),
            // mod_ssl's order: notes, the request's environment, the process's.
            Function::Env => {
                let found = self.env.note(&arg).map(Cow::into_owned);
                let found = found.or_else(|| self.env.environment(&arg).map(Cow::into_owned));
                found.or_else(|| self.env.os_environment(&arg).map(Cow::into_owned)).unwrap_or_default()
            }
            Function::ToLower => arg.to_ascii_lowercase(),
            Function::ToUpper => arg.to_ascii_uppercase(),
            Function::Escape => functions::escape(&arg),
            Function::Unescape => self.unescape(&arg),
            Function::File => self.file(&arg)?,
            Function::FileSize => {
                let stat = self.env.stat(&arg, true).unwrap_or_default();
                if stat.is_file { stat.size } else { 0 }.to_string().into_bytes()
            }
            Function::Base64 => functions::base64(&arg),
            Function::Unbase64 => functions::unbase64(&arg),
            Function::Sha1 => functions::sha1(&arg),
            Function::Md5 => functions::md5(&arg),
            Function::Ldap => functions::ldap(&arg),
        };
        Ok(made.into())
    }

    fn unescape(&mut self, arg: &[u8]) -> Vec<u8> {
        let bad = match functions::unescape(arg) {
            Ok(text) => return text,
            Err(BadEscape::Bad) => "Bad",
            Err(BadEscape::Forbidden) => "Forbidden",
        };
        let Expr { file, line, .. } = self.expr;
        let arg = String::from_utf8_lossy(arg);
        self.env.log(
            self.expr.module,
            Severity::Debug,
            format_args!("AH00538: {bad} % escape in unescape('{arg}') at {file}:{line}"),
        );
        Vec::new()
    }

    fn file(&mut self, path: &[u8]) -> Result<Vec<u8>, NeedThread> {
        let name = String::from_utf8_lossy(path);
        self.error = Some(match self.env.read_file(path) {
            Ok(content) => return Ok(functions::c_string(content)),
            Err(FileError::NeedThread) => return Err(NeedThread),
            Err(FileError::Open) => format!("Cannot open file {name}"),
            Err(FileError::TooLarge) => format!("File {name} too large"),
            Err(FileError::Read) => format!("Cannot read from file {name}"),
        });
        Ok(Vec::new())
    }
}
