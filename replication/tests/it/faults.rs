//! Nodes that die, hang, are cut off or return.

use tenfold_replication::driver::{Ballot, Driver, Promotion};
use tenfold_replication::sim::{Endpoint, Sim, SimConfig, SimDriver};
use tenfold_replication::{Config, Epoch, Error, HedgeConfig, Mode, NodeId, Session};

use super::{ms, rig, three};

/// Makes node 1 the primary, as a coordinator would; node 2 follows.
async fn promote(sim: &Sim, driver: &SimDriver, epoch: u64) {
    let nodes = sim.nodes();
    let ballot = Ballot { epoch: Epoch(epoch), coordinator: 1 };
    driver.fence(&nodes[1], ballot).await.unwrap();
    driver.fence(&nodes[2], ballot).await.unwrap();
    let replicas = vec![NodeId(0), NodeId(2)];
    driver.promote(&nodes[1], &Promotion { ballot, mode: Mode::Asynchronous, replicas }).await.unwrap();
    driver.follow(&nodes[2], &nodes[1], ballot).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_read_fails_when_a_replica_dies() {
    let rig = three().await;
    let session = Session::new();
    for number in 0..400 {
        if number == 100 {
            rig.sim.crash(NodeId(1));
        }
        if number == 300 {
            rig.sim.restart(NodeId(1));
        }
        rig.cluster.read(&session, |mut c| async move { c.list(1).await }).await.unwrap();
        tokio::time::sleep(ms(5)).await;
    }
    assert_eq!(rig.cluster.stats().reads_failed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hung_replica_delays_few_reads_and_is_ejected() {
    for hedge in [Some(HedgeConfig::default()), None] {
        let is_hedged = hedge.is_some();
        let rig = rig(SimConfig::default(), Config { hedge, ..Config::default() }).await;
        let session = Session::new();
        rig.sim.pause(NodeId(2));
        let mut late = 0;
        for _ in 0..500 {
            let asked = tokio::time::Instant::now();
            rig.cluster.read(&session, |mut c| async move { c.list(1).await }).await.unwrap();
            late += u32::from(asked.elapsed() > ms(100));
            tokio::time::sleep(ms(2)).await;
        }
        let stats = rig.cluster.stats();
        assert!(late <= if is_hedged { 0 } else { 3 }, "{late} {stats:?}");
        assert_eq!(stats.hedges > 0, is_hedged);
        assert!(stats.hedges <= 40, "{stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_all_replicas_gone_the_primary_serves_and_without_it_replicas_do() {
    let rig = three().await;
    let session = Session::new();
    rig.cluster.write(&session, |mut c| async move { c.append(1, 1).await }).await.unwrap();
    tokio::time::sleep(ms(100)).await;
    rig.sim.crash(NodeId(0));
    tokio::time::sleep(ms(300)).await;
    for _ in 0..20 {
        assert_eq!(rig.cluster.read(&session, |mut c| async move { c.list(1).await }).await.unwrap(), [1]);
    }
    rig.sim.restart(NodeId(0));
    rig.sim.crash(NodeId(1));
    rig.sim.crash(NodeId(2));
    for _ in 0..20 {
        assert_eq!(rig.cluster.read(&session, |mut c| async move { c.list(1).await }).await.unwrap(), [1]);
    }
    rig.sim.crash(NodeId(0));
    let read = rig.cluster.read(&session, |mut c| async move { c.list(1).await }).await;
    assert!(matches!(read, Err(Error::Unavailable(_) | Error::Refused(_))), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_the_next_primary_and_the_old_one_takes_none() {
    let rig = three().await;
    let session = Session::new();
    rig.cluster.write(&session, |mut c| async move { c.append(1, 1).await }).await.unwrap();
    tokio::time::sleep(ms(50)).await;
    rig.sim.crash(NodeId(0));
    let (sim, driver) = (rig.sim.clone(), rig.driver.clone());
    tokio::spawn(async move {
        tokio::time::sleep(ms(500)).await;
        promote(&sim, &driver, 2).await;
        // The old one returns, and would take writes.
        sim.restart(NodeId(0));
    });
    for number in 2..50 {
        rig.cluster.write(&session, |mut c| async move { c.append(1, number).await }).await.unwrap();
        tokio::time::sleep(ms(10)).await;
    }
    let list = rig.cluster.read(&session, |mut c| async move { c.list(1).await }).await.unwrap();
    assert_eq!(list, (1..50).collect::<Vec<_>>());
    assert_eq!(rig.sim.contents(NodeId(0)), [(1, vec![1])], "the old primary got nothing");
    let stats = rig.cluster.stats();
    assert!(stats.stale_primaries > 0 && stats.writes_queued > 0 && stats.writes_failed == 0, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_write_is_told_to_its_session_once() {
    let rig = three().await;
    let (victim, bystander) = (Session::new(), Session::new());
    rig.cluster.write(&victim, |mut c| async move { c.append(1, 1).await }).await.unwrap();
    tokio::time::sleep(ms(100)).await;
    rig.cluster.read(&bystander, |mut c| async move { c.list(1).await }).await.unwrap();
    // The replicas hear nothing more of it.
    for node in [1, 2] {
        rig.sim.cut(Endpoint::Node(NodeId(0)), Endpoint::Node(NodeId(node)));
    }
    rig.cluster.write(&victim, |mut c| async move { c.append(1, 2).await }).await.unwrap();
    rig.sim.crash(NodeId(0));
    rig.sim.heal();
    promote(&rig.sim, &rig.driver, 2).await;
    tokio::time::sleep(ms(300)).await;

    let read = rig.cluster.read(&victim, |mut c| async move { c.list(1).await }).await;
    assert!(matches!(read, Err(Error::Lost(lost)) if lost.own_write), "{read:?}");
    assert_eq!(rig.cluster.read(&victim, |mut c| async move { c.list(1).await }).await.unwrap(), [1]);
    assert_eq!(rig.cluster.read(&bystander, |mut c| async move { c.list(1).await }).await.unwrap(), [1]);
    let stats = rig.cluster.stats();
    assert_eq!((stats.losses_written, stats.losses_seen), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn writes_that_wait_in_vain_are_bounded_in_number_and_time() {
    let config = Config { write_timeout: ms(400), max_waiting_writes: 5, ..Config::default() };
    let rig = rig(SimConfig::default(), config).await;
    rig.sim.crash(NodeId(0));
    tokio::time::sleep(ms(300)).await;
    let began = tokio::time::Instant::now();
    let writes = (0..9).map(|_| {
        let cluster = rig.cluster.clone();
        let write = async move { cluster.write(&Session::new(), |mut c| async move { c.append(1, 1).await }).await };
        tokio::spawn(write)
    });
    let mut refused = 0;
    for write in writes.collect::<Vec<_>>() {
        match write.await.unwrap() {
            Err(Error::TooManyWaiting) => refused += 1,
            Err(Error::NoPrimary) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, 4);
    assert!(began.elapsed() < ms(450));
}

/// A replica that went on with an old primary's log holds more than the cluster: it serves nobody.
#[tokio::test(start_paused = true)]
async fn a_replica_on_an_abandoned_branch_serves_nobody() {
    let rig = three().await;
    let session = Session::new();
    rig.cluster.write(&session, |mut c| async move { c.append(1, 1).await }).await.unwrap();
    tokio::time::sleep(ms(100)).await;
    // Node 1 is promoted behind the back of 0 and 2, which go on.
    rig.sim.cut(Endpoint::Node(NodeId(0)), Endpoint::Node(NodeId(1)));
    let nodes = rig.sim.nodes();
    let ballot = Ballot { epoch: Epoch(2), coordinator: 1 };
    rig.driver.fence(&nodes[1], ballot).await.unwrap();
    let promotion = Promotion { ballot, mode: Mode::Asynchronous, replicas: vec![] };
    let stray = tenfold_replication::Cluster::builder(rig.sim.driver()).nodes(nodes[..1].to_vec()).build().unwrap();
    stray.ready(ms(100)).await.unwrap();
    stray.write(&Session::new(), |mut c| async move { c.append(1, 666).await }).await.unwrap();
    rig.driver.promote(&nodes[1], &promotion).await.unwrap();
    tokio::time::sleep(ms(200)).await;
    for number in 2..40 {
        rig.cluster.write(&session, |mut c| async move { c.append(1, number).await }).await.unwrap();
        let list = rig.cluster.read(&session, |mut c| async move { c.list(1).await }).await.unwrap();
        assert_eq!(list, (1..=number).collect::<Vec<_>>());
    }
    assert!(rig.sim.contents(NodeId(2))[0].1.contains(&666));
}
