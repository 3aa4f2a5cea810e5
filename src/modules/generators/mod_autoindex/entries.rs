//! What is listed: names, icons, descriptions; what is left out.
//!
//! Answers to `make_autoindex_entry`, `make_parent_entry`, `find_item`, `find_desc`, `ignore_entry`, `find_title`.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use bstr::ByteSlice;

use super::order::Query;
use super::{AutoindexDir, opt};
use crate::fnmatch::{self, fnmatch, strcasecmp_match, strcmp_match};
use crate::http::path::{self, Normalize};
use crate::http::status;
use crate::request::{FileInfo, Request, Step};

/// What an icon, alternative text or ignored name goes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    /// The name, or its end.
    Path,
    Type,
    Encoding,
    /// The name as a pattern (`IndexIgnore`).
    Name,
}

/// One line of `AddIcon`, `AddAlt` or `IndexIgnore`.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub by: By,
    pub apply_to: Vec<u8>,
    /// In which folder.
    pub apply_path: Vec<u8>,
    pub data: String,
}

/// One line of `AddDescription`.
#[derive(Clone, Debug)]
pub(super) struct Description {
    pub pattern: Vec<u8>,
    pub text: Vec<u8>,
    pub full_path: bool,
    pub wildcards: bool,
}

/// What the directives said; inner sections first.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    pub icons: Vec<Item>,
    pub alts: Vec<Item>,
    pub descriptions: Vec<Description>,
    pub ignored: Vec<Item>,
    /// `IndexIgnoreReset`.
    pub ignored_anew: bool,
}

impl Lists {
    pub fn merge(&self, child: &Lists) -> Lists {
        fn joined<T: Clone>(first: &[T], then: &[T]) -> Vec<T> {
            first.iter().chain(then).cloned().collect()
        }
        Lists {
            icons: joined(&child.icons, &self.icons),
            alts: joined(&child.alts, &self.alts),
            descriptions: joined(&child.descriptions, &self.descriptions),
            ignored: joined(&child.ignored, if child.ignored_anew { &[] } else { &self.ignored }),
            ignored_anew: false,
        }
    }

    fn ignores(&self, path: &[u8]) -> bool {
        let last = |text: &[u8]| text.rfind_byte(b'/').map_or(0, |at| at + 1);
        let name = &path[last(path)..];
        self.ignored.iter().any(|item| {
            let pattern = &item.apply_to[last(&item.apply_to)..];
            strcmp_match(path, &item.apply_path) && strcmp_match(name, pattern)
        })
    }

    /// The description of a file: `find_desc`.
    fn description(&self, path: &[u8]) -> Option<&[u8]> {
        let name = path.rsplit_str("/").next().unwrap_or(path);
        self.descriptions
            .iter()
            .find(|d| {
                let file = if d.full_path { path } else { name };
                if d.wildcards {
                    fnmatch(&d.pattern, file, fnmatch::NONE)
                } else {
                    file.contains_str(&d.pattern)
                }
            })
            .map(|d| d.text.as_slice())
    }
}

/// What is known of a file whose icon is looked for.
struct Facts<'f> {
    media_type: Option<&'f [u8]>,
    encoding: Option<&'f [u8]>,
    path: &'f [u8],
    /// Only by name.
    path_only: bool,
}

/// `find_item`.
fn find<'i>(items: &'i [Item], facts: &Facts) -> Option<&'i str> {
    let special = facts.path.first() == Some(&b'^');
    items
        .iter()
        .filter(|item| special || strcmp_match(facts.path, &item.apply_path))
        .find(|item| {
            if item.apply_to.is_empty() {
                return true;
            }
            if item.by == By::Path || special {
                return strcmp_match(facts.path, &item.apply_to);
            }
            let matches = |value: Option<&[u8]>| value.is_some_and(|v| strcasecmp_match(v, &item.apply_to));
            match item.by {
                By::Type if !facts.path_only && facts.encoding.is_none() => matches(facts.media_type),
                By::Encoding if !facts.path_only => matches(facts.encoding),
                _ => false,
            }
        })
        .map(|item| item.data.as_str())
}

/// The icon or text that stands for all folders (`^^DIRECTORY^^`), or for none (`^^BLANKICON^^`).
pub(super) fn find_special<'i>(items: &'i [Item], name: &str) -> Option<&'i str> {
    find(items, &Facts { media_type: None, encoding: None, path: name.as_bytes(), path_only: true })
}

