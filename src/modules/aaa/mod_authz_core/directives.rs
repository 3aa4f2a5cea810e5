//! The directives of mod_authz_core: how `Require` lines and containers become a tree.
//!
//! Answers to `add_authz_provider`, `add_authz_section`, `authz_core_check_section` of `mod_authz_core.c`.

use std::sync::Arc;

use httpd_conf::next_word;

use super::{AuthzDir, DIR, Logic, Merging, SERVER, Section, What, alias};
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done};

pub(super) static ROWS: &[Directive] = &[
    Directive {
        name: "<AuthzProviderAlias",
        args: Args::Raw(alias::section),
        allowed: Allowed::RSRC_CONF,
        help: "container for grouping an authorization provider's directives under a provider alias",
    },
    Directive {
        name: "Require",
        args: Args::Raw(require),
        allowed: Allowed::AUTHCFG,
        help: "specifies authorization directives which one must pass (or not) for a request to suceeed",
    },
    Directive {
        name: "<RequireAll",
        args: Args::Raw(require_all),
        allowed: Allowed::AUTHCFG,
        help: "container for grouping authorization directives of which none must fail and at least one must pass for a request to succeed",
    },
    Directive {
        name: "<RequireAny",
        args: Args::Raw(require_any),
        allowed: Allowed::AUTHCFG,
        help: "container for grouping authorization directives of which one must pass for a request to succeed",
    },
    Directive {
        name: "<RequireNone",
        args: Args::Raw(require_none),
        allowed: Allowed::AUTHCFG,
        help: "container for grouping authorization directives of which none must pass for a request to succeed",
    },
    Directive {
        name: "AuthMerging",
        args: Args::Take1(merging),
        allowed: Allowed::AUTHCFG,
        help: "controls how a <Directory>, <Location>, or similar directive's authorization directives are combined with those of its predecessor",
    },
    Directive {
        name: "AuthzSendForbiddenOnFailure",
        args: Args::Flag(forbidden_on_failure),
        allowed: Allowed::AUTHCFG,
        help: "Controls if an authorization failure should result in a '403 FORBIDDEN' response instead of the HTTP-conforming '401 UNAUTHORIZED'",
    },
];

fn require(cmd: &mut Cmd, line: &str) -> Done {
    let mut rest = line;
    let mut name = next_word(&mut rest);
    let negate = name.eq_ignore_ascii_case("not");
    if negate {
        name = next_word(&mut rest);
    }
    let requirement = alias::requirement(cmd, &name, rest)?;
    let section = Section {
        limited: cmd.limited.unwrap_or(u64::MAX),
        negate,
        what: What::Line { name, args: rest.to_owned(), requirement: requirement.into() },
    };
    let row = cmd.name;
    let current = current(cmd.dir(&DIR));
    if negate && current.op() == Some(Logic::Or) {
        return Err(format!("negative {row} directive has no effect in {current} directive").into());
    }
    current.limited |= section.limited;
    if let What::Container { children, .. } = &mut current.what {
        children.push(section);
    }
    Ok(())
}

/// The container that is open, or the outermost one.
fn current(conf: &mut AuthzDir) -> &mut Section {
    Arc::make_mut(conf.section.get_or_insert_with(|| Arc::new(Section::outermost())))
}

fn require_all(cmd: &mut Cmd, args: &str) -> Done {
    container(cmd, args, Section::container(Logic::And, false))
}

fn require_any(cmd: &mut Cmd, args: &str) -> Done {
    container(cmd, args, Section::container(Logic::Or, false))
}

fn require_none(cmd: &mut Cmd, args: &str) -> Done {
    container(cmd, args, Section::container(Logic::Or, true))
}

fn container(cmd: &mut Cmd, _: &str, section: Section) -> Done {
    let row = cmd.name;
    let args = cmd.node.section_args(row.trim_start_matches('<')).map_err(|_| missing_end(row))?;
    if !args.is_empty() {
        return Err(format!("{row}> directive doesn't take additional arguments").into());
    }
    let outer = cmd.dir(&DIR).section.replace(Arc::new(section));
    // Directives that can't stand in <Limit> can't stand here: one bit less says so.
    let limited = cmd.limited.unwrap_or(u64::MAX) & !(1 << 63);
    let walked = cmd.walk_here(Some(limited), Allowed::AUTHCFG);
    let conf = cmd.dir(&DIR);
    let made = std::mem::replace(&mut conf.section, outer);
    walked?;
    let Some(made) = made.map(Arc::unwrap_or_clone) else { return Ok(()) };
    if join(conf, made)? && !cmd.in_htaccess() {
        cmd.server_conf(&SERVER)?.only_negative = true;
    }
    Ok(())
}

fn missing_end(row: &str) -> CmdError {
    format!("{row}> directive missing closing '>'").into()
}

