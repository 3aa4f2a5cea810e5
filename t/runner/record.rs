//! Recording: plays the cases and writes what was seen into them.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::case::{Case, CaseFile};
use super::options::Options;
use super::run::{self, Seen};

/// Records the cases that the filters leave: what is missing, or `all`. A case that `differs` is never touched.
pub fn record(mut files: Vec<CaseFile>, options: &Options, all: bool) -> ExitCode {
    let mut todo: Vec<(&str, &mut Case)> = Vec::new();
    for file in &mut files {
        for case in &mut file.cases {
            let wanted = options.wants(&format!("{}: {}", file.name, case.title));
            if wanted
                && case.can_be_played()
                && case.section("differs").is_none()
                && (all || incomplete(case))
            {
                todo.push((&file.name, case));
            }
        }
    }
    let (done, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let queue = Mutex::new(todo.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                loop {
                    let Some((file, case)) = queue.lock().ok().and_then(|mut queue| queue.next()) else {
                        return;
                    };
                    match one(case, options) {
                        Ok(()) => _ = done.fetch_add(1, Ordering::Relaxed),
                        Err(text) => {
                            eprintln!("{file}: {}: {text}", case.title);
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    for file in &files {
        if let Err(text) = file.write() {
            eprintln!("{text}");
            failed.fetch_add(1, Ordering::Relaxed);
        }
    }
    let failed = failed.into_inner();
    println!("{} recorded; {failed} failed", done.into_inner());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Whether something of the case waits for a recording.
fn incomplete(case: &Case) -> bool {
    let empty = |section: &super::case::Section| {
        matches!(section.name.as_str(), "error_log" | "access_log" | "stdout" | "stderr" | "backend_requests")
            && section.lines().is_empty()
    };
    case.responses().iter().any(Option::is_none)
        || case.sections.iter().any(empty)
        || (case.is_command() && case.section("exit").is_none())
}

/// Plays a case on the last of its engines (event, where it is for both) until two plays in a row were equal.
fn one(case: &mut Case, options: &Options) -> Result<(), String> {
    let engine = *case.engines().last().ok_or("no engine")?;
    let mut seen: Seen = run::play(case, engine, options, None)?;
    for tries in 1.. {
        let again = run::play(case, engine, options, None)?;
        if (&again.responses, &again.sections) == (&seen.responses, &seen.sections) {
            break;
        }
        if tries == 5 {
            let texts = |seen: &Seen| format!("{}\n{:#?}", seen.responses.join("\n"), seen.sections);
            return Err(super::report::difference("no two plays are equal", &texts(&seen), &texts(&again)));
        }
        seen = again;
    }
    case.set_responses(seen.responses);
    for (name, text) in &seen.sections {
        case.set(name, Some(text.as_str()).filter(|text| !text.is_empty()));
    }
    Ok(())
}
