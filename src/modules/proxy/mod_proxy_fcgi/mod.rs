//! mod_proxy_fcgi: backends that speak FastCGI 1.0, such as php-fpm.
//!
//! Answers to `modules/proxy/mod_proxy_fcgi.c` and the record format of `server/util_fcgi.c`. Rooms: [`params`] (the variables that
//! a backend gets), [`stdin`] (the request's body), [`talk`] (records, both ways at once), [`exchange`] (one request and its reply,
//! step by step). Where it differs: Apache reads nothing of a reply while it waits for the client's body; here both go on.

mod exchange;
mod params;
pub mod stdin;
mod talk;

use std::sync::Arc;

use bstr::ByteSlice;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::expr::Expr;
use crate::hooks::{Hooks, order};
use crate::http::escape::{Unescape, unescape_url};
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::module::{Conf, Module, Slot};
use crate::modules::core::{self, EncodedSlashes};
use crate::modules::proxy::mod_proxy::canon::{canon_netloc, canonenc_path};
use crate::modules::proxy::mod_proxy::handler::{Handled, Target};
use crate::modules::proxy::mod_proxy::worker::proxy_port_of_scheme;
use crate::request::{Request, Step};

/// The module.
pub static MODULE: Module =
    Module { name: "proxy_fcgi_module", file: "mod_proxy_fcgi.c", directives: ROWS, hooks: register };

/// As it stands in the log.
const NAME: &str = "proxy_fcgi";

static DIR: Slot<FcgiDir> = Slot::new();

/// `ProxyFCGIBackendType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum BackendType {
    Fpm,
    Generic,
}

/// One `ProxyFCGISetEnvIf`.
#[derive(Debug)]
struct Fixup {
    condition: Expr,
    name: String,
    /// `None`: the variable goes.
    value: Option<Expr>,
}

/// A directory's settings.
#[derive(Clone, Default)]
struct FcgiDir {
    backend_type: Option<BackendType>,
    fixups: Vec<Arc<Fixup>>,
}

impl Conf for FcgiDir {
    fn merge(&self, child: &FcgiDir) -> FcgiDir {
        FcgiDir {
            backend_type: child.backend_type.or(self.backend_type),
            fixups: self.fixups.iter().chain(&child.fixups).cloned().collect(),
        }
    }
}

const ROWS: &[Directive] = &[
    Directive {
        name: "ProxyFCGIBackendType",
        args: Args::Take1(backend_type),
        allowed: Allowed::FILEINFO,
        help: "Specify the type of FastCGI server: 'Generic', 'FPM'",
    },
    Directive {
        name: "ProxyFCGISetEnvIf",
        args: Args::Take23(set_env_if),
        allowed: Allowed::FILEINFO,
        help: "expr-condition env-name expr-value",
    },
];

fn register(hooks: &mut Hooks) {
    hooks.canon_handler(canon, order::FIRST);
    hooks.scheme_handler(scheme, order::FIRST);
}

fn backend_type(cmd: &mut Cmd, word: &str) -> Done {
    let is = |name: &str| word.eq_ignore_ascii_case(name);
    let kind = match () {
        () if is("GENERIC") => BackendType::Generic,
        () if is("FPM") => BackendType::Fpm,
        () => {
            let text = "ProxyFCGIBackendType requires one of the following arguments: 'GENERIC', 'FPM'";
            return Err(text.into());
        }
    };
    cmd.dir(&DIR).backend_type = Some(kind);
    Ok(())
}

fn set_env_if(cmd: &mut Cmd, condition: &str, name: &str, value: Option<&str>) -> Done {
    let bad = |text: &str, error: String| format!("Could not parse expression \"{text}\": {error}");
    let parsed = cmd.parse_condition(condition).map_err(|error| bad(condition, error))?;
    let value = if let Some(unset) = name.strip_prefix('!') {
        if let Some(value) = value {
            let text = format!(
                "Third argument (\"{value}\") is not allowed when using ProxyFCGISetEnvIf's unset mode ({name})"
            );
            return Err(text.into());
        }
        if unset.is_empty() {
            return Err("ProxyFCGISetEnvIf: \"!\" is not a valid variable name".into());
        }
        None
    } else {
        let value = value.unwrap_or_default();
        Some(cmd.parse_string(value).map_err(|error| bad(value, error))?)
    };
    let name = name.trim_start_matches('!').to_owned();
    cmd.dir(&DIR).fixups.push(Arc::new(Fixup { condition: parsed, name, value }));
    Ok(())
}

