//! mod_info: what the server is made of and how it is configured (`server-info`, `-D DUMP_CONFIG`).
//!
//! Answers to `modules/generators/mod_info.c`: the page here, the configuration in [`tree`]. Differs in that there is no APR
//! whose version could be told. What Apache does in hooks that are not open to modules here is listed from [`elsewhere`].

mod elsewhere;
mod facts;
pub mod tree;

use std::fmt::Write;
use std::sync::atomic::Ordering;

use bstr::ByteSlice;
use httpd_conf::to_bytes;

use crate::body;
use crate::cli::version;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::engine::scoreboard::Scoreboard;
use crate::hooks::{Hooks, Listing, order};
use crate::http::escape::escape_html;
use crate::http::method::Method;
use crate::module::{Conf, Module, Slot};
use crate::modules::aaa::{mod_authn_core, mod_authz_core};
use crate::modules::core::tokens;
use crate::request::{Answer, Request};
use facts::Titles;
use tree::Form;

/// The module.
pub static MODULE: Module = Module { name: "info_module", file: "mod_info.c", directives: ROWS, hooks };

/// A server's settings.
static SERVER: Slot<InfoServer> = Slot::new();

#[derive(Clone, Default)]
struct InfoServer {
    /// `AddModuleInfo`: the module's file name and what is to be said of it.
    more: Vec<(String, String)>,
}

impl Conf for InfoServer {
    fn merge(&self, child: &Self) -> Self {
        InfoServer { more: child.more.iter().chain(&self.more).cloned().collect() }
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "AddModuleInfo",
    args: Args::Take2(add_module_info),
    allowed: Allowed::RSRC_CONF,
    help: "a module name and additional information on that module",
}];

fn add_module_info(cmd: &mut Cmd, name: &str, info: &str) -> Done {
    cmd.server_conf(&SERVER)?.more.push((name.to_owned(), info.to_owned()));
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.handler(handler, order::MIDDLE);
}

/// `display_info`.
fn handler(r: &mut Request) -> Answer {
    if r.handler.as_deref() != Some("server-info") {
        return Answer::Declined;
    }
    r.allowed |= Method::GET.bit();
    if r.method != Method::GET {
        return Answer::Declined;
    }
    r.set_content_type("text/html; charset=ISO-8859-1");
    Answer::Body(body::generated(
        Page { r, out: Vec::with_capacity(16 * 1024), listing: listing(r) }.write(),
        false,
    ))
}

struct Page<'r> {
    r: &'r Request,
    out: Vec<u8>,
    /// Who takes part in what.
    listing: Listing,
}

fn listing(r: &Request) -> Listing {
    let modules: Vec<&str> = r.runtime.modules.iter().map(|m| m.module.file).collect();
    r.runtime.hooks.listing(&modules, elsewhere::PARTS)
}

/// Appends formatted text.
macro_rules! put {
    ($page:expr, $($text:tt)+) => { $page.text(format_args!($($text)+)) };
}

