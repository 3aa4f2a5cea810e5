//! rotatelogs: a piped log that begins new files by time or size. See `httpd::support::rotatelogs`.

fn main() {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    httpd::os::process::exit(httpd::support::rotatelogs::run(&args));
}
