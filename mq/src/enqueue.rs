//! Taking messages in: checked, given room, appended to the log and to the state in one order.

use std::task::Poll;

use crate::core::{Core, Phase};
use crate::log::{AppendError, Appended, Lsn, Room, RoomError};
use crate::record::{self, Stamp};
use crate::shared::{Accepted, Disk, Place, Shared, Until};
use crate::state::{Entry, KeyHash, Sequence};
use crate::wait::{Calls, Wish};
use crate::{Due, Failure, Life, Message, MessageId, Refusal};

/// Kinds of records in the log.
pub(crate) const MESSAGE: u8 = 1;
pub(crate) const EVENTS: u8 = 2;
pub(crate) const CHECKPOINT: u8 = 3;

/// What is known of a message before the lock is taken.
#[derive(Clone, Copy, Debug)]
struct Plan {
    key: Option<KeyHash>,
    id: Option<u128>,
    due_ms: u64,
    expires_ms: u64,
    /// The message that came first.
    duplicate_of: Option<Sequence>,
}

/// Of a message that is a body and nothing else.
const PLAIN: Plan = Plan { key: None, id: None, due_ms: 0, expires_ms: 0, duplicate_of: None };

/// The plan of each message. If all are plain, there are none.
#[inline]
fn plan_of(plans: &[Plan], index: usize) -> &Plan {
    plans.get(index).unwrap_or(&PLAIN)
}

/// Messages that are no duplicates, with their plans.
fn fresh<'a>(messages: &'a [Message], plans: &'a [Plan]) -> impl Iterator<Item = (&'a Message, &'a Plan)> {
    let planned = messages.iter().enumerate().map(|(index, message)| (message, plan_of(plans, index)));
    planned.filter(|(_, plan)| plan.duplicate_of.is_none())
}

/// What the log says of messages that it took; nothing without a log.
#[derive(Clone, Copy, Debug, Default)]
struct Put {
    lsn: Lsn,
    /// Of these messages.
    bytes: u64,
    /// Of these and of others, all that nobody writes yet.
    unwritten: usize,
}

/// Why nothing was taken in for now.
enum Obstacle {
    /// The log needs something done outside of the lock.
    Busy,
    Refused(Refusal),
}

impl From<Refusal> for Obstacle {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Shared {
    /// Takes a message in, or says why not; it is moved out only if the queue has no log.
    #[inline]
    pub(crate) fn enqueue(&self, message: &mut Message) -> Result<Accepted, Refusal> {
        if let Some(accepted) = self.put_plain(message) {
            return Ok(accepted);
        }
        let mut plan = self.plan(message)?;
        let plans = if message.is_plain() { &mut [][..] } else { std::slice::from_mut(&mut plan) };
        self.put(std::slice::from_mut(message), plans, None, None).map_err(|refusal| self.count(refusal))
    }

    /// The same, but waits for room.
    #[inline]
    pub(crate) fn enqueue_waiting(&self, message: &mut Message) -> Result<Accepted, Refusal> {
        if let Some(accepted) = self.put_plain(message) {
            return Ok(accepted);
        }
        let mut plan = self.plan(message)?;
        let plans = if message.is_plain() { &mut [][..] } else { std::slice::from_mut(&mut plan) };
        self.put_waiting(std::slice::from_mut(message), plans, None)
    }

    /// The shortest way in, which nearly all messages have: plain, with room, and nobody to be called. `None` says nothing:
    /// the message goes the long way.
    #[inline]
    fn put_plain(&self, message: &mut Message) -> Option<Accepted> {
        let size = message.body().len();
        if !message.is_plain() || size > self.config.max_message_bytes as usize {
            return None;
        }
        let now = self.now();
        let mut core = self.hub.core.lock();
        if core.phase != Phase::Open || core.is_watched || core.is_full(1, size as u64) {
            return None;
        }
        let id = MessageId::new(core.state.next_sequence().0);
        let put = match &self.disk {
            Some(disk) => put_plain_in_log(disk, &mut core, message.body(), now)?,
            None => {
                self.put_in_memory(&mut core, std::slice::from_mut(message), &[], now);
                Put::default()
            }
        };
        core.sent += 1;
        self.appended(put.bytes);
        Some(Accepted { id, lsn: put.lsn, is_duplicate: false, unwritten: put.unwritten })
    }

