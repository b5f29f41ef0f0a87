//! The log: segments, records, group commit, recovery, reading back, recycling. It knows nothing of queues.
//!
//! Records are opaque: a kind and bytes. They are appended in batches under one short lock, into memory; a commit writes
//! all that waits as one group ([`record`]) and confirms it; whoever waits makes the commit ([`wait`]). What is in memory
//! is delivered from there without a copy ([`pieces`]), what is not is read back and checked ([`read`]).
//!
//! # How it differs from the obvious
//! - One checksummed group for everything between two commits, instead of one for each batch: small messages pay
//!   two bytes each, an append computes no checksum, and every batch is still atomic.
//! - [`Log::append`] never touches the disk. Where it would have to (a new segment, too much unwritten) it says
//!   [`Busy`](AppendError::Busy), and the caller calls [`Log::make_room`] outside its own locks and tries again.
//! - An append may go to the last reserve of a full disk ([`Room::Reserve`]): acks must find room when messages do not.
//! - A task waits by a future, [`Confirmation`], rather than by a bare poll function: a task that was chosen to lead a
//!   commit and is dropped must pass that on.
//! - [`Log::replay`] hands records to `replay` as borrowed bytes of one reused buffer: recovery is as fast as the disk and
//!   needs no memory for bodies.
//!
//! # Invariants
//! - **I1** `durable ≤ confirmed ≤` the end of what was appended; none of them ever goes back.
//! - **I2** Once poisoned, neither `durable` nor `confirmed` moves.
//! - **I3** A segment is recycled only when the record of its release is durable, so all that was before it is.

mod ahead;
mod commit;
mod config;
mod error;
#[cfg(any(all(test, not(shuttle)), fuzzing))]
mod fuzz;
mod pieces;
mod position;
mod read;
mod record;
mod recover;
mod room;
mod segment;
mod shelf;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
mod survey;
mod tail;
#[cfg(all(test, not(shuttle)))]
mod tests;
mod verify;
mod wait;
mod waiting;
mod window;

use std::collections::VecDeque;
use std::fmt;
use std::sync::OnceLock;

use self::commit::Closing;
use self::pieces::Pieces;
use self::read::Blocks;
use self::segment::Segment;
use self::shelf::Shelf;
use self::tail::Tail;
use self::wait::Waiters;
use crate::storage::StorageLock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};

pub(crate) use self::config::{Confirm, LogConfig};
pub(crate) use self::error::{AppendError, OpenError, Poisoned, ReadError, RoomError};
pub use self::error::{Damage, DamageReason};
#[cfg(fuzzing)]
pub use self::fuzz::{fuzz_log, fuzz_records};
#[cfg(all(test, not(shuttle), not(fuzzing)))]
pub(crate) use self::fuzz::{fuzz_log, fuzz_records};
pub(crate) use self::position::{Address, Lsn};
pub(crate) use self::recover::Recovery;
#[cfg(all(test, shuttle))]
pub(crate) use self::shuttle_tests::block_on;
pub(crate) use self::tail::{Appended, BatchWriter};
pub(crate) use self::verify::{is_begun, verify};
pub(crate) use self::waiting::Confirmation;

/// What became of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Everything up to there is confirmed.
    Confirmed(Lsn),
    /// It is poisoned.
    Poisoned,
}

/// Called after each commit, one call at a time, in order, and once the log is poisoned; not under any lock of the log,
/// before those who wait for it are woken. It must not wait for the log.
pub(crate) type Observer = Box<dyn Fn(Progress) + Send + Sync>;

/// Which space an append may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// What is there for everybody.
    Ordinary,
    /// Also what is kept for records that shrink the log.
    Reserve,
}

/// An open log. Clones are the same log; the last one dropped gives the directory free, without a commit.
#[derive(Clone)]
pub(crate) struct Log(Arc<Shared>);

