//! The conformance kit: what every policy must keep, checked over random operations.
//!
//! [`check_policy`] checks the laws of [`Policy`] for any policy. [`check_against_oracle`] runs a policy beside an
//! [`Oracle`], a naive model of the same policy that is plainly right, and demands the same order after every step.
//! [`check_cost`] runs an instance so large that a cost linear in it would not end within a test's patience.
//! All three are driven by a seed; [`for_each_seed`] supplies seeds and prints the one that failed.
//!
//! # Examples
//! ```
//! use tenfold_cache_core::list::{Links, List};
//! use tenfold_cache_core::{Hit, Newcomer, Policy, Slot, testing};
//!
//! #[derive(Clone, Default)]
//! struct NewestFirst(List, Links);
//!
//! impl Policy for NewestFirst {
//!     const HIT: Hit = Hit::Ignored;
//!     fn insert(&mut self, slot: Slot, _: Newcomer) { self.0.push_front(&mut self.1, slot) }
//!     fn remove(&mut self, slot: Slot) { self.0.remove(&mut self.1, slot) }
//!     fn victim(&mut self) -> Option<Slot> { self.0.front() }
//!     fn len(&self) -> usize { self.0.len() }
//!     fn clear(&mut self) { *self = Self::default() }
//!     fn order(&self) -> Vec<Slot> { self.0.iter(&self.1).collect() }
//!     fn check_invariants(&self) { self.0.check_invariants(&self.1) }
//! }
//!
//! testing::for_each_seed(|seed| testing::check_policy(NewestFirst::default, seed));
//! ```

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

pub use crate::rng::Rng;
use crate::{Hit, Newcomer, Policy, Slot};

#[cfg(test)]
mod tests;

/// Runs `check` with a few fixed seeds and with fresh ones (under Miri with one fixed seed).
///
/// The environment may say otherwise: `TENFOLD_SEED=n` runs that seed alone, `TENFOLD_ROUNDS=n` runs n fresh seeds
/// instead of one. When a check panics, its seed is printed to standard error in a form that replays it.
///
/// # Panics
/// If `check` does, or if one of the two variables is not a number.
pub fn for_each_seed(check: impl Fn(u64)) {
    if let Some(seed) = number_from_env("TENFOLD_SEED") {
        return run_seed(seed, &check);
    }
    let fixed = if cfg!(miri) { 1 } else { 8 };
    for seed in 0..fixed {
        run_seed(seed, &check);
    }
    // The one thing here that differs between runs; std has no other source of randomness.
    let mut fresh = Rng::new(RandomState::new().hash_one(0));
    for _ in 0..number_from_env("TENFOLD_ROUNDS").unwrap_or(u64::from(!cfg!(miri))) {
        run_seed(fresh.next_u64(), &check);
    }
}

fn run_seed(seed: u64, check: impl Fn(u64)) {
    let report = SeedReport(seed);
    check(seed);
    drop(report);
}

fn number_from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// Prints its seed if it is dropped by a panic.
struct SeedReport(u64);

impl Drop for SeedReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with this seed; TENFOLD_SEED={} replays it", self.0);
        }
    }
}

/// How many steps a random test takes: `full`, or a hundredth of it under Miri, which is slower than that.
#[must_use]
pub const fn steps(full: usize) -> usize {
    if cfg!(miri) { full / 100 } else { full }
}

/// A naive model of a policy: no links, no buckets, only what the policy's documentation says.
pub trait Oracle {
    /// An entry came.
    fn insert(&mut self, slot: Slot, newcomer: Newcomer);
    /// An entry was hit.
    fn hit(&mut self, slot: Slot);
    /// An entry's value was replaced; a hit unless said otherwise.
    fn replace(&mut self, slot: Slot) {
        self.hit(slot);
    }
    /// An entry has another weight; nothing unless said otherwise.
    fn reweigh(&mut self, slot: Slot, weight: u64) {
        let _ = (slot, weight);
    }
    /// An entry left.
    fn remove(&mut self, slot: Slot);
    /// All entries left.
    fn clear(&mut self);
    /// The entries, next victim first.
    fn order(&self) -> Vec<Slot>;
}

/// Checks the laws of [`Policy`], L8 excepted, on the policies that `make` makes, over random operations.
///
/// L8, the cost, is the business of [`check_cost`].
///
/// # Panics
/// If a law or an invariant is broken, naming it.
pub fn check_policy<P: Policy>(make: impl Fn() -> P, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut tracked = Tracked::new(&mut rng);
    // The same calls on two policies: L6 demands the same answers.
    let (mut policy, mut twin) = (make(), make());
    policy.resize(tracked.slots.len() as u64);
    twin.resize(tracked.slots.len() as u64);
    for _ in 0..steps(2_500) {
        let step = tracked.step(&mut rng, policy.victim());
        let _ = twin.victim();
        apply(&mut policy, step);
        apply(&mut twin, step);
        policy.check_invariants();
        check_state(&mut policy, &tracked);
        check_state(&mut twin, &tracked);
        assert_eq!(policy.victim(), twin.victim(), "L6: victims of two policies after the same calls");
        assert_eq!(policy.order(), twin.order(), "L6: orders of two policies after the same calls");
        if rng.chance(1, 8) {
            check_admission(&mut policy, &mut twin, &mut rng);
        }
    }
    if P::HIT == Hit::Shared {
        check_shared_hits(&policy, &tracked);
    }
    check_clone(&policy, &mut rng);
    check_drain(&mut policy);
    check_clear(&mut policy, tracked);
}