/// One line of the list.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// A folder's ends with a slash; the parent's begins with one.
    pub name: Vec<u8>,
    pub icon: Option<String>,
    pub alt: Option<String>,
    pub description: Option<Vec<u8>>,
    /// -1: none is shown.
    pub size: i64,
    /// Microseconds since 1970; -1: none is shown.
    pub modified: i64,
    /// To be listed before files.
    pub first: bool,
}

/// The names in a folder, in no order.
pub(super) fn read_names(dir: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(Path::new(OsStr::from_bytes(dir)))? {
        // A folder that can't be read on is listed as far as it could.
        let Ok(entry) = entry else { break };
        names.push(entry.file_name().into_vec());
    }
    Ok(names)
}

/// The line for the folder above: `make_parent_entry`.
pub(super) fn parent(r: &Request, conf: &AutoindexDir, query: &Query) -> Option<Entry> {
    let mut name = r.uri.to_vec();
    if name.last() != Some(&b'/') {
        name.push(b'/');
    }
    name.extend_from_slice(b"../");
    let above = Normalize {
        allow_relative: true,
        not_above_root: true,
        decode_unreserved: false,
        merge_slashes: false,
    };
    if !path::normalize(&mut name, above) || name.is_empty() {
        return None;
    }
    let path = [&r.filename[..], b".."].concat();
    if conf.lists.ignores(&path) {
        return None;
    }
    let mut entry = Entry { name, size: -1, modified: -1, ..Entry::default() };
    if query.opts & opt::FANCY_INDEXING != 0 {
        let facts = Facts { media_type: None, encoding: None, path: &path, path_only: true };
        let lists = &conf.lists;
        let icon = find(&lists.icons, &facts).or_else(|| find_special(&lists.icons, "^^DIRECTORY^^"));
        let alt = find(&lists.alts, &facts).or_else(|| find_special(&lists.alts, "^^DIRECTORY^^"));
        entry.icon = icon.map(str::to_owned);
        entry.alt = Some(alt.unwrap_or("PARENTDIR").to_owned());
        entry.description = lists.description(&path).map(<[u8]>::to_vec);
    }
    Some(entry)
}

/// The line for a name in the folder; `None` when it is not shown: `make_autoindex_entry`.
pub(super) fn entry(
    r: &Request,
    conf: &AutoindexDir,
    query: &Query,
    name: &[u8],
) -> Result<Option<Entry>, Step> {
    let flags = fnmatch::NOESCAPE | fnmatch::PERIOD;
    if name == b"." || name == b".." {
        return Ok(None);
    }
    if query.pattern.as_ref().is_some_and(|pattern| !fnmatch(pattern, name, flags)) {
        return Ok(None);
    }
    let path = [&r.filename[..], name].concat();
    if conf.lists.ignores(&path) {
        return Ok(None);
    }
    // A link is shown as what it leads to.
    let Ok(info) = FileInfo::stat(&path) else { return Ok(None) };
    let sub = match r.sub_req_lookup_dirent(name, info) {
        Ok(sub) => sub,
        Err(Step::NeedThread) => return Err(Step::NeedThread),
        Err(_) => return Ok(None),
    };
    let forbidden = matches!(sub.status, status::UNAUTHORIZED | status::FORBIDDEN);
    let shown = status::is_success(sub.status)
        || status::is_redirect(sub.status)
        || forbidden && query.opts & opt::SHOW_FORBIDDEN != 0;
    if !shown || !sub.finfo.is_some_and(|f| f.is_dir() || f.is_file()) {
        return Ok(None);
    }
    let mut entry = Entry { name: name.to_vec(), size: -1, modified: -1, ..Entry::default() };
    if info.is_dir() {
        entry.name.push(b'/');
    }
    if query.opts & (opt::FANCY_INDEXING | opt::TABLE_INDEXING) != 0 {
        describe(&mut entry, &sub, conf, query, info);
    }
    Ok(Some(entry))
}

