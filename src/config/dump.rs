//! What `-S`, `-M`, `-L`, `-D DUMP_…` print about a configuration.
//!
//! Answers to the `test_config` hooks: `core_dump_config`, `unixd_dump_config`, `dump_loaded_modules` of mod_so,
//! `ap_dump_mutexes`, `dump_vhost_config` of `server/vhost.c`, `ap_show_directives` of `server/config.c`, and
//! `-D DUMP_CONFIG` of mod_info.

use std::fmt::Write;
use std::net::IpAddr;

use httpd_conf::{Node, Reader};

use super::directive::{Allowed, Directive};
use super::read::Read;
use super::server::{Server, Setup};
use crate::modules::core::{self, mutex};

/// Everything that the defined `DUMP_…` names ask for, but for the included files and the virtual hosts, which Apache
/// prints on the way.
pub fn requested(setup: &Setup, read: &Read) -> String {
    let mut out = String::new();
    if read.reader.is_defined("DUMP_RUN_CFG") {
        run_config(setup, &read.reader, &mut out);
    }
    if read.reader.is_defined("DUMP_MODULES") {
        modules(setup, &mut out);
    }
    if read.reader.is_defined("DUMP_CONFIG") && setup.has_module("mod_info.c") {
        Tree { out: &mut out, file: None }.nodes(&read.tree, 0);
    }
    out
}

/// `-D DUMP_INCLUDES`.
pub fn includes(reader: &Reader) -> String {
    let mut out = "Included configuration files:\n".to_owned();
    for file in reader.includes() {
        let indent = " ".repeat(file.depth as usize * 2);
        let _ = if file.depth == 0 {
            writeln!(out, "  (*) {}", file.file)
        } else {
            writeln!(out, "  {indent}({}) {}", file.line, file.file)
        };
    }
    out
}

fn run_config(setup: &Setup, reader: &Reader, out: &mut String) {
    let main = &setup.servers[0];
    let conf = main.conf.get(&core::SERVER);
    let layout = setup.options.layout;
    let root = conf.document_root.as_deref().unwrap_or(layout.document_root);
    let error_log = conf.error_log.as_deref().unwrap_or(layout.error_log);
    let is_file = !error_log.starts_with('|') && error_log != "syslog" && !error_log.starts_with("syslog:");
    let error_log = if is_file { setup.server_root_relative(error_log) } else { error_log.to_owned() };
    let _ = writeln!(out, "ServerRoot: \"{}\"", setup.server_root.display());
    let _ = writeln!(out, "Main DocumentRoot: \"{}\"", setup.server_root_relative(root));
    let _ = writeln!(out, "Main ErrorLog: \"{error_log}\"");
    if let Some(file) = &setup.scoreboard_file {
        let _ = writeln!(out, "ScoreBoardFile: \"{}\"", setup.server_root_relative(file));
    }
    mutex::dump(setup, out);
    let _ = writeln!(out, "PidFile: \"{}\"", setup.pid_path().display());
    for (name, value) in reader.defines() {
        let _ = match value {
            Some(value) => writeln!(out, "Define: {name}={value}"),
            None => writeln!(out, "Define: {name}"),
        };
    }
    let unixd = &setup.unixd;
    let unused = if nix::unistd::geteuid().is_root() { "" } else { " not_used" };
    let uid = unixd.uid.map_or(u32::MAX, nix::unistd::Uid::as_raw);
    let gid = unixd.gid.map_or(u32::MAX, nix::unistd::Gid::as_raw);
    let _ = writeln!(out, "User: name=\"{}\" id={uid}{unused}", unixd.user_name);
    let _ = writeln!(out, "Group: name=\"{}\" id={gid}{unused}", unixd.group_name);
    if let Some(dir) = &unixd.chroot_dir {
        let _ = writeln!(out, "ChrootDir: \"{dir}\"{unused}");
    }
}

fn modules(setup: &Setup, out: &mut String) {
    out.push_str("Loaded Modules:\n");
    for active in &setup.modules {
        let kind = if active.shared { "shared" } else { "static" };
        let _ = writeln!(out, " {} ({kind})", active.module.name);
    }
}

