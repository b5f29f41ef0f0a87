//! r28: a budget in bytes holds, however much is inserted.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tenfold_lru_cache::{ConfigError, LruCache};
use tenfold_rig::{Claim, NodeSpec, RoleResult, Supervisor};

use crate::http::Http;

const VALUE_BYTES: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(60);
/// What an entry costs beside its value: key, table slot, list links, the vector's header and the allocator's rounding.
const OVERHEAD_BYTES: u64 = 120;

/// What a process is to hoard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hoard {
    /// Entries to insert, all different.
    pub inserts: u64,
    /// The cache's budget; `None` is a plain map, which has none.
    pub budget_bytes: Option<u64>,
}

/// Inserts what `order` says and returns how many entries were evicted. The process's own memory is the result.
///
/// # Errors
///
/// A budget that a cache cannot have.
pub fn hoard(order: &Hoard) -> Result<u64, ConfigError> {
    let value = || vec![0_u8; VALUE_BYTES];
    let Some(budget) = order.budget_bytes else {
        let map: HashMap<u64, Vec<u8>> = (0..order.inserts).map(|key| (key, value())).collect();
        drop(std::hint::black_box(map));
        return Ok(0);
    };
    let cache = LruCache::builder()
        .capacity(budget)
        .weigher(|_: &u64, value: &Vec<u8>| value.len() as u64 + OVERHEAD_BYTES)
        .build()?;
    for key in 0..order.inserts {
        cache.insert(key, value());
    }
    Ok(std::hint::black_box(&cache).stats().evictions)
}

/// What a hoarder's process serves: the number of evictions.
pub fn router(evictions: u64) -> Router {
    Router::new().route("/evictions", get(move || async move { Json(evictions) }))
}

/// One hoarder's memory, as the kernel saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peak {
    /// The greatest resident memory, in bytes.
    pub rss_bytes: u64,
    /// Entries inserted.
    pub inserts: u64,
    /// Entries evicted.
    pub evictions: u64,
}

impl Peak {
    /// Looks at a process of the role `role` that has carried out `order`.
    ///
    /// # Errors
    ///
    /// It does not start, or cannot be looked at.
    pub async fn of(tiers: &Supervisor, role: &str, order: Hoard) -> RoleResult<Self> {
        let name = if order.budget_bytes.is_some() { "bounded" } else { "unbounded" };
        let spec = NodeSpec::new(role, name).ready_timeout(TIMEOUT).config(&order)?;
        let node = tiers.spawn(spec).await?;
        let evictions = Http::new(TIMEOUT).get(node.addr(), "/evictions").await?.json()?;
        let rss_bytes = peak_rss(node.pid())?;
        // Its memory is wanted by others.
        node.kill()?;
        Ok(Self { rss_bytes, inserts: order.inserts, evictions })
    }
}

/// The greatest resident memory that a process ever had, in bytes.
fn peak_rss(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("the kernel does not say VmHWM"))
}

/// The claim of r28: a cache with a budget beside a map without one that was given less to hold.
pub fn memory(bounded: Peak, budget_bytes: u64, unbounded: Peak) -> Claim {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let allowed = mib(budget_bytes) * 1.5 + 16.0;
    let peak = mib(bounded.rss_bytes);
    let grows = unbounded.rss_bytes > unbounded.inserts * VALUE_BYTES as u64;
    let holds = peak <= allowed && bounded.evictions > 0 && grows;
    let note = format!(
        "{} inserts under {:.0} MiB, {} evicted; bound: 1.5 x budget + 16 MiB; control: a map given {}",
        bounded.inserts,
        mib(budget_bytes),
        bounded.evictions,
        unbounded.inserts
    );
    Claim::new("r28", "a byte budget bounds the process's memory", peak, holds)
        .control(mib(unbounded.rss_bytes))
        .unit("MiB resident at most")
        .note(note)
}
