//! Networks of one's own for processes, without root: Linux user and network namespaces.
//!
//! On one machine every process reaches every address of the loopback, so a private network cannot be shown there. A
//! process that enters a namespace sees only the interfaces that it is given. Everything it starts sees the same, and
//! the kernel takes the network down with the last of them.
//!
//! A socket stays in the network in which it was made: a role's listener is reached from where the role was started,
//! wherever the role has gone since.

use std::fs;
use std::io;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{getgid, getuid};
use tokio::process::Command;

/// Moves this process into a network without interfaces, in which it may make some: it becomes root in a user namespace
/// of its own, which gives it no right outside.
///
/// # Errors
/// The kernel has no such namespaces or forbids them, or this process has more than one thread.
pub fn enter_own_network() -> io::Result<()> {
    let (user, group) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    // Without the first line an unprivileged process may not write the third (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    // New credentials may clear the death signal that a role's process asked for (prctl(2)).
    Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// Moves this process, which is in such a network, into another one without interfaces.
///
/// # Errors
/// The kernel forbids it, or this process has more than one thread.
pub fn enter_next_network() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWNET)?)
}

/// Runs `ip` with these words, such as `link set lo up`, in the network of this process.
///
/// # Errors
/// There is no such program, or what it said when it failed.
///
/// # Cancel safety
/// The program is killed.
pub async fn ip(words: &str) -> io::Result<()> {
    let output = Command::new("ip").args(words.split_whitespace()).kill_on_drop(true).output().await;
    let output = output.map_err(|error| io::Error::new(error.kind(), format!("cannot run ip: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
