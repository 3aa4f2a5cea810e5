//! The page around and with the list.
//!
//! Answers to `emit_head`, `emit_tail`, `output_directories`, `terminate_description`.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::entries::{Entry, find_special};
use super::order::Query;
use super::{AutoindexDir, DEFAULT_WIDTH, Width, opt};
use crate::http::escape::{escape_html, os_escape_path};
use crate::http::status;
use crate::modules::core::tokens;
use crate::os::clock;
use crate::request::{Request, Step};
use crate::text::file_size;

const DOCTYPE_HTML: &str =
    "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\" \"http://www.w3.org/TR/html4/strict.dtd\">\n";
const DOCTYPE_XHTML: &str = "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n";

/// Is it HTML, whatever its parameters?
pub(super) fn is_html(media_type: &str) -> bool {
    let bare = media_type.split(';').next().unwrap_or_default().trim_end();
    bare.eq_ignore_ascii_case("text/html") || bare.eq_ignore_ascii_case("application/xhtml+xml")
}

fn put(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    out.extend_from_slice(text.as_ref());
}

fn preamble(conf: &AutoindexDir, query: &Query, title: &[u8], out: &mut Vec<u8>) {
    let xhtml = query.opts & opt::EMIT_XHTML != 0;
    put(out, if xhtml { DOCTYPE_XHTML } else { DOCTYPE_HTML });
    put(out, if xhtml { "<html xmlns=\"http://www.w3.org/1999/xhtml\">\n" } else { "<html>\n" });
    put(out, " <head>\n  <title>Index of ");
    put(out, title);
    put(out, "</title>\n");
    if let Some(sheet) = &conf.style_sheet {
        put(out, "  <link rel=\"stylesheet\" href=\"");
        put(out, sheet);
        put(out, "\" type=\"text/css\"");
        put(out, if xhtml { " />\n" } else { ">\n" });
    }
    if let Some(insert) = &conf.head_insert {
        put(out, httpd_conf::to_bytes(insert));
    }
    put(out, " </head>\n <body>\n");
}

/// What `HeaderName` or `ReadmeName` gives.
enum Included {
    /// There is none.
    None,
    /// HTML, made by a sub-request.
    Html(Vec<u8>),
    /// HTML whose sub-request failed.
    Failed,
    /// Text, in `<pre>`.
    Plain(Vec<u8>),
}

fn include(r: &mut Request, name: &str) -> Result<Included, Step> {
    let mut sub = match r.sub_req_lookup_uri(&httpd_conf::to_bytes(name)) {
        Ok(sub) => sub,
        Err(Step::NeedThread) => return Err(Step::NeedThread),
        Err(_) => return Ok(Included::None),
    };
    if sub.status != status::OK || !sub.finfo.is_some_and(|info| info.is_file()) {
        return Ok(Included::None);
    }
    let Some(media_type) = sub.content_type.clone() else { return Ok(Included::None) };
    if is_html(&media_type) {
        return Ok(match sub.run_for_bytes()? {
            Some(bytes) => Included::Html(bytes),
            None => Included::Failed,
        });
    }
    if !media_type.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/")) {
        return Ok(Included::None);
    }
    let Ok(text) = std::fs::read(Path::new(OsStr::from_bytes(&sub.filename))) else {
        return Ok(Included::None);
    };
    let mut out = b"<pre>\n".to_vec();
    for &c in &text {
        match c {
            b'<' => put(&mut out, "&lt;"),
            b'>' => put(&mut out, "&gt;"),
            b'&' => put(&mut out, "&amp;"),
            c => out.push(c),
        }
    }
    put(&mut out, "</pre>\n");
    Ok(Included::Plain(out))
}

impl Included {
    /// Nothing of it was sent by a sub-request, whose reply goes out at once.
    fn is_own(&self) -> bool {
        !matches!(self, Included::Html(_) | Included::Failed)
    }
}

