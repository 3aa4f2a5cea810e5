//! The server root of one case: a temporary folder with configuration, documents, logs and a link to the binary.

use std::fs::{self, File, FileTimes};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use super::case::{Case, Section};
use super::options::Options;
use super::ports::{self, Port};
use crate::stock::MODULES;

/// The engine that a server runs on, named as its `mpm_…_module`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Prefork,
    Event,
}

impl Engine {
    pub const ALL: [Engine; 2] = [Engine::Prefork, Engine::Event];

    pub fn name(self) -> &'static str {
        match self {
            Engine::Prefork => "prefork",
            Engine::Event => "event",
        }
    }

    /// Few processes and threads: a case needs two or three connections at most.
    fn tuning(self) -> &'static str {
        match self {
            Engine::Prefork => "StartServers 2\nMinSpareServers 1\nMaxSpareServers 3\nMaxRequestWorkers 10\n",
            Engine::Event => {
                "StartServers 1\nThreadLimit 8\nThreadsPerChild 8\nMinSpareThreads 1\nMaxSpareThreads 16\n\
                 MaxRequestWorkers 16\n"
            }
        }
    }
}

/// The configuration that Debian's package apache2 installs: read where it lies, for it is not ours to keep a copy of.
pub const STOCK: &str = "/etc/apache2";

/// What in it belongs to the machine, and what takes its place in a site of ours.
const STOCK_PATHS: [(&str, &str); 8] = [
    ("/usr/lib/apache2/modules/", "@MODULES@/"),
    ("\"/usr/share/apache2/icons", "\"@ROOT@/icons"),
    ("Listen 80", "Listen 127.0.0.1:@PORT@"),
    ("*:80", "*:@PORT@"),
    ("/var/www/html", "@HTDOCS@"),
    ("<Directory /var/www/>", "<Directory @HTDOCS@>"),
    ("/error.log", "/error_log"),
    ("/access.log", "/access_log"),
];

/// Whether the package itself enables what has this name in a folder `*-enabled`; other packages may have added theirs.
fn is_stock(name: &str) -> bool {
    const ENABLED: [&str; 6] = [
        "charset",
        "localized-error-pages",
        "other-vhosts-access-log",
        "security",
        "serve-cgi-bin",
        "000-default",
    ];
    let stem = name.split('.').next().unwrap_or_default();
    MODULES.contains(&stem) || ENABLED.contains(&stem) || stem.starts_with("mpm_")
}

/// Where Debian keeps its modules; without it, a folder of empty files takes its place.
const DEBIAN_MODULES: &str = "/usr/lib/apache2/modules";

const MIME_TYPES: &str = "\
application/javascript\t\tjs
application/json\t\tjson
application/octet-stream\tbin
application/pdf\t\t\tpdf
application/xml\t\t\txml
application/zip\t\t\tzip
audio/mpeg\t\t\tmp3
image/gif\t\t\tgif
image/jpeg\t\t\tjpeg jpg jpe
image/png\t\t\tpng
image/svg+xml\t\t\tsvg svgz
text/css\t\t\tcss
text/csv\t\t\tcsv
text/html\t\t\thtml htm
text/plain\t\t\ttxt text asc
video/mp4\t\t\tmp4
";

/// 2024-01-02 03:04:05 UTC, the time of every file that has no other.
const MTIME: u64 = 1_704_164_645;

/// A server root, removed when dropped.
pub struct Site {
    pub root: PathBuf,
    pub modules: PathBuf,
    /// `@PORT@`, `@PORT2@`, `@PORT3@`; `@BACKEND@`
    pub ports: Vec<Port>,
    pub engine: Engine,
    keep: bool,
}

