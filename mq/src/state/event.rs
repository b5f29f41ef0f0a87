//! What must survive a restart, as events for the log.
//!
//! ```text
//! kind u8 | group LEB128 | the rest, numbers as LEB128, texts with their length
//! ```
//!
//! An event says what is so afterwards, not what was done: applied twice, it changes nothing the second time.

use bytes::{BufMut, Bytes};

use super::GroupId;
use crate::codec::{DecodeError, put_bytes, put_varint, read_text, read_u8, read_u32, read_varint};
use crate::dead_letter::DeadReason;

/// A change of a [`State`](super::State).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A group begins at this message.
    GroupAdded { group: GroupId, name: String, floor: u64 },
    /// A group is no more.
    GroupRemoved { group: GroupId },
    /// A group goes on at this message, and forgets its deliveries: their numbers were at most `delivery_base`.
    Sought { group: GroupId, to: u64, delivery_base: u32 },
    /// A group is done with these messages.
    Settled { group: GroupId, first: u64, count: u64 },
    /// These messages were delivered, each for so many times, of which so many count.
    Delivered { group: GroupId, first: u64, count: u64, delivery: u32, attempt: u16 },
    /// A message was given back, to be delivered no earlier than `due_ms` (0: at once).
    GivenBack { group: GroupId, sequence: u64, delivery: u32, attempt: u16, due_ms: u64 },
    /// A group gave up a message.
    Died { group: GroupId, sequence: u64, delivery: u32, attempt: u16, at_ms: u64, reason: DeadReason },
    /// A group takes up a dead message again.
    Requeued { group: GroupId, sequence: u64 },
    /// A group forgets a dead message.
    Discarded { group: GroupId, sequence: u64 },
    /// A group is paused, or goes on.
    Paused { group: GroupId, paused: bool },
    /// A deduplication id came with this message.
    Remembered { id: u128, sequence: u64, until_ms: u64 },
    /// What is settled below this message is no longer kept for replay.
    Trimmed { below: u64 },
}

const GROUP_ADDED: u8 = 1;
const GROUP_REMOVED: u8 = 2;
const SOUGHT: u8 = 3;
const SETTLED: u8 = 4;
const DELIVERED: u8 = 5;
const GIVEN_BACK: u8 = 6;
const DIED: u8 = 7;
const REQUEUED: u8 = 8;
const DISCARDED: u8 = 9;
const PAUSED: u8 = 10;
const REMEMBERED: u8 = 11;
const TRIMMED: u8 = 12;

impl Event {
    /// Appends the event.
    pub(crate) fn encode(&self, out: &mut (impl BufMut + ?Sized)) {
        match self {
            Self::GroupAdded { group, name, floor } => {
                put(out, GROUP_ADDED, *group, &[*floor]);
                put_bytes(out, name.as_bytes());
            }
            Self::GroupRemoved { group } => put(out, GROUP_REMOVED, *group, &[]),
            Self::Sought { group, to, delivery_base } => put(out, SOUGHT, *group, &[*to, (*delivery_base).into()]),
            Self::Settled { group, first, count } => put(out, SETTLED, *group, &[*first, *count]),
            Self::Delivered { group, first, count, delivery, attempt } => {
                put(out, DELIVERED, *group, &[*first, *count, (*delivery).into(), (*attempt).into()]);
            }
            Self::GivenBack { group, sequence, delivery, attempt, due_ms } => {
                put(out, GIVEN_BACK, *group, &[*sequence, (*delivery).into(), (*attempt).into(), *due_ms]);
            }
            Self::Died { group, sequence, delivery, attempt, at_ms, reason } => {
                put(out, DIED, *group, &[*sequence, (*delivery).into(), (*attempt).into(), *at_ms]);
                put_reason(out, reason);
            }
            Self::Requeued { group, sequence } => put(out, REQUEUED, *group, &[*sequence]),
            Self::Discarded { group, sequence } => put(out, DISCARDED, *group, &[*sequence]),
            Self::Paused { group, paused } => put(out, PAUSED, *group, &[u64::from(*paused)]),
            Self::Remembered { id, sequence, until_ms } => {
                out.put_u8(REMEMBERED);
                out.put_u128_le(*id);
                put_varint(out, *sequence);
                put_varint(out, *until_ms);
            }
            Self::Trimmed { below } => {
                out.put_u8(TRIMMED);
                put_varint(out, *below);
            }
        }
    }

