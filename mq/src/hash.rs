//! SipHash, for keys and deduplication ids.
//!
//! Both come from outside. Whoever could make two ids collide could make the queue drop somebody's message as a
//! duplicate, so the hash is keyed by the queue's identity, which is random, and has 128 bits for ids. It is kept in
//! checkpoints, so it may not change with the compiler as the standard library's may.
//!
//! # Source
//! J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012; the 128-bit variant is the
//! authors' later addition to their reference description.

/// The state after a key was taken in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sip {
    state: [u64; 4],
}

impl Sip {
    pub(crate) const fn new(key: [u64; 2]) -> Self {
        let [low, high] = key;
        Self {
            state: [
                low ^ 0x736f_6d65_7073_6575,
                // The variant of 128 bits begins differently here.
                high ^ 0x646f_7261_6e64_6f6d ^ 0xee,
                low ^ 0x6c79_6765_6e65_7261,
                high ^ 0x7465_6462_7974_6573,
            ],
        }
    }

    /// SipHash-2-4-128.
    pub(crate) fn hash(&self, bytes: &[u8]) -> u128 {
        let mut state = self.state;
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            absorb(&mut state, read_word(word));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        last[7] = bytes.len() as u8;
        absorb(&mut state, u64::from_le_bytes(last));
        state[2] ^= 0xee;
        let low = finish(&mut state);
        state[1] ^= 0xdd;
        let high = finish(&mut state);
        u128::from(low) | u128::from(high) << 64
    }
}

/// Little endian.
fn read_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    round(state);
    state[0] ^= word;
}

fn finish(state: &mut [u64; 4]) -> u64 {
    (0..4).for_each(|_| round(state));
    state.iter().fold(0, |sum, word| sum ^ word)
}

fn round(state: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *state = [a, b, c, d];
}

/// A random number from the operating system, by the only way the standard library has to it.
#[cfg(not(all(test, shuttle)))]
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// A model's run must be repeatable.
#[cfg(all(test, shuttle))]
pub(crate) fn random() -> u64 {
    shuttle::rand::Rng::r#gen(&mut shuttle::rand::thread_rng())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The authors' first vectors: key 00 01 … 0f, input of 0, 1, 2, 3 bytes 00 01 ….
    #[test]
    fn the_published_vectors_hold() {
        let sip = Sip::new([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        let input: Vec<u8> = (0..64).collect();
        let expected: [[u8; 16]; 2] = [
            [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93],
            [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45],
        ];
        for (length, expected) in expected.iter().enumerate() {
            assert_eq!(sip.hash(&input[..length]).to_le_bytes(), *expected, "{length}");
        }
    }

    #[test]
    fn every_byte_and_the_length_count() {
        let sip = Sip::new([1, 2]);
        let mut seen = std::collections::HashSet::new();
        for length in 0..40 {
            let mut input = vec![0; length];
            assert!(seen.insert(sip.hash(&input)));
            for at in 0..length {
                input[at] = 1;
                assert!(seen.insert(sip.hash(&input)), "{length} {at}");
                input[at] = 0;
            }
        }
    }
}
