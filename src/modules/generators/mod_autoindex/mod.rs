//! mod_autoindex: lists of folders.
//!
//! Answers to `modules/generators/mod_autoindex.c`. Settings and the handler are here, the directives in [`directives`],
//! what is listed in [`entries`] and its order in [`order`], the page in [`page`]. The charset is ISO-8859-1 where none is
//! set, as in Debian's build.

mod directives;
mod entries;
mod order;
mod page;

use crate::body::{self, Content};
use crate::hooks::{Hooks, order as hook_order};
use crate::http::method::Method;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::modules::core::{self, options};
use crate::request::{Answer, Request, Step};
use entries::Lists;
use order::Query;

/// The module.
pub static MODULE: Module =
    Module { name: "autoindex_module", file: "mod_autoindex.c", directives: directives::ROWS, hooks };

/// A directory's settings.
pub static DIR: Slot<AutoindexDir> = Slot::new();

/// `IndexOptions`, a bit each, as in the C file.
mod opt {
    pub const NO_OPTIONS: u32 = 1;
    pub const ICONS_ARE_LINKS: u32 = 1 << 1;
    pub const SCAN_HTML_TITLES: u32 = 1 << 2;
    pub const SUPPRESS_ICON: u32 = 1 << 3;
    pub const SUPPRESS_LAST_MOD: u32 = 1 << 4;
    pub const SUPPRESS_SIZE: u32 = 1 << 5;
    pub const SUPPRESS_DESC: u32 = 1 << 6;
    pub const SUPPRESS_PREAMBLE: u32 = 1 << 7;
    pub const SUPPRESS_COLSORT: u32 = 1 << 8;
    pub const SUPPRESS_RULES: u32 = 1 << 9;
    pub const FOLDERS_FIRST: u32 = 1 << 10;
    pub const VERSION_SORT: u32 = 1 << 11;
    pub const TRACK_MODIFIED: u32 = 1 << 12;
    pub const FANCY_INDEXING: u32 = 1 << 13;
    pub const TABLE_INDEXING: u32 = 1 << 14;
    pub const IGNORE_CLIENT: u32 = 1 << 15;
    pub const IGNORE_CASE: u32 = 1 << 16;
    pub const EMIT_XHTML: u32 = 1 << 17;
    pub const SHOW_FORBIDDEN: u32 = 1 << 18;
    pub const ADDALTCLASS: u32 = 1 << 19;
    pub const OPTION_UNSET: u32 = 1 << 20;
}

/// How wide a column is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Width {
    /// So many characters.
    Fixed(usize),
    /// As wide as its widest entry, at least so many.
    Adjust(usize),
}

/// Width of the name and the description where nothing is said.
const DEFAULT_WIDTH: usize = 23;

/// A directory's settings.
#[derive(Clone)]
pub struct AutoindexDir {
    opts: u32,
    incremented: u32,
    decremented: u32,
    name_width: Option<Width>,
    desc_width: Option<Width>,
    /// 0: not said.
    icon_width: i64,
    /// See `icon_width`.
    icon_height: i64,
    order_key: Option<u8>,
    order_direction: Option<u8>,
    default_icon: Option<String>,
    style_sheet: Option<String>,
    head_insert: Option<String>,
    header: Option<String>,
    readme: Option<String>,
    content_type: Option<String>,
    charset: Option<String>,
    old_dates: bool,
    lists: Lists,
}

impl Default for AutoindexDir {
    fn default() -> Self {
        AutoindexDir {
            opts: opt::OPTION_UNSET,
            incremented: 0,
            decremented: 0,
            name_width: None,
            desc_width: None,
            icon_width: 0,
            icon_height: 0,
            order_key: None,
            order_direction: None,
            default_icon: None,
            style_sheet: None,
            head_insert: None,
            header: None,
            readme: None,
            content_type: None,
            charset: None,
            old_dates: false,
            lists: Lists::default(),
        }
    }
}

impl Conf for AutoindexDir {
    fn merge(&self, child: &Self) -> Self {
        let text = |mine: &Option<String>, theirs: &Option<String>| theirs.clone().or_else(|| mine.clone());
        let number = |mine: i64, theirs: i64| if theirs != 0 { theirs } else { mine };
        let (mut opts, mut incremented, mut decremented) = (opt::NO_OPTIONS, 0, 0);
        if child.opts != opt::NO_OPTIONS {
            if child.opts == opt::OPTION_UNSET {
                incremented = (self.incremented | child.incremented) & !child.decremented;
                decremented = self.decremented | child.decremented;
                opts = self.opts & !opt::NO_OPTIONS;
            } else {
                // Options without a sign replace all that was inherited.
                opts = child.opts;
            }
            opts |= incremented;
            opts &= !decremented;
        }
        AutoindexDir {
            opts,
            incremented,
            decremented,
            name_width: child.name_width.or(self.name_width),
            desc_width: child.desc_width.or(self.desc_width),
            icon_width: number(self.icon_width, child.icon_width),
            icon_height: number(self.icon_height, child.icon_height),
            order_key: child.order_key.or(self.order_key),
            order_direction: child.order_direction.or(self.order_direction),
            default_icon: text(&self.default_icon, &child.default_icon),
            style_sheet: text(&self.style_sheet, &child.style_sheet),
            head_insert: text(&self.head_insert, &child.head_insert),
            header: text(&self.header, &child.header),
            readme: text(&self.readme, &child.readme),
            content_type: text(&self.content_type, &child.content_type),
            charset: text(&self.charset, &child.charset),
            old_dates: self.old_dates || child.old_dates,
            lists: self.lists.merge(&child.lists),
        }
    }
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.handler(handler, hook_order::MIDDLE);
}

