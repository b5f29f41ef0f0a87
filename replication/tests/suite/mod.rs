//! What every driver must do, run on real nodes: a primary, 0, and replicas that follow it.

use std::future::Future;
use std::time::Duration;

use tenfold_replication::driver::{Access, Ballot, Class, Driver, Mark, Promotion, Rejoined};
use tenfold_replication::{Cluster, Config, Epoch, Error, Lsn, Mode, Node, NodeId, Role, Session};

/// Nodes that are up, on which lists of numbers are kept by key.
pub(crate) trait Fixture: Sized {
    type Driver: Driver + Clone;

    /// Whether there is no such database here, and that was said to be right.
    fn is_left_out() -> bool {
        false
    }
    /// A primary and replicas that have caught up.
    fn start(nodes: u16, mode: Mode) -> impl Future<Output = Self>;
    fn driver(&self) -> Self::Driver;
    fn nodes(&self) -> Vec<Node>;
    fn append(
        c: &mut Connection<Self>,
        key: i64,
        number: i64,
    ) -> impl Future<Output = Result<(), Failure<Self>>> + Send;
    fn list(c: &mut Connection<Self>, key: i64) -> impl Future<Output = Result<Vec<i64>, Failure<Self>>> + Send;
    /// The node is gone at once, with its connections; what it has made durable stays.
    fn crash(&self, node: NodeId) -> impl Future<Output = ()>;
    /// It is back as what it was.
    fn restart(&self, node: NodeId) -> impl Future<Output = ()>;
    /// Whether a replica makes visible what it receives.
    fn replay(&self, node: NodeId, is_running: bool) -> impl Future<Output = ()>;
    /// Whether a replica receives at all.
    fn receive(&self, node: NodeId, is_running: bool) -> impl Future<Output = ()>;
}

pub(crate) type Connection<F> = <<F as Fixture>::Driver as Driver>::Connection;
pub(crate) type Failure<F> = <<F as Fixture>::Driver as Driver>::Error;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ballot(epoch: u64) -> Ballot {
    Ballot { epoch: Epoch(epoch), coordinator: 1 }
}

pub(crate) async fn cluster<F: Fixture>(fixture: &F) -> Cluster<F::Driver> {
    let config = Config { observe_interval: ms(20), ..Config::default() };
    let cluster = Cluster::builder(fixture.driver()).nodes(fixture.nodes()).config(config).seed(1).build().unwrap();
    tokio::spawn(cluster.clone().drive());
    cluster.ready(ms(10_000)).await.unwrap();
    cluster
}

/// Looks until it is so. How long that takes is no matter of these tests.
pub(crate) async fn until<T: PartialEq + std::fmt::Debug>(expected: T, mut look: impl AsyncFnMut() -> T) {
    for _ in 0..2_000 {
        if look().await == expected {
            return;
        }
        tokio::time::sleep(ms(10)).await;
    }
    assert_eq!(look().await, expected);
}

async fn connect<F: Fixture>(fixture: &F, node: u16, access: Access) -> Connection<F> {
    fixture.driver().connect(&fixture.nodes()[usize::from(node)], access).await.unwrap().connection
}

async fn received<F: Fixture>(fixture: &F, node: u16) -> Lsn {
    fixture.driver().observe(&fixture.nodes()[usize::from(node)]).await.map_or(Lsn(0), |seen| seen.received)
}

/// Promotes node 1 over a lost primary, as a coordinator would.
async fn promote<F: Fixture>(fixture: &F, epoch: u64, mode: Mode) {
    let (driver, nodes) = (fixture.driver(), fixture.nodes());
    for node in &nodes[1..] {
        driver.fence(node, ballot(epoch)).await.unwrap();
    }
    let replicas = nodes.iter().map(Node::id).filter(|id| *id != NodeId(1)).collect();
    let promotion = Promotion { ballot: ballot(epoch), mode, replicas };
    let promoted = driver.promote(&nodes[1], &promotion).await.unwrap();
    assert!(promoted.writable && promoted.role == Role::Primary);
    for node in &nodes[2..] {
        driver.follow(node, &nodes[1], ballot(epoch)).await.unwrap();
    }
}

