//! The messages of a queue without a log.
//!
//! They lie in chunks, in the order in which they came, and a chunk goes when nothing in it is needed: what segments are
//! to the log, with no bytes copied and nothing allocated for a single message.

use std::collections::VecDeque;

use crate::Message;
use crate::log::Address;

/// Messages of a chunk: few enough that one straggler holds on to little, many enough that a chunk costs nothing.
const CHUNK: usize = 1024;

/// # Invariants
/// - **I1** Chunk `i` has the number `first + i`, modulo 2^32; the last chunk is there, and all others are full or gone.
#[derive(Debug)]
pub(crate) struct Bodies {
    chunks: VecDeque<Vec<Message>>,
    first: u32,
    /// An emptied chunk, to be filled again.
    spare: Vec<Message>,
}

impl Bodies {
    pub(crate) fn new() -> Self {
        Self { chunks: VecDeque::from([Vec::with_capacity(CHUNK)]), first: 0, spare: Vec::new() }
    }

    /// Where the next message will lie.
    #[inline]
    pub(crate) fn next(&self) -> Address {
        let last = self.chunks.len() as u32 - 1;
        match self.chunks.back() {
            Some(chunk) if chunk.len() < CHUNK => {
                Address { segment: self.first.wrapping_add(last), offset: chunk.len() as u32 }
            }
            _ => Address { segment: self.first.wrapping_add(last).wrapping_add(1), offset: 0 },
        }
    }

    /// Puts a message at [`Bodies::next`].
    #[inline]
    pub(crate) fn push(&mut self, message: Message) {
        self.chunk_with_room().push(message);
    }

    /// The chunk that grows, or a new one if that is full.
    #[inline]
    fn chunk_with_room(&mut self) -> &mut Vec<Message> {
        let last = self.chunks.len() - 1;
        if self.chunks[last].len() < CHUNK {
            return &mut self.chunks[last];
        }
        let mut chunk = std::mem::take(&mut self.spare);
        chunk.reserve_exact(CHUNK);
        self.chunks.push_back(chunk);
        &mut self.chunks[last + 1]
    }

    /// Moves messages in, as many at a time as a chunk has room for, and says where they will lie and which they are.
    #[inline]
    pub(crate) fn push_run(&mut self, mut messages: &mut [Message], mut note: impl FnMut(Address, &[Message])) {
        while !messages.is_empty() {
            let first = self.next();
            let (fit, rest) = messages.split_at_mut(messages.len().min(CHUNK - first.offset as usize));
            note(first, fit);
            let chunk = self.chunk_with_room();
            fit.iter_mut().for_each(|message| chunk.push(std::mem::take(message)));
            messages = rest;
        }
    }

    #[inline]
    pub(crate) fn get(&self, at: Address) -> Option<&Message> {
        self.chunks.get(at.segment.wrapping_sub(self.first) as usize)?.get(at.offset as usize)
    }

    /// Whether the chunk is the one that grows.
    pub(crate) fn is_open(&self, segment: u32) -> bool {
        segment.wrapping_sub(self.first) as usize + 1 >= self.chunks.len()
    }

    /// Drops the messages of a chunk that does not grow any more.
    pub(crate) fn release(&mut self, segment: u32) {
        if self.is_open(segment) {
            return;
        }
        let Some(chunk) = self.chunks.get_mut(segment.wrapping_sub(self.first) as usize) else { return };
        let mut chunk = std::mem::take(chunk);
        chunk.clear();
        self.spare = chunk;
        while self.chunks.len() > 1 && self.chunks.front().is_some_and(|chunk| chunk.is_empty()) {
            self.chunks.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// The first chunk, unless it is the one that grows.
    pub(crate) fn oldest(&self) -> Option<u32> {
        (self.chunks.len() > 1).then_some(self.first)
    }

    /// The numbers of the chunks that have messages and do not grow any more.
    pub(crate) fn closed(&self) -> impl Iterator<Item = u32> {
        let closed = self.chunks.iter().take(self.chunks.len() - 1).enumerate();
        closed.filter(|(_, chunk)| !chunk.is_empty()).map(|(index, _)| self.first.wrapping_add(index as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_and_go_in_any_order_and_numbers_wrap() {
        let mut bodies = Bodies { first: u32::MAX, ..Bodies::new() };
        let mut places = Vec::new();
        for number in 0..CHUNK * 3 {
            places.push(bodies.next());
            bodies.push(Message::new(number.to_string()));
        }
        let body = |bodies: &Bodies, at: usize| bodies.get(places[at]).map(|message| message.body().clone());
        assert_eq!(places[CHUNK], Address { segment: 0, offset: 0 });
        assert_eq!(body(&bodies, CHUNK + 5), Some((CHUNK + 5).to_string().into()));
        bodies.release(0);
        assert_eq!((body(&bodies, CHUNK), bodies.closed().collect::<Vec<_>>()), (None, vec![u32::MAX]));
        bodies.release(u32::MAX);
        assert_eq!((bodies.first, bodies.chunks.len()), (1, 1));
        bodies.release(1);
        assert_eq!(body(&bodies, CHUNK * 2), Some((CHUNK * 2).to_string().into()), "the last chunk stays");
        assert_eq!(bodies.next(), Address { segment: 2, offset: 0 });
    }
}
