//! mod_deflate: gzip for replies, and out of it.
//!
//! Answers to `modules/filters/mod_deflate.c`: the filter DEFLATE packs ([`pack`]), INFLATE unpacks ([`unpack`]). A reply
//! whose packed form fits into `DeflateBufferSize` gets a Content-Length, as there. As an input
//! filter, DEFLATE unpacks a request's body ([`input`]). Differs in that `DeflateMemLevel` is checked, but zlib-rs chooses
//! its memory itself.

mod input;
mod pack;
mod unpack;

use std::io;

use crate::body::{Content, Pull};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::filter::FilterKind;
use crate::hooks::Hooks;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::Request;
use crate::text::atoi;

/// The module.
pub static MODULE: Module = Module { name: "deflate_module", file: "mod_deflate.c", directives: ROWS, hooks };

/// A server's settings.
pub static SERVER: Slot<DeflateServer> = Slot::new();
/// A directory's settings.
pub static DIR: Slot<DeflateDir> = Slot::new();

/// A server's settings. A virtual host that sets one of them has the defaults for the others.
#[derive(Clone, Default)]
pub struct DeflateServer {
    window_size: Option<u8>,
    level: Option<u32>,
    buffer_size: Option<usize>,
    ratio_note: Option<String>,
    input_note: Option<String>,
    output_note: Option<String>,
    etag: EtagChange,
}

impl DeflateServer {
    fn buffer_size(&self) -> usize {
        self.buffer_size.unwrap_or(8096)
    }
}

impl Conf for DeflateServer {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

/// `DeflateAlterETag`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum EtagChange {
    #[default]
    AddSuffix,
    NoChange,
    Remove,
}

/// A directory's settings. A section that sets one of them has the defaults for the others.
#[derive(Clone, Default)]
pub struct DeflateDir {
    /// `DeflateInflateLimitRequestBody`.
    pub inflate_limit: Option<u64>,
    ratio_limit: Option<u64>,
    ratio_burst: Option<u64>,
}

