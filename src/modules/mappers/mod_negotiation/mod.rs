//! mod_negotiation: the variant of a resource that the client likes best, from a type map or from the names in a folder
//! (MultiViews).
//!
//! Answers to `modules/mappers/mod_negotiation.c`. What the client says is read in [`accept`], maps in [`type_map`], folders
//! in [`multi`]; the choice is made in [`select`]; what the reply says of it is in [`reply`].

mod accept;
mod multi;
mod reply;
mod select;
mod type_map;
mod variant;

use std::fs::File;
use std::sync::Arc;

use accept::{Accepts, Negotiate, header_line};
use bstr::ByteSlice;
use select::{Discard, Outcome, Rules};
use variant::Variant;

use crate::body::{Content, FileSlice};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::conn::file_cache;
use crate::hooks::{Hooks, order};
use crate::http::conditional::{self, EtagBits, EtagSource};
use crate::http::escape;
use crate::http::method::Method;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::modules::core::{self, options};
use crate::request::{Answer, FileInfo, Request, Step, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "negotiation_module", file: "mod_negotiation.c", directives: ROWS, hooks };

/// A directory's settings.
pub static DIR: Slot<NegDir> = Slot::new();
/// A server's settings.
pub static SERVER: Slot<NegServer> = Slot::new();

/// The media type of type maps.
const MAP_FILE_MAGIC_TYPE: &str = "application/x-type-map";
/// The handler of type maps.
const TYPE_MAP: &str = "type-map";
/// The media type that stands for a script.
const CGI_MAGIC_TYPE: &str = "application/x-httpd-cgi";

/// Bits of `ForceLanguagePriority` (`FLP_*`).
mod force_priority {
    pub(super) const NONE: u8 = 1;
    pub(super) const PREFER: u8 = 2;
    pub(super) const FALLBACK: u8 = 4;
}

/// A directory's settings: `neg_dir_config`.
#[derive(Clone, Default)]
pub struct NegDir {
    /// `ForceLanguagePriority`: bits of [`force_priority`]; 0: not said, which means Prefer.
    force_priority: u8,
    /// `LanguagePriority`.
    language_priority: Option<Vec<String>>,
}

impl Conf for NegDir {
    fn merge(&self, child: &Self) -> Self {
        NegDir {
            force_priority: if child.force_priority != 0 {
                child.force_priority
            } else {
                self.force_priority
            },
            language_priority: child.language_priority.clone().or_else(|| self.language_priority.clone()),
        }
    }
}

/// A server's settings.
#[derive(Clone, Default)]
pub struct NegServer {
    /// `CacheNegotiatedDocs`.
    cache: bool,
}

