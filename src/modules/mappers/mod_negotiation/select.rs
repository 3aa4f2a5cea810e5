//! Which variant is the best: Apache's algorithm, and that of RFC 2296 (RVSA/1.0).

use bstr::ByteSlice;

use super::accept::{Accept, Accepts, Negotiate};
use super::variant::{INCLUDES_MAGIC_TYPE, INCLUDES_MAGIC_TYPE3, Variant};
use super::{NegDir, force_priority};

/// What the choice depends on, besides the variants.
pub(super) struct Rules<'a> {
    pub conf: &'a NegDir,
    pub accepts: &'a Accepts,
    pub negotiate: Negotiate,
    /// The folder of the variants, for their lengths.
    pub dir_name: &'a [u8],
    /// `prefer-language` of the environment.
    pub preferred_language: Option<String>,
    /// `no-gzip`, `gzip-only-text/html`.
    pub discard: Discard,
}

/// Which encoded variants are left out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Discard {
    Nothing,
    /// All.
    Encoded,
    /// All that are not HTML.
    EncodedButHtml,
}

/// What the algorithm ends with.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Outcome {
    /// A variant.
    Choice,
    /// The list of them.
    List,
}

fn is_includes(mime_type: &[u8]) -> bool {
    mime_type == INCLUDES_MAGIC_TYPE.as_bytes() || mime_type == INCLUDES_MAGIC_TYPE3.as_bytes()
}

/// Does the client's item take in the variant's type? Notes how exactly: `mime_match`.
fn mime_match(accept: &Accept, variant: &mut Variant) -> bool {
    let wanted = accept.name.as_slice();
    let offered = variant.mime_type.as_slice();
    if wanted == b"*" || wanted == b"*/*" {
        variant.mime_stars = variant.mime_stars.max(1);
        return true;
    }
    if wanted.len() > 2
        && let Some(main) = wanted.strip_suffix(b"/*")
        && offered.strip_prefix(main).is_some_and(|rest| rest.first() == Some(&b'/'))
    {
        variant.mime_stars = variant.mime_stars.max(2);
        return true;
    }
    let named = wanted == offered || wanted == b"text/html" && is_includes(offered);
    if named && accept.level >= variant.level {
        variant.level_matched = variant.level;
        variant.mime_stars = 3;
        return true;
    }
    false
}

/// Length of the variant's content: `find_content_length`.
pub(super) fn content_length(dir_name: &[u8], variant: &mut Variant) -> Option<u64> {
    if variant.bytes.is_none() {
        variant.bytes = match variant.sub_req.as_ref().and_then(|sub| sub.finfo) {
            Some(info) => Some(info.size),
            None => {
                let path = [dir_name, &variant.file_name].concat();
                crate::request::FileInfo::stat(&path).ok().map(|info| info.size)
            }
        };
    }
    variant.bytes
}

/// Order of two variants of the same media type by level: `level_cmp`.
fn level_cmp(one: &Variant, two: &Variant) -> std::cmp::Ordering {
    use std::cmp::Ordering::Equal;
    let comparable = if one.is_pseudo_html { two.is_pseudo_html } else { one.mime_type == two.mime_type };
    if !comparable {
        return Equal;
    }
    let by = |a: f32, b: f32| a.partial_cmp(&b).unwrap_or(Equal);
    // The highest level that was asked for by name; else the lowest, which is the least risk.
    by(one.level_matched, two.level_matched).then(by(two.level, one.level))
}

