//! `Define`, `UnDefine` and `${VAR}`.
//!
//! Answers to `set_define`, `unset_define` and `ap_resolve_env` of server/core.c. As there, *names* are told
//! apart by case while the *values* behind `${…}` are not.

use std::borrow::Cow;
use std::collections::HashMap;

use nom::Parser;
use nom::bytes::complete::{tag, take_until};
use nom::sequence::delimited;

use crate::{Host, Level, Warning};

/// What is defined, by `-D` and by `Define`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defines {
    /// In the order that `-D DUMP_RUN_CFG` prints.
    names: Vec<String>,
    /// By name in lower case.
    values: HashMap<String, String>,
}

impl Defines {
    pub(crate) fn new(names: Vec<String>) -> Defines {
        Defines { names, values: HashMap::new() }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.names.iter().map(|n| (n.as_str(), self.value(n)))
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.values.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    pub(crate) fn define(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        check_name(name)?;
        if !self.contains(name) {
            self.names.push(name.to_string());
        }
        if let Some(value) = value {
            self.values.insert(name.to_ascii_lowercase(), value.to_string());
        }
        Ok(())
    }

    /// The last name takes the place of the one that is removed, which can be seen in the dump.
    pub(crate) fn undefine(&mut self, name: &str) -> Result<(), String> {
        check_name(name)?;
        if let Some(at) = self.names.iter().position(|n| n == name) {
            self.names.swap_remove(at);
        }
        self.values.remove(&name.to_ascii_lowercase());
        Ok(())
    }

    /// `text` with each `${NAME}` replaced by what is defined, or by the environment. What is found is not
    /// looked at again; what is not found stays, with a warning unless the name has a `:` in it
    /// (`${mapname:key}` of mod_rewrite).
    pub(crate) fn resolve<'a>(&self, host: &mut dyn Host, text: &'a str) -> Cow<'a, str> {
        if !text.contains("${") {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len() + 32);
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let Ok((after, name)) = variable(rest) else { break };
            if let Some(value) = self.value(name) {
                out.push_str(value);
            } else if let Some(value) = host.env(name) {
                out.push_str(&value);
            } else {
                if !name.contains(':') {
                    host.warn(Warning {
                        id: "AH00111",
                        level: Level::Warn,
                        module: "core",
                        message: format!("Config variable ${{{name}}} is not defined"),
                    });
                }
                out.push_str(&rest[..rest.len() - after.len()]);
            }
            rest = after;
        }
        out.push_str(rest);
        Cow::Owned(out)
    }
}

fn variable(text: &str) -> nom::IResult<&str, &str> {
    delimited(tag("${"), take_until("}"), tag("}")).parse(text)
}

fn check_name(name: &str) -> Result<(), String> {
    if name.contains(':') { Err("Variable name must not contain ':'".to_string()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn defines() -> Defines {
        let mut d = Defines::new(vec!["A".into(), "B".into()]);
        d.define("Foo", Some("one")).unwrap();
        d.define("E", Some("${Foo}")).unwrap();
        d.define("N", None).unwrap();
        d
    }

    fn resolve(text: &str) -> (String, Vec<String>) {
        let mut host = Fake::default();
        host.env.insert("HOME".into(), "/root".into());
        let out = defines().resolve(&mut host, text).into_owned();
        (out, host.warnings)
    }

    #[test]
    fn variables_are_replaced_once_and_by_any_case() {
        assert_eq!(resolve("a ${Foo}${fOO} ${HOME} $Foo $ {Foo} $").0, "a oneone /root $Foo $ {Foo} $");
        assert_eq!(resolve("${E}").0, "${Foo}");
        assert_eq!(resolve("$${Foo}").0, "$one");
        assert_eq!(resolve("${home} ${Foo").0, "${home} ${Foo");
    }

    #[test]
    fn what_is_not_defined_stays() {
        let (out, warnings) = resolve("${X} ${m:k} ${N} ${} ${a${Foo}}");
        assert_eq!(out, "${X} ${m:k} ${N} ${} ${a${Foo}}");
        assert_eq!(
            warnings,
            [
                "core AH00111: Config variable ${X} is not defined",
                "core AH00111: Config variable ${N} is not defined",
                "core AH00111: Config variable ${} is not defined",
                "core AH00111: Config variable ${a${Foo} is not defined",
            ]
        );
    }

    #[test]
    fn the_order_of_the_dump() {
        let mut d = defines();
        d.undefine("A").unwrap();
        d.undefine("foo").unwrap();
        d.undefine("nothing").unwrap();
        let list: Vec<_> = d.iter().collect();
        assert_eq!(list, [("N", None), ("B", None), ("Foo", None), ("E", Some("${Foo}"))]);
        assert!(d.contains("Foo") && !d.contains("foo"));
    }

    #[test]
    fn no_colon_in_a_name() {
        let mut d = defines();
        assert_eq!(d.define("a:b", None), Err("Variable name must not contain ':'".to_string()));
        assert_eq!(d.undefine("a:b"), Err("Variable name must not contain ':'".to_string()));
    }
}