static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Site {
    /// Lays out the folder for a case.
    pub fn new(case: &Case, engine: Engine, options: &Options) -> Result<Site, String> {
        // Of one length, since replies with a path in them have a Content-Length.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("httpd-case-{:07}-{number:04}", std::process::id()));
        let mut modules = PathBuf::from(DEBIAN_MODULES);
        if !modules.is_dir() {
            modules = root.join("modules");
        }
        let ports = (0..4).map(|_| ports::reserve()).collect::<Result<_, _>>()?;
        let site = Site { root, modules, ports, engine, keep: options.keep };
        site.lay_out(case, &options.httpd).map_err(|e| format!("{}: {e}", site.root.display()))?;
        Ok(site)
    }

    /// The text with its placeholders filled in.
    pub fn fill(&self, text: &str) -> String {
        let mut text = text
            .replace("@ROOT@", &self.root.to_string_lossy())
            .replace("@HTDOCS@", &self.htdocs().to_string_lossy())
            .replace("@MODULES@", &self.modules.to_string_lossy())
            .replace("@MPM@", &self.load_mpm())
            .replace("@ENGINE@", self.engine.name());
        for (index, port) in self.ports.iter().enumerate() {
            text = text.replace(&placeholder(index), &port.number.to_string());
        }
        repeat(&text)
    }

    pub fn htdocs(&self) -> PathBuf {
        self.root.join("htdocs")
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(name)
    }

    fn load_mpm(&self) -> String {
        let name = self.engine.name();
        format!("LoadModule mpm_{name}_module {}/mod_mpm_{name}.so", self.modules.display())
    }

    fn lay_out(&self, case: &Case, httpd: &Path) -> Result<(), String> {
        for folder in ["bin", "conf", "htdocs", "logs", "run"] {
            folder_of(&self.root.join(folder).join("x"))?;
        }
        if !self.modules.starts_with(DEBIAN_MODULES) {
            self.empty_modules()?;
        }
        symlink(httpd, self.root.join("bin/apache2")).map_err(|e| format!("bin/apache2: {e}"))?;
        write(&self.root.join("conf/mime.types"), MIME_TYPES.as_bytes())?;
        write(&self.root.join("conf/base.conf"), self.base(case).as_bytes())?;
        let main = match case.section("httpd.conf") {
            Some(section) => self.fill(&section.text()) + "\n",
            None => "Include conf/base.conf\nInclude conf/case.conf\n".to_owned(),
        };
        write(&self.root.join("conf/httpd.conf"), main.as_bytes())?;
        write(&self.root.join("conf/case.conf"), (self.fill(&case.text("config")) + "\n").as_bytes())?;
        if let Some(section) = case.section("tree") {
            if section.words != "debian" {
                return Err(format!("tree: {}: only debian is known", section.words));
            }
            self.plant(Path::new(STOCK), &self.root)?;
        }
        if let Some(section) = case.section("htaccess") {
            write(&self.htdocs().join(".htaccess"), (self.fill(&section.text()) + "\n").as_bytes())?;
        }
        for section in case.sections.iter().filter(|section| section.name == "files") {
            self.files(section)?;
        }
        settle(&self.htdocs(), nix::unistd::geteuid().is_root())
    }

    /// The configuration in front of the case's own: Debian's modules and defaults, on one port of 127.0.0.1.
    fn base(&self, case: &Case) -> String {
        let mut text = self.load_mpm() + "\n";
        let changes = case.section("modules").map(|section| section.words.as_str()).unwrap_or_default();
        let (less, more): (Vec<_>, Vec<_>) =
            changes.split_whitespace().partition(|module| module.starts_with('-'));
        let less: Vec<_> = less.iter().map(|module| &module[1..]).collect();
        for module in MODULES.iter().filter(|module| !less.contains(module)).chain(&more) {
            text += &format!("LoadModule {module}_module {}/mod_{module}.so\n", self.modules.display());
        }
        if nix::unistd::geteuid().is_root() {
            text += "User www-data\nGroup www-data\n";
        }
        text += self.engine.tuning();
        text += &self.fill(
            "DefaultRuntimeDir @ROOT@/run\n\
             PidFile logs/httpd.pid\n\
             Listen 127.0.0.1:@PORT@\n\
             ServerName localhost\n\
             ErrorLog logs/error_log\n\
             DocumentRoot @HTDOCS@\n\
             <IfModule mod_mime.c>\n\
             TypesConfig conf/mime.types\n\
             </IfModule>\n\
             <Directory />\n\
             Options FollowSymLinks\n\
             AllowOverride None\n\
             Require all denied\n\
             </Directory>\n\
             <Directory @HTDOCS@>\n\
             Require all granted\n\
             </Directory>\n\
             <FilesMatch \"^\\.ht\">\n\
             Require all denied\n\
             </FilesMatch>\n",
        );
        text
    }

    /// Copies the stock tree; paths and ports in it become this site's, and its engine the case's.
    fn plant(&self, from: &Path, to: &Path) -> Result<(), String> {
        let err = |e: std::io::Error| format!("{}: {e}", from.display());
        folder_of(&to.join("x"))?;
        for entry in fs::read_dir(from).map_err(err)? {
            let entry = entry.map_err(err)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let engine = from.ends_with("mods-enabled");
            if from.to_string_lossy().ends_with("-enabled") && !is_stock(&name) {
                continue;
            }
            let ours = |text: &str| match text.split_once("mpm_").filter(|_| engine) {
                Some((before, after)) => {
                    let end = after.rfind('.').map_or("", |dot| &after[dot..]);
                    format!("{before}mpm_{}{end}", self.engine.name())
                }
                None => text.to_owned(),
            };
            let to = to.join(ours(&name));
            let kind = entry.file_type().map_err(err)?;
            if kind.is_dir() {
                self.plant(&entry.path(), &to)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path()).map_err(err)?;
                symlink(ours(&target.to_string_lossy()), &to).map_err(err)?;
            } else {
                let mut text = fs::read_to_string(entry.path()).map_err(err)?;
                for (theirs, ours) in STOCK_PATHS {
                    text = text.replace(theirs, &self.fill(ours));
                }
                write(&to, text.as_bytes())?;
            }
        }
        Ok(())
    }

    /// A folder of empty files named as the modules: only that they exist may matter.
    fn empty_modules(&self) -> Result<(), String> {
        let reference = include_str!("modules.txt");
        for module in reference.split_whitespace() {
            write(&self.modules.join(format!("mod_{module}.so")), b"")?;
        }
        Ok(())
    }

    /// Makes the files of a `files` section. Each is headed by `== path @attribute…`; paths are below `htdocs`, those
    /// with a leading slash below the root.
    fn files(&self, section: &Section) -> Result<(), String> {
        let mut heads: Vec<(&str, Vec<&str>)> = Vec::new();
        for line in section.lines() {
            match (line.strip_prefix("== "), heads.last_mut()) {
                (Some(head), _) => heads.push((head, Vec::new())),
                (None, Some((_, lines))) => lines.push(line),
                (None, None) => return Err(format!("files: {line:?} stands before the first \"== path\"")),
            }
        }
        for (head, lines) in heads {
            self.file(head, &lines).map_err(|e| format!("{head}: {e}"))?;
        }
        Ok(())
    }

    fn file(&self, head: &str, lines: &[&str]) -> Result<(), String> {
        let mut words = head.split_whitespace();
        let name = percent_decoded(&self.fill(words.next().unwrap_or_default()));
        let path = match name.strip_prefix('/') {
            Some(name) => self.root.join(name),
            None => self.htdocs().join(&name),
        };
        folder_of(&path)?;
        let mut content: Vec<u8> =
            lines.iter().flat_map(|line| (self.fill(line) + "\n").into_bytes()).collect();
        let (mut mode, mut mtime) = (None, MTIME);
        for word in words {
            let (attribute, value) = word.split_once('=').unwrap_or((word, ""));
            match attribute {
                "@symlink" => {
                    return symlink(self.fill(value), &path).map_err(|e| e.to_string());
                }
                "@size" => {
                    let size: usize = value.parse().map_err(|_| format!("{word:?}"))?;
                    content =
                        (0..).flat_map(|line| format!("{line:015x}\n").into_bytes()).take(size).collect();
                }
                "@chomp" => _ = content.pop(),
                "@crlf" => content = String::from_utf8_lossy(&content).replace('\n', "\r\n").into_bytes(),
                "@gzip" => content = gzip(&content)?,
                "@packed" => content = unpacked(&content)?,
                "@sqlite" => {
                    sqlite(&path, &String::from_utf8_lossy(&content))?;
                    content = fs::read(&path).map_err(|e| e.to_string())?;
                }
                "@mode" => mode = Some(u32::from_str_radix(value, 8).map_err(|_| format!("{word:?}"))?),
                "@mtime" => mtime = value.parse().map_err(|_| format!("{word:?} is no Unix time"))?,
                _ => return Err(format!("unknown attribute {word:?}")),
            }
        }
        if name.ends_with('/') {
            folder_of(&path.join("x"))?;
        } else {
            write(&path, &content)?;
        }
        touch(&path, mtime)?;
        if let Some(mode) = mode {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !self.keep {
            _ = open_up(&self.htdocs());
            _ = fs::remove_dir_all(&self.root);
        }
    }
}

