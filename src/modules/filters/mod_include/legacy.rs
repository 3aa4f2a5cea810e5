//! Conditions in the language of before 2.4 (`SSILegacyExprParser`): `parse_expr`, `get_ptoken`.

use super::expand::{Captured, expand};
use super::page::Ssi;
use crate::log::{Level, rerror, shown};
use crate::regex::{Flags, Regex};
use crate::request::Request;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Text,
    Regex,
    And,
    Or,
    Not,
    Eq,
    Ne,
    Close,
    Open,
    Group,
    Ge,
    Le,
    Gt,
    Lt,
    Access,
}

/// A node of the tree; others by their places in it.
struct Node {
    parent: Option<usize>,
    left: Option<usize>,
    right: Option<usize>,
    kind: Kind,
    text: Vec<u8>,
    value: bool,
    done: bool,
}

/// What is wrong with a condition: number and text, around the condition and the file.
type Fault = (&'static str, &'static str, &'static str, &'static str);

const INVALID: &str = "Invalid expression \"";
const IN_FILE: &str = "\" in file ";

fn invalid(number: &'static str) -> Fault {
    (number, INVALID, IN_FILE, "")
}

/// Takes the next token off. A string whose quote is missing is empty.
fn token(rest: &mut &[u8], previous: Option<Kind>) -> Option<(Kind, Vec<u8>)> {
    let is_space = |c: u8| c.is_ascii_whitespace() || c == 0x0b;
    while rest.first().is_some_and(|&c| is_space(c)) {
        *rest = &rest[1..];
    }
    let (&c, behind) = rest.split_first()?;
    let second = behind.first().copied();
    let doubled = |kind: Kind| Some((kind, 2));
    let found = match (c, second) {
        (b'(', _) => Some((Kind::Open, 1)),
        (b')', _) => Some((Kind::Close, 1)),
        (b'=', Some(b'=')) => doubled(Kind::Eq),
        (b'=', _) => Some((Kind::Eq, 1)),
        (b'!', Some(b'=')) => doubled(Kind::Ne),
        (b'!', _) => Some((Kind::Not, 1)),
        (b'|', Some(b'|')) => doubled(Kind::Or),
        (b'&', Some(b'&')) => doubled(Kind::And),
        (b'>', Some(b'=')) => doubled(Kind::Ge),
        (b'>', _) => Some((Kind::Gt, 1)),
        (b'<', Some(b'=')) => doubled(Kind::Le),
        (b'<', _) => Some((Kind::Lt, 1)),
        (b'-', Some(b'A')) => doubled(Kind::Access),
        _ => None,
    };
    if let Some((kind, length)) = found {
        *rest = &rest[length..];
        return Some((kind, Vec::new()));
    }
    let (kind, quote) = match c {
        b'\'' => (Kind::Text, Some(b'\'')),
        b'/' if previous != Some(Kind::Access) => (Kind::Regex, Some(b'/')),
        _ => (Kind::Text, None),
    };
    if quote.is_some() {
        *rest = behind;
    }
    let mut text = Vec::new();
    while let Some((&c, behind)) = rest.split_first() {
        if c == b'\\' {
            let Some((&escaped, behind)) = behind.split_first() else {
                *rest = b"";
                break;
            };
            text.push(escaped);
            *rest = behind;
            continue;
        }
        match quote {
            Some(quote) if c == quote => {
                *rest = behind;
                return Some((kind, text));
            }
            Some(_) => {}
            None if is_space(c) || b"()=!<>".contains(&c) => return Some((kind, text)),
            None if matches!(c, b'|' | b'&') && behind.first() == Some(&c) => return Some((kind, text)),
            None => {}
        }
        text.push(c);
        *rest = behind;
    }
    if quote.is_some() {
        text.clear();
    }
    Some((kind, text))
}

struct Tree {
    nodes: Vec<Node>,
    root: Option<usize>,
    current: Option<usize>,
    /// How many regular expressions are to be looked at still: their captures are wanted whatever comes out.
    regexes: u32,
}

impl Tree {
    fn kind(&self, at: usize) -> Kind {
        self.nodes[at].kind
    }

    /// Puts `new` in place of what stands right of `above`, which goes left of it.
    fn insert_below(&mut self, above: Option<usize>, new: usize) {
        let left = match above {
            Some(above) => self.nodes[above].right,
            None => self.root,
        };
        self.nodes[new].left = left;
        if let Some(left) = left {
            self.nodes[left].parent = Some(new);
        }
        self.nodes[new].parent = above;
        match above {
            Some(above) => self.nodes[above].right = Some(new),
            None => self.root = Some(new),
        }
        self.current = Some(new);
    }

    fn append(&mut self, to: usize, new: usize) {
        self.nodes[new].parent = Some(to);
        self.nodes[to].right = Some(new);
        self.current = Some(new);
    }

    fn parse(text: &[u8]) -> Result<Tree, Fault> {
        let mut tree = Tree { nodes: Vec::new(), root: None, current: None, regexes: 0 };
        let mut rest = text;
        loop {
            let previous = tree.current.map(|at| tree.kind(at));
            let Some((kind, text)) = token(&mut rest, previous) else { return Ok(tree) };
            let new = tree.nodes.len();
            let node = Node { parent: None, left: None, right: None, kind, text, value: false, done: false };
            tree.nodes.push(node);
            tree.add(new, kind)?;
        }
    }

