//! `ProxyPass` and `ProxyPassMatch`: which URIs go to which backend.
//!
//! Answers to `add_pass`, `ap_proxy_trans_match` and `proxy_trans`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use httpd_conf::{next_word, to_bytes};

use super::canon::interpolate;
use super::servlet::alias_match_servlet;
use super::worker::{Kinds, Worker, find, without_socket};
use super::{DIR, SERVER, balancer, log_config};
use crate::config::directive::{Cmd, CmdError, Done, Forbidden, Scope};
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::regex::{Regex, default_flags, substitute};
use crate::request::{ProxyReq, Request, Step};

/// One `ProxyPass`.
pub struct Alias {
    fake: String,
    regex: Option<Regex>,
    real: String,
    nocanon: bool,
    interpolate: bool,
    noquery: bool,
    encoded: bool,
    servlet: bool,
}

pub(super) fn proxy_pass(cmd: &mut Cmd, args: &str) -> Done {
    add_pass(cmd, args, false)
}

pub(super) fn proxy_pass_match(cmd: &mut Cmd, args: &str) -> Done {
    add_pass(cmd, args, true)
}

/// Makes a path absolute that is relative to `DefaultRuntimeDir`.
pub(super) fn runtime_dir(cmd: &Cmd) -> impl Fn(&str) -> String + use<> {
    let dir = match &cmd.scope {
        Scope::Startup(setup) => setup.runtime_dir_relative(""),
        Scope::Htaccess(runtime) => runtime.runtime_dir.clone().into(),
    };
    move |path| crate::config::server::below_root(&dir, path)
}

/// A worker with what its server says (`PROXY_COPY_CONF_PARAMS`): timeout, and the sizes of buffers.
pub(super) fn define_worker(
    url: &str,
    is_match: bool,
    is_member: bool,
    runtime_dir: &dyn Fn(&str) -> String,
    defaults: (Option<Duration>, Option<usize>, Option<usize>),
) -> Result<Worker, CmdError> {
    let mut worker = Worker::define(url, is_match, is_member, runtime_dir)?;
    (worker.params.timeout, worker.params.receive_buffer_size, worker.params.io_buffer_size) = defaults;
    Ok(worker)
}

fn add_pass(cmd: &mut Cmd, args: &str, is_regex: bool) -> Done {
    cmd.check_context(Forbidden(Forbidden::DIRECTORY.0 | Forbidden::FILES.0))?;
    let (mut fake, mut url) = (cmd.path.map(str::to_owned), None::<String>);
    let mut alias = Alias {
        fake: String::new(),
        regex: None,
        real: String::new(),
        nocanon: false,
        interpolate: false,
        noquery: false,
        encoded: false,
        servlet: false,
    };
    let mut is_match = is_regex;
    let mut params: Vec<(String, String)> = Vec::new();
    let mut rest = args;
    while !rest.is_empty() {
        let word = next_word(&mut rest);
        if fake.is_none() {
            if word != "~" {
                fake = Some(word);
            } else if is_regex {
                return Err("ProxyPassMatch invalid syntax ('~' usage).".into());
            } else {
                is_match = true;
            }
            continue;
        }
        let Some(url) = &url else {
            url = Some(word);
            continue;
        };
        match word.to_ascii_lowercase().as_str() {
            "nocanon" => alias.nocanon = true,
            "interpolate" => alias.interpolate = true,
            "noquery" => alias.noquery = true,
            _ => match word.split_once('=') {
                None if cmd.path.is_some() && url.starts_with('/') => {
                    let text = "ProxyPass|ProxyPassMatch can not have a path when defined in a location.";
                    return Err(text.into());
                }
                None => {
                    let text = "Invalid ProxyPass|ProxyPassMatch parameter. Parameter must be in the form 'key=value'.";
                    return Err(text.into());
                }
                Some((key, val)) if key.eq_ignore_ascii_case("mapping") => {
                    match val.to_ascii_lowercase().as_str() {
                        "encoded" => alias.encoded = true,
                        "servlet" => (alias.encoded, alias.servlet) = (true, true),
                        _ => return Err("unknown mapping".into()),
                    }
                }
                // The last value of a key counts, in the first one's place.
                Some((key, val)) => {
                    match params.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(key)) {
                        Some((_, known)) => *known = val.to_owned(),
                        None => params.push((key.to_owned(), val.to_owned())),
                    }
                }
            },
        }
    }
    let in_location = cmd.path.is_some();
    let conf = cmd.server_conf(&SERVER)?;
    match alias.encoded {
        true => conf.map_encoded_one = true,
        false => conf.map_encoded_all = false,
    }
    let (Some(fake), Some(url)) = (fake, url) else {
        return Err("ProxyPass|ProxyPassMatch needs a path when not defined in a location".into());
    };
    let Some(real) = without_socket(&url) else {
        return Err("ProxyPass|ProxyPassMatch uses an invalid \"unix:\" URL".into());
    };
    is_match |= in_location && httpd_conf::fnmatch_test(fake.as_bytes());
    if is_match {
        let regex = Regex::new(&fake, default_flags());
        alias.regex = Some(regex.map_err(|_| "Regular expression could not be compiled.")?);
    }
    (alias.fake, alias.real) = (fake.clone(), real.clone());
    let alias = Arc::new(alias);
    match in_location {
        true => cmd.dir(&DIR).alias = Some(alias),
        false => cmd.server_conf(&SERVER)?.aliases.push(alias),
    }
    if url == "!" {
        return Ok(());
    }
    let failed = |err: CmdError| CmdError::from(format!("ProxyPass {}", err.message));
    if balancer::is_balancer(&url) {
        let vpath = Some(fake.as_str()).filter(|_| !is_match);
        let at = balancer::define(cmd, &url, vpath).map_err(failed)?;
        for (key, val) in params {
            balancer::set_param(cmd, at, &key, &val).map_err(failed)?;
        }
        return Ok(());
    }
    let kinds = if is_match { Kinds::Match } else { Kinds::Prefix };
    let runtime_dir = runtime_dir(cmd);
    let conf = cmd.server_conf(&SERVER)?;
    if let Some(at) = find(&conf.workers, real.as_bytes(), kinds) {
        let shared = conf.workers[at].full_name();
        let text = format!("Sharing worker '{shared}' instead of creating new worker '{real}'");
        log_config(cmd, Level::Info, "AH01145", &text);
        for (key, val) in params {
            let text =
                format!("Ignoring parameter '{key}={val}' for worker '{shared}' because of worker sharing");
            log_config(cmd, Level::Warn, "AH01146", &text);
        }
        return Ok(());
    }
    let defaults = (conf.timeout, conf.receive_buffer_size, conf.io_buffer_size);
    let mut worker = define_worker(&url, is_match, false, &runtime_dir, defaults).map_err(failed)?;
    for (key, val) in params {
        worker.set_param(&key, &val).map_err(|text| CmdError::from(format!("ProxyPass {text}")))?;
    }
    conf.workers.push(Arc::new(worker));
    Ok(())
}

