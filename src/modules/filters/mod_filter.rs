//! mod_filter: filters chosen when the reply is known.
//!
//! Answers to `modules/filters/mod_filter.c`. A smart filter has providers, each with a condition; the first that matches
//! the reply wraps its content.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::body::Content;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::expr::Expr;
use crate::filter::{Chosen, FilterKind, Wrap};
use crate::hooks::{Hooks, order};
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::Request;

/// The module.
pub static MODULE: Module = Module { name: "filter_module", file: "mod_filter.c", directives: ROWS, hooks };

/// A directory's settings.
pub static DIR: Slot<FilterDir> = Slot::new();

/// Smart filters and the chain of them.
#[derive(Clone, Default)]
pub struct FilterDir {
    filters: BTreeMap<String, SmartFilter>,
    /// `None`: what stood before it is forgotten.
    chain: Vec<Option<String>>,
}

impl Conf for FilterDir {
    fn merge(&self, child: &Self) -> Self {
        let mut filters = self.filters.clone();
        filters.extend(child.filters.iter().map(|(name, filter)| (name.clone(), filter.clone())));
        let mut chain = self.chain.clone();
        chain.extend(child.chain.iter().cloned());
        // A mark stays, for what is merged under it later.
        if let Some(mark) = chain.iter().rposition(Option::is_none) {
            chain.drain(..mark);
        }
        FilterDir { filters, chain }
    }
}

#[derive(Clone)]
struct SmartFilter {
    kind: FilterKind,
    /// The last one declared comes first.
    providers: Vec<Provider>,
    protocol: Protocol,
    trace: bool,
}

#[derive(Clone)]
struct Provider {
    name: &'static str,
    when: When,
    protocol: Protocol,
}

#[derive(Clone)]
enum When {
    Expr(Arc<Expr>),
    Types(Arc<[String]>),
}

/// `FilterProtocol`: what a filter does to a reply.
#[derive(Clone, Copy, Default)]
struct Protocol {
    change: bool,
    change_length: bool,
    no_byteranges: bool,
    no_proxy: bool,
    transform: bool,
    no_cache: bool,
}

static ROWS: &[Directive] = &[
    row("FilterDeclare", Args::Take12(declare), Allowed::OPTIONS, "filter-name [filter-type]"),
    row(
        "FilterProvider",
        Args::Take3(provider),
        Allowed::OPTIONS,
        "filter-name provider-name match-expression",
    ),
    row("FilterChain", Args::Iterate(chain), Allowed::OPTIONS, "list of filter names with optional [+-=!@]"),
    row("FilterTrace", Args::Take2(filter_trace), Allowed::NONE, "filter-name debug-level"),
    row(
        "AddOutputFilterByType",
        Args::Argv(by_type),
        Allowed::FILEINFO,
        "output filter name followed by one or more content-types",
    ),
    row(
        "FilterProtocol",
        Args::Take23(protocol),
        Allowed::OPTIONS,
        "filter-name [provider-name] protocol-args",
    ),
];

const fn row(name: &'static str, args: Args, class: Allowed, help: &'static str) -> Directive {
    Directive { name, args, allowed: class.or(Allowed::CONF), help }
}

fn declare(cmd: &mut Cmd, name: &str, place: Option<&str>) -> Done {
    let kind = match place.unwrap_or_default().to_ascii_uppercase().as_str() {
        "CONTENT_SET" => FilterKind::ContentSet,
        "PROTOCOL" => FilterKind::Protocol,
        "CONNECTION" | "NETWORK" => FilterKind::Transcode,
        _ => FilterKind::Resource,
    };
    cmd.dir(&DIR).filters.insert(name.to_owned(), SmartFilter::new(kind));
    Ok(())
}

impl SmartFilter {
    fn new(kind: FilterKind) -> SmartFilter {
        SmartFilter { kind, providers: Vec::new(), protocol: Protocol::default(), trace: false }
    }
}

fn add_provider(cmd: &mut Cmd, filter: &str, provider: &str, when: When) -> Done {
    let Some(found) = cmd.hooks().find_filter(provider) else {
        return Err(format!("Unknown filter provider {provider}").into());
    };
    let (name, kind) = (found.name, found.kind);
    let filters = &mut cmd.dir(&DIR).filters;
    let filter = filters.entry(filter.to_owned()).or_insert_with(|| SmartFilter::new(kind));
    filter.providers.insert(0, Provider { name, when, protocol: Protocol::default() });
    Ok(())
}

fn provider(cmd: &mut Cmd, filter: &str, provider: &str, condition: &str) -> Done {
    if cmd.hooks().find_filter(provider).is_none() {
        return Err(format!("Unknown filter provider {provider}").into());
    }
    let expr = cmd
        .parse_condition(condition)
        .map_err(|err| format!("Error parsing FilterProvider expression:{err}"))?;
    add_provider(cmd, filter, provider, When::Expr(Arc::new(expr)))
}

