//! One node: a process with a name, an address and a way to break it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{ChildStderr, ChildStdout, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Serialize;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use crate::clock;
use crate::process::Process;
use crate::role::{FailureKind, Handshake, Spec};
use crate::spawner;

const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// A port of a process that was just killed is tried again for a second.
const RESTART_BIND_ATTEMPTS: u32 = 40;
const MAX_HANDSHAKE_BYTES: u64 = 64 * 1024;
const MAX_TAIL_BYTES: usize = 8 * 1024;
const TAIL_LINES: usize = 12;
/// How long the last words of a dead child may take to arrive.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(500);
const STOP_POLL: Duration = Duration::from_millis(5);

/// What to start.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    role: String,
    name: String,
    bind: SocketAddr,
    threads: usize,
    ready_timeout: Duration,
    config: serde_json::Value,
}

impl NodeSpec {
    /// A node called `name` that plays `role`, on a free port of 127.0.0.1, with one thread and no configuration.
    pub fn new(role: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            name: name.into(),
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            threads: 1,
            ready_timeout: READY_TIMEOUT,
            config: serde_json::Value::Null,
        }
    }

    /// Gives the configuration that the role's function receives.
    ///
    /// # Errors
    /// It has no form in JSON, such as a map whose keys are not strings.
    pub fn config<C: Serialize>(mut self, config: &C) -> Result<Self, StartError> {
        self.config = serde_json::to_value(config)
            .map_err(|e| StartError::Config { name: self.name.clone(), message: e.to_string() })?;
        Ok(self)
    }

    /// Listens on this address of 127.0.0.0/8, so that tiers can have addresses of their own.
    #[must_use]
    pub fn ip(mut self, ip: Ipv4Addr) -> Self {
        self.bind.set_ip(IpAddr::V4(ip));
        self
    }

    /// Listens on this port; 0, the default, takes a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.bind.set_port(port);
        self
    }

    /// Worker threads of the node; 1 by default, which costs the machine least.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// How long the node may take until it serves; 10 s by default.
    #[must_use]
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.ready_timeout = timeout;
        self
    }
}

/// Why a node does not serve. The process is gone.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration has no form in JSON or does not fit the role.
    #[error("node {name}: bad configuration: {message}")]
    Config {
        /// The node.
        name: String,
        /// What does not fit.
        message: String,
    },
    /// Only addresses of this machine's loopback are used.
    #[error("node {name}: {ip} is not a loopback address")]
    NotLoopback {
        /// The node.
        name: String,
        /// The address asked for.
        ip: IpAddr,
    },
    /// The binary has no such role.
    #[error("node {name}: {message}")]
    UnknownRole {
        /// The node.
        name: String,
        /// Which roles there are.
        message: String,
    },
    /// The port is busy or the address is not to be had.
    #[error("node {name}: {message}")]
    Bind {
        /// The node.
        name: String,
        /// Address and reason.
        message: String,
    },
    /// The role's function gave up before it was ready, for example as its folder is not writable.
    #[error("node {name}: {message}")]
    Role {
        /// The node.
        name: String,
        /// The function's error with its sources.
        message: String,
    },
    /// The process ended without a word on its stdout.
    #[error("node {name} died at its start ({status}); its last words: {}", or_none(.stderr))]
    Died {
        /// The node.
        name: String,
        /// Exit code or signal.
        status: ExitStatus,
        /// The last lines of its stderr.
        stderr: String,
    },
    /// Alive, but not ready in time.
    #[error("node {name} was not ready after {after:?}; its last words: {}", or_none(.stderr))]
    TimedOut {
        /// The node.
        name: String,
        /// The time it had.
        after: Duration,
        /// The last lines of its stderr.
        stderr: String,
    },
    /// The process said something else than that it is ready: its binary's `main` does not call [`run`](crate::run)
    /// first.
    #[error("node {name} did not say that it is ready but: {line:?}")]
    NotReady {
        /// The node.
        name: String,
        /// Its first line.
        line: String,
    },
    /// The supervisor has ended.
    #[error("node {name}: its supervisor has ended")]
    Closed {
        /// The node.
        name: String,
    },
    /// The bound of a supervisor is reached.
    #[error("a supervisor keeps at most {max_nodes} nodes")]
    TooMany {
        /// The bound.
        max_nodes: usize,
    },
    /// The operating system refused.
    #[error("node {name}: no process could be started")]
    Process {
        /// The node.
        name: String,
        /// Its reason.
        #[source]
        source: io::Error,
    },
}

/// A running node, or one that has been killed. Clones name the same node.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    spec: NodeSpec,
    closed: AtomicBool,
    live: Mutex<Live>,
}

#[derive(Debug)]
struct Live {
    process: Process,
    addr: SocketAddr,
    announced: BTreeMap<String, SocketAddr>,
    stderr: Tail,
}

impl Node {
    pub(crate) async fn start(spec: NodeSpec) -> Result<Self, StartError> {
        let live = launch(&spec, spec.bind, 1).await?;
        Ok(Self { inner: Arc::new(Inner { spec, closed: AtomicBool::new(false), live: Mutex::new(live) }) })
    }

    /// The node's own name.
    pub fn name(&self) -> &str {
        &self.inner.spec.name
    }

    /// The role it plays.
    pub fn role(&self) -> &str {
        &self.inner.spec.role
    }

    /// The id of its present process, or of its last one if that has ended.
    pub fn pid(&self) -> u32 {
        self.live().process.pid()
    }

    /// Where it listens; the same after a restart.
    pub fn addr(&self) -> SocketAddr {
        self.live().addr
    }

    /// A second address that the role announced under `label`.
    pub fn announced(&self, label: &str) -> Option<SocketAddr> {
        self.live().announced.get(label).copied()
    }

