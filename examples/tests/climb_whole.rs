//! The whole climb, quick, as a user runs it: the report is there and whole, and nothing is left running.
//!
//! It is the optimised binary that runs, built here if it is not there yet: an unoptimised one would be the bottleneck of
//! everything it measures. Figures that are times still depend on what else the machine does while tests run, so only
//! those claims must hold that no other load can change; `cargo climb` by itself judges the rest.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tenfold_rig::TempDir;

/// Rows whose claims are counts of what happened, not times.
const COUNTED: [&str; 10] = ["r01", "r02", "r06", "r07", "r08", "r13", "r14", "r24", "r29", "r46"];

#[test]
fn a_quick_climb_reports_every_rung_and_row_and_cleans_up() {
    let dir = TempDir::new().unwrap();
    let (out, json) = (dir.path().join("out"), dir.path().join("report.json"));
    let mut climb = Command::new(optimised());
    climb.args(["--quick", "--noisy", "--seed", "7", "--out"]).arg(&out).arg("--json").arg(&json);
    // Children inherit the variable, which tells this climb's processes from those of another.
    let mark = format!("{}", dir.path().display());
    let output = climb.env("CLIMB_TEST", &mark).stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(matches!(output.status.code(), Some(0 | 1)), "{stdout}\n{stderr}");
    assert!(running_with(&mark).is_empty(), "processes are left");

    let read = fs::read_to_string(&json).map_err(|error| error.to_string());
    let report = read.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
    let report: Value = report.unwrap_or_else(|error| panic!("{error}: {stdout}\n{stderr}"));
    let rungs = report["rungs"].as_array().unwrap();
    let names: Vec<_> = rungs.iter().map(|rung| rung["rung"].as_str().unwrap()).collect();
    assert_eq!(names, ["01", "02", "03", "04", "05", "06", "10", "12"]);
    for rung in rungs {
        assert!(rung["capacity"].as_f64().unwrap() > 0.0 && rung["theory"].as_f64().unwrap() > 0.0);
        assert!(rung["p99_ms"].as_f64().unwrap() > 0.0 && rung.get("failed_ratio").is_some());
        assert!(!rung["curves"].as_array().unwrap().is_empty());
    }
    rows_are_claimed(rungs, &stdout);
    for file in ["report.html", "report.md", "report.json", "climb.svg", "rung-01.svg", "rung-06.svg"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    assert!(stdout.contains("cache layer") && stdout.contains("single server"));
}

/// The climb as `cargo climb` runs it.
fn optimised() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_climb"));
    let (name, profile) = (built.file_name().unwrap(), built.parent().unwrap());
    if profile.ends_with("release") {
        return built.to_owned();
    }
    let cargo = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "-p", "tenfold-examples", "--bin", "climb"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(cargo.unwrap().success(), "the release build fails");
    profile.with_file_name("release").join(name)
}

fn rows_are_claimed(rungs: &[Value], stdout: &str) {
    let claims: Vec<_> = rungs.iter().flat_map(|rung| rung["claims"].as_array().unwrap()).collect();
    let rows: BTreeSet<_> = claims.iter().map(|claim| claim["id"].as_str().unwrap()).collect();
    for id in
        (1..=29).chain(41..=46).chain(55..=56).filter(|number| *number != 42).map(|number| format!("r{number:02}"))
    {
        assert!(rows.contains(id.as_str()), "no claim for {id}");
    }
    for claim in claims.iter().filter(|claim| COUNTED.contains(&claim["id"].as_str().unwrap())) {
        assert_eq!(claim["verdict"], "pass", "{claim}\n{stdout}");
    }
}

/// The processes that have this value in their environment, other than this test.
fn running_with(mark: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let environment = fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environment).contains(&format!("CLIMB_TEST={mark}")) {
            found.push(pid);
        }
    }
    found
}
