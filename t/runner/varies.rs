//! The one list of what may vary between two runs, two servers, two machines; all else must be equal to the byte.
//!
//! Each table has patterns and what takes the place of a match. A case can add its own in a `varies` section.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use pcre2::bytes::{Captures, Regex};

use super::case::Case;
use super::site::{self, Site};

type Table = &'static [(&'static str, &'static str)];

/// Anywhere: what depends on the machine, once the site's own paths and ports are out.
const ANYWHERE: Table = &[];

/// In the head of a reply. The length of a gzipped body depends on the compressor.
const HEAD: Table = &[(r"(?mi)^(Content-Type: multipart/byteranges; boundary=).*$", "$1@BOUNDARY@")];

/// In error logs, and in standard error, where the same lines can stand.
const ERROR_LOG: Table = &[
    (r"(?m)^\[\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d(\.\d+)? \d{4}\] ", ""),
    (r"\[pid \d+(:tid \d+)?\] ", ""),
    (r"(\[(client|remote) [\d.]+):\d+\]", "$1:@CLIENT@]"),
    // The place in the server's source, which lines of level debug and below have.
    (r"(?m)^(\[[^]\n]+\] )[\w.]+\.[ch]\(\d+\): ", "$1"),
    // Addresses that mod_rewrite names servers and requests by.
    (r"/sid#[0-9a-f]+\]\[rid#[0-9a-f]+/", "/sid#@SID@][rid#@RID@/"),
    // What an engine says of itself and of its children differs from engine to engine.
    (r"(?m)^\[mpm_\w+:(notice|info|debug|trace\d)\].*\n?", ""),
    (r"(?m)^.*\bAH0(0094|0096|0097|0163|0169|0489|0491|2405|2639|2980):.*\n?", ""),
];

