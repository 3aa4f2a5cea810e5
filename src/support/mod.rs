//! The support programs, each as a function of its arguments; `src/bin/` has their entries.
//!
//! Answers to Apache's folder `support`.

pub mod rotatelogs;
pub mod suexec;
