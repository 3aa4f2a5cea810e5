//! mod_imagemap: which URL a point of an image means, by a map file; or the map as a menu.
//!
//! Answers to `modules/mappers/mod_imagemap.c`. Where it differs: `..` after a base without a path is an error (AH00678), where
//! Apache never comes back; coordinates are decimal numbers only.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use bstr::ByteSlice;
use httpd_conf::to_bytes;

use crate::body;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::{Hooks, order};
use crate::http::escape::{escape_html, os_escape_path};
use crate::http::method::Method;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::{Answer, Request, memo};
use crate::text::{config_lines, is_space, trimmed};

/// The module.
pub static MODULE: Module =
    Module { name: "imagemap_module", file: "mod_imagemap.c", directives: ROWS, hooks };

static DIR: Slot<Imagemap> = Slot::new();

/// A directory's settings: `imap_conf_rec`.
#[derive(Clone, Default)]
struct Imagemap {
    menu: Option<String>,
    default: Option<String>,
    base: Option<String>,
}

impl Conf for Imagemap {
    fn merge(&self, child: &Self) -> Self {
        Imagemap {
            menu: child.menu.clone().or_else(|| self.menu.clone()),
            default: child.default.clone().or_else(|| self.default.clone()),
            base: child.base.clone().or_else(|| self.base.clone()),
        }
    }
}

static ROWS: &[Directive] = &[
    row("ImapMenu", imap_menu, "the type of menu generated: none, formatted, semiformatted, unformatted"),
    row("ImapDefault", imap_default, "the action taken if no match: error, nocontent, referer, menu, URL"),
    row("ImapBase", imap_base, "the base for all URL's: map, referer, URL (or start of)"),
];

const fn row(name: &'static str, set: fn(&mut Cmd, &str) -> Done, help: &'static str) -> Directive {
    Directive { name, args: Args::Take1(set), allowed: Allowed::INDEXES, help }
}

fn imap_menu(cmd: &mut Cmd, form: &str) -> Done {
    cmd.dir(&DIR).menu = Some(form.to_owned());
    Ok(())
}

fn imap_default(cmd: &mut Cmd, action: &str) -> Done {
    cmd.dir(&DIR).default = Some(action.to_owned());
    Ok(())
}

fn imap_base(cmd: &mut Cmd, base: &str) -> Done {
    cmd.dir(&DIR).base = Some(base.to_owned());
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.handler(handler, order::MIDDLE);
}

/// `MAX_STRING_LEN`: what a line may have.
const LINE: usize = 8192;
/// `MAXVERTS`.
const VERTICES: usize = 100;

/// `imap_handler`.
fn handler(r: &mut Request) -> Answer {
    if r.method != Method::GET
        || !matches!(r.handler.as_deref(), Some("application/x-httpd-imap" | "imap-file"))
    {
        return Answer::Declined;
    }
    // What is in the map isn't noted.
    memo::refuse();
    let content = match fs::File::open(std::ffi::OsStr::from_bytes(&r.filename)) {
        Ok(file) if file.metadata().is_ok_and(|meta| meta.is_file()) => {
            fs::read(std::ffi::OsStr::from_bytes(&r.filename)).unwrap_or_default()
        }
        _ => return Answer::Status(status::NOT_FOUND),
    };
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    let menu = conf.menu.as_deref().unwrap_or("formatted");
    let point = asked_point(r.args.as_deref().map(Vec::as_slice));
    let Some(mut map) = Map::begin(r, conf) else { return Answer::Status(status::INTERNAL_SERVER_ERROR) };
    // Without a point, the menu; `none` and `no` (two letters are compared) forbid it.
    let shows = point.is_none() && !menu.as_bytes().get(..2).is_some_and(|m| m.eq_ignore_ascii_case(b"no"));
    if shows {
        let mut page = Menu::begin(r, menu);
        if map.list(r, &content, &mut page).is_err() {
            page.text.extend_from_slice(b"\n\n[an internal server error occured]\n");
        }
        page.text.extend_from_slice(b"\n\n</body>\n</html>\n");
        r.set_content_type("text/html; charset=ISO-8859-1");
        return Answer::Body(body::generated(page.text, false));
    }
    match map.look_up(r, &content, point).and_then(|value| map.url(r, true, &value)) {
        Ok(url) => reply(r, &url),
        Err(Invalid) => Answer::Status(status::INTERNAL_SERVER_ERROR),
    }
}

