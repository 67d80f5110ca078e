//! A camera's web server that does what a test tells it to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Serves on a free port until the test program ends.
pub struct Server {
    pub port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` gets the number of the connection (from 0) and the connection, after the request
    /// has been read. What it returns to is the end of the connection.
    pub fn start(answer: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::hearing(move |number, _, stream| answer(number, stream))
    }

    /// As [`Server::start`]; `answer` gets the request's head too.
    pub fn hearing(answer: impl Fn(usize, &str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
                let request = read_request(&stream);
                kept.lock().unwrap().push(request.clone());
                std::thread::spawn(move || answer(number, &request, &mut stream));
            }
        });
        Self { port, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            return request;
        }
        request.push_str(&line);
    }
}

/// Says it, as far as somebody listens; true if somebody does.
pub fn say(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) -> bool {
    stream.write_all(bytes.as_ref()).is_ok()
}

/// Holds the connection and says nothing, until the other side hangs up.
pub fn hang(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 64]);
}

/// A whole answer with its length.
pub fn answer(stream: &mut TcpStream, content_type: &str, body: &[u8]) -> bool {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    );
    say(stream, head) && say(stream, body)
}

/// The head of a stream of pictures.
pub const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n";

/// One part of a stream, as it should be.
pub fn part(stream: &mut TcpStream, jpeg: &[u8]) -> bool {
    let length = jpeg.len();
    let head = format!("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n");
    say(stream, head) && say(stream, jpeg) && say(stream, "\r\n")
}
