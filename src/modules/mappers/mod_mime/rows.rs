//! mod_mime's directives.

use httpd_conf::to_bytes;

use super::{Attribute, DIR, SERVER, multimatch};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};

const FILEINFO: Allowed = Allowed::FILEINFO;
const EXTENSIONS: &str = "one or more file extensions";

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: FILEINFO, help }
}

pub(super) static ROWS: &[Directive] = &[
    row(
        "AddCharset",
        Args::Iterate2(|cmd, value, ext| add(cmd, Attribute::Charset, value, ext)),
        "a charset (e.g., iso-2022-jp), followed by one or more file extensions",
    ),
    row(
        "AddEncoding",
        Args::Iterate2(|cmd, value, ext| add(cmd, Attribute::Encoding, value, ext)),
        "an encoding (e.g., gzip), followed by one or more file extensions",
    ),
    row(
        "AddHandler",
        Args::Iterate2(|cmd, value, ext| add(cmd, Attribute::Handler, value, ext)),
        "a handler name followed by one or more file extensions",
    ),
    row(
        "AddInputFilter",
        Args::Iterate2(|cmd, value, ext| add(cmd, Attribute::InputFilters, value, ext)),
        "input filter name (or ; delimited names) followed by one or more file extensions",
    ),
    row(
        "AddLanguage",
        Args::Iterate2(|cmd, value, ext| add(cmd, Attribute::Language, value, ext)),
        "a language (e.g., fr), followed by one or more file extensions",
    ),
    row(
        "AddOutputFilter",
        Args::Iterate2(|cmd, value, ext| add(cmd, Attribute::OutputFilters, value, ext)),
        "output filter name (or ; delimited names) followed by one or more file extensions",
    ),
    row(
        "AddType",
        Args::Iterate2(|cmd, value, ext| add(cmd, Attribute::Type, value, ext)),
        "a mime type followed by one or more file extensions",
    ),
    row(
        "DefaultLanguage",
        Args::Take1(default_language),
        "language to use for documents with no other language file extension",
    ),
    row(
        "MultiviewsMatch",
        Args::Iterate(multiviews_match),
        "NegotiatedOnly (default), Handlers and/or Filters, or Any",
    ),
    row("RemoveCharset", Args::Iterate(|cmd, ext| remove(cmd, Attribute::Charset, ext)), EXTENSIONS),
    row("RemoveEncoding", Args::Iterate(|cmd, ext| remove(cmd, Attribute::Encoding, ext)), EXTENSIONS),
    row("RemoveHandler", Args::Iterate(|cmd, ext| remove(cmd, Attribute::Handler, ext)), EXTENSIONS),
    row("RemoveInputFilter", Args::Iterate(|cmd, ext| remove(cmd, Attribute::InputFilters, ext)), EXTENSIONS),
    row("RemoveLanguage", Args::Iterate(|cmd, ext| remove(cmd, Attribute::Language, ext)), EXTENSIONS),
    row(
        "RemoveOutputFilter",
        Args::Iterate(|cmd, ext| remove(cmd, Attribute::OutputFilters, ext)),
        EXTENSIONS,
    ),
    // An empty type hides that of the types file too.
    row("RemoveType", Args::Iterate(|cmd, ext| add(cmd, Attribute::Type, "", ext)), EXTENSIONS),
    Directive {
        name: "TypesConfig",
        args: Args::Take1(types_config),
        allowed: Allowed::RSRC_CONF,
        help: "the MIME types config file",
    },
    Directive {
        name: "ModMimeUsePathInfo",
        args: Args::Flag(use_path_info),
        allowed: Allowed::ACCESS_CONF,
        help: "Set to 'yes' to allow mod_mime to use path info for type checking",
    },
];

fn key(ext: &str) -> Box<[u8]> {
    to_bytes(ext.strip_prefix('.').unwrap_or(ext)).to_ascii_lowercase().into()
}

/// `add_extension_info`: values are kept in lower case.
fn add(cmd: &mut Cmd, attribute: Attribute, value: &str, ext: &str) -> Done {
    cmd.dir(&DIR).extensions.entry(key(ext)).or_default().set(attribute, &value.to_ascii_lowercase());
    Ok(())
}

fn remove(cmd: &mut Cmd, attribute: Attribute, ext: &str) -> Done {
    cmd.dir(&DIR).removed.push((key(ext), attribute));
    Ok(())
}

fn default_language(cmd: &mut Cmd, language: &str) -> Done {
    cmd.dir(&DIR).default_language = Some(language.to_owned());
    Ok(())
}

fn types_config(cmd: &mut Cmd, file: &str) -> Done {
    cmd.server_conf(&SERVER)?.types_config = Some(file.to_owned());
    Ok(())
}

fn use_path_info(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).use_path_info = Some(on);
    Ok(())
}

fn multiviews_match(cmd: &mut Cmd, word: &str) -> Done {
    use multimatch::{ANY, FILTERS, HANDLERS, NEGOTIATED};
    cmd.check_context(Forbidden::LOCATION)?;
    let (bit, excluded, error) = match word.to_ascii_lowercase().as_str() {
        "any" => (ANY, !ANY, "Any is incompatible with NegotiatedOnly, Filters and Handlers"),
        "negotiatedonly" => {
            (NEGOTIATED, !NEGOTIATED, "NegotiatedOnly is incompatible with Any, Filters and Handlers")
        }
        "filters" => (FILTERS, NEGOTIATED | ANY, "Filters is incompatible with Any and NegotiatedOnly"),
        "handlers" => (HANDLERS, NEGOTIATED | ANY, "Handlers is incompatible with Any and NegotiatedOnly"),
        _ => return Err(format!("Unrecognized option '{word}'").into()),
    };
    let conf = cmd.dir(&DIR);
    if conf.multimatch & excluded != 0 {
        return Err(error.into());
    }
    conf.multimatch |= bit;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Extension, MimeDir};
    use super::*;
    use crate::module::Conf;

    fn dir(set: &[(&str, Attribute, &str)], removed: &[(&str, Attribute)]) -> MimeDir {
        let mut dir = MimeDir::default();
        for (ext, attribute, value) in set {
            dir.extensions.entry(key(ext)).or_default().set(*attribute, value);
        }
        dir.removed = removed.iter().map(|(ext, attribute)| (key(ext), *attribute)).collect();
        dir
    }

    #[test]
    fn sections_lie_on_top_of_each_other() {
        let base =
            dir(&[(".CGI", Attribute::Handler, "cgi-script"), ("cgi", Attribute::Type, "text/x-cgi")], &[]);
        let child = dir(
            &[("cgi", Attribute::Charset, "utf-8")],
            &[("cgi", Attribute::Handler), ("x", Attribute::Type)],
        );
        let merged = base.merge(&child);
        let cgi: &Extension = merged.extensions.get(&b"cgi"[..]).unwrap();
        assert_eq!(cgi.handler, None);
        assert_eq!(cgi.charset.as_deref(), Some("utf-8"));
        assert_eq!(cgi.forced_type.as_ref().map(|t| t.text().to_string()).as_deref(), Some("text/x-cgi"));
        // What was removed stays removed only until it is added again below.
        let below = merged.merge(&base);
        assert!(below.extensions.get(&b"cgi"[..]).unwrap().handler.is_some());
    }
}
