//! r45: more workers, one that dies, and a job that nobody can do.

use std::time::Duration;

use tenfold_rig::{Claim, Node, RoleResult, now, sleep};

use super::super::broker::MAX_ATTEMPTS;
use super::super::job::Job;
use super::super::site::Site;
use super::super::worker;

const PATIENCE: Duration = Duration::from_secs(20);

fn sms(number: u64) -> (String, Job) {
    let job = Job::Sms { phone: format!("+1-555-{number:07}"), text: "your code".to_owned() };
    (format!("sms-{number}"), job)
}

/// Puts jobs into the queue while the workers are off, lets them go, and says how long they took.
///
/// # Errors
///
/// A job is refused, or the queue does not drain.
pub async fn drain(site: &Site, jobs: u64) -> RoleResult<Duration> {
    fill(site, jobs).await?;
    let start = now();
    site.drained(PATIENCE).await.ok_or("the queue does not drain")?;
    Ok(now() - start)
}

/// Puts jobs into the queue while the workers stand still.
///
/// A worker that stands still goes on asking, by the questions it has sent already. A job that answered one of them would
/// lie in its hands until the lease is over, so the first job waits until these questions have run out.
async fn fill(site: &Site, jobs: u64) -> RoleResult {
    site.workers.iter().try_for_each(Node::suspend)?;
    sleep(2 * worker::WAIT).await;
    for number in 0..jobs {
        let (key, job) = sms(number);
        site.enqueue(&key, &job).await?;
    }
    site.workers.iter().try_for_each(Node::resume)?;
    Ok(())
}

/// The claim of r45 about more workers.
pub fn drain_claim(one: Duration, four: Duration) -> Claim {
    let ratio = one.as_secs_f64() / four.as_secs_f64();
    Claim::new("r45", "four workers instead of one drain the same queue so many times as fast", ratio, ratio >= 2.8)
        .unit("times")
        .note(format!("{one:.1?} and {four:.1?}; the web server is as it was"))
}

/// What became of the jobs of a worker that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redelivered {
    /// Jobs in the queue.
    pub jobs: u64,
    /// Jobs done.
    pub done: u64,
    /// Jobs in its hands when it died.
    pub in_hand: u64,
    /// Jobs that came again.
    pub redelivered: u64,
    /// From its death until all was done, in milliseconds.
    pub took_ms: u64,
}

/// Two workers drain a queue, and one of them is killed in the middle of its work.
///
/// # Errors
///
/// A job is refused, or the system does not answer.
pub async fn worker_dies(site: &Site, jobs: u64) -> RoleResult<Redelivered> {
    fill(site, jobs).await?;
    sleep(Duration::from_millis(400)).await;
    let victim = site.workers.first().ok_or("a worker to kill is needed")?;
    victim.kill()?;
    let died = now();
    // Those of the other worker as well, which will be done soon.
    let in_hand = site.queue.counts().await?.leased;
    site.drained(PATIENCE).await;
    let done = site.effects().await?.remove("sms").unwrap_or_default().once.len() as u64;
    let redelivered = site.came_again().await?;
    Ok(Redelivered { jobs, done, in_hand, redelivered, took_ms: (now() - died).as_millis() as u64 })
}

/// The claim of r45 about a worker that dies.
pub fn redelivered_claims(died: &Redelivered, lease: Duration) -> Claim {
    let holds = died.done == died.jobs && died.redelivered > 0;
    Claim::new("r45", "a worker is killed: the jobs in its hands come again and are done", died.redelivered, holds)
        .unit("jobs")
        .note(format!(
            "{} of {} done, all of them {} ms after its death; a lease is {} ms",
            died.done,
            died.jobs,
            died.took_ms,
            lease.as_millis()
        ))
}

/// A job that nobody can do is given up after some tries, and the one behind it is done.
///
/// # Errors
///
/// A job is refused, or the system does not answer.
pub async fn poison(site: &Site) -> RoleResult<Claim> {
    site.enqueue("impossible-1", &Job::Impossible).await?;
    let (key, job) = sms(1_000_000);
    site.enqueue(&key, &job).await?;
    site.drained(PATIENCE).await.ok_or("a poison job goes round for ever")?;
    let dead = site.queue.dead().await?;
    let done = site.effects().await?.remove("sms").unwrap_or_default().once;
    let is_given_up = matches!(&dead[..], [one] if one.key == "impossible-1" && one.attempts == MAX_ATTEMPTS);
    let is_passed = done.iter().any(|done| done.as_str() == key);
    let reason = dead.first().map_or("none", |dead| &dead.reason).to_owned();
    Ok(Claim::new("r45", "a job that nobody can do is a dead letter after so many tries", MAX_ATTEMPTS, {
        is_given_up && is_passed
    })
    .unit("tries")
    .note(format!("{} dead letters, reason: {reason}; the job behind it was done", dead.len())))
}
