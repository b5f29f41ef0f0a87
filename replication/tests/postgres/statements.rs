//! Statements, transactions and connections as callers meet them.

use tenfold_replication::driver::postgres::{PgConfig, PgDriver, PgError};
use tenfold_replication::driver::{Access, Class, Driver, Mark};
use tenfold_replication::{Cluster, Epoch, Error, Lsn, Mode, Node, NodeId, Position, Session};

use super::fixture::{Servers, is_left_out};
use super::suite::Fixture;

/// One server serves them all, one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_do_what_they_say() {
    if is_left_out() {
        return;
    }
    let servers = Servers::start(1, Mode::Asynchronous).await;
    a_failed_transaction_is_not_committed(&servers).await;
    a_savepoint_saves_a_transaction(&servers).await;
    a_mark_says_whether_something_was_written(&servers).await;
    a_statement_that_failed_can_be_told_from_one_that_may_have_run(&servers).await;
    a_prepared_statement_outlives_a_change_of_the_schema(&servers).await;
    a_write_that_discards_the_statements_of_its_connection_runs_once(&servers).await;
    a_failure_behind_a_commit_is_not_one_of_the_write(&servers).await;
    who_ends_or_begins_transactions_by_hand_is_told_that_nobody_knows(&servers).await;
    a_transaction_sees_one_snapshot(&servers).await;
    a_connection_that_the_server_ended_is_not_handed_out(&servers).await;
    a_role_that_may_not_look_is_refused(&servers).await;
    nobody_listens(&servers).await;
}

#[tokio::test]
async fn a_mark_is_skipped_where_the_connection_shows_enough() {
    if is_left_out() {
        return;
    }
    let servers = Servers::with(2, Mode::Asynchronous, PgConfig::default()).await;
    let (mut replica, mut primary) = (servers.connect(1, Access::Read).await, servers.connect(0, Access::Read).await);
    Servers::list(&mut replica, 3).await.unwrap();
    let shown = servers.driver.take_mark(&mut replica).position.unwrap();
    let further = Position::new(shown.epoch, Lsn(shown.lsn.0 + (1 << 30)));
    let other_epoch = Position::new(Epoch(shown.epoch.0 + 1), shown.lsn);
    for (floor, is_skipped) in [(None, true), (Some(shown), true), (Some(further), false), (Some(other_epoch), false)] {
        servers.driver.skip_mark(&mut replica, floor);
        Servers::list(&mut replica, 3).await.unwrap();
        assert_eq!(servers.driver.take_mark(&mut replica).position.is_none(), is_skipped, "{floor:?}");
        // For one read only.
        Servers::list(&mut replica, 3).await.unwrap();
        assert!(servers.driver.take_mark(&mut replica).position.is_some());
    }
    // What a primary has logged it may not show yet.
    servers.driver.skip_mark(&mut primary, Some(Position::new(shown.epoch, Lsn(1))));
    Servers::list(&mut primary, 3).await.unwrap();
    assert!(servers.driver.take_mark(&mut primary).position.is_some());
}

/// The server answers a commit with a rollback then, and calls it success.
async fn a_failed_transaction_is_not_committed(servers: &Servers) {
    let mut c = servers.connect(0, Access::Write).await;
    servers.driver.begin(&mut c, Access::Write).await.unwrap();
    Servers::append(&mut c, 1, 1).await.unwrap();
    c.execute("select 1 / 0", &[]).await.unwrap_err();
    let error = servers.driver.commit(&mut c).await.unwrap_err();
    assert!(matches!(error, PgError::Failed) && servers.driver.classify(&error) == Class::Statement);
    assert_eq!(servers.driver.take_mark(&mut c), Mark::default());
    assert!(servers.driver.is_open(&c));
    assert!(servers.list_of(0, 1).await.is_empty());
}

async fn a_savepoint_saves_a_transaction(servers: &Servers) {
    let mut c = servers.connect(0, Access::Write).await;
    servers.driver.begin(&mut c, Access::Write).await.unwrap();
    Servers::append(&mut c, 2, 1).await.unwrap();
    c.batch("savepoint here").await.unwrap();
    c.batch("select 1 / 0").await.unwrap_err();
    c.batch("rollback to here").await.unwrap();
    servers.driver.commit(&mut c).await.unwrap();
    assert!(servers.driver.take_mark(&mut c).wrote);
    assert_eq!(servers.list_of(0, 2).await, [1]);
}

async fn a_mark_says_whether_something_was_written(servers: &Servers) {
    let mut c = servers.connect(0, Access::Write).await;
    Servers::list(&mut c, 3).await.unwrap();
    let read = servers.driver.take_mark(&mut c);
    assert!(!read.wrote && read.position.is_some());
    servers.driver.begin(&mut c, Access::Write).await.unwrap();
    Servers::list(&mut c, 3).await.unwrap();
    servers.driver.commit(&mut c).await.unwrap();
    assert!(!servers.driver.take_mark(&mut c).wrote);
    c.query("insert into entry(key, number) values (3, 3) returning id", &[]).await.unwrap();
    let wrote = servers.driver.take_mark(&mut c);
    assert!(wrote.wrote && wrote.position > read.position);
}

