//! httpd: argv in, exit code out.

fn main() {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    httpd::os::process::exit(httpd::cli::run(&args));
}
