//! The rooms of the case runner, and the loop that plays the cases in parallel.

pub mod again;
pub mod backend;
pub mod case;
pub mod client;
pub mod kernel;
pub mod options;
pub mod ports;
pub mod record;
pub mod render;
pub mod replay;
pub mod report;
pub mod run;
pub mod server;
pub mod site;
pub mod varies;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::{Case, CaseFile};
use options::{Mode, Options};
use site::Engine;

/// One thing to run: a case on an engine.
pub struct Job<'a> {
    pub name: String,
    pub case: &'a Case,
    pub engine: Engine,
}

/// Reads the options and the cases, then lists, records or checks.
pub fn main() -> ExitCode {
    let options = match Options::from_process() {
        Ok(options) => options,
        Err(text) => {
            eprintln!("cases: {text}");
            return ExitCode::from(2);
        }
    };
    let files = match case::read_all(Path::new(env!("CARGO_MANIFEST_DIR")).join("t").as_path()) {
        Ok(files) => files,
        Err(text) => {
            eprintln!("cases: {text}");
            return ExitCode::from(101);
        }
    };
    again::allow(options.threads);
    if let Mode::Record { all } = options.mode {
        return record::record(files, &options, all);
    }
    let jobs = jobs(&files, &options);
    if options.list {
        return report::list(&jobs);
    }
    check(&jobs, &options)
}

/// The jobs that the filters leave, in the order of the files.
fn jobs<'a>(files: &'a [CaseFile], options: &Options) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for file in files {
        for case in &file.cases {
            for engine in case.engines() {
                let name = format!("{}: {} [{}]", file.name, case.title, engine.name());
                if options.wants(&name) {
                    jobs.push(Job { name, case, engine });
                }
            }
        }
    }
    jobs
}

/// Plays the jobs on `options.threads` threads; results are printed in the order of the jobs.
fn check(jobs: &[Job], options: &Options) -> ExitCode {
    let mut report = report::Report::start(jobs.len(), options.quiet);
    let next = AtomicUsize::new(0);
    let (done, results) = std::sync::mpsc::channel();
    let done = Mutex::new(done);
    std::thread::scope(|scope| {
        for _ in 0..(options.threads * again::WAITING).min(jobs.len()) {
            scope.spawn(|| {
                let Ok(done) = done.lock().map(|done| done.clone()) else { return };
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { return };
                    let outcome = run::check(job.case, job.engine, options);
                    if done.send((index, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        let mut waiting = std::collections::BTreeMap::new();
        let mut printed = 0;
        while printed < jobs.len() {
            let Ok((index, outcome)) = results.recv() else { return };
            waiting.insert(index, outcome);
            while let Some(outcome) = waiting.remove(&printed) {
                report.one(&jobs[printed].name, outcome);
                printed += 1;
            }
        }
    });
    report.finish()
}