/// In access logs.
const ACCESS_LOG: Table = &[(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", "[@TIME@]")];

/// In what commands print.
const COMMAND: Table = &[
    (r"(?m)^(Server built: +).*$", "$1@BUILT@"),
    (r"(?m)^((User|Group): name=).* id=\d+( not_used)?$", "$1@ACCOUNT@"),
];

static COMPILED: LazyLock<Result<Vec<Vec<Rule>>, String>> = LazyLock::new(|| {
    let compile = |table: &Table| table.iter().map(|(from, to)| Rule::new(from, to)).collect();
    // In the order of `Source`.
    [ANYWHERE, HEAD, ERROR_LOG, ACCESS_LOG, COMMAND].iter().map(compile).collect()
});

struct Rule {
    pattern: Regex,
    replacement: String,
}

/// Where a text comes from.
#[derive(Clone, Copy)]
pub enum Source {
    Anywhere,
    Head,
    ErrorLog,
    AccessLog,
    Command,
}

/// What varies in one case.
pub struct Varies<'a> {
    site: &'a Site,
    own: Vec<Rule>,
}

impl<'a> Varies<'a> {
    /// Reads the `varies` section: lines `pattern => replacement`.
    pub fn new(site: &'a Site, case: &Case) -> Result<Varies<'a>, String> {
        let mut own = Vec::new();
        if let Some(section) = case.section("varies") {
            for line in section.lines() {
                let (from, to) = line.split_once(" => ").ok_or(format!("varies: {line:?}"))?;
                own.push(Rule::new(from, to)?);
            }
        }
        Ok(Varies { site, own })
    }

    /// The text with what varies replaced by names.
    pub fn out_of(&self, text: &str, source: Source) -> Result<String, String> {
        let tables = COMPILED.as_ref().map_err(String::clone)?;
        let mut text = text
            .replace(&*self.site.htdocs().to_string_lossy(), "@HTDOCS@")
            .replace(&*self.site.root.to_string_lossy(), "@ROOT@")
            .replace(&*self.site.modules.to_string_lossy(), "@MODULES@");
        for (index, port) in self.site.ports.iter().enumerate() {
            text = replace_number(&text, &port.number.to_string(), &site::placeholder(index));
        }
        for rule in tables[source as usize].iter().chain(&tables[Source::Anywhere as usize]).chain(&self.own)
        {
            text = rule.apply(&text);
        }
        if matches!(source, Source::Command) {
            text = sorted_mutexes(&text);
        }
        if matches!(source, Source::Head) {
            text = text.lines().map(|line| sorted_allow(&dated(line))).collect::<Vec<_>>().join("\n");
        }
        Ok(text)
    }
}

impl Rule {
    fn new(pattern: &str, replacement: &str) -> Result<Rule, String> {
        let pattern = Regex::new(pattern).map_err(|e| format!("{pattern}: {e}"))?;
        Ok(Rule { pattern, replacement: replacement.to_owned() })
    }

    fn apply(&self, text: &str) -> String {
        let mut out = String::new();
        let mut last = 0;
        for captures in self.pattern.captures_iter(text.as_bytes()).flatten() {
            let Some(all) = captures.get(0) else { continue };
            out += &text[last..all.start()];
            out += &self.filled(&captures);
            last = all.end();
        }
        out + &text[last..]
    }

    /// The replacement with `$1` … `$9` filled in.
    fn filled(&self, captures: &Captures) -> String {
        let mut filled = String::new();
        let mut chars = self.replacement.chars().peekable();
        while let Some(c) = chars.next() {
            match chars.peek().and_then(|c| c.to_digit(10)) {
                Some(group) if c == '$' => {
                    chars.next();
                    let found = captures.get(group as usize).map(|found| found.as_bytes());
                    filled += &String::from_utf8_lossy(found.unwrap_or_default());
                }
                _ => filled.push(c),
            }
        }
        filled
    }
}

/// Replaces a number where no further digit stands beside it, but not as the length of something.
fn replace_number(text: &str, number: &str, name: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(number) {
        let (before, after) = (&rest[..at], &rest[at + number.len()..]);
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let whole = !digit(before.chars().next_back()) && !digit(after.chars().next());
        out += before;
        out += if whole && !before.ends_with("Content-Length: ") { name } else { number };
        rest = after;
    }
    out + rest
}

/// Apache lists the methods of `Allow` in the order of a hash with a random seed.
fn sorted_allow(line: &str) -> String {
    let Some(methods) = line.strip_prefix("Allow: ") else { return line.to_owned() };
    let mut methods: Vec<&str> = methods.split(',').collect();
    methods.sort_unstable();
    format!("Allow: {}", methods.join(","))
}

/// DUMP_RUN_CFG prints mutexes in the order of such a hash too.
fn sorted_mutexes(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    for run in lines.chunk_by_mut(|a, b| a.starts_with("Mutex ") && b.starts_with("Mutex ")) {
        run.sort_unstable();
    }
    lines.join("\n")
}

/// A header field whose date is that of today becomes `@NOW@`; the fixed dates of files stay.
fn dated(line: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
    let Some(at) = line.len().checked_sub(29).filter(|at| line.is_char_boundary(*at)) else {
        return line.to_owned();
    };
    match http_date(&line[at..]) {
        Some(time) if (time - now).abs() < 86_400 => format!("{}@NOW@", &line[..at]),
        _ => line.to_owned(),
    }
}

/// Seconds since 1970 of an IMF-fixdate (RFC 9110 section 5.6.7).
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let [_, day, month, year, time, "GMT"] = text.split(' ').collect::<Vec<_>>()[..] else { return None };
    let day: i64 = day.parse().ok()?;
    let month = MONTHS.iter().position(|name| *name == month)? as i64;
    let year: i64 = year.parse().ok()?;
    let [hour, minute, second] =
        time.split(':').map(|n| n.parse::<i64>().ok()).collect::<Option<Vec<_>>>()?[..]
    else {
        return None;
    };
    // Days of the proleptic Gregorian calendar, counted in years that begin in March.
    let (y, m) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days =
        y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (m * 153 + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}
