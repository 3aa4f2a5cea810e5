//! `TypesConfig`: the file of media types and their extensions (`mime.types`).

use std::sync::Arc;

use httpd_conf::{from_bytes, words};

use super::{ByExtension, MediaType, SERVER};
use crate::config::server::{FAILED, Setup};
use crate::log::{self, Level};

/// Reads the file that the main server names, for all servers: `mime_post_config`.
pub(super) fn post_config(setup: &mut Setup) -> Result<(), String> {
    let named = setup.servers.first().and_then(|s| s.conf.get(&SERVER).types_config.clone());
    let name = named.unwrap_or_else(|| setup.options.layout.types_config_file.to_owned());
    let path = setup.server_root_relative(&name);
    let content = match std::fs::read(httpd_conf_path(&path)) {
        Ok(content) => content,
        Err(err) => {
            let text = format!("could not open mime types config file {path}.");
            log::server_error(Level::Error, "mime", "AH01597", Some(&err), &text);
            return Err(FAILED.to_owned());
        }
    };
    let types = Arc::new(parse(&content));
    for server in &mut setup.servers {
        server.conf.get_mut(&SERVER).types = Some(types.clone());
    }
    Ok(())
}

fn httpd_conf_path(path: &str) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(httpd_conf::to_bytes(path).into_owned()).into()
}

fn parse(content: &[u8]) -> ByExtension<MediaType> {
    let mut types = ByExtension::default();
    for line in logical_lines(content) {
        if line.starts_with('#') {
            continue;
        }
        let mut words = words(&line);
        let Some(media_type) = words.next().filter(|t| !t.is_empty()) else { continue };
        let media_type = MediaType::new(&media_type);
        for extension in words {
            let extension = httpd_conf::to_bytes(&extension).to_ascii_lowercase();
            types.insert(extension.into(), media_type.clone());
        }
    }
    types
}

/// The lines as `ap_cfg_getline` gives them: trimmed; a backslash at the end joins the next one.
fn logical_lines(content: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    for line in content.split(|&b| b == b'\n') {
        let text = from_bytes(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        let (part, joined) = match text.strip_suffix('\\') {
            Some(part) if part.ends_with('\\') => (part, false),
            Some(part) => (part, true),
            None => (text.as_str(), false),
        };
        let line = open.take().unwrap_or_default() + part;
        if joined {
            open = Some(line);
        } else {
            lines.push(line.trim().to_owned());
        }
    }
    lines.extend(open.map(|line| line.trim().to_owned()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_types_file() {
        let types = parse(
            b"# comment\ntext/html\t\thtml HTM\n\n  text/plain txt \\\n  asc\r\nno/extension\nlast/wins html",
        );
        let of = |ext: &str| types.get(ext.as_bytes()).map(|t| t.text().to_string());
        assert_eq!(of("htm").as_deref(), Some("text/html"));
        assert_eq!(of("html").as_deref(), Some("last/wins"));
        assert_eq!(of("asc").as_deref(), Some("text/plain"));
        assert_eq!(types.len(), 4);
    }
}
