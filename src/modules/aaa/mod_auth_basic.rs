//! mod_auth_basic: user and password in the `Authorization` header (RFC 7617).
//!
//! Answers to `modules/aaa/mod_auth_basic.c`.

use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bstr::BString;
use md5::{Digest, Md5};

use super::mod_authn_core::Provider;
use super::{AuthnStatus, auth_name, auth_type};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::expr::{Expr, Failure};
use crate::hooks::{Hooks, order};
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::{ProxyReq, Request, Step};

/// The module.
pub static MODULE: Module =
    Module { name: "auth_basic_module", file: "mod_auth_basic.c", directives: ROWS, hooks };

static DIR: Slot<BasicDir> = Slot::new();

#[derive(Clone, Default)]
struct BasicDir {
    /// `AuthBasicProvider`, in the order to ask them in.
    providers: Option<Arc<Vec<Provider>>>,
    /// `AuthBasicAuthoritative`.
    authoritative: Option<bool>,
    /// `AuthBasicFake`; `Some(None)`: off.
    fake: Option<Option<Arc<Fake>>>,
    /// `AuthBasicUseDigestAlgorithm MD5`.
    use_md5: Option<bool>,
}

struct Fake {
    user: Expr,
    password: Expr,
}

impl Conf for BasicDir {
    fn merge(&self, child: &Self) -> Self {
        BasicDir {
            providers: child.providers.clone().or_else(|| self.providers.clone()),
            authoritative: child.authoritative.or(self.authoritative),
            fake: child.fake.clone().or_else(|| self.fake.clone()),
            use_md5: child.use_md5.or(self.use_md5),
        }
    }
}

static ROWS: &[Directive] = &[
    Directive {
        name: "AuthBasicProvider",
        args: Args::Iterate(provider),
        allowed: Allowed::AUTHCFG,
        help: "specify the auth providers for a directory or location",
    },
    Directive {
        name: "AuthBasicAuthoritative",
        args: Args::Flag(authoritative),
        allowed: Allowed::AUTHCFG,
        help: "Set to 'Off' to allow access control to be passed along to lower modules if the UserID is not known to this module",
    },
    Directive {
        name: "AuthBasicFake",
        args: Args::Take12(fake),
        allowed: Allowed::AUTHCFG,
        help: "Fake basic authentication using the given expressions for username and password, 'off' to disable. Password defaults to 'password' if missing.",
    },
    Directive {
        name: "AuthBasicUseDigestAlgorithm",
        args: Args::Take1(use_digest_algorithm),
        allowed: Allowed::AUTHCFG,
        help: "Set to 'MD5' to use the auth provider's authentication check for digest auth, using a hash of 'user:realm:pass'",
    },
];

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.check_user_id(authenticate, order::MIDDLE);
    hooks.fixups(set_fake_header, order::LAST);
    hooks.note_auth_failure(note_auth_failure, order::MIDDLE);
}

fn provider(cmd: &mut Cmd, name: &str) -> Done {
    let Some(provider) = Provider::find(cmd, name) else {
        return Err(format!("Unknown Authn provider: {name}").into());
    };
    if !provider.has_check_password() {
        return Err(format!("The '{name}' Authn provider doesn't support Basic Authentication").into());
    }
    Arc::make_mut(cmd.dir(&DIR).providers.get_or_insert_default()).push(provider);
    Ok(())
}

fn authoritative(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).authoritative = Some(on);
    Ok(())
}

fn fake(cmd: &mut Cmd, user: &str, password: Option<&str>) -> Done {
    if user.eq_ignore_ascii_case("off") {
        cmd.dir(&DIR).fake = Some(None);
        return Ok(());
    }
    let user_expr = cmd
        .parse_string(user)
        .map_err(|error| format!("Could not parse fake username expression '{user}': {error}"))?;
    let password = cmd.parse_string(password.unwrap_or("password")).map_err(|error| {
        format!("Could not parse fake password expression associated to user '{user}': {error}")
    })?;
    cmd.dir(&DIR).fake = Some(Some(Arc::new(Fake { user: user_expr, password })));
    Ok(())
}

fn use_digest_algorithm(cmd: &mut Cmd, name: &str) -> Done {
    let md5 = name.eq_ignore_ascii_case("MD5");
    if !md5 && !name.eq_ignore_ascii_case("Off") {
        return Err(format!("Invalid algorithm in AuthBasicUseDigestAlgorithm: {name}").into());
    }
    cmd.dir(&DIR).use_md5 = Some(md5);
    Ok(())
}

