//! What one user has written and seen, so that no later read of theirs is older.
//!
//! A session is a lower bound on the state that its reads may be served from. It only ever rises: that a replica has
//! caught up once says nothing of the next one, so nothing is cleared when a read was fresh enough.
//!
//! Marks of several epochs are kept side by side until they have met a [`History`]: the greater of two positions would
//! else hide that the smaller one was lost. Those with own writes are kept on for some epochs more: where a failover abandons
//! the epoch that they lived on in, too, the history which comes out of it does not tell where the two have parted.

use parking_lot::Mutex;
use thiserror::Error;

use crate::{ClusterId, Epoch, History, Lsn, Position, ShardId, Standing};

/// Marks that a session holds: a shard takes one, one more for each promotion that it has not met yet, and one for each of up
/// to eight earlier epochs in which the session wrote there.
///
/// Where room is short, earlier epochs make it: first those in which something was only seen, then those that lie furthest back,
/// counted by the later ones of the same shard. What they stood for is a loss of two failovers in a row that is not told. The
/// last mark of a shard, by which its reads are fresh enough, is never forgotten; a session of so many shards that there is no
/// room for another reads that one from its primary.
pub const MAX_MARKS: usize = 64;

/// Earlier epochs of a shard in which a session remembers what it wrote, beside those that it has to.
const REMEMBERED: usize = 8;

/// What one user has written and seen, over all shards of one cluster.
///
/// Shared by reference: requests of one user may run at once. It travels between processes as a
/// [token](crate::Tokens).
///
/// Guarantees read-your-writes and monotonic reads. It is no snapshot over nodes: two sessions may see two independent
/// writes in different order, since replicas show writes in log order and a primary need not.
///
/// # Examples
/// ```
/// use tenfold_replication::{ClusterId, Epoch, Lsn, Position, Session, ShardId};
///
/// let (here, there) = (Session::new(), Session::new());
/// here.wrote(ClusterId(7), ShardId(0), Position::new(Epoch(1), Lsn(10)))?;
/// there.saw(ClusterId(7), ShardId(0), Position::new(Epoch(1), Lsn(12)))?;
/// here.merge(&there)?;
/// assert_eq!(here.position(ShardId(0)), Some(Position::new(Epoch(1), Lsn(12))));
/// # Ok::<(), tenfold_replication::ForeignCluster>(())
/// ```
#[derive(Debug, Default)]
pub struct Session {
    state: Mutex<State>,
}

/// # Invariants
/// - I1: marks are sorted by shard and epoch, each pair once; at most [`MAX_MARKS`].
/// - I2: `wrote <= seen` in each, and `elsewhere <= seen`.
/// - I3: there are marks only if there is a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) marks: Vec<Mark>,
    /// Shards without a mark may have been written or seen.
    pub(crate) overflowed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) shard: ShardId,
    pub(crate) epoch: Epoch,
    /// The last own write; 0 if there is none.
    pub(crate) wrote: Lsn,
    pub(crate) seen: Lsn,
    /// The last that was not seen on the primary itself, or may not have been: what that one shows once it shows again.
    pub(crate) elsewhere: Lsn,
}

/// Positions of two clusters in one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the session is of cluster {session}, not of {cluster}")]
#[non_exhaustive]
pub struct ForeignCluster {
    /// Whose positions the session holds.
    pub session: ClusterId,
    /// Where it was used.
    pub cluster: ClusterId,
}

/// What a failover has lost of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{} {position} is lost: the log went on from {kept}", if *.own_write { "the write at" } else { "the state seen at" })]
#[non_exhaustive]
pub struct Lost {
    /// Whether the session wrote it; it saw it in any case.
    ///
    /// A write is held to be where the log ended when it was acknowledged, with what others had logged behind it by then. So
    /// a loss is never kept back, and after a failover in a quorum under load one may be told of a write that has survived:
    /// look for it before it is done again.
    pub own_write: bool,
    /// Where it was.
    pub position: Position,
    /// The last place before it that lives on.
    pub kept: Position,
}

/// What a shard must hold to serve a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// Nothing.
    None,
    /// This much.
    At(Position),
    /// More than the session can say: only the primary is sure to hold it.
    Primary,
}