/// `imap_reply`.
fn reply(r: &mut Request, url: &[u8]) -> Answer {
    if url.eq_ignore_ascii_case(b"nocontent") {
        return Answer::Status(status::NO_CONTENT);
    }
    if url.is_empty() || url.eq_ignore_ascii_case(b"error") {
        return Answer::Status(status::INTERNAL_SERVER_ERROR);
    }
    r.headers_out.set("Location", url);
    Answer::Status(status::MOVED_TEMPORARILY)
}

/// The map can't be used; the log says why.
struct Invalid;

/// What a map says as it is read.
struct Map {
    base: Vec<u8>,
    default: Vec<u8>,
}

/// A line of the map.
struct Line<'l> {
    directive: &'l [u8],
    value: &'l [u8],
    rest: &'l [u8],
}

impl Map {
    fn begin(r: &Request, conf: &Imagemap) -> Option<Map> {
        let map = Map { base: Vec::new(), default: Vec::new() };
        let url = |value: &str| map.url(r, false, &to_bytes(value)).ok();
        let base = url(conf.base.as_deref().unwrap_or("map"))?;
        let default = url(conf.default.as_deref().unwrap_or("nocontent"))?;
        Some(Map { base, default })
    }

    /// The map as a menu.
    fn list(&mut self, r: &Request, content: &[u8], menu: &mut Menu) -> Result<(), Invalid> {
        for (number, line) in config_lines(content, LINE) {
            let line = c_string(&line);
            match line.split_first() {
                None => menu.blank(),
                Some((b'#', comment)) => menu.comment(comment),
                Some(_) => {
                    let line = Line::parse(r, number, line)?;
                    if self.sets(r, &line)? {
                        continue;
                    }
                    let mut rest = line.rest;
                    let mut text = quoted(&mut rest);
                    if line.directive.eq_ignore_ascii_case(b"default") {
                        self.default = self.url(r, false, line.value)?;
                        let href = self.url(r, true, &self.default)?;
                        menu.entry(&href, text.unwrap_or(&self.default), "(Default)");
                        continue;
                    }
                    vertices(&mut rest);
                    text = text.or_else(|| quoted(&mut rest));
                    menu.entry(&self.url(r, true, line.value)?, text.unwrap_or(line.value), "         ");
                }
            }
        }
        Ok(())
    }

    /// The value of the line that `point` is in, of the nearest point, or the default.
    fn look_up(&mut self, r: &Request, content: &[u8], point: Option<[f64; 2]>) -> Result<Vec<u8>, Invalid> {
        let mut nearest: Option<(f64, Vec<u8>)> = None;
        for (number, line) in config_lines(content, LINE) {
            let line = c_string(&line);
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            let line = Line::parse(r, number, line)?;
            if self.sets(r, &line)? {
                continue;
            }
            let mut rest = line.rest;
            quoted(&mut rest);
            if line.directive.eq_ignore_ascii_case(b"default") {
                self.default = self.url(r, false, line.value)?;
                continue;
            }
            let corners = vertices(&mut rest);
            let Some(point) = point else { continue };
            let Some(&first) = corners.first().filter(|corner| corner[0] != -1.0) else { continue };
            // Apache looks at whatever lies behind a single corner; here it is the corner again.
            let second = corners.get(1).copied().unwrap_or(first);
            let met = match line.directive.to_ascii_lowercase().as_slice() {
                b"poly" => in_polygon(point, &corners),
                b"circle" => square_of_distance(first, point) <= square_of_distance(first, second),
                b"rect" => in_rectangle(point, first, second),
                b"point" => {
                    let distance = square_of_distance(first, point);
                    if point.iter().all(|&at| at >= 0.0) && nearest.as_ref().is_none_or(|n| distance < n.0) {
                        nearest = Some((distance, line.value.to_vec()));
                    }
                    false
                }
                _ => false,
            };
            if met {
                return Ok(line.value.to_vec());
            }
        }
        Ok(nearest.map_or_else(|| self.default.clone(), |(_, value)| value))
    }

