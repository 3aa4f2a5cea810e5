//! `ExtFilterDefine` and `ExtFilterOptions`.

use std::collections::HashMap;
use std::sync::Arc;

use super::through::InputThrough;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::filter::{FilterKind, Wrap};
use crate::hooks::interned;
use crate::module::{Conf, Slot};
use crate::text::atol;

pub(super) static SERVER: Slot<ExtFilterServer> = Slot::new();
pub(super) static DIR: Slot<ExtFilterDir> = Slot::new();

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Input,
    Output,
}

/// A filter: `ef_filter_t`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) mode: Mode,
    kind: i64,
    pub(super) words: Vec<String>,
    pub(super) enable_env: Option<String>,
    pub(super) disable_env: Option<String>,
    pub(super) in_type: Option<String>,
    pub(super) out_type: Option<String>,
    pub(super) preserves_length: bool,
}

impl Definition {
    /// The program's file.
    pub(super) fn command(&self) -> &str {
        self.words.first().map_or("(null)", String::as_str)
    }
}

/// A server's filters. A virtual host knows the main server's, too.
#[derive(Clone, Default)]
pub(super) struct ExtFilterServer {
    pub(super) filters: HashMap<String, Arc<Definition>>,
}

impl Conf for ExtFilterServer {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

/// A directory's settings: `ef_dir_t`.
#[derive(Clone, Default)]
pub(super) struct ExtFilterDir {
    pub(super) log_stderr: Option<bool>,
    /// A filter that can't be begun is left out; else the request ends.
    pub(super) removes: Option<bool>,
}

impl Conf for ExtFilterDir {
    fn merge(&self, child: &Self) -> Self {
        ExtFilterDir {
            log_stderr: child.log_stderr.or(self.log_stderr),
            removes: child.removes.or(self.removes),
        }
    }
}

pub(super) static ROWS: &[Directive] = &[
    Directive {
        name: "ExtFilterOptions",
        args: Args::Iterate(option),
        allowed: Allowed::ACCESS_CONF,
        help: "valid options: LogStderr, NoLogStderr",
    },
    Directive {
        name: "ExtFilterDefine",
        args: Args::Raw(define),
        allowed: Allowed::RSRC_CONF,
        help: "Define an external filter",
    },
];

fn option(cmd: &mut Cmd, option: &str) -> Done {
    let dir = cmd.dir(&DIR);
    match option.to_ascii_lowercase().as_str() {
        "logstderr" => dir.log_stderr = Some(true),
        "nologstderr" => dir.log_stderr = Some(false),
        "onfail=remove" => dir.removes = Some(true),
        "onfail=abort" => dir.removes = Some(false),
        _ => return Err(format!("Invalid ExtFilterOptions option: {option}").into()),
    }
    Ok(())
}

/// The next word up to a blank: `ap_getword_white`.
fn word<'a>(rest: &mut &'a str) -> &'a str {
    let text = *rest;
    let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
    let (word, behind) = text.split_at(end);
    *rest = behind.trim_start_matches(|c: char| c.is_ascii_whitespace());
    word
}

