//! Log levels, and which are wanted for which module.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};

/// Apache's sixteen levels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum Level {
    /// The system is unusable.
    Emerg = 0,
    /// Act at once.
    Alert,
    /// Critical.
    Crit,
    /// An error.
    Error,
    /// A warning.
    Warn,
    /// Normal but noteworthy; always logged to a file.
    Notice,
    /// Informational.
    Info,
    /// For debugging.
    Debug,
    /// Traces, each finer than the one before.
    Trace1,
    /// See `Trace1`.
    Trace2,
    /// See `Trace1`.
    Trace3,
    /// See `Trace1`.
    Trace4,
    /// See `Trace1`.
    Trace5,
    /// See `Trace1`.
    Trace6,
    /// See `Trace1`.
    Trace7,
    /// See `Trace1`.
    Trace8,
}

const NAMES: [(&str, Level); 16] = [
    ("emerg", Level::Emerg),
    ("alert", Level::Alert),
    ("crit", Level::Crit),
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("notice", Level::Notice),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace1", Level::Trace1),
    ("trace2", Level::Trace2),
    ("trace3", Level::Trace3),
    ("trace4", Level::Trace4),
    ("trace5", Level::Trace5),
    ("trace6", Level::Trace6),
    ("trace7", Level::Trace7),
    ("trace8", Level::Trace8),
];

impl Level {
    /// As `LogLevel` and the log have it.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].0
    }

    /// The level called so, in any case.
    pub fn parse(name: &str) -> Option<Level> {
        NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, level)| *level)
    }

    /// The level with this number.
    pub fn from_number(number: u64) -> Option<Level> {
        NAMES.get(usize::try_from(number).ok()?).map(|(_, level)| *level)
    }
}

/// `LogLevel` of a server or directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogLevels {
    /// For modules that are not named.
    pub default: Option<Level>,
    /// By module, without `mod_` and `_module` (`rewrite`).
    pub modules: BTreeMap<String, Level>,
}

/// Apache's default.
pub const DEFAULT: Level = Level::Warn;

/// The finest level that any `LogLevel` of this process asked for, so that the others need no closer look.
static FINEST: AtomicU8 = AtomicU8::new(DEFAULT as u8);

/// Somebody asks for `level`.
pub fn ask_for(level: Level) {
    FINEST.fetch_max(level as u8, Ordering::Relaxed);
}

/// Whether anybody may want `level`.
#[inline]
pub fn is_asked_for(level: Level) -> bool {
    level as u8 <= FINEST.load(Ordering::Relaxed) || level == Level::Notice
}

impl LogLevels {
    /// True when a directive set something.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.default.is_some() || !self.modules.is_empty()
    }

    /// Is `level` of `module` wanted? Notices always are.
    #[inline]
    pub fn enabled(&self, module: &str, level: Level) -> bool {
        let general = self.default.unwrap_or(DEFAULT);
        let wanted = if self.modules.is_empty() {
            general
        } else {
            self.modules.get(module).copied().unwrap_or(general)
        };
        level <= wanted || level == Level::Notice
    }

    /// The same, where nothing is wanted as long as nothing was set.
    pub fn enabled_if_set(&self, module: &str, level: Level) -> bool {
        self.is_set() && self.enabled(module, level)
    }

    /// `child` on top: a general level in it replaces all that was said before.
    pub fn merge(&self, child: &LogLevels) -> LogLevels {
        if !child.is_set() {
            return self.clone();
        }
        let mut merged = if child.default.is_some() {
            LogLevels { default: child.default, modules: BTreeMap::new() }
        } else {
            self.clone()
        };
        merged.modules.extend(child.modules.iter().map(|(k, v)| (k.clone(), *v)));
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_module() {
        let mut levels = LogLevels { default: Some(Level::Info), ..LogLevels::default() };
        levels.modules.insert("rewrite".into(), Level::Trace3);
        assert!(levels.enabled("rewrite", Level::Trace3));
        assert!(!levels.enabled("core", Level::Debug));
        assert!(LogLevels::default().enabled("core", Level::Notice));
        assert!(!LogLevels::default().enabled("core", Level::Info));
        assert_eq!(Level::parse("Trace8"), Some(Level::Trace8));
    }
}
