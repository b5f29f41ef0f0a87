//! r15 and r18: what replicas add to reads and to writes, and what they cost.

use tenfold_rig::{Claim, Cost, HIGHEST_RATIO, LOWEST_RATIO, Service, Table, Tier};

use crate::measure::Measured;

/// Of one database server, in whatever a reader pays with: an assumption that the table names.
const PRICE: f64 = 100.0;
/// Of one of a single slot.
const SMALL_PRICE: f64 = 25.0;

/// Writes with replicas and without differ by no more than this.
const SLACK: f64 = 0.15;

/// What a number of replicas carries.
#[derive(Debug, Clone)]
pub struct Scaled {
    /// Beside the primary.
    pub replicas: u16,
    /// Reads alone.
    pub reads: Measured,
    /// Writes alone, a second, where they were measured: as fast as bursts of them are done.
    pub writes: Option<f64>,
}

impl Scaled {
    fn servers(&self) -> u16 {
        self.replicas + 1
    }
}

fn is_near_theory(measured: &Measured) -> bool {
    measured.theory.is_none_or(|theory| (LOWEST_RATIO..=HIGHEST_RATIO).contains(&(measured.capacity / theory)))
}

/// The same with database servers of one slot.
pub fn small(cost: Cost) -> Cost {
    Cost { database: Service { slots: 1, ..cost.database }, ..cost }
}

/// The claims of r15 and r18, of the rows with the fewest and the most replicas. In a quick run, whose search lasts seconds,
/// reads have more room, and only what they are with all replicas is held against theory, by the report.
pub fn scale_claims(is_quick: bool, rows: &[Scaled]) -> Vec<Claim> {
    let (Some(alone), Some(many)) = (rows.first(), rows.last()) else { return Vec::new() };
    let times = many.reads.capacity / alone.reads.capacity;
    let least = if is_quick { 2.4 } else { 2.6 };
    let is_theory = is_quick || rows.iter().all(|row| is_near_theory(&row.reads));
    let near = if is_quick { "" } else { ", each near theory" };
    let mut claims = vec![
        Claim::new("r15", "reads scale with the replicas: carried by three", many.reads.capacity, {
            times >= least && is_theory
        })
        .control(alone.reads.capacity)
        .unit("reads/s")
        .note(format!("{times:.2} times, at least {least}{near}; control: the primary alone")),
    ];
    if let (Some(with), Some(without)) = (many.writes, alone.writes) {
        let ratio = with / without;
        claims.extend([
            Claim::new("r18", "writes do not scale: done with three replicas", with, (ratio - 1.0).abs() <= SLACK)
                .control(without)
                .unit("writes/s")
                .note(format!(
                    "{ratio:.2} times, within {:.0} %, as fast as bursts are done; control: the primary alone",
                    SLACK * 100.0
                )),
            Claim::new("r18", "the price of 1000 writes/s", price(SMALL_PRICE, many, with), {
                price(SMALL_PRICE, many, with) > 2.0 * price(SMALL_PRICE, alone, without)
            })
            .control(price(SMALL_PRICE, alone, without))
            .unit("a month")
            .note(format!(
                "at {SMALL_PRICE} a server of one slot; control: the primary alone, which no failure may take"
            )),
        ]);
    }
    claims
}

/// Of a thousand requests a second.
fn price(server: f64, row: &Scaled, rate: f64) -> f64 {
    (f64::from(row.servers()) * server / rate * 1_000.0).round()
}

/// Reads, writes, servers and price by the number of replicas.
pub fn scale_table(cost: &Cost, rows: &[Scaled]) -> Table {
    let columns = [
        "replicas",
        "database servers",
        "reads/s",
        "theory",
        "writes/s at most, one slot",
        "theory",
        "1000 reads/s cost",
        "1000 writes/s",
    ];
    let mut table = Table::new("what replicas carry, and what they cost", columns);
    let figure = |figure: Option<f64>| figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.0}"));
    let saturation = (!cost.is_real()).then(|| small(*cost).service(Tier::Database).saturation());
    for row in rows {
        table.row([
            row.replicas.to_string(),
            row.servers().to_string(),
            figure(Some(row.reads.capacity)),
            figure(row.reads.theory),
            figure(row.writes),
            figure(saturation.filter(|_| row.writes.is_some())),
            figure(Some(price(PRICE, row, row.reads.capacity))),
            figure(row.writes.map(|rate| price(SMALL_PRICE, row, rate))),
        ]);
    }
    table.note = format!(
        "one replica reads no more than the primary alone, which then has its writes to itself; reads with p99 within the \
         promise, writes however late and on servers of one slot instead of four; each \
         measured once; {PRICE} a month for a database server is an assumption, and {SMALL_PRICE} for one of one slot"
    );
    table
}
