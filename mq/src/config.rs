//! What a queue is told when it is opened.

use std::fmt;
use std::time::Duration;

/// The settings of a queue, all of them data. They may change from one opening to the next.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tenfold_mq::{Config, Durability};
///
/// let config = Config { durability: Durability::Interval(Duration::from_millis(50)), ..Config::default() };
/// assert_eq!(config.max_attempts, 5);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Config {
    /// What a confirmation means. Default: [`Durability::Always`].
    pub durability: Durability,
    /// For how long a delivered message is its consumer's alone; after that it is delivered again. From 1 ms up. Longer
    /// delays the redelivery after a crash of the consumer, shorter repeats slow work. Default: 30 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub lease: Duration,
    /// After this many deliveries without an ack a message goes to the dead letters. From 1 up; more than 65,535
    /// count as that. Default: 5.
    pub max_attempts: u32,
    /// How long a message waits before its next delivery when a consumer gives it back by
    /// [`Delivery::retry`](crate::Delivery::retry). Default: 0.1 s, then twice as long each time, up to 1 min.
    pub backoff: Backoff,
    /// How many messages may be queued: sent, and not yet done with in every group. Dead letters count, what
    /// is kept for replay does not. From 1 up. Default: 100 million.
    pub max_messages: u64,
    /// How many bytes of them, with what the log adds to each, 15 bytes and more. From 1 up. Default: 16 GiB.
    pub max_bytes: u64,
    /// How long a sender waits for room before it gets its message back; 0 refuses at once. The first for whom there is room
    /// goes first, so that small messages may overtake large ones. Default: 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub send_timeout: Duration,
    /// The largest message in bytes, by [`Message::size`](crate::Message::size); from 1 to a quarter of a segment. Default:
    /// 1 MiB.
    pub max_message_bytes: u32,
    /// How many bytes of bodies stay in memory; those beyond are read back from the log when they are delivered. Less
    /// costs reads. From 4 MiB up; the index, about 13 bytes a message, comes on top. Default: 128 MiB.
    pub memory_bytes: u64,
    /// How many groups there may be, the default one included. From 1 to 65,536. Default: 64.
    pub max_groups: u32,
    /// How many keys may have messages held back or in flight at a time, in each group. A message of a further key waits,
    /// and with it what comes behind it in its priority; and so does the message after the millionth that waits for its key.
    /// From 1 up. Default: 1 million.
    pub max_keys: u32,
    /// For how long a deduplication id is remembered; 0 remembers none. Default: 2 min.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub deduplication_window: Duration,
    /// How many deduplication ids are remembered at most; the oldest are forgotten first. 40 bytes each. Default: 1
    /// million.
    pub max_deduplication_ids: u32,
    /// After so many deliveries of higher priorities a lower one that has a message is served once, so that it cannot
    /// starve: it waits for no more than these and one for each other priority that has waited as long. 0: never, higher
    /// ones always come first. Less serves low priorities more. Default: 16.
    pub ageing: u32,
    /// How many deliveries a group may have on lease at a time: what consumers that never ack can cost. From 1 up. Default:
    /// 1 million.
    pub max_leased: u32,
    /// How many dead letters a group keeps; the oldest are dropped first. 0 keeps none. Default: 100,000.
    pub max_dead_letters: u32,
    /// For how long messages are kept for replay after every group is done with them. Default: not at all.
    pub retention: Retention,
    /// How many messages a consumer takes ahead, to hand them out without asking the queue. More is faster with many
    /// consumers, and keeps messages from others. From 1 to 1,048,576. Default: 1, which takes none ahead.
    pub prefetch: u32,
    /// The size of a file of the log, in bytes. A multiple of 4096, from 64 KiB to 1 GiB. Larger ones are fewer and give their
    /// space back later, and make opening slower. Default: 16 MiB.
    pub segment_bytes: u32,
    /// How many finished files are kept to be written over, which is twice as fast as making new ones. Default: 2.
    pub spare_segments: u32,
    /// The space that the log may take on disk, in bytes. Beyond it the disk counts as full. From four segments up. Default:
    /// no bound but the disk.
    pub max_disk_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            durability: Durability::Always,
            lease: Duration::from_secs(30),
            max_attempts: 5,
            backoff: Backoff::default(),
            max_messages: 100_000_000,
            max_bytes: 16 << 30,
            send_timeout: Duration::from_secs(10),
            max_message_bytes: 1 << 20,
            memory_bytes: 128 << 20,
            max_groups: 64,
            max_keys: 1_000_000,
            deduplication_window: Duration::from_secs(120),
            max_deduplication_ids: 1_000_000,
            ageing: 16,
            max_leased: 1_000_000,
            max_dead_letters: 100_000,
            retention: Retention::default(),
            prefetch: 1,
            segment_bytes: 16 << 20,
            spare_segments: 2,
            max_disk_bytes: u64::MAX,
        }
    }
}

