//! Content made by the server itself (`modules/generators`).

pub mod mod_autoindex;
pub mod mod_status;
