use std::collections::BTreeMap;

use super::{LEVELS, NEVER, Wheel};
use crate::Slot;
use crate::testing::{Rng, for_each_seed, steps};

const SLOTS: u64 = 60;

/// A wheel beside a map from slot to deadline.
struct Run {
    wheel: Wheel,
    model: BTreeMap<u32, u64>,
    now: u64,
}

impl Run {
    fn new(now: u64) -> Self {
        Self { wheel: Wheel::new(now), model: BTreeMap::new(), now }
    }

    fn schedule(&mut self, slot: u32, deadline: u64) {
        self.wheel.schedule(Slot::new(slot), deadline);
        if deadline == NEVER {
            self.model.remove(&slot);
        } else {
            self.model.insert(slot, deadline);
        }
    }

    /// Notes that the wheel returned `slot`, which must be due.
    fn popped(&mut self, slot: Slot) {
        let deadline = self.model.remove(&slot.get()).expect("the wheel returned a slot that was not scheduled");
        assert!(deadline <= self.now, "{slot:?} came {} ns early", deadline - self.now);
    }

    fn pop_all(&mut self, now: u64) {
        self.now = self.now.max(now);
        while let Some(slot) = self.wheel.pop_expired(now) {
            self.popped(slot);
        }
        let late = self.model.values().find(|&&deadline| deadline <= self.now);
        assert_eq!(late, None, "still scheduled at {}", self.now);
        assert!(self.wheel.next_deadline().is_none_or(|next| next > self.now), "sleeping would not advance");
    }

    fn pop_some(&mut self, now: u64, rng: &mut Rng) {
        self.now = self.now.max(now);
        let mut moves = rng.below(4) as usize;
        for _ in 0..1 + rng.below(3) {
            match self.wheel.pop_expired_within(now, &mut moves) {
                Some(slot) => self.popped(slot),
                None => break,
            }
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        let slot = rng.below(SLOTS) as u32;
        match rng.below(16) {
            0..=6 => {
                let deadline = self.now.saturating_add(span(rng));
                self.schedule(slot, deadline);
            }
            7 => {
                // In the past, or close to the end of time.
                let deadline = if rng.chance(1, 2) { rng.below(self.now.max(1)) } else { NEVER - rng.below(3) };
                self.schedule(slot, deadline);
            }
            8 | 9 => {
                self.wheel.cancel(Slot::new(slot));
                self.model.remove(&slot);
            }
            10 => self.pop_all(self.now.saturating_sub(span(rng))),
            11 => self.pop_some(self.now.saturating_add(span(rng)), rng),
            12 => {
                // Exactly to the next deadline, or one short of it.
                let next = self.model.values().min().copied().unwrap_or(self.now);
                self.pop_all(next.saturating_sub(rng.below(2)));
            }
            _ => self.pop_all(self.now.saturating_add(span(rng) >> rng.below(32))),
        }
    }

    fn check(&self) {
        self.wheel.check_invariants();
        assert_eq!(self.wheel.len(), self.model.len());
        for slot in 0..SLOTS as u32 {
            let deadline = self.model.get(&slot).copied();
            assert_eq!(self.wheel.deadline(Slot::new(slot)), deadline.unwrap_or(NEVER));
            assert_eq!(self.wheel.is_scheduled(Slot::new(slot)), deadline.is_some());
        }
        assert_eq!(self.wheel.next_deadline().is_some(), !self.model.is_empty());
        if let Some(next) = self.wheel.next_deadline() {
            assert!(self.model.values().all(|&deadline| next <= deadline), "slept past a deadline");
        }
    }
}

/// A length of time; every magnitude that does not bring the end of time too soon is as likely as any other.
fn span(rng: &mut Rng) -> u64 {
    let most = if rng.chance(1, 2_000) { 60 } else { 46 };
    let bits = rng.below(most);
    rng.next_u64() & ((1 << bits) - 1)
}

#[test]
fn agrees_with_a_sorted_map() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let mut run = Run::new(span(&mut rng));
        for _ in 0..steps(5_000) {
            run.step(&mut rng);
            run.check();
        }
        run.pop_all(NEVER - 1);
        assert!(run.model.is_empty(), "all that has a deadline is due by the end of time");
    });
}

