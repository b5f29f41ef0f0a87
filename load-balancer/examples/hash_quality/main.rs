//! How good the hash tables are: prints one JSON object a line, for each table and number of backends.
//!
//! `cargo run --release -p tenfold-load-balancer --example hash_quality [KEYS|--quick]`
//!
//! - `max_avg`: the keys of the busiest backend over the mean; a million keys by chance alone give 1.005, 1.025 and 1.10
//!   with 10, 100 and 1,000 backends.
//! - `moved_on_leave`, `moved_on_join`, `moved_on_weight`: percent of the keys that moved between two backends that
//!   stayed as they were, when one leaves, comes, or doubles its weight. Means of several trials.
//! - `build_ms`, `bytes`: of one table. `find_ns`: of one look-up, of many in a row. Best of 5.

mod clock;

use tenfold_load_balancer::hash::{CappedRendezvous, Maglev, NoSeats, Rendezvous, RingHash, Seat};
use tenfold_load_balancer::{BackendId, Key};

/// A table of any kind.
enum Table {
    Capped(CappedRendezvous),
    Maglev(Maglev),
    Ring(RingHash),
    Rendezvous(Rendezvous),
}

const TABLES: [&str; 4] = ["capped-rendezvous", "maglev", "ring", "rendezvous"];

impl Table {
    fn build(name: &str, seats: &[Seat]) -> Self {
        Self::try_build(name, seats).expect("there are seats")
    }

    fn try_build(name: &str, seats: &[Seat]) -> Result<Self, NoSeats> {
        Ok(match name {
            "capped-rendezvous" => {
                let (slots, cap) = (CappedRendezvous::DEFAULT_SLOTS, CappedRendezvous::DEFAULT_CAP_PERCENT);
                Self::Capped(CappedRendezvous::build(seats, slots, cap)?)
            }
            "maglev" => Self::Maglev(Maglev::build(seats, Maglev::DEFAULT_SLOTS)?),
            "ring" => Self::Ring(RingHash::build(seats, RingHash::DEFAULT_POINTS)?),
            _ => Self::Rendezvous(Rendezvous::build(seats)?),
        })
    }

    /// The id of each key's owner.
    fn owners(&self, seats: &[Seat], keys: &[Key]) -> Vec<BackendId> {
        let mut owners = Vec::with_capacity(keys.len());
        self.for_each(keys, |seat| owners.push(seats[seat as usize].id));
        owners
    }

    fn for_each(&self, keys: &[Key], mut found: impl FnMut(u32)) {
        match self {
            Self::Capped(table) => keys.iter().for_each(|&key| found(table.find(key, 0))),
            Self::Maglev(table) => keys.iter().for_each(|&key| found(table.find(key, 0))),
            Self::Ring(table) => keys.iter().for_each(|&key| found(table.find(key, 0))),
            Self::Rendezvous(table) => keys.iter().for_each(|&key| found(table.find(key, 0))),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Capped(table) => table.bytes(),
            Self::Maglev(table) => table.bytes(),
            Self::Ring(table) => table.bytes(),
            Self::Rendezvous(table) => table.bytes(),
        }
    }
}

#[derive(Default)]
struct Sums {
    max_avg: f64,
    leave: f64,
    join: f64,
    weight: f64,
    build_ms: f64,
    find_ns: f64,
    bytes: usize,
}

fn main() {
    let keys = match std::env::args().nth(1).as_deref() {
        Some("--quick") => 20_000,
        count => count.and_then(|count| count.parse().ok()).unwrap_or(1_000_000_u64),
    };
    let keys: Vec<Key> = (0..keys.max(1)).map(Key::of_u64).collect();
    for count in [10, 100, 1_000, 10_000] {
        for weights in ["equal", "mixed"] {
            for name in TABLES {
                // Rendezvous asks every backend for every key: a slice tells as much.
                let keys =
                    if name == "rendezvous" { &keys[..keys.len().min(100_000_000 / (count * 40))] } else { &keys };
                print(name, count, weights, keys);
            }
        }
    }
}

fn print(name: &str, count: usize, weights: &str, keys: &[Key]) {
    let trials: u64 = if count > 1_000 { 2 } else { 6 };
    let mut sums = Sums::default();
    for trial in 0..trials {
        measure(&mut sums, name, &seats(count, weights, trial), keys);
    }
    let mean = |sum: f64| sum / trials as f64;
    println!(
        "{{\"table\":\"{name}\",\"backends\":{count},\"weights\":\"{weights}\",\"keys\":{},\"max_avg\":{:.3},\
         \"moved_on_leave\":{:.4},\"moved_on_join\":{:.4},\"moved_on_weight\":{:.4},\"build_ms\":{:.2},\
         \"find_ns\":{:.1},\"bytes\":{}}}",
        keys.len(),
        mean(sums.max_avg),
        mean(sums.leave),
        mean(sums.join),
        mean(sums.weight),
        mean(sums.build_ms),
        mean(sums.find_ns),
        sums.bytes
    );
}

fn seats(count: usize, weights: &str, trial: u64) -> Vec<Seat> {
    let weight = |at: usize| if weights == "equal" { 1 } else { [1, 2, 3, 5][at % 4] };
    (0..count).map(|at| Seat { id: name(trial, at), weight: weight(at) }).collect()
}

fn name(trial: u64, at: usize) -> BackendId {
    BackendId::of_name(&format!("web-{trial}-{at}"))
}

fn measure(sums: &mut Sums, name: &str, seats: &[Seat], keys: &[Key]) {
    let table = Table::build(name, seats);
    sums.bytes = table.bytes();
    sums.build_ms += clock::seconds(|| Table::build(name, seats)) * 1e3;
    let add_all = || {
        let mut sum = 0_u64;
        table.for_each(keys, |seat| sum += u64::from(seat));
        assert!(sum <= (keys.len() * seats.len()) as u64);
    };
    sums.find_ns += clock::seconds(add_all) * 1e9 / keys.len() as f64;

    let owners = table.owners(seats, keys);
    sums.max_avg += max_avg(&owners, seats);
    let changed = seats.len() / 2;
    let moved = |after: &[Seat], id| needless(&owners, &Table::build(name, after).owners(after, keys), id);

    let rest: Vec<Seat> = seats.iter().copied().filter(|seat| seat.id != seats[changed].id).collect();
    sums.leave += moved(&rest, seats[changed].id);
    let newcomer = Seat { id: BackendId::of_name("newcomer"), weight: 1 };
    let more: Vec<Seat> = seats.iter().copied().chain([newcomer]).collect();
    sums.join += moved(&more, newcomer.id);
    let mut heavier = seats.to_vec();
    heavier[changed].weight *= 2;
    sums.weight += moved(&heavier, seats[changed].id);
}

fn max_avg(owners: &[BackendId], seats: &[Seat]) -> f64 {
    let mut counts = std::collections::HashMap::new();
    owners.iter().for_each(|&id| *counts.entry(id).or_insert(0_u64) += 1);
    let total: f64 = seats.iter().map(|seat| f64::from(seat.weight)).sum();
    let load = |seat: &Seat| {
        let count = counts.get(&seat.id).copied().unwrap_or(0) as f64;
        count * total / (f64::from(seat.weight) * owners.len() as f64)
    };
    seats.iter().map(load).fold(0.0, f64::max)
}

/// The percentage of keys that moved between backends other than this one.
fn needless(before: &[BackendId], after: &[BackendId], changed: BackendId) -> f64 {
    let pairs = before.iter().zip(after);
    let count = pairs.filter(|(a, b)| a != b && **a != changed && **b != changed).count();
    count as f64 * 100.0 / before.len() as f64
}
