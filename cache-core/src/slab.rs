//! Entries addressed by slot.
//!
//! A slab keeps keys and values in one vector and hands out dense indices. The place of an entry never moves while
//! it lives, so the index table and the policy refer to it by four bytes.

use crate::Slot;

/// One place. The discriminant, the flag and the generation share eight bytes.
enum Place<K, V> {
    Vacant { next: u32 },
    Occupied { pinned: bool, generation: u32, key: K, value: V },
}

const NONE: u32 = u32::MAX;

/// # Invariants
/// - **S1** `len` places are occupied; every vacant one is on the free list once.
/// - **S2** A generation is new for each value that is written: it differs from those of the last 2^32 - 1 writes to
///   this slab. Whoever finds the generation unchanged finds the value unchanged.
pub(crate) struct Slab<K, V> {
    places: Vec<Place<K, V>>,
    free: u32,
    len: usize,
    generation: u32,
}

impl<K, V> Slab<K, V> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: NONE, len: 0, generation: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether no further entry can be addressed.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.free == NONE && self.places.len() >= Slot::MAX_COUNT as usize
    }

    #[inline]
    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// Puts an entry into a free place. `expected` is how many entries the slab will probably hold: memory grows
    /// by doubling up to there and by eighths beyond; 0 means that nobody knows.
    #[inline]
    pub(crate) fn insert(&mut self, key: K, value: V, expected: usize) -> Slot {
        let generation = self.next_generation();
        let place = Place::Occupied { pinned: false, generation, key, value };
        self.len += 1;
        if self.free == NONE {
            if self.places.len() == self.places.capacity() {
                self.grow(expected);
            }
            let index = u32::try_from(self.places.len()).expect("checked by is_exhausted");
            self.places.push(place);
            return Slot::new(index);
        }
        let slot = Slot::from_stored(self.free);
        if let Place::Vacant { next } = std::mem::replace(&mut self.places[slot.index()], place) {
            self.free = next;
        } else {
            unreachable!("S1: the free list names vacant places only");
        }
        slot
    }

    #[cold]
    fn grow(&mut self, expected: usize) {
        let len = self.places.len();
        let wanted = expected.saturating_sub(len);
        let more = match expected {
            // Nothing is known about the number of entries.
            0 => len,
            _ if wanted > 0 => wanted.min(len),
            _ => len / 8,
        };
        self.places.reserve_exact(more.max(16));
    }

    /// Takes the entry out of its place.
    #[inline]
    pub(crate) fn remove(&mut self, slot: Slot) -> (K, V) {
        let vacant = Place::Vacant { next: self.free };
        match std::mem::replace(&mut self.places[slot.index()], vacant) {
            Place::Occupied { key, value, .. } => {
                self.free = slot.get();
                self.len -= 1;
                (key, value)
            }
            Place::Vacant { .. } => unreachable!("S1: only occupied places are removed"),
        }
    }

    /// Puts a new value into an occupied place and returns the old one.
    pub(crate) fn replace(&mut self, slot: Slot, new: V) -> V {
        let fresh = self.next_generation();
        match &mut self.places[slot.index()] {
            Place::Occupied { generation, value, .. } => {
                *generation = fresh;
                std::mem::replace(value, new)
            }
            Place::Vacant { .. } => unreachable!("S1: only occupied places are replaced"),
        }
    }

    /// The key in this place.
    #[inline(always)]
    pub(crate) fn key(&self, slot: Slot) -> &K {
        match &self.places[slot.index()] {
            Place::Occupied { key, .. } => key,
            Place::Vacant { .. } => unreachable!("S1: the index names occupied places only"),
        }
    }

    /// The value in this place.
    #[inline]
    pub(crate) fn value(&self, slot: Slot) -> &V {
        match &self.places[slot.index()] {
            Place::Occupied { value, .. } => value,
            Place::Vacant { .. } => unreachable!("S1: the index names occupied places only"),
        }
    }

    /// The value in this place, and whether the entry is pinned.
    #[inline(always)]
    pub(crate) fn resident(&self, slot: Slot) -> (&V, bool) {
        match &self.places[slot.index()] {
            Place::Occupied { value, pinned, .. } => (value, *pinned),
            Place::Vacant { .. } => unreachable!("S1: the index names occupied places only"),
        }
    }

    /// The value in this place, to be changed. Counts as a write.
    pub(crate) fn value_mut(&mut self, slot: Slot) -> &mut V {
        let fresh = self.next_generation();
        match &mut self.places[slot.index()] {
            Place::Occupied { generation, value, .. } => {
                *generation = fresh;
                value
            }
            Place::Vacant { .. } => unreachable!("S1: the index names occupied places only"),
        }
    }

    /// The number of the write that put this value here; `None` if the place is vacant.
    pub(crate) fn generation(&self, slot: Slot) -> Option<u32> {
        match self.places.get(slot.index())? {
            Place::Occupied { generation, .. } => Some(*generation),
            Place::Vacant { .. } => None,
        }
    }

    #[inline]
    pub(crate) fn is_pinned(&self, slot: Slot) -> bool {
        let place = self.places.get(slot.index());
        matches!(place, Some(Place::Occupied { pinned: true, .. }))
    }

    pub(crate) fn set_pinned(&mut self, slot: Slot, to: bool) {
        if let Place::Occupied { pinned, .. } = &mut self.places[slot.index()] {
            *pinned = to;
        }
    }

    /// The occupied slots from index `start` on.
    pub(crate) fn slots_from(&self, start: usize) -> impl Iterator<Item = Slot> + '_ {
        let places = self.places.iter().enumerate().skip(start);
        places.filter_map(|(index, place)| match place {
            Place::Occupied { .. } => {
                Some(Slot::new(u32::try_from(index).expect("places are at most Slot::MAX_COUNT")))
            }
            Place::Vacant { .. } => None,
        })
    }

    #[cfg(any(test, fuzzing, shuttle, feature = "testing"))]
    pub(crate) fn check_invariants(&self) {
        let occupied = self.slots_from(0).count();
        assert_eq!(occupied, self.len, "S1: len counts the occupied places");
        let mut free = 0;
        let mut next = self.free;
        while next != NONE {
            free += 1;
            assert!(free <= self.places.len(), "S1: the free list is a cycle");
            next = match &self.places[next as usize] {
                Place::Vacant { next } => *next,
                Place::Occupied { .. } => panic!("S1: an occupied place is on the free list"),
            };
        }
        assert_eq!(occupied + free, self.places.len(), "S1: a vacant place is lost");
    }
}
