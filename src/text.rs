//! Text that costs nothing to hand on: media types and handler names, which the configuration holds and every request gets.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A string that is cheap to clone: in the program itself, or shared.
#[derive(Clone)]
pub enum SharedStr {
    /// In the program.
    Static(&'static str),
    /// Shared.
    Shared(Arc<str>),
}

impl Deref for SharedStr {
    type Target = str;
    #[inline]
    fn deref(&self) -> &str {
        match self {
            SharedStr::Static(text) => text,
            SharedStr::Shared(text) => text,
        }
    }
}

impl AsRef<str> for SharedStr {
    fn as_ref(&self) -> &str {
        self
    }
}

impl AsRef<[u8]> for SharedStr {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Default for SharedStr {
    fn default() -> Self {
        SharedStr::Static("")
    }
}

impl fmt::Display for SharedStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for SharedStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl PartialEq for SharedStr {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedStr {}

impl PartialEq<str> for SharedStr {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for SharedStr {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl From<&'static str> for SharedStr {
    fn from(text: &'static str) -> Self {
        SharedStr::Static(text)
    }
}

impl From<String> for SharedStr {
    fn from(text: String) -> Self {
        SharedStr::Shared(text.into())
    }
}

impl From<Arc<str>> for SharedStr {
    fn from(text: Arc<str>) -> Self {
        SharedStr::Shared(text)
    }
}

impl From<&SharedStr> for SharedStr {
    fn from(text: &SharedStr) -> Self {
        text.clone()
    }
}

impl From<Cow<'static, str>> for SharedStr {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => SharedStr::Static(text),
            Cow::Owned(text) => text.into(),
        }
    }
}

/// A size of a file in four characters: `apr_strfsize`.
pub fn file_size(size: i64) -> String {
    if size < 0 {
        return "  - ".to_owned();
    }
    if size < 973 {
        return format!("{size:3} ");
    }
    let mut size = size;
    for unit in "KMGTPE".chars() {
        let remain = size & 1023;
        size >>= 10;
        if size >= 973 {
            continue;
        }
        if size < 9 || size == 9 && remain < 973 {
            let mut tenths = (remain * 5 + 256) / 512;
            if tenths >= 10 {
                size += 1;
                tenths = 0;
            }
            return format!("{size}.{tenths}{unit}");
        }
        if remain >= 512 {
            size += 1;
        }
        return format!("{size:3}{unit}");
    }
    "****".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_however_it_is_held() {
        let owned: SharedStr = "text/html".to_owned().into();
        assert_eq!(owned, SharedStr::from("text/html"));
        assert!(owned == "text/html" && owned.starts_with("text/"));
        assert!(matches!(SharedStr::from(Cow::Borrowed("x")), SharedStr::Static("x")));
        let SharedStr::Shared(first) = &owned else { panic!("a String is shared") };
        let SharedStr::Shared(second) = owned.clone() else { panic!("a clone is shared too") };
        assert!(Arc::ptr_eq(first, &second));
    }
}
