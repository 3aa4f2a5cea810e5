//! mod_cern_meta: header fields from a file beside the file.
//!
//! Answers to `modules/metadata/mod_cern_meta.c`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;

use bstr::{BString, ByteSlice};
use httpd_conf::to_bytes;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::{Hooks, order};
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, Step, memo, script_header};
use crate::table::{Overlap, Table};

/// The module.
pub static MODULE: Module =
    Module { name: "cern_meta_module", file: "mod_cern_meta.c", directives: ROWS, hooks };

static DIR: Slot<CernMeta> = Slot::new();

#[derive(Clone, Default)]
struct CernMeta {
    dir: Option<BString>,
    suffix: Option<BString>,
    /// Not inherited.
    files: bool,
}

impl Conf for CernMeta {
    fn merge(&self, child: &Self) -> Self {
        CernMeta {
            dir: child.dir.clone().or_else(|| self.dir.clone()),
            suffix: child.suffix.clone().or_else(|| self.suffix.clone()),
            files: child.files,
        }
    }
}

static ROWS: &[Directive] = &[
    row("MetaFiles", Args::Flag(meta_files), "Limited to 'on' or 'off'"),
    row("MetaDir", Args::Take1(meta_dir), "the name of the directory containing meta files"),
    row("MetaSuffix", Args::Take1(meta_suffix), "the filename suffix for meta files"),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::INDEXES, help }
}

fn meta_files(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).files = on;
    Ok(())
}

fn meta_dir(cmd: &mut Cmd, name: &str) -> Done {
    cmd.dir(&DIR).dir = Some(to_bytes(name).into_owned().into());
    Ok(())
}

fn meta_suffix(cmd: &mut Cmd, suffix: &str) -> Done {
    cmd.dir(&DIR).suffix = Some(to_bytes(suffix).into_owned().into());
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.fixups(add_meta_data, order::MIDDLE);
}

/// `add_cern_meta_data`.
fn add_meta_data(r: &mut Request) -> Step {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    if !conf.files || r.finfo.is_none_or(|info| info.is_dir()) || r.uri.last() == Some(&b'/') {
        return Step::Declined;
    }
    // What is in the file isn't noted.
    memo::refuse();
    let (first, last) = (r.filename.find_byte(b'/'), r.filename.rfind_byte(b'/'));
    let Some(last) = last.filter(|_| first != last) else {
        rerror!(r, Level::Error, "cern_meta", "AH01561", "internal error in mod_cern_meta: {}", r.filename);
        return Step::Declined;
    };
    let meta = [
        &r.filename[..last],
        b"/",
        conf.dir.as_ref().map_or(&b".web"[..], |dir| dir),
        &r.filename[last..],
        conf.suffix.as_ref().map_or(&b".meta"[..], |suffix| suffix),
    ]
    .concat();
    match r.sub_req_lookup_file(&meta) {
        Ok(sub) if sub.status == status::OK => {}
        Ok(_) => return Step::Declined,
        Err(step) => return step,
    }
    match File::open(std::ffi::OsStr::from_bytes(&meta)) {
        Ok(file) => scan(r, file),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Step::Declined,
        Err(_) => {
            rerror!(
                r,
                Level::Error,
                "cern_meta",
                "AH01562",
                "meta file permissions deny server access: {}",
                meta.as_bstr()
            );
            Step::Status(status::FORBIDDEN)
        }
    }
}

/// `scan_meta_file`. What stands before an empty line is lost, as in Apache.
fn scan(r: &mut Request, file: File) -> Step {
    let mut reader = BufReader::new(file);
    let mut fields = Table::new();
    loop {
        let mut line = Vec::new();
        let most = script_header::LONGEST_LINE as u64;
        if reader.by_ref().take(most).read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").map_or(&*line, |text| text.strip_suffix(b"\r").unwrap_or(text));
        if text.is_empty() {
            return Step::Ok;
        }
        let Some((name, value)) = text.split_once_str(":") else {
            rerror!(r, Level::Error, "cern_meta", "AH01560", "malformed header in meta file: {}", r.filename);
            return Step::Status(status::INTERNAL_SERVER_ERROR);
        };
        let value = value.trim_ascii_start();
        if name.eq_ignore_ascii_case(b"Content-type") {
            let media_type = script_header::lower_type(value.trim_ascii_end());
            r.set_content_type(media_type.to_str_lossy().into_owned());
        } else if name.eq_ignore_ascii_case(b"Status") {
            let digits: String =
                value.iter().take_while(|c| c.is_ascii_digit()).map(|&c| char::from(c)).collect();
            if let Ok(code) = digits.parse() {
                r.status = code;
            }
            r.status_line = Some(value.to_str_lossy().into_owned());
        } else {
            fields.set(name, value);
        }
    }
    r.headers_out.overlap(&fields, Overlap::Set);
    Step::Ok
}
