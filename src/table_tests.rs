//! Tables, beside what APR's do.

use crate::table::*;

fn table(rows: &[(&str, &str)]) -> Table {
    rows.iter().copied().collect()
}

fn rows(t: &Table) -> Vec<(String, String)> {
    t.iter().map(|(k, v)| (String::from_utf8_lossy(k).into(), String::from_utf8_lossy(v).into())).collect()
}

fn same(t: &Table, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    assert_eq!(rows(t), expected);
}

#[test]
fn names_have_no_case_and_the_first_value_is_got() {
    let t = table(&[("Host", "a"), ("ACCEPT", "x"), ("accept", "y")]);
    assert_eq!(t.get("hOST"), Some(&b"a"[..]));
    assert_eq!(t.get("Accept"), Some(&b"x"[..]));
    assert_eq!(t.get("Hos"), None);
    assert_eq!(t.iter_all("Accept").collect::<Vec<_>>(), [b"x", b"y"]);
    // 0x20 apart, though no letters: "[" and "{", "@" and "`".
    assert_eq!(table(&[("[a", "1")]).get("{a"), None);
}

#[test]
fn set_keeps_the_place_and_spelling_of_the_first() {
    let mut t = table(&[("A", "1"), ("b", "2"), ("a", "3"), ("C", "4"), ("A", "5")]);
    t.set("a", "longer than before");
    same(&t, &[("A", "longer than before"), ("b", "2"), ("C", "4")]);
    t.set("B", "");
    t.set("d", "new");
    same(&t, &[("A", "longer than before"), ("b", ""), ("C", "4"), ("d", "new")]);
    t.set_if_absent("C", "no");
    t.set_if_absent("E", "yes");
    assert_eq!(t.get_str("c"), Some("4"));
    assert_eq!(t.get_str("e"), Some("yes"));
}

#[test]
fn merge_joins_with_a_comma() {
    let mut t = table(&[("Vary", "Host"), ("X", "1")]);
    t.merge("vary", "Accept");
    t.merge("vary", "Cookie");
    t.merge("Connection", "close");
    same(&t, &[("Vary", "Host, Accept, Cookie"), ("X", "1"), ("Connection", "close")]);
}

#[test]
fn unset_removes_all() {
    let mut t = table(&[("A", "1"), ("B", "2"), ("a", "3")]);
    assert!(t.unset("A"));
    assert!(!t.unset("A"));
    same(&t, &[("B", "2")]);
    assert!(t.unset("b"));
    assert!(t.is_empty());
}

#[test]
fn compress_and_overlap() {
    let mut t = table(&[("a", "1"), ("B", "2"), ("A", "3"), ("b", "4"), ("a", "5"), ("c", "6")]);
    let other = t.clone();
    t.compress(Overlap::Merge);
    same(&t, &[("a", "1, 3, 5"), ("B", "2, 4"), ("c", "6")]);
    let mut t = other.clone();
    t.compress(Overlap::Set);
    same(&t, &[("a", "5"), ("B", "4"), ("c", "6")]);
    let mut t = table(&[("x", "0"), ("B", "9")]);
    t.overlap(&other, Overlap::Set);
    same(&t, &[("x", "0"), ("B", "4"), ("a", "5"), ("c", "6")]);
    let t = Table::overlay(&table(&[("first", "1")]), &table(&[("second", "2")]));
    same(&t, &[("first", "1"), ("second", "2")]);
}

#[test]
fn memory_is_kept_by_clear_and_bounded_by_compaction() {
    let mut t = Table::new();
    for i in 0..20_000 {
        t.merge("X", "y");
        t.set("Name", "v".repeat(i % 97));
        if i % 50 == 0 {
            t.unset("X");
        }
    }
    assert!(t.capacity() < 16 * 1024, "{}", t.capacity());
    assert_eq!(t.get("Name").map(<[u8]>::len), Some(19_999 % 97));
    let before = t.capacity();
    t.clear();
    t.add("a", "b");
    assert_eq!(t.capacity(), before);
}

#[test]
fn bytes_survive() {
    let mut t = Table::new();
    t.add(b"X-\xff", b"\x80\xfe");
    same(&t, &[("X-\u{fffd}", "\u{fffd}\u{fffd}")]);
    assert_eq!(t.iter().next(), Some((&b"X-\xff"[..], &b"\x80\xfe"[..])));
    t.add("Y", b"\xff");
    assert_eq!(t.get_str("y"), None);
}

#[test]
fn loaded_from_a_block() {
    let block = b"Host: h\r\nA: 1\r\n";
    let other = b"no part of it";
    let mut t = table(&[("old", "x")]);
    let fields = [(&block[..4], &block[6..7]), (&block[9..10], &block[12..13]), (&other[..], &block[..1])];
    assert!(!t.load(block, fields.into_iter()));
    same(&t, &[("Host", "h"), ("A", "1")]);
    t.set("A", "longer");
    t.add("B", "2");
    same(&t, &[("Host", "h"), ("A", "longer"), ("B", "2")]);
    let fields = [(&block[9..10], &block[12..13]), (&block[9..10], &block[12..13])];
    assert!(t.load(block, fields.into_iter()));
    assert_eq!(t.len(), 2);
}

#[test]
fn list_members() {
    let t = table(&[("Connection", "Keep-Alive, Upgrade")]);
    assert!(t.has_token("connection", "keep-alive"));
    assert!(t.has_token("connection", "upgrade"));
    assert!(!t.has_token("connection", "close"));
    assert!(find_token(b"clo", "close"));
    assert!(!find_token(b"closed", "close"));
    assert!(!find_token(b" ,;", "close"));
    assert!(find_last_token(b"gzip, chunked", "chunked"));
    assert!(find_last_token(b"CHUNKED", "chunked"));
    assert!(!find_last_token(b"xchunked", "chunked"));
    assert!(!find_last_token(b"chunked, gzip", "chunked"));
}

#[test]
fn all_values_of_a_name() {
    let values = |of: &[&str]| of.iter().map(|v| Box::from(v.as_bytes())).collect::<Vec<Box<[u8]>>>();
    let mut t = table(&[("Accept", "a"), ("Host", "h"), ("accept", "b")]);
    assert!(t.has_only("ACCEPT", &values(&["a", "b"])));
    assert!(!t.has_only("accept", &values(&["a"])));
    assert!(!t.has_only("accept", &[]));
    assert!(t.has_only("Range", &[]));
    t.unset("accept");
    assert!(t.has_only("Accept", &[]));
}

thread_local! {
    static SEEN: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[test]
fn who_watches_is_told() {
    let mut t = table(&[("Host", "h")]);
    t.watch(Some(|touch| {
        SEEN.with_borrow_mut(|seen| {
            seen.push(match touch {
                Touch::Name(name) => String::from_utf8_lossy(name).into_owned(),
                other => format!("{other:?}"),
            });
        });
    }));
    let seen = || SEEN.with_borrow_mut(std::mem::take);
    t.get("Host");
    t.contains("Range");
    assert_eq!(seen(), ["Host", "Range"]);
    let copy = t.clone();
    assert_eq!(seen(), ["All"]);
    copy.get("Host");
    assert!(seen().is_empty());
    t.set("Host", "i");
    assert!(seen().contains(&"Change".to_owned()));
    t.watch(None);
    t.get("Host");
    assert!(seen().is_empty());
}
