//! `<Macro>`, `Use` and `UndefMacro`.
//!
//! Answers to modules/core/mod_macro.c.

use std::collections::HashMap;
use std::sync::Arc;

use crate::encoding::{from_bytes, to_bytes};
use crate::lines::MAX_HTACCESS;
use crate::reader::{File, Reader, one_argument};
use crate::words::{getword_conf, words};
use crate::{DirectiveFacts, Host, Level, Warning};

/// What an argument's name should begin with. One with `@` is put in quotes when it is replaced.
const PREFIXES: &str = "$%@";

/// The macros, by name in lower case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Macros(HashMap<String, Arc<Macro>>);

#[derive(Debug)]
struct Macro {
    /// In lower case.
    name: String,
    /// `defined on line 3 of "file"`
    location: String,
    arguments: Vec<Vec<u8>>,
    /// The lines of the body, without comments.
    body: Vec<Vec<u8>>,
}

/// Warnings that are not wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QuietMacros {
    empty_args: bool,
    bad_nesting: bool,
}

impl Reader {
    /// `MacroIgnoreEmptyArgs`; arguments mean nothing.
    pub(crate) fn ignore_empty_args(
        &mut self,
        _: &mut dyn Host,
        _: &mut File,
        _: &DirectiveFacts,
        _: &str,
    ) -> Result<(), String> {
        self.quiet_macros.empty_args = true;
        Ok(())
    }

    /// `MacroIgnoreBadNesting`; arguments mean nothing.
    pub(crate) fn ignore_bad_nesting(
        &mut self,
        _: &mut dyn Host,
        _: &mut File,
        _: &DirectiveFacts,
        _: &str,
    ) -> Result<(), String> {
        self.quiet_macros.bad_nesting = true;
        Ok(())
    }

    /// `<Macro name argument …>`
    pub(crate) fn define_macro(
        &mut self,
        host: &mut dyn Host,
        file: &mut File,
        _: &DirectiveFacts,
        args: &str,
    ) -> Result<(), String> {
        self.macros.get_or_insert_default();
        let Some((args, after)) = args.rsplit_once('>') else {
            return Err("<Macro> directive missing closing '>'".to_string());
        };
        if args.is_empty() {
            return Err("<Macro macro definition: empty name".to_string());
        }
        let origin = file.lines.origin();
        warn_if_non_blank(host, file, "AH02801: non blank chars found after <Macro closing '>'", after);
        let mut rest = args;
        let name = getword_conf(&mut rest).to_ascii_lowercase();
        if name.is_empty() {
            return Err("<Macro macro definition: name not found".to_string());
        }
        if let Some(old) = self.find_macro(&name) {
            warn(
                host,
                "AH02802",
                format!(
                    "macro '{name}' multiply defined: {}, redefined on line {} of \"{}\"",
                    old.location, origin.line, origin.file
                ),
            );
        }
        let location = format!("defined on line {} of \"{}\"", origin.line, origin.file);
        let at = format!("macro '{name}' ({location})");
        // Apache's test is the wrong way round, and so is this.
        if name.starts_with(|c| PREFIXES.contains(c)) {
            warn(host, "AH02803", format!("{at} better prefix a macro name with any of '{PREFIXES}'"));
        }
        let names: Vec<String> = words(rest).map(|w| w.into_owned()).collect();
        check_arguments(host, &name, &location, &names)?;
        let body = read_body(host, file, &at, self.quiet_macros)
            .map_err(|e| format!("{at}\n\tcontents error: {e}"))?;
        let arguments: Vec<Vec<u8>> = names.iter().map(|n| to_bytes(n).into_owned()).collect();
        let definition = Macro { name, location, arguments, body };
        definition.check_body(host, &at, &names);
        if let Some(macros) = &mut self.macros {
            Arc::make_mut(macros).0.insert(definition.name.clone(), Arc::new(definition));
        }
        Ok(())
    }

