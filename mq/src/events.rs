//! What happened to messages after they were sent and is not in the log yet.
//!
//! An ack is not worth a record: events are gathered and go into the log with the next messages, or when somebody asks
//! for it. They are cut into chunks, each of which fits into the smallest segment.

use std::collections::VecDeque;

use crate::enqueue::EVENTS;
use crate::log::{AppendError, BatchWriter, Log, Lsn, Room};
use crate::state::State;

/// A chunk takes no more events once it is this long; no event is longer than a name of a group and a reason.
const CHUNK_BYTES: usize = 8 << 10;
/// Chunks that go along with messages; if there are more, they go first and alone.
const MAX_ALONG: usize = 2;

/// Events, encoded, in order.
#[derive(Debug, Default)]
pub(crate) struct EventBuffer {
    chunks: VecDeque<Vec<u8>>,
    /// Used again.
    spare: Vec<u8>,
}

impl EventBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Whether it should be appended before it grows.
    pub(crate) fn is_long(&self) -> bool {
        self.chunks.len() > MAX_ALONG
    }

    /// Takes what happened out of the state.
    #[inline]
    pub(crate) fn gather(&mut self, state: &mut State) {
        if state.has_events() {
            self.gather_some(state);
        }
    }

    fn gather_some(&mut self, state: &mut State) {
        for event in state.drain_events() {
            if self.chunks.back().is_none_or(|chunk| chunk.len() >= CHUNK_BYTES) {
                self.chunks.push_back(std::mem::take(&mut self.spare));
            }
            if let Some(chunk) = self.chunks.back_mut() {
                event.encode(chunk);
            }
        }
    }

    /// Adds all of them to a batch.
    #[inline]
    pub(crate) fn put(&self, batch: &mut BatchWriter<'_>) {
        for chunk in &self.chunks {
            batch.put(EVENTS, &[chunk]);
        }
    }

    /// They are in the log.
    #[inline]
    pub(crate) fn clear(&mut self) {
        while let Some(chunk) = self.chunks.pop_front() {
            self.spare = chunk;
            self.spare.clear();
        }
    }

    /// Appends all of them, chunk by chunk; those that are in the log are gone from here even after an error. Returns up
    /// to where the log must be confirmed for them to be safe, if there were any.
    pub(crate) fn append(&mut self, log: &Log, room: Room) -> Result<Option<Lsn>, AppendError> {
        let mut end = None;
        while let Some(chunk) = self.chunks.front() {
            let appended = log.append(room, &mut |batch| {
                batch.put(EVENTS, &[chunk]);
            })?;
            end = Some(appended.lsn);
            self.chunks.pop_front();
        }
        Ok(end)
    }
}
