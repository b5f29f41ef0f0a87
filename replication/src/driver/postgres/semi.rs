//! The semi-synchronous mode, which PostgreSQL does not have: who writes waits after the commit for one standby, for so long.
//!
//! The server commits as in asynchronous mode, and others may see the write before a standby has it. A setting of the server,
//! which a promotion writes, says for how long and for whom a commit waits, so that all processes do the same.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::PgLsn;

use super::PgError;
use crate::driver::Promotion;
use crate::{Lsn, Mode};

/// The setting, of a connection that begins.
pub(super) const SETTING: &str = "select current_setting('tenfold.semi_synchronous', true)";

/// How far the log of a primary that is not fenced must get, and how far the standbys have it on disk. What is committed is
/// flushed here.
pub(super) const CONFIRMED: &str =
    "select pg_current_wal_flush_lsn(), coalesce(current_setting('tenfold.fenced', true), ''),
    (select max(flush_lsn) from pg_stat_replication where application_name = any($1))";

/// How often standbys are looked at.
pub(super) const POLL: Duration = Duration::from_millis(1);

/// What a write waits for after its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Semi {
    /// For so long.
    pub(super) timeout: Duration,
    /// For one of these, by the names of their connections.
    pub(super) standbys: Vec<String>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Confirmed {
    pub(super) flushed: Lsn,
    pub(super) by_standby: Lsn,
    pub(super) is_fenced: bool,
}

impl Semi {
    /// As the setting has it: milliseconds, and the names.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, PgError> {
        let mut words = text.split_whitespace();
        let Some(ms) = words.next() else { return Ok(None) };
        let timeout = Duration::from_millis(ms.parse().map_err(|_| PgError::Malformed)?);
        Ok(Some(Self { timeout, standbys: words.map(Into::into).collect() }))
    }

    /// The setting of a node that is promoted; empty in other modes.
    pub(super) fn setting(promotion: &Promotion) -> String {
        let Mode::SemiSynchronous { timeout } = promotion.mode else { return String::new() };
        let names = promotion.replicas.iter().map(|node| format!(" {node}"));
        // Never less than it says.
        format!("{}{}", timeout.as_micros().div_ceil(1_000), names.collect::<String>())
    }
}

impl Confirmed {
    pub(super) fn read(rows: &[Row]) -> Result<Self, PgError> {
        let row = rows.first().ok_or(PgError::Malformed)?;
        let lsn = |at: usize| Ok::<_, PgError>(Lsn(row.try_get::<_, Option<PgLsn>>(at)?.map_or(0, u64::from)));
        Ok(Self { flushed: lsn(0)?, by_standby: lsn(2)?, is_fenced: !row.try_get::<_, &str>(1)?.is_empty() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Ballot;
    use crate::{Epoch, NodeId};

    #[test]
    fn a_promotion_says_who_is_waited_for() {
        let ballot = Ballot { epoch: Epoch(1), coordinator: 1 };
        let promotion = |mode| Promotion { ballot, mode, replicas: vec![NodeId(0), NodeId(2)] };
        assert_eq!(Semi::setting(&promotion(Mode::Asynchronous)), "");
        assert_eq!(Semi::setting(&promotion(Mode::quorum(1))), "");
        let text = Semi::setting(&promotion(Mode::SemiSynchronous { timeout: Duration::from_micros(1_500) }));
        assert_eq!(text, "2 n0 n2");
        let semi = Semi { timeout: Duration::from_millis(2), standbys: vec!["n0".into(), "n2".into()] };
        assert_eq!(Semi::parse(&text).unwrap(), Some(semi));
        assert_eq!(Semi::parse("").unwrap(), None);
        assert!(Semi::parse("soon n1").is_err());
    }
}
