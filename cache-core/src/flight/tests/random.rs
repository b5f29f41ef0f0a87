//! Random steps over one flight and its tasks, checked against what any single flight must do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;

use super::super::seats::Seats;
use super::super::staged::{Bell, Ledger, Settle, Stage, poll};
use super::super::{Failure, Flight, Joined, Outcome, WaitError};
use crate::testing::{Rng, for_each_seed, steps};

struct Task {
    joined: Joined<u64, Settle>,
    bell: Arc<Bell>,
    polled: bool,
    /// Never polled again by its executor, yet not dropped either.
    stuck: bool,
}

struct World {
    stage: Stage,
    ledger: Ledger,
    flight: Arc<Flight<u64>>,
    tasks: Vec<Task>,
    /// The load has been told to be ready.
    opened: bool,
}

impl World {
    fn new() -> Self {
        let (stage, ledger) = (Stage::default(), Ledger::default());
        let joined = Flight::led_by_future(stage.load(), ledger.settle());
        let flight = Arc::clone(joined.flight());
        let mut world = Self { stage, ledger, flight, tasks: Vec::new(), opened: false };
        // The leader counts from birth, as if it had been polled.
        world.seat(joined, true);
        world
    }

    fn seat(&mut self, joined: Joined<u64, Settle>, polled: bool) {
        let bell = Arc::new(Bell::default());
        self.tasks.push(Task { joined, bell, polled, stuck: false });
    }

    /// Polls one task and takes it out if it is done.
    fn poll(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        task.polled = true;
        match poll(&mut task.joined, &task.bell) {
            Poll::Pending => assert!(!self.flight.is_finished(), "pending though it is over"),
            Poll::Ready(output) => {
                self.check(output);
                self.tasks.swap_remove(index);
            }
        }
    }

    fn check(&self, output: Result<Outcome<u64>, WaitError>) {
        match output {
            Ok(Ok(Some(42))) => assert!(self.opened),
            Ok(Err(Failure::Abandoned)) => assert_eq!(self.stage.drops(), 1),
            other => panic!("unexpected: {other:?}"),
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        let count = self.tasks.len() as u64;
        match rng.below(16) {
            0..4 => {
                let joined = Arc::clone(&self.flight).join(self.ledger.settle());
                self.seat(joined, false);
            }
            4..9 if count > 0 => {
                let index = rng.below(count) as usize;
                if !self.tasks[index].stuck {
                    self.poll(index);
                }
            }
            9..12 if count > 0 => {
                self.tasks.swap_remove(rng.below(count) as usize);
            }
            12 if count > 0 => self.tasks[rng.below(count) as usize].stuck = true,
            13 | 14 => self.stage.wake(),
            15 if rng.chance(1, 4) && !self.opened => {
                self.opened = true;
                self.stage.open(Ok(Some(42)));
            }
            _ => {}
        }
    }

    /// An executor that polls the woken and nobody else must bring every task that is not stuck to its end.
    fn run_to_the_end(&mut self) {
        if !self.opened {
            self.opened = true;
            self.stage.open(Ok(Some(42)));
        }
        while let Some(index) = self.tasks.iter().position(|task| !task.polled && !task.stuck) {
            self.poll(index);
        }
        while let Some(index) = self.tasks.iter().position(|task| !task.stuck && task.bell.rung() > 0) {
            self.poll(index);
        }
        assert!(self.tasks.iter().all(|task| task.stuck), "a task hangs");
        self.tasks.clear();
    }
}

#[test]
fn random_steps_never_lose_a_wake_nor_a_load() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        (0..steps(300)).for_each(|_| live_and_end(&mut rng));
    });
}

fn live_and_end(rng: &mut Rng) {
    let mut world = World::new();
    for _ in 0..rng.below(60) {
        world.step(rng);
        world.flight.check_invariants();
    }
    // Nobody was woken for the first poll, for the load is due from birth: the leader's executor polls it anyway.
    if let Some(index) = world.tasks.iter().position(|task| !task.stuck) {
        world.poll(index);
    }
    world.run_to_the_end();
    assert!(world.flight.is_finished());
    assert_eq!(world.stage.drops(), 1, "the load is dropped once");
    assert_eq!(world.ledger.entries().len(), 1, "I3");
}

#[test]
fn seats_behave_like_a_map() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let mut seats = Seats::new();
        let mut model = BTreeMap::new();
        let mut peak = 0;
        for value in 0..steps(5000) {
            let index = rng.below(20) as usize;
            match rng.below(3) {
                0 => assert_eq!(seats.remove(index), model.remove(&index)),
                1 => assert_eq!(seats.get_mut(index), model.get_mut(&index)),
                _ => assert_eq!(model.insert(seats.insert(value), value), None),
            }
            peak = peak.max(model.len());
            seats.check_invariants();
            assert_eq!(seats.len(), model.len());
            assert_eq!(seats.is_empty(), model.is_empty());
            assert!(seats.iter_mut().map(|value| *value).eq(model.values().copied()));
        }
        assert_eq!(seats.places(), peak, "no more places than were ever taken at once");
        assert!(seats.into_values().eq(model.into_values()));
    });
}
