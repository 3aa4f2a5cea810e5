//! mod_mime_magic: the media type of a file by what is in it.
//!
//! Answers to `modules/metadata/mod_mime_magic.c`. [`rules`] reads the language of the magic file, [`matching`] holds files against
//! it, [`plain`] knows texts and archives without it, [`compressed`] looks into compressed files. Differs in that gzip's
//! files are looked into without the program of that name, which only the older formats need.

mod compressed;
mod matching;
mod plain;
mod rules;

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use httpd_conf::to_bytes;

use self::rules::Rule;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::config::server::Setup;
use crate::hooks::{Hooks, order};
use crate::http::status;
use crate::log::{self, Level, rerror, shown};
use crate::module::{Conf, Module, Slot};
use crate::request::walk::FileKind;
use crate::request::{Request, Step, memo};
use crate::text::is_space;

/// The module.
pub static MODULE: Module =
    Module { name: "mime_magic_module", file: "mod_mime_magic.c", directives: ROWS, hooks };

static SERVER: Slot<Magic> = Slot::new();

/// A server's settings.
#[derive(Clone, Default)]
struct Magic {
    /// `MimeMagicFile`
    file: Option<String>,
    /// What stands in it.
    rules: Option<Arc<Vec<Rule>>>,
}

impl Conf for Magic {
    fn merge(&self, child: &Self) -> Self {
        Magic { file: child.file.clone().or_else(|| self.file.clone()), rules: None }
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "MimeMagicFile",
    args: Args::Take1(mime_magic_file),
    allowed: Allowed::RSRC_CONF,
    help: "Path to MIME Magic file (in file(1) format)",
}];

fn mime_magic_file(cmd: &mut Cmd, file: &str) -> Done {
    cmd.server_conf(&SERVER)?.file = Some(file.to_owned());
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.post_config(magic_init, order::FIRST);
    hooks.type_checker(magic_find_ct, order::MIDDLE).after(&["mod_mime.c"]);
}

/// Apache goes through its phases twice when it starts, and says everything twice.
fn magic_init(setup: &mut Setup) -> Result<(), String> {
    for _ in 0..if setup.generation == 0 { 2 } else { 1 } {
        read_files(setup);
    }
    Ok(())
}

/// The first file with an error is the last that is read, as in Apache.
fn read_files(setup: &mut Setup) {
    for index in 0..setup.servers.len() {
        let conf = setup.servers[index].conf.get(&SERVER);
        let Some(file) = conf.file.clone() else {
            let main = setup.servers[0].conf.get(&SERVER).clone();
            if index > 0 {
                *setup.servers[index].conf.get_mut(&SERVER) = main;
            }
            continue;
        };
        let path = setup.server_root_relative(&file);
        let server = &mut setup.servers[index];
        let content = match std::fs::read(std::ffi::OsStr::from_bytes(&to_bytes(&path))) {
            Ok(content) => content,
            Err(err) => {
                let text = format!("mod_mime_magic: can't read magic file {path}");
                log::event_of(server, Level::Error, "mime_magic", "AH01515", Some(&err), &text);
                return;
            }
        };
        let complain = |ah: &str, text: String| {
            let text = format!("mod_mime_magic: {text}");
            log::event_of(server, Level::Error, "mime_magic", ah, None, &text);
        };
        let (rules, whole) = rules::parse(&content, &complain);
        server.conf.get_mut(&SERVER).rules = Some(Arc::new(rules)).filter(|rules| !rules.is_empty());
        if !whole {
            return;
        }
    }
}

/// How much of a file is looked at: `HOWMANY`.
const LOOKED_AT: usize = 4096;

/// The strings that make up the result: the media type, and after a blank the coding (`magic_rsl`).
type Found = Vec<Vec<u8>>;

/// `magic_find_ct`.
fn magic_find_ct(r: &mut Request) -> Step {
    let server = r.server.clone();
    let Some(rules) = &server.conf.get(&SERVER).rules else { return Step::Declined };
    if r.finfo.is_none() || r.content_type.is_some() {
        return Step::Declined;
    }
    // What is in the file isn't noted.
    memo::refuse();
    match revision_suffix(r) {
        Err(step) => return step,
        // The type that was found stays, but somebody else has the last word.
        Ok(true) => return Step::Declined,
        Ok(false) => {}
    }
    match process(r, rules) {
        Ok(found) => set_type(r, &found),
        Err(step) => step,
    }
}

/// `name@12` is of the type of `name`.
fn revision_suffix(r: &mut Request) -> Result<bool, Step> {
    let digits = r.filename.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let Some(name) = r.filename[..r.filename.len() - digits].strip_suffix(b"@").filter(|_| digits > 0) else {
        return Ok(false);
    };
    let name = name.to_vec();
    let sub = r.sub_req_lookup_file(&name)?;
    let Some(media_type) = &sub.content_type else { return Ok(false) };
    r.content_type = Some(media_type.clone());
    if sub.content_encoding.is_some() {
        r.content_encoding.clone_from(&sub.content_encoding);
    }
    if !sub.content_languages.is_empty() {
        r.content_languages.clone_from(&sub.content_languages);
    }
    Ok(true)
}