    /// `base`, `base_uri` and whatever else begins so.
    fn sets(&mut self, r: &Request, line: &Line) -> Result<bool, Invalid> {
        let is_base = line.directive.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"base"));
        if is_base {
            self.base = self.url(r, false, line.value)?;
        }
        Ok(is_base)
    }

    /// The URL that a value means, on top of the base where `based`: `imap_url`.
    fn url(&self, r: &Request, based: bool, value: &[u8]) -> Result<Vec<u8>, Invalid> {
        let is = |name: &[u8]| value.eq_ignore_ascii_case(name);
        if is(b"map") || is(b"menu") {
            return Ok(r.construct_url(&r.uri));
        }
        if is(b"nocontent") || is(b"error") {
            return Ok(value.to_vec());
        }
        let mut value = value;
        if is(b"referer") {
            match r.headers_in.get("Referer") {
                Some(referer) if !referer.is_empty() => return Ok(referer.to_vec()),
                _ => value = b"",
            }
        }
        let scheme = value.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        if value.get(scheme) == Some(&b':') {
            return Ok(value.to_vec());
        }
        let base: &[u8] = if based { &self.base } else { b"" };
        if base.is_empty() {
            return Ok(if value.is_empty() { r.construct_url(b"/") } else { value.to_vec() });
        }
        if !base.contains(&b'/') && goes_up(value) {
            rerror!(r, Level::Error, "imagemap", "AH00677", "invalid base directive in map file: {}", r.uri);
            return Err(Invalid);
        }
        below(base, value).ok_or_else(|| {
            rerror!(r, Level::Error, "imagemap", "AH00678", "invalid directory name in map file: {}", r.uri);
            Invalid
        })
    }
}

impl<'l> Line<'l> {
    fn parse(r: &Request, number: u32, line: &'l [u8]) -> Result<Line<'l>, Invalid> {
        let space = |text: &[u8]| text.iter().position(|&byte| is_space(byte));
        let Some(end) = space(line) else {
            rerror!(
                r,
                Level::Error,
                "imagemap",
                "AH00679",
                "map file {}, line {number} syntax error: requires at least two fields",
                r.uri
            );
            return Err(Invalid);
        };
        let (directive, rest) = line.split_at(end);
        let rest = trimmed(rest);
        let (value, rest) = rest.split_at(space(rest).unwrap_or(rest.len()));
        Ok(Line { directive, value, rest: rest.get(1..).unwrap_or_default() })
    }
}

/// Up to the first NUL.
fn c_string(line: &[u8]) -> &[u8] {
    line.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn goes_up(value: &[u8]) -> bool {
    value.starts_with(b"../") || value == b".."
}

/// A relative URL beside a base. `None`: it goes up too far.
fn below(base: &[u8], mut value: &[u8]) -> Option<Vec<u8>> {
    let mut whole = base.to_vec();
    // The first slash that isn't one of two.
    let mut at = 0;
    let mut directory = None;
    while at < whole.len() {
        if whole[at..].starts_with(b"//") {
            at += 2;
            continue;
        }
        if whole[at] == b'/' {
            if value.first() == Some(&b'/') {
                whole.truncate(at);
            } else {
                directory = Some(at);
                let last = whole.rfind_byte(b'/').unwrap_or(at);
                whole.truncate(last + 1);
            }
            break;
        }
        at += 1;
    }
    while goes_up(value) {
        let start = directory.filter(|&start| start < whole.len())?;
        // A slash at the end is no folder.
        let length = whole.len();
        loop {
            let last = whole[start..].rfind_byte(b'/').unwrap_or(0);
            whole.truncate(start + last);
            if whole.len() == start || length - whole.len() != 1 {
                break;
            }
        }
        value = &value[2..];
        if value.strip_prefix(b"/").is_some_and(goes_up) {
            value = &value[1..];
        }
    }
    whole.extend_from_slice(value);
    Some(whole)
}

/// A quoted text at the start of `rest`, which goes on behind it: `read_quoted`.
fn quoted<'l>(rest: &mut &'l [u8]) -> Option<&'l [u8]> {
    let space = rest.iter().take_while(|&&byte| is_space(byte)).count();
    let text = rest[space..].strip_prefix(b"\"")?;
    let end = text.find_byte(b'"').unwrap_or(text.len());
    *rest = text.get(end + 1..).unwrap_or_default();
    Some(&text[..end])
}

