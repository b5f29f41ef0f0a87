//! Looks at the nodes, over and over.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::{Cluster, Shared};
use crate::clock::{deadline, left};
use crate::driver::Driver;
use crate::error::Error;

/// However much it is asked for, a node is not asked more often.
const MIN_INTERVAL: Duration = Duration::from_millis(5);

/// How often pools are filled up.
const WARM_UP_INTERVAL: Duration = Duration::from_millis(500);

type Task<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl<D: Driver> Cluster<D> {
    /// Watches the nodes and keeps connections open, for ever. The host spawns it, and stops it by dropping it.
    ///
    /// A node that hangs holds up no other.
    ///
    /// # Cancel safety
    /// Nothing is lost: what is known stays, and gets old.
    pub async fn drive(self) {
        let shared = &*self.shared;
        let mut tasks: Vec<Task<'_>> = Vec::new();
        for index in 0..shared.pools.len() {
            tasks.push(Box::pin(shared.watch(index)));
        }
        tasks.push(Box::pin(shared.warm_up()));
        all(tasks).await;
    }

    /// Asks each node once, at the same time.
    ///
    /// # Cancel safety
    /// What was answered until then is known.
    pub async fn observe(&self) {
        let shared = &*self.shared;
        all((0..shared.pools.len()).map(|index| Box::pin(shared.look(index)) as Task<'_>).collect()).await;
    }

    /// Waits until there is a primary, and every node has answered or had the time to.
    ///
    /// # Errors
    /// [`Error::NoPrimary`], if there is none in this time.
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
            self.look(index).await;
            let refresh = self.refresh.notified();
            tokio::time::sleep(MIN_INTERVAL.min(self.config.observe_interval)).await;
            let rest = self.config.observe_interval.saturating_sub(MIN_INTERVAL);
            let _ = tokio::time::timeout(rest, refresh).await;
        }
    }

    async fn look(&self, index: usize) {
        let node = self.topology().members[index].node.clone();
        let asked_at = self.now();
        let answer = tokio::time::timeout(self.config.observe_timeout, self.driver.observe(&node)).await;
        match answer {
            Ok(Ok(observation)) => {
                let observed = self.update(|topology| topology.observe(index, &observation, asked_at));
                self.note(observed);
            }
            Ok(Err(_)) | Err(_) => self.update(|topology| topology.fail(index)),
        }
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

/// Until all are done. They are few, so each is polled when any may go on.
async fn all(mut tasks: Vec<Task<'_>>) {
    std::future::poll_fn(|cx| {
        tasks.retain_mut(|task| task.as_mut().poll(cx).is_pending());
        if tasks.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
