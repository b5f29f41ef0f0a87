//! One read: where to, how long to wait, when to send it again, and whether its answer was fresh enough.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::time::Instant as Deadline;

use super::Shared;
use super::run::{Failed, Unit};
use crate::checkout::Checkout;
use crate::clock::{after, deadline, left, timer_now};
use crate::driver::{Access, Class, Driver, Mark};
use crate::error::Error;
use crate::intent::ReadOptions;
use crate::pool::CheckoutError;
use crate::route::{Need, Refusal, Route, Tried, WhenBehind};
use crate::session::{Floor, Session};
use crate::stats::count;
use crate::topology::{Member, Topology};
use crate::{Lsn, ShardId, Standing};

/// One sending of a read.
#[derive(Clone, Copy, Debug)]
struct Leg {
    index: usize,
    is_primary: bool,
    /// What the node must have replayed first.
    wait: Option<Lsn>,
    /// What it must show.
    floor: Floor,
}

/// Why a sending gave no answer.
enum Miss<E> {
    /// The read itself failed: no other node would do better.
    Final(Error<E>),
    /// The node failed.
    Node(Option<E>),
    /// It could not be connected to: nothing was tried there.
    Unreachable(Option<E>),
    /// All its connections are in use.
    Exhausted,
    /// It did not catch up in time.
    Behind,
    /// The primary has logged what the session has seen, and does not show it yet.
    Unshown,
}

/// What an answer is worth.
enum Judgement {
    /// It is of this log, and has all that the session has seen.
    Fresh,
    /// It is not.
    Stale,
    /// It is of an epoch that is not known here yet: whether that one went on from what the session has seen is open.
    Open,
    /// The primary has logged what the session has seen, and may not have shown it.
    Unshown,
}

/// When a sending is decided on and begins, by both clocks: read once, as that costs as much as the decision.
#[derive(Clone, Copy)]
struct Moment {
    /// Of the process, by which everything is judged.
    now: Instant,
    /// Of the timers.
    timer: Deadline,
}

/// What a node answered.
struct Answer<T> {
    leg: Leg,
    value: T,
    mark: Mark,
    /// It was waited for in vain.
    is_early: bool,
    ended: Instant,
}

/// A read that is being served.
struct Reading<'a> {
    options: &'a ReadOptions,
    deadline: Deadline,
    tried: Tried,
    may_wait: bool,
    /// What the primary must be sure to show.
    elsewhere: Lsn,
    tries_left: u32,
}

impl<D: Driver> Shared<D> {
    pub(super) async fn read<T, F, R>(
        &self,
        session: &Session,
        options: &ReadOptions,
        f: &F,
    ) -> Result<T, Error<D::Error>>
    where
        F: Fn(Checkout<D>) -> R,
        R: Future<Output = Result<T, D::Error>>,
    {
        if let Some(hedger) = &self.hedger {
            hedger.earn();
        }
        let mut moment = self.moment();
        let mut reading = Reading {
            options,
            deadline: after(moment.timer, options.timeout.unwrap_or(self.config.read_timeout)),
            tried: Tried::default(),
            may_wait: true,
            elsewhere: Lsn(0),
            tries_left: self.config.read_tries,
        };
        let (mut last_error, mut is_first) = (None, true);
        loop {
            if !std::mem::take(&mut is_first) {
                moment = self.moment();
            }
            let topology = self.topology();
            let floor = self.settle(session, &topology)?;
            reading.elsewhere = session.elsewhere(self.shard);
            let need = Need { may_wait: reading.may_wait, ..self.need(floor, options) };
            let Some(leg) = self.leg(&topology, need, &mut reading, moment.now, &mut last_error).await? else {
                continue;
            };
            let is_a_try = match self.race(leg, &topology, need, &mut reading, moment, f).await {
                Ok(answer) => match self.judge(&answer, options, &topology, session)? {
                    Judgement::Fresh => return Ok(answer.value),
                    judgement => self.not_fresh(judgement, answer.leg, &topology, &mut reading).await?,
                },
                Err((leg, miss)) => self.missed(leg, miss, &topology, &mut reading, &mut last_error).await?,
            };
            if !is_a_try {
                continue;
            }
            reading.tries_left -= 1;
            if reading.tries_left == 0 {
                return Err(Error::Unavailable(last_error));
            }
            count(&self.counters.reads_repeated);
        }
    }

