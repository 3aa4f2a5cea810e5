//! The phases that modules take part in, and in which order.
//!
//! Answers to `include/ap_config.h` (hook orders) and `server/request.c`, `server/config.c` (which phases there are).
//! A hook is a plain function. Its place is decided by Apache's rules: the order FIRST … LAST, then what it must come
//! before or after (module file names), then the order of `LoadModule` lines.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::body::Content;
use crate::config::Runtime;
use crate::config::server::Setup;
use crate::conn::protocol::Protocol;
use crate::filter::{FilterKind, InputFilter, InputFilterRow, MakeInput, OutputFilter, Wrap};
use crate::modules::aaa::{AuthnProvider, AuthzProvider};
use crate::modules::arch::suexec::SuexecIdentity;
use crate::modules::loggers::mod_log_config::format::LogItem;
use crate::modules::proxy::mod_proxy::handler::SchemeHandler;
use crate::request::{Answer, ConnInfo, Request, Step};
use crate::slotmem::SlotmemProvider;
use crate::socache::SocacheProvider;

/// `APR_HOOK_REALLY_FIRST` … `APR_HOOK_REALLY_LAST`.
pub mod order {
    /// Before everything.
    pub const REALLY_FIRST: i32 = -10;
    /// Early.
    pub const FIRST: i32 = 0;
    /// Most modules.
    pub const MIDDLE: i32 = 10;
    /// Late.
    pub const LAST: i32 = 20;
    /// After everything: the core's own answers.
    pub const REALLY_LAST: i32 = 30;
}

/// One module's function in a phase.
#[derive(Clone)]
pub struct Hook<F> {
    /// What runs.
    pub run: F,
    /// The module's file name, e.g. `mod_alias.c`.
    pub module: &'static str,
    order: i32,
    before: &'static [&'static str],
    after: &'static [&'static str],
    /// Apache's module has none like it.
    own: bool,
}

impl<F> Hook<F> {
    /// Says that Apache's module has no such hook: mod_info does not list it.
    pub fn own(&mut self) -> &mut Self {
        self.own = true;
        self
    }
    /// Runs before the hooks of these modules.
    pub fn before(&mut self, modules: &'static [&'static str]) -> &mut Self {
        self.before = modules;
        self
    }
    /// Runs after the hooks of these modules.
    pub fn after(&mut self, modules: &'static [&'static str]) -> &mut Self {
        self.after = modules;
        self
    }
}

/// All hooks of one phase, in the order they run in once [`Hooks::sort`] was called.
pub struct Phase<F> {
    hooks: Vec<Hook<F>>,
}

impl<F> Default for Phase<F> {
    fn default() -> Self {
        Phase { hooks: Vec::new() }
    }
}