/// Puts a finished container into the one around it. `true`: it holds negative lines only, an error at the start.
fn join(conf: &mut AuthzDir, made: Section) -> Result<bool, CmdError> {
    let shown = made.to_string();
    let Section { limited, negate, what: What::Container { op, merged, children: mut inner } } = made else {
        return Ok(false);
    };
    if inner.is_empty() {
        return Err(format!("{shown} directive contains no authorization directives").into());
    }
    let outer = current(conf);
    if negate && outer.op() == Some(Logic::Or) {
        return Err(format!("{shown} directive has no effect in {outer} directive").into());
    }
    outer.limited |= limited;
    let What::Container { op: outer_op, children, .. } = &mut outer.what else { return Ok(false) };
    if !negate && op == *outer_op {
        // (a and b) and c is a and b and c.
        children.append(&mut inner);
        return Ok(false);
    }
    let only_negative = inner.iter().all(|child| child.negate);
    if negate && op != *outer_op {
        // Not (a or b) is not a and not b.
        for child in &mut inner {
            child.negate = !child.negate;
        }
        children.append(&mut inner);
    } else {
        children.push(Section { limited, negate, what: What::Container { op, merged, children: inner } });
    }
    Ok(only_negative)
}

fn merging(cmd: &mut Cmd, arg: &str) -> Done {
    let merging = match arg.to_ascii_lowercase().as_str() {
        "off" => Merging::Off,
        "and" => Merging::With(Logic::And),
        "or" => Merging::With(Logic::Or),
        _ => return Err(format!("{} must be one of: Off | And | Or", cmd.name).into()),
    };
    cmd.dir(&DIR).merging = Some(merging);
    Ok(())
}

fn forbidden_on_failure(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).forbidden_on_failure = Some(on);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::Conf;
    use crate::modules::aaa::{AuthzStatus, Requirement};
    use crate::request::Request;

    struct Nobody;
    impl Requirement for Nobody {
        fn check(&self, _: &mut Request) -> AuthzStatus {
            AuthzStatus::Denied
        }
    }

    fn line(name: &str, negate: bool) -> Section {
        let what = What::Line { name: name.to_owned(), args: String::new(), requirement: Arc::new(Nobody) };
        Section { limited: u64::MAX, negate, what }
    }

    fn container(op: Logic, negate: bool, inner: Vec<Section>) -> Section {
        let mut section = Section::container(op, negate);
        section.limited = inner.iter().fold(0, |all, one| all | one.limited);
        if let What::Container { children, .. } = &mut section.what {
            *children = inner;
        }
        section
    }

    fn conf(section: Section) -> AuthzDir {
        AuthzDir { section: Some(Arc::new(section)), ..AuthzDir::default() }
    }

    /// The tree in one line.
    fn shown(section: &Section) -> String {
        match &section.what {
            What::Line { name, .. } => format!("{}{name}", if section.negate { "!" } else { "" }),
            What::Container { children, .. } => {
                format!("{section}({})", children.iter().map(shown).collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn tree(conf: &AuthzDir) -> String {
        conf.section.as_deref().map(shown).unwrap_or_default()
    }

    #[test]
    fn containers_are_joined() {
        let mut all = conf(container(Logic::And, false, vec![line("a", false)]));
        let more = container(Logic::And, false, vec![line("b", true)]);
        assert_eq!(join(&mut all, more).ok(), Some(false));
        let none = container(Logic::Or, true, vec![line("c", false), line("d", false)]);
        assert_eq!(join(&mut all, none).ok(), Some(false));
        assert_eq!(tree(&all), "<RequireAll>(a !b !c !d)");

        let mut outermost = AuthzDir::default();
        let inner = container(Logic::And, false, vec![line("a", true)]);
        assert_eq!(join(&mut outermost, inner).ok(), Some(true));
        assert_eq!(tree(&outermost), "<RequireAny>(<RequireAll>(!a))");
    }

    #[test]
    fn containers_without_effect_are_refused() {
        let error = |made| join(&mut AuthzDir::default(), made).unwrap_err().message;
        assert_eq!(
            error(Section::container(Logic::And, false)),
            "<RequireAll> directive contains no authorization directives"
        );
        assert_eq!(
            error(container(Logic::Or, true, vec![line("a", false)])),
            "<RequireNone> directive has no effect in <RequireAny> directive"
        );
    }

    #[test]
    fn sections_merge() {
        let outer = conf(container(Logic::Or, false, vec![line("a", false)]));
        let inner =
            |merging| AuthzDir { merging, ..conf(container(Logic::Or, false, vec![line("b", false)])) };
        assert_eq!(tree(&outer.merge(&inner(None))), "<RequireAny>(b)");
        assert_eq!(tree(&outer.merge(&inner(Some(Merging::Off)))), "<RequireAny>(b)");
        assert_eq!(
            tree(&outer.merge(&inner(Some(Merging::With(Logic::And))))),
            "AuthMerging All(<RequireAny>(a) <RequireAny>(b))"
        );
        let only_the_status = AuthzDir { forbidden_on_failure: Some(true), ..AuthzDir::default() };
        let merged = outer.merge(&only_the_status);
        assert_eq!((tree(&merged), merged.forbidden_on_failure), ("<RequireAny>(a)".to_owned(), Some(true)));
        let nothing = AuthzDir { merging: Some(Merging::Off), ..AuthzDir::default() };
        assert_eq!(tree(&outer.merge(&nothing)), "");
    }
}
