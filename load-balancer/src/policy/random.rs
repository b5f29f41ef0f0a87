//! A random backend, in proportion to the weights, in constant time.
//!
//! The alias method: every place is an urn of the same size that holds at most two backends, its own and one other. One
//! random number names the urn and, within it, the backend. Walker 1977; built as in Vose, "A Linear Algorithm for
//! Generating Random Numbers with a Given Distribution", IEEE TSE 1991, in whole numbers, so that nothing is rounded
//! but the last bit of 32.

use std::sync::Arc;

use crate::cursor::Cursor;

#[derive(Debug)]
pub(crate) struct Alias {
    urns: Box<[Urn]>,
}

#[derive(Clone, Copy, Debug)]
struct Urn {
    /// The share of the urn that is its own backend's, in 2^-32; the rest is the other's.
    own: u32,
    other: u32,
}

impl Alias {
    /// A table of these weights, each at least 1.
    pub(crate) fn build(weights: impl ExactSizeIterator<Item = u32>) -> Self {
        let count = weights.len();
        // An urn holds `total`: then each backend has `weight * count` to put into urns, all whole numbers.
        let mut left: Vec<u128> = weights.map(|weight| u128::from(weight) * count as u128).collect();
        let total = left.iter().sum::<u128>() / (count.max(1) as u128);
        let mut urns = vec![Urn { own: u32::MAX, other: 0 }; count];
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..count).partition(|&at| left[at] < total);
        while let (Some(poor), Some(&rich)) = (small.pop(), large.last()) {
            urns[poor] = Urn { own: share(left[poor], total), other: index(rich) };
            left[rich] -= total - left[poor];
            if left[rich] < total {
                large.pop();
                small.push(rich);
            }
        }
        // Those that are left fill their urns exactly; `own` almost covers it, and the rest is theirs too.
        for at in small.into_iter().chain(large) {
            urns[at] = Urn { own: u32::MAX, other: index(at) };
        }
        Self { urns: urns.into() }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "halves of a word")]
    pub(crate) fn choose(&self, cursor: &mut Cursor) -> usize {
        let bits = cursor.bits();
        let at = (((bits >> 32) * self.urns.len() as u64) >> 32) as usize;
        let urn = self.urns[at];
        if bits as u32 <= urn.own { at } else { urn.other as usize }
    }
}

/// Draws backends for a policy that compares them: each as often as its weight says.
///
/// A backend of a small share, as one that is ramped up, must be *looked at* seldom. If it was looked at as often as the
/// others, it would have to lose by comparison: all the time where nobody has much to do, and never where everybody has.
#[derive(Clone, Debug)]
pub(crate) struct Draw(Option<Arc<Alias>>);

impl Draw {
    /// From these weights, each at least 1.
    pub(crate) fn build(mut weights: impl ExactSizeIterator<Item = u32> + Clone) -> Self {
        let all = weights.clone();
        let first = weights.next();
        let are_equal = weights.all(|weight| Some(weight) == first);
        Self((!are_equal).then(|| Arc::new(Alias::build(all))))
    }

    /// Whether all are drawn alike.
    #[inline]
    pub(super) fn is_even(&self) -> bool {
        self.0.is_none()
    }

    #[inline]
    pub(super) fn one(&self, len: usize, cursor: &mut Cursor) -> usize {
        match &self.0 {
            None => cursor.below(len),
            Some(alias) => alias.choose(cursor),
        }
    }

    /// Two different ones; perhaps the same one twice where weights differ.
    #[inline]
    pub(super) fn two(&self, len: usize, cursor: &mut Cursor) -> (usize, usize) {
        match &self.0 {
            None => cursor.two_below(len),
            Some(alias) => two_of(alias, cursor),
        }
    }
}

/// Kept apart, so that the case of equal weights stays small enough to be part of its caller.
#[inline(never)]
fn two_of(alias: &Alias, cursor: &mut Cursor) -> (usize, usize) {
    (alias.choose(cursor), alias.choose(cursor))
}

#[allow(clippy::cast_possible_truncation, reason = "part is below total")]
fn share(part: u128, total: u128) -> u32 {
    // One less, because the comparison includes the bound.
    ((part << 32) / total).saturating_sub(1) as u32
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a configuration allows fewer backends")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of 2^32 times the number of urns that each backend has.
    fn parts(weights: &[u32]) -> Vec<u64> {
        let alias = Alias::build(weights.iter().copied());
        let mut parts = vec![0_u64; weights.len()];
        for (at, urn) in alias.urns.iter().enumerate() {
            parts[at] += u64::from(urn.own) + 1;
            parts[urn.other as usize] += u64::from(u32::MAX - urn.own);
        }
        parts
    }

    #[test]
    fn shares_are_the_weights_to_the_last_bit() {
        for weights in [&[1][..], &[1, 1, 1], &[3, 1], &[1, 2, 3, 4, 5], &[1, 1_000_000], &[u32::MAX, 1, u32::MAX]] {
            let total: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
            let all = (weights.len() as u128) << 32;
            for (part, &weight) in parts(weights).into_iter().zip(weights) {
                let exact = (all * u128::from(weight) / total) as i128;
                let error = (i128::from(part) - exact).abs();
                assert!(error <= 2 * weights.len() as i128, "{weights:?}: {part} is not {exact}");
            }
        }
    }

    #[test]
    fn picks_follow_the_shares() {
        let alias = Alias::build([1, 2, 7].into_iter());
        let mut cursor = Cursor::new(7, 0);
        let mut counts = [0; 3];
        (0..100_000).for_each(|_| counts[alias.choose(&mut cursor)] += 1);
        for (count, expected) in counts.into_iter().zip([10_000, 20_000, 70_000_i32]) {
            assert!((count - expected).abs() < 600, "{counts:?}");
        }
    }
}