impl<F: Copy> Phase<F> {
    /// How many modules take part.
    #[inline]
    pub fn len(&self) -> usize {
        self.hooks.len()
    }
    /// True when no module takes part.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }
    /// The `index`th function.
    #[inline]
    pub fn get(&self, index: usize) -> Option<F> {
        self.hooks.get(index).map(|h| h.run)
    }
    /// The functions in order.
    pub fn iter(&self) -> impl Iterator<Item = F> + '_ {
        self.hooks.iter().map(|h| h.run)
    }
    /// The modules in order: the order that they asked for, and their file names.
    pub fn modules(&self) -> impl Iterator<Item = (i32, &'static str)> + '_ {
        self.hooks.iter().map(|h| (h.order, h.module))
    }
    /// What mod_info lists of it.
    fn listed(&self, phase: &'static str) -> impl Iterator<Item = Part> + '_ {
        self.hooks.iter().filter(|h| !h.own).map(move |h| Part {
            phase,
            module: h.module,
            order: h.order,
            before: h.before,
            after: h.after,
        })
    }

    fn add(&mut self, module: &'static str, run: F, order: i32) -> &mut Hook<F> {
        self.hooks.push(Hook { run, module, order, before: &[], after: &[], own: false });
        let last = self.hooks.len() - 1;
        &mut self.hooks[last]
    }

    /// Stable by order; then what a hook must follow is dragged to the front of it. Of several hooks of one module, the
    /// first counts (`apr_hooks.c`).
    fn sort(&mut self) {
        self.hooks.sort_by_key(|h| h.order);
        let hooks = std::mem::take(&mut self.hooks);
        let count = hooks.len();
        let first_of = |name: &str| hooks.iter().position(|hook| hook.module == name);
        let mut follows: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (i, hook) in hooks.iter().enumerate() {
            let mut follow = |late: usize, early: usize| {
                if late != early && !follows[late].contains(&early) {
                    follows[late].push(early);
                }
            };
            hook.after.iter().filter_map(|name| first_of(name)).for_each(|early| follow(i, early));
            hook.before.iter().filter_map(|name| first_of(name)).for_each(|late| follow(late, i));
        }
        let mut placed = vec![false; count];
        let mut ordered = Vec::with_capacity(count);
        while let Some(mut next) = placed.iter().position(|placed| !placed) {
            // Whoever goes round in a circle stays where it came to.
            for _ in 0..count {
                let Some(&early) = follows[next].iter().find(|&&early| !placed[early]) else { break };
                next = early;
            }
            placed[next] = true;
            ordered.push(next);
        }
        let mut slots: Vec<Option<Hook<F>>> = hooks.into_iter().map(Some).collect();
        self.hooks = ordered.into_iter().filter_map(|i| slots[i].take()).collect();
    }
}

/// A module's part in a phase, without what it does there: what mod_info lists.
#[derive(Clone, Copy)]
pub struct Part {
    /// The phase, by Apache's name for the hook.
    pub phase: &'static str,
    /// The module's file name.
    pub module: &'static str,
    order: i32,
    before: &'static [&'static str],
    after: &'static [&'static str],
}

impl Part {
    /// A part with nothing to come before or after.
    pub const fn new(phase: &'static str, module: &'static str, order: i32) -> Part {
        Part { phase, module, order, before: &[], after: &[] }
    }
    /// Comes before the hooks of these modules.
    pub const fn before(self, modules: &'static [&'static str]) -> Part {
        Part { before: modules, ..self }
    }
    /// Comes after the hooks of these modules.
    pub const fn after(self, modules: &'static [&'static str]) -> Part {
        Part { after: modules, ..self }
    }
}

/// The phases by name, each with its modules in order and the order that they asked for.
pub type Listing = BTreeMap<&'static str, Vec<(i32, &'static str)>>;

/// A hook that looks at a request and may decide it.
pub type RequestHook = fn(&mut Request) -> Step;
/// A handler: makes the reply's content.
pub type Handler = fn(&mut Request) -> Answer;
/// Whom a request's programs run as; `None`: this module doesn't know.
pub type GetSuexecIdentity = fn(&Request) -> Option<SuexecIdentity>;
/// Runs after the whole configuration was read; an error ends the start.
pub type PostConfig = fn(&mut Setup) -> Result<(), String>;
/// Tells the client how to authenticate; the text is the `AuthType` in force.
pub type NoteAuthFailure = fn(&mut Request, &str) -> Step;
/// Runs in a new child, before it serves.
pub type ChildInit = fn(&Arc<Runtime>);
/// Takes a connection that was accepted, to speak another protocol than HTTP on it.
pub type ProcessConnection = fn(&ConnInfo) -> Option<Box<dyn Protocol>>;
/// Puts the URL that is given into the request's file name, in canonical form.
pub type CanonHandler = fn(&mut Request, &[u8]) -> Step;
/// Runs once for a request whose filters are to be chosen.
pub type InsertFilter = fn(&mut Request);

/// The one copy of a filter's name that a directive gives: names are kept for the life of the process, each once, however
/// often the configuration is read.
pub fn interned(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    match names.get(name) {
        Some(known) => known,
        None => {
            let name: &'static str = Box::leak(name.into());
            names.insert(name);
            name
        }
    }
}