struct Shared {
    config: LogConfig,
    session: u32,
    tail: Mutex<Tail>,
    pieces: Mutex<Pieces>,
    shelf: Shelf,
    blocks: Blocks,
    waiters: Waiters,
    confirmed: AtomicU64,
    durable: AtomicU64,
    /// Bytes of a commit, a moving average.
    commit_bytes: AtomicU64,
    closing: Mutex<VecDeque<Closing>>,
    /// Where the last group lies that was written: appends may have gone on in another segment.
    written: Mutex<Arc<Segment>>,
    released: Mutex<room::Released>,
    /// Held by whoever makes the next segment.
    making: Mutex<()>,
    poison: OnceLock<Poisoned>,
    observer: Observer,
    /// None once the log is closed.
    lock: Mutex<Option<StorageLock>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("confirmed", &self.confirmed())
            .field("durable", &self.durable())
            .field("poison", &self.0.poison.get())
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Appends the records that `encode` writes, all or none of them, behind everything appended before.
    ///
    /// They are confirmed when [`confirmed`](Self::confirmed) reaches the returned LSN, which takes a commit. `encode`
    /// runs under the log's lock: it should only copy, and must not call the log. It is called again if the append is
    /// tried again.
    ///
    /// # Errors
    /// Nothing was appended. [`Busy`](AppendError::Busy): call [`make_room`](Self::make_room) and try again.
    /// [`TooLarge`](AppendError::TooLarge): it never will be. [`Poisoned`](AppendError::Poisoned).
    pub(crate) fn append(
        &self,
        room: Room,
        encode: &mut dyn FnMut(&mut BatchWriter<'_>),
    ) -> Result<Appended, AppendError> {
        self.append_flagged(room, 0, encode)
    }

    fn append_flagged(
        &self,
        room: Room,
        flags: u32,
        encode: &mut dyn FnMut(&mut BatchWriter<'_>),
    ) -> Result<Appended, AppendError> {
        let shared = &*self.0;
        self.check()?;
        let mut tail = shared.tail.lock();
        if room == Room::Ordinary && tail.unwritten() >= shared.config.max_unwritten_bytes {
            return Err(AppendError::Busy);
        }
        tail.append(&shared.pieces, flags, encode)
    }

    /// The place behind everything appended.
    pub(crate) fn appended(&self) -> Lsn {
        self.0.tail.lock().lsn()
    }

    /// Bytes appended that nobody has begun to write.
    pub(crate) fn unwritten(&self) -> usize {
        self.0.tail.lock().unwritten()
    }

    /// Up to where everything is confirmed, as the configuration means it.
    pub(crate) fn confirmed(&self) -> Lsn {
        Lsn(self.0.confirmed.load(Ordering::Acquire))
    }

    /// Up to where everything is known to be on disk.
    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.0.durable.load(Ordering::Acquire))
    }

    /// Why nothing is confirmed any more, if that is so.
    pub(crate) fn check(&self) -> Result<(), Poisoned> {
        match self.0.poison.get() {
            Some(poisoned) => Err(poisoned.clone()),
            None => Ok(()),
        }
    }

    /// Commits and makes durable everything appended, and says so in the log, so that any damage to it can be told
    /// from a torn tail; then gives the directory back. Nothing may be appended any more.
    ///
    /// # Errors
    /// If the log is or becomes poisoned; the directory is given back all the same.
    pub(crate) fn close(&self) -> Result<(), Poisoned> {
        let written = self.write_out();
        self.let_go();
        written
    }

    fn write_out(&self) -> Result<(), Poisoned> {
        self.commit()?;
        self.sync()?;
        self.0.tail.lock().put_empty_group(&self.0.pieces);
        self.commit()?;
        self.sync()
    }

    /// Gives the directory back. Handles may live on, and it is for whoever opens it next: so nothing is begun any more,
    /// and who is at the files ends first.
    fn let_go(&self) {
        let _ = self.0.poison.set(Poisoned::closed());
        self.0.shelf.close();
        drop(self.0.closing.lock());
        self.0.waiters.wait_out();
        *self.0.lock.lock() = None;
    }

    /// Whether [`close`](Self::close) is why nothing is confirmed any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.poison.get().is_some_and(Poisoned::is_close)
    }
}
