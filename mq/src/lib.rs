//! A durable in-memory message queue.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Until the queue uses them.
#![allow(dead_code, unused_imports)]

mod clock;
mod codec;
mod config;
mod dead_letter;
#[cfg(feature = "serde")]
mod duration;
mod error;
mod headers;
mod log;
mod message;
mod receipt;
mod record;
mod state;
mod storage;
mod sync;

pub use clock::{Clock, ManualClock, SystemClock};
pub use codec::DecodeError;
pub use config::{Backoff, Config, ConfigError, Durability, Retention};
pub use dead_letter::{DeadLetter, DeadReason};
pub use error::{Failure, GroupError, OpenError, Place, QueueError, ReceiveError, Refusal, SendError, SettleError};
pub use headers::{
    HeaderError, Headers, MAX_HEADER_BYTES, MAX_HEADERS, ParseTraceParentError, Sampled, TRACE_PARENT, TraceParent,
};
pub use log::{Damage, DamageReason};
pub use message::{Due, Life, MAX_KEY_BYTES, MAX_PRIORITY, Message, MessageError, MessageId};
pub use receipt::{ParseReceiptError, Receipt};
pub use storage::{Directory, File, Memory, Storage, StorageLock};