/// L9: what a clone is told does not reach the policy.
fn check_clone<P: Policy>(policy: &P, rng: &mut Rng) {
    let order = policy.order();
    let mut clone = policy.clone();
    assert_eq!(clone.order(), order, "L9: order of a clone against the policy's");
    for slot in order.iter().copied() {
        let step = [Step::Hit(slot), Step::Replace(slot), Step::Reweigh(slot, 5), Step::Remove(slot)];
        apply(&mut clone, step[rng.below(4) as usize]);
        assert_eq!(policy.order(), order, "L9: order after calls on a clone");
    }
    clone.clear();
    policy.check_invariants();
    assert_eq!(policy.order(), order, "L9: order after a clone was cleared");
}

/// L2, L3, L4 between any two calls.
fn check_state<P: Policy>(policy: &mut P, tracked: &Tracked) {
    assert_eq!(policy.len(), tracked.len(), "L2: len");
    assert_eq!(policy.is_empty(), tracked.len() == 0, "L2: is_empty");
    let order = policy.order();
    let set: BTreeSet<Slot> = order.iter().copied().collect();
    assert_eq!(set.len(), order.len(), "order names a slot twice: {order:?}");
    assert!(set.into_iter().eq(tracked.iter()), "L1: order differs from the tracked slots: {order:?}");
    let victim = policy.victim();
    assert_eq!(victim, order.first().copied(), "L3: victim is the first of order");
    assert_eq!(policy.order(), order, "L4: order after asking for a victim");
    assert_eq!(policy.victim(), victim, "L4: victim asked twice");
    assert_eq!(policy.order(), order, "L4: order after asking twice");
}

fn check_admission<P: Policy>(policy: &mut P, twin: &mut P, rng: &mut Rng) {
    let (Some(victim), Some(_)) = (policy.victim(), twin.victim()) else {
        return;
    };
    let newcomer = newcomer(hash_of(rng.below(128)));
    policy.miss(newcomer.hash);
    twin.miss(newcomer.hash);
    let admitted = policy.admit(newcomer, victim);
    assert_eq!(admitted, twin.admit(newcomer, victim), "L6: admission by two policies after the same calls");
    policy.check_invariants();
}

/// Hits from several threads at once must leave a sound policy, whatever their order.
fn check_shared_hits<P: Policy>(policy: &P, tracked: &Tracked) {
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for slot in tracked.iter() {
                    policy.hit_shared(slot);
                }
            });
        }
    });
    policy.check_invariants();
    assert_eq!(policy.len(), tracked.len(), "L2: len after shared hits");
}

/// L5, and that `order` foretells it.
fn check_drain<P: Policy>(policy: &mut P) {
    let mut policy = policy.clone();
    let foretold = policy.order();
    let mut visited = Vec::new();
    while let Some(victim) = policy.victim() {
        assert!(visited.len() < foretold.len(), "L5: more victims than tracked slots: {visited:?}, {victim:?}");
        visited.push(victim);
        policy.remove(victim);
        policy.check_invariants();
    }
    assert_eq!(visited, foretold, "L5: victims until none is left, against order");
    assert_eq!(policy.len(), 0, "L2, L5: len once no victim is left");
}

/// L7: after `clear` nothing is tracked, and every slot can be tracked again.
fn check_clear<P: Policy>(policy: &mut P, mut tracked: Tracked) {
    policy.clear();
    tracked.slots.fill(false);
    policy.check_invariants();
    check_state(policy, &tracked);
    for index in 0..tracked.slots.len() {
        policy.insert(Slot::new(index as u32), newcomer(hash_of(index as u64)));
        tracked.slots[index] = true;
        policy.check_invariants();
        check_state(policy, &tracked);
    }
    check_drain(policy);
}

/// Runs the policy beside its oracle over random operations: the same victims in the same order after every step.
///
/// # Panics
/// If the two differ, naming the step.
pub fn check_against_oracle<P: Policy>(mut policy: P, mut oracle: impl Oracle, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut tracked = Tracked::new(&mut rng);
    for count in 0..steps(4_000) {
        let step = tracked.step(&mut rng, policy.victim());
        apply(&mut policy, step);
        match step {
            Step::Insert(slot, hash) => oracle.insert(slot, newcomer(hash)),
            Step::Hit(slot) => oracle.hit(slot),
            Step::Replace(slot) => oracle.replace(slot),
            Step::Reweigh(slot, weight) => oracle.reweigh(slot, weight),
            Step::Remove(slot) => oracle.remove(slot),
            Step::Clear => oracle.clear(),
        }
        policy.check_invariants();
        assert_eq!(policy.order(), oracle.order(), "step {count}, {step:?}: order against the oracle's");
        let victim = policy.victim();
        assert_eq!(victim, oracle.order().first().copied(), "step {count}, {step:?}: victim against the oracle's");
    }
}

