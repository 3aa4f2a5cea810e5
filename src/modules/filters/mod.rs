//! Filters (`modules/filters`).

pub mod mod_reqtimeout;
