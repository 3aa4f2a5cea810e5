//! Dates: HTTP's three forms (`apr_date.c`), and the stamps of the access and the error log (`util_time.c`).
//!
//! Nothing here asks the system for the time or the zone: both are given. [`DateCache`] formats once a second.

/// Seconds and microseconds since 1970, as `apr_time_t` counts them.
pub type Micros = i64;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const DAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];

/// A moment taken apart, as `apr_time_exp_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Civil {
    /// All four digits.
    pub year: i64,
    /// 1 to 12
    pub month: u8,
    /// 1 to 31
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    /// 0 is Sunday.
    pub weekday: u8,
}

impl Civil {
    /// The parts of `secs` since 1970 in a zone `offset` seconds east of Greenwich.
    pub fn new(secs: i64, offset: i32) -> Civil {
        let secs = secs.saturating_add(i64::from(offset));
        let days = secs.div_euclid(86_400);
        let time = secs.rem_euclid(86_400);
        let (year, month, day) = date_of_day(days);
        Civil {
            year,
            month,
            day,
            hour: (time / 3600) as u8,
            minute: (time / 60 % 60) as u8,
            second: (time % 60) as u8,
            weekday: (days + 4).rem_euclid(7) as u8,
        }
    }

    /// `YYYYMMDDhhmmss`.
    pub fn digits(&self) -> String {
        let Civil { year, month, day, hour, minute, second, .. } = self;
        format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
    }
}

/// Year, month and day of a count of days since 1970, in the Gregorian calendar.
fn date_of_day(days: i64) -> (i64, u8, u8) {
    // Years that begin in March end with the leap day; 400 of them are 146,097 days.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let doe = days.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month as u8, day as u8)
}

/// Days since 1970 of a date.
fn day_of_date(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

fn two(to: &mut [u8], n: u8) {
    to[0] = b'0' + n / 10 % 10;
    to[1] = b'0' + n % 10;
}

fn year(to: &mut [u8], year: i64) {
    let y = year.rem_euclid(10_000);
    two(to, (y / 100) as u8);
    two(&mut to[2..], (y % 100) as u8);
}

fn clock(to: &mut [u8], t: &Civil) {
    two(to, t.hour);
    to[2] = b':';
    two(&mut to[3..], t.minute);
    to[5] = b':';
    two(&mut to[6..], t.second);
}

fn month_name(t: &Civil) -> &'static [u8; 3] {
    MONTHS[usize::from(t.month.clamp(1, 12) - 1)]
}

fn day_name(t: &Civil) -> &'static [u8; 3] {
    DAYS[usize::from(t.weekday % 7)]
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 5.6.7, `apr_rfc822_date`).
pub fn rfc822(secs: i64) -> [u8; 29] {
    let t = Civil::new(secs, 0);
    let mut d = *b"Sun, 06 Nov 1994 08:49:37 GMT";
    d[..3].copy_from_slice(day_name(&t));
    two(&mut d[5..], t.day);
    d[8..11].copy_from_slice(month_name(&t));
    year(&mut d[12..], t.year);
    clock(&mut d[17..], &t);
    d
}

/// The access log's `[10/Oct/2000:13:55:36 -0700]` in a zone `offset` seconds east of Greenwich.
pub fn clf(secs: i64, offset: i32) -> [u8; 28] {
    let t = Civil::new(secs, offset);
    let mut d = *b"[10/Oct/2000:13:55:36 -0700]";
    two(&mut d[1..], t.day);
    d[4..7].copy_from_slice(month_name(&t));
    year(&mut d[8..], t.year);
    clock(&mut d[13..], &t);
    let minutes = offset.unsigned_abs() / 60;
    d[22] = if offset < 0 { b'-' } else { b'+' };
    two(&mut d[23..], (minutes / 60 % 100) as u8);
    two(&mut d[25..], (minutes % 60) as u8);
    d
}

/// `Sun Nov 06 08:49:37 1994` (`apr_ctime`), in a zone `offset` seconds east of Greenwich.
pub fn ctime(secs: i64, offset: i32) -> [u8; 24] {
    let t = Civil::new(secs, offset);
    let mut d = *b"Sun Nov 06 08:49:37 1994";
    d[..3].copy_from_slice(day_name(&t));
    d[4..7].copy_from_slice(month_name(&t));
    two(&mut d[8..], t.day);
    clock(&mut d[11..], &t);
    year(&mut d[20..], t.year);
    d
}

