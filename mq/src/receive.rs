//! Handing messages out: taken from the state under the lock, read from the log outside of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::core::{Core, Keeper, Phase};
use crate::delivery::Received;
use crate::log::{Address, Confirmation, Lsn, ReadError};
use crate::record;
use crate::shared::{Place, Shared, Spot, Until};
use crate::state::{self, GroupId, TakeError, Taken};
use crate::wait::Calls;
use crate::{Damage, DamageReason, DeadReason, Failure, Message, MessageId, Receipt, ReceiveError};

/// What a look at the queue came to.
enum Look {
    /// `Core::taken` was moved out; without a log, the messages are there already.
    Took,
    /// Nothing, and something was sent that is not confirmed up to there.
    Unconfirmed(Lsn),
    /// Nothing; for a thread, how long to sleep at most.
    Nothing(Option<Duration>),
}

/// How long acks stay unwritten while somebody waits for messages.
const IDLE: Duration = Duration::from_millis(50);

/// Messages, or with a log, where they are.
#[derive(Default)]
struct Catch {
    taken: Vec<Taken>,
    received: Vec<Received>,
}

impl Shared {
    /// Receives one message, without allocating if there is one.
    #[inline]
    pub(crate) fn receive_one(&self, group: GroupId, until: Until) -> Result<Option<Received>, ReceiveError> {
        let received = self.try_one(group)?;
        if received.is_some() || until == Until::Now {
            return Ok(received);
        }
        let mut received = Vec::new();
        self.receive(group, 1, until, &mut received)?;
        Ok(received.pop())
    }

    #[inline]
    fn try_one(&self, group: GroupId) -> Result<Option<Received>, ReceiveError> {
        loop {
            let mut calls = Calls::default();
            let mut core = self.hub.core.lock();
            let Some(taken) = self.take_one(&mut core, group, &mut calls)? else { return Ok(None) };
            if self.disk.is_none() {
                return Ok(self.received_in_memory(&core, group, &taken));
            }
            drop(core);
            drop(calls);
            match self.read(&taken) {
                Ok(message) => return Ok(Some(self.received(group, &taken, message))),
                Err(ReadError::NotFound) => self.give_back(group, &taken),
                Err(error) => return Err(self.bury(group, &taken, &error)),
            }
        }
    }

    #[inline]
    fn take_one(&self, core: &mut Core, group: GroupId, calls: &mut Calls) -> Result<Option<Taken>, ReceiveError> {
        if let Some(taken) = self.take_plain(core, group) {
            core.call_keeper(calls);
            return Ok(Some(taken));
        }
        self.take_one_with_care(core, group, calls)
    }

    fn take_one_with_care(
        &self,
        core: &mut Core,
        group: GroupId,
        calls: &mut Calls,
    ) -> Result<Option<Taken>, ReceiveError> {
        let mut scratch = std::mem::take(&mut core.taken);
        let took = self.take(core, group, 1, &mut scratch);
        let taken = scratch.pop();
        core.taken = scratch;
        core.call(calls);
        took.map(|()| taken)
    }

    /// Waits until there is a message and adds up to `max`; nothing if the time is over.
    pub(crate) fn receive(
        &self,
        group: GroupId,
        max: usize,
        until: Until,
        out: &mut Vec<Received>,
    ) -> Result<(), ReceiveError> {
        let mut catch = Catch { taken: Vec::new(), received: std::mem::take(out) };
        let mut place = Place::new(&self.hub, Spot::Group(group));
        let mut idle = false;
        let outcome = loop {
            match self.look(group, max, &mut catch, (until != Until::Now).then_some((&mut place, None))) {
                Err(error) => break Err(error),
                Ok(Look::Took) => match self.read_all(group, &mut catch) {
                    Ok(()) if catch.received.is_empty() => {}
                    other => break other,
                },
                Ok(_) if until == Until::Now => break Ok(()),
                Ok(Look::Unconfirmed(lsn)) => {
                    if let Err(failure) = self.confirm(lsn) {
                        break Err(ReceiveError::Failed(failure));
                    }
                }
                Ok(Look::Nothing(due)) => {
                    let left = self.left(until);
                    if left.is_some_and(|left| left.is_zero()) {
                        break Ok(());
                    }
                    place.park(left.into_iter().chain(due).chain(self.idle(&mut idle)).min());
                }
            }
        };
        *out = catch.received;
        outcome
    }

    /// For how long a thread that found nothing may sleep before it writes acks that nobody else has written. It does so
    /// if it has slept that long already: sooner it would only get in the way of senders, who write them along.
    fn idle(&self, has_slept: &mut bool) -> Option<Duration> {
        let disk = self.disk.as_ref()?;
        self.sync_in_time(disk);
        if !self.hub.core.lock().has_events() {
            *has_slept = false;
            return None;
        }
        if std::mem::replace(has_slept, true) {
            *has_slept = false;
            // If it fails, it fails again where somebody waits for it.
            let _ = self.append_events();
            let _ = disk.log.try_commit();
            self.attend(disk);
            return None;
        }
        Some(IDLE)
    }

