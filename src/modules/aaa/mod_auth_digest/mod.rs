//! mod_auth_digest: user and password as a digest of a nonce (RFC 2617).
//!
//! Answers to `modules/aaa/mod_auth_digest.c`. The secret is made by the master, and clients are counted in shared memory
//! ([`clients`]), so that a nonce of one child is good in all of them. Where it differs: the header is taken apart where it is
//! needed; `Authentication-Info` is added when the user is known; the realm is that of `AuthName` as mod_authn_core has it.

mod clients;
mod conf;
mod header;

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bstr::{BString, ByteSlice};
use sha1::{Digest, Sha1};

use self::clients::Client;
use self::conf::DigestDir;
use self::header::{Authorization, Credentials};
use super::mod_authn_core::Provider;
use super::{AuthnStatus, auth_name, auth_type};
use crate::config::server::Setup;
use crate::hooks::{Hooks, order};
use crate::http::escape::{Unescape, escape_quotes, unescape_url};
use crate::http::status;
use crate::http::uri::Uri;
use crate::log::{Level, rerror, server_event};
use crate::module::{Module, Slot};
use crate::os::random;
use crate::request::{ProxyReq, Request, Step, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "auth_digest_module", file: "mod_auth_digest.c", directives: conf::ROWS, hooks };

static DIR: Slot<DigestDir> = Slot::new();

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;
/// A nonce that has less left is followed by the next one (`NEXTNONCE_DELTA`).
const NEXT_NONCE: i64 = 30 * SECOND;
/// Base64 digits of a nonce's time, and hex digits of its hash.
const TIME_LEN: usize = 12;
const HASH_LEN: usize = 40;

/// What nonces are signed with: made by the master, for the life of the server.
static SECRET: OnceLock<[u8; 20]> = OnceLock::new();

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.post_config(post_config, order::MIDDLE).before(&["http_core.c"]);
    hooks.post_read_request(count_nonce, order::MIDDLE).after(&["mod_proxy.c"]);
    hooks.check_user_id(authenticate, order::MIDDLE);
    hooks.note_auth_failure(note_auth_failure, order::MIDDLE);
    // In the master, before any child.
    if SECRET.get().is_none() {
        server_event(Level::Debug, "auth_digest", "AH01757", "generating secret for digest authentication");
        SECRET.get_or_init(random::bytes);
    }
}

fn post_config(_: &mut Setup) -> Result<(), String> {
    if let Err(err) = clients::create() {
        let text = "failed to initialize shm - all nonce-count checking and one-time nonces disabled";
        crate::log::server_error(Level::Error, "auth_digest", "AH01760", Some(&err), text);
        return Err(text.to_owned());
    }
    Ok(())
}

/// The header as the client sent it.
fn authorization(r: &Request) -> Authorization {
    let name = if r.proxyreq == Some(ProxyReq::Proxy) { "Proxy-Authorization" } else { "Authorization" };
    Authorization::parse(r.headers_in.get(name))
}

/// The number that an opaque is.
fn opaque_number(opaque: &[u8]) -> u64 {
    let text = opaque.trim_start();
    let text = text.strip_prefix(b"0x").unwrap_or(text);
    let digits = text.iter().take_while(|c| c.is_ascii_hexdigit());
    digits.fold(0u64, |number, &c| {
        let digit = (c as char).to_digit(16).unwrap_or(0);
        number.wrapping_mul(16).wrapping_add(digit.into())
    })
}

fn client(r: &Request, opaque: Option<&[u8]>) -> Option<Client> {
    let key = opaque.map_or(0, opaque_number);
    if key == 0 {
        return None;
    }
    memo::refuse();
    let client = Client::find(key);
    match client {
        Some(_) => {
            rerror!(r, Level::Debug, "auth_digest", "AH01764", "get_client(): client {key} found");
        }
        None => rerror!(r, Level::Debug, "auth_digest", "AH01765", "get_client(): client {key} not found"),
    }
    client
}

/// Counts requests also where no authentication is asked for: a browser counts them, too. `parse_hdr_and_update_nc`.
fn count_nonce(r: &mut Request) -> Step {
    if !r.is_initial() {
        return Step::Declined;
    }
    if let Authorization::Valid(credentials) = authorization(r)
        && let Some(client) = client(r, credentials.opaque.as_deref())
    {
        client.used();
    }
    Step::Declined
}

/// A nonce: a time and its signature.
struct Nonce {
    time: i64,
    hash: [u8; 20],
}