pub(crate) async fn a_session_reads_its_writes_over_lag<F: Fixture>() {
    let fixture = F::start(3, Mode::Asynchronous).await;
    let cluster = cluster(&fixture).await;
    fixture.replay(NodeId(1), false).await;
    let session = Session::new();
    for number in 0..60 {
        cluster.write(&session, |mut c| async move { F::append(&mut c, 1, number).await }).await.unwrap();
        let list = cluster.read(&session, |mut c| async move { F::list(&mut c, 1).await }).await.unwrap();
        assert_eq!(list, (0..=number).collect::<Vec<_>>());
    }
    fixture.replay(NodeId(1), true).await;
    let last = received(&fixture, 0).await;
    let mut replica = connect(&fixture, 1, Access::Read).await;
    assert!(fixture.driver().wait(&mut replica, last, ms(20_000)).await.unwrap() >= last);
    assert_eq!(F::list(&mut replica, 1).await.unwrap().len(), 60);
    assert_eq!(cluster.stats().losses_seen + cluster.stats().losses_written, 0);
}

pub(crate) async fn a_wait_is_bounded_and_says_how_far_it_got<F: Fixture>() {
    let fixture = F::start(2, Mode::Asynchronous).await;
    let mut replica = connect(&fixture, 1, Access::Read).await;
    let here = fixture.driver().wait(&mut replica, Lsn(0), ms(0)).await.unwrap();
    let far = Lsn(here.0 + (1 << 40));
    let reached = tokio::time::timeout(ms(20_000), fixture.driver().wait(&mut replica, far, ms(50))).await;
    assert!(reached.expect("the wait ends").unwrap() < far);
}

pub(crate) async fn a_transaction_is_all_or_nothing<F: Fixture>() {
    let fixture = F::start(2, Mode::Asynchronous).await;
    let (cluster, session) = (cluster(&fixture).await, Session::new());
    let done = cluster.transaction(&session, |mut c| async move {
        F::append(&mut c, 1, 1).await?;
        F::append(&mut c, 2, 2).await?;
        F::list(&mut c, 2).await
    });
    assert_eq!(done.await.unwrap(), [2], "it sees its own");
    let undone = cluster.transaction(&session, |mut c| async move {
        F::append(&mut c, 1, 9).await?;
        c.set_rollback_only();
        Ok(())
    });
    undone.await.unwrap();
    for key in [1, 2] {
        let list = cluster.read(&session, |mut c| async move { F::list(&mut c, key).await }).await.unwrap();
        assert_eq!(list, [key]);
    }
}

pub(crate) async fn marks_cover_what_was_written_and_seen<F: Fixture>() {
    let fixture = F::start(2, Mode::Asynchronous).await;
    let driver = fixture.driver();
    let (mut writer, mut reader) =
        (connect(&fixture, 0, Access::Write).await, connect(&fixture, 0, Access::Read).await);
    assert_eq!(driver.take_mark(&mut reader), Mark::default());
    F::append(&mut writer, 1, 1).await.unwrap();
    let wrote = driver.take_mark(&mut writer);
    assert!(wrote.wrote);
    F::list(&mut reader, 1).await.unwrap();
    let saw = driver.take_mark(&mut reader);
    assert!(!saw.wrote && saw.position >= wrote.position && wrote.position.is_some());
    assert_eq!(driver.take_mark(&mut reader), Mark::default(), "it is forgotten");
    let mut replica = connect(&fixture, 1, Access::Read).await;
    driver.wait(&mut replica, wrote.position.unwrap().lsn, ms(20_000)).await.unwrap();
    assert_eq!(F::list(&mut replica, 1).await.unwrap(), [1]);
}

