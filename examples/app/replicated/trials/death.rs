//! r16: a replica dies, the primary dies, and the old primary returns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenfold_rig::{Claim, Exchange, Faults, Instant, Load, LoadPlan, Node, RoleResult, Table, now, sleep};

use super::write;
use crate::database::{Batch, Database, Intent, Statement, Value};
use crate::measure::Outcomes;
use crate::replicated::site::Site;
use crate::rung::Climb;

const READS: f64 = 150.0;
const READ_FOR: Duration = Duration::from_millis(2_500);
const WRITES: f64 = 100.0;
const WRITE_FOR: Duration = Duration::from_millis(2_700);
const WARM_UP: Duration = Duration::from_millis(200);
/// The replicas lose the primary one after the other, so that they differ in what they have, and then it dies.
const CUT_AT: [(u16, Duration); 3] =
    [(1, Duration::from_millis(300)), (2, Duration::from_millis(370)), (3, Duration::from_millis(440))];
const LOOKED_AT: Duration = Duration::from_millis(640);
const KILLED_AT: Duration = Duration::from_millis(700);
/// It returns then, if another has taken its place, and else when one has.
const RETURNS_AT: Duration = Duration::from_millis(1_600);
const REPLACED_WITHIN: Duration = Duration::from_secs(6);
const FENCED_WITHIN: Duration = Duration::from_secs(6);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const IDS_AT_ONCE: usize = 50;

/// What the death of a primary did.
#[derive(Debug, Clone, Default)]
pub struct Death {
    /// Writes sent.
    pub sent: u64,
    /// Writes that were not acknowledged; each may have happened.
    pub failed: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Of these, how many the new primary does not have.
    pub lost: u64,
    /// The new primary.
    pub promoted: u16,
    /// Its epoch, and that of the old one.
    pub epochs: (u64, u64),
    /// How far each replica's log was before the death, by its node.
    pub received: Vec<(u16, u64)>,
    /// The longest time without an acknowledged write.
    pub silence: Duration,
    /// From the old primary's return until it followed the new one.
    pub fenced_after: Option<Duration>,
    /// Writes that it took after it had returned, and those that the new one took.
    pub taken: (u64, u64),
    /// Whether a write sent to it directly is refused, and one to the new one is not.
    pub refuses: bool,
}

/// Loads `site` with reads while a replica dies and returns; the failed share of all reads and of those meanwhile.
///
/// # Errors
///
/// The load cannot be made.
pub async fn replica_dies(climb: &Climb, site: &Site) -> RoleResult<(u64, u64, f64)> {
    let victim = site.databases.last().ok_or("a replica is needed")?;
    let outcomes = Outcomes::default();
    let plan = LoadPlan::new(READS, READ_FOR).warm_up(WARM_UP).seed(climb.seed);
    let load = Load::new(site.stack.client()?, plan)?;
    let faults = outcomes.kill_and_restart(victim);
    let result = load.run_with_faults(climb.keys.reads(climb.seed), outcomes.observer(), faults).await;
    Ok((result.sent, result.failed, outcomes.failed_between()))
}

/// The claim about a replica's death, with failover and without.
pub fn replica_claim(with: (u64, u64, f64), without: (u64, u64, f64)) -> Claim {
    let (sent, failed, ratio) = with;
    let text = "kill -9 of one of three replicas: no read fails";
    Claim::new("r16", text, ratio * 100.0, failed == 0 && without.2 > 0.1)
        .control(without.2 * 100.0)
        .unit("% failed")
        .note(format!("{failed} of {sent} in all; control: the web servers ask replicas in turn, and nobody else"))
}

/// What the load and the faults note.
#[derive(Debug, Default)]
struct Notes {
    sent: u64,
    acknowledged: Vec<(u64, u64, Instant)>,
    received: Vec<(u16, u64)>,
    fenced_after: Option<Duration>,
}

type Shared = Arc<Mutex<Notes>>;

