//! The grammar: server/util_expr_parse.y. Bison's LALR parser is followed in what it reports: a lookup that fails does not
//! end parsing, and the tokens expected are those of the state after its default reductions.
//!
//! Differs in the depth of nested parentheses and arguments: "memory exhausted" comes at [`MAX_NESTING`], not at bison's
//! 10,000 stack entries.

use super::env::{Kind, Provided};
use super::functions::Function;
use super::lexer::{Jammed, Lexer, Token};
use super::subnet::Subnet;
use super::variables::Variable;
use super::{BinaryOp, Flags, Id, List, Mode, Node, Options, Truth, UnaryOp};
use crate::regex::{self, Regex};

/// How deep parentheses and arguments may be nested.
const MAX_NESTING: u32 = 100;

/// Why parsing stopped.
enum Fault {
    /// A syntax error, bison's text.
    Syntax(String),
    /// The lexer's error alone says it.
    Lexical,
    /// Flex would have stopped the program.
    Jammed,
}

impl From<Jammed> for Fault {
    fn from(_: Jammed) -> Fault {
        Fault::Jammed
    }
}

pub(super) struct Parser<'t> {
    lexer: Lexer<'t>,
    ahead: Option<Token>,
    options: &'t Options<'t>,
    nodes: Vec<Node>,
    depth: u32,
    /// The latest error of lexer or lookup (`ctx->error2`).
    error: Option<String>,
}

/// Parses `text`: all nodes, and the root.
pub(super) fn parse(text: &[u8], options: &Options<'_>) -> Result<(Vec<Node>, Id), String> {
    let mut parser = Parser {
        lexer: Lexer::new(text, options.mode == Mode::String),
        ahead: None,
        options,
        nodes: Vec::new(),
        depth: 0,
        error: None,
    };
    let parsed = match options.mode {
        Mode::Condition => parser.condition(),
        Mode::String => parser.text(Quoting::Whole),
    }
    .and_then(|root| match parser.next()? {
        Token::End => Ok(root),
        token => Err(unexpected(&token, "$end")),
    });
    match (parsed, parser.error) {
        (Ok(root), None) => Ok((parser.nodes, root)),
        (Err(Fault::Syntax(syntax)), None) => Err(syntax),
        (Err(Fault::Syntax(syntax)), Some(error)) => Err(format!("{syntax}: {error}")),
        (Err(Fault::Jammed), _) => Err("flex scanner jammed".to_owned()),
        (_, Some(error)) => Err(error),
        (Err(Fault::Lexical), None) => Err("syntax error".to_owned()),
    }
}

fn unexpected(token: &Token, expecting: &str) -> Fault {
    let name = token.name();
    Fault::Syntax(match expecting {
        "" => format!("syntax error, unexpected {name}"),
        _ => format!("syntax error, unexpected {name}, expecting {expecting}"),
    })
}

/// Where a string stands.
#[derive(Clone, Copy, PartialEq)]
enum Quoting {
    /// The whole text.
    Whole,
    /// Between quotes.
    Quoted,
    /// The argument of `%{func:…}`.
    Argument,
}

