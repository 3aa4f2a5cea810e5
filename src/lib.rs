//! An Apache-compatible httpd.

pub mod http;
pub mod table;
