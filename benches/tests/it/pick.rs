use crate::run::{has_fields, list, refused, rows};

const PICK: &str = env!("CARGO_BIN_EXE_pick");

#[test]
fn every_balancer_takes_part() {
    let arguments = ["--quick", "--rounds", "1", "--backends", "10", "--threads", "1,2"];
    let run = rows(PICK, &arguments);
    assert_eq!(run.code, Some(0), "{}", run.complaint);
    let of = |threads: u64| run.rows.iter().filter(|row| row["threads"] == threads).count();
    let names = list(PICK);
    assert_eq!(of(1), names.len());
    assert!((1..names.len()).contains(&of(2)), "balancers for one thread stay out of two");
    for row in &run.rows {
        let fields = ["kind", "backends", "threads", "picker", "cpu_ns_per_pick", "picks_per_s", "ratio_to_best_peer"];
        has_fields(row, &fields);
        assert!(row["cpu_ns_per_pick"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn bad_command_lines_are_refused() {
    refused(PICK, &["--threads", "0"], "--threads takes a number from 1");
    refused(PICK, &["--backends", "0"], "--backends");
    refused(PICK, &["--rounds", "0"], "--rounds");
    refused(PICK, &["--picker", "larry"], "`larry`");
    refused(PICK, &["extra"], "extra");
}