impl Parser<'_> {
    fn peek(&mut self) -> Result<&Token, Fault> {
        if self.ahead.is_none() {
            let token = self.lexer.next()?;
            if let Some(error) = self.lexer.error.take() {
                self.error = Some(error);
            }
            self.ahead = Some(token);
        }
        Ok(self.ahead.as_ref().unwrap_or(&Token::End))
    }

    fn next(&mut self) -> Result<Token, Fault> {
        self.peek()?;
        Ok(self.ahead.take().unwrap_or(Token::End))
    }

    fn accept(&mut self, token: &Token) -> Result<bool, Fault> {
        let is = self.peek()? == token;
        if is {
            self.ahead = None;
        }
        Ok(is)
    }

    /// Takes `token`, or fails with the `expecting` of that state.
    fn expect(&mut self, token: &Token, expecting: &str) -> Result<(), Fault> {
        match self.next()? {
            next if next == *token => Ok(()),
            next => Err(unexpected(&next, expecting)),
        }
    }

    fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth >= MAX_NESTING {
            return Err(Fault::Syntax("memory exhausted".to_owned()));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// `a || b || c`, grouped to the right.
    fn condition(&mut self) -> Result<Id, Fault> {
        let mut terms = vec![self.conjunction()?];
        while self.accept(&Token::Or)? {
            terms.push(self.conjunction()?);
        }
        Ok(self.join(terms, Node::Or))
    }

    fn conjunction(&mut self) -> Result<Id, Fault> {
        let mut terms = vec![self.negation()?];
        while self.accept(&Token::And)? {
            terms.push(self.negation()?);
        }
        Ok(self.join(terms, Node::And))
    }

    fn join(&mut self, mut terms: Vec<Id>, node: fn(Id, Id) -> Node) -> Id {
        let mut joined = terms.pop().unwrap_or_default();
        while let Some(left) = terms.pop() {
            joined = self.add(node(left, joined));
        }
        joined
    }

    fn negation(&mut self) -> Result<Id, Fault> {
        let mut nots = 0;
        while self.accept(&Token::Not)? {
            nots += 1;
        }
        let mut negated = self.simple()?;
        for _ in 0..nots {
            negated = self.add(Node::Not(negated));
        }
        Ok(negated)
    }

    fn simple(&mut self) -> Result<Id, Fault> {
        match self.peek()? {
            Token::Error => return Err(Fault::Lexical),
            Token::True | Token::False => {
                let truth = self.next()? == Token::True;
                return Ok(self.add(Node::Constant(truth)));
            }
            Token::Mark('(') => {
                self.next()?;
                let inner = self.nested(Self::condition)?;
                self.expect(&Token::Mark(')'), "T_OP_OR or T_OP_AND or ')'")?;
                return Ok(inner);
            }
            Token::Unary(_) => {
                if let Token::Unary(name) = self.next()? {
                    let word = self.word()?;
                    let op = self.unary(&name, word);
                    return Ok(self.add(Node::Unary(op, word)));
                }
            }
            _ => {}
        }
        let left = self.word()?;
        let node = match self.next()? {
            Token::Compare(comparison) => Node::Compare(comparison, left, self.word()?),
            Token::Match => Node::Matches(left, self.regex()?, Truth::Straight),
            Token::NotMatch => Node::Matches(left, self.regex()?, Truth::Negated),
            Token::In => Node::In(left, self.list()?),
            Token::Binary(name) => {
                let right = self.word()?;
                let op = self.binary(&name, right);
                Node::Binary(op, left, right)
            }
            token => return Err(unexpected(&token, "")),
        };
        Ok(self.add(node))
    }

    fn regex(&mut self) -> Result<Option<Regex>, Fault> {
        let (pattern, flags) = match self.next()? {
            Token::Regex(pattern) => (pattern, regex::Flags::NONE),
            Token::RegexI(pattern) => (pattern, regex::Flags::ICASE),
            token => return Err(unexpected(&token, "T_REGEX or T_REGEX_I")),
        };
        let failed = |_| Fault::Syntax("Failed to compile regular expression".to_owned());
        Ok(Some(Regex::from_bytes(&pattern, flags).map_err(failed)?))
    }

    /// What may stand behind `-in`.
    fn list(&mut self) -> Result<List, Fault> {
        match self.next()? {
            Token::Id(name) => {
                let argument = self.argument()?;
                let constant = self.constant(argument);
                let provided = match self.provided(Kind::ListFunction, &name, constant.as_deref()) {
                    Some(provided) => provided,
                    None => {
                        self.error = Some(format!("List-returning function '{name}' does not exist"));
                        None
                    }
                };
                Ok(List::Call(provided, argument))
            }
            Token::Mark('{') => {
                let mut words = vec![self.word()?];
                while self.accept(&Token::Mark(','))? {
                    words.push(self.word()?);
                }
                self.expect(&Token::Mark('}'), "'}' or ','")?;
                // Bison's list grows at its head: the last word is compared first.
                words.reverse();
                Ok(List::Words(words))
            }
            token => Err(unexpected(&token, "T_ID or '{'")),
        }
    }

    /// `( word )`
    fn argument(&mut self) -> Result<Id, Fault> {
        self.expect(&Token::Mark('('), "'('")?;
        let word = self.nested(Self::word)?;
        self.expect(&Token::Mark(')'), "T_OP_CONCAT or ')'")?;
        Ok(word)
    }

    /// `a . b . c`, grouped to the right.
    fn word(&mut self) -> Result<Id, Fault> {
        let mut words = vec![self.single_word()?];
        while self.accept(&Token::Concat)? {
            words.push(self.single_word()?);
        }
        Ok(self.join(words, Node::Concat))
    }

    fn single_word(&mut self) -> Result<Id, Fault> {
        match self.next()? {
            Token::Digit(digits) => Ok(self.add(Node::Digit(digits))),
            Token::VarBegin => self.variable(),
            Token::Backref(n) => Ok(self.add(Node::Backref(n))),
            Token::Id(name) => {
                let argument = self.argument()?;
                Ok(self.call(&name, argument))
            }
            Token::StrBegin => {
                if self.accept(&Token::StrEnd)? {
                    return Ok(self.add(Node::Text(Vec::new())));
                }
                let text = self.text(Quoting::Quoted)?;
                self.expect(&Token::StrEnd, "T_STRING or T_REGEX_BACKREF or T_STR_END or T_VAR_BEGIN")?;
                Ok(text)
            }
            // At the start of an expression, an error of the lexer stands for itself; `simple` has seen to that.
            token => Err(unexpected(&token, "")),
        }
    }

    /// Pieces of text, grouped to the left.
    fn text(&mut self, quoting: Quoting) -> Result<Id, Fault> {
        let mut text = None;
        loop {
            let piece = match self.peek()? {
                Token::Text(_) => match self.next()? {
                    Token::Text(piece) => self.add(Node::Text(piece)),
                    _ => continue,
                },
                Token::Backref(n) => {
                    let n = *n;
                    self.next()?;
                    self.add(Node::Backref(n))
                }
                Token::VarBegin => {
                    self.next()?;
                    self.variable()?
                }
                Token::Error if text.is_none() => return Err(Fault::Lexical),
                token => match (text, quoting) {
                    (Some(text), _) => return Ok(text),
                    (None, Quoting::Quoted) => return Err(unexpected(token, "")),
                    (None, _) => {
                        return Err(unexpected(
                            token,
                            "T_ERROR or T_STRING or T_REGEX_BACKREF or T_VAR_BEGIN",
                        ));
                    }
                },
            };
            text = Some(match text {
                Some(text) => self.add(Node::Concat(text, piece)),
                None => piece,
            });
        }
    }

    /// Behind `%{`.
    fn variable(&mut self) -> Result<Id, Fault> {
        let name = match self.next()? {
            Token::Id(name) => name,
            token => return Err(unexpected(&token, "T_ID")),
        };
        match self.next()? {
            Token::VarEnd => Ok(self.named_variable(&name)),
            Token::Mark(':') => {
                let argument = self.nested(|parser| parser.text(Quoting::Argument))?;
                self.expect(&Token::VarEnd, "T_STRING or T_REGEX_BACKREF or T_VAR_BEGIN or T_VAR_END")?;
                Ok(self.call(&name, argument))
            }
            token => Err(unexpected(&token, "T_VAR_END or ':'")),
        }
    }

    fn named_variable(&mut self, name: &str) -> Id {
        let node = match (self.provided(Kind::Variable, name, None), Variable::by_name(name)) {
            (Some(provided), _) => provided.map(|provided| Node::Provided(provided, None)),
            (None, Some(variable)) => Some(Node::Variable(variable)),
            (None, None) => {
                self.error = Some(format!("Variable '{name}' does not exist"));
                None
            }
        };
        self.add(node.unwrap_or(Node::Missing))
    }

    fn call(&mut self, name: &str, argument: Id) -> Id {
        let constant = self.constant(argument);
        let node = match (self.provided(Kind::Function, name, constant.as_deref()), Function::by_name(name)) {
            (Some(provided), _) => provided.map(|provided| Node::Provided(provided, Some(argument))),
            (None, Some((known, Function::File | Function::FileSize)))
                if self.restricted(Flags::RESTRICTED | Flags::RESTRICTED_FILE_FUNC) =>
            {
                self.error = Some(format!("{known} not available in restricted context"));
                None
            }
            (None, Some((_, function))) => Some(Node::Call(function, argument)),
            (None, None) => {
                self.error = Some(format!("Function '{name}' does not exist"));
                None
            }
        };
        self.add(node.unwrap_or(Node::Missing))
    }

    /// Whether one of these flags is set.
    fn restricted(&self, flags: Flags) -> bool {
        self.options.flags.intersects(flags)
    }

    fn unary(&mut self, name: &str, argument: Id) -> Option<UnaryOp> {
        let constant = self.constant(argument);
        if let Some(provided) = self.provided(Kind::Unary, name, constant.as_deref()) {
            return provided.map(UnaryOp::Provided);
        }
        let op = match name {
            "n" => UnaryOp::NotEmpty,
            "z" => UnaryOp::Empty,
            "R" => return self.subnet(name, constant).map(UnaryOp::Remote),
            "T" => UnaryOp::True,
            "d" => UnaryOp::Directory,
            "e" => UnaryOp::Exists,
            "f" => UnaryOp::File,
            "s" => UnaryOp::FileNotEmpty,
            "L" | "h" => UnaryOp::Link,
            "x" => UnaryOp::Executable,
            "F" => UnaryOp::SubrequestFile,
            "U" | "A" => UnaryOp::SubrequestUri,
            _ => {
                self.error = Some(format!("Unary operator '-{name}' does not exist"));
                return None;
            }
        };
        if matches!(name, "d" | "e" | "f" | "s" | "L" | "h" | "x") && self.restricted(Flags::RESTRICTED) {
            self.error = Some(format!("-{name} not available in restricted context"));
            return None;
        }
        Some(op)
    }

    fn binary(&mut self, name: &str, right: Id) -> Option<BinaryOp> {
        let constant = self.constant(right);
        if let Some(provided) = self.provided(Kind::Binary, name, constant.as_deref()) {
            return provided.map(BinaryOp::Provided);
        }
        match name.to_ascii_lowercase().as_str() {
            "ipmatch" => self.subnet(name, constant).map(BinaryOp::IpMatch),
            "fnmatch" => Some(BinaryOp::FnMatch),
            "strmatch" => Some(BinaryOp::StrMatch),
            "strcmatch" => Some(BinaryOp::StrCMatch),
            _ => {
                self.error = Some(format!("Binary operator '-{name}' does not exist"));
                None
            }
        }
    }

    fn subnet(&mut self, name: &str, constant: Option<Vec<u8>>) -> Option<Subnet> {
        let Some(text) = constant else {
            self.error = Some(format!("-{name} requires subnet/netmask as constant argument"));
            return None;
        };
        let subnet = std::str::from_utf8(&text).ok().and_then(|text| Subnet::parse(text).ok());
        if subnet.is_none() {
            self.error = Some("parsing of subnet/netmask failed".to_owned());
        }
        subnet
    }

    /// The text of a node that is a plain string; a number is not one.
    fn constant(&self, node: Id) -> Option<Vec<u8>> {
        match self.nodes.get(node) {
            Some(Node::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// Asks the modules; none where none knows the name, some none where one refused it.
    fn provided(&mut self, kind: Kind, name: &str, constant: Option<&[u8]>) -> Option<Option<Box<Provided>>> {
        for &provider in self.options.providers {
            match (provider.lookup)(kind, name, constant) {
                Some(Ok(id)) => {
                    return Some(Some(Box::new(Provided { provider, id, kind, name: name.into() })));
                }
                Some(Err(error)) => {
                    self.error = Some(error);
                    return Some(None);
                }
                None => {}
            }
        }
        None
    }
}
