//! Real child processes: that they start, break and come back as asked, and that none outlives its parent.
//!
//! Nodes are this very binary, started again, so it has a `main` of its own and no harness around it. It answers
//! `--list` and takes a test's name, as test runners ask of a binary like this one.

use std::io::{BufRead as _, BufReader, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tenfold_rig::{
    Client, NodeSpec, Request, Role, RoleResult, Roles, StartError, Supervisor, TempDir, now, run, sleep,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SCENARIO_VARIABLE: &str = "TENFOLD_TEST_SCENARIO";
const TESTS: &[(&str, fn())] = &[
    ("a_node_serves_is_killed_and_comes_back_at_its_address", a_node_serves_is_killed_and_comes_back_at_its_address),
    ("a_hung_node_keeps_its_sockets_and_goes_on", a_hung_node_keeps_its_sockets_and_goes_on),
    ("a_stop_is_graceful_or_else_forced", a_stop_is_graceful_or_else_forced),
    ("every_failed_start_has_its_error", every_failed_start_has_its_error),
    (
        "a_dropped_supervisor_ends_its_nodes_and_refuses_restarts",
        a_dropped_supervisor_ends_its_nodes_and_refuses_restarts,
    ),
    ("what_a_node_has_started_ends_with_it", what_a_node_has_started_ends_with_it),
    ("no_child_outlives_its_parent", no_child_outlives_its_parent),
    ("a_child_started_by_hand_explains_itself", a_child_started_by_hand_explains_itself),
];

fn main() -> ExitCode {
    if let Ok(scenario) = std::env::var(SCENARIO_VARIABLE) {
        return run(roles(), || play(scenario));
    }
    if std::env::args().any(|argument| argument == "--tenfold-role") {
        return run(roles(), || async { Ok(ExitCode::FAILURE) });
    }
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut failed = 0;
    for (name, test) in TESTS {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            let outcome = catch_unwind(test);
            println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
            failed += u8::from(outcome.is_err());
        }
    }
    ExitCode::from(failed)
}

fn roles() -> Roles {
    Roles::new()
        .add("echo", echo)
        .add("deaf", |mut role: Role<()>| async move {
            let _listener = role.ready()?;
            std::future::pending().await
        })
        .add("starter", |mut role: Role<PathBuf>| async move {
            // A shell in a session of its own, and what it starts.
            let file = role.config.display();
            let script = format!("sleep 600 & echo $! $$ > {file}.new; mv {file}.new {file}; wait");
            let _started = Command::new("setsid").args(["sh", "-c", &script]).stdout(Stdio::null()).spawn()?;
            let _listener = role.ready()?;
            std::future::pending().await
        })
        .add("dying", |_: Role<()>| async {
            eprintln!("last words");
            std::process::exit(7)
        })
        .add("late", |_: Role<()>| async {
            eprintln!("still busy");
            std::future::pending().await
        })
        .add("unwritable", |role: Role<PathBuf>| async move {
            let path = role.config.join("state");
            std::fs::write(&path, b"x").map_err(|e| format!("cannot write {}: {e}", path.display()))?;
            Ok(())
        })
}

/// Answers any request with the configured text.
async fn echo(mut role: Role<String>) -> RoleResult {
    let text = role.config.clone();
    role.announce("second", "127.0.0.1:9".parse()?);
    let listener = role.ready()?;
    let serve = async {
        loop {
            let (mut stream, _) = listener.accept().await?;
            let text = text.clone();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                while matches!(stream.read(&mut head).await, Ok(1..)) {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    };
    tokio::select! {
        outcome = serve => outcome,
        () = role.stop().wait() => Ok(()),
    }
}

/// Runs a test's body as a rung's parent would.
fn in_rig<F: Future<Output = RoleResult>>(body: impl FnOnce() -> F) {
    let code = run(roles(), || async {
        body().await?;
        Ok(ExitCode::SUCCESS)
    });
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
}

async fn ask(client: &Client, timeout: Duration) -> Result<String, tenfold_rig::Failure> {
    let response = client.send(&Request::get("/"), now() + timeout).await?;
    Ok(String::from_utf8_lossy(&response.body).into_owned())
}

const LONG: Duration = Duration::from_secs(20);

fn a_node_serves_is_killed_and_comes_back_at_its_address() {
    in_rig(|| async {
        let tiers = Supervisor::new()?;
        let spec = NodeSpec::new("echo", "echo-1").ip("127.0.0.2".parse()?).config(&"hello")?;
        let node = tiers.spawn(spec).await?;
        assert_eq!((node.name(), node.role(), node.addr().ip().to_string()), ("echo-1", "echo", "127.0.0.2".into()));
        assert_eq!(node.announced("second"), Some("127.0.0.1:9".parse()?));
        let client = Client::new([node.addr()])?;
        assert_eq!(ask(&client, LONG).await?, "hello");
        let (addr, pid) = (node.addr(), node.pid());
        assert!(is_alive(pid) && tiers.pids() == [pid]);
        assert!(tenfold_rig::process_usage(pid)?.rss_bytes > 0);
        node.kill()?;
        node.kill()?;
        assert!(!is_alive(pid) && !node.is_alive() && tiers.pids().is_empty());
        assert!(ask(&client, LONG).await.is_err());
        node.restart().await?;
        assert_eq!(node.addr(), addr);
        assert_ne!(node.pid(), pid);
        assert_eq!(ask(&client, LONG).await?, "hello");
        Ok(())
    });
}

fn a_hung_node_keeps_its_sockets_and_goes_on() {
    in_rig(|| async {
        let tiers = Supervisor::new()?;
        let node = tiers.spawn(NodeSpec::new("echo", "echo-1").config(&"x")?).await?;
        let client = Client::new([node.addr()])?;
        node.suspend()?;
        let hung = ask(&client, Duration::from_millis(200)).await;
        assert_eq!(hung, Err(tenfold_rig::Failure::TimedOut));
        assert!(node.is_alive());
        node.resume()?;
        assert_eq!(ask(&client, LONG).await?, "x");
        node.suspend()?;
        node.kill()?;
        assert!(!node.is_alive(), "a suspended process dies too");
        Ok(())
    });
}

fn a_stop_is_graceful_or_else_forced() {
    in_rig(|| async {
        let tiers = Supervisor::new()?;
        let polite = tiers.spawn(NodeSpec::new("echo", "echo-1").config(&"x")?).await?;
        assert!(polite.stop(LONG).await?);
        let deaf = tiers.spawn(NodeSpec::new("deaf", "deaf-1")).await?;
        assert!(!deaf.stop(Duration::from_millis(100)).await?);
        assert!(!polite.is_alive() && !deaf.is_alive());
        Ok(())
    });
}

fn every_failed_start_has_its_error() {
    in_rig(|| async {
        let tiers = Supervisor::new()?;
        let start = async |spec: NodeSpec| tiers.spawn(spec).await.unwrap_err();
        let error = start(NodeSpec::new("nobody", "n")).await;
        assert!(matches!(&error, StartError::UnknownRole { message, .. } if message.contains("echo")), "{error}");
        let error = start(NodeSpec::new("echo", "n").config(&17)?).await;
        assert!(matches!(&error, StartError::Config { .. }), "{error}");
        let error = start(NodeSpec::new("dying", "n")).await;
        assert!(matches!(&error, StartError::Died { status, .. } if status.code() == Some(7)), "{error}");
        assert!(error.to_string().contains("last words"), "{error}");
        let error = start(NodeSpec::new("late", "n").ready_timeout(Duration::from_millis(1500))).await;
        assert!(matches!(&error, StartError::TimedOut { stderr, .. } if stderr == "still busy"), "{error}");
        let public = "192.0.2.1".parse()?;
        for spec in [NodeSpec::new("echo", "n").ip(public), NodeSpec::new("echo", "n").in_own_network(public)] {
            let error = start(spec).await;
            assert!(matches!(&error, StartError::NotLoopback { .. }), "{error}");
        }
        let taken = TcpListener::bind("127.0.0.1:0").await?;
        let error = start(NodeSpec::new("echo", "n").config(&"x")?.port(taken.local_addr()?.port())).await;
        assert!(matches!(&error, StartError::Bind { message, .. } if message.contains("in use")), "{error}");
        // Not even root may write here.
        let error = start(NodeSpec::new("unwritable", "n").config(&Path::new("/proc/self"))?).await;
        assert!(matches!(&error, StartError::Role { message, .. } if message.contains("cannot write")), "{error}");
        assert!(tiers.pids().is_empty());
        Ok(())
    });
}

fn a_dropped_supervisor_ends_its_nodes_and_refuses_restarts() {
    in_rig(|| async {
        let tiers = Supervisor::new()?;
        let first = tiers.spawn(NodeSpec::new("deaf", "deaf-1")).await?;
        let second = tiers.spawn(NodeSpec::new("deaf", "deaf-2")).await?;
        assert_eq!(tiers.all().len(), 2);
        drop(tiers);
        assert!(!first.is_alive() && !second.is_alive());
        let error = first.restart().await.unwrap_err();
        assert!(matches!(error, StartError::Closed { .. }), "{error}");
        assert!(!first.is_alive());
        Ok(())
    });
}

fn what_a_node_has_started_ends_with_it() {
    in_rig(|| async {
        let (tiers, folder) = (Supervisor::new()?, TempDir::new()?);
        let file = folder.path().join("started");
        let node = tiers.spawn(NodeSpec::new("starter", "starter").config(&file)?).await?;
        let started = read_ids(&file).await?;
        assert!(started.len() == 2 && started.iter().all(|pid| is_alive(*pid) && tiers.pids().contains(pid)));
        node.kill()?;
        assert!(!started.iter().any(|pid| is_alive(*pid)), "{started:?}");
        node.restart().await?;
        let started = read_ids(&file).await?;
        assert!(started.iter().all(|pid| is_alive(*pid)));
        drop(tiers);
        assert!(!started.iter().any(|pid| is_alive(*pid)), "{started:?}");
        Ok(())
    });
}

/// The numbers in a file, once it is there; removes it.
async fn read_ids(file: &Path) -> RoleResult<Vec<u32>> {
    let deadline = now() + LONG;
    while !file.exists() {
        assert!(now() < deadline, "nothing was started");
        sleep(Duration::from_millis(10)).await;
    }
    let text = std::fs::read_to_string(file)?;
    std::fs::remove_file(file)?;
    Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// What the parent does whose children are watched: it names them and its folder, then ends as told.
async fn play(scenario: String) -> RoleResult<ExitCode> {
    let folder = TempDir::new()?;
    let tiers = Supervisor::new()?;
    for name in ["deaf-1", "deaf-2", "deaf-3"] {
        println!("{}", tiers.spawn(NodeSpec::new("deaf", name)).await?.pid());
    }
    tiers.all()[2].suspend()?;
    println!("{}", folder.path().display());
    match scenario.as_str() {
        "normal" => Ok(ExitCode::SUCCESS),
        "error" => Err("as told".into()),
        "panic" => panic!("as told"),
        _ => {
            sleep(Duration::from_secs(600)).await;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn no_child_outlives_its_parent() {
    let cases = [
        ("normal", None, Some(0)),
        ("error", None, Some(1)),
        ("panic", None, Some(101)),
        ("wait", Some(Signal::SIGINT), Some(130)),
        ("wait", Some(Signal::SIGTERM), Some(143)),
        ("wait", Some(Signal::SIGHUP), Some(129)),
        ("wait", Some(Signal::SIGKILL), None),
    ];
    // A folder of its own for temporary files: another test's sweep must not come first.
    let outer = TempDir::new().unwrap();
    for (scenario, signal, code) in cases {
        let mut parent = Killed(start_scenario(scenario, outer.path()));
        let (pids, folder) = read_announcement(&mut parent.0);
        if let Some(signal) = signal {
            assert!(pids.iter().all(|pid| is_alive(*pid)), "{scenario}: {pids:?}");
            kill(Pid::from_raw(parent.0.id().cast_signed()), signal).unwrap();
        }
        let status = parent.0.wait().unwrap();
        assert_eq!(status.code(), code, "{scenario} {signal:?}");
        let deadline = now() + LONG;
        while pids.iter().any(|pid| is_alive(*pid)) {
            assert!(now() < deadline, "{scenario} {signal:?}: of {pids:?} some live on");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(folder.exists(), signal == Some(Signal::SIGKILL), "{scenario} {signal:?}: {}", folder.display());
        // What a killed parent leaves on disk, the next one sweeps.
        drop(TempDir::new_in(outer.path()).unwrap());
        assert!(!folder.exists());
    }
}

fn a_child_started_by_hand_explains_itself() {
    let output = Command::new(std::env::current_exe().unwrap()).arg("--tenfold-role").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("TENFOLD_ROLE_SPEC"), "{stderr}");
}

/// Ends a parent whose test has failed.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.kill()));
        let _ = self.0.wait();
    }
}

fn start_scenario(scenario: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env(SCENARIO_VARIABLE, scenario)
        .env("TMPDIR", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn read_announcement(parent: &mut Child) -> (Vec<u32>, PathBuf) {
    let mut lines = Vec::new();
    for line in BufReader::new(parent.stdout.take().unwrap()).lines().take(4) {
        lines.push(line.unwrap());
    }
    if lines.len() < 4 {
        let mut stderr = String::new();
        parent.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        panic!("the parent ended early: {stderr}");
    }
    let folder = PathBuf::from(lines.pop().unwrap());
    (lines.iter().map(|line| line.parse().unwrap()).collect(), folder)
}

/// Whether a process has this id and is more than an entry that waits to be reaped.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, tail)| !tail.trim_start().starts_with(['Z', 'X']))
}