/// What a confirmation means, and so what can be lost.
///
/// Whatever the policy, messages that were confirmed are never lost by a crash of the *process* alone, however violent;
/// they differ in what a crash of the *machine* (power, kernel) takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Durability {
    /// Confirmed means synced to disk. Nothing confirmed is lost. One sync serves all who wait.
    #[default]
    Always,
    /// Confirmed means given to the operating system; synced at this interval, which has no default, from 1 ms up, by a
    /// [`Driver`](crate::Driver) or a thread that waits in [`Consumer::receive`](crate::Consumer::receive), or else by whoever
    /// sends once it is over. What was confirmed within the last interval is lost with the machine, the newest first; if
    /// nobody looks at the clock, so is all that was sent since somebody did.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    Interval(Duration),
    /// Confirmed means given to the operating system, which syncs when it likes: with Linux's defaults, within about 30
    /// seconds. What was confirmed in that time is lost with the machine: what is left has no holes.
    /// [`Queue::close`](crate::Queue::close) syncs.
    Os,
}

/// How long a message waits before its next delivery: `first`, then twice as long each time, up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Backoff {
    /// After the first delivery. 0 delivers again at once. Default: 0.1 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub first: Duration,
    /// The longest wait. Default: 1 min.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), max: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait after this many deliveries.
    pub fn delay(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}

/// For how long messages are kept after every group is done with them, so that a group may be set back to them.
///
/// Both bounds hold: a message goes when it is older than `age` *or* when those kept are more than `bytes`. With one of
/// them 0, as by default, nothing is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Retention {
    /// Since they were sent. Default: 0.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub age: Duration,
    /// Of all that is kept. Default: 0.
    pub bytes: u64,
}

/// Settings that no queue can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    field: &'static str,
    value: u64,
    /// Behind each number, with the space between.
    unit: &'static str,
    /// What the value has to be a multiple of.
    step: u64,
    min: u64,
    max: u64,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, unit, step, min, max } = *self;
        write!(f, "`{field}` is {value}{unit}, not ")?;
        if step > 1 {
            write!(f, "a multiple of {step} from ")?;
        }
        // The largest numbers are no bounds that anybody would want to read.
        if value < min && max >= MAX_MILLIS {
            write!(f, "{min}{unit} or more")
        } else {
            write!(f, "{min} to {max}{unit}")
        }
    }
}

impl ConfigError {
    /// For settings that other backends have.
    #[cfg(feature = "nats")]
    pub(crate) fn check(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), Self> {
        check(field, value, min, max)
    }

    /// The same for a time, in milliseconds.
    #[cfg(feature = "nats")]
    pub(crate) fn check_time(field: &'static str, value: Duration, max: u64) -> Result<(), Self> {
        check_time(field, value, max)
    }

