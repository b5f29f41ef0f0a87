//! Money under fire: transfers while the database is killed, and withdrawals that race each other.
//!
//! The tellers keep the books: a transfer counts as made when its acknowledgement arrives, whatever the database says
//! later. So what is lost or torn is counted from outside.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tenfold_rig::{Node, Rng, RoleResult, Station};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::database::{Batch, Database, DatabaseError, Statement, Value};
use crate::remote::RemoteDatabase;
use crate::sqlite::{Discipline, Sqlite};
use crate::users::{AccountId, SqlUsers, Transfer, Users, Withdrawal, move_money};

/// Accounts that take part.
const ACCOUNTS: u64 = 100;
const RACES: u64 = 50;
const TELLERS: u64 = 4;
/// Transfers of one teller in one round are numbered below this.
const TRANSFERS_A_ROUND: u64 = 10_000;
/// A round lasts at least this long after its first transfer before the kill, and a random time of as much again.
const ROUND: Duration = Duration::from_millis(3);
/// A database that makes no transfer in this time is killed all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a series of kills did to the money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CrashReport {
    /// How often the database was killed.
    pub kills: u32,
    /// How many of the kills came while at least one transfer was under way.
    pub in_mid_transfer: u32,
    /// Transfers acknowledged to a teller.
    pub acknowledged: u64,
    /// Acknowledged transfers that are not in the database.
    pub lost: u64,
    /// Money that appeared (above 0) or vanished (below 0), in cents.
    pub imbalance: i64,
}

/// Kills `node`, a database server, `kills` times under transfers, restarts it each time, and audits it at the end.
///
/// # Errors
///
/// The node cannot be killed or restarted, or does not answer the audit.
pub async fn crash(node: &Node, kills: u32, seed: u64) -> RoleResult<CrashReport> {
    let before = total(node.addr()).await?;
    let mut rng = Rng::new(seed);
    let mut report = CrashReport { kills, ..CrashReport::default() };
    let mut acknowledged = Vec::new();
    for round in 0..u64::from(kills) {
        let mut tellers = JoinSet::new();
        let (made, mut first_made) = watch::channel(false);
        for teller in 0..TELLERS {
            let first = (round * TELLERS + teller) * TRANSFERS_A_ROUND + 1;
            tellers.spawn(transfer_until_it_breaks(node.addr(), first, rng.next_u64(), made.clone()));
        }
        let _ = tokio::time::timeout(PATIENCE, first_made.wait_for(|made| *made)).await;
        tenfold_rig::sleep(ROUND + ROUND.mul_f64(rng.next_f64())).await;
        node.kill()?;
        let mut torn = false;
        for done in tellers.join_all().await {
            torn |= done.cut_off;
            acknowledged.extend(done.acknowledged);
        }
        report.in_mid_transfer += u32::from(torn);
        node.restart().await?;
    }
    report.acknowledged = acknowledged.len() as u64;
    report.imbalance = total(node.addr()).await? - before;
    report.lost = count_missing(node.addr(), &acknowledged).await?;
    Ok(report)
}

struct Done {
    acknowledged: Vec<u64>,
    /// The last transfer was sent and never answered.
    cut_off: bool,
}

async fn transfer_until_it_breaks(bank: SocketAddr, first: u64, seed: u64, made: watch::Sender<bool>) -> Done {
    // A client of its own: connections to a killed process must not be met again in the next round.
    let database = RemoteDatabase::new(bank);
    let mut rng = Rng::new(seed);
    let mut acknowledged = Vec::new();
    for id in first..first + TRANSFERS_A_ROUND {
        let debit = rng.below(ACCOUNTS);
        let credit = (debit + 1 + rng.below(ACCOUNTS - 1)) % ACCOUNTS;
        let transfer =
            Transfer { id, debit: AccountId(debit + 1), credit: AccountId(credit + 1), amount: 1 + rng.below(100) };
        match database.run(move_money(transfer)).await {
            Ok(_) => {
                acknowledged.push(id);
                made.send_replace(true);
            }
            // Too little money left: refused, and the books say so too.
            Err(DatabaseError::Check) => {}
            Err(_) => return Done { acknowledged, cut_off: true },
        }
    }
    Done { acknowledged, cut_off: false }
}

/// The sum of all balances, in cents.
///
/// # Errors
///
/// The bank does not answer.
pub async fn total(bank: SocketAddr) -> Result<i64, DatabaseError> {
    number(&RemoteDatabase::new(bank), Statement::new("SELECT sum(balance) FROM accounts", [])).await
}

async fn count_missing(bank: SocketAddr, acknowledged: &[u64]) -> Result<u64, DatabaseError> {
    let database = RemoteDatabase::new(bank);
    let mut missing = 0;
    // One statement for many ids: the list is text that SQLite reads as JSON.
    for ids in acknowledged.chunks(1_000) {
        let list = format!("{ids:?}");
        let statement = Statement::new(
            "SELECT count(*) FROM json_each(?1) WHERE value NOT IN (SELECT id FROM transfers)",
            [Value::from(list.as_str())],
        );
        missing += u64::try_from(number(&database, statement).await?).unwrap_or(0);
    }
    Ok(missing)
}

