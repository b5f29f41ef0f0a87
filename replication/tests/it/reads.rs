//! Where reads go, and how fresh they are.

use tenfold_replication::sim::{SimConfig, SimDriver, SimError};
use tenfold_replication::{Checkout, Config, Error, NodeId, ReadOptions, Refusal, Session, ShardId, WhenBehind};

use super::{ms, rig, three};

#[tokio::test(start_paused = true)]
async fn a_session_reads_what_it_wrote_and_mostly_from_replicas() {
    let rig = three().await;
    let session = Session::new();
    for number in 0..200 {
        rig.cluster.write(&session, |mut c| async move { c.append(1, number).await }).await.unwrap();
        let list = rig.cluster.read(&session, |mut c| async move { c.list(1).await }).await.unwrap();
        assert_eq!(list, (0..=number).collect::<Vec<_>>());
    }
    let stats = rig.cluster.stats();
    assert!(stats.reads_by_replica >= 180, "{stats:?}");
    assert!(stats.waits > 0);
}

#[tokio::test(start_paused = true)]
async fn an_untracked_read_sees_what_the_session_wrote_and_leaves_no_trace() {
    let rig = three().await;
    let (writer, session) = (Session::new(), Session::new());
    let options = ReadOptions::new().untracked();
    let read = async |session| rig.cluster.read_with(session, &options, |mut c| async move { c.list(1).await }).await;
    for number in 0..200 {
        rig.cluster.write(&writer, |mut c| async move { c.append(1, number).await }).await.unwrap();
        let wrote = writer.position(ShardId(0));
        assert_eq!(read(&writer).await.unwrap(), (0..=number).collect::<Vec<_>>());
        assert_eq!(writer.position(ShardId(0)), wrote);
        read(&session).await.unwrap();
        assert_eq!(session.position(ShardId(0)), None);
    }
    let stats = rig.cluster.stats();
    assert!(stats.reads_by_replica >= 380, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn reads_go_to_the_primary_when_replicas_are_far_behind() {
    let rig = three().await;
    for node in [1, 2] {
        rig.sim.set_replay_delay(NodeId(node), ms(2000));
    }
    let session = Session::new();
    for number in 0..50 {
        rig.cluster.write(&session, |mut c| async move { c.append(1, number).await }).await.unwrap();
        let list = rig.cluster.read(&session, |mut c| async move { c.list(1).await }).await.unwrap();
        assert_eq!(list.len() as u64, number + 1);
        tokio::time::sleep(ms(10)).await;
    }
    let stats = rig.cluster.stats();
    assert_eq!(stats.reads_by_primary, 50);
    assert!(stats.waits_in_vain < 40, "hopeless waits are not tried: {stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_strict_cluster_refuses_rather_than_loading_the_primary() {
    let config = Config { when_behind: WhenBehind::Refuse, ..Config::default() };
    let rig = rig(SimConfig::default(), config).await;
    for node in [1, 2] {
        rig.sim.set_replay_delay(NodeId(node), ms(2000));
    }
    let session = Session::new();
    rig.cluster.write(&session, |mut c| async move { c.append(1, 1).await }).await.unwrap();
    let error = rig.cluster.read(&session, |mut c| async move { c.list(1).await }).await.unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::TooStale)), "{error:?}");
    // Another session may read the old state.
    assert!(rig.cluster.read(&Session::new(), |mut c| async move { c.list(1).await }).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_staleness_bound_is_kept() {
    let rig = three().await;
    rig.sim.set_replay_delay(NodeId(1), ms(300));
    rig.sim.set_replay_delay(NodeId(2), ms(3000));
    let writer = Session::new();
    let options = ReadOptions::new().max_staleness(ms(500));
    let mut written = Vec::new();
    for number in 0..300 {
        rig.cluster.write(&writer, |mut c| async move { c.append(1, number).await }).await.unwrap();
        written.push(tokio::time::Instant::now());
        let asked = tokio::time::Instant::now();
        let list =
            rig.cluster.read_with(&Session::new(), &options, |mut c| async move { c.list(1).await }).await.unwrap();
        let due = written.iter().filter(|at| asked.duration_since(**at) > ms(500)).count();
        assert!(list.len() >= due, "{} of {due}", list.len());
        tokio::time::sleep(ms(10)).await;
    }
    let stats = rig.cluster.stats();
    assert!(stats.reads_by_replica > 250, "one replica is young enough: {stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_sees_one_state_and_a_primary_read_the_latest() {
    let rig = three().await;
    let session = Session::new();
    rig.cluster.write(&session, |mut c| async move { c.append(1, 1).await }).await.unwrap();
    let primary = ReadOptions::new().from_primary();
    let node = rig.cluster.read_with(&session, &primary, |c| async move { Ok(c.node()) }).await.unwrap();
    assert_eq!(node, NodeId(0));
    let snapshot = ReadOptions::new().snapshot();
    let error = rig.cluster.read_with(&session, &snapshot, |mut c| async move { c.append(1, 2).await }).await;
    assert!(matches!(error, Err(Error::WriteInRead(SimError::ReadOnly))));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_writes_is_refused_on_every_node() {
    let rig = three().await;
    for options in [ReadOptions::new(), ReadOptions::new().from_primary()] {
        let session = Session::new();
        let result = rig.cluster.read_with(&session, &options, |mut c| async move { c.append(1, 1).await }).await;
        assert!(matches!(result, Err(Error::WriteInRead(_))), "{result:?}");
    }
    assert_eq!(rig.cluster.stats().writes_in_reads, 2);
    assert!(rig.sim.contents(NodeId(0)).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_replica_of_ones_own_zone_is_preferred_until_it_is_slow() {
    let sim = tenfold_replication::sim::Sim::new(SimConfig::default());
    let zones = ["a", "a", "b"];
    let nodes = sim.nodes().into_iter().zip(zones).map(|(node, zone)| node.with_zone(zone));
    let builder = tenfold_replication::Cluster::builder(sim.driver()).nodes(nodes).zone("b").seed(1);
    let cluster = builder.build().unwrap();
    tokio::spawn(cluster.clone().drive());
    cluster.ready(ms(1000)).await.unwrap();
    let session = Session::new();
    for _ in 0..100 {
        let node = cluster.read(&session, |c| async move { Ok(c.node()) }).await.unwrap();
        assert_eq!(node, NodeId(2));
    }
    // Slow answers from the own zone cost more than the way to the other.
    let mut far = 0;
    for _ in 0..100 {
        let read = |c: Checkout<SimDriver>| async move {
            if c.node() == NodeId(2) {
                tokio::time::sleep(ms(9)).await;
            }
            Ok(c.node())
        };
        far += u32::from(
            cluster.read_with(&session, &ReadOptions::new().without_hedge(), read).await.unwrap() != NodeId(2),
        );
    }
    assert!(far > 80, "{far}");
}