/// The hooks, filters and providers of all active modules.
#[derive(Default)]
pub struct Hooks {
    /// The module that is registering now.
    module: &'static str,
    /// The configuration was read: does it hang together? Runs with `-t`, too.
    pub check_config: Phase<PostConfig>,
    /// After the configuration was read.
    pub post_config: Phase<PostConfig>,
    /// In a new child.
    pub child_init: Phase<ChildInit>,
    /// A connection was accepted: which protocol?
    pub process_connection: Phase<ProcessConnection>,
    /// A request head was read.
    pub post_read_request: Phase<RequestHook>,
    /// Before the URI is decoded.
    pub pre_translate_name: Phase<RequestHook>,
    /// URI to file name.
    pub translate_name: Phase<RequestHook>,
    /// File name to sections and file information.
    pub map_to_storage: Phase<RequestHook>,
    /// The per-directory configuration is known.
    pub header_parser: Phase<RequestHook>,
    /// Access by host and the like.
    pub access_checker: Phase<RequestHook>,
    /// Access that may make authentication unnecessary.
    pub access_checker_ex: Phase<RequestHook>,
    /// Who is it?
    pub check_user_id: Phase<RequestHook>,
    /// May they?
    pub auth_checker: Phase<RequestHook>,
    /// How to authenticate, for a 401.
    pub note_auth_failure: Phase<NoteAuthFailure>,
    /// Content type, language, handler.
    pub type_checker: Phase<RequestHook>,
    /// Last changes before the content.
    pub fixups: Phase<RequestHook>,
    /// Which output filters.
    pub insert_filter: Phase<InsertFilter>,
    /// Which output filters for an error's page.
    pub insert_error_filter: Phase<InsertFilter>,
    /// Content.
    pub handler: Phase<Handler>,
    /// Whom programs of a request run as; the first module that knows is asked.
    pub get_suexec_identity: Phase<GetSuexecIdentity>,
    /// The reply was sent.
    pub log_transaction: Phase<RequestHook>,
    /// The URL of a backend in the canonical form of its scheme.
    pub canon_handler: Phase<CanonHandler>,
    /// Who asks a backend.
    pub scheme_handler: Phase<SchemeHandler>,
    filters: HashMap<String, OutputFilter>,
    input_filters: HashMap<String, InputFilterRow>,
    log_items: HashMap<&'static [u8], LogItem>,
    authn: HashMap<&'static str, &'static dyn AuthnProvider>,
    authz: HashMap<&'static str, AuthzProvider>,
    lbmethods: Vec<&'static str>,
    socache: HashMap<&'static str, SocacheProvider>,
    slotmem: HashMap<&'static str, SlotmemProvider>,
    /// Modules that said so by [`Hooks::repeatable`].
    repeatable: Vec<&'static str>,
    renew: Vec<(i32, fn(&mut Request))>,
    ahead: Vec<fn(&mut Request)>,
    all_repeatable: bool,
    access_per_uri: bool,
}

macro_rules! phase_methods {
    ($($name:ident: $type:ty),* $(,)?) => {
        impl Hooks {
            $(
                #[doc = concat!("Takes part in `", stringify!($name), "`.")]
                pub fn $name(&mut self, run: $type, order: i32) -> &mut Hook<$type> {
                    self.$name.add(self.module, run, order)
                }
            )*
            /// Puts every phase into its final order.
            pub fn sort(&mut self) {
                $( self.$name.sort(); )*
                let all = self.work_on_requests().all(|module| self.repeatable.contains(&module));
                self.all_repeatable = all;
            }
            fn parts(&self) -> impl Iterator<Item = Part> + '_ {
                std::iter::empty()$(.chain(self.$name.listed(stringify!($name))))*
            }
        }
    };
}

phase_methods! {
    check_config: PostConfig,
    post_config: PostConfig,
    child_init: ChildInit,
    process_connection: ProcessConnection,
    post_read_request: RequestHook,
    pre_translate_name: RequestHook,
    translate_name: RequestHook,
    map_to_storage: RequestHook,
    header_parser: RequestHook,
    access_checker: RequestHook,
    access_checker_ex: RequestHook,
    check_user_id: RequestHook,
    auth_checker: RequestHook,
    note_auth_failure: NoteAuthFailure,
    type_checker: RequestHook,
    fixups: RequestHook,
    insert_filter: InsertFilter,
    insert_error_filter: InsertFilter,
    handler: Handler,
    get_suexec_identity: GetSuexecIdentity,
    log_transaction: RequestHook,
    canon_handler: CanonHandler,
    scheme_handler: SchemeHandler,
}

impl Hooks {
    /// Lets `module` register.
    pub fn register(&mut self, module: &'static crate::module::Module) {
        self.module = module.file;
        (module.hooks)(self);
    }

