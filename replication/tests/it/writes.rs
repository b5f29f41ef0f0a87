//! Writes and transactions, and what may be repeated.

use std::sync::atomic::{AtomicU32, Ordering};

use tenfold_replication::sim::{SimConfig, SimError};
use tenfold_replication::{Config, Error, Mode, NodeId, PoolConfig, Session};

use super::{ms, rig, three};

#[tokio::test(start_paused = true)]
async fn a_transaction_is_all_or_nothing_and_repeated_after_a_conflict() {
    let rig = three().await;
    let (session, tries) = (Session::new(), &AtomicU32::new(0));
    let done = rig.cluster.transaction(&session, |mut c| async move {
        c.append(1, 1).await?;
        c.append(2, 2).await?;
        assert_eq!(c.list(2).await?, [2], "its own writes are seen");
        if tries.fetch_add(1, Ordering::Relaxed) < 2 {
            c.conflict().await?;
        }
        Ok("done")
    });
    assert_eq!(done.await.unwrap(), "done");
    assert_eq!(rig.sim.contents(NodeId(0)), [(1, vec![1]), (2, vec![2])]);

    let failed = rig.cluster.transaction(&session, |mut c| async move {
        c.append(1, 9).await?;
        c.fail().await
    });
    assert!(matches!(failed.await, Err(Error::Statement(SimError::Syntax))));
    let undone = rig.cluster.transaction(&session, |mut c| async move {
        c.append(1, 9).await?;
        c.set_rollback_only();
        Ok(5)
    });
    assert_eq!(undone.await.unwrap(), 5);
    assert_eq!(rig.sim.contents(NodeId(0))[0], (1, vec![1]));
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_repeated_so_often_and_no_more() {
    let rig = three().await;
    let (session, tries) = (Session::new(), &AtomicU32::new(0));
    let always = rig.cluster.transaction(&session, |mut c| async move {
        tries.fetch_add(1, Ordering::Relaxed);
        c.conflict().await
    });
    assert!(matches!(always.await, Err(Error::Unavailable(Some(SimError::Conflict)))));
    assert_eq!(tries.load(Ordering::Relaxed), Config::default().write_tries);
}

/// Such as a transaction that crashes the server each time.
#[tokio::test(start_paused = true)]
async fn what_breaks_its_connection_each_time_is_not_repeated_for_ever() {
    for error in [SimError::ConnectionLost, SimError::ReadOnly] {
        let rig = three().await;
        let (session, tries) = (Session::new(), &AtomicU32::new(0));
        let always = rig.cluster.transaction(&session, |_| async move {
            tries.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(error)
        });
        assert!(matches!(always.await, Err(Error::Unavailable(Some(_)))));
        assert_eq!(tries.load(Ordering::Relaxed), Config::default().write_tries);
    }
}

/// Nobody has noticed yet that the primary is gone: it is not asked again and again without a pause.
#[tokio::test(start_paused = true)]
async fn a_write_ends_with_its_time_also_where_the_primary_refuses_at_once() {
    let config = Config { write_timeout: ms(1), observe_interval: ms(60_000), ..Config::default() };
    let rig = rig(SimConfig::default(), config).await;
    tokio::time::sleep(ms(1_000)).await;
    rig.sim.crash(NodeId(0));
    let write = rig.cluster.write(&Session::new(), |mut c| async move { c.append(1, 1).await }).await;
    assert!(matches!(write, Err(Error::Unavailable(Some(SimError::ConnectionRefused)))), "{write:?}");
}

/// The first of two statements was committed: the failure of the second must not do it twice.
#[tokio::test(start_paused = true)]
async fn what_was_half_done_is_not_repeated() {
    let rig = three().await;
    let session = Session::new();
    let half = rig.cluster.write(&session, |mut c| async move {
        c.append(1, 1).await?;
        c.conflict().await
    });
    assert!(matches!(half.await, Err(Error::Ambiguous(Some(SimError::Conflict)))));
    assert_eq!(rig.sim.contents(NodeId(0)), [(1, vec![1])]);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_connection_breaks_is_ambiguous_and_a_transaction_before_its_commit_is_not() {
    let rig = rig(SimConfig { client_delay: (ms(5), ms(5)), ..SimConfig::default() }, Config::default()).await;
    let session = Session::new();
    rig.cluster.write(&session, |mut c| async move { c.append(1, 0).await }).await.unwrap();
    let sim = rig.sim.clone();
    tokio::spawn(async move {
        tokio::time::sleep(ms(7)).await;
        sim.crash(NodeId(0));
        tokio::time::sleep(ms(300)).await;
        sim.restart(NodeId(0));
    });
    let write = rig.cluster.write(&session, |mut c| async move {
        tokio::time::sleep(ms(6)).await;
        c.append(1, 1).await
    });
    assert!(matches!(write.await, Err(Error::Ambiguous(_))));

    let sim = rig.sim.clone();
    rig.cluster.write(&session, |mut c| async move { c.append(1, 2).await }).await.unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(ms(30)).await;
        sim.crash(NodeId(0));
        tokio::time::sleep(ms(300)).await;
        sim.restart(NodeId(0));
    });
    let runs = &AtomicU32::new(0);
    let transaction = rig.cluster.transaction(&session, |mut c| async move {
        runs.fetch_add(1, Ordering::Relaxed);
        c.append(1, 3).await?;
        tokio::time::sleep(ms(50)).await;
        c.append(1, 4).await
    });
    transaction.await.unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    let list = &rig.sim.contents(NodeId(0))[0].1;
    assert!(list.ends_with(&[2, 3, 4]), "{list:?}");
}