fn chain(cmd: &mut Cmd, arg: &str) -> Done {
    let chain = &mut cmd.dir(&DIR).chain;
    let name = |from: usize| Some(arg.get(from..).unwrap_or_default().to_owned());
    match arg.as_bytes().first() {
        Some(b'+') => chain.push(name(1)),
        Some(b'@') => chain.insert(0, name(1)),
        Some(b'-') => {
            let gone = arg.get(1..).unwrap_or_default();
            let is = |entry: &Option<String>| entry.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(gone));
            // The first one alone, or else all the others.
            if chain.first().is_some_and(is) {
                chain.remove(0);
            } else {
                chain.retain(|entry| !is(entry));
            }
        }
        Some(b'!') => *chain = vec![None],
        Some(b'=') => *chain = vec![None, name(1)],
        _ => chain.push(name(0)),
    }
    Ok(())
}

fn filter_trace(cmd: &mut Cmd, name: &str, level: &str) -> Done {
    match cmd.dir(&DIR).filters.get_mut(name) {
        Some(filter) => filter.trace = level.trim().starts_with('1') && level.trim().parse() == Ok(1),
        None => return Err(format!("Undeclared smart filter {name}").into()),
    }
    Ok(())
}

fn by_type(cmd: &mut Cmd, words: &[String]) -> Done {
    let [names, types @ ..] = words else {
        return Err("AddOutputFilterByType requires at least two arguments".into());
    };
    if types.is_empty() {
        return Err("AddOutputFilterByType requires at least two arguments".into());
    }
    let types: Arc<[String]> = types.into();
    for name in names.split(';').filter(|name| !name.is_empty()) {
        let filter = format!("BYTYPE:{name}");
        let seen = cmd.dir(&DIR).filters.contains_key(&filter);
        add_provider(cmd, &filter, name, When::Types(types.clone()))?;
        if !seen {
            chain(cmd, &filter)?;
        }
    }
    Ok(())
}

fn protocol(cmd: &mut Cmd, name: &str, second: &str, third: Option<&str>) -> Done {
    let Some(filter) = cmd.dir(&DIR).filters.get_mut(name) else {
        return Err("FilterProtocol: No such filter".into());
    };
    let (into, words) = match third {
        None => (&mut filter.protocol, second),
        Some(words) => {
            let provider = filter.providers.iter_mut().find(|p| p.name.eq_ignore_ascii_case(second));
            (&mut provider.ok_or("FilterProtocol: No such provider for this filter")?.protocol, words)
        }
    };
    let mut flags = Protocol::default();
    for word in words.split([';', ',', ' ', '\t']) {
        match word.to_ascii_lowercase().as_str() {
            "change=yes" => (flags.change, flags.change_length) = (true, true),
            "change=no" => (flags.change, flags.change_length) = (false, false),
            "change=1:1" => flags.change = true,
            "byteranges=no" => flags.no_byteranges = true,
            "proxy=no" => flags.no_proxy = true,
            "proxy=transform" => flags.transform = true,
            "cache=no" => flags.no_cache = true,
            _ => {}
        }
    }
    *into = flags;
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.insert_filter(insert, order::MIDDLE);
}

/// Puts the chain's filters among those of the request: `filter_insert`.
fn insert(r: &mut Request) {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    let start = conf.chain.iter().rposition(Option::is_none).map_or(0, |mark| mark + 1);
    // The range asked for, put by while a filter may change what it would be cut from.
    let range: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let mut put_by = false;
    for name in conf.chain[start..].iter().flatten() {
        let Some(filter) = conf.filters.get(name) else {
            rerror!(r, Level::Warn, "filter", "AH01380", "Unknown filter {name} not added");
            continue;
        };
        if !put_by && (filter.protocol.no_byteranges || filter.protocol.change_length) {
            *range.lock().unwrap_or_else(PoisonError::into_inner) =
                r.headers_in.get("Range").map(<[u8]>::to_vec);
            r.headers_in.unset("Range");
            put_by = true;
        }
        let blocks = |provider: &Provider| matches!(&provider.when, When::Expr(expr) if expr.may_block());
        r.filters_need_thread |= filter.providers.iter().any(blocks);
        let (conf, name, range) = (dir.clone(), name.clone(), range.clone());
        let wrap = Wrap::Shared(Arc::new(move |r, content| match conf.get(&DIR).filters.get(&name) {
            Some(filter) => filter.harness(r, &name, &range, content),
            None => content,
        }));
        r.choose_output_filter(Chosen { name: "mod_filter", kind: filter.kind, wrap });
    }
}

