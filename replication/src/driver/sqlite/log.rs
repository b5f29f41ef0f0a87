//! The log of one node: files of records, appended, synced, cut and forgotten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::SqliteError;
use super::record::{Flaw, HEADER_BYTES, Record, Tail};
use crate::Lsn;

/// What a reader takes from its file at a time.
const READ_AHEAD: usize = 1 << 16;

/// # Invariants
/// - I1: the files, in the order of their names, hold each place once and without a gap.
/// - I2: `offset` is the length of what the last file holds, up to `end`; all of it is synced.
///
/// Other processes may read at any time. Whoever appends or cuts holds the lock of the node's promise, and has looked
/// since then what others have appended ([`Log::refresh`]).
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    segment_bytes: u64,
    path: PathBuf,
    offset: u64,
    end: Tail,
}

impl Log {
    /// A log that begins after `start`, in place of what was there.
    pub(super) fn create(dir: &Path, start: Tail, segment_bytes: u64) -> Result<Self, SqliteError> {
        fs::create_dir_all(dir)?;
        for segment in segments(dir)? {
            fs::remove_file(segment)?;
        }
        let path = new_segment(dir, start)?;
        Ok(Self { dir: dir.into(), segment_bytes, path, offset: HEADER_BYTES as u64, end: start })
    }

    /// What is there. Its torn end is left to the next append: another process may be writing there.
    pub(super) fn open(dir: &Path, segment_bytes: u64) -> Result<Self, SqliteError> {
        let path = segments(dir)?.pop().ok_or(SqliteError::LogGone)?;
        let mut reader = SegmentReader::open(&path)?;
        while reader.next()?.is_some() {}
        let (end, offset) = (reader.tail, reader.offset);
        Ok(Self { dir: dir.into(), segment_bytes, path, offset, end })
    }

    pub(super) fn end(&self) -> Tail {
        self.end
    }

    /// Reads its end anew: another process may have put a record of the same length in the place of the last one.
    pub(super) fn reopen(&mut self) -> Result<(), SqliteError> {
        *self = Self::open(&self.dir, self.segment_bytes)?;
        Ok(())
    }

    /// Takes in what another process has appended.
    pub(super) fn refresh(&mut self) -> Result<(), SqliteError> {
        let is_last = segments(&self.dir)?.last() == Some(&self.path);
        if is_last && fs::metadata(&self.path)?.len() == self.offset {
            return Ok(());
        }
        if !is_last || !self.read_on() {
            *self = Self::open(&self.dir, self.segment_bytes)?;
        }
        Ok(())
    }

    /// Whether more is there that follows what is known, which is taken in. Otherwise it was cut, or is being written.
    fn read_on(&mut self) -> bool {
        let Ok(mut reader) = SegmentReader::at(&self.path, self.offset, self.end) else { return false };
        let is_sound = loop {
            match reader.next() {
                Ok(Some(_)) => {}
                end => break end.is_ok(),
            }
        };
        // One that follows says that this one stands there still.
        let is_further = is_sound && reader.tail != self.end;
        if is_further {
            (self.offset, self.end) = (reader.offset, reader.tail);
        }
        is_further
    }

    /// Appends records that follow its end, and syncs. Nothing is appended if it fails.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), SqliteError> {
        if records.first().is_some_and(|record| !record.follows(self.end)) {
            // Another process may have put a record of the same length in the place of the last one.
            *self = Self::open(&self.dir, self.segment_bytes)?;
        }
        let mut bytes = Vec::with_capacity(records.iter().map(Record::encoded_len).sum());
        let mut end = self.end;
        for record in records {
            if !record.follows(end) {
                return Err(SqliteError::Parted);
            }
            record.encode(&mut bytes);
            end = record.at;
        }
        if self.offset >= self.segment_bytes {
            self.path = new_segment(&self.dir, self.end)?;
            self.offset = HEADER_BYTES as u64;
        }
        // Opened anew: another process may have put another file in its place.
        let mut file = OpenOptions::new().write(true).open(&self.path)?;
        if let Err(error) = self.write(&mut file, &bytes) {
            file.set_len(self.offset)?;
            file.sync_all()?;
            return Err(error.into());
        }
        self.offset += bytes.len() as u64;
        self.end = end;
        Ok(())
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if file.metadata()?.len() > self.offset {
            file.set_len(self.offset)?;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        file.write_all(bytes)?;
        file.sync_data()
    }

