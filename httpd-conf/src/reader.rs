//! Lines into a tree.
//!
//! Answers to `ap_build_config`, `ap_build_config_sub`, `execute_now`, `process_command_config` and the
//! reading half of `ap_process_resource_config` and `ap_parse_htaccess` in server/config.c. Differs in that
//! sections can nest only 500 deep, where Apache goes on until its stack is used up.

use std::mem;
use std::path::Path;
use std::sync::Arc;

use crate::encoding::from_bytes;
use crate::include::Included;
use crate::lines::{Lines, MAX_HTACCESS};
use crate::macros::{Macros, QuietMacros};
use crate::tree::Node;
use crate::variables::Defines;
use crate::words::{getword_conf, is_space};
use crate::{Context, DirectiveFacts, Error, Host, Origin, include};

/// How deep sections may nest.
const MAX_DEPTH: usize = 500;

/// Reads configurations. It holds what outlives a file: what is defined, the macros, the depth of includes.
///
/// One reader serves one reading of the whole configuration; a restart begins with a new one, and so undoes
/// what the files defined. Afterwards it is kept for the .htaccess files, which see the same variables and
/// macros.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    pub(crate) defines: Arc<Defines>,
    /// `None` until the first `<Macro`, which the error messages of `Use` tell apart.
    pub(crate) macros: Option<Arc<Macros>>,
    /// `MacroIgnoreEmptyArgs`, `MacroIgnoreBadNesting`.
    pub(crate) quiet_macros: QuietMacros,
    pub(crate) includes: include::State,
    pub(crate) in_htaccess: bool,
    /// Names of the sections around the line that is read, outermost first.
    open: Vec<Box<str>>,
}

/// A file that is being read: Apache's `cmd_parms` as far as reading needs it.
pub(crate) struct File {
    pub(crate) lines: Lines,
    frames: Vec<Frame>,
    /// Where an error is said to be: the directive that acted on read last, or the one that is at fault.
    blame: Option<Origin>,
    /// What has been read outside of all sections.
    top: Vec<Node>,
}

/// A section that is open.
enum Frame {
    /// One that stays in the tree.
    Section(Node),
    /// An `<IfModule>` or the like whose condition holds: its content takes its place. The text closes it.
    Condition(String),
}

impl Reader {
    /// A reader with the names that `-D` gave.
    pub fn new(defines: impl IntoIterator<Item = String>) -> Reader {
        Reader { defines: Arc::new(Defines::new(defines.into_iter().collect())), ..Reader::default() }
    }

