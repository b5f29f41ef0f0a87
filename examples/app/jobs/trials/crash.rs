//! r41 and r46: the broker is killed again and again under load, and every job that was accepted is done, once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenfold_rig::{Claim, Faults, Load, LoadPlan, RoleResult};
use tokio::task::JoinSet;

use super::super::browser::{Seen, browse};
use super::super::job::JobKey;
use super::super::site::{Accepted, Mix, Site, USERS, jobs};
use crate::rung::Climb;

const RATE: f64 = 120.0;
const KILL_EVERY: Duration = Duration::from_millis(450);
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of the jobs of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Jobs that were accepted.
    pub accepted: usize,
    /// Those of them that were never done.
    pub lost: usize,
    /// Repetitions that the key held back.
    pub held_back: u64,
    /// Effects that took place more than once.
    pub doubled: u64,
}

/// What became of all jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crashed {
    /// How often the broker was killed.
    pub kills: u32,
    /// By kind.
    pub kinds: Vec<Kind>,
    /// Jobs that the queue gave up, since their attempts were used up.
    pub dead: usize,
    /// Jobs that it still had when patience ended.
    pub waiting: u64,
    /// Why restarts failed, if some did.
    pub restarts_failed: Vec<String>,
}

impl Crashed {
    fn sum(&self, count: impl Fn(&Kind) -> u64) -> u64 {
        self.kinds.iter().map(count).sum()
    }

    /// Accepted jobs that were never done.
    pub fn lost(&self) -> u64 {
        self.sum(|kind| kind.lost as u64)
    }

    /// Where lost jobs may be, if there is anything to say.
    fn whereabouts(&self) -> String {
        let failed: String = self.restarts_failed.iter().map(|error| format!("; a restart failed: {error}")).collect();
        match (self.dead, self.waiting) {
            (0, 0) => failed,
            (dead, waiting) => format!("; {dead} given up, {waiting} still waiting{failed}"),
        }
    }

    /// Accepted jobs.
    pub fn accepted(&self) -> u64 {
        self.sum(|kind| kind.accepted as u64)
    }
}

/// Sends jobs of all kinds while the broker is killed and restarted `kills` times.
///
/// # Errors
///
/// The load cannot be made.
pub async fn crash(climb: &Climb, site: &Site, kills: u32) -> RoleResult<Crashed> {
    let (accepted, seen, mut browsers) = (Accepted::default(), Seen::default(), JoinSet::new());
    for user in 0..USERS {
        browsers.spawn(browse(site.web.addr(), user, seen.clone()));
    }
    let restarts_failed = Arc::new(Mutex::new(Vec::new()));
    let faults = (1..=kills).fold(Faults::new(), |faults, number| {
        let (restart, failed) = (site.restart_broker(), Arc::clone(&restarts_failed));
        faults.at(KILL_EVERY * number, "kill -9 the broker", async move {
            if let Err(error) = restart.await {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
            }
        })
    });
    let plan = LoadPlan::new(RATE, KILL_EVERY * (kills + 1)).warm_up(Duration::from_millis(1)).seed(climb.seed);
    let load = Load::new(site.stack.client()?, plan)?;
    load.run_with_faults(jobs(Mix::All, "/jobs", climb.seed), accepted.observer(), faults).await;
    site.drained(PATIENCE).await;
    Ok(Crashed {
        kills,
        kinds: kinds(site, &accepted, &seen).await?,
        dead: site.queue.dead().await?.len(),
        waiting: site.queue.counts().await?.waiting(),
        restarts_failed: std::mem::take(&mut *restarts_failed.lock().unwrap_or_else(PoisonError::into_inner)),
    })
}

async fn kinds(site: &Site, accepted: &Accepted, seen: &Seen) -> RoleResult<Vec<Kind>> {
    let (effects, thumbnails, events) = (site.effects().await?, site.thumbnails()?, seen.counts());
    let kind = |name: &'static str, done: &BTreeSet<JobKey>, held_back, doubled| {
        let accepted = accepted.of(name);
        Kind { name, accepted: accepted.len(), lost: accepted.difference(done).count(), held_back, doubled }
    };
    let of = |name: &str| effects.get(name).cloned().unwrap_or_default();
    let (mail, sms) = (of("mail"), of("sms"));
    let shown = events.keys().cloned().collect();
    let shown_again = events.values().map(|count| count - 1).sum();
    Ok(vec![
        kind("thumbnail", &thumbnails, 0, 0),
        kind("mail", &mail.once, mail.repeated, 0),
        kind("sms", &sms.once, sms.repeated, 0),
        kind("notification", &shown, 0, shown_again),
    ])
}

/// The claims of r41: the durable queue beside one that keeps nothing.
pub fn crash_claims(durable: &Crashed, forgetful: &Crashed) -> Vec<Claim> {
    let held_back = durable.sum(|kind| kind.held_back);
    let text = format!("the broker is killed {} times under load: accepted jobs lost", durable.kills);
    vec![
        Claim::new("r41", text, durable.lost(), durable.lost() == 0 && forgetful.lost() > 0 && durable.accepted() > 0)
            .control(forgetful.lost())
            .unit("jobs")
            .note(format!(
                "of {} accepted; {held_back} repetitions held back by their keys{}; control: a queue that keeps nothing \
                 when it dies, killed {} times",
                durable.accepted(),
                durable.whereabouts(),
                forgetful.kills
            )),
    ]
}

/// The claims of r46: each kind of effect, once.
pub fn use_case_claims(durable: &Crashed) -> Vec<Claim> {
    let claim = |kind: &Kind| {
        let what = match kind.name {
            "thumbnail" => "long task: thumbnails of real pictures, made once",
            "mail" => "e-mail by SMTP, delivered once",
            "sms" => "text messages by signed webhooks, delivered once",
            _ => "notifications in the browser, shown once",
        };
        let good = kind.accepted - kind.lost;
        Claim::new("r46", what, good as u64, kind.accepted > 0 && kind.lost == 0 && kind.doubled == 0)
            .unit("done")
            .note(format!(
                "of {} accepted; {} doubled, {} held back by their keys",
                kind.accepted, kind.doubled, kind.held_back
            ))
    };
    durable.kinds.iter().map(claim).collect()
}