fn describe(entry: &mut Entry, sub: &Request, conf: &AutoindexDir, query: &Query, info: FileInfo) {
    let lists = &conf.lists;
    let finfo = sub.finfo.unwrap_or(info);
    entry.modified = finfo.mtime;
    let mut path = sub.filename.as_slice();
    let media_type = sub.content_type.as_deref().map(|t| t.split(';').next().unwrap_or_default().trim_end());
    let encoding = sub.content_encoding.as_deref();
    if info.is_dir() {
        entry.first = query.opts & opt::FOLDERS_FIRST != 0;
        path = path.strip_suffix(b"/").unwrap_or(path);
    } else {
        entry.size = i64::try_from(finfo.size).unwrap_or(i64::MAX);
    }
    let facts = Facts {
        media_type: media_type.map(str::as_bytes),
        encoding: encoding.map(str::as_bytes),
        path,
        path_only: info.is_dir(),
    };
    let (mut icon, mut alt) = (find(&lists.icons, &facts), find(&lists.alts, &facts));
    if info.is_dir() {
        icon = icon.or_else(|| find_special(&lists.icons, "^^DIRECTORY^^"));
        alt = alt.or_else(|| find_special(&lists.alts, "^^DIRECTORY^^")).or(Some("DIR"));
    }
    entry.icon = icon.map(str::to_owned);
    entry.alt = alt.map(str::to_owned);
    entry.description = lists.description(path).map(<[u8]>::to_vec);
    if entry.description.is_none() && query.opts & opt::SCAN_HTML_TITLES != 0 {
        entry.description = find_title(sub);
    }
}

/// What is between `<title>` and the next tag of an HTML file's beginning.
fn find_title(sub: &Request) -> Option<Vec<u8>> {
    let html = sub
        .content_type
        .as_deref()
        .is_some_and(|t| super::page::is_html(t) || t == "text/x-server-parsed-html");
    if sub.status != status::OK || !html || sub.content_encoding.is_some() {
        return None;
    }
    let file = std::fs::File::open(Path::new(OsStr::from_bytes(&sub.filename))).ok()?;
    let mut text = Vec::new();
    file.take(8191).read_to_end(&mut text).ok()?;
    title_of(&text)
}

fn title_of(text: &[u8]) -> Option<Vec<u8>> {
    const START: &[u8] = b"<title>";
    let text = text.split(|&c| c == 0).next().unwrap_or_default();
    // The search does not go back over what it compared: "<<title>" is passed over.
    let mut matched = 0;
    let mut start = None;
    for (at, c) in text.iter().enumerate() {
        matched = if c.to_ascii_lowercase() == START[matched] { matched + 1 } else { 0 };
        if matched == START.len() {
            start = Some(at + 1);
            break;
        }
    }
    let title = &text[start?..];
    let title = title.find_byte(b'<').map_or(title, |end| &title[..end]);
    let first = title.iter().position(|c| !matches!(c, b'\r' | b'\n')).unwrap_or(title.len());
    Some(title[first..].iter().map(|&c| if matches!(c, b'\r' | b'\n') { b' ' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles() {
        assert_eq!(title_of(b"<html><TITLE>\nA\nb</title>").as_deref(), Some(&b"A b"[..]));
        assert_eq!(title_of(b"<title>open").as_deref(), Some(&b"open"[..]));
        assert_eq!(title_of(b"none"), None);
    }

    #[test]
    fn icons_by_name_type_and_coding() {
        let item = |by, to: &str, data: &str| Item {
            by,
            apply_to: to.into(),
            apply_path: b"*".to_vec(),
            data: data.to_owned(),
        };
        let items = [
            item(By::Path, "*.gif", "name"),
            item(By::Encoding, "x-gzip", "coding"),
            item(By::Type, "text/*", "type"),
            item(By::Path, "^^DIRECTORY^^", "folder"),
        ];
        let facts = |path, media_type: Option<&'static [u8]>, encoding: Option<&'static [u8]>| Facts {
            media_type,
            encoding,
            path,
            path_only: false,
        };
        assert_eq!(find(&items, &facts(b"/a.gif", Some(b"text/x"), None)), Some("name"));
        assert_eq!(find(&items, &facts(b"/a", Some(b"text/x"), None)), Some("type"));
        assert_eq!(find(&items, &facts(b"/a", Some(b"text/x"), Some(b"x-gzip"))), Some("coding"));
        assert_eq!(find_special(&items, "^^DIRECTORY^^"), Some("folder"));
        assert_eq!(find(&items, &facts(b"/a", None, None)), None);
    }
}