/// `@PORT@`, `@PORT2@`, …
pub fn placeholder(index: usize) -> String {
    match index {
        0 => "@PORT@".to_owned(),
        3 => "@BACKEND@".to_owned(),
        _ => format!("@PORT{}@", index + 1),
    }
}

/// Fills in each `@REPEAT:count:text@`.
fn repeat(text: &str) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("@REPEAT:") {
        filled.push_str(before);
        let parts = after.split_once(':').and_then(|(count, after)| {
            let (what, after) = after.split_once('@')?;
            Some((count.parse::<usize>().ok()?, what, after))
        });
        let Some((count, what, after)) = parts else {
            filled.push_str("@REPEAT:");
            rest = after;
            continue;
        };
        filled.push_str(&what.repeat(count));
        rest = after;
    }
    filled + rest
}

/// File names are written with `%20` for a blank, and so on.
fn percent_decoded(name: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = name.as_bytes();
    while let [byte, after @ ..] = rest {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, code.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(code)) => {
                decoded.push(code);
                rest = &after[2..];
            }
            _ => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn gzip(content: &[u8]) -> Result<Vec<u8>, String> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).and_then(|()| encoder.finish()).map_err(|e| e.to_string())
}

/// What was given to `gzip`, then to `base64`.
fn unpacked(content: &[u8]) -> Result<Vec<u8>, String> {
    use base64::Engine;
    let text: Vec<u8> = content.iter().copied().filter(|c| !c.is_ascii_whitespace()).collect();
    let packed = base64::engine::general_purpose::STANDARD.decode(text).map_err(|e| e.to_string())?;
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(&*packed).read_to_end(&mut content).map_err(|e| e.to_string())?;
    Ok(content)
}

