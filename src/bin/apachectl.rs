//! apachectl: the server's verbs, with the environment that the distribution sets for it. See `httpd::cli::apachectl`.

fn main() {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    httpd::log::subscriber::install();
    httpd::os::process::exit(httpd::cli::apachectl::run(&args));
}
