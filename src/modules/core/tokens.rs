//! How the server names itself: `ServerTokens`, `ServerSignature`.

use super::{DIR, SERVER, Signature};
use crate::config::server::{Banner, Setup};
use crate::request::Request;

/// The version of Apache that we are compatible with.
pub const VERSION: &str = "2.4.71";

/// `ServerTokens`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tokens {
    /// `Apache`
    Prod,
    /// `Apache/2`
    Major,
    /// `Apache/2.4`
    Minor,
    /// `Apache/2.4.71`
    Min,
    /// `Apache/2.4.71 (Debian)`
    Os,
    /// With the components of modules.
    Full,
}

impl Tokens {
    /// By name, as the directive takes it.
    pub fn parse(name: &str) -> Option<Tokens> {
        Some(match name.to_ascii_lowercase().as_str() {
            "os" => Tokens::Os,
            "min" | "minimal" => Tokens::Min,
            "major" => Tokens::Major,
            "minor" => Tokens::Minor,
            "prod" | "productonly" => Tokens::Prod,
            "full" => Tokens::Full,
            _ => return None,
        })
    }
}

/// The name for the `Server` header and for signatures.
pub fn banner(setup: &Setup) -> Banner {
    let tokens = setup.servers[0].conf.get(&SERVER).tokens.unwrap_or(Tokens::Full);
    let platform = setup.options.layout.platform;
    let text = match tokens {
        Tokens::Prod => "Apache".to_owned(),
        Tokens::Major => "Apache/2".to_owned(),
        Tokens::Minor => "Apache/2.4".to_owned(),
        Tokens::Min => format!("Apache/{VERSION}"),
        Tokens::Os | Tokens::Full => format!("Apache/{VERSION} ({platform})"),
    };
    Banner { full: text.clone(), signature: text }
}

/// The line at the foot of generated pages, behind `prefix`; empty where `ServerSignature` is off: `ap_psignature`.
pub fn signature(r: &Request, prefix: &str) -> Vec<u8> {
    use crate::http::error_page::{Signature as Kind, signature};
    let kind = match r.dir(&DIR).signature.unwrap_or(Signature::Off) {
        Signature::Off => Kind::Off,
        Signature::On => Kind::On,
        Signature::Email => Kind::EMail(r.server.admin().as_bytes()),
    };
    signature(prefix, kind, &r.runtime.banner.signature, r.server_name(), r.server_port())
}