impl Page<'_> {
    fn write(mut self) -> Vec<u8> {
        let args = self.r.args.clone();
        let asked = |view: &str| args.as_ref().is_none_or(|args| args.eq_ignore_ascii_case(view.as_bytes()));
        let only = |view: &str| args.is_some() && asked(view);
        self.put(
            "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
             \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
             <html xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n  <title>Server Information</title>\n</head>\n\
             <body><h1 style=\"text-align: center\">Apache Server Information</h1>\n",
        );
        let mut modules: Vec<&'static Module> = self.r.runtime.modules.iter().map(|m| m.module).collect();
        modules.sort_by_key(|module| module.file);
        if only("list") {
            self.put("<dl><dt>Server Module List</dt>");
            for module in modules {
                put!(self, "<dd>{}</dd>", module.file);
            }
            self.put("</dl><hr />");
            return self.end();
        }
        if args.is_none() {
            self.contents(&modules);
        }
        if asked("server") {
            self.server_settings();
        }
        if asked("hooks") {
            self.hook_lists(only("hooks"));
        }
        if asked("providers") {
            self.providers();
        }
        if only("config") {
            self.put("<dl><dt><strong>Configuration:</strong>\n");
            self.tree(None);
            self.put("</dl><hr />");
            return self.end();
        }
        for module in modules {
            if asked(module.file) {
                self.module(module);
            }
        }
        self.end()
    }

    fn end(mut self) -> Vec<u8> {
        self.out.append(&mut tokens::signature(self.r, ""));
        self.put("</body></html>\n");
        self.out
    }

    /// The links at the head of the whole page.
    fn contents(&mut self, modules: &[&Module]) {
        self.put("<dl><dt><tt>Subpages:<br /><a href=\"?config\">Configuration Files</a>, ");
        self.put("<a href=\"?server\">Server Settings</a>, <a href=\"?list\">Module List</a>, ");
        self.put("<a href=\"?hooks\">Active Hooks</a>, <a href=\"?providers\">Available Providers</a>");
        self.put("</tt></dt></dl><hr /><dl><dt><tt>Sections:<br /><a href=\"#modules\">Loaded Modules</a>, ");
        self.put("<a href=\"#server\">Server Settings</a>, <a href=\"#startup_hooks\">Startup Hooks</a>, ");
        self.put("<a href=\"#request_hooks\">Request Hooks</a>, <a href=\"#other_hooks\">Other Hooks</a>, ");
        self.put("<a href=\"#providers\">Providers</a></tt></dt></dl><hr />");
        self.put("<h2><a name=\"modules\">Loaded Modules</a></h2><dl><dt><tt>");
        for module in modules {
            put!(self, "<a href=\"#{0}\">{0}</a>, ", module.file);
        }
        self.put("</tt></dt></dl><hr />");
    }

    fn server_settings(&mut self) {
        let r = self.r;
        let runtime = &r.runtime;
        let (major, minor) = pcre2::version();
        let (magic_major, magic_minor) = version::MAGIC;
        let timeouts = &r.server.resolved;
        self.put("<h2><a name=\"server\">Server Settings</a></h2><dl>");
        self.large_setting("Server Version", &runtime.banner.full);
        self.large_setting("Server Built", &version::built());
        self.setting("Server loaded PCRE Version", &format!("{major}.{minor}"));
        self.setting("Compiled with PCRE Version", &format!("{major}.{minor}"));
        self.setting("Module Magic Number", &format!("{magic_major}:{magic_minor}"));
        let name = escape_html(r.server_name()).to_str_lossy().into_owned();
        self.setting("Hostname/port", &format!("{name}:{}", r.server_port()));
        put!(
            self,
            "<dt><strong>Timeouts:</strong> <tt>connection: {} &nbsp;&nbsp; keep-alive: {}</tt></dt>",
            timeouts.timeout.as_secs(),
            timeouts.keep_alive_timeout.as_secs()
        );
        let mpm = runtime.mpm_name();
        let threaded = if mpm == "prefork" { "no" } else { "yes" };
        self.setting("MPM Name", mpm);
        let daemons = max_daemons();
        self.setting("MPM Information", &format!("Max Daemons: {daemons} Threaded: {threaded} Forked: yes"));
        self.setting("Server Architecture", &format!("{}-bit", usize::BITS));
        self.setting("Server Root", &runtime.server_root.display().to_string());
        let file = runtime.tree.first().map_or("", |node| &*node.origin.file);
        self.setting("Config File", file);
        self.put("<dt><strong>Server Built With:</strong>\n<tt style=\"white-space: pre;\">\n");
        for line in version::compiled_with(runtime.layout, version::Told::ByModInfo) {
            put!(self, "{line}\n");
        }
        self.put("</tt></dt>\n</dl><hr />");
    }

    fn setting(&mut self, name: &str, value: &str) {
        put!(self, "<dt><strong>{name}:</strong> <tt>{value}</tt></dt>\n");
    }

    fn large_setting(&mut self, name: &str, value: &str) {
        put!(self, "<dt><strong>{name}:</strong> <font size=\"+1\"><tt>{value}</tt></font></dt>\n");
    }

    /// Who takes part in what, in which order. On a page of their own, the names lead to the modules' pages.
    fn hook_lists(&mut self, alone: bool) {
        let to = if alone { '?' } else { '#' };
        let listing = std::mem::take(&mut self.listing);
        let lists: [(&str, &str, Titles); 3] = [
            ("startup_hooks", "Startup Hooks", facts::STARTUP),
            ("request_hooks", "Request Hooks", facts::REQUEST),
            ("other_hooks", "Other Hooks", facts::OTHER),
        ];
        for (anchor, title, phases) in lists {
            put!(self, "<h2><a name=\"{anchor}\">{title}</a></h2>\n<dl>");
            for (title, phase) in phases {
                put!(self, "<dt><strong>{title}:</strong>\n <br /><tt>\n");
                for (order, file) in listing.get(phase).into_iter().flatten() {
                    put!(self, "&nbsp;&nbsp; {order:02} <a href=\"{to}{file}\">{file}</a> <br/>");
                }
                self.put("\n  </tt>\n</dt>\n");
            }
            self.put("</dl>\n<hr />\n");
        }
        self.listing = listing;
    }

    fn providers(&mut self) {
        self.put("<h2><a name=\"providers\">Providers</a></h2>\n<dl>");
        let runtime = self.r.runtime.clone();
        let main = &runtime.main_server().conf;
        for (group, names) in runtime.hooks.providers() {
            let aliases = match group {
                "authn" => mod_authn_core::aliases(main),
                _ => mod_authz_core::aliases(main),
            };
            let mut names: Vec<String> = names.into_iter().map(str::to_owned).chain(aliases).collect();
            names.sort_unstable();
            self.provider_group(group, "0", &names);
        }
        // The two that mod_watchdog always has.
        let watchdogs = ["_default_", "_singleton_"].map(str::to_owned);
        self.provider_group("watchdog", "child", &watchdogs);
        self.put("</dl>\n<hr />\n");
    }

    fn provider_group(&mut self, group: &str, version: &str, names: &[String]) {
        put!(self, "<dt><strong>{group}</strong> (version <tt>{version}</tt>):\n <br />\n");
        for name in names {
            put!(self, "<tt>&nbsp;&nbsp;{name}</tt><br/>");
        }
        self.put("\n</dt>\n");
    }

    fn module(&mut self, module: &Module) {
        let file = module.file;
        let listing = std::mem::take(&mut self.listing);
        let takes_part = |phase: &str| listing.get(phase).into_iter().flatten().any(|(_, at)| *at == file);
        put!(
            self,
            "<dl><dt><a name=\"{file}\"><strong>Module Name:</strong></a> \
             <font size=\"+1\"><tt><a href=\"?{file}\">{file}</a></tt></font></dt>\n"
        );
        let handles = if takes_part("handler") { "yes" } else { "none" };
        put!(self, "<dt><strong>Content handlers:</strong> <tt> <em>{handles}</em></tt></dt>");
        self.put("<dt><strong>Configuration Phase Participation:</strong>\n");
        const KINDS: [&str; 4] = [
            "Create Directory Config",
            "Merge Directory Configs",
            "Create Server Config",
            "Merge Server Configs",
        ];
        self.phases(KINDS.iter().zip(facts::settings(file)).filter(|(_, kept)| *kept).map(|(kind, _)| *kind));
        self.put("</dt><dt><strong>Request Phase Participation:</strong>\n");
        self.phases(facts::REQUEST.iter().filter(|(_, phase)| takes_part(phase)).map(|(title, _)| *title));
        self.put("</dt>\n");
        self.listing = listing;
        // A table without a row is still one.
        let has_table = matches!(file, "mod_authz_owner.c" | "mod_authz_user.c" | "mod_data.c");
        if module.directives.is_empty() && !has_table {
            self.put("<dt><strong>Module Directives:</strong> <tt>none</tt></dt>");
        } else {
            self.put("<dt><strong>Module Directives:</strong></dt>");
            for row in module.directives {
                let end = if row.name.starts_with('<') { "&gt;" } else { "" };
                let (name, help) = (escape_html(row.name.as_bytes()), escape_html(row.help.as_bytes()));
                put!(self, "<dd><tt>{}{end} - <i>{}</i></tt></dd>\n", name.as_bstr(), help.as_bstr());
            }
            self.put("<dt><strong>Current Configuration:</strong></dt>\n");
            self.tree(Some(module.directives));
        }
        let more = &self.r.server_conf(&SERVER).more;
        if let Some((_, info)) = more.iter().find(|(name, _)| name == file) {
            self.put("<dt><strong>Additional Information:</strong>\n</dt><dd>");
            self.out.extend_from_slice(&to_bytes(info));
            self.put("</dd>");
        }
        self.put("</dl><hr />\n");
    }

    fn phases<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        let names: Vec<String> = names.map(|name| format!("<tt>{name}</tt>")).collect();
        let text = if names.is_empty() { "<tt> <em>none</em></tt>".to_owned() } else { names.join(", ") };
        self.put(&text);
    }

    fn tree(&mut self, rows: Option<&[Directive]>) {
        tree::write(&mut self.out, Form::Html, &self.r.runtime.tree, rows);
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, text: std::fmt::Arguments<'_>) {
        let mut formatted = String::new();
        let _ = formatted.write_fmt(text);
        self.put(&formatted);
    }
}

/// The most places for children in use: `AP_MPMQ_MAX_DAEMON_USED`.
fn max_daemons() -> usize {
    let Some(board) = Scoreboard::current() else { return 1 };
    board.processes().iter().rposition(|place| place.pid.load(Ordering::Relaxed) != 0).map_or(1, |at| at + 1)
}
