//! What PostgreSQL does that a driver must not pass on: each shown, and what becomes of it here.

use std::num::NonZeroU16;
use std::time::Duration;

use tenfold_replication::driver::postgres::{PgConfig, PgError, SynchronousCommit};
use tenfold_replication::driver::{Access, Ballot, Class, Driver, Promotion};
use tenfold_replication::{
    Cluster, Config, Epoch, Error, FailoverConfig, Mode, NodeId, Position, ReadOptions, Role, Session,
};

use super::fixture::{Servers, is_left_out};
use super::suite::Fixture;

const STEP: Duration = Duration::from_secs(20);

fn ballot(epoch: u64) -> Ballot {
    Ballot { epoch: Epoch(epoch), coordinator: 1 }
}

fn promotion(epoch: u64, mode: Mode, replicas: &[u16]) -> Promotion {
    Promotion { ballot: ballot(epoch), mode, replicas: replicas.iter().copied().map(NodeId).collect() }
}

/// Until this process of the server waits for standbys.
async fn waits_for_standbys(servers: &Servers, pid: &str) {
    let sql = format!("select wait_event from pg_stat_activity where pid = {pid}");
    while servers.ask(0, &sql).await.as_deref() != Some("SyncRep") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn pid_of(connection: &mut super::suite::Connection<Servers>) -> String {
    let rows = connection.query("select pg_backend_pid()::text", &[]).await.unwrap();
    rows[0].get(0)
}

/// pg_rewind looks at the last checkpoint, which is of the old timeline right after a promotion: nothing to do, it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewind_right_after_a_promotion_cuts_off_what_parted() {
    if is_left_out() {
        return;
    }
    const OF_CHECKPOINT: &str = "select timeline_id from pg_control_checkpoint()";
    let servers = Servers::start(2, Mode::Asynchronous).await;
    let (driver, nodes) = (&servers.driver, &servers.nodes);
    driver.fence(&nodes[1], ballot(1)).await.unwrap();
    let mut old = servers.connect(0, Access::Write).await;
    for number in [7, 8, 9] {
        Servers::append(&mut old, 1, number).await.unwrap();
    }
    // So that the checkpoint that a promotion begins by itself is not done before the rewind.
    servers.tell(1, "alter system set checkpoint_completion_target = 1").await;
    let began = std::time::Instant::now();
    driver.promote(&nodes[1], &promotion(1, Mode::Asynchronous, &[0])).await.unwrap();
    let promoted = began.elapsed();
    let before = servers.ask(1, OF_CHECKPOINT).await.unwrap();
    let rejoined = driver.rejoin(&nodes[0], &nodes[1], ballot(1)).await.unwrap();
    eprintln!("promoted in {promoted:?}, rejoined after {:?}", began.elapsed());
    eprintln!("the checkpoint was of timeline {before}");
    assert_eq!(servers.ask(1, OF_CHECKPOINT).await.unwrap(), "2");
    assert!(rejoined.discarded.is_some());
    let mut primary = servers.connect(1, Access::Write).await;
    Servers::append(&mut primary, 1, 1).await.unwrap();
    let end = driver.observe(&nodes[1]).await.unwrap().received;
    servers.reached(0, end).await;
    assert_eq!(servers.list_of(0, 1).await, [1], "rows that were its alone are gone");
    assert_eq!(servers.ask(0, "pg_is_in_recovery()").await.as_deref(), Some("true"));
}

