//! An Apache-compatible httpd.
pub mod fnmatch;
