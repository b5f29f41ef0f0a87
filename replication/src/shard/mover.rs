//! Moves a slot to another shard while it is read and written.
//!
//! ```text
//!   from                                to
//!   Leaving: keys of writes are noted   Arriving: emptied, then filled
//!   all keys are copied       ───────>
//!   noted keys are copied     ───────>  until few are left
//!   Closed: writes wait
//!   the last noted keys       ───────>  Owned
//!   Gone, emptied
//!                the map is published
//! ```
//!
//! It is undone from everywhere before the last line:
//!
//! ```text
//!   from                                to
//!   Returning: writes are taken
//!                                       Gone, emptied
//!   Owned
//! ```
//!
//! No write is lost: whoever writes reads the holding in the same transaction, so that a write is before the closing, and its
//! key noted, or refused. None is doubled: a key is copied as it is, not by repeating what changed it.
//!
//! All steps can be repeated, and each is made only from the step before. Where a move or its undoing was interrupted is read
//! from both shards; rows are deleted only where the other shard is sure to have them: here if the slot is closed here and owned
//! there, there if it is returning here. The last step of a process that is no more may be on its way still, and finds the slot
//! so or otherwise. A shard that has failed over in the meantime and lost a step says so to the session that made it, which is
//! one for the whole move.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::sync::Arc;

use super::map::{MapError, Slot, SlotMap, StaleMap};
use super::plan::Move;
use super::shards::{ShardError, Shards, on};
use super::store::HoldingState::{Arriving, Closed, Gone, Leaving, Owned, Returning};
use super::store::{Holding, HoldingState, SlotStore};
use crate::ShardId;
use crate::checkout::Checkout;
use crate::cluster::Cluster;
use crate::driver::{Access, Driver};
use crate::intent::ReadOptions;
use crate::session::Session;

/// Keys that are copied in one transaction.
const PAGE: usize = 256;
/// When no more than so many noted keys are left, the slot is closed to copy the rest.
const FEW: usize = 16;
/// Pages of noted keys that are copied before it is given up: they come faster than they go.
const MAX_PAGES: usize = 10_000;
/// How often a step is repeated of which it is not known whether it took effect.
const TRIES: usize = 5;

/// One slot on its way.
struct Journey<D: Driver> {
    slot: Slot,
    /// In which version its owner got it.
    since: u64,
    /// In which version the other one gets it.
    next: u64,
    from: Side<D>,
    to: Side<D>,
}

/// A shard that takes part, and what was done there.
struct Side<D: Driver> {
    shard: ShardId,
    cluster: Cluster<D>,
    session: Session,
    /// In which version it got the slot, if it has it by the map.
    since: Option<u64>,
}

/// How far a move has come.
enum Progress {
    /// The rows are where they were.
    Before,
    /// They are where they go, and also where they were.
    Copied,
    /// They are where they were, and what was copied is to be deleted.
    Returning,
    /// They are where they go alone.
    Over,
}

/// Keys with their rows, and the numbers of the notes that told of them.
struct Page {
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    notes: Vec<u64>,
}

impl<D: Driver, S: SlotStore<D>> Shards<D, S> {
    /// Moves a slot, and publishes the map in which it has moved; gives that map, for other processes. A move that was
    /// interrupted is taken up.
    ///
    /// One process at a time may move slots, and others get each map before the next move. Reads go on all the while; writes
    /// of the slot wait for its last noted keys. 256 keys at a time are held in memory with their rows.
    ///
    /// In asynchronous mode a failover right after the move can lose what the former owner was told, as it can lose any
    /// write: it would take writes again from who has an old map. Move slots in quorum mode.
    ///
    /// # Errors
    /// [`ShardError`]. The slot stays where it was and is open, if the shards could be told so; if not, or after
    /// [`ShardError::Unsettled`], ask for it again, or for [`Shards::stay`].
    ///
    /// # Cancel safety
    /// Dropped, it leaves the slot as it is, perhaps closed: ask for the same move again, or [`Shards::stay`].
    pub async fn move_slot(&self, one: Move) -> Result<Arc<SlotMap>, ShardError<D::Error>> {
        let _alone = self.shared.moving.lock().await;
        let map = self.map();
        let next = map.moved(one)?;
        let journey = self.journey(&map, one)?;
        let progress = self.progress(&journey).await?;
        if let Progress::Returning = progress {
            self.back(&journey).await?;
        }
        match progress {
            Progress::Before | Progress::Returning => {
                // Nobody has published it, so that it can be undone up to the last step. Where that was done nevertheless, the
                // undoing is refused.
                if let Err(error) = self.copy_and_hand_over(&journey).await {
                    let _ = self.back(&journey).await;
                    return Err(error);
                }
            }
            Progress::Copied | Progress::Over => self.hand_over(&journey).await?,
        }
        if self.publish(next) {
            #[cfg(feature = "tracing")]
            tracing::info!(slot = one.slot.0, from = one.from.0, to = one.to.0, map = journey.next, "a slot has moved");
            return Ok(self.map());
        }
        Err(StaleMap { slot: one.slot, ours: journey.since, theirs: self.map().version() }.into())
    }