    /// After an answer that cannot be given to the session; whether that was one of the tries.
    async fn not_fresh(
        &self,
        judgement: Judgement,
        leg: Leg,
        topology: &Topology,
        reading: &mut Reading<'_>,
    ) -> Result<bool, Error<D::Error>> {
        match judgement {
            Judgement::Fresh => {}
            Judgement::Stale => {
                count(&self.counters.stale_answers);
                reading.tried.add(leg.index);
                self.refresh.notify_waiters();
                return Ok(true);
            }
            Judgement::Open => {
                self.refresh.notify_waiters();
                if !self.changed(topology, reading.deadline).await {
                    return Err(Error::Timeout);
                }
            }
            Judgement::Unshown => self.wait_longer(topology, reading.deadline).await?,
        }
        Ok(false)
    }

    /// After a node that gave no answer; whether that was one of the tries.
    async fn missed(
        &self,
        leg: Leg,
        miss: Miss<D::Error>,
        topology: &Topology,
        reading: &mut Reading<'_>,
        last_error: &mut Option<D::Error>,
    ) -> Result<bool, Error<D::Error>> {
        let (error, is_a_try) = match miss {
            Miss::Final(error) => return Err(error),
            Miss::Unshown => {
                self.wait_longer(topology, reading.deadline).await?;
                return Ok(false);
            }
            Miss::Behind => {
                count(&self.counters.waits_in_vain);
                reading.may_wait = false;
                return Ok(false);
            }
            Miss::Exhausted if reading.tries_left <= 1 => {
                return Err(Error::PoolExhausted(topology.members[leg.index].node.id()));
            }
            Miss::Exhausted => {
                reading.tried.add(leg.index);
                return Ok(true);
            }
            Miss::Unreachable(error) => (error, false),
            Miss::Node(error) => (error, true),
        };
        reading.tried.add(leg.index);
        *last_error = error.or(last_error.take());
        self.refresh.notify_waiters();
        Ok(is_a_try)
    }

    /// The next sending; `None` after something has changed and the choice is to be made again.
    async fn leg(
        &self,
        topology: &Topology,
        need: Need,
        reading: &mut Reading<'_>,
        now: Instant,
        last_error: &mut Option<D::Error>,
    ) -> Result<Option<Leg>, Error<D::Error>> {
        let floor = need.floor;
        let refusal = match self.route(topology, need, reading.tried, now) {
            Route::Replica(index) => return Ok(Some(Leg { index, is_primary: false, wait: None, floor })),
            Route::Wait(index, lsn) => return Ok(Some(Leg { index, is_primary: false, wait: Some(lsn), floor })),
            Route::Primary(index) => {
                // What replicas show may still be unconfirmed there, and not to be seen. What it has shown it goes on to show.
                let bound = topology.members[index].replayed();
                let wait = match need.floor {
                    Floor::At(seen) => Some(seen.lsn.min(reading.elsewhere)).filter(|lsn| *lsn > bound),
                    _ => None,
                };
                return Ok(Some(Leg { index, is_primary: true, wait, floor }));
            }
            Route::Refuse(refusal) => refusal,
        };
        let is_final = refusal == Refusal::TooStale && self.config.when_behind == WhenBehind::Refuse;
        if is_final {
            return Err(refusal.into());
        }
        // A failover may be under way, or this view of it be old.
        self.refresh.notify_waiters();
        if left(reading.deadline).is_zero() || !self.changed(topology, reading.deadline).await {
            return Err(match last_error.take() {
                Some(error) => Error::Unavailable(Some(error)),
                None => refusal.into(),
            });
        }
        reading.tried = Tried::default();
        reading.may_wait = true;
        Ok(None)
    }

    /// After the primary was waited for in vain: whatever it shows earlier, the session has seen more already.
    async fn wait_longer(&self, topology: &Topology, until: Deadline) -> Result<(), Error<D::Error>> {
        count(&self.counters.waits_in_vain);
        if left(until).is_zero() {
            return Err(Error::Timeout);
        }
        self.refresh.notify_waiters();
        self.changed(topology, until.min(deadline(self.config.max_wait))).await;
        Ok(())
    }

