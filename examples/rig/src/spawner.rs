//! The one thread that forks.
//!
//! The kernel's death signal (`PR_SET_PDEATHSIG`) is sent when the *thread* that forked the child ends, not its process.
//! Threads of an async runtime come and go, so every fork is done by one thread that lives as long as the process.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;

use tokio::sync::oneshot;

use crate::process::Process;

/// First argument of a child; seen in `ps`.
pub(crate) const ROLE_ARGUMENT: &str = "--tenfold-role";
/// Carries the child's [`Spec`](crate::role::Spec) as JSON.
pub(crate) const SPEC_VARIABLE: &str = "TENFOLD_ROLE_SPEC";

/// What is needed to start this binary once more.
pub(crate) struct Order {
    pub(crate) name: String,
    pub(crate) spec_json: String,
    pub(crate) reply: oneshot::Sender<io::Result<Process>>,
}

/// Has this binary started once more by the spawning thread.
///
/// # Cancel safety
/// Safe: a child whose caller has gone is killed at once.
pub(crate) async fn spawn(name: String, spec_json: String) -> io::Result<Process> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let sender = match SPAWNER.get() {
        Some(sender) => sender,
        None => {
            // Two callers may both start a thread; the loser's ends as its sender is dropped, and has forked nothing.
            let (sender, orders) = mpsc::channel();
            std::thread::Builder::new().name("rig-spawner".into()).spawn(move || work(&orders))?;
            SPAWNER.get_or_init(|| sender)
        }
    };
    let (reply, answer) = oneshot::channel();
    let gone = |()| io::Error::other("the spawning thread has ended");
    sender.send(Order { name, spec_json, reply }).map_err(|_| gone(()))?;
    answer.await.map_err(|_| gone(()))?
}

fn work(orders: &mpsc::Receiver<Order>) {
    for order in orders {
        let started = start(&order.name, &order.spec_json).map(Process::new);
        // If the caller has gone, the process comes back here and is killed as it drops.
        drop(order.reply.send(started));
    }
}

fn start(name: &str, spec_json: &str) -> io::Result<Child> {
    // The link of the kernel is right even if the file was replaced by a newer build meanwhile.
    let mut command = Command::new("/proc/self/exe");
    if let Ok(exe) = std::env::current_exe() {
        command.arg0(exe);
    }
    command
        .args([ROLE_ARGUMENT, name])
        .env(SPEC_VARIABLE, spec_json)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C at the terminal reaches the parent only, which then ends its children in order.
        .process_group(0)
        .spawn()
}
