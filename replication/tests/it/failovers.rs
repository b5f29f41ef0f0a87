//! Another primary, after a loss or on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tenfold_replication::sim::{Endpoint, Sim, SimConfig};
use tenfold_replication::{
    Cluster, Config, ConfigError, DetectConfig, Error, FailoverConfig, FailoverError, Mode, NodeId, Session, Verdict,
};

use super::{Rig, ms, rig, three};

#[test]
fn a_quorum_that_no_write_could_have_is_refused() {
    let (sim, nodes) = Sim::with_nodes(3, 1);
    let builder = |replicas| Cluster::builder(sim.driver()).nodes(nodes.clone()).mode(Mode::quorum(replicas)).build();
    assert!(builder(2).is_ok());
    assert_eq!(builder(3).unwrap_err(), ConfigError::Quorum { replicas: 3, nodes: 3 });
}

async fn supervised(mode: Mode) -> Rig {
    let rig = rig(SimConfig { mode, ..SimConfig::default() }, Config::default()).await;
    tokio::spawn(rig.cluster.clone().supervise(DetectConfig::default(), FailoverConfig::default()));
    rig
}

/// Appends numbers until the time is over; gives those that were acknowledged, failed writes, and the longest gap.
async fn write_for(rig: &Rig, time: Duration) -> (Vec<u64>, Vec<Error<tenfold_replication::sim::SimError>>, Duration) {
    let (session, began) = (Session::new(), tokio::time::Instant::now());
    let (mut acknowledged, mut failed, mut gap) = (vec![], vec![], Duration::ZERO);
    let mut last = began;
    for number in 1.. {
        if began.elapsed() > time {
            break;
        }
        match rig.cluster.write(&session, |mut c| async move { c.append(1, number).await }).await {
            Ok(()) => {
                gap = gap.max(last.elapsed());
                last = tokio::time::Instant::now();
                acknowledged.push(number);
            }
            Err(error) => failed.push(error),
        }
        tokio::time::sleep(ms(2)).await;
    }
    (acknowledged, failed, gap)
}