impl Nonce {
    /// Signs a time. `gen_nonce_hash`.
    fn sign(time: i64, realm: &[u8], opaque: &[u8]) -> Nonce {
        let secret = SECRET.get_or_init(random::bytes);
        let hash = Sha1::new()
            .chain_update(secret)
            .chain_update(realm)
            .chain_update(STANDARD.encode(time.to_ne_bytes()))
            .chain_update(opaque)
            .finalize();
        Nonce { time, hash: hash.into() }
    }

    /// A new one. `gen_nonce`.
    fn new(conf: &DigestDir, now: i64, realm: &[u8], opaque: &[u8]) -> Nonce {
        let time = if conf.lifetime != 0 { now } else { clients::next_one_time().unwrap_or(42) };
        Nonce::sign(time, realm, opaque)
    }

    fn shown(&self) -> String {
        let hash: String = self.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}{hash}", STANDARD.encode(self.time.to_ne_bytes()))
    }

    /// The time of one that a client sent.
    fn time_of(text: &[u8]) -> Option<i64> {
        if text.len() != TIME_LEN + HASH_LEN || text[TIME_LEN - 1] != b'=' {
            return None;
        }
        let bytes = STANDARD.decode(&text[..TIME_LEN]).ok()?;
        Some(i64::from_ne_bytes(bytes.try_into().ok()?))
    }
}

/// `AuthName`, without the backslashes that its quotes get.
fn realm(name: &[u8]) -> Vec<u8> {
    name.replace(b"\\\"", b"\"")
}

fn note_auth_failure(r: &mut Request, auth_type: &str) -> Step {
    if !auth_type.eq_ignore_ascii_case("Digest") {
        return Step::Declined;
    }
    challenge(r, false);
    Step::Ok
}

/// Asks for a digest: `note_digest_auth_failure`.
fn challenge(r: &mut Request, stale: bool) {
    memo::refuse();
    let conf = r.dir(&DIR).clone();
    let mut stale = stale;
    let sent = authorization(r);
    let known = sent.opaque().map(|opaque| Client::find(opaque_number(opaque)));
    let (opaque, client) = match known {
        None if conf.check_nc || conf.lifetime == 0 => match Client::create() {
            Some(client) => (format!("{:x}", client.key()), Some(client)),
            None => (String::new(), None),
        },
        None => (String::new(), None),
        Some(None) => match Client::create() {
            Some(client) => {
                stale = true;
                (format!("{:x}", client.key()), Some(client))
            }
            None => (String::new(), None),
        },
        Some(Some(client)) => {
            client.restart();
            let opaque = sent.opaque().unwrap_or_default();
            (opaque.to_str_lossy().into_owned(), Some(client))
        }
    };
    let name = auth_name(r);
    let nonce =
        Nonce::new(&conf, r.request_time, &realm(name.as_deref().unwrap_or_default()), opaque.as_bytes());
    if let Some(client) = client
        && conf.lifetime == 0
    {
        client.set_last_nonce(nonce.time, &nonce.hash);
    }
    let mut value = b"Digest realm=\"".to_vec();
    value.extend_from_slice(name.as_deref().unwrap_or(b"(null)"));
    let more = format!("\", nonce=\"{}\", algorithm={}", nonce.shown(), conf.algorithm);
    value.extend_from_slice(more.as_bytes());
    if !opaque.is_empty() {
        value.extend_from_slice(format!(", opaque=\"{opaque}\"").as_bytes());
    }
    if r.proxyreq != Some(ProxyReq::Proxy) && !conf.domain.is_empty() {
        value.extend_from_slice(format!(", domain=\"{}\"", conf.domain.join(" ")).as_bytes());
    }
    if stale {
        value.extend_from_slice(b", stale=true");
    }
    value.extend_from_slice(b", qop=\"auth\"");
    let field = if r.proxyreq == Some(ProxyReq::Proxy) { "Proxy-Authenticate" } else { "WWW-Authenticate" };
    r.err_headers_out.merge(field, value);
}

/// The user is to try again.
fn unauthorized(r: &mut Request, stale: bool) -> Step {
    challenge(r, stale);
    Step::Status(status::UNAUTHORIZED)
}

