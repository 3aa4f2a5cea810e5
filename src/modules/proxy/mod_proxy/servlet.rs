//! `mapping=servlet`: paths as servlet containers see them, where a segment may have parameters (`;a=b`).

/// Compares a URI that isn't decoded with `alias`, segment by segment and without parameters, `.` and `..`. Gives the path
/// without those, and how much of the URI the alias covers (`alias_match_servlet`).
pub(super) fn alias_match_servlet(uri: &[u8], alias: &[u8]) -> Option<(Vec<u8>, usize)> {
    if uri.first() != Some(&b'/') || alias.first() != Some(&b'/') {
        return None;
    }
    let at = |text: &[u8], index: usize| text.get(index).copied().unwrap_or(0);
    let mut map = vec![b'/'];
    let mut stack: Vec<isize> = Vec::new();
    let (mut uri_pos, mut alias_pos, mut first_pos) = (1usize, 1usize, 1usize);
    let mut alias_depth = 0usize;
    while at(uri, uri_pos) != 0 {
        if uri[uri_pos] == b';' {
            // The parameters of a segment.
            while !matches!(at(uri, uri_pos), b'/' | 0) {
                uri_pos += 1;
            }
            continue;
        }
        if map.last() == Some(&b'/') {
            if uri[uri_pos] == b'/' {
                while at(uri, uri_pos) == b'/' {
                    uri_pos += 1;
                }
                continue;
            }
            if uri[uri_pos] == b'.' {
                if matches!(at(uri, uri_pos + 1), b'/' | b';' | 0) {
                    uri_pos += 1;
                    if at(uri, uri_pos) == b'/' {
                        uri_pos += 1;
                    }
                    continue;
                }
                if at(uri, uri_pos + 1) == b'.' && matches!(at(uri, uri_pos + 2), b'/' | b';' | 0) {
                    if map.len() == 1 {
                        return None;
                    }
                    map.pop();
                    while map.last().is_some_and(|&c| c != b'/') {
                        map.pop();
                    }
                    if alias_depth == stack.len() && alias_depth > 0 {
                        if at(alias, alias_pos) == 0 {
                            alias_pos = alias_pos.saturating_sub(1);
                        }
                        while alias_pos > 0 && at(alias, alias_pos) == b'/' {
                            alias_pos -= 1;
                        }
                        while alias_pos > 0 && at(alias, alias_pos - 1) != b'/' {
                            alias_pos -= 1;
                        }
                        alias_depth -= 1;
                    }
                    stack.pop();
                    uri_pos += 2;
                    if at(uri, uri_pos) == b'/' {
                        uri_pos += 1;
                    }
                    first_pos = 0;
                    continue;
                }
            }
            if first_pos > 0 {
                while at(uri, first_pos) == b'/' {
                    first_pos += 1;
                }
            }
            stack.push(if first_pos > 0 { first_pos } else { uri_pos } as isize);
            if at(alias, alias_pos) != 0 {
                if alias_pos > 0 && alias[alias_pos - 1] != b'/' {
                    loop {
                        alias_pos += 1;
                        if alias[alias_pos - 1] == b'/' || at(alias, alias_pos) == 0 {
                            break;
                        }
                    }
                }
                while at(alias, alias_pos) == b'/' {
                    alias_pos += 1;
                }
                if at(alias, alias_pos) != 0 {
                    alias_depth += 1;
                }
            }
        }
        if at(alias, alias_pos) != 0 {
            let segment = alias_depth.checked_sub(1).and_then(|depth| stack.get_mut(depth));
            if let Some(matched) = segment.filter(|matched| **matched != 0) {
                if alias[alias_pos] != uri[uri_pos] {
                    *matched = 0;
                } else if at(alias, alias_pos + 1) == 0 && alias[alias_pos] != b'/' {
                    match at(uri, uri_pos + 1) {
                        // The parameters of the last segment are passed on.
                        b';' => *matched = -(uri_pos as isize + 1),
                        b'/' | 0 => {}
                        _ => *matched = 0,
                    }
                }
            }
            if alias[alias_pos] != b'/' || uri[uri_pos] == b'/' {
                alias_pos += 1;
            }
        }
        if uri[uri_pos] == b'/' {
            first_pos = uri_pos + 1;
        }
        map.push(uri[uri_pos]);
        uri_pos += 1;
    }
    if at(alias, alias_pos) != 0 || stack.iter().take(alias_depth).any(|&matched| matched == 0) {
        return None;
    }
    if let Some(&next) = stack.get(alias_depth) {
        uri_pos = next.unsigned_abs();
        if let Some(&last) = alias_depth.checked_sub(1).and_then(|depth| stack.get(depth))
            && last < 0
        {
            uri_pos = last.unsigned_abs();
        }
    }
    if alias_pos > 0 && alias[alias_pos - 1] != b'/' && uri_pos > 0 && uri[uri_pos - 1] == b'/' {
        uri_pos -= 1;
    }
    Some((map, uri_pos))
}

#[cfg(test)]
mod tests {
    use super::alias_match_servlet;

    fn covered(uri: &str, alias: &str) -> Option<(String, String)> {
        let (map, at) = alias_match_servlet(uri.as_bytes(), alias.as_bytes())?;
        Some((String::from_utf8(map).ok()?, uri.get(at..)?.to_owned()))
    }

    #[test]
    fn parameters_count_for_nothing() {
        let both = |map: &str, rest: &str| Some((map.to_owned(), rest.to_owned()));
        assert_eq!(covered("/app/x", "/app"), both("/app/x", "/x"));
        assert_eq!(covered("/app;s=1/x", "/app"), both("/app/x", ";s=1/x"));
        assert_eq!(covered("/y/..;/app/x", "/app/"), both("/app/x", "x"));
        assert_eq!(covered("/other", "/app"), None);
        assert_eq!(covered("/../app", "/app"), None);
    }
}
