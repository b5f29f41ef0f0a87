//! How many messages of each log segment are still needed.

use std::collections::BTreeMap;

/// What is needed of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    /// Messages whose record lies there.
    pub(crate) messages: u64,
    /// The sum of their sizes.
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    number: u32,
    live: Live,
}

/// Live counts. A message names its segment by a place in a table, because that takes fewer bits than its number
/// and the count is found without a search.
///
/// # Invariants
/// - **S1** Every segment with live messages is in `places`; no place is given to two segments.
#[derive(Clone, Debug, Default)]
pub(super) struct Segments {
    table: Vec<Segment>,
    places: BTreeMap<u32, u32>,
    free: Vec<u32>,
    /// The segment that was added to last, which is almost always the one added to next.
    last: Option<u32>,
    /// No place is given to another segment, because messages that were counted out may be counted in again.
    holding: bool,
}

impl Segments {
    /// Counts a message in; returns the place of its segment.
    #[inline]
    pub(super) fn add(&mut self, number: u32, size: u32) -> u32 {
        let place = self.place(number);
        self.add_run(place, 1, u64::from(size));
        place
    }

    /// The place of a segment that is about to be added to.
    #[inline]
    pub(super) fn place(&mut self, number: u32) -> u32 {
        match self.last {
            Some(place) if self.table[place as usize].number == number => place,
            _ => self.place_for(number),
        }
    }

    /// Counts so many messages of so many bytes in.
    #[inline]
    pub(super) fn add_run(&mut self, place: u32, messages: u64, bytes: u64) {
        let live = &mut self.table[place as usize].live;
        live.messages += messages;
        live.bytes += bytes;
    }

    fn place_for(&mut self, number: u32) -> u32 {
        if let Some(last) = self.last.take() {
            self.give_back(last);
        }
        let segment = Segment { number, live: Live::default() };
        let place = *self.places.entry(number).or_insert_with(|| match self.free.pop() {
            Some(place) => {
                self.table[place as usize] = segment;
                place
            }
            None => {
                self.table.push(segment);
                (self.table.len() - 1) as u32
            }
        });
        self.last = Some(place);
        place
    }

    /// Counts a message out.
    #[inline]
    pub(super) fn remove(&mut self, place: u32, size: u32) {
        self.remove_run(place, 1, u64::from(size));
    }

    /// Counts so many messages of so many bytes out.
    #[inline]
    pub(super) fn remove_run(&mut self, place: u32, messages: u64, bytes: u64) {
        let live = &mut self.table[place as usize].live;
        live.messages -= messages;
        live.bytes -= bytes;
        if live.messages == 0 && self.last != Some(place) {
            self.give_back(place);
        }
    }

    fn give_back(&mut self, place: u32) {
        if self.table[place as usize].live.messages == 0 && !self.holding {
            self.places.remove(&self.table[place as usize].number);
            self.free.push(place);
        }
    }

    /// Keeps the places of segments without live messages, or gives them all back.
    pub(super) fn hold(&mut self, holding: bool) {
        self.holding = holding;
        self.last = None;
        for place in self.places.values().copied().collect::<Vec<_>>() {
            self.give_back(place);
        }
    }

    #[inline]
    pub(super) fn number(&self, place: u32) -> u32 {
        self.table[place as usize].number
    }

    pub(super) fn live(&self, number: u32) -> Live {
        self.places.get(&number).map_or_else(Live::default, |&place| self.table[place as usize].live)
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Live)> + '_ {
        self.places.iter().map(|(&number, &place)| (number, self.table[place as usize].live))
    }
}
