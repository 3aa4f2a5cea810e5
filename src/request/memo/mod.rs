//! Replies with files that need not be worked out again.
//!
//! Between a request's head and its reply lie fifteen phases, a handler and the output filters; for a file they come to the
//! same reply each time. So while such a request is worked on for the second time, it is noted what it is made from: the
//! request line and host, every header field that somebody asked for, the client's address if somebody did, every look at
//! the file system. The next request for which all of these are the same gets the same reply, after a new look at
//! the files (one `stat` each): an edited page or `.htaccess` is seen by the next request.
//!
//! What can't be noted must be refused with [`refuse`]: time, the environment, files that are read, random numbers, lines for
//! the error log. Every module that takes part in the phases of a request says by [`crate::hooks::Hooks::repeatable`] that it keeps
//! to this; with one that doesn't (a C module), nothing is ever given again. Phases after the reply (the log) run for
//! every request. Apache has nothing like it; h2o and nginx remember open files, not what led to them.

mod notes;
mod outcome;
mod reply;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;

use super::{Lane, Request};
use crate::body::Content;
use crate::http::method::Method;

use self::notes::{NOTING, Notes, saw_field};
pub use self::notes::{
    as_of_now, as_of_turn, decide_persistence, differs, expires, offer, refuse, saw, saw_client,
    saw_reply_field, turn_begins,
};
use self::outcome::{Kept, Outcome};
use self::reply::Reply;

/// How many replies a reactor keeps, and how many a process or thread that serves one connection at a time.
const MOST: usize = 16 * 1024;
const MOST_IN_THREAD: usize = 256;
/// How many bytes, heads and contents. Above it, or with too many replies, those go that nobody asked for lately.
const MOST_BYTES: usize = 32 << 20;
/// How many files are kept open, and for how many seconds after they were last asked for.
const MOST_FILES: usize = 64;
const FILES_STAY: i64 = 5;
/// What was asked for in the last so many seconds stays, if it is not too much.
const LATELY: i64 = 10;
/// Variants of one request: with other header fields, of other clients.
const VARIANTS: usize = 8;

thread_local! {
    static MEMO: RefCell<Memo> = RefCell::new(Memo::default());
}

#[derive(Default)]
struct Memo {
    replies: HashMap<u64, Vec<Reply>, Hashed>,
    /// What they share: each once.
    outcomes: HashSet<Rc<Outcome>, foldhash::fast::RandomState>,
    count: usize,
    bytes: usize,
    files: usize,
    /// Which requests came once, as far as they were not pushed out by others.
    once: Vec<u32>,
    hasher: foldhash::fast::RandomState,
}

/// The key is a hash already.
#[derive(Clone, Copy, Default)]
struct Hashed;

struct Key(u64);

impl BuildHasher for Hashed {
    type Hasher = Key;
    fn build_hasher(&self) -> Key {
        Key(0)
    }
}

