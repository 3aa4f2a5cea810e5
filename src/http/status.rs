//! Status codes: the lines of `http_protocol.c` and the predicates of `httpd.h`.

use std::borrow::Cow;

/// A status code of a reply (or an answer of a hook), as Apache numbers them.
pub type Status = u16;

pub const CONTINUE: Status = 100;
pub const SWITCHING_PROTOCOLS: Status = 101;
pub const OK: Status = 200;
pub const CREATED: Status = 201;
pub const NO_CONTENT: Status = 204;
pub const PARTIAL_CONTENT: Status = 206;
pub const MULTI_STATUS: Status = 207;
pub const MULTIPLE_CHOICES: Status = 300;
pub const MOVED_PERMANENTLY: Status = 301;
pub const MOVED_TEMPORARILY: Status = 302;
pub const SEE_OTHER: Status = 303;
pub const NOT_MODIFIED: Status = 304;
pub const USE_PROXY: Status = 305;
pub const TEMPORARY_REDIRECT: Status = 307;
pub const PERMANENT_REDIRECT: Status = 308;
pub const BAD_REQUEST: Status = 400;
pub const UNAUTHORIZED: Status = 401;
pub const FORBIDDEN: Status = 403;
pub const NOT_FOUND: Status = 404;
pub const METHOD_NOT_ALLOWED: Status = 405;
pub const NOT_ACCEPTABLE: Status = 406;
pub const PROXY_AUTHENTICATION_REQUIRED: Status = 407;
pub const REQUEST_TIME_OUT: Status = 408;
pub const CONFLICT: Status = 409;
pub const GONE: Status = 410;
pub const LENGTH_REQUIRED: Status = 411;
pub const PRECONDITION_FAILED: Status = 412;
pub const REQUEST_ENTITY_TOO_LARGE: Status = 413;
pub const REQUEST_URI_TOO_LARGE: Status = 414;
pub const UNSUPPORTED_MEDIA_TYPE: Status = 415;
pub const RANGE_NOT_SATISFIABLE: Status = 416;
pub const EXPECTATION_FAILED: Status = 417;
pub const MISDIRECTED_REQUEST: Status = 421;
pub const UPGRADE_REQUIRED: Status = 426;
pub const REQUEST_HEADER_FIELDS_TOO_LARGE: Status = 431;
pub const INTERNAL_SERVER_ERROR: Status = 500;
pub const NOT_IMPLEMENTED: Status = 501;
pub const BAD_GATEWAY: Status = 502;
pub const SERVICE_UNAVAILABLE: Status = 503;
pub const GATEWAY_TIME_OUT: Status = 504;
pub const VERSION_NOT_SUPPORTED: Status = 505;
pub const VARIANT_ALSO_VARIES: Status = 506;

/// The status line of a code that Apache knows, such as `404 Not Found`.
pub const fn known_line(status: Status) -> Option<&'static str> {
    Some(match status {
        100 => "100 Continue",
        101 => "101 Switching Protocols",
        102 => "102 Processing",
        103 => "103 Early Hints",
        200 => "200 OK",
        201 => "201 Created",
        202 => "202 Accepted",
        203 => "203 Non-Authoritative Information",
        204 => "204 No Content",
        205 => "205 Reset Content",
        206 => "206 Partial Content",
        207 => "207 Multi-Status",
        208 => "208 Already Reported",
        226 => "226 IM Used",
        300 => "300 Multiple Choices",
        301 => "301 Moved Permanently",
        302 => "302 Found",
        303 => "303 See Other",
        304 => "304 Not Modified",
        305 => "305 Use Proxy",
        307 => "307 Temporary Redirect",
        308 => "308 Permanent Redirect",
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        402 => "402 Payment Required",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Method Not Allowed",
        406 => "406 Not Acceptable",
        407 => "407 Proxy Authentication Required",
        408 => "408 Request Timeout",
        409 => "409 Conflict",
        410 => "410 Gone",
        411 => "411 Length Required",
        412 => "412 Precondition Failed",
        413 => "413 Request Entity Too Large",
        414 => "414 Request-URI Too Long",
        415 => "415 Unsupported Media Type",
        416 => "416 Requested Range Not Satisfiable",
        417 => "417 Expectation Failed",
        421 => "421 Misdirected Request",
        422 => "422 Unprocessable Entity",
        423 => "423 Locked",
        424 => "424 Failed Dependency",
        426 => "426 Upgrade Required",
        428 => "428 Precondition Required",
        429 => "429 Too Many Requests",
        431 => "431 Request Header Fields Too Large",
        451 => "451 Unavailable For Legal Reasons",
        500 => "500 Internal Server Error",
        501 => "501 Not Implemented",
        502 => "502 Bad Gateway",
        503 => "503 Service Unavailable",
        504 => "504 Gateway Timeout",
        505 => "505 HTTP Version Not Supported",
        506 => "506 Variant Also Negotiates",
        507 => "507 Insufficient Storage",
        508 => "508 Loop Detected",
        510 => "510 Not Extended",
        511 => "511 Network Authentication Required",
        _ => return None,
    })
}

