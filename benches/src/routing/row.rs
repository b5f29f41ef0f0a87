//! The rows that `routing` prints.

use serde::Serialize;

/// A row of `select`.
#[derive(Clone, Debug, Serialize)]
pub struct SelectRow {
    /// `select`.
    pub scenario: &'static str,
    /// Who asks, and through whom.
    pub client: &'static str,
    /// `prepared` or `simple`.
    pub protocol: &'static str,
    /// Processor time of a query in all processes, the median of the rounds.
    pub cpu_us: f64,
    /// The part of it that client and pooler used.
    pub client_us: f64,
    /// The part of it that the servers used.
    pub server_us: f64,
    /// `cpu_us` beyond that of the client alone, by the same protocol.
    pub added_us: f64,
    /// The same in percent of it.
    pub added_percent: f64,
    /// Until the answer, the median of the rounds.
    pub p50_us: f64,
    /// The same that one query in a hundred exceeds.
    pub p99_us: f64,
}

/// A row of `wire`.
#[derive(Clone, Debug, Serialize)]
pub struct WireRow {
    /// `wire`.
    pub scenario: &'static str,
    /// Who asks.
    pub client: &'static str,
    /// Times that the client began to speak after the server had, for each call.
    pub round_trips: f64,
    /// Statements that were executed, for each call.
    pub statements: f64,
    /// Bytes of both directions, for each call.
    pub bytes: f64,
}

/// A row of `check-out`.
#[derive(Clone, Debug, Serialize)]
pub struct CheckOutRow {
    /// `check-out`.
    pub scenario: &'static str,
    /// Whose pool.
    pub pool: &'static str,
    /// Until the connection is there, the median of the rounds. Ours: with the choice of the node.
    pub out_ns: Option<f64>,
    /// Until it is back. Ours: with what the session notes.
    pub back_ns: Option<f64>,
    /// Both.
    pub both_ns: f64,
    /// Of ours, the choice of the node alone.
    pub choice_ns: Option<f64>,
}

/// A row of `age`.
#[derive(Clone, Debug, Serialize)]
pub struct AgeRow {
    /// `age`.
    pub scenario: &'static str,
    /// Who knows it.
    pub client: &'static str,
    /// Changes that were looked at.
    pub samples: usize,
    /// From when a replica had changed until it was known, the median.
    pub p50_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// A row of `reads`.
#[derive(Clone, Debug, Serialize)]
pub struct ReadsRow {
    /// `reads`.
    pub scenario: &'static str,
    /// `postgres` or `sqlite`.
    pub engine: &'static str,
    /// Replicas apply so much later than they could.
    pub lag_ms: u64,
    /// Reads of sessions that were checked.
    pub reads: u64,
    /// Such that missed what their session had written.
    pub own_writes_missed: u64,
    /// Such that were older than what their session had seen.
    pub went_back: u64,
    /// Reads at once after a write, on a replica, without its session.
    pub plain_reads: u64,
    /// The share of them that missed the write.
    pub plain_stale_share: f64,
    /// The share of the sessions' reads that replicas answered.
    pub replica_share: f64,
    /// Reads that waited for a replica, and such in vain.
    pub waits: u64,
    /// Of these, in vain.
    pub waits_in_vain: u64,
    /// Answers that were thrown away.
    pub stale_answers: u64,
    /// Checked reads a second.
    pub per_second: f64,
    /// Until a read was answered.
    pub p50_us: f64,
    /// The same that one in a hundred exceeds.
    pub p99_us: f64,
}

/// A row of `faults`.
#[derive(Clone, Debug, Serialize)]
pub struct FaultRow {
    /// `faults`.
    pub scenario: &'static str,
    /// What happened.
    pub fault: &'static str,
    /// How often.
    pub rounds: usize,
    /// Reads and writes that succeeded.
    pub calls: u64,
    /// Reads that failed.
    pub failed_reads: u64,
    /// Writes that failed, or of which nobody knows.
    pub failed_writes: u64,
    /// The longest time without a write, the median of the rounds.
    pub write_gap_ms: f64,
    /// The same of the worst round.
    pub write_gap_max_ms: f64,
    /// The longest time without a read, of the worst round.
    pub read_gap_max_ms: f64,
    /// From when the node could come back (after a switchover: from its beginning) until it replicated whoever was primary,
    /// the median of the rounds.
    pub return_ms: f64,
    /// The same of the worst round.
    pub return_max_ms: f64,
}

/// A row of `up`.
#[derive(Clone, Debug, Serialize)]
pub struct UpRow {
    /// `up`.
    pub scenario: &'static str,
    /// How often.
    pub rounds: usize,
    /// From nothing to a primary and two replicas that stream, the median.
    pub median_ms: f64,
    /// The longest.
    pub max_ms: f64,
}
