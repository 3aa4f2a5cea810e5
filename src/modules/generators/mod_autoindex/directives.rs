//! The directives of mod_autoindex.

use super::entries::{By, Description, Item};
use super::{AutoindexDir, DEFAULT_WIDTH, DIR, Width, opt};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::fnmatch;
use crate::text::atoi;

const INDEXES: Allowed = Allowed::INDEXES.or(Allowed::CONF);

pub(super) static ROWS: &[Directive] = &[
    row(
        "AddIcon",
        Args::Iterate2(|c, i, to| add_icon(c, By::Path, i, to)),
        "an icon URL followed by one or more filenames",
    ),
    row(
        "AddIconByType",
        Args::Iterate2(|c, i, to| add_icon(c, By::Type, i, to)),
        "an icon URL followed by one or more MIME types",
    ),
    row(
        "AddIconByEncoding",
        Args::Iterate2(|c, i, to| add_icon(c, By::Encoding, i, to)),
        "an icon URL followed by one or more content encodings",
    ),
    row(
        "AddAlt",
        Args::Iterate2(|c, a, to| add_alt(c, By::Path, a, to)),
        "alternate descriptive text followed by one or more filenames",
    ),
    row(
        "AddAltByType",
        Args::Iterate2(|c, a, to| add_alt(c, By::Type, a, to)),
        "alternate descriptive text followed by one or more MIME types",
    ),
    row(
        "AddAltByEncoding",
        Args::Iterate2(|c, a, to| add_alt(c, By::Encoding, a, to)),
        "alternate descriptive text followed by one or more content encodings",
    ),
    row("IndexOptions", Args::Argv(index_options), "one or more index options [+|-][]"),
    row(
        "IndexOrderDefault",
        Args::Take2(index_order_default),
        "{Ascending,Descending} {Name,Size,Description,Date}",
    ),
    row("IndexIgnore", Args::Iterate(index_ignore), "one or more file extensions"),
    row(
        "IndexIgnoreReset",
        Args::Flag(index_ignore_reset),
        "Reset the inherited list of IndexIgnore filenames",
    ),
    row(
        "AddDescription",
        Args::Iterate2(add_description),
        "Descriptive text followed by one or more filenames",
    ),
    row("HeaderName", Args::Take1(|c, a| set(c, a, |d| &mut d.header)), "a filename"),
    row("ReadmeName", Args::Take1(|c, a| set(c, a, |d| &mut d.readme)), "a filename"),
    Directive {
        name: "FancyIndexing",
        args: Args::Raw(fancy_indexing),
        allowed: Allowed::ALL.or(Allowed::CONF),
        help: FANCY,
    },
    row("DefaultIcon", Args::Take1(|c, a| set(c, a, |d| &mut d.default_icon)), "an icon URL"),
    row("IndexStyleSheet", Args::Take1(|c, a| set(c, a, |d| &mut d.style_sheet)), "URL to style sheet"),
    row(
        "IndexHeadInsert",
        Args::Take1(|c, a| set(c, a, |d| &mut d.head_insert)),
        "String to insert in HTML HEAD section",
    ),
];

const FANCY: &str = "The FancyIndexing directive is no longer supported. Use IndexOptions FancyIndexing.";

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: INDEXES, help }
}

fn set(cmd: &mut Cmd, value: &str, field: fn(&mut AutoindexDir) -> &mut Option<String>) -> Done {
    *field(cmd.dir(&DIR)) = Some(value.to_owned());
    Ok(())
}

fn fancy_indexing(_: &mut Cmd, _: &str) -> Done {
    Err(FANCY.into())
}

/// The name in the form that it is looked for by: `add_alt`, `add_icon`.
fn applied_to(by: By, to: &str) -> String {
    match by {
        By::Path if to == "**DIRECTORY**" => "^^DIRECTORY^^".to_owned(),
        By::Encoding => to.to_ascii_lowercase(),
        _ => to.to_owned(),
    }
}