/// The coordinates at the start of `rest`, which goes on behind them.
fn vertices(rest: &mut &[u8]) -> Vec<[f64; 2]> {
    let skip = |rest: &mut &[u8], what: fn(u8) -> bool| {
        *rest = &rest[rest.iter().take_while(|&&byte| what(byte)).count()..];
    };
    let mut corners = Vec::new();
    while corners.len() < VERTICES {
        // "%lf%*[, ]%lf"
        let Some((x, behind)) = number(rest) else { break };
        let between = behind.iter().take_while(|byte| matches!(byte, b',' | b' ')).count();
        if between == 0 {
            break;
        }
        let Some((y, _)) = number(&behind[between..]) else { break };
        corners.push([x, y]);
        // It goes on behind the digits, not behind what the numbers were made of.
        skip(rest, is_space);
        skip(rest, |byte| byte.is_ascii_digit());
        *rest = rest.get(1..).unwrap_or_default();
        skip(rest, is_space);
        skip(rest, |byte| byte.is_ascii_digit());
    }
    corners
}

/// The decimal number that a text begins with, and what is behind it: `strtod`.
fn number(text: &[u8]) -> Option<(f64, &[u8])> {
    let start = text.iter().take_while(|&&byte| is_space(byte)).count();
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let signed = |at: usize| at + usize::from(matches!(text.get(at), Some(b'+' | b'-')));
    let whole = signed(start);
    let mut end = whole + digits(whole);
    let mut count = end - whole;
    if text.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        count += fraction;
        end += usize::from(count > 0) + fraction;
    }
    if count == 0 {
        return None;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let exponent = signed(end + 1);
        let length = digits(exponent);
        if length > 0 {
            end = exponent + length;
        }
    }
    let number = std::str::from_utf8(&text[start..end]).ok()?.parse().ok()?;
    Some((number, &text[end..]))
}

/// The point behind the `?`; `None`: none, or none that counts.
fn asked_point(args: Option<&[u8]>) -> Option<[f64; 2]> {
    let args = args?;
    let first = args.iter().position(|byte| byte.is_ascii_digit() || *byte == b',')?;
    let x = number(&args[first..])?.0;
    let behind = &args[args.find_byte(b',')? + 1..];
    let y = number(&behind[behind.iter().position(u8::is_ascii_digit)?..])?.0;
    // Both zero: a browser without a pointer.
    (x != 0.0 || y != 0.0).then_some([x, y])
}

fn square_of_distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[1] - b[1]) * (a[1] - b[1]) + (a[0] - b[0]) * (a[0] - b[0])
}

fn in_rectangle(point: [f64; 2], first: [f64; 2], second: [f64; 2]) -> bool {
    (0..2).all(|axis| {
        let (low, high) = (first[axis].min(second[axis]), first[axis].max(second[axis]));
        point[axis] >= low && point[axis] <= high
    })
}

/// How often a ray from the point crosses an edge tells; what is on an edge is inside.
fn in_polygon([x, y]: [f64; 2], corners: &[[f64; 2]]) -> bool {
    // A corner at -1 ends the list, as in Apache.
    let count = corners.iter().position(|corner| corner[0] == -1.0).unwrap_or(corners.len());
    let mut inside = false;
    for (index, &[x1, y1]) in corners[..count].iter().enumerate() {
        let [x2, y2] = corners[(index + 1) % count];
        let side = (y - y1) * (x2 - x1) - (x - x1) * (y2 - y1);
        if (y1 >= y) != (y2 >= y) {
            inside ^= if y2 - y1 >= 0.0 { side >= 0.0 } else { side <= 0.0 };
        }
        let (within_x, within_y) = (x1.min(x2) <= x && x <= x1.max(x2), y1.min(y2) <= y && y <= y1.max(y2));
        if side == 0.0 && within_x && within_y {
            return true;
        }
    }
    inside
}

