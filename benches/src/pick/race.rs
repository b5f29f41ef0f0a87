//! The race of `pick`: all balancers take turns in one process, round after round, so that whatever the machine does meanwhile
//! falls on all of them alike.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::{Candidate, Hand, Kind, Origin, Pool, verify};
use crate::clock::Stopwatch;
use crate::report::median;

/// Picks between two looks at the clock: long against reading it, short against a turn.
const BATCH: usize = 512;

/// One race: a number of threads over a number of backends.
#[derive(Clone, Copy, Debug)]
pub struct PickRace {
    /// How many threads there are, at least 1. With more than one, only balancers that threads may share take part.
    pub threads: usize,
    /// How many backends there are, at least 1.
    pub backends: usize,
    /// How often each balancer has its turn, at least 1.
    pub rounds: usize,
    /// How long a turn is timed. A quarter of it goes before.
    pub window: Duration,
}

/// How a balancer did.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The balancer.
    pub candidate: Candidate,
    /// Picks a second of all threads together, the median of the rounds.
    pub picks_per_s: f64,
    /// That figure over the fastest peer's of the same kind, if one took part.
    pub ratio_to_best_peer: Option<f64>,
}

/// Why a race has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PickRaceError {
    /// A balancer does not do what its kind does.
    #[error("{picker} {fault}, among {backends} backends")]
    Fault {
        /// The balancer.
        picker: &'static str,
        /// What it did.
        fault: &'static str,
        /// Among how many.
        backends: usize,
    },
    /// A balancer picked nobody, or a backend that does not exist, while it was timed.
    #[error("{picker} failed {count} picks")]
    Failed {
        /// The balancer.
        picker: &'static str,
        /// How many.
        count: usize,
    },
}

struct Contender {
    candidate: Candidate,
    pool: Pool,
    rates: Vec<f64>,
}

impl PickRace {
    /// Holds the race.
    ///
    /// # Errors
    ///
    /// [`PickRaceError`] if a balancer picks wrongly.
    pub fn run(&self, candidates: &[Candidate]) -> Result<Vec<Standing>, PickRaceError> {
        let mut contenders = self.line_up(candidates)?;
        for round in 0..self.rounds {
            for contender in &mut contenders {
                let (rate, wrong) = self.turn(&mut contender.pool, round as u64);
                if wrong > 0 {
                    return Err(PickRaceError::Failed { picker: contender.candidate.name, count: wrong });
                }
                contender.rates.push(rate);
            }
        }
        Ok(standings(&contenders))
    }

    /// Builds the balancers that can take part and looks at what they do.
    fn line_up(&self, candidates: &[Candidate]) -> Result<Vec<Contender>, PickRaceError> {
        let mut contenders = Vec::new();
        for &candidate in candidates {
            let mut pool = (candidate.build)(self.backends);
            if self.threads > 1 && matches!(pool, Pool::Local(_)) {
                continue;
            }
            if let Some(fault) = pool.drive(|hand| verify::fault(candidate.kind, hand, self.backends)) {
                return Err(PickRaceError::Fault { picker: candidate.name, fault, backends: self.backends });
            }
            contenders.push(Contender { candidate, pool, rates: Vec::new() });
        }
        Ok(contenders)
    }

    /// Picks a second of all threads, and picks that failed.
    fn turn(&self, pool: &mut Pool, round: u64) -> (f64, usize) {
        let shared = match pool {
            Pool::Local(hand) => return self.lap(hand.as_mut(), round << 40, None),
            Pool::Shared(shared) => &**shared,
        };
        let barrier = &Barrier::new(self.threads);
        thread::scope(|scope| {
            let lap = |thread| {
                scope.spawn(move || self.lap(shared.hand().as_mut(), thread << 48 | round << 40, Some(barrier)))
            };
            let laps: Vec<_> = (0..self.threads as u64).map(lap).collect();
            laps.into_iter().fold((0.0, 0), |sum, lap| {
                let lap = lap.join().expect("a lap panics only if the balancer under test does");
                (sum.0 + lap.0, sum.1 + lap.1)
            })
        })
    }

