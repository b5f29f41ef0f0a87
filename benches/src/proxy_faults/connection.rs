//! One keep-alive connection of the load generator.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::http::{Answer, Progress, answer};
use super::sample::Outcome;

/// Longer answers than this are not sent by any backend, nor by a proxy on its own.
const BUFFER_BYTES: usize = 4096;

/// What every request is: enough of a head to be like a browser's, without a body.
const REQUEST: &[u8] = b"GET /item HTTP/1.1\r\nhost: shop.example\r\nuser-agent: load\r\naccept: */*\r\n\r\n";

/// A connection, and the request that waits on it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    is_open: bool,
    ticket: Option<u32>,
    buffer: Box<[u8; BUFFER_BYTES]>,
    filled: usize,
}

/// What an event came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is complete yet.
    Wait,
    /// The request is over and the connection takes another.
    Kept(u32, Outcome),
    /// The connection is over, with what became of its request, if it had one.
    Closed(Option<(u32, Outcome)>),
}

impl Connection {
    /// Begins to connect; the request goes out as soon as the connection stands.
    pub(super) fn open(target: SocketAddr, token: Token, registry: &Registry) -> io::Result<Self> {
        let mut stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let buffer = Box::new([0; BUFFER_BYTES]);
        Ok(Self { stream, is_open: false, ticket: None, buffer, filled: 0 })
    }

    /// The request that waits here.
    pub(super) fn ticket(&self) -> Option<u32> {
        self.ticket
    }

    /// Sends a request, which the connection must be free for.
    pub(super) fn send(&mut self, ticket: u32) -> Step {
        debug_assert!(self.ticket.is_none());
        self.ticket = Some(ticket);
        self.filled = 0;
        if self.is_open { self.write() } else { Step::Wait }
    }

    /// Goes on after the kernel said that something has changed.
    pub(super) fn proceed(&mut self, is_writable: bool) -> Step {
        if !self.is_open {
            if !is_writable {
                return Step::Wait;
            }
            match self.stream.take_error() {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return self.close(Outcome::Refused),
            }
            match self.stream.peer_addr() {
                Ok(_) => self.is_open = true,
                Err(error) if error.kind() == ErrorKind::NotConnected => return Step::Wait,
                Err(_) => return self.close(Outcome::Refused),
            }
            if let step @ Step::Closed(_) = self.write() {
                return step;
            }
        }
        self.read()
    }

    /// Gives the connection up.
    pub(super) fn close(&mut self, outcome: Outcome) -> Step {
        Step::Closed(self.ticket.take().map(|ticket| (ticket, outcome)))
    }

    /// A request fits into any socket buffer, so that a part of one is as bad as none.
    fn write(&mut self) -> Step {
        if self.ticket.is_none() {
            return Step::Wait;
        }
        match self.stream.write(REQUEST) {
            Ok(written) if written == REQUEST.len() => Step::Wait,
            Ok(_) | Err(_) => self.close(Outcome::Cut),
        }
    }

    fn read(&mut self) -> Step {
        loop {
            let ended = match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => true,
                Ok(read) => {
                    self.filled += read;
                    false
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Wait,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return self.close(Outcome::Cut),
            };
            let Some(ticket) = self.ticket else {
                // The proxy closes a connection that nobody waits on, or says why it does (408).
                return Step::Closed(None);
            };
            match answer(&self.buffer[..self.filled], ended) {
                Ok(Progress::Whole(answer)) => {
                    self.ticket = None;
                    let outcome = outcome(answer);
                    let is_over = ended || answer.is_last;
                    return if is_over { Step::Closed(Some((ticket, outcome))) } else { Step::Kept(ticket, outcome) };
                }
                Ok(Progress::Partial) if !ended && self.filled < self.buffer.len() => {}
                Ok(Progress::Partial) | Err(_) => return self.close(Outcome::Cut),
            }
        }
    }
}

fn outcome(answer: Answer) -> Outcome {
    if answer.status == 200 { Outcome::Good(answer.backend) } else { Outcome::Status(answer.status) }
}