impl Hasher for Key {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A reply that was made before: its head is in the buffer that was given.
pub struct Again {
    /// Its content.
    pub content: Content,
    /// Whether files may go by `sendfile`.
    pub sendfile: bool,
}

/// Makes the reply to a request that has not begun its phases, if one is known. Else notes what its reply will be made from,
/// where that is worth it, until [`end`].
pub fn recall(r: &mut Request, stopping: bool, head: &mut Vec<u8>) -> Option<Again> {
    if !is_candidate(r) {
        return None;
    }
    MEMO.with_borrow_mut(|memo| {
        let hash = memo.hash(r);
        match memo.find(hash, r) {
            Some(reply) => {
                reply.restore(r);
                let runtime = r.runtime.clone();
                for renew in runtime.hooks.renewals() {
                    renew(r);
                }
                reply.write_head(r, stopping, head);
                Some(Again { content: reply.outcome.content(), sendfile: reply.outcome.sendfile })
            }
            None => {
                if memo.came_before(hash) {
                    begin(r);
                }
                None
            }
        }
    })
}

/// A plain request for something, in its first phase.
fn is_candidate(r: &Request) -> bool {
    r.method == Method::GET
        && r.runtime.hooks.all_repeatable()
        && !r.assbackwards
        && r.proxyreq.is_none()
        && !r.foreign_scheme
        && !r.expecting_100
        && !r.input.has_body()
        && !r.input.broken
        && r.notes.is_empty()
        && r.subprocess_env.is_empty()
}

fn begin(r: &mut Request) {
    r.headers_in.watch(Some(saw_field));
    Notes::begin();
}

/// The request's first run is over. Keeps the reply if it is whole, with the `content` that is about to be sent.
pub fn end(r: &mut Request, content: Option<&Content>) {
    r.headers_in.watch(None);
    r.subprocess_env.watch(None);
    if !NOTING.replace(false) {
        return;
    }
    let Some(content) = content else { return };
    let notes = Notes::take();
    MEMO.with_borrow_mut(|memo| {
        let in_thread = r.lane == Lane::Thread;
        let kept = match content {
            Content::Empty => Kept::Nothing,
            Content::Bytes(bytes) => Kept::Bytes(bytes.clone()),
            Content::File(slice) if !in_thread && memo.files < MOST_FILES => Kept::File(slice.clone()),
            _ => return,
        };
        let client = notes.client;
        if let Some(outcome) = reply::outcome(r, notes, kept) {
            let hash = memo.hash(r);
            let reply = Reply::of(r, client, memo.share(outcome));
            memo.keep(hash, reply, if in_thread { MOST_IN_THREAD } else { MOST });
        }
    });
}

/// Whether files are kept open.
pub fn keeps_files() -> bool {
    MEMO.with_borrow(|memo| memo.files > 0)
}

/// Closes files that nobody asked for lately. True while others are kept open: call again in some seconds.
pub fn sweep(now: i64) -> bool {
    MEMO.with_borrow_mut(|memo| {
        if memo.files > 0 {
            memo.retain(|reply| {
                !matches!(reply.outcome.content, Kept::File(_)) || now - reply.used < FILES_STAY
            });
        }
        memo.files > 0
    })
}

/// Closes all files: descriptors are short.
pub fn close_files() -> bool {
    MEMO.with_borrow_mut(|memo| {
        let had = memo.files > 0;
        memo.retain(|reply| !matches!(reply.outcome.content, Kept::File(_)));
        had
    })
}

impl Memo {
    fn hash(&self, r: &Request) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(&r.the_request);
        hasher.write_usize(r.server.index);
        if let Some(host) = &r.hostname {
            hasher.write(host);
        }
        hasher.finish()
    }

    fn find(&mut self, hash: u64, r: &Request) -> Option<&Reply> {
        let variants = self.replies.get_mut(&hash)?;
        let at = variants.iter().position(|reply| reply.fits(r))?;
        if !variants[at].is_current() {
            let old = variants.swap_remove(at);
            self.forget(&old);
            return None;
        }
        let reply = self.replies.get_mut(&hash)?.get_mut(at)?;
        reply.used = r.request_secs();
        Some(reply)
    }

    /// True when a request with this hash came before.
    fn came_before(&mut self, hash: u64) -> bool {
        const PLACES: usize = 16 * 1024;
        if self.once.is_empty() {
            self.once.resize(PLACES, 0);
        }
        let tag = (hash >> 32) as u32;
        std::mem::replace(&mut self.once[hash as usize % PLACES], tag) == tag
    }

    /// The outcome, or the equal one that is there already.
    fn share(&mut self, outcome: Outcome) -> Rc<Outcome> {
        if let Some(known) = self.outcomes.get(&outcome) {
            return known.clone();
        }
        self.bytes += outcome.size();
        self.files += usize::from(matches!(outcome.content, Kept::File(_)));
        let outcome = Rc::new(outcome);
        self.outcomes.insert(outcome.clone());
        outcome
    }

    fn keep(&mut self, hash: u64, reply: Reply, most: usize) {
        if self.count >= most || self.bytes >= MOST_BYTES {
            let lately = reply.used - LATELY;
            self.retain(|other| other.used >= lately);
            if self.count > most / 2 || self.bytes > MOST_BYTES / 2 {
                self.retain(|_| false);
            }
        }
        self.count += 1;
        self.bytes += size_of::<Reply>();
        let variants = self.replies.entry(hash).or_default();
        let oldest = (variants.len() >= VARIANTS).then(|| variants.remove(0));
        variants.push(reply);
        if let Some(oldest) = oldest {
            self.forget(&oldest);
        }
    }

    /// Counts a reply off that was taken out.
    fn forget(&mut self, reply: &Reply) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size_of::<Reply>());
        // It and the set: nobody else has it.
        if Rc::strong_count(&reply.outcome) == 2 {
            self.outcomes.remove(&reply.outcome);
            self.bytes = self.bytes.saturating_sub(reply.outcome.size());
            self.files =
                self.files.saturating_sub(usize::from(matches!(reply.outcome.content, Kept::File(_))));
        }
    }

    fn retain(&mut self, stays: impl Fn(&Reply) -> bool) {
        let mut gone = Vec::new();
        self.replies.retain(|_, variants| {
            gone.extend(variants.extract_if(.., |reply| !stays(reply)));
            !variants.is_empty()
        });
        for reply in gone {
            self.forget(&reply);
        }
    }
}
