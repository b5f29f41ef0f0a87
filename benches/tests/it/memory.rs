use crate::run::{has_fields, list, refused, rows};

const MEMORY: &str = env!("CARGO_BIN_EXE_memory");

#[test]
fn every_cache_is_counted_twice() {
    let run = rows(MEMORY, &["--entries", "20000"]);
    assert_eq!(run.code, Some(0), "{}", run.complaint);
    let names = list(MEMORY);
    assert_eq!(run.rows.len(), 2 * names.len());
    for (rows, name) in run.rows.chunks(2).zip(&names) {
        for (row, phase) in rows.iter().zip(["fresh", "churned"]) {
            has_fields(row, &["cache", "entries", "phase", "overhead_bytes_per_entry"]);
            assert_eq!((row["cache"].as_str(), row["phase"].as_str()), (Some(name.as_str()), Some(phase)));
            // Some caches hold a little less than their capacity, and those that put work off a little more.
            assert!((15_000..21_000).contains(&row["entries"].as_u64().unwrap()), "{row}");
            // No cache holds a key and a value in less than 16 bytes, nor do any of these take half a kibibyte.
            assert!((0.0..500.0).contains(&row["overhead_bytes_per_entry"].as_f64().unwrap()), "{row}");
        }
    }
}

#[test]
fn bad_command_lines_are_refused() {
    refused(MEMORY, &["--entries", "0"], "--entries");
    refused(MEMORY, &["--cache", "larry"], "`larry`");
    refused(MEMORY, &["--quick"], "--quick");
}