pub(crate) async fn reads_and_replicas_refuse_to_write<F: Fixture>() {
    let fixture = F::start(2, Mode::Asynchronous).await;
    let driver = fixture.driver();
    for (node, access) in [(0, Access::Read), (1, Access::Read), (1, Access::Write)] {
        let mut connection = connect(&fixture, node, access).await;
        let refused = F::append(&mut connection, 1, 1).await.unwrap_err();
        assert_eq!(driver.classify(&refused), Class::ReadOnly, "{refused}");
    }
    let (cluster, session) = (cluster(&fixture).await, Session::new());
    let read = cluster.read(&session, |mut c| async move { F::append(&mut c, 1, 1).await }).await;
    assert!(matches!(read, Err(Error::WriteInRead(_))), "{read:?}");
    let list = cluster.read(&session, |mut c| async move { F::list(&mut c, 1).await }).await.unwrap();
    assert!(list.is_empty());
}

/// Neither a connection from before, nor a new one, nor one after a restart.
pub(crate) async fn a_fenced_primary_never_writes_again<F: Fixture>() {
    let fixture = F::start(2, Mode::Asynchronous).await;
    let (driver, nodes) = (fixture.driver(), fixture.nodes());
    let mut before = connect(&fixture, 0, Access::Write).await;
    F::append(&mut before, 1, 1).await.unwrap();
    let mut open = connect(&fixture, 0, Access::Write).await;
    driver.begin(&mut open, Access::Write).await.unwrap();
    F::append(&mut open, 1, 2).await.unwrap();
    let fenced = driver.fence(&nodes[0], ballot(5)).await.unwrap();
    assert!(!fenced.writable && fenced.promised == Some(ballot(5)));
    driver.commit(&mut open).await.unwrap_err();
    F::append(&mut before, 1, 3).await.unwrap_err();
    drop((before, open));
    for round in 0..3 {
        if let Ok(connected) = driver.connect(&nodes[0], Access::Write).await {
            let mut connection = connected.connection;
            F::append(&mut connection, 1, 4).await.unwrap_err();
        }
        let mut reader = connect(&fixture, 0, Access::Read).await;
        assert_eq!(F::list(&mut reader, 1).await.unwrap(), [1], "round {round}");
        drop(reader);
        fixture.crash(NodeId(0)).await;
        fixture.restart(NodeId(0)).await;
        let seen = driver.observe(&nodes[0]).await.unwrap();
        assert!(!seen.writable && seen.promised == Some(ballot(5)) && seen.received == fenced.received);
    }
}

pub(crate) async fn a_lower_ballot_is_refused_by_all_calls<F: Fixture>() {
    let fixture = F::start(3, Mode::Asynchronous).await;
    let (driver, nodes) = (fixture.driver(), fixture.nodes());
    driver.fence(&nodes[1], ballot(7)).await.unwrap();
    driver.fence(&nodes[1], ballot(7)).await.unwrap();
    let promotion = Promotion { ballot: ballot(6), mode: Mode::Asynchronous, replicas: vec![NodeId(2)] };
    let refusals = [
        driver.fence(&nodes[1], ballot(6)).await.err(),
        driver.promote(&nodes[1], &promotion).await.err(),
        driver.follow(&nodes[1], &nodes[0], ballot(6)).await.err(),
        driver.rejoin(&nodes[1], &nodes[0], ballot(6)).await.err(),
    ];
    for refusal in refusals {
        assert_eq!(driver.classify(&refusal.expect("it is refused")), Class::Superseded);
    }
    // Not promised before: of higher ballots a promotion needs the very one.
    let promotion = Promotion { ballot: ballot(8), ..promotion };
    let refusal = driver.promote(&nodes[1], &promotion).await.unwrap_err();
    assert_eq!(driver.classify(&refusal), Class::Superseded);
}