    fn add(&mut self, new: usize, kind: Kind) -> Result<(), Fault> {
        use Kind::{Access, And, Close, Eq, Ge, Group, Gt, Le, Lt, Ne, Not, Open, Or, Regex, Text};
        let fault = Err(invalid("AH03188"));
        let Some(at) = self.current else {
            if !matches!(kind, Text | Not | Access | Open) {
                return fault;
            }
            (self.root, self.current) = (Some(new), Some(new));
            return Ok(());
        };
        let before = self.kind(at);
        match kind {
            Text if before == Text => {
                let text = std::mem::take(&mut self.nodes[new].text);
                let joined = &mut self.nodes[at].text;
                if !joined.is_empty() {
                    joined.push(b' ');
                }
                joined.extend_from_slice(&text);
            }
            Text if !matches!(before, Regex | Close | Group) => self.append(at, new),
            Regex if matches!(before, Eq | Ne) => {
                self.append(at, new);
                self.regexes += 1;
            }
            And | Or if matches!(before, Text | Regex | Group) => {
                let mut above = self.nodes[at].parent;
                while let Some(node) = above
                    && !matches!(self.kind(node), And | Or | Open)
                {
                    above = self.nodes[node].parent;
                }
                self.insert_below(above, new);
            }
            Eq | Ne | Ge | Gt | Le | Lt if before == Text => {
                let above = self.nodes[at].parent;
                if above.is_some_and(|above| !matches!(self.kind(above), Open | And | Or)) {
                    return fault;
                }
                self.insert_below(above, new);
            }
            Close => {
                let mut above = Some(at);
                while let Some(node) = above
                    && self.kind(node) != Open
                {
                    above = self.nodes[node].parent;
                }
                let Some(open) = above else { return Err(("AH03189", "Unmatched ')' in \"", IN_FILE, "")) };
                self.nodes[open].kind = Group;
                self.current = Some(open);
            }
            Not | Access | Open if !matches!(before, Text | Regex | Close | Group) => self.append(at, new),
            _ => return fault,
        }
        Ok(())
    }
}

/// Is the condition true? `Err`: it can't be told, and this was logged.
pub(super) fn holds(r: &mut Request, ssi: &mut Ssi, text: &[u8]) -> Result<bool, ()> {
    let result = Tree::parse(text).and_then(|tree| tree.evaluate(r, ssi));
    result.map_err(|(number, begin, middle, end)| {
        let text = shown(text);
        rerror!(r, Level::Error, "include", number, "{begin}{text}{middle}{}{end}", r.filename);
    })
}

impl Tree {
    /// Expands a string that stands in it.
    fn expand(&mut self, r: &mut Request, ssi: &Ssi, at: usize) {
        let text = std::mem::take(&mut self.nodes[at].text);
        let text = expand(r, ssi, &text, false);
        self.nodes[at].value = !text.is_empty();
        self.nodes[at].text = text;
    }

    /// A side of AND or OR: its value, or the node to evaluate before.
    fn side(&mut self, r: &mut Request, ssi: &Ssi, at: usize) -> Result<bool, usize> {
        if !self.nodes[at].done {
            if self.kind(at) != Kind::Text {
                return Err(at);
            }
            self.expand(r, ssi, at);
            self.nodes[at].done = true;
        }
        Ok(self.nodes[at].value)
    }

    /// Both sides of a comparison, expanded.
    fn sides(
        &mut self,
        r: &mut Request,
        ssi: &Ssi,
        at: usize,
        fault: Fault,
    ) -> Result<(Vec<u8>, Vec<u8>, Kind), Fault> {
        let (Some(left), Some(right)) = (self.nodes[at].left, self.nodes[at].right) else {
            return Err(fault);
        };
        let takes_regex = matches!(self.kind(at), Kind::Eq | Kind::Ne);
        let is_regex = self.kind(right) == Kind::Regex;
        if self.kind(left) != Kind::Text || self.kind(right) != Kind::Text && !(is_regex && takes_regex) {
            return Err(fault);
        }
        self.expand(r, ssi, left);
        self.expand(r, ssi, right);
        Ok((self.nodes[left].text.clone(), self.nodes[right].text.clone(), self.kind(right)))
    }

