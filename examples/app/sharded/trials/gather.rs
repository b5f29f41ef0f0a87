//! r56: what a query of all shards costs.

use tenfold_rig::{Claim, Cost, Latency, RoleResult, Table, now};

use crate::sharded::homes::USERS;
use crate::sharded::site::Site;

/// What queries over all shards of one system cost.
#[derive(Debug, Clone, Default)]
pub struct Price {
    latency: Latency,
    /// Reads that database servers did for one of them.
    pub reads: f64,
    /// Answers that did not count every user.
    pub wrong: u64,
}

/// Counts all users so often, one query after the other.
///
/// # Errors
///
/// A web server does not answer.
pub async fn price(site: &Site, queries: u32) -> RoleResult<Price> {
    let reads = async || site.stats().await.iter().map(|stats| stats.reads).sum::<u64>();
    let (mut price, before) = (Price::default(), reads().await);
    for _ in 0..queries {
        let began = now();
        let total = site.total(true).await?;
        price.latency.record(now() - began);
        price.wrong += u64::from(total.users != USERS);
    }
    price.reads = (reads().await - before) as f64 / f64::from(queries.max(1));
    Ok(price)
}

impl Price {
    fn ms(&self, quantile: f64) -> f64 {
        self.latency.quantile_ms(quantile)
    }
}

/// The price of four shards against that of one. Without modelled time the part of each shard is smaller, and a query as fast.
pub fn gather_claims(cost: &Cost, four: &Price, one: &Price) -> Vec<Claim> {
    let is_slower = cost.is_real() || four.ms(0.5) > one.ms(0.5);
    let is_right = four.wrong == 0 && one.wrong == 0;
    vec![
        Claim::new("r56", "a query of all users asks all four shards: reads", four.reads, {
            is_right && four.reads >= 3.9 * one.reads
        })
        .control(one.reads)
        .unit("reads a query")
        .note("each shard is asked what it holds, and for its part; control: one shard"),
        Claim::new("r56", "and takes as long as the slowest of them, median", four.ms(0.5), is_slower)
            .control(one.ms(0.5))
            .unit("ms")
            .note(format!("p99 {:.0} ms against {:.0} ms; control: one shard", four.ms(0.99), one.ms(0.99))),
    ]
}

/// The same as a table.
pub fn gather_table(four: &Price, one: &Price, part: Option<u64>) -> Table {
    let columns = ["shards", "reads a query", "median, ms", "p99, ms", "users counted"];
    let mut table = Table::new("a query of all users", columns);
    for (shards, price) in [("1", one), ("4", four)] {
        let (median, p99) = (format!("{:.1}", price.ms(0.5)), format!("{:.1}", price.ms(0.99)));
        table.row([shards.to_owned(), format!("{:.1}", price.reads), median, p99, USERS.to_string()]);
    }
    let part = part.map_or("–".to_owned(), |users| users.to_string());
    table.row(["3 of 4, one is dead".to_owned(), "–".to_owned(), "–".to_owned(), "–".to_owned(), part]);
    table.note = "on idle servers; not one snapshot over shards, and no transaction spans them".to_owned();
    table
}