    /// Several at once, all or none.
    pub(crate) fn enqueue_all_waiting(
        &self,
        messages: &mut [Message],
        ids: Option<&mut Vec<MessageId>>,
    ) -> Result<Accepted, Refusal> {
        let mut plans = self.plan_all(messages)?;
        self.put_waiting(messages, &mut plans, ids)
    }

    /// As a task: waits for room, and relies on others to look at the clock.
    pub(crate) async fn enqueue_async(&self, message: &mut Message) -> Result<Accepted, Refusal> {
        let mut plan = self.plan(message)?;
        self.put_async(std::slice::from_mut(message), std::slice::from_mut(&mut plan), None).await
    }

    /// Several at once as a task, all or none.
    pub(crate) async fn enqueue_all_async(
        &self,
        messages: &mut [Message],
        ids: Option<&mut Vec<MessageId>>,
    ) -> Result<Accepted, Refusal> {
        let mut plans = self.plan_all(messages)?;
        self.put_async(messages, &mut plans, ids).await
    }

    async fn put_async(
        &self,
        messages: &mut [Message],
        plans: &mut [Plan],
        mut ids: Option<&mut Vec<MessageId>>,
    ) -> Result<Accepted, Refusal> {
        // Most find room at once and need no clock.
        let mut place = None;
        std::future::poll_fn(|context| {
            if place.is_none() {
                match self.put(messages, plans, ids.as_deref_mut(), None) {
                    Err(Refusal::Full) => {}
                    other => return Poll::Ready(other.map_err(|refusal| self.count(refusal))),
                }
            }
            let wish = || Wish { until: self.room_until(), ..wish(messages) };
            let place = place.get_or_insert_with(|| Place::for_room(&self.hub, wish()));
            let is_over = place.until().is_some_and(|until| until <= self.now());
            let wait = if is_over { None } else { Some((place, Some(context.waker()))) };
            match self.put(messages, plans, ids.as_deref_mut(), wait) {
                Err(Refusal::Full) if !is_over => Poll::Pending,
                other => Poll::Ready(other.map_err(|refusal| self.count(refusal))),
            }
        })
        .await
    }

    /// Until when a task may wait for room: never before the time is over, and without end if that is never.
    fn room_until(&self) -> Option<u64> {
        let timeout = self.config.send_timeout;
        let until = if timeout.is_zero() { 0 } else { self.hub.timeline.after(timeout) };
        Some(until).filter(|until| *until < u64::MAX)
    }

    #[inline]
    fn put_waiting(
        &self,
        messages: &mut [Message],
        plans: &mut [Plan],
        mut ids: Option<&mut Vec<MessageId>>,
    ) -> Result<Accepted, Refusal> {
        match self.put(messages, plans, ids.as_deref_mut(), None) {
            Err(Refusal::Full) => self.wait_for_room(messages, plans, ids),
            other => other.map_err(|refusal| self.count(refusal)),
        }
    }

    #[cold]
    fn wait_for_room(
        &self,
        messages: &mut [Message],
        plans: &mut [Plan],
        mut ids: Option<&mut Vec<MessageId>>,
    ) -> Result<Accepted, Refusal> {
        let until = self.until(self.config.send_timeout);
        let mut place = Place::for_room(&self.hub, wish(messages));
        loop {
            let left = self.left(until).filter(|_| until != Until::Forever);
            let is_over = left.is_some_and(|left| left.is_zero());
            let wait = if is_over { None } else { Some((&mut place, None)) };
            match self.put(messages, plans, ids.as_deref_mut(), wait) {
                Err(Refusal::Full) if !is_over => place.park(left),
                other => return other.map_err(|refusal| self.count(refusal)),
            }
        }
    }

