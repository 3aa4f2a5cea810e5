//! Every directive row has a case: what the modules' tables have is looked for in the configurations of the cases.
//!
//! A row counts when a line of a `config`, `httpd.conf`, `htaccess` or `files` section, or of a command, begins with it (or
//! has it behind `-c` or `-C`). That says only that somebody recorded what Apache makes of it; what it shows is the
//! case's business.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use httpd::module::Module;

/// Rows that have no case yet. Only ever shortened.
const OWED: &[&str] = &[];

/// The rows of all modules, with their module's file, as `-L` heads them: `Listen (event.c)`.
fn rows() -> BTreeSet<String> {
    let of = |module: &&'static Module| {
        let file = module.file;
        module.directives.iter().map(move |row| format!("{} ({file})", row.name))
    };
    httpd::modules::ALL.iter().flat_map(of).collect()
}

/// The first words of lines, in lower case, of everything that is a configuration in the cases.
fn words() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for folder in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("t")).unwrap() {
        let Ok(files) = fs::read_dir(folder.unwrap().path()) else { continue };
        for file in files {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|ext| ext == "case") {
                collect(&fs::read_to_string(path).unwrap(), &mut words);
            }
        }
    }
    words
}

fn collect(text: &str, words: &mut BTreeSet<String>) {
    const GIVEN: [&str; 5] = ["config", "httpd.conf", "htaccess", "files", "command"];
    let mut given = false;
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("--- ") {
            given = GIVEN.contains(&head.split([':', ' ']).next().unwrap_or_default());
        } else if line.starts_with("=== ") {
            given = false;
        } else if given {
            for part in line.split(['"', '\'']) {
                let part = part.trim_start().trim_start_matches("-C ").trim_start_matches("-c ");
                let word = part.split([' ', '\t', '>']).next().unwrap_or_default();
                words.insert(word.to_ascii_lowercase());
            }
        }
    }
}

#[test]
fn every_row_has_a_case() {
    let words = words();
    let rows = rows();
    assert!(rows.len() > 150, "only {} rows", rows.len());
    let name = |row: &String| row.split(" (").next().unwrap_or_default().to_owned();
    let has_none = |row: &&String| !words.contains(&name(row).to_ascii_lowercase());
    let missing: Vec<&String> = rows.iter().filter(has_none).collect();
    let new: Vec<_> = missing.iter().filter(|row| !OWED.contains(&name(row).as_str())).collect();
    assert!(new.is_empty(), "rows without a case: {new:#?}");
    let paid: Vec<_> = OWED.iter().filter(|owed| !missing.iter().any(|row| name(row) == **owed)).collect();
    if !paid.is_empty() {
        // Branches that pay are merged one by one: no reason to fail.
        eprintln!("no longer owed, to be taken off the list: {paid:?}");
    }
}