/// Each takes the number that follows those it has heard of: so what the first has acknowledged passes for a part of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_timeline_of_the_same_number_is_copied_anew() {
    if is_left_out() {
        return;
    }
    let servers = Servers::start(3, Mode::Asynchronous).await;
    let (driver, nodes) = (&servers.driver, &servers.nodes);
    let promote = async |node: usize, epoch: u64, others: &[u16]| {
        driver.fence(&nodes[node], ballot(epoch)).await.unwrap();
        let promoted = driver.promote(&nodes[node], &promotion(epoch, Mode::Asynchronous, others)).await.unwrap();
        assert_eq!(promoted.history.current(), Epoch(2), "this is the trap");
        let mut primary = servers.connect(node, Access::Write).await;
        Servers::append(&mut primary, 1, epoch as i64).await.unwrap();
    };
    servers.receive(NodeId(2), false).await;
    servers.crash(NodeId(0)).await;
    promote(1, 7, &[0, 2]).await;
    servers.restart(NodeId(0)).await;
    driver.fence(&nodes[0], ballot(7)).await.unwrap();
    driver.rejoin(&nodes[0], &nodes[1], ballot(7)).await.unwrap();
    driver.follow(&nodes[0], &nodes[1], ballot(7)).await.unwrap();
    let end = driver.observe(&nodes[1]).await.unwrap().received;
    servers.reached(0, end).await;
    assert_eq!(servers.list_of(0, 1).await, [7]);
    servers.crash(NodeId(1)).await;
    promote(2, 8, &[0, 1]).await;
    servers.restart(NodeId(1)).await;

    driver.fence(&nodes[1], ballot(8)).await.unwrap();
    let rejoined = driver.rejoin(&nodes[1], &nodes[2], ballot(8)).await.unwrap();
    driver.fence(&nodes[0], ballot(8)).await.unwrap();
    driver.follow(&nodes[0], &nodes[2], ballot(8)).await.unwrap();
    let end = driver.observe(&nodes[2]).await.unwrap().received;
    for node in [0, 1] {
        servers.reached(node, end).await;
        assert_eq!(servers.list_of(node, 1).await, [8], "node {node}");
        assert_eq!(servers.ask(node, "pg_is_in_recovery()").await.as_deref(), Some("true"));
    }
    assert!(rejoined.discarded.is_some());
}

/// The server calls it done, with a warning; and `statement_timeout` does not end the wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_for_standbys_that_is_cancelled_is_ambiguous() {
    if is_left_out() {
        return;
    }
    let servers = Servers::start(2, Mode::quorum(1)).await;
    servers.receive(NodeId(1), false).await;
    for is_transaction in [false, true] {
        let mut writer = servers.connect(0, Access::Write).await;
        writer.batch("set statement_timeout = '50ms'").await.unwrap();
        let pid = pid_of(&mut writer).await;
        let driver = servers.driver.clone();
        let write = tokio::spawn(async move {
            let number = i64::from(is_transaction);
            if is_transaction {
                driver.begin(&mut writer, Access::Write).await?;
            }
            Servers::append(&mut writer, 1, number).await?;
            if is_transaction {
                driver.commit(&mut writer).await?;
            }
            Ok::<_, PgError>(driver.take_mark(&mut writer))
        });
        waits_for_standbys(&servers, &pid).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!write.is_finished(), "statement_timeout ended it");
        servers.tell(0, &format!("select pg_cancel_backend({pid})")).await;
        let error = write.await.unwrap().unwrap_err();
        assert!(matches!(error, PgError::Unconfirmed), "{error:?}");
        assert_eq!(servers.driver.classify(&error), Class::Ambiguous);
    }
    assert_eq!(servers.list_of(0, 1).await, [0, 1], "it has taken effect all the same");

    let cluster = Cluster::builder(servers.driver()).nodes(servers.nodes()).mode(Mode::quorum(1)).build().unwrap();
    cluster.ready(STEP).await.unwrap();
    let session = Session::new();
    let write = cluster.write(&session, |mut c| async move { Servers::append(&mut c, 1, 2).await });
    let cancel = async {
        const WAITING: &str = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'";
        while servers.ask(0, WAITING).await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (result, ()) = tokio::join!(write, cancel);
    assert!(matches!(result, Err(Error::Ambiguous(Some(PgError::Unconfirmed)))), "{result:?}");
    assert!(session.position(Default::default()).is_some(), "the session waits for it nevertheless");
}

