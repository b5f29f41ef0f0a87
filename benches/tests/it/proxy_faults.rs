use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tenfold_benches::proxy_faults::row::{FaultRow, ThroughputRow};

use crate::run::{has_fields, list, refused, rows};

const PROXY_FAULTS: &str = env!("CARGO_BIN_EXE_proxy-faults");

/// The names that a row without figures has.
fn fields(row: impl serde::Serialize) -> Vec<String> {
    let value = serde_json::to_value(row).unwrap();
    value.as_object().unwrap().keys().cloned().collect()
}

#[track_caller]
fn has_fields_of(row: &serde_json::Value, sample: impl serde::Serialize) {
    let fields = fields(sample);
    has_fields(row, &fields.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn the_load_alone_is_sound() {
    let arguments =
        ["--quick", "--proxy", "direct", "--scenario", "calm", "--scenario", "throughput", "--scenario", "kill"];
    let run = rows(PROXY_FAULTS, &arguments);
    assert_eq!(run.code, Some(0), "{}", run.complaint);
    assert_eq!(run.rows.len(), 4, "nobody can break what is not there");
    let calm = &run.rows[0];
    has_fields_of(calm, FaultRow::new("", "", &[]));
    assert_eq!((&calm["scenario"], &calm["proxy"]), (&"calm".into(), &"direct".into()));
    assert_eq!((calm["requests"].as_u64(), calm["failed"].as_f64()), (Some(4_000), Some(0.0)));
    assert!(calm["p50_ms"].as_f64().unwrap() <= calm["p99_ms"].as_f64().unwrap(), "{calm}");
    for (row, connections) in run.rows[1..].iter().zip([1, 32, 128]) {
        has_fields_of(row, ThroughputRow::new("", 0, &[]));
        assert_eq!((row["connections"].as_u64(), row["cpu_s_per_1000"].as_f64()), (Some(connections), None));
        assert!(row["requests_per_s"].as_f64().unwrap() > 100.0, "{row}");
    }
}

#[test]
fn a_child_ends_with_the_one_who_wanted_it() {
    // What the kernel does however the owner ends, and what only an outsider does.
    child_ends(|keeper| drop(keeper.stdin.take()));
    child_ends(|keeper| keeper.kill().unwrap());
}

/// Asserts that the child of a keeper that ends so ends, too.
#[track_caller]
fn child_ends(end: impl FnOnce(&mut Child)) {
    let mut keeper = Command::new(PROXY_FAULTS)
        .args(["keep", "sleep", "1000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let stat = format!("/proc/{}/stat", line.trim());
    // A child that nobody has buried yet is dead all the same.
    let is_alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(is_alive());
    end(&mut keeper);
    keeper.wait().unwrap();
    let start = Instant::now();
    while is_alive() {
        assert!(start.elapsed() < Duration::from_secs(20), "it lives on");
        std::thread::yield_now();
    }
}

#[test]
fn names_are_listed() {
    let names = list(PROXY_FAULTS);
    assert!(names.contains(&"direct".to_owned()) && names.contains(&"tenfold".to_owned()), "{names:?}");
}

#[test]
fn bad_command_lines_are_refused() {
    refused(PROXY_FAULTS, &["--proxy", "squid"], "`squid`");
    refused(PROXY_FAULTS, &["--scenario", "fire"], "`fire`");
    refused(PROXY_FAULTS, &["--rounds", "0"], "--rounds takes a number from 1");
    refused(PROXY_FAULTS, &["backend", "nowhere", "1"], "address");
    refused(PROXY_FAULTS, &["--cache", "lru"], "--cache");
}