async fn list(rig: &Rig) -> Vec<u64> {
    let primary = tenfold_replication::ReadOptions::new().from_primary();
    rig.cluster.read_with(&Session::new(), &primary, |mut c| async move { c.list(1).await }).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_killed_primary_is_replaced_and_rejoins_by_itself() {
    let rig = supervised(Mode::Asynchronous).await;
    let sim = rig.sim.clone();
    tokio::spawn(async move {
        tokio::time::sleep(ms(300)).await;
        sim.crash(NodeId(0));
        tokio::time::sleep(ms(500)).await;
        sim.restart(NodeId(0));
    });
    let (acknowledged, failed, gap) = write_for(&rig, ms(2_500)).await;
    assert!(gap <= ms(250), "{gap:?}");
    let lost = failed.iter().filter(|error| matches!(error, Error::Lost(_))).count() as u64;
    let list = list(&rig).await;
    let missing = acknowledged.iter().filter(|number| !list.contains(number)).count();
    assert!(missing == 0 || lost == 1, "{missing} missing, {lost} told");
    tokio::time::sleep(ms(500)).await;
    let stats = rig.cluster.stats();
    assert_eq!((stats.failovers, stats.rejoins), (1, 1), "{stats:?}");
    assert!(stats.nodes.iter().all(|node| node.is_kept && node.is_reachable));
    assert_eq!(rig.sim.contents(NodeId(0)), rig.sim.contents(NodeId(1)));
    assert_eq!(rig.sim.contents(NodeId(0)), rig.sim.contents(NodeId(2)));
}

/// The first primary has promised nothing, and a replica that it lost is told to follow it under some ballot.
#[tokio::test(start_paused = true)]
async fn a_replica_that_was_told_to_follow_is_no_reason_to_fence_the_first_primary() {
    let rig = supervised(Mode::Asynchronous).await;
    rig.sim.cut(Endpoint::Node(NodeId(0)), Endpoint::Node(NodeId(1)));
    let (_, failed, _) = write_for(&rig, ms(400)).await;
    assert!(failed.is_empty(), "{failed:?}");
    rig.sim.heal();
    let (_, failed, _) = write_for(&rig, ms(6_000)).await;
    assert!(failed.is_empty(), "{failed:?}");
    let promised = rig.cluster.topology().members()[1].promised();
    assert!(promised.is_some(), "it was told");
    assert_eq!(rig.cluster.stats().failovers, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hung_primary_is_replaced_and_takes_no_write_when_it_wakes() {
    let rig = supervised(Mode::Asynchronous).await;
    let sim = rig.sim.clone();
    tokio::spawn(async move {
        tokio::time::sleep(ms(300)).await;
        sim.pause(NodeId(0));
        tokio::time::sleep(ms(4_000)).await;
        sim.resume(NodeId(0));
    });
    let (acknowledged, failed, gap) = write_for(&rig, ms(6_000)).await;
    assert!(gap <= ms(1_700), "{gap:?}");
    assert!(failed.len() <= 2, "{failed:?}");
    let list = list(&rig).await;
    let missing = acknowledged.iter().filter(|number| !list.contains(number)).count();
    assert!(missing == 0 || failed.iter().any(|error| matches!(error, Error::Lost(_))), "{missing}");
    assert_eq!(rig.sim.contents(NodeId(0)), rig.sim.contents(NodeId(1)));
}

#[tokio::test(start_paused = true)]
async fn a_quorum_loses_nothing_that_was_acknowledged() {
    let rig = supervised(Mode::quorum(1)).await;
    let sim = rig.sim.clone();
    tokio::spawn(async move {
        for round in 0..6 {
            tokio::time::sleep(ms(700)).await;
            let node = NodeId(round % 3);
            sim.crash(node);
            tokio::time::sleep(ms(900)).await;
            sim.restart(node);
        }
    });
    let (acknowledged, failed, _) = write_for(&rig, ms(11_000)).await;
    assert!(failed.iter().all(|error| matches!(error, Error::Ambiguous(_))), "{failed:?}");
    let list = list(&rig).await;
    assert!(acknowledged.iter().all(|number| list.contains(number)));
    assert!(acknowledged.len() > 500 && rig.cluster.stats().failovers > 0, "{:?}", rig.cluster.stats());
}

/// Replicas that lost the old primary were told to follow it again, shortly before it was replaced: the new one's writes
/// wait for them, and they are told of it without regard to that.
#[tokio::test(start_paused = true)]
async fn replicas_follow_a_new_primary_at_once() {
    let mode = Mode::quorum(1);
    let rig = rig(SimConfig { mode, ..SimConfig::default() }, Config::default()).await;
    let never = ms(3_600_000);
    // Nobody is replaced before it was told, and nobody is told a second time of the same primary.
    let (detect, failover) = (
        DetectConfig { refusals: 3, ..DetectConfig::default() },
        FailoverConfig { repair_interval: never, ..FailoverConfig::default() },
    );
    tokio::spawn(rig.cluster.clone().supervise(detect, failover));
    tokio::time::sleep(ms(100)).await;
    rig.sim.crash(NodeId(0));
    tokio::time::sleep(ms(1_000)).await;
    assert_eq!(rig.cluster.stats().failovers, 1);
    rig.cluster.write(&Session::new(), |mut c| async move { c.append(1, 1).await }).await.unwrap();
}

/// Replicas have a veto until they were asked after the loss. One that is being asked just then is asked again, and not when
/// it is its turn.
#[tokio::test(start_paused = true)]
async fn no_answer_on_its_way_delays_a_failover() {
    let client_delay = (ms(1), ms(30));
    for moment in 0..100 {
        let config = Config { observe_interval: ms(60_000), ..Config::default() };
        let rig = rig(SimConfig { client_delay, seed: moment, ..SimConfig::default() }, config).await;
        tokio::spawn(rig.cluster.clone().supervise(DetectConfig::default(), FailoverConfig::default()));
        // They hear nothing of it any more when it is lost: only who was not asked since has a veto.
        for replica in [1, 2] {
            rig.sim.cut(Endpoint::Node(NodeId(0)), Endpoint::Node(NodeId(replica)));
        }
        let sim = rig.sim.clone();
        tokio::spawn(async move {
            tokio::time::sleep(ms(200 + 3 * moment)).await;
            sim.crash(NodeId(0));
        });
        let (_, _, gap) = write_for(&rig, ms(2_000)).await;
        assert!(rig.cluster.stats().failovers == 1 && gap < ms(1_000), "seed {moment}: {gap:?}");
    }
}

/// What it acknowledged while no replica answered is lost with the primary, all of it, and told; nothing before.
#[tokio::test(start_paused = true)]
async fn a_semi_synchronous_primary_loses_what_it_went_without() {
    let timeout = ms(40);
    let rig = supervised(Mode::SemiSynchronous { timeout }).await;
    let write = async |session: &Session, number| {
        let began = tokio::time::Instant::now();
        rig.cluster.write(session, |mut c| async move { c.append(1, number).await }).await.unwrap();
        began.elapsed()
    };
    let (kept, lost) = (Session::new(), Session::new());
    for number in 0..20 {
        assert!(write(&kept, number).await < timeout, "a replica answers sooner");
    }
    for replica in [1, 2] {
        rig.sim.cut(Endpoint::Node(NodeId(0)), Endpoint::Node(NodeId(replica)));
    }
    for number in 20..25 {
        assert!(write(&lost, number).await >= timeout, "it waits for one");
    }
    rig.sim.crash(NodeId(0));
    rig.sim.heal();
    tokio::time::sleep(ms(500)).await;
    let read = async |session: &Session| rig.cluster.read(session, |mut c| async move { c.list(1).await }).await;
    assert_eq!(read(&kept).await.unwrap(), (0..20).collect::<Vec<_>>());
    assert!(matches!(read(&lost).await, Err(Error::Lost(told)) if told.own_write));
    assert_eq!(read(&lost).await.unwrap(), (0..20).collect::<Vec<_>>());
    rig.sim.restart(NodeId(0));
    tokio::time::sleep(ms(1_000)).await;
    assert_eq!(rig.cluster.stats().discarded, 5, "no more and no less");
}

/// What is told to a node that is cut off may never be answered.
#[tokio::test(start_paused = true)]
async fn a_planned_change_does_not_wait_long_for_who_is_cut_off() {
    let rig = three().await;
    rig.sim.cut(rig.driver.endpoint(), Endpoint::Node(NodeId(2)));
    let (config, began) = (FailoverConfig::default(), tokio::time::Instant::now());
    rig.cluster.switchover(NodeId(1), &config).await.unwrap();
    assert!(began.elapsed() < config.fence_timeout + ms(100), "{:?}", began.elapsed());
    tokio::time::sleep(ms(100)).await;
    assert_eq!(rig.cluster.topology().members()[0].upstream(), Some(NodeId(1)));
}

/// The primary serves its replicas, and this process cannot reach it: that is no reason to replace it.
#[tokio::test(start_paused = true)]
async fn a_replica_that_hears_the_primary_has_a_veto() {
    let rig = supervised(Mode::Asynchronous).await;
    rig.sim.cut(rig.driver.endpoint(), Endpoint::Node(NodeId(0)));
    tokio::time::sleep(ms(4_000)).await;
    assert_eq!(rig.cluster.verdict(), Verdict::Vetoed);
    let stats = rig.cluster.stats();
    assert!(stats.vetoes > 0 && stats.failovers == 0, "{stats:?}");
    // Cut off from its replicas as well, it is replaced, and rejoins when it is back.
    rig.sim.isolate(NodeId(0), true);
    tokio::time::sleep(ms(1_000)).await;
    assert_eq!(rig.cluster.stats().failovers, 1);
    rig.sim.heal();
    tokio::time::sleep(ms(1_500)).await;
    let topology = rig.cluster.topology();
    assert_eq!(topology.members()[0].upstream(), topology.primary().map(|member| member.node().id()));
}

#[tokio::test(start_paused = true)]
async fn a_planned_change_fails_no_write() {
    let rig = Arc::new(three().await);
    let done = Arc::new(AtomicU64::new(0));
    let writers = (0..8).map(|writer| {
        let (rig, done) = (Arc::clone(&rig), Arc::clone(&done));
        tokio::spawn(async move {
            let session = Session::new();
            for number in 0..200 {
                let number = writer * 1_000 + number;
                rig.cluster.write(&session, |mut c| async move { c.append(1, number).await }).await.unwrap();
                done.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(ms(1)).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for node in [1, 2, 0, 1] {
        tokio::time::sleep(ms(40)).await;
        let began = tokio::time::Instant::now();
        let promoted = rig.cluster.switchover(NodeId(node), &FailoverConfig::default()).await.unwrap();
        assert_eq!((promoted.node, promoted.known_lost), (NodeId(node), 0));
        assert!(began.elapsed() <= ms(200), "{:?}", began.elapsed());
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(done.load(Ordering::Relaxed), 1_600);
    assert_eq!(list(&rig).await.len(), 1_600);
    assert_eq!(rig.cluster.stats().writes_failed + rig.cluster.stats().writes_ambiguous, 0);
}

#[tokio::test(start_paused = true)]
async fn a_planned_change_to_a_node_far_behind_is_given_up() {
    let rig = three().await;
    for node in [0, 2] {
        rig.sim.cut(Endpoint::Node(NodeId(node)), Endpoint::Node(NodeId(1)));
    }
    rig.cluster.write(&Session::new(), |mut c| async move { c.append(1, 1).await }).await.unwrap();
    let config = FailoverConfig { drain_timeout: ms(200), ..FailoverConfig::default() };
    let result = rig.cluster.switchover(NodeId(1), &config).await;
    assert_eq!(result, Err(FailoverError::NotCaughtUp));
    rig.cluster.write(&Session::new(), |mut c| async move { c.append(1, 2).await }).await.unwrap();
    assert_eq!(rig.sim.contents(NodeId(0)), [(1, vec![1, 2])]);
    assert_eq!(rig.cluster.switchover(NodeId(9), &config).await, Err(FailoverError::NoSuchNode));
}

#[tokio::test(start_paused = true)]
async fn a_planned_change_to_the_primary_itself_does_nothing() {
    let rig = three().await;
    rig.cluster.write(&Session::new(), |mut c| async move { c.append(1, 1).await }).await.unwrap();
    let (epoch, began) = (rig.cluster.topology().epoch(), tokio::time::Instant::now());
    let promoted = rig.cluster.switchover(NodeId(0), &FailoverConfig::default()).await.unwrap();
    assert_eq!((promoted.node, promoted.known_lost, began.elapsed()), (NodeId(0), 0, Duration::ZERO));
    rig.cluster.observe().await;
    assert_eq!(rig.cluster.topology().epoch(), epoch);
}

#[tokio::test(start_paused = true)]
async fn why_a_node_does_not_answer_is_told() {
    let rig = three().await;
    rig.sim.crash(NodeId(1));
    rig.cluster.observe().await;
    let stats = rig.cluster.stats();
    let told: Vec<_> = stats.nodes.iter().map(|node| node.last_error.as_deref()).collect();
    assert_eq!(told, [None, Some("connection refused"), None]);
    rig.sim.restart(NodeId(1));
    rig.cluster.observe().await;
    assert_eq!(rig.cluster.stats().nodes[1].last_error, None);
}

/// Two of five nodes are down: the primary and one replica still acknowledge writes, and a promotion would need four.
#[tokio::test(start_paused = true)]
async fn a_planned_change_that_cannot_come_about_does_not_stop_the_writes() {
    let sim = SimConfig { nodes: 5, mode: Mode::quorum(1), ..SimConfig::default() };
    let rig = rig(sim, Config::default()).await;
    rig.sim.crash(NodeId(3));
    rig.sim.crash(NodeId(4));
    tokio::time::sleep(ms(500)).await;
    let result = rig.cluster.switchover(NodeId(1), &FailoverConfig::default()).await;
    assert_eq!(result, Err(FailoverError::TooFew { fenced: 3, needed: 4 }));
    rig.cluster.write(&Session::new(), |mut c| async move { c.append(1, 1).await }).await.unwrap();
}

/// Many processes may supervise: one leads, the others step back.
#[tokio::test(start_paused = true)]
async fn several_supervisors_name_one_primary() {
    let rig = supervised(Mode::quorum(1)).await;
    for id in 1..4 {
        let builder = Cluster::builder(rig.sim.driver()).nodes(rig.sim.nodes()).mode(Mode::quorum(1)).seed(id);
        let other = builder.coordinator(id).build().unwrap();
        tokio::spawn(other.clone().drive());
        tokio::spawn(other.supervise(DetectConfig::default(), FailoverConfig::default()));
    }
    tokio::time::sleep(ms(100)).await;
    for node in [0, 1, 2, 0] {
        rig.sim.crash(NodeId(node));
        tokio::time::sleep(ms(2_000)).await;
        let session = Session::new();
        rig.cluster.write(&session, |mut c| async move { c.append(1, node.into()).await }).await.unwrap();
        rig.sim.restart(NodeId(node));
        tokio::time::sleep(ms(2_000)).await;
    }
    let list = list(&rig).await;
    assert_eq!(list, [0, 1, 2, 0]);
    assert!((0..3).all(|node| rig.sim.contents(NodeId(node)) == [(1, list.clone())]));
}

#[tokio::test(start_paused = true)]
async fn too_few_nodes_promote_nobody() {
    let rig = rig(SimConfig { mode: Mode::quorum(1), ..SimConfig::default() }, Config::default()).await;
    rig.sim.crash(NodeId(0));
    rig.sim.crash(NodeId(1));
    let config = FailoverConfig { fence_timeout: ms(300), ..FailoverConfig::default() };
    let result = rig.cluster.failover(&config).await;
    assert_eq!(result, Err(FailoverError::TooFew { fenced: 1, needed: 2 }));
}