    /// The phases with the modules' parts and `more` of them, as `mod_info?hooks` shows them. `modules` are the modules as
    /// they were loaded; what is of others is left out.
    pub fn listing(&self, modules: &[&'static str], more: &[Part]) -> Listing {
        let mut phases: BTreeMap<_, Phase<()>> = BTreeMap::new();
        let mut parts: Vec<(usize, Part)> = self
            .parts()
            .chain(more.iter().copied())
            .filter_map(|part| Some((modules.iter().position(|file| *file == part.module)?, part)))
            .collect();
        parts.sort_by_key(|(loaded, _)| *loaded);
        for (_, part) in parts {
            let phase = phases.entry(part.phase).or_default();
            phase.add(part.module, (), part.order).before(part.before).after(part.after);
        }
        let sorted = phases.into_iter().map(|(name, mut phase)| {
            phase.sort();
            (name, phase.modules().collect())
        });
        sorted.collect()
    }

    /// Says that what the module does with a request before its reply is on the way depends on nothing but what
    /// [`crate::request::memo`] notes, and that it changes nothing but the request; where that isn't so, it refuses.
    pub fn repeatable(&mut self) {
        self.repeatable.push(self.module);
    }

    /// Says that the module's part in access checking depends on more than the configuration: sub-requests and internal
    /// redirects are checked again even where the same one applies (`AP_AUTH_INTERNAL_PER_URI`).
    pub fn access_per_uri(&mut self) {
        self.access_per_uri = true;
    }

    /// Whether one of the modules asked for [`Hooks::access_per_uri`].
    #[inline]
    pub fn is_access_per_uri(&self) -> bool {
        self.access_per_uri
    }

    /// Runs for a reply that is given again, to set the variables that differ from request to request: those of which the
    /// module told [`crate::request::memo::differs`].
    pub fn renew(&mut self, run: fn(&mut Request), order: i32) {
        self.renew.push((order, run));
        self.renew.sort_by_key(|(order, _)| *order);
    }

    /// Runs before it is looked whether a reply to the request is known; may run again. What it does to the request counts
    /// as what the client sent, and may depend on the request's header and the client only.
    pub fn ahead(&mut self, run: fn(&mut Request)) {
        self.ahead.push(run);
    }

    /// What runs ahead of everything.
    #[inline]
    pub fn aheads(&self) -> &[fn(&mut Request)] {
        &self.ahead
    }

    /// What runs for a reply that is given again.
    pub fn renewals(&self) -> impl Iterator<Item = fn(&mut Request)> + '_ {
        self.renew.iter().map(|(_, run)| *run)
    }

    /// Whether all modules that work on requests are repeatable.
    #[inline]
    pub fn all_repeatable(&self) -> bool {
        self.all_repeatable
    }

