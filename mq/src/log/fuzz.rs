//! What the fuzz targets call, and a test with random input: any bytes where a log should be, no panic, and what is
//! found is sound.

#![cfg_attr(not(fuzzing), allow(unreachable_pub, reason = "the fuzz targets alone see it"))]

use std::io::IoSlice;

use super::record::{FLAG_INTERNAL, GroupHeader, HEADER_BYTES, each_frame, put_frame};
use super::segment::{SECTOR, Segment, file_name};
use super::*;
use crate::storage::{Memory, Storage};

const SEGMENT_BYTES: u32 = 16 << 10;

/// Any bytes as a header and as records: what is decoded encodes to the same bytes.
pub fn fuzz_records(bytes: &[u8]) {
    if let Some(header) = GroupHeader::decode(bytes) {
        assert_eq!(header.encode(), bytes[..HEADER_BYTES as usize]);
    }
    let mut end = 0;
    let walked = each_frame(bytes, |at, found| {
        assert_eq!(at, end, "records follow one another");
        let mut encoded = bytes::BytesMut::new();
        put_frame(found.kind, found.body.len() as u32, &mut encoded);
        // A length may be written longer than it need be.
        assert!(found.body.start - at >= encoded.len() && encoded[0] == bytes[at]);
        end = found.body.end;
        Ok::<(), ()>(())
    });
    match walked {
        Ok(_) => assert_eq!(end, bytes.len()),
        Err(at) => assert_eq!(at, end),
    }
}

/// Any bytes as the groups of a segment, or, if the first one is odd, as what a group is made of, with right checksums:
/// the log opens or is refused, and what it hands over can be read. Whether it opened.
pub fn fuzz_log(bytes: &[u8]) -> bool {
    let Some((first, bytes)) = bytes.split_first() else { return false };
    let groups = if first % 2 == 1 { sound_groups(bytes) } else { bytes.to_vec() };
    let storage = Memory::new();
    let made = write_segment(&storage, &groups);
    assert!(made.is_ok(), "memory takes everything");
    let config = LogConfig { segment_bytes: SEGMENT_BYTES, ..LogConfig::default() };
    let verified = verify(&storage, &mut |_, _, _, _| true);
    let mut found = Vec::new();
    let opened = Log::open(Arc::new(storage), config, Box::new(|_| {}), &mut |address, _, kind, body| {
        found.push((address, kind, body.to_vec()));
        true
    });
    assert_eq!(verified.is_ok(), opened.is_ok());
    let Ok((log, recovery)) = opened else { return false };
    assert_eq!(recovery.records, found.len() as u64);
    for (address, kind, body) in found {
        let record = log.read(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        assert_eq!((record.kind, &record.body[..]), (kind, &body[..]));
    }
    true
}

fn write_segment(storage: &Memory, groups: &[u8]) -> std::io::Result<()> {
    let file = storage.create(&file_name(1))?;
    file.allocate(u64::from(SEGMENT_BYTES))?;
    let segment = Segment::make(1, SEGMENT_BYTES, file)?;
    let room = (segment.data_end() - SECTOR) as usize;
    segment.file.write_at(u64::from(SECTOR), &[IoSlice::new(&groups[..groups.len().min(room)])]).map(drop)
}

/// Groups of what the bytes say: length, session, distance to the durable LSN, records.
fn sound_groups(mut bytes: &[u8]) -> Vec<u8> {
    let mut groups = Vec::new();
    while let [len, session, back, rest @ ..] = bytes {
        let len = usize::from(*len).min(rest.len());
        let (records, rest) = rest.split_at(len);
        let header = GroupHeader {
            checksum: crc32fast::hash(records),
            len: len as u32,
            segment: 1,
            lsn: Lsn(u64::from(SECTOR) + groups.len() as u64),
            durable_back: u32::from(*back) * 16,
            session: u32::from(*session),
            flags: FLAG_INTERNAL,
        };
        let next = groups.len() + header.span() as usize;
        groups.extend_from_slice(&header.encode());
        groups.extend_from_slice(records);
        groups.resize(next, 0);
        bytes = rest;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiplies and shifts: enough to choose bytes.
    struct Bytes(u64);

    impl Bytes {
        fn next(&mut self) -> u8 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 56) as u8
        }
    }

    #[test]
    fn any_bytes_are_a_log_or_none() {
        let mut sound = 0;
        for seed in 0..2_000 {
            let mut bytes = Bytes(seed);
            let len = usize::from(bytes.next()) * 2;
            // Mostly small numbers, as lengths and kinds are; now and then the kinds of the log's own records.
            let mut input: Vec<u8> = (0..len)
                .map(|_| match bytes.next() {
                    0..=20 => 0xf0 + bytes.next() % 2,
                    21..=200 => bytes.next() % 24,
                    _ => bytes.next(),
                })
                .collect();
            input.insert(0, seed as u8);
            fuzz_log(&input);
            fuzz_records(&input);
            sound += usize::from(!sound_groups(&input[1..]).is_empty());
        }
        assert!(sound > 1_000);
    }
}
