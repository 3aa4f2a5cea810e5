//! apachectl's verbs: as a program of that name, and as words of httpd's own command line.
//!
//! Answers to `support/apachectl.in` and Debian's `apache2ctl`. A shell reads the distribution's `envvars` file, makes the
//! folders for run-time files that it names, and then becomes httpd with the options that the verb stands for.
//! Differs in that the status page is fetched by this program, without lynx.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::command::{self, Verb};
use super::{Layout, Options, base_name, layout, say, status, verb_words};

/// True for the names under which this program is apachectl.
pub fn is_name(name: &str) -> bool {
    matches!(name, "apachectl" | "apache2ctl")
}

/// What the shell does before it becomes the server: `$1` is the envvars file, the rest is the command. A failed command
/// is reported as apachectl does.
const SHELL: &str = r#"
if test -f "$1"; then . "$1"; fi
shift
for dir in "$APACHE_RUN_DIR" "$APACHE_LOCK_DIR"; do
    if test -n "$dir" && ! test -d "$dir"; then mkdir -p "$dir"; fi
done
if test "$(id -u)" -eq 0; then ${APACHE_ULIMIT_MAX_FILES:-ulimit -n 8192} 2>/dev/null; fi
exec "$@"
"#;

/// The program `apachectl`. `args[0]` is its name.
pub fn run(args: &[OsString]) -> i32 {
    let called = args.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let words = args.get(1..).unwrap_or_default();
    let asks_for_help = match words {
        [] => true,
        [word] => matches!(word.to_str(), Some("usage" | "help" | "--help")),
        _ => false,
    };
    if asks_for_help {
        say(&format!(
            "Usage: {called} start|stop|restart|graceful|graceful-stop|configtest|status|fullstatus|help\n       {called} <httpd args>\n       {called} -h            (for help on <httpd args>)\n"
        ));
        return 1;
    }
    let layout = Layout::of(base_name(&called));
    match words.first().and_then(|word| word.to_str()).and_then(Verb::parse) {
        Some(verb) => hand_over(verb, layout, &words[1..]),
        None => become_httpd(layout, words),
    }
}

/// A verb among the options of httpd itself.
pub fn obey(verb: Verb, args: &[OsString]) -> i32 {
    let called = args.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let mut rest: Vec<OsString> = args.iter().skip(1).cloned().collect();
    let at = rest.iter().position(|word| word.to_str().and_then(Verb::parse) == Some(verb));
    if let Some(at) = at {
        rest.remove(at);
    }
    hand_over(verb, Layout::of(base_name(&called)), &rest)
}

fn hand_over(verb: Verb, layout: &'static Layout, rest: &[OsString]) -> i32 {
    let Some(options) = verb_words(verb) else {
        return show_status(verb, layout, rest);
    };
    let words: Vec<OsString> = options.iter().map(OsString::from).chain(rest.iter().cloned()).collect();
    become_httpd(layout, &words)
}

/// The page of mod_status, of the server that the configuration describes.
fn show_status(verb: Verb, layout: &'static Layout, rest: &[OsString]) -> i32 {
    let args: Vec<OsString> =
        std::iter::once(program_name(layout).into()).chain(rest.iter().cloned()).collect();
    let options = match command::parse(&args) {
        Ok(line) => Options::of(&line, program_name(layout), String::new(), layout),
        Err(_) => {
            say(&super::usage::text(program_name(layout)));
            return 1;
        }
    };
    let url = std::env::var("APACHE_STATUSURL").or_else(|_| std::env::var("STATUSURL")).ok();
    status::show(verb == Verb::FullStatus, url.as_deref(), options)
}

fn program_name(layout: &'static Layout) -> &'static str {
    if std::ptr::eq(layout, &layout::DEBIAN) { "apache2" } else { "httpd" }
}

/// The server's program: as `APACHE_HTTPD` says, else beside this one, else this one under the server's name.
fn server_program(name: &str) -> PathBuf {
    if let Some(program) = std::env::var_os("APACHE_HTTPD") {
        return program.into();
    }
    let own = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let beside = |name: &str| own.parent().map(|dir| dir.join(name)).filter(|file| file.is_file());
    beside(name).or_else(|| beside("httpd")).unwrap_or(own)
}

// apachectl is no server: it has one thread and becomes the program it runs.
#[allow(clippy::disallowed_methods)]
fn become_httpd(layout: &'static Layout, words: &[OsString]) -> i32 {
    let name = program_name(layout);
    let program = server_program(name);
    let envvars = std::env::var_os("APACHE_ENVVARS").unwrap_or_else(|| layout.envvars.into());
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(SHELL).arg("apachectl").arg(envvars);
    // A shell can't give the program another name than its file's.
    command.env(super::NAME, name).arg(&program);
    let error = command.args(words).exec();
    say(&format!("{}: {error}\n", program.display()));
    1
}
