//! suexec beside the real one: the same calls, the same codes, messages and log.
//!
//! Each test says what must come out; where Debian's `suexec-pristine` is installed, it must say the same. The programs run
//! set-uid root in mount namespaces of their own, with `/var`, `/home` and accounts that are there for the test only. That
//! takes root: others are told that these tests were skipped.

// Tests start programs and wait for them.
#![allow(clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

/// The real one, or another copy of it.
fn real() -> String {
    std::env::var("SUEXEC").unwrap_or_else(|_| "/usr/lib/apache2/suexec-pristine".to_owned())
}

/// Prepares the folders and runs `$SETUP` in them; then suexec, `$CALL`, in `$DIR` as the user `$CALLER`. What it did is
/// written in parts.
const STAGE: &str = r##"
set -e
mount -t tmpfs none /mnt
cp "$PROGRAM" /mnt/suexec
mount -t tmpfs -o mode=755 none /var
mount -t tmpfs -o mode=755 none /home
mkdir -p /var/log/apache2 /var/www/alice /var/www2 /home/alice/public_html/sub
cat > /mnt/passwd <<'END'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/:/bin/sh
www-data:x:33:33::/var/www:/bin/sh
alice:x:5001:5001::/home/alice:/bin/sh
bob:x:5002:5002::/home/nowhere:/bin/sh
staff1:x:5003:50::/:/bin/sh
END
cat > /mnt/group <<'END'
root:x:0:
daemon:x:1:
www-data:x:33:
staff:x:50:
alice:x:5001:
bob:x:5002:
friends:x:5010:alice
END
mount --bind /mnt/passwd /etc/passwd
mount --bind /mnt/group /etc/group
cat > /mnt/tell <<'END'
#!/bin/sh
id -u; id -ru; id -g; id -G; pwd; umask; echo "$0 $*"; cat; echo told >&2; ls -l /proc/self/fd | grep suexec.log; exit 0
END
chmod 755 /mnt /mnt/tell
for dir in /var/www /var/www/alice /var/www2 /home/alice/public_html /home/alice/public_html/sub; do
    cp /mnt/tell $dir/tell
    chown -R alice:alice $dir
done
chown root:root /mnt/suexec
chmod 4755 /mnt/suexec
eval "$SETUP"
[ -z "$DIR" ] || cd "$DIR"
set +e
echo input | setpriv --reuid="$CALLER" --regid=33 --clear-groups env -i TZ=UTC "$@" > /mnt/out 2> /mnt/err
echo "code $?"
echo "-- stdout"; tr '\0' '\n' < /mnt/out
echo "-- stderr"; cat /mnt/err
echo "-- log"
[ ! -e /var/log/apache2/suexec.log ] || sed -E 's/^\[[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\]: /TIME /' /var/log/apache2/suexec.log
"##;

/// How suexec is called: `env` words stand before `/mnt/suexec`.
struct Call<'a> {
    caller: &'a str,
    dir: &'a str,
    setup: &'a str,
    env: &'a [&'a str],
    args: &'a [&'a str],
}

const PLAIN: Call<'_> = Call { caller: "33", dir: "/var/www/alice", setup: "", env: &[], args: &[] };

fn stage(program: &str, call: &Call<'_>) -> Output {
    Command::new("unshare")
        .args(["-m", "sh", "-c", STAGE, "stage"])
        .args(call.env)
        .arg("/mnt/suexec")
        .args(call.args)
        .env("PROGRAM", program)
        .env("SETUP", call.setup)
        .env("DIR", call.dir)
        .env("CALLER", call.caller)
        .output()
        .unwrap()
}

/// True where programs can be made set-uid root, in a place of their own.
fn can_be_tried() -> bool {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can make a program set-uid root");
        return false;
    }
    let namespaces = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let can = namespaces.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: no mount namespaces here");
    }
    can
}

/// What ours does; the real one, where there is one, must do the same. `None`: this can't be tried here.
fn run(call: &Call<'_>) -> Option<String> {
    if !can_be_tried() {
        return None;
    }
    let text = |output: Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let ours = text(stage(env!("CARGO_BIN_EXE_suexec"), call));
    let real = real();
    if Path::new(&real).exists() {
        assert_eq!(ours, text(stage(&real, call)), "{:?}", call.args);
    }
    Some(ours)
}

/// A call that is refused with this code, and these lines in the log.
fn refuses(call: &Call<'_>, code: i32, log: &[&str]) {
    let Some(seen) = run(call) else { return };
    let log: String = log.iter().map(|line| format!("TIME {line}\n")).collect();
    let stderr = "suexec policy violation: see suexec log for more details\n";
    assert_eq!(seen, format!("code {code}\n-- stdout\n-- stderr\n{stderr}-- log\n{log}"), "{:?}", call.args);
}