/// `handle_autoindex`.
fn handler(r: &mut Request) -> Answer {
    if !matches!(r.handler.as_deref(), None | Some("httpd/unix-directory" | "default-handler")) {
        return Answer::Declined;
    }
    let Some(info) = r.finfo.filter(|info| info.is_dir()) else { return Answer::Declined };
    r.allowed |= Method::GET.bit();
    if r.method != Method::GET {
        return Answer::Declined;
    }
    if r.dir(&core::DIR).options() & options::INDEXES == 0 {
        let names = r.notes.get_str("dir-index-names").unwrap_or("none").to_owned();
        rerror!(
            r,
            Level::Error,
            "autoindex",
            "AH01276",
            "Cannot serve directory {}: No matching DirectoryIndex ({names}) found, and server-generated directory index forbidden by Options directive",
            r.filename
        );
        return Answer::Status(status::FORBIDDEN);
    }
    if let Some(answer) = r.discard_request_body() {
        return answer;
    }
    if r.filename.last() != Some(&b'/') {
        r.filename.push(b'/');
    }
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    let names = match entries::read_names(&r.filename) {
        Ok(names) => names,
        Err(err) => {
            rerror!(
                r,
                Level::Error,
                "autoindex",
                "AH01275",
                err = err,
                "Can't open directory for index: {}",
                r.filename
            );
            return Answer::Status(status::FORBIDDEN);
        }
    };
    let media_type = conf.content_type.as_deref().unwrap_or("text/html");
    match conf.charset.as_deref().unwrap_or("ISO-8859-1") {
        "" => r.set_content_type(media_type.to_owned()),
        charset => r.set_content_type(format!("{media_type};charset={charset}")),
    }
    if conf.opts & opt::TRACK_MODIFIED != 0 {
        r.mtime = r.mtime.max(info.mtime);
        r.set_last_modified();
        let bits = r.dir(&core::DIR).etag_bits();
        if let Some(tag) = r.make_etag(&info, bits, &Content::Empty) {
            r.headers_out.set("ETag", tag);
        }
    }
    if r.header_only {
        return Answer::Body(Content::Empty);
    }
    match index(r, conf, names) {
        Ok((page, whole)) => Answer::Body(body::generated(page, !whole)),
        Err(Step::NeedThread) => Answer::NeedThread,
        Err(Step::Status(code)) => Answer::Status(code),
        Err(_) => Answer::Status(status::INTERNAL_SERVER_ERROR),
    }
}

/// The whole page, and whether it is of one piece, without what sub-requests sent: `index_directory`.
fn index(r: &mut Request, conf: &AutoindexDir, names: Vec<Vec<u8>>) -> Result<(Vec<u8>, bool), Step> {
    let query = Query::of(r, conf);
    let mut out = Vec::with_capacity(8192);
    let head_is_own = page::head(r, conf, &query, &mut out)?;
    let mut entries = Vec::with_capacity(names.len() + 1);
    entries.extend(entries::parent(r, conf, &query));
    for name in names {
        entries.extend(entries::entry(r, conf, &query, &name)?);
    }
    order::sort(&mut entries, &query);
    page::list(conf, &query, &entries, &mut out);
    let tail_is_own = page::tail(r, conf, &query, &mut out)?;
    Ok((out, head_is_own && tail_is_own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_merge() {
        let with = |opts, incremented, decremented| AutoindexDir {
            opts,
            incremented,
            decremented,
            ..AutoindexDir::default()
        };
        let base = with(opt::FANCY_INDEXING, 0, 0);
        assert_eq!(base.merge(&with(opt::FOLDERS_FIRST, 0, 0)).opts, opt::FOLDERS_FIRST);
        let more = base.merge(&with(opt::OPTION_UNSET, opt::FOLDERS_FIRST, 0));
        assert_eq!(more.opts, opt::FANCY_INDEXING | opt::FOLDERS_FIRST);
        let less = more.merge(&with(opt::OPTION_UNSET, 0, opt::FANCY_INDEXING));
        assert_eq!(less.opts, opt::FOLDERS_FIRST);
        assert_eq!(less.merge(&with(opt::NO_OPTIONS, 0, 0)).opts, opt::NO_OPTIONS);
    }
}
