//! Apache's configuration language.
//!
//! Answers to the reading half of `server/config.c` (`ap_build_config` and what it calls), `ap_getword_conf` and
//! `ap_cfg_getline` of `server/util.c`, the directives of `server/core.c` that act while the file is read, `mod_macro.c`
//! and `mod_version.c`. It knows nothing of servers and touches no file: it asks a [`Host`].
//!
//! Reading has two steps, as in Apache: [`Reader`] builds a tree of [`Node`]s, running only the directives that act on
//! read; an unknown directive is no error yet. The server then walks the tree. A line takes this way:
//!
//! | file            | what it does                                                            |
//! |-----------------|-------------------------------------------------------------------------|
//! | `encoding.rs`   | bytes of a file ⇄ `str`, without loss                                    |
//! | `lines.rs`      | continuation, trimming, too long a line; the stack of files and macros   |
//! | `variables.rs`  | `Define`, `UnDefine`, `${VAR}`                                           |
//! | `words.rs`      | words, quotes and backslashes                                            |
//! | `reader.rs`     | one line at a time into the tree; sections; directives that act on read  |
//! | `conditions.rs` | `<IfDefine>`, `<IfModule>`, `<IfVersion>` … and the skipping of sections |
//! | `include.rs`    | `Include`, `IncludeOptional`: files, folders, wildcards (`glob.rs`, `path.rs`) |
//! | `macros.rs`     | `<Macro>`, `Use`, `UndefMacro`                                           |
//! | `tree.rs`       | what comes out: [`Node`]                                                 |
//! | `host.rs`       | what is asked of the server: [`Host`]                                    |
//! | `origin.rs`     | [`Origin`], [`Error`], [`Warning`]                                       |

#![forbid(unsafe_code)]

mod conditions;
mod encoding;
#[cfg(test)]
mod fake;
mod glob;
mod host;
mod include;
mod lines;
mod macros;
mod origin;
mod path;
mod reader;
mod tree;
mod variables;
mod words;

pub use encoding::{from_bytes, to_bytes};
pub use glob::{fnmatch, fnmatch_test};
pub use host::{Context, DirectiveFacts, Host, Kind};
pub use include::Included;
pub use origin::{Error, Level, Origin, Warning};
pub use path::filepath_merge;
pub use reader::{Reader, error_directive};
pub use tree::Node;
pub use words::{Words, getword_conf, getword_conf2, next_word, words};
