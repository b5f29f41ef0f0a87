//! r20 and r24: a generator that knows every acknowledged version checks every read.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use tenfold_rig::Claim;
use tenfold_rig::{Bytes, Exchange, Failure, Load, LoadPlan, Request, Rng, RoleResult, Truth, TruthCounts, header};

use super::site::Site;
use crate::user::{User, UserId, Versioned};

/// Keys that are read and written.
const KEYS: u64 = 40;
const RATE: f64 = 250.0;
/// One request in so many is a write.
const WRITES_ONE_IN: u64 = 8;

/// What the oracle saw.
#[derive(Debug, Clone, Copy)]
pub struct Oracle {
    /// Its counts.
    pub counts: TruthCounts,
    /// Requests that failed.
    pub failed: u64,
}

/// Reads and writes a few users for `time` and judges each read by what had been acknowledged when it began.
///
/// # Errors
///
/// The load cannot be made.
pub async fn oracle(site: &Site, seed: u64, time: Duration) -> RoleResult<Oracle> {
    let truth = Arc::new(Truth::new());
    let mut rng = Rng::new(seed);
    let book = Arc::clone(&truth);
    let source = move || {
        let key = 1 + rng.below(KEYS);
        if rng.below(WRITES_ONE_IN) == 0 {
            book.begin_write(key);
            let json = serde_json::to_vec(&User::sample(UserId(key))).expect("a user has a JSON form");
            let json_type = header::HeaderValue::from_static("application/json");
            Request::put(format!("/users/{key}"), Bytes::from(json)).key(key).header(header::CONTENT_TYPE, json_type)
        } else {
            Request::get(format!("/users/{key}")).key(key).tag(book.begin_read(key))
        }
    };
    let judge = Arc::clone(&truth);
    let observe = move |exchange: &Exchange| {
        exchange.verdict()?;
        let response = exchange.response()?;
        let etag = response.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        // The store counts from 1, the book from 0: version 1 is the user nobody has written yet.
        let version = etag.and_then(|tag| tag.trim_matches('"').parse::<u64>().ok()).ok_or(Failure::Wrong)? - 1;
        let request = &exchange.request;
        if request.method == Method::PUT {
            judge.acknowledge(request.key, version, exchange.finished);
        } else {
            judge.check_read(request.key, request.tag, version, exchange.finished);
        }
        Ok(())
    };
    let plan = LoadPlan::new(RATE, time).warm_up(Duration::from_millis(200)).seed(seed);
    let result = Load::new(site.stack.client()?, plan)?.run(source, observe).await;
    Ok(Oracle { counts: truth.counts(), failed: result.failed })
}

/// What the oracle says of a protected cache and of one that nobody invalidates.
pub fn stale(protected: &Oracle, unprotected: &Oracle) -> Vec<Claim> {
    let (with, without) = (protected.counts.stale_reads, unprotected.counts.stale_reads);
    let impossible = protected.counts.impossible_reads + unprotected.counts.impossible_reads;
    let holds = with == 0 && without > 0 && impossible == 0;
    let reads = protected.counts.reads_checked;
    vec![
        Claim::new("r20", "cache-aside serves old values until the writer invalidates", with, holds)
            .control(without)
            .unit("stale reads")
            .note(format!("of {reads} checked reads; control: no invalidation")),
        Claim::new("r24", "no read misses a write acknowledged before it began", protected.counts.max_stale_ms, holds)
            .control(unprotected.counts.max_stale_ms)
            .unit("ms, oldest stale read")
            .note("version oracle in the generator; control: no invalidation"),
    ]
}

#[derive(Deserialize)]
struct Granted {
    lease: u64,
}

/// r24: a reader reads the old value, a writer writes and invalidates, then the reader fills the cache.
///
/// Forced step by step on key 7 without a lease and on key 8 with one.
///
/// # Errors
///
/// The system does not answer.
pub async fn forced_race(site: &Site) -> RoleResult<Claim> {
    let old = |id| Versioned { version: 1, user: User::sample(UserId(id)) };
    let new = site.write(7).await?;
    site.cache(7, Method::PUT, "/entry/7", &old(7)).await?;
    let control = site.read(7).await?;

    let granted = site.cache(8, Method::POST, "/lease/8", &()).await?.json::<Granted>()?;
    let written = site.write(8).await?;
    let fill = site.cache(8, Method::PUT, &format!("/entry/8?lease={}", granted.lease), &old(8)).await?;
    let seen = site.read(8).await?;
    let holds = control < new && fill.status == StatusCode::CONFLICT && seen == written;
    Ok(Claim::new("r24", "a fill that is slower than a write is refused by its lease", seen, holds)
        .control(control)
        .unit("version read, 2 is current")
        .note("delete while filling, forced; control: a fill without a lease"))
}
