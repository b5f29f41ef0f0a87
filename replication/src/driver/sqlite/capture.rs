//! Finds out what a transaction changed: temporary triggers note the keys that it touches, and before the commit the rows
//! are read that are there now.
//!
//! The triggers and what they note are of this connection alone, and undone with a statement or a savepoint. Rows that
//! `or replace` removes are noted because the connection has recursive triggers; what cascades is noted as well.
//! SQLite's session extension would do the same. It is not used because `rusqlite` builds it only where libclang is
//! installed, and because it leaves out rows silently whose primary key is null.

use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::SqliteError;
use super::changes::{Cell, TableChanges};
use super::schema::{self, Table, quoted};

/// The triggers of one connection, and of which schema they are.
#[derive(Debug)]
pub(super) struct Capture {
    version: i64,
    tables: Vec<Table>,
}

impl Capture {
    /// Notes from now on. Inside of a transaction.
    pub(super) fn install(db: &Connection) -> Result<Self, SqliteError> {
        let tables = schema::tables(db)?;
        uninstall(db)?;
        for (index, table) in tables.iter().enumerate() {
            db.execute_batch(&triggers(index, table))?;
        }
        Ok(Self { version: schema::version(db)?, tables })
    }

    /// Whether the schema is the one that the triggers were made for.
    pub(super) fn is_current(&self, db: &Connection) -> Result<bool, SqliteError> {
        Ok(self.version == schema::version(db)?)
    }

    /// What was changed since the last time, which is forgotten.
    pub(super) fn take(&self, db: &Connection, max_bytes: usize) -> Result<Vec<TableChanges>, SqliteError> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        for (index, table) in self.tables.iter().enumerate() {
            let changes = take_table(db, index, table, &mut bytes, max_bytes)?;
            taken.extend(changes);
        }
        Ok(taken)
    }
}

/// Removes the triggers, so that a migration does not meet them.
pub(super) fn uninstall(db: &Connection) -> Result<(), SqliteError> {
    let own = "select type, name from temp.sqlite_schema where type in ('table', 'trigger') and name like 'tenfold\\_%' \
               escape '\\' order by type desc";
    let mut statement = db.prepare_cached(own)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for (kind, name) in rows.collect::<Result<Vec<_>, _>>()? {
        db.execute_batch(&format!("drop {kind} if exists temp.{}", quoted(&name)))?;
    }
    Ok(())
}

fn triggers(index: usize, table: &Table) -> String {
    let of = |row: &str| table.key.iter().map(|key| key.compared(row)).collect::<Vec<_>>().join(", ");
    let (old, new, on) = (of("old."), of("new."), quoted(&table.name));
    let names: Vec<_> = table.key.iter().enumerate().map(|(place, key)| key.declared(&format!("k{place}"))).collect();
    // No type: a value is kept as it is. Two that are one to the key are one here. No uniqueness: the statement's own
    // conflict clause would rule over it.
    format!(
        "create temp table tenfold_{index}({names});
         create temp trigger tenfold_{index}_i after insert on main.{on}
           begin insert into tenfold_{index} values ({new}); end;
         create temp trigger tenfold_{index}_d after delete on main.{on}
           begin insert into tenfold_{index} values ({old}); end;
         create temp trigger tenfold_{index}_u after update on main.{on}
           begin insert into tenfold_{index} select {old} union select {new}; end;",
        names = names.join(", "),
    )
}

fn take_table(
    db: &Connection,
    index: usize,
    table: &Table,
    bytes: &mut usize,
    max_bytes: usize,
) -> Result<Option<TableChanges>, SqliteError> {
    let mut touched = db.prepare_cached(&format!("select distinct * from temp.tenfold_{index}"))?;
    let mut keys = touched.query([])?;
    let mut changes = TableChanges { table: table.name.clone(), ..TableChanges::default() };
    let columns: Vec<_> = table.columns.iter().map(|column| quoted(column)).collect();
    let select = format!("select {} from main.{} where {}", columns.join(", "), quoted(&table.name), table.key_is());
    let mut size = vec![];
    while let Some(row) = keys.next()? {
        let key = cells(row, table.key.len())?;
        if key.iter().any(Cell::is_null) {
            return Err(SqliteError::NullKey { table: table.name.clone().into() });
        }
        let width = table.columns.len();
        let now = db.prepare_cached(&select)?;
        let now = { now }.query_row(params_from_iter(&key), |row| cells(row, width)).optional()?;
        now.as_ref().unwrap_or(&key).iter().for_each(|cell| cell.encode(&mut size));
        *bytes += size.len();
        size.clear();
        if *bytes > max_bytes {
            return Err(SqliteError::TooLarge { bytes: *bytes, max: max_bytes });
        }
        match now {
            Some(row) => changes.rows.push(row),
            None => changes.gone.push(key),
        }
    }
    drop(keys);
    if changes.rows.is_empty() && changes.gone.is_empty() {
        return Ok(None);
    }
    db.prepare_cached(&format!("delete from temp.tenfold_{index}"))?.execute([])?;
    changes.columns.clone_from(&table.columns);
    changes.key = table.key_indices();
    if table.has_sequence {
        let sequence = db.prepare_cached("select seq from main.sqlite_sequence where name = ?1");
        changes.sequence = { sequence? }.query_row([&table.name], |row| row.get(0)).optional()?;
    }
    Ok(Some(changes))
}

fn cells(row: &rusqlite::Row<'_>, width: usize) -> rusqlite::Result<Vec<Cell>> {
    (0..width).map(|column| row.get_ref(column).map(Cell::from)).collect()
}
