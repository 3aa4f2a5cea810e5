//! What a reply says of its negotiation: `Vary`, `Alternates`, `TCN`, `Content-Location`, and the list for people.

use bstr::ByteSlice;

use super::select::{Outcome, content_length};
use super::variant::Variant;
use super::{Negotiation, TYPE_MAP};
use crate::http::escape;
use crate::http::status;
use crate::request::{Request, Step};

/// `Alternates`, `Vary` and `TCN`, also for error replies: `set_neg_headers`.
pub(super) fn set_headers(r: &mut Request, neg: &mut Negotiation, outcome: Outcome) {
    let dir_name = &neg.dir_name;
    if neg.negotiate.send_alternates && !neg.variants.is_empty() {
        let mut all = Vec::new();
        for variant in &mut neg.variants {
            if !all.is_empty() {
                all.extend_from_slice(b", ");
            }
            alternate(&mut all, dir_name, variant);
        }
        r.err_headers_out.merge("Alternates", all);
    }
    let differ = |key: &dyn Fn(&Variant) -> Vec<u8>| {
        let mut keys = neg.variants.iter().map(key);
        keys.next().is_some_and(|first| keys.any(|other| other != first))
    };
    let dimensions: [(&str, bool); 5] = [
        ("negotiate", neg.is_transparent),
        ("accept", differ(&|v| v.mime_type.to_vec())),
        ("accept-language", differ(&|v| v.content_languages.join(",").into_bytes())),
        ("accept-charset", differ(&|v| v.content_charset.to_vec())),
        (
            "accept-encoding",
            differ(&|v| v.content_encoding.as_ref().map_or_else(Vec::new, |enc| enc.to_vec())),
        ),
    ];
    let vary: Vec<&str> = dimensions.iter().filter(|(_, varies)| *varies).map(|(name, _)| *name).collect();
    if !vary.is_empty() {
        r.err_headers_out.merge("Vary", vary.join(", "));
    }
    if neg.is_transparent {
        r.err_headers_out.set("TCN", if outcome == Outcome::List { "list" } else { "choice" });
    }
}

/// One item of `Alternates` (RFC 2295 8.3).
fn alternate(out: &mut Vec<u8>, dir_name: &[u8], variant: &mut Variant) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(&escape::escape_path_segment(&variant.file_name));
    out.extend_from_slice(b"\" ");
    out.extend_from_slice(quality(variant.source_quality).as_bytes());
    let mut attribute = |name: &str, value: &[u8]| {
        out.extend_from_slice(b" {");
        out.extend_from_slice(name.as_bytes());
        out.push(b' ');
        out.extend_from_slice(value);
        out.push(b'}');
    };
    if !variant.mime_type.is_empty() {
        attribute("type", &variant.mime_type);
    }
    if !variant.content_charset.is_empty() {
        attribute("charset", &variant.content_charset);
    }
    if !variant.content_languages.is_empty() {
        attribute("language", variant.content_languages.join(",").as_bytes());
    }
    if let Some(encoding) = variant.content_encoding.as_ref().filter(|enc| !enc.is_empty()) {
        attribute("encoding", encoding);
    }
    // The length of a script's file says nothing about what it will send.
    let has_handler = variant.sub_req.as_ref().is_some_and(|sub| sub.handler.is_some());
    if !has_handler && let Some(length) = content_length(dir_name, variant) {
        attribute("length", length.to_string().as_bytes());
    }
    out.push(b'}');
}

/// With at most three digits, and no zeros behind the last other one.
fn quality(q: f32) -> String {
    let text = format!("{q:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The list in the page of a 300 or 406: `make_variant_list`.
pub(super) fn variant_list(neg: &Negotiation) -> Vec<u8> {
    let mut out = b"Available variants:\n<ul>\n".to_vec();
    for variant in &neg.variants {
        out.extend_from_slice(b"<li><a href=\"");
        out.extend_from_slice(&escape::escape_path_segment(&variant.file_name));
        out.extend_from_slice(b"\">");
        out.extend_from_slice(&escape::escape_html(&variant.file_name));
        out.extend_from_slice(b"</a> ");
        out.extend_from_slice(&variant.description);
        let mut part = |name: &str, value: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
        };
        if !variant.mime_type.is_empty() {
            part(", type ", &variant.mime_type);
        }
        if !variant.content_languages.is_empty() {
            part(", language ", variant.content_languages.join(",").as_bytes());
        }
        if !variant.content_charset.is_empty() {
            part(", charset ", &variant.content_charset);
        }
        if let Some(encoding) = &variant.content_encoding {
            part(", encoding ", encoding);
        }
        out.extend_from_slice(b"</li>\n");
    }
    out.extend_from_slice(b"</ul>\n");
    out
}

/// Says which variant was chosen, unless that is negotiated itself: `setup_choice_response`.
pub(super) fn set_up_choice(r: &mut Request, neg: &mut Negotiation, best: usize) -> Result<(), Step> {
    if let Some(variant) = neg.variants.get_mut(best) {
        let mut sub = match variant.sub_req.take() {
            Some(sub) => sub,
            None => {
                let sub = r.sub_req_lookup_file(&variant.file_name)?;
                if sub.status != status::OK && !sub.err_headers_out.contains("TCN") {
                    return Err(Step::Status(sub.status));
                }
                sub
            }
        };
        if sub.err_headers_out.contains("TCN") || sub.handler.as_deref() == Some(TYPE_MAP) {
            return Err(Step::Status(status::VARIANT_ALSO_VARIES));
        }
        if let Some(vary) = sub.err_headers_out.get("Vary").map(<[u8]>::to_vec) {
            r.err_headers_out.set("Variant-Vary", &vary);
            r.err_headers_out.set("Vary", &vary);
            sub.err_headers_out.unset("Vary");
        }
        let location = escape::escape_path_segment(variant.file_name.as_bytes());
        r.err_headers_out.set("Content-Location", location);
        variant.sub_req = Some(sub);
    }
    set_headers(r, neg, Outcome::Choice);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualities_without_zeros() {
        assert_eq!(quality(1.0), "1");
        assert_eq!(quality(0.5), "0.5");
        assert_eq!(quality(0.85), "0.85");
        assert_eq!(quality(0.001), "0.001");
        assert_eq!(quality(0.0), "0");
    }
}
