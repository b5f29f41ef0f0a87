//! r21: many readers miss the same key at once.

use std::sync::Arc;

use tenfold_rig::Claim;
use tenfold_rig::{RoleResult, StatusCode};
use tokio::task::JoinSet;

use super::site::Site;

const READERS: u64 = 100;

/// Sends 100 reads of one cold key at once: `through` reads through, `aside` is cache-aside without leases.
///
/// Then takes the database of `through` away and brings it back: the failed load must not stick to its key.
///
/// # Errors
///
/// A system does not answer, or its database cannot be killed and restarted.
pub async fn flood(through: Site, aside: Site) -> RoleResult<Vec<Claim>> {
    let (through, aside) = (Arc::new(through), Arc::new(aside));
    let (one, many) = (queries(&through, 4_001).await?, queries(&aside, 4_001).await?);
    through.database.kill()?;
    let while_down = through.web(hyper::Method::GET, "/users/4002", &()).await?.status;
    through.database.restart().await?;
    let after = through.read(4_002).await.is_ok();
    let failed = while_down == StatusCode::SERVICE_UNAVAILABLE;
    let text = "a failed load does not poison its key";
    Ok(vec![
        Claim::new("r21", "100 readers miss one key at once: one query", one, one == 1 && many > READERS / 4)
            .control(many)
            .unit("database queries")
            .note("control: cache-aside without leases"),
        Claim::new("r21", text, if after { "loads again" } else { "still fails" }, failed && after)
            .control(format!("{} while the database is down", while_down.as_u16())),
    ])
}

/// Database reads that 100 reads of `key` at once cause.
async fn queries(site: &Arc<Site>, key: u64) -> RoleResult<u64> {
    // Open the connections first, so that the readers start together.
    readers(site, 1).await?;
    let before = site.database_stats().await?.reads;
    readers(site, key).await?;
    Ok(site.database_stats().await?.reads - before)
}

async fn readers(site: &Arc<Site>, key: u64) -> RoleResult {
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let site = Arc::clone(site);
        readers.spawn(async move { site.read(key).await });
    }
    for answer in readers.join_all().await {
        answer?;
    }
    Ok(())
}