impl Session {
    /// A session that has seen nothing: its first read may be of any age.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The cluster whose positions it holds.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.state.lock().cluster
    }

    /// The latest place of this shard that was written or seen.
    pub fn position(&self, shard: ShardId) -> Option<Position> {
        self.state.lock().of(shard).last().map(|mark| Position::new(mark.epoch, mark.seen))
    }

    /// What a node of this shard must hold to serve it.
    pub fn floor(&self, shard: ShardId) -> Floor {
        self.state.lock().floor(shard)
    }

    /// Notes a write that was acknowledged at this position.
    ///
    /// # Errors
    /// [`ForeignCluster`], if the session is of another cluster; nothing is noted.
    pub fn wrote(&self, cluster: ClusterId, shard: ShardId, position: Position) -> Result<(), ForeignCluster> {
        let Position { epoch, lsn } = position;
        let mark = Mark { shard, epoch, wrote: lsn, seen: lsn, elsewhere: Lsn(0) };
        self.state.lock().add_of(cluster, mark)
    }

    /// Notes that a state up to this position was seen.
    ///
    /// # Errors
    /// [`ForeignCluster`], if the session is of another cluster; nothing is noted.
    pub fn saw(&self, cluster: ClusterId, shard: ShardId, position: Position) -> Result<(), ForeignCluster> {
        let Position { epoch, lsn } = position;
        let mark = Mark { shard, epoch, wrote: Lsn(0), seen: lsn, elsewhere: lsn };
        self.state.lock().add_of(cluster, mark)
    }

    /// Notes that the primary of this epoch has shown a state up to this position.
    #[cfg(feature = "tokio")]
    pub(crate) fn saw_at_primary(
        &self,
        cluster: ClusterId,
        shard: ShardId,
        position: Position,
    ) -> Result<(), ForeignCluster> {
        let Position { epoch, lsn } = position;
        let mark = Mark { shard, epoch, wrote: Lsn(0), seen: lsn, elsewhere: Lsn(0) };
        self.state.lock().add_of(cluster, mark)
    }

    /// What the primary is not sure to show of what this session has seen.
    #[cfg(feature = "tokio")]
    pub(crate) fn elsewhere(&self, shard: ShardId) -> Lsn {
        self.state.lock().of(shard).last().map_or(Lsn(0), |mark| mark.elsewhere)
    }

    /// Takes over what another session has written and seen.
    ///
    /// # Errors
    /// [`ForeignCluster`], if they are of different clusters; nothing is taken.
    pub fn merge(&self, other: &Self) -> Result<(), ForeignCluster> {
        // One lock at a time: two sessions may be merged into each other at once.
        let other = other.state();
        let Some(cluster) = other.cluster else { return Ok(()) };
        let mut state = self.state.lock();
        state.belong(cluster)?;
        other.marks.iter().for_each(|mark| state.add(*mark));
        state.overflowed |= other.overflowed;
        Ok(())
    }

    /// Compares with the log of a shard: gives what is left to hold, or what is lost, once for each loss.
    ///
    /// # Errors
    /// [`Lost`], if something written or seen is not in this history. The session then goes on from what is left.
    pub fn settle(&self, shard: ShardId, history: &History) -> Result<Floor, Lost> {
        self.state.lock().settle(shard, history)
    }

    pub(crate) fn state(&self) -> State {
        self.state.lock().clone()
    }
}

impl Clone for Session {
    fn clone(&self) -> Self {
        self.state().into()
    }
}

impl From<State> for Session {
    fn from(state: State) -> Self {
        Self { state: Mutex::new(state) }
    }
}

impl State {
    /// Ties the session to a cluster, if it is not yet.
    pub(crate) fn belong(&mut self, cluster: ClusterId) -> Result<(), ForeignCluster> {
        match self.cluster {
            Some(session) if session != cluster => Err(ForeignCluster { session, cluster }),
            _ => {
                self.cluster = Some(cluster);
                Ok(())
            }
        }
    }

    fn add_of(&mut self, cluster: ClusterId, mark: Mark) -> Result<(), ForeignCluster> {
        self.belong(cluster)?;
        self.add(mark);
        Ok(())
    }

    /// The greater of this mark and the one of its epoch.
    pub(crate) fn add(&mut self, mark: Mark) {
        match self.marks.binary_search_by_key(&(mark.shard, mark.epoch), |mark| (mark.shard, mark.epoch)) {
            Ok(index) => {
                let held = &mut self.marks[index];
                held.wrote = held.wrote.max(mark.wrote);
                held.seen = held.seen.max(mark.seen);
                held.elsewhere = held.elsewhere.max(mark.elsewhere);
            }
            Err(index) => {
                self.marks.insert(index, mark);
                if self.marks.len() > MAX_MARKS {
                    let forgotten = self.least().unwrap_or(index);
                    // Of a shard that has no other.
                    self.overflowed |= self.is_last(forgotten);
                    self.marks.remove(forgotten);
                }
            }
        }
    }