    fn plan_all(&self, messages: &[Message]) -> Result<Vec<Plan>, Refusal> {
        if messages.iter().any(|message| !message.is_plain()) {
            return messages.iter().map(|message| self.plan(message)).collect();
        }
        messages.iter().try_for_each(|message| self.plan(message).map(|_| ()))?;
        Ok(Vec::new())
    }

    fn count(&self, refusal: Refusal) -> Refusal {
        self.hub.core.lock().refused += 1;
        refusal
    }

    /// Checks a message and works out what needs no lock.
    #[inline]
    fn plan(&self, message: &Message) -> Result<Plan, Refusal> {
        let (size, max) = (message.size(), self.config.max_message_bytes as usize);
        if size > max {
            return Err(self.count(Refusal::TooLarge { size, max }));
        }
        let mut plan = PLAIN;
        if !message.is_plain() {
            message.check().map_err(|error| self.count(Refusal::Invalid(error)))?;
            plan.key = message.key().map(|key| KeyHash(self.keys.hash(key) as u64));
            plan.id = message.deduplication_id().map(|id| self.ids.hash(id));
            let timeline = &self.hub.timeline;
            plan.due_ms = match message.due() {
                Due::Now => 0,
                Due::After(delay) => timeline.after(delay),
                Due::At(time) => timeline.at(time),
            };
            plan.expires_ms = match message.life() {
                Life::Unlimited => 0,
                Life::For(time) => timeline.after(time),
                Life::Until(time) => timeline.at(time).max(1),
            };
        }
        Ok(plan)
    }

