//! Sections that are read or skipped: `<IfDefine>`, `<IfModule>`, `<IfFile>`, `<IfDirective>`, `<IfSection>`,
//! `<IfVersion>`.
//!
//! Answers to `start_cond_section` of server/core.c, `ap_build_cont_config` and `ap_soak_end_container` of
//! server/config.c, and modules/metadata/mod_version.c. A section that is read must be closed by a line of
//! nothing but its closing tag; one that is skipped may be closed by any line that begins with it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::encoding::to_bytes;
use crate::path::filepath_merge;
use crate::reader::{File, Reader, wrong_arguments};
use crate::words::getword_conf;
use crate::{DirectiveFacts, Host};

impl Reader {
    /// The conditions of the core.
    pub(crate) fn if_section(
        &mut self,
        host: &mut dyn Host,
        file: &mut File,
        facts: &DirectiveFacts,
        args: &str,
    ) -> Result<(), String> {
        let Some((args, _)) = args.rsplit_once('>') else {
            return Err(format!("{}> directive missing closing '>'", facts.name));
        };
        let (negated, mut args) = match args.strip_prefix('!') {
            Some(args) => (true, args),
            None => (false, args),
        };
        let arg = getword_conf(&mut args);
        if arg.is_empty() {
            return Err(format!("{}> directive requires additional arguments", facts.name));
        }
        let holds = match facts.name {
            "<IfDefine" => self.is_defined(&arg),
            "<IfModule" => host.has_module(&arg),
            "<IfFile" => file_exists(host, &arg),
            "<IfDirective" => host.directive(&arg).is_some(),
            _ => host.directive(&format!("<{arg}")).is_some(),
        };
        enter_or_skip(file, facts, holds != negated)
    }

    /// mod_version's condition.
    pub(crate) fn if_version(
        &mut self,
        host: &mut dyn Host,
        file: &mut File,
        facts: &DirectiveFacts,
        args: &str,
    ) -> Result<(), String> {
        let mut rest = args;
        let first = getword_conf(&mut rest);
        let mut next = || (!rest.is_empty()).then(|| getword_conf(&mut rest));
        let (second, third) = (next(), next());
        if first.is_empty() || !rest.is_empty() {
            return Err(wrong_arguments(facts, "takes one, two or three arguments"));
        }
        let holds = version_matches(host, facts, &first, second.as_deref(), third.as_deref())?;
        enter_or_skip(file, facts, holds)
    }
}

fn enter_or_skip(file: &mut File, facts: &DirectiveFacts, holds: bool) -> Result<(), String> {
    if holds { file.enter_condition(facts.name) } else { skip(file, facts.name) }
}

fn file_exists(host: &dyn Host, name: &str) -> bool {
    let path = filepath_merge(host.server_root().as_os_str().as_bytes(), &to_bytes(name));
    path.is_some_and(|path| host.kind(Path::new(OsStr::from_bytes(&path))).is_some())
}

/// Passes over the lines up to the end of the section `name`, which has its `<`. Sections within it have to
/// be closed in order, known or not.
fn skip(file: &mut File, name: &str) -> Result<(), String> {
    let mut open = vec![name.to_string()];
    let mut line = String::new();
    while let Some(expected) = open.last() {
        if !file.next_line(&mut line)? {
            return Err(format!("Expected </{}> before end of configuration", &expected[1..]));
        }
        let mut args = line.as_str();
        let word = getword_conf(&mut args);
        if word.starts_with("</") {
            // The last character is taken for the `>`, whatever it is.
            let mut closed = word.chars();
            closed.next_back();
            let closed = closed.as_str();
            if !closed.get(2..).unwrap_or("").eq_ignore_ascii_case(&expected[1..]) {
                return Err(format!("Expected </{}> but saw {closed}>", &expected[1..]));
            }
            open.pop();
        } else if word.starts_with('<') {
            let name = if args.is_empty() { word.strip_suffix('>').unwrap_or(&word) } else { &word };
            open.push(name.to_string());
        }
    }
    Ok(())
}