    /// Gives a move up that was interrupted: the slot is open where it was, and what was copied is deleted.
    ///
    /// # Errors
    /// [`ShardError`]; [`ShardError::Stale`], if the move is over but for its map: ask for it again then.
    /// [`ShardError::Unsettled`], if a last step of the move came in between; asked again, it says how that ended.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the slot open, or as it was: ask for it again, or for the move, in whichever process.
    pub async fn stay(&self, one: Move) -> Result<(), ShardError<D::Error>> {
        let _alone = self.shared.moving.lock().await;
        let map = self.map();
        map.moved(one)?;
        let journey = self.journey(&map, one)?;
        match self.progress(&journey).await? {
            Progress::Before | Progress::Copied | Progress::Returning => self.back(&journey).await,
            Progress::Over => Err(StaleMap { slot: one.slot, ours: journey.since, theirs: journey.next }.into()),
        }
    }

    /// Settles a slot of which the shards do not agree ([`ShardError::Unsettled`]), for somebody who has looked at them: the
    /// rows of `right`, one side of the move, are kept, and those of the other side deleted. Gives the map that is true then,
    /// for other processes.
    ///
    /// # Errors
    /// [`ShardError`]; [`MapError::NotOwner`], if `right` is neither side.
    ///
    /// # Cancel safety
    /// Dropped, it is to be asked for again, with the same answer.
    pub async fn settle(&self, one: Move, right: ShardId) -> Result<Arc<SlotMap>, ShardError<D::Error>> {
        let _alone = self.shared.moving.lock().await;
        let map = self.map();
        let next = map.moved(one)?;
        let mut journey = self.journey(&map, one)?;
        // Whatever they hold of it.
        journey.from.since = None;
        let any = [Owned, Leaving, Closed, Returning, Arriving, Gone];
        if right == one.from {
            self.turn(&journey.from, &journey, &any, Returning, journey.since).await?;
            self.back(&journey).await?;
            return Ok(map);
        }
        if right != one.to {
            return Err(MapError::NotOwner { slot: one.slot, owner: one.from, from: right }.into());
        }
        self.turn(&journey.to, &journey, &any, Owned, journey.next).await?;
        self.turn(&journey.from, &journey, &any, Gone, journey.next).await?;
        self.publish(next);
        Ok(self.map())
    }

    fn journey(&self, map: &SlotMap, one: Move) -> Result<Journey<D>, ShardError<D::Error>> {
        let side = |shard, since| {
            let (cluster, session) = (self.cluster(shard)?, Session::new());
            Ok::<_, ShardError<D::Error>>(Side { shard, cluster, session, since })
        };
        let since = map.since(one.slot).ok_or(MapError::NoSuchSlot(one.slot))?;
        let (from, to) = (side(one.from, Some(since))?, side(one.to, None)?);
        Ok(Journey { slot: one.slot, since, next: map.version() + 1, from, to })
    }

