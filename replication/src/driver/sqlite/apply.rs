//! Makes a database what records say that another one was.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, params_from_iter};

use super::SqliteError;
use super::changes::{self, Cell, TableChanges};
use super::record::{Kind, Record};
use super::schema::quoted;
use super::state::State;

/// Sets a connection up on which records are applied: what follows from a change is in the record already.
pub(super) fn prepare(db: &Connection) -> Result<(), SqliteError> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.execute_batch("pragma foreign_keys = off; pragma ignore_check_constraints = on;")?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Applies records that follow the database's state, all or none.
pub(super) fn apply(
    db: &Connection,
    records: impl FnOnce(&State) -> Result<Vec<Record>, SqliteError>,
) -> Result<State, SqliteError> {
    db.execute_batch("begin immediate")?;
    let result = State::read(db).and_then(|state| apply_in_transaction(db, state, &records(&state)?));
    match result {
        Ok(state) => {
            db.execute_batch("commit")?;
            Ok(state)
        }
        Err(error) => {
            // The error that led here says more.
            let _ = db.execute_batch("rollback");
            Err(error)
        }
    }
}

fn apply_in_transaction(db: &Connection, mut state: State, records: &[Record]) -> Result<State, SqliteError> {
    for record in records {
        if !record.follows(state.tail) {
            return Err(SqliteError::Parted);
        }
        let applied = match record.kind {
            Kind::Changes => apply_changes(db, &record.payload),
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

fn apply_changes(db: &Connection, payload: &[u8]) -> Result<(), SqliteError> {
    for table in changes::decode(payload)? {
        apply_table(db, &table)?;
    }
    Ok(())
}

fn apply_table(db: &Connection, changes: &TableChanges) -> Result<(), SqliteError> {
    let (table, columns) = (quoted(&changes.table), changes.columns.iter().map(|column| quoted(column)));
    let columns: Vec<_> = columns.collect();
    let key_is: Vec<_> = changes.key.iter().map(|column| format!("{} = ?", columns[usize::from(*column)])).collect();
    let delete = format!("delete from main.{table} where {}", key_is.join(" and "));
    let insert =
        format!("insert into main.{table}({}) values ({})", columns.join(", "), vec!["?"; columns.len()].join(", "));
    let mut delete = db.prepare_cached(&delete)?;
    for key in &changes.gone {
        delete.execute(params_from_iter(key))?;
    }
    for row in &changes.rows {
        delete.execute(params_from_iter(key_of(row, &changes.key)))?;
    }
    let mut insert = db.prepare_cached(&insert)?;
    for row in &changes.rows {
        insert.execute(params_from_iter(row))?;
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

fn key_of<'a>(row: &'a [Cell], key: &'a [u16]) -> impl Iterator<Item = &'a Cell> {
    key.iter().map(|column| &row[usize::from(*column)])
}