/// Whether the version is what the words say: an operator or none, a version with the `>` at its end, or that
/// in a word of its own when the version is in quotes.
fn version_matches(
    host: &dyn Host,
    facts: &DirectiveFacts,
    first: &str,
    second: Option<&str>,
    mut end: Option<&str>,
) -> Result<bool, String> {
    let (mut operator, mut version) = second.map_or(("=", first), |second| (first, second));
    if end.is_none() && version == ">" {
        (operator, version, end) = ("=", operator, Some(">"));
    }
    let missing = || format!("{}> directive missing closing '>'", facts.name);
    if version.is_empty() {
        return Err(missing());
    }
    if end != Some(">") {
        version = version.strip_suffix('>').ok_or_else(missing)?;
    }

    let (negated, plain) = match operator.strip_prefix('!') {
        Some(plain) if !plain.is_empty() => (true, plain),
        Some(_) => (true, operator),
        None => (false, operator),
    };
    let holds = match plain {
        "=" | "==" if version.starts_with('/') => {
            let pattern = version[1..]
                .strip_suffix('/')
                .ok_or_else(|| "Missing delimiting / of regular expression.".to_string())?;
            matches_regex(host, pattern)?
        }
        "~" => matches_regex(host, version)?,
        "=" | "==" => host.version() == parse_version(version)?,
        "<" => host.version() < parse_version(version)?,
        "<=" => host.version() <= parse_version(version)?,
        ">" => host.version() > parse_version(version)?,
        ">=" => host.version() >= parse_version(version)?,
        _ => return Err(format!("unrecognized operator '{operator}'")),
    };
    Ok(holds != negated)
}

fn matches_regex(host: &dyn Host, pattern: &str) -> Result<bool, String> {
    let [major, minor, patch] = host.version();
    host.regex_match(pattern, &format!("{major}.{minor}.{patch}"))
        .ok_or_else(|| "Unable to compile regular expression".to_string())
}

