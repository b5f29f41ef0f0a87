//! One station: M/M/c, first come first served.

use std::time::Duration;

/// A node with `slots` servers, exponential service times and one line.
///
/// Copies are nodes of the same kind that share the arrivals at random, each with its own line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mmc {
    slots: u32,
    service_s: f64,
    copies: u32,
}

impl Mmc {
    /// A station of `slots` servers with this mean service time.
    ///
    /// A mean of zero is a station that takes no time and has no limit; without slots nothing is ever served.
    pub fn new(slots: u32, mean_service: Duration) -> Self {
        Self { slots, service_s: mean_service.as_secs_f64(), copies: 1 }
    }

    /// As many nodes of this kind, among which arrivals are spread at random.
    #[must_use]
    pub fn copies(mut self, copies: u32) -> Self {
        self.copies = copies;
        self
    }

    /// Arrivals a second at which the station is busy all the time, over all copies.
    pub fn saturation(&self) -> f64 {
        if self.service_s > 0.0 {
            f64::from(self.slots) * f64::from(self.copies) / self.service_s
        } else if self.slots == 0 || self.copies == 0 {
            0.0
        } else {
            f64::INFINITY
        }
    }

    /// Share of the time that a server is busy when `rate` requests a second arrive; 1 or more is overload.
    pub fn utilisation(&self, rate: f64) -> f64 {
        if rate <= 0.0 { 0.0 } else { rate / self.saturation() }
    }

    /// Probability that an arrival has to wait: Erlang's C formula. 1 in overload.
    ///
    /// # Source
    /// Erlang 1917; computed from the loss formula B by its recurrence, which neither overflows nor cancels.
    pub fn wait_probability(&self, rate: f64) -> f64 {
        let load = self.utilisation(rate);
        if load >= 1.0 {
            return 1.0;
        }
        if load <= 0.0 {
            return 0.0;
        }
        let offered = load * f64::from(self.slots);
        let loss = (1..=self.slots).fold(1.0, |b, n| offered * b / (f64::from(n) + offered * b));
        loss / (1.0 - load * (1.0 - loss))
    }

    /// Mean time in line and in service, in seconds. `None` in overload.
    pub fn mean_sojourn_s(&self, rate: f64) -> Option<f64> {
        if self.utilisation(rate) >= 1.0 {
            return None;
        }
        if self.service_s <= 0.0 {
            return Some(0.0);
        }
        Some(self.service_s + self.wait_probability(rate) / self.spare(rate))
    }

    /// Probability that line and service together take at most `seconds`; 0 in overload.
    pub fn within_s(&self, rate: f64, seconds: f64) -> f64 {
        self.sojourn(rate).map_or(0.0, |sojourn| sojourn.within_s(seconds))
    }

    /// The time in line and in service at `rate`. `None` in overload.
    pub(super) fn sojourn(&self, rate: f64) -> Option<Sojourn> {
        if self.utilisation(rate) >= 1.0 {
            return None;
        }
        let (serve, spare) = (1.0 / self.service_s, self.spare(rate));
        Some(Sojourn { serve, spare, waits: self.wait_probability(rate) })
    }

    /// Mean service time in seconds.
    pub(super) fn service_s(&self) -> f64 {
        self.service_s
    }

    /// Rate at which the line of one copy drains: cμ − λ.
    fn spare(&self, rate: f64) -> f64 {
        (self.saturation() - rate) / f64::from(self.copies)
    }
}

/// Time in line and in service at one rate.
///
/// The wait is 0 with probability 1 − C and else exponential with the spare rate cμ − λ; service is exponential with
/// rate μ; the two are independent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sojourn {
    /// μ; infinite for a station that takes no time.
    serve: f64,
    spare: f64,
    /// C.
    waits: f64,
}

impl Sojourn {
    /// Probability that it is at most `seconds`.
    pub(super) fn within_s(&self, seconds: f64) -> f64 {
        let Self { serve, spare, waits } = *self;
        if seconds < 0.0 {
            return 0.0;
        }
        if !serve.is_finite() {
            return 1.0;
        }
        let only_served = (-serve * seconds).exp();
        // Survival of the sum of two exponentials; for equal rates its limit, which the quotient cannot give.
        let waited = if ((spare - serve) / serve).abs() < 1e-6 {
            (1.0 + serve * seconds) * only_served
        } else {
            (spare * only_served - serve * (-spare * seconds).exp()) / (spare - serve)
        };
        (1.0 - (1.0 - waits) * only_served - waits * waited).clamp(0.0, 1.0)
    }
}