/// `magic_process`, `fsmagic`.
fn process(r: &mut Request, rules: &[Rule]) -> Result<Found, Step> {
    let Some(info) = r.finfo else { return Err(Step::Declined) };
    match info.kind {
        FileKind::Dir => return Ok(vec![b"httpd/unix-directory".to_vec()]),
        FileKind::File if info.size == 0 => return Ok(vec![b"text/plain".to_vec()]),
        FileKind::File => {}
        FileKind::Link => {
            rerror!(
                r,
                Level::Error,
                "mime_magic",
                "AH01527",
                "mod_mime_magic: broken symlink ({})",
                r.filename
            );
            return Err(Step::Status(status::INTERNAL_SERVER_ERROR));
        }
        FileKind::Other => return Ok(vec![b"application/octet-stream".to_vec()]),
    }
    let Ok(file) = File::open(std::ffi::OsStr::from_bytes(&r.filename)) else {
        rerror!(r, Level::Error, "mime_magic", "AH01512", "mod_mime_magic: can't read `{}'", r.filename);
        return Err(Step::Declined);
    };
    let mut content = Vec::with_capacity(LOOKED_AT + 1);
    match file.take(LOOKED_AT as u64).read_to_end(&mut content) {
        Ok(count) if count > 0 => {}
        other => {
            let err = match other {
                Err(err) => err,
                Ok(_) => std::io::Error::other("(70014)End of file found"),
            };
            let name = shown(&r.filename);
            rerror!(
                r,
                Level::Error,
                "mime_magic",
                "AH01513",
                err = err,
                "mod_mime_magic: read failed: {name}"
            );
            return Err(Step::Status(status::INTERNAL_SERVER_ERROR));
        }
    }
    // It counts as a part of it.
    content.push(0);
    match compressed::Kind::of(&content) {
        None => try_it(r, rules, &content),
        Some(kind) => match kind.unpacked(r)? {
            None => Ok(Found::new()),
            Some(mut inside) => {
                r.content_encoding = Some(kind.coding().to_owned());
                if let Some(last) = inside.last_mut() {
                    *last = 0;
                }
                try_it(r, rules, &inside).or_else(|_| try_it(r, rules, &content))
            }
        },
    }
}

/// `tryit`, without its look into compressed files.
fn try_it(r: &Request, rules: &[Rule], content: &[u8]) -> Result<Found, Step> {
    let mut found = Found::new();
    if matching::matches(r, rules, content, &mut found) || plain::matches(content, &mut found) {
        return Ok(found);
    }
    Err(Step::Declined)
}

/// `magic_rsl_to_request`.
fn set_type(r: &mut Request, found: &Found) -> Step {
    let Some((media_type, coding)) = split(found) else { return Step::Declined };
    let mut media_type = media_type;
    let end = media_type.iter().position(|&byte| byte == b';').unwrap_or(media_type.len());
    media_type[..end].make_ascii_lowercase();
    r.set_content_type(String::from_utf8_lossy(&media_type).into_owned());
    if let Some(coding) = coding {
        r.content_encoding = Some(String::from_utf8_lossy(&coding).to_ascii_lowercase());
    }
    Step::Ok
}

/// The first word with a slash in it, and the next word.
fn split(found: &Found) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let all = || {
        let of = |(at, text): (usize, &Vec<u8>)| {
            (0..text.len()).map(move |position| (at, position)).collect::<Vec<_>>()
        };
        found.iter().enumerate().flat_map(of)
    };
    let space = |&(fragment, position): &(usize, usize)| is_space(found[fragment][position]);
    let mut places = all().skip_while(space);
    let start = places.next()?;
    let mut slash = false;
    let mut length = 1;
    let mut ended = false;
    for place in places.by_ref() {
        if space(&place) {
            ended = true;
            break;
        }
        length += 1;
        slash |= found[place.0][place.1] == b'/';
    }
    if !slash {
        return None;
    }
    let media_type = copied(found, start, length);
    let coding_start = if ended { places.by_ref().find(|place| !space(place)) } else { None };
    let coding = coding_start.map(|start| {
        let length = 1 + places.take_while(|place| !space(place)).count();
        copied(found, start, length)
    });
    Some((media_type, coding))
}

/// `rsl_strdup`: it copies one more than was counted, where there is one, and leaves out of every fragment as much as of the
/// first.
fn copied(found: &Found, (fragment, position): (usize, usize), length: usize) -> Vec<u8> {
    let rest = found[fragment..].iter().flat_map(|text| text.iter().skip(position));
    rest.take(length + 1).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(found: &[&str]) -> Option<(String, Option<String>)> {
        let found: Found = found.iter().map(|text| text.as_bytes().to_vec()).collect();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        split(&found).map(|(media_type, coding)| (text(media_type), coding.map(text)))
    }

    #[test]
    fn words() {
        assert_eq!(of(&["text/html"]), Some(("text/html".to_owned(), None)));
        assert_eq!(of(&["text", "/html"]), Some(("text/html".to_owned(), None)));
        assert_eq!(of(&["a/b", " ", "x-z"]), Some(("a/b ".to_owned(), Some("x-z".to_owned()))));
        assert_eq!(of(&["text html"]), None);
        assert_eq!(of(&[" "]), None);
        assert_eq!(of(&[]), None);
    }
}