/// Makes a database from SQL. Everybody may write to it.
fn sqlite(path: &Path, sql: &str) -> Result<(), String> {
    let database = rusqlite::Connection::open(path).map_err(|e| e.to_string())?;
    database.execute_batch(sql).map_err(|e| e.to_string())
}

fn folder_of(path: &Path) -> Result<(), String> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}

fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    folder_of(path)?;
    fs::write(path, content).map_err(|e| format!("{}: {e}", path.display()))
}

fn touch(path: &Path, mtime: u64) -> Result<(), String> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(mtime);
    let times = FileTimes::new().set_modified(time).set_accessed(time);
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    file.set_times(times).map_err(|e| format!("{}: {e}", path.display()))
}

/// Gives the folders under `folder` and itself the fixed time, and everything to www-data when root runs the cases:
/// its children read it, and a file of root is another owner's (SymLinksIfOwnerMatch).
fn settle(folder: &Path, root: bool) -> Result<(), String> {
    let owner = match root {
        true => nix::unistd::User::from_name("www-data").ok().flatten(),
        false => None,
    };
    let err = |e: std::io::Error| format!("{}: {e}", folder.display());
    for entry in fs::read_dir(folder).map_err(err)? {
        let entry = entry.map_err(err)?;
        let kind = entry.file_type().map_err(err)?;
        if let Some(user) = &owner {
            std::os::unix::fs::lchown(entry.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .map_err(err)?;
        }
        if kind.is_dir() && fs::read_dir(entry.path()).is_ok() {
            settle(&entry.path(), root)?;
        }
    }
    touch(folder, MTIME)
}

/// Makes folders removable again which a case closed.
fn open_up(folder: &Path) -> std::io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
