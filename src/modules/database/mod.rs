//! Databases for other modules (`modules/database`).

pub mod mod_dbd;
