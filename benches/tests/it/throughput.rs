use crate::run::{has_fields, list, refused, rows};

const THROUGHPUT: &str = env!("CARGO_BIN_EXE_throughput");

#[test]
fn every_cache_takes_part_in_every_workload() {
    let arguments = ["--quick", "--rounds", "1", "--entries", "4000", "--threads", "1,2"];
    let workloads = ["hits", "95-5", "50-50", "scan"];
    let named = workloads.iter().flat_map(|workload| ["--workload", workload]);
    let arguments: Vec<&str> = arguments.into_iter().chain(named).collect();
    let run = rows(THROUGHPUT, &arguments);
    assert_eq!(run.code, Some(0), "{}", run.complaint);

    let names = list(THROUGHPUT);
    assert!(names.iter().all(|name| !name.starts_with("reference-")));
    for workload in workloads {
        let of = |threads: u64| {
            let wanted = |row: &&serde_json::Value| row["workload"] == workload && row["threads"] == threads;
            run.rows.iter().filter(wanted).collect::<Vec<_>>()
        };
        assert_eq!(of(1).len(), names.len());
        assert!((1..names.len()).contains(&of(2).len()), "caches for one thread stay out of two");
        for row in of(1).into_iter().chain(of(2)) {
            check_row(row);
        }
        let best = of(2).iter().filter(|row| row["ratio_to_best_peer"] == 1.0).count();
        assert!(best >= 1, "some peer is the best");
    }
}

#[track_caller]
fn check_row(row: &serde_json::Value) {
    let fields = ["workload", "threads", "entries", "cache", "ns_per_op", "ops_per_s", "ratio_to_best_peer"];
    has_fields(row, &fields);
    assert_eq!(row["entries"], 4_000);
    let (ns, ops) = (row["ns_per_op"].as_f64().unwrap(), row["ops_per_s"].as_f64().unwrap());
    let threads = row["threads"].as_f64().unwrap();
    assert!((ns * ops / (threads * 1e9) - 1.0).abs() < 0.02, "{row}");
    assert!(row["ratio_to_best_peer"].as_f64().unwrap() > 0.0, "{row}");
}

#[test]
fn chosen_caches_alone() {
    let arguments =
        ["--quick", "--rounds", "1", "--entries", "5000", "--threads", "1", "--cache", "lru", "--cache", "hashlink"];
    let run = rows(THROUGHPUT, &arguments);
    let names: Vec<_> = run.rows.iter().map(|row| row["cache"].as_str().unwrap()).collect();
    assert_eq!(names, ["lru", "hashlink"]);
}

#[test]
fn a_race_without_a_starter_says_so() {
    let run = rows(THROUGHPUT, &["--quick", "--threads", "2", "--cache", "lru"]);
    assert_eq!((run.code, run.rows.len()), (Some(0), 0));
    assert!(run.complaint.contains("shared by 2 threads"), "{}", run.complaint);
}

#[test]
fn bad_command_lines_are_refused() {
    refused(THROUGHPUT, &["--threads", "0"], "--threads takes a number from 1");
    refused(THROUGHPUT, &["--threads", "1,,2"], "\"\"");
    refused(THROUGHPUT, &["--threads", "1,two"], "two");
    refused(THROUGHPUT, &["--workload", "reads"], "`reads`");
    refused(THROUGHPUT, &["--entries", "0"], "--entries");
    refused(THROUGHPUT, &["--rounds", "0"], "--rounds");
    refused(THROUGHPUT, &["--cache", "larry"], "`larry`");
    refused(THROUGHPUT, &["--cache", "reference-lru"], "`reference-lru`");
    refused(THROUGHPUT, &["extra"], "extra");
}

#[test]
fn too_small_a_race_says_so() {
    // Two keys rarely fall into different ones of many shards.
    let run = rows(THROUGHPUT, &["--quick", "--rounds", "1", "--entries", "20", "--threads", "1"]);
    if run.code != Some(0) {
        assert_eq!(run.code, Some(1));
        assert!(run.complaint.contains("take more entries or fewer caches"), "{}", run.complaint);
    }
}
