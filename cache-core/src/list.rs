//! Doubly linked lists threaded through slots.
//!
//! A policy keeps entries in order and moves them at every hit, so a move must cost a few stores and no allocation.
//! Here the links lie in one vector indexed by slot and name their neighbours by index: a quarter of the pointers'
//! size on most machines, no unsafe code, no reference that could dangle. One [`Links`] serves any number of
//! [`List`]s, because a slot is in one list at a time; moving a slot to another list allocates nothing either.
//!
//! Where entries need a few bytes beside their place (the list they are in, a deadline, a count), `Links<T>` keeps
//! them in the same cache line as the links.

use crate::Slot;

#[cfg(test)]
mod tests;

/// No neighbour on this side: the slot is first or last.
const NIL: u32 = u32::MAX;
/// In both links of a slot that is in no list.
const FREE: u32 = u32::MAX - 1;
const _: () = assert!(Slot::MAX_COUNT <= FREE, "markers must not be slots");

#[derive(Clone, Copy, Debug)]
struct Link<T> {
    prev: u32,
    next: u32,
    data: T,
}

/// The links of all slots, each with a `T` beside it; shared by any number of [`List`]s.
///
/// Takes `8 + size_of::<T>()` bytes (rounded up to the alignment of `T`) for each slot up to the largest ever
/// linked, and grows when a larger one is.
///
/// # Examples
/// ```
/// use tenfold_cache_core::{Slot, list::{Links, List}};
///
/// let mut links = Links::new();
/// let (mut hot, mut cold) = (List::new(), List::new());
/// for index in 0..3 {
///     cold.push_front(&mut links, Slot::new(index));
/// }
/// cold.remove(&mut links, Slot::new(1));
/// hot.push_front(&mut links, Slot::new(1));
/// assert_eq!(cold.iter(&links).map(Slot::get).collect::<Vec<_>>(), [2, 0]);
/// assert_eq!(hot.back(), Some(Slot::new(1)));
/// ```
#[derive(Clone, Debug)]
pub struct Links<T = ()> {
    links: Vec<Link<T>>,
}

impl Links {
    /// Links without data; allocates nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { links: Vec::new() }
    }
}

impl<T> Default for Links<T> {
    fn default() -> Self {
        Self { links: Vec::new() }
    }
}

impl<T: Clone + Default> Links<T> {
    /// Whether `slot` is in a list.
    #[inline]
    #[must_use]
    pub fn is_linked(&self, slot: Slot) -> bool {
        self.links.get(slot.index()).is_some_and(|link| link.next != FREE)
    }

    /// The data beside `slot`: what was last written, `T::default()` before that.
    ///
    /// # Panics
    /// If neither `slot` nor a larger one was ever linked.
    #[inline]
    #[must_use]
    pub fn data(&self, slot: Slot) -> &T {
        &self.links[slot.index()].data
    }

    /// The data beside `slot`, to be changed.
    ///
    /// # Panics
    /// If neither `slot` nor a larger one was ever linked.
    #[inline]
    pub fn data_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.links[slot.index()].data
    }

    /// The neighbour of `slot` towards the back of its list.
    #[inline]
    #[must_use]
    pub fn next(&self, slot: Slot) -> Option<Slot> {
        self.links.get(slot.index()).and_then(|link| to_slot(link.next))
    }

    /// The neighbour of `slot` towards the front of its list.
    #[inline]
    #[must_use]
    pub fn prev(&self, slot: Slot) -> Option<Slot> {
        self.links.get(slot.index()).and_then(|link| to_slot(link.prev))
    }

    /// Forgets all links and data and keeps the memory. Every list over these links must be cleared with it.
    pub fn clear(&mut self) {
        self.links.clear();
    }

    /// Makes room for `slot`.
    #[inline]
    fn grow(&mut self, slot: Slot) {
        if slot.index() >= self.links.len() {
            self.links.resize(slot.index() + 1, Link { prev: FREE, next: FREE, data: T::default() });
        }
        debug_assert!(!self.is_linked(slot), "{slot:?} is in a list already");
    }

    #[inline(always)]
    fn at(&mut self, index: u32) -> &mut Link<T> {
        &mut self.links[index as usize]
    }
}

#[inline]
fn to_slot(index: u32) -> Option<Slot> {
    (index < FREE).then(|| Slot::new(index))
}

