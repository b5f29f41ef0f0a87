//! What a transaction did to rows, as bytes: for each table the keys that it touched, and the rows that are there now.
//!
//! A record says how rows are after the transaction, not what was done to them. So the order of its changes is of no
//! matter, triggers and cascades need no repetition, and whoever applies it deletes all touched keys first and then
//! inserts: two rows may exchange a unique value.
//!
//! ```text
//! changes:  tables 4 | table...
//! table:    name | columns 2 | name... | keys 2 | column 2... | sequence 1 [8] | gone 4 | key... | rows 4 | row...
//! value:    0 | 1 integer 8 | 2 real 8 | 3 text 4 ... | 4 blob 4 ...
//! ```

use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};

use super::SqliteError;

/// One table's part of a transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TableChanges {
    pub(super) table: String,
    pub(super) columns: Vec<String>,
    /// Which of the columns are the primary key, in its order.
    pub(super) key: Vec<u16>,
    /// The last number that `autoincrement` gave.
    pub(super) sequence: Option<i64>,
    /// Keys without a row.
    pub(super) gone: Vec<Vec<Cell>>,
    /// Rows as they are now.
    pub(super) rows: Vec<Vec<Cell>>,
}

/// A value as SQLite holds it; text need not be UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Value(Value),
    /// What is no UTF-8 and text nevertheless.
    Text(Vec<u8>),
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Text(bytes) => Self::Text(bytes.to_vec()),
            ValueRef::Null => Self::Value(Value::Null),
            ValueRef::Integer(number) => Self::Value(Value::Integer(number)),
            ValueRef::Real(number) => Self::Value(Value::Real(number)),
            ValueRef::Blob(bytes) => Self::Value(Value::Blob(bytes.to_vec())),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Value(value) => value.to_sql()?,
            Self::Text(bytes) => ToSqlOutput::Borrowed(ValueRef::Text(bytes)),
        })
    }
}

impl Cell {
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Value(Value::Null))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Value(Value::Null) => out.push(0),
            Self::Value(Value::Integer(number)) => {
                out.push(1);
                out.extend(number.to_le_bytes());
            }
            Self::Value(Value::Real(number)) => {
                out.push(2);
                out.extend(number.to_bits().to_le_bytes());
            }
            Self::Value(Value::Text(text)) => put(out, 3, text.as_bytes()),
            Self::Text(bytes) => put(out, 3, bytes),
            Self::Value(Value::Blob(bytes)) => put(out, 4, bytes),
        }
    }
}

fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_bytes(out, bytes);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend(bytes);
}

/// SQLite's values, rows and statements are shorter than 2 GiB, and a record is.
fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

pub(super) fn encode(tables: &[TableChanges]) -> Vec<u8> {
    let mut out = Vec::new();
    put_count(&mut out, tables.len());
    for table in tables {
        put_bytes(&mut out, table.table.as_bytes());
        put_count(&mut out, table.columns.len());
        for column in &table.columns {
            put_bytes(&mut out, column.as_bytes());
        }
        put_count(&mut out, table.key.len());
        for column in &table.key {
            out.extend(column.to_le_bytes());
        }
        out.push(u8::from(table.sequence.is_some()));
        out.extend(table.sequence.unwrap_or(0).to_le_bytes());
        for list in [&table.gone, &table.rows] {
            put_count(&mut out, list.len());
            for cell in list.iter().flatten() {
                cell.encode(&mut out);
            }
        }
    }
    out
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<TableChanges>, SqliteError> {
    let mut reader = Reader { rest: bytes };
    let tables = reader.tables().filter(|_| reader.rest.is_empty());
    tables.ok_or(SqliteError::Malformed)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn tables(&mut self) -> Option<Vec<TableChanges>> {
        (0..self.count()?).map(|_| self.table()).collect()
    }

    fn table(&mut self) -> Option<TableChanges> {
        let table = self.string()?;
        let columns: Vec<_> = (0..self.count()?).map(|_| self.string()).collect::<Option<_>>()?;
        let key: Vec<_> = (0..self.count()?).map(|_| self.take().map(u16::from_le_bytes)).collect::<Option<_>>()?;
        if key.is_empty() || key.iter().any(|column| usize::from(*column) >= columns.len()) {
            return None;
        }
        let [has_sequence] = self.take()?;
        let sequence = self.take().map(i64::from_le_bytes)?;
        let sequence = (has_sequence == 1).then_some(sequence);
        let gone = self.cells(key.len())?;
        let rows = self.cells(columns.len())?;
        Some(TableChanges { table, columns, key, sequence, gone, rows })
    }

    fn cells(&mut self, width: usize) -> Option<Vec<Vec<Cell>>> {
        (0..self.count()?).map(|_| (0..width).map(|_| self.cell()).collect()).collect()
    }

    fn cell(&mut self) -> Option<Cell> {
        Some(match self.take()? {
            [0] => Cell::Value(Value::Null),
            [1] => Cell::Value(Value::Integer(self.take().map(i64::from_le_bytes)?)),
            [2] => Cell::Value(Value::Real(f64::from_bits(self.take().map(u64::from_le_bytes)?))),
            [3] => Cell::Text(self.bytes()?.to_vec()),
            [4] => Cell::Value(Value::Blob(self.bytes()?.to_vec())),
            _ => return None,
        })
    }

    /// Of what takes a byte each at least: more than there are bytes left is no count.
    fn count(&mut self) -> Option<usize> {
        let count = self.take().map(u32::from_le_bytes)? as usize;
        (count <= self.rest.len()).then_some(count)
    }

    fn string(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn bytes(&mut self) -> Option<&[u8]> {
        let count = self.count()?;
        let (bytes, rest) = self.rest.split_at(count);
        self.rest = rest;
        Some(bytes)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn some() -> Vec<TableChanges> {
        let row = [
            Value::Null,
            Value::Integer(i64::MIN),
            Value::Real(-0.1),
            Value::Blob(vec![0, 255]),
            Value::Real(f64::INFINITY),
        ];
        let row: Vec<_> = row.into_iter().map(Cell::Value).chain([Cell::Text(vec![0xff, 0, 65])]).collect();
        let columns = ["a", "b", "c", "d", "e", "f\"g"].map(String::from).to_vec();
        let gone = vec![vec![Cell::Value(Value::Integer(3)), Cell::Text(b"x".to_vec())]];
        vec![TableChanges { table: "t".into(), columns, key: vec![1, 5], sequence: Some(9), gone, rows: vec![row] }]
    }

    #[test]
    fn reads_what_it_wrote() {
        assert_eq!(decode(&encode(&some())).unwrap(), some());
        assert_eq!(decode(&encode(&[])).unwrap(), []);
    }

    /// The chain of records tells damage; this must merely not panic or ask for memory that is not there.
    #[test]
    fn survives_every_flip_and_cut_and_noise() {
        let bytes = encode(&some());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = decode(&flipped);
        }
        let mut rng = Rng::new(1);
        for _ in 0..10_000 {
            let noise: Vec<u8> = (0..rng.below(64)).map(|_| (rng.next_u64() >> rng.below(64)) as u8).collect();
            let _ = decode(&noise);
        }
    }
}
