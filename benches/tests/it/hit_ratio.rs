use serde_json::json;
use tenfold_benches::rng::Rng;
use tenfold_benches::zipf::Zipf;

use crate::run::{encode, file, has_fields, list, refused, rows};

const HIT_RATIO: &str = env!("CARGO_BIN_EXE_hit-ratio");

/// A file of skewed accesses to some hundred keys.
fn skewed(name: &str) -> String {
    let zipf = Zipf::new(1_000, 0.9);
    let mut rng = Rng::new(5);
    let keys: Vec<u64> = (0..20_000).map(|_| zipf.rank(&mut rng) as u64).collect();
    path(name, &keys)
}

fn path(name: &str, keys: &[u64]) -> String {
    file(name, &encode(keys)).to_str().unwrap().to_owned()
}

#[test]
fn rows_of_a_small_trace_are_exact() {
    let file = path("tiny.d64.zst", &[1, 2, 3, 1, 4, 1, 2, 3]);
    let run = rows(HIT_RATIO, &["--capacity", "3", "--policy", "reference-lru", "--policy", "lru", &file]);
    assert_eq!(run.code, Some(0), "{}", run.complaint);
    let row =
        |cache| json!({"trace": "tiny", "capacity": 3, "cache": cache, "requests": 8, "hits": 2, "hit_ratio": 0.25});
    assert_eq!(run.rows, [row("reference-lru"), row("lru")]);
}

#[test]
fn every_cache_replays_every_access() {
    let file = skewed("every.d64.zst");
    let run = rows(HIT_RATIO, &["--capacity", "50", "--capacity", "200", &file]);
    assert_eq!(run.code, Some(0), "{}", run.complaint);
    let names = list(HIT_RATIO);
    assert_eq!(run.rows.len(), 2 * names.len());
    for (row, name) in run.rows.iter().zip(names.iter().chain(&names)) {
        has_fields(row, &["trace", "capacity", "cache", "requests", "hits", "hit_ratio"]);
        assert_eq!(row["cache"], name.as_str());
        assert_eq!(row["requests"], 20_000);
        let ratio = row["hits"].as_f64().unwrap() / 20_000.0;
        assert!((row["hit_ratio"].as_f64().unwrap() - ratio).abs() < 1e-5);
        assert!((0.1..0.9).contains(&ratio), "{row}");
    }
}

#[test]
fn exact_caches_equal_the_references() {
    let file = skewed("exact.d64.zst");
    let hits = |name: &str| {
        let arguments = ["--capacity", "7", "--capacity", "90", "--capacity", "400", "--policy", name, &file];
        let run = rows(HIT_RATIO, &arguments);
        run.rows.iter().map(|row| row["hits"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    for (reference, names) in [
        ("reference-lru", ["tenfold-lru", "lru", "hashlink", "schnellru"].as_slice()),
        ("reference-fifo", &["tenfold-fifo"]),
        ("reference-lfu", &["tenfold-lfu"]),
    ] {
        for name in names {
            assert_eq!(hits(name), hits(reference), "{name}");
        }
    }
}

#[test]
fn unknown_traces_get_three_capacities() {
    let file = path("shares.d64.zst", &(0..1_000).collect::<Vec<_>>());
    let run = rows(HIT_RATIO, &["--policy", "reference-fifo", &file]);
    let capacities: Vec<_> = run.rows.iter().map(|row| row["capacity"].as_u64().unwrap()).collect();
    assert_eq!(capacities, [10, 50, 200]);
}

#[test]
fn a_bad_file_counts_for_nothing_and_the_others_are_still_replayed() {
    let good = path("good.d64.zst", &[1, 1]);
    let whole = encode(&(0..5_000).map(|key| key * key).collect::<Vec<_>>());
    let cut = file("truncated.d64.zst", &whole[..whole.len() / 2]);
    let cut = cut.to_str().unwrap();
    let arguments = ["--capacity", "2", "--policy", "lru", cut, "no-such-file", &good];
    let run = rows(HIT_RATIO, &arguments);
    assert_eq!(run.code, Some(2));
    assert_eq!(run.rows.len(), 1);
    assert_eq!(run.rows[0]["trace"], "good");
    for words in ["truncated or corrupt", "cannot open no-such-file", "2 of 3 trace files"] {
        assert!(run.complaint.contains(words), "{}", run.complaint);
    }
}

#[test]
fn bad_command_lines_are_refused() {
    let file = path("unused.d64.zst", &[1, 1]);
    refused(HIT_RATIO, &["--capacity", "0", &file], "from 1 to");
    refused(HIT_RATIO, &["--capacity", "many", &file], "many");
    refused(HIT_RATIO, &["--capacity", "-1", &file], "-1");
    refused(HIT_RATIO, &["--capacity", "99999999999999999999", &file], "99999999999999999999");
    refused(HIT_RATIO, &["--policy", "larry", &file], "`larry`");
    refused(HIT_RATIO, &["--polices", "lru", &file], "--polices");
    refused(HIT_RATIO, &["--policy"], "--policy");
    refused(HIT_RATIO, &["--policy", "lru"], "at least one trace file");
}

#[test]
fn help_and_list_need_no_file() {
    let output = crate::run::output(HIT_RATIO, &["--help"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("usage: hit-ratio"));
    let names = list(HIT_RATIO);
    for name in
        ["tenfold-lfu-aged-sync", "reference-lfu", "moka-tinylfu", "quick_cache-sync", "foyer-s3fifo", "schnellru"]
    {
        assert!(names.iter().any(|listed| listed == name), "{name}");
    }
}
