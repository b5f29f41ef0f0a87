//! Time to live, time to idle, times for a refresh, and when to collect what has expired.
//!
//! Expiry is decided on reads by comparing two numbers; the timer wheel only finds what to collect. A hit on an entry
//! with a time to idle therefore moves nothing in the wheel: when the wheel turns up an entry that was read since,
//! it goes back in with its new deadline.

use std::sync::Arc;
use std::time::Duration;

use crate::Slot;
use crate::clock::saturating_nanos;
use crate::config::Config;
use crate::rng::Rng;
use crate::wheel::Wheel;

/// Tells how long an entry may be served after this write; `None` means as long as the cache-wide setting says.
pub(crate) type ExpiryFn<K, V> = Arc<dyn Fn(&K, &V) -> Option<Duration> + Send + Sync>;

pub(crate) const NEVER: u64 = u64::MAX;

/// The cache-wide settings, in nanoseconds; `NEVER` where there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) time_to_live: u64,
    jitter_percent: u64,
    time_to_idle: u64,
    refresh_after: u64,
    grace: u64,
}

impl Lifetimes {
    pub(crate) fn new(config: &Config) -> Self {
        let nanos = |d: Option<Duration>| d.map_or(NEVER, saturating_nanos);
        Self {
            time_to_live: nanos(config.time_to_live),
            jitter_percent: u64::from(config.time_to_live_jitter_percent),
            time_to_idle: nanos(config.time_to_idle),
            refresh_after: nanos(config.refresh_after),
            grace: config.stale_if_error.map_or(0, saturating_nanos),
        }
    }

    /// Whether any entry's time is limited from the start.
    pub(crate) fn any(&self) -> bool {
        self.time_to_live != NEVER || self.hits_are_writes()
    }

    /// Whether hits have to know the time.
    pub(crate) fn hits_are_writes(&self) -> bool {
        self.time_to_idle != NEVER || self.refresh_after != NEVER
    }

    /// When an entry comes due for a refresh. One that lives shorter than the cache-wide time to live (by jitter, or by
    /// a time of its own) comes due sooner in the same proportion, or it would expire first.
    fn refresh_after_of(&self, time_to_live: u64) -> u64 {
        if self.refresh_after == NEVER || self.time_to_live == NEVER || time_to_live >= self.time_to_live {
            return self.refresh_after;
        }
        let scaled = u128::from(self.refresh_after) * u128::from(time_to_live) / u128::from(self.time_to_live);
        u64::try_from(scaled).unwrap_or(NEVER)
    }

    /// The time to live of a write without one of its own, shortened by jitter.
    fn jittered(&self, rng: &mut Rng) -> u64 {
        if self.time_to_live == NEVER || self.jitter_percent == 0 {
            return self.time_to_live;
        }
        // Divided first, so that no product overflows.
        let span = (self.time_to_live / 100).saturating_mul(self.jitter_percent);
        self.time_to_live - rng.below(span.saturating_add(1))
    }
}

/// What the clock says about one entry. Nanoseconds on the cache's timeline.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// End of the time to live.
    expires_at: u64,
    /// From here on a hit asks for a refresh.
    refresh_at: u64,
    /// Last read or write.
    accessed_at: u64,
}

const IMMORTAL: Record = Record { expires_at: NEVER, refresh_at: NEVER, accessed_at: NEVER };

/// The times of one shard's entries: 24 bytes an entry and 16 in the wheel. A shard without limits has none.
///
/// # Invariants
/// - **T1** Every resident entry whose grace will ever end is in the wheel, at a deadline no later than that end.
/// - **T2** No vacant slot is in the wheel.
pub(crate) struct Times {
    lifetimes: Lifetimes,
    records: Vec<Record>,
    wheel: Wheel,
    rng: Rng,
}

impl Times {
    pub(crate) fn new(lifetimes: Lifetimes, now: u64, rng: Rng) -> Self {
        Self { lifetimes, records: Vec::new(), wheel: Wheel::new(now), rng }
    }

    #[inline]
    fn record(&self, slot: Slot) -> Record {
        // Entries from before the first limit was set have no record yet.
        self.records.get(slot.index()).copied().unwrap_or(IMMORTAL)
    }

    /// The instant from which the entry may not be served.
    #[inline]
    fn fresh_until(&self, record: Record) -> u64 {
        let idle = record.accessed_at.saturating_add(self.lifetimes.time_to_idle);
        record.expires_at.min(idle)
    }

    /// Notes that a value was written. A `time_to_live` of its own goes before the cache-wide one and has no jitter.
    pub(crate) fn written(&mut self, slot: Slot, now: u64, time_to_live: Option<u64>) {
        let time_to_live = time_to_live.unwrap_or_else(|| self.lifetimes.jittered(&mut self.rng));
        let record = Record {
            expires_at: now.saturating_add(time_to_live),
            refresh_at: now.saturating_add(self.lifetimes.refresh_after_of(time_to_live)),
            accessed_at: now,
        };
        if self.records.len() <= slot.index() {
            self.records.resize(slot.index() + 1, IMMORTAL);
        }
        self.records[slot.index()] = record;
        self.schedule(slot);
    }

