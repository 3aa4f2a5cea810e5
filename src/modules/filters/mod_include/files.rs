//! Files that a page names: `fsize`, `flastmod`, `find_file`.

use super::elements::Argued;
use super::expand::{decode_html, expand, time};
use super::page::Ssi;
use super::parse::Element;
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::request::{FileInfo, Request};
use crate::text::file_size;

/// `handle_fsize`, `handle_flastmod`.
pub(super) fn about_file(r: &mut Request, ssi: &Ssi, element: &Element, name: &[u8], value: &[u8]) -> Argued {
    let value = decode_html(value);
    let path = expand(r, ssi, &value, false);
    let Some(file) = find_file(r, &element.name, name, &path) else { return Argued::Error };
    Argued::Text(match &*element.name {
        b"flastmod" => time(&ssi.time_format, file.mtime, false),
        _ if ssi.size_in_bytes => {
            let digits = file.size.to_string();
            let mut text = Vec::new();
            for (index, c) in digits.bytes().enumerate() {
                if index > 0 && (digits.len() - index) % 3 == 0 {
                    text.push(b',');
                }
                text.push(c);
            }
            text
        }
        _ => file_size(i64::try_from(file.size).unwrap_or(i64::MAX)).into_bytes(),
    })
}

/// `find_file`.
fn find_file(r: &mut Request, element: &[u8], name: &[u8], path: &[u8]) -> Option<FileInfo> {
    let text = shown(path);
    let file = &r.filename;
    match name {
        b"file" => {
            let path = match below(path) {
                Ok(path) => path,
                Err(err) => {
                    rerror!(
                        r,
                        Level::Error,
                        "include",
                        "AH02668",
                        err = err,
                        "unable to access file \"{text}\" in parsed file {file}"
                    );
                    return None;
                }
            };
            let sub = r.sub_req_lookup_file(&path).ok()?;
            if sub.status != status::OK || sub.finfo.is_none() {
                rerror!(
                    r,
                    Level::Error,
                    "include",
                    "AH02670",
                    "unable to lookup information about \"{text}\" in parsed file {file}"
                );
                return None;
            }
            let name = shown(&sub.filename);
            FileInfo::stat(&sub.filename)
                .inspect_err(|err| {
                    rerror!(
                        r,
                        Level::Error,
                        "include",
                        "AH02669",
                        err = err,
                        "unable to get information about \"{name}\" in parsed file {file}"
                    );
                })
                .ok()
        }
        b"virtual" => {
            let sub = r.sub_req_lookup_uri(path).ok()?;
            let found = sub.finfo.filter(|_| sub.status == status::OK);
            if found.is_none() {
                rerror!(
                    r,
                    Level::Error,
                    "include",
                    "AH01339",
                    "unable to get information about \"{text}\" in parsed file {file}"
                );
            }
            found
        }
        name => {
            let (name, element) = (shown(name), shown(element));
            rerror!(
                r,
                Level::Error,
                "include",
                "AH01340",
                "unknown parameter \"{name}\" to tag {element} in {file}"
            );
            None
        }
    }
}

/// A path that must not lead above its folder.
pub(super) fn below(path: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    let above = || std::io::Error::other("(20023)The given path was above the root path");
    if path.first() == Some(&b'/') {
        return Err(above());
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&c| c == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or_else(above)?;
            }
            part => parts.push(part),
        }
    }
    let mut below = parts.join(&b"/"[..]);
    if path.ends_with(b"/") {
        below.push(b'/');
    }
    Ok(below)
}
