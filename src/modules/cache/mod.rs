//! Caches (`modules/cache`).

pub mod mod_socache_dbm;
pub mod mod_socache_shmcb;
