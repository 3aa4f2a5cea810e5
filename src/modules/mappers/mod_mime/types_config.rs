//! `TypesConfig`: the file of media types and their extensions (`mime.types`).

use std::sync::Arc;

use httpd_conf::{from_bytes, words};

use super::{ByExtension, MediaType, SERVER};
use crate::config::server::{FAILED, Setup};
use crate::log::{self, Level};
use crate::text::config_lines;

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
    for (_, line) in config_lines(content, 8192) {
        let line = from_bytes(&line);
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