/// `prefix`, whatever its case, taken off.
fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let start = text.get(..prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn define(cmd: &mut Cmd, args: &str) -> Done {
    let mut rest = args;
    let name = word(&mut rest).to_owned();
    let key = name.to_ascii_lowercase();
    if cmd.server_conf(&SERVER)?.filters.contains_key(&key) {
        return Err(format!("ExtFilter {name} is already defined").into());
    }
    let filter = Arc::new(parse(rest)?);
    let kind = match filter.kind {
        ..=10 => FilterKind::Resource,
        11..=18 => FilterKind::BeforeCache,
        19..=20 => FilterKind::ContentSet,
        21..=30 => FilterKind::Protocol,
        31.. => FilterKind::Transcode,
    };
    let (mode, name) = (filter.mode, interned(&name));
    cmd.server_conf(&SERVER)?.filters.insert(key, filter);
    let hooks = &mut cmd.setup()?.hooks;
    match mode {
        Mode::Output => {
            let wrap = Wrap::Shared(Arc::new(move |r, content| super::wrap(r, name, content)));
            hooks.define_output_filter(name, kind, wrap);
        }
        Mode::Input => hooks.define_input_filter(name, kind, Arc::new(|| Box::new(InputThrough::new(name)))),
    }
    Ok(())
}

fn parse(args: &str) -> Result<Definition, String> {
    let mut filter = Definition {
        mode: Mode::Output,
        kind: 10,
        words: Vec::new(),
        enable_env: None,
        disable_env: None,
        in_type: None,
        out_type: None,
        preserves_length: false,
    };
    let mut rest = args.trim_start();
    while !rest.is_empty() {
        if strip(rest, "preservescontentlength").is_some() {
            let token = word(&mut rest);
            if !token.eq_ignore_ascii_case("preservescontentlength") {
                return Err(format!("mangled argument `{token}'"));
            }
            filter.preserves_length = true;
        } else if let Some(behind) = strip(rest, "mode=") {
            rest = behind;
            let token = word(&mut rest);
            filter.mode = match token.to_ascii_lowercase().as_str() {
                "output" => Mode::Output,
                "input" => Mode::Input,
                _ => return Err(format!("Invalid mode: `{token}'")),
            };
        } else if let Some(behind) = strip(rest, "ftype=") {
            rest = behind;
            filter.kind = atol(word(&mut rest));
        } else if let Some(behind) = strip(rest, "enableenv=") {
            rest = behind;
            filter.enable_env = Some(word(&mut rest).to_owned());
        } else if let Some(behind) = strip(rest, "disableenv=") {
            rest = behind;
            filter.disable_env = Some(word(&mut rest).to_owned());
        } else if let Some(behind) = strip(rest, "intype=") {
            rest = behind;
            filter.in_type = Some(word(&mut rest).to_owned());
        } else if let Some(behind) = strip(rest, "outtype=") {
            rest = behind;
            filter.out_type = Some(word(&mut rest).to_owned());
        } else if let Some(behind) = strip(rest, "cmd=") {
            rest = behind;
            filter.words = command(&mut rest)?;
        } else {
            return Err(format!("Unexpected parameter: `{rest}'"));
        }
        rest = rest.trim_start();
    }
    Ok(filter)
}

/// A program with its words, in quotes; or its file alone.
fn command(rest: &mut &str) -> Result<Vec<String>, String> {
    let Some(quoted) = rest.strip_prefix('"') else { return Ok(vec![word(rest).to_owned()]) };
    let mut escaping = false;
    let end = quoted.find(|c| {
        let ends = c == '"' && !escaping;
        escaping = c == '\\' && !escaping;
        ends
    });
    let end = end.ok_or("Expected cmd= delimiter")?;
    *rest = &quoted[end + 1..];
    let words = tokenize(&quoted[..end]);
    if words.is_empty() {
        return Err("Invalid cmd= parameter".to_owned());
    }
    Ok(words)
}

/// Words, in quotes or not, with backslashes before quotes and blanks: `apr_tokenize_to_argv`.
fn tokenize(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = text.trim_start().chars().peekable();
    while let Some(&first) = chars.peek() {
        let quote = Some(first).filter(|c| matches!(c, '"' | '\''));
        if quote.is_some() {
            chars.next();
        }
        let mut word = String::new();
        while let Some(c) = chars.next() {
            let escapes = |next: &char| match quote {
                Some(quote) => *next == quote,
                None => next.is_ascii_whitespace() || matches!(next, '"' | '\''),
            };
            if c == '\\' && chars.peek().is_some_and(escapes) {
                word.extend(chars.next());
            } else if quote.map_or(c.is_ascii_whitespace(), |quote| c == quote) {
                break;
            } else {
                word.push(c);
            }
        }
        words.push(word);
        while chars.next_if(char::is_ascii_whitespace).is_some() {}
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions() {
        let filter =
            parse("mode=input intype=text/plain cmd=\"/bin/sed s/a/b/ 'c d' \\\"e\\\"\" ftype=30").unwrap();
        assert_eq!((filter.mode, filter.kind), (Mode::Input, 30));
        assert_eq!(filter.words, ["/bin/sed", "s/a/b/", "c d", "\"e\""]);
        assert_eq!(filter.in_type.as_deref(), Some("text/plain"));
        assert_eq!(parse("cmd=/bin/cat PreservesContentLength").unwrap().words, ["/bin/cat"]);
        assert_eq!(parse("cmd=\"x").unwrap_err(), "Expected cmd= delimiter");
        assert_eq!(parse("mode=both").unwrap_err(), "Invalid mode: `both'");
        assert_eq!(parse("nope=x y").unwrap_err(), "Unexpected parameter: `nope=x y'");
    }
}
