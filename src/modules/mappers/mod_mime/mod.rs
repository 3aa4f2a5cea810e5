//! mod_mime: what a file's extensions say of it: media type, coding, languages, charset, handler, filters.
//!
//! Answers to `modules/http/mod_mime.c`. The rows are in [`rows`], the reading of media types in [`media_type`], that of
//! the `mime.types` file in [`types_config`]. Differs: a type is brought into its canonical form when the configuration is
//! read, not for every request; the list of unknown extensions is kept for sub-requests only, where mod_negotiation asks.

mod media_type;
mod rows;
mod types_config;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::hooks::{Hooks, order};
use crate::log::{self, Level};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, Step};
use crate::text::SharedStr;

pub use media_type::MediaType;

/// The module.
pub static MODULE: Module = Module { name: "mime_module", file: "mod_mime.c", directives: rows::ROWS, hooks };

/// A directory's settings.
pub static DIR: Slot<MimeDir> = Slot::new();
/// A server's settings.
pub static SERVER: Slot<MimeServer> = Slot::new();

/// The note that tells mod_negotiation which parts of a file's name mean nothing: the parts, `/` between them.
pub const EXCEPTIONS_NOTE: &str = "ap-mime-exceptions-list";

/// The media type that stands for a directory.
pub const DIR_MAGIC_TYPE: &str = "httpd/unix-directory";

/// Maps by extension, in lower case. Requests only look up, so that nobody outside can choose what is in them.
pub(crate) type ByExtension<T> = HashMap<Box<[u8]>, T, BuildHasherDefault<Fnv>>;

/// FNV-1a: extensions are a few bytes.
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// What an extension stands for: `extension_info`.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct Extension {
    /// `AddType`; an empty one (`RemoveType`) hides what the types file says.
    pub forced_type: Option<MediaType>,
    /// `AddEncoding`.
    pub encoding: Option<String>,
    /// `AddLanguage`.
    pub language: Option<String>,
    /// `AddHandler`.
    pub handler: Option<SharedStr>,
    /// `AddCharset`.
    pub charset: Option<String>,
    /// `AddInputFilter`, names with `;` between them.
    pub input_filters: Option<String>,
    /// `AddOutputFilter`, the same.
    pub output_filters: Option<String>,
}

/// One of the settings of an extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Attribute {
    Type,
    Encoding,
    Language,
    Handler,
    Charset,
    InputFilters,
    OutputFilters,
}

impl Extension {
    fn set(&mut self, attribute: Attribute, value: &str) {
        let text = || Some(value.to_owned());
        match attribute {
            Attribute::Type => self.forced_type = Some(MediaType::new(value)),
            Attribute::Encoding => self.encoding = text(),
            Attribute::Language => self.language = text(),
            Attribute::Handler => self.handler = Some(value.to_owned().into()),
            Attribute::Charset => self.charset = text(),
            Attribute::InputFilters => self.input_filters = text(),
            Attribute::OutputFilters => self.output_filters = text(),
        }
    }

    fn remove(&mut self, attribute: Attribute) {
        match attribute {
            Attribute::Type => self.forced_type = None,
            Attribute::Encoding => self.encoding = None,
            Attribute::Language => self.language = None,
            Attribute::Handler => self.handler = None,
            Attribute::Charset => self.charset = None,
            Attribute::InputFilters => self.input_filters = None,
            Attribute::OutputFilters => self.output_filters = None,
        }
    }

    fn overlay(&mut self, over: &Extension) {
        fn put<T: Clone>(mine: &mut Option<T>, theirs: &Option<T>) {
            if theirs.is_some() {
                mine.clone_from(theirs);
            }
        }
        put(&mut self.forced_type, &over.forced_type);
        put(&mut self.encoding, &over.encoding);
        put(&mut self.language, &over.language);
        put(&mut self.handler, &over.handler);
        put(&mut self.charset, &over.charset);
        put(&mut self.input_filters, &over.input_filters);
        put(&mut self.output_filters, &over.output_filters);
    }
}

/// `MultiviewsMatch`: what counts as known in a name that MultiViews looks at (`MULTIMATCH_*`).
pub(crate) mod multimatch {
    pub(crate) const ANY: u8 = 1;
    pub(crate) const NEGOTIATED: u8 = 2;
    pub(crate) const HANDLERS: u8 = 4;
    pub(crate) const FILTERS: u8 = 8;
}

