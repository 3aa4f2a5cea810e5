//! The `Authorization` header of digest authentication, and the digests (RFC 2617).
//!
//! Answers to `get_digest_rec` and `new_digest`.

use md5::{Digest, Md5};

/// What the header says; `digest_header_rec`.
#[derive(Default, Clone, Debug, PartialEq)]
pub(super) struct Credentials {
    pub username: Vec<u8>,
    pub realm: Vec<u8>,
    pub nonce: Vec<u8>,
    pub uri: Vec<u8>,
    /// `response`
    pub digest: Vec<u8>,
    pub algorithm: Option<Vec<u8>>,
    pub cnonce: Vec<u8>,
    pub opaque: Option<Vec<u8>>,
    /// RFC 2069 knows none; it is no longer spoken.
    pub qop: Option<Vec<u8>>,
    pub nonce_count: Vec<u8>,
}

/// What became of a header.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Authorization {
    None,
    /// Another scheme: this one.
    Other(Vec<u8>),
    /// Something is missing in it. The opaque, if that was there.
    Invalid(Option<Vec<u8>>),
    Valid(Box<Credentials>),
}

impl Authorization {
    pub fn opaque(&self) -> Option<&[u8]> {
        match self {
            Authorization::Valid(credentials) => credentials.opaque.as_deref(),
            Authorization::Invalid(opaque) => opaque.as_deref(),
            _ => None,
        }
    }

    pub fn parse(line: Option<&[u8]>) -> Authorization {
        let Some(line) = line else { return Authorization::None };
        let is_space = |c: &u8| c.is_ascii_whitespace() || *c == 0x0b;
        let end = line.iter().position(is_space).unwrap_or(line.len());
        let (scheme, mut rest) = line.split_at(end);
        if !scheme.eq_ignore_ascii_case(b"Digest") {
            return Authorization::Other(scheme.to_vec());
        }
        let skip = |rest: &mut &[u8]| {
            let blanks = rest.iter().take_while(|c| is_space(c)).count();
            *rest = &rest[blanks..];
        };
        let mut found: [Option<Vec<u8>>; NAMES.len()] = Default::default();
        while !rest.is_empty() {
            skip(&mut rest);
            let end = rest.iter().position(|c| *c == b'=' || *c == b',' || is_space(c));
            let (key, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            skip(&mut rest);
            let mut value = Vec::new();
            if let [b'=', after @ ..] = rest {
                rest = after;
                skip(&mut rest);
                if let [b'"', after @ ..] = rest {
                    rest = after;
                    while let Some((&c, after)) = rest.split_first() {
                        rest = after;
                        match c {
                            b'"' => break,
                            b'\\' if !rest.is_empty() => {
                                value.push(rest[0]);
                                rest = &rest[1..];
                            }
                            c => value.push(c),
                        }
                    }
                } else {
                    let end = rest.iter().position(|c| *c == b',' || is_space(c)).unwrap_or(rest.len());
                    value.extend_from_slice(&rest[..end]);
                    rest = &rest[end..];
                }
            }
            let comma = rest.iter().position(|c| *c == b',').map_or(rest.len(), |at| at + 1);
            rest = &rest[comma..];
            if let Some(at) = NAMES.iter().position(|name| name.as_bytes().eq_ignore_ascii_case(key)) {
                found[at] = Some(value);
            }
        }
        let [username, realm, nonce, uri, digest, algorithm, cnonce, opaque, qop, nonce_count] = found;
        let incomplete = qop.is_some() && (cnonce.is_none() || nonce_count.is_none());
        match (username, realm, nonce, uri, digest) {
            (Some(username), Some(realm), Some(nonce), Some(uri), Some(digest))
                if !incomplete
                    && nonce.len() == super::TIME_LEN + super::HASH_LEN
                    && nonce[super::TIME_LEN - 1] == b'='
                    && digest.len() == 32 =>
            {
                Authorization::Valid(Box::new(Credentials {
                    username,
                    realm,
                    nonce,
                    uri,
                    digest,
                    algorithm,
                    cnonce: cnonce.unwrap_or_default(),
                    opaque,
                    qop,
                    nonce_count: nonce_count.unwrap_or_default(),
                }))
            }
            _ => Authorization::Invalid(opaque),
        }
    }
}

const NAMES: [&str; 10] =
    ["username", "realm", "nonce", "uri", "response", "algorithm", "cnonce", "opaque", "qop", "nc"];

/// The hex digits of an MD5 of the parts with colons between.
pub(super) fn md5(parts: &[&[u8]]) -> String {
    let mut hash = Md5::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    format!("{:x}", hash.finalize())
}

impl Credentials {
    /// The digest that who knows the password sends; with an empty `method` the one that the server answers with.
    pub fn expected(&self, ha1: &[u8], method: &[u8]) -> String {
        let ha2 = md5(&[method, &self.uri]);
        self.with_qop(ha1, &ha2)
    }

    fn with_qop(&self, ha1: &[u8], ha2: &str) -> String {
        let qop = self.qop.as_deref().unwrap_or_default();
        md5(&[ha1, &self.nonce, &self.nonce_count, &self.cnonce, qop, ha2.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_2617_with_a_nonce_as_ours() {
        let line = br#"Digest username="Mufasa",
            realm="testrealm@host.com",
            nonce="dcd98b7102d=0f600bfb0c093dcd98b7102dd2f0e8b11d0f600b",
            uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b",
            response="b52a049243d9c16437fef717f531873b",
            opaque="5ccc069c403ebaf9f0171e9517f40e41""#;
        let Authorization::Valid(credentials) = Authorization::parse(Some(line)) else { panic!() };
        let ha1 = md5(&[b"Mufasa", b"testrealm@host.com", b"Circle Of Life"]);
        let expected = credentials.expected(ha1.as_bytes(), b"GET");
        assert_eq!(expected.as_bytes(), credentials.digest);
    }

    #[test]
    fn headers() {
        assert_eq!(Authorization::parse(None), Authorization::None);
        assert_eq!(Authorization::parse(Some(b"Basic x")), Authorization::Other(b"Basic".to_vec()));
        let invalid = Authorization::parse(Some(b"Digest username=x, opaque = \"a\\\"b\""));
        assert_eq!(invalid, Authorization::Invalid(Some(b"a\"b".to_vec())));
        let nonce = format!("AAAAAAAAAAA={}", "0".repeat(40));
        let digest = "0".repeat(32);
        let all =
            format!("Digest username=u,realm=r,nonce={nonce},uri=/,response={digest},qop=auth,nc=1,cnonce=c");
        assert!(matches!(Authorization::parse(Some(all.as_bytes())), Authorization::Valid(_)));
        let no_cnonce = b"Digest username=u,realm=r,nonce=n,uri=/,response=d,qop=auth,nc=1";
        assert_eq!(Authorization::parse(Some(no_cnonce)), Authorization::Invalid(None));
    }
}
