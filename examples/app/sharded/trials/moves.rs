//! r56: a fifth shard joins while users are written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tenfold_replication::ShardId;
use tenfold_replication::shard::{Move, SlotMap};
use tenfold_rig::{
    Claim, Client, Cost, Exchange, Failure, Latency, Load, LoadPlan, RoleResult, Table, header, now, sleep,
};

use super::write;
use crate::rung::Climb;
use crate::sharded::homes::{Homes, SLOTS, USERS, any, by_turns};
use crate::sharded::site::{Contents, Site};
use crate::sharded::slots::key;
use crate::sharded::users::Fenced;
use crate::sharded::{ShardServers, UserSlots};

const RATE: f64 = 160.0;
const WARM_UP: Duration = Duration::from_millis(200);
/// The new shard.
const FIFTH: ShardId = ShardId(4);
/// Writes sent by a web server that nobody has told of the new map, and how long it is left so.
const LATE_WRITES: usize = 5;
/// See `LATE_WRITES`.
const LATE_FOR: Duration = Duration::from_millis(250);

/// What a shard that joins did.
#[derive(Debug, Clone, Default)]
pub struct Joined {
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Of these, how many no shard has.
    pub lost: u64,
    /// Writes that happened more often than they were asked for.
    pub doubled: u64,
    /// Writes that were not acknowledged.
    pub failed: u64,
    /// Slots that moved, and all of them.
    pub slots: usize,
    /// The share of users that moved.
    pub moved: f64,
    /// The share that a remainder of the hash would have moved.
    pub rehashed: f64,
    /// Users that are nowhere, twice or where the map does not say.
    pub astray: u64,
    /// Users at another version than the acknowledged writes make.
    pub wrong: u64,
    /// Whether names, phones and balances are what they were.
    pub is_same: bool,
    /// How long slots were closed, and how long their moves took.
    closed: Latency,
    whole: Latency,
    /// The longest time from an intended write to its answer.
    pub slowest: Duration,
    /// Writes by the web server with the old map: answered before it had the new one, and after.
    pub late: [u64; 2],
}

/// What the load notes of the writes of each user.
#[derive(Debug, Default)]
struct Book {
    acknowledged: BTreeMap<u64, Vec<u64>>,
    /// Without an answer: may have happened.
    open: BTreeMap<u64, u64>,
    failed: u64,
    slowest: Duration,
}

/// Loads `site` with writes, three in four of them to users that move, while its spare server becomes the fifth shard. Its last web
/// server takes no part in the load, and learns of the new map when all is over.
///
/// # Errors
///
/// The load cannot be made, a slot cannot be moved, or a server does not answer.
pub async fn join(climb: &Climb, site: &Site, is_fenced: bool) -> RoleResult<Joined> {
    let (homes, moves) = (Homes::new(&site.map, USERS), site.map.with_shard(FIFTH)?);
    let moving = homes.of(moves.iter().map(|one| one.slot));
    let (told, late) = site.stack.fronts.split_at(site.stack.fronts.len().saturating_sub(1));
    let before = site.contents().await?;
    let book = Arc::<Mutex<Book>>::default();
    let among = |users: &[u64], lane| any(users.to_vec(), climb.seed.wrapping_add(lane));
    let everyone: Vec<u64> = (1..=USERS).collect();
    let mut users = by_turns(among(&moving, 1), by_turns(among(&everyone, 2), among(&moving, 3)));
    let plan = LoadPlan::new(RATE, Duration::from_millis(climb.pick(3_600, 2_800))).warm_up(WARM_UP).seed(climb.seed);
    let load = Load::new(Client::new(told.iter().copied())?, plan)?;
    let mut joined = Joined { slots: moves.len(), ..Joined::default() };
    let ((), map) = tokio::join!(
        async {
            load.run(move || write(users()), observer(&book)).await;
        },
        carry_out(climb, site, &moves, is_fenced.then_some(told.len()), &mut joined)
    );
    let map = map?;
    if is_fenced && !late.is_empty() {
        let ids: Vec<u64> = moving.iter().copied().take(LATE_WRITES).collect();
        joined.late = late_writes(site, told.len(), &ids, &map, &book).await?;
    }
    let book = std::mem::take(&mut *book.lock().unwrap_or_else(PoisonError::into_inner));
    let after = site.contents().await?;
    joined.moved = moving.len() as f64 / USERS as f64;
    joined.rehashed = rehashed();
    joined.astray = after.astray(&map);
    joined.is_same = before.hash() == after.hash();
    joined.judge(&book, &after, &map);
    Ok(joined)
}

