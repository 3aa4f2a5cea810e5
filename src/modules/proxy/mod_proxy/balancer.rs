//! Balancers as they are configured: their parameters and members. Who is chosen is the business of mod_proxy_balancer.

use std::sync::Arc;
use std::time::Duration;

use httpd_conf::{next_word, to_bytes};

use super::pass::{define_worker, runtime_dir};
use super::worker::{Kinds, Worker, find, strip_prefix_ci, without_socket};
use super::{SERVER, log_config};
use crate::config::directive::{Cmd, CmdError, Done, Forbidden};
use crate::http::status::{self, Status};
use crate::log::Level;
use crate::text::atoi;

/// A balancer: `proxy_balancer`.
#[derive(Clone, Default)]
pub struct Balancer {
    /// `balancer://name`, in lower case.
    pub name: String,
    /// The path that is passed to it.
    pub vpath: Option<String>,
    pub members: Vec<Arc<Worker>>,
    pub params: BalancerParams,
}

/// The `key=value` parameters of a balancer; `None` where nothing was said.
#[derive(Clone, Debug, Default)]
pub struct BalancerParams {
    /// The cookie's name, and the parameter's.
    pub sticky: Option<(String, String)>,
    /// `Some(None)`: no separator.
    pub sticky_separator: Option<Option<u8>>,
    pub no_failover: Option<bool>,
    pub timeout: Option<Duration>,
    pub max_attempts: Option<u32>,
    pub lbmethod: Option<String>,
    pub scolon_path_delim: Option<bool>,
    pub fail_on_status: Vec<Status>,
    pub fail_on_timeout: Option<bool>,
    pub nonce: Option<String>,
    pub growth: Option<u32>,
    pub force_recovery: Option<bool>,
}

/// Whether a URL names a balancer.
pub fn is_balancer(url: &str) -> bool {
    strip_prefix_ci(url, "balancer:").is_some()
}

/// The name of a balancer in its URL: without a path, in lower case.
fn name_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://").filter(|(_, rest)| !rest.is_empty())?;
    let host = rest.split('/').next().unwrap_or_default();
    Some(format!("{scheme}://{host}").to_ascii_lowercase())
}

/// The balancer that a URL names (`ap_proxy_get_balancer`).
pub fn find_balancer(balancers: &[Arc<Balancer>], url: &str) -> Option<usize> {
    let name = name_of(url)?;
    balancers.iter().position(|balancer| balancer.name == name)
}

/// The place of the balancer that a URL names; a new one where there is none.
pub(super) fn define(cmd: &mut Cmd, url: &str, vpath: Option<&str>) -> Result<usize, CmdError> {
    let Some(name) = name_of(url) else {
        return Err(format!("Bad syntax for a balancer name ({url})").into());
    };
    if name.len() >= 96 {
        return Err(format!("balancer name ({name}) too long").into());
    }
    let balancers = &mut cmd.server_conf(&SERVER)?.balancers;
    let at = match balancers.iter().position(|balancer| balancer.name == name) {
        Some(at) => at,
        None => {
            balancers.push(Arc::new(Balancer { name, ..Balancer::default() }));
            balancers.len() - 1
        }
    };
    if let (Some(balancer), Some(vpath)) = (balancers.get_mut(at), vpath) {
        Arc::make_mut(balancer).vpath = Some(vpath.to_owned());
    }
    Ok(at)
}

/// Sets a parameter of the balancer in this place (`set_balancer_param`).
pub(super) fn set_param(cmd: &mut Cmd, at: usize, key: &str, val: &str) -> Done {
    let knows_method = cmd.hooks().find_lbmethod(val);
    let Some(balancer) = cmd.server_conf(&SERVER)?.balancers.get_mut(at) else { return Ok(()) };
    let p = &mut Arc::make_mut(balancer).params;
    let number = atoi(to_bytes(val));
    let switch = |text: &'static str| match val.to_ascii_lowercase().as_str() {
        "on" => Ok(Some(true)),
        "off" => Ok(Some(false)),
        _ => Err(CmdError::from(text)),
    };
    match key.to_ascii_lowercase().as_str() {
        "stickysession" => {
            let (cookie, parameter) = val.split_once('|').unwrap_or((val, val));
            p.sticky = Some((cookie.to_owned(), parameter.to_owned()));
        }
        "stickysessionsep" => {
            p.sticky_separator = Some(match val.as_bytes() {
                [separator] => Some(*separator),
                _ if val.eq_ignore_ascii_case("off") => None,
                _ => return Err("stickysessionsep must be a single character or Off".into()),
            });
        }
        "nofailover" => p.no_failover = switch("failover must be On|Off")?,
        "timeout" if number < 1 => return Err("timeout must be at least one second".into()),
        "timeout" => p.timeout = Some(Duration::from_secs(number.unsigned_abs().into())),
        "maxattempts" if number < 0 => {
            return Err("maximum number of attempts must be a positive number".into());
        }
        "maxattempts" => p.max_attempts = Some(number.unsigned_abs()),
        "lbmethod" if !knows_method => return Err("unknown lbmethod".into()),
        "lbmethod" => p.lbmethod = Some(val.to_owned()),
        "scolonpathdelim" => p.scolon_path_delim = switch("scolonpathdelim must be On|Off")?,
        "failonstatus" => {
            p.fail_on_status.clear();
            for code in val.split([',', ' ']).filter(|code| !code.is_empty()) {
                let code =
                    Status::try_from(atoi(to_bytes(code))).ok().filter(|&c| status::is_valid_response(c));
                let wrong = "failonstatus must be one or more HTTP response codes";
                p.fail_on_status.push(code.ok_or(CmdError::from(wrong))?);
            }
        }
        "failontimeout" => p.fail_on_timeout = switch("failontimeout must be On|Off")?,
        "nonce" if val.len() > 64 => return Err("Provided nonce is too large".into()),
        "nonce" => p.nonce = Some(if val.eq_ignore_ascii_case("none") { "" } else { val }.to_owned()),
        "growth" if !(1..=100).contains(&number) => return Err("growth must be between 1 and 100".into()),
        "growth" => p.growth = Some(number.unsigned_abs()),
        "forcerecovery" => p.force_recovery = switch("forcerecovery must be On|Off")?,
        _ => return Err("unknown Balancer parameter".into()),
    }
    Ok(())
}

