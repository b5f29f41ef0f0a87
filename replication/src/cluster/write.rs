//! One write: when there is a primary, there, and again only while surely nothing of it has taken effect.

use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant as Deadline;

use super::Shared;
use super::run::{Failed, Stage, Unit};
use crate::checkout::Checkout;
use crate::clock::{deadline, left};
use crate::driver::{Class, Driver, Mark};
use crate::error::Error;
use crate::gate::Inside;
use crate::pool::CheckoutError;
use crate::session::{Floor, Session};
use crate::stats::count;
use crate::topology::Topology;
use crate::{Epoch, Standing};

/// What becomes of a try that failed.
enum Next<E> {
    /// It is over.
    Fail(Error<E>),
    /// It was not begun: again, when the node's state may have changed.
    Later(Option<E>),
    /// It was begun and had no effect: again, as often as writes are tried.
    Again {
        error: E,
        /// When the node's state may have changed, not at once.
        is_later: bool,
    },
}

/// The primary of now, and the leave to write there.
struct Target<'a> {
    topology: Arc<Topology>,
    index: usize,
    epoch: Epoch,
    _inside: Inside<'a>,
}

impl<D: Driver> Shared<D> {
    pub(super) async fn write<T, F, R>(&self, session: &Session, unit: Unit, f: &F) -> Result<T, Error<D::Error>>
    where
        F: Fn(Checkout<D>) -> R,
        R: Future<Output = Result<T, D::Error>>,
    {
        let deadline = deadline(self.config.write_timeout);
        let mut tries = 0;
        let mut last_error = None;
        let error = loop {
            let target = match self.target(session, deadline).await {
                Ok(target) => target,
                Err(Error::NoPrimary) if last_error.is_some() => break Error::Unavailable(last_error),
                Err(error) => break error,
            };
            let topology = Arc::clone(&target.topology);
            match self.try_write(target, session, unit, deadline, f).await {
                Ok(value) => {
                    count(&self.counters.writes);
                    return Ok(value);
                }
                Err(Next::Fail(error)) => break error,
                Err(Next::Later(error)) => {
                    last_error = error.or(last_error);
                    if !self.look_again(&topology, deadline).await {
                        break Error::Unavailable(last_error);
                    }
                }
                Err(Next::Again { error, is_later }) => {
                    tries += 1;
                    if tries >= self.config.write_tries {
                        break Error::Unavailable(Some(error));
                    }
                    last_error = Some(error);
                    if is_later && !self.look_again(&topology, deadline).await {
                        break Error::Unavailable(last_error);
                    }
                }
            }
            count(&self.counters.writes_repeated);
        };
        count(if error.is_ambiguous() { &self.counters.writes_ambiguous } else { &self.counters.writes_failed });
        #[cfg(feature = "tracing")]
        if error.is_ambiguous() {
            tracing::warn!(shard = self.shard.0, %error, "a write may have taken effect");
        } else {
            tracing::debug!(shard = self.shard.0, %error, "a write failed");
        }
        Err(error)
    }

    /// Until something is known that was not known to this snapshot; false if the time is over.
    async fn look_again(&self, topology: &Topology, deadline: Deadline) -> bool {
        self.refresh.notify_waiters();
        self.changed(topology, deadline).await && !left(deadline).is_zero()
    }

