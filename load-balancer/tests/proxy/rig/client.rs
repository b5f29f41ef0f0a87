//! A client that sends what it is told, right or wrong, and sees what comes back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::process::PATIENCE;

/// An answer, decoded.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In small letters.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection to the proxy.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pending: Vec<u8>,
}

/// What the simplest request gets, on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    let mut client = Client::connect(address);
    client.get(path)
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the proxy accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
        stream.set_nodelay(true).expect("it is a socket");
        Self { stream, pending: vec![] }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes());
    }

    /// Sends; the proxy may have had enough before the end.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// A request without a body, and its answer.
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        self.answer()
    }

    /// Sends nothing more.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("it is connected");
    }

    /// Leaves without a goodbye, as a process that is killed with unread bytes does.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("it is a socket");
    }

    /// The next answer to a request that may have a body in return.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer(false).expect("there is an answer")
    }

    /// The next answer, to a HEAD.
    #[track_caller]
    pub(crate) fn head_answer(&mut self) -> Answer {
        self.try_answer(true).expect("there is an answer")
    }

    /// The next answer, if a whole one comes.
    pub(crate) fn try_answer(&mut self, is_head: bool) -> Option<Answer> {
        let mut head = String::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            head.push_str(&line.to_lowercase());
            head.push('\n');
        }
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut answer = Answer { status, head, body: vec![] };
        if is_head || status < 200 || status == 204 || status == 304 {
            return Some(answer);
        }
        answer.body = if let Some(length) = answer.field("content-length") {
            let length = length.parse().ok()?;
            self.take(length)?
        } else if answer.field("transfer-encoding").is_some() {
            self.chunks()?
        } else {
            self.rest()
        };
        Some(answer)
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = vec![];
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).ok()?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Some(body);
            }
            body.extend_from_slice(&self.take(size)?);
            self.line().filter(String::is_empty)?;
        }
    }

    /// All that comes until the proxy closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.pending)
    }

    /// Whether the proxy closed, with nothing more to say.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }

    /// The next line.
    pub(crate) fn line(&mut self) -> Option<String> {
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
        let mut bytes = [0; 16 << 10];
        let len = match self.stream.read(&mut bytes) {
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came for {PATIENCE:?}"),
            Err(_) => 0,
        };
        self.pending.extend_from_slice(&bytes[..len]);
        len > 0
    }
}
