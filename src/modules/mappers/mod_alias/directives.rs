//! The directives of mod_alias.

use std::sync::Arc;

use bstr::BString;
use httpd_conf::to_bytes;

use super::search::alias_matches;
use super::{CGI_SCRIPT, DIR, Entry, SERVER, SectionAlias, SectionRedirect};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};

use crate::http::escape;
use crate::http::status::{self, Status};
use crate::regex::{Flags, Regex};

const REALNAME: &str = "a fakename and a realname, or a realname in a Location";
const REGEX: &str = "a regular expression and a filename";
const DOCUMENT: &str = "a document to be redirected, then the destination URL";
const TEMP: Status = status::MOVED_TEMPORARILY;

pub(super) static ROWS: &[Directive] = &[
    row("Alias", Args::Take12(|cmd, a, b| alias(cmd, a, b, None)), Allowed::CONF, REALNAME),
    row("ScriptAlias", Args::Take12(|cmd, a, b| alias(cmd, a, b, Some(CGI_SCRIPT))), Allowed::CONF, REALNAME),
    row(
        "Redirect",
        Args::Take123(|cmd, a, b, c| redirect(cmd, a, b, c, TEMP, false)),
        Allowed::FILEINFO,
        "an optional status, then document to be redirected and destination URL",
    ),
    row("AliasMatch", Args::Take2(|cmd, a, b| add_alias(cmd, a, b, None, true)), Allowed::RSRC_CONF, REGEX),
    row(
        "ScriptAliasMatch",
        Args::Take2(|cmd, a, b| add_alias(cmd, a, b, Some(CGI_SCRIPT), true)),
        Allowed::RSRC_CONF,
        REGEX,
    ),
    row(
        "RedirectMatch",
        Args::Take23(|cmd, a, b, c| redirect(cmd, a, Some(b), c, TEMP, true)),
        Allowed::FILEINFO,
        "an optional status, then a regular expression and destination URL",
    ),
    row(
        "RedirectTemp",
        Args::Take2(|cmd, a, b| redirect(cmd, a, Some(b), None, TEMP, false)),
        Allowed::FILEINFO,
        DOCUMENT,
    ),
    row(
        "RedirectPermanent",
        Args::Take2(|cmd, a, b| redirect(cmd, a, Some(b), None, status::MOVED_PERMANENTLY, false)),
        Allowed::FILEINFO,
        DOCUMENT,
    ),
    row(
        "RedirectRelative",
        Args::Flag(redirect_relative),
        Allowed::FILEINFO,
        "Set to ON to allow relative redirect targets to be issued as-is",
    ),
    row(
        "AliasPreservePath",
        Args::Flag(alias_preserve_path),
        Allowed::FILEINFO,
        "Set to ON to map the full path after the fakename to the realname.",
    ),
];

const fn row(name: &'static str, args: Args, allowed: Allowed, help: &'static str) -> Directive {
    Directive { name, args, allowed, help }
}

fn bytes(text: &str) -> BString {
    to_bytes(text).into_owned().into()
}

fn compile(pattern: &str) -> Result<Arc<Regex>, &'static str> {
    match Regex::from_bytes(&to_bytes(pattern), Flags::EXTENDED) {
        Ok(regex) => Ok(Arc::new(regex)),
        Err(_) => Err("Regular expression could not be compiled."),
    }
}

fn alias(cmd: &mut Cmd, fake: &str, real: Option<&str>, handler: Option<&'static str>) -> Done {
    if let Some(real) = real {
        return add_alias(cmd, fake, real, handler, false);
    }
    cmd.check_context(Forbidden(Forbidden::DIRECTORY.0 | Forbidden::FILES.0))?;
    let Some(path) = cmd.path else { return Err("Alias must have two arguments when used globally".into()) };
    let expr =
        cmd.parse_string(fake).map_err(|error| format!("Cannot parse alias expression '{fake}': {error}"))?;
    cmd.dir(&DIR).alias = Some(SectionAlias { real: Arc::new(expr), fake: bytes(path), handler });
    Ok(())
}