/// `-L`.
pub fn directives(setup: &Setup) -> String {
    let mut out = String::new();
    for active in &setup.modules {
        for row in active.module.directives {
            let _ = writeln!(out, "{} ({})", row.name, active.module.file);
            if !row.help.is_empty() {
                let _ = writeln!(out, "\t{}", row.help);
            }
            out.push_str(&where_allowed(row, !WITHOUT_DIR_CONFIG.contains(&active.module.file)));
        }
    }
    out
}

/// Modules whose directives may stand in a directory's settings although they keep none there, which Apache points out.
const WITHOUT_DIR_CONFIG: &[&str] =
    &["mod_version.c", "mod_macro.c", "mod_md.c", "mod_proxy_express.c", "mod_proxy_hcheck.c"];

/// `show_overrides`: where a directive may stand, in words.
fn where_allowed(row: &Directive, has_dir_config: bool) -> String {
    let allowed = row.allowed;
    let everywhere = Allowed::OPTIONS.or(Allowed::FILEINFO).or(Allowed::INDEXES);
    let sections = Allowed::ACCESS_CONF.or(Allowed::AUTHCFG).or(Allowed::LIMIT);
    let place = if allowed.any(everywhere) || allowed.any(Allowed::RSRC_CONF) && allowed.any(sections) {
        "anywhere"
    } else if allowed.any(Allowed::RSRC_CONF) {
        "only outside <Directory>, <Files>, <Location>, or <If>"
    } else {
        "only inside <Directory>, <Files>, <Location>, or <If>"
    };
    let mut text = format!("\tAllowed in *.conf {place}");
    if !has_dir_config && allowed.any(Allowed::ALL.or(Allowed::ACCESS_CONF)) {
        text.push_str(" [no per-dir config]");
    }
    if allowed.any(Allowed::ALL) {
        text.push_str(" and in .htaccess\n\twhen AllowOverride");
        if allowed.0 & Allowed::ALL.0 == Allowed::ALL.0 {
            text.push_str(" isn't None");
        } else {
            let classes = [
                (Allowed::AUTHCFG, "AuthConfig"),
                (Allowed::LIMIT, "Limit"),
                (Allowed::OPTIONS, "Options"),
                (Allowed::FILEINFO, "FileInfo"),
                (Allowed::INDEXES, "Indexes"),
            ];
            let names: Vec<&str> =
                classes.iter().filter(|(class, _)| allowed.any(*class)).map(|(_, name)| *name).collect();
            let _ = write!(text, " includes {}", names.join(" or "));
        }
    }
    text.push('\n');
    text
}

/// The servers behind one address: `ipaddr_chain`.
struct Address<'s> {
    ip: Option<IpAddr>,
    port: u16,
    /// In the order of the configuration.
    names: Vec<(&'s Server, u16)>,
}

/// Apache prints the chains of its table, whose length this is.
const IPHASH_TABLE_SIZE: usize = 256;

/// The chain that an address is in: `hash_addr`.
fn hash(ip: IpAddr) -> usize {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            [a, b, c, d]
        }
    };
    let mut key = u32::from_ne_bytes(octets);
    key ^= key >> 16;
    ((key >> 8) ^ key) as usize % IPHASH_TABLE_SIZE
}

/// `-D DUMP_VHOSTS`.
pub fn vhosts(setup: &Setup) -> String {
    let mut tables: Vec<Vec<Address>> = (0..=IPHASH_TABLE_SIZE).map(|_| Vec::new()).collect();
    // From the last virtual host to the first; each new address and name is put in front.
    for server in setup.servers.iter().skip(1).rev() {
        let mut before: Option<(Option<IpAddr>, u16)> = None;
        for addr in &server.addrs {
            let ip = addr.ip.filter(|ip| !ip.is_unspecified());
            let chain = &mut tables[ip.map_or(IPHASH_TABLE_SIZE, hash)];
            match chain.iter_mut().find(|known| known.ip == ip && known.port == addr.port) {
                // The same catch-all twice in a row counts once.
                Some(_) if ip.is_none() && before == Some((None, addr.port)) => {}
                Some(known) => known.names.insert(0, (server, addr.port)),
                None => chain.insert(0, Address { ip, port: addr.port, names: vec![(server, addr.port)] }),
            }
            before = Some((ip, addr.port));
        }
    }
    let mut out = "VirtualHost configuration:\n".to_owned();
    for address in tables.iter().flatten() {
        address.write(&mut out);
    }
    out
}

