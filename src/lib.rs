//! An Apache-compatible httpd.
pub mod fnmatch;
pub mod regex;
