//! Ring hashing: backends own many points of a circle, and a key belongs to the next point.
//!
//! The oldest of the hash tables and the one with the least surprising changes: whoever leaves hands each of its arcs to
//! a neighbour, and nobody else notices. The arcs' lengths vary, though: with 160 points a backend the largest of a
//! hundred is about 20 % too large. Bounded loads ([`fits`](crate::policy::bounded::fits)) are meant for that.
//!
//! # How it works
//! Points are random, so the bucket of their high bits tells almost exactly where in the order they are. Counting the
//! points of each bucket sorts them, and the counts stay as an index: a look-up reads where its bucket starts and
//! looks at the next few points, where a binary search would miss the cache a dozen times.
//!
//! # Source
//! Karger et al., "Consistent Hashing and Random Trees", STOC 1997; many points a server and the number 160 from
//! libketama (2007). Differences: points of 44 bits instead of 32, so that two are hardly ever equal, and the index.

use super::seat::{NoSeats, Seat, index, total_weight};
use crate::Key;

/// Not more points than these, except where there are more seats: 24 MiB.
const MAX_POINTS: u64 = 1 << 21;

/// How many points are looked at together. Buckets with more of them are rare.
const GLANCE: usize = 4;

/// How many distinct seats a walk tells apart. After so many refused choices, the next may repeat one.
const MAX_DISTINCT: usize = 8;

/// A circle on which each seat has points in proportion to its weight.
///
/// Minimal disruption: a change moves keys from and to the changed seat only, as long as the unit of weight stays. The
/// unit is the largest of 1, 16, 256, ... that is at most the mean weight: coarse steps, so that a fleet rarely crosses
/// one, and away from the weights that people write. Whoever has to cross it moves about half of the keys.
///
/// # Invariants
/// - **R1** Points are in order; `GLANCE` pads follow at the very end of the circle.
/// - **R2** `starts[b]` is the index of the first point whose high bits are at least `b`.
///
/// # Complexity
/// Building: O(p) expected for `p` points. Look-up: O(1) expected, two cache lines. About 12 bytes a point.
#[derive(Clone, Debug)]
pub struct RingHash {
    /// A point in the high bits and its owner in the low ones, so that both are in one word: at a thousand seats the cache
    /// is what counts.
    points: Box<[u64]>,
    starts: Box<[u32]>,
    /// How far the high bits are from the low end.
    shift: u32,
    seats: u32,
    /// The bits of a word that are its owner.
    owner_mask: u64,
}

impl RingHash {
    /// Points for each unit of weight, unless there is a reason: 160.
    pub const DEFAULT_POINTS: u32 = 160;

    /// The ring of these seats, with so many points for each unit of weight: the mean weight, rounded down to a power of
    /// 16. Each seat has a point at least; all together have 2^21 at most, or else the unit is doubled until they do.
    /// More points: better balance, slower building, more cache misses.
    ///
    /// # Errors
    /// [`NoSeats`], if there is none.
    pub fn build(seats: &[Seat], points: u32) -> Result<Self, NoSeats> {
        if seats.is_empty() {
            return Err(NoSeats);
        }
        let counts = point_counts(seats, points);
        let owner_mask = owner_mask(seats.len());
        let sorted = Sorted::sort(seats, &counts, owner_mask);
        let words = sorted.points.iter().map(|&(point, _, seat)| point | u64::from(seat));
        Ok(Self {
            points: words.chain([u64::MAX; GLANCE]).collect(),
            starts: sorted.starts.into(),
            shift: sorted.shift,
            seats: index(seats.len()),
            owner_mask,
        })
    }

    /// The index of the key's seat, for attempt 0; for further attempts the seats that follow on the ring, each once (up
    /// to the eighth).
    #[inline]
    #[must_use]
    pub fn find(&self, key: Key, attempt: u32) -> u32 {
        let at = self.successor(key.hash());
        if attempt == 0 { self.owner(self.points[at]) } else { self.walk(at, attempt) }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "an index of a seat")]
    fn owner(&self, word: u64) -> u32 {
        (word & self.owner_mask) as u32
    }

    /// The index of the first point that is not before the hash, going round.
    #[inline]
    fn successor(&self, hash: u64) -> usize {
        #[allow(clippy::cast_possible_truncation, reason = "as many high bits as there are buckets")]
        let start = self.starts[(hash >> self.shift) as usize] as usize;
        // Without low bits: then a word is below it if and only if its point is.
        let hash = hash & !self.owner_mask;
        // How many points of a bucket come before is chance, and a loop would be mispredicted every other time.
        let few = &self.points[start..start + GLANCE];
        let passed = few.iter().map(|&word| usize::from(word < hash)).sum::<usize>();
        let at = if passed < GLANCE { start + passed } else { self.far_successor(start + GLANCE, hash) };
        if at < self.points.len() - GLANCE { at } else { 0 }
    }

    #[cold]
    fn far_successor(&self, from: usize, hash: u64) -> usize {
        self.points[from..].iter().position(|&word| word >= hash).map_or(self.points.len(), |after| from + after)
    }

    #[cold]
    fn walk(&self, from: usize, attempt: u32) -> u32 {
        let (before, after) = self.points[..self.points.len() - GLANCE].split_at(from);
        let wanted = (attempt % self.seats) as usize;
        let mut seen = [u32::MAX; MAX_DISTINCT];
        let mut count = 0;
        for owner in after.iter().chain(before).map(|&word| self.owner(word)) {
            let known = seen.iter().take(count.min(MAX_DISTINCT)).any(|&seat| seat == owner);
            if !known {
                if count == wanted {
                    return owner;
                }
                seen[count % MAX_DISTINCT] = owner;
                count += 1;
            }
        }
        self.owner(self.points[from])
    }

    /// The memory it takes beside itself.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.points) + size_of_val(&*self.starts)
    }
}

