//! Clients: one request, a kept connection, many at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// One request on a connection of its own.
pub fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// One request on an open connection; the body's length comes from Content-Length.
pub fn ask(stream: &mut BufReader<TcpStream>, path: &str) -> std::io::Result<String> {
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    read_reply(stream)
}

pub fn read_reply(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        let end = line == "\r\n";
        head.push_str(&line);
        if end {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(head + &String::from_utf8_lossy(&body))
}

pub fn connect(port: u16) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    BufReader::new(stream)
}

/// Clients that ask for the page again and again, half of them on kept connections, until told to stop. A request that fails
/// is a panic of its thread, which `stop` passes on; a kept connection may end only where the server said so.
pub struct Crowd {
    running: Arc<AtomicBool>,
    served: Arc<AtomicU32>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    pub fn start(port: u16, count: usize) -> Crowd {
        let running = Arc::new(AtomicBool::new(true));
        let served = Arc::new(AtomicU32::new(0));
        let threads = (0..count)
            .map(|number| {
                let (running, served) = (running.clone(), served.clone());
                thread::spawn(move || {
                    let mut kept = None;
                    while running.load(Ordering::Relaxed) {
                        let reply = if number % 2 == 0 {
                            get(port, "/index.html").expect("a request failed")
                        } else {
                            let mut stream = kept.take().unwrap_or_else(|| connect(port));
                            let reply =
                                ask(&mut stream, "/index.html").expect("a request on a kept connection");
                            if !reply.contains("Connection: close") {
                                kept = Some(stream);
                            }
                            reply
                        };
                        assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("hello\n"), "{reply:?}");
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Crowd { running, served, threads }
    }

    /// How many requests were answered so far.
    pub fn served(&self) -> u32 {
        self.served.load(Ordering::Relaxed)
    }

    /// Ends the clients; how many requests were answered, or what went wrong.
    pub fn stop(self) -> Result<u32, String> {
        self.running.store(false, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default()
            })?;
        }
        Ok(self.served.load(Ordering::Relaxed))
    }
}
