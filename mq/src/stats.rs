//! Counts of a queue, cheap enough to be always on.

/// What a queue holds and has done since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// Messages that some group is not done with, dead letters included.
    pub messages: u64,
    /// Their bytes, as in the log.
    pub message_bytes: u64,
    /// Messages kept only for replay.
    pub retained: u64,
    /// Their bytes.
    pub retained_bytes: u64,
    /// Bytes of bodies in memory.
    pub body_bytes: u64,
    /// Bytes of memory for everything that is known of messages but their bodies.
    pub index_bytes: u64,
    /// Bytes of the log's files, those kept for reuse included; 0 without a log.
    pub disk_bytes: u64,
    /// Segments with something in them.
    pub segments: u32,
    /// Messages taken from senders.
    pub sent: u64,
    /// Messages that had been sent before.
    pub duplicates: u64,
    /// Messages handed back to senders.
    pub refused: u64,
    /// The groups, in the order in which they were made.
    pub groups: Vec<GroupStats>,
}

/// What a group has before it and behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GroupStats {
    /// Its name.
    pub name: String,
    /// Messages that could be delivered now.
    pub ready: u64,
    /// Messages whose time has not come.
    pub delayed: u64,
    /// Messages on lease.
    pub leased: u64,
    /// Messages that wait for another one of their key.
    pub held: u64,
    /// Messages given up.
    pub dead: u64,
    /// Whether deliveries are stopped.
    pub is_paused: bool,
    /// Consumers that wait for a message.
    pub waiting: u64,
    /// Deliveries since the queue was opened.
    pub delivered: u64,
    /// Those of them that were not the first of their message.
    pub redelivered: u64,
    /// Acks since the queue was opened.
    pub acked: u64,
    /// Leases that ran out since the queue was opened.
    pub expired_leases: u64,
}
