//! What a client is doing, so that one which does nothing cannot hold a connection for ever.
//!
//! | the client ...                         | since when           | limit            | then      |
//! |----------------------------------------|----------------------|------------------|-----------|
//! | takes none of the answer               | the write that stuck | `client-timeout` | cut off   |
//! | waits for its answer                   |                      | (the exchange's) |           |
//! | began a request head and does not end  | its first byte       | `header-timeout` | 408       |
//! | has no request                         | the last answer      | `idle-timeout`   | closed    |

use std::cell::Cell;
use std::time::Instant;

use crate::clock;
use crate::options::Limits;

/// Why a client's time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// It does not read its answer.
    Stalled,
    /// It does not end the head of its request.
    Head,
    /// It asks for nothing.
    Idle,
}

/// The state of one client connection; its socket and its requests report here.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Requests whose answer is not complete.
    active: Cell<u32>,
    head_since: Cell<Option<Instant>>,
    /// How often the client had to send until its head was complete.
    head_reads: Cell<u32>,
    stalled_since: Cell<Option<Instant>>,
    idle_since: Cell<Instant>,
}

impl Watch {
    /// A client that has just connected.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            active: Cell::new(0),
            head_since: Cell::new(None),
            head_reads: Cell::new(0),
            stalled_since: Cell::new(None),
            idle_since: Cell::new(now),
        }
    }

    /// Bytes came. The first ones since the last request begin the next one.
    #[inline]
    pub(crate) fn read(&self) {
        if self.active.get() == 0 {
            self.head_reads.set(self.head_reads.get().saturating_add(1));
            if self.head_since.get().is_none() {
                self.head_since.set(Some(clock::now()));
            }
        }
    }

    /// Bytes were taken, or the client's window is full.
    #[inline]
    pub(crate) fn wrote(&self, stuck: bool) {
        if stuck != self.stalled_since.get().is_some() {
            self.stalled_since.set(stuck.then(clock::now));
        }
    }

    /// A request has arrived; returns when. That is now, and also when it began if it came in one piece, which saves a
    /// look at the clock.
    #[inline]
    pub(crate) fn begin(&self) -> Instant {
        self.active.set(self.active.get() + 1);
        let began = self.head_since.take();
        let in_one_piece = self.head_reads.replace(0) == 1;
        began.filter(|_| in_one_piece).unwrap_or_else(clock::now)
    }

    /// The answer of a request is complete, or given up.
    #[inline]
    pub(crate) fn end(&self, now: Instant) {
        self.active.set(self.active.get() - 1);
        self.idle_since.set(now);
    }

    /// When the client's time is up, as things stand, and why.
    #[inline]
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<(Instant, Late)> {
        if let Some(since) = self.stalled_since.get() {
            Some((since + limits.client_timeout, Late::Stalled))
        } else if self.active.get() > 0 {
            None
        } else if let Some(since) = self.head_since.get() {
            Some((since + limits.header_timeout, Late::Head))
        } else {
            Some((self.idle_since.get() + limits.idle_timeout, Late::Idle))
        }
    }
}
