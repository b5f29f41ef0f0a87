//! Which entry is due: a hierarchical timer wheel.
//!
//! Deadlines come in any order and most are cancelled before they pass (the entry is evicted or replaced), so an
//! order over all of them would be work for nothing. The wheel sorts only as much as the time needs: a deadline far
//! away waits in a wide bucket, and moves to narrower ones as it comes near.
//!
//! # How it works
//! Time is nanoseconds since the cache's start, read as eleven digits of six bits. A level is a digit; it has a
//! bucket for each value of that digit. A deadline waits at the highest digit in which it differs from `sorted`, the
//! time up to which the wheel is sorted out, in the bucket that its digit names:
//!
//! ```text
//! sorted     … 0  0  3  7 12 40      level 0: buckets of 1 ns, later than …  3  7 12 40
//! deadline   … 0  0  3  9  1  1      level 1: buckets of 64 ns
//!                       ^            level 2: buckets of 4096 ns: this deadline waits in bucket 9
//! ```
//!
//! Everything in a lower level comes before everything in a higher one, and in a level the smaller bucket comes
//! first; an occupancy bitmap a level finds the first bucket in a few instructions however long the stretch before
//! it. Once time has reached a bucket, its nodes are moved to the list `due` in one step, and from there taken one at
//! a time: returned if due, else put into a lower level. So a node moves at most ten times in its life and no call
//! moves more nodes than it must; [`Wheel::pop_expired_within`] bounds that number as well.
//!
//! The lowest level's buckets are one nanosecond wide: the wheel is exact. Three levels below the millisecond cost a
//! node little, because time mostly jumps over them: what is due by then is returned from where it stands.
//!
//! # Source
//! G. Varghese, A. Lauck, "Hashed and hierarchical timing wheels: data structures for the efficient implementation
//! of a timer facility", SOSP 1987, scheme 7. Differences: nodes move singly, empty buckets are skipped by bitmaps,
//! and there is no tick.

use crate::Slot;

#[cfg(test)]
mod tests;

/// The deadline of what never expires.
pub(crate) const NEVER: u64 = u64::MAX;

const DIGIT_BITS: u32 = 6;
const BUCKETS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = u64::BITS.div_ceil(DIGIT_BITS) as usize;

/// The list of nodes in a bucket that time has reached, behind those of the levels.
const DUE: usize = LEVELS * BUCKETS;
const LISTS: usize = DUE + 1;

/// No node follows.
const NIL: u32 = u32::MAX;
/// The first node of list `i` has `FIRST + i` where others have their predecessor: a node can be unlinked without
/// searching for its list, and the list needs no more than its head.
const FIRST: u32 = NIL - LISTS as u32;

/// A slot's place; in no list if its deadline is [`NEVER`].
#[derive(Clone, Copy, Debug)]
struct Node {
    deadline: u64,
    prev: u32,
    next: u32,
}

impl Node {
    const IDLE: Self = Self { deadline: NEVER, prev: NIL, next: NIL };
}

/// Deadlines of slots, and which of them have passed.
///
/// # Invariants
/// - **I1** A node is in exactly one list if it has a deadline, and in none if its deadline is [`NEVER`]; `len`
///   counts the nodes in lists.
/// - **I2** A node in level `l`, bucket `b` has a deadline whose highest digit that differs from `sorted` is digit
///   `l`, larger than that of `sorted` and equal to `b`.
/// - **I3** The bit of a bucket is set if and only if the bucket has a node.
/// - **I4** `wake` is at most the smallest deadline.
/// - **I5** `sorted <= now`.
/// - **I6** Links lead both ways; the first node of a list names its list.
///
/// # Complexity
/// `schedule`, `cancel` and the look at the next deadline: O(1). Popping: O(1) amortised. 16 bytes for each slot up
/// to the largest ever scheduled, and 2.9 KiB once the first is.
#[derive(Clone, Debug)]
pub(crate) struct Wheel {
    nodes: Vec<Node>,
    /// The first node of each bucket and of `DUE`; empty until something is scheduled.
    heads: Vec<u32>,
    occupied: [u64; LEVELS],
    /// The latest time seen.
    now: u64,
    /// The time against which nodes were placed.
    sorted: u64,
    /// Before this time nothing is due: the answer of almost every call.
    wake: u64,
    len: usize,
}

