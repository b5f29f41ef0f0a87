//! The rows that the binaries print, one JSON object a line.

use std::io::{self, Write};

use serde::Serialize;

/// A row of `hit-ratio`.
#[derive(Clone, Debug, Serialize)]
pub struct HitRatioRow<'a> {
    /// The trace's name.
    pub trace: &'a str,
    /// Room for so many entries.
    pub capacity: usize,
    /// The cache's name.
    pub cache: &'static str,
    /// Accesses replayed.
    pub requests: u64,
    /// Accesses answered from the cache.
    pub hits: u64,
    /// `hits / requests`, from 0 to 1.
    pub hit_ratio: f64,
}

/// A row of `throughput`.
#[derive(Clone, Debug, Serialize)]
pub struct ThroughputRow {
    /// The workload's name.
    pub workload: &'static str,
    /// How many threads drove the cache at once.
    pub threads: usize,
    /// The size asked for on the command line.
    pub entries: usize,
    /// The cache's name.
    pub cache: &'static str,
    /// How long one thread takes for one operation while the others run: `threads * 1e9 / ops_per_s`.
    pub ns_per_op: f64,
    /// Operations a second of all threads together, the median of the rounds.
    pub ops_per_s: f64,
    /// `ops_per_s` over that of the fastest peer in the same run, above 1 being faster. Caches for
    /// one thread are measured against such peers, and caches that threads may share against
    /// those. Null if no such peer took part.
    pub ratio_to_best_peer: Option<f64>,
}

/// A row of `memory`.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryRow {
    /// The cache's name.
    pub cache: &'static str,
    /// Entries held when the bytes were counted.
    pub entries: usize,
    /// `fresh` once filled to capacity, `churned` after four times as many further inserts.
    pub phase: &'static str,
    /// Bytes in use over the 16 of key and value, for each entry held.
    pub overhead_bytes_per_entry: f64,
}

/// Writes a row and passes it on at once, so that a reader sees it while the run goes on.
///
/// # Errors
///
/// What writing gave.
pub fn write_row(out: &mut impl Write, row: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, row)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Rounds to so many decimals: a figure that was measured has few that mean anything.
#[must_use]
pub fn rounded(figure: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (figure * scale).round() / scale
}

/// The middle of the figures, or the mean of the two in the middle. `None` if there is none.
#[must_use]
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[sorted.len() / 2 - 1], upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (figures, middle) in [
            (&[] as &[f64], None),
            (&[3.0], Some(3.0)),
            (&[5.0, 1.0], Some(3.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[9.0, 1.0, 2.0, 4.0], Some(3.0)),
        ] {
            assert_eq!(median(figures), middle);
        }
    }

    #[test]
    fn rounding() {
        assert_eq!(rounded(2.0 / 3.0, 3), 0.667);
        assert_eq!(rounded(1234.5, 0), 1235.0);
    }
}