fn note_auth_failure(r: &mut Request, auth_type: &str) -> Step {
    if !auth_type.eq_ignore_ascii_case("Basic") {
        return Step::Declined;
    }
    challenge(r);
    Step::Ok
}

/// Asks for a user and a password: `note_basic_auth_failure`.
fn challenge(r: &mut Request) {
    let name = if r.proxyreq == Some(ProxyReq::Proxy) { "Proxy-Authenticate" } else { "WWW-Authenticate" };
    let mut value = b"Basic realm=\"".to_vec();
    if let Some(realm) = auth_name(r) {
        value.extend_from_slice(&realm);
        value.push(b'"');
    }
    r.err_headers_out.set(name, value);
}

/// What the client sent: `get_basic_auth`.
fn credentials(r: &mut Request) -> Option<(BString, BString)> {
    let name = if r.proxyreq == Some(ProxyReq::Proxy) { "Proxy-Authorization" } else { "Authorization" };
    let line = r.headers_in.get(name)?;
    let end = line.iter().position(|&b| b == b' ').unwrap_or(line.len());
    let (scheme, rest) = line.split_at(end);
    if !scheme.eq_ignore_ascii_case(b"Basic") {
        rerror!(
            r,
            Level::Error,
            "auth_basic",
            "AH01614",
            "client used wrong authentication scheme: {}",
            r.uri
        );
        return None;
    }
    let start = rest.iter().position(|&b| b != b' ' && b != b'\t').unwrap_or(rest.len());
    Some(split_credentials(decode(&rest[start..])))
}

/// As Apache decodes: up to the first byte that is no digit, and what is there so far when it ends early. A NUL ends it.
fn decode(text: &[u8]) -> Vec<u8> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &ALPHABET,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let digit = |b: &u8| b.is_ascii_alphanumeric() || *b == b'+' || *b == b'/';
    let mut end = text.iter().position(|b| !digit(b)).unwrap_or(text.len());
    if end % 4 == 1 {
        // Six bits are no byte.
        end -= 1;
    }
    let mut decoded = LENIENT.decode(&text[..end]).unwrap_or_default();
    if let Some(nul) = decoded.iter().position(|&b| b == 0) {
        decoded.truncate(nul);
    }
    decoded
}

fn split_credentials(decoded: Vec<u8>) -> (BString, BString) {
    match decoded.iter().position(|&b| b == b':') {
        Some(colon) => (decoded[..colon].into(), decoded[colon + 1..].into()),
        None => (decoded.into(), BString::default()),
    }
}

/// `authenticate_basic_user`.
fn authenticate(r: &mut Request) -> Step {
    let Some(current) = auth_type(r).filter(|t| t.eq_ignore_ascii_case("Basic")) else {
        return Step::Declined;
    };
    let Some(realm) = auth_name(r) else {
        rerror!(r, Level::Error, "auth_basic", "AH01615", "need AuthName: {}", r.uri);
        return Step::Status(status::INTERNAL_SERVER_ERROR);
    };
    r.auth_type = Some(current);
    let Some((user, password)) = credentials(r) else {
        challenge(r);
        return Step::Status(status::UNAUTHORIZED);
    };
    // Not checked yet, but the log names it also when it is wrong.
    r.user = Some(user.clone());
    let conf = r.dir(&DIR).clone();
    let result = ask_providers(r, &conf, &realm, &user, &password);
    if result == AuthnStatus::Granted {
        return Step::Ok;
    }
    if result == AuthnStatus::NeedThread {
        return Step::NeedThread;
    }
    if !conf.authoritative.unwrap_or(true) && result != AuthnStatus::Denied {
        return Step::Declined;
    }
    match result {
        AuthnStatus::Denied => {
            rerror!(
                r,
                Level::Error,
                "auth_basic",
                "AH01617",
                "user {user}: authentication failure for \"{}\": Password Mismatch",
                r.uri
            );
        }
        AuthnStatus::UserNotFound => {
            rerror!(r, Level::Error, "auth_basic", "AH01618", "user {user} not found: {}", r.uri);
        }
        // Who couldn't find out has logged why.
        _ => return Step::Status(status::INTERNAL_SERVER_ERROR),
    }
    challenge(r);
    Step::Status(status::UNAUTHORIZED)
}

