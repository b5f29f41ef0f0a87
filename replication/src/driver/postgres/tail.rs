//! The end of what a replica holds: a primary hands its log out by pages, so that one which is killed leaves its replicas
//! with the beginning of a record whose rest is nowhere.
//!
//! The next primary writes on where that record begins. A replica that is to follow it still waits for the page on which the
//! record goes on, and asks for the segment of that page: it gets nothing until the new primary has written so far, and then,
//! if that is the next segment, ends its server, since it never got what the new timeline has in the one before. So the page
//! is made here first, as one that goes on with no record: the replica takes the record for given up, and asks for all from
//! its beginning. What it overwrites was never received, or is of a record that lives on nowhere.

use super::PgError;
use super::control::Control;
use super::position::Layout;
use super::probe::Place;
use crate::{Epoch, History, Lsn, Switch};

/// With which a record begins.
const BYTES_OF_LENGTH: u64 = 4;

/// A page and a place in it that begins a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begin {
    page: u64,
    record: u64,
}

impl Begin {
    /// Of the record behind the last one.
    fn after(end: Lsn, layout: Layout) -> Self {
        let page = layout.page_of(end.0);
        let record = if end.0 == page { end.0 + layout.header(page) } else { end.0 };
        Self { page, record }
    }

    /// Where the record ends, by the bytes of its page; `None` if they are no such page, or no record.
    fn end(self, page: &[u8], layout: Layout) -> Option<u64> {
        const SHORTEST: u32 = 24;
        let at = usize::try_from(self.record - self.page).ok()?;
        let length = u32::from_le_bytes(*page.get(at..)?.first_chunk()?);
        (names(page, self.page) && length >= SHORTEST).then(|| layout.end_of(self.record, length.into()))
    }
}

/// Whether the bytes begin that page. In this order of bytes, or it is another one's.
fn names(bytes: &[u8], page: u64) -> bool {
    bytes.get(8..).and_then(|rest| rest.first_chunk()).is_some_and(|place| u64::from_le_bytes(*place) == page)
}

impl Layout {
    fn page_of(self, place: u64) -> u64 {
        place - place % self.page
    }

    fn segment_of(self, place: u64) -> u64 {
        place - place % self.segment
    }

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

impl Control {
    /// The end of its last whole record, of a node that receives nothing.
    pub(super) async fn end(&mut self, place: Place) -> Result<Lsn, PgError> {
        let received = place.received.unwrap_or_default().max(place.lsn);
        Ok(if self.is_torn(place).await? { place.lsn } else { received })
    }

    /// Whether what it has received beyond what it has replayed is the beginning of a record.
    pub(super) async fn is_torn(&mut self, place: Place) -> Result<bool, PgError> {
        let has_more = place.received.is_some_and(|received| received > place.lsn);
        Ok(has_more && self.missing_page(place.lsn, place.received).await?.is_some())
    }

    /// The first page that it does not have of the record behind this end, if it has the beginning of one.
    async fn missing_page(&mut self, end: Lsn, received: Option<Lsn>) -> Result<Option<u64>, PgError> {
        let layout = self.probe.layout;
        // Where a segment begins, it may have been asked for since a restart, and no more.
        if received == Some(end) && end.0 % layout.segment != 0 {
            return Ok(None);
        }
        let begin = Begin::after(end, layout);
        let end_of_record = begin.end(&self.bytes(begin.page, layout.page).await?, layout);
        let Some(received) = received.filter(|received| *received > end) else {
            // It was restarted since, and does not know how far it came.
            return match end_of_record {
                Some(end) => self.first_missing(begin.page, end).await,
                None => Ok(None),
            };
        };
        let is_cut_off =
            received.0 < begin.record + BYTES_OF_LENGTH || end_of_record.is_some_and(|end| end > received.0);
        Ok(is_cut_off.then(|| layout.page_of(received.0 - 1) + layout.page))
    }

