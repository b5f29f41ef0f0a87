//! What all handles of a queue share.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::bodies::Bodies;
use crate::clock::Timeline;
use crate::core::{Core, Phase};
use crate::group::DEFAULT_GROUP;
use crate::hash::{Sip, random};
use crate::log::{Confirmation, Log, Lsn, Poisoned};
use crate::standby::{PILE_BYTES, Standby};
use crate::state::{Limits, Start, State};
use crate::sync::Mutex;
use crate::sync::atomic::AtomicU64;
use crate::upkeep::Upkeep;
use crate::wait::{Calls, Line, Waiter, Wish};
use crate::{Clock, Config, Failure, MessageId, Ticket};

/// The lock and the time, apart from the log, so that the log can call back when something is confirmed.
pub(crate) struct Hub {
    pub(crate) core: Mutex<Core>,
    pub(crate) timeline: Timeline,
}

/// A queue with a log has one; see [`crate::upkeep`].
pub(crate) struct Disk {
    pub(crate) log: Log,
    /// Whoever holds it writes checkpoints and gives segments back.
    pub(crate) upkeep: Mutex<Upkeep>,
    /// Bytes appended since somebody last looked at memory and segments.
    pub(crate) unattended: AtomicU64,
    /// When it was last synced, on the timeline.
    pub(crate) synced_ms: AtomicU64,
    /// A driver that can be woken to write.
    pub(crate) standby: Standby,
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    /// `config.lease`, which each delivery needs.
    pub(crate) lease_ms: u64,
    pub(crate) identity: u64,
    /// What receipts name: half of it the queue, half this opening. What was delivered before a crash need not be in the
    /// log, so the numbers of deliveries alone may come twice.
    pub(crate) mark: u64,
    /// Hashes deduplication ids: the same for the queue's whole life.
    pub(crate) ids: Sip,
    /// Hashes keys.
    pub(crate) keys: Sip,
    pub(crate) hub: Arc<Hub>,
    pub(crate) disk: Option<Disk>,
}

/// A message that was taken, or that had been sent before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) id: MessageId,
    pub(crate) lsn: Lsn,
    pub(crate) is_duplicate: bool,
    /// Bytes in the log that nobody writes yet.
    pub(crate) unwritten: usize,
}

impl Accepted {
    /// For whoever does not wait now: what is piled up may be written by a driver.
    #[inline]
    pub(crate) fn ticket(self, shared: &Arc<Shared>) -> Ticket {
        if self.unwritten >= PILE_BYTES {
            if let Some(disk) = &shared.disk {
                disk.standby.call();
            }
        }
        Ticket::new(Arc::clone(shared), self.id, self.lsn, self.is_duplicate)
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    Now,
    Forever,
    /// The monotonic clock says this.
    Elapsed(Duration),
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Settlement<'a> {
    Ack,
    Nack(Duration),
    Extend(Duration),
    Dead(&'a str),
    /// Given back uncounted.
    Release,
}

/// The bits of a mark that are the queue's.
pub(crate) const QUEUE_MARK: u64 = u64::MAX << 32;

impl Shared {
    /// A queue without a log.
    pub(crate) fn in_memory(config: Config, clock: Box<dyn Clock>) -> Self {
        let mut state = State::new(Limits { journal: false, ..limits(&config) });
        // The first group there is: it cannot be one too many.
        let _ = state.add_group(DEFAULT_GROUP, Start::Oldest);
        let core = Core::new(state, Some(Bodies::new()), config.max_messages, config.max_bytes);
        let hub = Hub { core: Mutex::new(core), timeline: Timeline::new(clock) };
        Self::new(config, random(), Sip::new([random(), random()]), Arc::new(hub), None)
    }

    pub(crate) fn new(config: Config, identity: u64, keys: Sip, hub: Arc<Hub>, disk: Option<Disk>) -> Self {
        let ids = Sip::new([identity, !identity]);
        let lease_ms = crate::clock::millis(config.lease);
        let mark = identity & QUEUE_MARK | random() & !QUEUE_MARK;
        Self { config, lease_ms, identity, mark, ids, keys, hub, disk }
    }

    pub(crate) fn log(&self) -> Option<&Log> {
        self.disk.as_ref().map(|disk| &disk.log)
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.hub.timeline.now()
    }

    pub(crate) fn until(&self, timeout: Duration) -> Until {
        if timeout.is_zero() {
            return Until::Now;
        }
        self.hub.timeline.elapsed().checked_add(timeout).map_or(Until::Forever, Until::Elapsed)
    }

    /// The time left; `None` without end.
    pub(crate) fn left(&self, until: Until) -> Option<Duration> {
        match until {
            Until::Now => Some(Duration::ZERO),
            Until::Forever => None,
            Until::Elapsed(end) => Some(end.saturating_sub(self.hub.timeline.elapsed())),
        }
    }

    /// Does something under the lock and calls afterwards whoever has something to do because of it.
    #[inline]
    pub(crate) fn with_core<T>(&self, change: impl FnOnce(&mut Core) -> T) -> T {
        let mut calls = Calls::default();
        let mut core = self.hub.core.lock();
        let result = change(&mut core);
        core.call(&mut calls);
        drop(core);
        result
    }

    /// Something was appended whose sender does not wait: has a consumer that waits write it.
    pub(crate) fn call_writer(&self) {
        let mut calls = Calls::default();
        let core = self.hub.core.lock();
        core.call_writer(&mut calls);
        drop(core);
    }

    /// Whether the log can still confirm anything. Whoever finds nothing and waits asks under the lock, after which it is
    /// called.
    pub(crate) fn check_log(&self) -> Result<(), Failure> {
        Ok(self.log().map_or(Ok(()), Log::check)?)
    }

    pub(crate) fn is_confirmed(&self, lsn: Lsn) -> bool {
        self.log().is_none_or(|log| log.confirmed() >= lsn)
    }

    /// Blocks until the log is confirmed up to there.
    pub(crate) fn confirm(&self, lsn: Lsn) -> Result<(), Failure> {
        let Some(disk) = &self.disk else { return Ok(()) };
        if disk.log.confirmed() < lsn {
            disk.log.wait(lsn)?;
        }
        self.attend(disk);
        Ok(())
    }

    /// The same for a task, which keeps its place among those that wait in `confirmation`.
    pub(crate) fn poll_confirm(
        &self,
        lsn: Lsn,
        confirmation: &mut Option<Confirmation>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let Some(disk) = &self.disk else { return Poll::Ready(Ok(())) };
        if disk.log.confirmed() >= lsn {
            *confirmation = None;
            return Poll::Ready(Ok(()));
        }
        let waiting = confirmation.get_or_insert_with(|| disk.log.confirmation(lsn));
        let polled = std::pin::Pin::new(waiting).poll(context);
        if polled.is_ready() {
            *confirmation = None;
            self.attend(disk);
        }
        polled.map(|outcome| outcome.map_err(Failure::from))
    }

    pub(crate) fn phase(&self) -> Phase {
        self.hub.core.lock().phase
    }
}

pub(crate) fn limits(config: &Config) -> Limits {
    let retention = crate::state::Retention {
        age_ms: crate::clock::millis(config.retention.age),
        bytes: config.retention.bytes,
        messages: u64::MAX,
    };
    Limits {
        max_attempts: config.max_attempts,
        max_groups: config.max_groups,
        max_leased: config.max_leased.into(),
        max_keys: config.max_keys,
        max_dead_letters: config.max_dead_letters,
        max_ids: config.max_deduplication_ids,
        ageing: config.ageing,
        retention,
        ..Limits::default()
    }
}

impl From<Poisoned> for Failure {
    fn from(poisoned: Poisoned) -> Self {
        Self::from(poisoned.io_error())
    }
}

/// Which line somebody stands in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spot {
    Group(crate::state::GroupId),
    Room,
    Drained,
}

impl Spot {
    fn line(self, core: &mut Core) -> Option<&mut Line> {
        match self {
            Self::Group(id) => core.seat(id).map(|seat| &mut seat.line),
            Self::Room => Some(&mut core.room),
            Self::Drained => Some(&mut core.drainers),
        }
    }
}

/// Somebody's place in a line, given up when it is dropped; a call that came and was not used is passed on.
pub(crate) struct Place<'a> {
    hub: &'a Hub,
    spot: Spot,
    wish: Wish,
    waiter: Option<Arc<Waiter>>,
}