    /// Cuts off what is beyond.
    pub(super) fn cut(&mut self, lsn: Lsn) -> Result<(), SqliteError> {
        if self.end.lsn <= lsn {
            return Ok(());
        }
        let mut segments = segments(&self.dir)?;
        while let Some(path) = segments.pop() {
            let mut reader = SegmentReader::open(&path)?;
            if reader.tail.lsn > lsn && !segments.is_empty() {
                fs::remove_file(&path)?;
                continue;
            }
            if reader.tail.lsn > lsn {
                return Err(SqliteError::LogGone);
            }
            while reader.tail.lsn < lsn && reader.next()?.is_some() {}
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(reader.offset)?;
            file.sync_all()?;
            sync_dir(&self.dir)?;
            (self.path, self.offset, self.end) = (path, reader.offset, reader.tail);
            return Ok(());
        }
        Err(SqliteError::LogGone)
    }

    /// Removes whole files from the front, while at least `keep_bytes` stay and nothing beyond `applied` goes.
    pub(super) fn forget(&mut self, applied: Lsn, keep_bytes: u64) -> Result<(), SqliteError> {
        let segments = segments(&self.dir)?;
        let mut bytes = 0;
        let mut oldest = segments.len();
        while oldest > 0 && bytes < keep_bytes {
            oldest -= 1;
            bytes += fs::metadata(&segments[oldest])?.len();
        }
        for index in 0..oldest {
            // It ends where the next begins.
            if SegmentReader::open(&segments[index + 1])?.tail.lsn > applied {
                break;
            }
            fs::remove_file(&segments[index])?;
        }
        Ok(())
    }
}

/// Reads a log from a place on, also one that another process appends to.
#[derive(Debug)]
pub(super) struct LogReader {
    dir: PathBuf,
    segment: SegmentReader,
}

impl LogReader {
    /// Stands after `lsn`.
    pub(super) fn open(dir: &Path, lsn: Lsn) -> Result<Self, SqliteError> {
        let mut segments = segments(dir)?;
        while let Some(path) = segments.pop() {
            let mut segment = SegmentReader::open(&path)?;
            if segment.tail.lsn <= lsn {
                while segment.tail.lsn < lsn && segment.next()?.is_some() {}
                return if segment.tail.lsn == lsn {
                    Ok(Self { dir: dir.into(), segment })
                } else {
                    Err(SqliteError::Parted)
                };
            }
        }
        Err(SqliteError::LogGone)
    }

    /// Stands after this record; goes on with `held` if that is there already, which spares the way through the file.
    pub(super) fn go_on(held: Option<Self>, dir: &Path, after: Tail) -> Result<Self, SqliteError> {
        let held = held.filter(|held| held.dir == dir && held.tail() == after);
        if let Some(Self { dir, segment }) = held {
            // Opened anew: what was read ahead may have been cut off since, and the file be another one.
            if let Ok(segment) = SegmentReader::at(&segment.path, segment.offset, segment.tail) {
                return Ok(Self { dir, segment });
            }
        }
        let reader = Self::open(dir, after.lsn)?;
        if reader.tail() == after { Ok(reader) } else { Err(SqliteError::Parted) }
    }

    /// After which record it stands.
    pub(super) fn tail(&self) -> Tail {
        self.segment.tail
    }

