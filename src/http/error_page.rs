//! The pages that Apache makes for errors and redirects: `ap_send_error_response` and
//! `get_canned_error_string` of `http_protocol.c`, `ap_psignature` of `core.c`.

use super::escape::escape_html;
use super::status::{self, Status};

/// What a page shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorPage<'a> {
    pub status: Status,
    /// `r->status_line`, when a module set one.
    pub status_line: Option<&'a [u8]>,
    pub method: &'a [u8],
    /// `Location` of the reply.
    pub location: &'a [u8],
    /// The request's `Expect`.
    pub expect: Option<&'a [u8]>,
    /// The notes `error-notes`, `variant-list` and `verbose-error-to`; the first two are HTML.
    pub error_notes: Option<&'a [u8]>,
    pub variant_list: Option<&'a [u8]>,
    pub verbose_error_to: Option<&'a [u8]>,
    /// `ServerAdmin`
    pub server_admin: &'a [u8],
    /// The error that came up while an ErrorDocument was tried.
    pub recursive_error: Option<Status>,
    /// The signature as [`signature`] makes it, or nothing.
    pub signature: &'a [u8],
}

/// Of 2.4.71; up to 2.4.63 it was `-//IETF//DTD HTML 2.0//EN`.
const DOCTYPE_HTML_4_01: &[u8] =
    b"<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\" \"http://www.w3.org/TR/html4/strict.dtd\">\n";

impl ErrorPage<'_> {
    /// Appends the whole page.
    pub fn write(&self, out: &mut Vec<u8>) {
        let line = usable_line(self.status, self.status_line);
        let title = line.as_deref().unwrap_or(status::line(self.status).as_bytes());
        let h1 = title.get(4..).unwrap_or_default();
        put(
            out,
            &[
                DOCTYPE_HTML_4_01,
                b"<html><head>\n<title>",
                title,
                b"</title>\n</head><body>\n<h1>",
                h1,
                b"</h1>\n",
            ],
        );
        self.write_text(out);
        if let Some(code) = self.recursive_error {
            let line = status::line(code).as_bytes();
            let text: &[u8] =
                b"\nerror was encountered while trying to use an ErrorDocument to handle the request.</p>\n";
            put(out, &[b"<p>Additionally, a ", line, text]);
        }
        put(out, &[self.signature, b"</body></html>\n"]);
    }

    /// Appends what the page says about the status.
    fn write_text(&self, out: &mut Vec<u8>) {
        let notes = self.error_notes.unwrap_or_default();
        let variants = self.variant_list.unwrap_or_default();
        match self.status {
            301 | 302 | 307 | 308 => {
                let location = escape_html(self.location);
                put(out, &[b"<p>The document has moved <a href=\"", &location, b"\">here</a>.</p>\n"]);
            }
            303 => {
                let location = escape_html(self.location);
                put(out, &[b"<p>The answer to your request is located <a href=\"", &location, b"\">here</a>.</p>\n"]);
            }
            400 => put(
                out,
                &[b"<p>Your browser sent a request that this server could not understand.<br />\n", notes, b"</p>\n"],
            ),
            403 => put(out, &[b"<p>You don't have permission to access this resource.", notes, b"</p>\n"]),
            405 => {
                let method = escape_html(self.method);
                put(out, &[b"<p>The requested method ", &method, b" is not allowed for this URL.</p>\n"]);
            }
            406 => put(
                out,
                &[
                    b"<p>An appropriate representation of the requested resource could not be found on this server.</p>\n",
                    variants,
                ],
            ),
            300 => put(out, &[variants]),
            411 => {
                let method = escape_html(self.method);
                let text: &[u8] = b" requires a valid Content-length.<br />\n";
                put(out, &[b"<p>A request of the requested method ", &method, text, notes, b"</p>\n"]);
            }
            501 => {
                let method = escape_html(self.method);
                put(out, &[b"<p>", &method, b" not supported for current URL.<br />\n", notes, b"</p>\n"]);
            }
            502 => put(
                out,
                &[
                    b"<p>The proxy server received an invalid\r\nresponse from an upstream server.<br />\r\n",
                    notes,
                    b"</p>\n",
                ],
            ),
            413 => {
                let method = escape_html(self.method);
                put(
                    out,
                    &[
                        b"The requested resource does not allow request data with ",
                        &method,
                        b" requests, or the amount of data provided in\nthe request exceeds the capacity limit.\n",
                    ],
                );
            }
            414 => put(
                out,
                &[
                    b"<p>The requested URL's length exceeds the capacity\nlimit for this server.<br />\n",
                    notes,
                    b"</p>\n",
                ],
            ),
            417 => {
                match self.expect {
                    Some(expect) => put(
                        out,
                        &[
                            b"<p>The expectation given in the Expect request-header\nfield could not be met by this \
                              server.\nThe client sent<pre>\n    Expect: ",
                            &escape_html(expect),
                            b"\n</pre>\n",
                        ],
                    ),
                    None => put(
                        out,
                        &[b"<p>No expectation was seen, the Expect request-header \nfield was not presented by the client.\n"],
                    ),
                }
                put(out, &[notes, b"</p><p>Only the 100-continue expectation is supported.</p>\n"]);
            }
            451 => {
                put(out, &[b"<p>Access to this URL has been denied for legal reasons.<br />\n", notes, b"</p>\n"]);
            }
            other => match fixed_text(other) {
                Some(text) => out.extend_from_slice(text.as_bytes()),
                None => self.write_internal_error(out),
            },
        }
    }

    /// 500 and every status without a text of its own.
    fn write_internal_error(&self, out: &mut Vec<u8>) {
        if let (Some(notes), Some(b"*")) = (self.error_notes, self.verbose_error_to) {
            return put(out, &[notes, b"<p />\n"]);
        }
        put(
            out,
            &[
                b"<p>The server encountered an internal error or\nmisconfiguration and was unable to complete\n\
                  your request.</p>\n<p>Please contact the server administrator at \n ",
                &escape_html(self.server_admin),
                b" to inform them of the time this error occurred,\n and the actions you performed just before \
                  this error.</p>\n<p>More information about this error may be available\n\
                  in the server error log.</p>\n",
            ],
        );
    }
}

