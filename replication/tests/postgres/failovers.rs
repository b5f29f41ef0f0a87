//! Whole failovers: a primary that is killed or hangs, and one that is changed on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tenfold_replication::driver::postgres::PgDriver;
use tenfold_replication::driver::{Access, Driver};
use tenfold_replication::{Cluster, Config, DetectConfig, FailoverConfig, Mode, NodeId, PoolConfig, Role, Session};
use tokio::task::JoinHandle;

use super::fixture::{Servers, is_left_out};
use super::suite::Fixture;

const LONG: Duration = Duration::from_secs(30);

/// With time enough for a busy machine.
fn failover() -> FailoverConfig {
    FailoverConfig { fence_timeout: LONG, promote_timeout: LONG, drain_timeout: LONG, ..FailoverConfig::default() }
}

async fn cluster(servers: &Servers, mode: Mode) -> Cluster<PgDriver> {
    let pool = PoolConfig { timeout: LONG, ..PoolConfig::default() };
    let config = Config { write_timeout: LONG, read_timeout: LONG, connect_timeout: LONG, pool, ..Config::default() };
    let cluster = Cluster::builder(servers.driver()).nodes(servers.nodes()).mode(mode).config(config).build().unwrap();
    tokio::spawn(cluster.clone().drive());
    cluster.ready(LONG).await.unwrap();
    cluster
}

/// Writes numbers until it is told to stop; gives those that were acknowledged, how many writes failed, and the longest
/// time between two acknowledgements.
fn write_on(cluster: &Cluster<PgDriver>, stop: &Arc<AtomicBool>) -> JoinHandle<(Vec<i64>, usize, Duration)> {
    let (cluster, stop) = (cluster.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        let (session, mut acknowledged, mut failed) = (Session::new(), Vec::new(), 0);
        let (mut last, mut gap) = (Instant::now(), Duration::ZERO);
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let write = cluster.write(&session, |mut c| async move { Servers::append(&mut c, 1, number).await });
            match write.await {
                Ok(()) => {
                    acknowledged.push(number);
                    gap = gap.max(last.elapsed());
                    last = Instant::now();
                }
                Err(_) => failed += 1,
            }
        }
        (acknowledged, failed, gap)
    })
}

async fn until(mut look: impl AsyncFnMut() -> bool) {
    for _ in 0..6_000 {
        if look().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not become so");
}

fn primary(cluster: &Cluster<PgDriver>) -> Option<NodeId> {
    cluster.topology().primary().map(|member| member.node().id())
}

/// In a quorum nothing that was acknowledged is lost, and the old primary is a replica again without anybody's help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_is_replaced_and_rejoins_by_itself() {
    if is_left_out() {
        return;
    }
    let mode = Mode::quorum(1);
    let servers = Servers::start(3, mode).await;
    let cluster = cluster(&servers, mode).await;
    let supervisor = tokio::spawn(cluster.clone().supervise(DetectConfig::default(), failover()));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write_on(&cluster, &stop);
    tokio::time::sleep(Duration::from_millis(300)).await;
    servers.crash(NodeId(0)).await;
    until(async || primary(&cluster).is_some_and(|node| node != NodeId(0))).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let restarted = Instant::now();
    servers.restart(NodeId(0)).await;
    until(async || {
        let topology = cluster.topology();
        let old = &topology.members()[0];
        old.role() == Some(Role::Replica) && old.upstream() == primary(&cluster)
    })
    .await;
    let rejoined = restarted.elapsed();
    stop.store(true, Ordering::Relaxed);
    let (acknowledged, failed, gap) = writer.await.unwrap();
    supervisor.abort();
    eprintln!("longest time without a write {gap:?}, rejoined {rejoined:?} after the restart began, {failed} failed");
    let new = usize::from(primary(&cluster).unwrap().0);
    let end = servers.driver.observe(&servers.nodes[new]).await.unwrap().received;
    let list = servers.list_of(new, 1).await;
    let is_missing = |number: &&i64| !list.contains(number);
    assert_eq!(acknowledged.iter().filter(is_missing).count(), 0, "acknowledged and lost");
    let mut numbers = list.clone();
    numbers.dedup();
    assert_eq!(numbers, list, "written twice");
    servers.reached(0, end).await;
    assert_eq!(servers.list_of(0, 1).await, list);
    assert_eq!(cluster.stats().failovers, 1);
}

