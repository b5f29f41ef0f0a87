//! r41: what a confirmation costs, by what it promises.

use std::path::Path;
use std::time::Duration;

use tenfold_mq::{Config, Durability, Queue};
use tenfold_rig::{RoleResult, Table, now};

const SENDERS: usize = 16;
const BODY: &[u8] = &[7; 100];

/// Sends with each policy for `time`, in a folder of its own below `dir`, and says what each lost at worst.
///
/// # Errors
///
/// A queue cannot be opened or fails.
pub fn policies(dir: &Path, time: Duration) -> RoleResult<Table> {
    let title =
        format!("What a confirmation costs: {SENDERS} senders of {} bytes, each waiting for its own", BODY.len());
    let mut table = Table::new(title, ["policy", "messages/s", "lost by kill -9", "lost by a power cut"]);
    let rows = [
        ("always", Some(Durability::Always), "none", "none"),
        ("interval 50 ms", Some(Durability::Interval(Duration::from_millis(50))), "none", "the last 50 ms"),
        ("os", Some(Durability::Os), "none", "the last 30 s or so"),
        ("in memory", None, "all", "all"),
    ];
    for (name, durability, by_kill, by_power) in rows {
        let queue = match durability {
            Some(durability) => Queue::open(dir.join(name), Config { durability, ..Config::default() })?,
            None => Queue::in_memory(Config::default())?,
        };
        let rate = rate(&queue, time);
        queue.close()?;
        table.row([name.to_owned(), format!("{rate:.0}"), by_kill.to_owned(), by_power.to_owned()]);
    }
    Ok(table)
}

fn rate(queue: &Queue, time: Duration) -> f64 {
    let start = now();
    let send = || {
        let producer = queue.producer();
        let mut sent = 0_u64;
        while now() - start < time && producer.send(BODY).is_ok() {
            sent += 1;
        }
        sent
    };
    let sent: u64 = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(send)).collect();
        senders.into_iter().map(|sender| sender.join().unwrap_or(0)).sum()
    });
    sent as f64 / (now() - start).as_secs_f64()
}
