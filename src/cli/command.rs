//! The options on the command line.
//!
//! Answers to the `getopt` loop of `server/main.c` (`AP_SERVER_BASEARGS`), to `ap_mpm_rewrite_args` of
//! `server/mpm_unix.c` and to the verbs of the `apachectl` script. Differs in that `--help` and `--version` are known,
//! that a verb (`start`, `configtest` …) may stand among the options, and that all options are looked at before the
//! first is obeyed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::log::Level;

/// What `-k` asks of a running server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// Start one, unless it runs already.
    Start,
    /// SIGHUP, or a start.
    Restart,
    /// SIGUSR1, or a start.
    Graceful,
    /// SIGWINCH.
    GracefulStop,
    /// SIGTERM.
    Stop,
}

impl Signal {
    const ALL: [(&'static str, Signal); 5] = [
        ("start", Signal::Start),
        ("restart", Signal::Restart),
        ("graceful", Signal::Graceful),
        ("graceful-stop", Signal::GracefulStop),
        ("stop", Signal::Stop),
    ];

    fn parse(word: &str) -> Option<Signal> {
        Signal::ALL.iter().find(|(name, _)| *name == word).map(|(_, signal)| *signal)
    }
}

/// A word that the `apachectl` script knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// As `-k`.
    Signal(Signal),
    /// As `-t`.
    ConfigTest,
    /// The short form of the status page.
    Status,
    /// The whole status page.
    FullStatus,
}

impl Verb {
    /// The verb called so.
    pub fn parse(word: &str) -> Option<Verb> {
        match word {
            "configtest" => Some(Verb::ConfigTest),
            "status" => Some(Verb::Status),
            "fullstatus" => Some(Verb::FullStatus),
            _ => Signal::parse(word).map(Verb::Signal),
        }
    }
}

/// What is done before any configuration is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Immediate {
    /// `-v`
    Version,
    /// `-l`
    Modules,
    /// `-h`, `-?`
    Usage,
}

/// Whether the server runs or only looks at its configuration: `ap_run_mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RunMode {
    /// Serve.
    #[default]
    Normal,
    /// `-t`
    ConfigTest,
    /// `-S`, `-M`, `-L`, `-V`, `-D DUMP_…`
    ConfigDump,
}

/// The command line, taken apart.
#[derive(Clone, Debug, Default)]
pub struct CommandLine {
    /// `-v`, `-l`, `-h`: the first of them.
    pub immediate: Option<Immediate>,
    /// A word of `apachectl`.
    pub verb: Option<Verb>,
    /// `-k`; `None`: not given, which means start.
    pub signal: Option<Signal>,
    /// What to do with the configuration.
    pub mode: RunMode,
    /// `-L`.
    pub show_directives: bool,
    /// `-V`.
    pub show_settings: bool,
    /// `-D`, with the names that `-S`, `-M` and `-X` stand for.
    pub defines: Vec<String>,
    /// `-d`.
    pub server_root: Option<String>,
    /// `-f`.
    pub config_file: Option<String>,
    /// `-C`.
    pub pre_config: Vec<String>,
    /// `-c`.
    pub post_config: Vec<String>,
    /// `-e`.
    pub startup_level: Option<Level>,
    /// `-E`.
    pub startup_log: Option<String>,
    /// Not with `-T`.
    pub checks_document_root: bool,
}

/// What is wrong with the command line: the line above the usage text, if there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misuse(pub Option<String>);

/// The names with which `-D` dumps something, without `-t`.
const DUMPS: [&str; 4] = ["DUMP_VHOSTS", "DUMP_RUN_CFG", "DUMP_MODULES", "DUMP_INCLUDES"];

fn flag(letter: char) -> Arg {
    Arg::new(letter.to_string()).short(letter).action(ArgAction::Count)
}

fn value(letter: char) -> Arg {
    Arg::new(letter.to_string()).short(letter).action(ArgAction::Append).allow_hyphen_values(true).num_args(1)
}

fn definition() -> Command {
    let mut command = Command::new("httpd")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true);
    for letter in ['L', 'M', 'S', 'T', 'V', 'X', 'l', 't', '?'] {
        command = command.arg(flag(letter));
    }
    command = command.arg(flag('h').long("help")).arg(flag('v').long("version"));
    for letter in ['C', 'D', 'E', 'c', 'd', 'e', 'f', 'k'] {
        command = command.arg(value(letter));
    }
    command.arg(Arg::new("verb").action(ArgAction::Append).num_args(0..))
}