/// What stands above the list; whether no sub-request sent a part of it.
pub(super) fn head(
    r: &mut Request,
    conf: &AutoindexDir,
    query: &Query,
    out: &mut Vec<u8>,
) -> Result<bool, Step> {
    let title = escape_html(&r.uri).into_owned();
    let end = title.iter().rposition(|&c| c != b'/').map_or(1, |at| at + 1);
    let title = &title[..end.min(title.len())];
    let suppressed = query.opts & opt::SUPPRESS_PREAMBLE != 0;
    let included = match &conf.header {
        None => Included::None,
        Some(name) => {
            let name = match &r.args {
                Some(args) => format!("{name}?{args}"),
                None => name.clone(),
            };
            // What is asked for the header is its text, whatever the client wants of the list.
            let asked = r.headers_in.clone();
            r.headers_in.set("Accept", "text/html, text/plain");
            r.headers_in.unset("Accept-Encoding");
            let included = include(r, &name);
            r.headers_in = asked;
            included?
        }
    };
    let mut heading = true;
    let own = included.is_own();
    match included {
        Included::Html(html) => {
            if !suppressed {
                preamble(conf, query, title, out);
            }
            put(out, html);
            heading = false;
        }
        Included::Plain(text) => {
            preamble(conf, query, title, out);
            put(out, text);
            heading = false;
        }
        Included::None | Included::Failed => preamble(conf, query, title, out),
    }
    if heading {
        put(
            out,
            if conf.style_sheet.is_some() { "  <h1 id=\"indextitle\">Index of " } else { "<h1>Index of " },
        );
        put(out, title);
        put(out, "</h1>\n");
    }
    Ok(own)
}

/// What stands below the list; whether no sub-request sent a part of it.
pub(super) fn tail(
    r: &mut Request,
    conf: &AutoindexDir,
    query: &Query,
    out: &mut Vec<u8>,
) -> Result<bool, Step> {
    let mut close = true;
    let included = match &conf.readme {
        None => Included::None,
        Some(name) => include(r, name)?,
    };
    let own = included.is_own();
    match included {
        Included::Html(html) => {
            put(out, html);
            close = query.opts & opt::SUPPRESS_PREAMBLE == 0;
        }
        Included::Plain(text) => put(out, text),
        Included::None | Included::Failed => put(out, tokens::signature(r, "")),
    }
    if close {
        put(out, "</body></html>\n");
    }
    Ok(own)
}

/// The parts of a list that are the same in every line.
struct List<'l> {
    conf: &'l AutoindexDir,
    query: &'l Query,
    name_width: usize,
    desc_width: usize,
    dates: CString,
}

/// The list itself: `output_directories`.
pub(super) fn list(conf: &AutoindexDir, query: &Query, entries: &[Entry], out: &mut Vec<u8>) {
    let width = |width: Option<Width>, longest: &dyn Fn() -> usize| match width {
        None => DEFAULT_WIDTH,
        Some(Width::Fixed(width)) => width,
        Some(Width::Adjust(least)) if !query.has(opt::TABLE_INDEXING) => least.max(longest()),
        Some(Width::Adjust(least)) => least,
    };
    let longest_name = || entries.iter().map(|e| e.name.len()).max().unwrap_or(0);
    let longest_desc =
        || entries.iter().filter_map(|e| e.description.as_ref()).map(Vec::len).max().unwrap_or(0);
    let dates = if conf.old_dates { "%d-%b-%Y %H:%M" } else { "%Y-%m-%d %H:%M" };
    let list = List {
        conf,
        query,
        name_width: width(conf.name_width, &longest_name),
        desc_width: width(conf.desc_width, &longest_desc),
        dates: CString::new(dates).unwrap_or_default(),
    };
    if query.has(opt::TABLE_INDEXING) {
        list.table(entries, out);
    } else if query.has(opt::FANCY_INDEXING) {
        list.fancy(entries, out);
    } else {
        put(out, "<ul>");
        for (at, entry) in entries.iter().enumerate() {
            put(out, "<li><a href=\"");
            put(out, anchor(entry));
            put(out, "\"> ");
            put(out, escape_html(shown_name(at, entry)));
            put(out, "</a></li>\n");
        }
        put(out, "</ul>\n");
    }
}

