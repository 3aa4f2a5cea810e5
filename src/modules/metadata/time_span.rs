//! Spans of time in words, `plus 1 month 2 days`: what mod_expires and mod_usertrack have in common.
//!
//! Answers to a part of `check_code` in `modules/metadata/mod_expires.c` and of `set_cookie_exp` in `mod_usertrack.c`.

use httpd_conf::getword_conf;

use crate::text::atoi;

/// Why a text is no span; each module says it in its own words.
pub(super) enum BadSpan {
    /// This word stands where a number should.
    NoNumber(String),
    /// The last number has no unit.
    NoUnit,
    /// There is no such unit.
    UnknownUnit(String),
}

const DAY: i32 = 60 * 60 * 24;
/// What a unit begins with, and its seconds.
const UNITS: [(&str, i32); 7] =
    [("y", DAY * 365), ("mo", DAY * 30), ("w", DAY * 7), ("d", DAY), ("h", 3600), ("mi", 60), ("s", 1)];

/// Seconds, counted in C's `int`.
pub(super) fn parse(text: &str) -> Result<i32, BadSpan> {
    let mut rest = text;
    let mut word = || getword_conf(&mut rest).into_owned();
    let begins =
        |word: &str, with: &str| word.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let mut next = word();
    if begins(&next, "p") {
        next = word();
    }
    let mut seconds = 0_i32;
    while !next.is_empty() {
        if !next.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(BadSpan::NoNumber(next));
        }
        let unit = word();
        if unit.is_empty() {
            return Err(BadSpan::NoUnit);
        }
        let Some((_, factor)) = UNITS.iter().find(|(start, _)| begins(&unit, start)) else {
            return Err(BadSpan::UnknownUnit(unit));
        };
        seconds = seconds.wrapping_add(factor.wrapping_mul(atoi(next)));
        next = word();
    }
    Ok(seconds)
}
