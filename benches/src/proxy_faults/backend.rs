//! A backend: one process, one thread, small answers, and faults on demand.
//!
//! | path | answer |
//! |---|---|
//! | `/health` | 200, whatever else is broken |
//! | `/control/fault?delay_ms=N&error_percent=N&status=N` | 200; from now on answers are late by so much, and so many of a hundred have that status |
//! | `/control/arrivals` | when requests came in, microseconds of [`clock::uptime`], one a line |
//! | any other | 200 with 128 bytes that say which backend wrote them |
//!
//! It stops, goes on and dies by the signals for that, like any process.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

use super::http::{self, SIGNATURE};
use crate::clock;
use crate::rng::Rng;

/// Of the body of an answer, as in the measurements that set the goals.
const BODY_BYTES: usize = 128;

/// Arrivals remembered; far more than a run with a fault has, far less than a run for throughput.
const MAX_ARRIVALS: usize = 500_000;

const LISTENER: Token = Token(usize::MAX);
const REQUEST_BYTES: usize = 8192;
const EVENTS_AT_ONCE: usize = 1024;

/// What is wrong with a backend that answers at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How much later than it could it answers.
    pub delay: Duration,
    /// Of a hundred answers, how many are errors, drawn at random.
    pub error_percent: u8,
    /// Their status.
    pub status: u16,
}

impl Fault {
    /// Nothing wrong.
    pub const NONE: Self = Self { delay: Duration::ZERO, error_percent: 0, status: 500 };

    /// The path that asks for this.
    #[must_use]
    pub fn path(&self) -> String {
        let Self { delay, error_percent, status } = self;
        format!("{FAULT_PATH}?delay_ms={}&error_percent={error_percent}&status={status}", delay.as_millis())
    }

    /// Reads the path; what it does not name is as in [`Fault::NONE`].
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let mut fault = Self::NONE;
        for pair in path.strip_prefix(FAULT_PATH)?.trim_start_matches('?').split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=')? {
                ("delay_ms", ms) => fault.delay = Duration::from_millis(ms.parse().ok()?),
                ("error_percent", percent) => fault.error_percent = percent.parse().ok()?,
                ("status", status) => fault.status = status.parse().ok()?,
                _ => return None,
            }
        }
        Some(fault)
    }
}

const FAULT_PATH: &str = "/control/fault";

/// Where the arrivals are told.
pub const ARRIVALS_PATH: &str = "/control/arrivals";

/// Serves as backend `number` until the process ends.
///
/// # Errors
///
/// What binding, or waiting for sockets, gave.
pub fn serve(address: SocketAddr, number: u8) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut site = Site::new(number);
    let mut connections = Connections::default();
    let mut late: VecDeque<Late> = VecDeque::new();
    let mut events = Events::with_capacity(EVENTS_AT_ONCE);
    loop {
        let patience = late.front().map(|next| next.due.saturating_sub(clock::uptime()));
        match poll.poll(&mut events, patience) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => connections.accept(&listener, poll.registry())?,
                Token(index) => connections.serve(index, event, &mut site, &mut late),
            }
        }
        // Delays change with the fault, so that the order may be off by one change: an answer then is later still.
        while late.front().is_some_and(|next| next.due <= clock::uptime()) {
            if let Some(next) = late.pop_front() {
                connections.answer_late(&next);
            }
        }
    }
}

/// An answer whose time has not come.
struct Late {
    due: Duration,
    index: usize,
    /// Which of the connections that had this place it is for.
    serial: u64,
    answer: Vec<u8>,
}

/// What a request gets, and when.
enum Reply {
    Now(Vec<u8>),
    After(Duration, Vec<u8>),
}

/// The site's pages and what is wrong with them.
struct Site {
    good: Vec<u8>,
    body: Vec<u8>,
    fault: Fault,
    rng: Rng,
    arrivals: Vec<Duration>,
}

impl Site {
    fn new(number: u8) -> Self {
        let mut body = [SIGNATURE, &[b'0' + number % 10, b'\n']].concat();
        body.resize(BODY_BYTES, b'.');
        let rng = Rng::new(u64::from(number) + 1);
        Self { good: page(200, &body), body, fault: Fault::NONE, rng, arrivals: Vec::new() }
    }

    fn reply(&mut self, path: &str) -> Reply {
        if path == "/health" {
            return Reply::Now(page(200, b"well"));
        }
        if path == ARRIVALS_PATH {
            let lines: String = self.arrivals.iter().map(|at| format!("{}\n", at.as_micros())).collect();
            return Reply::Now(page(200, lines.as_bytes()));
        }
        if let Some(fault) = Fault::from_path(path) {
            self.fault = fault;
            return Reply::Now(page(200, b"so be it"));
        }
        if self.arrivals.len() < MAX_ARRIVALS {
            self.arrivals.push(clock::uptime());
        }
        let percent = self.fault.error_percent;
        let is_error = percent > 0 && self.rng.below(100) < u64::from(percent);
        let answer = if is_error { page(self.fault.status, &self.body) } else { self.good.clone() };
        if self.fault.delay.is_zero() { Reply::Now(answer) } else { Reply::After(self.fault.delay, answer) }
    }
}

fn page(status: u16, body: &[u8]) -> Vec<u8> {
    let mut page = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    page.extend_from_slice(body);
    page
}

#[derive(Default)]
struct Connections {
    open: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    next_serial: u64,
}

