//! Rendezvous hashing: every backend draws a number for the key, and the best one has it.

use super::logarithm::negative_ln;
use super::seat::{NoSeats, Seat, index};
use crate::Key;
use crate::rng::mix;

/// No table at all: for each key, the seats are ranked by their draws for it.
///
/// Minimal disruption without any exception: a change of a seat moves keys from or to this seat only, whatever the
/// weights. The balance is as good as chance allows, the memory 16 bytes a seat. For a few dozen seats, or where a
/// look-up is dear anyway.
///
/// # Complexity
/// Look-up: O(n) in the number of seats, and as much again for each further attempt; 1 ns a seat where all weights are
/// equal, several where a logarithm is needed.
///
/// # Source
/// Thaler, Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM Transactions on Networking 1998. Weights:
/// the draws are exponential, `-ln(u) / weight`, and the smallest wins, which it does with probability weight over total
/// weight (Schindelhauer, Schomaker, "Weighted Distributed Hash Tables", SPAA 2005, the logarithmic method).
#[derive(Clone, Debug)]
pub struct Rendezvous {
    draws: Box<[Draw]>,
    is_uniform: bool,
}

#[derive(Clone, Copy, Debug)]
struct Draw {
    id: u64,
    per_weight: f64,
}

/// A seat's result: the draw, smallest first; the id and the index, which decide between equal ones.
type Drawn = (u64, u64, u32);

impl Rendezvous {
    /// The ranking of these seats.
    ///
    /// # Errors
    /// [`NoSeats`], if there is none.
    pub fn build(seats: &[Seat]) -> Result<Self, NoSeats> {
        if seats.is_empty() {
            return Err(NoSeats);
        }
        let draw = |seat: &Seat| Draw { id: seat.hash(2), per_weight: 1.0 / seat.weight() as f64 };
        let is_uniform = seats.iter().all(|seat| seat.weight() == seats[0].weight());
        Ok(Self { draws: seats.iter().map(draw).collect(), is_uniform })
    }

    /// The index of the key's seat, for attempt 0; for further attempts the next in its ranking, each once, then from the
    /// start again.
    #[inline]
    #[must_use]
    pub fn find(&self, key: Key, attempt: u32) -> u32 {
        // The smallest `-ln(u)` is the largest `u`: equal weights need no logarithm.
        if self.is_uniform {
            self.rank(attempt, |draw| !mix(key.hash() ^ draw.id))
        } else {
            self.rank(attempt, |draw| (negative_ln(unit(mix(key.hash() ^ draw.id))) * draw.per_weight).to_bits())
        }
    }

    #[inline]
    fn rank(&self, attempt: u32, cost: impl Fn(&Draw) -> u64) -> u32 {
        let mut best = self.best(&cost, |_| true);
        for _ in 0..attempt % index(self.draws.len()) {
            let last = best;
            best = self.best(&cost, |result| result > last);
        }
        best.2
    }

    /// The best of the results that are wanted.
    #[inline]
    fn best(&self, cost: impl Fn(&Draw) -> u64, is_wanted: impl Fn(Drawn) -> bool) -> Drawn {
        let mut best = (u64::MAX, u64::MAX, u32::MAX);
        for (at, draw) in (0..).zip(&self.draws) {
            let cost = cost(draw);
            // One comparison for almost all, and the rest of the order for those that may be better.
            if cost <= best.0 {
                let result = (cost, draw.id, at);
                if result < best && is_wanted(result) {
                    best = result;
                }
            }
        }
        best
    }

    /// The memory it takes beside itself.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.draws)
    }
}

/// The hash as a number above 0 and below 1.
#[inline]
#[allow(clippy::cast_precision_loss, reason = "53 bits are as many as a float has")]
fn unit(hash: u64) -> f64 {
    ((hash >> 12) as f64 + 0.5) * (1.0 / (1_u64 << 52) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::for_each_seed;
    use crate::{BackendId, Rng};

    #[test]
    fn agrees_with_a_sorted_list() {
        for_each_seed(|seed| {
            let mut rng = Rng::new(seed);
            let bits = rng.below(32);
            let seat = |rng: &mut Rng| Seat {
                id: BackendId::from_u64(rng.next_u64()),
                weight: 1 + rng.below(1 << bits) as u32,
            };
            let seats: Vec<Seat> = (0..1 + rng.below(12)).map(|_| seat(&mut rng)).collect();
            let table = Rendezvous::build(&seats).unwrap();
            for _ in 0..200 {
                let hash = rng.next_u64();
                let cost = |at: u32| {
                    let seat = &seats[at as usize];
                    -unit(mix(hash ^ seat.hash(2))).ln() / f64::from(seat.weight)
                };
                let mut order: Vec<u32> = (0..seats.len() as u32).collect();
                order.sort_by(|&a, &b| cost(a).total_cmp(&cost(b)));
                for attempt in 0..2 * seats.len() {
                    assert_eq!(table.find(Key::from_hash(hash), attempt as u32), order[attempt % seats.len()]);
                }
            }
        });
    }

    #[test]
    fn draws_stay_between_nought_and_one() {
        assert!(unit(0) > 0.0 && unit(u64::MAX) < 1.0);
    }
}
