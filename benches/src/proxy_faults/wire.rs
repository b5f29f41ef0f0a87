//! The connections of the load generator to one address, all on one thread.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::os::fd::{AsFd, AsRawFd};

use super::connection::{Connection, Step};
use super::sample::Outcome;
use crate::clock;

const TICK: Token = Token(usize::MAX);
const EVENTS_AT_ONCE: usize = 1024;

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    /// What it was sent as.
    pub(super) ticket: u32,
    /// When it was over, by [`clock::uptime`].
    pub(super) at: Duration,
    /// How.
    pub(super) outcome: Outcome,
}

/// Keep-alive connections to one address: the one used last is used next, and new ones are opened while all are busy.
pub(super) struct Wire {
    target: SocketAddr,
    limit: usize,
    poll: Poll,
    events: Events,
    connections: Vec<Option<Connection>>,
    /// Places in `connections` that are empty.
    vacant: Vec<usize>,
    /// Open connections without a request.
    idle: Vec<usize>,
    done: Vec<Done>,
    ticker: Option<TimerFd>,
}

impl Wire {
    /// At most `limit` connections to `target`, none of them opened yet.
    pub(super) fn new(target: SocketAddr, limit: usize) -> io::Result<Self> {
        Ok(Self {
            target,
            limit,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_AT_ONCE),
            connections: Vec::new(),
            vacant: Vec::new(),
            idle: Vec::new(),
            done: Vec::new(),
            ticker: None,
        })
    }

    /// Makes [`Wire::wait`] return once in each `gap`, which the kernel's timer keeps to some ten microseconds; the time-out
    /// of epoll counts whole milliseconds and rounds up.
    pub(super) fn tick_every(&mut self, gap: Duration) -> io::Result<()> {
        let ticker = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        ticker.set(Expiration::Interval(TimeSpec::from(gap)), TimerSetTimeFlags::empty())?;
        let fd = ticker.as_fd().as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&fd), TICK, Interest::READABLE)?;
        self.ticker = Some(ticker);
        Ok(())
    }

    /// Sends a request. False if all connections are busy and there may be no more of them.
    pub(super) fn send(&mut self, ticket: u32) -> io::Result<bool> {
        while let Some(index) = self.idle.pop() {
            if let Some(connection) = &mut self.connections[index] {
                let step = connection.send(ticket);
                self.settle(index, step);
                return Ok(true);
            }
        }
        let index = match self.vacant.pop() {
            Some(index) => index,
            None if self.connections.len() == self.limit => return Ok(false),
            None => {
                self.connections.push(None);
                self.connections.len() - 1
            }
        };
        let mut connection = Connection::open(self.target, Token(index), self.poll.registry())?;
        let step = connection.send(ticket);
        self.connections[index] = Some(connection);
        self.settle(index, step);
        Ok(true)
    }

    /// Waits until something is over, a tick has passed, or `patience` is at its end, and gives what is over.
    pub(super) fn wait(&mut self, patience: Duration) -> io::Result<Vec<Done>> {
        if self.done.is_empty() {
            match self.poll.poll(&mut self.events, Some(patience)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => self.take_events(),
            }
        }
        Ok(std::mem::take(&mut self.done))
    }

    /// Takes back the buffer that `wait` gave, so that it need not be allocated again.
    pub(super) fn reuse(&mut self, mut done: Vec<Done>) {
        if self.done.is_empty() {
            done.clear();
            self.done = done;
        }
    }

    /// The requests that still wait for their answers.
    pub(super) fn waiting(&self) -> impl Iterator<Item = u32> + '_ {
        self.connections.iter().flatten().filter_map(Connection::ticket)
    }

    fn take_events(&mut self) {
        if let Some(ticker) = &self.ticker {
            // The kernel sets a periodic timer again when it is read. Too early, there is nothing to read.
            let _ = ticker.wait();
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in events.iter().filter(|event| event.token() != TICK) {
            let Token(index) = event.token();
            if let Some(connection) = &mut self.connections[index] {
                let step = connection.proceed(event.is_writable());
                self.settle(index, step);
            }
        }
        self.events = events;
    }

    fn settle(&mut self, index: usize, step: Step) {
        match step {
            Step::Wait => {}
            Step::Kept(ticket, outcome) => {
                self.idle.push(index);
                self.done.push(Done { ticket, at: clock::uptime(), outcome });
            }
            Step::Closed(over) => {
                // Dropping the stream takes it out of the poll.
                self.connections[index] = None;
                self.idle.retain(|&other| other != index);
                self.vacant.push(index);
                if let Some((ticket, outcome)) = over {
                    self.done.push(Done { ticket, at: clock::uptime(), outcome });
                }
            }
        }
    }
}