fn observer(book: &Arc<Mutex<Book>>) -> impl Fn(&Exchange) -> Result<(), Failure> + Send + Sync + use<> {
    let book = Arc::clone(book);
    move |exchange| {
        let (mut book, id) = (book.lock().unwrap_or_else(PoisonError::into_inner), exchange.request.key);
        let etag = exchange.response().ok().and_then(|answer| answer.headers.get(header::ETAG)?.to_str().ok());
        let version = etag.and_then(|tag| tag.trim_matches('"').parse().ok());
        book.slowest = book.slowest.max(exchange.finished - exchange.intended);
        match (exchange.verdict(), version) {
            (Ok(()), Some(version)) => book.acknowledged.entry(id).or_default().push(version),
            (result, _) => {
                // A refusal has no effect; of all else nobody knows.
                let is_refused = exchange.response().is_ok_and(|answer| answer.status.is_client_error());
                *book.open.entry(id).or_default() += u64::from(!is_refused);
                book.failed += 1;
                return result.and(Err(Failure::Wrong));
            }
        }
        Ok(())
    }
}

/// Moves one slot after the other; each map is told to web servers before the next move.
async fn carry_out(
    climb: &Climb,
    site: &Site,
    moves: &[Move],
    told: Option<usize>,
    joined: &mut Joined,
) -> RoleResult<SlotMap> {
    let slots = UserSlots::default();
    let operator = Fenced::with(&site.sharding(climb.seed), ShardServers::asking(), slots.clone()).await?;
    sleep(WARM_UP * 2).await;
    for one in moves {
        let began = now();
        let map = operator.shards().move_slot(*one).await?;
        for web in 0..told.unwrap_or(0) {
            site.tell(web, &map).await?;
        }
        joined.whole.record(now() - began);
        joined.closed.record(slots.closed_at(one.slot).map_or(Duration::ZERO, |at| now() - at));
    }
    Ok(SlotMap::clone(&operator.shards().map()))
}

/// Writes through a web server with the old map; how many were answered before it was told, and after.
async fn late_writes(
    site: &Site,
    web: usize,
    ids: &[u64],
    map: &SlotMap,
    book: &Arc<Mutex<Book>>,
) -> RoleResult<[u64; 2]> {
    let answered = AtomicU64::new(0);
    let writes = join_all(ids.iter().map(|id| async {
        let version = site.write(web, *id).await;
        answered.fetch_add(1, Ordering::Relaxed);
        (*id, version)
    }));
    let told = async {
        sleep(LATE_FOR).await;
        let before = answered.load(Ordering::Relaxed);
        site.tell(web, map).await.map(|()| before)
    };
    let (writes, before) = tokio::join!(writes, told);
    let (before, mut after) = (before?, 0);
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    for (id, version) in writes {
        match version {
            Ok(version) => {
                book.acknowledged.entry(id).or_default().push(version);
                after += 1;
            }
            Err(_) => *book.open.entry(id).or_default() += 1,
        }
    }
    Ok([before, after])
}

/// The share of users whose remainder by five is another than by four.
fn rehashed() -> f64 {
    let Ok(fine) = SlotMap::new(20, &[ShardId(0)]) else { return 0.0 };
    let moves = (1..=USERS).filter(|id| fine.slot(&key(*id)).0 % 4 != fine.slot(&key(*id)).0 % 5).count();
    moves as f64 / USERS as f64
}

impl Joined {
    /// Holds what is stored against what was acknowledged: each write makes the next version, from 1.
    fn judge(&mut self, book: &Book, stored: &Contents, map: &SlotMap) {
        for id in 1..=USERS {
            let versions = book.acknowledged.get(&id).map_or(&[][..], Vec::as_slice);
            let (acknowledged, open) = (versions.len() as u64, book.open.get(&id).copied().unwrap_or(0));
            let done = stored.version(map, id).unwrap_or(0).saturating_sub(1);
            let distinct = versions.iter().collect::<BTreeSet<_>>().len() as u64;
            self.acknowledged += acknowledged;
            // Two writes that were told the same version are one that is there.
            self.lost += acknowledged.saturating_sub(done.min(distinct));
            self.doubled += done.saturating_sub(acknowledged + open);
            self.wrong += u64::from(!(acknowledged..=acknowledged + open).contains(&done));
        }
        (self.failed, self.slowest) = (book.failed, book.slowest);
    }