/// The line of a code, where a code that Apache does not know reads as 500 (`ap_get_status_line`).
pub const fn line(status: Status) -> &'static str {
    match known_line(status) {
        Some(line) => line,
        None => "500 Internal Server Error",
    }
}

/// The line of a code, where an unknown code from 100 to 999 becomes `nnn Status nnn` and any other number
/// reads as 500 (`ap_get_status_line_ex`).
pub fn line_ex(status: Status) -> Cow<'static, str> {
    match known_line(status) {
        Some(line) => Cow::Borrowed(line),
        None if (100..=999).contains(&status) => Cow::Owned(format!("{status} Status {status}")),
        None => Cow::Borrowed(line(status)),
    }
}

/// The reason of a code: what follows the number in [`line`].
pub fn reason(status: Status) -> &'static str {
    line(status).get(4..).unwrap_or("")
}

/// 1xx
pub const fn is_info(status: Status) -> bool {
    status / 100 == 1
}

/// 2xx
pub const fn is_success(status: Status) -> bool {
    status / 100 == 2
}

/// 3xx
pub const fn is_redirect(status: Status) -> bool {
    status / 100 == 3
}

/// 4xx and 5xx
pub const fn is_error(status: Status) -> bool {
    is_client_error(status) || is_server_error(status)
}

/// 4xx
pub const fn is_client_error(status: Status) -> bool {
    status / 100 == 4
}

/// 5xx
pub const fn is_server_error(status: Status) -> bool {
    status / 100 == 5
}

/// 100 to 599
pub const fn is_valid_response(status: Status) -> bool {
    status >= 100 && status < 600
}

/// Codes after which the connection does not persist (`ap_status_drops_connection`).
pub const fn drops_connection(status: Status) -> bool {
    matches!(status, 400 | 408 | 411 | 413 | 414 | 500 | 503 | 501)
}

/// Codes whose replies never have a body (`AP_STATUS_IS_HEADER_ONLY`).
pub const fn is_header_only(status: Status) -> bool {
    matches!(status, NO_CONTENT | NOT_MODIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(line(404), "404 Not Found");
        assert_eq!(reason(302), "Found");
        for unknown in [0, 99, 209, 306, 418, 425, 509, 600, 999, 1000] {
            assert_eq!(line(unknown), "500 Internal Server Error");
        }
        assert_eq!(line_ex(418), "418 Status 418");
        assert_eq!(line_ex(999), "999 Status 999");
        assert_eq!(line_ex(200), "200 OK");
        assert_eq!(line_ex(99), "500 Internal Server Error");
        assert_eq!(line_ex(1000), "500 Internal Server Error");
        for code in 0..1000 {
            if let Some(line) = known_line(code) {
                assert!(line.starts_with(&format!("{code} ")));
            }
        }
    }

    #[test]
    fn classes() {
        assert!(is_error(404) && is_error(500) && !is_error(600) && !is_error(304));
        assert!(is_info(100) && is_success(299) && is_redirect(300));
        assert!(is_valid_response(599) && !is_valid_response(600) && !is_valid_response(99));
        assert!(drops_connection(400) && !drops_connection(404) && !drops_connection(502));
        assert!(is_header_only(304) && !is_header_only(200));
    }
}
