//! Case files: reading them, asking them, writing them back unchanged but for what was recorded.
//!
//! A file holds cases, each headed by `=== title`, with free text up to the first section. A section is headed by a
//! line `--- name` or `--- name: words`, and lasts until the next one.

use std::fs;
use std::path::{Path, PathBuf};

use super::site::Engine;

/// One `.case` file.
pub struct CaseFile {
    pub path: PathBuf,
    /// `mod_alias/redirect`
    pub name: String,
    pub cases: Vec<Case>,
    /// What stands before the first `===`.
    preamble: Vec<String>,
}

/// One case of a file.
#[derive(Clone)]
pub struct Case {
    pub title: String,
    pub sections: Vec<Section>,
    /// The description under the title.
    about: Vec<String>,
}

/// One section of a case.
#[derive(Clone)]
pub struct Section {
    pub name: String,
    /// The words after the colon.
    pub words: String,
    body: Vec<String>,
}

/// The sections that an author writes, and those that a recording fills.
const GIVEN: &[&str] = &[
    "config",
    "httpd.conf",
    "tree",
    "files",
    "htaccess",
    "modules",
    "needs",
    "env",
    "request",
    "command",
    "differs",
    "engines",
    "varies",
    "replay",
    "backend",
];
const RECORDED: &[&str] =
    &["response", "closed", "error_log", "access_log", "stdout", "stderr", "exit", "backend_requests"];