/// With what it alone had counted, told to the session that wrote it, and gone.
pub(crate) async fn an_old_primary_rejoins_without_what_it_alone_had<F: Fixture>() {
    let fixture = F::start(3, Mode::Asynchronous).await;
    let (cluster, session) = (cluster(&fixture).await, Session::new());
    let (driver, nodes) = (fixture.driver(), fixture.nodes());
    cluster.write(&session, |mut c| async move { F::append(&mut c, 1, 1).await }).await.unwrap();
    let shared = received(&fixture, 0).await;
    for node in [1, 2] {
        until(true, async || received(&fixture, node).await >= shared).await;
        fixture.receive(NodeId(node), false).await;
    }
    for number in [2, 3, 4] {
        cluster.write(&session, |mut c| async move { F::append(&mut c, 1, number).await }).await.unwrap();
    }
    let alone = received(&fixture, 0).await;
    fixture.crash(NodeId(0)).await;
    for node in [1, 2] {
        fixture.receive(NodeId(node), true).await;
    }
    promote(&fixture, 2, Mode::Asynchronous).await;
    until(Some(NodeId(1)), async || cluster.topology().primary().map(|member| member.node().id())).await;
    let read = cluster.read(&session, |mut c| async move { F::list(&mut c, 1).await }).await;
    assert!(matches!(read, Err(Error::Lost(lost)) if lost.own_write), "{read:?}");
    cluster.write(&session, |mut c| async move { F::append(&mut c, 1, 10).await }).await.unwrap();

    fixture.restart(NodeId(0)).await;
    let Rejoined { discarded } = driver.rejoin(&nodes[0], &nodes[1], ballot(2)).await.unwrap();
    let (from, to) = discarded.expect("it had parted");
    // A server may have logged more than writes, in its recovery.
    assert!(from >= shared && from < to && to >= alone, "{from:?} {to:?} {shared:?} {alone:?}");
    let last = received(&fixture, 1).await;
    for node in [0, 2] {
        // One that is copied anew refuses connections until it is.
        until(Some(vec![1, 10]), async || {
            let mut replica = driver.connect(&nodes[node], Access::Read).await.ok()?.connection;
            driver.wait(&mut replica, last, ms(20_000)).await.ok().filter(|at| *at >= last)?;
            F::list(&mut replica, 1).await.ok()
        })
        .await;
    }
    let seen = driver.observe(&nodes[0]).await.unwrap();
    assert!(seen.role == Role::Replica && seen.history == driver.observe(&nodes[1]).await.unwrap().history);
    assert_eq!(driver.rejoin(&nodes[0], &nodes[1], ballot(2)).await.unwrap(), Rejoined::default(), "and again");
}

pub(crate) async fn a_write_that_too_few_confirm_is_ambiguous<F: Fixture>() {
    let fixture = F::start(3, Mode::quorum(2)).await;
    let driver = fixture.driver();
    let mut writer = connect(&fixture, 0, Access::Write).await;
    F::append(&mut writer, 1, 1).await.unwrap();
    fixture.receive(NodeId(2), false).await;
    let unconfirmed = tokio::time::timeout(ms(500), F::append(&mut writer, 1, 2)).await;
    if let Ok(result) = unconfirmed {
        let error = result.expect_err("nobody may acknowledge it");
        assert!(matches!(driver.classify(&error), Class::Ambiguous | Class::Gone), "{error}");
    }
    fixture.receive(NodeId(2), true).await;
    let mut writer = connect(&fixture, 0, Access::Write).await;
    F::append(&mut writer, 1, 3).await.unwrap();
}

/// The suite as tests of their own, on this fixture.
macro_rules! suite {
    ($fixture:ty) => {
        suite! { $fixture, suite:
            a_session_reads_its_writes_over_lag
            a_wait_is_bounded_and_says_how_far_it_got
            a_transaction_is_all_or_nothing
            marks_cover_what_was_written_and_seen
            reads_and_replicas_refuse_to_write
            a_fenced_primary_never_writes_again
            a_lower_ballot_is_refused_by_all_calls
            an_old_primary_rejoins_without_what_it_alone_had
            a_write_that_too_few_confirm_is_ambiguous
        }
        suite! { $fixture, supervised:
            a_lost_primary_is_replaced_and_rejoins_by_itself
            a_quorum_loses_nothing_over_failovers
            a_planned_change_fails_no_write
        }
    };
    ($fixture:ty, $module:ident: $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if !<$fixture as super::suite::Fixture>::is_left_out() {
                super::$module::$name::<$fixture>().await;
            }
        })*
    };
}
pub(crate) use suite;