/// `BalancerMember`.
pub(super) fn add_member(cmd: &mut Cmd, args: &str) -> Done {
    cmd.check_context(Forbidden::HTACCESS)?;
    let (mut path, mut name) = (cmd.path.map(str::to_owned), None);
    let mut params: Vec<(String, String)> = Vec::new();
    let mut rest = args;
    while !rest.is_empty() {
        let word = next_word(&mut rest);
        match word.split_once('=') {
            Some((key, val)) => params.push((key.to_owned(), val.to_owned())),
            None if path.is_none() => path = Some(word),
            None if name.is_none() => name = Some(word),
            None if cmd.path.is_some() => {
                return Err("BalancerMember can not have a balancer name when defined in a location".into());
            }
            None => {
                let text = "Invalid BalancerMember parameter. Parameter must be in the form 'key=value'";
                return Err(text.into());
            }
        }
    }
    let Some(path) = path else {
        return Err("BalancerMember must define balancer name when outside <Proxy > section".into());
    };
    let Some(name) = name else { return Err("BalancerMember must define remote proxy server".into()) };
    let Some(real) = without_socket(&name) else {
        return Err("BalancerMember uses an invalid \"unix:\" URL".into());
    };
    let failed = |err: CmdError| CmdError::from(format!("BalancerMember {}", err.message));
    let at = define(cmd, &path.to_ascii_lowercase(), None).map_err(failed)?;
    let runtime_dir = runtime_dir(cmd);
    let conf = cmd.server_conf(&SERVER)?;
    let defaults = (conf.timeout, conf.receive_buffer_size, conf.io_buffer_size);
    let Some(balancer) = conf.balancers.get_mut(at) else { return Ok(()) };
    if let Some(known) = find(&balancer.members, real.as_bytes(), Kinds::Any) {
        let shared = balancer.members[known].full_name();
        let text = format!("Sharing worker '{shared}' instead of creating new worker '{name}'");
        log_config(cmd, Level::Info, "AH01149", &text);
        for (key, val) in params {
            let text =
                format!("Ignoring parameter '{key}={val}' for worker '{shared}' because of worker sharing");
            log_config(cmd, Level::Warn, "AH01150", &text);
        }
        return Ok(());
    }
    let mut worker = define_worker(&name, false, true, &runtime_dir, defaults).map_err(failed)?;
    for (key, val) in params {
        worker.set_param(&key, &val).map_err(|text| CmdError::from(format!("BalancerMember {text}")))?;
    }
    Arc::make_mut(balancer).members.push(Arc::new(worker));
    Ok(())
}

/// The balancers of a virtual host on top of those of the main server: of one that both have, what the host says counts,
/// with the main server's members (`merge_balancers`).
pub fn merge(base: &[Arc<Balancer>], child: &[Arc<Balancer>]) -> Vec<Arc<Balancer>> {
    let known = |name: &str| child.iter().any(|balancer| balancer.name == name);
    let mut all: Vec<_> = base.iter().filter(|balancer| !known(&balancer.name)).cloned().collect();
    for balancer in child {
        let below = base.iter().find(|below| below.name == balancer.name);
        all.push(match below {
            Some(below) => Arc::new(on_top(below, balancer)),
            None => balancer.clone(),
        });
    }
    all
}

fn on_top(base: &Balancer, child: &Balancer) -> Balancer {
    let (b, c) = (&base.params, &child.params);
    let mut fail_on_status = c.fail_on_status.clone();
    fail_on_status.extend(&b.fail_on_status);
    Balancer {
        name: child.name.clone(),
        vpath: child.vpath.clone().or_else(|| base.vpath.clone()),
        members: base.members.clone(),
        params: BalancerParams {
            sticky: c.sticky.clone().or_else(|| b.sticky.clone()),
            sticky_separator: c.sticky_separator.or(b.sticky_separator),
            no_failover: c.no_failover.or(b.no_failover),
            timeout: c.timeout.or(b.timeout),
            max_attempts: c.max_attempts.or(b.max_attempts),
            lbmethod: c.lbmethod.clone().or_else(|| b.lbmethod.clone()),
            scolon_path_delim: c.scolon_path_delim.or(b.scolon_path_delim),
            fail_on_status,
            fail_on_timeout: c.fail_on_timeout.or(b.fail_on_timeout),
            nonce: c.nonce.clone().or_else(|| b.nonce.clone()),
            growth: c.growth.or(b.growth),
            force_recovery: c.force_recovery.or(b.force_recovery),
        },
    }
}
