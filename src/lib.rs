//! An Apache-compatible httpd.

pub mod expr;
pub mod fnmatch;
pub mod http;
pub mod regex;
pub mod table;