/// Its log is handed out by pages: replicas end within a record whose rest never comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_within_a_large_write_is_replaced() {
    if is_left_out() {
        return;
    }
    let servers = Servers::start(3, Mode::Asynchronous).await;
    let cluster = cluster(&servers, Mode::Asynchronous).await;
    let session = Session::new();
    cluster.write(&session, |mut c| async move { Servers::append(&mut c, 1, 1).await }).await.unwrap();
    let before = servers.driver.observe(&servers.nodes[1]).await.unwrap().received;
    let mut large = servers.connect(0, Access::Write).await;
    let writing = tokio::spawn(async move {
        large.batch("create table large as select repeat('x', 1000) from generate_series(1, 10000000)").await
    });
    for node in &servers.nodes[1..] {
        until(async || servers.driver.observe(node).await.unwrap().received.0 > before.0 + (4 << 20)).await;
    }
    servers.crash(NodeId(0)).await;
    writing.await.unwrap().unwrap_err();
    let mut torn = 0;
    for node in 1..3 {
        const PLACES: &str = "pg_last_wal_receive_lsn() || ' ' || pg_last_wal_replay_lsn()";
        const IS_TORN: &str = "pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()";
        const IS_IDLE: &str =
            "select wait_event = 'RecoveryRetrieveRetryInterval' from pg_stat_activity where backend_type = 'startup'";
        until(async || servers.ask(node, IS_IDLE).await.as_deref() == Some("true")).await;
        eprintln!("node {node} has received and replayed {:?}", servers.ask(node, PLACES).await);
        torn += usize::from(servers.ask(node, IS_TORN).await.as_deref() == Some("true"));
    }
    eprintln!("{torn} of 2 replicas ended within a record");
    goes_on_by_itself(&servers, &cluster, &session).await;
}

/// After the loss of node 0, with 1 in the list: one of the others is promoted, and the other follows it as it is.
async fn goes_on_by_itself(servers: &Servers, cluster: &Cluster<PgDriver>, session: &Session) {
    let promoted = cluster.failover(&failover()).await.unwrap();
    eprintln!("promoted {promoted:?}");
    cluster.write(session, |mut c| async move { Servers::append(&mut c, 1, 2).await }).await.unwrap();
    let supervisor = tokio::spawn(cluster.clone().supervise(DetectConfig::default(), failover()));
    let (new, other) = if promoted.node == NodeId(1) { (1, 2) } else { (2, 1) };
    let end = servers.driver.observe(&servers.nodes[new]).await.unwrap().received;
    until(async || cluster.topology().members()[other].upstream() == Some(promoted.node)).await;
    supervisor.abort();
    servers.reached(other, end).await;
    assert_eq!(servers.list_of(other, 1).await, [1, 2]);
    assert_eq!(cluster.stats().rejoins, 0);
}