    fn ms(latency: &Latency, quantile: f64) -> f64 {
        latency.quantile_ms(quantile)
    }
}

/// What a fifth shard takes, and that nobody notices; the control has web servers whose map nobody checks. Without modelled
/// time a slot moves so fast that the control may lose nothing.
pub fn join_claims(cost: &Cost, fenced: &Joined, control: &Joined) -> Vec<Claim> {
    let (closed, whole) = (Joined::ms(&fenced.closed, 0.5), Joined::ms(&fenced.whole, 0.5));
    let [before, after] = fenced.late;
    let does_lose = cost.is_real() || control.lost > 0;
    let is_all = fenced.acknowledged > 0 && fenced.astray == 0 && fenced.is_same;
    vec![
        Claim::new("r56", "a fifth shard joins while users are written: acknowledged writes lost", fenced.lost, {
            fenced.lost == 0 && is_all && does_lose
        })
        .control(control.lost)
        .unit("writes")
        .note(format!(
            "of {}; control: web servers with the old map, which nobody checks, of {}",
            fenced.acknowledged, control.acknowledged
        )),
        Claim::new("r56", "and writes done twice or refused", fenced.doubled + fenced.failed, {
            fenced.doubled + fenced.failed == 0 && control.failed > 0
        })
        .control(control.doubled + control.failed)
        .unit("writes")
        .note("control: the old map looks for users where they are no more"),
        Claim::new("r56", "all shards together against the truth: users at another version", fenced.wrong, {
            fenced.wrong == 0 && is_all && does_lose
        })
        .control(control.wrong)
        .unit("users")
        .note(format!(
            "of {USERS}, each on one shard, the one of the map; names, phones and balances have the hash that they had"
        )),
        Claim::new("r56", "it takes a fifth of the users, and no other moves", fenced.moved * 100.0, {
            (fenced.moved - 0.2).abs() < 0.03 && fenced.astray == 0
        })
        .control(fenced.rehashed * 100.0)
        .unit("% moved")
        .note(format!("{} of {SLOTS} slots; control: the shard is the remainder of the hash", fenced.slots)),
        Claim::new("r56", "writes of a slot wait only while its last keys move, median", closed, {
            closed > 0.0 && closed < whole * 0.75
        })
        .control(whole)
        .unit("ms")
        .note(format!(
            "until web servers have the map; longest {:.0} ms; control: the whole move",
            Joined::ms(&fenced.closed, 1.0)
        )),
        Claim::new(
            "r56",
            "a web server with an old map is refused: its writes done before it has the new one",
            before,
            before == 0 && after == LATE_WRITES as u64,
        )
        .control(after)
        .unit("writes")
        .note("control: after it has it"),
    ]
}

/// A shard that joins, fenced and not.
pub fn join_table(fenced: &Joined, control: &Joined) -> Table {
    let columns = [
        "web servers",
        "acknowledged",
        "lost",
        "twice",
        "not acknowledged",
        "users astray",
        "slot closed, ms",
        "slot moved in, ms",
        "slowest write, ms",
    ];
    let mut table = Table::new("a fifth shard joins four", columns);
    for (name, joined) in [("are refused with an old map", fenced), ("keep the old map, unchecked", control)] {
        table.row([
            name.to_owned(),
            joined.acknowledged.to_string(),
            joined.lost.to_string(),
            joined.doubled.to_string(),
            joined.failed.to_string(),
            joined.astray.to_string(),
            format!("{:.0}", Joined::ms(&joined.closed, 0.5)),
            format!("{:.0}", Joined::ms(&joined.whole, 0.5)),
            joined.slowest.as_millis().to_string(),
        ]);
    }
    table.note = format!(
        "{RATE} writes/s, three in four to users that move; servers of two slots; {} of {SLOTS} slots move",
        fenced.slots
    );
    table
}
