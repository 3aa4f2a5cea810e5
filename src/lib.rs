//! An Apache-compatible httpd.
pub mod expr;
pub mod fnmatch;
pub mod regex;