    /// `Use name value …`
    pub(crate) fn use_macro(
        &mut self,
        host: &mut dyn Host,
        file: &mut File,
        _: &DirectiveFacts,
        args: &str,
    ) -> Result<(), String> {
        if self.macros.is_none() {
            return Err("no macro defined before Use".to_string());
        }
        let mut rest = args;
        let name = getword_conf(&mut rest).to_ascii_lowercase();
        if name.is_empty() {
            return Err("no macro name specified with Use".to_string());
        }
        let Some(definition) = self.find_macro(&name) else {
            return Err(format!("macro '{name}' undefined"));
        };
        // The name of what is read tells in which macros we are.
        let origin = file.lines.origin();
        if origin.file.contains(&format!("macro '{name}'")) {
            return Err(format!("recursive use of macro '{name}' is invalid"));
        }
        let values: Vec<Vec<u8>> = words(rest).map(|w| to_bytes(&w).into_owned()).collect();
        let location = &definition.location;
        if values.len() != definition.arguments.len() {
            return Err(format!(
                "macro '{name}' ({location}) used with {} arguments instead of {}",
                values.len(),
                definition.arguments.len()
            ));
        }
        let at = format!("macro '{name}' ({location}) used on line {} of \"{}\"", origin.line, origin.file);
        let loud = !self.quiet_macros.empty_args;
        for (i, _) in values.iter().enumerate().filter(|(_, v)| loud && v.is_empty()) {
            warn(host, "AH02798", format!("{at}: empty argument #{}", i + 1));
        }
        let text = definition.expand(&values).map_err(|e| format!("{at} error while substituting: {e}"))?;
        file.lines.push_macro(&at, from_bytes(&text).into_owned());
        Ok(())
    }

    /// `UndefMacro name`
    pub(crate) fn undef_macro(
        &mut self,
        _: &mut dyn Host,
        _: &mut File,
        facts: &DirectiveFacts,
        args: &str,
    ) -> Result<(), String> {
        let name = one_argument(facts, args)?.to_ascii_lowercase();
        let Some(macros) = &mut self.macros else {
            return Err("no macro defined before UndefMacro".to_string());
        };
        match Arc::make_mut(macros).0.remove(&name) {
            Some(_) => Ok(()),
            None => Err(format!("cannot remove undefined macro '{name}'")),
        }
    }

    fn find_macro(&self, name: &str) -> Option<Arc<Macro>> {
        self.macros.as_ref()?.0.get(name).cloned()
    }
}

impl Macro {
    /// Warns of arguments that the body never uses.
    fn check_body(&self, host: &mut dyn Host, at: &str, names: &[String]) {
        if self.body.is_empty() {
            return warn(host, "AH02799", format!("{at}: empty contents!"));
        }
        let mut used = vec![false; self.arguments.len()];
        for line in &self.body {
            let mut from = 0;
            while let Some((found, which)) = next_argument(line, from, &self.arguments) {
                used[which] = true;
                from = found + self.arguments[which].len();
            }
        }
        for (i, name) in names.iter().enumerate().filter(|(i, _)| !used[*i]) {
            warn(host, "AH02800", format!("{at}: argument '{name}' (#{}) never used", i + 1));
        }
    }

    /// The body with its arguments replaced.
    fn expand(&self, values: &[Vec<u8>]) -> Result<Vec<u8>, String> {
        let mut text = Vec::new();
        for (i, line) in self.body.iter().enumerate() {
            let line = self.substitute(line, values).map_err(|e| {
                format!("while processing line {} of macro '{}' ({}) {e}", i + 1, self.name, self.location)
            })?;
            text.extend_from_slice(&line);
        }
        Ok(text)
    }

    /// Goes on behind a replacement by the length of the value: the quotes and backslashes that `@` adds push
    /// the end of the value, and what follows it, under the search once more, as in Apache.
    fn substitute(&self, line: &[u8], values: &[Vec<u8>]) -> Result<Vec<u8>, String> {
        let mut line = line.to_vec();
        let mut from = 0;
        while let Some((at, which)) = next_argument(&line, from, &self.arguments) {
            let (name, value) = (&self.arguments[which], &values[which]);
            if name != value {
                let new = if name.starts_with(b"@") { quoted(value) } else { value.clone() };
                if line.len() - name.len() + new.len() >= MAX_HTACCESS {
                    return Err("cannot substitute, buffer size too small".to_string());
                }
                line.splice(at..at + name.len(), new);
            }
            from = at + value.len();
        }
        Ok(line)
    }
}

