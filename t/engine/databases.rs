//! Databases and maps while they change, and while many ask for them; caches over a restart.

use std::fs;

use nix::sys::signal::Signal;

use crate::ENGINES;
use crate::client::{ask, connect, get};
use crate::server::{Server, wait_until};

const REWRITE: &str = "LoadModule rewrite_module modules/mod_rewrite.so\nLoadModule dbd_module modules/mod_dbd.so\n\
                       RewriteEngine On\nRewriteRule ^/(one|two)$ /x?${m:$1|none} [R]\n";

fn location(server: &Server, path: &str) -> String {
    let reply = server.get(path);
    let line = reply.lines().find(|line| line.starts_with("Location: ")).unwrap_or_default();
    line.rsplit('?').next().unwrap_or_default().trim_end().to_owned()
}

#[test]
fn a_changed_text_map_is_seen() {
    for engine in ENGINES {
        let server = Server::start(engine, "");
        let map = server.root.join("map");
        fs::write(&map, "one 1\n").unwrap();
        server.configure(engine, &format!("{REWRITE}RewriteMap m txt:{}\n", map.display()));
        server.signal(Signal::SIGUSR1);
        wait_until("the map is in force", || location(&server, "/one") == "1");
        assert_eq!(location(&server, "/two"), "none");
        fs::write(&map, "one 2\ntwo 3\n").unwrap();
        wait_until("the change is seen", || location(&server, "/two") == "3");
        assert_eq!(location(&server, "/one"), "2");
    }
}

#[test]
fn a_changed_row_is_seen_and_few_connections_serve_many() {
    for engine in ENGINES {
        let server = Server::start(engine, "");
        let file = server.root.join("db");
        let database = rusqlite::Connection::open(&file).unwrap();
        database.execute_batch("CREATE TABLE map (k, v); INSERT INTO map VALUES ('one', '1')").unwrap();
        let conf = format!(
            "{REWRITE}DBDriver sqlite3\nDBDParams {}\nDBDMin 0\nDBDKeep 1\nDBDMax 2\n\
             RewriteMap m \"dbd:SELECT v FROM map WHERE k = %s\"\n",
            file.display()
        );
        server.configure(engine, &conf);
        server.signal(Signal::SIGUSR1);
        wait_until("the map is in force", || location(&server, "/one") == "1");
        let port = server.port;
        let clients: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut kept = connect(port);
                    (0..50).all(|_| ask(&mut kept, "/one").is_ok_and(|reply| reply.contains("/x?1\r\n")))
                })
            })
            .collect();
        assert!(clients.into_iter().all(|client| client.join().unwrap()), "{}", server.complaints());
        database.execute_batch("UPDATE map SET v = '2'").unwrap();
        assert_eq!(location(&server, "/one"), "2");
    }
}

#[test]
fn the_file_of_a_cache_stays_over_a_restart_and_goes_with_the_server() {
    const CONF: &str = "LoadModule authn_core_module modules/mod_authn_core.so\n\
                        LoadModule authn_socache_module modules/mod_authn_socache.so\n\
                        LoadModule socache_dbm_module modules/mod_socache_dbm.so\n\
                        DefaultRuntimeDir .\nAuthnCacheEnable\nAuthnCacheSOCache dbm\n";
    for engine in ENGINES {
        let mut server = Server::start(engine, CONF);
        let file = server.root.join("socache-dbm-authn-socache");
        assert!(file.exists(), "{}", server.complaints());
        server.signal(Signal::SIGUSR1);
        wait_until("it was restarted", || {
            server.error_log().matches("resuming normal operations").count() == 2
        });
        assert!(get(server.port, "/index.html").is_ok());
        assert!(file.exists());
        server.signal(Signal::SIGTERM);
        wait_until("it has ended", || server.ended().is_some());
        assert!(!file.exists());
    }
}
