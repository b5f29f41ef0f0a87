//! A bit for each message of a block.

/// Messages a block holds, and bits of a [`Bits`]. Random tests with few messages are to meet many blocks.
pub(super) const BLOCK: usize = if cfg!(all(test, debug_assertions)) { 128 } else { 4096 };
const WORD: usize = u64::BITS as usize;
const WORDS: usize = BLOCK / WORD;

/// A bit for each message of a block, all of them clear at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits([u64; WORDS]);

impl Bits {
    pub(super) const EMPTY: Self = Self([0; WORDS]);

    #[inline]
    pub(super) fn get(&self, at: usize) -> bool {
        self.0[at / WORD] >> (at % WORD) & 1 == 1
    }

    // `set` and `clear` return constants, not the comparison: when a comparison with 0 is both counted
    // (`usize::from`) and branched on, rustc 1.95 drops what is counted (rust-lang/rust#158206, mended in later ones).

    /// Sets the bit; whether it was clear.
    #[inline]
    pub(super) fn set(&mut self, at: usize) -> bool {
        let (word, bit) = (&mut self.0[at / WORD], 1 << (at % WORD));
        if *word & bit != 0 {
            return false;
        }
        *word |= bit;
        true
    }

    /// Clears the bit; whether it was set.
    #[inline]
    pub(super) fn clear(&mut self, at: usize) -> bool {
        let (word, bit) = (&mut self.0[at / WORD], 1 << (at % WORD));
        if *word & bit == 0 {
            return false;
        }
        *word &= !bit;
        true
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Set bits below `at`.
    pub(super) fn rank(&self, at: usize) -> usize {
        let whole: usize = self.0[..at / WORD].iter().map(|word| word.count_ones() as usize).sum();
        whole + (self.0[at / WORD] & ((1 << (at % WORD)) - 1)).count_ones() as usize
    }

    /// The first clear bit at or after `from`; [`BLOCK`] if there is none.
    #[inline]
    pub(super) fn next_clear(&self, from: usize) -> usize {
        self.next(from, |word| !word)
    }

    /// The first set bit at or after `from`; [`BLOCK`] if there is none.
    #[inline]
    pub(super) fn next_set(&self, from: usize) -> usize {
        self.next(from, |word| word)
    }

    #[inline]
    fn next(&self, from: usize, view: impl Fn(u64) -> u64) -> usize {
        if from >= BLOCK {
            return BLOCK;
        }
        let mut at = from / WORD;
        let mut word = view(self.0[at]) & (u64::MAX << (from % WORD));
        while word == 0 {
            at += 1;
            if at == WORDS {
                return BLOCK;
            }
            word = view(self.0[at]);
        }
        at * WORD + word.trailing_zeros() as usize
    }

    /// The set bits in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let first = self.next_set(0);
        std::iter::successors(Some(first), |&at| Some(self.next_set(at + 1))).take_while(|&at| at < BLOCK)
    }

    /// Sets the bits below `filled` that are clear in `other`, and clears all others.
    pub(super) fn assign_missing(&mut self, other: &Self, filled: usize) {
        for (index, (word, other)) in self.0.iter_mut().zip(other.0).enumerate() {
            let valid = filled.saturating_sub(index * WORD).min(WORD);
            *word = if valid == 0 { 0 } else { !other & (u64::MAX >> (WORD - valid)) };
        }
    }

