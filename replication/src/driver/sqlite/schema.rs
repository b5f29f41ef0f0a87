//! The tables of a database: which can be replicated, and how their rows are named.

use rusqlite::{Connection, OptionalExtension};

use super::SqliteError;
use super::state;

/// A table whose rows are replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    /// That are stored: not the computed ones.
    pub(super) columns: Vec<String>,
    pub(super) key: Vec<KeyColumn>,
    pub(super) has_sequence: bool,
}

/// A column of a primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyColumn {
    pub(super) name: String,
    /// By which the key's index tells values apart; the column's own may be another.
    collation: String,
}

impl KeyColumn {
    /// The column, as the key's index compares it: of the table, or of `new.` and `old.` rows.
    pub(super) fn compared(&self, of: &str) -> String {
        format!("{of}{} collate {}", quoted(&self.name), quoted(&self.collation))
    }

    /// Declares a column that holds the same values apart.
    pub(super) fn declared(&self, name: &str) -> String {
        format!("{name} collate {}", quoted(&self.collation))
    }
}

impl Table {
    /// Of one row, by the values of its key.
    pub(super) fn key_is(&self) -> String {
        let each: Vec<_> = self.key.iter().map(|column| format!("{} = ?", column.compared(""))).collect();
        each.join(" and ")
    }

    /// The key as indices of columns.
    pub(super) fn key_indices(&self) -> Vec<u16> {
        let index = |key: &KeyColumn| self.columns.iter().position(|column| *column == key.name);
        self.key.iter().filter_map(index).map(|index| index as u16).collect()
    }
}

/// The tables, in the order of their names.
pub(super) fn tables(db: &Connection) -> Result<Vec<Table>, SqliteError> {
    let list = "select name, type from pragma_table_list where schema = 'main' and name not like 'sqlite\\_%' escape '\\' \
                and name <> ?1 and type <> 'view' order by name";
    let mut statement = db.prepare_cached(list)?;
    let mut rows = statement.query([state::TABLE])?;
    let mut tables = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, kind): (String, String) = (row.get(0)?, row.get(1)?);
        if kind != "table" {
            return Err(SqliteError::VirtualTable { table: name.into() });
        }
        tables.push(table(db, name)?);
    }
    Ok(tables)
}

fn table(db: &Connection, name: String) -> Result<Table, SqliteError> {
    let columns = "select name from pragma_table_xinfo(?1, 'main') where hidden = 0 order by cid";
    let mut columns = db.prepare_cached(columns)?;
    let columns = columns.query_map([&name], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let key = key(db, &name)?;
    if key.is_empty() {
        return Err(SqliteError::NoPrimaryKey { table: name.into() });
    }
    // The words may stand in a default or a check too: a number is looked up in vain then.
    let sql: String = db.query_row("select sql from main.sqlite_schema where name = ?1", [&name], |row| row.get(0))?;
    let has_sequence = sql.to_ascii_lowercase().contains("autoincrement");
    Ok(Table { name, columns, key, has_sequence })
}

/// The primary key of a table, in its order; nothing if it has none.
pub(super) fn key(db: &Connection, table: &str) -> Result<Vec<KeyColumn>, SqliteError> {
    let indexed = "select i.name, i.coll from pragma_index_list(?1, 'main') l, pragma_index_xinfo(l.name, 'main') i \
                   where l.origin = 'pk' and i.key order by i.seqno";
    // The number of a row has no index.
    let plain = "select name, 'binary' from pragma_table_xinfo(?1, 'main') where pk order by pk";
    for columns in [indexed, plain] {
        let mut columns = db.prepare_cached(columns)?;
        let columns = columns.query_map([table], |row| Ok(KeyColumn { name: row.get(0)?, collation: row.get(1)? }))?;
        let key = columns.collect::<Result<Vec<_>, _>>()?;
        if !key.is_empty() {
            return Ok(key);
        }
    }
    Ok(Vec::new())
}

/// Something of the caller's that is called as only the driver's own is.
pub(super) fn reserved(db: &Connection) -> Result<Option<String>, SqliteError> {
    let names = "select name from main.sqlite_schema where name like 'tenfold\\_%' escape '\\' and name <> ?1 limit 1";
    Ok(db.prepare_cached(names)?.query_row([state::TABLE], |row| row.get(0)).optional()?)
}

/// A name as it stands in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Counts up with each change of the schema.
pub(super) fn version(db: &Connection) -> Result<i64, SqliteError> {
    Ok(db.prepare_cached("pragma main.schema_version")?.query_row([], |row| row.get(0))?)
}
