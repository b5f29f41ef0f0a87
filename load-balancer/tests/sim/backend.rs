//! A backend of the simulation: a queue, some slots, a service time, and what is wrong with it.

use std::collections::VecDeque;

use tenfold_load_balancer::{Failure, Outcome, Rng};

/// Nanoseconds of virtual time.
pub(crate) type Nanos = u64;

pub(crate) const MS: Nanos = 1_000_000;
pub(crate) const S: Nanos = 1000 * MS;

/// What is wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ill {
    Well,
    /// The process is gone: connections are refused, and what was in flight breaks.
    Crashed,
    /// It takes connections and never answers, until it is well again: then it goes on.
    Hung,
    /// Each answer takes this much longer.
    Slow(Nanos),
    /// This many of a hundred answers are errors.
    Failing(u64),
}

/// How long a request takes when nothing is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    /// Exponential, with this mean.
    Exponential(Nanos),
    /// This long, and in one of a hundred cases ten times as long.
    LongTail(Nanos),
}

impl Service {
    fn sample(self, rng: &mut Rng) -> Nanos {
        match self {
            Self::Exponential(mean) => {
                let uniform = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
                (-(1.0 - uniform).ln() * mean as f64) as Nanos
            }
            Self::LongTail(usual) if rng.below(100) == 0 => 10 * usual,
            Self::LongTail(usual) => usual / 2 + rng.below(usual),
        }
    }
}

/// A request at a backend, by its number.
pub(crate) type Ticket = u64;

/// What a backend does to a request that arrives.
pub(crate) enum Arrival {
    /// It ends so, after so long.
    Ends(Outcome, Nanos),
    /// It waits: for a slot, or for the backend to be well.
    Waits,
}

pub(crate) struct Backend {
    pub(crate) ill: Ill,
    service: Service,
    slots: usize,
    busy: usize,
    line: VecDeque<Ticket>,
    /// Which life of the process it is: what ends in an earlier one broke with it.
    pub(crate) life: u64,
    /// Requests that came, whatever became of them.
    pub(crate) seen: u64,
    rng: Rng,
}

/// A connection is refused, or accepted, so fast.
const CONNECT: Nanos = MS / 10;

impl Backend {
    pub(crate) fn new(service: Service, slots: usize, seed: u64) -> Self {
        let (line, rng) = (VecDeque::new(), Rng::new(seed));
        Self { ill: Ill::Well, service, slots, busy: 0, line, life: 0, seen: 0, rng }
    }

    pub(crate) fn arrive(&mut self, ticket: Ticket) -> Arrival {
        self.seen += 1;
        match self.ill {
            Ill::Crashed => Arrival::Ends(Outcome::Failure(Failure::Refused), CONNECT),
            Ill::Hung => self.wait(ticket),
            _ if self.busy == self.slots => self.wait(ticket),
            _ => self.serve(),
        }
    }

    fn wait(&mut self, ticket: Ticket) -> Arrival {
        self.line.push_back(ticket);
        Arrival::Waits
    }

    fn serve(&mut self) -> Arrival {
        self.busy += 1;
        let time = self.service.sample(&mut self.rng);
        match self.ill {
            Ill::Slow(more) => Arrival::Ends(Outcome::Success, time + more),
            Ill::Failing(percent) if self.rng.below(100) < percent => {
                Arrival::Ends(Outcome::Failure(Failure::Answered), time / 4)
            }
            _ => Arrival::Ends(Outcome::Success, time),
        }
    }

    /// A slot is free: who is next, and how it ends.
    pub(crate) fn next(&mut self) -> Option<(Ticket, Arrival)> {
        if self.busy == self.slots || self.ill == Ill::Hung {
            return None;
        }
        let ticket = self.line.pop_front()?;
        Some((ticket, self.serve()))
    }

    pub(crate) fn leave(&mut self) {
        self.busy -= 1;
    }

    /// The process dies: who was waiting breaks. (Who was being served breaks by its life.)
    pub(crate) fn crash(&mut self) -> Vec<Ticket> {
        (self.ill, self.busy, self.life) = (Ill::Crashed, 0, self.life + 1);
        self.line.drain(..).collect()
    }
}