    /// Takes messages in. Without room, joins the line if there is a place to join by.
    fn put(
        &self,
        messages: &mut [Message],
        plans: &mut [Plan],
        mut ids: Option<&mut Vec<MessageId>>,
        mut wait: Option<(&mut Place<'_>, Option<&std::task::Waker>)>,
    ) -> Result<Accepted, Refusal> {
        loop {
            let mut calls = Calls::default();
            let mut core = self.hub.core.lock();
            let put = self.put_locked(&mut core, messages, plans, ids.as_deref_mut());
            match put {
                Ok((accepted, bytes)) => {
                    if let Some((place, _)) = wait {
                        place.served(&mut core, &mut calls);
                    }
                    core.call(&mut calls);
                    self.appended(bytes);
                    drop(core);
                    return Ok(accepted);
                }
                Err(Obstacle::Refused(refusal)) => {
                    if let (Refusal::Full, Some((place, waker))) = (&refusal, &mut wait) {
                        place.join(&mut core, *waker);
                        core.call_overdue(&mut calls);
                        core.call_keeper(&mut calls);
                    }
                    core.call_due(&mut calls);
                    return Err(refusal);
                }
                Err(Obstacle::Busy) => drop(core),
            }
            drop(calls);
            self.make_room(Room::Ordinary)?;
        }
    }

    /// Returns what was accepted and how many bytes the log got.
    fn put_locked(
        &self,
        core: &mut Core,
        messages: &mut [Message],
        plans: &mut [Plan],
        ids: Option<&mut Vec<MessageId>>,
    ) -> Result<(Accepted, u64), Obstacle> {
        if core.phase != Phase::Open {
            return Err(Refusal::Closed.into());
        }
        let now = self.now();
        let bytes = messages.iter().map(|message| message.size() as u64).sum();
        if core.is_full(messages.len() as u64, bytes) {
            // Something may have been let go by now that nobody looked at.
            core.tick(now);
            if core.is_full(messages.len() as u64, bytes) {
                self.check_log().map_err(Refusal::Failed)?;
                return Err(core.never(messages.len(), bytes).unwrap_or(Refusal::Full).into());
            }
        }
        let first = core.state.next_sequence();
        if plans.iter().any(|plan| plan.id.is_some()) {
            self.find_duplicates(core, plans, first, now);
        }
        let put = if self.disk.is_some() {
            self.put_in_log(core, messages, plans, now)
        } else {
            self.put_in_memory(core, messages, plans, now);
            Ok(Put::default())
        };
        let put = match put {
            Ok(put) => put,
            Err(obstacle) => {
                forget_ids(core, plans, first);
                return Err(obstacle);
            }
        };
        let accepted = accepted(messages.len(), plans, first, put, ids);
        let duplicates = plans.iter().filter(|plan| plan.duplicate_of.is_some()).count() as u64;
        core.duplicates += duplicates;
        core.sent += messages.len() as u64 - duplicates;
        Ok((accepted, put.bytes))
    }

    /// Remembers the ids of new messages as if they were taken.
    fn find_duplicates(&self, core: &mut Core, plans: &mut [Plan], first: Sequence, now: u64) {
        let window = crate::clock::millis(self.config.deduplication_window);
        let mut sequence = first;
        for plan in plans {
            plan.duplicate_of =
                plan.id.and_then(|id| core.state.remember(id, sequence, now.saturating_add(window), now));
            sequence.0 += u64::from(plan.duplicate_of.is_none());
        }
    }

    #[inline]
    fn put_in_memory(&self, core: &mut Core, messages: &mut [Message], plans: &[Plan], now: u64) {
        let Core { state, bodies, .. } = core;
        let Some(bodies) = bodies else { return };
        if plans.is_empty() {
            bodies.push_run(messages, |first, messages| {
                let spots = messages.iter().enumerate();
                let spots = spots.map(|(index, message)| (first.offset + index as u32, message.body().len() as u32));
                state.insert_run(first.segment, spots, now);
            });
        }
        for (message, plan) in messages.iter_mut().zip(plans) {
            if plan.duplicate_of.is_none() {
                state.insert(&plan.entry(bodies.next(), message.priority(), message.size() as u32, now));
                bodies.push(std::mem::take(message));
            }
        }
        state.show(state.next_sequence(), now);
    }

    fn put_in_log(&self, core: &mut Core, messages: &[Message], plans: &[Plan], now: u64) -> Result<Put, Obstacle> {
        let Some(disk) = &self.disk else { return Ok(Put::default()) };
        core.gather_events();
        if core.events.is_long() {
            core.events.append(&disk.log, Room::Ordinary).map_err(refused)?;
        }
        let Core { state, events, scratch, unconfirmed, .. } = core;
        let (head, places) = scratch;
        let first = state.next_sequence().0;
        let mut bytes = 0;
        let appended = loop {
            let appended = disk.log.append(Room::Ordinary, &mut |batch| {
                places.clear();
                for (sequence, (message, plan)) in (first..).zip(fresh(messages, plans)) {
                    head.clear();
                    record::encode_head(message, &plan.stamp(sequence, now), head);
                    let place = batch.put(MESSAGE, &[head, message.body()]);
                    places.push((place, (head.len() + message.body().len()) as u32));
                }
                events.put(batch);
                bytes = batch.len() as u64;
            });
            match appended {
                // What fits alone is not refused for what would go along.
                Err(AppendError::TooLarge { .. }) if !events.is_empty() => {
                    events.append(&disk.log, Room::Ordinary).map_err(refused)?;
                }
                other => break other.map_err(refused)?,
            }
        };
        events.clear();
        if plans.is_empty() {
            let first = appended.address(0);
            state.insert_run(first.segment, places.iter().map(|(place, length)| (first.offset + place, *length)), now);
        }
        for ((message, plan), (place, length)) in fresh(messages, plans).zip(places).take(plans.len()) {
            state.insert(&plan.entry(appended.address(*place), message.priority(), *length, now));
        }
        unconfirmed.push_back((appended.lsn, state.next_sequence()));
        Ok(Put { lsn: appended.lsn, bytes, unwritten: appended.unwritten })
    }

    /// Does what the log asks for before it takes more.
    pub(crate) fn make_room(&self, room: Room) -> Result<(), Refusal> {
        let Some(disk) = &self.disk else { return Ok(()) };
        self.attend(disk);
        match disk.log.make_room(room) {
            Ok(()) => Ok(()),
            Err(RoomError::Full) => self.make_room_by_upkeep(disk, room),
            Err(RoomError::Poisoned(poisoned)) => Err(Refusal::Failed(poisoned.into())),
            Err(RoomError::Io(error)) if error.kind() == std::io::ErrorKind::StorageFull => {
                self.make_room_by_upkeep(disk, room)
            }
            Err(RoomError::Io(error)) => Err(Refusal::Failed(Failure::from(&error))),
        }
    }
}

/// Appends a message that is a body and nothing else, if there are no events to go along.
#[inline]
fn put_plain_in_log(disk: &Disk, core: &mut Core, body: &[u8], now: u64) -> Option<Put> {
    if core.has_events() {
        return None;
    }
    let stamp = PLAIN.stamp(core.state.next_sequence().0, now);
    let head = record::plain_head(&stamp);
    let appended = disk.log.append(Room::Ordinary, &mut |batch| {
        batch.put(MESSAGE, &[&head, body]);
    });
    let Appended { first, lsn, unwritten, len } = appended.ok()?;
    let length = (head.len() + body.len()) as u32;
    core.state.insert_run(first.segment, std::iter::once((first.offset, length)), now);
    core.unconfirmed.push_back((lsn, core.state.next_sequence()));
    Some(Put { lsn, bytes: len.into(), unwritten })
}

fn refused(error: AppendError) -> Obstacle {
    match error {
        AppendError::Busy => Obstacle::Busy,
        AppendError::TooLarge { bytes, max } => Refusal::TooLarge { size: bytes, max }.into(),
        AppendError::Poisoned(poisoned) => Refusal::Failed(poisoned.into()).into(),
    }
}

impl Plan {
    #[inline]
    fn entry(&self, address: crate::log::Address, priority: u8, size: u32, now: u64) -> Entry {
        let Self { key, due_ms, expires_ms, .. } = *self;
        Entry { address, size, priority, key, sent_ms: now, due_ms, expires_ms }
    }