    /// One thread's part of a turn: warm up, wait for the other threads, then the timed window.
    fn lap(&self, hand: &mut dyn Hand, key: u64, barrier: Option<&Barrier>) -> (f64, usize) {
        let (_, early) = run_for(self.window / 4, hand, key);
        if let Some(barrier) = barrier {
            barrier.wait();
        }
        let (rate, wrong) = run_for(self.window, hand, key);
        (rate, early + wrong)
    }
}

/// Picks until `span` is over; gives picks a second, and how many failed.
fn run_for(span: Duration, hand: &mut dyn Hand, mut key: u64) -> (f64, usize) {
    let stopwatch = Stopwatch::start();
    let (mut picks, mut wrong) = (0, 0);
    loop {
        wrong += hand.pick_many(key, BATCH);
        picks += BATCH;
        key += BATCH as u64;
        let elapsed = stopwatch.elapsed();
        if elapsed >= span {
            return (picks as f64 / elapsed.as_secs_f64(), wrong);
        }
    }
}

fn standings(contenders: &[Contender]) -> Vec<Standing> {
    let rates: Vec<(Candidate, f64)> =
        contenders.iter().filter_map(|contender| Some((contender.candidate, median(&contender.rates)?))).collect();
    let best_peer = |kind: Kind| {
        let peers = rates.iter().filter(|(candidate, _)| candidate.kind == kind && candidate.origin == Origin::Peer);
        peers.map(|&(_, rate)| rate).max_by(f64::total_cmp)
    };
    let standing = |&(candidate, picks_per_s): &(Candidate, f64)| Standing {
        candidate,
        picks_per_s,
        ratio_to_best_peer: best_peer(candidate.kind).map(|best| picks_per_s / best),
    };
    rates.iter().map(standing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::{self, Picker, SharedPool};

    const RACE: PickRace = PickRace { threads: 2, backends: 10, rounds: 1, window: Duration::from_millis(2) };

    /// Knows one backend only, and after a hundred thousand picks none.
    struct Lazy(u64);

    impl Picker for Lazy {
        fn pick(&mut self, _: u64) -> Option<usize> {
            self.0 += 1;
            (self.0 < 100_000).then_some(0)
        }
    }

    struct LazyPool;

    impl SharedPool for LazyPool {
        fn hand(&self) -> Box<dyn Hand + '_> {
            Box::new(Lazy(0))
        }
    }

    const fn lazy(kind: Kind) -> Candidate {
        Candidate { name: "lazy", kind, origin: Origin::Peer, build: |_| Pool::shared(LazyPool) }
    }

    #[test]
    fn who_does_not_spread_is_found_out() {
        for kind in [Kind::RoundRobin, Kind::Weighted, Kind::Random, Kind::LeastLoaded, Kind::Hash] {
            let error = RACE.run(&[lazy(kind)]).unwrap_err();
            assert!(matches!(error, PickRaceError::Fault { picker: "lazy", .. }), "{error:?}");
        }
    }

    #[test]
    fn a_pick_that_fails_while_it_is_timed_ends_the_race() {
        let race = PickRace { backends: 1, window: Duration::from_millis(20), ..RACE };
        let error = race.run(&[lazy(Kind::RoundRobin)]).unwrap_err();
        assert!(matches!(error, PickRaceError::Failed { picker: "lazy", count: 1.. }), "{error:?}");
    }

    #[test]
    fn all_balancers_pick_as_they_should() {
        let all = pick::all();
        let alone = PickRace { threads: 1, ..RACE }.run(&all).unwrap();
        assert_eq!(alone.len(), all.len());
        let shared = RACE.run(&all).unwrap();
        assert!(shared.len() < all.len(), "tower's are for one thread");
        let best = |standing: &Standing| standing.ratio_to_best_peer == Some(1.0);
        assert!(alone.iter().any(best), "some peer is the best of its kind");
    }
}
