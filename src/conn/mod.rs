//! A connection: what it reads, what it writes, and what it needs next.
//!
//! [`task`] is the state machine that both engines drive; [`h1`] makes requests of bytes and bytes of replies; [`wire`]
//! is the socket with what is not sent yet, the only place where a partial write exists; [`input`] is the request's
//! body; [`idle`] is what a connection between two requests keeps; [`protocol`] is for modules that speak no HTTP.

pub mod byterange;
pub mod file_cache;
pub mod h1;
pub mod idle;
pub mod input;
pub mod protocol;
pub mod task;
pub mod wire;
