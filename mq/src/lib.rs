//! A durable in-memory message queue for one program: acknowledged means on disk, delivered means once acked never again.
//!
//! # Three nouns
//! A [`Queue`] is a directory with a log. A [`Producer`] sends messages to it, a [`Consumer`] receives them.
//!
//! ```
//! use std::time::Duration;
//! use tenfold_mq::{Config, Message, Queue};
//!
//! # let directory = std::env::temp_dir().join(format!("tenfold-mq-tour-{}", std::process::id()));
//! let queue = Queue::open(&directory, Config::default())?;
//! let producer = queue.producer();
//! producer.send("hello")?; // On disk when this returns.
//! producer.send(Message::new("later").with_delay(Duration::from_secs(60)).with_priority(3))?;
//!
//! let consumer = queue.consumer();
//! let delivery = consumer.receive()?;
//! assert_eq!(delivery.body().as_ref(), b"hello");
//! delivery.ack()?; // Or `nack`, `extend`, `dead_letter`; dropped, it is delivered again.
//! assert_eq!(queue.stats().messages, 1);
//! queue.close()?;
//! # drop((queue, producer, consumer));
//! # std::fs::remove_dir_all(directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//! - A message whose sending was *confirmed* is delivered at least once, whatever happens to the process, and with
//!   [`Durability::Always`] to the machine. Confirmed means: [`Producer::send`] returned, or the [`Ticket`] said so.
//! - A message that was acked durably ([`Delivery::ack_durable`]) is never delivered again to that group. One that was
//!   acked is not either, unless a crash comes before the ack was written, which the next message does along.
//! - Messages of one [key](Message::with_key) are delivered in their order, one at a time, over redeliveries and restarts.
//! - A delivery is its receiver's until its lease ends; a late ack is refused ([`Receipt`]), so that of two workers only
//!   one can ack. For an effect that happens once, record [`Received::id`] in the transaction that makes it.
//! - A full queue or disk refuses and hands the message back ([`SendError`]); it loses none that it had.
//! - Damage to the log is reported with its place ([`OpenError::Damaged`], [`Queue::verify`]); nothing is skipped in
//!   silence. A tail that was torn by a crash before it was confirmed is cut.
//!
//! # Waiting
//! Threads and tasks use the same handles: [`Consumer::receive`] and [`Consumer::receive_async`], [`Ticket::wait`] and
//! `ticket.await`. No runtime is needed and no thread is started, but for one that reads ahead while a long log is
//! opened: whoever waits does the work. If only tasks wait, give a thread to [`Queue::driver`], which looks at the clock
//! for them.
//!
//! # More than one machine
//! A program that names its queue in its configuration is written against [`Broker`], which [`Queue`] implements with the
//! feature `tokio`, and `Nats`, with the feature `nats`, over JetStream. They do not do the same in everything, and say so:
//! [`Broker::capabilities`], and a table at `Nats`.
//!
//! # Time
//! Leases and delays are measured by the monotonic clock. What must survive a restart is written as time of day, read
//! once when the queue is opened: a wall clock that jumps meanwhile moves nothing that was sent before. One that jumped
//! while the queue was closed makes the delays, times to live and deduplication windows that are left shorter or longer.
//!
//! # Errors
//!
//! The text of an error says what was not done, and its [`source`](std::error::Error::source) why: "the message was not
//! sent" by itself, "the queue is full" behind it. Print both. Programs look at the variants, as of
//! [`SendError::refusal`].
//!
//! # Speed
//! All senders that wait share one write and one sync. A message is copied once, into the log's memory, and delivered as
//! a slice of it. An ack is a bit. For many messages a second from one thread, keep [`Ticket`]s open
//! ([`Producer::submit`]) or use batches ([`Producer::send_batch`], [`Consumer::receive_batch`]).

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admin;
mod bodies;
mod broker;
mod builder;
mod checkpoint;
mod clock;
mod codec;
mod config;
mod consumer;
mod core;
mod dead_letter;
mod delivery;
mod driver;
#[cfg(feature = "serde")]
mod duration;
mod enqueue;
mod error;
mod events;
#[cfg(any(all(test, not(shuttle)), fuzzing))]
mod fuzz;
mod group;
mod hash;
mod headers;
mod log;
mod message;
#[cfg(feature = "nats")]
mod nats;
mod open;
mod producer;
mod queue;
mod receipt;
mod receive;
mod record;
mod settle;
mod shared;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
mod standby;
mod state;
mod stats;
mod storage;
mod sync;
mod ticket;
mod upkeep;
mod wait;

pub use broker::{Answer, Broker, Capabilities, Delay, DurableAck, Extension, Fencing, KeyOrder};
pub use builder::Builder;
pub use clock::{Clock, ManualClock, SystemClock};
pub use codec::DecodeError;
pub use config::{Backoff, Config, ConfigError, Durability, Retention};
pub use consumer::Consumer;
pub use dead_letter::{DeadLetter, DeadReason};
pub use delivery::{Batch, Deliveries, Delivery, Received};
pub use driver::Driver;
pub use error::{Failure, GroupError, OpenError, QueueError, ReceiveError, Refusal, SendError, SettleError};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use fuzz::{fuzz_queue, fuzz_texts};
pub use group::{DEFAULT_GROUP, Group, Start};
pub use headers::{
    HeaderError, Headers, MAX_HEADER_BYTES, MAX_HEADERS, ParseTraceParentError, Sampled, TRACE_PARENT, TraceParent,
};
pub use log::{Damage, DamageReason};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use log::{fuzz_log, fuzz_records};
pub use message::{Due, Life, MAX_KEY_BYTES, MAX_PRIORITY, Message, MessageError, MessageId};
#[cfg(feature = "nats")]
pub use nats::{Nats, NatsConfig, NatsError};
pub use producer::Producer;
pub use queue::{Queue, Verified};
pub use receipt::{ParseReceiptError, Receipt};
pub use stats::{GroupStats, Stats};
pub use storage::{Directory, File, Memory, Storage, StorageLock};
#[cfg(any(test, fuzzing, feature = "testing"))]
pub use storage::{Fault, FaultyDisk};
pub use ticket::Ticket;
