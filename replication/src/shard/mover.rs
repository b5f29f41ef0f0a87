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
//! No write is lost: whoever writes reads the holding in the same transaction, so that a write is before the closing, and its
//! key noted, or refused. None is doubled: a key is copied as it is, not by repeating what changed it. All steps can be
//! repeated; a move that was interrupted is taken up by asking for it again.

use std::sync::Arc;

use super::map::{MapError, Slot, SlotMap};
use super::plan::Move;
use super::shards::{ShardError, Shards};
use super::store::{Holding, HoldingState, SlotStore};
use crate::cluster::Cluster;
use crate::driver::Driver;
use crate::error::Error;
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

/// Keys with their rows, and the number of the last note among them.
struct Page {
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    last: u64,
}

impl<D: Driver, S: SlotStore<D>> Shards<D, S> {
    /// Moves a slot, and publishes the map in which it has moved; gives that map, for other processes.
    ///
    /// One process at a time may move slots. Reads go on all the while; writes of the slot wait for its last noted keys.
    ///
    /// # Errors
    /// [`ShardError`]: the slot stays where it was, and is open, unless the shards could not be told.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the slot as it is, perhaps closed: ask for the same move again, or [`Shards::stay`].
    pub async fn move_slot(&self, one: Move) -> Result<Arc<SlotMap>, ShardError<D::Error>> {
        let _alone = self.shared.moving.lock().await;
        let map = self.map();
        let next = map.moved(one)?;
        let (from, to) = (self.cluster(one.from)?, self.cluster(one.to)?);
        let since = map.since(one.slot).ok_or(MapError::NoSuchSlot(one.slot))?;
        let arrived = Holding { state: HoldingState::Owned, since: next.version() };
        // A move that was interrupted at its end has only to be told.
        if self.holding(&to, one.slot).await? != Some(arrived) {
            if let Err(error) = self.copy(one.slot, since, next.version(), &from, &to).await {
                self.back(one.slot, since, &from, &to).await?;
                return Err(error);
            }
            self.hold(&to, one.slot, arrived, false).await?;
        }
        self.hold(&from, one.slot, Holding { state: HoldingState::Gone, since: next.version() }, true).await?;
        self.publish(next);
        Ok(self.map())
    }

    /// Gives a move up that was interrupted: the slot is open where it was, and what was copied is deleted.
    ///
    /// # Errors
    /// [`ShardError`]
    pub async fn stay(&self, one: Move) -> Result<(), ShardError<D::Error>> {
        let _alone = self.shared.moving.lock().await;
        let map = self.map();
        map.moved(one)?;
        let since = map.since(one.slot).ok_or(MapError::NoSuchSlot(one.slot))?;
        self.back(one.slot, since, &self.cluster(one.from)?, &self.cluster(one.to)?).await
    }

    async fn back(
        &self,
        slot: Slot,
        since: u64,
        from: &Cluster<D>,
        to: &Cluster<D>,
    ) -> Result<(), ShardError<D::Error>> {
        self.hold(to, slot, Holding { state: HoldingState::Gone, since }, true).await?;
        self.hold(from, slot, Holding { state: HoldingState::Owned, since }, false).await
    }

    /// Copies all, and leaves the slot closed.
    async fn copy(
        &self,
        slot: Slot,
        since: u64,
        next: u64,
        from: &Cluster<D>,
        to: &Cluster<D>,
    ) -> Result<(), ShardError<D::Error>> {
        self.hold(to, slot, Holding { state: HoldingState::Arriving, since: next }, true).await?;
        self.hold(from, slot, Holding { state: HoldingState::Leaving, since }, false).await?;
        let mut after = None;
        loop {
            let page = self.page_of_keys(from, slot, after.as_deref()).await?;
            self.put(to, slot, &page).await?;
            match page.rows.into_iter().next_back() {
                Some((last, _)) => after = Some(last),
                None => break,
            }
        }
        let mut pages = 0;
        while self.follow(slot, from, to).await? > FEW {
            pages += 1;
            if pages == MAX_PAGES {
                return Err(ShardError::TooBusy(slot));
            }
        }
        self.hold(from, slot, Holding { state: HoldingState::Closed, since }, false).await?;
        while self.follow(slot, from, to).await? > 0 {}
        Ok(())
    }

