//! The tree of directives and sections.
//!
//! Answers to `ap_directive_t` (include/util_cfgtree.h). What closes a section's first line is kept apart
//! from its arguments, for every section's handler has to cut it off.

use std::borrow::Cow;

use crate::Origin;

/// A directive, or a section with what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it stands.
    pub origin: Origin,
    /// Its name, of a section without the `<`. Of a directive known when it was read, in the spelling of the
    /// module's table, else as written.
    pub name: Box<str>,
    /// The rest of the line, variables replaced; of a section up to its last `>`.
    pub args: Box<str>,
    /// Of a section, what follows the last `>` (nothing, as a rule); `None` when the `>` is missing.
    pub tail: Option<Box<str>>,
    /// What a section holds; `None` for a directive.
    pub children: Option<Vec<Node>>,
}

impl Node {
    /// A node whose `name` and `args` are as `ap_getword_conf` leaves them, so with `<` and `>`.
    pub(crate) fn new(origin: Origin, name: &str, args: &str) -> Node {
        match name.strip_prefix('<') {
            Some(name) => {
                let (args, tail) = match args.rsplit_once('>') {
                    Some((args, tail)) => (args, Some(tail.into())),
                    None => (args, None),
                };
                Node { origin, name: name.into(), args: args.into(), tail, children: Some(Vec::new()) }
            }
            None => Node { origin, name: name.into(), args: args.into(), tail: None, children: None },
        }
    }

    /// Whether it is a section.
    pub fn is_section(&self) -> bool {
        self.children.is_some()
    }

    /// Name as Apache's directive tables have it, a section's with its `<`.
    pub fn directive(&self) -> Cow<'_, str> {
        if self.is_section() { Cow::Owned(format!("<{}", self.name)) } else { Cow::Borrowed(&self.name) }
    }

    /// Arguments as Apache's handlers of RAW_ARGS see them, a section's with its `>`.
    pub fn raw_args(&self) -> Cow<'_, str> {
        match &self.tail {
            Some(tail) => Cow::Owned(format!("{}>{tail}", self.args)),
            None => Cow::Borrowed(&self.args),
        }
    }

    /// Arguments of a section, or Apache's error for a missing `>`. `name` is the table's, `Directory`.
    pub fn section_args(&self, name: &str) -> Result<&str, String> {
        match self.tail {
            Some(_) => Ok(&self.args),
            None => Err(format!("<{name}> directive missing closing '>'")),
        }
    }

    /// Like [`Node::section_args`], for a section that can't be without arguments.
    pub fn required_section_args(&self, name: &str) -> Result<&str, String> {
        match self.section_args(name)? {
            "" => Err(format!("<{name}> directive requires additional arguments")),
            args => Ok(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, args: &str) -> Node {
        Node::new(Origin { file: "f".into(), line: 1 }, name, args)
    }

    #[test]
    fn what_closes_a_section_is_kept_apart() {
        let n = node("<Directory", "\"/a>b\"> x");
        assert_eq!((&*n.name, &*n.args, n.tail.as_deref()), ("Directory", "\"/a>b\"", Some(" x")));
        assert_eq!(n.raw_args(), "\"/a>b\"> x");
        assert_eq!(n.directive(), "<Directory");
        assert_eq!(n.required_section_args("Directory"), Ok("\"/a>b\""));
    }

    #[test]
    fn errors_of_a_section_s_first_line() {
        assert_eq!(
            node("<Files", "a").section_args("Files"),
            Err("<Files> directive missing closing '>'".to_string())
        );
        assert_eq!(
            node("<Files", ">").required_section_args("Files"),
            Err("<Files> directive requires additional arguments".to_string())
        );
        assert_eq!(node("<Else", ">").section_args("Else"), Ok(""));
    }
}