#[test]
fn is_exact_to_the_nanosecond() {
    let mut run = Run::new(0);
    for slot in 0..40 {
        run.schedule(slot, 60_000_000_000 + u64::from(slot));
    }
    for slot in 0..40_u32 {
        run.pop_all(60_000_000_000 + u64::from(slot));
        assert_eq!(run.wheel.len(), 39 - slot as usize);
    }
}

#[test]
fn ignores_a_clock_that_goes_back() {
    let mut run = Run::new(1_000);
    run.pop_all(5_000);
    run.schedule(1, 4_000);
    assert_eq!(run.wheel.pop_expired(10), Some(Slot::new(1)), "5,000 was reached, whatever the clock says now");
    assert_eq!(run.wheel.next_deadline(), None);
}

#[test]
fn jumps_over_years_in_a_few_steps() {
    const YEAR: u64 = 365 * 24 * 3_600 * 1_000_000_000;
    let mut wheel = Wheel::new(0);
    wheel.schedule(Slot::new(0), 500 * YEAR);
    wheel.schedule(Slot::new(1), 500 * YEAR + 1);
    let mut moves = 2 * LEVELS;
    assert_eq!(wheel.pop_expired_within(499 * YEAR, &mut moves), None);
    assert_eq!(wheel.pop_expired_within(500 * YEAR, &mut moves), Some(Slot::new(0)));
    assert_eq!(wheel.pop_expired_within(500 * YEAR, &mut moves), None);
    assert!(moves > 0, "two nodes took more moves than there are levels");
    assert_eq!(wheel.len(), 1);
}

#[test]
fn moves_a_node_at_most_once_a_level() {
    let mut rng = Rng::new(3);
    let count = steps(50_000);
    let mut wheel = Wheel::new(0);
    for slot in 0..count {
        wheel.schedule(Slot::new(slot as u32), 60_000_000_000 + rng.below(10_000_000_000));
    }
    let (mut moves, mut popped, mut now) = (usize::MAX, 0, 0);
    while wheel.len() > 0 {
        while wheel.pop_expired_within(now, &mut moves).is_some() {
            popped += 1;
        }
        now += 1 + rng.below(50_000_000);
        assert!(now < 80_000_000_000, "all are due by 70 s, and {} are left", wheel.len());
    }
    assert_eq!(popped, count);
    let a_node = (usize::MAX - moves) as f64 / count as f64;
    assert!(a_node < LEVELS as f64, "{a_node} moves a node");
}

#[test]
fn a_budget_bounds_the_work_of_a_call_and_loses_nothing() {
    let count = steps(10_000) as u32;
    let mut wheel = Wheel::new(0);
    for slot in 0..count {
        wheel.schedule(Slot::new(slot), 1_000_000 + u64::from(slot % 100));
    }
    let (mut calls, mut popped) = (0, 0);
    loop {
        let mut moves = 16;
        while wheel.pop_expired_within(1_000_000, &mut moves).is_some() {
            popped += 1;
        }
        wheel.check_invariants();
        if moves > 0 {
            break;
        }
        calls += 1;
    }
    assert_eq!(popped, count / 100, "one in a hundred is due");
    assert!(calls >= (count - popped) / 16, "{calls} calls moved {count} nodes");
    while wheel.pop_expired(1_000_100).is_some() {
        popped += 1;
    }
    assert_eq!(popped, count);
}

#[test]
fn costs_sixteen_bytes_a_slot_and_nothing_before_the_first() {
    assert_eq!(size_of::<super::Node>(), 16);
    let wheel = Wheel::new(0);
    assert_eq!(wheel.nodes.capacity() + wheel.heads.capacity(), 0);
}
