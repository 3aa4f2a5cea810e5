//! The page of server-status, and `?auto`.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use bstr::ByteSlice;

use super::counts::{Counts, is_there};
use crate::cli::version;
use crate::engine::scoreboard::{Row, Scoreboard, WorkerStatus};
use crate::http::escape::{escape_html, escape_logitem};
use crate::modules::core::tokens;
use crate::os::clock;
use crate::request::Request;

const KBYTE: f64 = 1024.0;
const MBYTE: f64 = 1024.0 * 1024.0;
const GBYTE: f64 = 1024.0 * 1024.0 * 1024.0;

pub(super) struct Report<'b> {
    pub board: &'b Scoreboard,
    pub counts: Counts,
    /// `?auto`.
    pub short: bool,
    /// `?notable`.
    pub no_table: bool,
    /// `ExtendedStatus`.
    pub extended: bool,
    /// Microseconds since 1970.
    pub now: u64,
}

/// Appends formatted text; memory takes all of it.
macro_rules! put {
    ($out:expr, $($text:tt)+) => {{ let _ = write!($out, $($text)+); }};
}

impl Report<'_> {
    pub fn write(&self, r: &Request) -> Vec<u8> {
        let mut out = String::with_capacity(8192);
        let uptime = self.heading(r, &mut out);
        if self.extended {
            self.totals(uptime, &mut out);
        }
        let threads = &self.counts.all;
        let (busy, graceful, idle) = (threads.busy, threads.graceful, threads.idle);
        if self.short {
            put!(out, "BusyWorkers: {busy}\nGracefulWorkers: {graceful}\nIdleWorkers: {idle}\n");
        } else {
            put!(
                out,
                "<dt>{busy} requests currently being processed, {graceful} workers gracefully restarting, {idle} idle workers</dt>\n</dl>"
            );
        }
        if r.runtime.mpm_name() == "event" {
            self.connections(r, &mut out);
        }
        self.letters(&mut out);
        if self.extended && !self.short {
            self.details(&mut out);
        } else if !self.short {
            out.push_str("<hr />To obtain a full report with current status information you need to use the <code>ExtendedStatus On</code> directive.\n");
        }
        if !self.short {
            out.push_str(&tokens::signature(r, "<hr />\n").to_str_lossy());
            out.push_str("</body></html>\n");
        }
        out.into_bytes()
    }

    /// Who this is, and since when; the seconds since then.
    fn heading(&self, r: &Request, out: &mut String) -> u64 {
        let (restart, generation) = match self.board.global() {
            Some(global) => (global.restart_time.load(Relaxed), global.generation.load(Relaxed)),
            None => (self.board.started, 0),
        };
        let uptime = self.now.saturating_sub(restart) / 1_000_000;
        let name = r.server_name().to_str_lossy();
        let (version, built) = (&r.runtime.banner.full, version::built());
        let (now, since) = (shown_time(self.now), shown_time(restart));
        let load = crate::os::host::load_average();
        let mpm = r.runtime.mpm_name();
        let config = r.runtime.generation + 1;
        if self.short {
            put!(out, "{name}\nServerVersion: {version}\nServerMPM: {mpm}\nServer Built: {built}\n");
            put!(out, "CurrentTime: {now}\nRestartTime: {since}\n");
            put!(out, "ParentServerConfigGeneration: {config}\nParentServerMPMGeneration: {generation}\n");
            put!(out, "ServerUptimeSeconds: {uptime}\nServerUptime:{}\n", duration(uptime));
            put!(out, "Load1: {:.2}\nLoad5: {:.2}\nLoad15: {:.2}\n", load[0], load[1], load[2]);
        } else {
            let name = escape_html(name.as_bytes()).to_str_lossy().into_owned();
            let via = r.connection.local_addr.ip();
            out.push_str("<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\" \"http://www.w3.org/TR/html4/strict.dtd\">\n<html><head>\n<title>Apache Status</title>\n</head><body>\n");
            put!(out, "<h1>Apache Server Status for {name} (via {via})</h1>\n\n");
            put!(out, "<dl><dt>Server Version: {version}</dt>\n<dt>Server MPM: {mpm}</dt>\n");
            put!(out, "<dt>Server Built: {built}\n</dt></dl><hr /><dl>\n");
            put!(out, "<dt>Current Time: {now}</dt>\n<dt>Restart Time: {since}</dt>\n");
            put!(out, "<dt>Parent Server Config. Generation: {config}</dt>\n");
            put!(out, "<dt>Parent Server MPM Generation: {generation}</dt>\n");
            put!(out, "<dt>Server uptime: {}</dt>\n", duration(uptime));
            put!(out, "<dt>Server load: {:.2} {:.2} {:.2}</dt>\n", load[0], load[1], load[2]);
        }
        uptime
    }

    /// `ExtendedStatus`: requests, bytes, processor time.
    fn totals(&self, uptime: u64, out: &mut String) {
        let counts = &self.counts;
        let (accesses, kbytes, millis) = (counts.accesses, counts.kbytes, counts.duration / 1000);
        // In hundredths, as `times` counts.
        let seconds = counts.cpu.map(|micros| (micros / 10_000) as f64 / 100.0);
        let [user, system, child_user, child_system] = seconds.map(|s| general(s, 6));
        let cpu: f64 = seconds.iter().sum();
        let up = uptime as f64;
        let bytes = KBYTE * kbytes as f64;
        if self.short {
            put!(out, "Total Accesses: {accesses}\nTotal kBytes: {kbytes}\nTotal Duration: {millis}\n");
            put!(
                out,
                "CPUUser: {user}\nCPUSystem: {system}\nCPUChildrenUser: {child_user}\nCPUChildrenSystem: {child_system}\n"
            );
            if cpu > 0.0 {
                put!(out, "CPULoad: {}\n", general(cpu / up * 100.0, 6));
            }
            put!(out, "Uptime: {uptime}\n");
            if uptime > 0 {
                put!(out, "ReqPerSec: {}\n", general(accesses as f64 / up, 6));
                put!(out, "BytesPerSec: {}\n", general(bytes / up, 6));
            }
            if accesses > 0 {
                put!(out, "BytesPerReq: {}\n", general(bytes / accesses as f64, 6));
                put!(out, "DurationPerReq: {}\n", general(millis as f64 / accesses as f64, 6));
            }
            return;
        }
        put!(out, "<dt>Total accesses: {accesses} - Total Traffic: {}", kbytes_shown(kbytes));
        put!(out, " - Total Duration: {millis}</dt>\n");
        put!(out, "<dt>CPU Usage: u{user} s{system} cu{child_user} cs{child_system}");
        if cpu > 0.0 {
            put!(out, " - {}% CPU load", general(cpu / up * 100.0, 3));
        }
        out.push_str("</dt>\n<dt>");
        if uptime > 0 {
            put!(out, "{} requests/sec - ", general(accesses as f64 / up, 3));
            put!(out, "{}/second", bytes_shown((bytes / up) as u64));
        }
        if accesses > 0 {
            if uptime > 0 {
                out.push_str(" - ");
            }
            put!(out, "{}/request - ", bytes_shown((bytes / accesses as f64) as u64));
            put!(out, "{} ms/request", general(millis as f64 / accesses as f64, 6));
        }
        out.push_str("</dt>\n");
    }

    /// What the connections of event wait for.
    fn connections(&self, r: &Request, out: &mut String) {
        if !self.short {
            out.push_str("\n\n<table rules=\"all\" cellpadding=\"1%\">\n<tr><th rowspan=\"2\">Slot</th><th rowspan=\"2\">PID</th><th rowspan=\"2\">Stopping</th><th colspan=\"2\">Connections</th>\n<th colspan=\"3\">Threads</th><th colspan=\"4\">Async connections</th></tr>\n<tr><th>total</th><th>accepting</th><th>busy</th><th>graceful</th><th>idle</th><th>wait-io</th><th>writing</th><th>keep-alive</th><th>closing</th></tr>\n");
        }
        let generation = self.board.global().map_or(r.runtime.generation, |g| g.generation.load(Relaxed));
        let (mut processes, mut stopping) = (0, 0);
        let mut sums = [0_u32; 5];
        for (place, process) in self.board.processes().iter().enumerate().filter(|(_, p)| is_there(p)) {
            let row = [
                &process.connections,
                &process.suspended,
                &process.write_completion,
                &process.keep_alive,
                &process.lingering_close,
            ]
            .map(|counter| counter.load(Relaxed));
            processes += 1;
            for (sum, count) in sums.iter_mut().zip(row) {
                *sum += count;
            }
            let quiescing = process.quiescing.load(Relaxed);
            stopping += u32::from(quiescing);
            if self.short {
                continue;
            }
            let dying = if quiescing { "yes" } else { "no" };
            let accepting = if process.not_accepting.load(Relaxed) { "no" } else { "yes" };
            let old = if process.generation.load(Relaxed) == generation { "" } else { " (old gen)" };
            let threads = self.counts.threads.get(place).copied().unwrap_or_default();
            let [total, wait_io, writing, keep_alive, closing] = row;
            put!(
                out,
                "<tr><td>{place}</td><td>{}</td><td>{dying}{old}</td><td>{total}</td><td>{accepting}</td><td>{}</td><td>{}</td><td>{}</td><td>{wait_io}</td><td>{writing}</td><td>{keep_alive}</td><td>{closing}</td></tr>\n",
                process.pid.load(Relaxed),
                threads.busy,
                threads.graceful,
                threads.idle
            );
        }
        let [total, wait_io, writing, keep_alive, closing] = sums;
        if self.short {
            put!(
                out,
                "Processes: {processes}\nStopping: {stopping}\nConnsTotal: {total}\nConnsAsyncWaitIO: {wait_io}\nConnsAsyncWriting: {writing}\nConnsAsyncKeepAlive: {keep_alive}\nConnsAsyncClosing: {closing}\n"
            );
        } else {
            let all = &self.counts.all;
            put!(
                out,
                "<tr><td>Sum</td><td>{processes}</td><td>{stopping}</td><td>{total}</td><td>&nbsp;</td><td>{}</td><td>{}</td><td>{}</td><td>{wait_io}</td><td>{writing}</td><td>{keep_alive}</td><td>{closing}</td></tr>\n</table>\n",
                all.busy,
                all.graceful,
                all.idle
            );
        }
    }

    /// A letter for each worker.
    fn letters(&self, out: &mut String) {
        out.push_str(if self.short { "Scoreboard: " } else { "<pre>" });
        for (at, (_, letter)) in self.counts.letters.iter().filter(|(_, l)| *l != ' ').enumerate() {
            out.push(*letter);
            if at % 64 == 63 && !self.short {
                out.push('\n');
            }
        }
        if self.short {
            out.push('\n');
            return;
        }
        out.push_str("</pre>\n<p>Scoreboard Key:<br />\n\"<b><code>_</code></b>\" Waiting for Connection, \n\"<b><code>S</code></b>\" Starting up, \n\"<b><code>R</code></b>\" Reading Request,<br />\n\"<b><code>W</code></b>\" Sending Reply, \n\"<b><code>K</code></b>\" Keepalive (read), \n\"<b><code>D</code></b>\" DNS Lookup,<br />\n\"<b><code>C</code></b>\" Closing connection, \n\"<b><code>L</code></b>\" Logging, \n\"<b><code>G</code></b>\" Gracefully finishing,<br /> \n\"<b><code>I</code></b>\" Idle cleanup of worker, \n\"<b><code>.</code></b>\" Open slot with no current process<br />\n</p>\n");
        if self.extended {
            return;
        }
        out.push_str("PID Key: <br />\n<pre>\n");
        let mut in_line = 0;
        for &(place, letter) in self.counts.letters.iter().filter(|(_, l)| *l != '.') {
            let pid = self.board.processes().get(place).map_or(0, |p| p.pid.load(Relaxed));
            put!(out, "   {pid} in state: {letter} ");
            in_line = (in_line + 1) % 3;
            out.push(if in_line == 0 { '\n' } else { ',' });
        }
        out.push_str("\n</pre>\n");
    }

    /// Each worker with its last request.
    fn details(&self, out: &mut String) {
        out.push_str(if self.no_table {
            "<hr /><h2>Server Details</h2>\n\n"
        } else {
            "\n\n<table border=\"0\"><tr><th>Srv</th><th>PID</th><th>Acc</th><th>M</th><th>CPU\n</th><th>SS</th><th>Req</th><th>Dur</th><th>Conn</th><th>Child</th><th>Slot</th><th>Client</th><th>Protocol</th><th>VHost</th><th>Request</th></tr>\n\n"
        });
        for place in 0..self.board.processes().len() {
            for row in self.board.rows(place) {
                let resting = matches!(row.status(), WorkerStatus::Ready | WorkerStatus::Dead);
                if !resting || row.sum(|score| &score.access_count) > 0 {
                    self.worker(place, &row, out);
                }
            }
        }
        if !self.no_table {
            out.push_str("</table>\n <hr /> <table>\n <tr><th>Srv</th><td>Child Server number - generation</td></tr>\n <tr><th>PID</th><td>OS process ID</td></tr>\n <tr><th>Acc</th><td>Number of accesses this connection / this child / this slot</td></tr>\n <tr><th>M</th><td>Mode of operation</td></tr>\n<tr><th>CPU</th><td>CPU usage, number of seconds</td></tr>\n<tr><th>SS</th><td>Seconds since beginning of most recent request</td></tr>\n <tr><th>Req</th><td>Milliseconds required to process most recent request</td></tr>\n <tr><th>Dur</th><td>Sum of milliseconds required to process all requests</td></tr>\n <tr><th>Conn</th><td>Kilobytes transferred this connection</td></tr>\n <tr><th>Child</th><td>Megabytes transferred this child</td></tr>\n <tr><th>Slot</th><td>Total megabytes transferred this slot</td></tr>\n </table>\n");
        }
    }

    fn worker(&self, place: usize, row: &Row<'_>, out: &mut String) {
        let Some(process) = self.board.processes().get(place) else { return };
        let (status, worker) = (row.status(), row.last());
        let generation = process.generation.load(Relaxed);
        let dead = status == WorkerStatus::Dead;
        let pid = if dead { "-".to_owned() } else { process.pid.load(Relaxed).to_string() };
        let number = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
        let (mine, all) = (row.sum(|score| &score.my_access_count), row.sum(|score| &score.access_count));
        let (my_bytes, bytes) =
            (row.sum(|score| &score.my_bytes_served), row.sum(|score| &score.bytes_served));
        // Who waits for a connection has none.
        let (conn, conn_bytes) = match status {
            WorkerStatus::Ready | WorkerStatus::Dead => (0, 0),
            _ => (worker.conn_count.load(Relaxed), number(&worker.conn_bytes)),
        };
        let since = self.now.saturating_sub(number(&worker.last_used)) / 1_000_000;
        let took = number(&worker.stop_time).saturating_sub(number(&worker.start_time)) / 1000;
        let millis = row.sum(|score| &score.duration) / 1000;
        let hundredths = |micros: u64| (micros / 10_000) as f64 / 100.0;
        let user = hundredths(number(&process.cpu.user));
        let system = hundredths(number(&process.cpu.system));
        let html = |text: Vec<u8>| escape_html(&text).to_str_lossy().into_owned();
        let (client, vhost) = (html(worker.client.get()), html(worker.vhost.get()));
        let protocol = html(worker.protocol.get());
        let request = html(escape_logitem(&worker.request.get()).into_owned());
        if self.no_table {
            put!(out, "<b>Server {place}-{generation}</b> ({pid}): {conn}|{mine}|{all} [{}] ", state(status));
            put!(out, "u{} s{} cu0 cs0\n {since} {took} {millis}(", general(user, 6), general(system, 6));
            put!(out, "{}|{}|{})\n", bytes_shown(conn_bytes), bytes_shown(my_bytes), bytes_shown(bytes));
            put!(out, " <i>{client} {{{request}}}</i> <i>({protocol})</i> <b>[{vhost}]</b><br />\n\n");
            return;
        }
        put!(out, "<tr><td><b>{place}-{generation}</b></td><td>{pid}</td><td>{conn}/{mine}/{all}</td><td>");
        match (status, status.letter()) {
            (
                WorkerStatus::Ready | WorkerStatus::Dead | WorkerStatus::Graceful | WorkerStatus::IdleKill,
                letter,
            ) => out.push(letter),
            (_, letter) => put!(out, "<b>{letter}</b>"),
        }
        put!(out, "\n</td><td>{:.2}</td><td>{since}</td><td>{took}</td><td>{millis}", user + system);
        put!(
            out,
            "</td><td>{:.1}</td><td>{:.2}</td><td>{:.2}\n",
            conn_bytes as f64 / KBYTE,
            my_bytes as f64 / MBYTE,
            bytes as f64 / MBYTE
        );
        put!(
            out,
            "</td><td>{client}</td><td>{protocol}</td><td nowrap>{vhost}</td><td nowrap>{request}</td></tr>\n\n"
        );
    }
}

