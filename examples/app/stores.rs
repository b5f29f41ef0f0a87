//! A relational store and a document store behind the same endpoint: what each gives and what it takes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;
use tenfold_rig::Claim;
use tenfold_rig::{NodeSpec, Rng, RoleResult, now};

use crate::database::{Batch, Database, DatabaseError, Statement, Value};
use crate::document::{DocumentError, Documents};
use crate::http::Http;
use crate::rung::Stack;
use crate::sqlite::Sqlite;
use crate::user::{User, UserId};

const SAMPLE_USERS: u64 = 2_000;
const POINT_READS: usize = 400;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the SQL store at `file` and fills it with sample users.
///
/// # Errors
///
/// The file cannot be written.
pub fn sample_sql(file: &Path) -> Result<Sqlite, DatabaseError> {
    let database = Sqlite::open(file)?;
    database.seed(SAMPLE_USERS, 0)?;
    Ok(database)
}

/// Opens the document store at `file` and fills it with the same users.
///
/// # Errors
///
/// The file cannot be written.
pub fn sample_documents(file: &Path) -> Result<Documents, DocumentError> {
    let documents = Documents::open(file)?;
    let users: Vec<_> = (1..=SAMPLE_USERS).map(|id| (UserId(id), json!(User::sample(UserId(id))))).collect();
    documents.put_all(users.iter().map(|(id, user)| (*id, user)))?;
    Ok(documents)
}

/// r07: starts a process of each role and compares them.
///
/// # Errors
///
/// A process cannot be started or does not answer.
pub async fn compare((sql_role, document_role): (&str, &str), seed: u64) -> RoleResult<Vec<Claim>> {
    let stack = Stack::new()?;
    let file = |name: &str| stack.dir.path().join(name);
    let sql = stack.tiers.spawn(NodeSpec::new(sql_role, "sql").config(&file("users.db"))?).await?;
    let documents = stack.tiers.spawn(NodeSpec::new(document_role, "documents").config(&file("users.redb"))?).await?;
    // The relational side's statements go straight to a file of the same schema.
    let relational = sample_sql(&file("schema.db"))?;
    let (document_us, sql_us) = point_reads(documents.addr(), sql.addr(), seed).await?;
    Ok(vec![
        new_field(documents.addr(), &relational).await?,
        Claim::new("r07", "a point read on the document store, median over HTTP", document_us, document_us < 5_000.0)
            .control(sql_us)
            .unit("us")
            .note("control: SQL behind the same endpoint; interleaved reads"),
        dangling(documents.addr(), &relational).await?,
        join(documents.addr(), &relational).await?,
    ])
}

/// Median time of the same reads on both stores, in turn, in microseconds.
async fn point_reads(documents: SocketAddr, sql: SocketAddr, seed: u64) -> RoleResult<(f64, f64)> {
    let http = Http::new(TIMEOUT);
    let mut rng = Rng::new(seed);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..POINT_READS {
        let id = UserId(1 + rng.below(SAMPLE_USERS));
        for (times, at) in times.iter_mut().zip([documents, sql]) {
            let began = now();
            let answer = http.get(at, &format!("/users/{id}")).await?;
            times.push((now() - began).as_secs_f64() * 1e6);
            if answer.json::<User>()? != User::sample(id) {
                return Err("a store answered another user".into());
            }
        }
    }
    Ok(times.map(median).into())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A field that no schema knows.
async fn new_field(documents: SocketAddr, relational: &Sqlite) -> RoleResult<Claim> {
    let http = Http::new(TIMEOUT);
    let mut document = json!(User::sample(UserId(7)));
    document["nickname"] = "Seven".into();
    http.send(Method::PUT, documents, "/documents/7", &document).await?;
    let stored: serde_json::Value = http.get(documents, "/documents/7").await?.json()?;
    let endpoint = http.get(documents, "/users/7").await?.json::<User>()?;
    let accepted = stored["nickname"] == "Seven" && endpoint == User::sample(UserId(7));
    let update = Statement::new("UPDATE users SET nickname = ?1 WHERE id = 7", [Value::from("Seven")]);
    let refused = relational.run(Batch::write([update])).await == Err(DatabaseError::Statement);
    let word = |holds| if holds { "accepted" } else { "refused" };
    Ok(Claim::new("r07", "a new field needs no migration", word(accepted), accepted && refused)
        .control(word(!refused))
        .note("control: SQL without ALTER TABLE"))
}

/// An order of a user who does not exist.
async fn dangling(documents: SocketAddr, relational: &Sqlite) -> RoleResult<Claim> {
    let order = json!({ "kind": "account", "user_id": 999_999 });
    let http = Http::new(TIMEOUT);
    let accepted = http.send(Method::PUT, documents, "/documents/5000", &order).await?.status == StatusCode::NO_CONTENT;
    let insert = Statement::new("INSERT INTO accounts (id, user_id, balance) VALUES (5000, 999999, 0)", []);
    let refused = relational.run(Batch::write([insert])).await == Err(DatabaseError::ForeignKey);
    let word = |holds| if holds { "accepted" } else { "refused" };
    Ok(Claim::new("r07", "lost: nothing refuses a reference to nobody", word(accepted), accepted && refused)
        .control(word(!refused))
        .note("control: the foreign key in SQL"))
}

/// A question across two kinds of records.
async fn join(documents: SocketAddr, relational: &Sqlite) -> RoleResult<Claim> {
    let question = Statement::new(
        "SELECT u.last_name, count(*) FROM users u JOIN accounts a ON a.user_id = u.id GROUP BY 1 ORDER BY 1",
        [],
    );
    let batch = Batch::read(question);
    let rows = relational.run(batch.clone()).await?.first().map_or(0, |result| result.rows.len());
    let answer = Http::new(TIMEOUT).send(Method::POST, documents, "/batch", &batch).await?;
    let lost = answer.status == StatusCode::NOT_FOUND;
    let value = if lost { "no such operation" } else { "answered" };
    Ok(Claim::new("r07", "lost: a join and SQL itself", value, lost && rows > 0)
        .control(format!("{rows} rows"))
        .note("control: one SQL statement over two tables"))
}
