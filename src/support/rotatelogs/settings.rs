//! The command line of rotatelogs: its options, and their summary for `-v`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The file, without needless parts in its path.
    pub log_root: Vec<u8>,
    /// Seconds; 0: not by time.
    pub rotation_time: i64,
    /// Bytes; 0: not by size.
    pub rotation_size: u64,
    /// Seconds east of UTC at which days begin.
    pub utc_offset: i64,
    /// `-l`
    pub use_localtime: bool,
    /// The name has conversions of `strftime`.
    pub use_strftime: bool,
    /// `-f`
    pub force_open: bool,
    /// `-v`
    pub verbose: bool,
    /// `-e`
    pub echo: bool,
    /// `-t`
    pub truncate: bool,
    /// `-T`
    pub truncate_rotated_only: bool,
    /// `-c`
    pub create_empty: bool,
    /// `-D`
    pub create_path: bool,
    /// `-n`; 0: not given.
    pub num_files: i64,
    /// `-L`
    pub link_file: Option<OsString>,
    /// `-p`
    pub post_rotate: Option<OsString>,
}

/// What is wrong with the command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Misuse {
    /// The usage text follows the reason.
    Usage(Option<String>),
    /// Only this is said.
    Text(String),
}

impl From<&str> for Misuse {
    fn from(reason: &str) -> Misuse {
        Misuse::Usage(Some(reason.to_owned()))
    }
}

const FLAGS: [char; 8] = ['l', 'f', 'D', 't', 'T', 'v', 'e', 'c'];
const VALUES: [char; 3] = ['L', 'p', 'n'];

fn definition() -> Command {
    let mut command = Command::new("rotatelogs").disable_help_flag(true).disable_version_flag(true);
    for letter in FLAGS {
        command = command.arg(Arg::new(letter.to_string()).short(letter).action(ArgAction::Count));
    }
    for letter in VALUES {
        let arg = Arg::new(letter.to_string()).short(letter).action(ArgAction::Append).num_args(1);
        command = command.arg(arg.allow_hyphen_values(true).value_parser(clap::value_parser!(OsString)));
    }
    // As with getopt, there are no options behind the first word that is none.
    let words = Arg::new("words").action(ArgAction::Append).num_args(0..).trailing_var_arg(true);
    command.arg(words.allow_negative_numbers(true).value_parser(clap::value_parser!(OsString)))
}

/// Takes the command line apart. `args[0]` is the program.
pub fn parse(args: &[OsString]) -> Result<Settings, Misuse> {
    let matches = definition().try_get_matches_from(args).map_err(|err| misuse(&err, args))?;
    let given = |letter: char| matches.get_count(&letter.to_string()) > 0;
    let mut settings = Settings {
        use_localtime: given('l'),
        force_open: given('f'),
        create_path: given('D'),
        truncate: given('t'),
        truncate_rotated_only: given('T'),
        verbose: given('v'),
        echo: given('e'),
        create_empty: given('c'),
        link_file: value(&matches, 'L'),
        post_rotate: value(&matches, 'p'),
        ..Settings::default()
    };
    let num_files = value(&matches, 'n').map(|number| atoi(number.as_bytes()));
    let words: Vec<&OsString> = matches.get_many::<OsString>("words").unwrap_or_default().collect();
    let (file, sizes) = match words.split_first() {
        Some((file, sizes)) if (1..=3).contains(&sizes.len()) => (file, sizes),
        _ => return Err("Incorrect number of arguments".into()),
    };
    settings.log_root = super::name::normal_path(file.as_bytes());
    for (index, word) in sizes.iter().enumerate() {
        settings.take_time_or_size(word.as_bytes(), index + 1 == sizes.len())?;
    }
    settings.use_strftime = settings.log_root.contains(&b'%');
    settings.num_files = num_files.unwrap_or(0).max(0);
    if settings.use_strftime && settings.num_files > 0 {
        return Err(Misuse::Text("Cannot use -n with % in filename".to_owned()));
    }
    if num_files.is_some_and(|number| number < 1) {
        return Err(Misuse::Text("Invalid -n argument".to_owned()));
    }
    Ok(settings)
}

fn value(matches: &ArgMatches, letter: char) -> Option<OsString> {
    matches.get_many::<OsString>(&letter.to_string()).and_then(Iterator::last).cloned()
}

fn misuse(error: &clap::Error, args: &[OsString]) -> Misuse {
    let program = args.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    let letter = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) => word.trim_start_matches('-').chars().next(),
        _ => None,
    };
    let what = match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues => "option requires an argument",
        _ => "illegal option",
    };
    Misuse::Usage(letter.map(|letter| format!("{name}: {what} -- {letter}")))
}

impl Settings {
    /// `get_time_or_size`: only the last word can be an offset, so that it is not taken for a time.
    fn take_time_or_size(&mut self, word: &[u8], last: bool) -> Result<(), Misuse> {
        const UNITS: [(u8, u64); 4] = [(b'B', 1), (b'K', 1 << 10), (b'M', 1 << 20), (b'G', 1 << 30)];
        let unit = UNITS
            .iter()
            .find_map(|(letter, factor)| word.iter().position(|byte| byte == letter).map(|at| (at, *factor)));
        if let Some((at, factor)) = unit {
            if self.rotation_size > 0 {
                return Err("Rotation size parameter allowed only once".into());
            }
            if at + 1 == word.len() {
                self.rotation_size = u64::try_from(atoi(word)).unwrap_or(0).saturating_mul(factor);
            }
            if self.rotation_size == 0 {
                return Err("Invalid rotation size parameter".into());
            }
        } else if last && (self.rotation_size > 0 || self.rotation_time > 0) {
            if self.use_localtime {
                return Err("UTC offset parameter is not valid with -l".into());
            }
            self.utc_offset = atoi(word) * 60;
        } else {
            if self.rotation_time > 0 {
                return Err("Rotation time parameter allowed only once".into());
            }
            self.rotation_time = atoi(word);
            if self.rotation_time <= 0 {
                return Err("Invalid rotation time parameter".into());
            }
        }
        Ok(())
    }

