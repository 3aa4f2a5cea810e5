//! rotatelogs beside the real one: the same command lines and input, the same messages, codes and files.
//!
//! Each test says what must come out; where Apache's program is installed, it must say the same.

// Tests start programs and wait for them.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const REAL: &str = "/usr/bin/rotatelogs";

/// What a run left behind.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    files: BTreeMap<String, String>,
}

impl Outcome {
    fn file(&self, name: &str) -> &str {
        self.files.get(name).unwrap_or_else(|| panic!("no file {name} in {:?}", self.files))
    }
}

/// A folder of its own.
fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("httpd-rotatelogs-{}-{count}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

/// Runs one program; `input` comes in pieces, with a rest before each but the first.
fn run_one(program: &str, args: &[&str], given: &[(&str, &str)], input: &[&str]) -> Outcome {
    let dir = folder();
    for (name, content) in given {
        match name.strip_suffix('/') {
            Some(folder) => fs::create_dir(dir.join(folder)).unwrap(),
            None => fs::write(dir.join(name), content).unwrap(),
        }
    }
    let mut child = Command::new(program)
        .args(args)
        .current_dir(&dir)
        .env("TZ", "America/New_York")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for (index, piece) in input.iter().enumerate() {
        if index > 0 {
            thread::sleep(Duration::from_millis(300));
        }
        // A program that refused its arguments reads nothing.
        _ = stdin.write_all(piece.as_bytes());
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    // A program of -p may still be at work.
    thread::sleep(Duration::from_millis(if args.contains(&"-p") { 300 } else { 0 }));
    let mut files = BTreeMap::new();
    collect(&dir, &dir, &mut files);
    fs::remove_dir_all(&dir).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(program, "rotatelogs");
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr), files }
}