/// Kills node 0 and stops both others, which have 1 in the list, have to replay a commit, and then have the beginning of a
/// record, but nothing of the segment that it goes on in.
async fn end_with_a_segment(servers: &Servers, cluster: &Cluster<PgDriver>, session: &Session) {
    cluster.write(session, |mut c| async move { Servers::append(&mut c, 1, 1).await }).await.unwrap();
    servers.caught_up().await;
    for node in [1, 2] {
        servers.replay(NodeId(node), false).await;
    }
    // Which a replica may be told to wait for.
    servers.tell(0, "select pg_logical_emit_message(true, '', '')").await;
    // So that a record begins on the last page of its segment, and has more than fits there.
    const LEFT: &str = "1048576 - (pg_current_wal_insert_lsn() - '0/0')::int8 % 1048576";
    let fill = format!("select pg_logical_emit_message(false, '', repeat('x', greatest(0, {LEFT} - 6000)::int))");
    servers.tell(0, &fill).await;
    let left: i64 = servers.ask(0, LEFT).await.unwrap().parse().unwrap();
    assert!((0..8_000).contains(&left), "{left}");
    let next = servers.ask(0, "pg_walfile_name(pg_current_wal_insert_lsn() + 1048576)").await.unwrap();
    servers.tell(0, "select pg_logical_emit_message(true, '', repeat('x', 20000))").await;
    let end = servers.driver.observe(&servers.nodes[0]).await.unwrap().received;
    for node in &servers.nodes[1..] {
        until(async || servers.driver.observe(node).await.unwrap().received >= end).await;
    }
    servers.crash(NodeId(0)).await;
    for node in [1, 2] {
        servers.script(&["stop", &node.to_string()]);
        std::fs::remove_file(servers.node_dir(NodeId(node)).join("data/pg_wal").join(&next)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_end_with_a_segment_within_a_record_go_on() {
    if is_left_out() {
        return;
    }
    let servers = Servers::start(3, Mode::Asynchronous).await;
    let cluster = cluster(&servers, Mode::Asynchronous).await;
    let session = Session::new();
    end_with_a_segment(&servers, &cluster, &session).await;
    for node in [1, 2] {
        servers.restart(NodeId(node)).await;
        eprintln!("node {node} has received {:?}", servers.ask(node.into(), "pg_last_wal_receive_lsn()").await);
    }
    until(async || cluster.topology().members()[1..].iter().all(|member| member.is_reachable())).await;
    goes_on_by_itself(&servers, &cluster, &session).await;
}

/// One of them comes back when the next primary is far beyond, and is told to follow before it has replayed what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_returns_late_and_ends_within_a_record_follows() {
    if is_left_out() {
        return;
    }
    let servers = Servers::start(3, Mode::Asynchronous).await;
    let cluster = cluster(&servers, Mode::Asynchronous).await;
    let session = Session::new();
    servers.tell(2, "alter system set recovery_min_apply_delay = '12s'").await;
    servers.tell(2, "select pg_reload_conf()").await;
    end_with_a_segment(&servers, &cluster, &session).await;
    servers.restart(NodeId(1)).await;
    until(async || cluster.topology().members()[1].is_reachable()).await;
    assert_eq!(cluster.failover(&failover()).await.unwrap().node, NodeId(1));
    servers.tell(1, "select pg_logical_emit_message(true, '', repeat('x', 3000000))").await;
    servers.restart(NodeId(2)).await;
    let supervisor = tokio::spawn(cluster.clone().supervise(DetectConfig::default(), failover()));
    let is_told = "current_setting('tenfold.upstream', true)";
    until(async || servers.ask(2, is_told).await.as_deref() == Some("1")).await;
    const REPLAYED: &str = "pg_last_wal_replay_lsn()";
    let (at, of_primary) = (servers.ask(2, REPLAYED).await, servers.ask(1, "pg_current_wal_lsn()").await);
    eprintln!("told at {at:?}, with the primary at {of_primary:?}");
    servers.tell(2, "alter system reset recovery_min_apply_delay").await;
    servers.tell(2, "select pg_reload_conf()").await;
    until(async || cluster.topology().members()[2].upstream() == Some(NodeId(1))).await;
    supervisor.abort();
    let end = servers.driver.observe(&servers.nodes[1]).await.unwrap().received;
    servers.reached(2, end).await;
    // On a busy machine it may be fenced first, as it does not know what it has received; nothing is cut off then either.
    assert_eq!(cluster.stats().discarded, 0);
}

/// Woken up again, it has nothing to say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hangs_is_replaced() {
    if is_left_out() {
        return;
    }
    let servers = Servers::start(2, Mode::Asynchronous).await;
    let cluster = cluster(&servers, Mode::Asynchronous).await;
    let session = Session::new();
    cluster.write(&session, |mut c| async move { Servers::append(&mut c, 1, 1).await }).await.unwrap();
    servers.caught_up().await;
    let supervisor = tokio::spawn(cluster.clone().supervise(DetectConfig::default(), failover()));
    let hung = Instant::now();
    servers.script(&["pause", "0"]);
    until(async || primary(&cluster) == Some(NodeId(1))).await;
    cluster.write(&session, |mut c| async move { Servers::append(&mut c, 1, 2).await }).await.unwrap();
    eprintln!("written again {:?} after it hung", hung.elapsed());
    servers.script(&["resume", "0"]);
    until(async || {
        let topology = cluster.topology();
        topology.members()[0].upstream() == Some(NodeId(1))
    })
    .await;
    supervisor.abort();
    let list = cluster.read(&session, |mut c| async move { Servers::list(&mut c, 1).await }).await.unwrap();
    assert_eq!(list, [1, 2]);
}

/// There and back again, under writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_changed_on_purpose_fails_no_write() {
    if is_left_out() {
        return;
    }
    let servers = Servers::start(3, Mode::Asynchronous).await;
    let cluster = cluster(&servers, Mode::Asynchronous).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write_on(&cluster, &stop);
    for to in [1, 0] {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        let promoted = cluster.switchover(NodeId(to), &failover()).await.unwrap();
        eprintln!("to node {to} and all others behind it in {:?}", began.elapsed());
        assert_eq!((promoted.node, promoted.known_lost), (NodeId(to), 0));
        until(async || {
            let topology = cluster.topology();
            let others = topology.members().iter().filter(|member| member.node().id() != NodeId(to));
            others.into_iter().all(|member| member.upstream() == Some(NodeId(to)))
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    let (acknowledged, failed, gap) = writer.await.unwrap();
    eprintln!("longest time without a write {gap:?}");
    assert_eq!(failed, 0);
    assert_eq!(servers.list_of(0, 1).await, acknowledged);
}

/// While a replica gets the log, a write is there when it is acknowledged; without one it is acknowledged all the same, and
/// counted. So it is after a promotion, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_semi_synchronous_mode_a_write_waits_for_one_replica_and_not_for_ever() {
    if is_left_out() {
        return;
    }
    for (patience, is_heard) in [(LONG, true), (Duration::from_millis(100), false)] {
        let mode = Mode::SemiSynchronous { timeout: patience };
        let servers = Servers::start(3, mode).await;
        let cluster = cluster(&servers, mode).await;
        for (primary, number) in [(0, 1), (1, 2)] {
            let session = Session::new();
            // The fixture has written before there was a mode, and a promotion writes nothing.
            let before = servers.driver.unconfirmed();
            let replicas = (0..3).filter(|node| *node != primary);
            for node in replicas.clone().filter(|_| !is_heard) {
                servers.receive(NodeId(node as u16), false).await;
            }
            cluster.write(&session, |mut c| async move { Servers::append(&mut c, 1, number).await }).await.unwrap();
            let lsn = session.position(tenfold_replication::ShardId(0)).unwrap().lsn;
            assert_eq!(servers.driver.unconfirmed() - before, u64::from(!is_heard));
            let confirms = async || {
                let mut confirming = 0;
                for node in replicas.clone() {
                    let seen = servers.driver.observe(&servers.nodes[node]).await;
                    confirming += usize::from(seen.is_ok_and(|seen| seen.received >= lsn));
                }
                confirming > 0
            };
            if is_heard {
                until(confirms).await;
            } else {
                assert!(!confirms().await);
            }
            for node in replicas.filter(|_| !is_heard) {
                servers.receive(NodeId(node as u16), true).await;
            }
            if primary == 0 {
                cluster.switchover(NodeId(1), &failover()).await.unwrap();
                let name = "select current_setting('tenfold.semi_synchronous')";
                let setting = servers.ask(1, &format!("({name})")).await.unwrap();
                assert_eq!(setting, format!("{} n0 n2", patience.as_millis()));
                until(async || {
                    let topology = cluster.topology();
                    topology.members().iter().filter(|member| member.upstream() == Some(NodeId(1))).count() == 2
                })
                .await;
            }
        }
    }
}
