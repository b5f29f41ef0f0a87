//! Receiving.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Message as Raw;
use futures_util::future::{Either, select};

use super::failure::ApiError;
use super::groups::Seat;
use super::house::House;
use super::inbox::{Arrival, Inbox, Patience, Place};
use super::leases::Lease;
use super::{Nats, failure, wire};
use crate::{DeadReason, Receipt, ReceiveError, Received};

/// A server that was restarted has forgotten what it was asked for: so long at most until it is asked again.
const SLICE: Duration = Duration::from_secs(1);

/// For how long a server may keep silent about what it has not. See `GRACE` of the inbox.
const SILENCE: Duration = Duration::from_millis(250);

/// How long a receiver waits before it asks again where nobody was there.
const PAUSE: Duration = Duration::from_millis(50);

/// An inbox in use, for the next one when it is dropped.
struct Borrowed<'a> {
    seat: &'a Seat,
    inbox: Option<Inbox>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.seat.inboxes.lock().extend(self.inbox.take());
    }
}

/// What ended a wait.
enum Event {
    Arrival(Arrival),
    /// Something for the house.
    House(Arrival),
    Over,
}

impl Nats {
    pub(super) async fn receive_some(
        &self,
        group: &str,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Received>, ReceiveError> {
        if self.is_closed() {
            return Err(ReceiveError::Closed);
        }
        let seat = self.seat(group).await?;
        let until = self.now().saturating_add(wait);
        // Only one receiver keeps house at a time.
        let mut house = self.house.try_lock().ok();
        if let Some(house) = &mut house {
            self.keep_house_in_passing(house).await?;
        }
        let idle = seat.inboxes.lock().pop();
        let inbox = match idle {
            Some(inbox) => inbox,
            None => Inbox::open(&self.client, seat.sources.clone()).await.map_err(ReceiveError::Failed)?,
        };
        let mut borrowed = Borrowed { seat: &seat, inbox: Some(inbox) };
        let Some(inbox) = &mut borrowed.inbox else { return Ok(Vec::new()) };
        self.fill(&seat, inbox, house.as_deref_mut(), max, until).await
    }

    async fn fill(
        &self,
        seat: &Arc<Seat>,
        inbox: &mut Inbox,
        mut house: Option<&mut House>,
        max: usize,
        until: Duration,
    ) -> Result<Vec<Received>, ReceiveError> {
        let mut out = Vec::new();
        self.drain(seat, inbox, max, &mut out).await?;
        // A question that waits serves one source and one message as well as one that does not.
        let asks_first = max > 1 || inbox.len() > 1 || until <= self.now();
        loop {
            if out.is_empty() && asks_first {
                self.sweep(seat, inbox, max, &mut out).await?;
            }
            let left = until.saturating_sub(self.now());
            if !out.is_empty() || left.is_zero() {
                return Ok(out);
            }
            self.ask_all(inbox, left.min(SLICE)).await?;
            match self.wait(inbox, house.as_deref_mut(), left.min(SLICE) + SILENCE).await? {
                Event::Arrival(arrival) => {
                    self.take_in(seat, arrival, &mut out).await?;
                    self.drain(seat, inbox, max, &mut out).await?;
                    if !out.is_empty() && out.len() < max && max > 1 {
                        self.sweep(seat, inbox, max, &mut out).await?;
                    }
                }
                Event::House(arrival) => {
                    if let Some(house) = &mut house {
                        self.keep_house(house, arrival).await?;
                    }
                }
                Event::Over => self.look_for(seat).await?,
            }
            if self.is_closed() {
                return Err(ReceiveError::Closed);
            }
        }
    }

    /// Takes what has arrived already.
    async fn drain(
        &self,
        seat: &Seat,
        inbox: &mut Inbox,
        max: usize,
        out: &mut Vec<Received>,
    ) -> Result<(), ReceiveError> {
        while out.len() < max {
            let Some(arrival) = inbox.arrived() else { break };
            self.take_in(seat, arrival, out).await?;
        }
        Ok(())
    }

    /// Asks each source for what it has now, in the order of priorities; once in [`Config::ageing`] times the other way
    /// round, so that a low priority is not starved.
    ///
    /// [`Config::ageing`]: crate::Config::ageing
    async fn sweep(
        &self,
        seat: &Seat,
        inbox: &mut Inbox,
        max: usize,
        out: &mut Vec<Received>,
    ) -> Result<(), ReceiveError> {
        let turn = seat.turn.fetch_add(1, Ordering::Relaxed);
        let ageing = self.config.queue.ageing;
        let is_reversed = ageing > 0 && turn % (ageing + 1) == ageing;
        let count = inbox.len();
        for step in 0..count {
            if out.len() >= max {
                break;
            }
            let source = if is_reversed { count - 1 - step } else { step };
            if inbox.is_asked(source, self.now()) {
                continue;
            }
            let patience = Patience::None;
            let asked = inbox.ask(&self.client, source, max - out.len(), patience, self.now()).await;
            asked.map_err(ReceiveError::Failed)?;
            while inbox.is_asked(source, self.now()) {
                match tokio::time::timeout(SILENCE, inbox.next()).await {
                    Ok(arrival) => self.take_in(seat, arrival, out).await?,
                    Err(_) => {
                        self.look_for(seat).await?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Has each source send one message when it has one.
    async fn ask_all(&self, inbox: &mut Inbox, patience: Duration) -> Result<(), ReceiveError> {
        for source in 0..inbox.len() {
            if !inbox.is_asked(source, self.now()) {
                let asked = inbox.ask(&self.client, source, 1, Patience::For(patience), self.now()).await;
                asked.map_err(ReceiveError::Failed)?;
            }
        }
        Ok(())
    }

    async fn wait(&self, inbox: &mut Inbox, house: Option<&mut House>, time: Duration) -> Result<Event, ReceiveError> {
        let Some(house) = house else {
            let arrival = tokio::time::timeout(time, inbox.next()).await;
            return Ok(arrival.map_or(Event::Over, Event::Arrival));
        };
        self.ask_for_house(house, Patience::For(SLICE)).await?;
        let (mut mine, mut houses) = (std::pin::pin!(inbox.next()), std::pin::pin!(house.inbox.next()));
        let either = tokio::time::timeout(time, select(mine.as_mut(), houses.as_mut())).await;
        Ok(match either {
            Ok(Either::Left((arrival, _))) => Event::Arrival(arrival),
            Ok(Either::Right((arrival, _))) => Event::House(arrival),
            Err(_) => Event::Over,
        })
    }

    async fn take_in(&self, seat: &Seat, arrival: Arrival, out: &mut Vec<Received>) -> Result<(), ReceiveError> {
        match arrival {
            Arrival::Closed => Err(ReceiveError::Closed),
            Arrival::End => Ok(()),
            Arrival::Nobody => self.miss(seat).await,
            Arrival::Message(_, raw) => {
                out.extend(self.accept(seat, raw).await?);
                Ok(())
            }
        }
    }

    /// Nobody is there to answer for now: it is not asked all the time meanwhile.
    async fn miss(&self, seat: &Seat) -> Result<(), ReceiveError> {
        self.look_for(seat).await?;
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    /// Nothing is said of the group's consumers: somebody may have removed it. That nobody knows is for the next time.
    async fn look_for(&self, seat: &Seat) -> Result<(), ReceiveError> {
        let lane = self.names.lanes().next().unwrap_or_default();
        let info = self.consumer_info(&self.names.consumer(&seat.name, &lane)).await;
        if matches!(info, Err(ApiError::CONSUMER_NOT_FOUND | ApiError::STREAM_NOT_FOUND)) {
            self.seats.lock().remove(&seat.name);
            return Err(ReceiveError::NoGroup);
        }
        Ok(())
    }

    /// Makes a delivery of it, unless it is expired or for another group.
    async fn accept(&self, seat: &Seat, raw: Raw) -> Result<Option<Received>, ReceiveError> {
        let Some(reply) = raw.reply else { return Ok(None) };
        let place = Place::of(&reply).ok_or(ReceiveError::Failed(failure::nonsense()))?;
        let headers = raw.headers.unwrap_or_default();
        if wire::value(&headers, wire::GROUP).is_some_and(|group| group != seat.name) {
            self.reply(&reply, "+ACK").await?;
            return Ok(None);
        }
        let id = wire::id(&headers, place.sequence);
        let expires = wire::number(&headers, wire::EXPIRES);
        if expires.is_some_and(|expires| expires <= wire::millis(self.wall())) {
            let attempts = place.delivered - 1;
            self.bury(&seat.name, id, &DeadReason::Expired, attempts, &headers, raw.payload).await?;
            self.reply(&reply, "+TERM").await?;
            return Ok(None);
        }
        let (now, attempt) = (self.now(), place.delivered);
        let until = now.saturating_add(self.config.queue.lease);
        let lease = Lease { delivery: 0, attempt, until, reply, sequence: place.sequence };
        let delivery = self.leases.lock().insert(seat.index, id, lease, now);
        let receipt = Receipt { queue: self.identity, group: seat.index, id, delivery };
        Ok(Some(Received { message: wire::decode(&headers, raw.payload), receipt, attempt }))
    }
}