async fn a_statement_that_failed_can_be_told_from_one_that_may_have_run(servers: &Servers) {
    let mut c = servers.connect(0, Access::Write).await;
    c.batch("create table one(id int primary key deferrable initially deferred)").await.unwrap();
    c.execute("insert into one values (1)", &[]).await.unwrap();
    // The commit itself fails here.
    let twice = c.execute("insert into one values (1)", &[]).await.unwrap_err();
    assert_eq!(servers.driver.classify(&twice), Class::Statement);
    assert_eq!(twice.server().map(|error| error.code().code()), Some("23505"));
    let mistyped = c.execute("insert into one values ($1)", &[&"one"]).await.unwrap_err();
    assert_eq!(servers.driver.classify(&mistyped), Class::Statement, "{mistyped:?}");
    let pid = c.query("select pg_backend_pid()::text", &[]).await.unwrap()[0].get::<_, String>(0);
    let sleep = tokio::spawn(async move { c.execute("select pg_sleep(60)", &[]).await.unwrap_err() });
    let asleep = format!("select wait_event from pg_stat_activity where pid = {pid}");
    while servers.ask(0, &asleep).await.as_deref() != Some("PgSleep") {}
    servers.tell(0, &format!("select pg_terminate_backend({pid})")).await;
    assert_eq!(servers.driver.classify(&sleep.await.unwrap()), Class::Gone);
}

async fn a_prepared_statement_outlives_a_change_of_the_schema(servers: &Servers) {
    let cluster = Cluster::builder(servers.driver()).nodes(servers.nodes()).build().unwrap();
    cluster.observe().await;
    let session = Session::new();
    servers.tell(0, "create table wide(a int)").await;
    for (width, change) in [(1, "alter table wide add b int"), (2, "alter table wide add c int"), (3, "select")] {
        let write = cluster.transaction(&session, |mut c| async move {
            Ok(c.query("select * from wide right join (select) x on true", &[]).await?[0].len())
        });
        assert_eq!(write.await.unwrap(), width);
        servers.tell(0, change).await;
    }
    assert!(cluster.stats().writes_repeated > 0, "it was prepared anew in another try");
}

/// The question where the write is has no statement any more: as if the write had failed, it was sent again.
async fn a_write_that_discards_the_statements_of_its_connection_runs_once(servers: &Servers) {
    let cluster = Cluster::builder(servers.driver()).nodes(servers.nodes()).build().unwrap();
    cluster.observe().await;
    let session = Session::new();
    let sql = "insert into entry(key, number) values (5, 1); deallocate all";
    let write = cluster.write(&session, |mut c| async move { c.batch(sql).await }).await;
    assert_eq!(servers.list_of(0, 5).await, [1], "{write:?}");
    assert!(matches!(write, Err(Error::Ambiguous(Some(PgError::AfterCommit(_))))), "{write:?}");
    let read = cluster.read(&session, |mut c| async move { c.batch("deallocate all").await }).await;
    eprintln!("a read without its statements: {read:?}");
    for number in 2..5 {
        cluster.write(&session, |mut c| async move { Servers::append(&mut c, 5, number).await }).await.unwrap();
        let list = cluster.read(&session, |mut c| async move { Servers::list(&mut c, 5).await }).await.unwrap();
        assert_eq!(list.len(), usize::try_from(number).unwrap(), "the connection was used again");
    }
}

/// What is asked behind a commit runs out of memory here: where it was, and whether a standby has it.
async fn a_failure_behind_a_commit_is_not_one_of_the_write(servers: &Servers) {
    let body = "begin raise exception using errcode = '53200'; end";
    let address = servers.nodes[0].address();
    let waiting = format!(r"{address} options='-c tenfold.semi_synchronous=9000\\ n1'");
    let questions = [("pg_current_wal_insert_lsn", address, false), ("pg_current_wal_flush_lsn", &waiting, true)];
    for (number, (question, address, has_position)) in (1..).zip(questions) {
        servers.tell(0, &format!("create schema trap_{number}")).await;
        let function = format!("trap_{number}.{question}()");
        servers.tell(0, &format!("create function {function} returns pg_lsn language plpgsql as $${body}$$")).await;
        let cluster = Cluster::builder(servers.driver()).node(Node::new(NodeId(0), address)).build().unwrap();
        cluster.observe().await;
        let sql = format!(
            "with written as (insert into entry(key, number) values (6, {number}))
             select set_config('search_path', 'trap_{number}, pg_catalog, public', false)"
        );
        let (session, sql) = (Session::new(), sql.as_str());
        let write = cluster.write(&session, |mut c| async move { c.query(sql, &[]).await.map(|_| ()) }).await;
        assert!(matches!(write, Err(Error::Ambiguous(Some(PgError::AfterCommit(_))))), "{question}: {write:?}");
        assert_eq!(session.position(Default::default()).is_some(), has_position);
    }
    assert_eq!(servers.list_of(0, 6).await, [1, 2]);
}