    /// What `-v` says first.
    pub fn summary(&self) -> String {
        let yes = |set| if set { "yes" } else { "no" };
        let program = match &self.post_rotate {
            Some(program) => program.to_string_lossy(),
            None => "not used".into(),
        };
        format!(
            "Rotation time interval:      {:12}\n\
             Rotation size interval:      {:12}\n\
             Rotation time UTC offset:    {:12}\n\
             Rotation based on localtime: {:>12}\n\
             Rotation file date pattern:  {:>12}\n\
             Rotation file forced open:   {:>12}\n\
             Create parent directories:   {:>12}\n\
             Rotation verbose:            {:>12}\n\
             Rotation create empty logs:  {:>12}\n\
             Rotation file name: {:>21}\n\
             Post-rotation prog: {program:>21}\n",
            self.rotation_time,
            self.rotation_size,
            self.utc_offset,
            yes(self.use_localtime),
            yes(self.use_strftime),
            yes(self.force_open),
            yes(self.create_path),
            yes(self.verbose),
            yes(self.create_empty),
            String::from_utf8_lossy(&self.log_root),
        )
    }
}

/// The number at the beginning, as C's `atoi`; what is too large for an `int` is the largest.
fn atoi(word: &[u8]) -> i64 {
    let word = word.trim_ascii_start();
    let (negative, digits) = match word.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, word),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0_i64, |number, digit| {
        number.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(i64::from(i32::MAX))
    });
    if negative { -number } else { number }
}

/// How it is used.
pub fn usage(program: &str) -> String {
    format!(
        "Usage: {program} [-vlfDtTec] [-L linkname] [-p prog] [-n number] <logfile> \
         {{<rotation time in seconds>|<rotation size>(B|K|M|G)}} [offset minutes from UTC]\n\n\
         Add this:\n\nTransferLog \"|{program} /some/where 86400\"\n\n\
         or \n\nTransferLog \"|{program} /some/where 5M\"\n\n\
         {USAGE}"
    )
}

const USAGE: &str = "\
to httpd.conf. By default, the generated name will be
<logfile>.nnnn where nnnn is the system time at which the log
nominally starts (N.B. if using a rotation time, the time will
always be a multiple of the rotation time, so you can synchronize
cron scripts with it). If <logfile> contains strftime conversion
specifications, those will be used instead. At the end of each
rotation time or when the file size is reached a new log is
started.

Options:
  -v       Verbose operation. Messages are written to stderr.
  -l       Base rotation on local time instead of UTC.
  -L path  Create hard link from current log to specified path.
  -p prog  Run specified program after opening a new log file. See below.
  -f       Force opening of log on program start.
  -D       Create parent directories of log file.
  -t       Truncate logfile instead of rotating, tail friendly.
  -T       Truncate logfiles opened for rotation, but not the initial logfile.
  -e       Echo log to stdout for further processing.
  -c       Create log even if it is empty.
  -n num   Rotate file by adding suffixes '.1', '.2', ..., '.num'.

The program for '-p' is invoked as \"[prog] <curfile> [<prevfile>]\"
where <curfile> is the filename of the newly opened logfile, and
<prevfile>, if given, is the filename of the previously used logfile.

";

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(words: &str) -> Result<Settings, Misuse> {
        let args: Vec<OsString> =
            std::iter::once("/usr/bin/rotatelogs").chain(words.split(' ')).map(OsString::from).collect();
        parse(&args)
    }

    fn reason(words: &str) -> String {
        match settings(words) {
            Err(Misuse::Usage(Some(reason)) | Misuse::Text(reason)) => reason,
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn times_sizes_and_offsets() {
        let of = |words: &str| {
            let settings = settings(words).unwrap();
            (settings.rotation_time, settings.rotation_size, settings.utc_offset)
        };
        assert_eq!(of("log 86400"), (86400, 0, 0));
        assert_eq!(of("log 5M"), (0, 5 << 20, 0));
        assert_eq!(of("log 5M 60 -90"), (60, 5 << 20, -5400));
        assert_eq!(of("log 60 5M -90"), (60, 5 << 20, -5400));
        assert_eq!(of("log 60 30"), (60, 0, 1800));
        assert_eq!(of("log 5M 60"), (0, 5 << 20, 3600));
        assert_eq!(of("-vn 3 log 6G"), (0, 6 << 30, 0));
    }

    #[test]
    fn what_is_wrong() {
        assert_eq!(reason("-x log 1"), "rotatelogs: illegal option -- x");
        assert_eq!(reason("-L"), "rotatelogs: option requires an argument -- L");
        assert_eq!(reason("log"), "Incorrect number of arguments");
        assert_eq!(reason("log 1 2 3 4"), "Incorrect number of arguments");
        assert_eq!(reason("log 0"), "Invalid rotation time parameter");
        assert_eq!(reason("log -v"), "Invalid rotation time parameter");
        assert_eq!(reason("log 1Mb"), "Invalid rotation size parameter");
        assert_eq!(reason("log 1M 1K"), "Rotation size parameter allowed only once");
        assert_eq!(reason("log 1 2 3"), "Rotation time parameter allowed only once");
        assert_eq!(reason("-l log 60 30"), "UTC offset parameter is not valid with -l");
        assert_eq!(reason("-n 0 log 60"), "Invalid -n argument");
        assert_eq!(reason("-n 2 log%H 60"), "Cannot use -n with % in filename");
    }
}
