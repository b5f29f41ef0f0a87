//! One node: a process with a name, an address and a way to break it.

mod launch;
mod spec;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;

pub use spec::{NodeSpec, StartError};

use crate::clock;
use crate::process::Process;
use launch::{Tail, launch};

/// A port of a process that was just killed is tried again for a second.
const RESTART_BIND_ATTEMPTS: u32 = 40;
const STOP_POLL: Duration = Duration::from_millis(5);

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

    /// `kill -9`: the process and all that it has started are gone when this returns. Does nothing to a dead node.
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

    /// Its process and all that this has started, if it lives.
    pub(crate) fn family(&self) -> Vec<u32> {
        self.live().process.family()
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
