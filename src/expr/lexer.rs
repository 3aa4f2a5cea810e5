//! Tokens of an expression: server/util_expr_scan.l. Of several rules that fit, the longest match wins, then the first,
//! as flex has it.
//!
//! Differs where flex gives up ("flex scanner jammed") and takes the server down with it: a quote inside `%{func:…}`, or a
//! lone backslash at the end. Here those are parse errors of the same text.

use nom::bytes::complete::{is_not, tag, take, take_while, take_while_m_n, take_while1};
use nom::character::complete::{digit1, one_of, satisfy};
use nom::combinator::{opt, peek, recognize};
use nom::sequence::{pair, preceded};
use nom::{IResult, Parser};

/// The longest piece of string or regex: `MAX_STRING_LEN`.
const MAX_STRING_LEN: usize = 8192;
/// What may stand behind the `m` of a regex.
const REGEX_DELIMITERS: &str = "/#$%^,;:_?|-!.'\"";

/// One token; bison's name of it is what error texts show.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    End,
    True,
    False,
    /// A lexical error, whose text is in [`Lexer::error`].
    Error,
    Digit(Vec<u8>),
    Id(String),
    Text(Vec<u8>),
    Regex(Vec<u8>),
    RegexI(Vec<u8>),
    Backref(u8),
    Unary(String),
    Binary(String),
    StrBegin,
    StrEnd,
    VarBegin,
    VarEnd,
    /// A comparison: its name, for there are twelve, all alike to the grammar.
    Compare(super::Comparison),
    Match,
    NotMatch,
    In,
    Concat,
    Or,
    And,
    Not,
    Mark(char),
}

impl Token {
    /// The name that Apache's messages give it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Token::End => "$end",
            Token::True => "T_TRUE",
            Token::False => "T_FALSE",
            Token::Error => "T_ERROR",
            Token::Digit(_) => "T_DIGIT",
            Token::Id(_) => "T_ID",
            Token::Text(_) => "T_STRING",
            Token::Regex(_) => "T_REGEX",
            Token::RegexI(_) => "T_REGEX_I",
            Token::Backref(_) => "T_REGEX_BACKREF",
            Token::Unary(_) => "T_OP_UNARY",
            Token::Binary(_) => "T_OP_BINARY",
            Token::StrBegin => "T_STR_BEGIN",
            Token::StrEnd => "T_STR_END",
            Token::VarBegin => "T_VAR_BEGIN",
            Token::VarEnd => "T_VAR_END",
            Token::Compare(comparison) => comparison.token_name(),
            Token::Match => "T_OP_REG",
            Token::NotMatch => "T_OP_NRE",
            Token::In => "T_OP_IN",
            Token::Concat => "T_OP_CONCAT",
            Token::Or => "T_OP_OR",
            Token::And => "T_OP_AND",
            Token::Not => "T_OP_NOT",
            Token::Mark('(') => "'('",
            Token::Mark(')') => "')'",
            Token::Mark('{') => "'{'",
            Token::Mark('}') => "'}'",
            Token::Mark(',') => "','",
            Token::Mark(_) => "':'",
        }
    }
}

/// flex's start conditions; a regex is read in one go and needs none.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Initial,
    Str,
    Var,
    VarArg,
}

/// Flex found no rule: it stops the program there.
#[derive(Debug)]
pub(super) struct Jammed;

/// The scanner.
pub(super) struct Lexer<'t> {
    rest: &'t [u8],
    state: State,
    outer: Vec<State>,
    /// The quote that ends the string; none where the whole text is one.
    quote: Option<u8>,
    string: Vec<u8>,
    whole_is_string: bool,
    /// Text of the last lexical error.
    pub(super) error: Option<String>,
}

type Scan<'t, T> = IResult<&'t [u8], T>;

fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_'
}

fn word(input: &[u8]) -> Scan<'_, &[u8]> {
    recognize(pair(satisfy(|c| c.is_ascii_alphabetic()), take_while(is_word))).parse(input)
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

