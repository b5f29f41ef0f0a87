//! r55, r56 and r09: database servers of three sizes, and the same slots as more and more shards.

use tenfold_rig::{Claim, Cost, Network, NetworkError, Request, RoleResult, Service, Table, Tier};

use super::write;
use crate::keys;
use crate::measure::{model, throughput};
use crate::rung::Climb;
use crate::sharded::homes::{Homes, USERS};
use crate::sharded::site::Site;

/// The biggest database server on sale, in slots. Modelled: every catalogue of machines ends somewhere.
pub const LARGEST: u32 = 4;
/// A server that is twice as big, or a system of twice as many shards, does at least so many times as much. Sizes draw other
/// service times than each other, and shards the same ones.
const DOUBLE_SIZE: f64 = 1.6;
/// See `DOUBLE_SIZE`.
const DOUBLE_SHARDS: f64 = 1.8;
/// The same slots up or out differ by no more than this: noise of some hundred service times.
const SLACK: f64 = 0.2;

/// A database server that nobody sells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the biggest database server has {LARGEST} slots, not {0}")]
pub struct TooBig(pub u32);

/// Refuses a server that is bigger than the biggest.
///
/// # Errors
///
/// [`TooBig`].
pub fn check_size(service: Service) -> Result<(), TooBig> {
    if service.slots > LARGEST { Err(TooBig(service.slots)) } else { Ok(()) }
}

/// The same with database servers of so many slots.
pub fn size(cost: Cost, slots: u32) -> Cost {
    Cost { database: Service { slots, ..cost.database }, ..cost }
}

/// The queueing model of web servers over shards, of which each gets a share of the requests.
///
/// # Errors
///
/// The shares are none.
pub fn network(cost: &Cost, webs: u32, shares: &[f64]) -> Result<Network, NetworkError> {
    let web = model(cost, cost.service(Tier::Web)).copies(webs);
    let shard = model(cost, cost.service(Tier::Database));
    Network::routed(std::iter::once(web).chain(shares.iter().map(|_| shard)), |ids| {
        let paths = ids.split_first().map(|(web, shards)| shards.iter().map(|shard| vec![*web, *shard]));
        shares.iter().copied().zip(paths.into_iter().flatten()).collect::<Vec<_>>()
    })
}

/// What a database server of one size does at most.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Its slots.
    pub slots: u32,
    /// Writes a second.
    pub writes: f64,
    /// Reads a second.
    pub reads: f64,
}

/// What a number of shards does at most.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// Of one slot each.
    pub shards: u16,
    /// Writes a second.
    pub writes: f64,
}

impl Size {
    /// Measures a system of one database server.
    ///
    /// # Errors
    ///
    /// The load cannot be made.
    pub async fn measure(climb: &Climb, site: &Site, slots: u32) -> RoleResult<Self> {
        let limit = size(climb.cost, slots).service(Tier::Database).saturation();
        let mut users = Homes::new(&site.map, USERS).even();
        let writes = bursts(climb, site, limit, || write(users())).await?;
        let reads = bursts(climb, site, limit, || keys::read(users())).await?;
        Ok(Self { slots, writes, reads })
    }
}

impl Spread {
    /// Measures a system of so many shards, all of them asked alike.
    ///
    /// # Errors
    ///
    /// The load cannot be made.
    pub async fn measure(climb: &Climb, site: &Site, shards: u16) -> RoleResult<Self> {
        let limit = size(climb.cost, 1).service(Tier::Database).saturation() * f64::from(shards);
        let mut users = Homes::new(&site.map, USERS).even();
        let writes = bursts(climb, site, limit, || write(users())).await?;
        Ok(Self { shards, writes })
    }
}

/// What a system does at most: the mean of as many measurements as there is time for.
async fn bursts<S>(climb: &Climb, site: &Site, limit: f64, mut source: S) -> RoleResult<f64>
where
    S: FnMut() -> Request,
{
    let (rounds, mut sum) = (climb.pick(2, 1), 0.0);
    for _ in 0..rounds {
        sum += throughput(climb, &site.stack, limit, &mut source).await?;
    }
    Ok(sum / f64::from(rounds))
}

