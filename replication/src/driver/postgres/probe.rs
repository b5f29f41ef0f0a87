//! Where a server is in its log: the question that is sent along with statements, and what its answer means.

use std::time::Duration;

use tokio_postgres::types::PgLsn;
use tokio_postgres::{Row, Statement};

use super::PgError;
use super::position::Layout;
use crate::{ClusterId, Epoch, Lsn, Position, Role};

/// Asked before the first statement: the cluster, the log's layout, and whether the role may ask the rest.
pub(super) const HELLO: &str = "select (select system_identifier from pg_control_system()),
    bytes_per_wal_segment::int8, wal_block_size::int8, pg_has_role('pg_monitor', 'usage') from pg_control_init()";

/// Asked behind statements, in the same flush.
///
/// The place comes before the timeline: what is read later may be too high, never too low. A replica that receives
/// nothing is on the highest timeline of which it has the segment that it has come to: one that it only knows the
/// history of left no segment there.
pub(super) const MARK: &str = "select case when r then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end,
    case when r then pg_last_wal_receive_lsn() end,
    case when r then coalesce((select received_tli from pg_stat_wal_receiver), (
        select ('x' || max(left(name, 8)))::bit(32)::int4
        from (select (pg_last_wal_replay_lsn() - '0/0'::pg_lsn - 1)::int8 / bytes_per_wal_segment as n,
                4294967296 / bytes_per_wal_segment as per_file from pg_control_init()) at, pg_ls_waldir()
        where substr(name, 9) = upper(lpad(to_hex(n / per_file), 8, '0') || lpad(to_hex(n % per_file), 8, '0'))
    )) else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int4 end,
    r from (select pg_is_in_recovery() as r) recovery";

/// The same of a replica that receives its log, which is what most are: most of what [`MARK`] costs is to be ready for the case
/// that it does not. Without a timeline, or with a role that has changed, it is no answer, and [`MARK`] is asked.
pub(super) const MARK_OF_REPLICA: &str = "select pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn(),
    (pg_stat_get_wal_receiver()).received_tli, pg_is_in_recovery()";

/// The same of a primary. It keeps its timeline for as long as it runs, and a connection to it as well.
pub(super) const MARK_OF_PRIMARY: &str = "select pg_current_wal_insert_lsn()";

/// What the process that replays waits for: asked when a replica has received more than it has replayed.
pub(super) const REPLAY_STATE: &str = "select wait_event from pg_stat_activity where backend_type = 'startup'";

/// In these it has finished the record before, and not begun with the next.
const BETWEEN_RECORDS: [&str; 4] =
    ["RecoveryWalStream", "RecoveryRetrieveRetryInterval", "RecoveryApplyDelay", "RecoveryPause"];

/// What a connection knows of its server.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) mark: Statement,
    mark_of_replica: Statement,
    mark_of_primary: Statement,
    /// The timeline of a primary, once it has said that it is one.
    reigns_in: Option<Epoch>,
    pub(super) cluster: ClusterId,
    pub(super) layout: Layout,
}

/// Where a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) role: Role,
    pub(super) epoch: Epoch,
    /// On a primary the end of its log, on a replica of what it shows.
    pub(super) lsn: Lsn,
    /// What a replica has received since it was started.
    pub(super) received: Option<Lsn>,
}

impl Place {
    pub(super) fn position(self) -> Position {
        Position::new(self.epoch, self.lsn)
    }

    /// Whether a statement may have seen more: the record that is being replayed makes its commit visible before it
    /// counts as replayed. There is none if all that came in is replayed.
    pub(super) fn may_be_behind(self) -> bool {
        self.role == Role::Replica && self.received.is_none_or(|received| received > self.lsn)
    }
}

impl Probe {
    pub(super) fn new(marks: [Statement; 3], cluster: ClusterId, layout: Layout) -> Self {
        let [mark, mark_of_replica, mark_of_primary] = marks;
        Self { mark, mark_of_replica, mark_of_primary, reigns_in: None, cluster, layout }
    }

    /// What to ask behind a statement.
    pub(super) fn short_mark(&self) -> &Statement {
        if self.reigns_in.is_some() { &self.mark_of_primary } else { &self.mark_of_replica }
    }

    /// What the answer to that says; `None` if it must be asked in full.
    pub(super) fn read_short(&self, row: &Row) -> Result<Option<Place>, PgError> {
        let lsn = row.try_get::<_, Option<PgLsn>>(0)?.map(|lsn| Lsn(lsn.into()));
        if let Some(epoch) = self.reigns_in {
            let lsn = self.layout.end_of_record(lsn.ok_or(PgError::Malformed)?);
            return Ok(Some(Place { role: Role::Primary, epoch, lsn, received: None }));
        }
        let (received, timeline) = (row.try_get::<_, Option<PgLsn>>(1)?, row.try_get::<_, Option<i32>>(2)?);
        let (Some(lsn), Some(timeline), true) = (lsn, timeline, row.try_get(3)?) else { return Ok(None) };
        let epoch = Epoch(u64::try_from(timeline).map_err(|_| PgError::Malformed)?);
        Ok(Some(Place { role: Role::Replica, epoch, lsn, received: received.map(|received| Lsn(received.into())) }))
    }

    /// Takes in what it said in full.
    pub(super) fn learn(&mut self, place: Place) {
        self.reigns_in = (place.role == Role::Primary).then_some(place.epoch);
    }

    pub(super) fn read(&self, row: &Row) -> Result<Place, PgError> {
        let (lsn, received, timeline, in_recovery) = (
            row.try_get::<_, Option<PgLsn>>(0)?,
            row.try_get::<_, Option<PgLsn>>(1)?,
            row.try_get(2)?,
            row.try_get(3)?,
        );
        let timeline: Option<i32> = timeline;
        let lsn = Lsn(lsn.map_or(0, u64::from));
        Ok(Place {
            role: if in_recovery { Role::Replica } else { Role::Primary },
            epoch: Epoch(timeline.and_then(|timeline| u64::try_from(timeline).ok()).ok_or(PgError::Malformed)?),
            lsn: if in_recovery { lsn } else { self.layout.end_of_record(lsn) },
            received: received.map(|received| Lsn(received.into())),
        })
    }
}

/// Whether nothing is half replayed, by what [`REPLAY_STATE`] gave.
pub(super) fn is_between_records(rows: &[Row]) -> Result<bool, PgError> {
    let Some(row) = rows.first() else { return Ok(true) };
    let waits_for: Option<&str> = row.try_get(0)?;
    Ok(waits_for.is_some_and(|event| BETWEEN_RECORDS.contains(&event)))
}

/// How long the end of a record that is being replayed is waited for.
pub(super) const RECORD_TIMEOUT: Duration = Duration::from_millis(100);