/// The error log's `Sun Nov 06 08:49:37.123456 1994`, in a zone `offset` seconds east of Greenwich.
pub fn error_log(now: Micros, offset: i32) -> [u8; 31] {
    let plain = ctime(now.div_euclid(1_000_000), offset);
    let mut d = *b"Sun Nov 06 08:49:37.123456 1994";
    d[..19].copy_from_slice(&plain[..19]);
    d[26..].copy_from_slice(&plain[19..]);
    let mut fraction = now.rem_euclid(1_000_000);
    for digit in d[20..26].iter_mut().rev() {
        *digit = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
    d
}

/// Formats each kind of date at most once a second.
#[derive(Clone, Debug)]
pub struct DateCache {
    secs: i64,
    offset: i32,
    http: [u8; 29],
    clf: [u8; 28],
    ctime: [u8; 24],
}

impl DateCache {
    /// A cache that stands at the given second, in a zone `offset` seconds east of Greenwich.
    pub fn new(secs: i64, offset: i32) -> DateCache {
        DateCache { secs, offset, http: rfc822(secs), clf: clf(secs, offset), ctime: ctime(secs, offset) }
    }

    /// Moves to another second; cheap when it is the same.
    pub fn update(&mut self, secs: i64, offset: i32) {
        if secs != self.secs || offset != self.offset {
            *self = DateCache::new(secs, offset);
        }
    }

    /// The second it stands at.
    pub fn secs(&self) -> i64 {
        self.secs
    }

    /// As [`rfc822`].
    pub fn http(&self) -> &[u8; 29] {
        &self.http
    }

    /// As [`clf`].
    pub fn clf(&self) -> &[u8; 28] {
        &self.clf
    }

    /// As [`ctime`].
    pub fn ctime(&self) -> &[u8; 24] {
        &self.ctime
    }
}

/// The seconds since 1970 that an HTTP date names, in any of the three forms, or `None` where APR gives
/// `APR_DATE_BAD` (`apr_date_parse_http`): dates before 1970 too, and 1970's first second, which is its number for bad.
pub fn parse(date: &[u8]) -> Option<i64> {
    let start = date.iter().position(|c| !is_space(*c))?;
    let mut date = &date[start..];
    // The name of the day does not matter; what follows it tells the form.
    let space = date.iter().position(|&c| c == b' ')?;
    date = &date[space + 1..];
    let (day, mon, year, time);
    if matches(date, b"## @$$ #### ##:##:## *") {
        // RFC 1123: 06 Nov 1994 08:49:37 GMT
        year = (number(date, 7, 2) - 19) * 100 + number(date, 9, 2);
        (day, mon, time) = (number(date, 0, 2), &date[3..6], &date[12..20]);
    } else if matches(date, b"##-@$$-## ##:##:## *") {
        // RFC 850: 06-Nov-94 08:49:37 GMT
        let y = number(date, 7, 2);
        year = if y < 70 { y + 100 } else { y };
        (day, mon, time) = (number(date, 0, 2), &date[3..6], &date[10..18]);
    } else if matches(date, b"@$$ ~# ##:##:## ####*") {
        // asctime: Nov  6 08:49:37 1994
        year = (number(date, 16, 2) - 19) * 100 + number(date, 18, 2);
        let tens = if date[4] == b' ' { 0 } else { number(date, 4, 1) };
        (day, mon, time) = (tens * 10 + number(date, 5, 1), &date[..3], &date[7..15]);
    } else if matches(date, b"# @$$ #### ##:##:## *") {
        // RFC 1123 with one digit for the day
        year = (number(date, 6, 2) - 19) * 100 + number(date, 8, 2);
        (day, mon, time) = (number(date, 0, 1), &date[2..5], &date[11..19]);
    } else {
        return None;
    }
    if !(1..=31).contains(&day) {
        return None;
    }
    let (hour, min, sec) = (number(time, 0, 2), number(time, 3, 2), number(time, 6, 2));
    if hour > 23 || min > 59 || sec > 61 {
        return None;
    }
    let mon = 1 + MONTHS.iter().position(|m| m.eq_ignore_ascii_case(mon))? as i64;
    if day == 31 && matches!(mon, 4 | 6 | 9 | 11) {
        return None;
    }
    // The leap test of APR: fit for years since 1900.
    if mon == 2 && (day > 29 || (day == 29 && (year & 3 != 0 || (year % 100 == 0 && year % 400 != 100)))) {
        return None;
    }
    let secs = day_of_date(year + 1900, mon, day) * 86_400 + hour * 3600 + min * 60 + sec;
    (secs > 0).then_some(secs)
}

fn is_space(c: u8) -> bool {
    c == b' ' || (b'\t'..=b'\r').contains(&c)
}

fn number(at: &[u8], from: usize, digits: usize) -> i64 {
    at[from..from + digits].iter().fold(0, |n, d| n * 10 + i64::from(d.wrapping_sub(b'0')))
}

/// `apr_date_checkmask`: `@` an upper-case letter, `$` a lower-case one, `#` a digit, `~` a digit or a space,
/// `*` anything further, and any other character itself.
fn matches(text: &[u8], mask: &[u8]) -> bool {
    for (i, m) in mask.iter().enumerate() {
        let Some(c) = text.get(i) else { return *m == b'*' };
        let fits = match m {
            b'*' => return true,
            b'@' => c.is_ascii_uppercase(),
            b'$' => c.is_ascii_lowercase(),
            b'#' => c.is_ascii_digit(),
            b'~' => *c == b' ' || c.is_ascii_digit(),
            m => c == m,
        };
        if !fits {
            return false;
        }
    }
    text.len() == mask.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(b: &[u8]) -> &str {
        std::str::from_utf8(b).unwrap()
    }

    #[test]
    fn formats() {
        assert_eq!(s(&rfc822(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(s(&rfc822(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(s(&rfc822(951_782_400)), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(s(&rfc822(-1)), "Wed, 31 Dec 1969 23:59:59 GMT");
        assert_eq!(s(&rfc822(4_102_444_799)), "Thu, 31 Dec 2099 23:59:59 GMT");
        assert_eq!(s(&clf(971_211_336, -7 * 3600)), "[10/Oct/2000:13:55:36 -0700]");
        assert_eq!(s(&clf(971_211_336, 5 * 3600 + 1800)), "[11/Oct/2000:02:25:36 +0530]");
        assert_eq!(s(&ctime(784_111_777, 0)), "Sun Nov 06 08:49:37 1994");
        assert_eq!(s(&error_log(784_111_777_000_123, 0)), "Sun Nov 06 08:49:37.000123 1994");
    }

    #[test]
    fn cache_follows_the_clock() {
        let mut c = DateCache::new(784_111_777, 0);
        c.update(784_111_778, 3600);
        assert_eq!(s(c.http()), "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(s(c.clf()), "[06/Nov/1994:09:49:38 +0100]");
        assert_eq!(s(c.ctime()), "Sun Nov 06 09:49:38 1994");
    }

    #[test]
    fn parses_the_three_forms() {
        for form in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "  x 06 Nov 1994 08:49:37 whatever",
            "Sun Nov 06 08:49:37 1994 trailing",
        ] {
            assert_eq!(parse(form.as_bytes()), Some(784_111_777), "{form}");
        }
        assert_eq!(parse(b"Fri, 01-Jan-38 00:00:00 GMT"), Some(2_145_916_800));
        assert_eq!(parse(b"Fri, 01 Jan 2100 00:00:00 GMT"), Some(4_102_444_800));
    }

    #[test]
    fn refuses_what_apr_refuses() {
        for bad in [
            "",
            " ",
            "Sun",
            "0",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 NOV 1994 08:49:37 GMT",
            "Sun, 06 Xxx 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 32 Dec 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 1995 08:49:37 GMT",
            "Sun, 29 Feb 2100 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:62 GMT",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:37",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse(b"Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
    }

    #[test]
    fn formats_and_parses_back() {
        let mut secs = 1;
        while secs < 5_000_000_000 {
            assert_eq!(parse(&rfc822(secs)), Some(secs));
            secs += 8_640_007;
        }
    }
}