fn note(notes: &Shared, change: impl FnOnce(&mut Notes)) {
    change(&mut notes.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Loads `site` with writes, each to another user, while its primary is cut off, dies, and returns.
///
/// # Errors
///
/// The load cannot be made, or there is no primary in the end.
pub async fn primary_dies(climb: &Climb, site: Site) -> RoleResult<Death> {
    let (site, notes) = (Arc::new(site), Shared::default());
    let first_epoch = site.seen(0).await?.epoch;
    let mut next = 0;
    let source = move || {
        next += 1;
        write(next)
    };
    let book = Arc::clone(&notes);
    let observe = move |exchange: &Exchange| {
        // Those before the faults count as well: they may be lost, too.
        note(&book, |notes| notes.sent += 1);
        exchange.verdict()?;
        let etag = exchange.response()?.headers.get(tenfold_rig::header::ETAG).and_then(|tag| tag.to_str().ok());
        let version = etag.and_then(|tag| tag.trim_matches('"').parse().ok()).ok_or(tenfold_rig::Failure::Wrong)?;
        note(&book, |notes| notes.acknowledged.push((exchange.request.key, version, exchange.finished)));
        Ok(())
    };
    let plan = LoadPlan::new(WRITES, WRITE_FOR).warm_up(WARM_UP).seed(climb.seed);
    let load = Load::new(site.stack.client()?, plan)?;
    load.run_with_faults(source, observe, faults(&site, &notes)).await;
    let notes = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));

    let (promoted, seen) = site.primary().await.ok_or("there is no primary")?;
    let stats = site.stats().await;
    let writes = |id: u16| stats.get(usize::from(id)).map_or(0, |stats| stats.writes);
    Ok(Death {
        sent: notes.sent,
        failed: notes.sent - notes.acknowledged.len() as u64,
        acknowledged: notes.acknowledged.len() as u64,
        lost: lost(&site, promoted, &notes.acknowledged).await?,
        promoted,
        epochs: (seen.epoch, first_epoch),
        received: notes.received,
        silence: silence(&notes.acknowledged),
        fenced_after: notes.fenced_after,
        taken: (writes(0), writes(promoted)),
        refuses: promoted != 0 && touch(&site, 0).await.is_err() && touch(&site, promoted).await.is_ok(),
    })
}

fn faults(site: &Arc<Site>, notes: &Shared) -> Faults {
    let mut faults = Faults::new();
    for (replica, at) in CUT_AT {
        let site = Arc::clone(site);
        // A cut that is refused shows as writes that are not lost.
        faults = faults.at(at, "cut", async move {
            let _ = site.cut(replica, 0).await;
        });
    }
    let (looker, seen) = (Arc::clone(site), Arc::clone(notes));
    let (killed, returned, back) = (site.databases.first().cloned(), Arc::clone(site), Arc::clone(notes));
    faults
        .at(LOOKED_AT, "look", async move {
            for (replica, _) in CUT_AT {
                if let Ok(node) = looker.seen(replica).await {
                    note(&seen, |notes| notes.received.push((replica, node.received)));
                }
            }
        })
        .at(KILLED_AT, "kill -9", async move {
            // A kill that is refused shows as a primary that is not replaced.
            drop(killed.as_ref().map(Node::kill));
        })
        .at(RETURNS_AT, "restart", async move {
            let fenced_after = returns(&returned).await;
            note(&back, |notes| notes.fenced_after = fenced_after);
        })
}

/// Starts the old primary again; how long it took to follow another one.
async fn returns(site: &Site) -> Option<Duration> {
    let (old, deadline) = (site.databases.first()?, now() + REPLACED_WITHIN);
    while site.primary().await.is_none() && now() < deadline {
        sleep(LOOK_EVERY).await;
    }
    old.restart().await.ok()?;
    let began = now();
    while now() < began + FENCED_WITHIN {
        if site.seen(0).await.is_ok_and(|seen| !seen.is_primary && seen.upstream.is_some()) {
            return Some(now() - began);
        }
        sleep(LOOK_EVERY).await;
    }
    None
}

/// A write to a user whom the load does not write, sent to one server.
async fn touch(site: &Site, id: u16) -> RoleResult {
    let statement = Statement::new("UPDATE users SET phone = '456' WHERE id = ?1", [Value::from(20_000)]);
    site.direct(id)?.run(Batch::write([statement])).await?;
    Ok(())
}