/// A closure may run any SQL, also such as ends the transaction that it is run in.
async fn who_ends_or_begins_transactions_by_hand_is_told_that_nobody_knows(servers: &Servers) {
    let cluster = Cluster::builder(servers.driver()).node(servers.nodes[0].clone()).build().unwrap();
    cluster.observe().await;
    let session = Session::new();
    let insert = |number: u32| format!("insert into entry(key, number) values (7, {number})");
    // What was committed before the error stays.
    let ended = cluster.transaction(&session, |mut c| {
        let sql = [insert(1), "commit".into(), insert(2), "select 1 / 0".into()];
        async move {
            for sql in &sql {
                c.batch(sql).await?;
            }
            Ok(())
        }
    });
    assert!(matches!(ended.await, Err(Error::Ambiguous(Some(_)))));
    for end in ["commit", "rollback"] {
        let ended = cluster.transaction(&session, |mut c| async move { c.batch(end).await }).await;
        assert!(matches!(ended, Err(Error::Ambiguous(Some(PgError::Transaction)))), "{ended:?}");
    }
    assert_eq!(servers.list_of(0, 7).await, [1, 2]);

    // What nobody would commit is not told as done, and gets into nobody's hands.
    let sql = format!("begin; {}", insert(3));
    let begun = cluster.write(&session, |mut c| {
        let sql = sql.clone();
        async move { c.batch(&sql).await }
    });
    assert!(matches!(begun.await, Err(Error::Ambiguous(Some(PgError::Transaction)))));
    cluster.write(&session, |mut c| async move { Servers::append(&mut c, 7, 4).await }).await.unwrap();
    assert_eq!(servers.list_of(0, 7).await, [1, 2, 4]);
}

async fn a_transaction_sees_one_snapshot(servers: &Servers) {
    let mut c = servers.connect(0, Access::Read).await;
    servers.driver.begin(&mut c, Access::Read).await.unwrap();
    assert!(Servers::list(&mut c, 4).await.unwrap().is_empty());
    Servers::append(&mut servers.connect(0, Access::Write).await, 4, 1).await.unwrap();
    assert!(Servers::list(&mut c, 4).await.unwrap().is_empty());
    servers.driver.commit(&mut c).await.unwrap();
    assert_eq!(Servers::list(&mut c, 4).await.unwrap(), [1]);
}

async fn a_connection_that_the_server_ended_is_not_handed_out(servers: &Servers) {
    let mut c = servers.connect(0, Access::Read).await;
    let pid = c.query("select pg_backend_pid()::text", &[]).await.unwrap()[0].get::<_, String>(0);
    assert!(servers.driver.is_open(&c));
    servers.tell(0, &format!("select pg_terminate_backend({pid})")).await;
    // Nothing is sent to find out.
    while servers.driver.is_open(&c) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let abandoned = tokio::time::timeout(std::time::Duration::from_millis(1), c.query("select pg_sleep(9)", &[])).await;
    assert!(abandoned.is_err() || abandoned.is_ok_and(|result| result.is_err()));
    assert!(!servers.driver.is_open(&c));
}

async fn a_role_that_may_not_look_is_refused(servers: &Servers) {
    servers.tell(0, "create role stranger login").await;
    let address = servers.nodes[0].address().replace("user=postgres", "user=stranger");
    let refused = servers.driver.connect(&Node::new(NodeId(0), address.clone()), Access::Read).await.unwrap_err();
    assert!(matches!(refused, PgError::NotMonitor), "{refused:?}");
    servers.tell(0, "grant pg_monitor to stranger").await;
    servers.driver.connect(&Node::new(NodeId(0), address), Access::Read).await.unwrap();
}

async fn nobody_listens(servers: &Servers) {
    let driver = PgDriver::new(PgConfig::default());
    let nowhere = Node::new(NodeId(9), "host=127.0.0.1 port=1 user=postgres");
    let refused = driver.observe(&nowhere).await.unwrap_err();
    assert_eq!(driver.classify(&refused), Class::NotSent, "{refused:?}");
    let cluster = Cluster::builder(driver).node(nowhere).build().unwrap();
    let read = cluster.read(&Session::new(), |mut c| async move { Servers::list(&mut c, 1).await }).await;
    assert!(matches!(read, Err(Error::Refused(_) | Error::Unavailable(_))), "{read:?}");
    drop(servers.driver());
}
