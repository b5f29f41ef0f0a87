//! Processes, which end with the test that started them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use super::backend::Fake;
use super::client::{Answer, Client};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Names the port file of a test that acts as a backend.
const BACKEND_NAME: &str = "TENFOLD_TEST_BACKEND";

/// A proxy that runs.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    said: Receiver<String>,
}

impl Proxy {
    /// A proxy of two threads before these backends.
    pub(crate) fn start(backends: &[SocketAddr], arguments: &[&str]) -> Self {
        Self::run(Command::new(executable()), backends, arguments)
    }

    /// What it says of its options.
    pub(crate) fn help() -> String {
        let output = Command::new(executable()).arg("--help").output().expect("the proxy starts");
        String::from_utf8(output.stdout).expect("it is text")
    }

    /// How it ends with a command line that it refuses, and its last words.
    pub(crate) fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
        let mut child =
            Command::new(executable()).args(arguments).stderr(Stdio::piped()).spawn().expect("the proxy starts");
        let status = wait(&mut child);
        let said = std::io::read_to_string(child.stderr.take().expect("it is piped")).expect("it is text");
        (status.code(), said.lines().last().unwrap_or_default().to_owned())
    }

    /// The same, with no more than so many open files.
    pub(crate) fn start_with_files(max_files: u32, backends: &[SocketAddr], arguments: &[&str]) -> Self {
        Self::run(limited(max_files), backends, arguments)
    }

    /// The same, with a variable of the environment.
    pub(crate) fn start_with_variable(variable: (&str, &str), backends: &[SocketAddr], arguments: &[&str]) -> Self {
        let mut command = Command::new(executable());
        command.env(variable.0, variable.1);
        Self::run(command, backends, arguments)
    }

    fn run(mut command: Command, backends: &[SocketAddr], arguments: &[&str]) -> Self {
        let backends: Vec<_> = backends.iter().flat_map(|address| ["--backend".into(), address.to_string()]).collect();
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--threads", "2"]);
        command.args(backends).args(arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the proxy starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (say, said) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        let address = || {
            let line = said.recv_timeout(PATIENCE).expect("the proxy says where it listens");
            line.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no address: {line}"))
        };
        let (address, admin) = (address(), address());
        Self { child, address, admin, said }
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The answer of the admin address.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Answer {
        let mut client = Client::connect(self.admin);
        client.send(&format!("{method} {path} HTTP/1.1\r\nhost: admin\r\n\r\n"));
        client.answer()
    }

    /// Sends it a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// What it says next.
    pub(crate) fn says(&self) -> String {
        self.said.recv_timeout(PATIENCE).expect("the proxy says something")
    }

    /// How it ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A proxy that is not expected to serve.
pub(crate) struct Process(Child);

impl Process {
    /// Starts one with no more than so many open files.
    pub(crate) fn start(max_files: u32, arguments: &[&str], backends: &[SocketAddr]) -> Self {
        let backends = backends.iter().flat_map(|address| ["--backend".into(), address.to_string()]);
        Self(limited(max_files).args(arguments).args(backends).stderr(Stdio::null()).spawn().expect("it starts"))
    }

    /// How it ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// The proxy, with no more than so many open files.
fn limited(max_files: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n $0 && exec \"$@\"", &max_files.to_string()]).arg(executable());
    command
}

/// A backend that can be killed: this test binary, told to act as one.
pub(crate) struct BackendProcess {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl BackendProcess {
    /// A backend that answers with this name.
    pub(crate) fn start(name: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
        command.args(["--exact", "rig::process::acts_as_backend", "--nocapture"]).env(BACKEND_NAME, name);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a backend starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut lines = stdout.lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.split("backend on ").nth(1)?.trim().parse().ok());
        Self { child, address: address.expect("the backend says where it listens") }
    }

    /// Sends it a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }
}

impl BackendProcess {
    /// Ends it; nobody listens there any more.
    pub(crate) fn kill(&mut self) {
        end(&mut self.child);
    }
}

impl Drop for BackendProcess {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// No test of its own: what [`BackendProcess`] runs.
#[test]
fn acts_as_backend() {
    let Ok(name) = std::env::var(BACKEND_NAME) else { return };
    let fake = Fake::named(&name);
    println!("backend on {}", fake.address);
    loop {
        std::thread::park();
    }
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process.to_string()]).status();
    assert!(sent.expect("kill can be run").success());
}

fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("the process ends", || {
        status = child.try_wait().expect("it is a child");
        status.is_some()
    });
    status.expect("it has ended")
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// The example beside this test in the target folder; built now if only this test was, and it is missing or old.
fn executable() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let test = std::env::current_exe().expect("the test binary has a path");
        let profile = test.parent().and_then(Path::parent).expect("it lies in PROFILE/deps");
        let path = profile.join("examples").join("proxy");
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = ["src", "examples/proxy"].map(|folder| newest(&package.join(folder)));
        if !sources.iter().all(|source| *source < changed(&path)) {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(["build", "--features", "proxy", "--example", "proxy", "--manifest-path"]);
            cargo.arg(package.join("Cargo.toml"));
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.status().expect("cargo can be run").success());
        }
        path
    })
}

/// When the youngest file in a folder was changed.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).expect("the sources are there").map_while(Result::ok);
    entries
        .map(|entry| if entry.path().is_dir() { newest(&entry.path()) } else { changed(&entry.path()) })
        .max()
        .flatten()
}

fn changed(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|metadata| metadata.modified()).ok()
}
