//! Workers: what is known of one backend, how its connections are to be handled, and how one is found for a URL.
//!
//! Answers to `proxy_worker` of `mod_proxy.h` and `ap_proxy_define_worker_ex`, `ap_proxy_get_worker_ex`, `set_worker_param`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use httpd_conf::to_bytes;

use super::pool::Pool;
use super::state::{self, Place, Score, flag};
use crate::http::uri::{Uri, port_of_scheme};
use crate::modules::mpm::parse_timeout;
use crate::text::atoi;
use crate::text::atol;

/// `AP_IOBUFSIZE`.
pub const IO_BUFFER_SIZE: usize = 8192;
/// `HUGE_STRING_LEN`: how long a line of a reply's head may be, unless `responsefieldsize` says otherwise.
pub const RESPONSE_FIELD_SIZE: usize = 8192;

/// Whether what came of a reply is sent on at once (`flushpackets`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FlushPackets {
    /// When enough of it is there.
    #[default]
    Off,
    /// At once.
    On,
    /// When nothing more comes for a while.
    Auto,
}

/// The `key=value` parameters of a worker; `None` where nothing was said.
#[derive(Clone, Debug, Default)]
pub struct Params {
    pub lbfactor: Option<i32>,
    pub retry: Option<Duration>,
    pub ttl: Option<Duration>,
    pub min: Option<u32>,
    pub max: Option<u32>,
    pub smax: Option<u32>,
    pub acquire: Option<Duration>,
    pub timeout: Option<Duration>,
    pub connection_timeout: Option<Duration>,
    pub io_buffer_size: Option<usize>,
    pub receive_buffer_size: Option<usize>,
    pub keepalive: bool,
    pub disable_reuse: Option<bool>,
    /// In seconds; -1: for ever.
    pub address_ttl: Option<i32>,
    pub route: String,
    pub redirect: String,
    /// Bits to be set, and bits to be taken, in [`flag`].
    pub status: (u32, u32),
    pub flush_packets: FlushPackets,
    pub flush_wait: Option<Duration>,
    pub ping: Option<Duration>,
    pub lbset: u32,
    pub flusher: String,
    pub upgrade: String,
    pub response_field_size: Option<usize>,
    pub secret: String,
}

/// A worker.
pub struct Worker {
    /// `scheme://host[:port]/path`, as it is compared with URLs (`name_ex`).
    pub name: String,
    pub scheme: String,
    pub hostname: String,
    pub port: u16,
    /// The socket's path, where the backend is no network address.
    pub uds_path: Option<String>,
    /// Its name has `$1` and the like in it.
    pub is_match: bool,
    /// It belongs to a balancer: its errors stop it.
    pub is_member: bool,
    /// Its address can't be kept: it is another one with every request.
    pub address_varies: bool,
    /// What was said of it.
    pub params: Params,
    /// Its connections of this process.
    pub pool: Pool,
    place: OnceLock<Arc<Place>>,
    own: Score,
}

impl Clone for Worker {
    /// The same worker for another server; it has no connections yet.
    fn clone(&self) -> Worker {
        Worker {
            name: self.name.clone(),
            scheme: self.scheme.clone(),
            hostname: self.hostname.clone(),
            port: self.port,
            uds_path: self.uds_path.clone(),
            is_match: self.is_match,
            is_member: self.is_member,
            address_varies: self.address_varies,
            params: self.params.clone(),
            pool: Pool::default(),
            place: self.place.clone(),
            own: Score::default(),
        }
    }
}

/// The scheme and URL behind a `unix:/path|` (`ap_proxy_de_socketfy`).
pub fn without_socket(url: &str) -> Option<String> {
    let Some(rest) = strip_prefix_ci(url, "unix:") else { return Some(url.to_owned()) };
    let Some((_, target)) = rest.split_once('|') else { return Some(url.to_owned()) };
    let (_, behind) = target.split_once(':')?;
    Some(match behind {
        "" => format!("{target}//localhost"),
        "//" => format!("{target}localhost"),
        _ => target.to_owned(),
    })
}

