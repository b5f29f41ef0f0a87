//! What the climb does with a command line, a machine or a child that is not as it should be: a clear message, an exit
//! code that is not zero, and nothing left running.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tenfold_rig::TempDir;

const CLIMB: &str = env!("CARGO_BIN_EXE_climb");
/// Names the program of a NATS server.
const NATS_SERVER: &str = "TENFOLD_NATS_SERVER";
/// Names the folder of PostgreSQL's programs.
const PG_BIN: &str = "PG_BIN";

fn climb(out: &Path, words: &[&str]) -> Output {
    Command::new(CLIMB).args(words).arg("--out").arg(out).stdin(Stdio::null()).output().unwrap()
}

/// Runs the climb and expects this exit code and these words on standard error.
fn refused(words: &[&str], code: i32, says: &[&str]) {
    let dir = TempDir::new().unwrap();
    let output = climb(dir.path(), words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
    for word in says {
        assert!(stderr.contains(word), "{words:?} does not say {word}: {stderr}");
    }
}

/// The living processes started by `parent`, and theirs.
fn descendants(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (state, above) = (fields.next(), fields.next());
        if state != Some("Z") && above == Some(parent.to_string().as_str()) {
            found.push(pid);
            found.extend(descendants(pid));
        }
    }
    found
}

fn signal(pid: u32, name: &str) {
    assert!(try_signal(pid, name), "there is no process {pid}");
}

/// Whether there was such a process.
fn try_signal(pid: u32, name: &str) -> bool {
    Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().unwrap().success()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(out: &Path, words: &[&str]) -> Child {
    let mut command = Command::new(CLIMB);
    command.args(words).arg("--out").arg(out);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn help_says_what_there_is() {
    let output = Command::new(CLIMB).arg("--help").output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for option in
        ["--quick", "--engines", "--cost", "--trace", "--zipf", "--json", "--noisy", "--seed", "--out", "--listen"]
    {
        assert!(stdout.contains(option), "{option}");
    }
}

#[test]
fn plan_is_arithmetic() {
    let output = Command::new(CLIMB).args(["plan", "--daily-users", "1e6"]).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("694 requests/s"));
}

#[test]
fn the_ledger_lists_every_row() {
    let dir = TempDir::new().unwrap();
    let output = climb(dir.path(), &["ledger"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for number in 1..=57 {
        assert!(stdout.contains(&format!("r{number:02} ")), "r{number:02}");
    }
}

#[test]
fn wrong_usage_is_named() {
    refused(&["07"], 2, &["rung 07", "01, 02, 03, 04, 05, 06, 10, 12"]);
    refused(&["99..100"], 2, &["99"]);
    refused(&["--fast"], 2, &["--fast", "--help"]);
    refused(&["--cost", "free"], 2, &["free", "modelled or real"]);
    refused(&["--zipf", "-1"], 2, &["--zipf"]);
    refused(&["plan"], 2, &["--daily-users"]);
    refused(&["--listen", "127.0.0.1:0"], 2, &["one rung"]);
    refused(&["10", "--engines", "redis"], 2, &["redis", "--engines", "postgres, nats"]);
    refused(&["01..06", "--engines", "nats"], 2, &["rung 10", "cargo climb 10 --engines nats"]);
    refused(&["10", "--engines", "nats,postgres"], 2, &["rung 05", "cargo climb 05 --engines postgres"]);
}

#[test]
fn an_engine_that_cannot_be_had_is_named() {
    for (rung, engine, variable) in [("10", "nats", NATS_SERVER), ("05", "postgres", PG_BIN)] {
        let dir = TempDir::new().unwrap();
        let mut command = Command::new(CLIMB);
        command.args([rung, "--engines", engine, "--out"]).arg(dir.path()).env(variable, "/nonexistent");
        let output = command.stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(variable) && stderr.contains(&format!("--engines {engine}")), "{stderr}");
    }
}

/// The program that builds is one that says what it was asked for.
#[cfg(not(all(feature = "nats", feature = "postgres")))]
#[test]
fn an_engine_that_the_build_lacks_is_built() {
    let dir = TempDir::new().unwrap();
    for (name, text) in
        [("cargo", "echo \"$@\""), ("nats-server", "echo v2.10.0"), ("postgres", "echo '(PostgreSQL) 15.1'")]
    {
        let file = dir.path().join(name);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    fs::write(dir.path().join("initdb"), "").unwrap();
    let climb = || {
        let mut climb = Command::new(CLIMB);
        climb.args(["05..10", "--engines", "postgres,nats", "--quick"]).stdin(Stdio::null());
        climb.env(NATS_SERVER, dir.path().join("nats-server")).env(PG_BIN, dir.path());
        climb
    };
    let output =
        climb().env("CARGO", dir.path().join("cargo")).env("CARGO_MANIFEST_DIR", "/examples").output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stderr.contains("lacks the feature"), "{stderr}");
    for words in ["run --release --bin climb", "/examples/Cargo.toml -- 05..10 --engines postgres,nats --quick"] {
        assert!(stdout.contains(words), "{stdout}");
    }
    let output = climb().env_remove("CARGO").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && stderr.contains("--features"), "{stderr}");
}

/// What is counted must hold; figures that are times belong to the optimised binary on a quiet machine.
#[cfg(feature = "nats")]
#[test]
fn rung_10_runs_on_a_nats_server_and_says_so() {
    if std::env::var_os("TENFOLD_WITHOUT_NATS").is_some() {
        eprintln!("!!!! LEFT OUT: no nats-server here");
        return;
    }
    let dir = TempDir::new().unwrap();
    let output = climb(dir.path(), &["10", "--engines", "nats", "--quick", "--noisy"]);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(matches!(output.status.code(), Some(0 | 1)), "{stdout}\n{stderr}");
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.path().join("report.json")).unwrap_or_default()).unwrap_or_default();
    let rung = &report["rungs"][0];
    let engine = rung["engine"].as_str().unwrap_or_else(|| panic!("no engine: {stdout}\n{stderr}"));
    assert!(engine.starts_with("nats-server "), "{engine}");
    let kept = ["r41", "r46"];
    let claims =
        rung["claims"].as_array().unwrap().iter().filter(|claim| kept.contains(&claim["id"].as_str().unwrap()));
    let verdicts: Vec<_> = claims.map(|claim| &claim["verdict"]).collect();
    assert!(verdicts.len() == 5 && verdicts.iter().all(|verdict| *verdict == "pass"), "{stdout}");
    let ledger = climb(dir.path(), &["ledger"]);
    assert!(String::from_utf8_lossy(&ledger.stdout).contains(&format!("(climbed on {engine})")));
}