    fn stamp(&self, sequence: u64, now: u64) -> Stamp {
        Stamp { sequence, taken_ms: now, due_ms: self.due_ms, expires_ms: self.expires_ms }
    }
}

/// The room that messages need.
fn wish(messages: &[Message]) -> Wish {
    let bytes = messages.iter().map(|message| message.size() as u64).sum();
    Wish { until: None, messages: messages.len() as u64, bytes }
}

/// Ids, in the order of the messages.
fn accepted(count: usize, plans: &[Plan], first: Sequence, put: Put, ids: Option<&mut Vec<MessageId>>) -> Accepted {
    let Put { lsn, unwritten, .. } = put;
    if plans.is_empty() {
        let sequences = first.0..first.0 + count as u64;
        let id = MessageId::new(sequences.end.max(first.0 + 1) - 1);
        if let Some(ids) = ids {
            ids.clear();
            ids.extend(sequences.map(MessageId::new));
        }
        return Accepted { id, lsn, is_duplicate: false, unwritten };
    }
    let mut sequence = first.0;
    let mut id = |index: usize| match plan_of(plans, index).duplicate_of {
        Some(original) => MessageId::new(original.0),
        None => {
            sequence += 1;
            MessageId::new(sequence - 1)
        }
    };
    let mut last = MessageId::new(first.0);
    match ids {
        Some(ids) => {
            ids.clear();
            ids.extend((0..count).map(&mut id));
            last = ids.last().copied().unwrap_or(last);
        }
        None => (0..count).for_each(|index| last = id(index)),
    }
    let is_duplicate = plans.last().is_some_and(|plan| plan.duplicate_of.is_some());
    Accepted { id: last, lsn, is_duplicate, unwritten }
}

/// The messages were not taken after all.
fn forget_ids(core: &mut Core, plans: &mut [Plan], first: Sequence) {
    let mut sequence = first;
    for plan in plans {
        if plan.duplicate_of.take().is_none() {
            if let Some(id) = plan.id {
                core.state.forget(id, sequence);
            }
            sequence.0 += 1;
        }
    }
}