impl<'a> Place<'a> {
    pub(crate) fn new(hub: &'a Hub, spot: Spot) -> Self {
        Self { hub, spot, wish: Wish::default(), waiter: None }
    }

    /// Among those that wait for room.
    pub(crate) fn for_room(hub: &'a Hub, wish: Wish) -> Self {
        Self { hub, spot: Spot::Room, wish, waiter: None }
    }

    pub(crate) fn until(&self) -> Option<u64> {
        self.wish.until
    }

    /// Joins the line, if it is not in it. `waker`: as a task, else as a thread.
    pub(crate) fn join(&mut self, core: &mut Core, waker: Option<&std::task::Waker>) -> &Arc<Waiter> {
        if let Some(called) = self.waiter.take_if(|waiter| waiter.is_called()) {
            // It was called for nothing. If it looked at the clock it does no longer, and a new one may.
            core.keeper.take_if(|keeper| Arc::ptr_eq(&keeper.waiter, &called));
        }
        let waiter = self.waiter.take();
        let is_in_line = waiter.is_some();
        let waiter = waiter.unwrap_or_else(|| match waker {
            Some(waker) => Waiter::task(waker, self.wish),
            None => Waiter::thread_for(self.wish),
        });
        if let Some(waker) = waker.filter(|_| is_in_line) {
            waiter.set_waker(waker);
        }
        core.is_watched = true;
        if !is_in_line {
            core.room_until = core.room_until.into_iter().chain(self.wish.until).min();
            // Without its group there is no line, and the next look says so.
            if let Some(line) = self.spot.line(core) {
                line.join(Arc::clone(&waiter));
            }
        }
        self.waiter.insert(waiter)
    }

    /// Blocks until it is called, or at most for this long; perhaps shorter. Only once it has joined.
    pub(crate) fn park(&self, timeout: Option<Duration>) {
        if let Some(waiter) = &self.waiter {
            waiter.park(timeout);
        }
    }

    /// Has what it waited for: leaves the line, and needs no call.
    pub(crate) fn served(&mut self, core: &mut Core, calls: &mut Calls) {
        let Some(waiter) = self.waiter.take() else { return };
        if let Some(line) = self.spot.line(core) {
            line.remove(&waiter);
        }
        give_up_keeping(core, &waiter, calls);
    }
}

/// Somebody else must look at the clock.
fn give_up_keeping(core: &mut Core, waiter: &Arc<Waiter>, calls: &mut Calls) {
    if core.keeper.as_ref().is_some_and(|keeper| Arc::ptr_eq(&keeper.waiter, waiter)) {
        core.keeper = None;
        if core.next_deadline().is_some() {
            // A task could not do it.
            if let Some(thread) = core.seats.iter().find_map(|seat| seat.line.first_thread()) {
                calls.nudge(thread);
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        let mut calls = Calls::default();
        let mut core = self.hub.core.lock();
        if let Some(line) = self.spot.line(&mut core) {
            line.leave(&waiter, &mut calls);
        }
        give_up_keeping(&mut core, &waiter, &mut calls);
        drop(core);
    }
}
