//! Where the rate goes next: pure, so that it can be tested without a load.

use std::time::Duration;

use super::window::Tally;
use super::{CapacityPlan, Promise};

/// The search begins a little below what is expected: an overload leaves a backlog that lasts.
const FIRST_RATE_SHARE: f64 = 0.97;
/// Of the log rate, for a window with twice the allowed share of slow requests.
const FIRST_STEP: f64 = 0.05;
const LEAST_STEP: f64 = 0.015;
const SHRINK_AT_TURN: f64 = 0.7;
/// When the verdict has not changed sides after some windows, or is hopeless, steps grow: the expectation was wrong.
const GROWTH_BEFORE_TURN: f64 = 1.5;
const PATIENCE: u32 = 5;
/// Less of a push than this means that the limit is near,
const FAR_PUSH: f64 = 0.4;
/// if more requests than this exceed it: a small window has one or two by chance.
const CHANCE: u64 = 2;
const GREATEST_STEP: f64 = 0.3;
const GAIN: f64 = 0.5;
/// One very bad window moves the rate no further than so many steps.
const MAX_PUSH: f64 = 3.0;
/// A window that was broken off: it says that the rate is too high, not by how much.
const HOPELESS_PUSH: f64 = 2.0;
/// The average leaves this share of the budget out, in which the rate comes near.
const BURN_IN: f64 = 0.3;
/// So much of the budget at least must be averaged, even if that takes more time than planned.
const LEAST_AVERAGED: f64 = 0.25;
const MAX_OVERTIME: f64 = 2.5;
/// And so many times the budget, if the limit has not come near by then: no figure at all is worse than a late one.
const MAX_OVERTIME_FAR: f64 = 5.0;
/// Rates further than this from the expected one are not tried.
const MAX_FACTOR: f64 = 20.0;
/// The 99th percentile of fewer requests is no verdict.
const LEAST_REQUESTS: u64 = 200;
/// The share of requests that a 99th percentile leaves above itself.
const ALLOWED_ABOVE: f64 = 0.01;

/// One repeat's way to its capacity.
#[derive(Debug)]
pub(super) struct Search {
    promise: Promise,
    expected_rate: f64,
    budget_s: f64,
    rate: f64,
    step: f64,
    last_push: f64,
    /// Whether the verdict has changed sides or was close: the rate is about where it belongs.
    is_near: bool,
    verdicts: u32,
    /// Stretches at the present rate that are too small for a verdict yet.
    unjudged: Tally,
    unjudged_s: f64,
    spent_s: f64,
    average: LogMean,
    last_failed_ratio: f64,
}

/// A geometric mean, weighted by time.
#[derive(Clone, Copy, Debug, Default)]
struct LogMean {
    sum: f64,
    weight: f64,
}

impl LogMean {
    fn add(&mut self, log: f64, weight: f64) {
        self.sum += log * weight;
        self.weight += weight;
    }

    fn value(self) -> Option<f64> {
        (self.weight > 0.0).then(|| (self.sum / self.weight).exp())
    }
}

/// The next stretch of load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ask {
    pub(super) rate: f64,
    /// Not counted at its beginning, while the queue adapts to the rate.
    pub(super) settle: Duration,
    pub(super) length: Duration,
}

/// How a search ended without a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Lost {
    NoCapacity { rate: f64, failed_ratio: f64 },
    NoLimit { rate: f64 },
}

impl Search {
    pub(super) fn new(plan: &CapacityPlan) -> Self {
        Self {
            promise: plan.promise,
            expected_rate: plan.expected_rate,
            budget_s: plan.budget.as_secs_f64(),
            rate: plan.expected_rate * FIRST_RATE_SHARE,
            step: FIRST_STEP,
            last_push: 0.0,
            is_near: false,
            verdicts: 0,
            unjudged: Tally::default(),
            unjudged_s: 0.0,
            spent_s: 0.0,
            average: LogMean::default(),
            last_failed_ratio: 0.0,
        }
    }