impl Query {
    fn has(&self, option: u32) -> bool {
        self.opts & option != 0
    }
}

fn anchor(entry: &Entry) -> Vec<u8> {
    escape_html(&os_escape_path(&entry.name, false)).into_owned()
}

fn shown_name(at: usize, entry: &Entry) -> &[u8] {
    if at == 0 && entry.name.first() == Some(&b'/') { b"Parent Directory" } else { &entry.name }
}

impl List<'_> {
    fn fancy(&self, entries: &[Entry], out: &mut Vec<u8>) {
        let query = self.query;
        put(out, "<pre>");
        if !query.has(opt::SUPPRESS_ICON) {
            match find_special(&self.conf.lists.icons, "^^BLANKICON^^") {
                Some(icon) => {
                    self.image(icon, "Icon ", out);
                    out.push(b' ');
                }
                None => put(out, "      "),
            }
        }
        self.link("Name", b'N', out);
        out.extend(std::iter::repeat_n(b' ', self.name_width.saturating_sub(4) + 1));
        if !query.has(opt::SUPPRESS_LAST_MOD) {
            self.link("Last modified", b'M', out);
            put(out, "      ");
        }
        if !query.has(opt::SUPPRESS_SIZE) {
            self.link("Size", b'S', out);
            put(out, "  ");
        }
        if !query.has(opt::SUPPRESS_DESC) {
            self.link("Description", b'D', out);
        }
        let rule = if query.has(opt::EMIT_XHTML) { "<hr />" } else { "<hr>" };
        put(out, if query.has(opt::SUPPRESS_RULES) { "\n" } else { rule });
        for (at, entry) in entries.iter().enumerate() {
            self.fancy_line(at, entry, out);
        }
        if !query.has(opt::SUPPRESS_RULES) {
            put(out, rule);
        }
        put(out, "</pre>\n");
    }

    fn fancy_line(&self, at: usize, entry: &Entry, out: &mut Vec<u8>) {
        let query = self.query;
        let anchor = anchor(entry);
        if !query.has(opt::SUPPRESS_ICON) {
            let linked = query.has(opt::ICONS_ARE_LINKS);
            if linked {
                self.open_link(&anchor, out);
            }
            if !self.icon(entry, out) {
                put(out, "     ");
            }
            put(out, if linked { "</a> " } else { " " });
        }
        self.name(at, entry, &anchor, out);
        out.push(b' ');
        if !query.has(opt::SUPPRESS_LAST_MOD) {
            if entry.modified == -1 {
                put(out, "                   ");
            } else {
                self.date(entry, out);
                put(out, "  ");
            }
        }
        if !query.has(opt::SUPPRESS_SIZE) {
            put(out, file_size(entry.size));
            put(out, "  ");
        }
        if !query.has(opt::SUPPRESS_DESC)
            && let Some(description) = &entry.description
        {
            put(out, self.cut(description));
        }
        out.push(b'\n');
    }

    fn table(&self, entries: &[Entry], out: &mut Vec<u8>) {
        let query = self.query;
        let styled = self.conf.style_sheet.is_some();
        let class = |name: &str| if styled { format!(" class=\"indexcol{name}\">") } else { ">".to_owned() };
        put(
            out,
            if styled {
                "  <table id=\"indexlist\">\n   <tr class=\"indexhead\">"
            } else {
                "  <table>\n   <tr>"
            },
        );
        let mut columns = 1;
        if !query.has(opt::SUPPRESS_ICON) {
            put(out, if styled { "<th class=\"indexcolicon\">" } else { "<th valign=\"top\">" });
            match find_special(&self.conf.lists.icons, "^^BLANKICON^^") {
                Some(icon) => {
                    self.image(icon, "[ICO]", out);
                    put(out, "</th>");
                }
                None => put(out, "&nbsp;</th>"),
            }
            columns += 1;
        }
        put(out, "<th");
        put(out, class("name"));
        self.link("Name", b'N', out);
        for (off, name, title, key) in [
            (opt::SUPPRESS_LAST_MOD, "lastmod", "Last modified", b'M'),
            (opt::SUPPRESS_SIZE, "size", "Size", b'S'),
            (opt::SUPPRESS_DESC, "desc", "Description", b'D'),
        ] {
            if !query.has(off) {
                put(out, "</th><th");
                put(out, class(name));
                self.link(title, key, out);
                columns += 1;
            }
        }
        let rule = if query.has(opt::SUPPRESS_RULES) {
            String::new()
        } else {
            let row = if styled { " class=\"indexbreakrow\"" } else { "" };
            let end = if query.has(opt::EMIT_XHTML) { " /" } else { "" };
            format!("   <tr{row}><th colspan=\"{columns}\"><hr{end}></th></tr>\n")
        };
        put(out, "</th></tr>\n");
        put(out, &rule);
        for (at, entry) in entries.iter().enumerate() {
            self.table_line(at, entry, &class, out);
        }
        put(out, &rule);
        put(out, "</table>\n");
    }

    fn table_line(&self, at: usize, entry: &Entry, class: &dyn Fn(&str) -> String, out: &mut Vec<u8>) {
        let query = self.query;
        let styled = self.conf.style_sheet.is_some();
        let anchor = anchor(entry);
        if styled {
            let parity = if at % 2 == 1 { "odd" } else { "even" };
            match entry.alt.as_ref().filter(|_| query.has(opt::ADDALTCLASS)) {
                Some(alt) => {
                    put(out, format!("   <tr class=\"{parity}-{}\">", alt.to_ascii_lowercase()));
                }
                None => put(out, format!("   <tr class=\"{parity}\">")),
            }
        } else {
            put(out, "<tr>");
        }
        if !query.has(opt::SUPPRESS_ICON) {
            let linked = query.has(opt::ICONS_ARE_LINKS);
            put(out, if styled { "<td class=\"indexcolicon\">" } else { "<td valign=\"top\">" });
            if linked {
                self.open_link(&anchor, out);
            }
            if !self.icon(entry, out) {
                put(out, "&nbsp;");
            }
            put(out, if linked { "</a></td>" } else { "</td>" });
        }
        put(out, "<td");
        put(out, class("name"));
        if matches!(self.conf.name_width, Some(Width::Adjust(_))) {
            self.open_link(&anchor, out);
            put(out, escape_html(shown_name(at, entry)));
            put(out, "</a>");
        } else {
            self.name(at, entry, &anchor, out);
        }
        if !query.has(opt::SUPPRESS_LAST_MOD) {
            put(out, "</td><td");
            if entry.modified == -1 {
                put(out, class("lastmod"));
                put(out, "&nbsp;");
            } else {
                put(out, if styled { class("lastmod") } else { " align=\"right\">".to_owned() });
                self.date(entry, out);
                put(out, "  ");
            }
        }
        if !query.has(opt::SUPPRESS_SIZE) {
            put(out, "</td><td");
            put(out, if styled { class("size") } else { " align=\"right\">".to_owned() });
            put(out, file_size(entry.size));
        }
        if !query.has(opt::SUPPRESS_DESC) {
            put(out, "</td><td");
            put(out, class("desc"));
            match &entry.description {
                Some(text) if matches!(self.conf.desc_width, Some(Width::Adjust(_))) => put(out, text),
                Some(text) => put(out, self.cut(text)),
                None => put(out, "&nbsp;"),
            }
        }
        put(out, "</td></tr>\n");
    }

    fn open_link(&self, anchor: &[u8], out: &mut Vec<u8>) {
        put(out, "<a href=\"");
        put(out, anchor);
        put(out, "\">");
    }

    /// A name, cut or filled up to the width of its column.
    fn name(&self, at: usize, entry: &Entry, anchor: &[u8], out: &mut Vec<u8>) {
        let name = shown_name(at, entry);
        self.open_link(anchor, out);
        let width = self.name_width;
        if name.len() > width && width >= 3 {
            let cut = [&name[..width - 3], b"..>"].concat();
            put(out, escape_html(&cut));
        } else {
            put(out, escape_html(name));
        }
        put(out, "</a>");
        out.extend(std::iter::repeat_n(b' ', width.saturating_sub(name.len())));
    }

    /// The title of a column, as a link that sorts by it.
    fn link(&self, title: &str, key: u8, out: &mut Vec<u8>) {
        if self.query.has(opt::SUPPRESS_COLSORT) {
            return put(out, title);
        }
        let sorted = self.query.key == key && self.query.direction == b'A';
        put(out, "<a href=\"?C=");
        out.push(key);
        put(out, ";O=");
        out.push(if sorted { b'D' } else { b'A' });
        put(out, &self.query.column_args);
        put(out, "\">");
        put(out, title);
        put(out, "</a>");
    }

    /// The image of an entry; false when it has none.
    fn icon(&self, entry: &Entry, out: &mut Vec<u8>) -> bool {
        let Some(icon) = entry.icon.as_ref().or(self.conf.default_icon.as_ref()) else { return false };
        let alt = format!("[{}]", entry.alt.as_deref().unwrap_or("   "));
        self.image(icon, &alt, out);
        true
    }

    fn image(&self, icon: &str, alt: &str, out: &mut Vec<u8>) {
        put(out, "<img src=\"");
        put(out, escape_html(&httpd_conf::to_bytes(icon)));
        put(out, "\" alt=\"");
        put(out, httpd_conf::to_bytes(alt));
        put(out, "\"");
        for (name, value) in [("width", self.conf.icon_width), ("height", self.conf.icon_height)] {
            if value != 0 {
                put(out, format!(" {name}=\"{value}\""));
            }
        }
        put(out, if self.query.has(opt::EMIT_XHTML) { " />" } else { ">" });
    }

    fn date(&self, entry: &Entry, out: &mut Vec<u8>) {
        clock::strftime(&self.dates, entry.modified.div_euclid(1_000_000), out);
    }

    /// A description, cut to the width of its column; tags and entities are not counted by their letters.
    fn cut(&self, description: &[u8]) -> Vec<u8> {
        let mut most = self.desc_width;
        if self.conf.desc_width.is_none() {
            for (option, width) in
                [(opt::SUPPRESS_ICON, 6), (opt::SUPPRESS_LAST_MOD, 19), (opt::SUPPRESS_SIZE, 7)]
            {
                if self.query.has(option) {
                    most += width;
                }
            }
        }
        cut_description(description, most)
    }
}

