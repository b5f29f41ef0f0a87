//! Makes a database what records say that another one was.

use std::collections::HashMap;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, params_from_iter};

use super::SqliteError;
use super::changes::{self, Cell, TableChanges};
use super::record::{Kind, Record};
use super::schema::{self, KeyColumn, quoted};
use super::state::State;

/// Sets a connection up on which records are applied: what follows from a change is in the record already.
pub(super) fn prepare(db: &Connection) -> Result<(), SqliteError> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.execute_batch("pragma foreign_keys = off; pragma ignore_check_constraints = on;")?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// The keys of tables that were changed, and of which schema they are.
#[derive(Debug, Default)]
pub(super) struct Keys {
    version: i64,
    of: HashMap<String, Vec<KeyColumn>>,
}

impl Keys {
    fn of(&mut self, db: &Connection, table: &str) -> Result<&[KeyColumn], SqliteError> {
        let version = schema::version(db)?;
        if self.version != version {
            *self = Self { version, ..Self::default() };
        }
        if !self.of.contains_key(table) {
            self.of.insert(table.into(), schema::key(db, table)?);
        }
        Ok(&self.of[table])
    }
}

/// Applies records that follow the database's state, all or none.
pub(super) fn apply(
    db: &Connection,
    keys: &mut Keys,
    records: impl FnOnce(&State) -> Result<Vec<Record>, SqliteError>,
) -> Result<State, SqliteError> {
    db.execute_batch("begin immediate")?;
    let result = State::read(db).and_then(|state| apply_in_transaction(db, keys, state, &records(&state)?));
    match result {
        Ok(state) => {
            db.execute_batch("commit")?;
            Ok(state)
        }
        Err(error) => {
            // The error that led here says more.
            let _ = db.execute_batch("rollback");
            // They may be of a schema that is undone.
            *keys = Keys::default();
            Err(error)
        }
    }
}

fn apply_in_transaction(
    db: &Connection,
    keys: &mut Keys,
    mut state: State,
    records: &[Record],
) -> Result<State, SqliteError> {
    for record in records {
        if !record.follows(state.tail) {
            return Err(SqliteError::Parted);
        }
        let applied = match record.kind {
            Kind::Changes => apply_changes(db, keys, &record.payload),
            Kind::Schema => apply_schema(db, &record.payload),
        };
        applied.map_err(|error| match error {
            SqliteError::Sql(rusqlite::Error::SqliteFailure(failure, _)) if is_of_content(failure) => {
                SqliteError::Diverged { lsn: record.at.lsn }
            }
            error => error,
        })?;
        state.tail = record.at;
    }
    state.write(db)?;
    Ok(state)
}

/// Whether the rows or the schema are at fault, rather than the disk or another connection.
fn is_of_content(failure: rusqlite::ffi::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TypeMismatch, Unknown};
    matches!(failure.code, ConstraintViolation | TypeMismatch | Unknown)
}

fn apply_schema(db: &Connection, payload: &[u8]) -> Result<(), SqliteError> {
    let sql = std::str::from_utf8(payload).map_err(|_| SqliteError::Malformed)?;
    Ok(db.execute_batch(sql)?)
}

fn apply_changes(db: &Connection, keys: &mut Keys, payload: &[u8]) -> Result<(), SqliteError> {
    for table in changes::decode(payload)? {
        let key = keys.of(db, &table.table)?;
        apply_table(db, key, &table)?;
    }
    Ok(())
}

fn apply_table(db: &Connection, key: &[KeyColumn], changes: &TableChanges) -> Result<(), SqliteError> {
    let (table, columns) = (quoted(&changes.table), changes.columns.iter().map(|column| quoted(column)));
    let columns: Vec<_> = columns.collect();
    let delete = format!("delete from main.{table} where {}", key_is(key, changes));
    // Whatever a constraint says of conflicts: none of them is to be settled here.
    let insert = format!(
        "insert or abort into main.{table}({}) values ({})",
        columns.join(", "),
        vec!["?"; columns.len()].join(", ")
    );
    let mut delete = db.prepare_cached(&delete)?;
    for key in &changes.gone {
        delete.execute(params_from_iter(key))?;
    }
    for row in &changes.rows {
        delete.execute(params_from_iter(key_of(row, &changes.key)))?;
    }
    let mut insert = db.prepare_cached(&insert)?;
    for (index, row) in changes.rows.iter().enumerate() {
        let inserted = insert.execute(params_from_iter(row));
        // Logs of earlier versions have a row twice that was noted by two names.
        if inserted.is_err() && !changes.rows[..index].contains(row) {
            inserted?;
        }
    }
    if let Some(sequence) = changes.sequence {
        let set = "update main.sqlite_sequence set seq = ?2 where name = ?1";
        if db.prepare_cached(set)?.execute((&changes.table, sequence))? == 0 {
            let set = "insert into main.sqlite_sequence(name, seq) values (?1, ?2)";
            db.prepare_cached(set)?.execute((&changes.table, sequence))?;
        }
    }
    Ok(())
}

/// Of one row, as the key's index tells it from others.
fn key_is(key: &[KeyColumn], changes: &TableChanges) -> String {
    let each = changes.key.iter().enumerate().map(|(place, index)| {
        let name = &changes.columns[usize::from(*index)];
        let own = key.get(place).filter(|own| own.name == *name);
        format!("{} = ?", own.map_or_else(|| quoted(name), |own| own.compared("")))
    });
    each.collect::<Vec<_>>().join(" and ")
}

fn key_of<'a>(row: &'a [Cell], key: &'a [u16]) -> impl Iterator<Item = &'a Cell> {
    key.iter().map(|column| &row[usize::from(*column)])
}

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;

    use super::*;

    fn row(key: &str, number: i64) -> Vec<Cell> {
        vec![Cell::Text(key.into()), Cell::Value(Value::Integer(number))]
    }

    #[test]
    fn a_row_that_is_there_twice_is_one_and_any_other_conflict_an_error() {
        let db = Connection::open_in_memory().unwrap();
        prepare(&db).unwrap();
        db.execute_batch("create table t(k text primary key on conflict replace collate nocase, n)").unwrap();
        let columns = ["k", "n"].map(String::from).to_vec();
        let changes = TableChanges { table: "t".into(), columns, key: vec![0], ..TableChanges::default() };
        let apply = |rows| {
            let changes = TableChanges { rows, ..changes.clone() };
            apply_changes(&db, &mut Keys::default(), &changes::encode(&[changes]))
        };
        apply(vec![row("A", 2), row("b", 3), row("A", 2)]).unwrap();
        apply(vec![row("a", 2)]).unwrap();
        let count = || db.query_row("select count(*) from t where k in ('a', 'b')", [], |row| row.get::<_, i64>(0));
        assert_eq!(count().unwrap(), 2);
        assert!(apply(vec![row("A", 2), row("a", 3)]).is_err());
    }
}