fn state(status: WorkerStatus) -> &'static str {
    match status {
        WorkerStatus::Ready => "Ready",
        WorkerStatus::Starting => "Starting",
        WorkerStatus::BusyRead => "<b>Read</b>",
        WorkerStatus::BusyWrite => "<b>Write</b>",
        WorkerStatus::BusyKeepalive => "<b>Keepalive</b>",
        WorkerStatus::BusyLog => "<b>Logging</b>",
        WorkerStatus::BusyDns => "<b>DNS lookup</b>",
        WorkerStatus::Closing => "<b>Closing</b>",
        WorkerStatus::Dead => "Dead",
        WorkerStatus::Graceful => "Graceful",
        WorkerStatus::IdleKill => "Dying",
    }
}

/// `Monday, 23-Nov-2026 05:46:51 UTC`
fn shown_time(micros: u64) -> String {
    let mut out = Vec::new();
    clock::strftime(c"%A, %d-%b-%Y %H:%M:%S %Z", (micros / 1_000_000) as i64, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// ` 1 day 2 hours`: `show_time`.
fn duration(seconds: u64) -> String {
    let mut out = String::new();
    let parts = [
        (seconds / 86_400, "day"),
        (seconds / 3600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
        put!(out, " {count} {unit}{}", if count == 1 { "" } else { "s" });
    }
    out
}

/// `format_byte_out`.
fn bytes_shown(bytes: u64) -> String {
    let size = bytes as f64;
    if size < 5.0 * KBYTE {
        format!("{bytes} B")
    } else if size < MBYTE / 2.0 {
        format!("{:.1} kB", size / KBYTE)
    } else if size < GBYTE / 2.0 {
        format!("{:.1} MB", size / MBYTE)
    } else {
        format!("{:.1} GB", size / GBYTE)
    }
}

/// `format_kbyte_out`.
fn kbytes_shown(kbytes: u64) -> String {
    let size = kbytes as f64;
    if size < KBYTE {
        format!("{kbytes} kB")
    } else if size < MBYTE {
        format!("{:.1} MB", size / KBYTE)
    } else {
        format!("{:.1} GB", size / MBYTE)
    }
}

/// A number with so many digits that count, in the shorter form: `%g`, as APR prints it.
fn general(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value.is_nan() || value == 0.0 { "0".to_owned() } else { "inf".to_owned() };
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let without_zeros = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        let mut mantissa = without_zeros(mantissa);
        // APR leaves no number without its point before the exponent's letter out of the two digits.
        put!(mantissa, "e{sign}{:02}", exponent.abs());
        return mantissa;
    }
    let decimals = usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0);
    // APR, unlike C, has no zero before the point.
    let text = without_zeros(&format!("{value:.decimals$}"));
    text.strip_prefix("0.").map_or(text.clone(), |rest| format!(".{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let all = [0.0, 1.0, 0.5, 123_456.7, 1_234_567.0, 0.000_01, 12.34].map(|n| general(n, 6));
        assert_eq!(all, ["0", "1", ".5", "123457", "1.23457e+06", "1e-05", "12.34"]);
        assert_eq!(general(12.345, 3), "12.3");
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration(90_061), " 1 day 1 hour 1 minute 1 second");
        assert_eq!(duration(0), "");
        assert_eq!(bytes_shown(5000), "5000 B");
        assert_eq!(bytes_shown(10_240), "10.0 kB");
        assert_eq!(kbytes_shown(2048), "2.0 MB");
    }
}