/// The page being written.
struct Menu {
    form: Form,
    text: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Formatted,
    Semiformatted,
    Unformatted,
    /// A word that Apache doesn't know: a page without entries.
    Unknown,
}

impl Menu {
    fn begin(r: &Request, menu: &str) -> Menu {
        let form = match menu.to_ascii_lowercase().as_str() {
            "formatted" => Form::Formatted,
            "semiformatted" => Form::Semiformatted,
            "unformatted" => Form::Unformatted,
            _ => Form::Unknown,
        };
        let uri = escape_html(&r.uri);
        let mut text = b"<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\" \"http://www.w3.org/TR/html4/strict.dtd\">\n"
            .to_vec();
        text.extend_from_slice(&[b"<html><head>\n<title>Menu for ", &*uri].concat());
        text.extend_from_slice(b"</title>\n</head><body>\n");
        if form == Form::Formatted {
            text.extend_from_slice(&[b"<h1>Menu for ", &*uri, b"</h1>\n<hr />\n\n"].concat());
        }
        Menu { form, text }
    }

    fn blank(&mut self) {
        self.text.extend_from_slice(match self.form {
            Form::Formatted | Form::Unformatted => b"\n",
            Form::Semiformatted => b"<br />\n",
            Form::Unknown => b"",
        });
    }

    fn comment(&mut self, comment: &[u8]) {
        match self.form {
            Form::Formatted => self.text.push(b'\n'),
            Form::Semiformatted | Form::Unformatted if !comment.is_empty() => {
                self.text.extend_from_slice(&[comment, b"\n"].concat());
            }
            _ => {}
        }
    }

    fn entry(&mut self, href: &[u8], text: &[u8], mark: &str) {
        if href.eq_ignore_ascii_case(b"error") || href.eq_ignore_ascii_case(b"nocontent") {
            return;
        }
        let (before, after) = match self.form {
            Form::Formatted | Form::Semiformatted => (format!("<pre>{mark} "), "</pre>\n"),
            Form::Unformatted => (String::new(), ""),
            Form::Unknown => return,
        };
        for part in [
            before.as_bytes(),
            b"<a href=\"",
            &*os_escape_path(href, true),
            b"\">",
            &*escape_html(text),
            b"</a>",
            after.as_bytes(),
        ] {
            self.text.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points() {
        let point = |args: &str| asked_point(Some(args.as_bytes()));
        assert_eq!(point("10,20"), Some([10.0, 20.0]));
        assert_eq!(point("x10.5,y2e1"), Some([10.5, 20.0]));
        assert_eq!(point("0,0"), None);
        assert_eq!(point(",5"), None);
        assert_eq!(point("5"), None);
        assert_eq!(asked_point(None), None);
    }

    #[test]
    fn corners() {
        let mut rest = &b"1,2 3,4 \"text\""[..];
        assert_eq!(vertices(&mut rest), [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(quoted(&mut rest), Some(&b"text"[..]));
        let mut rest = &b"1"[..];
        assert!(vertices(&mut rest).is_empty());
    }

    #[test]
    fn a_polygon_holds_its_edges() {
        let square = [[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]];
        assert!(in_polygon([5.0, 5.0], &square));
        assert!(in_polygon([10.0, 5.0], &square));
        assert!(!in_polygon([11.0, 5.0], &square));
        assert!(!in_polygon([1.0, 1.0], &[]));
    }

    #[test]
    fn relative_urls() {
        let of = |base: &str, value: &str| {
            below(base.as_bytes(), value.as_bytes()).map(|url| url.to_str_lossy().into_owned())
        };
        let base = "http://localhost/a/b/map";
        assert_eq!(of(base, "x").as_deref(), Some("http://localhost/a/b/x"));
        assert_eq!(of(base, "/x").as_deref(), Some("http://localhost/x"));
        assert_eq!(of(base, "../x").as_deref(), Some("http://localhost/a/x"));
        assert_eq!(of(base, "../../x").as_deref(), Some("http://localhost/x"));
        assert_eq!(of(base, "../../../x"), None);
        assert_eq!(of("http://localhost", "../x"), None);
    }
}