    /// Takes the next event from the front of the bytes.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn decode(from: &mut Bytes) -> Result<Self, DecodeError> {
        let kind = read_u8(from)?;
        match kind {
            REMEMBERED => {
                let id = read_u128(from)?;
                return Ok(Self::Remembered { id, sequence: read_varint(from)?, until_ms: read_varint(from)? });
            }
            TRIMMED => return Ok(Self::Trimmed { below: read_varint(from)? }),
            _ => {}
        }
        let group = GroupId(read_u32(from)?);
        Ok(match kind {
            GROUP_ADDED => {
                let floor = read_varint(from)?;
                Self::GroupAdded { group, name: read_string(from)?, floor }
            }
            GROUP_REMOVED => Self::GroupRemoved { group },
            SOUGHT => Self::Sought { group, to: read_varint(from)?, delivery_base: read_u32(from)? },
            SETTLED => Self::Settled { group, first: read_varint(from)?, count: read_varint(from)? },
            DELIVERED => {
                let (first, count) = (read_varint(from)?, read_varint(from)?);
                Self::Delivered { group, first, count, delivery: read_u32(from)?, attempt: read_u16(from)? }
            }
            GIVEN_BACK => {
                let (sequence, delivery, attempt) = (read_varint(from)?, read_u32(from)?, read_u16(from)?);
                Self::GivenBack { group, sequence, delivery, attempt, due_ms: read_varint(from)? }
            }
            DIED => {
                let (sequence, delivery, attempt) = (read_varint(from)?, read_u32(from)?, read_u16(from)?);
                let at_ms = read_varint(from)?;
                Self::Died { group, sequence, delivery, attempt, at_ms, reason: read_reason(from)? }
            }
            REQUEUED => Self::Requeued { group, sequence: read_varint(from)? },
            DISCARDED => Self::Discarded { group, sequence: read_varint(from)? },
            PAUSED => Self::Paused { group, paused: read_flag(from)? },
            _ => return Err(DecodeError::Unknown),
        })
    }
}

fn put(out: &mut (impl BufMut + ?Sized), kind: u8, group: GroupId, numbers: &[u64]) {
    out.put_u8(kind);
    put_varint(out, group.0.into());
    for &number in numbers {
        put_varint(out, number);
    }
}

pub(super) fn put_reason(out: &mut (impl BufMut + ?Sized), reason: &DeadReason) {
    match reason {
        DeadReason::Attempts => out.put_u8(0),
        DeadReason::Expired => out.put_u8(1),
        DeadReason::Damaged => out.put_u8(2),
        DeadReason::Rejected(text) => {
            out.put_u8(3);
            put_bytes(out, text.as_bytes());
        }
    }
}

pub(super) fn read_reason(from: &mut Bytes) -> Result<DeadReason, DecodeError> {
    Ok(match read_u8(from)? {
        0 => DeadReason::Attempts,
        1 => DeadReason::Expired,
        2 => DeadReason::Damaged,
        3 => DeadReason::Rejected(read_string(from)?),
        _ => return Err(DecodeError::Unknown),
    })
}

pub(super) fn read_string(from: &mut Bytes) -> Result<String, DecodeError> {
    String::from_utf8(read_text(from)?.into()).map_err(|_| DecodeError::Text)
}

pub(super) fn read_u16(from: &mut Bytes) -> Result<u16, DecodeError> {
    u16::try_from(read_varint(from)?).map_err(|_| DecodeError::Range)
}

pub(super) fn read_flag(from: &mut Bytes) -> Result<bool, DecodeError> {
    match read_u8(from)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Range),
    }
}

pub(super) fn read_u128(from: &mut Bytes) -> Result<u128, DecodeError> {
    if from.len() < size_of::<u128>() {
        return Err(DecodeError::Short);
    }
    Ok(bytes::Buf::get_u128_le(from))
}
