//! Header tables: ordered, case-insensitive, multi-valued bytes, as `apr_tables.c` of APR keeps them.
//!
//! Differs from APR in where the text lives: keys and values of one table stand in one buffer, and entries are
//! offsets into it. Filling a table again after `clear` therefore allocates nothing.

use std::fmt;

/// An ordered multi-map of header names (compared without case) to values, all of them bytes.
#[derive(Default)]
pub struct Table {
    buf: Vec<u8>,
    entries: Vec<Entry>,
    /// Bytes of `buf` that no entry points to any more.
    garbage: usize,
    /// One of 64 bits for each name that was ever here: most names that are looked for are not.
    names: u64,
    watcher: Option<Watcher>,
}

/// What somebody does with a table that is watched.
#[derive(Clone, Copy, Debug)]
pub enum Touch<'a> {
    /// Asks for this name.
    Name(&'a [u8]),
    /// Looks at every entry.
    All,
    /// Changes it.
    Change,
}

/// Is told of every [`Touch`] of a table.
pub type Watcher = fn(Touch<'_>);

impl Clone for Table {
    /// The entries. Nobody watches the copy.
    fn clone(&self) -> Table {
        self.touched(Touch::All);
        Table {
            buf: self.buf.clone(),
            entries: self.entries.clone(),
            garbage: self.garbage,
            names: self.names,
            watcher: None,
        }
    }

    fn clone_from(&mut self, other: &Table) {
        other.touched(Touch::All);
        self.copy(other);
    }
}

impl PartialEq for Table {
    /// The same fields in the same order. Nobody is told.
    fn eq(&self, other: &Table) -> bool {
        self.entries.len() == other.entries.len()
            && self.entries.iter().zip(&other.entries).all(|(mine, theirs)| {
                self.key(mine) == other.key(theirs) && self.value(mine) == other.value(theirs)
            })
    }
}

impl Eq for Table {}

#[derive(Clone, Copy)]
struct Entry {
    /// The name's first four bytes without case, to tell most names apart in one compare.
    tag: u32,
    key: u32,
    key_len: u32,
    val: u32,
    val_len: u32,
}

/// What to do with names that occur more than once (`apr_table_compress`, `apr_table_overlap`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// The last value wins, at the place and under the spelling of the first.
    Set,
    /// The values are joined by `", "`, at the place and under the spelling of the first.
    Merge,
}

/// Garbage below this is never worth a compaction.
const COMPACT_MIN: usize = 1024;

/// The bit of a name in [`Table::names`].
#[inline]
fn name_bit(tag: u32, len: usize) -> u64 {
    1 << (name_hash(tag, len) >> 26)
}

#[inline]
fn name_hash(tag: u32, len: usize) -> u32 {
    tag.wrapping_add(len as u32).wrapping_mul(0x9e37_79b1)
}

#[inline]
fn tag(name: &[u8]) -> u32 {
    let mut t = [0u8; 4];
    match name.first_chunk::<4>() {
        Some(first) => t = *first,
        None => t[..name.len()].copy_from_slice(name),
    }
    u32::from_ne_bytes(t) & 0xdfdf_dfdf
}

impl Table {
    /// An empty table; allocates nothing.
    pub const fn new() -> Table {
        Table { buf: Vec::new(), entries: Vec::new(), garbage: 0, names: 0, watcher: None }
    }

