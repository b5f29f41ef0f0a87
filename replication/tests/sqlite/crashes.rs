//! A process that writes is killed, over and over; its files are opened again, and replicas catch up.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tenfold_replication::driver::sqlite::{SqliteDriver, SqliteError};
use tenfold_replication::driver::{Access, Ballot, Driver, Promotion};
use tenfold_replication::{Epoch, Mode, Node, NodeId, Rng};

const DIR: &str = "TENFOLD_CHILD_DIR";
/// Writes what a deferred key forbids, instead.
const ORPHANS: &str = "TENFOLD_CHILD_ORPHANS";
const SCHEMA: &str = "create table entry(id integer primary key, filling blob);
                      create table total(id integer primary key, entries integer)";

fn rounds() -> u64 {
    std::env::var("TENFOLD_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(24)
}

fn nodes(dir: &str) -> Vec<Node> {
    (0..3).map(|id| Node::new(NodeId(id), format!("{dir}/n{id}"))).collect()
}

/// What is killed: writes for ever, and says after each commit how many there are.
#[test]
fn a_child_that_writes() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (driver, nodes) = (SqliteDriver::default(), nodes(&dir));
        for node in nodes.clone() {
            let driver = driver.clone();
            tokio::spawn(async move { driver.serve(&node).await });
        }
        let primary = primary(&driver, &nodes).await;
        let mut writer = driver.connect(&nodes[primary], Access::Write).await.unwrap().connection;
        while std::env::var_os(ORPHANS).is_some() {
            writer.execute("insert into child values (1, 77)", ()).await.unwrap_err();
            println!("entries 1");
        }
        loop {
            let entries = writer.run(add).await.unwrap();
            println!("entries {entries}");
        }
    });
}

fn add(db: &rusqlite::Connection) -> Result<i64, SqliteError> {
    let entries: i64 = db.query_row("select coalesce(max(entries), 0) + 1 from total", [], |row| row.get(0))?;
    db.execute("insert into entry values (?1, zeroblob(?2))", (entries, entries * 37 % 3_000))?;
    db.execute("insert or replace into total values (0, ?1)", [entries])?;
    Ok(entries)
}

async fn primary(driver: &SqliteDriver, nodes: &[Node]) -> usize {
    let mut newest = (Epoch(0), 0);
    for (index, node) in nodes.iter().enumerate() {
        if let Ok(seen) = driver.observe(node).await {
            if seen.writable {
                newest = newest.max((seen.history.current(), index));
            }
        }
    }
    newest.1
}

fn spawn(dir: &str, is_orphaning: bool) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "crashes::a_child_that_writes", "--nocapture", "--test-threads=1"]).env(DIR, dir);
    if is_orphaning {
        command.env(ORPHANS, "");
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs it until it is killed after so long; gives the last count that it acknowledged.
fn run_and_kill(dir: &str, after: Duration, is_orphaning: bool) -> i64 {
    let mut child = spawn(dir, is_orphaning);
    let output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let counts = BufReader::new(output).lines().map_while(Result::ok);
        let counts = counts.filter_map(|line| line.rsplit_once("entries ").and_then(|(_, count)| count.parse().ok()));
        counts.fold(0, |_, count: i64| count)
    });
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

async fn count(driver: &SqliteDriver, node: &Node) -> (i64, i64) {
    let mut reader = driver.connect(node, Access::Read).await.unwrap().connection;
    let counts = reader.run(|db| {
        let entries = db.query_row("select count(*) from entry", [], |row| row.get(0))?;
        let total = db.query_row("select coalesce(max(entries), 0) from total", [], |row| row.get(0))?;
        Ok((entries, total))
    });
    counts.await.unwrap()
}

