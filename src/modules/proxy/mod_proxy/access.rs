//! `<Proxy>` and `<ProxyMatch>`: settings for what goes to backends.

use std::sync::Arc;

use httpd_conf::next_word;

use super::pass::{define_worker, runtime_dir};
use super::worker::{Kinds, find, without_socket};
use super::{SERVER, balancer};
use crate::config::directive::{Allowed, Cmd, CmdError, Done, Forbidden};
use crate::config::read::Inside;
use crate::config::section::{Matcher, Section};
use crate::fnmatch::{Flags, fnmatch};
use crate::regex::{Regex, default_flags};
use crate::request::Request;

/// One section.
pub struct ProxySection(Section);

/// What is set, for `ProxySet` and the arguments of a section: a worker or a balancer, by its place.
#[derive(Clone, Copy)]
pub(super) enum Subject {
    Worker(usize),
    Balancer(usize),
}

pub(super) fn proxy(cmd: &mut Cmd, _: &str) -> Done {
    section(cmd, false)
}

pub(super) fn proxy_match(cmd: &mut Cmd, _: &str) -> Done {
    section(cmd, true)
}

fn section(cmd: &mut Cmd, is_match: bool) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let name = cmd.name;
    let args = cmd.node.section_args(name.trim_start_matches('<'))?.to_owned();
    let mut rest = args.as_str();
    let word = next_word(&mut rest);
    let path = super::worker::strip_prefix_ci(&word, "proxy:").unwrap_or(&word).to_owned();
    let matcher = match is_match {
        true => {
            let regex = Regex::new(&path, default_flags()).map_err(|_| "Regex could not be compiled")?;
            Matcher::Regex(Arc::new(regex))
        }
        false => Section::path_matcher(&path),
    };
    let overrides = Some(Allowed::ALL.or(Allowed::ACCESS_CONF));
    let conf = cmd.walk_section(Inside { path: Some(&path), overrides, server: None })?;
    let is_glob = httpd_conf::fnmatch_test(path.as_bytes());
    let section = ProxySection(Section::new(&path, matcher, conf));
    cmd.server_conf(&SERVER)?.sections.push(Arc::new(section));
    if rest.is_empty() {
        return Ok(());
    }
    if is_match {
        return Err("Multiple <ProxyMatch> arguments not (yet) supported.".into());
    }
    if is_glob {
        return Err(format!("{name}> arguments are not supported for wildchar url.").into());
    }
    if !path.contains(':') {
        return Err(format!("{name}> arguments are not supported for non url.").into());
    }
    let invalid = "<Proxy/ProxyMatch > uses an invalid \"unix:\" URL";
    let subject = define_subject(cmd, &path, Kinds::Prefix, invalid, &format!("{name} "))?;
    while !rest.is_empty() {
        let word = next_word(&mut rest);
        let Some((key, val)) = word.split_once('=') else {
            return Err("Invalid Proxy parameter. Parameter must be in the form 'key=value'".into());
        };
        set(cmd, subject, key, val)
            .map_err(|err| CmdError::from(format!("{name} {} {key}={val}; {path}", err.message)))?;
    }
    Ok(())
}

/// The worker or balancer of this name; a new one where there is none.
fn define_subject(
    cmd: &mut Cmd,
    url: &str,
    kinds: Kinds,
    invalid: &str,
    before: &str,
) -> Result<Subject, CmdError> {
    let failed = |err: CmdError| CmdError::from(format!("{before}{}", err.message));
    if balancer::is_balancer(url) {
        return Ok(Subject::Balancer(balancer::define(cmd, url, Some("/")).map_err(failed)?));
    }
    let real = without_socket(url).ok_or(CmdError::from(invalid))?;
    let runtime_dir = runtime_dir(cmd);
    let conf = cmd.server_conf(&SERVER)?;
    if let Some(at) = find(&conf.workers, real.as_bytes(), kinds) {
        return Ok(Subject::Worker(at));
    }
    let is_match = kinds == Kinds::Match;
    let worker = define_worker(url, is_match, false, &runtime_dir, (None, None, None)).map_err(failed)?;
    conf.workers.push(Arc::new(worker));
    Ok(Subject::Worker(conf.workers.len() - 1))
}

/// Sets a parameter of a worker or a balancer.
fn set(cmd: &mut Cmd, subject: Subject, key: &str, val: &str) -> Done {
    match subject {
        Subject::Balancer(at) => balancer::set_param(cmd, at, key, val),
        Subject::Worker(at) => match cmd.server_conf(&SERVER)?.workers.get_mut(at) {
            Some(worker) => Ok(Arc::make_mut(worker).set_param(key, val)?),
            None => Ok(()),
        },
    }
}

/// `ProxySet`.
pub(super) fn proxy_set(cmd: &mut Cmd, args: &str) -> Done {
    cmd.check_context(Forbidden::HTACCESS)?;
    let mut rest = args;
    // The section around it names what is set.
    let around = cmd
        .parents
        .map(|parents| parents.innermost())
        .filter(|node| super::worker::strip_prefix_ci(&node.name, "Proxy").is_some());
    let (name, kinds) = match around {
        Some(node) => {
            let mut words: &str = &node.args;
            let word = next_word(&mut words);
            let name = word.split('>').next().unwrap_or_default().to_owned();
            (name, if node.name.eq_ignore_ascii_case("ProxyMatch") { Kinds::Match } else { Kinds::Prefix })
        }
        None => (next_word(&mut rest), Kinds::Any),
    };
    let invalid = "ProxySet uses an invalid \"unix:\" URL";
    let subject = match around {
        Some(_) => define_subject(cmd, &name, kinds, invalid, "ProxySet ")?,
        None => {
            let conf = cmd.server_conf(&SERVER)?;
            if balancer::is_balancer(&name) {
                let at = balancer::find_balancer(&conf.balancers, &name);
                Subject::Balancer(at.ok_or_else(|| format!("ProxySet can not find '{name}' Balancer."))?)
            } else {
                let real = without_socket(&name).ok_or(CmdError::from(invalid))?;
                let at = find(&conf.workers, real.as_bytes(), kinds);
                Subject::Worker(at.ok_or_else(|| format!("ProxySet can not find '{name}' Worker."))?)
            }
        }
    };
    while !rest.is_empty() {
        let word = next_word(&mut rest);
        let Some((key, val)) = word.split_once('=') else {
            return Err("Invalid ProxySet parameter. Parameter must be in the form 'key=value'".into());
        };
        set(cmd, subject, key, val)
            .map_err(|err| CmdError::from(format!("ProxySet: {} {key}={val}; {name}", err.message)))?;
    }
    Ok(())
}

/// Puts the sections for the request's backend onto its settings (`proxy_walk`).
pub(super) fn walk(r: &mut Request) {
    let server = r.server.clone();
    let sections = &server.conf.get(&SERVER).sections;
    if sections.is_empty() {
        return;
    }
    let runtime = r.runtime.clone();
    let url = r.filename.get(6..).unwrap_or_default().to_vec();
    for ProxySection(section) in sections.iter().map(|section| &**section) {
        let matched = match &section.matcher {
            Matcher::Regex(regex) => r.match_section(regex, &url),
            Matcher::Glob(pattern) => fnmatch(pattern, &url, Flags::default()),
            Matcher::Plain(name) => url.starts_with(name),
            _ => false,
        };
        if matched {
            r.dir = runtime.merges.overlay(&r.dir, section.alone());
        }
    }
}
