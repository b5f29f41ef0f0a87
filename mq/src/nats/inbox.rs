//! Where the server puts what was pulled.
//!
//! JetStream's consumers are asked for messages (`CONSUMER.MSG.NEXT`) and send them, or why there are none, to an address
//! that the question names. The address is kept from one receive to the next: what is asked for by a call that was
//! dropped, or arrives too late for it, is found by the next one and not lost until its lease ends. Several consumers may
//! be asked at once; the last part of the address says which of them has nothing.

use std::time::Duration;

use async_nats::{Client, Message, Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};

use super::failure;
use crate::Failure;

/// A consumer that is asked.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The subject of the question.
    next: String,
    /// How its deliveries begin: `$JS.ACK.STREAM.CONSUMER.`.
    prefix: String,
}

impl Source {
    pub(super) fn new(stream: &str, consumer: &str) -> Self {
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        Self { next, prefix: format!("$JS.ACK.{stream}.{consumer}.") }
    }
}

/// A question that was not answered yet.
#[derive(Clone, Copy, Debug)]
struct Pull {
    /// How many messages may still come.
    left: usize,
    /// When the server forgets it, on our clock, with some time for its answer.
    until: Duration,
}

/// How long to wait for messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// Only what is there.
    None,
    For(Duration),
}

pub(super) struct Inbox {
    address: String,
    subscriber: Subscriber,
    sources: Vec<Source>,
    pulls: Vec<Option<Pull>>,
}

/// What came.
pub(super) enum Arrival {
    /// A message of the source of this index.
    Message(usize, Message),
    /// A source has no more for now.
    End,
    /// Nobody answers for a source: it is gone, or JetStream is not there for now.
    Nobody,
    /// The connection is closed for good.
    Closed,
}

/// The status of a question that nobody was there to take.
const NO_RESPONDERS: u16 = 503;

/// For how long an answer may be under way. Servers before 2.10 give none at times; asking again is harmless.
const GRACE: Duration = Duration::from_millis(500);

impl Inbox {
    pub(super) async fn open(client: &Client, sources: Vec<Source>) -> Result<Self, Failure> {
        let address = client.new_inbox();
        let subscriber = client.subscribe(format!("{address}.*")).await.map_err(|_| failure::closed())?;
        let pulls = vec![None; sources.len()];
        Ok(Self { address, subscriber, sources, pulls })
    }

    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether the source was asked and may still answer.
    pub(super) fn is_asked(&self, source: usize, now: Duration) -> bool {
        self.pulls[source].is_some_and(|pull| pull.until > now)
    }

    /// Asks a source for up to `max` messages.
    pub(super) async fn ask(
        &mut self,
        client: &Client,
        source: usize,
        max: usize,
        patience: Patience,
        now: Duration,
    ) -> Result<(), Failure> {
        let (question, time) = match patience {
            Patience::None => (format!(r#"{{"batch":{max},"no_wait":true}}"#), Duration::ZERO),
            Patience::For(time) => (format!(r#"{{"batch":{max},"expires":{}}}"#, time.as_nanos()), time),
        };
        let reply = format!("{}.{source}", self.address);
        let next = self.sources[source].next.clone();
        client.publish_with_reply(next, reply, question.into()).await.map_err(|_| failure::closed())?;
        self.pulls[source] = Some(Pull { left: max, until: now + time + GRACE });
        Ok(())
    }

    /// The next thing that comes.
    ///
    /// # Cancel safety
    /// Nothing is lost: what comes is taken in the poll that returns it.
    pub(super) async fn next(&mut self) -> Arrival {
        loop {
            let Some(message) = self.subscriber.next().await else { return Arrival::Closed };
            if let Some(arrival) = self.note(message) {
                return arrival;
            }
        }
    }

    /// What has come already.
    pub(super) fn arrived(&mut self) -> Option<Arrival> {
        self.next().now_or_never()
    }

    fn note(&mut self, message: Message) -> Option<Arrival> {
        if let Some(reply) = message.reply.as_ref().filter(|reply| reply.starts_with("$JS.ACK.")) {
            let source = self.sources.iter().position(|source| reply.starts_with(&source.prefix))?;
            let pull = &mut self.pulls[source];
            *pull =
                pull.and_then(|pull| Some(Pull { left: pull.left.checked_sub(1).filter(|left| *left > 0)?, ..pull }));
            return Some(Arrival::Message(source, message));
        }
        // 100: the server is there still.
        let code = message.status.map(|status| status.as_u16()).filter(|code| *code != 100)?;
        let source: usize = message.subject.rsplit('.').next()?.parse().ok().filter(|source| *source < self.len())?;
        // A pull that ended because of the answer to an earlier one is asked again: late, but nothing is lost.
        self.pulls[source] = None;
        debug_assert!(code >= 400, "no status of a pull: {code}");
        let is_deleted = message.description.is_some_and(|words| words.contains("Deleted"));
        Some(if code == NO_RESPONDERS || is_deleted { Arrival::Nobody } else { Arrival::End })
    }
}

/// What the address of a delivery's ack says of it, `$JS.ACK.STREAM.CONSUMER.DELIVERED.STREAM_SEQ.CONSUMER_SEQ.TIME.PENDING`,
/// or with a domain and an account before the stream and perhaps more behind (ADR-15 of NATS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// How often it was delivered.
    pub(super) delivered: u32,
    /// Its number in the stream.
    pub(super) sequence: u64,
}

impl Place {
    pub(super) fn of(reply: &Subject) -> Option<Self> {
        let parts: Vec<&str> = reply.split('.').collect();
        let first = if parts.len() == 9 { 4 } else { 6 };
        let number = |index: usize| parts.get(index)?.parse::<u64>().ok();
        Some(Self { delivered: u32::try_from(number(first)?).unwrap_or(u32::MAX), sequence: number(first + 1)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_in_both_forms() {
        let place = Some(Place { delivered: 2, sequence: 17 });
        assert_eq!(Place::of(&"$JS.ACK.q.c=p0.2.17.3.1795648226806301770.0".into()), place);
        assert_eq!(Place::of(&"$JS.ACK.hub.ACC.q.c=p0.2.17.3.1795648226806301770.0.rnd".into()), place);
        assert_eq!(Place::of(&"$JS.ACK.q.c".into()), None);
    }
}