    /// Sends it, and if it is late, to a second node as well.
    async fn race<T, F, R>(
        &self,
        leg: Leg,
        topology: &Topology,
        need: Need,
        reading: &mut Reading<'_>,
        moment: Moment,
        f: &F,
    ) -> Result<Answer<T>, (Leg, Miss<D::Error>)>
    where
        F: Fn(Checkout<D>) -> R,
        R: Future<Output = Result<T, D::Error>>,
    {
        let began = moment.now;
        let hedger = self.hedger.as_ref().filter(|_| !reading.options.once && leg.wait.is_none());
        let Some(hedger) = hedger else { return self.send(leg, topology, reading, moment, f).await };
        let mut first = std::pin::pin!(self.send(leg, topology, reading, moment, f));
        let delay = hedger.delay();
        if let Ok(result) = tokio::time::timeout_at(after(moment.timer, delay), &mut first).await {
            let ended = result.as_ref().map_or_else(|_| self.now(), |answer| answer.ended);
            hedger.observe(ended.saturating_duration_since(began));
            return result;
        }
        hedger.observe(delay.saturating_mul(2));
        let mut tried = reading.tried;
        tried.add(leg.index);
        let moment = self.moment();
        let other = match self.route(topology, need, tried, moment.now) {
            Route::Replica(index) if hedger.spend() => Leg { index, is_primary: false, wait: None, floor: need.floor },
            _ => return first.await,
        };
        count(&self.counters.hedges);
        let mut second = std::pin::pin!(self.send(other, topology, reading, moment, f));
        tokio::select! {
            biased;
            result = &mut first => match result {
                Err((_, Miss::Node(_) | Miss::Unreachable(_) | Miss::Exhausted)) => second.await,
                result => result,
            },
            result = &mut second => if result.is_ok() {
                count(&self.counters.hedges_won);
                let now = self.now();
                let member = &topology.members[leg.index];
                let ejected = member.vitals.lose(now.saturating_duration_since(began), &self.config.eject, now);
                tell_of_ejection(self.shard, member, ejected);
                result
            } else {
                first.await
            },
        }
    }

    async fn send<T, F, R>(
        &self,
        leg: Leg,
        topology: &Topology,
        reading: &Reading<'_>,
        moment: Moment,
        f: &F,
    ) -> Result<Answer<T>, (Leg, Miss<D::Error>)>
    where
        F: Fn(Checkout<D>) -> R,
        R: Future<Output = Result<T, D::Error>>,
    {
        let member = &topology.members[leg.index];
        let _in_flight = member.vitals.count();
        // While others could answer as well, this one may use half of the time only.
        let limit = reading.deadline.saturating_duration_since(moment.timer);
        let limit = if reading.tries_left > 1 { limit / 2 } else { limit };
        let sent = self.send_unlimited(leg, topology, reading.options, f);
        let result = match tokio::time::timeout_at(after(moment.timer, limit), sent).await {
            Ok(result) => result,
            Err(_) if left(reading.deadline).is_zero() => Err(Miss::Final(Error::Timeout)),
            Err(_) => Err(Miss::Node(None)),
        };
        let now = self.now();
        let ejected = match &result {
            Ok(_) => {
                let best_us = self.best_latency_us(topology, leg.index);
                member.vitals.succeed(now.saturating_duration_since(moment.now), best_us, &self.config.eject, now)
            }
            Err(Miss::Node(_) | Miss::Unreachable(_) | Miss::Final(Error::Timeout)) => {
                member.vitals.fail(&self.config.eject, now)
            }
            Err(_) => None,
        };
        tell_of_ejection(self.shard, member, ejected);
        match result {
            Ok((value, mark, is_early)) => Ok(Answer { leg, value, mark, is_early, ended: now }),
            Err(miss) => Err((leg, miss)),
        }
    }