/// One that names alice and `tell`, and is refused behind the line that says so.
fn refuses_alice(setup: &str, dir: &str, user: &str, code: i32, reason: &str) {
    let said = format!("uid: ({}/alice) gid: (5001/alice) cmd: tell", user.trim_start_matches('~'));
    refuses(&Call { dir, setup, args: &[user, "5001", "tell"], ..PLAIN }, code, &[&said, reason]);
}

#[test]
fn a_script_of_the_document_root() {
    let args = ["alice", "alice", "tell", "one", "two words"];
    let Some(seen) = run(&Call { args: &args, ..PLAIN }) else { return };
    let expected = "code 0\n-- stdout\n5001\n5001\n5001\n5001 5010\n/var/www/alice\n0022\ntell one two words\ninput\n\
                    -- stderr\ntold\n-- log\nTIME uid: (alice/alice) gid: (alice/alice) cmd: tell\n";
    assert_eq!(seen, expected);
    let Some(seen) = run(&Call { dir: "/var/www", args: &["5001", "5001", "tell"], ..PLAIN }) else { return };
    assert!(
        seen.starts_with("code 0\n")
            && seen.ends_with("TIME uid: (5001/alice) gid: (5001/alice) cmd: tell\n")
    );
}

#[test]
fn a_script_of_a_user() {
    for dir in ["/home/alice/public_html", "/home/alice/public_html/sub"] {
        let Some(seen) = run(&Call { dir, args: &["~5001", "5001", "tell"], ..PLAIN }) else { return };
        assert!(
            seen.starts_with(&format!("code 0\n-- stdout\n5001\n5001\n5001\n5001 5010\n{dir}\n")),
            "{seen}"
        );
    }
}

#[test]
fn the_environment_of_a_script() {
    let setup = "printf '#!/bin/cat /proc/self/environ\n' > tell; cp tell /var/www/alice/tell; rm tell; cd /";
    let env = [
        "PATH=/evil",
        "A=1",
        "HTTP_B=2",
        "HTTP_A=1",
        "LD_LIBRARY_PATH=/x",
        "REQUEST_URI=/",
        "HTTPS=on",
        "SSL_X=y",
    ];
    let call = Call { setup, env: &env, args: &["alice", "alice", "tell"], ..PLAIN };
    let Some(seen) = run(&call) else { return };
    let expected =
        "PATH=/usr/local/bin:/usr/bin:/bin\nTZ=UTC\nHTTP_B=2\nHTTP_A=1\nREQUEST_URI=/\nHTTPS=on\nSSL_X=y\n";
    assert!(seen.starts_with(&format!("code 0\n-- stdout\n{expected}#!/bin/cat")), "{seen}");
}

#[test]
fn the_values_of_the_build() {
    for caller in ["0", "33"] {
        let Some(seen) = run(&Call { caller, args: &["-V"], ..PLAIN }) else { return };
        assert!(seen.contains(" -D AP_DOC_ROOT=\"/var/www\"\n -D AP_GID_MIN=100\n"), "{seen}");
        assert!(seen.starts_with("code 0\n") && seen.ends_with("-- log\n"), "{seen}");
    }
    refuses(&Call { caller: "5002", args: &["-V"], ..PLAIN }, 101, &["too few arguments"]);
}

#[test]
fn who_calls_and_how() {
    let args = ["alice", "alice", "tell"];
    refuses(&Call { caller: "4711", args: &args, ..PLAIN }, 102, &["crit: invalid uid: (4711)"]);
    for few in [&[][..], &["alice"], &["alice", "alice"]] {
        refuses(&Call { args: few, ..PLAIN }, 101, &["too few arguments"]);
    }
    refuses(
        &Call { caller: "5002", args: &args, ..PLAIN },
        103,
        &["user mismatch (bob instead of www-data)"],
    );
    refuses(&Call { caller: "0", args: &args, ..PLAIN }, 103, &["user mismatch (root instead of www-data)"]);
    for command in ["/bin/sh", "../tell", "a/../tell"] {
        let reason = format!("invalid command ({command})");
        refuses(&Call { args: &["alice", "alice", command], ..PLAIN }, 104, &[&reason]);
    }
    let Some(seen) = run(&Call { setup: "rmdir /var/log/apache2", args: &args, ..PLAIN }) else { return };
    let stderr = "suexec failure: could not open log file\nfopen: No such file or directory\n";
    assert_eq!(seen, format!("code 1\n-- stdout\n-- stderr\n{stderr}-- log\n"));
}