    /// The next stretch, or none if the time is up.
    pub(super) fn next(&self) -> Option<Ask> {
        let is_enough = self.average.weight >= LEAST_AVERAGED * self.budget_s;
        let left_s = self.budget_s - self.spent_s;
        // A quarter second more is no stretch.
        let overtime = if self.average.weight > 0.0 { MAX_OVERTIME } else { MAX_OVERTIME_FAR };
        if (left_s < 0.25 && is_enough) || self.spent_s >= overtime * self.budget_s || self.lost().is_some() {
            return None;
        }
        let usual_s = (self.budget_s * 0.1).clamp(0.8, 1.5);
        let (settle_s, length_s) = if self.verdicts == 0 && self.unjudged.requests == 0 {
            (usual_s * 0.7, usual_s * 2.0)
        } else {
            (0.2, usual_s)
        };
        let length_s = if left_s > 0.25 && left_s < length_s * 1.5 { left_s.max(0.6) } else { length_s };
        Some(Ask { rate: self.rate, settle: seconds(settle_s), length: seconds(length_s) })
    }

    /// Takes in what a stretch of `elapsed` showed; `is_hopeless` if it was broken off for its backlog.
    pub(super) fn learn(&mut self, tally: Tally, elapsed: Duration, is_hopeless: bool) {
        self.unjudged += tally;
        self.unjudged_s += elapsed.as_secs_f64();
        self.spent_s += elapsed.as_secs_f64();
        if self.unjudged.requests < LEAST_REQUESTS && !is_hopeless {
            return;
        }
        let tally = std::mem::take(&mut self.unjudged);
        let elapsed_s = std::mem::take(&mut self.unjudged_s);
        let push = self.push(tally, is_hopeless);
        if self.last_push * push < 0.0 {
            self.is_near = true;
            self.step = (self.step * SHRINK_AT_TURN).clamp(LEAST_STEP, FIRST_STEP);
        } else if push.abs() < FAR_PUSH && tally.above > CHANCE {
            self.is_near = true;
        } else if !self.is_near && self.verdicts >= if is_hopeless { PATIENCE / 2 } else { PATIENCE } {
            self.step = (self.step * GROWTH_BEFORE_TURN).min(GREATEST_STEP);
        }
        if push != 0.0 {
            self.last_push = push;
        }
        self.verdicts += 1;
        let before = self.rate.ln();
        self.rate = (before - self.step * push).exp();
        if self.is_near && self.spent_s > BURN_IN * self.budget_s {
            self.average.add((before + self.rate.ln()) / 2.0, elapsed_s);
        }
    }

    /// How strongly, in steps, the rate is to fall; negative for a rise.
    fn push(&mut self, tally: Tally, is_hopeless: bool) -> f64 {
        let requests = tally.requests.max(1) as f64;
        self.last_failed_ratio = tally.failed as f64 / requests;
        if is_hopeless {
            return HOPELESS_PUSH;
        }
        let slow = tally.above as f64 / requests / ALLOWED_ABOVE;
        let excess = slow.max(self.last_failed_ratio / self.promise.failed_ratio);
        ((excess - 1.0) * GAIN).min(MAX_PUSH)
    }

    /// Takes in time that taught nothing, such as that of a backlog that had to drain.
    pub(super) fn spend(&mut self, elapsed: Duration) {
        self.spent_s += elapsed.as_secs_f64();
    }

    /// The capacity found.
    pub(super) fn answer(&self) -> Result<f64, Lost> {
        if let Some(lost) = self.lost() {
            return Err(lost);
        }
        match self.average.value() {
            Some(rate) => Ok(rate),
            None if self.last_push > 0.0 => {
                Err(Lost::NoCapacity { rate: self.rate, failed_ratio: self.last_failed_ratio })
            }
            None => Err(Lost::NoLimit { rate: self.rate }),
        }
    }

    fn lost(&self) -> Option<Lost> {
        let factor = self.rate / self.expected_rate;
        if factor > MAX_FACTOR {
            Some(Lost::NoLimit { rate: self.rate })
        } else if factor < 1.0 / MAX_FACTOR {
            Some(Lost::NoCapacity { rate: self.rate, failed_ratio: self.last_failed_ratio })
        } else {
            None
        }
    }
}

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}