impl Rules<'_> {
    /// The quality of variants without a language, when others have one: `set_default_lang_quality`.
    fn default_lang_quality(&self, variants: &[Variant]) -> f32 {
        let some_have = variants.iter().any(|v| !v.content_languages.is_empty());
        if !self.negotiate.dont_fiddle && some_have { 0.0001 } else { 1.0 }
    }

    /// `set_accept_quality`.
    fn set_accept_quality(&self, variant: &mut Variant) {
        let Some(types) = &self.accepts.types else { return };
        let fiddle = !self.negotiate.dont_fiddle && !self.accepts.has_q;
        let mut quality = 0.0;
        let mut definite = true;
        for accept in types {
            let before = variant.mime_stars;
            if !mime_match(accept, variant) || before == variant.mime_stars {
                continue;
            }
            // A client without qualities means its wildcards as the last resort.
            quality = match variant.mime_stars {
                1 if fiddle => 0.01,
                2 if fiddle => 0.02,
                _ => accept.quality,
            };
            definite = variant.mime_stars == 3;
        }
        variant.mime_type_quality = quality;
        variant.definite &= definite;
    }

    /// `set_charset_quality`.
    fn set_charset_quality(&self, variant: &mut Variant) {
        let Some(charsets) = &self.accepts.charsets else {
            if !variant.content_charset.is_empty() {
                variant.definite = false;
            }
            return;
        };
        let charset: &[u8] = if variant.content_charset.is_empty() {
            let is_text = variant.mime_type.starts_with(b"text/") || is_includes(&variant.mime_type);
            if !is_text || self.negotiate.dont_fiddle {
                return;
            }
            b"iso-8859-1"
        } else {
            &variant.content_charset
        };
        if let Some(named) = charsets.iter().find(|a| a.name == charset) {
            variant.charset_quality = named.quality;
        } else if let Some(star) = charsets.iter().rfind(|a| a.name == "*") {
            variant.charset_quality = star.quality;
            variant.definite = false;
        } else {
            variant.charset_quality = if charset == b"iso-8859-1" { 1.0 } else { 0.0 };
        }
    }

    /// `set_encoding_quality`.
    fn set_encoding_quality(&self, variant: &mut Variant) {
        let Some(encodings) = &self.accepts.encodings else {
            variant.encoding_quality = if variant.is_identity() { 1.0 } else { 0.5 };
            return;
        };
        let (encoding, otherwise): (&[u8], f32) = match &variant.content_encoding {
            Some(encoding) if !variant.is_identity() => (encoding, 0.0),
            _ => (b"identity", 0.0001),
        };
        let plain = |name: &'_ [u8]| -> usize { if name.starts_with(b"x-") { 2 } else { 0 } };
        let encoding = encoding.get(plain(encoding)..).unwrap_or_default();
        let named = encodings.iter().find(|a| a.name.get(plain(&a.name)..) == Some(encoding));
        let star = || encodings.iter().rfind(|a| a.name == "*");
        variant.encoding_quality = named.or_else(star).map_or(otherwise, |accept| accept.quality);
    }

    /// `set_language_quality`.
    fn set_language_quality(&self, variant: &mut Variant, default: f32) {
        if variant.content_languages.is_empty() {
            if !self.negotiate.dont_fiddle {
                variant.lang_quality = default;
            }
            return;
        }
        match &self.accepts.languages {
            None => variant.definite = false,
            Some(accepted) => self.match_languages(variant, accepted),
        }
        let priority = match self.conf.force_priority {
            0 => force_priority::PREFER,
            set => set,
        };
        let (prefer, fallback) =
            (priority & force_priority::PREFER != 0, priority & force_priority::FALLBACK != 0);
        if !(prefer && variant.lang_index.is_none() || fallback && variant.lang_quality == 0.0) {
            return;
        }
        let order = self.conf.language_priority.as_deref().unwrap_or_default();
        let best = variant
            .content_languages
            .iter()
            .filter_map(|language| {
                order.iter().position(|name| {
                    language.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                })
            })
            .min();
        if best.is_none() {
            return;
        }
        if variant.lang_quality != 0.0 {
            if prefer {
                variant.lang_index = best;
            }
        } else if fallback {
            variant.lang_index = best;
            variant.lang_quality = 0.0001;
            variant.definite = false;
        }
    }

    /// The best of what `Accept-Language` says of the variant's languages; for each the longest range counts.
    fn match_languages(&self, variant: &mut Variant, accepted: &[Accept]) {
        let mut best: Option<&Accept> = None;
        let mut star: Option<&Accept> = None;
        let mut on_star = false;
        let mut fiddled = 0.0;
        for language in &variant.content_languages {
            let language = language.as_bytes();
            let mut longest: Option<&Accept> = None;
            for accept in accepted {
                let range = accept.name.as_slice();
                if range == b"*" {
                    star = star.or(Some(accept));
                    continue;
                }
                let covers = language
                    .strip_prefix(range)
                    .is_some_and(|rest| matches!(rest.first(), None | Some(b'-')));
                if covers && range.len() > longest.map_or(0, |l| l.name.len()) {
                    longest = Some(accept);
                }
                // A client that asks for en-US takes en, or en-GB, rather than nothing.
                if longest.is_none()
                    && !self.negotiate.dont_fiddle
                    && let Some(dash) = range.find_byte(b'-')
                    && range.get(..dash).is_some_and(|start| language.starts_with(start))
                {
                    fiddled = 0.001;
                }
            }
            if best.is_none_or(|b| longest.is_some_and(|l| l.quality > b.quality)) {
                best = longest;
            }
            on_star |= longest.is_none() && star.is_some();
        }
        if let Some(star) = star.filter(|_| on_star)
            && best.is_none_or(|best| star.quality > best.quality)
        {
            best = Some(star);
            variant.definite = false;
        }
        variant.lang_quality = best.map_or(fiddled, |best| best.quality);
    }

    /// RVSA/1.0 (RFC 2296), which knows nothing of codings: `is_variant_better_rvsa`.
    fn is_better_rvsa(variant: &Variant, best: Option<&Variant>, best_quality: &mut f32) -> bool {
        if variant.encoding_quality == 0.0 {
            return false;
        }
        let quality = variant.mime_type_quality
            * variant.source_quality
            * variant.charset_quality
            * variant.lang_quality;
        let better = quality > 0.0
            && (quality > *best_quality
                || quality == *best_quality
                    && best.is_some_and(|best| variant.encoding_quality > best.encoding_quality));
        if better {
            *best_quality = quality;
        }
        better
    }

    /// By type, language, level, charset, coding, length, in this order: `is_variant_better`.
    fn is_better(
        &self,
        variants: &mut [Variant],
        index: usize,
        best: Option<usize>,
        best_quality: &mut f32,
    ) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let Some(variant) = variants.get(index) else { return false };
        let unacceptable = [
            variant.encoding_quality,
            variant.lang_quality,
            variant.source_quality,
            variant.charset_quality,
            variant.mime_type_quality,
        ];
        if unacceptable.contains(&0.0) {
            return false;
        }
        let quality = variant.mime_type_quality * variant.source_quality;
        if quality == 0.0 || quality < *best_quality {
            return false;
        }
        let Some((best_index, best)) = best
            .filter(|_| quality <= *best_quality)
            .and_then(|best_index| variants.get(best_index).map(|best| (best_index, best)))
        else {
            *best_quality = quality;
            return true;
        };
        let by = |a: f32, b: f32| a.partial_cmp(&b).unwrap_or(Equal);
        let by_index = match (variant.lang_index, best.lang_index) {
            (Some(mine), Some(theirs)) => theirs.cmp(&mine),
            (mine, theirs) => mine.is_some().cmp(&theirs.is_some()),
        };
        let plain = |v: &Variant| v.content_charset.is_empty() || v.content_charset == "iso-8859-1";
        let by_charset = match by(variant.charset_quality, best.charset_quality) {
            Equal if !plain(variant) && plain(best) => Greater,
            order => order,
        };
        let order = by(variant.lang_quality, best.lang_quality)
            .then(by_index)
            .then(level_cmp(variant, best))
            .then(by_charset)
            .then(by(variant.encoding_quality, best.encoding_quality));
        let better = match order {
            Greater => true,
            Less => false,
            Equal => {
                let mut length = |i: usize| {
                    variants
                        .get_mut(i)
                        .and_then(|v| content_length(self.dir_name, v))
                        .map_or(-1, |l| l as i64)
                };
                length(index) < length(best_index)
            }
        };
        if better {
            *best_quality = quality;
        }
        better
    }

    fn is_discarded(&self, variant: &Variant) -> bool {
        if variant.is_identity() || variant.content_encoding.as_ref().is_some_and(|enc| enc == "identity") {
            return false;
        }
        match self.discard {
            Discard::Nothing => false,
            Discard::Encoded => true,
            Discard::EncodedButHtml => !variant.mime_type.starts_with(b"text/html"),
        }
    }

    /// Rates every variant and finds the best: `best_match`.
    pub(super) fn best_match(&self, variants: &mut [Variant]) -> (Outcome, Option<usize>) {
        let default = self.default_lang_quality(variants);
        let mut preferred = self.preferred_language.as_deref();
        let mut best_quality = 0.0;
        loop {
            let mut best: Option<usize> = None;
            for index in 0..variants.len() {
                let Some(variant) = variants.get_mut(index) else { break };
                if self.is_discarded(variant)
                    || preferred.is_some_and(|lang| !variant.content_languages.iter().any(|l| l == lang))
                {
                    continue;
                }
                self.set_accept_quality(variant);
                if preferred.is_some() {
                    variant.lang_quality = 1.0;
                    variant.definite = true;
                } else {
                    self.set_language_quality(variant, default);
                }
                self.set_encoding_quality(variant);
                self.set_charset_quality(variant);
                if !self.negotiate.may_choose {
                    continue;
                }
                let better = if self.negotiate.use_rvsa {
                    let best = best.and_then(|best| variants.get(best));
                    variants.get(index).is_some_and(|v| Self::is_better_rvsa(v, best, &mut best_quality))
                } else {
                    self.is_better(variants, index, best, &mut best_quality)
                };
                if better {
                    best = Some(index);
                }
            }
            let definite = best.and_then(|best| variants.get(best)).is_some_and(|best| best.definite);
            let outcome = if best_quality > 0.0 && (!self.negotiate.use_rvsa || definite) {
                Outcome::Choice
            } else {
                Outcome::List
            };
            // Nothing in the preferred language: once more with all of them.
            if preferred.is_some() && (best.is_none() || outcome == Outcome::List) {
                preferred = None;
                continue;
            }
            return (outcome, best);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::accept::header_line;
    use super::*;

    fn variant(name: &str, mime_type: &str, languages: &[&str], encoding: Option<&str>) -> Variant {
        let mut variant = Variant { file_name: name.into(), bytes: Some(1), ..Variant::default() };
        variant.set_mime_fields(super::super::accept::get_entry(&mut mime_type.as_bytes()));
        variant.content_languages = languages.iter().map(|l| (*l).to_owned()).collect();
        variant.content_encoding = encoding.map(Into::into);
        variant
    }

    fn choose(accept: [Option<&str>; 3], negotiate: Option<&str>, mut variants: Vec<Variant>) -> String {
        let line = |text: Option<&str>| header_line(text.map(str::as_bytes));
        let mut accepts = Accepts {
            types: line(accept[0]),
            languages: line(accept[1]),
            encodings: line(accept[2]),
            ..Accepts::default()
        };
        accepts.has_q = accepts.types.iter().flatten().any(|a| a.quality < 1.0);
        accepts.types.get_or_insert_with(|| header_line(Some(b"*/*")).unwrap_or_default());
        let conf = NegDir {
            force_priority: force_priority::PREFER | force_priority::FALLBACK,
            language_priority: Some(vec!["de".to_owned(), "en".to_owned()]),
        };
        let rules = Rules {
            conf: &conf,
            accepts: &accepts,
            negotiate: Negotiate::parse(negotiate.map(str::as_bytes), None),
            dir_name: b"/",
            preferred_language: None,
            discard: Discard::Nothing,
        };
        match rules.best_match(&mut variants) {
            (Outcome::Choice, Some(best)) => variants[best].file_name.to_string(),
            (outcome, _) => format!("{outcome:?}"),
        }
    }

    #[test]
    fn languages() {
        let all = || {
            vec![
                variant("en", "text/html", &["en"], None),
                variant("de", "text/html", &["de"], None),
                variant("none", "text/html", &[], None),
            ]
        };
        assert_eq!(choose([None, Some("en"), None], None, all()), "en");
        assert_eq!(choose([None, Some("de-AT"), None], None, all()), "de");
        assert_eq!(choose([None, None, None], None, all()), "de");
        assert_eq!(choose([None, Some("fr, en;q=0.2"), None], None, all()), "en");
        assert_eq!(choose([None, Some("fr"), None], None, all()), "de");
        assert_eq!(choose([None, Some("de;q=0.5, *;q=0.7"), None], None, all()), "en");
        assert_eq!(choose([None, Some("de"), None], Some("trans"), all()), "List");
    }

    #[test]
    fn types_and_codings() {
        let all = || {
            vec![
                variant("html", "text/html", &[], None),
                variant("gz", "text/html", &[], Some("x-gzip")),
                variant("png", "image/png", &[], None),
            ]
        };
        assert_eq!(choose([Some("image/*, */*"), None, None], None, all()), "png");
        assert_eq!(choose([Some("text/html, */*;q=0.1"), None, Some("gzip")], None, all()), "gz");
        assert_eq!(choose([Some("text/html"), None, None], None, all()), "html");
        assert_eq!(choose([Some("text/plain"), None, None], None, all()), "List");
        assert_eq!(choose([Some("text/html;level=1"), None, None], None, all()), "List");
        let sources = vec![
            variant("half", "text/html;qs=0.5", &[], None),
            variant("more", "text/plain;qs=0.6", &[], None),
        ];
        assert_eq!(choose([Some("text/html, text/plain"), None, None], Some("1.0"), sources), "more");
    }
}
