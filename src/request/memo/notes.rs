//! What the reply that is being worked out is made from.

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;

use crate::request::{FileInfo, Request};
use crate::table::Touch;

thread_local! {
    /// The last looks at files of replies that were given again.
    static RECENT: RefCell<Vec<Recent>> = const { RefCell::new(Vec::new()) };
    static NOTES: RefCell<Notes> = RefCell::new(Notes::default());
    /// A request is being noted, and nothing has spoken against it yet.
    pub(super) static NOTING: Cell<bool> = const { Cell::new(false) };
    static MOMENTS: Cell<Moments> = const { Cell::new(Moments { last: 1, turn: 1, request: 1 }) };
}

/// Points in time, numbered. A look at the file system serves for every request that was there before it.
#[derive(Clone, Copy)]
pub(super) struct Moments {
    pub(super) last: u64,
    /// When the reactor's turn began: the poller had told which connections have something to read.
    turn: u64,
    /// Since when a look is good for the request that is served now.
    pub(super) request: u64,
}

/// Where we are.
pub(super) fn moments_now() -> Moments {
    MOMENTS.get()
}

fn moments(change: impl FnOnce(&mut Moments)) {
    let mut moments = MOMENTS.get();
    change(&mut moments);
    MOMENTS.set(moments);
}

/// The poller came back: requests that it reported had begun to arrive before.
pub fn turn_begins() {
    moments(|m| {
        m.last += 1;
        m.turn = m.last;
    });
}

/// The request that comes next was reported by the poller.
pub fn as_of_turn() {
    moments(|m| m.request = m.turn);
}

/// The request that comes next may have been sent just now.
pub fn as_of_now() {
    moments(|m| {
        m.last += 1;
        m.request = m.last;
    });
}

/// What the request that is noted was made from.
#[derive(Default)]
pub(super) struct Notes {
    /// Header fields somebody asked for.
    pub(super) fields: Vec<Vec<u8>>,
    pub(super) client: bool,
    pub(super) looks: Vec<Look>,
    /// A handler offered its reply to be given again.
    pub(super) offered: bool,
    /// The names in `headers_out` when it was decided about the connection.
    pub(super) before_persistence: Option<Vec<Vec<u8>>>,
    /// `Expires` lies so many seconds after the request.
    pub(super) expires: Option<i64>,
    /// Variables that differ from request to request.
    differing: Vec<&'static str>,
    /// When it began.
    pub(super) moment: u64,
}

impl Notes {
    /// Begins with an empty page.
    pub(super) fn begin() {
        NOTES.with_borrow_mut(|notes| *notes = Notes { moment: MOMENTS.get().last, ..Notes::default() });
        NOTING.set(true);
    }

    /// Everything that was noted.
    pub(super) fn take() -> Notes {
        NOTES.with_borrow_mut(std::mem::take)
    }
}

/// A look at the file system, and what was seen.
#[derive(PartialEq, Eq)]
pub(super) struct Look {
    path: Vec<u8>,
    follow: bool,
    pub(super) seen: Result<FileInfo, i32>,
    /// Its place in [`RECENT`].
    place: usize,
}

/// How many looks are shared by requests of one moment: most have the same folders, with the same `.htaccess` files.
const RECENT_LOOKS: usize = 256;

/// A look, and when it was.
struct Recent {
    path: Vec<u8>,
    follow: bool,
    seen: Result<FileInfo, i32>,
    moment: u64,
}

impl Look {
    fn new(path: &[u8], follow: bool, seen: Result<FileInfo, i32>) -> Look {
        let place = foldhash::fast::FixedState::default().hash_one(path) as usize % RECENT_LOOKS;
        Look { path: path.to_vec(), follow, seen, place }
    }

