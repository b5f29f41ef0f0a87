//! Capped rendezvous: a flat table whose slots go to the strongest claims, and no backend may hold too many.
//!
//! Rendezvous hashing moves no key needlessly, but asks every backend at each look-up. Asked once for each slot of a
//! table, it is as fast as Maglev; but with a few hundred slots a backend, chance makes some backends a tenth larger
//! than others. So there is a cap: whoever holds its share and 2 % is passed over, and the slot goes to its next
//! strongest claim. Only there, at the cap, does a change of the backends reach slots that it has nothing to do with.
//!
//! # How it works
//! Each backend has an order over all slots, given by its id ([`Preference`], as in Maglev). Its claim to the k-th slot
//! of its order falls due at time `-ln(1 - k/m) / weight`, and claims are granted in the order of time: a slot is taken
//! by the first claim that finds it free, made by a backend below its cap. Maglev differs in one point: there a backend whose
//! favourite is taken claims the next one at once, so that one change shifts all later turns. Here it waits for the
//! next round, and a claim's time depends on nothing but the backend and the slot.
//!
//! ```text
//!             round 1   round 2   round 3        slot   1 2 3 4 5 6 7
//! order of a  slot 3    slot 5    slot 7         owner  . b a . a b b
//! order of b  slot 6    slot 2    slot 7              7 is b's: equal claims by a lot that the round draws
//! ```
//!
//! That the claims of a backend are spread evenly over time, and not drawn at random for each slot, halves the variance of
//! what it wins, so that fewer backends reach the cap. It is also why the table is built in O(m log m): claims come in
//! the right order by themselves.
//!
//! # Source
//! Thaler, Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM Transactions on Networking 1998, for
//! the strongest claim; Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018, for the
//! cap, here on slots; the orders are Maglev's (NSDI 2016). Granting the strongest claims first is the stable
//! assignment of Gale and Shapley (1962) for preferences that both sides share. The combination is ours.

use super::logarithm::negative_ln;
use super::rounds::{Class, Rounds};
use super::seat::{NoSeats, Seat, hash_of, total_weight};
use super::slots::{DEFAULT_SLOTS, Owners, Preference, slot_count};
use crate::Key;

const FREE: u32 = u32::MAX;

/// A table in which each seat holds at most its weighted share of slots and a little, and a change of the seats moves
/// hardly any key that it need not.
///
/// The best of the hash tables where keys are cheap to spread but dear to move, as in front of caches. When one of 100
/// seats leaves, about 0.08 % of all keys move between seats that stay, at 65,537 slots and the default cap; with
/// [`Maglev`](crate::hash::Maglev) it is 0.55 %. A look-up is one multiplication and one index.
///
/// # Invariants
/// - **C1** Each slot has an owner.
/// - **C2** No seat owns more than `cap * slots * weight / total weight` slots, rounded up.
///
/// # Complexity
/// Building: O(m log m) steps expected for `m` slots, times O(log c) for `c` different weights; 2 bytes a slot, 4 with more than 65,536 seats.
#[derive(Clone, Debug)]
pub struct CappedRendezvous {
    owners: Owners,
}

impl CappedRendezvous {
    /// The number of slots unless there is a reason: 65,537.
    pub const DEFAULT_SLOTS: u32 = DEFAULT_SLOTS;

    /// The cap unless there is a reason: 102 % of the fair share.
    pub const DEFAULT_CAP_PERCENT: u32 = 102;

    /// The table of these seats, with `slots` slots or the next prime above. There are 16 slots a seat at least, and
    /// 2^24 at most. More slots: better balance, fewer keys moved by a change, more cache misses.
    ///
    /// `cap_percent` bounds what a seat holds, in percent of its share; below 100 counts as 100. Lower: better balance;
    /// higher: fewer keys moved, at 104 about a sixth of those at 102.
    ///
    /// # Errors
    /// [`NoSeats`], if there is none.
    pub fn build(seats: &[Seat], slots: u32, cap_percent: u32) -> Result<Self, NoSeats> {
        if seats.is_empty() {
            return Err(NoSeats);
        }
        let slots = slot_count(slots, seats.len());
        let mut grant = Grant::new(seats, slots, cap_percent);
        let last = f64::from(slots);
        let mut rounds = Rounds::new(seats, |round| negative_ln(1.0 - (f64::from(round) + 0.5) / last));
        // The caps leave room for all slots, and whoever is below its cap comes by all: no slot stays free.
        while grant.free > 0 && rounds.play(|class| grant.round(class)) {}
        debug_assert_eq!(grant.free, 0, "C1");
        Ok(Self { owners: grant.owners.into() })
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

/// The most slots that a seat may own: its share times the cap, rounded up.
fn cap(seat: &Seat, total_weight: u64, slots: u32, cap_percent: u32) -> u32 {
    let share = u128::from(seat.weight()) * u128::from(slots) * u128::from(cap_percent.max(100));
    u32::try_from(share.div_ceil(u128::from(total_weight) * 100)).unwrap_or(u32::MAX).min(slots)
}

/// A table while claims are granted.
struct Grant<'a> {
    seats: &'a [Seat],
    slots: u32,
    claimants: Vec<Claimant>,
    owners: Vec<u32>,
    free: u32,
}

struct Claimant {
    preference: Preference,
    /// How many more slots it may own.
    room: u32,
}

impl<'a> Grant<'a> {
    fn new(seats: &'a [Seat], slots: u32, cap_percent: u32) -> Self {
        let total = total_weight(seats);
        let claimant = |seat: &Seat| Claimant {
            preference: Preference::new(seat, slots),
            room: cap(seat, total, slots, cap_percent),
        };
        let claimants = seats.iter().map(claimant).collect();
        Self { seats, slots, claimants, owners: vec![FREE; slots as usize], free: slots }
    }

    /// Hears the claims of one round. They are equally strong, so a lot decides who comes first: where in the order of
    /// the members the round begins.
    fn round(&mut self, class: &mut Class) {
        let lot = hash_of(0, u64::from(class.round));
        let (before, after) = match class.members.len() {
            1 => (&class.members[..], &[][..]),
            _ => class.members.split_at(class.members.partition_point(|&seat| self.seats[seat as usize].lot() < lot)),
        };
        let mut full = false;
        for &seat in after.iter().chain(before) {
            full |= self.claim(seat);
        }
        if class.round + 1 == self.slots {
            class.members.clear();
        } else if full {
            class.members.retain(|&seat| self.claimants[seat as usize].room > 0);
        }
    }

    /// Hears a seat's next claim; `true` if it may claim no more.
    fn claim(&mut self, seat: u32) -> bool {
        let claimant = &mut self.claimants[seat as usize];
        let owner = &mut self.owners[claimant.preference.next(self.slots)];
        if *owner == FREE {
            *owner = seat;
            claimant.room -= 1;
            self.free -= 1;
        }
        claimant.room == 0
    }
}
