//! The end of what a replica holds: a primary hands its log out by pages, so that one which is killed leaves its replicas
//! with the beginning of a record whose rest is nowhere.
//!
//! The next primary writes on where that record begins. A replica that has the beginning on the last page of a segment, and is
//! to go on in the new timeline, asks for the next segment alone: of the one that it has, it never gets what the new timeline
//! has there, and ends its server when it finds out. So that segment is emptied first, and is received anew.

use super::PgError;
use super::control::Control;
use super::position::Layout;
use super::probe::Place;
use crate::{History, Lsn, Switch};

/// A page and a place in it that begins a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begin {
    page: u64,
    record: u64,
}

impl Begin {
    /// Of the record behind the last one.
    fn after(end: Lsn, layout: Layout) -> Self {
        let page = end.0 - end.0 % layout.page;
        let record = if end.0 == page { end.0 + layout.header(page) } else { end.0 };
        Self { page, record }
    }

    /// Whether the record goes on beyond what was received, by the bytes of its page; not, if they are no such page.
    fn is_cut_off(self, page: &[u8], received: Lsn, layout: Layout) -> bool {
        const BYTES_OF_LENGTH: u64 = 4;
        if received.0 < self.record + BYTES_OF_LENGTH {
            return true;
        }
        // A page names its own place: in this order of bytes, or it is another one's.
        let own_place = page.get(8..16).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let at = usize::try_from(self.record - self.page).unwrap_or(usize::MAX);
        let length = page.get(at..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes));
        match length {
            Some(length) if own_place == Some(self.page) => layout.end_of(self.record, length.into()) > received.0,
            _ => false,
        }
    }
}

impl Layout {
    fn header(self, page: u64) -> u64 {
        if page % self.segment == 0 { Self::LONG_HEADER } else { Self::HEADER }
    }

    /// Where a record ends that is so long, without the headers of the pages that it goes over.
    fn end_of(self, begin: u64, length: u64) -> u64 {
        let (mut at, mut left) = (begin, length);
        loop {
            let room = self.page - at % self.page;
            if left <= room {
                return at + left;
            }
            left -= room;
            at += room;
            at += self.header(at);
        }
    }
}

/// What a replica holds beyond what it has replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Whole records, or nothing.
    Whole,
    /// The beginning of a record.
    Torn,
    /// Nothing any more: its last segment was emptied.
    Emptied,
}

impl Control {
    /// The end of its last whole record, of a node that receives nothing.
    pub(super) async fn end(&mut self, place: Place) -> Result<Lsn, PgError> {
        let tail = self.tail(place).await?;
        Ok(if tail == Tail::Whole { place.received.unwrap_or_default().max(place.lsn) } else { place.lsn })
    }

    pub(super) async fn tail(&mut self, place: Place) -> Result<Tail, PgError> {
        let layout = self.probe.layout;
        let Some(received) = place.received.filter(|received| *received > place.lsn) else { return Ok(Tail::Whole) };
        let begin = Begin::after(place.lsn, layout);
        let row = self.first(&page_question(begin.page, layout)).await?;
        Ok(match row.try_get::<_, Option<&[u8]>>(0)? {
            Some([]) => Tail::Emptied,
            Some(page) if begin.is_cut_off(page, received, layout) => Tail::Torn,
            _ => Tail::Whole,
        })
    }

    /// Before a replica that receives nothing goes on in a log that left its own within a record.
    pub(super) async fn prepare_to_part(&mut self, history: &History) -> Result<(), PgError> {
        let place = self.place().await?;
        let left_at = Switch { epoch: place.epoch, at: place.lsn };
        if !history.switches().contains(&left_at) || self.tail(place).await? != Tail::Torn {
            return Ok(());
        }
        let layout = self.probe.layout;
        let page = Begin::after(place.lsn, layout).page;
        if place.received.is_none_or(|received| received.0 / layout.segment == page / layout.segment) {
            return Ok(());
        }
        let name = segment_name(page, layout);
        let directory: String = self.first("select current_setting('data_directory')").await?.try_get(0)?;
        let path = format!("{directory}/pg_wal/{:08X}{name}", place.epoch.0).replace('\'', "''");
        self.batch(&format!("copy (select 1 where false) to '{path}'")).await
    }
}

/// The name of a segment, without its timeline.
fn segment_name(place: u64, layout: Layout) -> String {
    let (segment, per_file) = (place / layout.segment, (1 << 32) / layout.segment);
    format!("{:08X}{:08X}", segment / per_file, segment % per_file)
}

/// For the bytes of a page, of the highest timeline that has its segment.
fn page_question(page: u64, layout: Layout) -> String {
    let (name, offset, length) = (segment_name(page, layout), page % layout.segment, layout.page);
    format!(
        "select pg_read_binary_file('pg_wal/' || max(name), {offset}, {length}, true)
         from pg_ls_waldir() where substr(name, 9) = '{name}'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { segment: 1 << 20, page: 8192 };
    const SEGMENT: u64 = 0x30_0000;

    fn page(at: u64, record: u64, length: u32) -> Vec<u8> {
        let mut page = vec![0xa5; 8192];
        page[8..16].copy_from_slice(&at.to_le_bytes());
        let offset = (record - at) as usize;
        page[offset..offset + 4].copy_from_slice(&length.to_le_bytes());
        page
    }

    #[test]
    fn a_record_begins_behind_the_header_of_its_page() {
        let begins = |end| Begin::after(Lsn(end), LAYOUT);
        assert_eq!(begins(SEGMENT), Begin { page: SEGMENT, record: SEGMENT + 40 });
        assert_eq!(begins(SEGMENT + 8192), Begin { page: SEGMENT + 8192, record: SEGMENT + 8192 + 24 });
        assert_eq!(begins(SEGMENT + 8600), Begin { page: SEGMENT + 8192, record: SEGMENT + 8600 });
    }

    #[test]
    fn a_record_is_cut_off_where_its_last_byte_is_missing() {
        let end = SEGMENT + 2 * 8192 - 16;
        let begin = Begin::after(Lsn(end), LAYOUT);
        // 16 bytes here, a page of 8168, and 10 behind the next header.
        let page = page(begin.page, end, 16 + 8168 + 10);
        let last = SEGMENT + 3 * 8192 + 24 + 10;
        for (received, is_cut_off) in [(end + 3, true), (SEGMENT + 2 * 8192, true), (last - 1, true), (last, false)] {
            assert_eq!(begin.is_cut_off(&page, Lsn(received), LAYOUT), is_cut_off, "{received:x}");
        }
        // One that goes into the next segment meets a longer header there.
        assert_eq!(LAYOUT.end_of(SEGMENT - 8, 9), SEGMENT + 40 + 1);
    }

    #[test]
    fn bytes_of_another_page_say_nothing() {
        let begin = Begin::after(Lsn(SEGMENT + 8600), LAYOUT);
        let mut other = page(begin.page, begin.record, u32::MAX);
        assert!(begin.is_cut_off(&other, Lsn(SEGMENT + 9000), LAYOUT));
        other[8..16].copy_from_slice(&begin.page.to_be_bytes());
        assert!(!begin.is_cut_off(&other, Lsn(SEGMENT + 9000), LAYOUT));
        assert!(!begin.is_cut_off(&[], Lsn(SEGMENT + 9000), LAYOUT));
    }

    #[test]
    fn a_page_is_asked_for_by_its_segment() {
        let question = page_question(0x1_2345_6000, LAYOUT);
        assert!(question.contains("'0000000100000234'") && question.contains("352256, 8192"), "{question}");
    }
}
