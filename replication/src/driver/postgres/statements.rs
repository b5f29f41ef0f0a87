//! The prepared statements of one connection: a bounded number, the one used longest ago makes room.

use std::collections::HashMap;

use tokio_postgres::Statement;

/// # Invariants
/// - I1: there are at most `max`, at least room for one.
#[derive(Default)]
pub(super) struct Statements {
    max: usize,
    uses: u64,
    by_text: HashMap<Box<str>, Prepared>,
}

struct Prepared {
    statement: Statement,
    used: u64,
}

impl Statements {
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), ..Self::default() }
    }

    pub(super) fn find(&mut self, sql: &str) -> Option<Statement> {
        let prepared = self.by_text.get_mut(sql)?;
        self.uses += 1;
        prepared.used = self.uses;
        Some(prepared.statement.clone())
    }

    pub(super) fn keep(&mut self, sql: &str, statement: &Statement) {
        if self.by_text.len() >= self.max {
            let oldest = self.by_text.iter().min_by_key(|(_, prepared)| prepared.used).map(|(text, _)| text.clone());
            oldest.and_then(|text| self.by_text.remove(&text));
        }
        self.uses += 1;
        self.by_text.insert(sql.into(), Prepared { statement: statement.clone(), used: self.uses });
    }

    pub(super) fn forget(&mut self, sql: &str) {
        self.by_text.remove(sql);
    }
}