#[test]
fn whom_it_names() {
    for (user, group, code, reason) in [
        ("carol", "alice", 105, "invalid target user name: (carol)"),
        ("-5001", "alice", 105, "invalid target user name: (-5001)"),
        ("4711", "alice", 121, "invalid target user id: (4711)"),
        ("~4711", "alice", 121, "invalid target user id: (4711)"),
        ("99999999999999999999", "alice", 121, "invalid target user id: (99999999999999999999)"),
        ("alice", "carol", 106, "invalid target group name: (carol)"),
        ("alice", "4711", 106, "invalid target group id: (4711)"),
    ] {
        refuses(&Call { args: &[user, group, "tell"], ..PLAIN }, code, &[reason]);
    }
    for (user, group, code, said, reason) in [
        ("0", "alice", 107, "(0/root) gid: (alice/alice)", "cannot run as forbidden uid (0/tell)"),
        ("", "alice", 107, "(/root) gid: (alice/alice)", "cannot run as forbidden uid (0/tell)"),
        (
            "4294967296",
            "alice",
            107,
            "(4294967296/root) gid: (alice/alice)",
            "cannot run as forbidden uid (0/tell)",
        ),
        (
            "daemon",
            "alice",
            107,
            "(daemon/daemon) gid: (alice/alice)",
            "cannot run as forbidden uid (1/tell)",
        ),
        ("alice", "root", 108, "(alice/alice) gid: (root/root)", "cannot run as forbidden gid (0/tell)"),
        ("alice", "50", 108, "(alice/alice) gid: (50/staff)", "cannot run as forbidden gid (50/tell)"),
    ] {
        let said = format!("uid: {said} cmd: tell");
        refuses(&Call { args: &[user, group, "tell"], ..PLAIN }, code, &[&said, reason]);
    }
}

#[test]
fn where_scripts_may_lie() {
    refuses_alice("", "/var/www2", "5001", 114, "command not in docroot (/var/www2/tell)");
    refuses_alice(
        "",
        "/home/alice/public_html",
        "5001",
        114,
        "command not in docroot (/home/alice/public_html/tell)",
    );
    refuses_alice("", "/var/www/alice", "~5001", 114, "command not in docroot (/var/www/alice/tell)");
    let gone = "rm -r /home/alice/public_html";
    refuses_alice(gone, "/var/www/alice", "~5001", 112, "cannot get docroot information (/home/alice)");
    refuses_alice(
        "mkdir -m 711 /var/www/closed",
        "/var/www/closed",
        "5001",
        111,
        "cannot open current working directory",
    );
    let moved = "mkdir /home/www; cp -a /var/www/alice /home/www/; rm -r /var/www; ln -s /home/www /var/www";
    let Some(seen) = run(&Call { setup: moved, args: &["5001", "5001", "tell"], ..PLAIN }) else { return };
    assert!(seen.starts_with("code 0\n") && seen.contains("\n/home/www/alice\n"), "{seen}");
    refuses_alice("rm -r /var/www", "/", "5001", 113, "cannot get docroot information (/var/www)");
    refuses_alice(
        "mkdir /var/www/gone; chown alice:alice /var/www/gone; cd /var/www/gone; rmdir /var/www/gone",
        "",
        "5001",
        111,
        "cannot get current working directory",
    );
}

#[test]
fn whose_files_they_are() {
    let in_alice = |setup: &str, code: i32, reason: &str| {
        refuses_alice(&format!("cd /var/www/alice; {setup}"), "/var/www/alice", "5001", code, reason);
    };
    in_alice("chmod g+w .", 116, "directory is writable by others: (/var/www/alice)");
    in_alice("chmod o+w .", 116, "directory is writable by others: (/var/www/alice)");
    in_alice("rm tell", 117, "cannot stat program: (tell)");
    in_alice("mv tell told; ln -s told tell", 117, "cannot stat program: (tell)");
    in_alice("chmod g+w tell", 118, "file is writable by others: (/var/www/alice/tell)");
    in_alice("chmod o+w tell", 118, "file is writable by others: (/var/www/alice/tell)");
    in_alice("chmod u+s tell", 119, "file is either setuid or setgid: (/var/www/alice/tell)");
    in_alice("chmod g+s tell", 119, "file is either setuid or setgid: (/var/www/alice/tell)");
    let mismatch = |folder: &str, program: &str| {
        format!("target uid/gid (5001/5001) mismatch with directory ({folder}) or program ({program})")
    };
    in_alice("chown root .", 120, &mismatch("0/5001", "5001/5001"));
    in_alice("chgrp root .", 120, &mismatch("5001/0", "5001/5001"));
    in_alice("chown root tell", 120, &mismatch("5001/5001", "0/5001"));
    in_alice("chgrp bob tell", 120, &mismatch("5001/5001", "5001/5002"));
    in_alice("chmod a-x tell", 121, "file has no execute permission: (/var/www/alice/tell)");
    in_alice("echo '#!/nowhere' > tell", 255, "(2)No such file or directory: exec failed (tell)");
    in_alice("rm tell; mkdir tell; chown alice:alice tell", 255, "(13)Permission denied: exec failed (tell)");
}