async fn number(database: &dyn Database, statement: Statement) -> Result<i64, DatabaseError> {
    let results = database.run(Batch::read(statement)).await?;
    let cell = results.first().and_then(|result| result.rows.first()).and_then(|row| row.first());
    cell.and_then(Value::as_integer).ok_or(DatabaseError::Garbled)
}

/// What two withdrawals at once did, over many accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RaceReport {
    /// Pairs of withdrawals, each pair from one account that can pay one of them.
    pub pairs: u64,
    /// Pairs of which both were paid: an update was lost.
    pub paid_twice: u64,
}

/// How a withdrawal is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawing {
    /// One statement under the write lock.
    Atomically,
    /// Read the balance, compute, write it back: the control.
    ReadThenWrite,
}

/// What rules and locks are worth: each figure beside the same without them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RulesReport {
    /// Withdrawals that raced as single statements.
    pub atomic: RaceReport,
    /// The same as read, compute, write.
    pub read_then_write: RaceReport,
    /// Forbidden statements tried.
    pub forbidden: usize,
    /// Of these, refused by the bank.
    pub refused: usize,
    /// Of these, refused by a store with its constraints off.
    pub refused_without_rules: usize,
}

/// Races withdrawals and tries forbidden statements on `bank`, and on a store in `folder` that has no rules.
///
/// # Errors
///
/// The bank does not answer, or the folder cannot be written.
pub async fn rules(bank: SocketAddr, folder: &Path, balance: u64) -> Result<RulesReport, DatabaseError> {
    let lawless = folder.join("lawless.db");
    let lawless = Sqlite::open_with(&lawless, Discipline::Sloppy, Duration::ZERO, Station::instant())?;
    lawless.seed(10, balance)?;
    Ok(RulesReport {
        atomic: race(bank, 1, RACES, balance, Withdrawing::Atomically).await?,
        read_then_write: race(bank, 1 + RACES, RACES, balance, Withdrawing::ReadThenWrite).await?,
        forbidden: forbidden().len(),
        refused: refusals(&RemoteDatabase::new(bank)).await,
        refused_without_rules: refusals(&lawless).await,
    })
}

/// Makes two withdrawals at once from each of the accounts `first..first + pairs`, each of 60 % of `balance`.
///
/// # Errors
///
/// The bank does not answer.
pub async fn race(
    bank: SocketAddr,
    first: u64,
    pairs: u64,
    balance: u64,
    how: Withdrawing,
) -> Result<RaceReport, DatabaseError> {
    let amount = balance / 10 * 6;
    let mut report = RaceReport { pairs, paid_twice: 0 };
    let database = RemoteDatabase::new(bank);
    for account in (first..first + pairs).map(AccountId) {
        let withdrawal = Withdrawal { account, amount };
        let (one, other) = tokio::join!(withdraw(&database, withdrawal, how), withdraw(&database, withdrawal, how));
        report.paid_twice += u64::from(one? && other?);
    }
    Ok(report)
}

/// Whether the money was paid.
async fn withdraw(database: &RemoteDatabase, withdrawal: Withdrawal, how: Withdrawing) -> Result<bool, DatabaseError> {
    let (account, amount) = (Value::from(withdrawal.account.0), withdrawal.amount as i64);
    let paid = match how {
        Withdrawing::Atomically => SqlUsers::new(database.clone()).withdraw(withdrawal).await,
        Withdrawing::ReadThenWrite => {
            let read = Statement::new("SELECT balance FROM accounts WHERE id = ?1", [account.clone()]);
            let left = number(database, read).await? - amount;
            let write =
                Statement::new("UPDATE accounts SET balance = ?2 WHERE id = ?1", [account, Value::Integer(left)]);
            database.run(Batch::write([write])).await.map(drop)
        }
    };
    match paid {
        Ok(()) => Ok(true),
        Err(DatabaseError::Check) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Statements that a relational store must refuse, with what each breaks.
pub fn forbidden() -> Vec<(&'static str, Statement)> {
    let statement = |sql| Statement::new(sql, []);
    vec![
        ("account of nobody", statement("INSERT INTO accounts (id, user_id, balance) VALUES (900001, 900001, 1)")),
        ("debt", statement("UPDATE accounts SET balance = -1 WHERE id = 1")),
        ("user without a name", statement("UPDATE users SET first_name = '' WHERE id = 1")),
        ("payment to oneself", statement("INSERT INTO transfers (id, debit, credit, amount) VALUES (900002, 1, 1, 5)")),
        (
            "payment to nobody",
            statement("INSERT INTO transfers (id, debit, credit, amount) VALUES (900003, 1, 900001, 5)"),
        ),
    ]
}

/// How many of the forbidden statements `database` refuses.
pub async fn refusals(database: &dyn Database) -> usize {
    let mut refused = 0;
    for (_, statement) in forbidden() {
        let outcome = database.run(Batch::write([statement])).await;
        refused += usize::from(matches!(outcome, Err(DatabaseError::ForeignKey | DatabaseError::Check)));
    }
    refused
}