/// Restarted, an old primary takes writes from anybody at once: those of this crate go by the epoch, and the first that
/// a supervisor does with it is to fence it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_that_was_restarted_acknowledges_nothing_once_it_is_seen() {
    if is_left_out() {
        return;
    }
    let servers = Servers::start(2, Mode::Asynchronous).await;
    let (driver, nodes) = (&servers.driver, &servers.nodes);
    let cluster = Cluster::builder(servers.driver()).nodes(servers.nodes()).build().unwrap();
    servers.crash(NodeId(0)).await;
    driver.fence(&nodes[1], ballot(1)).await.unwrap();
    driver.promote(&nodes[1], &promotion(1, Mode::Asynchronous, &[0])).await.unwrap();
    servers.restart(NodeId(0)).await;
    let mut stray = servers.connect(0, Access::Write).await;
    Servers::append(&mut stray, 1, 13).await.expect("this is the trap");

    cluster.ready(STEP).await.unwrap();
    let session = Session::new();
    cluster.write(&session, |mut c| async move { Servers::append(&mut c, 1, 1).await }).await.unwrap();
    assert_eq!(servers.list_of(1, 1).await, [1], "no write of the cluster goes to the old one");
    driver.fence(&nodes[0], ballot(1)).await.unwrap();
    Servers::append(&mut stray, 1, 14).await.expect_err("it is fenced");
    let mut again = servers.connect(0, Access::Write).await;
    let refused = Servers::append(&mut again, 1, 15).await.unwrap_err();
    assert_eq!(driver.classify(&refused), Class::ReadOnly);
    // Whoever insists has nobody to confirm it.
    let sql = "begin read write; insert into entry(key, number) values (1, 16); commit";
    let insisting = tokio::time::timeout(Duration::from_millis(300), again.batch(sql)).await;
    assert!(insisting.is_err(), "{insisting:?}");
    drop(again);
    let rejoined = driver.rejoin(&nodes[0], &nodes[1], ballot(1)).await.unwrap();
    assert!(rejoined.discarded.is_some());
    let end = driver.observe(&nodes[1]).await.unwrap().received;
    servers.reached(0, end).await;
    assert_eq!(servers.list_of(0, 1).await, [1]);
}

/// An old primary that nobody reaches is fenced by taking away who could confirm its writes; before the promotion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_standbys_an_old_primary_acknowledges_nothing() {
    if is_left_out() {
        return;
    }
    let servers = Servers::start(3, Mode::quorum(1)).await;
    let (driver, nodes) = (&servers.driver, &servers.nodes);
    let mut old = servers.connect(0, Access::Write).await;
    let pid = pid_of(&mut old).await;
    Servers::append(&mut old, 1, 1).await.unwrap();
    for node in &nodes[1..] {
        driver.fence(node, ballot(1)).await.unwrap();
    }
    let write = tokio::spawn(async move { Servers::append(&mut old, 1, 2).await });
    waits_for_standbys(&servers, &pid).await;
    let promoted = driver.promote(&nodes[1], &promotion(1, Mode::quorum(1), &[0, 2])).await.unwrap();
    driver.follow(&nodes[2], &nodes[1], ballot(1)).await.unwrap();
    assert!(promoted.writable && promoted.history.current() == Epoch(2));
    let mut new = servers.connect(1, Access::Write).await;
    Servers::append(&mut new, 1, 3).await.expect("the other standby confirms it");
    assert!(!write.is_finished(), "the old primary acknowledged a write that is nowhere else");
    servers.tell(0, &format!("select pg_cancel_backend({pid})")).await;
    let error = write.await.unwrap().unwrap_err();
    assert_eq!(driver.classify(&error), Class::Ambiguous, "unless somebody cancels the wait");
    assert_eq!(servers.list_of(1, 1).await, [1, 3]);
}

/// Of two standbys one confirms, and the other is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synchrony_does_not_make_reads_fresh_and_tokens_do() {
    if is_left_out() {
        return;
    }
    let config = PgConfig { synchronous_commit: Some(SynchronousCommit::RemoteApply), ..PgConfig::default() };
    let servers = Servers::with(3, Mode::Quorum { replicas: NonZeroU16::MIN }, config).await;
    servers.replay(NodeId(1), false).await;
    let config = Config { observe_interval: Duration::from_millis(20), ..Config::default() };
    let cluster = Cluster::builder(servers.driver()).nodes(servers.nodes()).config(config).build().unwrap();
    tokio::spawn(cluster.clone().drive());
    cluster.ready(STEP).await.unwrap();
    let session = Session::new();
    for number in 0..20 {
        cluster.write(&session, |mut c| async move { Servers::append(&mut c, 1, number).await }).await.unwrap();
        assert!(servers.list_of(1, 1).await.is_empty(), "this is the trap");
        let list = cluster.read(&session, |mut c| async move { Servers::list(&mut c, 1).await }).await.unwrap();
        assert_eq!(list.last(), Some(&number));
    }
}