    /// The modules of each phase in which a reply is worked out.
    fn work_on_requests(&self) -> impl Iterator<Item = &'static str> {
        [
            &self.post_read_request,
            &self.pre_translate_name,
            &self.translate_name,
            &self.map_to_storage,
            &self.header_parser,
            &self.access_checker,
            &self.access_checker_ex,
            &self.check_user_id,
            &self.auth_checker,
            &self.type_checker,
            &self.fixups,
        ]
        .into_iter()
        .flat_map(Phase::modules)
        .chain(self.insert_filter.modules())
        .chain(self.handler.modules())
        .map(|(_, module)| module)
    }

    /// Names an output filter, as `SetOutputFilter` and `AddOutputFilter` know it (names are compared in lower case).
    pub fn output_filter(
        &mut self,
        name: &'static str,
        kind: FilterKind,
        wrap: fn(&mut Request, Content) -> Content,
    ) {
        self.define_output_filter(name, kind, Wrap::Plain(wrap));
    }

    /// The same for one that has settings, or that a directive defines; see [`interned`] for its name.
    pub fn define_output_filter(&mut self, name: &'static str, kind: FilterKind, wrap: Wrap) {
        self.filters.insert(name.to_ascii_lowercase(), OutputFilter { name, kind, wrap });
    }

    /// The output filter called `name`.
    pub fn find_filter(&self, name: &str) -> Option<&OutputFilter> {
        self.filters.get(&name.to_ascii_lowercase())
    }

    /// Names an input filter, as `SetInputFilter` and `AddInputFilter` know it.
    pub fn input_filter(&mut self, name: &'static str, kind: FilterKind, make: fn() -> Box<dyn InputFilter>) {
        self.define_input_filter(name, kind, Arc::new(make));
    }

    /// The same for one that has settings, or that a directive defines.
    pub fn define_input_filter(&mut self, name: &'static str, kind: FilterKind, make: MakeInput) {
        self.input_filters.insert(name.to_ascii_lowercase(), InputFilterRow { name, kind, make });
    }

    /// The input filter called `name`.
    pub fn find_input_filter(&self, name: &str) -> Option<&InputFilterRow> {
        self.input_filters.get(&name.to_ascii_lowercase())
    }

    /// Names a directive for `LogFormat`: `ap_register_log_handler`.
    pub fn log_item(&mut self, item: LogItem) {
        self.log_items.insert(item.tag.as_bytes(), item);
    }

    /// The directive for `LogFormat` that a module named so.
    pub fn find_log_item(&self, tag: &[u8]) -> Option<LogItem> {
        self.log_items.get(tag).copied()
    }

    /// Names a password checker for `AuthBasicProvider` and the like.
    pub fn authn_provider(&mut self, name: &'static str, provider: &'static dyn AuthnProvider) {
        self.authn.insert(name, provider);
    }

    /// The password checker called `name`.
    pub fn find_authn(&self, name: &str) -> Option<&'static dyn AuthnProvider> {
        self.authn.get(name).copied()
    }

    /// Names a `Require` type.
    pub fn authz_provider(&mut self, name: &'static str, provider: AuthzProvider) {
        self.authz.insert(name, provider);
    }

    /// Names a kind of cache between processes, e.g. for `AuthnCacheSOCache`.
    pub fn socache_provider(&mut self, name: &'static str, provider: SocacheProvider) {
        self.socache.insert(name, provider);
    }

    /// Names a way to choose a member of a balancer (`lbmethod=`).
    pub fn lbmethod(&mut self, name: &'static str) {
        self.lbmethods.push(name);
    }

    /// Whether there is a way of this name to choose a member.
    pub fn find_lbmethod(&self, name: &str) -> bool {
        self.lbmethods.contains(&name)
    }

    /// The kind of cache called `name`.
    pub fn find_socache(&self, name: &str) -> Option<SocacheProvider> {
        self.socache.get(name).copied()
    }

    /// Names a kind of memory in slots.
    pub fn slotmem_provider(&mut self, name: &'static str, provider: SlotmemProvider) {
        self.slotmem.insert(name, provider);
    }

    /// The kind of memory in slots called `name`.
    pub fn find_slotmem(&self, name: &str) -> Option<SlotmemProvider> {
        self.slotmem.get(name).copied()
    }

    /// The providers by group and name, as `mod_info?providers` shows them.
    pub fn providers(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut groups: Vec<(_, Vec<&'static str>)> = vec![
            ("authn", self.authn.keys().copied().collect()),
            ("authz", self.authz.keys().copied().collect()),
            ("slotmem", self.slotmem.keys().copied().collect()),
            ("socache", self.socache.keys().copied().collect()),
        ];
        groups.retain(|(_, names)| !names.is_empty());
        for (_, names) in &mut groups {
            names.sort_unstable();
        }
        groups
    }

    /// The `Require` type called `name`.
    pub fn find_authz(&self, name: &str) -> Option<AuthzProvider> {
        self.authz.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_then_neighbours() {
        let mut phase: Phase<fn()> = Phase::default();
        fn nothing() {}
        phase.add("mod_vhost_alias.c", nothing, order::MIDDLE);
        phase.add("core.c", nothing, order::REALLY_LAST);
        phase.add("mod_userdir.c", nothing, order::MIDDLE);
        phase.add("mod_alias.c", nothing, order::MIDDLE).before(&["mod_userdir.c", "mod_vhost_alias.c"]);
        phase.add("mod_rewrite.c", nothing, order::FIRST);
        phase.sort();
        let modules: Vec<_> = phase.modules().map(|(_, module)| module).collect();
        assert_eq!(modules, ["mod_rewrite.c", "mod_alias.c", "mod_vhost_alias.c", "mod_userdir.c", "core.c"]);
    }
}
