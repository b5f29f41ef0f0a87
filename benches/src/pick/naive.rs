//! Balancers as one writes them by hand, and what the least of them would cost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use maglev::{ConsistentHasher, Maglev};
use parking_lot::Mutex;

use super::{Candidate, Hand, Kind, Origin, Picker, Pool, SharedPool, address, number, weight};
use crate::rng::Rng;

/// By hand, and the crate `maglev`, which is a table only.
pub const CANDIDATES: &[Candidate] = &[
    candidate("floor-local-counter", Kind::RoundRobin, Origin::Floor, |count| {
        Pool::shared(LocalCounter(addresses(count)))
    }),
    candidate("naive-shared-counter", Kind::RoundRobin, Origin::Naive, |count| Pool::shared(SharedCounter::new(count))),
    candidate("naive-arc-swap", Kind::RoundRobin, Origin::Naive, |count| Pool::shared(Swapped::new(count))),
    candidate("naive-guarded-p2c", Kind::LeastLoaded, Origin::Naive, |count| Pool::shared(GuardedP2c::new(count))),
    few(candidate("naive-smooth-mutex", Kind::Weighted, Origin::Naive, |count| Pool::shared(Smooth::new(count)))),
    few(candidate("maglev-crate", Kind::Hash, Origin::Peer, |count| Pool::shared(MaglevCrate::new(count)))),
];

/// For more backends the loop takes 13 us a pick, and the crate 20 GB to build its table.
const MANY: usize = 2_000;

const fn few(candidate: Candidate) -> Candidate {
    Candidate { max_backends: MANY, ..candidate }
}

const fn candidate(name: &'static str, kind: Kind, origin: Origin, build: fn(usize) -> Pool) -> Candidate {
    Candidate { name, kind, origin, max_backends: usize::MAX, build }
}

fn addresses(count: usize) -> Box<[SocketAddr]> {
    (0..count).map(address).collect()
}

/// A fixed list and a counter a thread.
struct LocalCounter(Box<[SocketAddr]>);

struct LocalCounterHand<'a> {
    addresses: &'a [SocketAddr],
    position: usize,
}

impl SharedPool for LocalCounter {
    fn hand(&self) -> Box<dyn Hand + '_> {
        Box::new(LocalCounterHand { addresses: &self.0, position: 0 })
    }
}

impl Picker for LocalCounterHand<'_> {
    #[inline]
    fn pick(&mut self, _: u64) -> Option<usize> {
        let position = self.position;
        self.position = if position + 1 == self.addresses.len() { 0 } else { position + 1 };
        number(self.addresses[position], self.addresses.len())
    }
}

/// A fixed list and one atomic counter.
struct SharedCounter {
    addresses: Box<[SocketAddr]>,
    counter: AtomicUsize,
}

impl SharedCounter {
    fn new(count: usize) -> Self {
        Self { addresses: addresses(count), counter: AtomicUsize::new(0) }
    }
}

impl SharedPool for SharedCounter {
    fn hand(&self) -> Box<dyn Hand + '_> {
        Box::new(self)
    }
}

impl Picker for &SharedCounter {
    #[inline]
    fn pick(&mut self, _: u64) -> Option<usize> {
        // Ordering: a number that nobody else has is all that is asked.
        let at = self.counter.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
        number(self.addresses[at], self.addresses.len())
    }
}

/// A list that can be replaced, loaded at each pick, and a counter a thread.
struct Swapped(ArcSwap<Vec<SocketAddr>>);

impl Swapped {
    fn new(count: usize) -> Self {
        Self(ArcSwap::new(Arc::new(addresses(count).into())))
    }
}

struct SwappedHand<'a> {
    pool: &'a Swapped,
    position: usize,
}

impl SharedPool for Swapped {
    fn hand(&self) -> Box<dyn Hand + '_> {
        Box::new(SwappedHand { pool: self, position: 0 })
    }
}

impl Picker for SwappedHand<'_> {
    #[inline]
    fn pick(&mut self, _: u64) -> Option<usize> {
        let addresses = self.pool.0.load();
        let position = if self.position < addresses.len() { self.position } else { 0 };
        self.position = position + 1;
        number(*addresses.get(position)?, addresses.len())
    }
}

/// A list that can be replaced, with a count in a cache line of its own beside each address: the better of two at random, counted
/// while it lives. It knows nothing of how requests end.
struct GuardedP2c(ArcSwap<Vec<Counted>>);

#[repr(align(128))]
struct Counted {
    address: SocketAddr,
    in_flight: AtomicUsize,
}

impl GuardedP2c {
    fn new(count: usize) -> Self {
        let counted = |number| Counted { address: address(number), in_flight: AtomicUsize::new(0) };
        Self(ArcSwap::new(Arc::new((0..count).map(counted).collect())))
    }
}

impl SharedPool for GuardedP2c {
    fn hand(&self) -> Box<dyn Hand + '_> {
        Box::new(GuardedHand { pool: self, rng: Rng::new(1) })
    }
}

struct GuardedHand<'a> {
    pool: &'a GuardedP2c,
    rng: Rng,
}

struct Guard<'a>(&'a Counted);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Picker for GuardedHand<'_> {
    #[inline]
    fn pick(&mut self, _: u64) -> Option<usize> {
        let backends = self.pool.0.load();
        let bits = self.rng.next_u64();
        let place = |half: u64| ((half * backends.len() as u64) >> 32) as usize;
        let (a, b) = (&backends[place(bits >> 32)], &backends[place(bits & 0xffff_ffff)]);
        let load = |counted: &Counted| counted.in_flight.load(Ordering::Relaxed);
        let better: &Counted = if load(b) < load(a) { b } else { a };
        better.in_flight.fetch_add(1, Ordering::Relaxed);
        let guard = Guard(better);
        number(guard.0.address, backends.len())
    }
}

/// The loop of smooth weighted round robin, under a lock: each weight is added to its backend's credit, and the backend with
/// the most credit is picked and pays the sum.
struct Smooth(Mutex<Vec<Credit>>);

struct Credit {
    address: SocketAddr,
    weight: i64,
    credit: i64,
}

impl Smooth {
    fn new(count: usize) -> Self {
        let credit = |number| Credit { address: address(number), weight: i64::from(weight(number)), credit: 0 };
        Self(Mutex::new((0..count).map(credit).collect()))
    }
}

impl SharedPool for Smooth {
    fn hand(&self) -> Box<dyn Hand + '_> {
        Box::new(self)
    }
}

impl Picker for &Smooth {
    #[inline]
    fn pick(&mut self, _: u64) -> Option<usize> {
        let mut credits = self.0.lock();
        let (mut total, mut best) = (0, 0);
        for at in 0..credits.len() {
            let weight = credits[at].weight;
            credits[at].credit += weight;
            total += weight;
            if credits[at].credit > credits[best].credit {
                best = at;
            }
        }
        credits[best].credit -= total;
        number(credits[best].address, credits.len())
    }
}

/// The crate `maglev`, with its defaults.
struct MaglevCrate {
    table: Maglev<SocketAddr, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>,
    count: usize,
}

impl MaglevCrate {
    fn new(count: usize) -> Self {
        Self { table: Maglev::new(addresses(count)), count }
    }
}

impl SharedPool for MaglevCrate {
    fn hand(&self) -> Box<dyn Hand + '_> {
        Box::new(self)
    }
}

impl Picker for &MaglevCrate {
    #[inline]
    fn pick(&mut self, key: u64) -> Option<usize> {
        number(*self.table.get(&key)?, self.count)
    }
}
