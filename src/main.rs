//! httpd: argv in, exit code out.

use std::sync::Arc;

use httpd::cli::{Options, layout};

fn main() {
    httpd::log::subscriber::install();
    let args: Vec<String> = std::env::args().collect();
    let mut options = Options {
        program: "apache2".into(),
        command_line: args.join(" "),
        layout: &layout::DEBIAN,
        server_root: layout::DEBIAN.root.into(),
        config_file: layout::DEBIAN.config_file.into(),
        embedded_config: None,
        defines: Vec::new(),
        pre_config: Vec::new(),
        post_config: Vec::new(),
        foreground: true,
        warns_about_document_root: true,
    };
    let mut words = args.iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-f" => options.config_file = words.next().cloned().unwrap_or_default(),
            "-d" => options.server_root = words.next().cloned().unwrap_or_default(),
            _ => {}
        }
    }
    httpd::os::process::exit(httpd::engine::master::run(Arc::new(options)));
}
