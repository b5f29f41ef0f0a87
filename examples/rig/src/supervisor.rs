//! Keeps the processes of one system: starts them, and ends them all when it goes.

use std::io;
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::Signal;

use crate::node::{Node, NodeSpec, StartError};

/// More children than this are refused: a loop that starts nodes must not take the machine down.
const MAX_NODES: usize = 256;

/// The owner of a set of nodes.
///
/// Dropping it, at the normal end, by a panic or by Ctrl-C in [`run`](crate::run), kills and reaps every node it
/// started. Make one for each copy of a system; they cost nothing.
#[derive(Debug, Default)]
pub struct Supervisor {
    nodes: Mutex<Vec<Node>>,
}

impl Supervisor {
    /// An owner of no nodes yet.
    ///
    /// # Errors
    /// The machine has no procfs, from which children are started and watched.
    pub fn new() -> io::Result<Self> {
        match std::fs::metadata("/proc/self/exe") {
            Ok(_) => Ok(Self::default()),
            Err(e) => Err(io::Error::new(e.kind(), format!("the rig needs Linux with /proc: {e}"))),
        }
    }

    /// Starts a node as a process of its own and returns when it serves.
    ///
    /// # Errors
    /// See [`StartError`]; the process is gone then.
    ///
    /// # Cancel safety
    /// Safe: a node that was not returned is killed.
    pub async fn spawn(&self, spec: NodeSpec) -> Result<Node, StartError> {
        if self.nodes().len() >= MAX_NODES {
            return Err(StartError::TooMany { max_nodes: MAX_NODES });
        }
        let node = Node::start(spec).await?;
        self.nodes().push(node.clone());
        Ok(node)
    }

    /// Every node started so far, the dead ones too, in order of their start.
    pub fn all(&self) -> Vec<Node> {
        self.nodes().clone()
    }

    /// The ids of the processes that live, and of those that they have started.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes().iter().flat_map(Node::family).collect()
    }

    /// Kills every node and refuses restarts; what dropping does too.
    pub fn kill_all(&self) {
        let nodes = self.all();
        // First a signal to each, then a wait for each: they die side by side.
        for node in &nodes {
            node.close();
            let _ = node.signal(Signal::SIGKILL);
        }
        for node in &nodes {
            let _ = node.kill();
        }
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, Vec<Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.kill_all();
    }
}