fn text(word: &OsString) -> String {
    httpd_conf::from_bytes(word.as_bytes()).into_owned()
}

/// Takes the command line apart. `args[0]` is the program.
pub fn parse(args: &[OsString]) -> Result<CommandLine, Misuse> {
    let program = args.first().map(text).unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or(&program);
    // The configuration's own way of keeping bytes in text: no argument is refused for its encoding.
    let words = args.iter().map(text);
    let matches = definition().try_get_matches_from(words).map_err(|error| misuse(&error, name))?;
    let mut line = CommandLine { checks_document_root: true, ..CommandLine::default() };
    line.take_flags(&matches);
    line.take_values(&matches, name)?;
    Ok(line)
}

fn misuse(error: &clap::Error, name: &str) -> Misuse {
    let letter = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) => word.trim_start_matches('-').chars().next(),
        _ => None,
    };
    let Some(letter) = letter else { return Misuse(None) };
    // Apache takes -k out of the arguments first; without a value it is then not known.
    let lacks_value = matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues);
    Misuse(Some(if lacks_value && letter != 'k' {
        format!("{name}: option requires an argument -- {letter}")
    } else {
        format!("{name}: illegal option -- {letter}")
    }))
}

fn given(matches: &ArgMatches, letter: char) -> bool {
    matches.get_count(&letter.to_string()) > 0
}

fn index(matches: &ArgMatches, letter: char) -> Option<usize> {
    if !given(matches, letter) {
        return None;
    }
    matches.indices_of(&letter.to_string()).and_then(|mut all| all.next())
}

fn values(matches: &ArgMatches, letter: char) -> Vec<String> {
    matches.get_many::<String>(&letter.to_string()).map(|all| all.cloned().collect()).unwrap_or_default()
}

impl CommandLine {
    fn take_flags(&mut self, matches: &ArgMatches) {
        let immediate = [
            (index(matches, 'v'), Immediate::Version),
            (index(matches, 'l'), Immediate::Modules),
            (index(matches, 'h'), Immediate::Usage),
            (index(matches, '?'), Immediate::Usage),
        ];
        self.immediate = immediate
            .iter()
            .filter_map(|(at, what)| Some((at.as_ref()?, what)))
            .min_by_key(|(at, _)| **at)
            .map(|(_, what)| *what);
        self.show_directives = given(matches, 'L');
        self.show_settings = given(matches, 'V');
        self.checks_document_root = !given(matches, 'T');
        if ['L', 'V', 'S', 'M'].iter().any(|letter| given(matches, *letter)) {
            self.mode = RunMode::ConfigDump;
        } else if given(matches, 't') {
            self.mode = RunMode::ConfigTest;
        }
    }

    fn take_values(&mut self, matches: &ArgMatches, name: &str) -> Result<(), Misuse> {
        self.defines = in_order(matches);
        if self.defines.iter().any(|d| DUMPS.contains(&d.as_str())) {
            self.mode = RunMode::ConfigDump;
        }
        self.server_root = values(matches, 'd').pop();
        self.config_file = values(matches, 'f').pop();
        self.startup_log = values(matches, 'E').pop();
        self.pre_config = values(matches, 'C');
        self.post_config = values(matches, 'c');
        for level in values(matches, 'e') {
            self.startup_level = Some(Level::parse(&level).ok_or(Misuse(None))?);
        }
        for word in values(matches, 'k') {
            match Signal::parse(&word) {
                Some(signal) if self.signal.is_none() => self.signal = Some(signal),
                _ => return Err(Misuse(Some(format!("{name}: illegal option -- k")))),
            }
        }
        for word in matches.get_many::<String>("verb").unwrap_or_default() {
            match Verb::parse(word) {
                Some(verb) if self.verb.is_none() && self.signal.is_none() => self.verb = Some(verb),
                _ => return Err(Misuse(None)),
            }
        }
        Ok(())
    }
}

