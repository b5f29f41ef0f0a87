use crate::run::{has_fields, refused, rows};

const ROUTING: &str = env!("CARGO_BIN_EXE_routing");

#[test]
fn what_needs_no_servers_is_measured() {
    let arguments =
        ["--quick", "--scenario", "check-out", "--scenario", "reads", "--engine", "sqlite", "--reads", "400"];
    let run = rows(ROUTING, &arguments);
    assert_eq!(run.code, Some(0), "{}", run.complaint);
    let pools: Vec<_> = run.rows.iter().filter(|row| row["scenario"] == "check-out").collect();
    assert_eq!(
        pools.iter().map(|row| row["pool"].as_str().unwrap()).collect::<Vec<_>>(),
        ["tenfold", "deadpool", "bb8"]
    );
    for row in pools {
        has_fields(row, &["scenario", "pool", "out_ns", "back_ns", "both_ns", "choice_ns"]);
        assert!(row["both_ns"].as_f64().unwrap() > 0.0, "{row}");
    }
    let reads = run.rows.iter().find(|row| row["scenario"] == "reads").unwrap();
    assert_eq!(
        (&reads["engine"], &reads["own_writes_missed"], &reads["went_back"]),
        (&"sqlite".into(), &0.into(), &0.into())
    );
    assert!(reads["reads"].as_u64().unwrap() >= 400, "{reads}");
}

#[test]
fn bad_command_lines_are_refused() {
    refused(ROUTING, &["--scenario", "lunch"], "`lunch`");
    refused(ROUTING, &["--engine", "steam"], "`steam`");
    refused(ROUTING, &["--rounds", "0"], "--rounds takes a number from 1");
    refused(ROUTING, &["--reads", "0"], "--reads takes a number from 1");
    refused(ROUTING, &["extra"], "extra");
}
