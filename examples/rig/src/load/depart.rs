//! The loop that lets requests leave at their intended times.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Exchange;
use super::client::{Client, Failure, Request, Response};
use crate::clock::{self, Instant};

/// After so many departures in a row without a wait, other tasks get their turn.
const DEPARTURES_PER_TURN: u32 = 32;

/// The stream of a seed that draws arrivals, apart from the one that draws service times.
pub(crate) const ARRIVAL_LANE: u64 = 2;

/// Decides when the next request is to leave, and which book it belongs to.
pub(crate) trait Pace {
    type Book: Book;

    /// The next intended start, not before the last one; none ends the load.
    fn next(&mut self) -> Option<(Instant, Arc<Self::Book>)>;
}

/// Keeps account of requests; they may end long after they left, in any order.
pub(crate) trait Book: Send + Sync + 'static {
    /// Notes a request as under way; the ticket comes back with its end.
    fn leave(&self, intended: Instant) -> usize;

    /// Whether a request with this intended start counts.
    fn is_measured(&self, intended: Instant) -> bool;

    /// Notes the end of a request.
    fn finish(&self, ticket: usize, times: Times, verdict: Result<(), Failure>);
}

/// When a request was to leave, left and ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) intended: Instant,
    pub(crate) sent: Instant,
    pub(crate) finished: Instant,
}

/// Bounds of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) timeout: Duration,
    pub(crate) max_in_flight: usize,
}

/// Lets requests of `source` leave at the times of `pace`, then waits for those under way, each of which has a deadline.
///
/// # Cancel safety
/// Requests under way are abandoned.
pub(crate) async fn depart<P, S, O>(client: &Client, bounds: Bounds, mut pace: P, mut source: S, observe: Arc<O>)
where
    P: Pace,
    S: FnMut() -> Request,
    O: Fn(&Exchange) -> Result<(), Failure> + Send + Sync + 'static,
{
    let mut in_flight = JoinSet::new();
    let mut in_a_row = 0;
    while let Some((intended, book)) = pace.next() {
        if intended > clock::now() {
            clock::sleep_until(intended).await;
            in_a_row = 0;
        } else if in_a_row >= DEPARTURES_PER_TURN {
            tokio::task::yield_now().await;
            in_a_row = 0;
        }
        in_a_row += 1;
        while in_flight.try_join_next().is_some() {}
        let ticket = book.leave(intended);
        let departure = Departure { request: source(), intended, ticket, book, observe: observe.clone() };
        if in_flight.len() < bounds.max_in_flight {
            in_flight.spawn(departure.send(client.clone(), intended + bounds.timeout));
        } else {
            departure.finish(clock::now(), Err(Failure::Saturated));
        }
    }
    while in_flight.join_next().await.is_some() {}
}

/// One request on its way.
struct Departure<B, O> {
    request: Request,
    intended: Instant,
    ticket: usize,
    book: Arc<B>,
    observe: Arc<O>,
}

impl<B: Book, O: Fn(&Exchange) -> Result<(), Failure>> Departure<B, O> {
    async fn send(self, client: Client, deadline: Instant) {
        let sent = clock::now();
        let outcome = client.send(&self.request, deadline).await;
        self.finish(sent, outcome);
    }

    fn finish(self, sent: Instant, outcome: Result<Response, Failure>) {
        let (intended, finished) = (self.intended, clock::now());
        let is_measured = self.book.is_measured(intended);
        let exchange = Exchange { request: self.request, outcome, intended, sent, finished, is_measured };
        let verdict = (self.observe)(&exchange);
        self.book.finish(self.ticket, Times { intended, sent, finished }, verdict);
    }
}
