//! What every hash table must keep: the order of the list means nothing, shares follow the weights, and a change moves
//! few keys that it need not. Then each table beside a naive twin.

use std::collections::BTreeMap;

use super::logarithm::negative_ln;
use super::seat::{Seat, hash_of, total_weight};
use super::slots::{Preference, slot_count};
use super::{CappedRendezvous, Maglev, NoSeats, Rendezvous, RingHash};
use crate::testing::for_each_seed;
use crate::{BackendId, Key, Rng};

mod twins;

/// Looks a key up in a table.
type Find = Box<dyn Fn(Key, u32) -> u32>;

/// A table, by the seats it answers with.
struct Subject {
    name: &'static str,
    /// Builds it and gives the way to look up a key's id.
    build: fn(&[Seat]) -> Find,
    /// How many keys to ask for. For a flat table one a slot, so that no chance of the keys' own is measured.
    keys: u64,
    /// The largest share over the fair one among up to 100 equal seats.
    max_over_fair: f64,
    /// The same among 1,000.
    max_over_fair_of_many: f64,
    /// The part of keys that may move between seats that stay when one of 100 leaves or comes, in percent.
    moved_percent: f64,
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        name: "maglev",
        build: |seats| {
            let table = Maglev::build(seats, Maglev::DEFAULT_SLOTS).unwrap();
            Box::new(move |key, attempt| table.find(key, attempt))
        },
        keys: 65_537,
        max_over_fair: 1.002,
        max_over_fair_of_many: 1.008,
        moved_percent: 0.75,
    },
    Subject {
        name: "capped rendezvous",
        build: |seats| {
            let table =
                CappedRendezvous::build(seats, CappedRendezvous::DEFAULT_SLOTS, CappedRendezvous::DEFAULT_CAP_PERCENT)
                    .unwrap();
            Box::new(move |key, attempt| table.find(key, attempt))
        },
        keys: 65_537,
        max_over_fair: 1.0215,
        max_over_fair_of_many: 1.025,
        moved_percent: 0.1375,
    },
    Subject {
        name: "rendezvous",
        build: |seats| {
            let table = Rendezvous::build(seats).unwrap();
            Box::new(move |key, attempt| table.find(key, attempt))
        },
        keys: 8_191,
        max_over_fair: 1.35,
        // Eight keys a seat: nothing but the keys' own chance.
        max_over_fair_of_many: 3.0,
        moved_percent: 0.0,
    },
    Subject {
        name: "ring",
        build: |seats| {
            let table = RingHash::build(seats, RingHash::DEFAULT_POINTS).unwrap();
            Box::new(move |key, attempt| table.find(key, attempt))
        },
        keys: 16_383,
        max_over_fair: 1.4,
        max_over_fair_of_many: 2.5,
        moved_percent: 0.0,
    },
];

/// Evenly spread keys.
fn keys(count: u64) -> impl Iterator<Item = Key> {
    let step = u64::MAX / count;
    (0..count).map(move |at| Key::from_hash(at * step + step / 2))
}

fn seats(rng: &mut Rng, weights: &[u32]) -> Vec<Seat> {
    weights.iter().map(|&weight| Seat { id: BackendId::from_u64(rng.next_u64()), weight }).collect()
}

impl Subject {
    /// The id that each key belongs to.
    fn owners(&self, seats: &[Seat]) -> Vec<BackendId> {
        let find = (self.build)(seats);
        keys(self.keys).map(|key| seats[find(key, 0) as usize].id).collect()
    }
}

/// The percentage of keys that moved although their seat is in both lists with its weight.
fn needless(before: &[BackendId], after: &[BackendId], changed: &[BackendId]) -> f64 {
    let pairs = before.iter().zip(after);
    let count = pairs.filter(|(a, b)| a != b && !changed.contains(a) && !changed.contains(b)).count();
    count as f64 * 100.0 / before.len() as f64
}

/// Each seat's keys over its fair share of them.
fn loads(owners: &[BackendId], seats: &[Seat]) -> Vec<f64> {
    let total = total_weight(seats) as f64;
    let mut counts = BTreeMap::new();
    owners.iter().for_each(|&id| *counts.entry(id).or_insert(0.0) += 1.0);
    let count = |seat: &Seat| counts.get(&seat.id).copied().unwrap_or(0.0);
    seats.iter().map(|seat| count(seat) * total / (owners.len() as f64 * seat.weight() as f64)).collect()
}

#[test]
fn the_order_of_the_list_means_nothing() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let weights: Vec<u32> = (0..1 + rng.below(30)).map(|_| 1 + rng.below(4) as u32).collect();
        let seats = seats(&mut rng, &weights);
        let mut shuffled = seats.clone();
        (1..seats.len()).for_each(|at| shuffled.swap(at, rng.below(at as u64 + 1) as usize));
        for subject in SUBJECTS {
            assert_eq!(subject.owners(&seats), subject.owners(&shuffled), "{}", subject.name);
        }
    });
}

#[test]
fn equal_seats_have_equal_shares() {
    let mut rng = Rng::new(1);
    for subject in SUBJECTS {
        for count in [1, 2, 10, 100, 1_000] {
            let seats = seats(&mut rng, &vec![1; count]);
            let worst = loads(&subject.owners(&seats), &seats).into_iter().fold(0.0, f64::max);
            let bound = match count {
                1 => 1.0,
                1_000 => subject.max_over_fair_of_many,
                _ => subject.max_over_fair,
            };
            assert!(worst <= bound, "{}: {worst} with {count} seats", subject.name);
        }
    }
}