/// How much of `uri` the path `alias` covers: it must end where a segment does; any number of slashes is like one
/// (`alias_match`).
pub(super) fn alias_match(uri: &[u8], alias: &[u8]) -> usize {
    let (mut u, mut a) = (0, 0);
    while a < alias.len() && u < uri.len() {
        if alias[a] == b'/' {
            if uri[u] != b'/' {
                return 0;
            }
            while alias.get(a) == Some(&b'/') {
                a += 1;
            }
            while uri.get(u) == Some(&b'/') {
                u += 1;
            }
        } else if uri[u] != alias[a] {
            return 0;
        } else {
            u += 1;
            a += 1;
        }
    }
    if u == uri.len() && a != alias.len() {
        return 0;
    }
    if a > 0 && alias[a - 1] != b'/' && uri.get(u).is_some_and(|&c| c != b'/') {
        return 0;
    }
    u
}

pub(super) fn pre_translate(r: &mut Request) -> Step {
    translate(r, true)
}

pub(super) fn translate_name(r: &mut Request) -> Step {
    translate(r, false)
}

fn translate(r: &mut Request, pre: bool) -> Step {
    if r.proxyreq.is_some() {
        return if pre { Step::Done } else { Step::Ok };
    }
    let server = r.server.clone();
    let conf = server.conf.get(&SERVER);
    // Without an alias for this stage nothing is done. In Apache, a server without aliases has none for the second stage.
    let in_vain = if pre { !conf.map_encoded_one } else { conf.map_encoded_all };
    if in_vain
        || r.unparsed_uri == "*"
        || r.uri.first() != Some(&b'/')
        || r.subprocess_env.contains("no-proxy")
    {
        return Step::Declined;
    }
    let dir = r.dir.clone();
    let own = dir.get(&DIR).alias.as_ref();
    for alias in own.into_iter().chain(&conf.aliases).filter(|alias| alias.encoded == pre) {
        match alias.trans_match(r) {
            Some(step) => return step,
            None => continue,
        }
    }
    Step::Declined
}

