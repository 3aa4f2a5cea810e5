//! What modules that speak CGI's language ask of a request: names of the client, environment variables.
//!
//! Answers to `ap_get_useragent_host` of `server/core.c`. (`ap_add_common_vars` comes with the CGI modules.)

use super::Request;

impl Request {
    /// The client's name when it was looked up, else its address.
    pub fn remote_name(&self) -> String {
        self.useragent_ip().to_owned()
    }
}