    /// Whether its process lives; a suspended one does.
    pub fn is_alive(&self) -> bool {
        matches!(self.live().process.try_status(), Ok(None))
    }

    /// The last lines it wrote to stderr.
    pub fn stderr_tail(&self) -> String {
        self.live().stderr.text()
    }

    /// `kill -9`: the process is gone when this returns. Does nothing to a dead node.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn kill(&self) -> io::Result<()> {
        self.live().process.kill().map(|_| ())
    }

    /// SIGSTOP: the node hangs, its sockets stay open.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn suspend(&self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT: a suspended node goes on.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// SIGTERM, then a wait of at most `grace`, then `kill -9`. Returns whether the node ended by itself.
    ///
    /// # Errors
    /// The operating system refused.
    ///
    /// # Cancel safety
    /// Safe; the node may be left alive and stopping.
    pub async fn stop(&self, grace: Duration) -> io::Result<bool> {
        self.signal(Signal::SIGTERM)?;
        let deadline = clock::now() + grace;
        while clock::now() < deadline {
            if !self.is_alive() {
                return Ok(true);
            }
            clock::sleep(STOP_POLL).await;
        }
        self.kill().map(|()| false)
    }

    /// Starts the node again at the same address with the same configuration; kills it first if it lives.
    ///
    /// # Errors
    /// As [`Supervisor::spawn`](crate::Supervisor::spawn); the node is dead then.
    ///
    /// # Cancel safety
    /// Safe; the node may be left dead.
    pub async fn restart(&self) -> Result<(), StartError> {
        let spec = &self.inner.spec;
        self.kill().map_err(|source| StartError::Process { name: spec.name.clone(), source })?;
        let live = launch(spec, self.addr(), RESTART_BIND_ATTEMPTS).await?;
        // Under the lock that close() takes through kill(), so that a supervisor that ends now kills the new process.
        let mut slot = self.live();
        if self.inner.closed.load(Ordering::SeqCst) {
            return Err(StartError::Closed { name: spec.name.clone() });
        }
        *slot = live;
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.live().process.signal(signal)
    }

    pub(crate) fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn launch(spec: &NodeSpec, bind: SocketAddr, bind_attempts: u32) -> Result<Live, StartError> {
    let name = spec.name.clone();
    if !bind.ip().is_loopback() {
        return Err(StartError::NotLoopback { name, ip: bind.ip() });
    }
    let order = Spec {
        role: spec.role.clone(),
        name: spec.name.clone(),
        bind,
        bind_attempts,
        threads: spec.threads,
        parent: std::process::id().cast_signed(),
        config: spec.config.clone(),
    };
    let json =
        serde_json::to_string(&order).map_err(|e| StartError::Config { name: name.clone(), message: e.to_string() })?;
    let no_process = |source| StartError::Process { name: name.clone(), source };
    let mut process = spawner::spawn(spec.name.clone(), json).await.map_err(no_process)?;
    let (stdout, stderr) = process.take_output();
    let stderr = Tail::follow(stderr).map_err(no_process)?;
    let spoken = tokio::time::timeout(spec.ready_timeout, first_line(stdout)).await;
    let line = match spoken {
        Err(_) => return Err(StartError::TimedOut { name, after: spec.ready_timeout, stderr: stderr.text() }),
        Ok(line) => line.map_err(no_process)?,
    };
    if line.is_empty() {
        let status = process.kill().map_err(no_process)?;
        return Err(StartError::Died { name, status, stderr: stderr.last_words().await });
    }
    match serde_json::from_str(&line) {
        Ok(Handshake::Ready { addr, announced }) => Ok(Live { process, addr, announced, stderr }),
        Ok(Handshake::Failed { kind, message }) => Err(match kind {
            FailureKind::UnknownRole => StartError::UnknownRole { name, message },
            FailureKind::Config => StartError::Config { name, message },
            FailureKind::Bind => StartError::Bind { name, message },
            FailureKind::Role => StartError::Role { name, message },
        }),
        Err(_) => Err(StartError::NotReady { name, line: line.trim_end().to_owned() }),
    }
}

/// The first line of a child's stdout, empty if it ended without one; what follows is read and dropped.
async fn first_line(stdout: Option<ChildStdout>) -> io::Result<String> {
    let stdout = stdout.ok_or_else(|| io::Error::other("the child has no stdout"))?;
    let mut reader = BufReader::new(tokio::process::ChildStdout::from_std(stdout)?);
    let mut line = String::new();
    (&mut reader).take(MAX_HANDSHAKE_BYTES).read_line(&mut line).await?;
    tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    Ok(line)
}

/// The end of what a child writes to stderr, in bounded memory.
#[derive(Clone, Debug)]
struct Tail {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: tokio::sync::watch::Receiver<bool>,
}

impl Tail {
    fn follow(stderr: Option<ChildStderr>) -> io::Result<Self> {
        let (done, ended) = tokio::sync::watch::channel(false);
        let bytes = Arc::new(Mutex::new(Vec::new()));
        if let Some(stderr) = stderr {
            let reader = tokio::process::ChildStderr::from_std(stderr)?;
            let bytes = bytes.clone();
            tokio::spawn(async move {
                keep_tail(reader, &bytes).await;
                // Nobody may be waiting for the end.
                let _ = done.send(true);
            });
        }
        Ok(Self { bytes, ended })
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    async fn last_words(mut self) -> String {
        // Late words are lost, as is a reader that failed: what there is, is shown.
        let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, self.ended.wait_for(|ended| *ended)).await;
        self.text()
    }
}

async fn keep_tail(mut reader: impl AsyncRead + Unpin, tail: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = reader.read(&mut chunk).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&chunk[..n]);
        let excess = tail.len().saturating_sub(MAX_TAIL_BYTES);
        tail.drain(..excess);
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}
