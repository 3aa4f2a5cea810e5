//! Backends: the core of the proxy, and the schemes that it speaks with them.

pub mod mod_proxy;
pub mod mod_proxy_http;
