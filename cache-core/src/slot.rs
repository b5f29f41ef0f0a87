//! Where an entry lives.

use std::fmt;

/// Names one resident entry of one shard: an index into the shard's slab.
///
/// Indices are dense and small (below the largest number of entries that the shard has ever held), so a policy
/// can keep its own data in a plain vector indexed by slot. An index is reused once its entry is gone: a slot is
/// only meaningful between the [`Policy::insert`](crate::Policy::insert) and the
/// [`Policy::remove`](crate::Policy::remove) that name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    /// The number of slots a shard can have; the last index is one less.
    pub const MAX_COUNT: u32 = u32::MAX - 1_024;

    /// The slot with this index.
    ///
    /// # Panics
    /// If `index` is not below [`Slot::MAX_COUNT`]. The engine never asks for such a slot: a shard refuses to
    /// grow that far.
    #[inline]
    #[must_use]
    pub const fn new(index: u32) -> Self {
        assert!(index < Self::MAX_COUNT, "slot index out of range");
        Self(index)
    }

    /// The slot that a link or an index table names; it came out of [`get`](Self::get), so it is in range.
    #[inline]
    pub(crate) const fn from_stored(index: u32) -> Self {
        debug_assert!(index < Self::MAX_COUNT, "not a stored slot");
        Self(index)
    }

    /// The index as it is used to address a vector.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The index as it is stored in links.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0)
    }
}
