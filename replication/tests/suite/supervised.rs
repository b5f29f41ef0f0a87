//! What a supervised cluster does when its primary is lost or changed on purpose, on any driver.

use tenfold_replication::driver::{Access, Driver};
use tenfold_replication::{Cluster, Config, DetectConfig, Error, FailoverConfig, Mode, NodeId, ReadOptions, Session};

use super::suite::{Fixture, cluster, ms, until};

/// A cluster that names another primary by itself.
async fn supervised<F: Fixture>(fixture: &F, mode: Mode) -> Cluster<F::Driver> {
    let config = Config { observe_interval: ms(20), ..Config::default() };
    let builder = Cluster::builder(fixture.driver()).nodes(fixture.nodes()).config(config).mode(mode).seed(1);
    let cluster = builder.coordinator(1).build().unwrap();
    tokio::spawn(cluster.clone().drive());
    cluster.ready(ms(10_000)).await.unwrap();
    let failover = FailoverConfig { repair_interval: ms(100), ..FailoverConfig::default() };
    tokio::spawn(cluster.clone().supervise(DetectConfig::default(), failover));
    cluster
}

/// Appends numbers until as many as wanted were acknowledged after the primary was replaced so often; gives those.
async fn append_over<F: Fixture>(cluster: &Cluster<F::Driver>, failovers: u64, from: i64) -> Vec<i64> {
    let (session, mut acknowledged, mut after) = (Session::new(), Vec::new(), 0);
    for number in from.. {
        match cluster.write(&session, |mut c| async move { F::append(&mut c, 1, number).await }).await {
            Ok(()) => acknowledged.push(number),
            Err(error) => assert!(error.is_ambiguous() || matches!(error, Error::Lost(_)), "{error:?}"),
        }
        after += u32::from(cluster.stats().failovers >= failovers);
        if after >= 20 {
            break;
        }
        tokio::time::sleep(ms(2)).await;
    }
    acknowledged
}

async fn entries<F: Fixture>(cluster: &Cluster<F::Driver>) -> Vec<i64> {
    let options = ReadOptions::new().from_primary();
    cluster.read_with(&Session::new(), &options, |mut c| async move { F::list(&mut c, 1).await }).await.unwrap()
}

/// All nodes are replicas of one primary, and hold what it holds.
async fn healed<F: Fixture>(fixture: &F, cluster: &Cluster<F::Driver>) {
    let expected = entries::<F>(cluster).await;
    for node in 0..fixture.nodes().len() as u16 {
        until(expected.clone(), async || {
            let Ok(connected) = fixture.driver().connect(&fixture.nodes()[usize::from(node)], Access::Read).await
            else {
                return Vec::new();
            };
            let mut connection = connected.connection;
            F::list(&mut connection, 1).await.unwrap_or_default()
        })
        .await;
    }
}

pub(crate) async fn a_lost_primary_is_replaced_and_rejoins_by_itself<F: Fixture>() {
    let fixture = F::start(3, Mode::Asynchronous).await;
    let cluster = supervised(&fixture, Mode::Asynchronous).await;
    for number in 0..20 {
        cluster.write(&Session::new(), |mut c| async move { F::append(&mut c, 1, number).await }).await.unwrap();
    }
    fixture.crash(NodeId(0)).await;
    let acknowledged = append_over::<F>(&cluster, 1, 100).await;
    let list = entries::<F>(&cluster).await;
    assert!(acknowledged.iter().all(|number| list.contains(number)), "after the failover nothing is lost");
    fixture.restart(NodeId(0)).await;
    until(true, async || cluster.stats().rejoins > 0).await;
    healed(&fixture, &cluster).await;
}

pub(crate) async fn a_quorum_loses_nothing_over_failovers<F: Fixture>() {
    let mode = Mode::quorum(1);
    let fixture = F::start(3, mode).await;
    let cluster = supervised(&fixture, mode).await;
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let primary = cluster.topology().primary().map(|member| member.node().id()).unwrap();
        let failovers = cluster.stats().failovers;
        let crash = async {
            tokio::time::sleep(ms(100)).await;
            fixture.crash(primary).await;
        };
        let ((), numbers) = tokio::join!(crash, append_over::<F>(&cluster, failovers + 1, 10_000 * round));
        acknowledged.extend(numbers);
        fixture.restart(primary).await;
        healed(&fixture, &cluster).await;
    }
    let list = entries::<F>(&cluster).await;
    assert!(acknowledged.iter().all(|number| list.contains(number)));
}

pub(crate) async fn a_planned_change_fails_no_write<F: Fixture + 'static>() {
    let fixture = F::start(3, Mode::Asynchronous).await;
    let cluster = cluster(&fixture).await;
    let writers = (0..4).map(|writer| {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            let session = Session::new();
            for number in 0..50 {
                let number = writer * 1_000 + number;
                cluster.write(&session, |mut c| async move { F::append(&mut c, 1, number).await }).await.unwrap();
                tokio::time::sleep(ms(2)).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for node in [1, 2, 0] {
        tokio::time::sleep(ms(30)).await;
        // Long enough for a busy machine.
        let config = FailoverConfig { drain_timeout: ms(10_000), ..FailoverConfig::default() };
        let promoted = cluster.switchover(NodeId(node), &config).await.unwrap();
        assert_eq!((promoted.node, promoted.known_lost), (NodeId(node), 0));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(entries::<F>(&cluster).await.len(), 200);
    healed(&fixture, &cluster).await;
}
