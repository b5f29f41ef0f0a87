//! The JetStream backend: the same queue on a NATS server, for when one machine is not enough.
//!
//! One stream holds the messages (interest retention: a message goes when the last group has acked it), a durable pull
//! consumer with explicit acks is a group, the server's ack wait is the lease. A publish ack is the confirmation. What
//! JetStream does not have is done by receivers along the way ([`house`]), or refused.

mod admin;
mod api;
mod config;
mod dead;
mod face;
mod failure;
mod groups;
mod house;
mod inbox;
mod leases;
mod names;
mod receive;
mod send;
mod settle;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, ServerAddr};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub use config::{NatsConfig, NatsError};

use crate::clock::{Clock, SystemClock};
use crate::{DEFAULT_GROUP, Failure, GroupError, MAX_HEADER_BYTES, QueueError};
use config::Version;
use failure::ApiError;
use groups::{Seat, nanos};
use house::House;
use leases::Leases;
use names::{LATER, Names, UNDERTAKER};

/// A queue on a NATS server: a [`Broker`](crate::Broker) over JetStream.
///
/// Everything but [`Nats::connect`] is done through the trait. Needs tokio.
///
/// # The server
/// From 2.9 on; tested with 2.9.10, which Debian has. **Set `sync_interval: always` in its `jetstream` block** (from 2.10
/// on): as it comes, a server confirms what it has not synced and syncs every two minutes, and a power cut takes what
/// was confirmed in between. A client cannot see the setting; of servers before 2.10, which do not have it,
/// [`Durability::Always`](crate::Durability::Always) is refused.
///
/// # What differs from the embedded queue
/// | | embedded | JetStream |
/// |---|---|---|
/// | confirmed means | as `durability` says | as the server's `sync_interval` says; replicas if there are |
/// | a batch | all or none | message by message; none is sent if one is invalid; in order, unless some must be tried again |
/// | deduplication | the newest ids, over restarts | the server's window; after a restart of the server, of messages that are still there |
/// | a send whose confirmation is lost | cannot be | tried again if it has a deduplication id, otherwise [`Refusal::Failed`](crate::Refusal::Failed): it may be there |
/// | ids | dense | increasing; one that was delayed or requeued keeps its id |
/// | order | by id, within a priority | by place in the stream: what was delayed or requeued queues behind |
/// | priorities | 8, with ageing | as many as [`NatsConfig::priorities`], a consumer each; ageing by receives |
/// | keys | each by itself | spread over [`NatsConfig::key_lanes`]; a lane waits for its lease or nack as a whole; no priority |
/// | delay | the queue's timer | moved by a receiver of any group when its time has come; up to a second late if none waits |
/// | deadline | dead letter when it passes | dead letter when it would be delivered |
/// | late acks | refused by the queue | refused by the receiving process's clock; what is under way when the lease ends counts |
/// | receipts | good for a lease | good for a lease, through the `Nats` that received |
/// | a durable ack | on disk | taken by the server, which may lose it if it is killed |
/// | extending a lease | any length | [`Config::lease`](crate::Config::lease) anew |
/// | attempts exhausted by leases | dead at once | dead when somebody next receives |
/// | dead letters | bounded for each group | bounded for all groups; requeued for its group alone |
/// | headers | as they are | names that begin with `Nats-` or `Tenfold-` are refused; the order of different names and blanks at the ends of values are lost |
/// | statistics | all | messages, bytes, and of groups ready, delayed, leased, dead and waiting; a nacked message with a delay counts as leased |
/// | replay, retention, peek, pause | yes | refused, or not in the trait |
///
/// # Reconnecting
/// When the server goes away, calls wait for it up to their time limit ([`NatsConfig::request_timeout`], for sends
/// [`Config::send_timeout`](crate::Config::send_timeout)); receivers go on within a second of its return.
pub struct Nats {
    config: NatsConfig,
    names: Names,
    client: Client,
    clock: SystemClock,
    /// Receipts of others are not ours.
    identity: u64,
    leases: Mutex<Leases>,
    seats: Mutex<HashMap<String, Arc<Seat>>>,
    /// What stands for groups in receipts, for ever.
    indices: Mutex<HashMap<String, u32>>,
    house: tokio::sync::Mutex<House>,
    is_closed: AtomicBool,
}

/// The most that headers of our own add to a message, with those that the user may have.
const HEADROOM: usize = 4 * 1024 + MAX_HEADER_BYTES;

/// The shortest window that servers take.
const MIN_WINDOW: Duration = Duration::from_millis(100);

/// For ids of our own, if the user wants none.
const DEFAULT_WINDOW: Duration = Duration::from_secs(120);

/// For how long whoever got a delayed message or an advisory may take to deal with it.
const HOUSE_LEASE: Duration = Duration::from_secs(10);

