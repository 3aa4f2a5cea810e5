//! The configuration tree as text (`-D DUMP_CONFIG`) and as a part of the page, each directive with the place where it
//! stands.
//!
//! Answers to `mod_info_module_cmds` and what it calls. `Include`, `<IfModule>` and whatever else acts while the files
//! are read is not in the tree.

use httpd_conf::{Node, to_bytes};

use crate::config::directive::Directive;
use crate::http::escape::escape_html;

/// What it is written as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Html,
    Text,
}

/// The whole tree, for `-D DUMP_CONFIG`.
pub fn dump(tree: &[Node]) -> String {
    let mut out = Vec::new();
    write(&mut out, Form::Text, tree, None);
    String::from_utf8_lossy(&out).into_owned()
}

/// The directives named in `rows` with the sections around them, or all.
pub(super) fn write(out: &mut Vec<u8>, form: Form, tree: &[Node], rows: Option<&[Directive]>) {
    Tree { out, form, rows, file: None }.level(tree, &mut Vec::new(), 0);
}

struct Tree<'a> {
    out: &'a mut Vec<u8>,
    form: Form,
    rows: Option<&'a [Directive]>,
    /// The file that the last directive was in.
    file: Option<Vec<u8>>,
}

impl Tree<'_> {
    /// One level inside of `parents`, of which the outer `opened` are on the page already; how many are when it is done.
    fn level<'n>(&mut self, nodes: &'n [Node], parents: &mut Vec<&'n Node>, opened: usize) -> usize {
        let level = parents.len();
        let mut shown = opened;
        for node in nodes {
            // An empty section is a directive like any other.
            if let Some(children) = node.children.as_deref().filter(|children| !children.is_empty()) {
                parents.push(node);
                let inner = self.level(children, parents, shown);
                parents.pop();
                if inner > level {
                    shown = level;
                    self.close(node, level);
                }
            } else if self.is_wanted(node) {
                for (depth, parent) in parents.iter().enumerate().skip(shown) {
                    self.open(parent, depth);
                }
                shown = level;
                self.directive(node, level);
            }
        }
        shown
    }

    fn is_wanted(&self, node: &Node) -> bool {
        let name = node.directive();
        self.rows.is_none_or(|rows| rows.iter().any(|row| row.name.eq_ignore_ascii_case(&name)))
    }

    fn directive(&mut self, node: &Node, depth: usize) {
        self.place(node, depth, node.origin.line);
        self.put(&node.directive());
        self.markup(" <i>", " ");
        self.put(&node.raw_args());
        self.markup("</i></tt></dd>\n", "\n");
    }

    fn open(&mut self, node: &Node, depth: usize) {
        self.place(node, depth, node.origin.line);
        self.put(&format!("{} {}", node.directive(), node.raw_args()));
        self.markup("</tt></dd>\n", "\n");
    }

    fn close(&mut self, node: &Node, depth: usize) {
        self.place(node, depth, 0);
        self.put(&format!("</{}>", node.name));
        self.markup("</tt></dd>", "\n");
    }

    /// `mod_info_indent`: the file when it is another one, the line unless it is 0, the indent.
    fn place(&mut self, node: &Node, depth: usize, line: u32) {
        let file = to_bytes(&node.origin.file);
        if self.file.as_deref() != Some(&*file) {
            self.markup("<dd><tt><strong>In file: ", "# In file: ");
            self.put(&node.origin.file);
            self.markup("</strong></tt></dd>\n", "\n");
            self.file = Some(file.into_owned());
        }
        match self.form {
            Form::Html => {
                let number = if line > 0 { line.to_string() } else { String::new() };
                let blanks = "&nbsp;".repeat(4_usize.saturating_sub(number.len()));
                let text = format!("<dd><tt>{blanks}{number}:&nbsp;{}", "&nbsp;&nbsp;".repeat(depth));
                self.out.extend_from_slice(text.as_bytes());
            }
            Form::Text => {
                let indent = "  ".repeat(depth);
                if line > 0 {
                    self.out.extend_from_slice(format!("{indent}#{line:>4}:\n").as_bytes());
                }
                self.out.extend_from_slice(indent.as_bytes());
            }
        }
    }

    /// What comes from the configuration.
    fn put(&mut self, text: &str) {
        let bytes = to_bytes(text);
        match self.form {
            Form::Html => self.out.extend_from_slice(&escape_html(&bytes)),
            Form::Text => self.out.extend_from_slice(&bytes),
        }
    }

    fn markup(&mut self, html: &str, text: &str) {
        let shown = if self.form == Form::Html { html } else { text };
        self.out.extend_from_slice(shown.as_bytes());
    }
}