    /// Forgets all entries and keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.touched(Touch::Change);
        self.buf.clear();
        self.entries.clear();
        self.garbage = 0;
        self.names = 0;
    }

    /// Has every touch told to `watcher` from now on.
    pub fn watch(&mut self, watcher: Option<Watcher>) {
        self.watcher = watcher;
    }

    /// Who is told.
    pub fn watcher(&self) -> Option<Watcher> {
        self.watcher
    }

    /// The entries of `other`, untold: whoever copies them watches the copy in its turn.
    pub fn copy(&mut self, other: &Table) {
        self.touched(Touch::Change);
        self.buf.clear();
        self.buf.extend_from_slice(&other.buf);
        self.entries.clear();
        self.entries.extend_from_slice(&other.entries);
        self.garbage = other.garbage;
        self.names = other.names;
    }

    #[inline]
    fn touched(&self, touch: Touch<'_>) {
        if let Some(watcher) = self.watcher {
            watcher(touch);
        }
    }

    /// Entries, counting each value of a repeated name.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of memory that the table holds on to.
    pub fn capacity(&self) -> usize {
        self.buf.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// The value of the first entry called `name`.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.find(name.as_bytes()).map(|i| self.value(&self.entries[i]))
    }

    /// The value of the first entry called `name` if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// Whether an entry is called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name.as_bytes()).is_some()
    }

    /// Appends an entry, whether or not the name is there already (`apr_table_add`).
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (name, value) = (name.as_ref(), value.as_ref());
        self.touched(Touch::Change);
        let (Some(key), Some(val)) = (self.append(name), self.append(value)) else { return };
        let tag = tag(name);
        self.names |= name_bit(tag, name.len());
        self.entries.push(Entry { tag, key, key_len: name.len() as u32, val, val_len: value.len() as u32 });
    }

    /// Replaces all entries by those that `fields` finds in `block`, which is copied in one piece. Each is a name and
    /// a value as slices of `block`; others are left out. Says whether a name may be there twice.
    pub fn load<'b>(&mut self, block: &'b [u8], fields: impl Iterator<Item = (&'b [u8], &'b [u8])>) -> bool {
        self.clear();
        if self.append(block).is_none() {
            return false;
        }
        let base = block.as_ptr() as usize;
        let (mut names, mut repeated) = ([0u64; 4], false);
        for (name, value) in fields {
            let key = (name.as_ptr() as usize).wrapping_sub(base);
            let val = (value.as_ptr() as usize).wrapping_sub(base);
            let within = |at: usize, len: usize| at.checked_add(len).is_some_and(|end| end <= block.len());
            if !within(key, name.len()) || !within(val, value.len()) {
                continue;
            }
            let tag = tag(name);
            // One of 256 bits for each name: most heads need no closer look.
            let hash = name_hash(tag, name.len()) >> 24;
            self.names |= name_bit(tag, name.len());
            let (word, bit) = (&mut names[hash as usize >> 6], 1 << (hash & 63));
            repeated |= *word & bit != 0;
            *word |= bit;
            self.entries.push(Entry {
                tag,
                key: key as u32,
                key_len: name.len() as u32,
                val: val as u32,
                val_len: value.len() as u32,
            });
        }
        repeated
    }

    /// Gives `name` this one value: the first entry keeps its place and spelling, further ones go, and where
    /// there is none one is appended (`apr_table_set`).
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (name, value) = (name.as_ref(), value.as_ref());
        let Some(first) = self.find(name) else { return self.add(name, value) };
        self.set_at(first, value);
        self.remove_from(first + 1, name);
        self.compact_if_wasteful();
    }

    /// Appends an entry unless the name is there already.
    pub fn set_if_absent(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        if self.find(name.as_ref()).is_none() {
            self.add(name, value);
        }
    }

    /// Appends `", value"` to the first entry called `name`, or adds one (`apr_table_merge`).
    pub fn merge(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (name, value) = (name.as_ref(), value.as_ref());
        match self.find(name) {
            Some(first) => {
                self.merge_at(first, value);
                self.compact_if_wasteful();
            }
            None => self.add(name, value),
        }
    }

    /// Removes every entry called `name`; says whether there was one (`apr_table_unset`).
    pub fn unset(&mut self, name: impl AsRef<[u8]>) -> bool {
        if self.find(name.as_ref()).is_none() {
            return false;
        }
        let removed = self.remove_from(0, name.as_ref());
        if self.entries.is_empty() {
            self.clear();
        }
        removed
    }

    /// All entries in order, as (name, value).
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + ExactSizeIterator {
        self.touched(Touch::All);
        self.entries.iter().map(|e| (self.key(e), self.value(e)))
    }

    /// The values of all entries called `name`, in order.
    pub fn iter_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.touched(Touch::Name(name.as_bytes()));
        let t = tag(name.as_bytes());
        self.entries.iter().filter(move |e| self.is(e, t, name.as_bytes())).map(|e| self.value(e))
    }

    /// Whether the values of `name`, all of them in order, are these.
    #[inline]
    pub fn has_only(&self, name: &str, values: &[Box<[u8]>]) -> bool {
        let t = tag(name.as_bytes());
        if self.names & name_bit(t, name.len()) == 0 {
            return values.is_empty();
        }
        self.iter_all(name).eq(values.iter().map(|value| &**value))
    }

    /// Appends all entries of `other`.
    pub fn extend_from(&mut self, other: &Table) {
        other.touched(Touch::All);
        self.touched(Touch::Change);
        let Some(base) = self.append(&other.buf) else { return };
        self.garbage += other.garbage;
        self.names |= other.names;
        self.entries.extend(other.entries.iter().map(|e| Entry {
            key: e.key + base,
            val: e.val + base,
            ..*e
        }));
    }

    /// The entries of `overlay`, then those of `base` (`apr_table_overlay`).
    pub fn overlay(overlay: &Table, base: &Table) -> Table {
        let mut t = overlay.clone();
        t.extend_from(base);
        t
    }

    /// Appends all entries of `other` and then resolves repeated names (`apr_table_overlap`).
    pub fn overlap(&mut self, other: &Table, how: Overlap) {
        self.extend_from(other);
        self.compress(how);
    }

    /// Keeps one entry of each name, at the place and under the spelling of the first (`apr_table_compress`).
    pub fn compress(&mut self, how: Overlap) {
        self.touched(Touch::Change);
        let mut i = 0;
        while i + 1 < self.entries.len() {
            if self.next_same(i, i + 1).is_some() {
                self.compress_at(i, how);
            }
            i += 1;
        }
        self.compact_if_wasteful();
    }

    /// Whether any value of `name`, read as a list, has the member `token` (`ap_find_token` on `apr_table_get`).
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.get(name).is_some_and(|line| find_token(line, token))
    }

    /// The index after `from` of the next entry with the name of entry `i`.
    fn next_same(&self, i: usize, from: usize) -> Option<usize> {
        let e = self.entries[i];
        let name = self.key(&e);
        (from..self.entries.len()).find(|&j| self.is(&self.entries[j], e.tag, name))
    }

    fn compress_at(&mut self, first: usize, how: Overlap) {
        let mut from = first + 1;
        while let Some(j) = self.next_same(first, from) {
            let dup = self.entries.remove(j);
            from = j;
            match how {
                Overlap::Set => {
                    let old = self.entries[first];
                    self.garbage += (old.val_len + dup.key_len) as usize;
                    self.entries[first] = Entry { val: dup.val, val_len: dup.val_len, ..old };
                }
                Overlap::Merge => {
                    self.join(first, Joined::Within(dup));
                    self.garbage += (dup.key_len + dup.val_len) as usize;
                }
            }
        }
    }

    fn set_at(&mut self, i: usize, value: &[u8]) {
        self.touched(Touch::Change);
        let e = self.entries[i];
        let start = e.val as usize;
        if value.len() <= e.val_len as usize {
            self.buf[start..start + value.len()].copy_from_slice(value);
            self.garbage += e.val_len as usize - value.len();
            self.entries[i].val_len = value.len() as u32;
        } else if let Some(val) = self.append(value) {
            self.garbage += e.val_len as usize;
            self.entries[i] = Entry { val, val_len: value.len() as u32, ..e };
        }
    }

    fn merge_at(&mut self, i: usize, value: &[u8]) {
        self.join(i, Joined::Outside(value));
    }

    /// Appends `", "` and a value to the value of entry `i`.
    fn join(&mut self, i: usize, value: Joined<'_>) {
        self.touched(Touch::Change);
        let e = self.entries[i];
        let added = 2 + match value {
            Joined::Outside(v) => v.len(),
            Joined::Within(d) => d.val_len as usize,
        };
        if !self.has_room(e.val_len as usize + added) {
            return;
        }
        let mut val = e.val;
        if (e.val + e.val_len) as usize != self.buf.len() {
            val = self.buf.len() as u32;
            let old = e.val as usize..(e.val + e.val_len) as usize;
            self.buf.extend_from_within(old);
            self.garbage += e.val_len as usize;
        }
        self.buf.extend_from_slice(b", ");
        match value {
            Joined::Outside(v) => self.buf.extend_from_slice(v),
            Joined::Within(d) => self.buf.extend_from_within(d.val as usize..(d.val + d.val_len) as usize),
        }
        self.entries[i] = Entry { val, val_len: e.val_len + added as u32, ..e };
    }

    fn remove_from(&mut self, from: usize, name: &[u8]) -> bool {
        self.touched(Touch::Change);
        let t = tag(name);
        let mut to = from;
        for i in from..self.entries.len() {
            let e = self.entries[i];
            if self.is(&e, t, name) {
                self.garbage += (e.key_len + e.val_len) as usize;
            } else {
                self.entries[to] = e;
                to += 1;
            }
        }
        let removed = to < self.entries.len();
        self.entries.truncate(to);
        removed
    }

    #[inline]
    fn find(&self, name: &[u8]) -> Option<usize> {
        self.touched(Touch::Name(name));
        let t = tag(name);
        if self.names & name_bit(t, name.len()) == 0 {
            return None;
        }
        self.entries.iter().position(|e| self.is(e, t, name))
    }

    #[inline]
    fn is(&self, e: &Entry, t: u32, name: &[u8]) -> bool {
        e.tag == t && e.key_len as usize == name.len() && self.key(e).eq_ignore_ascii_case(name)
    }

    fn key(&self, e: &Entry) -> &[u8] {
        &self.buf[e.key as usize..(e.key + e.key_len) as usize]
    }

    fn value(&self, e: &Entry) -> &[u8] {
        &self.buf[e.val as usize..(e.val + e.val_len) as usize]
    }

    /// Offsets are 32 bits wide; limits on heads keep tables far below that.
    fn has_room(&self, n: usize) -> bool {
        self.buf.len().checked_add(n).is_some_and(|end| end <= u32::MAX as usize)
    }

    fn append(&mut self, bytes: &[u8]) -> Option<u32> {
        if !self.has_room(bytes.len()) {
            return None;
        }
        let at = self.buf.len() as u32;
        self.buf.extend_from_slice(bytes);
        Some(at)
    }

    fn compact_if_wasteful(&mut self) {
        if self.garbage < COMPACT_MIN || self.garbage < self.buf.len() / 2 {
            return;
        }
        let mut packed = Vec::with_capacity(self.buf.len() - self.garbage.min(self.buf.len()));
        for e in &mut self.entries {
            let key = e.key as usize..(e.key + e.key_len) as usize;
            let val = e.val as usize..(e.val + e.val_len) as usize;
            e.key = packed.len() as u32;
            packed.extend_from_slice(&self.buf[key]);
            e.val = packed.len() as u32;
            packed.extend_from_slice(&self.buf[val]);
        }
        self.buf = packed;
        self.garbage = 0;
    }
}