impl Conf for NegServer {
    /// A virtual host does not inherit it.
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

static ROWS: &[Directive] = &[
    Directive {
        name: "CacheNegotiatedDocs",
        args: Args::Flag(cache_negotiated_docs),
        allowed: Allowed::RSRC_CONF,
        help: "Either 'on' or 'off' (default)",
    },
    Directive {
        name: "LanguagePriority",
        args: Args::Iterate(language_priority),
        allowed: Allowed::FILEINFO,
        help: "space-delimited list of MIME language abbreviations",
    },
    Directive {
        name: "ForceLanguagePriority",
        args: Args::Iterate(force_language_priority),
        allowed: Allowed::FILEINFO,
        help: "Force LanguagePriority elections, either None, or Fallback and/or Prefer",
    },
];

fn cache_negotiated_docs(cmd: &mut Cmd, on: bool) -> Done {
    cmd.server_conf(&SERVER)?.cache = on;
    Ok(())
}

fn language_priority(cmd: &mut Cmd, language: &str) -> Done {
    cmd.dir(&DIR).language_priority.get_or_insert_default().push(language.to_owned());
    Ok(())
}

fn force_language_priority(cmd: &mut Cmd, word: &str) -> Done {
    use force_priority::{FALLBACK, NONE, PREFER};
    let conf = cmd.dir(&DIR);
    let set = conf.force_priority;
    conf.force_priority = match word.to_ascii_lowercase().as_str() {
        "none" if set & !NONE != 0 => {
            return Err("Cannot combine ForceLanguagePriority options with None".into());
        }
        "none" => NONE,
        "prefer" if set & NONE != 0 => {
            return Err("Cannot combine ForceLanguagePriority options None and Prefer".into());
        }
        "prefer" => set | PREFER,
        "fallback" if set & NONE != 0 => {
            return Err("Cannot combine ForceLanguagePriority options None and Fallback".into());
        }
        "fallback" => set | FALLBACK,
        _ => return Err(format!("Invalid ForceLanguagePriority option {word}").into()),
    };
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.fixups(fix_encoding, order::MIDDLE);
    hooks.type_checker(handle_multi, order::FIRST);
    hooks.handler(handle_map_file, order::MIDDLE);
}

/// What a negotiation works on: `negotiation_state`.
struct Negotiation {
    accepts: Accepts,
    negotiate: Negotiate,
    variants: Vec<Variant>,
    /// How many came from a folder.
    multiviews_variants: usize,
    is_transparent: bool,
    /// The folder, with a slash at its end.
    dir_name: Vec<u8>,
}

impl Negotiation {
    /// Reads what the client accepts: `parse_accept_headers`.
    fn new(r: &Request) -> Negotiation {
        // Folders and type maps are read.
        memo::refuse();
        let line = |name: &str| header_line(r.headers_in.get(name));
        let mut accepts = Accepts {
            types: line("Accept"),
            encodings: line("Accept-Encoding"),
            languages: line("Accept-Language"),
            charsets: line("Accept-Charset"),
            has_q: false,
        };
        accepts.has_q = accepts.types.iter().flatten().any(|accept| accept.quality < 1.0);
        Negotiation {
            accepts,
            negotiate: Negotiate::default(),
            variants: Vec::new(),
            multiviews_variants: 0,
            is_transparent: false,
            dir_name: parent_dir(&r.filename).to_vec(),
        }
    }