    /// Is it still so? Looks again, unless somebody has since this request came.
    pub(super) fn holds(&self, moments: Moments) -> bool {
        RECENT.with_borrow_mut(|recent| {
            if recent.is_empty() {
                let none = || Recent { path: Vec::new(), follow: false, seen: Err(0), moment: 0 };
                recent.resize_with(RECENT_LOOKS, none);
            }
            let Some(last) = recent.get_mut(self.place) else { return false };
            if last.moment < moments.request || last.follow != self.follow || last.path != self.path {
                let seen = if self.follow { FileInfo::stat(&self.path) } else { FileInfo::lstat(&self.path) };
                last.seen = seen.map_err(|err| err.raw_os_error().unwrap_or(0));
                last.path.clone_from(&self.path);
                last.follow = self.follow;
                last.moment = moments.last;
            }
            last.seen == self.seen
        })
    }
}

/// What this request comes to depends on something that is not noted: its reply is not kept.
#[inline]
pub fn refuse() {
    NOTING.set(false);
}

/// What `stat` (with `follow`) or `lstat` said of `path`.
pub fn saw(path: &[u8], follow: bool, seen: Result<FileInfo, i32>) {
    if !NOTING.get() {
        return;
    }
    NOTES.with_borrow_mut(|notes| match notes.looks.iter().find(|l| l.follow == follow && l.path == path) {
        None => notes.looks.push(Look::new(path, follow, seen)),
        Some(before) if before.seen == seen => {}
        Some(_) => refuse(),
    });
}

/// The client's address matters.
pub fn saw_client() {
    if NOTING.get() {
        NOTES.with_borrow_mut(|notes| notes.client = true);
    }
}

/// `Expires`, which was just set, lies `after` seconds after the request, of whichever it is.
pub fn expires(after: i64) {
    if NOTING.get() {
        NOTES.with_borrow_mut(|notes| notes.expires = Some(after));
    }
}

/// A field of the reply matters to others, or to what is done with it. (Who puts something else into its place needn't say so.)
pub fn saw_reply_field(name: &[u8]) {
    if NOTING.get()
        && name.eq_ignore_ascii_case(b"Expires")
        && NOTES.with_borrow(|notes| notes.expires.is_some())
    {
        refuse();
    }
}

/// The variable `name`, which was just set, has another value for every request. The reply is kept if nobody asks for it; what
/// was said to [`crate::hooks::Hooks::renew`] sets it when the reply is given again.
pub fn differs(r: &mut Request, name: &'static str) {
    if NOTING.get() {
        NOTES.with_borrow_mut(|notes| notes.differing.push(name));
        r.subprocess_env.watch(Some(saw_variable));
    }
}

fn saw_variable(touch: Touch<'_>) {
    if !NOTING.get() {
        return;
    }
    let matters = match touch {
        Touch::All => true,
        Touch::Change => false,
        Touch::Name(name) => NOTES.with_borrow(|notes| {
            notes.differing.iter().any(|differing| differing.as_bytes().eq_ignore_ascii_case(name))
        }),
    };
    if matters {
        refuse();
    }
}

/// A handler's reply may be given again.
pub fn offer() {
    if NOTING.get() {
        NOTES.with_borrow_mut(|notes| notes.offered = true);
    }
}

pub(super) fn saw_field(touch: Touch<'_>) {
    if !NOTING.get() {
        return;
    }
    match touch {
        Touch::All | Touch::Change => refuse(),
        Touch::Name(name) => NOTES.with_borrow_mut(|notes| {
            if !notes.fields.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                notes.fields.push(name.to_vec());
            }
        }),
    }
}

/// What follows depends on the connection, and is worked out for every reply.
pub fn decide_persistence(r: &mut Request) {
    if !NOTING.get() {
        return;
    }
    r.headers_in.watch(None);
    if ["Connection", "Keep-Alive", "Transfer-Encoding"].iter().any(|name| r.headers_out.contains(name)) {
        return refuse();
    }
    let names = r.headers_out.iter().map(|(name, _)| name.to_vec()).collect();
    NOTES.with_borrow_mut(|notes| notes.before_persistence = Some(names));
}
