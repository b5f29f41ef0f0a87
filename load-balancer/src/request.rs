//! What a picker is told of a request.

use crate::BackendId;
use crate::rng::mix;

/// What a picker is told of a request. The default says nothing, which is right for most policies.
///
/// # Examples
/// ```
/// use tenfold_load_balancer::{Key, Request};
///
/// let by_user = Request::keyed(Key::of(b"user 123"));
/// assert_eq!(by_user.key, Some(Key::of(b"user 123")));
/// assert!(Request::default().avoid.is_empty());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What the hash policies place by; a random key is drawn where there is none. Other policies do not look at it.
    pub key: Option<Key>,
    /// The backend that served this client before, from a cookie. It is picked as long as it takes requests, even
    /// while it drains; the policy chooses if it is gone, ejected, to be avoided or has
    /// [`max_in_flight`](crate::Config::max_in_flight). The bound of load of hash policies does not keep it away.
    pub sticky: Option<BackendId>,
    /// Backends that failed this request already. They are picked only if there is no other.
    pub avoid: &'a [BackendId],
    /// Whether it may be the one by which a backend that was out is tried again; default true. To be false for a request
    /// that cannot be repeated elsewhere if it fails. A backend that has waited for its trial for a second takes any.
    pub may_be_trial: bool,
}

impl Request<'_> {
    const PLAIN: Self = Self { key: None, sticky: None, avoid: &[], may_be_trial: true };

    /// A request that is placed by its key.
    #[must_use]
    pub const fn keyed(key: Key) -> Self {
        Self { key: Some(key), ..Self::PLAIN }
    }
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self::PLAIN
    }
}

/// A hashed key: uniform in all 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The key of these bytes, the same in every process and version, so that several balancers agree.
    ///
    /// Not meant to resist a client that chooses keys on purpose so that they fall on one backend; hash those with a
    /// secret and use [`from_hash`](Self::from_hash).
    ///
    /// # Source
    /// FNV-1a over words of 8 bytes, finished by the mixer of SplitMix64.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3);
            hash ^= hash >> 29;
        }
        Self(mix(hash))
    }

    /// The key of a number.
    #[inline]
    #[must_use]
    pub const fn of_u64(number: u64) -> Self {
        Self(mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15)))
    }

    /// A hash that the host computed. Must be uniform in all 64 bits.
    #[inline]
    #[must_use]
    pub const fn from_hash(hash: u64) -> Self {
        Self(hash)
    }

    #[inline]
    pub(crate) const fn hash(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_in_every_byte_and_in_length() {
        let mut keys: Vec<_> = (0..40).map(|len| Key::of(&vec![0; len])).collect();
        keys.extend((0..40).map(|at| {
            let mut bytes = [0; 40];
            bytes[at] = 1;
            Key::of(&bytes)
        }));
        let count = keys.len();
        keys.sort_by_key(|key| key.hash());
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