/// A directory's settings: `mime_dir_config`.
#[derive(Clone, Default)]
pub struct MimeDir {
    extensions: ByExtension<Extension>,
    /// `RemoveHandler` and the like: what is taken away at the merge with what is around.
    removed: Vec<(Box<[u8]>, Attribute)>,
    default_language: Option<String>,
    /// Bits of [`multimatch`]; 0: not said.
    multimatch: u8,
    use_path_info: Option<bool>,
}

impl Conf for MimeDir {
    fn merge(&self, child: &Self) -> Self {
        let mut extensions = self.extensions.clone();
        for (name, over) in &child.extensions {
            extensions.entry(name.clone()).or_default().overlay(over);
        }
        for (name, attribute) in &child.removed {
            if let Some(extension) = extensions.get_mut(name) {
                extension.remove(*attribute);
            }
        }
        MimeDir {
            extensions,
            removed: Vec::new(),
            default_language: child.default_language.clone().or_else(|| self.default_language.clone()),
            multimatch: if child.multimatch != 0 { child.multimatch } else { self.multimatch },
            use_path_info: child.use_path_info.or(self.use_path_info),
        }
    }
}

/// A server's settings.
#[derive(Clone, Default)]
pub struct MimeServer {
    /// `TypesConfig`; that of the main server counts.
    types_config: Option<String>,
    /// What the types file says, once it was read.
    types: Option<Arc<ByExtension<MediaType>>>,
}

impl Conf for MimeServer {
    fn merge(&self, child: &Self) -> Self {
        MimeServer {
            types_config: child.types_config.clone(),
            types: child.types.clone().or_else(|| self.types.clone()),
        }
    }
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.post_config(types_config::post_config, order::MIDDLE);
    hooks.type_checker(find_ct, order::MIDDLE);
}

/// Extensions up to this length are brought to lower case without an allocation.
const SHORT: usize = 32;

/// An extension in lower case.
struct Lower {
    short: [u8; SHORT],
    len: usize,
    long: Vec<u8>,
}

impl Lower {
    fn of(name: &[u8]) -> Lower {
        let mut lower = Lower { short: [0; SHORT], len: name.len(), long: Vec::new() };
        match lower.short.get_mut(..name.len()) {
            Some(short) => {
                short.copy_from_slice(name);
                short.make_ascii_lowercase();
            }
            None => lower.long = name.to_ascii_lowercase(),
        }
        lower
    }
    fn as_bytes(&self) -> &[u8] {
        self.short.get(..self.len).unwrap_or(&self.long)
    }
}

/// What the extensions of one name gave, beyond what goes into the request at once.
#[derive(Default)]
struct Found<'c> {
    media_type: Option<&'c MediaType>,
    charset: Option<&'c str>,
    /// Something was known.
    metadata: bool,
    /// The base name and the unknown extensions, for sub-requests.
    exceptions: Option<Vec<u8>>,
}

/// The type checker: `find_ct`.
fn find_ct(r: &mut Request) -> Step {
    if r.finfo.is_some_and(|f| f.is_dir()) {
        r.set_content_type(DIR_MAGIC_TYPE);
        return Step::Ok;
    }
    if r.filename.is_empty() {
        return Step::Declined;
    }
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    let server = r.server.clone();
    let types = server.conf.get(&SERVER).types.as_deref();
    let filename = std::mem::take(&mut r.filename);
    let whole: Vec<u8>;
    let name: &[u8] = if conf.use_path_info == Some(true) && !r.path_info.is_empty() {
        whole = [filename.as_slice(), r.path_info.as_slice()].concat();
        &whole
    } else {
        &filename
    };
    let name = name.rsplit(|&b| b == b'/').next().unwrap_or(name);
    let found = look_up(r, conf, types, name);
    r.filename = filename;
    let Found { media_type, charset, metadata, exceptions } = found;
    if metadata && let Some(list) = exceptions {
        r.notes.set(EXCEPTIONS_NOTE, list);
    }
    set_media_type(r, media_type, charset);
    if r.content_languages.is_empty()
        && let Some(language) = &conf.default_language
    {
        r.content_languages.push(language.clone());
    }
    if r.content_type.is_none() { Step::Declined } else { Step::Ok }
}

