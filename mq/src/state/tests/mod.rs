//! The state beside a naive one, over random operations.

use std::env;

/// Wyrand (Wang Yi, 2019): good enough to choose operations by.
pub(in crate::state) struct Rng(u64);

impl Rng {
    pub(in crate::state) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::state) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xA076_1D64_78BD_642F);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0xE703_7ED1_A0B4_28DB);
        (product >> 64) as u64 ^ product as u64
    }

    /// A number below `end`.
    pub(in crate::state) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    pub(in crate::state) fn chance(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// Runs fixed seeds and a fresh one. `TENFOLD_SEED` runs only that; `TENFOLD_ROUNDS` asks for so many fresh ones.
pub(in crate::state) fn for_each_seed(check: impl Fn(u64)) {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("TENFOLD_SEED") {
        return check(seed);
    }
    let fresh = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    let rounds = number("TENFOLD_ROUNDS").unwrap_or(1);
    for seed in (0..8).chain((0..rounds).map(|round| fresh.wrapping_add(round))) {
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(seed)));
        if let Err(panic) = shown {
            eprintln!("replay with TENFOLD_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

use super::*;

mod model;
mod random;

fn entry(size: u32) -> Entry {
    let address = Address { segment: 0, offset: 0 };
    Entry { address, size, priority: 0, key: None, sent_ms: 0, due_ms: 0, expires_ms: 0 }
}

#[test]
fn a_message_is_taken_and_acked_and_gone() {
    let mut state = State::new(Limits::default());
    let group = state.add_group("", Start::Oldest).unwrap();
    for _ in 0..10_000 {
        state.insert(&entry(10));
    }
    let mut out = Vec::new();
    assert_eq!(state.take(group, 0, 10, 5, &mut out), Ok(0));
    state.show(state.next_sequence(), 0);
    assert_eq!((state.len(), state.bytes(), state.ready(group)), (10_000, 100_000, 10_000));
    assert_eq!(state.take(group, 0, 10, 20_000, &mut out), Ok(10_000));
    assert_eq!(state.ready(group), 0);
    for taken in &out {
        let receipt = Receipt { group, sequence: taken.sequence, delivery: taken.delivery };
        assert_eq!(state.ack(receipt), Ok(()));
        assert_eq!(state.ack(receipt), Err(ReceiptError::Stale));
    }
    assert_eq!((state.len(), state.bytes(), state.live(0)), (0, 0, Live::default()));
    let events: Vec<Event> = state.drain_events().collect();
    assert_eq!(events.len(), 3);
}
