//! Paths as APR joins them.
//!
//! Answers to `apr_filepath_merge` (as `ap_server_root_relative` and `<Directory>` use it) and
//! `ap_make_full_path`. Works on strings alone: links are not looked at.

/// APR_PATH_MAX on Linux.
const PATH_MAX: usize = 4096;

/// `path`, from `root` if it is relative, without empty and `.` segments and with each `..` applied. A `/` at
/// the end stays. `None` when it is too long.
pub fn filepath_merge(root: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(root.len() + path.len() + 1);
    if path.starts_with(b"/") {
        out.push(b'/');
    } else if !root.is_empty() {
        out.extend_from_slice(root);
        if !root.ends_with(b"/") {
            out.push(b'/');
        }
    }
    if out.len() + path.len() + 4 > PATH_MAX {
        return None;
    }
    let mut segments = path.split(|b| *b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let more = segments.peek().is_some();
        match segment {
            b"" | b"." => {}
            b".." if out == b"/" => {}
            b".." if out.is_empty() || out == b"../" || out.ends_with(b"/../") => {
                out.extend_from_slice(if more { b"../" } else { b".." });
            }
            b".." => {
                out.pop();
                while out.last().is_some_and(|b| *b != b'/') {
                    out.pop();
                }
            }
            segment => {
                out.extend_from_slice(segment);
                if more {
                    out.push(b'/');
                }
            }
        }
    }
    Some(out)
}

/// `name` in the folder `dir`.
pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut out = dir.to_vec();
    if !dir.is_empty() && !dir.ends_with(b"/") {
        out.push(b'/');
    }
    out.extend_from_slice(name);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(root: &str, path: &str) -> String {
        String::from_utf8(filepath_merge(root.as_bytes(), path.as_bytes()).unwrap_or_default())
            .unwrap_or_default()
    }

    #[test]
    fn merging() {
        assert_eq!(merge("/etc/httpd", "conf/a.conf"), "/etc/httpd/conf/a.conf");
        assert_eq!(merge("/etc/httpd", "/a//b/./c"), "/a/b/c");
        assert_eq!(merge("/etc/httpd", "../x/"), "/etc/x/");
        assert_eq!(merge("/etc", "../../../x"), "/x");
        assert_eq!(merge("", "../../x"), "../../x");
        assert_eq!(merge("", "a/../../b"), "../b");
        assert_eq!(merge("/etc", "conf/.."), "/etc/");
        assert_eq!(merge("/etc", ""), "/etc/");
        assert_eq!(filepath_merge(b"/etc", &[b'a'; 5000]), None);
    }

    #[test]
    fn joining() {
        assert_eq!(join(b"/", b"a"), b"/a");
        assert_eq!(join(b"/a", b"b"), b"/a/b");
    }
}