impl Alias {
    /// Sends the request to the backend if its URI is covered; `None`: it isn't.
    fn trans_match(&self, r: &mut Request) -> Option<Step> {
        let (mut fake, mut real) = (Cow::Borrowed(self.fake.as_str()), Cow::Borrowed(self.real.as_str()));
        if self.interpolate && r.dir(&DIR).interpolate == Some(true) {
            fake = Cow::Owned(interpolate(r, &fake));
            real = Cow::Owned(interpolate(r, &real));
        }
        let kind = if self.regex.is_some() { "pattern" } else { "prefix" };
        rerror!(
            r,
            Level::Trace2,
            "proxy",
            "AH03461",
            "attempting to match URI path '{}' against {kind} '{fake}' for proxying",
            r.uri
        );
        let (fake, real) = (to_bytes(&fake).into_owned(), to_bytes(&real).into_owned());
        let mut nocanon = self.nocanon;
        let mut mismatch = false;
        let mut servlet = None;
        let mut found = b"proxy:".to_vec();
        let disabled = |r: &Request, number: &str| {
            rerror!(
                r,
                Level::Trace1,
                "proxy",
                number,
                "proxying is explicitly disabled for URI path '{}'; declining",
                r.uri
            );
            Some(Step::Declined)
        };
        if let Some(regex) = &self.regex {
            let mut captures = regex.captures(&r.uri)?;
            if real == b"!" {
                return disabled(r, "AH03462");
            }
            let mut uri = &r.uri;
            if nocanon {
                match regex.captures(&r.unparsed_uri) {
                    Some(raw) => (captures, uri) = (raw, &r.unparsed_uri),
                    None => mismatch = true,
                }
            }
            let Ok(replaced) = substitute(&real, uri, &captures) else {
                let text = "Substitution in regular expression failed. Replacement too long?";
                rerror!(r, Level::Crit, "proxy", "AH01135", "{text}");
                return Some(Step::Status(status::INTERNAL_SERVER_ERROR));
            };
            // Without a reference in it, `$1` of all is meant.
            let untouched = replaced == real;
            found.extend_from_slice(&replaced);
            if untouched {
                found.extend_from_slice(uri);
            }
        } else {
            let covered = match self.servlet {
                true => {
                    nocanon = false;
                    let (path, covered) = alias_match_servlet(&r.uri, &fake)?;
                    servlet = Some(path);
                    covered
                }
                false => alias_match(&r.uri, &fake),
            };
            if covered == 0 {
                return None;
            }
            if real == b"!" {
                return disabled(r, "AH03463");
            }
            let mut uri = if nocanon { &r.unparsed_uri } else { &r.uri };
            if nocanon && alias_match(&r.unparsed_uri, &fake) != covered {
                mismatch = true;
                uri = &r.uri;
            }
            found.extend_from_slice(&real);
            found.extend_from_slice(uri.get(covered..).unwrap_or_default());
        }
        if mismatch {
            let text = "Unescaped URL path matched ProxyPass; ignoring unsafe nocanon";
            rerror!(r, Level::Warn, "proxy", "AH01136", "{text}");
        }
        r.filename = found.into();
        r.handler = Some("proxy-server".into());
        r.proxyreq = Some(ProxyReq::Reverse);
        if nocanon && !mismatch {
            r.notes.set("proxy-nocanon", "1");
        }
        if self.noquery {
            r.notes.set("proxy-noquery", "1");
        }
        if self.encoded {
            r.notes.set("proxy-noencode", "1");
        }
        match servlet {
            Some(path) => {
                let (path, filename) = (shown(&path).into_owned(), shown(&r.filename));
                rerror!(
                    r,
                    Level::Trace1,
                    "proxy",
                    "AH10248",
                    "Servlet path '{}' ({path}) matches proxy handler '{filename}'",
                    r.uri
                );
                r.uri = to_bytes(&path).into_owned().into();
                r.raw_path.clone_from(&r.uri);
            }
            None => rerror!(
                r,
                Level::Trace1,
                "proxy",
                "AH03464",
                "URI path '{}' matches proxy handler '{}'",
                r.uri,
                r.filename
            ),
        }
        Some(if self.encoded { Step::Done } else { Step::Ok })
    }
}

#[cfg(test)]
mod tests {
    use super::alias_match;

    #[test]
    fn a_path_covers_whole_segments() {
        assert_eq!(alias_match(b"/a/b", b"/a"), 2);
        assert_eq!(alias_match(b"/a/b", b"/a/"), 3);
        assert_eq!(alias_match(b"//a//b", b"/a/"), 5);
        assert_eq!(alias_match(b"/ab", b"/a"), 0);
        assert_eq!(alias_match(b"/", b"/a"), 0);
        assert_eq!(alias_match(b"/anything", b"/"), 1);
    }
}
