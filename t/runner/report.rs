//! What the runner prints: as libtest does, and for each difference the two texts between rulers.

use std::process::ExitCode;
use std::time::Instant;

use super::Job;
use super::run::Outcome;

/// The results so far.
pub struct Report {
    quiet: bool,
    start: Instant,
    passed: usize,
    ignored: usize,
    failures: Vec<(String, String)>,
}

/// `--list`.
pub fn list(jobs: &[Job]) -> ExitCode {
    for job in jobs {
        println!("{}: test", job.name);
    }
    println!("\n{} tests, 0 benchmarks", jobs.len());
    ExitCode::SUCCESS
}

impl Report {
    pub fn start(count: usize, quiet: bool) -> Report {
        println!("\nrunning {count} tests");
        Report { quiet, start: Instant::now(), passed: 0, ignored: 0, failures: Vec::new() }
    }

    /// Takes in and prints one result.
    pub fn one(&mut self, name: &str, outcome: Outcome) {
        let word = match outcome {
            Outcome::Passed => {
                self.passed += 1;
                "ok"
            }
            Outcome::Ignored => {
                self.ignored += 1;
                "ignored"
            }
            Outcome::Failed(text) => {
                self.failures.push((name.to_owned(), text));
                "FAILED"
            }
        };
        if !self.quiet {
            println!("test {name} ... {word}");
        }
    }

    /// Prints the failures and the sum.
    pub fn finish(self) -> ExitCode {
        if !self.failures.is_empty() {
            println!("\nfailures:\n");
            for (name, text) in &self.failures {
                println!("---- {name} ----\n{}\n", text.trim_end());
            }
            println!("failures:");
            for (name, _) in &self.failures {
                println!("    {name}");
            }
        }
        for text in [super::replay::summary(), super::again::summary()].into_iter().flatten() {
            println!("\n{text}");
        }
        let result = if self.failures.is_empty() { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {result}. {} passed; {} failed; {} ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
            self.passed,
            self.failures.len(),
            self.ignored,
            self.start.elapsed().as_secs_f64()
        );
        if self.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
    }
}

/// Nothing if the two are equal; else both as one text, lines only in the first marked `-`, only in the second `+`.
pub fn difference(what: &str, expected: &str, got: &str) -> String {
    if expected == got {
        return String::new();
    }
    let (a, b): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), got.lines().collect());
    let ruler = "─".repeat(72);
    let mut text = format!("{what} (- expected, + got)\n{ruler}\n");
    for (mark, line) in aligned(&a, &b) {
        text += &format!("{mark} {line}\n");
    }
    text + &ruler + "\n"
}

/// The longest common subsequence of lines, with the others marked.
fn aligned<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<(char, &'a str)> {
    let mut length = vec![vec![0u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            length[i][j] = match a[i] == b[j] {
                true => length[i + 1][j + 1] + 1,
                false => length[i + 1][j].max(length[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && length[i + 1][j] >= length[i][j + 1]) {
            lines.push(('-', a[i]));
            i += 1;
        } else {
            lines.push(('+', b[j]));
            j += 1;
        }
    }
    lines
}
