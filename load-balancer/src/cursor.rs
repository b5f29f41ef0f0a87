//! Where one picker stands: what changes at each of its picks and nobody else sees.

use crate::policy::prequal::HotFrom;
use crate::rng::{Rng, mix, scale};

/// A picker's own state: its place in the rounds, and its randomness.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    position: usize,
    rng: Rng,
    /// What [`Prequal`](crate::Policy::Prequal) learned.
    pub(crate) hot_from: HotFrom,
}

impl Cursor {
    /// The state of the picker with this number.
    ///
    /// Pickers begin their rounds one place after the other. So picks by many short-lived pickers go round as evenly
    /// as those of one, and however many pickers there are, no backend is ahead of another by more than their number.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "any position is a good one")]
        let position = number as usize;
        Self { position, rng: Rng::new(mix(seed ^ mix(number))), hot_from: HotFrom::default() }
    }

    /// The next place of a round of `len` places.
    #[inline]
    pub(crate) fn next(&mut self, len: usize) -> usize {
        let mut at = self.position;
        if at > len {
            at = wrap(at, len);
        }
        // A move without a branch: rounds are short, and the end of one would be mispredicted each time.
        let at = if at == len { 0 } else { at };
        self.position = at + 1;
        at
    }

    #[inline]
    pub(crate) fn bits(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// A random place of `len`.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "below a usize")]
    pub(crate) fn below(&mut self, len: usize) -> usize {
        scale(self.rng.next_u64(), len as u64) as usize
    }

    /// Two different random places of `len`, from one random number; the same one twice if there is only one.
    ///
    /// Each takes 32 bits, so the bias is below len / 2^32.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "halves of a word")]
    pub(crate) fn two_below(&mut self, len: usize) -> (usize, usize) {
        let bits = self.rng.next_u64();
        let place = |half: u64, n: usize| ((half * n as u64) >> 32) as usize;
        let first = place(bits >> 32, len);
        let second = place(bits & 0xffff_ffff, len.saturating_sub(1));
        (first, (second + usize::from(second >= first)).min(len.saturating_sub(1)))
    }
}

/// Where a picker begins, and where it goes on after the round got shorter.
#[cold]
fn wrap(at: usize, len: usize) -> usize {
    at.checked_rem(len).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_even_for_one_picker_and_for_many_short_ones() {
        let mut counts = [0; 7];
        let mut cursor = Cursor::new(1, 5);
        (0..700).for_each(|_| counts[cursor.next(7)] += 1);
        assert_eq!(counts, [100; 7]);
        (0..700).for_each(|number| counts[Cursor::new(1, number).next(7)] += 1);
        assert_eq!(counts, [200; 7]);
    }

    #[test]
    fn two_places_differ_and_all_pairs_come_up() {
        let mut cursor = Cursor::new(3, 0);
        for len in [2, 3, 10] {
            let mut seen = vec![0; len * len];
            for _ in 0..1000 * len {
                let (a, b) = cursor.two_below(len);
                assert!(a < len && b < len && a != b, "{a} and {b} of {len}");
                seen[a * len + b] += 1;
            }
            assert_eq!(seen.iter().filter(|&&count| count > 0).count(), len * (len - 1));
        }
        assert_eq!(cursor.two_below(1), (0, 0));
    }
}
