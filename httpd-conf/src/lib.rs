//! Apache's configuration language.
