//! What `schema.sql` is for: slots of PostgreSQL tables that are fenced, copied and deleted.

use tenfold_replication::driver::Access;
use tenfold_replication::driver::postgres::{PgConnection, PgDriver, PgError};
use tenfold_replication::shard::{Holding, Slot, SlotStore};

pub(crate) const SCHEMA: &str = include_str!("schema.sql");

/// The tables of `schema.sql`.
pub(crate) struct Counters;

/// Keys are text here.
fn text(key: &[u8]) -> &str {
    std::str::from_utf8(key).unwrap_or_default()
}

fn number(slot: Slot) -> i32 {
    slot.0.into()
}

/// What cannot be read is no reason to take writes.
fn holding(held: &str) -> Result<Holding, PgError> {
    held.parse().map_err(|_| PgError::Malformed)
}

impl SlotStore<PgDriver> for Counters {
    async fn holding(&self, db: &mut PgConnection, slot: Slot, access: Access) -> Result<Option<Holding>, PgError> {
        let sql = match access {
            Access::Write => "select fenced_holding($1)",
            Access::Read => "select held from holding where slot = $1",
        };
        let rows = db.query(sql, &[&number(slot)]).await?;
        rows.first().and_then(|row| row.get::<_, Option<&str>>(0)).map(holding).transpose()
    }

    async fn holdings(&self, db: &mut PgConnection) -> Result<Vec<(Slot, Holding)>, PgError> {
        let rows = db.query("select slot, held from holding", &[]).await?;
        let of = |slot: i32, held| Ok((Slot(slot.try_into().map_err(|_| PgError::Malformed)?), holding(held)?));
        rows.iter().map(|row| of(row.get(0), row.get(1))).collect()
    }

    async fn hold(&self, db: &mut PgConnection, slot: Slot, holding: Holding) -> Result<(), PgError> {
        db.execute("call hold($1, $2)", &[&number(slot), &holding.to_string()]).await.map(drop)
    }

    async fn note(&self, db: &mut PgConnection, slot: Slot, key: &[u8]) -> Result<(), PgError> {
        db.execute("insert into note(slot, key) values ($1, $2)", &[&number(slot), &text(key)]).await.map(drop)
    }

    async fn noted(&self, db: &mut PgConnection, slot: Slot, most: usize) -> Result<Vec<(u64, Vec<u8>)>, PgError> {
        let sql = "select number, key from note where slot = $1 order by number limit $2";
        let rows = db.query(sql, &[&number(slot), &(most as i64)]).await?;
        Ok(rows.iter().map(|row| (row.get::<_, i64>(0) as u64, row.get::<_, &str>(1).into())).collect())
    }

    async fn forget(&self, db: &mut PgConnection, slot: Slot, numbers: &[u64]) -> Result<(), PgError> {
        let numbers: Vec<_> = numbers.iter().map(|number| *number as i64).collect();
        db.execute("delete from note where slot = $1 and number = any($2)", &[&number(slot), &numbers]).await.map(drop)
    }

    async fn keys(
        &self,
        db: &mut PgConnection,
        slot: Slot,
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<Vec<u8>>, PgError> {
        let sql = "select key from counter where slot = $1 and ($2::text is null or key > $2) order by key limit $3";
        let rows = db.query(sql, &[&number(slot), &after.map(text), &(most as i64)]).await?;
        Ok(rows.iter().map(|row| row.get::<_, &str>(0).into()).collect())
    }

    async fn export(&self, db: &mut PgConnection, key: &[u8]) -> Result<Option<Vec<u8>>, PgError> {
        let rows = db.query("select number from counter where key = $1", &[&text(key)]).await?;
        Ok(rows.first().map(|row| row.get::<_, i64>(0).to_string().into()))
    }

    async fn import(&self, db: &mut PgConnection, slot: Slot, key: &[u8], rows: Option<&[u8]>) -> Result<(), PgError> {
        let (key, rows) = (text(key), rows.and_then(|rows| text(rows).parse::<i64>().ok()));
        let Some(count) = rows else {
            return db.execute("delete from counter where key = $1", &[&key]).await.map(drop);
        };
        let sql = "insert into counter values ($1, $2, $3) on conflict (key) do update set number = excluded.number";
        db.execute(sql, &[&key, &number(slot), &count]).await.map(drop)
    }

    async fn purge(&self, db: &mut PgConnection, slot: Slot) -> Result<(), PgError> {
        db.execute("delete from counter where slot = $1", &[&number(slot)]).await?;
        db.execute("delete from note where slot = $1", &[&number(slot)]).await.map(drop)
    }
}
