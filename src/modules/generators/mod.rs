//! Content made by the server itself (`modules/generators`).

pub mod mod_autoindex;
