//! Sessions between processes, and such as do not belong here.

use tenfold_replication::sim::SimConfig;
use tenfold_replication::{
    ClusterId, Config, Epoch, Error, Lsn, NodeId, Position, Refusal, Session, ShardId, TokenError, Tokens,
};

use super::{ms, rig, three};

#[tokio::test(start_paused = true)]
async fn a_token_carries_the_guarantee_to_another_process() {
    let rig = three().await;
    let elsewhere = tenfold_replication::Cluster::builder(rig.sim.driver()).nodes(rig.sim.nodes()).build().unwrap();
    elsewhere.ready(ms(1000)).await.unwrap();
    let tokens = Tokens::keyed(&[1; 32]);
    for number in 0..50 {
        let session = Session::new();
        rig.cluster.write(&session, |mut c| async move { c.append(1, number).await }).await.unwrap();
        let session = tokens.parse(&tokens.print(&session)).unwrap();
        let list = elsewhere.read(&session, |mut c| async move { c.list(1).await }).await.unwrap();
        assert_eq!(list.len() as u64, number + 1);
    }
}

/// What is read from one replica is there in the next.
#[tokio::test(start_paused = true)]
async fn reads_of_a_session_never_go_back() {
    let rig = three().await;
    rig.sim.set_replay_delay(NodeId(2), ms(40));
    let (writer, reader) = (Session::new(), Session::new());
    let mut seen = 0;
    for number in 0..500 {
        rig.cluster.write(&writer, |mut c| async move { c.append(1, number).await }).await.unwrap();
        tokio::time::sleep(ms(3)).await;
        let list = rig.cluster.read(&reader, |mut c| async move { c.list(1).await }).await.unwrap();
        assert!(list.len() >= seen, "{} after {seen}", list.len());
        seen = list.len();
    }
    assert!(rig.cluster.stats().reads_by_replica > 400, "{:?}", rig.cluster.stats());
}

#[tokio::test(start_paused = true)]
async fn sessions_of_other_clusters_and_times_are_refused() {
    let config = Config { read_timeout: ms(300), write_timeout: ms(300), ..Config::default() };
    let rig = rig(SimConfig::default(), config).await;
    let cluster = rig.cluster.topology().cluster().unwrap();
    let with = |cluster, epoch, lsn| {
        let session = Session::new();
        session.wrote(cluster, ShardId(0), Position::new(Epoch(epoch), Lsn(lsn))).unwrap();
        session
    };
    let foreign = with(ClusterId(cluster.0 ^ 1), 1, 0);
    let read = rig.cluster.read(&foreign, |mut c| async move { c.list(1).await }).await;
    assert!(matches!(read, Err(Error::Foreign(_))), "{read:?}");
    let write = rig.cluster.write(&foreign, |mut c| async move { c.append(1, 1).await }).await;
    assert!(matches!(write, Err(Error::Foreign(_))), "{write:?}");

    let future = with(cluster, 1, 1_000);
    let read = rig.cluster.read(&future, |mut c| async move { c.list(1).await }).await;
    assert!(matches!(read, Err(Error::FromTheFuture { .. })), "{read:?}");

    let epoch = with(cluster, 9, 0);
    let read = rig.cluster.read(&epoch, |mut c| async move { c.list(1).await }).await;
    assert!(matches!(read, Err(Error::Refused(Refusal::UnknownEpoch(_)))), "{read:?}");
    let write = rig.cluster.write(&epoch, |mut c| async move { c.append(1, 1).await }).await;
    assert!(matches!(write, Err(Error::Refused(Refusal::UnknownEpoch(_)))), "{write:?}");
    assert!(rig.sim.contents(NodeId(0)).is_empty());
    assert_eq!(Tokens::plain().parse("not a token").unwrap_err(), TokenError::Malformed);
}