    /// The same as a task, without end.
    pub(crate) async fn receive_async(&self, group: GroupId, max: usize) -> Result<Vec<Received>, ReceiveError> {
        let mut catch = Catch::default();
        let mut place = Place::new(&self.hub, Spot::Group(group));
        let mut confirmation = None;
        std::future::poll_fn(|context| {
            self.poll_receive(group, max, &mut catch, &mut place, &mut confirmation, context)
        })
        .await
    }

    fn poll_receive(
        &self,
        group: GroupId,
        max: usize,
        catch: &mut Catch,
        place: &mut Place<'_>,
        confirmation: &mut Option<(Lsn, Pin<Box<Confirmation>>)>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Vec<Received>, ReceiveError>> {
        loop {
            match self.look(group, max, catch, Some((&mut *place, Some(context.waker()))))? {
                Look::Took => {
                    self.read_all(group, catch)?;
                    if !catch.received.is_empty() {
                        return Poll::Ready(Ok(std::mem::take(&mut catch.received)));
                    }
                }
                Look::Nothing(_) => return Poll::Pending,
                Look::Unconfirmed(lsn) => {
                    let Some(disk) = &self.disk else { return Poll::Pending };
                    let is_new = confirmation.as_ref().is_none_or(|(known, _)| *known < lsn);
                    if is_new {
                        *confirmation = Some((lsn, Box::pin(disk.log.confirmation(lsn))));
                    }
                    let Some((_, waiting)) = confirmation.as_mut() else { return Poll::Pending };
                    match waiting.as_mut().poll(context) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(())) => *confirmation = None,
                        Poll::Ready(Err(poisoned)) => {
                            return Poll::Ready(Err(ReceiveError::Failed(poisoned.into())));
                        }
                    }
                }
            }
        }
    }

    /// Takes what there is; if nothing, joins the line.
    fn look(
        &self,
        group: GroupId,
        max: usize,
        catch: &mut Catch,
        wait: Option<(&mut Place<'_>, Option<&Waker>)>,
    ) -> Result<Look, ReceiveError> {
        let mut calls = Calls::default();
        let mut core = self.hub.core.lock();
        let took = self.take(&mut core, group, max, &mut catch.taken);
        core.call_due(&mut calls);
        took?;
        if !catch.taken.is_empty() {
            if self.disk.is_none() {
                catch.received.reserve(catch.taken.len());
                for taken in catch.taken.drain(..) {
                    catch.received.extend(self.received_in_memory(&core, group, &taken));
                }
            }
            if let Some((place, _)) = wait {
                place.served(&mut core, &mut calls);
            }
            core.call(&mut calls);
            return Ok(Look::Took);
        }
        let Some((place, waker)) = wait else { return Ok(Look::Nothing(None)) };
        let waiter = Arc::clone(place.join(&mut core, waker));
        if let Some((lsn, _)) = core.unconfirmed.back() {
            return Ok(Look::Unconfirmed(*lsn));
        }
        core.call_overdue(&mut calls);
        let deadline = core.next_deadline();
        if waker.is_some() {
            // The thread that looks at the clock may sleep too long for what only this task waits for.
            core.call_keeper(&mut calls);
            return Ok(Look::Nothing(None));
        }
        let keeps = core.keeper.as_ref().is_none_or(|keeper| Arc::ptr_eq(&keeper.waiter, &waiter));
        if keeps {
            core.keeper = Some(Keeper { waiter, until: deadline });
        }
        let due = deadline.map(|deadline| self.time_to(deadline)).into_iter().chain(self.sync_interval());
        Ok(Look::Nothing(due.min().filter(|_| keeps)))
    }

    /// How long until then: at least a millisecond, so that the time has come when the sleep is over.
    pub(crate) fn time_to(&self, deadline: u64) -> Duration {
        Duration::from_millis(deadline.saturating_sub(self.now()).saturating_add(1))
    }

    /// Leases one message to the caller if that is the next in line and there is nobody to be called. `None` says nothing.
    #[inline]
    fn take_plain(&self, core: &mut Core, group: GroupId) -> Option<Taken> {
        if core.phase == Phase::Closed || core.is_watched {
            return None;
        }
        let now = self.now();
        self.look_at_time(core, now);
        let taken = core.state.take_plain(group, now, self.lease_ms)?;
        if let Some(seat) = core.seat(group) {
            seat.delivered += 1;
        }
        Some(taken)
    }

    /// Shows what was confirmed, and lets happen what is due.
    #[inline]
    fn look_at_time(&self, core: &mut Core, now: u64) {
        if let Some(disk) = &self.disk {
            core.confirmed(disk.log.confirmed(), now);
        }
        core.tick(now);
    }

    /// Leases messages to the caller.
    #[inline]
    fn take(&self, core: &mut Core, group: GroupId, max: usize, taken: &mut Vec<Taken>) -> Result<(), ReceiveError> {
        if core.phase == Phase::Closed {
            return Err(ReceiveError::Closed);
        }
        let now = self.now();
        self.look_at_time(core, now);
        match core.state.take(group, now, self.lease_ms, max, taken) {
            Ok(0) if core.phase == Phase::Draining && core.is_drained() => Err(ReceiveError::Closed),
            // The limits of what is out: an ack will make room.
            Ok(_) | Err(TakeError::TooManyLeased | TakeError::TooManyKeys) => {
                if let Some(seat) = core.seat(group) {
                    seat.delivered += taken.len() as u64;
                    seat.redelivered += taken.iter().filter(|taken| taken.attempt > 1).count() as u64;
                }
                if taken.is_empty() {
                    self.check_log().map_err(ReceiveError::Failed)?;
                }
                Ok(())
            }
            Err(TakeError::UnknownGroup(_)) => Err(ReceiveError::NoGroup),
        }
    }

    #[inline]
    fn received_in_memory(&self, core: &Core, group: GroupId, taken: &Taken) -> Option<Received> {
        let message = core.bodies.as_ref()?.get(taken.address)?.clone();
        Some(self.received(group, taken, message))
    }

    #[inline]
    fn received(&self, group: GroupId, taken: &Taken, message: Message) -> Received {
        let id = MessageId::new(taken.sequence.0);
        let receipt = Receipt { queue: self.mark, group: group.0, id, delivery: taken.delivery };
        Received { message, receipt, attempt: taken.attempt }
    }

    /// Reads the messages that were taken from the log. After an error, those before it stay for the next call.
    fn read_all(&self, group: GroupId, catch: &mut Catch) -> Result<(), ReceiveError> {
        let Some(_) = &self.disk else { return Ok(()) };
        let mut taken = std::mem::take(&mut catch.taken);
        let mut unread = taken.drain(..);
        while let Some(next) = unread.next() {
            match self.read(&next) {
                Ok(message) => catch.received.push(self.received(group, &next, message)),
                Err(ReadError::NotFound) => self.give_back(group, &next),
                Err(error) => {
                    // The others are for another call: what is damaged must be heard of.
                    unread.for_each(|next| self.give_back(group, &next));
                    catch.received.drain(..).for_each(|received| self.release(received.receipt));
                    return Err(self.bury(group, &next, &error));
                }
            }
        }
        drop(unread);
        catch.taken = taken;
        Ok(())
    }

    /// [`NotFound`](ReadError::NotFound) if nobody needs the message any more.
    #[inline]
    fn read(&self, taken: &Taken) -> Result<Message, ReadError> {
        match self.read_at(taken.address) {
            Err(ReadError::NotFound) => self.read_moved(taken),
            other => other,
        }
    }

    /// The message was moved, or purged, between the take and now; or it is gone.
    fn read_moved(&self, taken: &Taken) -> Result<Message, ReadError> {
        let mut before = taken.address;
        loop {
            let address = self.hub.core.lock().state.address(taken.sequence).map(|(address, _)| address);
            let Some(address) = address else { return Err(ReadError::NotFound) };
            if address == before {
                return Err(damage(address, DamageReason::Missing));
            }
            match self.read_at(address) {
                Err(ReadError::NotFound) => before = address,
                other => return other,
            }
        }
    }

    #[inline]
    pub(crate) fn read_at(&self, address: Address) -> Result<Message, ReadError> {
        let Some(disk) = &self.disk else { return Err(ReadError::NotFound) };
        let body = disk.log.read(address)?.body;
        record::decode(body).map(|(_, message)| message).map_err(|_| damage(address, DamageReason::Record))
    }

    fn give_back(&self, group: GroupId, taken: &Taken) {
        let receipt = state::Receipt { group, sequence: taken.sequence, delivery: taken.delivery };
        let now = self.now();
        // Stale: then it is nobody's any more.
        let _ = self.with_core(|core| core.state.release(receipt, now));
    }

    /// Puts a message whose bytes cannot be read to the dead letters.
    fn bury(&self, group: GroupId, taken: &Taken, error: &ReadError) -> ReceiveError {
        match error {
            ReadError::Damaged(damage) => {
                let receipt = state::Receipt { group, sequence: taken.sequence, delivery: taken.delivery };
                let now = self.now();
                let _ = self.with_core(|core| core.state.dead_letter(receipt, DeadReason::Damaged, now));
                ReceiveError::Damaged { id: MessageId::new(taken.sequence.0), damage: *damage }
            }
            ReadError::Io(error) => {
                self.give_back(group, taken);
                ReceiveError::Failed(Failure::from(error))
            }
            ReadError::NotFound => ReceiveError::Failed(Failure::from(std::io::ErrorKind::NotFound)),
        }
    }

    /// Whether a delivery is still its receiver's.
    pub(crate) fn is_leased(&self, receipt: Receipt) -> bool {
        let now = self.now();
        self.with_core(|core| {
            core.tick(now);
            core.phase != Phase::Closed && core.state.check(receipt.into()).is_ok()
        })
    }
}

fn damage(address: Address, reason: DamageReason) -> ReadError {
    Damage::new(address.segment, address.offset.into(), reason).into()
}

impl From<Receipt> for state::Receipt {
    #[inline]
    fn from(receipt: Receipt) -> Self {
        let Receipt { group, id, delivery, .. } = receipt;
        Self { group: GroupId(group), sequence: state::Sequence(id.get()), delivery }
    }
}
