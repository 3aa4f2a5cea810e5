//! How the files of rotatelogs are called.

use super::settings::Settings;
use crate::os::clock;

/// A path without `.`, `..` behind a name, and repeated slashes: `apr_filepath_merge` with `APR_FILEPATH_TRUENAME`.
pub fn normal_path(path: &[u8]) -> Vec<u8> {
    let absolute = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut ends_in_slash = false;
    for part in path.split(|&byte| byte == b'/') {
        ends_in_slash = true;
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(&last) if last != b".." => drop(parts.pop()),
                _ if absolute => {}
                _ => parts.push(part),
            },
            _ => {
                parts.push(part);
                ends_in_slash = false;
            }
        }
    }
    let mut normal = parts.join(&b'/');
    if ends_in_slash && !normal.is_empty() {
        normal.push(b'/');
    }
    if absolute {
        normal.insert(0, b'/');
    }
    normal
}

/// The name of a file that begins at `start` (seconds since 1970, moved by `offset`).
/// `number` is its place among those of `-n`.
pub fn of_file(settings: &Settings, start: i64, offset: i64, number: Option<i64>) -> Vec<u8> {
    let root = &settings.log_root;
    if settings.use_strftime {
        let Ok(format) = std::ffi::CString::new(root.as_slice()) else { return root.clone() };
        let mut name = Vec::new();
        if settings.use_localtime {
            clock::strftime(&format, start - offset, &mut name);
        } else {
            clock::strftime_utc(&format, start, &mut name);
        }
        return name;
    }
    let mut name = root.clone();
    match number {
        _ if settings.truncate => {}
        Some(0) => {}
        Some(number) => name.extend_from_slice(format!(".{number}").as_bytes()),
        None => name.extend_from_slice(format!(".{start:010}").as_bytes()),
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let normal = |path: &str| String::from_utf8(normal_path(path.as_bytes())).unwrap();
        assert_eq!(normal("a//b/../c/./d"), "a/c/d");
        assert_eq!(normal("./a"), "a");
        assert_eq!(normal("../a/.."), "../");
        assert_eq!(normal("/../a/"), "/a/");
        assert_eq!(normal("/var/log/x"), "/var/log/x");
        assert_eq!(normal(""), "");
    }

    #[test]
    fn names() {
        let of = |root: &str, number: Option<i64>| {
            let settings = Settings {
                log_root: root.into(),
                use_strftime: root.contains('%'),
                num_files: number.map_or(0, |_| 3),
                ..Settings::default()
            };
            String::from_utf8(of_file(&settings, 86_400, 3600, number)).unwrap()
        };
        assert_eq!(of("log", None), "log.0000086400");
        assert_eq!(of("log", Some(0)), "log");
        assert_eq!(of("log", Some(2)), "log.2");
        assert_eq!(of("log.%Y-%m-%d-%H_%M_%S", None), "log.1970-01-02-00_00_00");
    }
}
