//! What a client is doing, so that one which does nothing cannot hold a connection for ever.
//!
//! | the client ...                         | since when           | limit            | then      |
//! |----------------------------------------|----------------------|------------------|-----------|
//! | takes none of the answer               | the write that stuck | `client-timeout` | cut off   |
//! | takes none of one answer of many       | the part before      | `client-timeout` | let go    |
//! | waits for its answer                   |                      | (the exchange's) |           |
//! | resets its connection meanwhile        |                      |                  | let go    |
//! | began a request head and does not end  | its first byte       | `header-timeout` | 408       |
//! | has no request                         | the last answer      | `idle-timeout`   | closed    |
//!
//! An HTTP/2 client shares its connection among many answers and withholds its window from any of them, so these are
//! looked at one by one; and its bytes need not be a request's, so that it has no time for a head. It is told before its
//! connection is closed (RFC 9113 section 6.8).

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::answer::Download;
use crate::clock;
use crate::options::Limits;

/// Why a client's time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// It does not read its answer.
    Stalled,
    /// It does not read one of its answers.
    Download,
    /// It does not end the head of its request.
    Head,
    /// It asks for nothing.
    Idle,
}

/// How long a client that was told to leave may still send what was under way.
const FAREWELL: Duration = Duration::from_secs(1);

/// The state of one client connection; its socket and its requests report here.
pub(crate) struct Watch {
    /// Whether requests share the connection (HTTP/2).
    is_shared: bool,
    /// Requests whose answer is not complete.
    active: Cell<u32>,
    head_since: Cell<Option<Instant>>,
    /// How often the client had to send until its head was complete.
    head_reads: Cell<u32>,
    stalled_since: Cell<Option<Instant>>,
    idle_since: Cell<Instant>,
    /// When it was told to ask for nothing more.
    told_at: Cell<Option<Instant>>,
    /// Answers under way on a connection that is shared.
    downloads: RefCell<Vec<Weak<RefCell<Download>>>>,
}

impl Watch {
    /// A client that has just connected.
    pub(crate) fn new(is_shared: bool, now: Instant) -> Self {
        Self {
            is_shared,
            active: Cell::new(0),
            head_since: Cell::new(None),
            head_reads: Cell::new(0),
            stalled_since: Cell::new(None),
            idle_since: Cell::new(now),
            told_at: Cell::new(None),
            downloads: RefCell::default(),
        }
    }

    /// Bytes came. The first ones since the last request begin the next one.
    #[inline]
    pub(crate) fn read(&self) {
        if self.active.get() == 0 && !self.is_shared {
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

    /// Whether the client has a request, and nothing more is read of it until that is answered.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.active.get() > 0 && !self.is_shared
    }

    /// An answer is passed on as it comes.
    pub(crate) fn follow(&self, download: &Rc<RefCell<Download>>) {
        if self.is_shared {
            self.downloads.borrow_mut().push(Rc::downgrade(download));
        }
    }

    /// Since when the client has taken nothing of an answer, the one that it has left for the longest time.
    fn left_since(&self) -> Option<Instant> {
        let mut oldest = None::<Instant>;
        self.downloads.borrow_mut().retain(|download| {
            let Some(download) = download.upgrade() else { return false };
            if let Some(since) = download.borrow().left_since {
                oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
            }
            true
        });
        oldest
    }

    /// Ends the answers that the client has left for too long.
    pub(crate) fn cut_downloads(&self, limits: &Limits, now: Instant) {
        for download in self.downloads.borrow().iter().filter_map(Weak::upgrade) {
            let mut download = download.borrow_mut();
            if download.left_since.is_some_and(|since| since + limits.client_timeout <= now) {
                download.let_go();
            }
        }
    }

    /// The client is to leave. Says whether it is still to be told.
    pub(crate) fn tell_to_leave(&self, now: Instant) -> bool {
        let is_new = self.is_shared && self.told_at.get().is_none();
        if is_new {
            self.told_at.set(Some(now));
        }
        is_new
    }

    /// When the client's time is up, as things stand, and why.
    #[inline]
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<(Instant, Late)> {
        if let Some(since) = self.stalled_since.get() {
            Some((since + limits.client_timeout, Late::Stalled))
        } else if self.active.get() > 0 {
            let left_since = if self.is_shared { self.left_since() } else { None };
            left_since.map(|since| (since + limits.client_timeout, Late::Download))
        } else if let Some(told_at) = self.told_at.get() {
            Some((told_at.max(self.idle_since.get()) + FAREWELL, Late::Idle))
        } else if let Some(since) = self.head_since.get() {
            Some((since + limits.header_timeout, Late::Head))
        } else {
            Some((self.idle_since.get() + limits.idle_timeout, Late::Idle))
        }
    }
}