struct Connection {
    stream: TcpStream,
    serial: u64,
    request: Vec<u8>,
    /// What the socket's buffer had no room for.
    unsent: Vec<u8>,
    /// Whether the client wants no other answer.
    is_last: bool,
}

impl Connections {
    fn accept(&mut self, listener: &TcpListener, registry: &Registry) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The client may have gone again.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let index = self.vacant.pop().unwrap_or_else(|| {
                self.open.push(None);
                self.open.len() - 1
            });
            registry.register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            let serial = self.next_serial;
            self.next_serial += 1;
            self.open[index] =
                Some(Connection { stream, serial, request: Vec::new(), unsent: Vec::new(), is_last: false });
        }
    }

    fn serve(&mut self, index: usize, event: &Event, site: &mut Site, late: &mut VecDeque<Late>) {
        let Some(connection) = &mut self.open[index] else { return };
        let replied = connection.flush().and_then(|()| match connection.read(site)? {
            Some(Reply::Now(answer)) => connection.send(&answer),
            Some(Reply::After(delay, answer)) => {
                let serial = connection.serial;
                late.push_back(Late { due: clock::uptime() + delay, index, serial, answer });
                Ok(())
            }
            None => Ok(()),
        });
        // Clients here end a connection only once they want no more answers.
        if replied.is_err() || event.is_read_closed() || connection.is_over() {
            self.open[index] = None;
            self.vacant.push(index);
        }
    }

    fn answer_late(&mut self, late: &Late) {
        // Whoever asked may have given up.
        if let Some(connection) = &mut self.open[late.index]
            && connection.serial == late.serial
            && (connection.send(&late.answer).is_err() || connection.is_over())
        {
            self.open[late.index] = None;
            self.vacant.push(late.index);
        }
    }
}

impl Connection {
    /// Reads what there is; the reply if that completes a request. A request that follows at once waits in the socket for
    /// its turn only if it was pipelined, which no proxy here does.
    fn read(&mut self, site: &mut Site) -> io::Result<Option<Reply>> {
        let mut bytes = [0; REQUEST_BYTES];
        let read = match self.stream.read(&mut bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if read == bytes.len() || self.request.len() + read > REQUEST_BYTES {
            return Err(ErrorKind::InvalidData.into());
        }
        // Nearly always a request comes whole, and is read where it lies.
        let request = if self.request.is_empty() {
            &bytes[..read]
        } else {
            self.request.extend_from_slice(&bytes[..read]);
            &self.request
        };
        let path = http::request_path(request).map_err(|garbage| io::Error::new(ErrorKind::InvalidData, garbage))?;
        match path.map(|(path, is_last)| (site.reply(path), is_last)) {
            Some((reply, is_last)) => {
                self.request.clear();
                self.is_last = is_last;
                Ok(Some(reply))
            }
            None => {
                if self.request.is_empty() {
                    self.request.extend_from_slice(&bytes[..read]);
                }
                Ok(None)
            }
        }
    }

    fn send(&mut self, answer: &[u8]) -> io::Result<()> {
        if self.unsent.is_empty() {
            match self.stream.write(answer) {
                Ok(written) if written == answer.len() => return Ok(()),
                Ok(written) => self.unsent.extend_from_slice(&answer[written..]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.unsent.extend_from_slice(answer),
                Err(error) => return Err(error),
            }
            return self.flush();
        }
        self.unsent.extend_from_slice(answer);
        Ok(())
    }

    /// Whether the last answer has left. One that is late has not.
    fn is_over(&self) -> bool {
        self.is_last && self.unsent.is_empty()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_by_path_and_back() {
        let fault = Fault { delay: Duration::from_millis(200), error_percent: 50, status: 503 };
        for fault in [fault, Fault::NONE] {
            assert_eq!(Fault::from_path(&fault.path()), Some(fault));
        }
        assert_eq!(Fault::from_path("/control/fault"), Some(Fault::NONE));
        for bad in ["/", "/control/fault?delay=1", "/control/fault?error_percent=300", "/control/fault?status"] {
            assert_eq!(Fault::from_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_site_fails_as_often_as_asked() {
        let mut site = Site::new(2);
        let errors = |site: &mut Site| {
            let is_error = |reply| matches!(reply, Reply::Now(answer) if answer.starts_with(b"HTTP/1.1 500 "));
            (0..2_000).filter(|_| is_error(site.reply("/item"))).count()
        };
        assert_eq!(errors(&mut site), 0);
        site.reply("/control/fault?error_percent=50");
        assert!((900..1_100).contains(&errors(&mut site)));
        assert!(matches!(site.reply("/health"), Reply::Now(answer) if answer.starts_with(b"HTTP/1.1 200 ")));
        site.reply("/control/fault?error_percent=100");
        assert_eq!(errors(&mut site), 2_000);
        assert_eq!(site.arrivals.len(), 6_000, "checks and control are no arrivals");
    }

    #[test]
    fn a_late_site_says_how_late() {
        let mut site = Site::new(0);
        site.reply("/control/fault?delay_ms=200");
        assert!(matches!(site.reply("/"), Reply::After(delay, _) if delay == Duration::from_millis(200)));
        assert!(matches!(site.reply("/health"), Reply::Now(_)));
    }

    #[test]
    fn pages_are_signed() {
        let site = Site::new(2);
        let Ok(http::Progress::Whole(answer)) = http::answer(&site.good, false) else { panic!("no answer") };
        assert_eq!((answer.status, answer.backend, answer.is_last), (200, Some(2), false));
        assert!(site.good.ends_with(b"."));
        assert_eq!(site.body.len(), BODY_BYTES);
    }
}
