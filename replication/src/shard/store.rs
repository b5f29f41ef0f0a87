//! What a shard keeps of its slots, beside the rows.

use std::fmt;
use std::future::Future;
use std::str::FromStr;

use thiserror::Error;

use super::map::Slot;
use crate::ShardId;
use crate::driver::{Access, Driver};

/// What a shard knows of one slot: kept in its database, and read in the transaction of each write.
///
/// Printed, as in `leaving 1 to 2`, it fits a column of text, and is parsed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// What it may do with it.
    pub state: HoldingState,
    /// The version of the map that made it so.
    pub since: u64,
    /// To which shard it is on its way, from [`Leaving`](HoldingState::Leaving) on until it is there or back.
    pub to: Option<ShardId>,
}

/// What a shard may do with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldingState {
    /// Reads and writes.
    Owned,
    /// The same, and the keys of writes are noted, since the rows are being copied to another shard.
    Leaving,
    /// Reads alone, for the moment in which the last noted keys are copied.
    Closed,
    /// Reads and writes: a move was given up, and what was copied is being deleted at the other shard.
    Returning,
    /// Nothing: the rows are being copied here.
    Arriving,
    /// Nothing: another shard owns it.
    Gone,
}

/// Text that is no [`Holding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this is not what a shard knows of a slot")]
#[non_exhaustive]
pub struct ParseHoldingError;

const NAMES: [(HoldingState, &str); 6] = [
    (HoldingState::Owned, "owned"),
    (HoldingState::Leaving, "leaving"),
    (HoldingState::Closed, "closed"),
    (HoldingState::Returning, "returning"),
    (HoldingState::Arriving, "arriving"),
    (HoldingState::Gone, "gone"),
];

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(state, _)| *state == self.state).map_or("", |(_, name)| name);
        write!(f, "{name} {}", self.since)?;
        self.to.map_or(Ok(()), |to| write!(f, " to {}", to.0))
    }
}

impl FromStr for Holding {
    type Err = ParseHoldingError;

    fn from_str(text: &str) -> Result<Self, ParseHoldingError> {
        let mut words = text.split(' ');
        let name = words.next();
        let state = NAMES.iter().find(|(_, known)| Some(*known) == name).map(|(state, _)| *state);
        let since = words.next().and_then(|since| since.parse().ok());
        let to = match words.next() {
            Some("to") => Some(words.next().and_then(|to| to.parse().ok()).map(ShardId).ok_or(ParseHoldingError)?),
            Some(_) => return Err(ParseHoldingError),
            None => None,
        };
        match (state, since, words.next()) {
            (Some(state), Some(since), None) => Ok(Self { state, since, to }),
            _ => Err(ParseHoldingError),
        }
    }
}

