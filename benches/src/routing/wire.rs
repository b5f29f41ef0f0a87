//! What goes over the wire for a call: whether a token costs a round trip, and what it costs instead.
//!
//! A tap stands before each server and reads along. Connections that the cluster observes its nodes by pass uncounted: only
//! those of reads say when they are opened that they do not write.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tenfold_replication::driver::postgres::{PgConfig, PgDriver};
use tenfold_replication::{Cluster, ReadOptions, Session};
use tokio::runtime::Builder;
use tokio_postgres::{Config, NoTls};

use super::Trouble;
use super::row::WireRow;
use super::servers::{Servers, nodes_at};
use crate::report::rounded;

/// What a connection that reads says of itself when it is opened.
const READ_ONLY: &str = "default_transaction_read_only=on";

const CALLS: u32 = 1_000;

/// What was said.
#[derive(Debug, Default)]
struct Said {
    turns: AtomicU64,
    statements: AtomicU64,
    bytes: AtomicU64,
}

impl Said {
    fn now(&self) -> [u64; 3] {
        [&self.turns, &self.statements, &self.bytes].map(|count| count.load(Ordering::SeqCst))
    }
}

/// Counts what the client alone says, and what reads of the cluster say.
///
/// # Errors
///
/// What servers and clients complain of.
pub fn run() -> Result<Vec<WireRow>, Trouble> {
    let servers = Servers::start("wire")?;
    let said = Arc::new(Said::default());
    let mut ports = Vec::new();
    for port in servers.ports() {
        ports.push(tap(*port, &said)?);
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut config = Config::new();
        config.host("127.0.0.1").port(ports[1]).user("postgres").dbname("postgres").options(format!("-c {READ_ONLY}"));
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        let statement = client.prepare("select 1").await?;
        client.query(&statement, &[]).await?;
        let before = said.now();
        for _ in 0..CALLS {
            client.query(&statement, &[]).await?;
        }
        let alone = row("client", before, said.now());

        let driver = PgDriver::new(PgConfig::default());
        let cluster = Cluster::builder(driver).nodes(nodes_at(&ports)).build()?;
        tokio::spawn(cluster.clone().drive());
        cluster.ready(Duration::from_secs(5)).await?;
        let mut rows = vec![alone];
        for (name, options) in candidates() {
            let session = Session::new();
            let options = options.without_hedge();
            let read = || cluster.read_with(&session, &options, |mut c| async move { c.query("select 1", &[]).await });
            // Connections are opened, and the statement is prepared, on both replicas.
            for _ in 0..100 {
                read().await?;
            }
            let before = said.now();
            for _ in 0..CALLS {
                read().await?;
            }
            rows.push(row(name, before, said.now()));
        }
        Ok(rows)
    })
}

fn candidates() -> Vec<(&'static str, ReadOptions)> {
    vec![("tenfold-read", ReadOptions::new()), ("tenfold-untracked", ReadOptions::new().untracked())]
}

fn row(client: &'static str, before: [u64; 3], after: [u64; 3]) -> WireRow {
    let each = |index: usize| rounded((after[index] - before[index]) as f64 / f64::from(CALLS), 2);
    WireRow { scenario: "wire", client, round_trips: each(0), statements: each(1), bytes: each(2) }
}

/// Listens before a server; ends with this process.
fn tap(server: u16, said: &Arc<Said>) -> io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let said = Arc::clone(said);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Whoever was to be connected sees that it is not.
            let _ = join(client, server, &said);
        }
    });
    Ok(port)
}

/// Copies both ways, and counts if the connection is one of those that count.
fn join(mut client: TcpStream, server: u16, said: &Arc<Said>) -> io::Result<()> {
    let mut upstream = TcpStream::connect(("127.0.0.1", server))?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (mut to_client, mut from_upstream) = (client.try_clone()?, upstream.try_clone()?);
    let server_spoke = Arc::new(AtomicBool::new(true));
    let counts = Arc::new(AtomicBool::new(false));
    let (spoke, counted, sum) = (Arc::clone(&server_spoke), Arc::clone(&counts), Arc::clone(said));
    thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Ok(length @ 1..) = from_upstream.read(&mut buffer) {
            spoke.store(true, Ordering::SeqCst);
            if counted.load(Ordering::SeqCst) {
                sum.bytes.fetch_add(length as u64, Ordering::SeqCst);
            }
            if to_client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let said = Arc::clone(said);
    thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        let mut messages = Messages::default();
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            let bytes = &buffer[..length];
            if messages.is_first() && String::from_utf8_lossy(bytes).contains(READ_ONLY) {
                counts.store(true, Ordering::SeqCst);
            }
            let statements = messages.statements_in(bytes);
            if counts.load(Ordering::SeqCst) {
                said.bytes.fetch_add(length as u64, Ordering::SeqCst);
                said.statements.fetch_add(statements, Ordering::SeqCst);
                said.turns.fetch_add(u64::from(server_spoke.swap(false, Ordering::SeqCst)), Ordering::SeqCst);
            }
            if upstream.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = upstream.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Cuts what a client says into messages: a type, a length that counts itself, a body. The first has no type.
#[derive(Debug, Default)]
struct Messages {
    has_begun: bool,
    pending: Vec<u8>,
}

impl Messages {
    fn is_first(&self) -> bool {
        !self.has_begun
    }

    /// How many of them execute something.
    fn statements_in(&mut self, bytes: &[u8]) -> u64 {
        self.pending.extend_from_slice(bytes);
        let mut count = 0;
        loop {
            let head = usize::from(self.has_begun);
            let Some(length) = self.pending.get(head..head + 4) else { return count };
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
            if self.pending.len() < head + length {
                return count;
            }
            count += u64::from(self.has_begun && matches!(self.pending[0], b'E' | b'Q'));
            self.pending.drain(..head + length);
            self.has_begun = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_arrive() {
        let mut said = vec![0, 0, 0, 8, b'E', b'E', b'E', b'E'];
        for kind in *b"BESQX" {
            said.extend([kind, 0, 0, 0, 5, b'E']);
        }
        for size in 1..said.len() {
            let mut messages = Messages::default();
            let count: u64 = said.chunks(size).map(|bytes| messages.statements_in(bytes)).sum();
            assert_eq!(count, 2, "{size}");
        }
    }
}