    /// Reads the server's configuration: a file, a folder or a wildcard, as for `Include`. `path` is
    /// absolute.
    ///
    /// (With `-C` or `-c`, Apache does without the default file; whether it is there is the caller's to look
    /// at.)
    pub fn read_file(&mut self, host: &mut dyn Host, path: &Path) -> Result<Vec<Node>, Error> {
        self.open.clear();
        self.includes.depth = 0;
        let mut nodes = Vec::new();
        self.read_matching(
            host,
            std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()),
            false,
            &mut nodes,
        )?;
        Ok(nodes)
    }

    /// Reads the directives of `-C` or of `-c`. Errors have no origin; their message is complete.
    pub fn read_lines(&mut self, host: &mut dyn Host, directives: &[String]) -> Result<Vec<Node>, Error> {
        self.open.clear();
        self.includes.depth = 0;
        self.build(host, Lines::of_list("-c/-C directives", directives)).map_err(|error| Error {
            origin: None,
            message: format!("Syntax error in -C/-c directive: {}", error.message),
        })
    }

    /// Reads a .htaccess file that the server has opened: its name and its bytes. Of an error, Apache logs
    /// the name of the file and the message, without the line.
    ///
    /// Macros that the file defines are forgotten at its end; Apache keeps them, unsynchronised, for the
    /// whole process.
    pub fn read_htaccess(&self, host: &mut dyn Host, name: &str, content: &[u8]) -> Result<Vec<Node>, Error> {
        let mut reader = Reader {
            defines: self.defines.clone(),
            macros: self.macros.clone(),
            in_htaccess: true,
            ..Reader::default()
        };
        reader.build(host, Lines::of_file(name, from_bytes(content).into_owned(), MAX_HTACCESS))
    }

    /// What is defined, in the order of `-D DUMP_RUN_CFG`, with its value if it has one.
    pub fn defines(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.defines.iter()
    }

    /// Whether `name` is defined, as `<IfDefine>` asks.
    pub fn is_defined(&self, name: &str) -> bool {
        self.defines.contains(name)
    }

    /// `text` with its `${NAME}`s replaced, as in every line that is read.
    pub fn resolve<'a>(&self, host: &mut dyn Host, text: &'a str) -> std::borrow::Cow<'a, str> {
        self.defines.resolve(host, text)
    }

    /// The files that were read so far, also when reading failed: for `-D DUMP_INCLUDES`.
    pub fn includes(&self) -> &[Included] {
        &self.includes.log
    }

    /// Reads all lines of a file into a tree.
    pub(crate) fn build(&mut self, host: &mut dyn Host, lines: Lines) -> Result<Vec<Node>, Error> {
        let mut file = File { lines, frames: Vec::new(), blame: None, top: Vec::new() };
        match self.build_lines(host, &mut file) {
            Ok(()) => Ok(file.top),
            Err(message) => Err(Error { origin: file.blame, message }),
        }
    }

    fn build_lines(&mut self, host: &mut dyn Host, file: &mut File) -> Result<(), String> {
        let mut line = String::new();
        while file.next_line(&mut line)? {
            match file.frames.last() {
                // Only a line that is nothing but the closing tag ends it.
                Some(Frame::Condition(closing)) if line.eq_ignore_ascii_case(closing) => {
                    file.frames.pop();
                }
                _ => self.build_line(host, file, &line)?,
            }
        }
        self.at_end(file)
    }

    fn build_line(&mut self, host: &mut dyn Host, file: &mut File, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let line = Arc::clone(&self.defines).resolve(host, line).into_owned();
        let mut args = line.as_str();
        let name = getword_conf(&mut args);
        if name.is_empty() {
            return Ok(());
        }
        let origin = file.lines.origin();
        if name.starts_with("</") {
            return self.close(file, origin, &name);
        }
        // As in Apache also of a word that is no section: `ServerName>` is ServerName.
        let name = name.strip_suffix('>').unwrap_or(&name);
        if name.starts_with('<') && args.is_empty() {
            args = ">";
        }
        match host.directive(name) {
            Some(facts) if facts.on_read => {
                file.blame = Some(origin.clone());
                self.run(host, file, facts, origin, args)
            }
            facts => {
                let node = Node::new(origin, facts.map_or(name, |f| f.name), args);
                if node.is_section() {
                    self.open(file, node)
                } else {
                    file.add(node);
                    Ok(())
                }
            }
        }
    }

    /// A directive that acts on read.
    fn run(
        &mut self,
        host: &mut dyn Host,
        file: &mut File,
        facts: DirectiveFacts,
        origin: Origin,
        args: &str,
    ) -> Result<(), String> {
        let parents: Vec<Box<str>> = self.open.clone();
        let parents: Vec<&str> = parents.iter().map(|p| &**p).collect();
        type Own = fn(&mut Reader, &mut dyn Host, &mut File, &DirectiveFacts, &str) -> Result<(), String>;
        let own: Own = match facts.name {
            "Define" => Reader::define,
            "UnDefine" => Reader::undefine,
            "Include" | "IncludeOptional" => Reader::include,
            "<IfDefine" | "<IfModule" | "<IfFile" | "<IfDirective" | "<IfSection" => Reader::if_section,
            "<IfVersion" => Reader::if_version,
            "<Macro" => Reader::define_macro,
            "Use" => Reader::use_macro,
            "UndefMacro" => Reader::undef_macro,
            "MacroIgnoreEmptyArgs" => Reader::ignore_empty_args,
            "MacroIgnoreBadNesting" => Reader::ignore_bad_nesting,
            _ => {
                let mut node = Node::new(origin, facts.name, args);
                if facts.raw_body {
                    self.take_raw_body(file, &mut node);
                }
                host.on_read(&node, &parents)?;
                if facts.raw_body {
                    file.add(node);
                }
                return Ok(());
            }
        };
        match host.check_context(facts.name, &parents)? {
            Context::Allowed => own(self, host, file, &facts, args),
            Context::Ignored => Ok(()),
        }
    }

    fn open(&mut self, file: &mut File, node: Node) -> Result<(), String> {
        self.open.push(node.name.clone());
        file.push(Frame::Section(node))
    }

    fn close(&mut self, file: &mut File, origin: Origin, name: &str) -> Result<(), String> {
        let Some(Frame::Section(section)) = file.frames.last() else {
            file.blame = Some(origin);
            return Err(format!("{name} without matching <{} section", &name[2..]));
        };
        let Some(name) = name.strip_suffix('>') else {
            file.blame = Some(origin);
            return Err(format!("{name}> directive missing closing '>'"));
        };
        if !name[2..].eq_ignore_ascii_case(&section.name) {
            file.blame = Some(origin);
            return Err(format!("Expected </{}> but saw {name}>", section.name));
        }
        self.pop_section(file);
        Ok(())
    }

    fn pop_section(&mut self, file: &mut File) {
        if let Some(Frame::Section(node)) = file.frames.pop() {
            self.open.pop();
            file.add(node);
        }
    }

    /// The end of the file. Of the sections that are still open, only those that are in no condition are an
    /// error; the others end here, as does the condition.
    fn at_end(&mut self, file: &mut File) -> Result<(), String> {
        let unclosed: Vec<&Node> = file
            .frames
            .iter()
            .map_while(|frame| match frame {
                Frame::Section(node) => Some(node),
                Frame::Condition(_) => None,
            })
            .collect();
        if let Some(outermost) = unclosed.first() {
            let list: Vec<String> = unclosed
                .iter()
                .rev()
                .map(|n| format!("{}:{}: <{}> was not closed.", n.origin.file, n.origin.line, n.name))
                .collect();
            file.blame = Some(outermost.origin.clone());
            return Err(list.join("\n"));
        }
        while let Some(frame) = file.frames.last() {
            match frame {
                Frame::Section(_) => self.pop_section(file),
                Frame::Condition(_) => {
                    file.frames.pop();
                }
            }
        }
        Ok(())
    }

    /// The lines up to the closing tag of a section that holds no directives, or to the end of the file. They
    /// are taken as they stand; whatever begins with the closing tag's name ends them (`direct_chunkreader`
    /// of mod_lua).
    fn take_raw_body(&self, file: &mut File, node: &mut Node) {
        let closing = format!("</{}", node.name);
        let mut body = Vec::new();
        let mut line = String::new();
        while file.lines.next_raw(&mut line) {
            let text = line.trim_start_matches(is_space);
            if text.get(..closing.len()).is_some_and(|start| start.eq_ignore_ascii_case(&closing)) {
                break;
            }
            body.push(Node {
                origin: file.lines.origin(),
                name: "".into(),
                args: mem::take(&mut line).into(),
                tail: None,
                children: None,
            });
        }
        node.children = Some(body);
    }

    fn define(
        &mut self,
        _: &mut dyn Host,
        _: &mut File,
        facts: &DirectiveFacts,
        args: &str,
    ) -> Result<(), String> {
        let mut rest = args;
        let (name, value) = (getword_conf(&mut rest), getword_conf(&mut rest));
        if name.is_empty() || !rest.is_empty() {
            return Err(wrong_arguments(facts, "takes 1-2 arguments"));
        }
        self.not_in_htaccess(facts)?;
        Arc::make_mut(&mut self.defines).define(&name, Some(&*value).filter(|v| !v.is_empty()))
    }

    fn undefine(
        &mut self,
        _: &mut dyn Host,
        _: &mut File,
        facts: &DirectiveFacts,
        args: &str,
    ) -> Result<(), String> {
        let name = one_argument(facts, args)?;
        self.not_in_htaccess(facts)?;
        Arc::make_mut(&mut self.defines).undefine(&name)
    }

    fn not_in_htaccess(&self, facts: &DirectiveFacts) -> Result<(), String> {
        if self.in_htaccess {
            Err(format!("{} cannot occur within htaccess files", facts.name))
        } else {
            Ok(())
        }
    }
}