/// `authenticate_digest_user`.
fn authenticate(r: &mut Request) -> Step {
    if !auth_type(r).is_some_and(|t| t.eq_ignore_ascii_case("Digest")) {
        return Step::Declined;
    }
    let Some(name) = auth_name(r) else {
        rerror!(r, Level::Error, "auth_digest", "AH01780", "need AuthName: {}", r.uri);
        return Step::Status(status::INTERNAL_SERVER_ERROR);
    };
    let realm = realm(&name);
    let sent = match authorization(r) {
        Authorization::Valid(sent) => sent,
        other => {
            if let Authorization::Other(scheme) = &other {
                let scheme = scheme.as_bstr();
                rerror!(
                    r,
                    Level::Error,
                    "auth_digest",
                    "AH01781",
                    "client used wrong authentication scheme `{scheme}': {}",
                    r.uri
                );
            } else if other != Authorization::None {
                rerror!(
                    r,
                    Level::Error,
                    "auth_digest",
                    "AH01782",
                    "missing user, realm, nonce, uri, digest, cnonce, or nonce_count in authorization header: {}",
                    r.uri
                );
            }
            return unauthorized(r, false);
        }
    };
    let user: BString = sent.username.clone().into();
    r.user = Some(user.clone());
    r.auth_type = Some("Digest".to_owned());
    // The request as the client made it, also in sub-requests and after redirects.
    let line = r.the_request.clone();
    let mut words = line.split(|&c| c == b' ');
    let (method, raw) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if let Err(step) = check_uri(r, &sent, raw) {
        return step;
    }
    if let Some(opaque) = &sent.opaque
        && opaque_number(opaque) == 0
    {
        let opaque = opaque.as_bstr();
        rerror!(r, Level::Error, "auth_digest", "AH01787", "received invalid opaque - got `{opaque}'");
        return unauthorized(r, false);
    }
    if sent.realm != realm {
        let (got, expected) = (sent.realm.as_bstr(), realm.as_bstr());
        rerror!(
            r,
            Level::Error,
            "auth_digest",
            "AH01788",
            "realm mismatch - got `{got}' but expected `{expected}'"
        );
        return unauthorized(r, false);
    }
    if let Some(algorithm) = sent.algorithm.as_ref().filter(|name| !name.eq_ignore_ascii_case(b"MD5")) {
        let algorithm = algorithm.as_bstr();
        rerror!(
            r,
            Level::Error,
            "auth_digest",
            "AH01789",
            "unknown algorithm `{algorithm}' received: {}",
            r.uri
        );
        return unauthorized(r, false);
    }
    let conf = r.dir(&DIR).clone();
    let ha1 = match get_hash(r, &conf, &user, &realm) {
        Ok(hash) => hash,
        Err(AuthnStatus::NeedThread) => return Step::NeedThread,
        Err(AuthnStatus::UserNotFound) => {
            let realm = realm.as_bstr();
            rerror!(
                r,
                Level::Error,
                "auth_digest",
                "AH01790",
                "user `{user}' in realm `{realm}' not found: {}",
                r.uri
            );
            return unauthorized(r, false);
        }
        Err(AuthnStatus::Denied) => {
            let realm = realm.as_bstr();
            rerror!(
                r,
                Level::Error,
                "auth_digest",
                "AH01791",
                "user `{user}' in realm `{realm}' denied by provider: {}",
                r.uri
            );
            return unauthorized(r, false);
        }
        Err(_) => return Step::Status(status::INTERNAL_SERVER_ERROR),
    };
    if !sent.qop.as_ref().is_some_and(|qop| qop.eq_ignore_ascii_case(b"auth")) {
        let qop = sent.qop.as_deref().unwrap_or(b"(null)").as_bstr();
        rerror!(
            r,
            Level::Error,
            "auth_digest",
            "AH10560",
            "invalid or missing qop value '{qop}', RFC 2069 is no longer supported: {}",
            r.uri
        );
        return unauthorized(r, false);
    }
    if sent.expected(&ha1, method).as_bytes() != sent.digest {
        rerror!(r, Level::Error, "auth_digest", "AH01794", "user {user}: password mismatch: {}", r.uri);
        return unauthorized(r, false);
    }
    if !count_fits(r, &conf, &sent) {
        return unauthorized(r, false);
    }
    let nonce = match check_nonce(r, &conf, &sent, &realm) {
        Some(nonce) => nonce,
        None => return unauthorized(r, true),
    };
    if r.is_initial() {
        add_auth_info(r, &conf, &sent, &ha1, &realm, nonce.time);
    }
    Step::Ok
}

