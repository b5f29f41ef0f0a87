//! r19: how much of the load the cache takes off the database, and whether the counters of both agree.

use std::time::Duration;

use tenfold_rig::Claim;
use tenfold_rig::{Exchange, Load, LoadPlan, Request, RoleResult};

use super::site::Site;

/// Where reads were answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// By a cache, as the web servers count.
    pub hits: u64,
    /// By the store, as the web servers count.
    pub misses: u64,
    /// Reads that the database counts.
    pub database_reads: u64,
    /// Hits that the cache servers count.
    pub cache_hits: u64,
}

impl Share {
    /// Hits by all reads.
    pub fn hit_ratio(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }

    /// Database reads by all reads.
    pub fn queries_per_request(&self) -> f64 {
        self.database_reads as f64 / (self.hits + self.misses).max(1) as f64
    }

    /// The counts of `site` until now.
    ///
    /// # Errors
    ///
    /// A process does not answer.
    pub async fn of(site: &Site) -> RoleResult<Self> {
        let web = site.web_stats().await?;
        let database_reads = site.database_stats().await?.reads;
        let cache_hits = site.cache_stats().await?.hits;
        Ok(Self { hits: web.hits, misses: web.misses, database_reads, cache_hits })
    }

    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            hits: self.hits - before.hits,
            misses: self.misses - before.misses,
            database_reads: self.database_reads - before.database_reads,
            cache_hits: self.cache_hits - before.cache_hits,
        }
    }
}

/// Puts `rate` requests a second of `source` on `site` for `time` and returns where they were answered.
///
/// # Errors
///
/// The load cannot be made, or a process does not answer.
pub async fn share(site: &Site, source: impl FnMut() -> Request, rate: f64, time: Duration) -> RoleResult<Share> {
    let before = Share::of(site).await?;
    let plan = LoadPlan::new(rate, time).warm_up(Duration::from_millis(1));
    Load::new(site.stack.client()?, plan)?.run(source, Exchange::verdict).await;
    Ok(Share::of(site).await?.since(&before))
}

/// The claims of r19 from the same load with a cache and without.
pub fn share_claims(with: &Share, without: &Share) -> Vec<Claim> {
    let saved = 1.0 - with.queries_per_request() / without.queries_per_request().max(f64::MIN_POSITIVE);
    let text = "the web tier asks the cache first: fewer database queries a request";
    let agrees = with.database_reads == with.misses && with.cache_hits == with.hits;
    vec![
        Claim::new("r19", text, with.queries_per_request(), saved >= 0.4)
            .control(without.queries_per_request())
            .unit("queries/request")
            .note(format!("{:.0} % fewer; control: no cache", saved * 100.0)),
        Claim::new("r19", "the database counts as many reads as the caches count misses", with.database_reads, agrees)
            .control(with.misses)
            .unit("reads")
            .note(format!("hits: web servers {}, cache servers {}; control: misses", with.hits, with.cache_hits)),
    ]
}