    /// What both shards say, held against the map.
    async fn progress(&self, journey: &Journey<D>) -> Result<Progress, ShardError<D::Error>> {
        let slot = journey.slot;
        let left = self.holding(&journey.from, slot).await?.unwrap_or(Holding::FIRST);
        // By the map another shard owns the slot since this version, so that a claim as old is one that was given up.
        let is_claim = |holding: &Holding| holding.state == Owned && holding.since > journey.since;
        let arrived = self.holding(&journey.to, slot).await?.filter(is_claim);
        let stale = |theirs| Err(StaleMap { slot, ours: journey.since, theirs }.into());
        if let Some(to) = left.to.filter(|to| left.since == journey.since && *to != journey.to.shard) {
            return Err(ShardError::OnItsWay { slot, to });
        }
        match (left.state, arrived) {
            // Moved by somebody whose map is newer than this one.
            (_, Some(arrived)) if arrived.since > journey.next => stale(arrived.since),
            (Gone, None) => stale(left.since),
            (state, _) if state != Gone && left.since != journey.since => stale(left.since),
            (Gone, Some(_)) => Ok(Progress::Over),
            (Closed, Some(_)) => Ok(Progress::Copied),
            (Returning, _) => Ok(Progress::Returning),
            (Owned | Leaving | Closed, None) => Ok(Progress::Before),
            (Owned | Leaving, Some(_)) | (Arriving, _) => Err(ShardError::Unsettled(slot)),
        }
    }

    /// The rows are at `from`, and `to` was not published. What is on its way from a move that was dropped is refused from the
    /// first step on, and whoever finds the undoing interrupted knows by it that it is one.
    async fn back(&self, journey: &Journey<D>) -> Result<(), ShardError<D::Error>> {
        #[cfg(feature = "tracing")]
        tracing::info!(slot = journey.slot.0, to = journey.to.shard.0, "a move is undone");
        let any = [Owned, Leaving, Closed, Returning, Arriving, Gone];
        self.turn(&journey.from, journey, &[Owned, Leaving, Closed], Returning, journey.since).await?;
        self.turn(&journey.to, journey, &any, Gone, journey.since).await?;
        self.turn(&journey.from, journey, &[Returning], Owned, journey.since).await
    }

    async fn copy_and_hand_over(&self, journey: &Journey<D>) -> Result<(), ShardError<D::Error>> {
        self.copy(journey).await?;
        self.hand_over(journey).await
    }

    /// Of what is copied. Also of what had arrived in a version that was never published.
    async fn hand_over(&self, journey: &Journey<D>) -> Result<(), ShardError<D::Error>> {
        let Journey { next, from, to, .. } = journey;
        self.turn(to, journey, &[Arriving, Owned], Owned, *next).await?;
        self.turn(from, journey, &[Closed, Gone], Gone, *next).await
    }

    /// Copies all, and leaves the slot closed.
    async fn copy(&self, journey: &Journey<D>) -> Result<(), ShardError<D::Error>> {
        let Journey { slot, since, next, from, to } = journey;
        // Open first: nothing deletes the rows here any more when they are deleted there.
        self.turn(from, journey, &[Owned, Leaving, Closed], Leaving, *since).await?;
        self.turn(to, journey, &[Owned, Arriving, Gone], Arriving, *next).await?;
        let mut after = None;
        loop {
            let page = self.page_of_keys(from, *slot, after.as_deref()).await?;
            self.put(journey, &page).await?;
            match page.rows.into_iter().next_back() {
                Some((last, _)) => after = Some(last),
                None => break,
            }
        }
        let mut pages = 0;
        while self.follow(journey).await? > FEW {
            pages += 1;
            if pages == MAX_PAGES {
                return Err(ShardError::TooBusy(*slot));
            }
        }
        self.turn(from, journey, &[Leaving], Closed, *since).await?;
        while self.follow(journey).await? > 0 {}
        Ok(())
    }

    /// Copies a page of noted keys; gives how many notes there were.
    async fn follow(&self, journey: &Journey<D>) -> Result<usize, ShardError<D::Error>> {
        let Journey { slot, from, .. } = journey;
        let page = self.page_of_notes(from, *slot).await?;
        if page.notes.is_empty() {
            return Ok(0);
        }
        self.put(journey, &page).await?;
        let (store, slot, notes) = (&self.shared.store, *slot, page.notes.as_slice());
        from.surely(move |mut checkout| async move { store.forget(&mut checkout, slot, notes).await }).await?;
        Ok(page.notes.len())
    }

    async fn page_of_keys(
        &self,
        from: &Side<D>,
        slot: Slot,
        after: Option<&[u8]>,
    ) -> Result<Page, ShardError<D::Error>> {
        let (store, options) = (&self.shared.store, latest());
        let read = from.cluster.read_with(&from.session, &options, move |mut checkout| async move {
            let mut rows = Vec::new();
            for key in store.keys(&mut checkout, slot, after, PAGE).await? {
                let exported = store.export(&mut checkout, &key).await?;
                rows.push((key, exported));
            }
            Ok(Page { rows, notes: Vec::new() })
        });
        read.await.map_err(on(&from.cluster))
    }

