//! Counters on two PostgreSQL servers, of which a slot moves from one to the other while it is written.
//!
//! ```sh
//! cargo run --release -p tenfold-replication --features postgres --example shards -- [ADDRESS ADDRESS]
//! ```
//!
//! An address is what tokio-postgres understands, as in `host=127.0.0.1 port=5432 user=postgres`; the servers' databases
//! should be empty. Without addresses it starts two servers with `scripts/pg-cluster`, and ends them.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenfold_replication::driver::postgres::{PgConfig, PgDriver, PgError};
use tenfold_replication::driver::{Access, Driver};
use tenfold_replication::shard::{Move, Sessions, ShardError, Shards, Slot, SlotMap};
use tenfold_replication::{Cluster, Node, NodeId, ShardId};

#[path = "../failover/interrupt.rs"]
mod interrupt;
mod servers;
mod store;

use store::{Counters, SCHEMA};

type Failure = Box<dyn Error>;
type Fleet = Shards<PgDriver, Counters>;

const KEYS: u64 = 100;
const WRITERS: u64 = 4;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let addresses: Vec<_> = std::env::args().skip(1).filter(|word| word != "--quick").collect();
    if addresses.is_empty() && std::env::var_os("TENFOLD_WITHOUT_POSTGRES").is_some() {
        println!("left out: TENFOLD_WITHOUT_POSTGRES is set");
        return Ok(());
    }
    interrupt::or_interrupted(count_on(addresses)).await
}

async fn count_on(mut addresses: Vec<String>) -> Result<(), Failure> {
    let mut servers = Vec::new();
    while addresses.len() < 2 {
        let (server, address) = servers::Server::start().await?;
        servers.push(server);
        addresses.push(address);
    }
    let driver = PgDriver::new(PgConfig::default());
    let mut clusters = Vec::new();
    for (shard, address) in (0..).zip(addresses) {
        let node = Node::new(NodeId(0), address);
        driver.connect(&node, Access::Write).await?.connection.batch(SCHEMA).await?;
        let cluster = Cluster::builder(driver.clone()).node(node).shard(ShardId(shard)).build()?;
        tokio::spawn(cluster.clone().drive());
        cluster.ready(Duration::from_secs(10)).await?;
        clusters.push(cluster);
    }
    // In a program of several processes the map is kept where all of them find it, and newer ones are published to each.
    let fleet = Shards::new(SlotMap::new(8, &[ShardId(0), ShardId(1)])?, clusters, Counters)?;

    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (0..WRITERS).map(|number| tokio::spawn(write(fleet.clone(), number, Arc::clone(&is_over)))).collect();
    for slot in [0, 1] {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let map = fleet.move_slot(Move { slot: Slot(slot), from: ShardId(0), to: ShardId(1) }).await?;
        println!("slot {slot} has moved; {map}");
    }
    is_over.store(true, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += writer.await??;
    }

    let sessions = Sessions::new();
    let parts = fleet.gather(&sessions, |shard, map, mut db| async move {
        let slots: Vec<i32> = map.slots_of(shard).map(|slot| slot.0.into()).collect();
        let sql = "select coalesce(sum(number), 0)::bigint from counter where slot = any($1)";
        Ok(db.query(sql, &[&slots]).await?[0].get::<_, i64>(0))
    });
    let mut counted = 0;
    for (shard, part) in parts.await {
        let part = part?;
        println!("shard {} counts {part}", shard.0);
        counted += part;
    }
    assert_eq!(counted, written);
    println!("{written} were added while slots moved, and none is lost or doubled");
    Ok(())
}

/// Adds ones until it is over; gives how many.
async fn write(fleet: Fleet, first: u64, is_over: Arc<AtomicBool>) -> Result<i64, ShardError<PgError>> {
    let (sessions, mut written) = (Sessions::new(), 0);
    for number in (0..KEYS).cycle().skip(first as usize * 25) {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("user/{number}");
        let slot = i32::from(fleet.map().slot(key.as_bytes()).0);
        let add = fleet.write(&sessions, key.as_bytes(), |mut db| {
            let key = key.clone();
            async move {
                let sql =
                    "insert into counter values ($1, $2, 1) on conflict (key) do update set number = counter.number + 1";
                db.execute(sql, &[&key, &slot]).await
            }
        });
        add.await?;
        written += 1;
    }
    Ok(written)
}