#[test]
fn shares_follow_the_weights() {
    let mut rng = Rng::new(2);
    for subject in SUBJECTS {
        let seats = seats(&mut rng, &[1, 2, 3, 4, 10, 20]);
        for (load, seat) in loads(&subject.owners(&seats), &seats).into_iter().zip(&seats) {
            let slack = subject.max_over_fair - 1.0 + 0.05;
            assert!((load - 1.0).abs() < slack, "{}: {load} of weight {}", subject.name, seat.weight);
        }
    }
}

#[test]
fn extreme_weights_are_served_in_proportion() {
    let mut rng = Rng::new(3);
    for subject in SUBJECTS {
        let seats = seats(&mut rng, &[1, u32::MAX, u32::MAX, 0]);
        let loads = loads(&subject.owners(&seats), &seats);
        assert!(
            loads[1..3].iter().all(|load| (load - 1.0).abs() < subject.max_over_fair - 1.0 + 0.03),
            "{}: {loads:?}",
            subject.name
        );
    }
}

#[test]
fn a_change_moves_few_other_keys() {
    for subject in SUBJECTS {
        let (mut gone, mut come, mut heavier) = (0.0, 0.0, 0.0);
        for seed in 0..4 {
            let all = seats(&mut Rng::new(seed), &[4; 100]);
            let owners = subject.owners(&all);
            let one = all[seed as usize];
            let rest: Vec<Seat> = all.iter().copied().filter(|seat| seat.id != one.id).collect();
            gone += needless(&owners, &subject.owners(&rest), &[one.id]);
            let more: Vec<Seat> = all.iter().copied().chain(seats(&mut Rng::new(!seed), &[4])).collect();
            come += needless(&owners, &subject.owners(&more), &[more[100].id]);
            let mut changed = all.clone();
            changed[50].weight = 5;
            heavier += needless(&owners, &subject.owners(&changed), &[changed[50].id]);
        }
        let worst = f64::max(gone, f64::max(come, heavier)) / 4.0;
        assert!(worst <= subject.moved_percent, "{}: {gone} {come} {heavier} in 4 runs", subject.name);
    }
}

/// A fleet of mixed weights whose seats leave, come and change for a long time: no step is worse than the first, and what comes
/// back finds its keys, because the tables have no memory.
#[test]
fn churn_does_not_wear_a_table_out() {
    for subject in SUBJECTS {
        let mut rng = Rng::new(5);
        let mut fleet = seats(&mut rng, &(0..60).map(|at| 1 + at % 3).collect::<Vec<_>>());
        let first = subject.owners(&fleet);
        let (original, mut owners, mut moved) = (fleet.clone(), first.clone(), 0.0);
        for _ in 0..20 {
            let at = rng.below(fleet.len() as u64) as usize;
            let changed = match rng.below(3) {
                0 if fleet.len() > 40 => fleet.swap_remove(at).id,
                1 => {
                    fleet[at].weight = 1 + rng.below(3) as u32;
                    fleet[at].id
                }
                _ => {
                    fleet.extend(seats(&mut rng, &[2]));
                    fleet[fleet.len() - 1].id
                }
            };
            let now = subject.owners(&fleet);
            moved += needless(&owners, &now, &[changed]);
            owners = now;
        }
        assert!(moved / 20.0 <= 1.5 * subject.moved_percent, "{}: {moved} in 20 changes", subject.name);
        assert_eq!(subject.owners(&original), first, "{}", subject.name);
    }
}

#[test]
fn further_attempts_reach_others_and_repeat_themselves() {
    let mut rng = Rng::new(6);
    for subject in SUBJECTS {
        let seats = seats(&mut rng, &[1; 10]);
        let find = (subject.build)(&seats);
        let mut reached = 0;
        for key in keys(1_000) {
            let owner = find(key, 0);
            let others: Vec<u32> = (1..8).map(|attempt| find(key, attempt)).collect();
            assert_eq!(others, (1..8).map(|attempt| find(key, attempt)).collect::<Vec<_>>());
            reached += usize::from(others.iter().any(|&seat| seat != owner));
        }
        assert_eq!(reached, 1_000, "{}", subject.name);
    }
}

#[test]
fn the_same_id_twice_does_no_harm() {
    let twice = [Seat { id: BackendId::from_u64(1), weight: 1 }; 3];
    for subject in SUBJECTS {
        let find = (subject.build)(&twice);
        assert!(keys(1_000).all(|key| find(key, 0) < 3 && find(key, 1) < 3), "{}", subject.name);
    }
}

#[test]
fn without_a_seat_there_is_no_table() {
    assert_eq!(RingHash::build(&[], 160).unwrap_err(), NoSeats);
    assert_eq!(Maglev::build(&[], 7).unwrap_err(), NoSeats);
    assert_eq!(CappedRendezvous::build(&[], 7, 102).unwrap_err(), NoSeats);
    assert_eq!(Rendezvous::build(&[]).unwrap_err(), NoSeats);
}
