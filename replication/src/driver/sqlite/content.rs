//! A hash of what a database holds, whatever its pages look like.

use super::SqliteError;
use super::changes::Cell;
use super::node::{Access, FileNode};
use super::schema::{self, quoted};
use super::state::State;
use crate::Lsn;

pub(super) fn hash(node: &FileNode) -> Result<([u8; 32], Lsn), SqliteError> {
    let db = node.connect(Access::Read)?;
    db.execute_batch("begin")?;
    let state = State::read(&db)?;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::new();
    let schema =
        "select type, name, sql from main.sqlite_schema where name not like 'sqlite\\_%' escape '\\' order by 1, 2";
    let mut statement = db.prepare(schema)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        (0..3).try_for_each(|column| row.get_ref(column).map(|value| Cell::from(value).encode(&mut bytes)))?;
    }
    for table in schema::tables(&db)? {
        let columns: Vec<_> = table.columns.iter().map(|column| quoted(column)).collect();
        let key: Vec<_> = table.key.iter().map(|column| column.compared("")).collect();
        let select =
            format!("select {} from main.{} order by {}", columns.join(", "), quoted(&table.name), key.join(", "));
        let mut statement = db.prepare(&select)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            (0..columns.len())
                .try_for_each(|column| row.get_ref(column).map(|value| Cell::from(value).encode(&mut bytes)))?;
            hasher.update(&bytes);
            bytes.clear();
        }
        // The end of a table, which no value begins with.
        bytes.push(u8::MAX);
    }
    hasher.update(&bytes);
    Ok((*hasher.finalize().as_bytes(), state.tail.lsn))
}