/// `add_alias_internal`.
fn add_alias(cmd: &mut Cmd, fake: &str, real: &str, handler: Option<&'static str>, is_regex: bool) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let regex = if is_regex { Some(compile(fake)?) } else { None };
    let new = Entry { fake: bytes(fake), regex, real: Some(bytes(real)), handler, status: 0 };
    let (name, origin) = (cmd.name, &cmd.node.origin);
    let aliases = &cmd.server_conf(&SERVER)?.aliases;
    let overlapped = aliases.iter().find(|earlier| match &earlier.regex {
        _ if is_regex => false,
        Some(regex) => regex.is_match(&new.fake),
        None => alias_matches(&new.fake, &earlier.fake).is_some(),
    });
    if let Some(earlier) = overlapped {
        let text = format!(
            "The {name} directive in {} at line {} will probably never match because it overlaps an earlier {}Alias{}.",
            origin.file,
            origin.line,
            if earlier.handler.is_some() { "Script" } else { "" },
            if earlier.regex.is_some() { "Match" } else { "" },
        );
        cmd.warn("alias", "AH00671", &text);
    }
    cmd.server_conf(&SERVER)?.aliases.push(new);
    Ok(())
}

/// What the first word of `Redirect` says.
#[derive(Clone, Copy, PartialEq)]
enum First {
    /// A status that takes a URL.
    Redirection,
    /// A status without one.
    Other,
    /// No status: the path, or the URL.
    NoStatus,
}

/// `add_redirect_internal`.
fn redirect(
    cmd: &mut Cmd,
    arg1: &str,
    arg2: Option<&str>,
    arg3: Option<&str>,
    default: Status,
    is_regex: bool,
) -> Done {
    let (code, first) = match arg1.to_ascii_lowercase().as_str() {
        "permanent" => (status::MOVED_PERMANENTLY, First::Redirection),
        "temp" => (status::MOVED_TEMPORARILY, First::Redirection),
        "seeother" => (status::SEE_OTHER, First::Redirection),
        "gone" => (status::GONE, First::Other),
        word if word.starts_with(|c: char| c.is_ascii_digit()) => {
            let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
            let code = digits.parse().unwrap_or(Status::MAX);
            (code, if status::is_redirect(code) { First::Redirection } else { First::Other })
        }
        _ => (default, First::NoStatus),
    };
    if arg3.is_some() && first == First::NoStatus {
        return Err("Redirect: invalid first argument (of three)".into());
    }
    if cmd.path.is_some() {
        let url = match (first, arg2, arg3) {
            (First::Redirection, Some(url), None) => Some(Some(url)),
            (First::NoStatus, None, _) => Some(Some(arg1)),
            (First::Other, None, _) => Some(None),
            _ => None,
        };
        if let Some(url) = url {
            let to = match url {
                Some(url) => {
                    let expr = cmd
                        .parse_string(url)
                        .map_err(|error| format!("Cannot parse redirect expression '{url}': {error}"))?;
                    Some(Arc::new(expr))
                }
                None => None,
            };
            cmd.dir(&DIR).redirect = Some(SectionRedirect { to, status: code });
            return Ok(());
        }
    }
    let (fake, url) =
        if arg3.is_none() && first == First::NoStatus { (Some(arg1), arg2) } else { (arg2, arg3) };
    // `Redirect permanent` alone: a URL is missing too.
    let fake = fake.unwrap_or_default();
    let regex = if is_regex { Some(compile(fake)?) } else { None };
    if status::is_redirect(code) {
        let Some(url) = url else { return Err("URL to redirect to is missing".into()) };
        if !is_regex && !escape::is_url(url.as_bytes()) && !url.starts_with('/') {
            return Err("Redirect to non-URL".into());
        }
    } else if url.is_some() {
        return Err("Redirect URL not valid for this status".into());
    }
    let new = Entry { fake: bytes(fake), regex, real: url.map(bytes), handler: None, status: code };
    if cmd.path.is_some() {
        cmd.dir(&DIR).redirects.push(new);
    } else {
        cmd.server_conf(&SERVER)?.redirects.push(new);
    }
    Ok(())
}

fn redirect_relative(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).allow_relative = Some(on);
    Ok(())
}

fn alias_preserve_path(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).preserve_path = Some(on);
    Ok(())
}

#[cfg(test)]
mod tests {
    use bstr::ByteSlice;

    use super::*;

    #[test]
    fn text_survives_the_configuration() {
        assert_eq!(bytes(&httpd_conf::from_bytes(b"/\xe9")), b"/\xe9".as_bstr());
    }
}
