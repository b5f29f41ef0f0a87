//! Becoming a replica of another primary, whatever a node was: what its log has beyond theirs is kept aside and cut off.

use std::sync::atomic::Ordering;

use super::SqliteError;
use super::control::Control;
use super::discarded;
use super::log::LogReader;
use super::node::FileNode;
use super::record::Tail;
use crate::driver::{Ballot, Rejoined};
use crate::{Lsn, NodeId, Position, Role, Standing};

impl FileNode {
    pub(super) fn follow(&self, primary: NodeId, address: &str, ballot: Ballot) -> Result<(), SqliteError> {
        self.control.update(|control| {
            if control.role != Role::Replica {
                return Err(SqliteError::NotAReplica);
            }
            control.promise(ballot)?;
            control.upstream = Some((primary, address.into()));
            Ok(())
        })
    }

    /// Becomes a replica of this primary, whatever it was; what its log has beyond theirs is cut off and counted.
    pub(super) fn rejoin(&self, upstream: &Self, address: &str, ballot: Ballot) -> Result<Rejoined, SqliteError> {
        self.rejoin_under(upstream, address, Some(ballot))
    }

    /// Its log has parted from that of the primary which it follows, whatever their histories say: nobody else would
    /// notice. It rejoins by itself, under the ballot of that primary: one that has promised a higher one waits for whom that
    /// is about. All that was confirmed is in the log of a primary that reigns, and what is cut off is kept.
    pub(super) fn come_back_to(&self, upstream: &Self, address: &str) -> Result<(), SqliteError> {
        let theirs = upstream.control.read()?;
        if !theirs.is_writable() {
            return Err(SqliteError::Parted);
        }
        self.rejoin_under(upstream, address, theirs.installed).map(drop)
    }

    fn rejoin_under(&self, upstream: &Self, address: &str, ballot: Option<Ballot>) -> Result<Rejoined, SqliteError> {
        upstream.check_up()?;
        let theirs = upstream.control.read()?;
        if theirs.role != Role::Primary || upstream.id == self.id {
            return Err(SqliteError::NoPrimaryThere);
        }
        // While it looks where the database is, and until it has cut the log, nothing of that is applied.
        let (discarded, is_incomplete) = self.held_still(|| {
            self.control.update(|control| {
                match ballot {
                    Some(ballot) => control.promise(ballot)?,
                    None if control.promised.is_some() => return Err(SqliteError::Superseded),
                    None => {}
                }
                let discarded = self.part(control, upstream, &theirs)?;
                control.role = Role::Replica;
                control.installed = None;
                control.upstream = Some((upstream.id, address.into()));
                Ok((discarded, control.is_incomplete))
            })
        })?;
        self.faults.incarnation.fetch_add(1, Ordering::SeqCst);
        if is_incomplete {
            self.copy_from(upstream)?;
        }
        Ok(Rejoined { discarded })
    }

    /// Parts with what its log has beyond theirs.
    fn part(
        &self,
        control: &mut Control,
        upstream: &Self,
        theirs: &Control,
    ) -> Result<Option<(Lsn, Lsn)>, SqliteError> {
        if control.is_incomplete {
            return Ok(None);
        }
        if control.cluster != theirs.cluster {
            return Err(SqliteError::NoPrimaryThere);
        }
        self.log.lock().reopen()?;
        let mine = self.log_end()?;
        let common = self.common_with(upstream, mine)?;
        let discarded = (common < mine.lsn).then_some((common, mine.lsn));
        if discarded.is_some() {
            discarded::keep(self, common)?;
        }
        // Changes have no way back: what the database has of them goes with a new copy.
        control.is_incomplete = self.state()?.tail.lsn > common;
        if !control.is_incomplete {
            self.log.lock().cut(common)?;
            control.history = theirs.history.until(common);
        }
        Ok(discarded)
    }

    /// Up to where both logs are the same.
    fn common_with(&self, upstream: &Self, mine: Tail) -> Result<Lsn, SqliteError> {
        let end = upstream.state()?.tail.lsn.min(mine.lsn);
        let standing = upstream.control.read()?.history.standing(Position::new(mine.epoch, mine.lsn));
        let most = match standing {
            Standing::Lost { kept } => kept.lsn.min(end),
            Standing::Kept | Standing::Unknown => end,
        };
        let is_same = |lsn: Lsn| -> Result<bool, SqliteError> {
            let tail = |node: &Self| LogReader::open(&node.log_dir(), lsn).map(|reader| reader.tail());
            match (tail(self), tail(upstream)) {
                (Ok(mine), Ok(theirs)) => Ok(mine == theirs),
                // Forgotten by one of them: the histories have to do.
                (Err(SqliteError::LogGone), _) | (_, Err(SqliteError::LogGone)) => Ok(true),
                (Err(error), _) | (_, Err(error)) => Err(error),
            }
        };
        let (mut same, mut other) = (0, most.0 + 1);
        if is_same(most)? {
            return Ok(most);
        }
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            if is_same(Lsn(middle))? { same = middle } else { other = middle }
        }
        Ok(Lsn(same))
    }
}