impl Nats {
    /// Connects, and makes the queue or adapts it to the configuration.
    ///
    /// # Errors
    /// If a setting is out of its range or more than the server can do, if there is no server, or if it refuses.
    pub async fn connect(config: NatsConfig) -> Result<Self, NatsError> {
        config.check()?;
        let client = connect(&config).await?;
        let version = Version::of(&client.server_info().version);
        if version < Version::OLDEST {
            return Err(NatsError::Unsupported("JetStream as of 2.9"));
        }
        config.check_durability(version)?;
        let names = Names::new(&config.name, config.priorities, config.key_lanes);
        let house = House::open(&client, &names.stream, &names.events_stream()).await.map_err(refused)?;
        let nats = Self {
            config,
            names,
            client,
            clock: SystemClock::new(),
            identity: crate::hash::random(),
            leases: Mutex::default(),
            seats: Mutex::default(),
            indices: Mutex::default(),
            house: tokio::sync::Mutex::new(house),
            is_closed: AtomicBool::new(false),
        };
        nats.make_streams().await.map_err(refused)?;
        match nats.make_group(DEFAULT_GROUP).await {
            Ok(()) => Ok(nats),
            Err(GroupError::Failed(failure)) => Err(NatsError::Connection(failure)),
            Err(_) => Err(NatsError::Unsupported("the default group")),
        }
    }

    async fn make_streams(&self) -> Result<(), ApiError> {
        let (names, queue) = (&self.names, &self.config.queue);
        let window = match queue.deduplication_window {
            Duration::ZERO => DEFAULT_WINDOW,
            window => window.max(MIN_WINDOW),
        };
        let max_size = (queue.max_message_bytes as usize).saturating_add(HEADROOM);
        self.make_stream(
            &names.stream,
            json!({
                "subjects": [names.all_lanes(), names.later()],
                "retention": "interest",
                "discard": "new",
                "max_msgs": i64::try_from(queue.max_messages).unwrap_or(i64::MAX),
                "max_bytes": i64::try_from(queue.max_bytes).unwrap_or(i64::MAX),
                "max_msg_size": i32::try_from(max_size).unwrap_or(i32::MAX),
                "duplicate_window": nanos(window),
            }),
        )
        .await?;
        let dead = json!({
            "subjects": [names.all_dead()],
            "retention": "limits",
            "discard": "old",
            "max_msgs": queue.max_dead_letters.max(1),
            "max_msgs_per_subject": 1,
        });
        self.make_stream(&names.dead_stream(), dead).await?;
        let events = json!({ "subjects": [names.events()], "retention": "workqueue", "discard": "old" });
        self.make_stream(&names.events_stream(), events).await?;
        self.make_consumer(&names.stream, &helper(LATER, Some(names.later()))).await?;
        self.make_consumer(&names.events_stream(), &helper(UNDERTAKER, None)).await
    }

    async fn make_stream(&self, name: &str, mut config: Value) -> Result<(), ApiError> {
        let common = json!({
            "name": name, "storage": "file", "num_replicas": self.config.replicas, "allow_direct": true,
            "max_consumers": -1, "max_age": 0,
        });
        if let (Value::Object(config), Value::Object(common)) = (&mut config, common) {
            config.extend(common);
        }
        match self.api(&format!("STREAM.CREATE.{name}"), &config).await {
            // There is one of other settings.
            Err(ApiError::Code(10058)) => self.api(&format!("STREAM.UPDATE.{name}"), &config).await.map(|_| ()),
            other => other.map(|_| ()),
        }
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    fn wall(&self) -> SystemTime {
        self.clock.wall()
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    fn max_message_bytes(&self) -> usize {
        let servers = self.client.server_info().max_payload.saturating_sub(HEADROOM);
        servers.min(self.config.queue.max_message_bytes as usize)
    }

    async fn stop(&self) -> Result<(), QueueError> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.leases.lock().clear();
        // Acks that are under way are written, and whoever waits is woken.
        self.client.drain().await.map_err(|_| QueueError::Failed(failure::closed()))
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("name", &self.config.name).finish_non_exhaustive()
    }
}

/// A consumer of ours: what it gets, it gets until it is done.
fn helper(name: &str, filter: Option<String>) -> Value {
    json!({
        "durable_name": name,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": nanos(HOUSE_LEASE),
        "max_deliver": -1,
        "max_ack_pending": -1,
        "filter_subject": filter.unwrap_or_default(),
        "replay_policy": "instant",
    })
}

async fn connect(config: &NatsConfig) -> Result<Client, NatsError> {
    let addresses = config.servers.split(',').map(|address| address.trim().parse::<ServerAddr>());
    let addresses = addresses.collect::<Result<Vec<_>, _>>().map_err(|_| NatsError::Address)?;
    let options = ConnectOptions::new()
        .name("tenfold-mq")
        .connection_timeout(config.request_timeout)
        .request_timeout(Some(config.request_timeout))
        .reconnect_delay_callback(|attempts| Duration::from_millis(50 * attempts.min(20) as u64));
    options.connect(addresses).await.map_err(|error| {
        NatsError::Connection(Failure::from(match error.kind() {
            ConnectErrorKind::TimedOut => ErrorKind::TimedOut,
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => ErrorKind::PermissionDenied,
            _ => ErrorKind::ConnectionRefused,
        }))
    })
}

fn refused(error: ApiError) -> NatsError {
    match error {
        ApiError::Code(code) => NatsError::Refused { code },
        ApiError::Failed(failure) => NatsError::Connection(failure),
    }
}
