//! What backends differ in.

/// What a [`Broker`](crate::Broker) does, and how. An application that depends on one of these should look when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// How many priorities it tells apart: those below this number. 1: none.
    pub priorities: u8,
    /// Whether messages of one key are kept in order.
    pub keys: KeyOrder,
    /// How it delays messages.
    pub delay: Delay,
    /// Which leases may be asked for.
    pub extension: Extension,
    /// Who keeps a late ack from counting.
    pub fencing: Fencing,
    /// What a durable ack means.
    pub durable_ack: DurableAck,
    /// Whether a batch is queued as a whole or not at all.
    pub has_atomic_batches: bool,
    /// Whether headers of different names keep their order; those of one name always do.
    pub keeps_header_order: bool,
    /// The largest message, by [`Message::size`](crate::Message::size).
    pub max_message_bytes: usize,
}

/// Whether messages of one key are kept in order, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyOrder {
    /// Messages with a key are refused.
    Unsupported,
    /// Keys are spread over so many lanes; the messages of a lane are delivered in order and one at a time, so that a key
    /// may wait for another one.
    Lanes(u16),
    /// Each key by itself.
    Each,
}

/// How the first delivery of a message is put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delay {
    /// The queue does it.
    Native,
    /// A receiver of any group moves a message whose time has come: without receivers nothing moves, which nobody sees.
    ByReceivers,
}

/// Which leases [`Broker::extend`](crate::Broker::extend) gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extension {
    /// Any.
    Any,
    /// The queue's own ([`Config::lease`](crate::Config::lease)), counted anew from now; a shorter one becomes that, a
    /// longer one is refused.
    Lease,
}

/// Who refuses a settlement by somebody whose lease ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fencing {
    /// The queue, by the number of the delivery. Never wrong.
    Queue,
    /// The process that received, by its own clock and memory. A settlement that leaves in time and arrives late counts,
    /// even though somebody else has the message by then.
    Receiver,
}

/// What [`Broker::ack_durable`](crate::Broker::ack_durable) promises when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DurableAck {
    /// The ack is as durable as a message that was confirmed.
    AsMessages,
    /// The server has taken the ack; if the server is killed, the message may come again.
    Processed,
}