/// `push_item`.
fn item(cmd: &Cmd, by: By, to: &str, data: &str) -> Item {
    let apply_to = if by == By::Path && !fnmatch::is_matchexp(to) { format!("*{to}") } else { to.to_owned() };
    Item {
        by,
        apply_to: httpd_conf::to_bytes(&apply_to).into_owned(),
        apply_path: httpd_conf::to_bytes(&format!("{}*", cmd.path.unwrap_or_default())).into_owned(),
        data: data.to_owned(),
    }
}

fn add_alt(cmd: &mut Cmd, by: By, alt: &str, to: &str) -> Done {
    let item = item(cmd, by, &applied_to(by, to), alt);
    cmd.dir(&DIR).lists.alts.push(item);
    Ok(())
}

/// `(ALT,url)` gives both.
fn add_icon(cmd: &mut Cmd, by: By, icon: &str, to: &str) -> Done {
    let mut url = icon;
    if let Some(inside) = icon.strip_prefix('(') {
        let Some(close) = inside.find(')') else { return Err("missing closing paren".into()) };
        let (alt, rest) = match inside.split_once(',') {
            Some((alt, rest)) => (alt, rest.trim_start_matches(',')),
            None => (inside, ""),
        };
        url = rest.split(')').next().unwrap_or(&inside[..close]);
        add_alt(cmd, by, alt, to)?;
    }
    let item = item(cmd, by, &applied_to(by, to), url);
    cmd.dir(&DIR).lists.icons.push(item);
    Ok(())
}

fn add_description(cmd: &mut Cmd, text: &str, to: &str) -> Done {
    let full_path = to.contains('/');
    let wildcards = full_path || httpd_conf::fnmatch_test(to.as_bytes());
    let pattern = match (wildcards, full_path) {
        (false, _) => to.to_owned(),
        (true, true) => format!("*/{to}*"),
        (true, false) => format!("*{to}*"),
    };
    cmd.dir(&DIR).lists.descriptions.push(Description {
        pattern: httpd_conf::to_bytes(&pattern).into_owned(),
        text: httpd_conf::to_bytes(text).into_owned(),
        full_path,
        wildcards,
    });
    Ok(())
}

fn index_ignore(cmd: &mut Cmd, name: &str) -> Done {
    let item = item(cmd, By::Name, name, "");
    cmd.dir(&DIR).lists.ignored.push(item);
    Ok(())
}

fn index_ignore_reset(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).lists.ignored_anew = on;
    Ok(())
}

fn index_order_default(cmd: &mut Cmd, direction: &str, key: &str) -> Done {
    let direction = match direction.to_ascii_lowercase().as_str() {
        "ascending" => b'A',
        "descending" => b'D',
        _ => return Err("First keyword must be 'Ascending' or 'Descending'".into()),
    };
    let conf = cmd.dir(&DIR);
    conf.order_direction = Some(direction);
    conf.order_key = Some(match key.to_ascii_lowercase().as_str() {
        "name" => b'N',
        "date" => b'M',
        "size" => b'S',
        "description" => b'D',
        _ => return Err("Second keyword must be 'Name', 'Date', 'Size', or 'Description'".into()),
    });
    Ok(())
}

/// Options that are a bit.
const BITS: &[(&str, u32)] = &[
    ("fancyindexing", opt::FANCY_INDEXING),
    ("foldersfirst", opt::FOLDERS_FIRST),
    ("htmltable", opt::TABLE_INDEXING),
    ("iconsarelinks", opt::ICONS_ARE_LINKS),
    ("ignorecase", opt::IGNORE_CASE),
    ("ignoreclient", opt::IGNORE_CLIENT),
    ("scanhtmltitles", opt::SCAN_HTML_TITLES),
    ("suppresscolumnsorting", opt::SUPPRESS_COLSORT),
    ("suppressdescription", opt::SUPPRESS_DESC),
    ("suppresshtmlpreamble", opt::SUPPRESS_PREAMBLE),
    ("suppressicon", opt::SUPPRESS_ICON),
    ("suppresslastmodified", opt::SUPPRESS_LAST_MOD),
    ("suppresssize", opt::SUPPRESS_SIZE),
    ("suppressrules", opt::SUPPRESS_RULES),
    ("trackmodified", opt::TRACK_MODIFIED),
    ("versionsort", opt::VERSION_SORT),
    ("xhtml", opt::EMIT_XHTML),
    ("showforbidden", opt::SHOW_FORBIDDEN),
    ("addaltclass", opt::ADDALTCLASS),
];

