//! Time: a monotonic clock for deadlines, local time for logs, dates that are formatted once a second.

use std::cell::RefCell;
use std::ffi::CStr;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

use crate::http::date::DateCache;

/// A point on the monotonic clock, in milliseconds.
pub type Millis = u64;

/// Now, for deadlines: the clock that is cheap to read, which moves on every few milliseconds.
#[inline]
pub fn now_ms() -> Millis {
    let time = read(ClockId::CLOCK_MONOTONIC_COARSE);
    (time.tv_sec() * 1_000 + time.tv_nsec() / 1_000_000) as Millis
}

/// Seconds east of UTC at the time `secs`.
pub fn local_offset(secs: i64) -> i32 {
    let time = secs as libc::time_t;
    // SAFETY: `tm` is plain data for which all zeroes are valid.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live local values; `localtime_r` keeps neither.
    let done = unsafe { libc::localtime_r(&raw const time, &raw mut tm) };
    if done.is_null() { 0 } else { tm.tm_gmtoff as i32 }
}

/// Appends local time as `format` says; more than 8 KiB of it is nothing: `apr_strftime`.
pub fn strftime(format: &CStr, secs: i64, out: &mut Vec<u8>) {
    format_time(format, secs, libc::localtime_r, out);
}

/// The same for UTC.
pub fn strftime_utc(format: &CStr, secs: i64, out: &mut Vec<u8>) {
    format_time(format, secs, libc::gmtime_r, out);
}

/// `explode` is `localtime_r` or `gmtime_r`.
fn format_time(
    format: &CStr,
    secs: i64,
    explode: unsafe extern "C" fn(*const libc::time_t, *mut libc::tm) -> *mut libc::tm,
    out: &mut Vec<u8>,
) {
    let time = secs as libc::time_t;
    // SAFETY: `tm` is plain data for which all zeroes are valid.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live local values; neither of the two functions keeps them.
    if unsafe { explode(&raw const time, &raw mut tm) }.is_null() {
        return;
    }
    let mut buffer = [0_u8; 8192];
    // SAFETY: the buffer is as long as said, the format ends with a zero byte, and `tm` was filled above.
    let length =
        unsafe { libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &raw const tm) };
    out.extend_from_slice(&buffer[..length.min(buffer.len())]);
}

thread_local! {
    static DATES: RefCell<Option<DateCache>> = const { RefCell::new(None) };
}

/// The dates of this second, formatted at most once a second in each thread.
pub fn with_dates<T>(secs: i64, take: impl FnOnce(&DateCache) -> T) -> T {
    DATES.with(|cell| {
        let mut cell = cell.borrow_mut();
        let cache = cell.get_or_insert_with(|| DateCache::new(secs, local_offset(secs)));
        if cache.secs() != secs {
            cache.update(secs, local_offset(secs));
        }
        take(cache)
    })
}

/// Seconds since 1970.
pub fn unix_secs() -> i64 {
    read(ClockId::CLOCK_REALTIME_COARSE).tv_sec()
}

/// Microseconds since 1970 (`apr_time_now`).
#[inline]
pub fn unix_micros() -> i64 {
    let time = read(ClockId::CLOCK_REALTIME);
    time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000
}

#[inline]
fn read(clock: ClockId) -> TimeSpec {
    // None of the clocks asked for here can be missing.
    clock_gettime(clock).unwrap_or(TimeSpec::new(0, 0))
}
