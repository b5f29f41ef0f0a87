//! What the JetStream backend is told, and why it may refuse.

use std::time::Duration;

use crate::{Config, ConfigError, Durability, Failure, MAX_PRIORITY};

/// The settings of a queue on a NATS server, all of them data.
///
/// # Examples
/// ```
/// use tenfold_mq::{Config, Durability, NatsConfig};
///
/// let config = NatsConfig {
///     name: "thumbnails".to_owned(),
///     priorities: 3,
///     queue: Config { durability: Durability::Os, ..Config::default() },
///     ..NatsConfig::default()
/// };
/// assert_eq!(config.servers, "nats://127.0.0.1:4222");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct NatsConfig {
    /// Addresses of servers of one cluster, with commas between: `nats://user:password@host:4222`. Default: the port
    /// 4222 of this machine.
    pub servers: String,
    /// The name of the queue: letters, digits, `_` and `-`, at most 200. Default: `queue`.
    pub name: String,
    /// How many copies a cluster keeps of each message, from 1 to 5. Default: 1.
    pub replicas: u8,
    /// How many priorities are told apart, from 1 to 8; each is a consumer more for every group, and a receiver asks
    /// them one after the other. Default: 1, which refuses messages with a priority.
    pub priorities: u8,
    /// Over how many lanes keys are spread, up to 64; each is a consumer more for every group, and as many messages with
    /// keys are in flight at most. Default: 0, which refuses messages with a key.
    pub key_lanes: u16,
    /// How long an answer of the server may take, from 1 ms up. Default: 5 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub request_timeout: Duration,
    /// What else there is to say of the queue, as far as JetStream has it: `durability` (see the table at
    /// [`Nats`](crate::Nats)), `lease`, `max_attempts`, `max_messages`, `max_bytes`, `send_timeout`,
    /// `max_message_bytes`, `max_groups`, `deduplication_window`, `ageing`, `max_leased` and `max_dead_letters` (of all
    /// groups together). A `retention` is refused. The rest is about memory and files that the server has.
    pub queue: Config,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            servers: "nats://127.0.0.1:4222".to_owned(),
            name: "queue".to_owned(),
            replicas: 1,
            priorities: 1,
            key_lanes: 0,
            request_timeout: Duration::from_secs(5),
            queue: Config::default(),
        }
    }
}

/// Why there is no queue on a NATS server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NatsError {
    /// A setting is out of its range.
    #[error("the configuration is invalid")]
    Config(#[from] ConfigError),
    /// A name that is empty, longer than 200 bytes, or not of letters, digits, `_` and `-`.
    #[error("an invalid name of a queue")]
    Name,
    /// An address that is none.
    #[error("an invalid address of a server")]
    Address,
    /// The server cannot do what the settings ask for.
    #[error("the server does not support {0}")]
    Unsupported(&'static str),
    /// No server was reached, or it did not answer.
    #[error("no connection")]
    Connection(#[source] Failure),
    /// The server refuses to make or change a stream or consumer, with this code (`err_code` of its API).
    #[error("the server refuses with code {code}")]
    Refused {
        /// Its code.
        code: u64,
    },
}

/// The longest name of a queue; with a group's it must fit into 255 bytes.
const MAX_NAME: usize = 200;

/// How often servers before 2.10 sync, which cannot be changed.
const OLD_SYNC_INTERVAL: Duration = Duration::from_secs(120);

impl NatsConfig {
    pub(super) fn check(&self) -> Result<(), NatsError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.bytes().all(is_allowed) {
            return Err(NatsError::Name);
        }
        self.queue.check()?;
        ConfigError::check("replicas", self.replicas.into(), 1, 5)?;
        ConfigError::check("priorities", self.priorities.into(), 1, u64::from(MAX_PRIORITY) + 1)?;
        ConfigError::check("key_lanes", self.key_lanes.into(), 0, 64)?;
        ConfigError::check_time("request_timeout", self.request_timeout, 3_600_000)?;
        if self.queue.retention != crate::Retention::default() {
            return Err(NatsError::Unsupported("retention"));
        }
        Ok(())
    }

    /// Servers sync on a timer of two minutes. From 2.10 on they can be told otherwise (`sync_interval`), which a client
    /// cannot see; before that, what is asked for is known to be missing.
    pub(super) fn check_durability(&self, server: Version) -> Result<(), NatsError> {
        if server >= (Version { major: 2, minor: 10 }) {
            return Ok(());
        }
        match self.queue.durability {
            Durability::Always => Err(NatsError::Unsupported("`Durability::Always`: servers before 2.10 cannot sync")),
            Durability::Interval(interval) if interval < OLD_SYNC_INTERVAL => {
                Err(NatsError::Unsupported("an interval below 2 min: servers before 2.10 sync every 2 min"))
            }
            _ => Ok(()),
        }
    }
}

/// The version of a server, as far as it says what the server can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Version {
    pub(super) const OLDEST: Self = Self { major: 2, minor: 9 };

    /// `2.10.3-beta` is 2.10; what is unreadable is taken for a new one.
    pub(super) fn of(text: &str) -> Self {
        let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(u32::MAX));
        Self { major: numbers.next().unwrap_or(u32::MAX), minor: numbers.next().unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(Version::of("2.9.10") < Version::of("2.10.0-beta.1"));
        assert_eq!(Version::of("2.9.10"), Version::OLDEST);
        assert!(Version::of("dev") > Version::OLDEST);
    }

    #[test]
    fn what_old_servers_cannot_sync_is_refused() {
        let with =
            |durability| NatsConfig { queue: Config { durability, ..Config::default() }, ..NatsConfig::default() };
        let old = Version::OLDEST;
        assert!(with(Durability::Always).check_durability(old).is_err());
        assert!(with(Durability::Interval(Duration::from_secs(119))).check_durability(old).is_err());
        assert!(with(Durability::Interval(Duration::from_secs(120))).check_durability(old).is_ok());
        assert!(with(Durability::Os).check_durability(old).is_ok());
        assert!(with(Durability::Always).check_durability(Version::of("2.10.0")).is_ok());
    }

    #[test]
    fn settings_out_of_range_and_names_are_refused() {
        let changed = |change: fn(&mut NatsConfig)| {
            let mut config = NatsConfig::default();
            change(&mut config);
            config.check()
        };
        assert_eq!(changed(|_| ()), Ok(()));
        assert_eq!(changed(|c| c.name = "a.b".to_owned()), Err(NatsError::Name));
        assert_eq!(changed(|c| c.name.clear()), Err(NatsError::Name));
        assert!(
            matches!(changed(|c| c.priorities = 9), Err(NatsError::Config(error)) if error.field() == "priorities")
        );
        assert!(matches!(changed(|c| c.queue.retention.bytes = 1), Err(NatsError::Unsupported("retention"))));
    }
}
