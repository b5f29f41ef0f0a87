//! What a primary shows of its own log: a commit is logged first, and can be seen when it is done, which takes for as long as
//! standbys are waited for.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Row;

use super::PgError;
use crate::Lsn;
use crate::clock::{deadline, left};

/// Who may be about to make visible what is in the log already, and who of them waits for standbys. Those who are idle in
/// their transaction have not begun to commit.
macro_rules! committing {
    () => {
        "array(select coalesce(backend_xid::text, 'process ' || pid) from pg_stat_activity
            where backend_xid is not null and state in ('active', 'fastpath function call') or wait_event = 'SyncRep'),
        array(select coalesce(backend_xid::text, 'process ' || pid) from pg_stat_activity where wait_event = 'SyncRep')"
    };
}
pub(super) use committing;

/// How long somebody may be between the log and being seen who does not wait for standbys. Who still runs then is not
/// committing, but at a long statement.
const PATIENCE: Duration = Duration::from_millis(10);

/// Who was found to be committing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Committing {
    all: Vec<String>,
    confirming: Vec<String>,
}

impl Committing {
    /// From these two columns of an answer.
    pub(super) fn read(row: &Row, first: usize) -> Result<Self, PgError> {
        Ok(Self { all: row.try_get(first)?, confirming: row.try_get(first + 1)? })
    }
}

/// A place in the log, and whoever may hold back what is before it.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) end: Lsn,
    held_by: Vec<String>,
    patience: Instant,
}

impl Pending {
    /// The log ended there before these were found.
    pub(super) fn new(end: Lsn, found: Committing) -> Self {
        Self { end, held_by: found.all, patience: deadline(PATIENCE) }
    }

    /// Takes in who is found now.
    pub(super) fn look(&mut self, found: &Committing) {
        let is_patient = !left(self.patience).is_zero();
        let holds = |one: &String| found.confirming.contains(one) || (is_patient && found.all.contains(one));
        self.held_by.retain(holds);
    }

    pub(super) fn is_shown(&self) -> bool {
        self.held_by.is_empty()
    }
}

/// How far a primary is sure to show its log, by looks at it.
#[derive(Debug, Default)]
pub(super) struct Shown {
    lsn: Lsn,
    pending: Option<Pending>,
}

impl Shown {
    /// Takes in where the log ended, and who was found to be committing after that.
    pub(super) fn look(&mut self, end: Lsn, found: Committing) -> Lsn {
        let mut pending = self.pending.take().unwrap_or_else(|| Pending::new(end, found.clone()));
        pending.look(&found);
        if pending.is_shown() {
            self.lsn = self.lsn.max(pending.end);
            pending = Pending::new(end, found);
        }
        if pending.is_shown() {
            self.lsn = self.lsn.max(end);
        } else {
            self.pending = Some(pending);
        }
        self.lsn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(all: &[&str], confirming: &[&str]) -> Committing {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Committing { all: own(all), confirming: own(confirming) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_is_shown_as_far_as_nobody_holds_it_back() {
        let mut shown = Shown::default();
        assert_eq!(shown.look(Lsn(10), found(&[], &[])), Lsn(10));
        assert_eq!(shown.look(Lsn(20), found(&["1", "2"], &["1"])), Lsn(10));
        tokio::time::sleep(PATIENCE * 2).await;
        assert_eq!(shown.look(Lsn(30), found(&["1", "2", "3"], &["1", "3"])), Lsn(10), "one waits for standbys");
        // The other is at a long statement; a third holds back what came later.
        assert_eq!(shown.look(Lsn(40), found(&["2", "3"], &["3"])), Lsn(20));
        assert_eq!(shown.look(Lsn(50), found(&["2"], &[])), Lsn(20));
        tokio::time::sleep(PATIENCE * 2).await;
        assert_eq!(shown.look(Lsn(60), found(&["2"], &[])), Lsn(40));
    }
}
