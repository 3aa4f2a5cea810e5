//! The flags of a `RewriteRule`: `cmd_rewriterule_setflag`.

use bstr::BString;

use crate::http::status::{self, Status};
use crate::text::atoi;

/// `REWRITE_MAX_ROUNDS`
const MAX_ROUNDS: i32 = 32000;

/// What the flags of a rule say.
#[derive(Clone, Debug)]
pub(super) struct RuleFlags {
    pub(super) force_redirect: bool,
    pub(super) last: bool,
    pub(super) new_round: bool,
    pub(super) chain: bool,
    pub(super) ignore_on_subreq: bool,
    /// The pattern has a `!` in front of it.
    pub(super) not_match: bool,
    pub(super) proxy: bool,
    pub(super) passthrough: bool,
    pub(super) qs_append: bool,
    pub(super) qs_discard: bool,
    pub(super) qs_last: bool,
    /// The substitution ends in `?`.
    pub(super) qs_none: bool,
    pub(super) nocase: bool,
    pub(super) noescape: bool,
    /// The substitution is `-`, or of no use.
    pub(super) no_sub: bool,
    pub(super) status: bool,
    pub(super) escape_backref: bool,
    pub(super) escape_no_plus: bool,
    pub(super) escape_ctls: bool,
    pub(super) discard_path_info: bool,
    pub(super) end: bool,
    pub(super) unsafe_prefix_stat: bool,
    pub(super) unsafe_allow_3f: bool,
    pub(super) unc: bool,
    pub(super) forced_mimetype: Option<BString>,
    pub(super) forced_handler: Option<BString>,
    pub(super) forced_response_code: Status,
    pub(super) env: Vec<BString>,
    pub(super) cookies: Vec<BString>,
    pub(super) skip: i32,
    pub(super) max_rounds: i32,
    /// What `B=` lists.
    pub(super) escapes: Option<BString>,
    /// What `BNE=` lists.
    pub(super) no_escapes: Option<BString>,
}

impl Default for RuleFlags {
    fn default() -> Self {
        RuleFlags {
            force_redirect: false,
            last: false,
            new_round: false,
            chain: false,
            ignore_on_subreq: false,
            not_match: false,
            proxy: false,
            passthrough: false,
            qs_append: false,
            qs_discard: false,
            qs_last: false,
            qs_none: false,
            nocase: false,
            noescape: false,
            no_sub: false,
            status: false,
            escape_backref: false,
            escape_no_plus: false,
            escape_ctls: false,
            discard_path_info: false,
            end: false,
            unsafe_prefix_stat: false,
            unsafe_allow_3f: false,
            unc: false,
            forced_mimetype: None,
            forced_handler: None,
            forced_response_code: status::MOVED_TEMPORARILY,
            env: Vec::new(),
            cookies: Vec::new(),
            skip: 0,
            max_rounds: MAX_ROUNDS,
            escapes: None,
            no_escapes: None,
        }
    }
}

impl RuleFlags {
    /// Sets one flag; the error is what stands behind `RewriteRule: `.
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        match name.to_ascii_lowercase().as_slice() {
            b"b" | b"backrefescaping" => {
                self.escape_backref = true;
                if !value.is_empty() {
                    self.escapes = Some(value.into());
                }
            }
            b"bne" if value.is_empty() => {
                return Err("flag 'BNE' wants a list of characters (i.e. [BNE=...])".to_owned());
            }
            b"bne" => self.no_escapes = Some(value.into()),
            b"bnp" | b"backrefernoplus" => self.escape_no_plus = true,
            b"bctls" => {
                self.escape_ctls = true;
                self.escape_backref = true;
            }
            b"c" | b"chain" => self.chain = true,
            b"co" | b"cookie" => self.cookies.push(value.into()),
            b"d" | b"dpi" | b"discardpath" => self.discard_path_info = true,
            // Apache looks at the rest of these names only to see whether it knows the flag.
            other if other.first() == Some(&b'd') => {}
            b"e" | b"env" => self.env.push(value.into()),
            b"end" => self.end = true,
            b"f" | b"forbidden" => self.force_status(status::FORBIDDEN),
            b"g" | b"gone" => self.force_status(status::GONE),
            b"h" | b"handler" => self.forced_handler = Some(value.into()),
            b"l" | b"last" => self.last = true,
            b"ne" | b"noescape" => self.noescape = true,
            b"n" | b"next" => {
                self.new_round = true;
                if !value.is_empty() {
                    self.max_rounds = atoi(value);
                }
            }
            b"ns" | b"nosubreq" => self.ignore_on_subreq = true,
            b"nc" | b"nocase" => self.nocase = true,
            b"p" | b"proxy" => self.proxy = true,
            b"pt" | b"passthrough" => self.passthrough = true,
            b"qsa" | b"qsappend" => self.qs_append = true,
            b"qsd" | b"qsdiscard" => self.qs_discard = true,
            b"qsl" | b"qslast" => self.qs_last = true,
            b"r" | b"redirect" => self.redirect(value)?,
            b"s" | b"skip" => self.skip = atoi(value),
            b"t" | b"type" => self.forced_mimetype = Some(value.into()),
            b"unsafeprefixstat" => self.unsafe_prefix_stat = true,
            b"unsafeallow3f" => self.unsafe_allow_3f = true,
            b"unc" => self.unc = true,
            _ => return Err(format!("unknown flag '{}'", httpd_conf::from_bytes(name))),
        }
        Ok(())
    }

    fn force_status(&mut self, code: Status) {
        self.status = true;
        self.no_sub = true;
        self.forced_response_code = code;
    }

    fn redirect(&mut self, value: &[u8]) -> Result<(), String> {
        self.force_redirect = true;
        let code = match value.to_ascii_lowercase().as_slice() {
            b"" => return Ok(()),
            b"permanent" => status::MOVED_PERMANENTLY,
            b"temp" => status::MOVED_TEMPORARILY,
            b"seeother" => status::SEE_OTHER,
            word if word.first().is_some_and(u8::is_ascii_digit) => {
                // `ap_index_of_response` takes what it doesn't know for 500.
                let code = u16::try_from(atoi(value)).unwrap_or(0);
                let error = status::INTERNAL_SERVER_ERROR;
                if code != error && status::line(code) == status::line(error) {
                    return Err(format!(
                        "invalid HTTP response code '{}' for flag 'R'",
                        httpd_conf::from_bytes(value)
                    ));
                }
                if !status::is_redirect(code) {
                    self.status = true;
                    self.no_sub = true;
                }
                code
            }
            _ => 0,
        };
        self.forced_response_code = code;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_the_short_ones() {
        let mut flags = RuleFlags::default();
        for name in ["Last", "nocase", "QSAppend", "passthrough", "NoEscape", "chain"] {
            flags.set(name.as_bytes(), b"").unwrap();
        }
        assert!(flags.last && flags.nocase && flags.qs_append && flags.passthrough);
        assert!(flags.noescape && flags.chain && !flags.new_round);
        assert_eq!(flags.set(b"XX", b""), Err("unknown flag 'XX'".to_owned()));
    }

    #[test]
    fn a_status_that_redirects_nowhere_needs_no_substitution() {
        let mut flags = RuleFlags::default();
        flags.set(b"R", b"404").unwrap();
        assert!(flags.no_sub && flags.status && flags.forced_response_code == 404);
        assert!(flags.set(b"R", b"999").is_err());
    }
}