    fn evaluate(mut self, r: &mut Request, ssi: &mut Ssi) -> Result<bool, Fault> {
        let mut next = self.root;
        while let Some(at) = next {
            let kind = self.kind(at);
            let value = match kind {
                Kind::Text => {
                    self.expand(r, ssi, at);
                    self.nodes[at].value
                }
                Kind::And | Kind::Or => {
                    let (Some(left), Some(right)) = (self.nodes[at].left, self.nodes[at].right) else {
                        return Err(invalid("AH01332"));
                    };
                    let first = match self.side(r, ssi, left) {
                        Ok(value) => value,
                        Err(node) => {
                            next = Some(node);
                            continue;
                        }
                    };
                    let decided = first == (kind == Kind::Or);
                    if decided && self.regexes == 0 && !self.nodes[right].done {
                        first
                    } else {
                        let second = match self.side(r, ssi, right) {
                            Ok(value) => value,
                            Err(node) => {
                                next = Some(node);
                                continue;
                            }
                        };
                        if kind == Kind::And { first && second } else { first || second }
                    }
                }
                Kind::Eq | Kind::Ne => {
                    let (left, right, of) = self.sides(r, ssi, at, invalid("AH01333"))?;
                    let equal = match of {
                        Kind::Regex => {
                            self.regexes = self.regexes.saturating_sub(1);
                            matches(r, ssi, left, &right)
                        }
                        _ => left == right,
                    };
                    equal == (kind == Kind::Eq)
                }
                Kind::Ge | Kind::Gt | Kind::Le | Kind::Lt => {
                    let (left, right, _) = self.sides(r, ssi, at, invalid("AH01334"))?;
                    let order = left.cmp(&right);
                    match kind {
                        Kind::Ge => order.is_ge(),
                        Kind::Gt => order.is_gt(),
                        Kind::Le => order.is_le(),
                        _ => order.is_lt(),
                    }
                }
                Kind::Not | Kind::Group => {
                    let inner = match self.nodes[at].right {
                        Some(right) if !self.nodes[right].done => {
                            next = Some(right);
                            continue;
                        }
                        Some(right) => self.nodes[right].value,
                        None => true,
                    };
                    inner != (kind == Kind::Not)
                }
                Kind::Access => self.access(r, ssi, at)?,
                Kind::Regex => return Err(("AH03190", "No operator before regex in expr \"", IN_FILE, "")),
                Kind::Open => return Err(("AH03191", "Unmatched '(' in \"", IN_FILE, "")),
                Kind::Close => return Err(("AH03192", "internal parser error in \"", IN_FILE, "")),
            };
            self.nodes[at].value = value;
            self.nodes[at].done = true;
            next = self.nodes[at].parent;
        }
        Ok(self.root.is_some_and(|root| self.nodes[root].value))
    }

    /// `-A`: may the client have this URI?
    fn access(&mut self, r: &mut Request, ssi: &Ssi, at: usize) -> Result<bool, Fault> {
        const WHY: &str = ": Token '-A' must be followed by a URI string.";
        let fault = ("AH01335", INVALID, IN_FILE, WHY);
        let right = self.nodes[at].right.filter(|_| self.nodes[at].left.is_none()).ok_or(fault)?;
        if !matches!(self.kind(right), Kind::Text | Kind::Regex) {
            return Err(fault);
        }
        self.expand(r, ssi, right);
        let uri = self.nodes[right].text.clone();
        let status = r.sub_req_lookup_uri(&uri).map_or(500, |sub| sub.status);
        if status >= 400 {
            let uri = shown(&uri);
            rerror!(
                r,
                Level::Debug,
                "include",
                "AH01336",
                err = std::io::Error::other(format!("({status})Unknown error {status}")),
                "mod_include: The tested subrequest -A \"{uri}\" returned an error code."
            );
        }
        Ok(status < 400)
    }
}

/// `re_check`. A pattern that is none matches, as in Apache.
fn matches(r: &Request, ssi: &mut Ssi, source: Vec<u8>, pattern: &[u8]) -> bool {
    let Ok(regex) = Regex::from_bytes(pattern, Flags::default()) else {
        let pattern = shown(pattern);
        rerror!(r, Level::Error, "include", "AH02667", "unable to compile pattern \"{pattern}\"");
        return true;
    };
    let captures = regex.captures(&source);
    let matched = captures.is_some();
    ssi.captured =
        Some(Captured { source, pattern: Some(pattern.to_vec()), groups: regex.groups(), captures });
    matched
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let all = |text: &str| {
            let mut rest = text.as_bytes();
            let mut tokens = Vec::new();
            while let Some((kind, text)) = token(&mut rest, tokens.last().map(|&(kind, _)| kind)) {
                tokens.push((kind, String::from_utf8_lossy(&text).into_owned()));
            }
            tokens
        };
        let text = |text: &str| (Kind::Text, text.to_owned());
        let sign = |kind: Kind| (kind, String::new());
        assert_eq!(
            all("$a=b\\=c&&!'d e'"),
            [text("$a"), sign(Kind::Eq), text("b=c"), sign(Kind::And), sign(Kind::Not), text("d e")]
        );
        assert_eq!(
            all("a >= /x y/ | -A /u"),
            [
                text("a"),
                sign(Kind::Ge),
                (Kind::Regex, "x y".to_owned()),
                text("|"),
                sign(Kind::Access),
                text("/u")
            ]
        );
        assert_eq!(all("'open"), [text("")]);
    }

    #[test]
    fn what_is_no_condition() {
        for (wrong, number) in
            [("= a", "AH03188"), ("a)", "AH03189"), ("a = b = c", "AH03188"), ("/x/", "AH03188")]
        {
            assert_eq!(Tree::parse(wrong.as_bytes()).err().map(|fault| fault.0), Some(number), "{wrong}");
        }
    }
}