/// What bigger servers and more shards bring. Sizes and shards by rising number, twice as many each time.
///
/// Without modelled time all servers share the cores of one machine, and more of them are not claimed to do more.
pub fn scale_claims(cost: &Cost, sizes: &[Size], spreads: &[Spread]) -> Vec<Claim> {
    let (Some(small), Some(large)) = (sizes.first(), sizes.last()) else { return Vec::new() };
    let (Some(one), Some(many)) = (spreads.first(), spreads.last()) else { return Vec::new() };
    let least = |figures: Vec<f64>| {
        figures.windows(2).map(|pair| pair[1] / pair[0].max(f64::EPSILON)).fold(f64::INFINITY, f64::min)
    };
    let writes = least(sizes.iter().map(|size| size.writes).collect());
    let reads = least(sizes.iter().map(|size| size.reads).collect());
    let shards = least(spreads.iter().map(|spread| spread.writes).collect());
    let ratio = many.writes / large.writes.max(f64::EPSILON);
    let bigger = |times: f64| format!("at least {times:.2} times for twice the size; control: the small one");
    let mut claims = vec![
        Claim::new("r55", "a large database server writes more than a small one", large.writes, writes >= DOUBLE_SIZE)
            .control(small.writes)
            .unit("writes/s")
            .note(bigger(writes)),
        Claim::new("r55", "and reads more", large.reads, reads >= DOUBLE_SIZE)
            .control(small.reads)
            .unit("reads/s")
            .note(bigger(reads)),
        Claim::new("r56", "four shards write more than one", many.writes, shards >= DOUBLE_SHARDS)
            .control(one.writes)
            .unit("writes/s")
            .note(format!("at least {shards:.2} times for twice the shards; control: one shard")),
        Claim::new("r09", "the same four slots up or out write as much", many.writes, (ratio - 1.0).abs() <= SLACK)
            .control(large.writes)
            .unit("writes/s")
            .note(format!("out/up = {ratio:.2}; within {:.0} %; control: one large server", SLACK * 100.0)),
    ];
    claims.retain(|claim| !cost.is_real() || claim.id != "r56");
    claims
}

/// Where bigger servers end, by the word of the one that is asked to be bigger.
pub fn ceiling_claim(refusal: Option<String>, is_joined: bool) -> Claim {
    let is_end = refusal.is_some() && is_joined;
    let refusal = refusal.unwrap_or_else(|| "started".to_owned());
    Claim::new("r55", "up ends at the biggest server; out goes on with a fifth shard", refusal, is_end)
        .control(if is_joined { "a fifth shard has its users" } else { "no fifth shard" })
}

/// Both as tables, beside what their slots can serve.
pub fn scale_tables(cost: &Cost, sizes: &[Size], spreads: &[Spread]) -> Vec<Table> {
    let figure = |figure: f64| format!("{figure:.0}");
    let theory = |slots: u32| {
        let saturation = size(*cost, slots).service(Tier::Database).saturation();
        if cost.is_real() { "–".to_owned() } else { figure(saturation) }
    };
    let mut up = Table::new("up: one database server", ["size", "slots", "writes/s", "reads/s", "theory"]);
    for (name, size) in ["s", "m", "l"].iter().zip(sizes) {
        let row = [(*name).to_owned(), size.slots.to_string(), figure(size.writes), figure(size.reads)];
        up.row(row.into_iter().chain([theory(size.slots)]));
    }
    up.note = format!(
        "as fast as bursts are done, however late; some hundred service times are drawn, whose mean is within a tenth or \
         so of what theory goes by; a server of more than {LARGEST} slots does not start"
    );
    let mut out = Table::new("out: shards of one slot", ["shards", "writes/s", "theory", "times one shard"]);
    for spread in spreads {
        let times = spread.writes / spreads.first().map_or(1.0, |one| one.writes).max(f64::EPSILON);
        let row = [spread.shards.to_string(), figure(spread.writes), theory(u32::from(spread.shards))];
        out.row(row.into_iter().chain([format!("{times:.2}")]));
    }
    out.note =
        "one user of each slot in turn, so that all shards are asked alike; all draw the same service times".to_owned();
    vec![up, out]
}