impl SmartFilter {
    /// Lets the first provider that matches wrap the content: `filter_harness`, `filter_lookup`.
    fn harness(
        &self,
        r: &mut Request,
        name: &str,
        range: &Mutex<Option<Vec<u8>>>,
        content: Content,
    ) -> Content {
        if r.status != 200 && !r.subprocess_env.contains("filter-errordocs") {
            return content;
        }
        if self.trace {
            rerror!(r, Level::Debug, "filter", "AH01375", "{name}");
            let length = content.len().map_or(-1, |length| length as i64);
            let kind = match content {
                Content::Empty => None,
                // A small file is in memory already.
                Content::Bytes(_) if r.finfo.is_some_and(|info| !info.is_dir()) => Some("FILE"),
                Content::File(_) => Some("FILE"),
                _ => Some("HEAP"),
            };
            for (kind, length) in kind.map(|kind| (kind, length)).into_iter().chain([("EOS", 0)]) {
                rerror!(r, Level::Debug, "filter", "AH01376", "{name}: type: {kind}, length: {length}");
            }
        }
        if r.proxyreq.is_some() && (self.protocol.no_proxy || self.protocol.transform && no_transform(r)) {
            return content;
        }
        for provider in &self.providers {
            if !provider.matches(r) {
                continue;
            }
            let flags = provider.protocol;
            if r.proxyreq.is_some() {
                if flags.no_proxy || flags.transform && no_transform(r) {
                    continue;
                }
                if flags.transform {
                    let host = r.hostname.clone().unwrap_or_default();
                    r.headers_out.add("Warning", format!("214 {host} Transformation applied"));
                }
            }
            if flags.change {
                r.headers_out.unset("Content-MD5");
                r.headers_out.unset("ETag");
                if flags.change_length {
                    r.headers_out.unset("Content-Length");
                }
            }
            if flags.no_cache {
                r.headers_out.unset("Last-Modified");
                r.headers_out.add("Cache-Control", "no-cache");
            }
            if flags.no_byteranges {
                r.headers_out.set("Accept-Ranges", "none");
            } else if let Some(range) = range.lock().unwrap_or_else(PoisonError::into_inner).take() {
                r.headers_in.set("Range", range);
            }
            let runtime = r.runtime.clone();
            return match runtime.hooks.find_filter(provider.name) {
                Some(filter) => filter.wrap.around(r, content),
                None => content,
            };
        }
        content
    }
}

fn no_transform(r: &Request) -> bool {
    r.headers_out
        .get_str("Cache-Control")
        .is_some_and(|value| value.to_ascii_lowercase().contains("no-transform"))
}

impl Provider {
    /// The filter's name as it is registered.
    fn shown(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    fn matches(&self, r: &mut Request) -> bool {
        match &self.when {
            When::Expr(expr) => match r.evaluate(expr) {
                Ok(matched) => {
                    let how = if matched { "matched" } else { "did not match" };
                    rerror!(
                        r,
                        Level::Trace2,
                        "filter",
                        "",
                        "Expression condition for '{}' {how}",
                        self.shown()
                    );
                    matched
                }
                Err(err) => {
                    rerror!(
                        r,
                        Level::Error,
                        "filter",
                        "AH01379",
                        "Error evaluating filter dispatch condition: {err}"
                    );
                    false
                }
            },
            When::Types(types) => {
                let Some(media_type) = r.content_type.as_deref() else {
                    rerror!(
                        r,
                        Level::Trace2,
                        "filter",
                        "",
                        "Content-Type condition for '{}' did not match: no Content-Type",
                        self.shown()
                    );
                    return false;
                };
                let bare = media_type.split([';', ' ', '\t']).next().unwrap_or_default();
                rerror!(r, Level::Trace4, "filter", "", "Content-Type '{media_type}' ...");
                let matched = types.iter().any(|t| {
                    let matched = t == bare;
                    let how = if matched { "matched" } else { "did not match" };
                    rerror!(r, Level::Trace4, "filter", "", "... {how} '{t}'");
                    matched
                });
                let how = if matched { "matched" } else { "did not match" };
                rerror!(
                    r,
                    Level::Trace2,
                    "filter",
                    "",
                    "Content-Type condition for '{}' {how}",
                    self.shown()
                );
                matched
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(chain: &[&str]) -> FilterDir {
        let chain = chain.iter().map(|n| (!n.is_empty()).then(|| (*n).to_owned())).collect();
        FilterDir { filters: BTreeMap::new(), chain }
    }

    #[test]
    fn chains_are_joined_and_cleared() {
        let names = |conf: FilterDir| -> Vec<String> { conf.chain.into_iter().flatten().collect() };
        assert_eq!(names(dir(&["a"]).merge(&dir(&["b"]))), ["a", "b"]);
        assert_eq!(names(dir(&["a"]).merge(&dir(&["", "b"]))), ["b"]);
        assert_eq!(dir(&["a"]).merge(&dir(&[""])).chain, [None]);
    }
}