impl Address<'_> {
    fn write(&self, out: &mut String) {
        let port = if self.port == 0 { "*".to_owned() } else { self.port.to_string() };
        let shown = match self.ip {
            None => format!("*:{port}"),
            Some(IpAddr::V4(ip)) => format!("{ip}:{port}"),
            Some(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        };
        let place = |server: &Server| match &server.defined_at {
            Some(origin) => format!("{} ({}:{})", server.name(), origin.file, origin.line),
            None => server.name().to_owned(),
        };
        let Some((first, _)) = self.names.first() else { return };
        if self.names.len() == 1 {
            let _ = writeln!(out, "{shown:<22} {}", place(first));
            return;
        }
        let _ = writeln!(out, "{shown:<22} is a NameVirtualHost\n{:8} default server {}", "", place(first));
        for (server, port) in &self.names {
            let port = if *port == 0 { "*".to_owned() } else { port.to_string() };
            let _ = writeln!(out, "{:8} port {port} namevhost {}", "", place(server));
            for name in &server.names {
                let _ = writeln!(out, "{:16} alias {name}", "");
            }
            for name in &server.wild_names {
                let _ = writeln!(out, "{:16} wild alias {name}", "");
            }
        }
    }
}

/// `-D DUMP_CONFIG`: the tree as a configuration, each directive under a comment that says where it stands.
struct Tree<'o> {
    out: &'o mut String,
    /// The file that the last directive was in.
    file: Option<Box<str>>,
}

impl Tree<'_> {
    fn nodes(&mut self, nodes: &[Node], depth: usize) {
        for node in nodes {
            self.place(node, depth, true);
            match &node.children {
                None => {
                    let _ = writeln!(self.out, "{} {}", node.name, node.args);
                }
                Some(children) => {
                    let _ = writeln!(self.out, "<{} {}", node.name, node.raw_args());
                    // An empty section is to mod_info a directive like any other.
                    if children.is_empty() {
                        continue;
                    }
                    self.nodes(children, depth + 1);
                    self.place(node, depth, false);
                    let _ = writeln!(self.out, "</{}>", node.name);
                }
            }
        }
    }

    /// `mod_info_indent`: the file when it is another one, the line, the indent.
    fn place(&mut self, node: &Node, depth: usize, with_line: bool) {
        let indent = "  ".repeat(depth);
        if self.file.as_deref() != Some(&*node.origin.file) {
            let _ = writeln!(self.out, "# In file: {}", node.origin.file);
            self.file = Some((*node.origin.file).into());
        }
        if with_line {
            let _ = writeln!(self.out, "{indent}#{:>4}:", node.origin.line);
        }
        self.out.push_str(&indent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::directive::Args;

    fn allowed(allowed: Allowed) -> String {
        where_allowed(&Directive { name: "X", args: Args::OnRead, allowed, help: "" }, true)
    }

    #[test]
    fn places_in_words() {
        assert_eq!(
            allowed(Allowed::RSRC_CONF),
            "\tAllowed in *.conf only outside <Directory>, <Files>, <Location>, or <If>\n"
        );
        assert_eq!(
            allowed(Allowed::AUTHCFG.or(Allowed::LIMIT)),
            "\tAllowed in *.conf only inside <Directory>, <Files>, <Location>, or <If> and in .htaccess\n\twhen AllowOverride includes AuthConfig or Limit\n"
        );
        assert_eq!(
            allowed(Allowed::ALL.or(Allowed::CONF)),
            "\tAllowed in *.conf anywhere and in .htaccess\n\twhen AllowOverride isn't None\n"
        );
    }

    #[test]
    fn chains() {
        assert_eq!(hash(IpAddr::from([127, 0, 0, 1])), 126);
        assert_eq!(hash(IpAddr::from([0, 0, 0, 0])), 0);
    }
}