    /// Puts the entry into the wheel, to be collected when its grace ends.
    pub(crate) fn schedule(&mut self, slot: Slot) {
        let kept_until = self.fresh_until(self.record(slot)).saturating_add(self.lifetimes.grace);
        self.wheel.schedule(slot, kept_until);
    }

    /// Notes a hit.
    #[inline]
    pub(crate) fn touched(&mut self, slot: Slot, now: u64) {
        if let Some(record) = self.records.get_mut(slot.index()) {
            // A clock that goes backwards shortens no life.
            if record.accessed_at < now {
                record.accessed_at = now;
            }
        }
    }

    /// Whether the entry may be served at `now`.
    #[inline]
    pub(crate) fn is_fresh(&self, slot: Slot, now: u64) -> bool {
        now < self.fresh_until(self.record(slot))
    }

    /// How long the entry may still be served if nobody touches it, in nanoseconds; `None` for ever.
    pub(crate) fn remaining(&self, slot: Slot, now: u64) -> Option<u64> {
        match self.fresh_until(self.record(slot)) {
            NEVER => None,
            until => Some(until.saturating_sub(now)),
        }
    }

    /// How much of the time to live is left, whatever the time to idle says; `None` if it has no end.
    pub(crate) fn time_to_live_left(&self, slot: Slot, now: u64) -> Option<u64> {
        match self.record(slot).expires_at {
            NEVER => None,
            expires_at => Some(expires_at.saturating_sub(now)),
        }
    }

    /// Whether an expired entry may still stand in for a failed load.
    pub(crate) fn is_kept(&self, slot: Slot, now: u64) -> bool {
        let fresh_until = self.fresh_until(self.record(slot));
        now < fresh_until.saturating_add(self.lifetimes.grace)
    }

    /// Whether a hit at `now` should ask for a new value.
    #[inline]
    pub(crate) fn is_refresh_due(&self, slot: Slot, now: u64) -> bool {
        now >= self.record(slot).refresh_at
    }

    /// After a failed refresh: leaves the source alone for a tenth of the refresh time.
    pub(crate) fn postpone_refresh(&mut self, slot: Slot, now: u64) {
        let pause = (self.lifetimes.refresh_after / 10).max(1);
        if let Some(record) = self.records.get_mut(slot.index()) {
            record.refresh_at = now.saturating_add(pause);
        }
    }

    /// Forgets the entry.
    #[inline]
    pub(crate) fn forget(&mut self, slot: Slot) {
        self.wheel.cancel(slot);
    }

    /// `now`, or the latest time seen if that is later: a thread that read the clock before it waited for the lock comes
    /// with a time that others have overtaken. Whoever asks here whether an entry is over asks at this time throughout.
    pub(crate) fn overtaken(&self, now: u64) -> u64 {
        now.max(self.wheel.now())
    }

    /// An entry whose time, grace included, is over. The caller removes it. `moves` bounds, and counts down, how many
    /// entries this may move in the wheel: `None` with no move left means only that there may be more.
    ///
    /// `now` has been through [`overtaken`](Self::overtaken).
    #[inline]
    pub(crate) fn pop_expired(&mut self, now: u64, moves: &mut usize) -> Option<Slot> {
        while let Some(slot) = self.wheel.pop_expired_within(now, moves) {
            let fresh_until = self.fresh_until(self.record(slot));
            let kept_until = fresh_until.saturating_add(self.lifetimes.grace);
            if now >= kept_until {
                return Some(slot);
            }
            self.wheel.schedule(slot, kept_until);
            *moves = moves.saturating_sub(1);
            if *moves == 0 {
                return None;
            }
        }
        None
    }

    /// A time before which nothing needs to be collected.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    #[cfg(any(test, fuzzing, shuttle, feature = "testing"))]
    pub(crate) fn check_invariants(&self, is_resident: impl Fn(Slot) -> bool) {
        self.wheel.check_invariants();
        for index in 0..self.records.len() {
            let slot = Slot::new(u32::try_from(index).expect("slots are u32"));
            let scheduled = self.wheel.is_scheduled(slot);
            if is_resident(slot) {
                let fresh_until = self.fresh_until(self.record(slot));
                let mortal = fresh_until.saturating_add(self.lifetimes.grace) != NEVER;
                assert!(scheduled || !mortal, "T1: {slot:?} will expire unseen");
            } else {
                assert!(!scheduled, "T2: vacant {slot:?} is in the wheel");
            }
        }
    }
}
