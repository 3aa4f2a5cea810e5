//! An Apache-compatible httpd.
