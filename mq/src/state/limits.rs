//! How much a queue's state may hold.

/// Bounds of a [`State`](super::State). They may change from one start to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// After this many deliveries without an ack a message is dead; 0: never. More than 65,535 count as that.
    /// Default: 5.
    pub(crate) max_attempts: u32,
    /// Groups at a time, up to 65,536. Each costs half a byte a message and its own few KiB. Default: 64.
    pub(crate) max_groups: u32,
    /// Deliveries a group may have out at a time: bounds what consumers that never ack cost. Default: 1 million.
    pub(crate) max_leased: u64,
    /// Keys of a group that may be held at a time. A message of another key waits, and with it those behind it in its
    /// level. Default: 1 million.
    pub(crate) max_keys: u32,
    /// Messages of a group that may wait for a held key at a time, 8 bytes each; the next one waits where it is.
    /// Default: 1 million.
    pub(crate) max_waiting: u64,
    /// Dead letters of a group; the oldest messages are dropped first. Default: 100,000.
    pub(crate) max_dead_letters: u32,
    /// Whether what expires is dead rather than gone. Default: yes.
    pub(crate) expired_are_dead: bool,
    /// Deduplication ids; the oldest are forgotten first. About 80 bytes each. Default: 1 million.
    pub(crate) max_ids: u32,
    /// A level of priority is served once after so many deliveries of higher ones while it had a message; 0: never.
    /// Less serves low levels more. Default: 16.
    pub(crate) ageing: u32,
    /// What is kept for replay of what every group is done with.
    pub(crate) retention: Retention,
    /// Whether events are kept for the log. Default: yes; a queue in memory needs none.
    pub(crate) journal: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            max_groups: 64,
            max_leased: 1_000_000,
            max_keys: 1_000_000,
            max_waiting: 1_000_000,
            max_dead_letters: 100_000,
            expired_are_dead: true,
            max_ids: 1_000_000,
            ageing: 16,
            retention: Retention::default(),
            journal: true,
        }
    }
}

/// For how long messages are kept that every group is done with. All three bounds hold; a bound of 0 keeps nothing.
/// Default: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Since they were sent; kept for at most a second longer.
    pub(crate) age_ms: u64,
    /// The sum of their sizes.
    pub(crate) bytes: u64,
    /// How many.
    pub(crate) messages: u64,
}

impl Retention {
    pub(super) fn is_off(&self) -> bool {
        self.age_ms == 0 || self.bytes == 0 || self.messages == 0
    }
}
