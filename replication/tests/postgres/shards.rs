//! Slots that move between servers, by the store of the example `shards`.

use tenfold_replication::Mode;
use tenfold_replication::driver::Access;
use tenfold_replication::driver::postgres::{PgConfig, PgConnection, PgError};
use tenfold_replication::shard::Slot;

use super::fixture::Servers;
use super::moves::{ShardFixture, shards};

#[path = "../../examples/shards/store.rs"]
mod store;

use store::{Counters, SCHEMA};

impl ShardFixture for Servers {
    type Store = Counters;

    const NODES: u16 = 1;

    fn store() -> Counters {
        Counters
    }

    async fn start_shard(nodes: u16, mode: Mode) -> Self {
        let servers = Self::with(nodes, mode, PgConfig::default()).await;
        servers.connect(0, Access::Write).await.batch(SCHEMA).await.unwrap();
        servers
    }

    async fn add(c: &mut PgConnection, slot: Slot, key: String) -> Result<(), PgError> {
        let sql = "insert into counter values ($1, $2, 1) on conflict (key) do update set number = counter.number + 1";
        c.execute(sql, &[&key, &i32::from(slot.0)]).await.map(drop)
    }

    async fn value(c: &mut PgConnection, key: String) -> Result<i64, PgError> {
        let sql = "select coalesce(sum(number), 0)::bigint from counter where key = $1";
        Ok(c.query(sql, &[&key]).await?[0].get(0))
    }

    async fn sum(c: &mut PgConnection, slots: Vec<Slot>) -> Result<i64, PgError> {
        let slots: Vec<_> = slots.iter().map(|slot| i32::from(slot.0)).collect();
        let sql = "select coalesce(sum(number), 0)::bigint from counter where slot = any($1)";
        Ok(c.query(sql, &[&slots]).await?[0].get(0))
    }

    async fn all_caught_up(&self) {
        self.caught_up().await;
    }
}

shards!(Servers);