enum Joined<'a> {
    Outside(&'a [u8]),
    Within(Entry),
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(k, v)| (String::from_utf8_lossy(k), String::from_utf8_lossy(v))))
            .finish()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Table {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Table {
        let mut t = Table::new();
        for (name, value) in iter {
            t.add(name, value);
        }
        t
    }
}

/// Whether a byte is one of RFC 9110's token characters.
pub const fn is_token_char(c: u8) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether a list has `token` as a member, as `ap_find_token` looks for it. Apache compares only as many bytes
/// as the member has, so that `clo` counts as `close`; this does the same.
pub fn find_token(line: &[u8], token: &str) -> bool {
    line.split(|&c| !is_token_char(c))
        .filter(|member| !member.is_empty())
        .any(|member| token.as_bytes().get(..member.len()).is_some_and(|t| t.eq_ignore_ascii_case(member)))
}

/// Whether a list ends with the member `token` (`ap_find_last_token`).
pub fn find_last_token(line: &[u8], token: &str) -> bool {
    let Some(before) = line.len().checked_sub(token.len()) else { return false };
    let (head, last) = line.split_at(before);
    last.eq_ignore_ascii_case(token.as_bytes())
        && head.last().is_none_or(|&c| c == b',' || c.is_ascii_whitespace() || c == b'\x0b')
}