/// `get_hash`.
fn get_hash(r: &mut Request, conf: &DigestDir, user: &[u8], realm: &[u8]) -> Result<Vec<u8>, AuthnStatus> {
    let default = if conf.providers.is_empty() { Provider::of_request(r, "file") } else { None };
    let default = default.filter(Provider::has_realm_hash);
    let providers = if conf.providers.is_empty() { default.as_slice() } else { &conf.providers };
    if providers.is_empty() {
        rerror!(r, Level::Error, "auth_digest", "AH01770", "No Authn provider configured");
        return Err(AuthnStatus::GeneralError);
    }
    for provider in providers {
        match provider.get_realm_hash(r, user, realm) {
            Err(AuthnStatus::UserNotFound) => {}
            other => return other,
        }
    }
    Err(AuthnStatus::UserNotFound)
}

/// Is the digest about the URI that was asked for?
fn check_uri(r: &mut Request, sent: &Credentials, raw: &[u8]) -> Result<(), Step> {
    if sent.uri == raw {
        return Ok(());
    }
    let (mut own, mut theirs) = (Uri::default(), Uri::default());
    let _ = own.parse(raw, 0);
    if theirs.parse(&sent.uri, 0).is_err() {
        let uri = sent.uri.as_bstr();
        rerror!(r, Level::Error, "auth_digest", "AH01783", "invalid uri <{uri}> in Authorization header");
        return Err(Step::Status(status::BAD_REQUEST));
    }
    let decoded = |text: &[u8], range: &Option<std::ops::Range<usize>>| {
        let mut part = range.clone().and_then(|range| text.get(range))?.to_vec();
        // What could be decoded is compared.
        let _ = unescape_url(&mut part, Unescape::FORBID_SLASHES);
        Some(part)
    };
    let own_host = decoded(raw, &own.hostname).unwrap_or_else(|| r.server_name().to_vec());
    let own_port = if own.port_str.is_some() { own.port } else { r.server_port() };
    let (own_path, own_query) = (decoded(raw, &own.path), decoded(raw, &own.query));
    let (host, path) = (decoded(&sent.uri, &theirs.hostname), decoded(&sent.uri, &theirs.path));
    let mut query = decoded(&sent.uri, &theirs.query);
    if query.is_none() && own_query.is_some() && r.subprocess_env.contains("AuthDigestEnableQueryStringHack")
    {
        let raw = raw.as_bstr();
        rerror!(
            r,
            Level::Info,
            "auth_digest",
            "AH01784",
            "applying AuthDigestEnableQueryStringHack to uri <{raw}>"
        );
        query = own_query.clone();
    }
    let has_host = host.as_ref().is_some_and(|host| !host.is_empty());
    let wrong = has_host && !host.as_ref().is_some_and(|host| host.eq_ignore_ascii_case(&own_host))
        || theirs.port_str.is_some() && theirs.port != own_port
        || has_host && theirs.port_str.is_none() && own_port != r.default_port()
        || path != own_path
            && !(path.as_deref() == Some(b"*") && own_path.is_none() && own.hostname.is_some())
        || query != own_query;
    if !wrong {
        return Ok(());
    }
    let (uri, raw) = (sent.uri.as_bstr(), raw.as_bstr());
    rerror!(
        r,
        Level::Error,
        "auth_digest",
        "AH01786",
        "uri mismatch - <{uri}> does not match request-uri <{raw}>"
    );
    Err(Step::Status(status::BAD_REQUEST))
}

/// `check_nc`.
fn count_fits(r: &mut Request, conf: &DigestDir, sent: &Credentials) -> bool {
    if !conf.check_nc {
        return true;
    }
    let text = &sent.nonce_count;
    let number = text.to_str().ok().and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let Some(number) = number else {
        let text = text.as_bstr();
        rerror!(r, Level::Error, "auth_digest", "AH01773", "invalid nc {text} received - not a number");
        return false;
    };
    let Some(client) = sent.opaque.as_ref().and_then(|opaque| Client::find(opaque_number(opaque))) else {
        return false;
    };
    if number != client.count() {
        rerror!(
            r,
            Level::Error,
            "auth_digest",
            "AH01774",
            "Warning, possible replay attack: nonce-count check failed: {number} != {}",
            client.count()
        );
        return false;
    }
    true
}