impl Wheel {
    /// An empty wheel at this time; allocates nothing yet.
    pub(crate) const fn new(now: u64) -> Self {
        Self { nodes: Vec::new(), heads: Vec::new(), occupied: [0; LEVELS], now, sorted: now, wake: NEVER, len: 0 }
    }

    /// The number of slots scheduled.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The latest time seen.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// The deadline of `slot`; [`NEVER`] if it is not scheduled.
    #[inline]
    pub(crate) fn deadline(&self, slot: Slot) -> u64 {
        self.nodes.get(slot.index()).map_or(NEVER, |node| node.deadline)
    }

    /// Whether `slot` has a deadline.
    #[inline]
    pub(crate) fn is_scheduled(&self, slot: Slot) -> bool {
        self.deadline(slot) != NEVER
    }

    /// Gives `slot` this deadline in place of the one it may have. [`NEVER`] takes it out.
    pub(crate) fn schedule(&mut self, slot: Slot, deadline: u64) {
        self.cancel(slot);
        if deadline == NEVER {
            return;
        }
        assert!(slot.get() < FIRST, "{slot:?} is out of the wheel's range");
        if self.heads.is_empty() {
            self.heads.resize(LISTS, NIL);
        }
        if slot.index() >= self.nodes.len() {
            self.nodes.resize(slot.index() + 1, Node::IDLE);
        }
        self.nodes[slot.index()].deadline = deadline;
        self.place(slot.get());
        self.wake = self.wake.min(deadline);
        self.len += 1;
    }

    /// Takes the deadline of `slot` away, if it has one.
    pub(crate) fn cancel(&mut self, slot: Slot) {
        if self.is_scheduled(slot) {
            self.unlink(slot.get());
            self.nodes[slot.index()].deadline = NEVER;
            self.len -= 1;
        }
    }

