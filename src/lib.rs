//! An Apache-compatible httpd.

pub mod body;
pub mod cli;
pub mod config;
pub mod conn;
pub mod dbm;
pub mod engine;
pub mod expr;
pub mod filter;
pub mod fnmatch;
pub mod hooks;
pub mod http;
pub mod log;
pub mod module;
pub mod modules;
pub mod os;
pub mod regex;
pub mod request;
pub mod slotmem;
pub mod socache;
pub mod support;
pub mod table;
#[cfg(test)]
mod table_tests;
pub mod text;