    /// The next record up to `until`.
    pub(super) fn next(&mut self, until: Lsn) -> Result<Option<Record>, SqliteError> {
        if self.segment.tail.lsn >= until {
            return Ok(None);
        }
        if let Some(record) = self.segment.next()? {
            return Ok(Some(record));
        }
        // The end of this file; perhaps there is another by now.
        let next = segment_path(&self.dir, self.segment.tail.lsn);
        if next == self.segment.path || !next.exists() {
            let is_last = segments(&self.dir)?.last().is_none_or(|last| *last <= self.segment.path);
            let (segment, offset) = (self.segment.path.clone(), self.segment.offset);
            return if is_last { Ok(None) } else { Err(SqliteError::Damaged { segment, offset }) };
        }
        let next = SegmentReader::open(&next)?;
        if next.tail != self.segment.tail {
            return Err(SqliteError::Damaged { segment: next.path, offset: 0 });
        }
        self.segment = next;
        self.segment.next()
    }
}

/// One file, from its beginning.
#[derive(Debug)]
struct SegmentReader {
    path: PathBuf,
    reader: BufReader<File>,
    offset: u64,
    tail: Tail,
}

impl SegmentReader {
    fn open(path: &Path) -> Result<Self, SqliteError> {
        let mut reader = BufReader::with_capacity(READ_AHEAD, File::open(path)?);
        let mut header = [0; HEADER_BYTES];
        let is_whole = reader.read_exact(&mut header).is_ok();
        let tail = Tail::decode_header(&header).filter(|_| is_whole);
        let is_named = |tail: &Tail| path.file_name() == segment_path(Path::new(""), tail.lsn).file_name();
        match tail.filter(is_named) {
            Some(tail) => Ok(Self { path: path.into(), reader, offset: HEADER_BYTES as u64, tail }),
            None => Err(SqliteError::Damaged { segment: path.into(), offset: 0 }),
        }
    }

    /// After this record, which ends there.
    fn at(path: &Path, offset: u64, tail: Tail) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { path: path.into(), reader: BufReader::with_capacity(READ_AHEAD, file), offset, tail })
    }

    /// `None` at the end, also at a torn one: it may be that somebody is writing there.
    fn next(&mut self) -> Result<Option<Record>, SqliteError> {
        match Record::read(&mut self.reader, self.tail) {
            Ok(Some(record)) => {
                self.tail = record.at;
                self.offset += record.encoded_len() as u64;
                Ok(Some(record))
            }
            Ok(None) => Ok(None),
            Err(Flaw::Torn) => {
                self.reader.seek(SeekFrom::Start(self.offset))?;
                Ok(None)
            }
            Err(Flaw::Damaged) => Err(SqliteError::Damaged { segment: self.path.clone(), offset: self.offset }),
            Err(Flaw::Io(error)) => Err(error.into()),
        }
    }
}

/// In the order of what they hold.
fn segments(dir: &Path) -> Result<Vec<PathBuf>, SqliteError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn segment_path(dir: &Path, start: Lsn) -> PathBuf {
    dir.join(format!("{:020}.log", start.0))
}