/// The first argument in `line` from `from` on, the longest of those that begin at the same place.
fn next_argument(line: &[u8], from: usize, arguments: &[Vec<u8>]) -> Option<(usize, usize)> {
    let rest = line.get(from..)?;
    let mut best: Option<(usize, usize)> = None;
    for (which, name) in arguments.iter().enumerate() {
        let Some(at) = rest.windows(name.len().max(1)).position(|w| w == name.as_slice()) else { continue };
        if best.is_none_or(|(b, i)| at < b || at == b && name.len() > arguments[i].len()) {
            best = Some((at, which));
        }
    }
    best.map(|(at, which)| (from + at, which))
}

fn quoted(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 2);
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
    out
}

fn check_arguments(
    host: &mut dyn Host,
    name: &str,
    location: &str,
    arguments: &[String],
) -> Result<(), String> {
    for (i, argument) in arguments.iter().enumerate() {
        if argument.is_empty() {
            return Err(format!("macro '{name}' ({location}): empty argument #{} name", i + 1));
        }
        if !argument.starts_with(|c| PREFIXES.contains(c)) {
            warn(
                host,
                "AH02796",
                format!(
                    "macro '{name}' ({location}) argument name '{argument}' (#{}) without expected prefix, \
                     better prefix argument names with one of '{PREFIXES}'.",
                    i + 1
                ),
            );
        }
        if argument.starts_with("${") {
            warn(
                host,
                "AH02805",
                format!(
                    "macro '{name}' ({location}) argument name '{argument}' (#{}) clashes with 'Define' syntax '${{...}}', \
                     better use '$(...)'.",
                    i + 1
                ),
            );
        }
        for (j, other) in arguments.iter().enumerate().skip(i + 1) {
            if argument == other {
                return Err(format!(
                    "argument name conflict in macro '{name}' ({location}): \
                     argument '{argument}': #{} and #{}, change argument names!",
                    i + 1,
                    j + 1
                ));
            }
            if !other.is_empty()
                && (argument.starts_with(other.as_str()) || other.starts_with(argument.as_str()))
            {
                warn(
                    host,
                    "AH02797",
                    format!(
                        "macro '{name}' ({location}): argument name prefix conflict ({argument} #{} and {other} #{}), \
                         be careful about your macro definition!",
                        i + 1,
                        j + 1
                    ),
                );
            }
        }
    }
    Ok(())
}

/// The lines up to the `</Macro>`, each with a newline.
fn read_body(
    host: &mut dyn Host,
    file: &mut File,
    at: &str,
    quiet: QuietMacros,
) -> Result<Vec<Vec<u8>>, String> {
    let mut body = Vec::new();
    let (mut macros, mut sections) = (1, 1);
    let start = file.lines.origin().line;
    let mut line = String::new();
    while file.lines.next_of_macro(&mut line) == Ok(true) {
        if line.starts_with('#') {
            continue;
        }
        let first = getword_conf(&mut line.as_str()).into_owned();
        if first.starts_with("</") {
            sections -= 1;
            if sections < 0 && !quiet.bad_nesting {
                let line = i64::from(file.lines.origin().line) - i64::from(start);
                warn(host, "AH02793", format!("bad (negative) nesting on line {line} of {at}"));
            }
        } else if first.starts_with('<') {
            sections += 1;
        }
        if first.eq_ignore_ascii_case("</Macro>") {
            let after = line.rsplit_once('>').map_or("", |(_, after)| after);
            warn_if_non_blank(host, file, "AH02794: non blank chars found after directive closing", after);
            macros -= 1;
            if macros == 0 {
                if sections != 0 && !quiet.bad_nesting {
                    warn(host, "AH02795", format!("bad cumulated nesting ({sections:+}) in {at}"));
                }
                return Ok(body);
            }
        } else if first.eq_ignore_ascii_case("<Macro") {
            macros += 1;
        }
        let mut bytes = to_bytes(&line).into_owned();
        bytes.push(b'\n');
        body.push(bytes);
    }
    Err("expected token not found: </Macro>".to_string())
}