/// One to three numbers with dots between them; one that is absent or empty is 0.
fn parse_version(text: &str) -> Result<[u32; 3], String> {
    let parts: Vec<&str> = text.split('.').collect();
    let digits = parts.iter().all(|p| p.bytes().all(|b| b.is_ascii_digit()));
    // Apache lets the dot at the end of "1.2.3." pass.
    let too_many = parts.get(3..).is_some_and(|more| !more.is_empty() && more != [""]);
    if !digits || !text.starts_with(|c: char| c.is_ascii_digit()) || too_many {
        return Err("Version appears to be invalid. It must have the format major[.minor[.patch]] where major, minor and \
                    patch are numbers."
            .to_string());
    }
    let mut version = [0; 3];
    for (number, part) in version.iter_mut().zip(parts) {
        // Only digits are here: what is no number is one too large.
        *number = if part.is_empty() { 0 } else { part.parse().unwrap_or(u32::MAX) };
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use crate::fake::read;

    /// Whether `<line>` lets its content in, or the error.
    fn test(line: &str) -> String {
        let name = line.split([' ', '>']).next().unwrap_or(line);
        let tree = read(&format!("<{line}\nIn\n</{name}>\nOut"));
        match tree.as_str() {
            "2 In \n4 Out \n" => "yes".to_string(),
            "4 Out \n" => "no".to_string(),
            error => error.replace("Syntax error on line 1 of /r/f: ", ""),
        }
    }

    #[test]
    fn conditions_of_the_core() {
        for (line, result) in [
            ("IfDefine Cli>", "yes"),
            ("ifdefine cli>", "no"),
            ("IfDefine !Cli>", "no"),
            ("IfDefine ! No more words>", "yes"),
            ("IfDefine \"Cli\" >", "yes"),
            ("IfDefine !!Cli>", "yes"),
            ("IfModule mod_macro.c>", "yes"),
            ("IfModule !mod_x.c>", "yes"),
            ("IfFile f>", "yes"),
            ("IfFile /r>", "yes"),
            ("IfFile g>", "no"),
            ("IfDirective servername>", "yes"),
            ("IfDirective <Files>", "yes"),
            ("IfDirective Files>", "no"),
            ("IfSection Files>", "yes"),
            ("IfSection !ServerName>", "yes"),
            ("IfDefine>", "<IfDefine> directive requires additional arguments"),
            ("IfModule !>", "<IfModule> directive requires additional arguments"),
            ("iffile x", "<IfFile> directive missing closing '>'"),
        ] {
            assert_eq!(test(line), result, "{line}");
        }
    }

    #[test]
    fn versions() {
        const INVALID: &str = "Version appears to be invalid. It must have the format major[.minor[.patch]] where major, \
                               minor and patch are numbers.";
        for (line, result) in [
            ("IfVersion 2.4.71>", "yes"),
            ("IfVersion = 2.4.71>", "yes"),
            ("IfVersion == 2.4>", "no"),
            ("IfVersion >= 2.4>", "yes"),
            ("IfVersion >= 99999999999>", "no"),
            ("IfVersion > 2.4.71>", "no"),
            ("IfVersion < 2.5>", "yes"),
            ("IfVersion <= 2.4.71>", "yes"),
            ("IfVersion !< 2.5>", "no"),
            ("IfVersion != 2.4.71.>", "no"),
            ("IfVersion >= \"2.4\">", "yes"),
            ("IfVersion \"2.4.71\" >", "yes"),
            ("IfVersion ~ ^2.4>", "yes"),
            ("IfVersion !~ ^2.4>", "no"),
            ("IfVersion = /^2.3/>", "no"),
            ("IfVersion /^2.4/>", "yes"),
            ("IfVersion /^2.4>", "Missing delimiting / of regular expression."),
            ("IfVersion ~ (>", "Unable to compile regular expression"),
            ("IfVersion ! 2.4>", "unrecognized operator '!'"),
            ("IfVersion ~= 2.4>", "unrecognized operator '~='"),
            ("IfVersion 2.4", "<IfVersion> directive missing closing '>'"),
            ("IfVersion a>", INVALID),
            ("IfVersion 2.4.71.1>", INVALID),
            ("IfVersion >", INVALID),
            ("IfVersion = \"\">", "<IfVersion> directive missing closing '>'"),
            (
                "IfVersion a b c d>",
                "<IfVersion takes one, two or three arguments, a comparison operator, a version (and a delimiter)",
            ),
        ] {
            assert_eq!(test(line), result, "{line}");
        }
    }

    #[test]
    fn a_section_that_is_read() {
        assert_eq!(
            read("<Files x>\n<IfDefine Cli>\nA\n<IfModule !y>\nB\n</IFMODULE>\n</IfDefine>\nC\n</Files>"),
            "1 <Files x>\n  3 A \n  5 B \n  8 C \n"
        );
        // Its end may be missing, and then so may the ends of the sections in it.
        assert_eq!(read("<IfDefine Cli>\nA"), "2 A \n");
        assert_eq!(
            read("<IfDefine Cli>\n<Files a>\nA\n<Directory b>"),
            "2 <Files a>\n  3 A \n  4 <Directory b>\n"
        );
        for (text, error) in [
            ("<IfDefine Cli>\n</IfDefine> x", "2 of /r/f: </IfDefine> without matching <IfDefine> section"),
            ("<Files a>\n<IfDefine Cli>\n</Files>", "3 of /r/f: </Files> without matching <Files> section"),
            ("<IfDefine Cli>\n<Files a>\n</IfDefine>", "3 of /r/f: Expected </Files> but saw </IfDefine>"),
            ("<Files a>\n<IfDefine Cli>\n<Files b>\n", "1 of /r/f: /r/f:1: <Files> was not closed."),
        ] {
            assert_eq!(read(text), format!("Syntax error on line {error}"));
        }
    }

    #[test]
    fn a_section_that_is_skipped() {
        assert_eq!(
            read(
                "<IfDefine No>\n<Any x>\n# <c>\n<IfDefine Cli>\n</ifdefine> x\n</any>\n</IfDefine> # end\nA"
            ),
            "8 A \n"
        );
        for (text, error) in [
            ("<IfDefine No>\n", "Expected </IfDefine> before end of configuration"),
            ("<IfDefine No>\n<A b>\n</IfDefine>", "Expected </A> but saw </IfDefine>"),
            ("<IfDefine No>\n<A>\n", "Expected </A> before end of configuration"),
            ("<IfDefine No>\n</IfDefine", "Expected </IfDefine> but saw </IfDefin>"),
            ("<IfDefine No>\n</", "Expected </IfDefine> but saw <>"),
        ] {
            assert_eq!(read(text), format!("Syntax error on line 1 of /r/f: {error}"));
        }
    }
}