#[tokio::test(start_paused = true)]
async fn a_quorum_acknowledges_nothing_that_too_few_have() {
    let sim = SimConfig { mode: Mode::quorum(2), ..SimConfig::default() };
    let rig = rig(sim, Config { write_timeout: ms(500), ..Config::default() }).await;
    let session = Session::new();
    rig.cluster.write(&session, |mut c| async move { c.append(1, 1).await }).await.unwrap();
    assert_eq!(rig.sim.contents(NodeId(1)), rig.sim.contents(NodeId(2)));
    rig.sim.crash(NodeId(2));
    let write = rig.cluster.write(&session, |mut c| async move { c.append(1, 2).await }).await;
    assert!(matches!(write, Err(Error::Ambiguous(_))), "{write:?}");
}

#[tokio::test(start_paused = true)]
async fn pools_are_bounded_and_say_when_they_are_exhausted() {
    let pool = PoolConfig { max_connections: 2, max_waiting: 3, timeout: ms(50), ..PoolConfig::default() };
    let rig = rig(SimConfig::default(), Config { pool, ..Config::default() }).await;
    let writes = (0..10).map(|number| {
        let cluster = rig.cluster.clone();
        tokio::spawn(async move {
            let session = Session::new();
            let write = cluster.write(&session, |mut c| async move {
                tokio::time::sleep(ms(100)).await;
                c.append(1, number).await
            });
            write.await
        })
    });
    let writes: Vec<_> = writes.collect();
    let (mut done, mut exhausted) = (0, 0);
    for write in writes {
        match write.await.unwrap() {
            Ok(()) => done += 1,
            Err(Error::PoolExhausted(NodeId(0))) => exhausted += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((done, exhausted), (2, 8));
    assert_eq!(rig.sim.contents(NodeId(0))[0].1.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_kept_is_an_error_of_its_own() {
    let rig = three().await;
    let (session, kept) = (Session::new(), &parking_lot::Mutex::new(None));
    let write = rig.cluster.write(&session, |c| async move {
        *kept.lock() = Some(c);
        Ok(())
    });
    assert!(matches!(write.await, Err(Error::ConnectionKept)));
    assert_eq!(rig.cluster.stats().writes_ambiguous, 1);
}

#[tokio::test(start_paused = true)]
async fn writes_that_are_held_back_wait_and_go_on() {
    let rig = rig(SimConfig { client_delay: (ms(5), ms(5)), ..SimConfig::default() }, Config::default()).await;
    let write = |number| {
        let cluster = rig.cluster.clone();
        tokio::spawn(
            async move { cluster.write(&Session::new(), |mut c| async move { c.append(1, number).await }).await },
        )
    };
    let before = write(1);
    tokio::time::sleep(ms(2)).await;
    let held = rig.cluster.hold_writes(ms(1000)).await.unwrap();
    assert!(before.is_finished());
    let after = write(2);
    tokio::time::sleep(ms(300)).await;
    assert_eq!(rig.sim.contents(NodeId(0)), [(1, vec![1])]);
    drop(held);
    after.await.unwrap().unwrap();
    assert_eq!(rig.sim.contents(NodeId(0)), [(1, vec![1, 2])]);
}