fn collect(top: &Path, dir: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(top, &path, files);
        } else {
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

/// Runs ours, and the real one where there is one: both must do the same.
fn run(args: &[&str], given: &[(&str, &str)], input: &[&str]) -> Outcome {
    let ours = run_one(env!("CARGO_BIN_EXE_rotatelogs"), args, given, input);
    if Path::new(REAL).exists() {
        assert_eq!(run_one(REAL, args, given, input), ours, "{args:?}");
    }
    ours
}

/// Not so near to the end of a long interval that the two programs could be on different sides of it.
fn away_from_the_end_of(interval: u64) {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        if now % interval < interval - 5 {
            return;
        }
        thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn what_is_wrong_with_a_command_line() {
    let wrong: [&[&str]; 20] = [
        &[],
        &["log"],
        &["log", "1", "2", "3", "4"],
        &["log", "0"],
        &["log", "-5"],
        &["log", "x"],
        &["log", "-v"],
        &["log", "0M"],
        &["log", "5Mb"],
        &["log", "5M", "6K"],
        &["log", "60", "50", "40"],
        &["-l", "log", "60", "30"],
        &["-x", "log", "60"],
        &["-vx", "log", "60"],
        &["-L"],
        &["-p"],
        &["-n"],
        &["-n", "0", "log", "60"],
        &["-n", "x", "log", "60"],
        &["-n", "3", "log.%Y", "60"],
    ];
    for args in wrong {
        let outcome = run(args, &[], &[]);
        assert_eq!(outcome.code, Some(1), "{args:?}");
        assert!(outcome.files.is_empty(), "{args:?}");
    }
    assert!(
        run(&["log"], &[], &[])
            .stderr
            .starts_with("Incorrect number of arguments\nUsage: rotatelogs [-vlfDtTec]")
    );
}

#[test]
fn settings_are_shown() {
    for args in [
        &["-v", "a//b/../c/./d", "86400"][..],
        &["-vlfecDT", "./log.%Y", "86400", "5M"],
        &["-v", "-p", "./prog", "log", "5K", "3600", "-90"],
        &["-v", "log", "7B", "+60"],
        &["-v", "--", "-log", "60"],
    ] {
        away_from_the_end_of(86400);
        let outcome = run(args, &[], &[]);
        assert_eq!(outcome.code, Some(0), "{args:?}");
        assert!(outcome.stderr.starts_with("Rotation time interval: "), "{args:?}");
    }
}

#[test]
fn a_file_of_an_interval() {
    away_from_the_end_of(86400);
    let outcome = run(&["-v", "log", "86400"], &[], &["one\n", "two\n"]);
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86400 * 86400;
    assert_eq!(outcome.file(&format!("log.{start:010}")), "one\ntwo\n");
    // At a place east of Greenwich days begin earlier.
    away_from_the_end_of(3600);
    let outcome = run(&["log.%d.%H", "86400", "30"], &[], &["one\n"]);
    assert_eq!(outcome.files.len(), 1);
    assert!(outcome.files.keys().all(|name| name.ends_with(".00")));
    let outcome = run(&["-l", "log.%d.%H.%Z", "86400"], &[], &["one\n"]);
    assert!(outcome.files.keys().all(|name| name.contains(".00.E")), "{outcome:?}");
}

#[test]
fn nothing_is_made_without_input() {
    assert!(run(&["log", "86400"], &[], &[]).files.is_empty());
    let forced = run(&["-f", "-t", "log", "86400"], &[("log", "old\n")], &[]);
    assert_eq!(forced.file("log"), "");
}

#[test]
fn sizes_with_numbered_files() {
    let outcome = run(&["-v", "-n", "3", "log", "4B"], &[], &["one\ntwo\n", "three\n", "four\n", "five\n"]);
    assert_eq!(outcome.code, Some(0));
    assert_eq!(outcome.file("log"), "five\n");
    assert_eq!(outcome.file("log.1"), "three\n");
    assert_eq!(outcome.file("log.2"), "four\n");
    // The first file goes on where an earlier run stopped, unless it is full.
    let outcome = run(&["-n", "2", "log", "4B"], &[("log", "old\n")], &["1\n", "2\n"]);
    assert_eq!((outcome.file("log"), outcome.file("log.1")), ("old\n1\n", "2\n"));
    let outcome = run(&["-v", "-n", "2", "log", "4B"], &[("log", "older\n"), ("log.1", "x")], &["1\n"]);
    assert_eq!((outcome.file("log"), outcome.file("log.1")), ("older\n", "1\n"));
}

#[test]
fn files_are_emptied() {
    let outcome = run(&["-t", "-v", "log", "3B"], &[("log", "old\n")], &["one\n", "two\n"]);
    assert_eq!(outcome.file("log"), "two\n");
    let outcome = run(&["-T", "log%%", "3B"], &[("log%", "old\n")], &["one\n", "two\n"]);
    assert_eq!(outcome.file("log%"), "two\n");
    let outcome = run(&["log%%", "30B"], &[("log%", "old\n")], &["one\n", "two\n"]);
    assert_eq!(outcome.file("log%"), "old\none\ntwo\n");
}

#[test]
fn what_is_read_is_echoed() {
    let outcome = run(&["-e", "-t", "log", "86400"], &[], &["one\n", "two\n"]);
    assert_eq!((outcome.stdout.as_str(), outcome.file("log")), ("one\ntwo\n", "one\ntwo\n"));
}

#[test]
fn folders_links_and_programs() {
    let program = "#!/bin/sh\necho \"$0 $@\" >> calls\n";
    let args = ["-v", "-D", "-L", "now", "-p", "./program", "-n", "2", "a/b/log", "3B"];
    let outcome = run(&args, &[("program", program)], &["one\n", "two\n"]);
    // It may not be run as it is: that is said, and the log goes on.
    assert_eq!(outcome.file("a/b/log.1"), "two\n");
    assert_eq!(outcome.file("now"), "two\n");
    assert!(outcome.stderr.contains("Could not spawn post-rotate process './program': Permission denied\n"));
    let outcome = run(&["-p", "/bin/echo", "-n", "2", "log", "3B"], &[], &["one\n", "two\n"]);
    assert_eq!(outcome.stdout, "log\nlog.1 log\n");
    let outcome = run(&["-p", "echo", "-t", "log", "3B"], &[], &["one\n"]);
    assert_eq!(outcome.stderr, "Could not spawn post-rotate process 'echo': No such file or directory\n");
}

#[test]
fn what_can_not_be_opened() {
    let outcome = run(&["-t", "none/log", "60"], &[], &["one\n"]);
    assert_eq!(outcome.code, Some(2));
    assert_eq!(outcome.stderr, "Could not open log file 'none/log' (No such file or directory)\n");
    let outcome = run(&["-D", "-t", "file/a/log", "60"], &[("file", "")], &["one\n"]);
    assert_eq!(outcome.stderr, "Could not create directory 'file/a' (Not a directory)\n");
    let outcome = run(&["-t", "-L", "none/link", "log", "60"], &[], &["one\n"]);
    assert_eq!(outcome.stderr, "Error linking file log to none/link (No such file or directory)\n");
    assert_eq!(outcome.code, Some(2));
}

#[test]
fn the_log_goes_on_when_the_next_file_can_not_be_opened() {
    // The second file's place is taken by a folder: what was in the first is lost, and said.
    let outcome = run(&["-v", "-n", "2", "log", "3B"], &[("log.1/", "")], &["one\n", "two\n", "three\n"]);
    let lost = "Resetting log file due to error opening new log file,          1 messages lost: Is a directory           \n";
    assert_eq!(outcome.file("log"), format!("{lost}three\n"));
    assert_eq!(outcome.code, Some(0));
    let outcome = run(&["-t", "/dev/full", "60"], &[], &["one\n"]);
    assert_eq!(outcome.code, Some(2));
    assert_eq!(outcome.stderr, "Error truncating the file /dev/full\n");
}

#[test]
fn a_file_of_each_second_even_if_empty() {
    let outcome = run_one(
        env!("CARGO_BIN_EXE_rotatelogs"),
        &["-c", "-f", "log", "1"],
        &[],
        &["one\n", "", "", "", "", "", "", "", "", "two\n"],
    );
    assert!(outcome.files.len() >= 3, "{outcome:?}");
    assert!(outcome.files.values().any(String::is_empty), "{outcome:?}");
    let all: String = outcome.files.values().map(String::as_str).collect();
    assert_eq!(all, "one\ntwo\n");
}
