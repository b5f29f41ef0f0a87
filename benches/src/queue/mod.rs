//! Durable queues beside each other: what a send costs that waits until its message is on the disk, and everything after it.
//!
//! | scenario | what is timed |
//! |---|---|
//! | `produce` | threads (servers: tasks) send one message after the other, each confirmed on the disk before the next |
//! | `batch` | the same by one thread, 100 messages a call |
//! | `window` | one producer with up to 1,024 messages not confirmed yet |
//! | `tasks` | async tasks that each await their own confirm |
//! | `relaxed` | as `produce`, but confirmed means given to the system, or less |
//! | `consume` | take and ack, the ack waited for where the queue is one that syncs |
//! | `end-to-end` | 500 messages a second; from before the send until they are received |
//! | `recovery` | a million messages, `kill -9`, and the time until the first is out again; bytes a message |
//! | `idle` | a million messages that are not due, and a consumer that waits |
//! | `memory` | no disk at all |
//!
//! [`ours`] is tenfold's, [`baseline`] what the disk allows and a bare channel, `peers` the others: those need
//! `--cfg tenfold_queue_peers`.

pub mod baseline;
pub mod contest;
pub mod disk;
pub mod drive;
pub mod idle;
pub mod latencies;
pub mod load;
pub mod ours;
pub mod paced;
#[cfg(tenfold_queue_peers)]
pub mod peers;
pub mod recovery;
pub mod row;
pub mod scenario;

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use nix::unistd::Pid;
use serde::Serialize;

use self::load::{Bodies, Lap, Load};
use self::scenario::Scenario;
use crate::clock::Stopwatch;

/// What a queue under test complains of, whatever its kind of error.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Whether an operation went well.
pub type Outcome = Result<(), Trouble>;

/// What a confirmation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// On the disk.
    Always,
    /// Synced each second, or thereabouts.
    Interval,
    /// Given to the system, or kept back; never synced.
    Os,
    /// In memory only.
    None,
}

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Of this workspace.
    Ours,
    /// Another crate's, or a server.
    Peer,
    /// What the machine allows: no queue.
    Baseline,
}

/// What a queue is opened for.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// What a confirmation has to mean.
    pub sync: Policy,
    /// Where its files are.
    pub folder: &'a Path,
    /// What will be timed.
    pub scenario: Scenario,
    /// The size of a body.
    pub size: usize,
}

/// A queue with one meaning of confirmation.
#[derive(Clone, Copy)]
pub struct Candidate {
    /// The name in rows and on the command line.
    pub name: &'static str,
    /// What its confirmations mean.
    pub sync: Policy,
    /// Whose it is.
    pub origin: Origin,
    /// Whether producers are tasks even where others have threads: it is a server with an async client.
    pub is_server: bool,
    /// Takes part there only.
    pub only_in: Option<Scenario>,
    /// Opens it.
    pub open: fn(&Setting<'_>) -> Result<Box<dyn Queue>, Trouble>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.name, self.sync)
    }
}

/// A queue that is open. What it cannot do it has no sender or taker for, or answers with `None`.
pub trait Queue: Send + Sync {
    /// What one thread sends with.
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        None
    }

    /// What one thread receives with.
    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        None
    }

    /// One producer with a window of unconfirmed messages.
    ///
    /// # Errors
    ///
    /// What the queue gave.
    fn window(&self, _: &Load) -> Result<Option<Lap>, Trouble> {
        Ok(None)
    }

    /// Tasks that each await their own confirm.
    ///
    /// # Errors
    ///
    /// What the queue gave.
    fn tasks(&self, _: &Load) -> Result<Option<Lap>, Trouble> {
        Ok(None)
    }

    /// Holds so many messages that come due only after `delay`.
    ///
    /// # Errors
    ///
    /// That it cannot, or what the queue gave.
    fn delayed(&self, _: &Bodies, _count: u64, _delay: Duration) -> Outcome {
        Err("it cannot delay messages".into())
    }

    /// How many messages it holds, if it can count them.
    ///
    /// # Errors
    ///
    /// What the queue gave.
    fn held(&self) -> Result<Option<u64>, Trouble> {
        Ok(None)
    }

    /// The process that does the work, if it is not this one.
    fn server(&self) -> Option<Pid> {
        None
    }
}

/// Sends, on one thread.
pub trait Sender: Send {
    /// Sends a message and waits until it is confirmed.
    ///
    /// # Errors
    ///
    /// What the queue gave.
    fn send(&mut self, body: &Bytes) -> Outcome;

    /// Sends several with one confirmation. `false` if it has no such call.
    ///
    /// # Errors
    ///
    /// What the queue gave.
    fn send_batch(&mut self, _: &[Bytes]) -> Result<bool, Trouble> {
        Ok(false)
    }
}

/// Receives, on one thread.
pub trait Taker: Send {
    /// Takes up to so many of the messages that there are, shows their bodies, and is done with them; how many there were.
    ///
    /// # Errors
    ///
    /// What the queue gave.
    fn take(&mut self, max: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble>;

    /// Waits for a message no longer than so, and takes it; how many there were. Without a wait of its own, a queue is asked
    /// over and over.
    ///
    /// # Errors
    ///
    /// What the queue gave.
    fn take_waiting(&mut self, timeout: Duration, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let stopwatch = Stopwatch::start();
        loop {
            let taken = self.take(1, look)?;
            if taken > 0 || stopwatch.elapsed() >= timeout {
                return Ok(taken);
            }
            thread::sleep(Duration::from_micros(20));
        }
    }

    /// Settles what it put off.
    ///
    /// # Errors
    ///
    /// What the queue gave.
    fn settle(&mut self) -> Outcome {
        Ok(())
    }
}

/// Every queue.
#[must_use]
pub fn all() -> Vec<Candidate> {
    #[cfg(tenfold_queue_peers)]
    let peers = peers::candidates();
    #[cfg(not(tenfold_queue_peers))]
    let peers = Vec::new();
    [ours::CANDIDATES.to_vec(), baseline::CANDIDATES.to_vec(), peers].concat()
}

/// The names, each once.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = all().iter().map(|candidate| candidate.name).collect();
    names.dedup();
    names
}

/// A name that no queue has.
#[derive(Debug, thiserror::Error)]
#[error("no queue is called `{name}`{hint}; --list prints the names")]
pub struct UnknownQueue {
    name: String,
    hint: &'static str,
}

/// The queues with these names; all without any.
///
/// # Errors
///
/// [`UnknownQueue`] for the first name that none of them has.
pub fn select(names: &[String]) -> Result<Vec<Candidate>, UnknownQueue> {
    let all = all();
    if let Some(name) = names.iter().find(|name| all.iter().all(|candidate| candidate.name != name.as_str())) {
        let hint = if cfg!(tenfold_queue_peers) { "" } else { " without `--cfg tenfold_queue_peers`" };
        return Err(UnknownQueue { name: name.clone(), hint });
    }
    let is_wanted = |candidate: &Candidate| names.is_empty() || names.iter().any(|name| name == candidate.name);
    Ok(all.into_iter().filter(is_wanted).collect())
}
