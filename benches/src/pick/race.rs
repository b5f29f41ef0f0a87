//! The race of `pick`: all balancers take turns in one process, round after round, so that whatever the machine does meanwhile
//! falls on all of them alike.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::{Candidate, Hand, Origin, Pool, verify};
use crate::clock::{Stopwatch, processor_time};
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
    /// Processor time of a pick, of all threads that took part in it, the median of the rounds.
    pub cpu_ns_per_pick: f64,
    /// That figure of the thriftiest peer of the same kind, over this one's, if one took part.
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
    turns: Vec<Turn>,
}

/// What a turn, or one thread's part of it, came to.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    picks_per_s: f64,
    cpu_ns_per_pick: f64,
    /// All picks, also those of the time that does not count.
    picks: usize,
    wrong: usize,
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
                let before = processor_time();
                let mut turn = self.turn(&mut contender.pool, round as u64);
                let spent = processor_time() - before;
                if turn.wrong > 0 {
                    return Err(PickRaceError::Failed { picker: contender.candidate.name, count: turn.wrong });
                }
                turn.cpu_ns_per_pick = spent.as_secs_f64() * 1e9 / turn.picks as f64;
                contender.turns.push(turn);
            }
        }
        Ok(standings(&contenders))
    }

    /// Builds the balancers that can take part and looks at what they do.
    fn line_up(&self, candidates: &[Candidate]) -> Result<Vec<Contender>, PickRaceError> {
        let mut contenders = Vec::new();
        for &candidate in candidates.iter().filter(|candidate| self.backends <= candidate.max_backends) {
            let mut pool = (candidate.build)(self.backends);
            if self.threads > 1 && matches!(pool, Pool::Local(_)) {
                continue;
            }
            if let Some(fault) = pool.drive(|hand| verify::fault(candidate.kind, hand, self.backends)) {
                return Err(PickRaceError::Fault { picker: candidate.name, fault, backends: self.backends });
            }
            contenders.push(Contender { candidate, pool, turns: Vec::new() });
        }
        Ok(contenders)
    }

    /// One balancer with all threads.
    fn turn(&self, pool: &mut Pool, round: u64) -> Turn {
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
            laps.into_iter().fold(Turn::default(), |mut sum, lap| {
                let lap = lap.join().expect("a lap panics only if the balancer under test does");
                sum.picks_per_s += lap.picks_per_s;
                sum.picks += lap.picks;
                sum.wrong += lap.wrong;
                sum
            })
        })
    }

    /// One thread's part of a turn: warm up, wait for the other threads, then the timed window.
    fn lap(&self, hand: &mut dyn Hand, key: u64, barrier: Option<&Barrier>) -> Turn {
        let early = run_for(self.window / 4, hand, key);
        if let Some(barrier) = barrier {
            barrier.wait();
        }
        let mut turn = run_for(self.window, hand, key);
        turn.picks += early.picks;
        turn.wrong += early.wrong;
        turn
    }
}

/// Picks until `span` is over.
fn run_for(span: Duration, hand: &mut dyn Hand, mut key: u64) -> Turn {
    let stopwatch = Stopwatch::start();
    let mut turn = Turn::default();
    loop {
        turn.wrong += hand.pick_many(key, BATCH);
        turn.picks += BATCH;
        key += BATCH as u64;
        let elapsed = stopwatch.elapsed();
        if elapsed >= span {
            turn.picks_per_s = turn.picks as f64 / elapsed.as_secs_f64();
            return turn;
        }
    }
}

fn standings(contenders: &[Contender]) -> Vec<Standing> {
    let of = |contender: &Contender, figure: fn(&Turn) -> f64| {
        median(&contender.turns.iter().map(figure).collect::<Vec<_>>())
    };
    let standing = |contender: &Contender| {
        Some(Standing {
            candidate: contender.candidate,
            picks_per_s: of(contender, |turn| turn.picks_per_s)?,
            cpu_ns_per_pick: of(contender, |turn| turn.cpu_ns_per_pick)?,
            ratio_to_best_peer: None,
        })
    };
    let mut standings: Vec<Standing> = contenders.iter().filter_map(standing).collect();
    let peers: Vec<Standing> =
        standings.iter().filter(|standing| standing.candidate.origin == Origin::Peer).copied().collect();
    for standing in &mut standings {
        let same_kind = peers.iter().filter(|peer| peer.candidate.kind == standing.candidate.kind);
        let best = same_kind.map(|peer| peer.cpu_ns_per_pick).min_by(f64::total_cmp);
        standing.ratio_to_best_peer = best.map(|best| best / standing.cpu_ns_per_pick);
    }
    standings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::{self, Kind, Picker, SharedPool};

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
        Candidate { name: "lazy", kind, origin: Origin::Peer, max_backends: 10, build: |_| Pool::shared(LazyPool) }
    }

    #[test]
    fn who_does_not_spread_is_found_out() {
        for kind in [Kind::RoundRobin, Kind::Weighted, Kind::Random, Kind::LeastLoaded, Kind::Latency, Kind::Hash] {
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