/// Goes through the extensions of `name`, in any order they stand in.
fn look_up<'c>(
    r: &mut Request,
    conf: &'c MimeDir,
    types: Option<&'c ByExtension<MediaType>>,
    name: &[u8],
) -> Found<'c> {
    let mut found = Found::default();
    // Leading dots belong to the base name: `.png` is a hidden file, no picture.
    let dots = name.iter().take_while(|&&b| b == b'.').count();
    let base = name.iter().skip(dots).position(|&b| b == b'.').map_or(name.len(), |at| at + dots);
    if r.is_subrequest {
        found.exceptions = Some(name.get(..base).unwrap_or(name).to_vec());
    }
    for part in name.get(base..).unwrap_or_default().split(|&b| b == b'.') {
        if part.is_empty() {
            continue;
        }
        let lower = Lower::of(part);
        let extension = conf.extensions.get(lower.as_bytes());
        let mut known = false;
        if extension.is_none_or(|e| e.forced_type.is_none())
            && let Some(media_type) = types.and_then(|t| t.get(lower.as_bytes()))
        {
            found.media_type = Some(media_type);
            known = true;
        }
        if let Some(extension) = extension {
            known |= apply(r, conf, extension, &mut found);
        }
        if known || conf.multimatch & multimatch::ANY != 0 {
            found.metadata = true;
        } else if let Some(list) = &mut found.exceptions {
            list.push(b'/');
            list.extend_from_slice(part);
        }
    }
    found
}

/// Takes over what an extension stands for; true when that is something a client could ask for.
fn apply<'c>(r: &mut Request, conf: &MimeDir, extension: &'c Extension, found: &mut Found<'c>) -> bool {
    let mut known = false;
    if let Some(media_type) = extension.forced_type.as_ref().filter(|t| !t.is_empty()) {
        found.media_type = Some(media_type);
        known = true;
    }
    if let Some(charset) = &extension.charset {
        found.charset = Some(charset);
        known = true;
    }
    if let Some(language) = &extension.language {
        r.content_languages.push(language.clone());
        known = true;
    }
    if let Some(encoding) = &extension.encoding {
        match &mut r.content_encoding {
            // Codings are listed in the order in which they were applied (RFC 9110 8.4).
            Some(all) => {
                all.push_str(", ");
                all.push_str(encoding);
            }
            None => r.content_encoding = Some(encoding.clone()),
        }
        known = true;
    }
    if let Some(handler) = &extension.handler
        && r.proxyreq.is_none()
    {
        r.handler = Some(handler.clone());
        known |= conf.multimatch & multimatch::HANDLERS != 0;
    }
    if let Some(filters) = &extension.input_filters {
        for name in filters.split(';').filter(|n| !n.is_empty()) {
            if !r.add_input_filter(name) {
                unknown_filter(r, name);
            }
        }
        known |= conf.multimatch & multimatch::FILTERS != 0;
    }
    if let Some(filters) = &extension.output_filters {
        for name in filters.split(';').filter(|n| !n.is_empty()) {
            if !r.add_output_filter(name) {
                unknown_filter(r, name);
            }
        }
        known |= conf.multimatch & multimatch::FILTERS != 0;
    }
    known
}

fn unknown_filter(r: &Request, name: &str) {
    let text = format_args!("an unknown filter was not added: {name}");
    log::connection_event(&r.connection, Level::Error, "core", "AH00082", None, text);
}

/// The media type in its canonical form, with the charset that `AddCharset` gives it.
fn set_media_type(r: &mut Request, found: Option<&MediaType>, charset: Option<&str>) {
    if charset.is_none()
        && let Some(canonical) = found.and_then(MediaType::canonical)
    {
        r.content_type = Some(canonical.clone());
        return;
    }
    if let Some(media_type) = found {
        r.content_type = Some(media_type.text().clone());
    }
    let Some(text) = &r.content_type else { return };
    match media_type::canonical(text, charset) {
        Ok(canonical) => r.content_type = Some(canonical.into()),
        Err(wrong) => log::server_event(Level::Warn, "mime", wrong.ah, &wrong.text),
    }
}
