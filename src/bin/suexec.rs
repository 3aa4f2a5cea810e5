//! suexec: runs a script as its owner. See `httpd::support::suexec`.

fn main() {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    httpd::os::process::exit(httpd::support::suexec::run(&args));
}