fn canon(r: &mut Request, url: &[u8]) -> Step {
    let Some(rest) = url.get(5..).filter(|_| url[..5].eq_ignore_ascii_case(b"fcgi:")) else {
        return Step::Declined;
    };
    rerror!(r, Level::Trace1, NAME, "", "canonicalising URL {}", shown(rest));
    let (host, port, path) = match canon_netloc(rest) {
        Ok(parts) => parts,
        Err(err) => {
            rerror!(r, Level::Error, NAME, "AH01059", "error parsing URL {}: {err}", shown(rest));
            return Step::Status(status::BAD_REQUEST);
        }
    };
    let mut path = if r.notes.contains("proxy-nocanon") || r.notes.contains("proxy-noencode") {
        if path.iter().any(|&c| c <= b' ' || c == 0x7f) {
            let text = "To be forwarded path contains control characters or spaces";
            rerror!(r, Level::Error, NAME, "AH10414", "{text}");
            return Step::Status(status::FORBIDDEN);
        }
        path.to_vec()
    } else {
        let slashes = r.dir(&core::DIR).allow_encoded_slashes == Some(EncodedSlashes::NoDecode);
        match canonenc_path(path, slashes) {
            Some(path) => path,
            None => return Step::Status(status::BAD_REQUEST),
        }
    };
    let mut filename = b"proxy:fcgi://".to_vec();
    if host.contains(&b':') {
        filename.extend_from_slice(&[b"[", &host[..], b"]"].concat());
    } else {
        filename.extend_from_slice(&host);
    }
    if let Some(port) = port.filter(|&port| port != proxy_port_of_scheme("fcgi")) {
        filename.extend_from_slice(format!(":{port}").as_bytes());
    }
    filename.push(b'/');
    filename.extend_from_slice(&path);
    r.filename = filename.into();
    rerror!(r, Level::Debug, NAME, "AH01060", "set r->filename to {}", r.filename);
    let Some(kind) = r.subprocess_env.get("proxy-fcgi-pathinfo").map(<[u8]>::to_ascii_lowercase) else {
        return Step::Ok;
    };
    let split = match kind.as_slice() {
        // The files say where the path ends; see params.
        b"full" => return Step::Ok,
        b"first-dot" => path.find_byte(b'.'),
        b"last-dot" => path.rfind_byte(b'.'),
        kind => {
            path.insert(0, b'/');
            if kind == b"unescape" {
                _ = unescape_url(&mut path, Unescape::KEEP_SLASHES);
            }
            r.path_info = path.into();
            rerror!(r, Level::Debug, NAME, "AH01061", "set r->path_info to {}", r.path_info);
            return Step::Ok;
        }
    };
    if let Some(slash) = split.and_then(|dot| Some(dot + path[dot..].find_byte(b'/')?)) {
        let mut info = path.split_off(slash);
        _ = unescape_url(&mut info, Unescape::KEEP_SLASHES);
        r.path_info = info.into();
    }
    Step::Ok
}

fn scheme(r: &mut Request, target: &Arc<Target>) -> Handled {
    let url = &target.url;
    let (name, port) = target.proxy.as_ref().map_or(("(null)", 0), |(name, port)| (name.as_str(), *port));
    rerror!(r, Level::Debug, NAME, "AH01076", "url: {} proxyname: {name} proxyport: {port}", shown(url));
    if !url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"fcgi:")) {
        rerror!(r, Level::Debug, NAME, "AH01077", "declining URL {}", shown(url));
        return Handled::Declined;
    }
    rerror!(r, Level::Debug, NAME, "AH01078", "serving URL {}", shown(url));
    Handled::Begun(Box::new(exchange::Exchange::new(target.clone())))
}