fn cut_description(description: &[u8], mut most: usize) -> Vec<u8> {
    let mut at = 0;
    while let Some(&c) = description.get(at) {
        if most == 0 && c != b'<' {
            break;
        }
        let end = match c {
            b'<' => b'>',
            b'&' => b';',
            _ => {
                most -= 1;
                at += 1;
                continue;
            }
        };
        if c == b'&' {
            most = most.saturating_sub(1);
        }
        match description[at..].iter().position(|&c| c == end) {
            Some(length) => at += length + 1,
            // Without its end, it is all there is.
            None => return description.to_vec(),
        }
    }
    if most == 0 && at < description.len() {
        let mut cut = description[..at.saturating_sub(1)].to_vec();
        cut.push(b'>');
        return cut;
    }
    description.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let all: Vec<String> = [-1, 0, 972, 973, 1024, 123_456, 3_456_789, 10 << 30].map(file_size).to_vec();
        assert_eq!(all, ["  - ", "  0 ", "972 ", "1.0K", "1.0K", "121K", "3.3M", " 10G"]);
    }

    #[test]
    fn descriptions() {
        assert_eq!(cut_description(b"short", 23), b"short");
        assert_eq!(cut_description(b"abcdef", 4), b"abc>");
        assert_eq!(cut_description(b"<b>ab</b>", 2), b"<b>ab</b>");
        assert_eq!(cut_description(b"&amp;&amp;x", 3), b"&amp;&amp;x");
        assert_eq!(cut_description(b"<open", 3), b"<open");
    }
}