/// The texts that depend on nothing.
fn fixed_text(status: Status) -> Option<&'static str> {
    Some(match status {
        305 => {
            "<p>This resource is only accessible through the proxy\n\
             <br />\nYou will need to configure your client to use that proxy.</p>\n"
        }
        401 | 407 => {
            "<p>This server could not verify that you\nare authorized to access the document\n\
             requested.  Either you supplied the wrong\ncredentials (e.g., bad password), or your\n\
             browser doesn't understand how to supply\nthe credentials required.</p>\n"
        }
        404 => "<p>The requested URL was not found on this server.</p>\n",
        408 => "<p>Server timeout waiting for the HTTP request from the client.</p>\n",
        410 => {
            "<p>The requested resource is no longer available on this server and there is no forwarding address.\n\
             Please remove all references to this resource.</p>\n"
        }
        412 => "<p>The precondition on the request for this URL evaluated to false.</p>\n",
        415 => {
            "<p>The supplied request data is not in a format\nacceptable for processing by this resource.</p>\n"
        }
        416 => {
            "<p>None of the range-specifier values in the Range\nrequest-header field overlap the current extent\n\
             of the selected resource.</p>\n"
        }
        421 => {
            "<p>The client needs a new connection for this\nrequest as the requested host name does not match\n\
             the Server Name Indication (SNI) in use for this\nconnection.</p>\n"
        }
        422 => {
            "<p>The server understands the media type of the\nrequest entity, but was unable to process the\n\
             contained instructions.</p>\n"
        }
        423 => {
            "<p>The requested resource is currently locked.\nThe lock must be released or proper identification\n\
             given before the method can be applied.</p>\n"
        }
        424 => {
            "<p>The method could not be performed on the resource\nbecause the requested action depended on \
             another\naction and that other action failed.</p>\n"
        }
        426 => {
            "<p>The requested resource can only be retrieved\nusing SSL.  The server is willing to upgrade the \
             current\nconnection to SSL, but your client doesn't support it.\nEither upgrade your client, or try \
             requesting the page\nusing https://\n"
        }
        428 => "<p>The request is required to be conditional.</p>\n",
        429 => "<p>The user has sent too many requests\nin a given amount of time.</p>\n",
        431 => "<p>The server refused this request because\nthe request header fields are too large.</p>\n",
        503 => {
            "<p>The server is temporarily unable to service your\nrequest due to maintenance downtime or capacity\n\
             problems. Please try again later.</p>\n"
        }
        504 => {
            "<p>The gateway did not receive a timely response\nfrom the upstream server or application.</p>\n"
        }
        506 => {
            "<p>A variant for the requested resource\n<pre>\n\n</pre>\nis itself a negotiable resource. \
             This indicates a configuration error.</p>\n"
        }
        507 => {
            "<p>The method could not be performed on the resource\nbecause the server is unable to store the\n\
             representation needed to successfully complete the\nrequest.  There is insufficient free space left \
             in\nyour storage allocation.</p>\n"
        }
        508 => "<p>The server terminated an operation because\nit encountered an infinite loop.</p>\n",
        510 => {
            "<p>A mandatory extension policy in the request is not\naccepted by the server for this resource.</p>\n"
        }
        511 => "<p>The client needs to authenticate to gain\nnetwork access.</p>\n",
        _ => return None,
    })
}

