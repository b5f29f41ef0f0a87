//! A node's modelled service time: a few slots, one line, first come first served.
//!
//! The station keeps the schedule of its slots instead of holding a lock for the time of a sleep. When a request comes,
//! the slot that is free first is known, hence so are the start (now or when that slot frees) and the end (start plus a
//! drawn time); the request then sleeps until that instant. The runtime's timer rounds up to a millisecond, which would
//! slow a 10 ms server by 5 to 10 % if each late wake-up delayed the next start. Here a late wake-up delays its own
//! answer alone: the schedule, and with it the capacity, is exact.
//!
//! # Invariants
//! I1: `free_at` has one instant for each slot. I2: `starts` is ascending and holds the requests that still wait, at most
//! `max_waiting` after they are counted.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

use crate::clock::{self, Instant};
use crate::cost::Service;
use crate::rng::Rng;

/// Apart from the lane of arrivals: one seed for both must not make long gaps meet long services.
const SERVICE_LANE: u64 = 1;

/// Why a station cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StationError {
    /// A node that serves nothing.
    #[error("a station needs at least one slot")]
    NoSlots,
    /// A mean service time of zero; use [`Station::instant`] for that.
    #[error("a station needs a mean service time above zero")]
    NoServiceTime,
}

/// The line is full; answer with 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{max_waiting} requests are waiting already")]
pub struct Overloaded {
    /// The bound of the line.
    pub max_waiting: u32,
}

/// What one request got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Time in the line.
    pub waited: Duration,
    /// Time in the slot.
    pub service: Duration,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StationStats {
    /// Requests taken.
    pub taken: u64,
    /// Requests refused as the line was full.
    pub refused: u64,
    /// Slot time given out, in seconds; divided by slots and elapsed time it is the utilisation.
    pub busy_seconds: f64,
}

/// The slots of one node and the line in front of them.
pub struct Station {
    schedule: Option<Mutex<Schedule>>,
}

struct Schedule {
    mean: Duration,
    max_waiting: u32,
    free_at: BinaryHeap<Reverse<Instant>>,
    starts: VecDeque<Instant>,
    rng: Rng,
    stats: StationStats,
}

impl Station {
    /// A station of `service` with a line of at most `max_waiting`, its times drawn from `seed`.
    ///
    /// Give every node a seed of its own: nodes with the same one draw the same times.
    ///
    /// # Errors
    /// No slots or a mean of zero.
    pub fn new(service: Service, max_waiting: u32, seed: u64) -> Result<Self, StationError> {
        if service.slots == 0 {
            return Err(StationError::NoSlots);
        }
        if service.mean_us == 0 {
            return Err(StationError::NoServiceTime);
        }
        let idle = Reverse(clock::now());
        let schedule = Schedule {
            mean: service.mean(),
            max_waiting,
            free_at: std::iter::repeat_n(idle, service.slots as usize).collect(),
            starts: VecDeque::new(),
            rng: Rng::new(seed).fork(SERVICE_LANE),
            stats: StationStats::default(),
        };
        Ok(Self { schedule: Some(Mutex::new(schedule)) })
    }

    /// A station that adds no time and refuses nobody.
    pub fn instant() -> Self {
        Self { schedule: None }
    }

    /// Takes a place in the line, then a slot for a drawn service time, and returns when that time is over.
    ///
    /// # Errors
    /// The line is full.
    ///
    /// # Cancel safety
    /// A place once taken stays taken: like a server that does not notice that its client has gone, the slot works the
    /// abandoned request off.
    pub async fn serve(&self) -> Result<Served, Overloaded> {
        self.serve_scaled(1.0).await
    }

    /// As [`serve`](Self::serve), for a request that is `factor` times as much work as the mean one.
    ///
    /// A factor that is negative or not a number counts as 0.
    ///
    /// # Errors
    /// The line is full.
    ///
    /// # Cancel safety
    /// As [`serve`](Self::serve).
    pub async fn serve_scaled(&self, factor: f64) -> Result<Served, Overloaded> {
        let Some(schedule) = &self.schedule else {
            return Ok(Served::default());
        };
        let factor = if factor.is_finite() { factor.max(0.0) } else { 0.0 };
        let arrival = clock::now();
        let served = schedule.lock().unwrap_or_else(PoisonError::into_inner).take(arrival, factor)?;
        clock::sleep_until(arrival + served.waited + served.service).await;
        Ok(served)
    }

    /// Requests in the line at this instant, those in slots not counted.
    pub fn waiting(&self) -> usize {
        let Some(schedule) = &self.schedule else { return 0 };
        let mut schedule = schedule.lock().unwrap_or_else(PoisonError::into_inner);
        schedule.leave_line(clock::now());
        schedule.starts.len()
    }

    /// Counts since the start; all zero for an instant station.
    pub fn stats(&self) -> StationStats {
        self.schedule
            .as_ref()
            .map_or_else(StationStats::default, |s| s.lock().unwrap_or_else(PoisonError::into_inner).stats)
    }
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Station").field("modelled", &self.schedule.is_some()).field("stats", &self.stats()).finish()
    }
}

impl Schedule {
    fn take(&mut self, arrival: Instant, factor: f64) -> Result<Served, Overloaded> {
        self.leave_line(arrival);
        let Reverse(free) = *self.free_at.peek().expect("I1: a station has at least one slot");
        let start = free.max(arrival);
        if start > arrival && self.starts.len() >= self.max_waiting as usize {
            self.stats.refused += 1;
            return Err(Overloaded { max_waiting: self.max_waiting });
        }
        let service = self.rng.exponential(self.mean).mul_f64(factor);
        self.free_at.pop();
        self.free_at.push(Reverse(start + service));
        if start > arrival {
            self.starts.push_back(start);
        }
        self.stats.taken += 1;
        self.stats.busy_seconds += service.as_secs_f64();
        Ok(Served { waited: start - arrival, service })
    }

    fn leave_line(&mut self, now: Instant) {
        while self.starts.front().is_some_and(|start| *start <= now) {
            self.starts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