    /// The mark of an earlier epoch that matters least; `None` if all are the last ones of their shards.
    fn least(&self) -> Option<usize> {
        let mut later = 0;
        let mut least = None;
        for index in (0..self.marks.len()).rev() {
            later = if self.is_last(index) { 0 } else { later + 1 };
            let was_only_seen = self.marks[index].wrote == Lsn(0);
            least = least.max((later > 0).then_some((was_only_seen, later, std::cmp::Reverse(index))));
        }
        least.map(|(_, _, std::cmp::Reverse(index))| index)
    }

    /// Whether it is the last one of its shard.
    fn is_last(&self, index: usize) -> bool {
        self.marks.get(index + 1).is_none_or(|next| next.shard != self.marks[index].shard)
    }

    fn of(&self, shard: ShardId) -> &[Mark] {
        let begin = self.marks.partition_point(|mark| mark.shard < shard);
        let count = self.marks[begin..].partition_point(|mark| mark.shard == shard);
        &self.marks[begin..begin + count]
    }

    fn floor(&self, shard: ShardId) -> Floor {
        match self.of(shard).last() {
            Some(mark) => Floor::At(Position::new(mark.epoch, mark.seen)),
            None if self.overflowed => Floor::Primary,
            None => Floor::None,
        }
    }

    fn settle(&mut self, shard: ShardId, history: &History) -> Result<Floor, Lost> {
        if self.of(shard).iter().all(|mark| mark.epoch == history.current()) {
            return Ok(self.floor(shard));
        }
        let mut at = self.marks.partition_point(|mark| mark.shard < shard);
        let begin = at;
        let of_shard = |mark: &Mark| mark.shard == shard;
        while let Some(mark) = self.marks.get(at).copied().filter(of_shard) {
            let next = self.marks.get(at + 1).filter(|mark| of_shard(mark));
            let next = next.map(|next| history.standing(Position::new(next.epoch, next.seen)));
            match history.standing(Position::new(mark.epoch, mark.seen)) {
                // Its log is part of what the later marks stand for, unless those are of epochs that are not known here.
                Standing::Kept if next.is_some_and(|next| next != Standing::Unknown) => {
                    if mark.wrote == Lsn(0) {
                        self.marks.remove(at);
                    } else if at - begin == REMEMBERED {
                        self.marks.remove(begin);
                    } else {
                        at += 1;
                    }
                }
                Standing::Kept | Standing::Unknown => break,
                Standing::Lost { kept } => {
                    self.marks.remove(at);
                    let kept_lsn = if kept.epoch == mark.epoch { kept.lsn } else { Lsn(0) };
                    let own_write = mark.wrote > kept_lsn;
                    let lsn = if own_write { mark.wrote } else { mark.seen };
                    if kept > Position::default() {
                        let (epoch, wrote, seen) = (kept.epoch, mark.wrote.min(kept_lsn), kept.lsn);
                        self.add(Mark { shard, epoch, wrote, seen, elsewhere: seen });
                    }
                    return Err(Lost { own_write, position: Position::new(mark.epoch, lsn), kept });
                }
            }
        }
        Ok(self.floor(shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    const CLUSTER: ClusterId = ClusterId(7);
    const SHARD: ShardId = ShardId(0);

    fn at(epoch: u64, lsn: u64) -> Position {
        Position::new(Epoch(epoch), Lsn(lsn))
    }

    #[test]
    fn a_lost_write_is_told_once_and_never_hidden() {
        let session = Session::new();
        session.wrote(CLUSTER, SHARD, at(1, 120)).unwrap();
        // A read in the next epoch, before anybody looked.
        session.saw(CLUSTER, SHARD, at(2, 110)).unwrap();
        let history = History::new(Epoch(1)).promoted(Epoch(2), Lsn(100)).unwrap();
        let lost = session.settle(SHARD, &history).unwrap_err();
        assert!(lost.own_write);
        assert_eq!((lost.position, lost.kept), (at(1, 120), at(1, 100)));
        assert_eq!(session.settle(SHARD, &history), Ok(Floor::At(at(2, 110))));
    }

    /// Epoch 4 went on from 2 as far as 50 and is abandoned; 3 went on from 2 as far as 30 only.
    #[test]
    fn a_write_that_two_failovers_lost_is_told() {
        let session = Session::new();
        session.wrote(CLUSTER, SHARD, at(2, 45)).unwrap();
        session.saw(CLUSTER, SHARD, at(4, 70)).unwrap();
        let history = History::new(Epoch(2)).promoted(Epoch(4), Lsn(50)).unwrap();
        assert_eq!(session.settle(SHARD, &history), Ok(Floor::At(at(4, 70))));
        let history = History::new(Epoch(2)).promoted(Epoch(3), Lsn(30)).unwrap().promoted(Epoch(5), Lsn(60)).unwrap();
        let lost = session.settle(SHARD, &history).unwrap_err();
        assert_eq!((lost.own_write, lost.position, lost.kept), (true, at(2, 45), at(2, 30)));
        let lost = session.settle(SHARD, &history).unwrap_err();
        assert_eq!((lost.own_write, lost.position, lost.kept), (false, at(4, 70), at(3, 60)));
        assert_eq!(session.settle(SHARD, &history), Ok(Floor::At(at(3, 60))));
    }

    #[test]
    fn writes_of_some_epochs_are_remembered_and_no_more() {
        let session = Session::new();
        let mut history = History::new(Epoch(1));
        for epoch in 1..40 {
            session.wrote(CLUSTER, SHARD, at(epoch, epoch)).unwrap();
            assert_eq!(session.settle(SHARD, &history), Ok(Floor::At(at(epoch, epoch))));
            history = history.promoted(Epoch(epoch + 1), Lsn(epoch)).unwrap();
        }
        let epochs: Vec<_> = session.state().marks.iter().map(|mark| mark.epoch.0).collect();
        assert_eq!(epochs, (31..40).collect::<Vec<_>>());
    }

    /// Asked where the next epoch is not known yet, and only then where it is.
    #[test]
    fn an_older_view_hides_no_loss() {
        let session = Session::new();
        session.wrote(CLUSTER, SHARD, at(1, 120)).unwrap();
        session.saw(CLUSTER, SHARD, at(2, 110)).unwrap();
        assert_eq!(session.settle(SHARD, &History::new(Epoch(1))), Ok(Floor::At(at(2, 110))));
        let history = History::new(Epoch(1)).promoted(Epoch(2), Lsn(100)).unwrap();
        assert!(session.settle(SHARD, &history).unwrap_err().own_write);
    }

    #[test]
    fn what_was_only_seen_is_told_apart() {
        let session = Session::new();
        session.wrote(CLUSTER, SHARD, at(1, 90)).unwrap();
        session.saw(CLUSTER, SHARD, at(1, 120)).unwrap();
        let history = History::new(Epoch(1)).promoted(Epoch(2), Lsn(100)).unwrap();
        let lost = session.settle(SHARD, &history).unwrap_err();
        assert!(!lost.own_write);
        assert_eq!(session.settle(SHARD, &history), Ok(Floor::At(at(1, 100))));
    }

    #[test]
    fn an_epoch_that_nobody_knows_stays_the_floor() {
        let session = Session::new();
        session.wrote(CLUSTER, SHARD, at(3, 5)).unwrap();
        assert_eq!(session.settle(SHARD, &History::new(Epoch(2))), Ok(Floor::At(at(3, 5))));
    }

    #[test]
    fn more_shards_than_marks_are_read_from_primaries() {
        let session = Session::new();
        for shard in 0..=MAX_MARKS as u16 {
            session.saw(CLUSTER, ShardId(shard), at(1, 1)).unwrap();
        }
        assert_eq!(session.floor(ShardId(0)), Floor::At(at(1, 1)));
        assert_eq!(session.floor(ShardId(MAX_MARKS as u16)), Floor::Primary);
        assert_eq!(session.state().marks.len(), MAX_MARKS);
    }

    /// Eight shards with writes in eight epochs each fill it. What a ninth has written counts for more than what was written
    /// seven failovers ago.
    #[test]
    fn writes_of_long_ago_make_room_for_a_new_shard() {
        let session = Session::new();
        let history = (2..=8).fold(History::new(Epoch(1)), |history, epoch| {
            history.promoted(Epoch(epoch), Lsn(10 * (epoch - 1))).unwrap()
        });
        for shard in 0..8 {
            for epoch in 1..=8 {
                session.wrote(CLUSTER, ShardId(shard), at(epoch, 10 * epoch - 1)).unwrap();
            }
            session.settle(ShardId(shard), &history).unwrap();
        }
        assert_eq!(session.state().marks.len(), MAX_MARKS);
        for shard in 8..20 {
            session.wrote(CLUSTER, ShardId(shard), at(8, 79)).unwrap();
            assert_eq!(session.floor(ShardId(shard)), Floor::At(at(8, 79)));
        }
        assert!(!session.state().overflowed);
        let next = history.promoted(Epoch(9), Lsn(78)).unwrap();
        for shard in 0..20 {
            assert!(session.settle(ShardId(shard), &next).unwrap_err().own_write, "shard {shard}");
        }
        // The two failovers before are remembered as well, by all: epochs 7 and 8 are abandoned.
        let other = (2..=6).fold(History::new(Epoch(1)), |history, epoch| {
            history.promoted(Epoch(epoch), Lsn(10 * (epoch - 1))).unwrap()
        });
        let other = other.promoted(Epoch(10), Lsn(60)).unwrap();
        for shard in 0..8 {
            assert!(session.settle(ShardId(shard), &other).unwrap_err().own_write, "shard {shard}");
        }
    }

    #[test]
    fn what_was_only_seen_is_forgotten_first() {
        let session = Session::new();
        for epoch in 1..=2 {
            session.saw(CLUSTER, ShardId(7), at(epoch, 1)).unwrap();
        }
        for shard in 10..41 {
            session.wrote(CLUSTER, ShardId(shard), at(1, 1)).unwrap();
            session.wrote(CLUSTER, ShardId(shard), at(2, 1)).unwrap();
        }
        session.saw(CLUSTER, ShardId(90), at(1, 1)).unwrap();
        let marks = session.state().marks;
        assert_eq!(marks.len(), MAX_MARKS);
        assert_eq!(marks.iter().filter(|mark| mark.shard == ShardId(7)).count(), 1);
        assert_eq!(session.floor(ShardId(7)), Floor::At(at(2, 1)));
        assert_eq!(session.floor(ShardId(90)), Floor::At(at(1, 1)));
    }

    /// Whatever comes, and in whatever order: as long as there are no more shards than marks, each has its last one.
    #[test]
    fn the_last_mark_of_a_shard_is_never_forgotten() {
        for seed in 0..50 {
            let (mut rng, mut state) = (Rng::new(seed), State::default());
            let mut last = std::collections::BTreeMap::<u16, (u64, u64)>::new();
            for _ in 0..600 {
                let (shard, epoch, lsn) = (rng.below(MAX_MARKS as u64) as u16, rng.below(9), 1 + rng.below(50));
                let wrote = if rng.below(2) == 0 { lsn } else { 0 };
                let (wrote, seen) = (Lsn(wrote), Lsn(lsn));
                state.add(Mark { shard: ShardId(shard), epoch: Epoch(epoch), wrote, seen, elsewhere: seen });
                let entry = last.entry(shard).or_default();
                *entry = (*entry).max((epoch, lsn));
                assert!(state.marks.len() <= MAX_MARKS && !state.overflowed, "seed {seed}");
                assert!(state.marks.is_sorted_by_key(|mark| (mark.shard, mark.epoch)));
            }
            for (shard, (epoch, lsn)) in last {
                assert_eq!(state.floor(ShardId(shard)), Floor::At(at(epoch, lsn)), "seed {seed}, shard {shard}");
            }
        }
    }

    #[test]
    fn refuses_positions_of_another_cluster() {
        let (mine, theirs) = (Session::new(), Session::new());
        mine.saw(CLUSTER, SHARD, at(1, 1)).unwrap();
        theirs.saw(ClusterId(8), SHARD, at(1, 9)).unwrap();
        assert!(mine.merge(&theirs).is_err() && mine.wrote(ClusterId(8), SHARD, at(1, 9)).is_err());
        assert_eq!(mine.floor(SHARD), Floor::At(at(1, 1)));
        mine.merge(&Session::new()).unwrap();
    }

    /// Merging is a maximum: in any order, and again, it gives the same.
    #[test]
    fn merging_is_commutative_associative_and_idempotent() {
        let mut rng = Rng::new(1);
        let mut random = || {
            let session = Session::new();
            for _ in 0..rng.below(6) {
                let position = at(rng.below(3), rng.below(50));
                let shard = ShardId(rng.below(3) as u16);
                let _ = if rng.below(2) == 0 {
                    session.wrote(CLUSTER, shard, position)
                } else {
                    session.saw(CLUSTER, shard, position)
                };
            }
            session
        };
        let merged = |left: &Session, right: &Session| {
            let all = left.clone();
            all.merge(right).unwrap();
            all
        };
        for _ in 0..500 {
            let (a, b, c) = (random(), random(), random());
            assert_eq!(merged(&a, &b).state(), merged(&b, &a).state());
            assert_eq!(merged(&merged(&a, &b), &c).state(), merged(&a, &merged(&b, &c)).state());
            assert_eq!(merged(&a, &a).state(), a.state());
        }
    }
}