/// The status line of a module as a reply's head has it, if it starts with the status: `validate_status_line` of
/// `http_filters.c`. Of a bare number the usual reason is told, if there is one.
pub fn head_line(status: Status, line: Option<&[u8]>) -> Option<Vec<u8>> {
    let line = line?;
    let number = line.get(..3)?;
    if number != format!("{status:03}").as_bytes() {
        return None;
    }
    match line.get(3) {
        None => Some(match status::known_line(status) {
            Some(known) => known.into(),
            None => [line, b" "].concat(),
        }),
        Some(c) => super::fields::is_space(*c).then(|| line.to_vec()),
    }
}

/// The status line of a module, if it starts with the status; one without a reason gets one.
pub fn usable_line(status: Status, line: Option<&[u8]>) -> Option<Vec<u8>> {
    let line = line?;
    let number = line.get(..3)?;
    if !number.iter().all(u8::is_ascii_digit) || number != format!("{status:03}").as_bytes() {
        return None;
    }
    match line.get(3..).unwrap_or_default() {
        [] => Some([line, b" Unknown Reason"].concat()),
        [c] if super::fields::is_space(*c) => Some([line, b"Unknown Reason"].concat()),
        [c, first, ..] if super::fields::is_space(*c) && first.is_ascii_alphanumeric() => Some(line.to_vec()),
        _ => None,
    }
}

/// `ServerSignature`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature<'a> {
    Off,
    On,
    /// With `ServerAdmin`
    EMail(&'a [u8]),
}

/// The line that signs generated pages, behind `prefix` (`ap_psignature`).
pub fn signature(prefix: &str, kind: Signature<'_>, banner: &str, server_name: &[u8], port: u16) -> Vec<u8> {
    let name = escape_html(server_name);
    let mut out = Vec::new();
    match kind {
        Signature::Off => return out,
        Signature::On => {
            put(&mut out, &[prefix.as_bytes(), b"<address>", banner.as_bytes(), b" Server at ", &name])
        }
        Signature::EMail(admin) => {
            let scheme: &[u8] = if super::escape::is_url(admin) { b"" } else { b"mailto:" };
            let admin = escape_html(admin);
            let text = b" Server at <a href=\"";
            put(
                &mut out,
                &[
                    prefix.as_bytes(),
                    b"<address>",
                    banner.as_bytes(),
                    text,
                    scheme,
                    &admin,
                    b"\">",
                    &name,
                    b"</a>",
                ],
            );
        }
    }
    put(&mut out, &[b" Port ", port.to_string().as_bytes(), b"</address>\n"]);
    out
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::decode;
    use super::*;

    const CASES: &str = include_str!("error_page_tests.tsv");

    #[test]
    fn as_apache_writes_them() {
        for case in CASES.lines().filter(|l| !l.starts_with('#')) {
            let columns: Vec<Vec<u8>> = case.split('\t').map(decode).collect();
            let [code, method, kind, recursive, location, page] = &columns[..] else { panic!("{case}") };
            let number = |text: &[u8]| std::str::from_utf8(text).unwrap().parse::<Status>().ok();
            let (kind, admin) = match &kind[..] {
                b"EMail" => (Signature::EMail(b"mailto:x@y"), &b"mailto:x@y"[..]),
                b"Off" => (Signature::Off, &b"a<b>&@c"[..]),
                _ => (Signature::On, &b"a<b>&@c"[..]),
            };
            let signature = signature("<hr>\n", kind, "Apache/2.4.71 (Debian)", b"local-host", 80);
            let mut out = Vec::new();
            ErrorPage {
                status: number(code).unwrap(),
                method,
                location,
                server_admin: admin,
                recursive_error: number(recursive),
                signature: &signature,
                ..ErrorPage::default()
            }
            .write(&mut out);
            assert_eq!(out.escape_ascii().to_string(), page.escape_ascii().to_string());
        }
    }
}
