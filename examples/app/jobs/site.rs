//! A running system of rung 10, as the trials see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tenfold_rig::{Exchange, Failure, Instant, Node, Request, Rng, RoleResult, now, sleep};

use super::effects::Done;
use super::job::{Job, JobKey};
use super::pictures;
use super::queue::{Address, Jobs};
use crate::http::{CallError, Http};
use crate::rung::Stack;

const TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Users who have a browser open.
pub const USERS: u64 = 4;
/// Pictures that thumbnails are made of.
pub const PICTURES: u64 = 4;
const PICTURE_SIZE: (u32, u32) = (192, 192);
const THUMBNAIL_PIXELS: u32 = 48;

/// What a trial wants built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Workers.
    pub workers: u8,
    /// How long a worker has for a job before another gets it.
    pub lease_ms: u64,
    /// Jobs that may wait.
    pub max_jobs: u64,
    /// Whether the queue survives its process. What does not is a control.
    pub is_durable: bool,
    /// Whether the web server takes its modelled time.
    pub is_front_modelled: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { workers: 1, lease_ms: 30_000, max_jobs: 1_000_000, is_durable: true, is_front_modelled: true }
    }
}

/// The running system.
#[derive(Debug)]
pub struct Site {
    /// Its processes and the web server's address.
    pub stack: Stack,
    /// Has the queue.
    pub broker: Node,
    /// The way to the queue.
    pub queue: Jobs,
    /// Takes jobs.
    pub web: Node,
    /// Do jobs.
    pub workers: Vec<Node>,
    /// Takes what they deliver.
    pub world: Node,
    address: Address,
    http: Http,
}

impl Site {
    /// A view of running processes, with pictures uploaded. The broker is the queue's process and its address.
    ///
    /// # Errors
    ///
    /// The queue cannot be reached, or the web server does not take the pictures.
    pub async fn new(
        stack: Stack,
        (broker, address): (Node, Address),
        web: Node,
        workers: Vec<Node>,
        world: Node,
    ) -> RoleResult<Self> {
        let queue = Jobs::connect(address.clone()).await?;
        let site = Self { stack, broker, queue, web, workers, world, address, http: Http::new(TIMEOUT) };
        let file = site.stack.dir.path().join("picture.png");
        for number in 0..PICTURES {
            pictures::write(&file, PICTURE_SIZE, &pictures::sample(number, PICTURE_SIZE))?;
            let body = Bytes::from(std::fs::read(&file)?);
            let path = format!("/pictures/picture-{number}");
            let answer = site.http.call(Method::PUT, site.web.addr(), &path, body).await?;
            if answer.status != StatusCode::NO_CONTENT {
                return Err(format!("a picture was refused: {}", answer.status).into());
            }
        }
        Ok(site)
    }