    /// The first page behind this one and before the end that it does not have: they came one after the other.
    async fn first_missing(&mut self, page: u64, end: u64) -> Result<Option<u64>, PgError> {
        const BYTES_OF_PLACE: u64 = 16;
        let size = self.probe.layout.page;
        let count = (end - 1 - page) / size;
        let (mut low, mut high) = (1, count + 1);
        while low < high {
            let middle = low.midpoint(high);
            let at = page + middle * size;
            if names(&self.bytes(at, BYTES_OF_PLACE).await?, at) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok((low <= count).then(|| page + low * size))
    }

    /// The bytes of its log there, of the highest timeline that has that segment; fewer or none, if it does not have them.
    async fn bytes(&mut self, place: u64, length: u64) -> Result<Vec<u8>, PgError> {
        let (name, offset) = (segment_name(place, self.probe.layout), place % self.probe.layout.segment);
        let sql = format!(
            "select pg_read_binary_file('pg_wal/' || max(name), {offset}, {length}, true)
             from pg_ls_waldir() where substr(name, 9) = '{name}'"
        );
        Ok(self.first(&sql).await?.try_get::<_, Option<Vec<u8>>>(0)?.unwrap_or_default())
    }

    /// Before a replica that receives nothing goes on in a log that left its own within a record; it may not have replayed
    /// so far yet.
    pub(super) async fn prepare_to_part(&mut self, history: &History) -> Result<(), PgError> {
        let place = self.place().await?;
        let is_ahead = |switch: &&Switch| switch.epoch == place.epoch && switch.at >= place.lsn;
        let Some(switch) = history.switches().iter().find(is_ahead) else { return Ok(()) };
        let Some(page) = self.missing_page(switch.at, place.received).await? else { return Ok(()) };
        let layout = self.probe.layout;
        let segment = layout.segment_of(Begin::after(switch.at, layout).page);
        let like = self.bytes(segment, Layout::LONG_HEADER).await?;
        let header = header_like(&like, segment, place.epoch, page, layout).ok_or(PgError::Malformed)?;
        self.batch(&write_page(&header, place.epoch, page, layout)).await
    }
}

/// The header of a page that goes on with no record, given that of the segment's first one (`XLogPageHeaderData`).
fn header_like(like: &[u8], segment: u64, epoch: Epoch, page: u64, layout: Layout) -> Option<Vec<u8>> {
    const IS_LONG: u16 = 2;
    const REST_OF_RECORD: [u8; 8] = [0; 8];
    let (magic, of_cluster) = (like.get(..2)?, like.get(24..40).filter(|_| names(like, segment))?);
    let is_first = page % layout.segment == 0;
    let (flags, timeline) = (if is_first { IS_LONG } else { 0 }, u32::try_from(epoch.0).ok()?);
    let short = [magic, &flags.to_le_bytes(), &timeline.to_le_bytes(), &page.to_le_bytes(), &REST_OF_RECORD].concat();
    Some(if is_first { [&short, of_cluster].concat() } else { short })
}

/// Has the server write that page. No call of it writes bytes: it takes a program, which puts together what it is sent. A
/// segment that is new is made under a name that the server removes when it starts.
fn write_page(header: &[u8], epoch: Epoch, page: u64, layout: Layout) -> String {
    let bytes: String = header.iter().map(|byte| format!("\\\\{byte:03o}")).collect();
    let (file, new) = (format!("pg_wal/{:08X}{}", epoch.0, segment_name(page, layout)), "pg_wal/xlogtemp.tenfold");
    let (size, at, count) = (layout.page, page % layout.segment / layout.page, layout.segment / layout.page);
    format!(
        "copy (select E'{bytes}') to program '
            test -e {file} || {{ dd if=/dev/zero of={new} bs={size} count={count} && mv {new} {file}; }} &&
            printf \"$(cat)\" | dd of={file} bs={size} seek={at} conv=notrunc,sync' (format csv)"
    )
}

/// The name of a segment, without its timeline.
fn segment_name(place: u64, layout: Layout) -> String {
    let (segment, per_file) = (place / layout.segment, (1 << 32) / layout.segment);
    format!("{:08X}{:08X}", segment / per_file, segment % per_file)
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
    fn a_record_ends_behind_the_headers_of_its_pages() {
        let record = SEGMENT + 2 * 8192 - 16;
        let begin = Begin::after(Lsn(record), LAYOUT);
        // 16 bytes here, a page of 8168, and 10 behind the next header.
        let page = page(begin.page, record, 16 + 8168 + 10);
        assert_eq!(begin.end(&page, LAYOUT), Some(SEGMENT + 3 * 8192 + 24 + 10));
        // One that goes into the next segment meets a longer header there.
        assert_eq!(LAYOUT.end_of(SEGMENT - 8, 9), SEGMENT + 40 + 1);
    }

    #[test]
    fn bytes_of_another_page_and_of_no_record_say_nothing() {
        let begin = Begin::after(Lsn(SEGMENT + 8600), LAYOUT);
        let mut other = page(begin.page, begin.record, u32::MAX);
        assert!(begin.end(&other, LAYOUT).is_some());
        other[8..16].copy_from_slice(&begin.page.to_be_bytes());
        assert_eq!(begin.end(&other, LAYOUT), None);
        assert_eq!(begin.end(&[], LAYOUT), None);
        assert_eq!(begin.end(&page(begin.page, begin.record, 23), LAYOUT), None);
    }

    #[test]
    fn a_page_that_goes_on_with_no_record_is_of_its_place_and_cluster() {
        let mut like = page(SEGMENT, SEGMENT + 40, 30);
        like.truncate(40);
        like[..4].copy_from_slice(&[0x10, 0xd1, 7, 0]);
        like[24..40].copy_from_slice(b"the cluster's id");
        let header = |page| header_like(&like, SEGMENT, Epoch(5), page, LAYOUT).unwrap();
        let first = header(SEGMENT + LAYOUT.segment);
        assert_eq!(first[..16], [0x10, 0xd1, 2, 0, 5, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0]);
        assert_eq!(first[16..], *b"\0\0\0\0\0\0\0\0the cluster's id");
        let other = header(SEGMENT + 8192);
        assert_eq!(other[..16], [0x10, 0xd1, 0, 0, 5, 0, 0, 0, 0, 0x20, 0x30, 0, 0, 0, 0, 0]);
        assert_eq!(other[16..], [0; 8]);
        assert_eq!(header_like(&like, 0, Epoch(5), SEGMENT, LAYOUT), None);
    }

    #[test]
    fn a_page_is_written_into_its_segment() {
        let sql = write_page(&[0, 7, 255], Epoch(3), 0x1_2345_6000, LAYOUT);
        assert!(sql.contains(r"E'\\000\\007\\377'"), "{sql}");
        assert!(sql.contains("of=pg_wal/000000030000000100000234 bs=8192 seek=43 conv=notrunc,sync"), "{sql}");
    }
}