#[test]
fn a_copy_that_is_not_set_uid_does_nothing() {
    let setup =
        "chmod 755 /mnt/suexec; touch /var/log/apache2/suexec.log; chmod 666 /var/log/apache2/suexec.log";
    let reason = "failed to setgid/initgroups (5001: tell): Operation not permitted";
    refuses_alice(setup, "/var/www/alice", "5001", 109, reason);
}

/// A server with [`STAGE`]'s accounts and folders, whose suexec is `$PROGRAM`.
const SERVE: &str = r##"
set -e
mkdir /mnt/lib
cp -a /usr/lib/apache2/modules /mnt/lib/
cp -p /mnt/suexec /mnt/lib/suexec
mount --bind /mnt/lib /usr/lib/apache2
ln -s "$HTTPD" /mnt/apache2
for dir in /var/www/alice /home/alice/public_html; do
    printf '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\n"; id -u; id -g; echo "$0 $*"\n' > $dir/who.cgi
    chmod 755 $dir/who.cgi
    chown alice:alice $dir/who.cgi
done
cp -p /var/www/alice/who.cgi /var/www/alice/bad.cgi
chmod g+w /var/www/alice/bad.cgi
chmod 755 /home/alice
cat > /mnt/httpd.conf <<END
ServerName localhost
Listen 127.0.0.1:$PORT
PidFile /mnt/pid
ErrorLog /dev/stderr
ErrorLogFormat "[%m:%l] %M"
LogLevel warn suexec:notice
DefaultRuntimeDir /mnt
User www-data
Group www-data
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule cgi_module /usr/lib/apache2/modules/mod_cgi.so
LoadModule suexec_module /usr/lib/apache2/modules/mod_suexec.so
LoadModule userdir_module /usr/lib/apache2/modules/mod_userdir.so
TypesConfig /dev/null
Suexec On
UserDir public_html
DocumentRoot /var/www
SuexecUserGroup alice alice
AddHandler cgi-script .cgi
<Directory />
    Options ExecCGI FollowSymLinks
</Directory>
END
cd /
exec /mnt/apache2 -d /mnt -f /mnt/httpd.conf -DFOREGROUND
"##;

/// What the server answers to these paths, and its complaints.
fn serve(httpd: &str, program: &str, paths: &[&str]) -> Vec<String> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (stage, _) = STAGE.split_once("eval ").unwrap();
    let mut server = Command::new("unshare")
        .args(["-m", "sh", "-c", &format!("{stage}{SERVE}")])
        .env("PROGRAM", program)
        .env("HTTPD", httpd)
        .env("PORT", port.to_string())
        .stderr(Stdio::piped())
        // Apache's server ends its whole group.
        .process_group(0)
        .spawn()
        .unwrap();
    let mut seen: Vec<String> = paths.iter().map(|path| ask(port, path)).collect();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    let mut complaints = String::new();
    server.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    server.wait().unwrap();
    seen.push(
        complaints
            .lines()
            .filter(|line| line.contains("suexec") || line.contains(":error]"))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    seen
}

/// Status and body, as soon as there is a server.
fn ask(port: u16, path: &str) -> String {
    for _ in 0..200 {
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)) else {
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        write!(socket, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut reply = String::new();
        socket.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        return if status == "200" { body.to_owned() } else { status.to_owned() };
    }
    panic!("no server");
}

#[test]
fn a_server_and_its_suexec() {
    if !can_be_tried() || !Path::new("/usr/lib/apache2/modules").is_dir() {
        eprintln!("skipped: no root, no namespaces or no Debian");
        return;
    }
    let paths = ["/alice/who.cgi", "/alice/who.cgi?a+b", "/~alice/who.cgi", "/alice/bad.cgi"];
    let seen = serve(env!("CARGO_BIN_EXE_httpd"), env!("CARGO_BIN_EXE_suexec"), &paths);
    let replies = ["5001\n5001\nwho.cgi \n", "5001\n5001\nwho.cgi a b\n", "5001\n5001\nwho.cgi \n", "500"];
    assert_eq!(seen[..4], replies);
    let enabled = "[suexec:notice] AH01232: suEXEC mechanism enabled (wrapper: /usr/lib/apache2/suexec)";
    assert!(seen[4].starts_with(enabled), "{}", seen[4]);
    assert!(seen[4].contains("suexec policy violation: see suexec log for more details"), "{}", seen[4]);
    let (theirs, real) = ("/usr/sbin/apache2", real());
    if Path::new(theirs).exists() && Path::new(&real).exists() {
        assert_eq!(seen, serve(theirs, &real, &paths));
        // Either works with the other's.
        assert_eq!(seen, serve(theirs, env!("CARGO_BIN_EXE_suexec"), &paths));
        assert_eq!(seen, serve(env!("CARGO_BIN_EXE_httpd"), &real, &paths));
    }
}
