//! Looks at the nodes, over and over.

use std::time::{Duration, Instant};

use super::{Cluster, Shared};
use crate::clock::{deadline, left};
use crate::driver::{Class, Driver, Observation};
use crate::error::Error;
use crate::monitor::{ObserverId, Report};
use crate::tasks::Tasks;

/// However much it is asked for, a node is not asked more often.
const MIN_INTERVAL: Duration = Duration::from_millis(5);

/// So many failures of the primary in a row make the others be asked at once.
const HASTY_FAILURES: u32 = 4;

/// How often pools are filled up.
const WARM_UP_INTERVAL: Duration = Duration::from_millis(500);

impl<D: Driver> Cluster<D> {
    /// Watches the nodes and keeps connections open, for ever. The host spawns it, and stops it by dropping it.
    ///
    /// A node that hangs holds up no other.
    ///
    /// # Cancel safety
    /// Nothing is lost: what is known stays, and gets old.
    pub async fn drive(self) {
        let shared = &*self.shared;
        let mut tasks = Tasks::new();
        for index in 0..shared.pools.len() {
            tasks.push(shared.watch(index));
        }
        tasks.push(shared.warm_up());
        tasks.all().await;
    }

    /// Asks each node once, at the same time.
    ///
    /// # Cancel safety
    /// What was answered until then is known.
    pub async fn observe(&self) {
        let shared = &*self.shared;
        let mut tasks = Tasks::new();
        for index in 0..shared.pools.len() {
            tasks.push(shared.look(index));
        }
        tasks.all().await;
    }

    /// Waits until there is a primary, and every node has answered or had the time to.
    ///
    /// # Errors
    /// [`Error::NoPrimary`], if there is none in this time; [`Cluster::stats`] has the reason why each node does not answer.
    pub async fn ready(&self, timeout: Duration) -> Result<(), Error<D::Error>> {
        let deadline = deadline(timeout);
        loop {
            let round = tokio::time::timeout_at(deadline, self.observe()).await;
            if self.topology().primary().is_some() {
                return Ok(());
            }
            if round.is_err() || left(deadline).is_zero() {
                return Err(Error::NoPrimary);
            }
            tokio::time::sleep_until(deadline.min(crate::clock::deadline(MIN_INTERVAL))).await;
        }
    }
}

impl<D: Driver> Shared<D> {
    async fn watch(&self, index: usize) {
        loop {
            // From here on: what is on its way when somebody asks for news may be older than the reason.
            let refresh = self.refresh.notified();
            self.look(index).await;
            tokio::time::sleep(MIN_INTERVAL.min(self.config.observe_interval)).await;
            let rest = self.config.observe_interval.saturating_sub(MIN_INTERVAL);
            let _ = tokio::time::timeout(rest, refresh).await;
        }
    }

    async fn look(&self, index: usize) {
        let topology = self.topology();
        let (node, was_primary) = (topology.members[index].node.clone(), topology.primary == Some(index));
        let (asked_at, before) = (self.now(), topology.members[index].replayed());
        let answer = tokio::time::timeout(self.config.observe_timeout, self.driver.observe(&node)).await;
        self.note_silence(
            index,
            match &answer {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(with_causes(error)),
                Err(_) => Some(format!("no answer within {:?}", self.config.observe_timeout)),
            },
        );
        let report = match answer {
            Ok(Ok(observation)) => {
                self.note(self.update(|topology| topology.observe_since(index, &observation, asked_at, before)));
                if observation.writable { Report::Answered } else { Report::Fenced }
            }
            Ok(Err(error)) => {
                self.update(|topology| topology.fail(index));
                if self.driver.classify(&error) == Class::NotSent { Report::Refused } else { Report::Silent }
            }
            Err(_) => {
                self.update(|topology| topology.fail(index));
                Report::Silent
            }
        };
        let topology = self.topology();
        if topology.reigning == Some(index) {
            self.monitor.lock().report(ObserverId::default(), report, self.now());
            // Others may know more of it, and it may answer again; but one that stays away, or fenced, is no reason to ask
            // them all the time.
            let is_news = match report {
                Report::Answered => false,
                Report::Fenced => was_primary,
                Report::Refused | Report::Silent => topology.members[index].failures <= HASTY_FAILURES,
            };
            if is_news {
                self.refresh.notify_waiters();
            }
        }
    }

    /// Told when it changes: a node is asked many times a second.
    fn note_silence(&self, index: usize, cause: Option<String>) {
        #[cfg(feature = "tracing")]
        match (&self.silences.lock()[index], &cause) {
            (before, cause) if before == cause => {}
            (_, Some(cause)) => {
                tracing::warn!(shard = self.shard.0, node = %self.node(index).id(), cause, "a node does not answer")
            }
            (_, None) => tracing::info!(shard = self.shard.0, node = %self.node(index).id(), "a node answers again"),
        }
        self.silences.lock()[index] = cause;
    }

    pub(super) fn learn(&self, index: usize, observation: &Observation, asked_at: Instant) {
        let observed = self.update(|topology| topology.observe(index, observation, asked_at));
        self.note(observed);
    }

    async fn warm_up(&self) {
        loop {
            let topology = self.topology();
            for (index, pools) in self.pools.iter().enumerate() {
                if topology.members[index].is_reachable() {
                    pools.read.warm_up(topology.cluster()).await;
                }
                if topology.primary == Some(index) {
                    pools.write.warm_up(topology.cluster()).await;
                }
            }
            tokio::time::sleep(WARM_UP_INTERVAL).await;
        }
    }
}

pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Some errors say what caused them by themselves.
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
