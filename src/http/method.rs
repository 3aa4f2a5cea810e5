//! Request methods: Apache's numbers for them (`httpd.h`, `ap_method_number_of` of `http_protocol.c`), which
//! `<Limit>` and `Allow` are made of, and the registry of further ones.

/// A method's number. HEAD shares that of GET; tokens that nobody registered are [`Method::INVALID`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(u8);

macro_rules! methods {
    ($($name:ident = $number:literal $token:literal,)*) => {
        impl Method {
            $(#[doc = concat!("`", $token, "`")] pub const $name: Method = Method($number);)*

            /// The number of a method that Apache knows from the start.
            pub const fn builtin(token: &[u8]) -> Option<Method> {
                Some(match token {
                    b"HEAD" => Method::GET,
                    $(t if same(t, $token.as_bytes()) => Method($number),)*
                    _ => return None,
                })
            }

            const fn builtin_name(self) -> Option<&'static str> {
                Some(match self.0 {
                    $($number => $token,)*
                    _ => return None,
                })
            }
        }
    };
}

methods! {
    GET = 0 "GET",
    PUT = 1 "PUT",
    POST = 2 "POST",
    DELETE = 3 "DELETE",
    CONNECT = 4 "CONNECT",
    OPTIONS = 5 "OPTIONS",
    TRACE = 6 "TRACE",
    PATCH = 7 "PATCH",
    PROPFIND = 8 "PROPFIND",
    PROPPATCH = 9 "PROPPATCH",
    MKCOL = 10 "MKCOL",
    COPY = 11 "COPY",
    MOVE = 12 "MOVE",
    LOCK = 13 "LOCK",
    UNLOCK = 14 "UNLOCK",
    VERSION_CONTROL = 15 "VERSION-CONTROL",
    CHECKOUT = 16 "CHECKOUT",
    UNCHECKOUT = 17 "UNCHECKOUT",
    CHECKIN = 18 "CHECKIN",
    UPDATE = 19 "UPDATE",
    LABEL = 20 "LABEL",
    REPORT = 21 "REPORT",
    MKWORKSPACE = 22 "MKWORKSPACE",
    MKACTIVITY = 23 "MKACTIVITY",
    BASELINE_CONTROL = 24 "BASELINE-CONTROL",
    MERGE = 25 "MERGE",
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

impl Method {
    /// A token that is no known method (`M_INVALID`).
    pub const INVALID: Method = Method(26);
    /// The methods that Apache knows from the start, by number.
    pub fn builtins() -> impl Iterator<Item = Method> {
        (0..Method::INVALID.0).map(Method)
    }

    /// The token of a method that Apache knows from the start; GET for HEAD, too.
    pub fn builtin_token(self) -> Option<&'static str> {
        self.builtin_name()
    }

    const FIRST_REGISTERED: u8 = 27;
    const LAST_REGISTERED: u8 = 62;

    /// Apache's number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The bit of the number in a method mask (`AP_METHOD_BIT`).
    pub const fn bit(self) -> u64 {
        1 << self.0
    }
}

/// The methods that `<Limit>` and modules registered beyond those of Apache (`ap_method_register`).
#[derive(Clone, Debug, Default)]
pub struct MethodRegistry {
    added: Vec<Box<[u8]>>,
}

impl MethodRegistry {
    /// A registry of the built-in methods.
    pub const fn new() -> MethodRegistry {
        MethodRegistry { added: Vec::new() }
    }

    /// The number of a method, given to it now if need be; `None` when all numbers are taken (AH01610).
    pub fn register(&mut self, token: &[u8]) -> Option<Method> {
        let known = self.number_of(token);
        if known != Method::INVALID {
            return Some(known);
        }
        let number = Method::FIRST_REGISTERED + self.added.len() as u8;
        if number > Method::LAST_REGISTERED {
            return None;
        }
        self.added.push(token.into());
        Some(Method(number))
    }

    /// The number of a method, or [`Method::INVALID`] (`ap_method_number_of`).
    pub fn number_of(&self, token: &[u8]) -> Method {
        match token {
            b"GET" => Method::GET,
            b"POST" => Method::POST,
            _ => Method::builtin(token).unwrap_or_else(|| {
                let added = self.added.iter().position(|t| **t == *token);
                added.map_or(Method::INVALID, |i| Method(Method::FIRST_REGISTERED + i as u8))
            }),
        }
    }

    /// The name of a number (`ap_method_name_of`).
    pub fn name_of(&self, method: Method) -> Option<&[u8]> {
        match method.builtin_name() {
            Some(name) => Some(name.as_bytes()),
            None => {
                let added = usize::from(method.0.checked_sub(Method::FIRST_REGISTERED)?);
                self.added.get(added).map(|t| &**t)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let mut r = MethodRegistry::new();
        for (token, number) in [
            ("GET", 0),
            ("HEAD", 0),
            ("POST", 2),
            ("PATCH", 7),
            ("VERSION-CONTROL", 15),
            ("MERGE", 25),
            ("get", 26),
        ] {
            assert_eq!(r.number_of(token.as_bytes()).number(), number, "{token}");
        }
        assert_eq!(r.number_of(b"SEARCH"), Method::INVALID);
        assert_eq!(r.register(b"SEARCH").map(Method::number), Some(27));
        assert_eq!(r.register(b"SEARCH").map(Method::number), Some(27));
        assert_eq!(r.register(b"PUT"), Some(Method::PUT));
        assert_eq!(r.name_of(Method(27)), Some(&b"SEARCH"[..]));
        assert_eq!(r.name_of(Method::LABEL), Some(&b"LABEL"[..]));
        assert_eq!(r.name_of(Method::INVALID), None);
        for i in 0..35 {
            assert!(r.register(format!("M{i}").as_bytes()).is_some());
        }
        assert_eq!(r.register(b"ONEMORE"), None);
    }
}