impl File {
    /// The next logical line; false at the end, Apache's text for one that can't be read.
    pub(crate) fn next_line(&mut self, line: &mut String) -> Result<bool, String> {
        self.lines.next(line).map_err(|_| self.lines.too_long())
    }

    /// Puts a node where it belongs: into the innermost section.
    pub(crate) fn add(&mut self, node: Node) {
        self.sink().push(node);
    }

    /// The same for the content of a file that is included.
    pub(crate) fn add_all(&mut self, mut nodes: Vec<Node>) {
        self.sink().append(&mut nodes);
    }

    /// Goes into a section that is closed by `</name>` and leaves no node; `name` is the table's, with its
    /// `<`.
    pub(crate) fn enter_condition(&mut self, name: &str) -> Result<(), String> {
        self.push(Frame::Condition(format!("</{}>", name.trim_start_matches('<'))))
    }

    fn push(&mut self, frame: Frame) -> Result<(), String> {
        if self.frames.len() >= MAX_DEPTH {
            self.blame = Some(self.lines.origin());
            return Err(format!("Sections are nested more than {MAX_DEPTH} deep"));
        }
        self.frames.push(frame);
        Ok(())
    }

    fn sink(&mut self) -> &mut Vec<Node> {
        let innermost = self.frames.iter_mut().rev().find_map(|frame| match frame {
            Frame::Section(node) => Some(node.children.get_or_insert_default()),
            Frame::Condition(_) => None,
        });
        innermost.unwrap_or(&mut self.top)
    }
}

