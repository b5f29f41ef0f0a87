//! Connections to backends that wait for their next request.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tenfold_load_balancer::BackendId;

use crate::link::Link;

/// The idle connections of one thread. The one used last is used next, so that those a quieter time does not need grow
/// old and are closed.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: HashMap<BackendId, Vec<Idle>>,
    max_idle: usize,
    timeout: Duration,
}

#[derive(Debug)]
struct Idle {
    link: Link,
    since: Instant,
}

impl Pool {
    /// Keeps at most `max_idle` connections to one backend, each for `timeout`.
    pub(crate) fn new(max_idle: usize, timeout: Duration) -> Self {
        Self { idle: HashMap::new(), max_idle, timeout }
    }

    /// A connection on which the backend said nothing since its last answer.
    #[inline]
    pub(crate) fn take(&mut self, id: BackendId, now: Instant) -> Option<Link> {
        let idle = self.idle.get_mut(&id)?;
        while let Some(Idle { mut link, since }) = idle.pop() {
            if now.saturating_duration_since(since) >= self.timeout {
                // Those below it are older.
                idle.clear();
            } else if link.is_silent() {
                link.reuse();
                return Some(link);
            }
        }
        None
    }

    /// Keeps a connection whose answer is complete.
    #[inline]
    pub(crate) fn put(&mut self, id: BackendId, link: Link, now: Instant) {
        let idle = self.idle.entry(id).or_default();
        if idle.len() < self.max_idle {
            idle.push(Idle { link, since: now });
        }
    }

    /// Closes what is too old, and all to backends that are gone.
    pub(crate) fn sweep(&mut self, now: Instant, is_member: impl Fn(BackendId) -> bool) {
        self.idle.retain(|id, idle| {
            idle.retain_mut(|idle| now.saturating_duration_since(idle.since) < self.timeout && idle.link.is_silent());
            is_member(*id)
        });
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.idle.values().map(Vec::len).sum()
    }
}
