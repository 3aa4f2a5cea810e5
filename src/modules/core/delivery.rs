//! The core's directives about how content is taken and sent: limits of bodies, ranges, entity tags, buffers.

use httpd_conf::next_word;

use super::DIR;
use super::directory::{is, on_off};
use crate::config::directive::{Cmd, CmdError, Done};
use crate::http::conditional::EtagBits;
use crate::text::atol;

/// Checked only: files are read in chunks whose size follows what the socket takes.
pub(super) fn read_buffer_size(_: &mut Cmd, arg: &str) -> Done {
    match arg.parse::<u32>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("parameter must be a number between 0 and (4294967295U)): {arg}").into()),
    }
}

pub(super) fn enable_mmap(cmd: &mut Cmd, arg: &str) -> Done {
    let on = on_off(arg, "parameter must be 'on' or 'off'")?;
    cmd.dir(&DIR).enable_mmap = Some(on);
    Ok(())
}

pub(super) fn enable_sendfile(cmd: &mut Cmd, arg: &str) -> Done {
    let on = on_off(arg, "parameter must be 'on' or 'off'")?;
    cmd.dir(&DIR).enable_sendfile = Some(on);
    Ok(())
}

pub(super) fn limit_request_body(cmd: &mut Cmd, arg: &str) -> Done {
    // The digits of C's strtoll; only a number that it can't hold is "not parsable".
    let digits = arg.trim_start().trim_start_matches(['+', '-']);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<i64>().is_err() {
        return Err("LimitRequestBody argument is not parsable.".into());
    }
    let value = arg.trim_start().parse::<i64>().unwrap_or(-1);
    let value = u64::try_from(value).map_err(|_| "LimitRequestBody requires a non-negative integer.")?;
    cmd.dir(&DIR).limit_request_body = Some(value);
    Ok(())
}

pub(super) fn limit_xml_body(cmd: &mut Cmd, arg: &str) -> Done {
    // `AP_MAX_LIMIT_XML_BODY`: the text may grow sixfold when it is escaped.
    const MOST: u64 = usize::MAX as u64 / 6 - 1;
    let value =
        u64::try_from(atol(arg)).map_err(|_| "LimitXMLRequestBody requires a non-negative integer.")?;
    if value > MOST {
        return Err(format!("LimitXMLRequestBody must not exceed {MOST}").into());
    }
    cmd.dir(&DIR).limit_xml_body = Some(value);
    Ok(())
}

fn range_limit(arg: &str, what: &str) -> Result<i64, CmdError> {
    if is(arg, "none") {
        return Ok(-1);
    }
    if is(arg, "default") {
        return Ok(i64::MIN);
    }
    if is(arg, "unlimited") {
        return Ok(0);
    }
    match atol(arg) {
        value @ 1.. => Ok(value),
        _ => Err(format!("{what} requires 'none', 'default', 'unlimited' or a positive integer").into()),
    }
}

pub(super) fn max_ranges(cmd: &mut Cmd, arg: &str) -> Done {
    let value = range_limit(arg, "MaxRanges")?;
    cmd.dir(&DIR).max_ranges = (value != i64::MIN).then_some(value);
    Ok(())
}

pub(super) fn max_range_overlaps(cmd: &mut Cmd, arg: &str) -> Done {
    let value = range_limit(arg, "MaxRangeOverlaps")?;
    cmd.dir(&DIR).max_overlaps = (value != i64::MIN).then_some(value);
    Ok(())
}

pub(super) fn max_range_reversals(cmd: &mut Cmd, arg: &str) -> Done {
    let value = range_limit(arg, "MaxRangeReversals")?;
    cmd.dir(&DIR).max_reversals = (value != i64::MIN).then_some(value);
    Ok(())
}

pub(super) fn file_etag(cmd: &mut Cmd, args: &str) -> Done {
    let mut rest = args;
    let (mut bits, mut add, mut remove) = (EtagBits::default(), EtagBits::default(), EtagBits::default());
    let mut explicit = false;
    while !rest.is_empty() {
        let word = next_word(&mut rest);
        let (sign, name) = match word.as_bytes().first() {
            Some(sign @ (b'+' | b'-')) => (Some(*sign), &word[1..]),
            _ => (None, word.as_str()),
        };
        let bit = match name.to_ascii_lowercase().as_str() {
            "none" | "all" if sign.is_some() => {
                return Err(format!("FileETag keyword '{name}' cannot be used with '+' or '-'").into());
            }
            "none" => EtagBits::NONE,
            "all" => EtagBits::ALL,
            "mtime" | "lmtime" | "lastmodified" => EtagBits::MTIME,
            "size" => EtagBits::SIZE,
            "inode" => EtagBits::INODE,
            "digest" => EtagBits::DIGEST,
            _ => return Err(format!("Unknown keyword '{name}' for FileETag directive").into()),
        };
        match sign {
            Some(b'+') => {
                add = add.with(bit);
                remove = remove.without(bit);
            }
            Some(_) => {
                remove = remove.with(bit);
                add = add.without(bit);
            }
            None => {
                // It undoes what + and - said so far.
                explicit = true;
                (add, remove) = (EtagBits::default(), EtagBits::default());
                bits = if bit == EtagBits::NONE { EtagBits::NONE } else { bits.with(bit) };
            }
        }
    }
    let conf = cmd.dir(&DIR);
    conf.etag = explicit.then_some(bits);
    conf.etag_add = add;
    conf.etag_remove = remove;
    Ok(())
}

pub(super) fn content_digest(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).content_md5 = Some(on);
    Ok(())
}
