//! What every driver must do, here on files.

use tenfold_replication::driver::sqlite::rusqlite::types::Value;
use tenfold_replication::driver::{Access, Ballot, Driver, Promotion};
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