    /// A time before which nothing is due: `None` if nothing is scheduled, else at most the smallest deadline, and
    /// past only if something may be due now.
    ///
    /// Whoever sleeps until then and pops finds a later answer or a due slot; at most ten such wake-ups come before
    /// a deadline.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        (self.len > 0).then_some(self.wake)
    }

    /// Takes out a slot whose deadline is at or before `now` and returns it; `None` once there is none. The order
    /// among due slots is not specified. A `now` before the latest one seen counts as that one.
    #[cfg(test)]
    pub(crate) fn pop_expired(&mut self, now: u64) -> Option<Slot> {
        let mut moves = usize::MAX;
        self.pop_expired_within(now, &mut moves)
    }

    /// As [`Wheel::pop_expired`], but moves at most `moves` nodes to narrower buckets, and counts `moves` down by
    /// those. `None` with `moves` at 0 means that due slots may be left for the next call.
    #[inline]
    pub(crate) fn pop_expired_within(&mut self, now: u64, moves: &mut usize) -> Option<Slot> {
        self.now = self.now.max(now);
        if self.now < self.wake { None } else { self.sort_out(moves) }
    }

    fn sort_out(&mut self, moves: &mut usize) -> Option<Slot> {
        loop {
            while let Some(index) = self.first(DUE) {
                let due = self.nodes[index as usize].deadline <= self.now;
                if due {
                    let slot = Slot::new(index);
                    self.cancel(slot);
                    return Some(slot);
                }
                *moves = moves.checked_sub(1)?;
                self.unlink(index);
                self.place(index);
            }
            let Some((level, bucket)) = self.earliest() else {
                (self.sorted, self.wake) = (self.now, NEVER);
                return None;
            };
            let shift = level as u32 * DIGIT_BITS;
            let start = (((self.sorted >> shift) & !(BUCKETS as u64 - 1)) | bucket as u64) << shift;
            if start > self.now {
                (self.sorted, self.wake) = (self.now, start);
                return None;
            }
            // Lower levels are empty, so the time may go up to the bucket's end without disordering any node; a
            // node that is not due will then be later than `sorted` within this bucket, which is a lower level.
            self.sorted = self.now.min(start | ((1 << shift) - 1));
            self.make_due(level, bucket);
        }
    }

    /// The first occupied bucket.
    fn earliest(&self) -> Option<(usize, usize)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    fn first(&self, list: usize) -> Option<u32> {
        self.heads.get(list).copied().filter(|&index| index != NIL)
    }

    /// Hands the whole bucket over to the list of due nodes, which is empty.
    fn make_due(&mut self, level: usize, bucket: usize) {
        let list = level * BUCKETS + bucket;
        let head = std::mem::replace(&mut self.heads[list], NIL);
        self.occupied[level] &= !(1 << bucket);
        self.heads[DUE] = head;
        self.nodes[head as usize].prev = FIRST + DUE as u32;
    }

    /// Links the node, which is in no list, to the front of the list that its deadline names.
    fn place(&mut self, index: u32) {
        let deadline = self.nodes[index as usize].deadline;
        let list = if deadline <= self.sorted {
            DUE
        } else {
            let level = ((deadline ^ self.sorted).ilog2() / DIGIT_BITS) as usize;
            let bucket = (deadline >> (level as u32 * DIGIT_BITS)) as usize % BUCKETS;
            self.occupied[level] |= 1 << bucket;
            level * BUCKETS + bucket
        };
        let next = std::mem::replace(&mut self.heads[list], index);
        let node = &mut self.nodes[index as usize];
        (node.prev, node.next) = (FIRST + list as u32, next);
        if next != NIL {
            self.nodes[next as usize].prev = index;
        }
    }

    /// Takes the node out of its list.
    fn unlink(&mut self, index: u32) {
        let Node { prev, next, .. } = self.nodes[index as usize];
        if next != NIL {
            self.nodes[next as usize].prev = prev;
        }
        if prev < FIRST {
            self.nodes[prev as usize].next = next;
            return;
        }
        let list = (prev - FIRST) as usize;
        self.heads[list] = next;
        if next == NIL && list != DUE {
            self.occupied[list / BUCKETS] &= !(1 << (list % BUCKETS));
        }
    }

    /// Walks all lists and panics, naming the invariant, if something is wrong.
    #[cfg(any(test, fuzzing, shuttle, feature = "testing"))]
    pub(crate) fn check_invariants(&self) {
        assert!(self.sorted <= self.now, "I5: sorted {} is after now {}", self.sorted, self.now);
        let mut linked = 0;
        for list in 0..self.heads.len() {
            if list != DUE {
                let bit = self.occupied[list / BUCKETS] >> (list % BUCKETS) & 1 == 1;
                assert_eq!(bit, self.first(list).is_some(), "I3: bit of list {list}");
            }
            let (mut prev, mut at) = (FIRST + list as u32, self.heads[list]);
            while at != NIL {
                let node = self.nodes[at as usize];
                assert_eq!(node.prev, prev, "I6: slot {at} does not lead back");
                assert_ne!(node.deadline, NEVER, "I1: slot {at} is linked without a deadline");
                assert!(self.wake <= node.deadline, "I4: wake {} is after {}", self.wake, node.deadline);
                if list != DUE {
                    self.check_place(list / BUCKETS, list % BUCKETS, node.deadline);
                }
                linked += 1;
                assert!(linked <= self.len, "I1, I6: more nodes in lists than scheduled");
                (prev, at) = (at, node.next);
            }
        }
        assert_eq!(linked, self.len, "I1: nodes in lists");
        let scheduled = self.nodes.iter().filter(|node| node.deadline != NEVER).count();
        assert_eq!(scheduled, self.len, "I1: nodes with a deadline");
    }

    #[cfg(any(test, fuzzing, shuttle, feature = "testing"))]
    fn check_place(&self, level: usize, bucket: usize, deadline: u64) {
        let digit = |time: u64, level: usize| (time >> (level as u32 * DIGIT_BITS)) as usize % BUCKETS;
        assert_eq!(digit(deadline, level), bucket, "I2: digit {level} of {deadline}");
        assert!(digit(self.sorted, level) < bucket, "I2: {deadline} in level {level} at {}", self.sorted);
        for higher in level + 1..LEVELS {
            assert_eq!(digit(deadline, higher), digit(self.sorted, higher), "I2: digit {higher} of {deadline}");
        }
    }
}