    /// Waits for a primary that is no older than the session, and for leave to write.
    async fn target(&self, session: &Session, deadline: Deadline) -> Result<Target<'_>, Error<D::Error>> {
        let mut waiting = None;
        loop {
            let topology = self.topology();
            let floor = self.settle(session, &topology)?;
            let is_known = match (floor, topology.history()) {
                (Floor::At(position), Some(history)) => history.standing(position) != Standing::Unknown,
                _ => true,
            };
            if let (Some(index), Some(epoch), true) = (topology.primary, topology.epoch(), is_known) {
                if let Some(inside) = self.gate.enter() {
                    return Ok(Target { topology, index, epoch, _inside: inside });
                }
            }
            if waiting.is_none() {
                waiting = Some(self.queue().ok_or(Error::TooManyWaiting)?);
                self.refresh.notify_waiters();
            }
            if left(deadline).is_zero() {
                return Err(match floor {
                    Floor::At(position) if !is_known => crate::Refusal::UnknownEpoch(position).into(),
                    _ => Error::NoPrimary,
                });
            }
            if self.gate.is_closed() {
                let _ = tokio::time::timeout_at(deadline, self.gate.opened()).await;
            } else {
                self.changed(&topology, deadline).await;
            }
        }
    }

    async fn try_write<T, F, R>(
        &self,
        target: Target<'_>,
        session: &Session,
        unit: Unit,
        deadline: Deadline,
        f: &F,
    ) -> Result<T, Next<D::Error>>
    where
        F: Fn(Checkout<D>) -> R,
        R: Future<Output = Result<T, D::Error>>,
    {
        let member = &target.topology.members[target.index];
        let pool = &self.pools[target.index].write;
        let check_out = pool.check_out(target.topology.cluster());
        let checked_out = match tokio::time::timeout_at(deadline, check_out).await {
            Ok(Ok(checked_out)) => checked_out,
            Ok(Err(CheckoutError::Exhausted)) => return Err(Next::Fail(Error::PoolExhausted(member.node.id()))),
            Ok(Err(CheckoutError::Connect(error))) => return Err(Next::Later(error)),
            Ok(Err(CheckoutError::WrongNode)) => {
                self.update(|topology| topology.demote(target.index));
                return Err(Next::Later(None));
            }
            Err(_) => return Err(Next::Fail(Error::Timeout)),
        };
        if checked_out.1.epoch != target.epoch {
            return Err(Next::Later(None));
        }
        let _in_flight = member.vitals.count();
        let work = self.run(checked_out, unit, f);
        let result = tokio::select! {
            biased;
            result = work => result,
            // Another primary took over: what this one may still say counts no more.
            () = self.epoch_left(target.epoch) => return Err(Next::Fail(Error::Ambiguous(None))),
            () = tokio::time::sleep_until(deadline) => return Err(Next::Fail(Error::Ambiguous(None))),
        };
        match result {
            Ok((value, mark)) => {
                self.wrote(session, &target.topology, mark).map_err(Next::Fail)?;
                Ok(value)
            }
            Err(failed) => Err(self.after_failure(failed, session, &target)),
        }
    }

    fn after_failure(&self, failed: Failed<D::Error>, session: &Session, target: &Target<'_>) -> Next<D::Error> {
        let Failed::Error { error, class, stage, mark } = failed else { return Next::Fail(Error::ConnectionKept) };
        if let Err(foreign) = self.wrote(session, &target.topology, mark) {
            return Next::Fail(foreign);
        }
        // Something before it was committed: to repeat it would do that twice.
        let is_partial = mark.wrote;
        match class {
            Class::Statement if is_partial => Next::Fail(Error::Ambiguous(Some(error))),
            Class::Statement => Next::Fail(Error::Statement(error)),
            Class::Ambiguous | Class::Superseded => Next::Fail(Error::Ambiguous(Some(error))),
            _ if is_partial => Next::Fail(Error::Ambiguous(Some(error))),
            Class::Gone if stage == Stage::Committing => {
                self.refresh.notify_waiters();
                Next::Fail(Error::Ambiguous(Some(error)))
            }
            Class::Gone | Class::NotSent => Next::Again { error, is_later: true },
            Class::RolledBack => Next::Again { error, is_later: false },
            Class::ReadOnly => {
                self.update(|topology| topology.demote(target.index));
                Next::Again { error, is_later: true }
            }
        }
    }

    fn wrote(&self, session: &Session, topology: &Topology, mark: Mark) -> Result<(), Error<D::Error>> {
        let (Some(cluster), Some(position)) = (topology.cluster(), mark.position) else { return Ok(()) };
        if mark.wrote {
            session.wrote(cluster, self.shard, position)?;
        } else {
            session.saw_at_primary(cluster, self.shard, position)?;
        }
        Ok(())
    }
}
