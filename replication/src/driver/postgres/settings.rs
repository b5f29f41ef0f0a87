//! What a node keeps of failovers: settings of its server, which survive a restart.
//!
//! `alter system` writes them durably and in one step, on replicas as well, and takes effect at once. Names of this crate's
//! own are allowed, once a session has used them.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::PgError;
use super::position::parse_lsn;
use crate::driver::Ballot;
use crate::{Epoch, Lsn, NodeId};

/// The highest ballot promised: `epoch:coordinator`.
pub(super) const PROMISED: &str = "tenfold.promised";
/// Which reign its timeline is, the same on the primary and on all that follow it: the timeline before, and the ballot of the
/// promotion.
pub(super) const REIGN: &str = "tenfold.reign";
/// Where a fenced primary's log ended.
pub(super) const FENCED: &str = "tenfold.fenced";
/// Whom a replica follows.
pub(super) const UPSTREAM: &str = "tenfold.upstream";
/// For how long and for whom a commit waits in semi-synchronous mode.
pub(super) const SEMI: &str = "tenfold.semi_synchronous";
pub(super) const READ_ONLY: &str = "default_transaction_read_only";
pub(super) const STANDBYS: &str = "synchronous_standby_names";
pub(super) const CONNECTION: &str = "primary_conninfo";
pub(super) const SLOT: &str = "primary_slot_name";

/// Makes this crate's names known to a session, and leaves their values as they are.
pub(super) const INTRODUCE: &str = "set tenfold.promised = ''; reset tenfold.promised;
    set tenfold.fenced = ''; reset tenfold.fenced; set tenfold.upstream = ''; reset tenfold.upstream;
    set tenfold.reign = ''; reset tenfold.reign; set tenfold.semi_synchronous = ''; reset tenfold.semi_synchronous";

/// What the files say now, whether or not it was taken over.
pub(super) const READ: &str = "select name, setting from pg_file_settings where applied and (name like 'tenfold.%'
    or name in ('default_transaction_read_only', 'synchronous_standby_names', 'primary_conninfo', 'primary_slot_name'))";

/// The settings of one server, as its files say.
#[derive(Debug, Default)]
pub(super) struct Settings(HashMap<String, String>);

impl Settings {
    pub(super) fn of(rows: &[Row]) -> Result<Self, PgError> {
        let pair = |row: &Row| Ok((row.try_get(0)?, row.try_get::<_, Option<String>>(1)?.unwrap_or_default()));
        rows.iter().map(pair).collect::<Result<_, PgError>>().map(Self)
    }

    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn promised(&self) -> Result<Option<Ballot>, PgError> {
        parse_ballot(self.get(PROMISED))
    }
}

/// What changes a setting.
pub(super) fn alteration(name: &str, value: &str) -> String {
    format!("alter system set {name} = '{}'", value.replace('\'', "''"))
}

pub(super) fn print_ballot(ballot: Ballot) -> String {
    format!("{}:{}", ballot.epoch.0, ballot.coordinator)
}

pub(super) fn parse_ballot(text: &str) -> Result<Option<Ballot>, PgError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parse = || {
        let (epoch, coordinator) = text.split_once(':')?;
        Some(Ballot { epoch: Epoch(epoch.parse().ok()?), coordinator: coordinator.parse().ok()? })
    };
    parse().map(Some).ok_or(PgError::Malformed)
}

pub(super) fn print_reign(before: Epoch, ballot: Ballot) -> String {
    format!("{}/{}", before.0, print_ballot(ballot))
}

/// Whether two nodes on this timeline are of reigns that are known and differ. One that was written before a promotion that came
/// to nothing says nothing.
pub(super) fn are_other_reigns(one: &str, other: &str, timeline: Epoch) -> bool {
    let has_begun = |reign: &str| {
        let before = reign.split_once('/').and_then(|(before, _)| before.parse().ok());
        before.is_some_and(|before: u64| before < timeline.0)
    };
    one != other && has_begun(one) && has_begun(other)
}

pub(super) fn parse_fenced(text: &str) -> Result<Option<Lsn>, PgError> {
    if text.is_empty() { Ok(None) } else { parse_lsn(text).map(Some).ok_or(PgError::Malformed) }
}

pub(super) fn parse_node(text: &str) -> Option<NodeId> {
    text.parse().ok().map(NodeId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ballot_is_read_as_it_was_written() {
        let ballot = Ballot { epoch: Epoch(u64::MAX), coordinator: u64::MAX };
        assert_eq!(parse_ballot(&print_ballot(ballot)).unwrap(), Some(ballot));
        assert_eq!(parse_ballot("").unwrap(), None);
        for text in ["1", "1:", ":1", "-1:1", "1:1:1"] {
            assert!(parse_ballot(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reigns_are_compared_once_they_have_begun() {
        let reign = |before, epoch| print_reign(Epoch(before), Ballot { epoch: Epoch(epoch), coordinator: 1 });
        assert!(are_other_reigns(&reign(1, 7), &reign(1, 8), Epoch(2)));
        assert!(!are_other_reigns(&reign(1, 7), &reign(1, 7), Epoch(2)));
        assert!(!are_other_reigns(&reign(1, 7), &reign(2, 8), Epoch(2)), "that promotion was not carried out");
        assert!(!are_other_reigns("", &reign(1, 7), Epoch(2)));
    }

    #[test]
    fn a_value_cannot_end_its_statement() {
        assert_eq!(alteration("a.b", "x'; drop y"), "alter system set a.b = 'x''; drop y'");
    }
}
