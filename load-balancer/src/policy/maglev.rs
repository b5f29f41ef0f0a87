//! Maglev hashing: a flat table of which the backends take turns to claim their favourite slots.

use super::rounds::Rounds;
use super::seat::{NoSeats, Seat};
use super::slots::{DEFAULT_SLOTS, Owners, Preference, slot_count};
use crate::Key;

const FREE: u32 = u32::MAX;

/// A table in which each seat holds its share of slots, as exactly as whole slots allow.
///
/// Each seat has its own order over the slots; in turns, as many as its weight, it claims the first in this order that is
/// free. A look-up is one multiplication and one index. The balance is as good as it gets; the price is that a change
/// of the seats moves some keys between seats that stay: about 0.55 % of all at 65,537 slots and 100 seats.
/// [`CappedRendezvous`](crate::hash::CappedRendezvous) moves far fewer and costs a little balance.
///
/// # Complexity
/// Building: O(m log m) steps expected for `m` slots, times O(log c) for `c` different weights; 2 bytes a slot, 4 with more than 65,536 seats.
///
/// # Source
/// Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4; weights by
/// the frequency of turns, as the paper suggests.
#[derive(Clone, Debug)]
pub struct Maglev {
    owners: Owners,
}

impl Maglev {
    /// The number of slots unless there is a reason: 65,537.
    pub const DEFAULT_SLOTS: u32 = DEFAULT_SLOTS;

    /// The table of these seats, with `slots` slots or the next prime above. There are 16 slots a seat at least, and
    /// 2^24 at most. More slots: better balance, fewer keys moved by a change, more cache misses.
    ///
    /// # Errors
    /// [`NoSeats`], if there is none.
    pub fn build(seats: &[Seat], slots: u32) -> Result<Self, NoSeats> {
        if seats.is_empty() {
            return Err(NoSeats);
        }
        let slots = slot_count(slots, seats.len());
        let mut preferences: Vec<_> = seats.iter().map(|seat| Preference::new(seat, slots)).collect();
        let mut owners = vec![FREE; slots as usize];
        let mut free = slots;
        let mut claim = |seat: u32| {
            // Some slot is free, and an order comes by all.
            let slot = loop {
                let slot = preferences[seat as usize].next(slots);
                if owners[slot] == FREE {
                    break slot;
                }
            };
            owners[slot] = seat;
            free -= 1;
            free > 0
        };
        let mut goes_on = true;
        let mut rounds = Rounds::new(seats, f64::from);
        while goes_on && rounds.play(|class| goes_on = class.members.iter().all(|&seat| claim(seat))) {}
        Ok(Self { owners: owners.into() })
    }

    /// The index of the key's seat, for attempt 0; for further attempts other slots' seats, which may repeat.
    #[inline]
    #[must_use]
    pub fn find(&self, key: Key, attempt: u32) -> u32 {
        self.owners.find(key, attempt)
    }

    /// The memory it takes beside itself.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.owners.bytes()
    }

    /// All that is needed to find a key's seat.
    pub(super) fn into_owners(self) -> Owners {
        self.owners
    }

    /// The owner of each slot.
    #[cfg(test)]
    pub(super) fn owners(&self) -> Vec<u32> {
        self.owners.to_vec()
    }
}