    /// Sets the bits that are set in `other`.
    pub(super) fn unite(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word |= other;
        }
    }

    /// Clears the bits that are clear in `other`.
    pub(super) fn retain(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word &= other;
        }
    }

    /// Clear bits below `at`, or anywhere from [`BLOCK`] on.
    pub(super) fn count_clear_below(&self, at: usize) -> usize {
        if at >= BLOCK { BLOCK - self.rank(BLOCK - 1) - usize::from(self.get(BLOCK - 1)) } else { at - self.rank(at) }
    }

    /// Sets the bits `from..end`, of which there is at least one.
    #[inline]
    pub(super) fn set_range(&mut self, from: usize, end: usize) {
        self.change_range(from, end, |word, mask| *word |= mask);
    }

    /// Clears the bits `from..end`, of which there is at least one.
    #[inline]
    pub(super) fn clear_range(&mut self, from: usize, end: usize) {
        self.change_range(from, end, |word, mask| *word &= !mask);
    }

    #[inline]
    fn change_range(&mut self, from: usize, end: usize, change: impl Fn(&mut u64, u64)) {
        debug_assert!(from < end && end <= BLOCK, "no range of a block: {from}..{end}");
        let (first, last) = (from / WORD, (end - 1) / WORD);
        let from_mask = u64::MAX << (from % WORD);
        let end_mask = u64::MAX >> (WORD - 1 - (end - 1) % WORD);
        if first == last {
            change(&mut self.0[first], from_mask & end_mask);
            return;
        }
        change(&mut self.0[first], from_mask);
        self.0[first + 1..last].iter_mut().for_each(|word| change(word, u64::MAX));
        change(&mut self.0[last], end_mask);
    }

    /// Sets the bits below `end`.
    pub(super) fn set_below(&mut self, end: usize) {
        for (index, word) in self.0.iter_mut().enumerate() {
            let valid = end.saturating_sub(index * WORD).min(WORD);
            *word |= if valid == 0 { 0 } else { u64::MAX >> (WORD - valid) };
        }
    }

    /// The bits, 64 a word, the first in the lowest bit.
    pub(super) fn words(&self) -> &[u64] {
        &self.0
    }

    pub(super) fn from_words(words: impl Iterator<Item = u64>) -> Self {
        let mut bits = Self::EMPTY;
        for (to, from) in bits.0.iter_mut().zip(words) {
            *to = from;
        }
        bits
    }

    /// Whether all bits that are set here are set in `other`.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(word, other)| word & !other == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Bits};

    #[test]
    fn bits_are_found_counted_and_ranked() {
        let mut bits = Bits::EMPTY;
        for at in [0, 1, 63, 64, 70, BLOCK - 1] {
            assert!(bits.set(at), "bit {at} was clear");
            assert!(!bits.set(at), "bit {at} is set");
        }
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 1, 63, 64, 70, BLOCK - 1]);
        assert_eq!((bits.count(), bits.rank(64), bits.rank(65), bits.rank(BLOCK - 1)), (6, 3, 4, 5));
        assert_eq!((bits.next_clear(0), bits.next_clear(63), bits.next_clear(BLOCK - 1)), (2, 65, BLOCK));
        assert!(bits.clear(70) && !bits.clear(70));
        assert_eq!(bits.next_set(65), BLOCK - 1);
    }

    #[test]
    fn a_range_is_what_its_bits_are_one_by_one() {
        let ends = [0, 1, 2, 62, 63, 64, 65, 66, 127, BLOCK - 1, BLOCK];
        for (from, end) in ends.iter().flat_map(|&from| ends.map(|end| (from, end))).filter(|(from, end)| from < end) {
            let (mut range, mut single) = (Bits::EMPTY, Bits::EMPTY);
            range.set_range(from, end);
            (from..end).for_each(|at| assert!(single.set(at), "{at}"));
            assert_eq!(range, single, "{from}..{end}");
            range.set_below(BLOCK);
            single.set_below(BLOCK);
            range.clear_range(from, end);
            (from..end).for_each(|at| assert!(single.clear(at), "{at}"));
            assert_eq!(range, single, "all but {from}..{end}");
        }
    }

    #[test]
    fn clear_bits_are_counted_up_to_a_place_and_the_end() {
        let mut bits = Bits::EMPTY;
        for at in [1, 63, 64, BLOCK - 1] {
            bits.set(at);
        }
        let counts = [0, 1, 2, 64, 66, BLOCK - 1, BLOCK].map(|at| bits.count_clear_below(at));
        assert_eq!(counts, [0, 1, 1, 62, 63, BLOCK - 4, BLOCK - 4]);
        let mut other = Bits::EMPTY;
        other.set_below(64);
        bits.retain(&other);
        assert_eq!(bits.iter().collect::<Vec<_>>(), [1, 63]);
    }

    #[test]
    fn what_is_missing_is_only_looked_for_where_there_is_something() {
        let mut kept = Bits::EMPTY;
        kept.set(3);
        let mut missing = Bits::EMPTY;
        missing.set(BLOCK - 1);
        missing.assign_missing(&kept, 66);
        assert_eq!(missing.count(), 65);
        assert!(!missing.get(3) && missing.get(65) && !missing.get(66) && !missing.get(BLOCK - 1));
        missing.assign_missing(&kept, BLOCK);
        assert_eq!(missing.count(), BLOCK - 1);
    }
}