/// Acknowledged writes that this server does not have.
async fn lost(site: &Site, primary: u16, acknowledged: &[(u64, u64, Instant)]) -> RoleResult<u64> {
    let (server, mut lost) = (site.direct(primary)?, 0);
    for some in acknowledged.chunks(IDS_AT_ONCE) {
        let sql = "SELECT version FROM users WHERE id = ?1";
        let statements = some.iter().map(|(id, _, _)| Statement::new(sql, [Value::from(*id)])).collect();
        let found = server.run(Batch { intent: Intent::Read, statements }).await?;
        for ((_, version, _), rows) in some.iter().zip(found) {
            let stored = rows.rows.first().and_then(|row| row.first()?.as_integer()).unwrap_or(0);
            lost += u64::from((stored as u64) < *version);
        }
    }
    Ok(lost)
}

fn silence(acknowledged: &[(u64, u64, Instant)]) -> Duration {
    let mut times: Vec<Instant> = acknowledged.iter().map(|(_, _, at)| *at).collect();
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// The claims about a primary's death, in a quorum and asynchronous.
pub fn death_claims(quorum: &Death, asynchronous: &Death) -> Vec<Claim> {
    let (best, others) =
        (quorum.received_by(|id| id == quorum.promoted), quorum.received_by(|id| id != quorum.promoted));
    let is_furthest = |death: &Death| {
        let (promoted, others) =
            (death.received_by(|id| id == death.promoted), death.received_by(|id| id != death.promoted));
        death.promoted != 0 && death.received.len() == CUT_AT.len() && promoted >= others
    };
    let is_fenced = quorum.fenced_after.is_some() && quorum.refuses && quorum.epochs.0 > quorum.epochs.1;
    let ms = |time: Option<Duration>| time.map_or("never".to_owned(), |time| format!("after {} ms", time.as_millis()));
    vec![
        Claim::new("r16", "kill -9 of the primary, a quorum of one replica: acknowledged writes lost", quorum.lost, {
            quorum.lost == 0 && quorum.acknowledged > 0 && asynchronous.lost > 0
        })
        .control(asynchronous.lost)
        .unit("writes")
        .note(format!(
            "of {} acknowledged; cut off from its replicas before it dies; control: asynchronous, of {}",
            quorum.acknowledged, asynchronous.acknowledged
        )),
        Claim::new("r16", "the most advanced replica becomes primary: its place in the log", best, {
            is_furthest(quorum) && is_furthest(asynchronous)
        })
        .control(others)
        .note(format!("db-{}; control: the next of the other two, which were cut off before it", quorum.promoted)),
        Claim::new("r16", "the old primary returns and is fenced: writes that it took since", quorum.taken.0, {
            is_fenced && quorum.taken.0 == 0 && quorum.taken.1 > 0
        })
        .control(quorum.taken.1)
        .unit("writes")
        .note(format!(
            "a replica {}, and refuses a write sent to it directly; control: the new primary",
            ms(quorum.fenced_after)
        )),
    ]
}

impl Death {
    /// How far the furthest of these replicas was.
    fn received_by(&self, which: impl Fn(u16) -> bool) -> u64 {
        self.received.iter().filter(|(id, _)| which(*id)).map(|(_, lsn)| *lsn).max().unwrap_or(0)
    }
}

/// The death of a primary in both modes.
pub fn death_table(quorum: &Death, asynchronous: &Death) -> Table {
    let columns =
        ["mode", "writes", "acknowledged", "lost", "not acknowledged", "new primary", "epoch", "no write for, ms"];
    let mut table = Table::new("the primary dies", columns);
    for (mode, death) in [("a quorum of one", quorum), ("asynchronous", asynchronous)] {
        table.row([
            mode.to_owned(),
            death.sent.to_string(),
            death.acknowledged.to_string(),
            death.lost.to_string(),
            death.failed.to_string(),
            format!("db-{}", death.promoted),
            format!("{:#x} after {:#x}", death.epochs.0, death.epochs.1),
            death.silence.as_millis().to_string(),
        ]);
    }
    table.note = format!(
        "{WRITES} writes/s; cut off from one replica after the other, dead {} ms after the last, back {} ms later, when it is replaced",
        (KILLED_AT - CUT_AT[2].1).as_millis(),
        (RETURNS_AT - KILLED_AT).as_millis()
    );
    table
}
