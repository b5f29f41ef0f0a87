//! A worker: takes jobs from the queue, does them, and says so.
//!
//! It holds as many jobs at a time as it has slots. A job that fails goes back and comes again later, here or elsewhere; one
//! that fails too often is given up by the queue. A worker that dies says nothing, and its jobs come again when their
//! leases run out. So a job may be done twice, and its key makes the second time harmless. `GET /again` says how many jobs
//! came that somebody had had before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tenfold_rig::{Cost, Role, RoleResult, Station, Tier, sleep};
use tokio::task::JoinSet;

use super::job::{Job, JobKey};
use super::queue::{Jobs, Taken};
use super::work::{Hands, Places};

/// How long the queue may think about a worker's question for a job.
pub const WAIT: Duration = Duration::from_millis(500);
/// How long a worker whose queue does not answer waits before it asks again.
const PAUSE: Duration = Duration::from_millis(50);

/// A worker's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerConfig {
    /// Where jobs come from.
    pub queue: super::queue::Address,
    /// Where the work goes.
    pub places: Places,
    /// What is modelled.
    pub cost: Cost,
    /// Determines service times.
    pub seed: u64,
}

/// The whole role.
///
/// # Errors
///
/// The queue cannot be reached at the start.
pub async fn serve(mut role: Role<WorkerConfig>) -> RoleResult {
    let WorkerConfig { queue, places, cost, seed } = role.config.clone();
    let worker = Arc::new(Worker {
        jobs: Jobs::connect(queue).await?,
        hands: Hands::new(places),
        station: cost.station(Tier::Worker, seed)?,
        again: AtomicU64::new(0),
    });
    let mut slots = JoinSet::new();
    for _ in 0..cost.service(Tier::Worker).slots {
        slots.spawn(Arc::clone(&worker).run());
    }
    let again = get(move || async move { Json(worker.again.load(Ordering::Relaxed)) });
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, Router::new().route("/again", again)).with_graceful_shutdown(stop.wait()).await?)
}

struct Worker {
    jobs: Jobs,
    hands: Hands,
    station: Station,
    again: AtomicU64,
}

impl Worker {
    async fn run(self: Arc<Self>) {
        loop {
            match self.jobs.receive(WAIT).await {
                Ok(Some(taken)) => self.work(taken).await,
                Ok(None) => {}
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn work(&self, taken: Taken) {
        self.again.fetch_add(u64::from(taken.is_again()), Ordering::Relaxed);
        let job = serde_json::from_slice::<Job>(taken.body());
        let is_done = match (JobKey::new(taken.key()), job) {
            (Ok(key), Ok(job)) => {
                // A slot waits for nobody but itself, so its line has room.
                let _ = self.station.serve().await;
                self.hands.work(&key, &job).await.is_ok()
            }
            _ => false,
        };
        // If neither is heard, the job comes again, and its key holds the second effect back.
        let _ = if is_done { self.jobs.ack(taken).await } else { self.jobs.give_back(taken).await };
    }
}
