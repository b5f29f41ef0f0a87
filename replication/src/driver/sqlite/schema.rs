//! The tables of a database: which can be replicated, and how their rows are named.

use rusqlite::Connection;

use super::SqliteError;

/// A table whose rows are replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    /// That are stored: not the computed ones.
    pub(super) columns: Vec<String>,
    /// The primary key, as indices of columns.
    pub(super) key: Vec<u16>,
    pub(super) has_sequence: bool,
}

/// The tables, in the order of their names.
pub(super) fn tables(db: &Connection) -> Result<Vec<Table>, SqliteError> {
    let list = "select name, type from pragma_table_list where schema = 'main' and name not like 'sqlite\\_%' escape '\\' \
                and name not like 'tenfold\\_%' escape '\\' and type <> 'view' order by name";
    let mut statement = db.prepare_cached(list)?;
    let mut rows = statement.query([])?;
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
    let mut statement =
        db.prepare_cached("select name, pk from pragma_table_xinfo(?1) where hidden = 0 order by cid")?;
    let rows = statement.query_map([&name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    let (mut columns, mut key) = (Vec::new(), Vec::new());
    for (index, row) in rows.enumerate() {
        let (column, place) = row?;
        columns.push(column);
        if place > 0 {
            key.push((place, index as u16));
        }
    }
    if key.is_empty() {
        return Err(SqliteError::NoPrimaryKey { table: name.into() });
    }
    key.sort_unstable();
    // The words may stand in a default or a check too: a number is looked up in vain then.
    let sql: String = db.query_row("select sql from main.sqlite_schema where name = ?1", [&name], |row| row.get(0))?;
    let has_sequence = sql.to_ascii_lowercase().contains("autoincrement");
    Ok(Table { name, columns, key: key.into_iter().map(|(_, index)| index).collect(), has_sequence })
}

/// A name as it stands in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Counts up with each change of the schema.
pub(super) fn version(db: &Connection) -> Result<i64, SqliteError> {
    Ok(db.prepare_cached("pragma main.schema_version")?.query_row([], |row| row.get(0))?)
}