    /// The setting that is out of its range.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

const MIN_SEGMENT: u64 = 64 << 10;
const MAX_SEGMENT: u64 = 1 << 30;
const SEGMENT_STEP: u64 = 4096;
/// Half of `u64`, so that sums of times do not overflow.
const MAX_MILLIS: u64 = u64::MAX / 2;

impl Config {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let segment = u64::from(self.segment_bytes);
        if !(MIN_SEGMENT..=MAX_SEGMENT).contains(&segment) || segment % SEGMENT_STEP != 0 {
            let (field, step, min, max) = ("segment_bytes", SEGMENT_STEP, MIN_SEGMENT, MAX_SEGMENT);
            return Err(ConfigError { field, value: segment, unit: "", step, min, max });
        }
        check_time("lease", self.lease, MAX_MILLIS)?;
        check("max_attempts", self.max_attempts.into(), 1, u32::MAX.into())?;
        check("max_messages", self.max_messages, 1, u64::MAX)?;
        check("max_bytes", self.max_bytes, 1, u64::MAX)?;
        check("max_message_bytes", self.max_message_bytes.into(), 1, segment / 4)?;
        check("memory_bytes", self.memory_bytes, 4 << 20, u64::MAX)?;
        check("max_groups", self.max_groups.into(), 1, 1 << 16)?;
        check("max_keys", self.max_keys.into(), 1, u32::MAX.into())?;
        check("max_leased", self.max_leased.into(), 1, u32::MAX.into())?;
        check("prefetch", self.prefetch.into(), 1, 1 << 20)?;
        check("max_disk_bytes", self.max_disk_bytes, segment * 4, u64::MAX)?;
        if let Durability::Interval(interval) = self.durability {
            check_time("durability", interval, MAX_MILLIS)?;
        }
        Ok(())
    }
}

fn check(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if value < min || value > max { Err(ConfigError { field, value, unit: "", step: 1, min, max }) } else { Ok(()) }
}

/// A time is at least a millisecond.
fn check_time(field: &'static str, value: Duration, max: u64) -> Result<(), ConfigError> {
    let value = value.as_millis().try_into().unwrap_or(u64::MAX);
    check(field, value, 1, max).map_err(|error| ConfigError { unit: " ms", ..error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_can_be_opened() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        fn field(change: impl FnOnce(&mut Config)) -> &'static str {
            let mut config = Config::default();
            change(&mut config);
            config.check().map_or_else(|error| error.field(), |()| "")
        }
        assert_eq!(field(|c| c.segment_bytes = 65_535), "segment_bytes");
        assert_eq!(field(|c| c.segment_bytes = 65_537), "segment_bytes");
        assert_eq!(field(|c| c.max_message_bytes = (4 << 20) + 1), "max_message_bytes");
        assert_eq!(field(|c| c.lease = Duration::ZERO), "lease");
        assert_eq!(field(|c| c.lease = Duration::MAX), "lease");
        assert_eq!(field(|c| c.max_attempts = 0), "max_attempts");
        assert_eq!(field(|c| c.prefetch = 0), "prefetch");
        assert_eq!(field(|c| c.memory_bytes = 1), "memory_bytes");
        assert_eq!(field(|c| c.max_groups = 0), "max_groups");
        assert_eq!(field(|c| c.max_disk_bytes = 1), "max_disk_bytes");
        assert_eq!(field(|c| c.durability = Durability::Interval(Duration::ZERO)), "durability");
    }

    #[test]
    fn an_error_has_the_range_and_the_unit() {
        fn text(change: impl FnOnce(&mut Config)) -> String {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        }
        assert_eq!(text(|c| c.lease = Duration::ZERO), "`lease` is 0 ms, not 1 ms or more");
        assert_eq!(
            text(|c| c.lease = Duration::MAX),
            "`lease` is 18446744073709551615 ms, not 1 to 9223372036854775807 ms"
        );
        assert_eq!(
            text(|c| c.durability = Durability::Interval(Duration::ZERO)),
            "`durability` is 0 ms, not 1 ms or more"
        );
        assert_eq!(text(|c| c.prefetch = 0), "`prefetch` is 0, not 1 to 1048576");
        assert_eq!(text(|c| c.memory_bytes = 1), "`memory_bytes` is 1, not 4194304 or more");
        assert_eq!(
            text(|c| c.segment_bytes = 65_537),
            "`segment_bytes` is 65537, not a multiple of 4096 from 65536 to 1073741824"
        );
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(5) };
        let waits = [0, 1, 2, 3, 4, u32::MAX].map(|attempts| backoff.delay(attempts).as_secs());
        assert_eq!(waits, [1, 1, 2, 4, 5, 5]);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn reads_back_and_refuses_unknown_fields() {
        let config = Config { durability: Durability::Interval(Duration::from_millis(50)), ..Config::default() };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
        let few: Config = serde_json::from_str(r#"{"durability": "os", "lease": "5m"}"#).unwrap();
        assert_eq!((few.durability, few.lease), (Durability::Os, Duration::from_secs(300)));
        assert!(serde_json::from_str::<Config>(r#"{"leese": "5m"}"#).is_err());
    }
}