fn warn_if_non_blank(host: &mut dyn Host, file: &File, what: &str, text: &str) {
    if !matches!(text.trim_start_matches([' ', '\t']).chars().next(), None | Some('#')) {
        let origin = file.lines.origin();
        warn(host, "AH02989", format!("{what} on {origin}: {text}"));
    }
}

fn warn(host: &mut dyn Host, id: &'static str, message: String) {
    host.warn(Warning { id, level: Level::Warn, module: "macro", message });
}

#[cfg(test)]
mod tests {
    use crate::fake::{Fake, read, read_with};

    fn warnings(text: &str) -> Vec<String> {
        let mut host = Fake::default();
        read_with(&mut host, text);
        host.warnings
    }

    #[test]
    fn a_macro_is_used() {
        assert_eq!(
            read(
                "<Macro Ma $a %b>\n# no line\nServerName $a%b$a\n\n<Files %b>\nX\n</Files>\n</Macro>\nuse mA 1 '2 3'\nY"
            ),
            "1 ServerName 12 31\n3 <Files 2 3>\n  4 X \n10 Y \n"
        );
        // Of two arguments, the longer is replaced; those that stand in a value are not.
        assert_eq!(read("<Macro m $a $ab>\nA $ab $a\n</Macro>\nUse m '$ab' 2"), "1 A 2 $ab\n");
        assert_eq!(read("<Macro m>\n<Files a>\n</Macro>\nUse m\nA\n</Files>"), "1 <Files a>\n  5 A \n");
    }

    #[test]
    fn quoting_of_at_arguments() {
        assert_eq!(read("<Macro m @a>\nA @a b\n</Macro>\nUse m 'x \"y\\z'"), "1 A \"x \\\"y\\\\z\" b\n");
        // The search goes on within what the quotes and backslashes pushed forward.
        assert_eq!(read("<Macro m @a $b>\nA @a\n</Macro>\nUse m '\"$b' 1"), "1 A \"\\\"1\"\n");
    }

    #[test]
    fn macros_in_macros() {
        assert_eq!(
            read(
                "<Macro o $n>\n<Macro i_$n @x>\nA @x\n</Macro>\nUse i_$n 1\n</Macro>\nUse o k\nUse i_K 2\n\
                 UndefMacro O\nUse o k"
            ),
            "Syntax error on line 10 of /r/f: macro 'o' undefined"
        );
        assert_eq!(
            read("<Macro a>\nUse B\n</Macro>\n<Macro b>\nUse A\n</Macro>\n\nUse a"),
            "Syntax error on line 1 of macro 'b' (defined on line 4 of \"/r/f\") used on line 1 of \"macro 'a' (defined on \
             line 1 of \"/r/f\") used on line 8 of \"/r/f\"\": recursive use of macro 'a' is invalid"
        );
    }

    #[test]
    fn errors() {
        let long = "x".repeat(8190);
        for (text, error) in [
            ("Use x", "1 of /r/f: no macro defined before Use"),
            ("UndefMacro x", "1 of /r/f: no macro defined before UndefMacro"),
            ("<Macro x>\n</Macro>\nUse", "3 of /r/f: no macro name specified with Use"),
            ("<Macro x>\n</Macro>\nUndefMacro Y", "3 of /r/f: cannot remove undefined macro 'y'"),
            (
                "<Macro x>\n</Macro>\nUndefMacro",
                "3 of /r/f: UndefMacro takes one argument, Remove a macro definition.",
            ),
            ("<Macro x\n</Macro>", "1 of /r/f: <Macro> directive missing closing '>'"),
            ("<Macro>\n</Macro>", "1 of /r/f: <Macro macro definition: empty name"),
            ("<Macro \"\">\n</Macro>", "1 of /r/f: <Macro macro definition: name not found"),
            (
                "<Macro x>\n",
                "1 of /r/f: macro 'x' (defined on line 1 of \"/r/f\")\n\tcontents error: expected token not found: </Macro>",
            ),
            (
                "<Macro x $a \"\">\n</Macro>",
                "1 of /r/f: macro 'x' (defined on line 1 of \"/r/f\"): empty argument #2 name",
            ),
            (
                "<Macro x $a $b $a>\n</Macro>",
                "1 of /r/f: argument name conflict in macro 'x' (defined on line 1 of \"/r/f\"): argument '$a': #1 and #3, \
                 change argument names!",
            ),
            (
                "<Macro x $a>\n$a\n</Macro>\nUse x",
                "4 of /r/f: macro 'x' (defined on line 1 of \"/r/f\") used with 0 arguments instead of 1",
            ),
            (
                &format!("<Macro x $a>\nA $a\n</Macro>\nUse x {long}"),
                "4 of /r/f: macro 'x' (defined on line 1 of \"/r/f\") used on line 4 of \"/r/f\" error while substituting: \
                 while processing line 1 of macro 'x' (defined on line 1 of \"/r/f\") cannot substitute, buffer size too small",
            ),
        ] {
            assert_eq!(read(text), format!("Syntax error on line {error}"));
        }
    }