/// On sockets and in folders of its own, ended by Ctrl-C: not one process of PostgreSQL stays.
#[cfg(feature = "postgres")]
#[test]
fn ctrl_c_ends_the_servers_of_rung_05() {
    if std::env::var_os("TENFOLD_WITHOUT_POSTGRES").is_some() {
        eprintln!("!!!! LEFT OUT: TENFOLD_WITHOUT_POSTGRES is set");
        return;
    }
    for (name, code) in [("INT", Some(130)), ("KILL", None)] {
        let dir = TempDir::new().unwrap();
        let mut climb = start(dir.path(), &["05", "--engines", "postgres", "--quick", "--noisy"]);
        let servers =
            |pids: &[u32]| -> Vec<u32> { pids.iter().copied().filter(|pid| runs(*pid, "postgres")).collect() };
        wait_until("the servers run", || servers(&descendants(climb.id())).len() >= 30);
        let children = servers(&descendants(climb.id()));
        signal(climb.id(), name);
        assert_eq!(climb.wait().unwrap().code(), code);
        wait_until("the servers are gone", || servers(&children).is_empty());
    }
    // What a killed climb leaves in memory, the next one sweeps.
    drop(TempDir::in_memory(0).unwrap());
}

#[test]
fn a_folder_that_cannot_be_written_is_named_before_anything_runs() {
    let began = Instant::now();
    let output = climb(Path::new("/proc/nowhere"), &["01", "--noisy"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("/proc/nowhere"), "{stderr}");
    let file = TempDir::new().unwrap();
    let file = file.path().join("file");
    fs::write(&file, b"in the way").unwrap();
    let output = climb(&file, &["01", "--noisy"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write"));
    refused(&["01", "--noisy", "--json", "/proc/nowhere/r.json"], 1, &["/proc/nowhere/r.json"]);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn traces_that_are_missing_empty_or_damaged_are_named() {
    let dir = TempDir::new().unwrap();
    let trace = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    refused(&["01", "--noisy", "--trace", "/nonexistent.d64.zst"], 1, &["/nonexistent.d64.zst"]);
    refused(&["01", "--noisy", "--trace", &trace("empty", b"")], 1, &["empty"]);
    refused(&["01", "--noisy", "--trace", &trace("text", b"no trace at all, only text")], 1, &["text"]);
    // A zstd frame that says one raw block of 12 bytes follows and ends the frame: one access and a half.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, 12, 0x61, 0, 0];
    frame.extend([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    refused(&["01", "--noisy", "--trace", &trace("half", &frame)], 1, &["cut off"]);
    frame.truncate(15);
    refused(&["01", "--noisy", "--trace", &trace("cut", &frame)], 1, &["cut"]);
}

#[test]
fn a_busy_port_is_named() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    refused(&["01", "--noisy", "--listen", &address], 1, &[&address]);
}

#[test]
fn a_killed_child_ends_the_climb_with_an_error_and_no_orphan() {
    let dir = TempDir::new().unwrap();
    let mut climb = start(dir.path(), &["01", "--quick", "--noisy"]);
    wait_until("the boxes run", || descendants(climb.id()).len() >= 4);
    std::thread::sleep(Duration::from_millis(1_500));
    let children = descendants(climb.id());
    signal(children[0], "KILL");
    // The climb ends the others as soon as it has noticed: they may be gone by then.
    for child in &children[1..] {
        try_signal(*child, "KILL");
    }
    let status = climb.wait().unwrap();
    let mut stderr = String::new();
    climb.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(!status.success());
    assert!(stderr.contains("error") || status.code() == Some(1), "{status}: {stderr}");
    assert!(children.iter().all(|child| !is_climb(*child)), "an orphan is left");
}

#[test]
fn ctrl_c_leaves_no_orphan_and_says_130() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let dir = TempDir::new().unwrap();
        let mut climb = start(dir.path(), &["01", "--quick", "--noisy"]);
        wait_until("the boxes run", || descendants(climb.id()).len() >= 4);
        let children = descendants(climb.id());
        signal(climb.id(), name);
        assert_eq!(climb.wait().unwrap().code(), Some(code));
        wait_until("the children are gone", || children.iter().all(|child| !is_climb(*child)));
    }
}

#[test]
fn even_a_killed_climb_leaves_no_orphan() {
    let dir = TempDir::new().unwrap();
    let mut climb = start(dir.path(), &["01", "--quick", "--noisy"]);
    wait_until("the boxes run", || descendants(climb.id()).len() >= 4);
    let children = descendants(climb.id());
    signal(climb.id(), "KILL");
    climb.wait().unwrap();
    wait_until("the children are gone", || children.iter().all(|child| !is_climb(*child)));
}

/// Whether the process `pid` lives and is a climb's: ids are used again.
fn is_climb(pid: u32) -> bool {
    runs(pid, "climb")
}

fn runs(pid: u32, program: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(program)
}