/// All the case files under `t/`, by name.
pub fn read_all(top: &Path) -> Result<Vec<CaseFile>, String> {
    let mut files = Vec::new();
    for folder in entries(top)? {
        if !folder.is_dir() {
            continue;
        }
        for path in entries(&folder)? {
            if path.extension().is_some_and(|ext| ext == "case") {
                files.push(read(top, path)?);
            }
        }
    }
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let err = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(err)? {
        paths.push(entry.map_err(err)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn read(top: &Path, path: PathBuf) -> Result<CaseFile, String> {
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let name = path.strip_prefix(top).unwrap_or(&path).with_extension("").display().to_string();
    let mut file = CaseFile { path, name, cases: Vec::new(), preamble: Vec::new() };
    for (index, line) in text.lines().enumerate() {
        let fail = |what: String| format!("{}:{}: {what}", file.path.display(), index + 1);
        if let Some(title) = line.strip_prefix("=== ") {
            if file.cases.iter().any(|case| case.title == title.trim()) {
                return Err(fail(format!("a second case {title:?}")));
            }
            file.cases.push(Case { title: title.trim().to_owned(), sections: Vec::new(), about: Vec::new() });
            continue;
        }
        let Some(case) = file.cases.last_mut() else {
            file.preamble.push(line.to_owned());
            continue;
        };
        if let Some(head) = line.strip_prefix("--- ") {
            let (name, words) = head.split_once(':').unwrap_or((head, ""));
            let name = name.trim();
            if !GIVEN.contains(&name) && !RECORDED.contains(&name) {
                return Err(fail(format!("unknown section {name:?}")));
            }
            case.sections.push(Section::new(name, words.trim()));
            continue;
        }
        match case.sections.last_mut() {
            Some(section) => section.body.push(line.to_owned()),
            None => case.about.push(line.to_owned()),
        }
    }
    Ok(file)
}

impl Section {
    /// An empty section.
    pub fn new(name: &str, words: &str) -> Section {
        Section { name: name.to_owned(), words: words.to_owned(), body: Vec::new() }
    }

    /// A section with this text.
    pub fn with_text(name: &str, text: &str) -> Section {
        Section {
            name: name.to_owned(),
            words: String::new(),
            body: text.lines().map(str::to_owned).collect(),
        }
    }

    /// The lines without the blank ones at the end.
    pub fn lines(&self) -> &[String] {
        let filled = self.body.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        &self.body[..filled]
    }

    /// The lines, joined; no line feed at the end.
    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Whether the words after the colon, up to a `#`, have this one.
    pub fn has_word(&self, word: &str) -> bool {
        self.words.split_whitespace().take_while(|w| *w != "#").any(|w| w == word)
    }

    /// What stands behind the `#`.
    pub fn comment(&self) -> &str {
        self.words.split_once("# ").map_or("", |(_, comment)| comment)
    }
}

impl Case {
    /// False for a case about files of the system that are not there, or, behind a `-`, about there being none.
    pub fn can_be_played(&self) -> bool {
        self.section("needs").is_none_or(|section| {
            section.words.split_whitespace().all(|word| match word.strip_prefix('-') {
                Some(file) => !Path::new(file).exists(),
                None => Path::new(word).exists(),
            })
        })
    }

    /// The first section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Its text, or nothing.
    pub fn text(&self, name: &str) -> String {
        self.section(name).map(Section::text).unwrap_or_default()
    }

    /// Whether it runs a command instead of sending requests.
    pub fn is_command(&self) -> bool {
        self.section("command").is_some()
    }

    /// The engines it is for: those of its `engines` section; else event for a command, both for requests.
    pub fn engines(&self) -> Vec<Engine> {
        match self.section("engines") {
            Some(section) => {
                Engine::ALL.into_iter().filter(|engine| section.has_word(engine.name())).collect()
            }
            None if self.is_command() => vec![Engine::Event],
            None => Engine::ALL.to_vec(),
        }
    }

    /// The expected reply of each request: `None` where none was recorded.
    pub fn responses(&self) -> Vec<Option<String>> {
        let mut responses = Vec::new();
        for section in &self.sections {
            match (section.name.as_str(), responses.last_mut()) {
                ("request", _) => responses.push(None),
                ("response", Some(last)) => *last = Some(section.text()),
                ("closed", Some(Some(last))) => last.push_str("\n--- closed"),
                _ => (),
            }
        }
        responses
    }

    /// Puts the replies behind their requests.
    pub fn set_responses(&mut self, responses: Vec<String>) {
        let mut responses = responses.into_iter();
        let mut sections = Vec::new();
        for section in std::mem::take(&mut self.sections) {
            match section.name.as_str() {
                "response" | "closed" => (),
                "request" => {
                    sections.push(section);
                    let Some(text) = responses.next() else { continue };
                    match text.strip_suffix("\n--- closed") {
                        Some(text) => {
                            sections.push(Section::with_text("response", text));
                            sections.push(Section::new("closed", ""));
                        }
                        None => sections.push(Section::with_text("response", &text)),
                    }
                }
                _ => sections.push(section),
            }
        }
        self.sections = sections;
    }

    /// Sets the text of a section, which is added at the end where it is missing, or removed (`None`).
    pub fn set(&mut self, name: &str, text: Option<&str>) {
        let at = self.sections.iter().position(|section| section.name == name);
        match (at, text) {
            (Some(at), Some(text)) => {
                let words = std::mem::take(&mut self.sections[at].words);
                self.sections[at] = Section { words, ..Section::with_text(name, text) };
            }
            (Some(at), None) => _ = self.sections.remove(at),
            (None, Some(text)) => self.sections.push(Section::with_text(name, text)),
            (None, None) => (),
        }
    }
}

impl CaseFile {
    /// Writes the file back.
    pub fn write(&self) -> Result<(), String> {
        let mut text = String::new();
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        self.preamble.iter().for_each(|l| line(l));
        for (index, case) in self.cases.iter().enumerate() {
            line(&format!("=== {}", case.title));
            case.about.iter().for_each(|l| line(l));
            for section in &case.sections {
                match section.words.as_str() {
                    "" => line(&format!("--- {}", section.name)),
                    words => line(&format!("--- {}: {words}", section.name)),
                }
                section.lines().iter().for_each(|l| line(l));
            }
            if index + 1 < self.cases.len() && !case.sections.is_empty() {
                line("");
            }
        }
        fs::write(&self.path, text).map_err(|e| format!("{}: {e}", self.path.display()))
    }
}