/// A shard's database, as far as slots are concerned. Implemented by the host, who knows the tables.
///
/// All calls are made within transactions that may write, but for those that say otherwise. A table of holdings, one of noted
/// keys, and a column with the slot in every table that is sharded are what it takes: see [`shard`](crate::shard) for SQL.
pub trait SlotStore<D: Driver>: Send + Sync + 'static {
    /// What the shard knows of a slot; `None` if it never took part in a move: it is [`Owned`](HoldingState::Owned) since
    /// version 1 then. What is there and cannot be understood must be an error: `None` would open the slot.
    ///
    /// Within a read, or in a transaction that may write, as `access` says. In the latter nobody may [`hold`](SlotStore::hold)
    /// this slot otherwise from now on until the transaction ends, also if nothing was kept of it yet, and many may ask at
    /// once. SQLite's writers take turns anyway; elsewhere take a lock of the slot that is shared, and exclusive in `hold`, and
    /// look at the holding by a statement that begins when the lock is there.
    fn holding(
        &self,
        connection: &mut D::Connection,
        slot: Slot,
        access: Access,
    ) -> impl Future<Output = Result<Option<Holding>, D::Error>> + Send;

    /// What the shard knows of all slots that ever took part in a move. Within a read.
    fn holdings(
        &self,
        connection: &mut D::Connection,
    ) -> impl Future<Output = Result<Vec<(Slot, Holding)>, D::Error>> + Send;

    /// Keeps what it knows of one.
    fn hold(
        &self,
        connection: &mut D::Connection,
        slot: Slot,
        holding: Holding,
    ) -> impl Future<Output = Result<(), D::Error>> + Send;

    /// Notes that a key of a slot is changed by this transaction, under a number of its own.
    fn note(
        &self,
        connection: &mut D::Connection,
        slot: Slot,
        key: &[u8],
    ) -> impl Future<Output = Result<(), D::Error>> + Send;

    /// Notes of a slot with their numbers, so many at most. Within a read.
    fn noted(
        &self,
        connection: &mut D::Connection,
        slot: Slot,
        most: usize,
    ) -> impl Future<Output = Result<Vec<(u64, Vec<u8>)>, D::Error>> + Send;

    /// Forgets the notes with these numbers, and no other: notes need not be committed in the order of their numbers.
    fn forget(
        &self,
        connection: &mut D::Connection,
        slot: Slot,
        numbers: &[u64],
    ) -> impl Future<Output = Result<(), D::Error>> + Send;

    /// The keys of a slot that come after this one, in order, so many at most. Within a read.
    fn keys(
        &self,
        connection: &mut D::Connection,
        slot: Slot,
        after: Option<&[u8]>,
        most: usize,
    ) -> impl Future<Output = Result<Vec<Vec<u8>>, D::Error>> + Send;

    /// All rows of a key, in a form that [`SlotStore::import`] understands; `None` if there are none. Within a read.
    fn export(
        &self,
        connection: &mut D::Connection,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<Vec<u8>>, D::Error>> + Send;

    /// Puts these rows in the place of those that the key has. Once for each key in a transaction.
    fn import(
        &self,
        connection: &mut D::Connection,
        slot: Slot,
        key: &[u8],
        rows: Option<&[u8]>,
    ) -> impl Future<Output = Result<(), D::Error>> + Send;

    /// Deletes the rows and the notes of a slot.
    fn purge(&self, connection: &mut D::Connection, slot: Slot) -> impl Future<Output = Result<(), D::Error>> + Send;
}

/// Why a shard does not serve a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is about to move, and will be served soon, here or there.
    Closed,
    /// The shard knows of this change of the slot, and the map at hand of another one.
    Otherwise(u64),
}

impl Holding {
    /// What a shard knows of a slot that has never moved.
    pub(super) const FIRST: Self = Self { state: HoldingState::Owned, since: 1, to: None };

    /// Whether a write is taken from somebody for whom the shard owns the slot since `since`, and whether its key is noted.
    pub(super) fn admit_write(self, since: u64) -> Result<bool, Refused> {
        self.admit_read(since)?;
        match self.state {
            HoldingState::Closed => Err(Refused::Closed),
            state => Ok(state == HoldingState::Leaving),
        }
    }

    /// Whether a read is answered.
    pub(super) fn admit_read(self, since: u64) -> Result<(), Refused> {
        match self.state {
            HoldingState::Gone => Err(Refused::Otherwise(self.since)),
            // The map was published before the shard was told.
            HoldingState::Arriving if self.since == since => Err(Refused::Closed),
            _ if self.since != since => Err(Refused::Otherwise(self.since)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holding_is_parsed_as_it_is_printed() {
        for (state, _) in NAMES {
            for to in [None, Some(ShardId(7))] {
                let holding = Holding { state, since: 12, to };
                assert_eq!(holding.to_string().parse(), Ok(holding), "{holding}");
            }
        }
        assert_eq!(
            Holding { state: HoldingState::Leaving, since: 1, to: Some(ShardId(2)) }.to_string(),
            "leaving 1 to 2"
        );
        for text in ["", "owned", "owned x", "owned 1 ", "owned 1 to", "owned 1 to 70000", "owned 1 to 2 3", "left 1"] {
            assert_eq!(text.parse::<Holding>(), Err(ParseHoldingError), "{text}");
        }
    }
}
