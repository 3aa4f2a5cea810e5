//! The variables of `%{NAME}`: `lookup_variable`. They are not those of expressions, though many are called the same.

use bstr::{BString, ByteSlice};
use nix::unistd::{Gid, Group, Uid, User};

use super::DIR;
use super::conditions::{may_ask, sub_status};
use super::engine::Engine;
use super::log::rewritelog;
use crate::expr::NeedThread;
use crate::http::date::Civil;
use crate::log::shown;
use crate::modules::core;
use crate::modules::metadata::mod_ident;
use crate::os::clock;
use crate::request::{FileInfo, Request, memo};

/// `MODULE_MAGIC_NUMBER_MAJOR:MINOR` of Apache 2.4.71.
const API_VERSION: &str = "20120211:142";
/// `DocumentRoot` where there is none.
const DOCUMENT_ROOT: &str = "/usr/local/apache2/htdocs";

/// Appends the value of `name` to `out`.
pub(super) fn lookup(
    engine: &mut Engine,
    r: &mut Request,
    name: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), NeedThread> {
    let prefix = |len: usize| name.get(..len).unwrap_or_default();
    match (name.get(3), name.get(4)) {
        (Some(b':'), behind) => {
            let is = |what: &[u8]| behind.is_some() && prefix(3).eq_ignore_ascii_case(what);
            if is(b"ENV") {
                environment(r, &name[4..], out);
            }
            // SSL: nothing has it without mod_ssl.
            Ok(())
        }
        (Some(_), Some(b':')) => {
            let inner = &name[5..];
            match prefix(4).to_ascii_uppercase().as_slice() {
                _ if inner.is_empty() => Ok(()),
                b"HTTP" => {
                    header(engine, r, inner, out);
                    Ok(())
                }
                b"LA-U" => look_ahead(engine, r, inner, true, out),
                b"LA-F" => look_ahead(engine, r, inner, false, out),
                _ => Ok(()),
            }
        }
        _ if name.eq_ignore_ascii_case(b"REMOTE_IDENT") => {
            memo::refuse();
            let ident = mod_ident::remote_logname(r, !r.needs_thread())?;
            out.extend_from_slice(ident.unwrap_or_default().as_bytes());
            Ok(())
        }
        (Some(_), _) => {
            named(engine, r, &name.to_ascii_uppercase(), out);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn environment(r: &Request, name: &[u8], out: &mut Vec<u8>) {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let text = String::from_utf8_lossy(name);
    if let Some(value) = r.notes.get(&text).or_else(|| r.subprocess_env.get(&text)) {
        out.extend_from_slice(value);
    } else if !name.contains(&b'=')
        && let Some(value) = std::env::var_os(std::ffi::OsStr::from_bytes(name))
    {
        out.extend(value.into_vec());
    }
}

/// A request header; what looked at it is remembered for `Vary`.
fn header(engine: &mut Engine, r: &Request, name: &[u8], out: &mut Vec<u8>) {
    let Ok(text) = name.to_str() else { return };
    let Some(value) = r.headers_in.get(text) else { return };
    out.extend_from_slice(value);
    // RFC 7231 section 7.1.4: no `Vary: Host`.
    if !name.eq_ignore_ascii_case(b"Host") {
        match &mut engine.vary_this {
            Some(vary) => {
                vary.extend_from_slice(b", ");
                vary.extend_from_slice(name);
            }
            None => engine.vary_this = Some(name.to_vec()),
        }
    }
}

/// A variable of the request that the URL would become: `LA-U:`, or the file: `LA-F:`.
fn look_ahead(
    engine: &mut Engine,
    r: &mut Request,
    name: &[u8],
    as_url: bool,
    out: &mut Vec<u8>,
) -> Result<(), NeedThread> {
    if !may_ask(r) {
        return Ok(());
    }
    let mut path = engine.uri.clone();
    let absolute = path.first() == Some(&b'/');
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    let prefix = match (engine.perdir, absolute, as_url) {
        // Without a path of a file, `LA-F` does what `LA-U` does.
        (None, ..) | (_, true, _) => None,
        (Some(_), false, true) => conf.base.as_ref().or(conf.directory.as_ref()),
        (Some(_), false, false) => conf.directory.as_ref(),
    };
    if let Some(prefix) = prefix {
        path.splice(..0, prefix.iter().copied());
    } else if engine.perdir.is_some() && !absolute {
        // The request asked about is in no such directory.
        path.clear();
    }
    let as_url = as_url || engine.perdir.is_some() && absolute;
    let sub = if as_url { r.sub_req_lookup_uri(&path) } else { r.sub_req_lookup_file(&path) };
    let start = out.len();
    if let Some(mut sub) = sub_status(sub)? {
        lookup(engine, &mut sub, name, out)?;
    }
    rewritelog!(
        r,
        Trace5,
        engine.perdir,
        "lookahead: path={} var={} -> val={}",
        shown(&path),
        shown(name),
        shown(&out[start..])
    );
    Ok(())
}

/// `ap_document_root`
pub(super) fn document_root(r: &Request) -> &str {
    r.server.conf.get(&core::SERVER).document_root.as_deref().unwrap_or(DOCUMENT_ROOT)
}

/// `ap_context_prefix`
pub(super) fn context_prefix(r: &Request) -> &[u8] {
    r.notes.get("context-prefix").unwrap_or_default()
}

/// `ap_context_document_root`
pub(super) fn context_document_root(r: &Request) -> &[u8] {
    r.notes.get("context-document-root").unwrap_or_else(|| document_root(r).as_bytes())
}

fn now() -> Civil {
    memo::refuse();
    let secs = clock::unix_secs();
    Civil::new(secs, clock::local_offset(secs))
}

fn named(engine: &mut Engine, r: &Request, name: &[u8], out: &mut Vec<u8>) {
    let bytes = |value: &Option<BString>| value.as_ref().map_or(Vec::new(), |v| v.to_vec());
    let digits = |number: u8| format!("{number:02}").into_bytes();
    let value: Vec<u8> = match name {
        b"TIME" => {
            let time = now().digits();
            rewritelog!(r, Trace1, engine.perdir, "RESULT='{time}'");
            time.into_bytes()
        }
        b"TIME_YEAR" => format!("{:04}", now().year).into_bytes(),
        b"TIME_MON" => digits(now().month),
        b"TIME_DAY" => digits(now().day),
        b"TIME_HOUR" => digits(now().hour),
        b"TIME_MIN" => digits(now().minute),
        b"TIME_SEC" => digits(now().second),
        b"TIME_WDAY" => now().weekday.to_string().into_bytes(),
        b"IPV6" => {
            let flag = if r.useragent_addr().is_ipv6() { "on" } else { "off" };
            rewritelog!(r, Trace1, engine.perdir, "IPV6='{flag}'");
            flag.into()
        }
        b"HTTPS" => "off".into(),
        b"IS_SUBREQ" => if r.is_subrequest { "true" } else { "false" }.into(),
        b"PATH_INFO" => return out.extend_from_slice(&r.path_info),
        b"AUTH_TYPE" => r.auth_type.clone().unwrap_or_default().into_bytes(),
        b"HTTP_HOST" => return header(engine, r, b"Host", out),
        b"HTTP_ACCEPT" => return header(engine, r, b"Accept", out),
        b"HTTP_COOKIE" => return header(engine, r, b"Cookie", out),
        b"HTTP_REFERER" => return header(engine, r, b"Referer", out),
        b"HTTP_FORWARDED" => return header(engine, r, b"Forwarded", out),
        b"HTTP_USER_AGENT" => return header(engine, r, b"User-Agent", out),
        b"HTTP_PROXY_CONNECTION" => return header(engine, r, b"Proxy-Connection", out),
        b"SERVER_NAME" => r.server_name_for_url().into_owned(),
        b"SERVER_ADDR" => r.connection.local_addr.ip().to_canonical().to_string().into_bytes(),
        b"SERVER_PORT" => r.server_port().to_string().into_bytes(),
        b"SERVER_PROTOCOL" => r.protocol.to_vec(),
        b"SERVER_SOFTWARE" => r.runtime.banner.full.clone().into_bytes(),
        b"SERVER_ADMIN" => r.server.admin.clone().unwrap_or_default().into_bytes(),
        b"REMOTE_ADDR" => r.useragent_ip().into(),
        b"CONN_REMOTE_ADDR" => {
            memo::saw_client();
            r.connection.client_ip.clone().into_bytes()
        }
        b"REMOTE_HOST" => r.remote_name().into_bytes(),
        b"REMOTE_PORT" => {
            memo::refuse();
            r.connection.client_addr.port().to_string().into_bytes()
        }
        b"REMOTE_USER" => bytes(&r.user),
        b"THE_REQUEST" => return out.extend_from_slice(&r.the_request),
        b"API_VERSION" => API_VERSION.into(),
        b"REQUEST_URI" => return out.extend_from_slice(&r.uri),
        b"REQUEST_METHOD" => r.method_name.to_vec(),
        b"REQUEST_SCHEME" => r.scheme().into(),
        b"REQUEST_FILENAME" | b"SCRIPT_FILENAME" => return out.extend_from_slice(&r.filename),
        b"SCRIPT_USER" | b"SCRIPT_GROUP" => {
            owner(r, name == b"SCRIPT_USER", engine.perdir.is_some()).into_bytes()
        }
        b"QUERY_STRING" => bytes(&r.args),
        b"DOCUMENT_ROOT" => document_root(r).into(),
        b"CONTEXT_PREFIX" => context_prefix(r).to_vec(),
        b"CONTEXT_DOCUMENT_ROOT" => context_document_root(r).to_vec(),
        _ => return,
    };
    out.extend_from_slice(&value);
}

fn owner(r: &Request, user: bool, in_directory: bool) -> String {
    // Of a file that is not there, a walk knows the folder.
    let folder = || {
        let end = r.filename.rfind_byte(b'/').filter(|_| in_directory)?;
        FileInfo::stat(&r.filename[..end.max(1)]).ok()
    };
    let Some(info) = r.finfo.or_else(folder) else { return "<unknown>".to_owned() };
    memo::refuse();
    let name = match user {
        true => User::from_uid(Uid::from_raw(info.uid)).ok().flatten().map(|user| user.name),
        false => Group::from_gid(Gid::from_raw(info.gid)).ok().flatten().map(|group| group.name),
    };
    name.unwrap_or_default()
}
