//! What every driver must do, here on files.

use std::time::Duration;

use tenfold_replication::driver::sqlite::rusqlite::{Connection, types::Value};
use tenfold_replication::driver::sqlite::{SqliteConfig, SqliteError};
use tenfold_replication::driver::{Access, Ballot, Class, Driver, Mark, Promotion};
use tenfold_replication::{Epoch, Lsn, Mode, NodeId, Position};

use super::fixture::Files;
use super::suite::{Fixture, suite};

suite!(Files);

/// More than is applied in one go; the log is asked for its end in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_backlog_is_replayed() {
    let files = Files::start(2, Mode::Asynchronous).await;
    files.receive(NodeId(1), false).await;
    let mut writer = files.connect(0, Access::Write).await;
    for number in 0..600 {
        Files::append(&mut writer, 1, number).await.unwrap();
    }
    files.receive(NodeId(1), true).await;
    files.caught_up().await;
    let mut reader = files.connect(1, Access::Read).await;
    assert_eq!(Files::list(&mut reader, 1).await.unwrap(), (0..600).collect::<Vec<_>>());
}

/// By the same task, which only looks again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_down_is_served_again() {
    let files = Files::start(2, Mode::Asynchronous).await;
    let (driver, nodes) = (files.driver(), files.nodes());
    let second = driver.serve(&nodes[1]).await;
    assert!(matches!(second, Err(SqliteError::Served)), "{second:?}");
    driver.take_down(&nodes[1]).await.unwrap();
    let mut writer = files.connect(0, Access::Write).await;
    Files::append(&mut writer, 1, 7).await.unwrap();
    driver.bring_up(&nodes[1]);
    files.caught_up().await;
    let mut reader = files.connect(1, Access::Read).await;
    assert_eq!(Files::list(&mut reader, 1).await.unwrap(), [7]);
}

/// Three transactions that only the old primary had are lost, and can be read for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rejoin_cuts_off_is_kept() {
    let files = Files::start(2, Mode::Asynchronous).await;
    let (driver, nodes) = (files.driver(), files.nodes());
    files.receive(NodeId(1), false).await;
    let mut writer = files.connect(0, Access::Write).await;
    for number in [7, 8] {
        Files::append(&mut writer, 1, number).await.unwrap();
    }
    writer.execute("delete from entry where number = 7", ()).await.unwrap();
    let ballot = Ballot { epoch: Epoch(2), coordinator: 1 };
    driver.fence(&nodes[1], ballot).await.unwrap();
    let held = driver.observe(&nodes[1]).await.unwrap().received;
    let promotion = Promotion { ballot, mode: Mode::Asynchronous, replicas: vec![NodeId(0)] };
    driver.promote(&nodes[1], &promotion).await.unwrap();
    let rejoined = driver.rejoin(&nodes[0], &nodes[1], ballot).await.unwrap();
    let discarded = driver.discarded(&nodes[0]).await.unwrap();
    let cut = rejoined.discarded.map_or(0, |(from, to)| to.0 - from.0);
    assert_eq!((discarded.len() as u64, cut), (3, 3));
    assert_eq!(discarded[0].tables[0].rows, [[Value::Integer(1), Value::Integer(1), Value::Integer(7)]]);
    assert_eq!(discarded[2].tables[0].deleted, [[Value::Integer(1)]]);
    for (index, transaction) in discarded.iter().enumerate() {
        assert_eq!(transaction.position, Position::new(Epoch(1), Lsn(held.0 + 1 + index as u64)));
        assert_eq!(transaction.tables[0].table, "entry");
    }
    driver.rejoin(&nodes[0], &nodes[1], ballot).await.unwrap();
    assert_eq!(driver.discarded(&nodes[0]).await.unwrap(), discarded, "another rejoin adds nothing");
}

/// What is committed is not called undone, whatever fails while replicas are waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_after_the_commit_says_that_it_may_be_there() {
    let config = SqliteConfig { confirm_timeout: Duration::from_millis(300), ..SqliteConfig::default() };
    let files = Files::with(2, Mode::quorum(1), config, "create table t(id integer primary key)").await;
    let driver = files.driver();
    let mut writer = files.connect(0, Access::Write).await;
    writer.execute("insert into t values (1)", ()).await.unwrap();
    driver.take_mark(&mut writer);
    let confirmed = Connection::open(format!("{}/confirmed.db", files.nodes[0].address())).unwrap();
    let sql = "select name, sql from sqlite_schema where type = 'table'";
    let (name, made): (String, String) = confirmed.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    confirmed.execute_batch(&format!("drop table {name}")).unwrap();

    let error = writer.execute("insert into t values (2)", ()).await.unwrap_err();
    assert_eq!(driver.classify(&error), Class::Ambiguous, "{error:?}");
    let last = driver.observe(&files.nodes[0]).await.unwrap().received;
    assert_eq!(driver.take_mark(&mut writer), Mark { position: Some(Position::new(Epoch(1), last)), wrote: true });
    driver.begin(&mut writer, Access::Write).await.unwrap();
    writer.execute("insert into t values (3)", ()).await.unwrap();
    let error = driver.commit(&mut writer).await.unwrap_err();
    assert_eq!(driver.classify(&error), Class::Ambiguous, "{error:?}");
    assert!(driver.take_mark(&mut writer).wrote);

    confirmed.execute_batch(&made).unwrap();
    writer.execute("insert into t values (4)", ()).await.unwrap();
    let ids = writer.query("select id from t", (), |row| row.get::<_, i64>(0)).await.unwrap();
    assert_eq!(ids, [1, 2, 3, 4]);
}
