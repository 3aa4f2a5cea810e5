//! What can be chosen from.

use bstr::BString;

use super::accept::Accept;
use crate::request::Request;

/// HTML with SSI, as old configurations name it.
pub(super) const INCLUDES_MAGIC_TYPE: &str = "text/x-server-parsed-html";
/// The same at level 3.
pub(super) const INCLUDES_MAGIC_TYPE3: &str = "text/x-server-parsed-html3";

/// A variant: `var_rec`.
pub(super) struct Variant {
    /// What a request for it gives; none for those of a type map.
    pub sub_req: Option<Box<Request>>,
    /// In lower case.
    pub mime_type: BString,
    pub file_name: BString,
    /// Where its content begins within a type map.
    pub body: Option<u64>,
    pub content_encoding: Option<BString>,
    pub content_languages: Vec<String>,
    pub content_charset: BString,
    pub description: BString,

    pub lang_quality: f32,
    pub encoding_quality: f32,
    pub charset_quality: f32,
    pub mime_type_quality: f32,
    pub source_quality: f32,

    pub level: f32,
    /// The length, once known.
    pub bytes: Option<u64>,
    /// Its place in `LanguagePriority`.
    pub lang_index: Option<usize>,
    pub is_pseudo_html: bool,

    /// The level, when the client accepts the type by name.
    pub level_matched: f32,
    /// How exact the best match is: 1 for any, 2 for `type/*`, 3 for the type itself.
    pub mime_stars: u8,
    /// The qualities do not rest on a wildcard (RFC 2296 3.5).
    pub definite: bool,
}

impl Default for Variant {
    fn default() -> Self {
        Variant {
            sub_req: None,
            mime_type: BString::default(),
            file_name: BString::default(),
            body: None,
            content_encoding: None,
            content_languages: Vec::new(),
            content_charset: BString::default(),
            description: BString::default(),
            lang_quality: 1.0,
            encoding_quality: 1.0,
            charset_quality: 1.0,
            mime_type_quality: 1.0,
            source_quality: 0.0,
            level: 0.0,
            bytes: None,
            lang_index: None,
            is_pseudo_html: false,
            level_matched: 0.0,
            mime_stars: 0,
            definite: true,
        }
    }
}

impl Variant {
    /// Takes over a media type with its parameters: `set_mime_fields`.
    pub(super) fn set_mime_fields(&mut self, info: Accept) {
        self.is_pseudo_html = matches!(
            info.name.as_slice(),
            b"text/html" | b"text/x-server-parsed-html" | b"text/x-server-parsed-html3"
        );
        self.mime_type = info.name;
        self.source_quality = info.quality;
        self.level = info.level;
        self.content_charset = info.charset;
    }

    /// Has it no coding? `is_identity_encoding`.
    pub(super) fn is_identity(&self) -> bool {
        self.content_encoding
            .as_ref()
            .is_none_or(|enc| matches!(enc.as_slice(), b"" | b"7bit" | b"8bit" | b"binary"))
    }
}
