//! What the server leaves undone, and some receiver does along with receiving: moving messages whose time has come, and
//! burying those whose attempts are exhausted.
//!
//! A delayed message lies under a subject of its own. Its consumer delivers it at once; whoever gets it and finds that its
//! time has not come puts it off until then (`-NAK` with a delay), and otherwise sends it on to where the groups look.
//! A crash in between sends it on once more, under the same id, which the stream drops within the deduplication window.

use std::time::Duration;

use async_nats::{HeaderValue, Message as Raw};

use super::failure::ApiError;
use super::inbox::{Arrival, Inbox, Patience, Place, Source};
use super::names::{LATER, UNDERTAKER};
use super::settle::{nak, time_to};
use super::{Nats, wire};
use crate::ReceiveError;

/// Where that is done; one at a time.
pub(super) struct House {
    pub(super) inbox: Inbox,
    /// When it was last done, on our clock.
    done: Duration,
}

const LATER_SOURCE: usize = 0;
const EVENTS_SOURCE: usize = 1;

/// Receivers that always find something keep house this often.
const EVERY: Duration = Duration::from_millis(100);

/// How many messages are asked for at a time.
const BATCH: usize = 64;

/// Servers keep silent at times; see the inbox.
const SILENCE: Duration = Duration::from_millis(250);

/// The longest time for which the server is told to put a message off; then it is looked at again.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl House {
    pub(super) async fn open(nats_client: &async_nats::Client, stream: &str, events: &str) -> Result<Self, ApiError> {
        let sources = vec![Source::new(stream, LATER), Source::new(events, UNDERTAKER)];
        Ok(Self { inbox: Inbox::open(nats_client, sources).await?, done: Duration::ZERO })
    }
}

impl Nats {
    /// If it was not done for a while.
    pub(super) async fn keep_house_in_passing(&self, house: &mut House) -> Result<(), ReceiveError> {
        if self.now() < house.done + EVERY {
            return Ok(());
        }
        self.keep_house_once(house).await
    }

    /// For somebody who wants to see the outcome.
    pub(super) async fn settle_house(&self) -> Result<(), ApiError> {
        // Whoever holds it is doing so.
        let Ok(mut house) = self.house.try_lock() else { return Ok(()) };
        match self.keep_house_once(&mut house).await {
            Err(ReceiveError::Failed(failure)) => Err(failure.into()),
            _ => Ok(()),
        }
    }

    /// Deals with what there is now. What was asked for before, and waits at the server, is not waited for.
    async fn keep_house_once(&self, house: &mut House) -> Result<(), ReceiveError> {
        while let Some(arrival) = house.inbox.arrived() {
            self.keep_house(house, arrival).await?;
        }
        let unasked = |house: &House| {
            let now = self.now();
            (0..house.inbox.len()).map(|source| !house.inbox.is_asked(source, now)).collect::<Vec<_>>()
        };
        let fresh = unasked(house);
        self.ask_for_house(house, Patience::None).await?;
        while fresh.iter().zip(unasked(house)).any(|(is_fresh, is_done)| *is_fresh && !is_done) {
            match tokio::time::timeout(SILENCE, house.inbox.next()).await {
                Ok(arrival) => self.keep_house(house, arrival).await?,
                Err(_) => break,
            }
        }
        house.done = self.now();
        Ok(())
    }

    pub(super) async fn ask_for_house(&self, house: &mut House, patience: Patience) -> Result<(), ReceiveError> {
        for source in 0..house.inbox.len() {
            if !house.inbox.is_asked(source, self.now()) {
                let asked = house.inbox.ask(&self.client, source, BATCH, patience, self.now()).await;
                asked.map_err(ReceiveError::Failed)?;
            }
        }
        Ok(())
    }

    pub(super) async fn keep_house(&self, house: &mut House, arrival: Arrival) -> Result<(), ReceiveError> {
        house.done = self.now();
        match arrival {
            Arrival::Closed => return Err(ReceiveError::Closed),
            Arrival::End | Arrival::Nobody => {}
            Arrival::Message(LATER_SOURCE, raw) => self.hold_or_move(raw).await?,
            Arrival::Message(EVENTS_SOURCE, raw) => {
                self.bury_exhausted(&raw.payload).await?;
                if let Some(reply) = &raw.reply {
                    self.reply(reply, "+ACK").await?;
                }
            }
            Arrival::Message(..) => {}
        }
        Ok(())
    }

    async fn hold_or_move(&self, raw: Raw) -> Result<(), ApiError> {
        let Some(reply) = raw.reply else { return Ok(()) };
        let headers = raw.headers.unwrap_or_default();
        let left = time_to(wire::number(&headers, wire::DUE).unwrap_or(0), self.wall());
        if !left.is_zero() {
            return self.reply(&reply, nak(left.min(LONGEST))).await;
        }
        let Some(place) = Place::of(&reply) else { return Ok(()) };
        let message = wire::decode(&headers, raw.payload);
        let mut headers = wire::copy(&headers);
        headers.insert(wire::ID, HeaderValue::from(wire::id(&headers, place.sequence).get()));
        headers.insert(wire::MESSAGE_ID, format!("m.{}", place.sequence));
        let lane = self.names.lane(message.priority(), message.key().map(|key| &key[..]));
        let moved = self.publish(self.names.subject(&lane), headers, message.into_body()).await;
        moved.map_err(|error| ApiError::Failed(error.failure()))?;
        self.reply(&reply, "+ACK").await
    }
}
