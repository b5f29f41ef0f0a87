//! Slots that move between clusters of SQLite files.

use tenfold_replication::Mode;
use tenfold_replication::driver::Access;
use tenfold_replication::driver::sqlite::{SqliteConfig, SqliteConnection, SqliteDriver, SqliteError};
use tenfold_replication::shard::{Holding, Slot, SlotStore};

use super::fixture::Files;
use super::moves::{ShardFixture, shards};

const SCHEMA: &str = "
    create table counter(key text primary key, slot integer not null, number integer not null) strict;
    create table holding(slot integer primary key, held text not null) strict;
    create table note(number integer primary key autoincrement, slot integer not null, key text not null) strict;";

/// The tables above.
pub(crate) struct Counters;

fn text(key: &[u8]) -> String {
    String::from_utf8(key.to_vec()).unwrap()
}

impl SlotStore<SqliteDriver> for Counters {
    async fn holding(&self, db: &mut SqliteConnection, slot: Slot, _: Access) -> Result<Option<Holding>, SqliteError> {
        let held = db.query("select held from holding where slot = ?1", (slot.0,), |row| row.get::<_, String>(0));
        Ok(held.await?.pop().map(|held| held.parse().unwrap()))
    }

    async fn holdings(&self, db: &mut SqliteConnection) -> Result<Vec<(Slot, Holding)>, SqliteError> {
        let held =
            db.query("select slot, held from holding", (), |row| Ok((Slot(row.get(0)?), row.get::<_, String>(1)?)));
        Ok(held.await?.into_iter().map(|(slot, held)| (slot, held.parse().unwrap())).collect())
    }

    async fn hold(&self, db: &mut SqliteConnection, slot: Slot, holding: Holding) -> Result<(), SqliteError> {
        let sql = "insert into holding values (?1, ?2) on conflict (slot) do update set held = excluded.held";
        db.execute(sql, (slot.0, holding.to_string())).await.map(drop)
    }

    async fn note(&self, db: &mut SqliteConnection, slot: Slot, key: &[u8]) -> Result<(), SqliteError> {
        db.execute("insert into note(slot, key) values (?1, ?2)", (slot.0, text(key))).await.map(drop)
    }

    async fn noted(
        &self,
        db: &mut SqliteConnection,
        slot: Slot,
        most: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, SqliteError> {
        let sql = "select number, key from note where slot = ?1 order by number limit ?2";
        db.query(sql, (slot.0, most as i64), |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, String>(1)?.into())))
            .await
    }

    async fn forget(&self, db: &mut SqliteConnection, slot: Slot, numbers: &[u64]) -> Result<(), SqliteError> {
        for number in numbers {
            db.execute("delete from note where slot = ?1 and number = ?2", (slot.0, *number as i64)).await?;
        }
        Ok(())
    }

    async fn keys(
        &self,
        db: &mut SqliteConnection,
        slot: Slot,
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<Vec<u8>>, SqliteError> {
        let sql = "select key from counter where slot = ?1 and (?2 is null or key > ?2) order by key limit ?3";
        db.query(sql, (slot.0, after.map(text), most as i64), |row| Ok(row.get::<_, String>(0)?.into())).await
    }

    async fn export(&self, db: &mut SqliteConnection, key: &[u8]) -> Result<Option<Vec<u8>>, SqliteError> {
        let rows = db.query("select number from counter where key = ?1", (text(key),), |row| row.get::<_, i64>(0));
        Ok(rows.await?.pop().map(|number| number.to_le_bytes().to_vec()))
    }

    async fn import(
        &self,
        db: &mut SqliteConnection,
        slot: Slot,
        key: &[u8],
        rows: Option<&[u8]>,
    ) -> Result<(), SqliteError> {
        db.execute("delete from counter where key = ?1", (text(key),)).await?;
        if let Some(number) = rows {
            let number = i64::from_le_bytes(number.try_into().unwrap());
            db.execute("insert into counter values (?1, ?2, ?3)", (text(key), slot.0, number)).await?;
        }
        Ok(())
    }

    async fn purge(&self, db: &mut SqliteConnection, slot: Slot) -> Result<(), SqliteError> {
        db.execute("delete from counter where slot = ?1", (slot.0,)).await?;
        db.execute("delete from note where slot = ?1", (slot.0,)).await.map(drop)
    }
}

impl ShardFixture for Files {
    type Store = Counters;

    const NODES: u16 = 2;

    fn store() -> Counters {
        Counters
    }

    async fn start_shard(nodes: u16, mode: Mode) -> Self {
        Self::with(nodes, mode, SqliteConfig::default(), SCHEMA).await
    }

    async fn add(db: &mut SqliteConnection, slot: Slot, key: String) -> Result<(), SqliteError> {
        let sql = "insert into counter values (?1, ?2, 1) on conflict (key) do update set number = number + 1";
        db.execute(sql, (key, slot.0)).await.map(drop)
    }

    async fn value(db: &mut SqliteConnection, key: String) -> Result<i64, SqliteError> {
        let sql = "select coalesce(sum(number), 0) from counter where key = ?1";
        Ok(db.query(sql, (key,), |row| row.get(0)).await?[0])
    }

    async fn sum(db: &mut SqliteConnection, slots: Vec<Slot>) -> Result<i64, SqliteError> {
        let slots: Vec<_> = slots.iter().map(|slot| slot.0.to_string()).collect();
        let sql = format!("select coalesce(sum(number), 0) from counter where slot in ({})", slots.join(","));
        Ok(db.query(sql, (), |row| row.get(0)).await?[0])
    }

    async fn all_caught_up(&self) {
        self.caught_up().await;
    }
}

shards!(Files);
