//! The configuration inside the program, for `httpd` where there is no other: a folder with a page, a free port, the
//! foreground.
//!
//! Apache has nothing like it; it ends with "Could not open configuration file".

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::command::{CommandLine, RunMode, Signal};
use super::print;

const CONFIG: &str = include_str!("../../httpd-conf/default/embedded.conf");
const MIME_TYPES: &[u8] = include_bytes!("../../httpd-conf/default/mime.types");
const INDEX: &[u8] = include_bytes!("../../httpd-conf/default/htdocs/index.html");

macro_rules! icons {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../httpd-conf/default/icons/", $name)))),*]
    };
}

/// Those that the configuration names.
const ICONS: &[(&str, &[u8])] = icons!(
    "back.gif",
    "blank.gif",
    "folder.gif",
    "image2.gif",
    "movie.gif",
    "sound2.gif",
    "text.gif",
    "unknown.gif",
);

/// The first ports that are tried; any free one is next.
const PORTS: std::ops::RangeInclusive<u16> = 8080..=8089;

/// The folder that the embedded configuration serves, gone with this value.
pub struct Site {
    root: PathBuf,
    port: u16,
    /// The process that made the folder: a child that ends must leave it.
    maker: u32,
}

impl Site {
    /// Makes the folder and finds a port. An error when the command line asks for something that only a server with a
    /// configuration of its own can do.
    pub fn make(line: &CommandLine) -> Result<Site, String> {
        let controls = !matches!(line.signal, None | Some(Signal::Start));
        if controls && line.mode == RunMode::Normal {
            return Err("there is no configuration, and so no server that could be told".to_owned());
        }
        let port = free_port().map_err(|err| format!("no port is free: {err}"))?;
        let root = nix::unistd::mkdtemp(&std::env::temp_dir().join("httpd-XXXXXX"))
            .map_err(|err| format!("no folder can be made in {}: {err}", std::env::temp_dir().display()))?;
        let site = Site { root, port, maker: std::process::id() };
        site.fill().map_err(|err| format!("{}: {err}", site.root.display()))?;
        Ok(site)
    }

    fn fill(&self) -> io::Result<()> {
        // Children of a server that root started must be able to read it.
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o755))?;
        fs::create_dir(self.root.join("htdocs"))?;
        fs::create_dir(self.root.join("icons"))?;
        fs::create_dir(self.root.join("logs"))?;
        fs::write(self.root.join("mime.types"), MIME_TYPES)?;
        fs::write(self.root.join("htdocs/index.html"), INDEX)?;
        for (name, content) in ICONS {
            fs::write(self.root.join("icons").join(name), content)?;
        }
        Ok(())
    }

    /// The configuration for this folder and port.
    pub fn config(&self) -> String {
        CONFIG.replace("@PORT@", &self.port.to_string()).replace("@ROOT@", &self.root.display().to_string())
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Says where the server is.
    pub fn announce(&self) {
        print(&format!(
            "No configuration file was found, so this is the built-in one, serving {}\nhttp://localhost:{}/\n",
            self.root.join("htdocs").display(),
            self.port
        ));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.maker == std::process::id() {
            // What is left in the temporary folder does no harm.
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

/// A port on which nobody listens, on either family.
fn free_port() -> io::Result<u16> {
    let free = |port: u16| {
        let bound = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
        let port = bound.local_addr()?.port();
        drop(bound);
        match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
            Err(err) if err.kind() == io::ErrorKind::AddrInUse => Err(err),
            _ => Ok(port),
        }
    };
    for port in PORTS {
        if let Ok(port) = free(port) {
            return Ok(port);
        }
    }
    free(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_goes_with_its_value() {
        let site = Site::make(&CommandLine::default()).expect("a folder");
        let root = site.root().to_owned();
        assert!(root.join("htdocs/index.html").is_file() && root.join("icons/text.gif").is_file());
        assert!(site.config().contains(&format!("Listen {}", site.port)));
        assert!(!site.config().contains('@'));
        drop(site);
        assert!(!root.exists());
        let stop = CommandLine { signal: Some(Signal::Stop), ..CommandLine::default() };
        assert!(Site::make(&stop).is_err());
    }
}
