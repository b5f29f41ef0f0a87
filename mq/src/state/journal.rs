//! Events that wait to be written to the log.

use super::GroupId;
use super::event::Event;

/// Events in an order that means the same as the one they came in.
///
/// Deliveries and acks come in turn and mostly of messages in a row, so the last of each is kept open and grows. They
/// may change places with each other: an ack ends what a delivery began, and a delivery of a settled message is
/// nothing. Any other event closes them first.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    is_on: bool,
    events: Vec<Event>,
    delivered: Option<Delivered>,
    settled: Option<Settled>,
    trimmed: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Delivered {
    group: GroupId,
    first: u64,
    next: u64,
    delivery: u32,
    attempt: u16,
}

#[derive(Clone, Copy, Debug)]
struct Settled {
    group: GroupId,
    first: u64,
    next: u64,
}

impl Journal {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, events: Vec::new(), delivered: None, settled: None, trimmed: None }
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.delivered.is_none() && self.settled.is_none() && self.trimmed.is_none()
    }

    #[inline]
    pub(super) fn settled(&mut self, group: GroupId, sequence: u64) {
        self.settled_run(group, sequence, sequence + 1);
    }

    /// The same for `first..end`.
    #[inline]
    pub(super) fn settled_run(&mut self, group: GroupId, first: u64, end: u64) {
        if !self.is_on {
            return;
        }
        match &mut self.settled {
            Some(run) if run.group == group && run.next == first => run.next = end,
            _ => {
                self.close_settled();
                self.settled = Some(Settled { group, first, next: end });
            }
        }
    }

    #[inline]
    pub(super) fn delivered(&mut self, group: GroupId, sequence: u64, delivery: u32, attempt: u16) {
        if !self.is_on {
            return;
        }
        match &mut self.delivered {
            Some(run) if (run.group, run.next, run.delivery, run.attempt) == (group, sequence, delivery, attempt) => {
                run.next += 1;
            }
            _ => {
                self.close_delivered();
                self.delivered = Some(Delivered { group, first: sequence, next: sequence + 1, delivery, attempt });
            }
        }
    }

    pub(super) fn trimmed(&mut self, below: u64) {
        if self.is_on {
            self.trimmed = Some(below);
        }
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.is_on {
            self.close();
            self.events.push(event);
        }
    }

    fn close(&mut self) {
        self.close_delivered();
        self.close_settled();
        if let Some(below) = self.trimmed.take() {
            self.events.push(Event::Trimmed { below });
        }
    }

    fn close_delivered(&mut self) {
        if let Some(Delivered { group, first, next, delivery, attempt }) = self.delivered.take() {
            self.events.push(Event::Delivered { group, first, count: next - first, delivery, attempt });
        }
    }

    fn close_settled(&mut self) {
        if let Some(Settled { group, first, next }) = self.settled.take() {
            self.events.push(Event::Settled { group, first, count: next - first });
        }
    }

    /// Takes all events out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.close();
        self.events.drain(..)
    }
}