/// The first provider that knows the user decides. Without `AuthBasicProvider` it is `file`.
fn ask_providers(
    r: &mut Request,
    conf: &BasicDir,
    realm: &[u8],
    user: &[u8],
    password: &[u8],
) -> AuthnStatus {
    let digest = conf.use_md5.unwrap_or(false).then(|| {
        let sum = Md5::new()
            .chain_update(user)
            .chain_update(":")
            .chain_update(realm)
            .chain_update(":")
            .chain_update(password)
            .finalize();
        format!("{sum:x}")
    });
    let default = if conf.providers.is_none() { Provider::of_request(r, "file") } else { None };
    let providers = conf.providers.as_deref().map_or(default.as_slice(), Vec::as_slice);
    if providers.is_empty() {
        rerror!(r, Level::Error, "auth_basic", "AH01616", "No Authn provider configured");
        return AuthnStatus::GeneralError;
    }
    for provider in providers {
        let result = match &digest {
            None => provider.check_password(r, user, password),
            Some(_) if !provider.has_realm_hash() => {
                rerror!(
                    r,
                    Level::Error,
                    "auth_basic",
                    "AH02493",
                    "Authn provider does not support AuthBasicUseDigestAlgorithm"
                );
                AuthnStatus::GeneralError
            }
            Some(digest) => match provider.get_realm_hash(r, user, realm) {
                Ok(hash) if hash == digest.as_bytes() => AuthnStatus::Granted,
                Ok(_) => AuthnStatus::Denied,
                Err(status) => status,
            },
        };
        if result != AuthnStatus::UserNotFound {
            return result;
        }
    }
    AuthnStatus::UserNotFound
}

/// `AuthBasicFake`: credentials for a backend or application: `authenticate_basic_fake`.
fn set_fake_header(r: &mut Request) -> Step {
    let Some(Some(fake)) = r.dir(&DIR).fake.clone() else { return Step::Declined };
    let user = match r.evaluate_string(&fake.user) {
        Ok(user) => user,
        Err(Failure::NeedThread) => return Step::NeedThread,
        Err(error) => {
            rerror!(
                r,
                Level::Error,
                "auth_basic",
                "AH02455",
                "AuthBasicFake: could not evaluate user expression for URI '{}': {error}",
                r.uri
            );
            return Step::Status(status::INTERNAL_SERVER_ERROR);
        }
    };
    if user.is_empty() {
        rerror!(
            r,
            Level::Info,
            "auth_basic",
            "AH02458",
            "AuthBasicFake: empty username expression for URI '{}', ignoring",
            r.uri
        );
        r.headers_in.unset("Authorization");
        return Step::Declined;
    }
    let password = match r.evaluate_string(&fake.password) {
        Ok(password) => password,
        Err(Failure::NeedThread) => return Step::NeedThread,
        Err(error) => {
            rerror!(
                r,
                Level::Error,
                "auth_basic",
                "AH02456",
                "AuthBasicFake: could not evaluate password expression for URI '{}': {error}",
                r.uri
            );
            return Step::Status(status::INTERNAL_SERVER_ERROR);
        }
    };
    if password.is_empty() {
        rerror!(
            r,
            Level::Info,
            "auth_basic",
            "AH02459",
            "AuthBasicFake: empty password expression for URI '{}', ignoring",
            r.uri
        );
        r.headers_in.unset("Authorization");
        return Step::Declined;
    }
    let plain = [user.as_slice(), b":", &password].concat();
    let line = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain));
    r.headers_in.set("Authorization", &line);
    rerror!(r, Level::Info, "auth_basic", "AH02457", "AuthBasicFake: \"Authorization: {line}\"");
    Step::Ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_as_apache_reads_them() {
        let both = |text: &str| {
            let (user, password) = split_credentials(decode(text.as_bytes()));
            (user.to_string(), password.to_string())
        };
        let pair = |user: &str, password: &str| (user.to_owned(), password.to_owned());
        assert_eq!(both("am9lOnNlY3JldA=="), pair("joe", "secret"));
        assert_eq!(both("am9lOnNlY3JldA"), pair("joe", "secret"));
        assert_eq!(both("am9lOmE6Yg=="), pair("joe", "a:b"));
        assert_eq!(both("am9l"), pair("joe", ""));
        assert_eq!(both("am9lO"), pair("joe", ""));
        assert_eq!(both("am9l*OnNlY3JldA=="), pair("joe", ""));
        assert_eq!(both("am9lAGE6Yg=="), pair("joe", ""));
        assert_eq!(both(""), pair("", ""));
    }
}