    /// What a client that says nothing accepts; and scripts, which the client can't name: `maybe_add_default_accepts`.
    fn add_default_accepts(&mut self, prefer_scripts: bool) {
        use accept::Accept;
        let anything = || vec![Accept { name: "*/*".into(), quality: 1.0, ..Accept::default() }];
        let quality = match (self.negotiate.use_rvsa, prefer_scripts) {
            (true, _) => 0.0,
            (false, true) => 2.0,
            (false, false) => 0.001,
        };
        self.accepts.types.get_or_insert_with(anything).push(Accept {
            name: CGI_MAGIC_TYPE.into(),
            quality,
            ..Accept::default()
        });
    }
}

/// The folder of a path, with its slash: `ap_make_dirstr_parent`.
fn parent_dir(path: &[u8]) -> &[u8] {
    let end = path.rfind_byte(b'/').map_or(0, |at| at + 1);
    path.get(..end).unwrap_or_default()
}

/// Lets `r`'s entity tag depend on the list of variants: `set_vlist_validator`. `info` is that of the file `map`; of a
/// folder only the time counts.
fn set_vlist_validator(r: &mut Request, map: &[u8], info: Option<&FileInfo>, mtime: i64) {
    let tag = match info {
        Some(info) => {
            let bits = r.dir(&core::DIR).etag_bits();
            let content = if bits.has(EtagBits::DIGEST) { file_cache::content(map, info).ok() } else { None };
            r.make_etag(info, bits, &content.unwrap_or_default())
        }
        None => conditional::make_etag(&EtagSource {
            bits: r.dir(&core::DIR).etag_bits(),
            is_file: false,
            inode: 0,
            size: 0,
            mtime,
            request_time: r.request_micros(),
            force_weak: false,
            digest: None,
            // A request that was redirected here may have chosen among variants before.
            vlist_validator: r.vlist_validator.as_deref(),
        }),
    };
    r.vlist_validator = tag;
}

/// Decides; answers with the place of the variant chosen: `do_negotiation`.
fn do_negotiation(r: &mut Request, neg: &mut Negotiation, prefer_scripts: bool) -> Result<usize, Step> {
    if r.method == Method::GET {
        // A variant elsewhere, or one in the map itself, has no place in transparent negotiation.
        neg.is_transparent = r.path_info.is_empty()
            && !neg.variants.iter().any(|v| v.file_name.contains(&b'/') || v.body.is_some());
    }
    if neg.is_transparent {
        neg.negotiate = Negotiate::parse(r.headers_in.get("Negotiate"), r.headers_in.get("User-Agent"));
    }
    neg.add_default_accepts(prefer_scripts);
    let dir = r.dir.clone();
    let env = |name: &str| r.subprocess_env.get(name);
    let rules = Rules {
        conf: dir.get(&DIR),
        accepts: &neg.accepts,
        negotiate: neg.negotiate,
        dir_name: &neg.dir_name,
        preferred_language: env("prefer-language").map(|lang| lang.to_str_lossy().into_owned()),
        discard: match (env("no-gzip"), env("gzip-only-text/html")) {
            (Some(_), _) => Discard::Encoded,
            (None, Some(b"1")) => Discard::EncodedButHtml,
            _ => Discard::Nothing,
        },
    };
    let (outcome, best) = rules.best_match(&mut neg.variants);
    if outcome == Outcome::List {
        neg.negotiate.send_alternates = true;
        reply::set_headers(r, neg, outcome);
        let list = reply::variant_list(neg);
        r.notes.set("variant-list", list);
        if neg.is_transparent && neg.negotiate.supports_transparent {
            return Err(Step::Status(status::MULTIPLE_CHOICES));
        }
    }
    let Some(best) = best else {
        rerror!(r, Level::Error, "negotiation", "AH00690", "no acceptable variant: {}", r.filename);
        return Err(Step::Status(status::NOT_ACCEPTABLE));
    };
    if neg.is_transparent {
        reply::set_up_choice(r, neg, best)?;
    } else {
        reply::set_headers(r, neg, outcome);
    }
    // Caches of HTTP/1.0 know nothing of Vary.
    if !r.server_conf(&SERVER).cache && r.proto_num < 1001 && neg.multiviews_variants != 1 {
        r.no_cache = true;
    }
    Ok(best)
}

/// The handler of type maps: `handle_map_file`.
fn handle_map_file(r: &mut Request) -> Answer {
    if !matches!(r.handler.as_deref(), Some(MAP_FILE_MAGIC_TYPE | TYPE_MAP)) {
        return Answer::Declined;
    }
    let mut neg = Negotiation::new(r);
    let filename = r.filename.clone();
    let map = match type_map::read(r, &filename) {
        Ok(map) => map,
        Err(code) => return Answer::Status(code),
    };
    neg.variants = map.variants;
    r.mtime = r.mtime.max(r.finfo.map_or(0, |info| info.mtime));
    let info = r.finfo;
    set_vlist_validator(r, &filename, info.as_ref(), r.mtime);
    let best = match do_negotiation(r, &mut neg, false) {
        Ok(best) => neg.variants.swap_remove(best),
        Err(Step::NeedThread) => return Answer::NeedThread,
        Err(Step::Status(code)) => return Answer::Status(code),
        Err(_) => return Answer::Declined,
    };
    if best.body.is_some() {
        return send_body(r, best, map.file);
    }
    // The path beyond the map goes along to the variant; the log shows the map without it.
    if r.uri.ends_with(&r.path_info) {
        let end = r.uri.len() - r.path_info.len();
        r.uri.truncate(end);
    }
    let mut uri = escape::os_escape_path(parent_dir(&r.uri), true).into_owned();
    uri.extend_from_slice(&best.file_name);
    uri.extend_from_slice(&r.path_info);
    if let Some(args) = &r.args {
        uri.push(b'?');
        uri.extend_from_slice(args);
    }
    Answer::Redirect(uri.into())
}

/// A content within the map itself.
fn send_body(r: &mut Request, best: Variant, file: Arc<File>) -> Answer {
    r.allowed = Method::GET.bit() | Method::OPTIONS.bit() | Method::POST.bit();
    if r.method != Method::GET && r.method != Method::POST {
        return Answer::Status(status::METHOD_NOT_ALLOWED);
    }
    let len = best.bytes.unwrap_or(0);
    let ranges = if r.dir(&core::DIR).max_ranges == Some(-1) { "none" } else { "bytes" };
    r.headers_out.set("Accept-Ranges", ranges);
    r.headers_out.set("Content-Length", len.to_string());
    if !best.mime_type.is_empty() {
        let mut media_type = best.mime_type.to_str_lossy().into_owned();
        if !best.content_charset.is_empty() {
            media_type.push_str("; charset=");
            media_type.push_str(&best.content_charset.to_str_lossy());
        }
        r.set_content_type(media_type);
    }
    if !best.content_languages.is_empty() {
        r.content_languages = best.content_languages;
    }
    if let Some(encoding) = best.content_encoding.filter(|enc| !enc.is_empty()) {
        r.content_encoding = Some(encoding.to_str_lossy().into_owned());
    }
    if let Some(code) = r.conditions().meets() {
        return Answer::Status(code);
    }
    let offset = best.body.unwrap_or(0);
    Answer::Body(Content::File(FileSlice { file, offset, len }))
}

/// The type checker of MultiViews: `handle_multi`.
fn handle_multi(r: &mut Request) -> Step {
    if r.finfo.is_some() || r.dir(&core::DIR).options() & options::MULTIVIEWS == 0 {
        return Step::Declined;
    }
    let mut neg = Negotiation::new(r);
    match multi::read(r, &mut neg) {
        Ok(()) if neg.variants.is_empty() => return Step::Declined,
        Ok(()) => {}
        Err(step) => return step,
    }
    let prefer_scripts = r.method != Method::GET || r.args.is_some() || !r.path_info.is_empty();
    let best = match do_negotiation(r, &mut neg, prefer_scripts) {
        Ok(best) => neg.variants.swap_remove(best),
        Err(step) => return step,
    };
    let mut sub = match best.sub_req {
        Some(sub) => sub,
        // From a map: nobody has looked at the file yet.
        None => match r.sub_req_lookup_file(&best.file_name) {
            Ok(sub) if sub.status == status::OK => sub,
            Ok(sub) => return Step::Status(sub.status),
            Err(step) => return step,
        },
    };
    if sub.args.is_none() {
        sub.args.clone_from(&r.args);
    }
    r.internal_fast_redirect(sub);
    r.mtime = 0;
    Step::Ok
}

/// Calls the coding as the client does, `gzip` or `x-gzip`: `fix_encoding`.
fn fix_encoding(r: &mut Request) -> Step {
    let Some(encoding) = r.content_encoding.as_deref().filter(|enc| !enc.is_empty()) else {
        return Step::Declined;
    };
    let plain = encoding.strip_prefix("x-").unwrap_or(encoding).as_bytes();
    let Some(accepted) = header_line(r.headers_in.get("Accept-Encoding")) else { return Step::Declined };
    let named = accepted.iter().find(|accept| accept.name == plain);
    let x_named = || accepted.iter().rfind(|accept| accept.name.strip_prefix(b"x-") == Some(plain));
    match named.or_else(x_named) {
        Some(accept) => {
            r.content_encoding = Some(accept.name.to_str_lossy().into_owned());
            Step::Ok
        }
        None => Step::Declined,
    }
}
