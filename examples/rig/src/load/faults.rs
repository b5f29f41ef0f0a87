//! Faults at planned times beside a load.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

use crate::clock::{self, Instant};

type Action = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Things to do at times after the measured part of a load has begun.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tenfold_rig::Faults;
///
/// let faults = Faults::new().at(Duration::from_secs(3), "kill web-2", async { /* node.kill() */ });
/// assert_eq!(faults.len(), 1);
/// ```
#[derive(Default)]
pub struct Faults {
    planned: Vec<(Duration, String, Action)>,
}

/// A fault that has happened.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Seconds since the measured part began.
    pub t_s: f64,
    /// What was done.
    pub label: String,
}

impl Faults {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does `action` at time `at` after the measured part has begun. An action that takes long delays the next one.
    #[must_use]
    pub fn at(
        mut self,
        at: Duration,
        label: impl Into<String>,
        action: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.planned.push((at, label.into(), Box::pin(action)));
        self
    }

    /// How many are planned.
    pub fn len(&self) -> usize {
        self.planned.len()
    }

    /// Whether none is planned.
    pub fn is_empty(&self) -> bool {
        self.planned.is_empty()
    }

    pub(crate) async fn play(mut self, begin: Instant) -> Vec<Event> {
        self.planned.sort_by_key(|(at, ..)| *at);
        let mut events = Vec::new();
        for (at, label, action) in self.planned {
            clock::sleep_until(begin + at).await;
            events.push(Event { t_s: (clock::now() - begin).as_secs_f64(), label });
            action.await;
        }
        events
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.planned.iter().map(|(at, label, _)| (at, label))).finish()
    }
}
