//! The two clocks of a queue, and one that a test moves.
//!
//! Leases and delays are lengths of time: they are measured by a clock that only goes forward. What outlives the process
//! (when a delayed message is due, when one expires) can only be written down in wall time. [`Timeline`] joins the two:
//! milliseconds since 1970, read from the wall once, when the queue is opened, and carried on by the monotonic clock.
//! A wall clock that jumps while the queue is open changes nothing that was sent before, and shifts what is named by a
//! time of day afterwards ([`Message::with_deliver_at`](crate::Message::with_deliver_at)) as it must. One that jumped
//! while the queue was closed makes the delays that were left over shorter or longer by the jump.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Where a queue reads the time.
pub trait Clock: Send + Sync {
    /// The time since some fixed moment; never goes back.
    fn elapsed(&self) -> Duration;

    /// [`Clock::elapsed`], late by up to a few milliseconds, for less: leases are looked at for each message.
    fn coarse(&self) -> Duration {
        self.elapsed()
    }

    /// The time of day; may jump either way.
    fn wall(&self) -> SystemTime;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn elapsed(&self) -> Duration {
        (**self).elapsed()
    }

    fn coarse(&self) -> Duration {
        (**self).coarse()
    }

    fn wall(&self) -> SystemTime {
        (**self).wall()
    }
}

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
    /// The same moment by the clock that `coarse` reads.
    #[cfg(target_os = "linux")]
    start_monotonic: Duration,
}

impl SystemClock {
    /// A clock whose `elapsed` begins now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            #[cfg(target_os = "linux")]
            start_monotonic: read(rustix::time::ClockId::Monotonic),
        }
    }
}

/// A quarter of the cost of `Instant::now`, at the resolution of the kernel's tick.
#[cfg(target_os = "linux")]
fn read(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    // Both are positive: the clock counts from the start of the machine.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[inline]
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    #[cfg(target_os = "linux")]
    #[inline]
    fn coarse(&self) -> Duration {
        read(rustix::time::ClockId::MonotonicCoarse).saturating_sub(self.start_monotonic)
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that stands until it is moved. Clones share the time.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tenfold_mq::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// let (elapsed, wall) = (clock.elapsed(), clock.wall());
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(clock.elapsed() - elapsed, Duration::from_secs(5));
/// clock.set_wall(wall); // Somebody set the time of day back.
/// assert_eq!(clock.elapsed() - elapsed, Duration::from_secs(5));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    times: Arc<Mutex<(Duration, SystemTime)>>,
}

impl ManualClock {
    /// A clock at 2020-01-01.
    pub fn new() -> Self {
        Self { times: Arc::new(Mutex::new((Duration::ZERO, UNIX_EPOCH + Duration::from_secs(1_577_836_800)))) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut times = self.times.lock();
        times.0 += by;
        times.1 += by;
    }

    /// Sets the time of day alone.
    pub fn set_wall(&self, wall: SystemTime) {
        self.times.lock().1 = wall;
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn elapsed(&self) -> Duration {
        self.times.lock().0
    }

    fn wall(&self) -> SystemTime {
        self.times.lock().1
    }
}

/// Milliseconds since 1970, read from the wall once and carried on by the monotonic clock.
pub(crate) struct Timeline {
    clock: Box<dyn Clock>,
    /// What `elapsed` was and what the wall said when the queue was opened.
    opened: (Duration, u64),
}

impl Timeline {
    pub(crate) fn new(clock: Box<dyn Clock>) -> Self {
        let opened = (clock.elapsed(), since_1970(clock.wall()));
        Self { clock, opened }
    }

    /// The time now, perhaps a few milliseconds ago: what was due by it is due.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.millis_at(self.clock.coarse())
    }

    /// This long from now, and not a millisecond less.
    pub(crate) fn after(&self, delay: Duration) -> u64 {
        self.opened.1.saturating_add(millis(self.clock.elapsed().saturating_sub(self.opened.0).saturating_add(delay)))
    }

    /// What a time of day is on the timeline: as far from now as it is from what the wall says now.
    pub(crate) fn at(&self, wall: SystemTime) -> u64 {
        match wall.duration_since(self.clock.wall()) {
            Ok(ahead) => self.after(ahead),
            Err(behind) => self.now().saturating_sub(millis(behind.duration())),
        }
    }

    /// The monotonic clock.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    fn millis_at(&self, elapsed: Duration) -> u64 {
        let since = elapsed.saturating_sub(self.opened.0);
        // Not `as_millis`, whose 128 bits cost more than the clock.
        let millis = since.as_secs().saturating_mul(1000).saturating_add(since.subsec_millis().into());
        self.opened.1.saturating_add(millis)
    }
}

/// Milliseconds, rounded up so that no wait is cut short.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The time of day that a point of the timeline stands for.
pub(crate) fn wall_from_millis(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

fn since_1970(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH).map_or(0, millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_wall_moves_no_timeline() {
        let clock = ManualClock::new();
        let line = Timeline::new(Box::new(clock.clone()));
        let start = line.now();
        clock.advance(Duration::from_secs(1));
        clock.set_wall(UNIX_EPOCH);
        assert_eq!(line.now(), start + 1_000);
        // Nine o'clock is as far away as the wall says now.
        assert_eq!(line.at(UNIX_EPOCH + Duration::from_secs(9)), start + 10_000);
        assert_eq!(line.at(UNIX_EPOCH - Duration::from_secs(9)), start - 8_000);
    }

    #[test]
    fn the_coarse_clock_is_behind_and_near() {
        let clock = SystemClock::new();
        for _ in 0..1000 {
            let (coarse, exact) = (clock.coarse(), clock.elapsed());
            assert!(coarse <= exact && exact - coarse < Duration::from_secs(1), "{coarse:?} {exact:?}");
        }
    }

    #[test]
    fn times_out_of_range_saturate() {
        assert_eq!(millis(Duration::MAX), u64::MAX);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(since_1970(UNIX_EPOCH - Duration::from_secs(1)), 0);
        wall_from_millis(u64::MAX);
    }
}