impl<'t> Lexer<'t> {
    pub(super) fn new(input: &'t [u8], whole_is_string: bool) -> Lexer<'t> {
        // A C string ends at its first NUL.
        let end = input.iter().position(|&c| c == 0).unwrap_or(input.len());
        Lexer {
            rest: input.get(..end).unwrap_or_default(),
            state: if whole_is_string { State::Str } else { State::Initial },
            outer: Vec::new(),
            quote: None,
            string: Vec::new(),
            whole_is_string,
            error: None,
        }
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Result<Token, Jammed> {
        match self.state {
            State::Initial => Ok(self.initial()),
            State::Var => Ok(self.variable()),
            State::Str | State::VarArg => self.string(),
        }
    }

    fn fail(&mut self, message: impl Into<String>) -> Token {
        self.error = Some(message.into());
        Token::Error
    }

    fn take<T>(&mut self, scanned: Scan<'t, T>) -> Option<T> {
        let (rest, found) = scanned.ok()?;
        self.rest = rest;
        Some(found)
    }

    fn initial(&mut self) -> Token {
        use super::Comparison::*;
        if let Ok((rest, _)) =
            take_while1::<_, _, nom::error::Error<&[u8]>>(|c| matches!(c, b' ' | b'\t' | b'\n'))(self.rest)
        {
            self.rest = rest;
        }
        let Some(&first) = self.rest.first() else { return Token::End };
        if let Some(name) = self.take(word(self.rest)) {
            return self.keyword(name);
        }
        if let Some(number) = self.take(recognize(pair(opt(tag("-")), digit1)).parse(self.rest)) {
            return Token::Digit(number.to_vec());
        }
        let operator = preceded(tag("-"), take_while1(is_word)).parse(self.rest);
        if let Some(name) = self.take(operator) {
            return match name {
                b"in" => Token::In,
                b"eq" => Token::Compare(Eq),
                b"ne" => Token::Compare(Ne),
                b"ge" => Token::Compare(Ge),
                b"le" => Token::Compare(Le),
                b"gt" => Token::Compare(Gt),
                b"lt" => Token::Compare(Lt),
                [_] => Token::Unary(text(name)),
                _ => Token::Binary(text(name)),
            };
        }
        for (symbol, token) in [
            ("==", Token::Compare(StrEq)),
            ("=~", Token::Match),
            ("=", Token::Compare(StrEq)),
            ("!=", Token::Compare(StrNe)),
            ("!~", Token::NotMatch),
            ("!", Token::Not),
            ("<=", Token::Compare(StrLe)),
            ("<", Token::Compare(StrLt)),
            (">=", Token::Compare(StrGe)),
            (">", Token::Compare(StrGt)),
            ("&&", Token::And),
            ("||", Token::Or),
            (".", Token::Concat),
        ] {
            if self.take(tag::<_, _, nom::error::Error<&[u8]>>(symbol)(self.rest)).is_some() {
                return token;
            }
        }
        if let Some(token) = self.variable_begin().or_else(|| self.backref()) {
            return token;
        }
        self.rest = self.rest.get(1..).unwrap_or_default();
        match first {
            b'"' | b'\'' => {
                self.string.clear();
                self.quote = Some(first);
                self.state = State::Str;
                Token::StrBegin
            }
            b'/' => self.regex(b'/'),
            b'(' | b')' | b'{' | b'}' | b',' | b':' => Token::Mark(char::from(first)),
            _ => self.fail(format!("Parse error near '{}'", text(&[first]))),
        }
    }

    fn keyword(&mut self, name: &[u8]) -> Token {
        use super::Comparison::*;
        match name {
            b"and" => Token::And,
            b"or" => Token::Or,
            b"not" => Token::Not,
            b"lt" => Token::Compare(Lt),
            b"le" => Token::Compare(Le),
            b"gt" => Token::Compare(Gt),
            b"ge" => Token::Compare(Ge),
            b"ne" => Token::Compare(Ne),
            b"eq" => Token::Compare(Eq),
            b"in" => Token::In,
            b"true" => Token::True,
            b"false" => Token::False,
            b"m_" => self.regex(b'_'),
            b"m" => match self.take(one_of::<_, _, nom::error::Error<&[u8]>>(REGEX_DELIMITERS)(self.rest)) {
                Some(delimiter) => self.regex(u8::try_from(delimiter).unwrap_or(b'/')),
                None => Token::Id("m".to_owned()),
            },
            _ => Token::Id(text(name)),
        }
    }

    /// A regex, behind its first delimiter. What is not terminated is the end of the text to flex.
    fn regex(&mut self, delimiter: u8) -> Token {
        let end = self.rest.iter().position(|&c| c == delimiter);
        let (pattern, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if pattern.len() >= MAX_STRING_LEN {
            return self.fail("Regexp too long");
        }
        self.rest = rest.get(1..).unwrap_or_default();
        match (end, self.rest) {
            (None, _) => Token::End,
            (Some(_), [b'i', rest @ ..]) => {
                self.rest = rest;
                Token::RegexI(pattern.to_vec())
            }
            _ => Token::Regex(pattern.to_vec()),
        }
    }

    fn variable_begin(&mut self) -> Option<Token> {
        self.take(tag::<_, _, nom::error::Error<&[u8]>>("%{")(self.rest))?;
        self.outer.push(self.state);
        self.state = State::Var;
        Some(Token::VarBegin)
    }

    fn backref(&mut self) -> Option<Token> {
        let digit = self.take(preceded(tag("$"), satisfy(|c| c.is_ascii_digit())).parse(self.rest))?;
        Some(Token::Backref(digit.to_digit(10).and_then(|n| u8::try_from(n).ok()).unwrap_or_default()))
    }

    fn variable(&mut self) -> Token {
        if let Some(name) = self.take(word(self.rest)) {
            return Token::Id(text(name));
        }
        let first = self.take(take::<_, _, nom::error::Error<&[u8]>>(1usize)(self.rest));
        match first.and_then(<[u8]>::first).copied() {
            None | Some(b'\n') => self.fail("Unterminated string or variable"),
            Some(b'}') => {
                self.state = self.outer.pop().unwrap_or(State::Initial);
                Token::VarEnd
            }
            Some(b':') => {
                self.state = State::VarArg;
                Token::Mark(':')
            }
            Some(c) => self.fail(format!("Invalid character in variable name '{}'", text(&[c]))),
        }
    }

    /// The piece that was gathered, if there is one: what follows is then scanned at the next call.
    fn flush(&mut self) -> Option<Token> {
        if self.string.is_empty() {
            return None;
        }
        let mut piece = std::mem::take(&mut self.string);
        if let Some(nul) = piece.iter().position(|&c| c == 0) {
            piece.truncate(nul);
        }
        Some(Token::Text(piece))
    }

    /// In a string, or in the argument of `%{func:…}`.
    fn string(&mut self) -> Result<Token, Jammed> {
        let in_argument = self.state == State::VarArg;
        loop {
            if let Some(plain) = self.take(is_not::<_, _, nom::error::Error<&[u8]>>("\\\n\"'%}$")(self.rest))
            {
                self.string.extend_from_slice(plain);
                if self.string.len() >= MAX_STRING_LEN {
                    return Ok(self.fail("String too long"));
                }
                continue;
            }
            let Some(&first) = self.rest.first() else {
                if in_argument || !self.whole_is_string {
                    return Ok(self.fail("Unterminated string or variable"));
                }
                // What is left is a piece even when it is empty.
                self.state = State::Initial;
                return Ok(self.flush().unwrap_or(Token::Text(Vec::new())));
            };
            let special = match first {
                b'\n' => {
                    self.rest = self.rest.get(1..).unwrap_or_default();
                    return Ok(self.fail("Unterminated string or variable"));
                }
                b'\\' => match self.escape()? {
                    Ok(c) => {
                        self.string.push(c);
                        false
                    }
                    Err(message) => return Ok(self.fail(message)),
                },
                b'"' | b'\'' if in_argument => return Err(Jammed),
                b'"' | b'\'' => self.quote == Some(first),
                b'}' => in_argument,
                b'%' => peek(tag::<_, _, nom::error::Error<&[u8]>>("%{")).parse(self.rest).is_ok(),
                _ => self.rest.get(1).is_some_and(u8::is_ascii_digit),
            };
            if !special {
                if first != b'\\' {
                    self.string.push(first);
                    self.rest = self.rest.get(1..).unwrap_or_default();
                }
                if self.string.len() >= MAX_STRING_LEN {
                    return Ok(self.fail("String too long"));
                }
                continue;
            }
            if let Some(piece) = self.flush() {
                return Ok(piece);
            }
            if let Some(token) = self.variable_begin().or_else(|| self.backref()) {
                return Ok(token);
            }
            self.rest = self.rest.get(1..).unwrap_or_default();
            if in_argument {
                self.state = self.outer.pop().unwrap_or(State::Initial);
                return Ok(Token::VarEnd);
            }
            self.state = State::Initial;
            return Ok(Token::StrEnd);
        }
    }

    /// What a backslash and the characters behind it stand for.
    fn escape(&mut self) -> Result<Result<u8, &'static str>, Jammed> {
        let after = self.rest.get(1..).unwrap_or_default();
        let octal =
            take_while_m_n::<_, _, nom::error::Error<&[u8]>>(1, 3, |c| matches!(c, b'0'..=b'7'))(after);
        if let Ok((rest, _)) = digit1::<_, nom::error::Error<&[u8]>>(after) {
            return Ok(match octal {
                // Where more digits follow, flex takes the longer match, which is the wrong one.
                Ok((behind, digits)) if behind.len() == rest.len() => {
                    self.rest = rest;
                    let value = digits.iter().fold(0u32, |value, c| value * 8 + u32::from(c - b'0'));
                    u8::try_from(value).map_err(|_| "Escape sequence out of bound")
                }
                _ => Err("Bad escape sequence"),
            });
        }
        let Some((&c, rest)) = after.split_first() else { return Err(Jammed) };
        self.rest = rest;
        Ok(Ok(match c {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'f' => 0x0c,
            _ => c,
        }))
    }
}