    /// Keys of the thumbnails that are there.
    ///
    /// # Errors
    ///
    /// The folder cannot be read, or one of them is no picture of the right size.
    pub fn thumbnails(&self) -> RoleResult<BTreeSet<JobKey>> {
        let mut keys = BTreeSet::new();
        for entry in std::fs::read_dir(self.stack.dir.path().join(THUMBNAILS))? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".png")) else { continue };
            let (size, _) = pictures::read(&path)?;
            if size != (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS) {
                return Err(format!("a thumbnail of {size:?}").into());
            }
            keys.insert(JobKey::new(name)?);
        }
        Ok(keys)
    }

    /// What the world has got, by kind.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn effects(&self) -> Result<BTreeMap<String, Done>, CallError> {
        self.http.get(self.world.addr(), "/effects").await?.json()
    }

    /// `kill -9` for the queue's process, and the same again in the same place.
    ///
    /// # Errors
    ///
    /// It does not die, or does not come back.
    pub fn restart_broker(&self) -> impl Future<Output = RoleResult> + Send + use<> {
        let (broker, address) = (self.broker.clone(), self.address.clone());
        async move {
            broker.kill()?;
            broker.restart().await?;
            // A server that forgot everything is told again that there is a queue.
            Jobs::connect(address).await?;
            Ok(())
        }
    }

    /// Jobs that came to a worker again, by the living workers' counts.
    ///
    /// # Errors
    ///
    /// A worker does not answer.
    pub async fn came_again(&self) -> Result<u64, CallError> {
        let mut again = 0;
        for worker in self.workers.iter().filter(|worker| worker.is_alive()) {
            again += self.http.get(worker.addr(), "/again").await?.json::<u64>()?;
        }
        Ok(again)
    }

    /// Waits until nothing is left to do, and says how long that took; none if it took longer than `patience`.
    pub async fn drained(&self, patience: Duration) -> Option<Duration> {
        let start = now();
        while now() - start < patience {
            if self.queue.counts().await.is_ok_and(|counts| counts.waiting() == 0) {
                return Some(now() - start);
            }
            sleep(LOOK_EVERY).await;
        }
        None
    }

    /// Jobs in the queue, again and again, with the time since the start.
    pub async fn watch_depth(&self, depth: &Mutex<Vec<(Duration, u64)>>) -> std::convert::Infallible {
        let start = now();
        loop {
            if let Ok(counts) = self.queue.counts().await {
                depth.lock().unwrap_or_else(PoisonError::into_inner).push((now() - start, counts.waiting()));
            }
            sleep(LOOK_EVERY * 4).await;
        }
    }

    /// Puts one job into the queue.
    ///
    /// # Errors
    ///
    /// The web server does not answer.
    pub async fn enqueue(&self, key: &str, job: &Job) -> Result<StatusCode, CallError> {
        Ok(self.http.send(Method::POST, self.web.addr(), &format!("/jobs/{key}"), job).await?.status)
    }
}

/// The folder of uploads, in a site's own.
pub const UPLOADS: &str = "uploads";
/// The folder of thumbnails.
pub const THUMBNAILS: &str = "thumbnails";

/// Which jobs are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Each kind in turn.
    All,
    /// Text messages alone.
    Sms,
}

/// Makes jobs, each with a key of its own, and posts them at `path` (`/jobs` or `/inline`).
pub fn jobs(mix: Mix, path: &'static str, seed: u64) -> impl FnMut() -> Request + Send + 'static {
    let (mut number, mut rng) = (0_u64, Rng::new(seed));
    move || {
        number += 1;
        let job = match if mix == Mix::All { number % 4 } else { 0 } {
            0 => Job::Sms { phone: format!("+1-555-{number:07}"), text: format!("your code is {number}") },
            1 => Job::Mail {
                to: format!("user-{number}@example.org"),
                subject: "Welcome".to_owned(),
                text: format!("You are number {number}.\n.\nBye"),
            },
            2 => Job::Notification { user: rng.below(USERS), text: format!("you were mentioned in {number}") },
            _ => Job::Thumbnail { picture: format!("picture-{}", rng.below(PICTURES)), pixels: THUMBNAIL_PIXELS },
        };
        let key = format!("{}-{number}", job.kind());
        let body = serde_json::to_vec(&job).expect("a job has a JSON form");
        Request::post(format!("{path}/{key}"), body).key(number)
    }
}

/// The keys of the jobs that were accepted, by the generator's own notes. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Accepted(Arc<Mutex<Vec<(Instant, JobKey)>>>);

impl Accepted {
    /// An observer for a load.
    pub fn observer(&self) -> impl Fn(&Exchange) -> Result<(), Failure> + Send + Sync + 'static {
        let notes = self.clone();
        move |exchange| {
            let verdict = exchange.verdict();
            let key = exchange.request.path.rsplit('/').next().and_then(|key| JobKey::new(key).ok());
            if let (Ok(()), Some(key)) = (verdict, key) {
                notes.0.lock().unwrap_or_else(PoisonError::into_inner).push((exchange.finished, key));
            }
            verdict
        }
    }

    /// Those of one kind.
    pub fn of(&self, kind: &str) -> BTreeSet<JobKey> {
        let prefix = format!("{kind}-");
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(_, key)| key.as_str().starts_with(&prefix)).map(|(_, key)| key.clone()).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