/// Checks L8 roughly: a million operations of every kind on 2^18 tracked slots. A call with a cost linear in the
/// slots would make this run for hours.
///
/// # Panics
/// If the policy loses count.
pub fn check_cost<P: Policy>(make: impl Fn() -> P, seed: u64) {
    let mut rng = Rng::new(seed);
    // Under Miri the figures prove nothing, so they are small.
    let (slots, operations) = if cfg!(miri) { (1 << 8, 500) } else { (1_u32 << 18, 1_000_000) };
    let mut policy = make();
    policy.resize(u64::from(slots));
    for index in 0..slots {
        policy.insert(Slot::new(index), newcomer(rng.next_u64()));
    }
    for _ in 0..operations {
        let slot = Slot::new(skewed(&mut rng, u64::from(slots)) as u32);
        if rng.chance(1, 4) {
            // As the engine does on an insertion into a full shard.
            let newcomer = newcomer(rng.next_u64());
            policy.miss(newcomer.hash);
            let victim = policy.victim().expect("all slots are tracked");
            let _ = policy.admit(newcomer, victim);
            policy.remove(victim);
            policy.insert(victim, newcomer);
        } else if rng.chance(1, 16) {
            policy.remove(slot);
            policy.insert(slot, newcomer(rng.next_u64()));
        } else {
            apply(&mut policy, Step::Hit(slot));
        }
    }
    policy.check_invariants();
    assert_eq!(policy.len(), slots as usize, "L2: len of a large instance");
}

/// One call that the engine may make.
#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(Slot, u64),
    Hit(Slot),
    Replace(Slot),
    Reweigh(Slot, u64),
    Remove(Slot),
    Clear,
}

fn apply<P: Policy>(policy: &mut P, step: Step) {
    match step {
        Step::Insert(slot, hash) => policy.insert(slot, newcomer(hash)),
        Step::Hit(slot) => match P::HIT {
            Hit::Exclusive => policy.hit(slot),
            Hit::Shared => policy.hit_shared(slot),
            Hit::Ignored => {}
        },
        Step::Replace(slot) => policy.replace(slot),
        Step::Reweigh(slot, weight) => policy.reweigh(slot, weight),
        Step::Remove(slot) => policy.remove(slot),
        Step::Clear => policy.clear(),
    }
}

/// The slots that a policy should be tracking, and what is done to them next.
struct Tracked {
    /// By index: whether the slot is tracked.
    slots: Vec<bool>,
    /// Of 16 steps that may be hits, so many are: some seeds churn, others mostly hit.
    hits: u64,
}

impl Tracked {
    fn new(rng: &mut Rng) -> Self {
        let most = if cfg!(miri) { 12 } else { 48 };
        Self { slots: vec![false; 1 + rng.below(most) as usize], hits: 4 + rng.below(12) }
    }

    /// Chooses a call that the engine might make now, and notes it.
    fn step(&mut self, rng: &mut Rng, victim: Option<Slot>) -> Step {
        if rng.chance(1, 1_000) {
            self.slots.fill(false);
            return Step::Clear;
        }
        let index = skewed(rng, self.slots.len() as u64) as usize;
        let slot = Slot::new(index as u32);
        if !self.slots[index] {
            self.slots[index] = true;
            // Few hashes, so that policies with a memory meet some again.
            return Step::Insert(slot, hash_of(rng.below(128)));
        }
        if rng.chance(self.hits, 16) {
            return match rng.below(16) {
                0 => Step::Reweigh(slot, 1 + rng.below(9)),
                1 | 2 => Step::Replace(slot),
                _ => Step::Hit(slot),
            };
        }
        // Evictions are far more common than other removals.
        let leaving = victim.filter(|_| rng.chance(3, 4)).unwrap_or(slot);
        self.slots[leaving.index()] = false;
        Step::Remove(leaving)
    }

    fn len(&self) -> usize {
        self.slots.iter().filter(|&&tracked| tracked).count()
    }

    fn iter(&self) -> impl Iterator<Item = Slot> {
        (0..).zip(&self.slots).filter(|(_, tracked)| **tracked).map(|(index, _)| Slot::new(index))
    }
}

/// A number below `n`; small ones are far more likely, as popular keys are.
fn skewed(rng: &mut Rng, n: u64) -> u64 {
    let bound = rng.below(n) + 1;
    rng.below(bound)
}

/// An entry of a key with this hash, of some weight.
fn newcomer(hash: u64) -> Newcomer {
    Newcomer { hash, weight: 1 + hash % 9 }
}

/// Spreads a small number over 64 bits, as the engine's hasher would.
fn hash_of(key: u64) -> u64 {
    Rng::new(key).next_u64()
}