/// A standby shows a commit that the primary has logged and still holds back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_standby_has_shown_is_waited_for_at_the_primary() {
    if is_left_out() {
        return;
    }
    let servers = Servers::start(3, Mode::quorum(2)).await;
    servers.receive(NodeId(2), false).await;
    let config = Config { observe_interval: Duration::from_millis(20), read_timeout: STEP, ..Config::default() };
    let cluster = Cluster::builder(servers.driver()).nodes(servers.nodes()).config(config).build().unwrap();
    tokio::spawn(cluster.clone().drive());
    cluster.ready(STEP).await.unwrap();
    let mut writer = servers.connect(0, Access::Write).await;
    let pid = pid_of(&mut writer).await;
    let write = tokio::spawn(async move { Servers::append(&mut writer, 1, 1).await });
    waits_for_standbys(&servers, &pid).await;
    let session = loop {
        let session = Session::new();
        let list = cluster.read(&session, |mut c| async move { Servers::list(&mut c, 1).await }).await.unwrap();
        if list == [1] {
            break session;
        }
    };
    assert!(servers.list_of(0, 1).await.is_empty(), "this is the trap");
    for wait in [Duration::ZERO, Duration::from_millis(200)] {
        tokio::time::sleep(wait).await;
        let (cluster, session) = (cluster.clone(), session.clone());
        let read = tokio::spawn(async move {
            let options = ReadOptions::new().from_primary();
            cluster.read_with(&session, &options, |mut c| async move { Servers::list(&mut c, 1).await }).await
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!read.is_finished(), "{:?}", read.await);
        read.abort();
    }
    // What the primary itself has shown it shows again, however long standbys are missing.
    let other = Session::new();
    for _ in 0..3 {
        let options = ReadOptions::new().from_primary();
        let read = cluster.read_with(&other, &options, |mut c| async move { Servers::list(&mut c, 1).await });
        assert!(read.await.unwrap().is_empty());
    }
    servers.receive(NodeId(2), true).await;
    write.await.unwrap().unwrap();
    let options = ReadOptions::new().from_primary();
    let read = cluster.read_with(&session, &options, |mut c| async move { Servers::list(&mut c, 1).await });
    assert_eq!(read.await.unwrap(), [1]);
    // Nothing is held back any more: it is known without a wait, and a long statement of somebody is none.
    let mut long = servers.connect(0, Access::Write).await;
    let long = tokio::spawn(async move { long.batch("select pg_current_xact_id(), pg_sleep(600)").await });
    while servers.ask(0, "select count(*) from pg_stat_activity where wait_event = 'PgSleep'").await.unwrap() == "0" {}
    cluster.read(&session, |mut c| async move { Servers::list(&mut c, 1).await }).await.unwrap();
    let read = cluster.read_with(&session, &options, |mut c| async move { Servers::list(&mut c, 1).await });
    assert_eq!(read.await.unwrap(), [1]);
    assert!(!long.is_finished());
}

/// Its place lies beyond that at which the timeline was left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_write_that_is_lost_is_told() {
    if is_left_out() {
        return;
    }
    let servers = Servers::start(3, Mode::Asynchronous).await;
    let cluster = Cluster::builder(servers.driver()).nodes(servers.nodes()).build().unwrap();
    tokio::spawn(cluster.clone().drive());
    cluster.ready(STEP).await.unwrap();
    let (kept, lost) = (Session::new(), Session::new());
    cluster.write(&kept, |mut c| async move { Servers::append(&mut c, 1, 1).await }).await.unwrap();
    let shared = kept.position(Default::default()).unwrap();
    for node in [1, 2] {
        servers.reached(node, shared.lsn).await;
        servers.receive(NodeId(node as u16), false).await;
    }
    cluster.write(&lost, |mut c| async move { Servers::append(&mut c, 2, 1).await }).await.unwrap();
    let position = lost.position(Default::default()).unwrap();
    servers.crash(NodeId(0)).await;
    cluster
        .failover(&FailoverConfig { fence_timeout: STEP, promote_timeout: STEP, ..FailoverConfig::default() })
        .await
        .unwrap();
    let read = |session: Session| {
        let cluster = cluster.clone();
        async move {
            let options = ReadOptions::new();
            cluster.read_with(&session, &options, |mut c| async move { Servers::list(&mut c, 1).await }).await
        }
    };
    match read(lost).await {
        Err(Error::Lost(lost)) => {
            assert!(lost.own_write && lost.position == position);
            let topology = cluster.topology();
            let switch = topology.history().unwrap().switches().last().copied().unwrap();
            assert_eq!(lost.kept, Position::new(Epoch(1), switch.at));
            assert!(switch.at >= shared.lsn && switch.at < position.lsn);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read(kept).await.unwrap(), [1]);
    assert_eq!(cluster.stats().losses_written, 1);
    assert_eq!(cluster.topology().primary().and_then(|member| member.role()), Some(Role::Primary));
}