/// The names that `-D` defines, and those that `-S`, `-M`, `-X` stand for, in the order of the command line.
fn in_order(matches: &ArgMatches) -> Vec<String> {
    let mut names: Vec<(usize, String)> = Vec::new();
    if let (Some(at), Some(values)) = (matches.indices_of("D"), matches.get_many::<String>("D")) {
        names.extend(at.zip(values.cloned()));
    }
    let stand_for: [(char, &[&str]); 3] =
        [('S', &["DUMP_VHOSTS", "DUMP_RUN_CFG"]), ('M', &["DUMP_MODULES"]), ('X', &["DEBUG"])];
    for (letter, defines) in stand_for {
        if let Some(at) = index(matches, letter) {
            names.extend(defines.iter().map(|name| (at, (*name).to_owned())));
        }
    }
    names.sort_by_key(|(at, _)| *at);
    names.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str) -> Result<CommandLine, Misuse> {
        let args: Vec<OsString> = std::iter::once("/usr/sbin/apache2")
            .chain(words.split_whitespace())
            .map(OsString::from)
            .collect();
        parse(&args)
    }

    fn wrong(words: &str) -> Option<String> {
        line(words).map(|l| format!("{l:?}")).expect_err(words).0
    }

    #[test]
    fn options_apart_attached_and_together() {
        let all = line("-d /r -f conf/x -DFOREGROUND -D A -C Listen -c B -X -e debug -E log -T").unwrap();
        assert_eq!(all.server_root.as_deref(), Some("/r"));
        assert_eq!(all.config_file.as_deref(), Some("conf/x"));
        assert_eq!(all.defines, ["FOREGROUND", "A", "DEBUG"]);
        assert_eq!((all.pre_config.len(), all.post_config.len()), (1, 1));
        assert_eq!(all.startup_level, Some(Level::Debug));
        assert_eq!(all.startup_log.as_deref(), Some("log"));
        assert!(!all.checks_document_root);
        assert_eq!(all.mode, RunMode::Normal);
        let both = line("-tTf x -k stop -f y").unwrap();
        assert_eq!((both.mode, both.config_file.as_deref()), (RunMode::ConfigTest, Some("y")));
        assert_eq!(both.signal, Some(Signal::Stop));
        assert_eq!(line("-D -X").unwrap().defines, ["-X"]);
    }

    #[test]
    fn dumps() {
        assert_eq!(line("-S -DX").unwrap().defines, ["DUMP_VHOSTS", "DUMP_RUN_CFG", "X"]);
        for words in ["-S", "-M", "-L", "-V", "-t -M", "-M -t", "-t -D DUMP_INCLUDES", "-D DUMP_VHOSTS"] {
            assert_eq!(line(words).unwrap().mode, RunMode::ConfigDump, "{words}");
        }
        assert_eq!(line("-t -D DUMP_CONFIG").unwrap().mode, RunMode::ConfigTest);
        assert_eq!(line("-l -v").unwrap().immediate, Some(Immediate::Modules));
        assert_eq!(line("-vt").unwrap().immediate, Some(Immediate::Version));
        assert_eq!(line("-?").unwrap().immediate, Some(Immediate::Usage));
    }

    #[test]
    fn misuse_as_apache_words_it() {
        assert_eq!(wrong("-x").as_deref(), Some("apache2: illegal option -- x"));
        assert_eq!(wrong("-tx").as_deref(), Some("apache2: illegal option -- x"));
        assert_eq!(wrong("-n").as_deref(), Some("apache2: illegal option -- n"));
        assert_eq!(wrong("-t -D").as_deref(), Some("apache2: option requires an argument -- D"));
        assert_eq!(wrong("-k").as_deref(), Some("apache2: illegal option -- k"));
        assert_eq!(wrong("-k foo").as_deref(), Some("apache2: illegal option -- k"));
        assert_eq!(wrong("-k stop -k start").as_deref(), Some("apache2: illegal option -- k"));
        assert_eq!(wrong("-e foo"), None);
        assert_eq!(wrong("foo"), None);
        assert_eq!(wrong("start stop"), None);
    }

    #[test]
    fn verbs() {
        assert_eq!(line("graceful-stop -DX").unwrap().verb, Some(Verb::Signal(Signal::GracefulStop)));
        assert_eq!(line("-f x configtest").unwrap().verb, Some(Verb::ConfigTest));
    }
}
