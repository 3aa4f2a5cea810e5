//! What belongs to one platform (`modules/arch`).

pub mod mod_systemd;
pub mod mod_unixd;
pub mod suexec;
