//! Places in PostgreSQL's log, and the timelines that lead to them.

use crate::{Epoch, History, Lsn, Switch};

/// How the server's log is laid out on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) segment: u64,
    pub(super) page: u64,
}

impl Layout {
    /// Of a segment's first page.
    pub(super) const LONG_HEADER: u64 = 40;
    /// Of all other pages.
    pub(super) const HEADER: u64 = 24;

    /// The end of the last record, given where the next one would begin.
    ///
    /// At the end of a page that is behind the header of the next one, which no replica reaches before there is something
    /// behind it: waited for as it stands, it would never come.
    pub(super) fn end_of_record(self, next: Lsn) -> Lsn {
        match (next.0 % self.segment, next.0 % self.page) {
            (Self::LONG_HEADER, _) => Lsn(next.0 - Self::LONG_HEADER),
            (in_segment, Self::HEADER) if in_segment > self.page => Lsn(next.0 - Self::HEADER),
            _ => next,
        }
    }
}

/// `0/15D68C0` as a number.
pub(super) fn parse_lsn(text: &str) -> Option<Lsn> {
    let (high, low) = text.split_once('/')?;
    let (high, low) = (u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?);
    (high <= u64::from(u32::MAX) && low <= u64::from(u32::MAX)).then_some(Lsn(high << 32 | low))
}

pub(super) fn print_lsn(lsn: Lsn) -> String {
    format!("{:X}/{:X}", lsn.0 >> 32, lsn.0 & 0xffff_ffff)
}

/// Where the server keeps what it knows of how a timeline came about.
pub(super) fn history_file(timeline: Epoch) -> String {
    format!("pg_wal/{:08X}.history", timeline.0)
}

/// A timeline's history file: a line for each timeline before, with where it was left and why.
pub(super) fn parse_history(text: &str, timeline: Epoch) -> Option<History> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let switch = |line: &str| {
        let mut words = line.split_whitespace();
        Some(Switch { epoch: Epoch(words.next()?.parse().ok()?), at: parse_lsn(words.next()?)? })
    };
    let switches = lines.map(switch).collect::<Option<Vec<_>>>()?;
    History::of(switches, timeline).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_no_part_of_what_was_written() {
        let layout = Layout { segment: 1 << 20, page: 8192 };
        for (next, end) in [
            (0x10_0000 + 40, 0x10_0000),
            (0x10_2000 + 24, 0x10_2000),
            (0x10_2000 + 32, 0x10_2000 + 32),
            (0x10_2000, 0x10_2000),
            // Behind a long header there is no short one.
            (0x10_0000 + 24, 0x10_0000 + 24),
            (0x10_2000 + 40, 0x10_2000 + 40),
        ] {
            assert_eq!(layout.end_of_record(Lsn(next)), Lsn(end), "{next:x}");
        }
    }

    #[test]
    fn places_are_read_as_they_are_printed() {
        for lsn in [0, 0x15d_68c0, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
            assert_eq!(parse_lsn(&print_lsn(Lsn(lsn))), Some(Lsn(lsn)));
        }
        for text in ["", "1", "1/", "/1", "1/100000000", "x/1", "1/1/1"] {
            assert_eq!(parse_lsn(text), None, "{text}");
        }
    }

    #[test]
    fn reads_a_history_file() {
        let text = "1\t0/4018000\tno recovery target specified\n\n# by hand\n2\t0/5000000\tbefore 2026\n";
        let switches =
            [(1, 0x401_8000), (2, 0x500_0000)].map(|(epoch, at)| Switch { epoch: Epoch(epoch), at: Lsn(at) });
        assert_eq!(parse_history(text, Epoch(3)), Some(History::of(switches, Epoch(3)).unwrap()));
        for text in ["1", "1\tnowhere\n", "2\t0/5\n1\t0/6\n", "x\t0/1\n"] {
            assert_eq!(parse_history(text, Epoch(3)), None, "{text}");
        }
        assert_eq!(history_file(Epoch(26)), "pg_wal/0000001A.history");
    }
}