/// The low bits of a word that name its owner: 20, which leave 44 for the point, or more if there are a million seats.
fn owner_mask(seats: usize) -> u64 {
    (1 << u32::max(20, usize::BITS - seats.leading_zeros())) - 1
}

/// How many points each seat has.
fn point_counts(seats: &[Seat], points: u32) -> Vec<u64> {
    let mean = total_weight(seats) / seats.len() as u64;
    let rounded = |weight: u64, log: u32| {
        let (points, unit) = (u128::from(weight) * u128::from(points.max(1)), 1_u128 << log);
        u64::try_from((points + unit / 2) / unit).unwrap_or(u64::MAX).max(1)
    };
    // By 64 no weight is worth a point any more.
    for log in mean.max(1).ilog2() / 4 * 4..=64 {
        let counts: Vec<u64> = seats.iter().map(|seat| rounded(seat.weight(), log)).collect();
        if counts.iter().fold(0, |sum: u64, &count| sum.saturating_add(count)) <= MAX_POINTS {
            return counts;
        }
    }
    vec![1; seats.len()]
}

/// All points in order, with the id (which decides between equal ones) and the index of their seat.
struct Sorted {
    points: Vec<(u64, u64, u32)>,
    starts: Vec<u32>,
    shift: u32,
}

impl Sorted {
    fn sort(seats: &[Seat], counts: &[u64], owner_mask: u64) -> Self {
        let total: u64 = counts.iter().sum();
        // About a point a bucket; at least two buckets, as a word cannot be shifted by its whole length.
        let shift = u64::BITS - total.max(2).ilog2();
        let bucket = |point: u64| usize::try_from(point >> shift).expect("fewer buckets than points");
        let mut starts = vec![0_u32; bucket(u64::MAX) + 1];
        let points = || {
            let of_seat = |(at, (seat, &count)): (usize, (&Seat, &u64))| {
                let (seat, at) = (*seat, index(at));
                (0..count).map(move |number| (seat.hash(number) & !owner_mask, seat.id.get(), at))
            };
            seats.iter().zip(counts).enumerate().flat_map(of_seat)
        };
        points().for_each(|(point, ..)| starts[bucket(point)] += 1);
        // Each bucket's end for now; filling it from its end leaves its start.
        let mut end = 0;
        for start in &mut starts {
            end += *start;
            *start = end;
        }
        let mut sorted = vec![(0, 0, 0); end as usize];
        for point in points() {
            let start = &mut starts[bucket(point.0)];
            *start -= 1;
            sorted[*start as usize] = point;
        }
        let ends = starts.iter().skip(1).copied().chain([end]);
        for (&start, end) in starts.iter().zip(ends) {
            sorted[start as usize..end as usize].sort_unstable();
        }
        Self { points: sorted, starts, shift }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::for_each_seed;
    use crate::{BackendId, Rng};

    /// The seats in the order in which a walk from a hash meets them, found by looking at all points.
    fn order(seats: &[Seat], counts: &[u64], hash: u64) -> Vec<u32> {
        let cut = |hash: u64| hash >> 20;
        let mut points: Vec<(u64, u64, u32)> = Vec::new();
        for (at, (seat, &count)) in seats.iter().zip(counts).enumerate() {
            points.extend((0..count).map(|number| (cut(seat.hash(number)), seat.id.get(), at as u32)));
        }
        points.sort_by_key(|&(point, id, _)| (point < cut(hash), point, id));
        let mut order = Vec::new();
        for (_, _, seat) in points {
            if !order.contains(&seat) {
                order.push(seat);
            }
        }
        order
    }

    #[test]
    fn agrees_with_a_search_of_all_points() {
        for_each_seed(|seed| {
            let mut rng = Rng::new(seed);
            let seat =
                |rng: &mut Rng| Seat { id: BackendId::from_u64(rng.next_u64()), weight: 1 + rng.below(5) as u32 };
            let seats: Vec<Seat> = (0..=rng.below(7)).map(|_| seat(&mut rng)).collect();
            let points = 1 + rng.below(40) as u32;
            let ring = RingHash::build(&seats, points).unwrap();
            let counts = point_counts(&seats, points);
            let edges: Vec<u64> = ring.points.iter().flat_map(|&point| [point, point.wrapping_add(1)]).collect();
            let hashes = (0..200).map(|_| rng.next_u64()).chain([0, u64::MAX]).chain(edges);
            for hash in hashes {
                let order = order(&seats, &counts, hash);
                assert_eq!(order.len(), seats.len());
                let found: Vec<u32> =
                    (0..seats.len()).map(|attempt| ring.find(Key::from_hash(hash), attempt as u32)).collect();
                assert_eq!(found, order, "of {hash:x}");
            }
        });
    }

    #[test]
    fn points_are_bounded_and_follow_the_weights() {
        let seats = |weights: &[u32]| -> Vec<Seat> {
            weights.iter().map(|&weight| Seat { id: BackendId::from_u64(1), weight }).collect()
        };
        assert_eq!(point_counts(&seats(&[20, 40]), 160), [200, 400], "the unit is 16");
        assert_eq!(point_counts(&seats(&[1, 3, 0]), 160), [160, 480, 160]);
        assert_eq!(point_counts(&seats(&[1, u32::MAX]), 160), [1, 2_560]);
        for (weights, points) in [(vec![1; 20_000], 160), (vec![u32::MAX; 3], u32::MAX), (vec![1, u32::MAX], 0)] {
            let counts = point_counts(&seats(&weights), points);
            assert!(counts.iter().all(|&count| count > 0) && counts.iter().sum::<u64>() <= MAX_POINTS);
        }
    }
}