/// `check_nonce`; `None`: another one is to be used.
fn check_nonce(r: &mut Request, conf: &DigestDir, sent: &Credentials, realm: &[u8]) -> Option<Nonce> {
    let shown = sent.nonce.as_bstr();
    let Some(time) = Nonce::time_of(&sent.nonce) else {
        rerror!(
            r,
            Level::Error,
            "auth_digest",
            "AH01775",
            "invalid nonce '{shown}' received - length is not {} or time encoding is incorrect",
            TIME_LEN + HASH_LEN
        );
        return None;
    };
    let nonce = Nonce::sign(time, realm, sent.opaque.as_deref().unwrap_or_default());
    let hash = nonce.shown();
    if hash.as_bytes() != sent.nonce {
        let hash = hash.get(TIME_LEN..).unwrap_or_default();
        rerror!(
            r,
            Level::Error,
            "auth_digest",
            "AH01776",
            "invalid nonce {shown} received - hash is not {hash}"
        );
        return None;
    }
    let age = r.request_time.saturating_sub(time);
    if conf.lifetime > 0 && age < 0 {
        rerror!(
            r,
            Level::Error,
            "auth_digest",
            "AH01777",
            "invalid nonce {shown} received - user attempted time travel"
        );
        return None;
    }
    let user = sent.username.as_bstr();
    if conf.lifetime > 0 && age > conf.lifetime {
        rerror!(
            r,
            Level::Info,
            "auth_digest",
            "AH01778",
            "user {user}: nonce expired ({:.2} seconds old - max lifetime {:.2}) - sending new nonce",
            (age / SECOND) as f64,
            (conf.lifetime / SECOND) as f64
        );
        return None;
    }
    if conf.lifetime == 0
        && let Some(client) = sent.opaque.as_ref().and_then(|opaque| Client::find(opaque_number(opaque)))
        && !client.is_last_nonce(nonce.time, &nonce.hash)
    {
        rerror!(
            r,
            Level::Info,
            "auth_digest",
            "AH01779",
            "user {user}: one-time-nonce mismatch - sending new nonce"
        );
        return None;
    }
    Some(nonce)
}

/// Shows the client that the server knows the password, too, and gives it the next nonce: `add_auth_info`.
fn add_auth_info(
    r: &mut Request,
    conf: &DigestDir,
    sent: &Credentials,
    ha1: &[u8],
    realm: &[u8],
    nonce_time: i64,
) {
    let opaque = sent.opaque.as_deref().unwrap_or_default();
    let client = sent.opaque.as_ref().and_then(|opaque| Client::find(opaque_number(opaque)));
    let mut next = String::new();
    if conf.lifetime > 0 {
        if r.request_time - nonce_time > conf.lifetime - NEXT_NONCE {
            let nonce = Nonce::new(conf, r.request_time, realm, opaque);
            next = format!(", nextnonce=\"{}\"", nonce.shown());
            if let Some(client) = client {
                client.restart();
            }
        }
    } else if conf.lifetime == 0
        && let Some(client) = client
    {
        let nonce = Nonce::new(conf, 0, realm, opaque);
        next = format!(", nextnonce=\"{}\"", nonce.shown());
        client.set_last_nonce(nonce.time, &nonce.hash);
    }
    let mut info = format!("rspauth=\"{}\"{next}, cnonce=\"", sent.expected(ha1, b"")).into_bytes();
    info.extend_from_slice(&escape_quotes(&sent.cnonce));
    info.extend_from_slice(b"\", nc=");
    info.extend_from_slice(&sent.nonce_count);
    info.extend_from_slice(b", qop=");
    info.extend_from_slice(sent.qop.as_deref().unwrap_or_default());
    let field =
        if r.proxyreq == Some(ProxyReq::Proxy) { "Proxy-Authentication-Info" } else { "Authentication-Info" };
    r.headers_out.merge(field, info);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_are_signed() {
        let conf = DigestDir::default();
        let nonce = Nonce::new(&conf, 1_700_000_000_000_000, b"realm", b"1");
        let shown = nonce.shown();
        assert_eq!(shown.len(), TIME_LEN + HASH_LEN);
        assert_eq!(Nonce::time_of(shown.as_bytes()), Some(1_700_000_000_000_000));
        assert_ne!(Nonce::sign(nonce.time, b"other", b"1").shown(), shown);
        assert_eq!(Nonce::sign(nonce.time, b"realm", b"1").shown(), shown);
        assert_eq!(Nonce::time_of(b"short"), None);
    }

    #[test]
    fn numbers() {
        assert_eq!(opaque_number(b"1f"), 31);
        assert_eq!(opaque_number(b"zz"), 0);
    }
}