    /// Copies a page of noted keys; gives how many there were.
    async fn follow(&self, slot: Slot, from: &Cluster<D>, to: &Cluster<D>) -> Result<usize, ShardError<D::Error>> {
        let page = self.page_of_notes(from, slot).await?;
        if page.rows.is_empty() {
            return Ok(0);
        }
        self.put(to, slot, &page).await?;
        let (store, last) = (&self.shared.store, page.last);
        let forget = async || {
            from.transaction(&Session::new(), move |mut checkout| async move {
                store.forget(&mut checkout, slot, last).await
            })
            .await
        };
        surely(forget).await?;
        Ok(page.rows.len())
    }

    async fn page_of_keys(
        &self,
        from: &Cluster<D>,
        slot: Slot,
        after: Option<&[u8]>,
    ) -> Result<Page, ShardError<D::Error>> {
        let store = &self.shared.store;
        let (session, options) = (Session::new(), latest());
        let read = from.read_with(&session, &options, move |mut checkout| async move {
            let mut rows = Vec::new();
            for key in store.keys(&mut checkout, slot, after, PAGE).await? {
                let exported = store.export(&mut checkout, &key).await?;
                rows.push((key, exported));
            }
            Ok(Page { rows, last: 0 })
        });
        Ok(read.await?)
    }

    async fn page_of_notes(&self, from: &Cluster<D>, slot: Slot) -> Result<Page, ShardError<D::Error>> {
        let store = &self.shared.store;
        let (session, options) = (Session::new(), latest());
        let read = from.read_with(&session, &options, move |mut checkout| async move {
            let (mut rows, mut last) = (Vec::new(), 0);
            for (number, key) in store.noted(&mut checkout, slot, PAGE).await? {
                let exported = store.export(&mut checkout, &key).await?;
                rows.push((key, exported));
                last = last.max(number);
            }
            Ok(Page { rows, last })
        });
        Ok(read.await?)
    }

    async fn put(&self, to: &Cluster<D>, slot: Slot, page: &Page) -> Result<(), ShardError<D::Error>> {
        let store = &self.shared.store;
        let put = async || {
            to.transaction(&Session::new(), move |mut checkout| async move {
                for (key, rows) in &page.rows {
                    store.import(&mut checkout, slot, key, rows.as_deref()).await?;
                }
                Ok(())
            })
            .await
        };
        surely(put).await
    }

    async fn holding(&self, shard: &Cluster<D>, slot: Slot) -> Result<Option<Holding>, ShardError<D::Error>> {
        let store = &self.shared.store;
        let (session, options) = (Session::new(), latest());
        let read = shard
            .read_with(&session, &options, move |mut checkout| async move { store.holding(&mut checkout, slot).await });
        Ok(read.await?)
    }

    /// Changes what a shard knows of a slot, and empties it if it is to be empty.
    async fn hold(
        &self,
        shard: &Cluster<D>,
        slot: Slot,
        holding: Holding,
        is_empty: bool,
    ) -> Result<(), ShardError<D::Error>> {
        let store = &self.shared.store;
        let hold = async || {
            shard
                .transaction(&Session::new(), move |mut checkout| async move {
                    store.hold(&mut checkout, slot, holding).await?;
                    if is_empty {
                        store.purge(&mut checkout, slot).await?;
                    }
                    Ok(())
                })
                .await
        };
        surely(hold).await
    }
}

/// One snapshot of the primary.
fn latest() -> ReadOptions {
    ReadOptions::new().from_primary().snapshot()
}

/// Repeats a step that may be done twice, until it is known to be done.
async fn surely<E>(step: impl AsyncFn() -> Result<(), Error<E>>) -> Result<(), ShardError<E>> {
    let mut tries = 0;
    loop {
        match step().await {
            Err(error) if error.is_ambiguous() && tries < TRIES => tries += 1,
            result => return Ok(result?),
        }
    }
}