    async fn page_of_notes(&self, from: &Side<D>, slot: Slot) -> Result<Page, ShardError<D::Error>> {
        let (store, options) = (&self.shared.store, latest());
        let read = from.cluster.read_with(&from.session, &options, move |mut checkout| async move {
            let (mut rows, mut notes) = (BTreeMap::new(), Vec::new());
            for (number, key) in store.noted(&mut checkout, slot, PAGE).await? {
                notes.push(number);
                // Written several times since, and as it is now in all of its notes.
                if let Entry::Vacant(row) = rows.entry(key) {
                    let exported = store.export(&mut checkout, row.key()).await?;
                    row.insert(exported);
                }
            }
            Ok(Page { rows: rows.into_iter().collect(), notes })
        });
        read.await.map_err(on(&from.cluster))
    }

    /// Only while they are awaited there: what a move that was dropped had on its way must not come into the next one.
    async fn put(&self, journey: &Journey<D>, page: &Page) -> Result<(), ShardError<D::Error>> {
        let Journey { slot, next, to, .. } = journey;
        let (store, slot, expected) = (&self.shared.store, *slot, Holding { state: Arriving, since: *next, to: None });
        let put = to.surely(move |mut checkout| async move {
            if store.holding(&mut checkout, slot, Access::Write).await? != Some(expected) {
                checkout.set_rollback_only();
                return Ok(false);
            }
            for (key, rows) in &page.rows {
                store.import(&mut checkout, slot, key, rows.as_deref()).await?;
            }
            Ok(true)
        });
        if put.await? { Ok(()) } else { Err(ShardError::Unsettled(slot)) }
    }

    async fn holding(&self, side: &Side<D>, slot: Slot) -> Result<Option<Holding>, ShardError<D::Error>> {
        let (store, options) = (&self.shared.store, latest());
        let read = side.cluster.read_with(&side.session, &options, move |mut checkout| async move {
            store.holding(&mut checkout, slot, Access::Read).await
        });
        read.await.map_err(on(&side.cluster))
    }

    /// Takes a shard from one of these states to the next, which may have been done before. One that holds no rows then is
    /// emptied.
    async fn turn(
        &self,
        side: &Side<D>,
        journey: &Journey<D>,
        before: &[HoldingState],
        state: HoldingState,
        since: u64,
    ) -> Result<(), ShardError<D::Error>> {
        let to = matches!(state, Leaving | Closed | Returning).then_some(journey.to.shard);
        let (store, slot, after) = (&self.shared.store, journey.slot, Holding { state, since, to });
        let is_before = move |held: Holding| {
            let is_this_move = side.since.is_none_or(|since| {
                held.state == Gone || (held.since == since && held.to.is_none_or(|to| to == journey.to.shard))
            });
            is_this_move && before.contains(&held.state)
        };
        let turn = side.surely(move |mut checkout| async move {
            let held = store.holding(&mut checkout, slot, Access::Write).await?.unwrap_or(Holding::FIRST);
            if held != after && !is_before(held) {
                checkout.set_rollback_only();
                return Ok(false);
            }
            store.hold(&mut checkout, slot, after).await?;
            if matches!(state, Arriving | Gone) {
                store.purge(&mut checkout, slot).await?;
            }
            Ok(true)
        });
        if turn.await? { Ok(()) } else { Err(ShardError::Unsettled(slot)) }
    }
}

impl<D: Driver> Side<D> {
    /// Repeats a transaction that may be done twice, until it is known to be done.
    async fn surely<T, F, R>(&self, f: F) -> Result<T, ShardError<D::Error>>
    where
        F: Fn(Checkout<D>) -> R + Send + Sync,
        R: Future<Output = Result<T, D::Error>> + Send,
        T: Send,
    {
        let mut tries = 0;
        loop {
            match self.cluster.transaction(&self.session, &f).await {
                Err(error) if error.is_ambiguous() && tries < TRIES => tries += 1,
                result => return result.map_err(on(&self.cluster)),
            }
        }
    }
}

/// One snapshot of the primary.
fn latest() -> ReadOptions {
    ReadOptions::new().from_primary().snapshot()
}