/// `text` behind `prefix`, whatever the case of its letters.
pub fn strip_prefix_ci<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let start = text.get(..prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

/// The port that a scheme has: those of `apr_uri` and a few more (`ap_proxy_port_of_scheme`).
pub fn proxy_port_of_scheme(scheme: &str) -> u16 {
    port_of_scheme(scheme.as_bytes()).unwrap_or(match scheme.to_ascii_lowercase().as_str() {
        "fcgi" => 8000,
        "ajp" => 8009,
        "scgi" => 4000,
        "h2c" | "ws" => 80,
        "h2" | "wss" => 443,
        _ => 0,
    })
}

/// Takes the `$1` and the like out of a URL's port, which would not be a number; says whether the address varies.
fn dollars_of_port(url: &str) -> (String, Option<String>, bool) {
    let Some(authority) = url.find("://").map(|at| at + 3) else { return (url.to_owned(), None, false) };
    let end = url[authority..].find([':', '/']).map_or(url.len(), |at| authority + at);
    let mut varies = url[authority..end].contains('$');
    if !url[end..].starts_with(':') {
        return (url.to_owned(), None, varies);
    }
    let path = url[end..].find('/').map_or(url.len(), |at| end + at);
    let bytes = url.as_bytes();
    let is_reference =
        |at: &usize| bytes[*at] == b'$' && bytes.get(at + 1).is_some_and(|digit| digit.is_ascii_digit());
    let Some(dollar) = (end + 1..path).find(is_reference) else { return (url.to_owned(), None, varies) };
    varies = true;
    (format!("{}{}", &url[..dollar], &url[path..]), Some(url[dollar..path].to_owned()), varies)
}

impl Worker {
    /// A worker for this URL (`ap_proxy_define_worker_ex`).
    pub fn define(
        url: &str,
        is_match: bool,
        is_member: bool,
        runtime_dir: &dyn Fn(&str) -> String,
    ) -> Result<Worker, String> {
        let socket = strip_prefix_ci(url, "unix:").and_then(|rest| rest.split_once('|'));
        let (uds_path, target) = match socket {
            Some((path, target)) => (Some(runtime_dir(path)), target),
            None => (None, url),
        };
        let (plain, dollars, address_varies) =
            if is_match { dollars_of_port(target) } else { (target.to_owned(), None, false) };
        let mut uri = Uri::default();
        uri.parse(plain.as_bytes(), 0).map_err(|_| format!("Unable to parse URL: {url}"))?;
        let part = |range: &Option<std::ops::Range<usize>>| range.clone().and_then(|range| plain.get(range));
        let absolute = || format!("URL must be absolute!: {url}");
        let scheme = part(&uri.scheme).ok_or_else(absolute)?.to_ascii_lowercase();
        let hostname = match part(&uri.hostname).filter(|host| !host.is_empty()) {
            Some(host) => host.to_ascii_lowercase(),
            None if uds_path.is_some() => "localhost".to_owned(),
            None => return Err(absolute()),
        };
        let port_of_scheme = proxy_port_of_scheme(&scheme);
        let port = if uri.port == port_of_scheme { 0 } else { uri.port };
        let mut name = format!("{scheme}://");
        if let Some(user) = part(&uri.user) {
            name += user;
            if let Some(password) = part(&uri.password) {
                name += &format!(":{password}");
            }
            name.push('@');
        }
        name += &if hostname.contains(':') { format!("[{hostname}]") } else { hostname.clone() };
        if port != 0 {
            name += &format!(":{port}");
        }
        name += dollars.as_deref().unwrap_or_default();
        name += part(&uri.path).unwrap_or_default();
        if let Some(query) = part(&uri.query) {
            name += &format!("?{query}");
        }
        if hostname.len() >= 512 {
            return Err(format!("worker hostname ({hostname}) too long"));
        }
        if let Some(path) = uds_path.as_ref().filter(|path| path.len() >= 96) {
            return Err(format!("worker uds path ({path}) too long"));
        }
        let disable = address_varies || is_match && name.contains('$');
        let own = Score::default();
        if !is_member {
            own.status.store(flag::IGNORE_ERRORS, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(Worker {
            scheme,
            hostname,
            port: if port == 0 { port_of_scheme } else { port },
            uds_path,
            is_match,
            is_member,
            address_varies,
            params: Params { disable_reuse: disable.then_some(true), ..Params::default() },
            pool: Pool::default(),
            place: OnceLock::new(),
            own,
            name,
        })
    }

    /// The one for backends without a worker: it keeps no connections and no address.
    pub fn generic(direction: &str) -> Worker {
        let own = Score::default();
        let status = flag::IGNORE_ERRORS | flag::GENERIC;
        own.status.store(status, std::sync::atomic::Ordering::Relaxed);
        Worker {
            name: format!("proxy:{direction}"),
            scheme: "*".to_owned(),
            hostname: "*".to_owned(),
            port: 80,
            uds_path: None,
            is_match: false,
            is_member: false,
            address_varies: true,
            params: Params { disable_reuse: Some(false), ..Params::default() },
            pool: Pool::default(),
            place: OnceLock::new(),
            own,
        }
    }

    /// Its numbers, of all processes.
    pub fn score(&self) -> &Score {
        self.place.get().map_or(&self.own, |place| place.score())
    }

    /// Shares its numbers with all processes, under this name; what `status=` says counts for new ones.
    pub fn share(&self, name: &str) -> std::io::Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        let (place, is_new) = state::score_of(name)?;
        if is_new {
            let score = place.score();
            let (set, taken) = self.params.status;
            let status = self.own.status.load(Relaxed);
            score.status.store((status | set) & !taken, Relaxed);
            score.lbfactor.store(self.params.lbfactor.unwrap_or(100), Relaxed);
        }
        // Virtual hosts that inherit it share it, too.
        _ = self.place.set(place);
        Ok(())
    }

    /// As logs name it (`ap_proxy_worker_name`).
    pub fn full_name(&self) -> String {
        match &self.uds_path {
            Some(path) => format!("unix:{path}|{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether the address that was found for it is kept.
    pub fn keeps_address(&self) -> bool {
        !self.address_varies
            && self.params.address_ttl != Some(0)
            && (self.params.address_ttl.is_some() || self.params.disable_reuse != Some(true))
    }

    /// Whether connections to it are kept.
    pub fn keeps_connections(&self) -> bool {
        self.params.disable_reuse != Some(true) && self.keeps_address()
    }

    /// How long it stays as failed.
    pub fn retry(&self) -> Duration {
        self.params.retry.unwrap_or(Duration::from_secs(60))
    }

    /// Whether a connection to it may become one of another protocol (`ap_proxy_worker_can_upgrade`).
    pub fn can_upgrade(&self, upgrade: &[u8], default: Option<&str>) -> bool {
        let own = self.params.upgrade.as_str();
        if own.is_empty() {
            return default.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(upgrade));
        }
        own == "*"
            || own.as_bytes().eq_ignore_ascii_case(upgrade)
            || std::str::from_utf8(upgrade)
                .is_ok_and(|upgrade| crate::table::find_token(own.as_bytes(), upgrade))
    }

    /// Sets a parameter (`set_worker_param`).
    pub fn set_param(&mut self, key: &str, val: &str) -> Result<(), String> {
        let number = atoi(to_bytes(val));
        let natural = |least: i32, text: &str| {
            u32::try_from(number).ok().filter(|_| number >= least).ok_or(text.to_owned())
        };
        let switch = |text: &str| match val.to_ascii_lowercase().as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(text.to_owned()),
        };
        let time = |unit: Duration, wrong: &str, short: &str| match parse_timeout(val, unit) {
            None => Err(wrong.to_owned()),
            Some(time) if time < Duration::from_millis(1) => Err(short.to_owned()),
            Some(time) => Ok(Some(time)),
        };
        let size = |text: &str| match atol(val) {
            0 => Ok(0),
            size @ 512.. => Ok(size as usize),
            _ => Err(text.to_owned()),
        };
        let fits = |most: usize, what: &str| match val.len() < most {
            true => Ok(val.to_owned()),
            false => Err(format!("{what} length must be < {most} characters")),
        };
        let second = Duration::from_secs(1);
        let p = &mut self.params;
        match key.to_ascii_lowercase().as_str() {
            "loadfactor" => {
                let factor = (leading_float(val) * 100.0) as i32;
                if !(100..=10_000).contains(&factor) {
                    return Err("LoadFactor must be a number between 1..100".to_owned());
                }
                p.lbfactor = Some(factor);
            }
            "retry" => {
                p.retry = Some(Duration::from_secs(natural(0, "Retry must be a positive value")?.into()))
            }
            "ttl" => p.ttl = Some(Duration::from_secs(natural(1, "TTL must be at least one second")?.into())),
            "min" => p.min = Some(natural(0, "Min must be a positive number")?),
            "max" => p.max = Some(natural(0, "Max must be a positive number")?),
            "smax" => p.smax = Some(natural(0, "Smax must be a positive number")?),
            "acquire" => {
                let short = "Acquire must be at least one millisecond";
                p.acquire = time(Duration::from_millis(1), "Acquire timeout has wrong format", short)?;
            }
            "timeout" => {
                p.timeout =
                    Some(Duration::from_secs(natural(1, "Timeout must be at least one second")?.into()));
            }
            "iobuffersize" => {
                let size = size("IOBufferSize must be >= 512 bytes, or 0 for system default.")?;
                p.io_buffer_size = Some(if size == 0 { IO_BUFFER_SIZE } else { size });
            }
            "receivebuffersize" => {
                if number < 512 && number != 0 {
                    return Err("ReceiveBufferSize must be >= 512 bytes, or 0 for system default.".to_owned());
                }
                p.receive_buffer_size = usize::try_from(number).ok();
            }
            "keepalive" => p.keepalive = switch("KeepAlive must be On|Off")?,
            "disablereuse" => p.disable_reuse = Some(switch("DisableReuse must be On|Off")?),
            "enablereuse" => p.disable_reuse = Some(!switch("EnableReuse must be On|Off")?),
            "addressttl" => {
                let ttl = match val {
                    "-1" => Some(-1),
                    val => parse_timeout(val, second)
                        .filter(|ttl| ttl.subsec_nanos() == 0)
                        .and_then(|ttl| i32::try_from(ttl.as_secs()).ok()),
                };
                let wrong = "AddressTTL must be -1 or a number of seconds not exceeding (2147483647)";
                p.address_ttl = Some(ttl.ok_or(wrong.to_owned())?);
            }
            "route" => p.route = fits(64, "Route")?,
            "redirect" => p.redirect = fits(64, "Redirect")?,
            "status" => {
                let (mut set, mut letters) = (true, val.chars());
                while let Some(mut letter) = letters.next() {
                    if let '+' | '-' = letter {
                        set = letter == '+';
                        letter = letters.next().unwrap_or('\0');
                    }
                    let bit = flag::by_letter(letter).ok_or("Unknown status parameter option".to_owned())?;
                    let (on, off) = &mut p.status;
                    (*on, *off) = if set { (*on | bit, *off & !bit) } else { (*on & !bit, *off | bit) };
                }
            }
            "flushpackets" => {
                p.flush_packets = match val.to_ascii_lowercase().as_str() {
                    "on" => FlushPackets::On,
                    "off" => FlushPackets::Off,
                    "auto" => FlushPackets::Auto,
                    _ => return Err("flushpackets must be on|off|auto".to_owned()),
                }
            }
            "flushwait" => {
                if !(0..=1000).contains(&number) {
                    let text = "flushwait must be <= 1000, or 0 for system default of 10 millseconds.";
                    return Err(text.to_owned());
                }
                p.flush_wait = u64::try_from(number).ok().filter(|&ms| ms > 0).map(Duration::from_millis);
            }
            "ping" => {
                let short = "Ping/Pong timeout must be at least one millisecond";
                p.ping = time(second, "Ping/Pong timeout has wrong format", short)?;
            }
            "lbset" => {
                p.lbset = natural(0, "lbset must be between 0 and 99")?;
                if p.lbset > 99 {
                    return Err("lbset must be between 0 and 99".to_owned());
                }
            }
            "connectiontimeout" => {
                let short = "Connectiontimeout must be at least one millisecond.";
                p.connection_timeout = time(second, "Connectiontimeout has wrong format", short)?;
            }
            "flusher" => p.flusher = fits(16, "flusher name")?,
            "upgrade" => {
                let any = val.eq_ignore_ascii_case("ANY");
                p.upgrade = if any { "*".to_owned() } else { fits(16, "upgrade protocol")? };
            }
            "responsefieldsize" => {
                let size = usize::try_from(atol(val)).map_err(|_| {
                    "ResponseFieldSize must be greater than 0 bytes, or 0 for system default.".to_owned()
                })?;
                p.response_field_size = Some(if size == 0 { RESPONSE_FIELD_SIZE } else { size });
            }
            "secret" => p.secret = fits(64, "Secret")?,
            _ => return Err("unknown Worker parameter".to_owned()),
        }
        Ok(())
    }
}

/// A number with a point, as far as `text` begins with one (`atof`).
fn leading_float(text: &str) -> f64 {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-').unwrap_or(text.len());
    text[..end].parse().unwrap_or(0.0)
}

/// Which kinds of workers are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// Those whose names URLs begin with.
    Prefix,
    /// Those with `$1` and the like.
    Match,
    /// Both.
    Any,
}

/// The place of the worker whose name fits `url` best (`ap_proxy_get_worker_ex`).
pub fn find(workers: &[Arc<Worker>], url: &[u8], kinds: Kinds) -> Option<usize> {
    let colon = url.iter().position(|&c| c == b':')?;
    let authority = url[colon..].strip_prefix(b"://").filter(|rest| !rest.is_empty())?;
    let least =
        authority.iter().position(|&c| c == b'/').map_or(url.len(), |at| url.len() - authority.len() + at);
    // The URL's scheme and host are nearly always in lower case already.
    let mut lower = None;
    if url[..least].iter().any(u8::is_ascii_uppercase) {
        let mut copy = url.to_vec();
        copy[..least].make_ascii_lowercase();
        lower = Some(copy);
    }
    let url = lower.as_deref().unwrap_or(url);
    let mut best: Option<(usize, usize)> = None;
    for (index, worker) in workers.iter().enumerate() {
        let name = worker.name.as_bytes();
        let fits = name.len() <= url.len()
            && name.len() >= least
            && best.is_none_or(|(_, len)| name.len() > len)
            && match worker.is_match {
                false => kinds != Kinds::Match && url.starts_with(name),
                true => kinds != Kinds::Prefix && matches_reference(url, name) == Matched::Yes,
            };
        if fits {
            best = Some((index, name.len()));
        }
    }
    best.map(|(index, _)| index)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Matched {
    Yes,
    No,
    /// The text is over.
    Abort,
}

/// Whether `text` begins with what `expected` stands for, in which `$1` is anything (`ap_proxy_strcmp_ematch`).
fn matches_reference(text: &[u8], expected: &[u8]) -> Matched {
    let reference =
        |at: usize| expected.get(at) == Some(&b'$') && expected.get(at + 1).is_some_and(u8::is_ascii_digit);
    let (mut x, mut y) = (0, 0);
    while y < expected.len() {
        if reference(y) {
            while reference(y) {
                y += 2;
            }
            if y >= expected.len() {
                return Matched::Yes;
            }
            while x < text.len() {
                match matches_reference(&text[x..], &expected[y..]) {
                    Matched::No => x += 1,
                    other => return other,
                }
            }
            return Matched::Abort;
        }
        let Some(&c) = text.get(x) else { return Matched::Abort };
        if expected[y] == b'\\' {
            y += 1;
        }
        if expected.get(y) != Some(&c) {
            return Matched::No;
        }
        x += 1;
        y += 1;
    }
    Matched::Yes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(url: &str, is_match: bool) -> Worker {
        Worker::define(url, is_match, false, &str::to_owned).expect("a worker")
    }

    #[test]
    fn names() {
        assert_eq!(worker("HTTP://Host:80/A", false).name, "http://host/A");
        assert_eq!(worker("unix:/run/s|http://", false).full_name(), "unix:/run/s|http://localhost");
        let varying = worker("http://h:80$1/x$2", true);
        assert!(varying.address_varies && varying.name == "http://h$1/x$2");
        assert!(Worker::define("/x", false, false, &str::to_owned).is_err());
    }

    #[test]
    fn the_longest_name_is_taken() {
        let workers: Vec<_> =
            ["http://h/", "http://h/a", "http://h2/"].map(|url| Arc::new(worker(url, false))).into();
        assert_eq!(find(&workers, b"http://h/ab", Kinds::Any), Some(1));
        assert_eq!(find(&workers, b"HTTP://H/b", Kinds::Any), Some(0));
        assert_eq!(find(&workers, b"http://x/b", Kinds::Any), None);
        assert_eq!(find(&workers, b"http://", Kinds::Any), None);
        let matching = [Arc::new(worker("http://h/$1/x", true))];
        assert_eq!(find(&matching, b"http://h/anything/x", Kinds::Any), Some(0));
        assert_eq!(find(&matching, b"http://h/anything/y", Kinds::Any), None);
    }
}