impl Conf for DeflateDir {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

const RSRC: Allowed = Allowed::RSRC_CONF;
const ANYWHERE: Allowed = Allowed::ALL.or(Allowed::CONF);

static ROWS: &[Directive] = &[
    row("DeflateFilterNote", Args::Take12(filter_note), RSRC, "Set a note to report on compression ratio"),
    row("DeflateWindowSize", Args::Take1(window_size), RSRC, "Set the Deflate window size (1-15)"),
    row("DeflateBufferSize", Args::Take1(buffer_size), RSRC, "Set the Deflate Buffer Size"),
    row("DeflateMemLevel", Args::Take1(mem_level), RSRC, "Set the Deflate Memory Level (1-9)"),
    row(
        "DeflateCompressionLevel",
        Args::Take1(compression_level),
        RSRC,
        "Set the Deflate Compression Level (1-9)",
    ),
    row(
        "DeflateInflateLimitRequestBody",
        Args::Take1(inflate_limit),
        ANYWHERE,
        "Set a limit on size of inflated input",
    ),
    row(
        "DeflateInflateRatioLimit",
        Args::Take1(ratio_limit),
        ANYWHERE,
        "Set the inflate ratio limit above which inflation is aborted (default: 200)",
    ),
    row(
        "DeflateInflateRatioBurst",
        Args::Take1(ratio_burst),
        ANYWHERE,
        "Set the maximum number of following inflate ratios above limit (default: 3)",
    ),
    row(
        "DeflateAlterEtag",
        Args::Take1(alter_etag),
        RSRC,
        "Set how mod_deflate should modify ETAG response headers: 'AddSuffix' (default), 'NoChange' (2.2.x behavior), 'Remove'",
    ),
];

const fn row(name: &'static str, args: Args, allowed: Allowed, help: &'static str) -> Directive {
    Directive { name, args, allowed, help }
}

/// A number between two bounds, or what is wrong with it.
fn between(text: &str, from: i64, to: i64, wrong: &'static str) -> Result<u32, &'static str> {
    u32::try_from(atoi(text)).ok().filter(|n| (from..=to).contains(&i64::from(*n))).ok_or(wrong)
}

fn filter_note(cmd: &mut Cmd, kind: &str, name: Option<&str>) -> Done {
    let conf = cmd.server_conf(&SERVER)?;
    let (into, name) = match name {
        None => (&mut conf.ratio_note, kind),
        Some(name) => match kind.to_ascii_lowercase().as_str() {
            "ratio" => (&mut conf.ratio_note, name),
            "input" => (&mut conf.input_note, name),
            "output" => (&mut conf.output_note, name),
            _ => return Err(format!("Unknown note type {kind}").into()),
        },
    };
    *into = Some(name.to_owned());
    Ok(())
}

fn window_size(cmd: &mut Cmd, arg: &str) -> Done {
    let size = between(arg, 1, 15, "DeflateWindowSize must be between 1 and 15")?;
    cmd.server_conf(&SERVER)?.window_size = Some(size as u8);
    Ok(())
}

fn buffer_size(cmd: &mut Cmd, arg: &str) -> Done {
    let size = between(arg, 1, i64::from(i32::MAX), "DeflateBufferSize should be positive")?;
    cmd.server_conf(&SERVER)?.buffer_size = Some(size as usize);
    Ok(())
}

/// Checked only: zlib-rs has no such choice.
fn mem_level(_: &mut Cmd, arg: &str) -> Done {
    between(arg, 1, 9, "DeflateMemLevel must be between 1 and 9")?;
    Ok(())
}

fn compression_level(cmd: &mut Cmd, arg: &str) -> Done {
    let level = between(arg, 1, 9, "Compression Level must be between 1 and 9")?;
    cmd.server_conf(&SERVER)?.level = Some(level);
    Ok(())
}

fn inflate_limit(cmd: &mut Cmd, arg: &str) -> Done {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let limit = match arg.parse::<i64>() {
        Ok(limit) => u64::try_from(limit).ok(),
        Err(err) if matches!(err.kind(), NegOverflow | PosOverflow) => {
            return Err("DeflateInflateLimitRequestBody is not parsable.".into());
        }
        Err(_) => None,
    };
    let limit = limit.ok_or("DeflateInflateLimitRequestBody requires a non-negative integer.")?;
    cmd.dir(&DIR).inflate_limit = Some(limit);
    Ok(())
}

fn ratio_limit(cmd: &mut Cmd, arg: &str) -> Done {
    let limit = between(arg, 1, i64::from(i32::MAX), "DeflateInflateRatioLimit must be positive")?;
    cmd.dir(&DIR).ratio_limit = Some(u64::from(limit));
    Ok(())
}

fn ratio_burst(cmd: &mut Cmd, arg: &str) -> Done {
    let burst = between(arg, 1, i64::from(i32::MAX), "DeflateInflateRatioBurst must be positive")?;
    cmd.dir(&DIR).ratio_burst = Some(u64::from(burst));
    Ok(())
}

fn alter_etag(cmd: &mut Cmd, arg: &str) -> Done {
    let change = match arg.to_ascii_lowercase().as_str() {
        "nochange" => EtagChange::NoChange,
        "addsuffix" => EtagChange::AddSuffix,
        "remove" => EtagChange::Remove,
        _ => return Err("DeflateAlterETAG accepts only 'NoChange', 'AddSuffix', and 'Remove'".into()),
    };
    cmd.server_conf(&SERVER)?.etag = change;
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.output_filter("DEFLATE", FilterKind::ContentSet, pack::wrap);
    hooks.output_filter("INFLATE", FilterKind::Resource, unpack::wrap);
    hooks.input_filter("DEFLATE", FilterKind::ContentSet, input::make);
}

/// Each coding has its own entity tag: `"tag"` becomes `"tag-gzip"` (`deflate_check_etag`).
fn change_etag(r: &mut Request, coding: &str, change: EtagChange) {
    match change {
        EtagChange::NoChange => {}
        EtagChange::Remove => drop(r.headers_out.unset("ETag")),
        EtagChange::AddSuffix => {
            let Some(tag) = r.headers_out.get("ETag").filter(|tag| tag.len() > 2) else { return };
            if let Some(open) = tag.strip_suffix(b"\"") {
                let tag = [open, b"-", coding.as_bytes(), b"\""].concat();
                r.headers_out.set("ETag", tag);
            }
        }
    }
}

/// What a coder makes of content, piece by piece.
trait Coder: Send + 'static {
    /// Codes a piece, appending to what is coded.
    fn code(&mut self, r: &mut Request, piece: &[u8]) -> io::Result<()>;
    /// Appends all that can be said so far.
    fn flush(&mut self, r: &mut Request) -> io::Result<()>;
    /// Appends the rest.
    fn finish(&mut self, r: &mut Request) -> io::Result<()>;
    /// What is coded and not sent yet.
    fn coded(&mut self) -> &mut Vec<u8>;
    /// So much came out that Apache would send a part, not knowing the length of the whole.
    fn overflows(&mut self, buffer_size: usize) -> bool {
        self.coded().len() > buffer_size
    }
}

/// More than this is never coded before sending begins, however little comes of it.
const MOST_AT_ONCE: u64 = 4 << 20;

/// How much of a file is coded at once.
const PIECE: usize = 64 * 1024;

/// Codes `content` at once as long as the result fits into `buffer_size`; more of it is coded as it is sent.
fn coded(r: &mut Request, mut content: Content, mut coder: impl Coder, buffer_size: usize) -> Content {
    let mut taken = 0;
    loop {
        match content.pull_bytes(r, PIECE) {
            Ok(Pull::Chunk(chunk)) => {
                let full = coder.overflows(buffer_size) || taken > MOST_AT_ONCE;
                taken += chunk.len();
                let crate::body::Chunk::Bytes(piece) = &chunk else { continue };
                if full {
                    let rest = Content::Then(chunk, Box::new(content));
                    return Content::Stream(Box::new(Coding {
                        content: rest,
                        coder,
                        buffer_size,
                        next: None,
                    }));
                }
                if let Err(err) = coder.code(r, piece) {
                    return failed(err);
                }
            }
            Ok(Pull::End(None)) => {
                return match coder.finish(r) {
                    Ok(()) => Content::from(std::mem::take(coder.coded())),
                    Err(err) => failed(err),
                };
            }
            Ok(next) => {
                let next = Some(next);
                return Content::Stream(Box::new(Coding { content, coder, buffer_size, next }));
            }
            Err(err) => return failed(err),
        }
    }
}

/// Content that breaks off: what was wrong is in the log.
fn failed(err: io::Error) -> Content {
    Content::Stream(Box::new(Broken(Some(err))))
}

struct Broken(Option<io::Error>);

impl crate::body::Body for Broken {
    fn pull(&mut self, _: &mut Request) -> io::Result<Pull> {
        Err(self.0.take().unwrap_or_else(|| io::ErrorKind::InvalidData.into()))
    }
    fn len(&self) -> Option<u64> {
        None
    }
}

/// Content that is coded as it is pulled.
struct Coding<C> {
    content: Content,
    coder: C,
    buffer_size: usize,
    /// What the content answered last and is still to be acted upon.
    next: Option<Pull>,
}

impl<C: Coder> Coding<C> {
    fn take(&mut self) -> Pull {
        let coded = std::mem::take(self.coder.coded());
        Pull::Chunk(crate::body::Chunk::Bytes(coded.into()))
    }
}

impl<C: Coder> crate::body::Body for Coding<C> {
    fn pull(&mut self, r: &mut Request) -> io::Result<Pull> {
        loop {
            if self.coder.coded().len() >= self.buffer_size {
                return Ok(self.take());
            }
            let next = match self.next.take() {
                Some(next) => next,
                None => self.content.pull_bytes(r, PIECE)?,
            };
            match next {
                Pull::Chunk(crate::body::Chunk::Bytes(piece)) => self.coder.code(r, &piece)?,
                Pull::Chunk(other) => {
                    self.content = Content::Then(other, Box::new(std::mem::take(&mut self.content)))
                }
                Pull::Flush => {
                    self.coder.flush(r)?;
                    if self.coder.coded().is_empty() {
                        return Ok(Pull::Flush);
                    }
                    self.next = Some(Pull::Flush);
                    return Ok(self.take());
                }
                Pull::End(trailers) => {
                    // Finishing twice adds nothing.
                    self.coder.finish(r)?;
                    if self.coder.coded().is_empty() {
                        return Ok(Pull::End(trailers));
                    }
                    self.next = Some(Pull::End(trailers));
                    return Ok(self.take());
                }
                waits @ (Pull::Wait(_) | Pull::NeedThread) => return Ok(waits),
            }
        }
    }
    fn len(&self) -> Option<u64> {
        None
    }
}

fn trace(r: &Request, text: &str) {
    rerror!(r, Level::Trace1, "deflate", "", "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert!(between("10", 1, 9, "no").is_err());
        assert_eq!(between("9", 1, 9, "no"), Ok(9));
    }
}
