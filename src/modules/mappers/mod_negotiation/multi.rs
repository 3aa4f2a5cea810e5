//! MultiViews: the files of a folder whose names begin with the one asked for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bstr::ByteSlice;

use super::accept::get_entry;
use super::variant::Variant;
use super::{CGI_MAGIC_TYPE, MAP_FILE_MAGIC_TYPE, Negotiation, TYPE_MAP, set_vlist_validator, type_map};
use crate::http::status;
use crate::log::{Level, rerror};
use crate::modules::mappers::mod_mime::EXCEPTIONS_NOTE;
use crate::request::{FileInfo, Request, Step};

/// Finds the variants of `r`'s file: `read_types_multi`. An error is the answer of the hook.
pub(super) fn read(r: &mut Request, neg: &mut Negotiation) -> Result<(), Step> {
    if r.proxyreq.is_some() || r.filename.first() != Some(&b'/') {
        return Err(Step::Declined);
    }
    let base = r.filename.get(neg.dir_name.len()..).unwrap_or_default().to_vec();
    let folder = Path::new(OsStr::from_bytes(&neg.dir_name));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) => {
            let name = neg.dir_name.as_bstr();
            rerror!(
                r,
                Level::Error,
                "negotiation",
                "AH00686",
                err = err,
                "cannot read directory for multi: {name}"
            );
            return Err(Step::Status(status::FORBIDDEN));
        }
    };
    let mut any = false;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.as_bytes();
        if name.strip_prefix(base.as_slice()).is_none_or(|rest| rest.first() != Some(&b'.'))
            || entry.file_type().is_ok_and(|kind| kind.is_dir())
        {
            continue;
        }
        any = true;
        let path = [neg.dir_name.as_slice(), name].concat();
        let Ok(info) = FileInfo::lstat(&path) else { continue };
        let mut sub = r.sub_req_lookup_dirent(name, info)?;
        if !sub.finfo.is_some_and(|info| info.is_file()) {
            continue;
        }
        // What has a handler is most likely a script.
        if sub.handler.is_some() && sub.content_type.is_none() {
            sub.set_content_type(CGI_MAGIC_TYPE);
        }
        let known = sub.notes.get(EXCEPTIONS_NOTE).is_some_and(|list| names_fit(&base, list));
        if !known || sub.status != status::OK {
            continue;
        }
        let Some(media_type) = sub.content_type.clone() else { continue };
        if media_type == MAP_FILE_MAGIC_TYPE || sub.handler.as_deref() == Some(TYPE_MAP) {
            return read_map(r, neg, &sub);
        }
        let mut variant = Variant {
            file_name: name.into(),
            content_encoding: sub.content_encoding.as_deref().map(Into::into),
            content_languages: sub.content_languages.clone(),
            ..Variant::default()
        };
        variant.set_mime_fields(get_entry(&mut media_type.as_bytes()));
        variant.sub_req = Some(sub);
        neg.variants.push(variant);
        neg.multiviews_variants += 1;
    }
    if any && neg.variants.is_empty() {
        rerror!(
            r,
            Level::Error,
            "negotiation",
            "AH00687",
            "Negotiation: discovered file(s) matching request: {} (None could be negotiated).",
            r.filename
        );
        return Err(Step::Status(status::NOT_FOUND));
    }
    // The directory walk looked at the folder last.
    let mtime = FileInfo::stat(&neg.dir_name).map_or(0, |info| info.mtime);
    set_vlist_validator(r, b"", None, mtime);
    // The order of the folder must not decide.
    neg.variants.sort_by(|a, b| {
        b.source_quality
            .partial_cmp(&a.source_quality)
            .unwrap_or(std::cmp::Ordering::Equal)
            .then_with(|| a.file_name.cmp(&b.file_name))
    });
    Ok(())
}

/// A type map among the variants takes the place of all of them.
fn read_map(r: &mut Request, neg: &mut Negotiation, sub: &Request) -> Result<(), Step> {
    neg.multiviews_variants = 0;
    neg.variants = type_map::read(r, &sub.filename).map_err(Step::Status)?.variants;
    set_vlist_validator(r, &sub.filename, sub.finfo.as_ref(), sub.mtime);
    Ok(())
}

/// Is every unknown part of the file's name a part of the name asked for, in the same order?
fn names_fit(base: &[u8], exceptions: &[u8]) -> bool {
    let mut unknown = exceptions.split(|&c| c == b'/').peekable();
    for part in base.split(|&c| c == b'.') {
        if unknown.peek() == Some(&part) {
            unknown.next();
        }
    }
    unknown.peek().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_parts_must_be_asked_for() {
        assert!(names_fit(b"page", b"page"));
        assert!(names_fit(b"page.x.y", b"page/y"));
        assert!(!names_fit(b"page", b"page/x"));
        assert!(!names_fit(b"page.x", b"page/x/x"));
        assert!(!names_fit(b"page.x.y", b"page/y/x"));
    }
}
