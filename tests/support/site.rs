//! A web server that has a pack, and the ways in which such a server and what is before it go wrong.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rumqttc::tokio_rustls::rustls::crypto::ring;
use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject as _;
use rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rumqttc::tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::http::{Server, hang, say};

/// How a request is answered.
pub enum How {
    /// As it should be, with Range.
    Right,
    /// Breaks off after so many bytes of the body.
    Cut(usize),
    /// The same, but holds the connection.
    Silent(usize),
    /// Says another length than it sends.
    Claims(usize),
    /// Other bytes.
    Other(Vec<u8>),
    /// Ignores Range; breaks off after so many bytes.
    Whole(usize),
    /// Continues at another place than it was asked for.
    Elsewhere,
    /// Without a length, and without an end.
    Endless,
    /// Refuses.
    Status(&'static str),
    /// Sends elsewhere.
    Redirect(String),
}

/// Serves a folder. `how` gets the path within it and how often that was asked for before.
pub fn site(folder: &Path, how: impl Fn(&str, usize) -> How + Send + Sync + 'static) -> Server {
    let (folder, asked) = (
        folder.to_owned(),
        Mutex::new(HashMap::<String, usize>::new()),
    );
    Server::hearing(move |_, request, stream| {
        let path = request.split(' ').nth(1).unwrap().trim_start_matches('/');
        let path = path.split('?').next().unwrap().to_owned();
        let before = {
            let mut asked = asked.lock().unwrap();
            let count = asked.entry(path.clone()).or_default();
            *count += 1;
            *count - 1
        };
        answer(&folder, &path, request, &how(&path, before), stream);
    })
}

/// The first byte of a request with a Range.
pub fn range(request: &str) -> Option<usize> {
    request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let from = value.trim().strip_prefix("bytes=")?.strip_suffix('-')?;
        name.eq_ignore_ascii_case("range")
            .then(|| from.parse().unwrap())
    })
}

fn answer(folder: &Path, path: &str, request: &str, how: &How, stream: &mut TcpStream) {
    let close = "Connection: close\r\n\r\n";
    let refuse = |stream: &mut TcpStream, status: &str| {
        say(
            stream,
            format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{close}"),
        );
    };
    let bytes = match how {
        How::Other(bytes) => bytes.clone(),
        How::Status(status) => return refuse(stream, status),
        How::Redirect(to) => {
            let head =
                format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n{close}");
            say(stream, head);
            return;
        }
        How::Endless => {
            say(
                stream,
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{close}"),
            );
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            while say(stream, &chunk) {}
            return;
        }
        _ => match fs::read(folder.join(path)) {
            Ok(bytes) => bytes,
            Err(_) => return refuse(stream, "404 Not Found"),
        },
    };
    let total = bytes.len();
    let from = range(request).filter(|_| !matches!(how, How::Whole(_)));
    if from.is_some_and(|from| from >= total) {
        let head = format!(
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n{close}"
        );
        say(stream, head);
        return;
    }
    let mut start = from.unwrap_or(0);
    if matches!(how, How::Elsewhere) {
        start = start.saturating_sub(1);
    }
    let body = &bytes[start..];
    let length = match how {
        How::Claims(length) => *length,
        _ => body.len(),
    };
    let head = match from {
        Some(_) => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}\r\n",
            total - 1
        ),
        None => "HTTP/1.1 200 OK\r\n".to_owned(),
    };
    say(stream, format!("{head}Content-Length: {length}\r\n{close}"));
    let sent = match how {
        How::Cut(bytes) | How::Silent(bytes) | How::Whole(bytes) => (*bytes).min(body.len()),
        _ => body.len(),
    };
    say(stream, &body[..sent]);
    if matches!(how, How::Silent(_)) {
        hang(stream);
    }
}

/// Speaks TLS with `<name>.pem` and `<name>.key` of a folder, and hands requests on to a plain server.
/// Returns its port.
pub fn tls_before(folder: &Path, name: &str, plain: u16) -> u16 {
    let file = |end: &str| -> PathBuf { folder.join(format!("{name}.{end}")) };
    let chain = CertificateDer::pem_file_iter(file("pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || {
                let connection = ServerConnection::new(config).unwrap();
                let mut tls = StreamOwned::new(connection, stream.unwrap());
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") {
                    match tls.read(&mut byte) {
                        Ok(1) => request.push(byte[0]),
                        // Somebody who doesn't believe the certificate.
                        _ => return,
                    }
                }
                let mut behind = TcpStream::connect(("127.0.0.1", plain)).unwrap();
                behind.write_all(&request).unwrap();
                let _ = std::io::copy(&mut behind, &mut tls);
                tls.conn.send_close_notify();
                let _ = tls.flush();
            });
        }
    });
    port
}

/// A proxy that opens tunnels (CONNECT), all of them to one port.
pub fn proxy_to(port: u16) -> Server {
    Server::hearing(move |_, request, stream| {
        if !request.starts_with("CONNECT ") {
            say(
                stream,
                "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n",
            );
            return;
        }
        say(stream, "HTTP/1.1 200 Connection established\r\n\r\n");
        let mut behind = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut up, mut down) = (stream.try_clone().unwrap(), behind.try_clone().unwrap());
        let there = std::thread::spawn(move || {
            let _ = std::io::copy(&mut up, &mut down);
            let _ = down.shutdown(std::net::Shutdown::Write);
        });
        let _ = std::io::copy(&mut behind, stream);
        let _ = stream.shutdown(std::net::Shutdown::Both);
        let _ = there.join();
    })
}
