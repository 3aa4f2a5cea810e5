//! `Options`, absolute and relative, and how they merge.
//!
//! Answers to `set_options` and the options part of `merge_core_dir_configs` in `server/core.c`.

/// Directory listings.
pub const INDEXES: u16 = 1;
/// SSI.
pub const INCLUDES: u16 = 2;
/// Follow symbolic links.
pub const FOLLOW_SYMLINKS: u16 = 4;
/// Run CGI programs.
pub const EXEC_CGI: u16 = 8;
/// Set by `UNSET` in Apache; kept free.
pub const UNSET: u16 = 16;
/// SSI may run programs.
pub const INC_WITH_EXEC: u16 = 32;
/// Follow links whose owner is the target's.
pub const SYMLINKS_IF_OWNER: u16 = 64;
/// Content negotiation.
pub const MULTIVIEWS: u16 = 128;
/// `All`: everything but MultiViews.
pub const ALL: u16 = INDEXES | INCLUDES | FOLLOW_SYMLINKS | EXEC_CGI | INC_WITH_EXEC;
/// Every option.
pub const ANY: u16 = ALL | MULTIVIEWS | SYMLINKS_IF_OWNER;
/// What is on where nothing is said.
pub const DEFAULT: u16 = FOLLOW_SYMLINKS;

/// What a section says of `Options`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opts {
    /// Set as a whole.
    pub absolute: Option<u16>,
    /// `+`.
    pub add: u16,
    /// `-`.
    pub remove: u16,
}

impl Opts {
    /// `child` on top: absolute ones replace, relative ones change what is there.
    pub fn merge(&self, child: &Opts) -> Opts {
        if child.absolute.is_some() {
            return *child;
        }
        let add = (self.add & !child.remove) | child.add;
        let remove = (self.remove & !child.add) | child.remove;
        match self.absolute {
            Some(absolute) => Opts { absolute: Some((absolute & !remove) | add), add: 0, remove: 0 },
            None => Opts { absolute: None, add, remove },
        }
    }

    /// The bits that count.
    #[inline]
    pub fn in_force(&self) -> u16 {
        (self.absolute.unwrap_or(DEFAULT) & !self.remove) | self.add
    }
}

/// The bit of an option's name.
pub fn bit(name: &str) -> Option<u16> {
    Some(match name.to_ascii_lowercase().as_str() {
        "indexes" => INDEXES,
        "includes" => INCLUDES | INC_WITH_EXEC,
        "includesnoexec" => INCLUDES,
        "followsymlinks" => FOLLOW_SYMLINKS,
        "symlinksifownermatch" => SYMLINKS_IF_OWNER,
        "execcgi" => EXEC_CGI,
        "multiviews" => MULTIVIEWS,
        "all" => ALL,
        "none" => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_on_absolute() {
        let root = Opts { absolute: Some(INDEXES | FOLLOW_SYMLINKS), ..Opts::default() };
        let sub = Opts { absolute: None, add: MULTIVIEWS, remove: INDEXES };
        assert_eq!(root.merge(&sub).in_force(), FOLLOW_SYMLINKS | MULTIVIEWS);
        assert_eq!(Opts::default().in_force(), FOLLOW_SYMLINKS);
    }
}
