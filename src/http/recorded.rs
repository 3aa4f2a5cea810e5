//! Reading the tables of what Apache did, for the tests.

use super::fields::{Level, LogLine, Origin};

/// `\xNN`, `\r`, `\n`, and `{c*n}` for n times c.
pub(super) fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    let mut repeated = None;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => {
                let (c, used) = match bytes[i + 1] {
                    b'r' => (b'\r', 2),
                    b'n' => (b'\n', 2),
                    _ => (u8::from_str_radix(&text[i + 2..i + 4], 16).unwrap(), 4),
                };
                out.push(c);
                i += used;
            }
            b'{' => {
                repeated = Some(out.len());
                i += 1;
            }
            b'*' if repeated.is_some() => {
                let close = i + text[i..].find('}').unwrap();
                let n: usize = text[i + 1..close].parse().unwrap();
                let c = out.pop().unwrap();
                out.extend(std::iter::repeat_n(c, n));
                repeated = None;
                i = close + 1;
            }
            c => {
                out.push(c);
                i += 1;
            }
        }
    }
    out
}

/// Log lines as the tables have them, no more than 4096 bytes of each.
pub(super) fn show(log: &[LogLine]) -> String {
    let show = |l: &LogLine| {
        let level = match l.level {
            Level::Warning => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        format!("{level}:{}:{}:{}", l.ah, l.error, l.text[..l.text.len().min(4096)].escape_ascii())
    };
    log.iter().filter(|l| l.origin != Origin::Server).map(show).collect::<Vec<_>>().join(" || ")
}

/// A column of log lines in the form of [`show`].
pub(super) fn expected_log(column: &str) -> String {
    column.split(" || ").map(|l| decode(l).escape_ascii().to_string()).collect::<Vec<_>>().join(" || ")
}
