//! A port that stays while the broker behind it comes and goes: a test can subscribe to the new
//! broker before the daemon reaches it, so no event goes by unseen.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Passes connections on to whatever port is set; without one it closes them.
pub struct Relay {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    target: Option<u16>,
    open: Vec<TcpStream>,
}

impl Relay {
    pub fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for incoming in listener.incoming() {
                let incoming = incoming.unwrap();
                let mut state = shared.lock().unwrap();
                let Some(target) = state.target else { continue };
                let Ok(outgoing) = TcpStream::connect(("127.0.0.1", target)) else {
                    continue;
                };
                for (from, to) in [(&incoming, &outgoing), (&outgoing, &incoming)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                state.open.extend([incoming, outgoing]);
            }
        });
        Self { port, state }
    }

    /// From now on connections go to this port.
    pub fn to(&self, port: u16) {
        self.state.lock().unwrap().target = Some(port);
    }

    /// Ends all connections and takes no more.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.target = None;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