    #[test]
    fn warnings_of_a_definition() {
        let at = "macro 'x' (defined on line 1 of \"/r/f\")";
        assert_eq!(warnings("<Macro x>\n</Macro>"), [format!("macro AH02799: {at}: empty contents!")]);
        assert_eq!(
            warnings("<Macro x a $a $ab> y\n<Z>\n$a a\n</Macro> z # c"),
            [
                "macro AH02989: AH02801: non blank chars found after <Macro closing '>' on line 1 of /r/f:  y".to_string(),
                format!(
                    "macro AH02796: {at} argument name 'a' (#1) without expected prefix, better prefix argument names with \
                     one of '$%@'."
                ),
                format!(
                    "macro AH02797: {at}: argument name prefix conflict ($a #2 and $ab #3), be careful about your macro \
                     definition!"
                ),
                "macro AH02989: AH02794: non blank chars found after directive closing on line 4 of /r/f:  z # c".to_string(),
                format!("macro AH02795: bad cumulated nesting (+1) in {at}"),
                format!("macro AH02800: {at}: argument '$ab' (#3) never used"),
            ]
        );
        assert_eq!(
            warnings("<Macro x>\nA\n</Macro>\n<Macro X>\n</Y>\n</Z>\nA\n</Macro> # fine"),
            [
                format!(
                    "macro AH02802: macro 'x' multiply defined: {}, redefined on line 4 of \"/r/f\"",
                    "defined on line 1 of \"/r/f\""
                ),
                "macro AH02793: bad (negative) nesting on line 2 of macro 'x' (defined on line 4 of \"/r/f\")".to_string(),
                "macro AH02793: bad (negative) nesting on line 4 of macro 'x' (defined on line 4 of \"/r/f\")".to_string(),
                "macro AH02795: bad cumulated nesting (-2) in macro 'x' (defined on line 4 of \"/r/f\")".to_string(),
            ]
        );
    }

    #[test]
    fn warnings_that_are_not_wanted() {
        let nested = "<Macro x $a>\n<Z>\n$a\n</Macro>\n";
        assert_eq!(warnings(nested).len(), 1);
        assert_eq!(warnings(&format!("MacroIgnoreBadNesting\n{nested}")).len(), 0);
        let empty = "<Macro x $a>\nA$a\n</Macro>\nUse x ''";
        assert_eq!(warnings(empty).len(), 1);
        assert_eq!(warnings(&format!("MacroIgnoreEmptyArgs yes\n{empty}")).len(), 0);
    }

    #[test]
    fn warnings_of_a_name_and_a_use() {
        assert_eq!(
            warnings("<Macro $x $a>\nA$a\n</Macro>\nUse $x ''"),
            [
                "macro AH02803: macro '$x' (defined on line 1 of \"/r/f\") better prefix a macro name with any of '$%@'",
                "macro AH02798: macro '$x' (defined on line 1 of \"/r/f\") used on line 4 of \"/r/f\": empty argument #1",
            ]
        );
    }
}
