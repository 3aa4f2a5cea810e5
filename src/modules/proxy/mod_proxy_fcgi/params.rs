//! The begin of a request's records: FCGI_BEGIN_REQUEST, and its variables as FCGI_PARAMS (`send_environment`).

use super::{BackendType, DIR, NAME};
use crate::expr::{Backrefs, Failure};
use crate::log::{Level, rerror, shown};
use crate::request::{Request, Step};

/// How much of the variables goes into one record.
const MOST: usize = 16 * 1024;
/// The one request of a connection (`request_id`).
pub(super) const REQUEST_ID: u16 = 1;

const BEGIN_REQUEST: u8 = 1;
const PARAMS: u8 = 4;
const RESPONDER: u8 = 1;
const KEEP_CONN: u8 = 1;

/// How long the record is that begins a request.
pub(super) const BEGIN_LEN: usize = 16;

/// A record's header.
pub(super) fn header(kind: u8, length: u16) -> [u8; 8] {
    let [id_high, id_low] = REQUEST_ID.to_be_bytes();
    let [high, low] = length.to_be_bytes();
    [1, kind, id_high, id_low, high, low, 0, 0]
}

/// Why there are no variables (yet).
pub(super) enum Stop {
    /// Where their values come from would block.
    NeedThread,
    /// A condition has no value.
    Failed,
}

/// Writes what a backend is told before the body.
pub(super) fn write(r: &mut Request, keeps: bool, out: &mut Vec<u8>) -> Result<(), Stop> {
    name_file(r);
    r.add_common_vars();
    match r.add_cgi_vars() {
        Ok(()) => {}
        Err(Step::NeedThread) => return Err(Stop::NeedThread),
        Err(_) => return Err(Stop::Failed),
    }
    fix_cgivars(r)?;
    out.extend_from_slice(&header(BEGIN_REQUEST, 8));
    out.extend_from_slice(&[0, RESPONDER, if keeps { KEEP_CONN } else { 0 }, 0, 0, 0, 0, 0]);
    write_params(r, out);
    Ok(())
}

/// What the backend is told of the file: php-fpm takes the `proxy:` off itself.
fn name_file(r: &mut Request) {
    let full =
        r.subprocess_env.get("proxy-fcgi-pathinfo").is_some_and(|kind| kind.eq_ignore_ascii_case(b"full"));
    if full {
        _ = r.directory_walk();
    }
    let mut name = r.filename.strip_prefix(b"proxy:balancer://").map(<[u8]>::to_vec);
    if r.dir(&DIR).backend_type == Some(BackendType::Generic) {
        if let Some(rest) = r.filename.strip_prefix(b"proxy:fcgi://") {
            name = Some(rest.to_vec());
        }
        // The query stands in its own variable only.
        if let (Some(name), Some(args)) = (&mut name, r.args.as_ref().filter(|args| !args.is_empty()))
            && let Some(mark) = name.iter().rposition(|&c| c == b'?')
            && name[mark + 1..] == ***args
        {
            name.truncate(mark);
        }
    }
    if let Some(mut name) = name {
        let slash = name.iter().position(|&c| c == b'/').unwrap_or(name.len());
        r.filename = name.split_off(slash).into();
    }
}

/// `ProxyFCGISetEnvIf` has the last word.
fn fix_cgivars(r: &mut Request) -> Result<(), Stop> {
    let conf = r.dir(&DIR);
    if conf.fixups.is_empty() {
        return Ok(());
    }
    let fixups = conf.fixups.clone();
    let mut backrefs = Backrefs::default();
    for fixup in fixups {
        match r.evaluate_re(&fixup.condition, &mut backrefs) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(Failure::NeedThread) => return Err(Stop::NeedThread),
            Err(Failure::Error(err)) => {
                rerror!(r, Level::Error, NAME, "AH10241", "fix_cgivars: Condition eval returned -1: {err}");
                return Err(Stop::Failed);
            }
        }
        let name = fixup.name.as_str();
        let Some(value) = &fixup.value else {
            r.subprocess_env.unset(name);
            continue;
        };
        let value = match value.to_bytes_re(r, &mut backrefs) {
            Ok(value) => value,
            Err(Failure::NeedThread) => return Err(Stop::NeedThread),
            Err(Failure::Error(err)) => {
                rerror!(
                    r,
                    Level::Info,
                    NAME,
                    "AH03514",
                    "Error evaluating expression for replacement of {name}: '{err}'"
                );
                continue;
            }
        };
        if r.log_enabled(NAME, Level::Trace4) {
            let before = shown(r.subprocess_env.get(name).unwrap_or(b"(null)")).into_owned();
            let value = shown(&value);
            rerror!(r, Level::Trace4, NAME, "", "fix_cgivars: override {name} from '{before}' to '{value}'");
        }
        r.subprocess_env.set(name, value);
    }
    Ok(())
}

/// The length of a name or value, in one byte or four.
fn write_length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => out.extend_from_slice(&(length as u32 | 0x8000_0000).to_be_bytes()),
    }
}

fn write_params(r: &Request, out: &mut Vec<u8>) {
    let length_of = |length: usize| if length < 0x80 { 1 } else { 4 };
    let mut start = out.len();
    out.extend_from_slice(&header(PARAMS, 0));
    for (name, value) in r.subprocess_env.iter() {
        if r.log_enabled(NAME, Level::Trace8) {
            let (name, value) = (shown(name), shown(value));
            rerror!(r, Level::Trace8, NAME, "AH01062", "sending env var '{name}' value '{value}'");
        }
        let length = length_of(name.len()) + length_of(value.len()) + name.len() + value.len();
        if length > MOST {
            let name = shown(name);
            rerror!(r, Level::Warn, NAME, "AH02536", "couldn't encode envvar '{name}' in {MOST} bytes");
            continue;
        }
        if out.len() - start - 8 + length > MOST {
            end_record(out, start);
            start = out.len();
            out.extend_from_slice(&header(PARAMS, 0));
        }
        write_length(out, name.len());
        write_length(out, value.len());
        out.extend_from_slice(name);
        out.extend_from_slice(value);
    }
    if out.len() > start + 8 {
        end_record(out, start);
        out.extend_from_slice(&header(PARAMS, 0));
    }
}

/// Says in a record's header how long it became.
fn end_record(out: &mut [u8], start: usize) {
    let length = (out.len() - start - 8) as u16;
    out[start + 4..start + 6].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let written = |length| {
            let mut out = Vec::new();
            write_length(&mut out, length);
            out
        };
        assert_eq!(written(0), [0]);
        assert_eq!(written(127), [127]);
        assert_eq!(written(128), [0x80, 0, 0, 128]);
        assert_eq!(written(70_000), [0x80, 1, 0x11, 0x70]);
    }

    #[test]
    fn headers() {
        assert_eq!(header(PARAMS, 258), [1, 4, 0, 1, 1, 2, 0, 0]);
    }
}