/// Serves all nodes until they hold the same as the primary; gives their hash.
async fn converge(dir: &str) -> (SqliteDriver, i64) {
    let (driver, nodes) = (SqliteDriver::default(), nodes(dir));
    let index = primary(&driver, &nodes).await;
    let serving = nodes.iter().map(|node| {
        let (driver, node) = (driver.clone(), node.clone());
        tokio::spawn(async move { driver.serve(&node).await })
    });
    let serving: Vec<_> = serving.collect();
    let (hash, last) = driver.content_hash(&nodes[index]).await.unwrap();
    for node in &nodes {
        let mut reached = false;
        for _ in 0..4_000 {
            reached = driver.observe(node).await.is_ok_and(|seen| seen.replayed >= last);
            if reached {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(reached, "{node:?} at {:?}, primary at {last:?}", driver.observe(node).await);
        assert_eq!(driver.content_hash(node).await.unwrap(), (hash, last), "{node:?}");
    }
    serving.iter().for_each(tokio::task::JoinHandle::abort);
    for task in serving {
        let _ = task.await;
    }
    let (entries, total) = count(&driver, &nodes[index]).await;
    assert_eq!(entries, total, "a transaction is there in part");
    (driver, total)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_replicas_converge_after_each_kill() {
    let seed = 5;
    println!("seed {seed}, {} rounds", rounds());
    let mut rng = Rng::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let (first, nodes) = (SqliteDriver::default(), nodes(dir));
    first.create(&nodes, Mode::Asynchronous).await.unwrap();
    first.connect(&nodes[0], Access::Write).await.unwrap().connection.migrate(SCHEMA).await.unwrap();
    drop(first);
    let (mut held, mut wrote) = (0, 0);
    for round in 0..rounds() {
        let acknowledged = run_and_kill(dir, Duration::from_millis(60 + rng.below(200)), false);
        let (driver, total) = converge(dir).await;
        assert!(total >= acknowledged.max(held), "round {round}: {acknowledged} acknowledged, {total} there");
        assert!(total <= acknowledged.max(held) + 1, "round {round}: more than was under way");
        wrote += u32::from(total > held);
        held = total;
        // Now and then another becomes primary, while nobody writes.
        if rng.below(4) == 0 {
            let target = rng.below(3) as usize;
            fail_over(&driver, &nodes, target, round + 2).await;
        }
    }
    println!("{held} transactions");
    assert!(u64::from(wrote) * 2 >= rounds(), "the child hardly ever wrote: {wrote} rounds");
}

/// A process that dies while such a commit fails leaves nothing of it in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_deferred_key_forbids_is_not_replayed_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let (first, nodes) = (SqliteDriver::default(), nodes(dir));
    first.create(&nodes, Mode::Asynchronous).await.unwrap();
    let schema = "create table parent(id integer primary key);
                  create table child(id integer primary key, p references parent deferrable initially deferred)";
    first.connect(&nodes[0], Access::Write).await.unwrap().connection.migrate(schema).await.unwrap();
    let before = first.observe(&nodes[0]).await.unwrap().received;
    drop(first);
    let mut tried = 0;
    for round in 0..rounds().min(12) {
        tried += run_and_kill(dir, Duration::from_millis(150 + 20 * round), true);
        let driver = SqliteDriver::default();
        assert_eq!(driver.observe(&nodes[0]).await.unwrap().received, before, "round {round}");
    }
    assert!(tried > 0, "the child never got to it");
}

async fn fail_over(driver: &SqliteDriver, nodes: &[Node], target: usize, epoch: u64) {
    let ballot = Ballot { epoch: Epoch(epoch), coordinator: 1 };
    for node in nodes {
        driver.fence(node, ballot).await.unwrap();
    }
    let replicas = nodes.iter().map(Node::id).collect();
    let promotion = Promotion { ballot, mode: Mode::Asynchronous, replicas };
    driver.promote(&nodes[target], &promotion).await.unwrap();
    for node in nodes.iter().filter(|node| node.id() != nodes[target].id()) {
        let rejoined = driver.rejoin(node, &nodes[target], ballot).await.unwrap();
        assert_eq!(rejoined.discarded, None, "all had the same");
    }
}