/// One list: where it begins and ends. The links between are in the [`Links`] given to each call, which must be
/// the same at every call.
///
/// A slot that is in another list, or in none where one is needed, is a mistake of the caller: it panics in builds
/// with debug assertions and leaves the lists in a wrong order, or panics, in others.
///
/// # Invariants
/// - **I1** Walking `next` from the head visits `len` slots and ends at the tail; walking `prev` from the tail
///   visits the same slots in the opposite order and ends at the head.
/// - **I2** The head has no `prev` and the tail no `next`; an empty list has neither head nor tail.
/// - **I3** A slot in no list has the mark "free" in both links; a slot in a list has it in none.
///
/// # Complexity
/// Every operation takes a constant number of steps and touches the slot, its neighbours and the end it goes to;
/// only growing allocates.
#[derive(Clone, Debug)]
pub struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl List {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { head: NIL, tail: NIL, len: 0 }
    }

    /// The number of slots in the list.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no slot is in the list.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first slot.
    #[inline]
    #[must_use]
    pub fn front(&self) -> Option<Slot> {
        to_slot(self.head)
    }

    /// The last slot.
    #[inline]
    #[must_use]
    pub fn back(&self) -> Option<Slot> {
        to_slot(self.tail)
    }

    /// Puts `slot`, which is in no list, at the front.
    #[inline]
    pub fn push_front<T: Clone + Default>(&mut self, links: &mut Links<T>, slot: Slot) {
        links.grow(slot);
        self.link_front(links, slot.get());
        self.len += 1;
    }

    /// Puts `slot`, which is in no list, at the back.
    #[inline]
    pub fn push_back<T: Clone + Default>(&mut self, links: &mut Links<T>, slot: Slot) {
        links.grow(slot);
        self.link_between(links, self.tail, slot.get(), NIL);
    }

    /// Puts `slot`, which is in no list, behind `place`, which is in this one.
    #[inline]
    pub fn insert_after<T: Clone + Default>(&mut self, links: &mut Links<T>, place: Slot, slot: Slot) {
        links.grow(slot);
        debug_assert!(links.is_linked(place), "{place:?} is in no list");
        let next = links.at(place.get()).next;
        self.link_between(links, place.get(), slot.get(), next);
    }

    /// Takes `slot`, which is in this list, out of it.
    #[inline]
    pub fn remove<T: Clone + Default>(&mut self, links: &mut Links<T>, slot: Slot) {
        debug_assert!(links.is_linked(slot), "{slot:?} is in no list");
        let link = links.at(slot.get());
        let (prev, next) = (link.prev, link.next);
        (link.prev, link.next) = (FREE, FREE);
        if prev == NIL {
            self.head = next;
        } else {
            links.at(prev).next = next;
        }
        if next == NIL {
            self.tail = prev;
        } else {
            links.at(next).prev = prev;
        }
        self.len -= 1;
    }

    /// Moves `slot`, which is in this list, to its front. The hit path of every policy that keeps recency.
    #[inline(always)]
    pub fn move_to_front<T: Clone + Default>(&mut self, links: &mut Links<T>, slot: Slot) {
        let slot = slot.get();
        if slot == self.head {
            return;
        }
        debug_assert!(links.is_linked(Slot::new(slot)), "slot {slot} is in no list");
        let link = links.at(slot);
        let (prev, next) = (link.prev, link.next);
        // Not at the front, so there is a neighbour before it.
        links.at(prev).next = next;
        if next == NIL {
            self.tail = prev;
        } else {
            links.at(next).prev = prev;
        }
        self.link_front(links, slot);
    }

    /// Takes the last slot out and returns it.
    #[inline]
    pub fn pop_back<T: Clone + Default>(&mut self, links: &mut Links<T>) -> Option<Slot> {
        let slot = self.back()?;
        self.remove(links, slot);
        Some(slot)
    }

    /// The slots from front to back, or from either end.
    #[must_use]
    pub fn iter<'a, T: Clone + Default>(&self, links: &'a Links<T>) -> Iter<'a, T> {
        Iter { links, front: self.head, back: self.tail, left: self.len }
    }

    #[inline(always)]
    fn link_front<T: Clone + Default>(&mut self, links: &mut Links<T>, slot: u32) {
        let head = self.head;
        let link = links.at(slot);
        (link.prev, link.next) = (NIL, head);
        if head == NIL {
            self.tail = slot;
        } else {
            links.at(head).prev = slot;
        }
        self.head = slot;
    }

    #[inline]
    fn link_between<T: Clone + Default>(&mut self, links: &mut Links<T>, prev: u32, slot: u32, next: u32) {
        let link = links.at(slot);
        (link.prev, link.next) = (prev, next);
        if prev == NIL {
            self.head = slot;
        } else {
            links.at(prev).next = slot;
        }
        if next == NIL {
            self.tail = slot;
        } else {
            links.at(next).prev = slot;
        }
        self.len += 1;
    }

    /// Walks the list and panics, naming the invariant, if something is wrong. For tests; O(n).
    ///
    /// # Panics
    /// If an invariant is broken.
    pub fn check_invariants<T: Clone + Default>(&self, links: &Links<T>) {
        let (mut seen, mut prev, mut at) = (0_u32, NIL, self.head);
        while at != NIL {
            assert!(at < FREE, "I3: slot {prev} of a list leads to a free mark");
            assert!(seen < self.len, "I1: more than {} slots follow the head", self.len);
            let link = &links.links[at as usize];
            assert_eq!(link.prev, prev, "I1, I2: slot {at} does not lead back to where it was reached from");
            (seen, prev, at) = (seen + 1, at, link.next);
        }
        assert_eq!(seen, self.len, "I1: slots reached from the head");
        assert_eq!(prev, self.tail, "I1, I2: the last slot reached is the tail");
    }
}

/// The slots of a [`List`] in order; see [`List::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a, T = ()> {
    links: &'a Links<T>,
    front: u32,
    back: u32,
    left: u32,
}

impl<T: Clone + Default> Iterator for Iter<'_, T> {
    type Item = Slot;

    #[inline]
    fn next(&mut self) -> Option<Slot> {
        self.left = self.left.checked_sub(1)?;
        let slot = Slot::new(self.front);
        self.front = self.links.links[slot.index()].next;
        Some(slot)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl<T: Clone + Default> DoubleEndedIterator for Iter<'_, T> {
    #[inline]
    fn next_back(&mut self) -> Option<Slot> {
        self.left = self.left.checked_sub(1)?;
        let slot = Slot::new(self.back);
        self.back = self.links.links[slot.index()].prev;
        Some(slot)
    }
}

impl<T: Clone + Default> ExactSizeIterator for Iter<'_, T> {}
