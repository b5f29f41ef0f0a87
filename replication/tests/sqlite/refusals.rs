//! What cannot be replicated is refused, and leaves nothing behind.

use std::time::Duration;

use rusqlite::Connection;
use tenfold_replication::driver::sqlite::{SqliteConfig, SqliteDriver, SqliteError};
use tenfold_replication::driver::{Access, Class, Driver};
use tenfold_replication::{Mode, Node, NodeId};

use super::fixture::Files;
use super::suite::Fixture;

const SCHEMA: &str = "create table t(id integer primary key, x);
                      create table named(name text primary key, x);
                      create table child(id integer primary key, t references t deferrable initially deferred)";

/// A statement, and whether an error is the one that it should fail with.
type Case = (&'static str, fn(&SqliteError) -> bool);

async fn files() -> Files {
    let config = SqliteConfig {
        max_transaction_bytes: 10_000,
        busy_timeout: Duration::from_millis(500),
        ..SqliteConfig::default()
    };
    Files::with(2, Mode::Asynchronous, config, SCHEMA).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_would_pass_by_the_log_are_undone() {
    let files = files().await;
    let mut c = files.connect(0, Access::Write).await;
    let before = files.driver().content_hash(&files.nodes[0]).await.unwrap();
    let cases: [Case; 8] = [
        ("insert into t values (1, 1); commit", |e| matches!(e, SqliteError::Sql(_) | SqliteError::TransactionEnded)),
        ("insert into t values (1, 1); commit; begin", |e| {
            matches!(e, SqliteError::Sql(_) | SqliteError::TransactionEnded)
        }),
        ("insert into t values (1, 1); rollback", |e| matches!(e, SqliteError::TransactionEnded)),
        ("insert into t values (1, 1); create table u(id integer primary key)", |e| {
            matches!(e, SqliteError::SchemaChange)
        }),
        ("insert into named values (null, 1)", |e| matches!(e, SqliteError::NullKey { table } if &**table == "named")),
        ("insert into t values (1, zeroblob(20000))", |e| matches!(e, SqliteError::TooLarge { .. })),
        ("insert into child values (1, 77)", |e| matches!(e, SqliteError::Sql(_))),
        ("insert into nowhere values (1)", |e| matches!(e, SqliteError::Sql(_))),
    ];
    for (sql, is_expected) in cases {
        let error = c.run(move |db: &Connection| Ok(db.execute_batch(sql)?)).await.unwrap_err();
        assert!(is_expected(&error), "{sql}: {error:?}");
        assert_eq!(files.driver().classify(&error), Class::Statement, "{sql}");
        assert_eq!(files.driver().content_hash(&files.nodes[0]).await.unwrap(), before, "{sql}");
        c.execute("delete from t where id = 5", ()).await.unwrap();
    }
    c.execute("insert into t values (1, 1)", ()).await.unwrap();
    files.caught_up().await;
    let hash = files.driver().content_hash(&files.nodes[0]).await.unwrap();
    assert!(hash != before && files.driver().content_hash(&files.nodes[1]).await.unwrap() == hash);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_change_the_schema_alone_and_on_every_node() {
    let files = files().await;
    let mut c = files.connect(0, Access::Write).await;
    c.execute("insert into t values (1, 1)", ()).await.unwrap();
    let before = files.driver().content_hash(&files.nodes[0]).await.unwrap();
    for (sql, is_expected) in [
        ("create table u(x)", (|e| matches!(e, SqliteError::NoPrimaryKey { .. })) as fn(&SqliteError) -> bool),
        ("create virtual table u using fts5(x)", |e| {
            matches!(e, SqliteError::VirtualTable { .. } | SqliteError::Sql(_))
        }),
        ("create table u(id integer primary key); insert into u values (random())", |e| {
            matches!(e, SqliteError::RowsInMigration)
        }),
        ("create table u(id integer primary key); commit", |e| {
            matches!(e, SqliteError::Sql(_) | SqliteError::TransactionEnded)
        }),
        ("create tabel u(id)", |e| matches!(e, SqliteError::Sql(_))),
        (
            "create table Tenfold_u(id integer primary key)",
            |e| matches!(e, SqliteError::ReservedName { name } if &**name == "Tenfold_u"),
        ),
        ("alter table t rename to tenfold_t", |e| matches!(e, SqliteError::ReservedName { .. })),
    ] {
        let error = c.migrate(sql).await.unwrap_err();
        assert!(is_expected(&error), "{sql}: {error:?}");
        assert_eq!(files.driver().content_hash(&files.nodes[0]).await.unwrap(), before, "{sql}");
    }
    for sql in [
        "alter table t add column y default 7",
        "alter table t rename column x to z",
        "create unique index by_z on t(z); create view v as select z from t",
        "create trigger double after insert on t begin insert into named values (new.id, random()); end",
        "alter table named rename to titled; alter table child drop column t",
        "drop table child",
    ] {
        c.migrate(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        c.execute("insert into t default values", ()).await.unwrap();
    }
    // A connection from before finds the new schema.
    let mut other = files.connect(0, Access::Write).await;
    other.migrate("create table late(id integer primary key)").await.unwrap();
    c.execute("insert into late values (1)", ()).await.unwrap();
    files.caught_up().await;
    let hash = files.driver().content_hash(&files.nodes[0]).await.unwrap();
    assert_eq!(files.driver().content_hash(&files.nodes[1]).await.unwrap(), hash);
}

/// What only the caller's connection has is in no migration: no other node could run it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_knows_what_replicas_know() {
    let files = files().await;
    let first = files.connect(1, Access::Read).await;
    let mut c = files.connect(0, Access::Write).await;
    c.run(|db| Ok(db.execute_batch("create temp table own(id integer primary key)")?)).await.unwrap();
    let error = c.migrate("alter table own add column x").await.unwrap_err();
    assert!(matches!(error, SqliteError::Sql(_)), "{error:?}");
    c.migrate("create table other(id integer primary key)").await.unwrap();
    let refused = c.execute("insert into child values (1, 77)", ()).await.unwrap_err();
    assert!(matches!(refused, SqliteError::Sql(_)), "foreign keys still hold");
    files.caught_up().await;
    assert!(files.driver().is_open(&first), "the replica was copied anew");
}

/// A replica that is further behind than the log reaches copies the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_far_behind_copies() {
    let config = SqliteConfig { segment_bytes: 2_000, keep_log_bytes: 4_000, ..SqliteConfig::default() };
    let files = Files::with(3, Mode::Asynchronous, config, SCHEMA).await;
    files.receive(NodeId(2), false).await;
    let mut c = files.connect(0, Access::Write).await;
    for number in 0..600 {
        c.execute("insert into t values (?1, ?1)", [number]).await.unwrap();
    }
    let left = std::fs::read_dir(format!("{}/log", files.nodes[0].address())).unwrap().count();
    assert!(left < 40, "the log is bounded: {left} files");
    files.receive(NodeId(2), true).await;
    files.caught_up().await;
    // So does a new one.
    let added = Node::new(NodeId(3), format!("{}-more", files.nodes[0].address()));
    files.driver().add_replica(&added, &files.nodes[0]).await.unwrap();
    let (driver, node) = (files.driver(), added.clone());
    tokio::spawn(async move { driver.serve(&node).await });
    c.execute("insert into t values (1000, 1000)", ()).await.unwrap();
    files.caught_up().await;
    let hash = files.driver().content_hash(&files.nodes[0]).await.unwrap();
    files.reached(&added, hash.1).await;
    for node in files.nodes.iter().chain([&added]) {
        assert_eq!(files.driver().content_hash(node).await.unwrap(), hash);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_that_serves_and_a_second_cluster_are_refused() {
    let files = files().await;
    let other = SqliteDriver::default();
    assert!(matches!(other.serve(&files.nodes[1]).await, Err(SqliteError::Served)));
    assert!(matches!(other.create(&files.nodes, Mode::Asynchronous).await, Err(SqliteError::Exists(_))));
    let nowhere = Node::new(NodeId(9), "there/is/nothing");
    assert!(matches!(other.observe(&nowhere).await, Err(SqliteError::NotANode(_))));
}

/// One writer waits for the other, and not for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_take_turns() {
    let files = files().await;
    let (mut one, mut two) = (files.connect(0, Access::Write).await, files.connect(0, Access::Write).await);
    let driver = files.driver();
    driver.begin(&mut one, Access::Write).await.unwrap();
    let refused = two.execute("insert into t values (2, 2)", ()).await.unwrap_err();
    assert_eq!(driver.classify(&refused), Class::RolledBack);
    driver.roll_back(&mut one).await.unwrap();
    two.execute("insert into t values (2, 2)", ()).await.unwrap();
    // What is dropped in the middle is undone, and lets the next in.
    driver.begin(&mut one, Access::Write).await.unwrap();
    one.execute("insert into t values (3, 3)", ()).await.unwrap();
    drop(one);
    two.execute("insert into t values (4, 4)", ()).await.unwrap();
    let ids = two.query("select id from t order by id", (), |row| row.get::<_, i64>(0)).await.unwrap();
    assert_eq!(ids, [2, 4]);
}
