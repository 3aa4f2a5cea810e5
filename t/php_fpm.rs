//! Debian's php-fpm behind mod_proxy_fcgi: our server on both engines gives what Apache gives. Where php8.2-fpm or Apache is not
//! installed, the test says so and passes.

// Tests start programs and wait for them.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const REAL: &str = "/usr/sbin/apache2";
const FPM: &str = "/usr/sbin/php-fpm8.2";

const SCRIPT: &str = r#"<?php
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
foreach (['SCRIPT_NAME', 'SCRIPT_FILENAME', 'PHP_SELF', 'PATH_INFO', 'PATH_TRANSLATED', 'REQUEST_URI', 'QUERY_STRING',
    'DOCUMENT_ROOT', 'CONTENT_TYPE', 'CONTENT_LENGTH', 'REDIRECT_STATUS', 'REDIRECT_URL'] as $name) {
    echo $name, '=', $_SERVER[$name] ?? '(none)', "\n";
}
echo strlen(file_get_contents('php://input')), ' ', md5(file_get_contents('php://input')), "\n";
if (isset($_GET['log'])) error_log('a word');
if (isset($_GET['status'])) http_response_code((int) $_GET['status']);
if (isset($_GET['long'])) echo str_repeat('x', (int) $_GET['long']);
"#;

/// A program that runs until the test is over.
struct Running {
    process: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM);
        _ = self.process.wait();
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "waited too long until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn start_fpm(root: &Path) -> Running {
    let shown = root.display();
    let socket = root.join("fpm.sock");
    let user = if nix::unistd::geteuid().is_root() { "user = www-data\ngroup = www-data\n" } else { "" };
    let conf = format!(
        "[global]\npid = {shown}/fpm.pid\nerror_log = {shown}/fpm.log\ndaemonize = no\n[www]\n{user}listen = {shown}/fpm.sock\n\
         listen.mode = 0666\npm = static\npm.max_children = 20\ncatch_workers_output = no\n"
    );
    fs::write(root.join("fpm.conf"), conf).unwrap();
    let process = Command::new(FPM)
        .args(["--nodaemonize", "--fpm-config"])
        .arg(root.join("fpm.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running { process };
    wait_until("php-fpm listens", || socket.exists());
    running
}

/// The answers to all requests, without what varies, and the error log's lines about them.
fn answers(program: &Path, engine: &str, root: &Path) -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let log = root.join("error.log");
    _ = fs::remove_file(&log);
    let shown = root.display();
    let modules: String = ["proxy", "proxy_fcgi", "authz_core", "dir"]
        .iter()
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .collect();
    // Without it, Apache's children end at once.
    let user = if nix::unistd::geteuid().is_root() { "User www-data\nGroup www-data\n" } else { "" };
    let conf = format!(
        "{user}ServerRoot {shown}\nLoadModule mpm_{engine}_module /usr/lib/apache2/modules/mod_mpm_{engine}.so\n{modules}\
         Listen 127.0.0.1:{port}\nServerName localhost\nPidFile {shown}/httpd.pid\nErrorLog {shown}/error.log\n\
         DocumentRoot {shown}/htdocs\nDirectoryIndex index.php\nErrorDocument 404 /index.php\n\
         <Proxy \"fcgi://localhost\" enablereuse=on max=2>\n</Proxy>\n\
         <FilesMatch \"\\.php$\">\nSetHandler \"proxy:unix:{shown}/fpm.sock|fcgi://localhost\"\n</FilesMatch>\n"
    );
    fs::write(root.join("httpd.conf"), conf).unwrap();
    let process = Command::new(program)
        .args(["-D", "FOREGROUND", "-f"])
        .arg(root.join("httpd.conf"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _running = Running { process };
    wait_until("the server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let body = "y".repeat(200_000);
    let post =
        format!("POST /index.php HTTP/1.0\r\nContent-Type: x/y\r\nContent-Length: 200000\r\n\r\n{body}");
    let chunked = "POST /index.php HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\n";
    let gets = [
        "GET / HTTP/1.0\r\n\r\n",
        "GET /index.php/path/info?a=b HTTP/1.0\r\n\r\n",
        "HEAD /index.php HTTP/1.0\r\n\r\n",
        "GET /index.php?log=1 HTTP/1.0\r\n\r\n",
        "GET /index.php?status=418 HTTP/1.0\r\n\r\n",
        "GET /index.php?long=300000 HTTP/1.0\r\n\r\n",
        "GET /nothing.php HTTP/1.0\r\n\r\n",
        "GET /nothing.html HTTP/1.0\r\n\r\n",
        chunked,
        post.as_str(),
    ];
    let mut text = String::new();
    for request in gets {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = Vec::new();
        let read = stream.read_to_end(&mut reply);
        assert!(
            read.is_ok(),
            "{read:?}: {} {}",
            &request[..40.min(request.len())],
            fs::read_to_string(&log).unwrap_or_default()
        );
        let reply = String::from_utf8_lossy(&reply);
        let (head, content) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        let head = head.lines().filter(|line| !line.starts_with("Date:") && !line.starts_with("Server:"));
        let head: Vec<&str> = head.collect();
        // How long content is cut into chunks depends on the moment.
        let content =
            if content.len() > 10_000 { format!("({} bytes)", content.len()) } else { content.to_owned() };
        text +=
            &format!("{}\n{}\n\n{content}\n", request.lines().next().unwrap_or_default(), head.join("\n"));
    }
    let words = fs::read_to_string(&log).unwrap_or_default();
    for line in words.lines().filter(|line| line.contains("AH010") || line.contains(":error]")) {
        let (_, line) = line.split_once("AH0").unwrap_or(("", line));
        text += &format!("AH0{line}\n");
    }
    text
}

#[test]
fn php_gives_what_it_gives_behind_apache() {
    if !Path::new(FPM).exists() || !Path::new(REAL).exists() {
        eprintln!("left out: php8.2-fpm or apache2 is not installed");
        return;
    }
    let root: PathBuf = std::env::temp_dir().join(format!("php-fpm-{}", std::process::id()));
    fs::create_dir_all(root.join("htdocs")).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&root, open).unwrap();
    fs::write(root.join("htdocs/index.php"), SCRIPT).unwrap();
    let fpm = start_fpm(&root);
    let real = answers(Path::new(REAL), "event", &root);
    assert!(real.contains("SCRIPT_NAME=/index.php") && real.contains("a word"), "{real}");
    for engine in ["prefork", "event"] {
        let ours = answers(Path::new(env!("CARGO_BIN_EXE_httpd")), engine, &root);
        let first = ours.lines().zip(real.lines()).find(|(ours, real)| ours != real);
        assert_eq!(ours, real, "{engine}: {first:?}");
    }
    drop(fpm);
    _ = fs::remove_dir_all(&root);
}
