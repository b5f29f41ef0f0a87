use crate::run::{has_fields, list, refused, rows};

const QUEUE: &str = env!("CARGO_BIN_EXE_queue");

const FIELDS: [&str; 12] = [
    "scenario",
    "mode",
    "queue",
    "sync",
    "size",
    "producers",
    "per_second",
    "p50_us",
    "p99_us",
    "ratio_to_best_peer",
    "ratio_to_baseline",
    "probe_us",
];

const RECOVERY_FIELDS: [&str; 14] = [
    "scenario",
    "queue",
    "sync",
    "size",
    "messages",
    "fill_s",
    "memory_bytes_per_message",
    "disk_bytes_per_message",
    "open_ms",
    "first_message_ms",
    "found",
    "is_cut_short",
    "peak_mib",
    "ratio_to_best_peer",
];

const IDLE_FIELDS: [&str; 7] = ["scenario", "queue", "sync", "size", "messages", "seconds", "busy_percent"];

#[test]
fn ours_takes_part_in_every_scenario() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let arguments = ["--quick", "--only", "tenfold", "--only", "bare-committer", "--scenario", "all", "--dir", folder];
    let run = rows(QUEUE, &arguments);
    assert_eq!(run.code, Some(0), "{}", run.complaint);
    let scenarios =
        ["produce", "batch", "window", "tasks", "relaxed", "consume", "end-to-end", "recovery", "idle", "memory"];
    for scenario in scenarios {
        let of_ours = |row: &&serde_json::Value| row["scenario"] == scenario && row["queue"] == "tenfold";
        let ours: Vec<_> = run.rows.iter().filter(of_ours).collect();
        assert!(!ours.is_empty(), "{scenario}");
        for row in ours {
            if scenario == "recovery" {
                has_fields(row, &RECOVERY_FIELDS);
                assert_eq!(row["found"], row["messages"], "{row}");
            } else if scenario == "idle" {
                has_fields(row, &IDLE_FIELDS);
            } else {
                has_fields(row, &FIELDS);
                assert!(row["per_second"].as_f64().unwrap() > 0.0, "{row}");
            }
        }
    }
}

#[test]
fn names_are_listed_once() {
    let mut names = list(QUEUE);
    assert!(names.iter().any(|name| name == "tenfold"));
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn bad_command_lines_are_refused() {
    refused(QUEUE, &["--producers", "0"], "--producers takes a number from 1");
    refused(QUEUE, &["--size", "7"], "--size takes a number from 8");
    refused(QUEUE, &["--rounds", "0"], "--rounds");
    refused(QUEUE, &["--messages", "0"], "--messages takes a number from 1");
    refused(QUEUE, &["--scenario", "lunch"], "`lunch`");
    refused(QUEUE, &["--only", "larry"], "`larry`");
    refused(QUEUE, &["extra"], "extra");
}