fn index_options(cmd: &mut Cmd, words: &[String]) -> Done {
    let conf = cmd.dir(&DIR);
    let (mut opts, mut add, mut remove) = (conf.opts, conf.incremented, conf.decremented);
    for word in words {
        let (action, name) = match word.as_bytes().first() {
            Some(b'+') => (b'+', &word[1..]),
            Some(b'-') => (b'-', &word[1..]),
            _ => (0, word.as_str()),
        };
        let lower = name.to_ascii_lowercase();
        let option = match BITS.iter().find(|(known, _)| *known == lower) {
            Some((_, bit)) => *bit,
            None if lower == "none" => {
                if action != 0 {
                    return Err("Cannot combine '+' or '-' with 'None' keyword".into());
                }
                (opts, add, remove) = (opt::NO_OPTIONS, 0, 0);
                0
            }
            None => {
                set_option(conf, &lower, name, action == b'-')?;
                0
            }
        };
        match action {
            b'+' => {
                add |= option;
                remove &= !option;
            }
            b'-' => {
                remove |= option;
                add &= !option;
            }
            _ => {
                opts |= option;
                (add, remove) = (0, 0);
            }
        }
    }
    if opts & opt::NO_OPTIONS != 0 && opts & !opt::NO_OPTIONS != 0 {
        return Err("Cannot combine other IndexOptions keywords with 'None'".into());
    }
    (conf.opts, conf.incremented, conf.decremented) = (opts, add, remove);
    Ok(())
}

/// Options with a value.
fn set_option(conf: &mut AutoindexDir, lower: &str, name: &str, minus: bool) -> Result<(), String> {
    let value = name.split_once('=').map(|(_, value)| value);
    match (lower.split('=').next().unwrap_or_default(), value) {
        ("iconwidth", None) => conf.icon_width = if minus { 0 } else { 20 },
        ("iconheight", None) => conf.icon_height = if minus { 0 } else { 22 },
        ("iconwidth", Some(_)) if minus => return Err("Cannot combine '-' with IconWidth=n".to_owned()),
        ("iconheight", Some(_)) if minus => return Err("Cannot combine '-' with IconHeight=n".to_owned()),
        ("iconwidth", Some(value)) => conf.icon_width = i64::from(atoi(value)),
        ("iconheight", Some(value)) => conf.icon_height = i64::from(atoi(value)),
        ("namewidth", value) => set_width(&mut conf.name_width, "NameWidth", value, minus, 5)?,
        ("descriptionwidth", value) => {
            set_width(&mut conf.desc_width, "DescriptionWidth", value, minus, 12)?;
        }
        ("type", Some(value)) => conf.content_type = Some(value.to_owned()),
        ("charset", Some(value)) => conf.charset = Some(value.to_owned()),
        ("useolddateformat", None) => conf.old_dates = true,
        _ => return Err("Invalid directory indexing option".to_owned()),
    }
    Ok(())
}

fn set_width(
    into: &mut Option<Width>,
    name: &str,
    value: Option<&str>,
    minus: bool,
    least: i64,
) -> Result<(), String> {
    let before = match *into {
        Some(Width::Fixed(width) | Width::Adjust(width)) => width,
        None => DEFAULT_WIDTH,
    };
    *into = Some(match value {
        None if !minus => return Err(format!("{name} with no value may only appear as '-{name}'")),
        None => Width::Fixed(DEFAULT_WIDTH),
        Some(_) if minus => return Err(format!("Cannot combine '-' with {name}=n")),
        Some(value) if value.starts_with('*') => Width::Adjust(before),
        Some(value) => {
            let width = i64::from(atoi(value));
            if width != 0 && width < least {
                return Err(format!("{name} value must be greater than {least}"));
            }
            Width::Fixed(usize::try_from(width).unwrap_or(0).min(4096))
        }
    });
    Ok(())
}
