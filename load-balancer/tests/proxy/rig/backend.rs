//! Backends in this process: a thread for each connection, and a script.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A request as a backend received it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// In small letters, without the last line end.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// What came behind a chunked body.
    pub(crate) trailers: String,
}

impl Received {
    /// How often a field with this name is in the head.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.head.lines().filter(|line| line.starts_with(&format!("{name}:"))).count()
    }

    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A backend.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Fake {
    /// A backend that runs a script on each connection, which ends with it.
    pub(crate) fn new(script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (script, log) = (Arc::new(script), Arc::clone(&received));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.set_nodelay(true);
                let (script, received) = (Arc::clone(&script), Arc::clone(&log));
                std::thread::spawn(move || script(&mut Conn { stream, pending: vec![], received }));
            }
        });
        Self { address, received }
    }

    /// A backend that answers every request with its name, or with the body it was sent.
    pub(crate) fn named(name: &str) -> Self {
        let name = name.to_owned();
        Self::new(move |conn| {
            while let Some(request) = conn.request() {
                let body = if request.body.is_empty() { name.as_bytes() } else { &request.body };
                let head_only = request.head.starts_with("head ");
                let mut answer = ok(body);
                if head_only {
                    answer.truncate(answer.len() - body.len());
                }
                if !conn.send(&answer) {
                    return;
                }
            }
        })
    }

    /// A backend that sends these bytes to whatever request, and closes.
    pub(crate) fn saying(bytes: &'static [u8]) -> Self {
        Self::new(|conn| {
            if conn.request().is_some() {
                conn.send(bytes);
            }
        })
    }

    /// The requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// "200 OK" with this body.
pub(crate) fn ok(body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// A connection to a backend.
pub(crate) struct Conn {
    pub(crate) stream: TcpStream,
    pending: Vec<u8>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Conn {
    /// The next request, with its body; nothing if the proxy closed.
    pub(crate) fn request(&mut self) -> Option<Received> {
        let head = self.head()?;
        let mut request = Received { head, body: vec![], trailers: String::new() };
        if request.field("expect").is_some() {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if let Some(length) = request.field("content-length") {
            let length = length.parse().ok()?;
            request.body = self.take(length)?;
        } else if request.field("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).ok()?;
                if size == 0 {
                    break;
                }
                let chunk = self.take(size)?;
                request.body.extend_from_slice(&chunk);
                assert_eq!(self.line()?, "", "a line end is behind each chunk");
            }
            request.trailers = std::iter::from_fn(|| self.line().filter(|line| !line.is_empty())).collect();
        }
        self.received.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        Some(request)
    }

    /// The head of a request alone.
    pub(crate) fn head(&mut self) -> Option<String> {
        let lines: Vec<_> = std::iter::from_fn(|| self.line().filter(|line| !line.is_empty())).collect();
        (!lines.is_empty()).then(|| lines.join("\n").to_lowercase())
    }

    /// Sends; says whether the proxy was still there.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends nothing more.
    pub(crate) fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits until the proxy closes.
    pub(crate) fn wait_for_end(&mut self) {
        while self.fill() {}
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.pending.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.take(end + 2)?;
                return String::from_utf8(line[..end].to_vec()).ok();
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// The next bytes.
    pub(crate) fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.pending.len() < len {
            if !self.fill() {
                return None;
            }
        }
        Some(self.pending.drain(..len).collect())
    }

    fn fill(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let len = self.stream.read(&mut bytes).unwrap_or(0);
        self.pending.extend_from_slice(&bytes[..len]);
        len > 0
    }
}