/// The text of the directive `Error`, from its raw arguments. (It does not act on read: it is met when the
/// tree is walked.)
pub fn error_directive(args: &str) -> String {
    if args.is_empty() {
        return "The Error directive was used with no message.".to_string();
    }
    let mut chars = args.chars();
    match (chars.next(), chars.next_back()) {
        (Some(first @ ('"' | '\'')), Some(last)) if first == last => chars.as_str().to_string(),
        _ => args.to_string(),
    }
}

/// The argument of a directive that has one (TAKE1).
pub(crate) fn one_argument<'a>(
    facts: &DirectiveFacts,
    args: &'a str,
) -> Result<std::borrow::Cow<'a, str>, String> {
    let mut rest = args;
    let word = getword_conf(&mut rest);
    if word.is_empty() || !rest.is_empty() {
        return Err(wrong_arguments(facts, "takes one argument"));
    }
    Ok(word)
}

pub(crate) fn wrong_arguments(facts: &DirectiveFacts, what: &str) -> String {
    match facts.help {
        "" => format!("{} {what}", facts.name),
        help => format!("{} {what}, {help}", facts.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, read, read_with, show};

    #[test]
    fn sections_and_directives_in_any_case() {
        assert_eq!(
            read(
                "servername a  b \n<directory \"/x\">\n foo ${Cli\n <Unknown>\n </unKnown>\n</DIRECTORY>\nLast"
            ),
            "1 ServerName a  b\n2 <Directory \"/x\">\n  3 foo ${Cli\n  4 <Unknown >\n7 Last \n"
        );
    }

    #[test]
    fn odd_names() {
        assert_eq!(
            read("ServerName> a\n\"ServerName\" b\n\"\" c\n<\n</>\n<A>x y\n</A>x>"),
            "1 ServerName a\n2 ServerName b\n4 < >\n6 <A>x y\n"
        );
        assert_eq!(read(">\n#c\n \n  # d"), "1  \n");
    }

    #[test]
    fn what_closes_a_section() {
        assert_eq!(read("<Files a> x\n</Files> # y\nB"), "1 <Files a> x\n3 B \n");
        assert_eq!(read("<Files a\n</Files>"), "1 <Files a\n");
        for (text, error) in [
            ("</Files>", "line 1 of /r/f: </Files> without matching <Files> section"),
            ("</", "line 1 of /r/f: </ without matching < section"),
            ("<files a>\n\n</Filesmatch>", "line 3 of /r/f: Expected </Files> but saw </Filesmatch>"),
            ("<Files a>\n</Files x>", "line 2 of /r/f: </Files> directive missing closing '>'"),
            ("<Files a>\nB", "line 1 of /r/f: /r/f:1: <Files> was not closed."),
            (
                "\n<Directory /x>\n<Foo a>\nB",
                "line 2 of /r/f: /r/f:3: <Foo> was not closed.\n/r/f:2: <Directory> was not closed.",
            ),
        ] {
            assert_eq!(read(text), format!("Syntax error on {error}"));
        }
    }

    #[test]
    fn directives_that_act_on_read() {
        let mut host = Fake::default();
        host.modules.clear();
        let tree =
            read_with(&mut host, "Use x\n<Directory /a>\n<Files b>\nloadmodule mod_macro.c\nUse\n</Files>\n");
        assert_eq!(tree, "Syntax error on line 5 of /r/f: no macro defined before Use");
        assert_eq!(host.run, [r#"4 LoadModule mod_macro.c in ["Directory", "Files"]"#]);
        assert_eq!(read("A\nLoadModule bad\n"), "Syntax error on line 2 of /r/f: Cannot load");
    }

    #[test]
    fn a_body_of_lines_is_handed_over() {
        let mut host = Fake::default();
        let text = "<LuaHookFixups x>\n  local a = '<b>' \\\n# ${c}\n  </luahookfixups\nA";
        let tree = read_with(&mut host, text);
        assert_eq!(tree, "1 <LuaHookFixups x>\n  2    local a = '<b>' \\\n  3  # ${c}\n5 A \n");
        assert_eq!(host.run.len(), 1);
    }

    #[test]
    fn define() {
        assert_eq!(
            read("Define X one\nA ${x}\nUnDefine X\nB ${X}\nDefine Y ''\n<IfDefine Y>\nC\n</IfDefine>"),
            "2 A one\n4 B ${X}\n7 C \n"
        );
        for (text, error) in [
            ("Define", "Define takes 1-2 arguments, Define a variable."),
            ("define a b c", "Define takes 1-2 arguments, Define a variable."),
            ("Define a:b", "Variable name must not contain ':'"),
            ("UnDefine a b", "UnDefine takes one argument, Undefine a variable."),
            ("UnDefine a:b", "Variable name must not contain ':'"),
        ] {
            assert_eq!(read(text), format!("Syntax error on line 1 of /r/f: {error}"));
        }
    }

    #[test]
    fn an_error_that_has_no_directive_is_put_down_to_the_last_that_acted_on_read() {
        let long = "x".repeat(17 << 20);
        assert_eq!(read(&format!("A\n{long}")), "Error reading /r/f at line 2: Line too long");
        assert_eq!(
            read(&format!("Define A\nB\n{long}")),
            "Syntax error on line 1 of /r/f: Error reading /r/f at line 3: Line too long"
        );
    }

    #[test]
    fn sections_that_nest_too_deep() {
        let deep = "<A b>\n".repeat(MAX_DEPTH + 1);
        assert_eq!(read(&deep), "Syntax error on line 501 of /r/f: Sections are nested more than 500 deep");
        let deep = "<IfDefine Cli>\n".repeat(100_000);
        assert_eq!(read(&deep), "Syntax error on line 501 of /r/f: Sections are nested more than 500 deep");
        let skipped = "<IfDefine No>\n".repeat(100_000);
        assert_eq!(
            read(&skipped),
            "Syntax error on line 1 of /r/f: Expected </IfDefine> before end of configuration"
        );
    }

    #[test]
    fn directives_of_the_command_line() {
        let mut host = Fake::default();
        let mut reader = Reader::new([]);
        let nodes = reader.read_lines(&mut host, &["ServerName a".into(), "Define B".into()]).unwrap();
        assert_eq!(show(&nodes), "1 ServerName a\n");
        assert_eq!(&*nodes[0].origin.file, "-c/-C directives");
        assert!(reader.is_defined("B"));
        let error = reader.read_lines(&mut host, &["</Files>".into()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Syntax error in -C/-c directive: </Files> without matching <Files> section"
        );
    }

    #[test]
    fn htaccess() {
        let mut host = Fake::default();
        let mut reader = Reader::new([]);
        let lines = ["Define A 1", "<Macro m $x>", "B $x ${A}", "</Macro>"].map(String::from);
        reader.read_lines(&mut host, &lines).unwrap();
        let nodes =
            reader.read_htaccess(&mut host, "/d/.htaccess", b"<IfModule mod_macro.c>\nUse m 2\n").unwrap();
        assert_eq!(show(&nodes), "1 B 2 1\n");
        let mut error =
            |text: &[u8]| reader.read_htaccess(&mut host, "/d/.htaccess", text).unwrap_err().message;
        assert_eq!(error(b"Define A"), "Define cannot occur within htaccess files");
        assert_eq!(error(b"UnDefine A"), "UnDefine cannot occur within htaccess files");
        assert_eq!(error(&[b'x'; 9000]), "Error reading /d/.htaccess at line 1: Line too long");
        host.context = Err("Define not allowed here".into());
        let error = reader.read_htaccess(&mut host, "h", b"Define A").unwrap_err();
        assert_eq!(error.message, "Define not allowed here");
        host.context = Ok(Context::Ignored);
        let error = reader.read_htaccess(&mut host, "h", b"<IfModule x>\nA\n</IfModule>").unwrap_err();
        assert_eq!(error.message, "</IfModule> without matching <IfModule> section");
    }

    #[test]
    fn bytes_that_are_no_utf_8() {
        let mut host = Fake::default();
        host.files.insert("/r/f".into(), b"A \xe9\"\n".to_vec());
        let nodes = Reader::new([]).read_file(&mut host, Path::new("/r/f")).unwrap();
        assert_eq!(*crate::to_bytes(&nodes[0].args), b"\xe9\""[..]);
    }

    #[test]
    fn the_text_of_error() {
        assert_eq!(error_directive(""), "The Error directive was used with no message.");
        assert_eq!(error_directive("\"a \"b\""), "a \"b");
        assert_eq!(error_directive("'a\""), "'a\"");
        assert_eq!(error_directive("a b"), "a b");
        assert_eq!(error_directive("\""), "\"");
    }
}