/// There with its whole header, or not at all.
fn new_segment(dir: &Path, start: Tail) -> Result<PathBuf, SqliteError> {
    let (path, draft) = (segment_path(dir, start.lsn), dir.join("next"));
    let mut file = File::create(&draft)?;
    file.write_all(&start.encode_header())?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    sync_dir(dir)?;
    Ok(path)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::sqlite::record::Kind;
    use crate::{Epoch, Rng};

    fn records(from: Tail, count: u64) -> Vec<Record> {
        let mut tail = from;
        let record = |index: u64| {
            let kind = if index % 3 == 0 { Kind::Schema } else { Kind::Changes };
            let record = Record::after(tail, Epoch(1 + index / 4), kind, vec![index as u8; index as usize * 5]);
            tail = record.at;
            record
        };
        (0..count).map(record).collect()
    }

    fn read_all(dir: &Path, from: Lsn) -> Result<Vec<Record>, SqliteError> {
        let mut reader = LogReader::open(dir, from)?;
        std::iter::from_fn(|| reader.next(Lsn(u64::MAX)).transpose()).collect()
    }

    #[test]
    fn reads_over_files_what_was_appended_before_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let records = records(Tail::default(), 40);
        let mut log = Log::create(dir.path(), Tail::default(), 200).unwrap();
        let mut reader = LogReader::open(dir.path(), Lsn(0)).unwrap();
        for (index, batch) in records.chunks(3).enumerate() {
            log.append(batch).unwrap();
            for record in batch {
                assert_eq!(reader.next(record.at.lsn).unwrap().as_ref(), Some(record));
            }
            if index % 4 == 3 {
                log = Log::open(dir.path(), 200).unwrap();
            }
        }
        assert!(segments(dir.path()).unwrap().len() > 5);
        for from in 0..=40 {
            assert_eq!(read_all(dir.path(), Lsn(from)).unwrap(), records[from as usize..], "from {from}");
        }
        assert!(matches!(LogReader::open(dir.path(), Lsn(41)), Err(SqliteError::Parted)));
        assert!(matches!(log.append(&records[..1]), Err(SqliteError::Parted)), "it does not follow");
    }

    /// As after a commit that failed: the record was read ahead by then.
    #[test]
    fn a_reader_that_goes_on_has_nothing_that_was_cut_off_meanwhile() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let records = records(Tail::default(), 3);
        let mut log = Log::create(dir.path(), Tail::default(), 1 << 20).unwrap();
        log.append(&records).unwrap();
        let mut reader = LogReader::open(dir.path(), Lsn(0)).unwrap();
        assert_eq!(reader.next(Lsn(2)).unwrap().as_ref(), Some(&records[0]));
        assert_eq!(reader.next(Lsn(2)).unwrap().as_ref(), Some(&records[1]));
        let after = reader.tail();
        log.cut(after.lsn).unwrap();
        let instead = Record::after(after, Epoch(9), Kind::Changes, vec![9]);
        log.append(std::slice::from_ref(&instead)).unwrap();
        let mut reader = LogReader::go_on(Some(reader), dir.path(), after).unwrap();
        assert_eq!(reader.next(Lsn(9)).unwrap().as_ref(), Some(&instead));

        // Nor what stands in the log of another node.
        let mut theirs = Log::create(other.path(), Tail::default(), 1 << 20).unwrap();
        theirs.append(&records[..2]).unwrap();
        let mut reader = LogReader::open(dir.path(), Lsn(2)).unwrap();
        reader = LogReader::go_on(Some(reader), other.path(), after).unwrap();
        assert_eq!(reader.next(Lsn(9)).unwrap(), None);
        assert!(matches!(LogReader::go_on(Some(reader), other.path(), instead.at), Err(SqliteError::Parted)));
    }

    /// Two processes, each of which knows of the other's changes by the files alone.
    #[test]
    fn what_another_process_appends_and_cuts_is_taken_in() {
        let end = |held: &[Record]| held.last().map_or(Tail::default(), |record| record.at);
        for seed in 0..12 {
            let (dir, mut rng) = (tempfile::tempdir().unwrap(), Rng::new(seed));
            let first = Log::create(dir.path(), Tail::default(), 400).unwrap();
            let mut logs = [first, Log::open(dir.path(), 400).unwrap()];
            let mut held: Vec<Record> = Vec::new();
            for step in 0..60 {
                let log = &mut logs[rng.below(2) as usize];
                log.refresh().unwrap();
                assert_eq!(log.end(), end(&held), "seed {seed}, step {step}");
                if rng.below(4) == 0 && !held.is_empty() {
                    held.pop();
                    log.cut(end(&held).lsn).unwrap();
                } else {
                    let record = Record::after(end(&held), Epoch(1), Kind::Changes, vec![step; usize::from(step)]);
                    log.append(std::slice::from_ref(&record)).unwrap();
                    held.push(record);
                }
                assert_eq!(read_all(dir.path(), Lsn(0)).unwrap(), held, "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn a_record_that_took_the_place_of_another_of_its_length_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let record = |after, byte| Record::after(after, Epoch(1), Kind::Changes, vec![byte]);
        let [first, instead] = [1, 2].map(|byte| record(Tail::default(), byte));
        let mut log = Log::create(dir.path(), Tail::default(), 400).unwrap();
        log.append(std::slice::from_ref(&first)).unwrap();
        let mut other = Log::open(dir.path(), 400).unwrap();
        other.cut(Lsn(0)).unwrap();
        other.append(std::slice::from_ref(&instead)).unwrap();
        log.refresh().unwrap();
        let next = record(instead.at, 3);
        log.append(std::slice::from_ref(&next)).unwrap();
        assert_eq!(read_all(dir.path(), Lsn(0)).unwrap(), [instead, next]);
    }

    #[test]
    fn what_is_cut_and_forgotten_is_gone_and_the_rest_goes_on() {
        let records = records(Tail::default(), 30);
        for cut in 0..=30 {
            let dir = tempfile::tempdir().unwrap();
            let mut log = Log::create(dir.path(), Tail::default(), 300).unwrap();
            records.iter().for_each(|record| log.append(std::slice::from_ref(record)).unwrap());
            log.cut(Lsn(cut)).unwrap();
            assert_eq!(log.end().lsn, Lsn(cut));
            let other = Record::after(log.end(), Epoch(99), Kind::Changes, vec![7]);
            log.append(std::slice::from_ref(&other)).unwrap();
            let mut expected = records[..cut as usize].to_vec();
            expected.push(other);
            assert_eq!(read_all(dir.path(), Lsn(0)).unwrap(), expected);
            assert_eq!(Log::open(dir.path(), 300).unwrap().end(), log.end());
            log.forget(Lsn(cut.saturating_sub(5)), 1).unwrap();
            match read_all(dir.path(), Lsn(0)) {
                Ok(all) => assert_eq!(all, expected),
                Err(error) => assert!(matches!(error, SqliteError::LogGone)),
            }
            let kept = cut.saturating_sub(5);
            assert_eq!(read_all(dir.path(), Lsn(kept)).unwrap(), expected[kept as usize..], "what is not applied");
        }
    }

    /// Whatever happens to its bytes, a log is refused, or gives its first records and nothing else; and all that stand
    /// before the last, unless it was truncated.
    #[test]
    fn every_truncation_and_flip_is_detected_or_a_torn_end() {
        let dir = tempfile::tempdir().unwrap();
        let records = records(Tail::default(), 5);
        Log::create(dir.path(), Tail::default(), 1 << 20).unwrap().append(&records).unwrap();
        let path = segment_path(dir.path(), Lsn(0));
        let good = fs::read(&path).unwrap();
        let check = |bytes: &[u8], is_flip: bool| {
            fs::write(&path, bytes).unwrap();
            let Ok(log) = Log::open(dir.path(), 1 << 20) else { return false };
            let found = read_all(dir.path(), Lsn(0)).unwrap();
            assert_eq!(found, records[..found.len()]);
            assert_eq!(log.end(), found.last().map_or(Tail::default(), |record| record.at));
            assert!(!is_flip || found.len() == records.len() - 1);
            true
        };
        assert!(check(&good, false));
        let whole = (0..good.len()).filter(|length| check(&good[..*length], false)).count();
        assert_eq!(whole, good.len() - HEADER_BYTES, "a cut header is refused, a cut record is a torn end");
        let mut torn = 0;
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            torn += usize::from(check(&bytes, true));
        }
        let last = records.last().unwrap().encoded_len();
        assert_eq!(torn, (last - 8) * 8, "in the last record, but not in its length");
        // What a file system may leave after a power cut.
        for zeros in [1, 7, 8, 9, 5_000] {
            let bytes: Vec<_> = good.iter().copied().chain(std::iter::repeat_n(0, zeros)).collect();
            assert!(check(&bytes, false));
        }
        let mut rng = Rng::new(3);
        for _ in 0..300 {
            let noise = (0..1 + rng.below(100)).map(|_| rng.next_u64() as u8);
            check(&good.iter().copied().chain(noise).collect::<Vec<_>>(), false);
        }
    }
}