    async fn send_unlimited<T, F, R>(
        &self,
        leg: Leg,
        topology: &Topology,
        options: &ReadOptions,
        f: &F,
    ) -> Result<(T, Mark, bool), Miss<D::Error>>
    where
        F: Fn(Checkout<D>) -> R,
        R: Future<Output = Result<T, D::Error>>,
    {
        let checked_out = self.pools[leg.index].read.check_out(topology.cluster()).await;
        let (mut connection, place) = checked_out.map_err(|error| match error {
            CheckoutError::Exhausted => Miss::Exhausted,
            CheckoutError::Connect(error) => Miss::Unreachable(error),
            CheckoutError::WrongNode => Miss::Unreachable(None),
        })?;
        let mut is_early = false;
        if let Some(lsn) = leg.wait {
            count(&self.counters.waits);
            let waited = self.driver.wait(&mut connection, lsn, self.config.max_wait).await;
            let reached = waited.map_err(|error| Miss::Node(Some(error)))?;
            // Of the snapshot's epoch: in another, this bound is nobody's any more.
            let member = &topology.members[leg.index];
            member.bound.raise(reached);
            // A primary that is not known to have logged it may be one that never will: its answer tells.
            is_early = reached < lsn && leg.is_primary && member.received() < Some(lsn);
            if reached < lsn && !is_early {
                place.put_back(connection);
                return Err(if leg.is_primary { Miss::Unshown } else { Miss::Behind });
            }
        }
        if options.untracked && !options.snapshot {
            match leg.floor {
                Floor::None => self.driver.skip_mark(&mut connection, None),
                Floor::At(seen) => self.driver.skip_mark(&mut connection, Some(seen)),
                Floor::Primary => {}
            }
        }
        let unit = if options.snapshot { Unit::Transaction(Access::Read) } else { Unit::Statements };
        let result = self.run((connection, place), unit, f).await;
        result.map(|(value, mark)| (value, mark, is_early)).map_err(|failed| match failed {
            Failed::Kept => Miss::Final(Error::ConnectionKept),
            Failed::Error { error, class: Class::Statement, .. } => Miss::Final(Error::Statement(error)),
            Failed::Error { error, class: Class::ReadOnly, .. } => {
                count(&self.counters.writes_in_reads);
                Miss::Final(Error::WriteInRead(error))
            }
            Failed::Error { error, .. } => Miss::Node(Some(error)),
        })
    }

    /// What the answer is worth; notes in the session what it showed.
    ///
    /// What was known of the node said that it would be. This is asked again of what the node itself says, so that
    /// nothing that was restored, left or mistaken passes for fresh.
    fn judge<T>(
        &self,
        answer: &Answer<T>,
        options: &ReadOptions,
        topology: &Topology,
        session: &Session,
    ) -> Result<Judgement, Error<D::Error>> {
        let counter =
            if answer.leg.is_primary { &self.counters.reads_by_primary } else { &self.counters.reads_by_replica };
        let Some(position) = answer.mark.position else {
            count(counter);
            return Ok(Judgement::Fresh);
        };
        let now_known = self.topology();
        // What the session wrote may be lost to an epoch that was entered meanwhile, and this answer be of that one.
        let is_same = now_known.epoch() == topology.epoch();
        let floor = if is_same { answer.leg.floor } else { self.settle(session, &now_known)? };
        let history = now_known.history().or(topology.history());
        let standing = history.map_or(Standing::Unknown, |history| history.standing(position));
        if let Standing::Lost { .. } = standing {
            return Ok(Judgement::Stale);
        }
        if let Floor::At(seen) = floor {
            if standing == Standing::Unknown && seen.epoch < position.epoch {
                return Ok(Judgement::Open);
            }
            let is_older = position.lsn < seen.lsn;
            if is_older && answer.leg.is_primary && position.epoch == seen.epoch {
                return Err(Error::FromTheFuture { session: seen, primary: position });
            }
            if is_older {
                return Ok(Judgement::Stale);
            }
            if answer.is_early {
                return Ok(Judgement::Unshown);
            }
        }
        if let Some(cluster) = topology.cluster().filter(|_| options.snapshot || !options.untracked) {
            if answer.leg.is_primary {
                session.saw_at_primary(cluster, self.shard, position)?;
            } else {
                session.saw(cluster, self.shard, position)?;
            }
        }
        count(counter);
        Ok(Judgement::Fresh)
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now(), timer: timer_now() }
    }

    fn best_latency_us(&self, topology: &Topology, but: usize) -> u64 {
        let others = topology.members.iter().enumerate().filter(|(index, _)| *index != but);
        others.map(|(_, member)| member.vitals.latency_us()).filter(|latency| *latency > 0).min().unwrap_or(0)
    }
}

fn tell_of_ejection(shard: ShardId, member: &Member, ejected: Option<Duration>) {
    #[cfg(feature = "tracing")]
    if let Some(length) = ejected {
        let latency_us = member.vitals.latency_us();
        tracing::warn!(shard = shard.0, node = %member.node.id(), ?length, latency_us, "a node is ejected");
    }
    #[cfg(not(feature = "tracing"))]
    let _ = (shard, member, ejected);
}
