//! Streams of Redis, with its append-only file synced before each reply or each second.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use nix::unistd::Pid;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Connection, RedisResult, cmd, pipe};
use tokio::runtime::Runtime;

use super::super::load::{Lap, Load, WINDOW};
use super::super::{Outcome, Policy, Queue, Sender, Setting, Taker, Trouble, drive};
use super::server::Server;
use crate::clock::Stopwatch;

/// How many messages a consumer is given at a time.
const AHEAD: usize = 100;

struct Redis {
    runtime: Runtime,
    client: Client,
    shared: MultiplexedConnection,
    consumers: AtomicU64,
    server: Server,
}

pub(super) fn open(setting: &Setting<'_>) -> Result<Box<dyn Queue>, Trouble> {
    let policy = if setting.sync == Policy::Always { "always" } else { "everysec" };
    let folder = setting.folder.to_string_lossy().into_owned();
    let server = Server::start("redis-server", |port| {
        let settings = format!("--port {port} --bind 127.0.0.1 --appendonly yes --appendfsync {policy} --daemonize no");
        let mut arguments: Vec<String> = settings.split(' ').map(str::to_owned).collect();
        arguments.extend(["--save".to_owned(), String::new(), "--dir".to_owned(), folder]);
        arguments
    })?;
    let client = Client::open(format!("redis://{}/", server.address()))?;
    wait_until_loaded(&client)?;
    let runtime = drive::runtime()?;
    // A slow disk is what is measured, and not a failure.
    let patient = AsyncConnectionConfig::new().set_response_timeout(None);
    let shared = runtime.block_on(client.get_multiplexed_async_connection_with_config(&patient))?;
    let mut connection = client.get_connection()?;
    // It is there already after a restart.
    let _: RedisResult<()> = cmd("XGROUP").arg(&["CREATE", "q", "g", "0", "MKSTREAM"]).query(&mut connection);
    Ok(Box::new(Redis { runtime, client, shared, consumers: AtomicU64::new(0), server }))
}

/// It accepts connections while it still reads its file.
fn wait_until_loaded(client: &Client) -> Outcome {
    let stopwatch = Stopwatch::start();
    loop {
        let reply =
            client.get_connection().and_then(|mut connection| cmd("XLEN").arg("q").query::<u64>(&mut connection));
        match reply {
            Ok(_) => return Ok(()),
            Err(_) if stopwatch.elapsed() < Duration::from_secs(60) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn add(mut connection: MultiplexedConnection, body: Bytes) -> Outcome {
    let _: String = cmd("XADD").arg("q").arg("*").arg("b").arg(body.as_ref()).query_async(&mut connection).await?;
    Ok(())
}

impl Queue for Redis {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        let connection = self.client.get_connection().ok()?;
        Some(Box::new(RedisClient { connection, ahead: VecDeque::new(), name: String::new() }))
    }

    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        let connection = self.client.get_connection().ok()?;
        let name = self.consumers.fetch_add(1, Ordering::Relaxed).to_string();
        Some(Box::new(RedisClient { connection, ahead: VecDeque::new(), name }))
    }

    fn window(&self, load: &Load) -> Result<Option<Lap>, Trouble> {
        let mut in_flight = FuturesUnordered::new();
        let in_flight = std::cell::RefCell::new(&mut in_flight);
        let submit = |body: &Bytes| {
            let mut in_flight = in_flight.borrow_mut();
            in_flight.push(self.runtime.spawn(add(self.shared.clone(), body.clone())));
            if in_flight.len() < WINDOW {
                return Ok(());
            }
            self.runtime.block_on(in_flight.next()).ok_or("nothing in flight")??
        };
        let settle = || {
            let mut in_flight = in_flight.borrow_mut();
            while let Some(done) = self.runtime.block_on(in_flight.next()) {
                done??;
            }
            Ok(())
        };
        drive::window(load, submit, settle).map(Some)
    }

    fn tasks(&self, load: &Load) -> Result<Option<Lap>, Trouble> {
        let make = || {
            let shared = self.shared.clone();
            Ok(move |body| add(shared.clone(), body))
        };
        drive::tasks(&self.runtime, load, make).map(Some)
    }

    fn held(&self) -> Result<Option<u64>, Trouble> {
        Ok(Some(cmd("XLEN").arg("q").query(&mut self.client.get_connection()?)?))
    }

    fn server(&self) -> Option<Pid> {
        Some(self.server.pid())
    }
}

struct RedisClient {
    connection: Connection,
    ahead: VecDeque<(String, Vec<u8>)>,
    name: String,
}

/// Streams, their entries, the fields of each.
type Reply = Option<Vec<(String, Vec<(String, Vec<Vec<u8>>)>)>>;

impl RedisClient {
    fn read(&mut self, block_ms: Option<usize>) -> Outcome {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg("g").arg(&self.name).arg("COUNT").arg(AHEAD);
        if let Some(block_ms) = block_ms {
            read.arg("BLOCK").arg(block_ms);
        }
        let reply: Reply = read.arg("STREAMS").arg("q").arg(">").query(&mut self.connection)?;
        for (id, mut fields) in reply.into_iter().flatten().flat_map(|(_, entries)| entries) {
            self.ahead.push_back((id, fields.pop().ok_or("an entry without a body")?));
        }
        Ok(())
    }

    fn done(&mut self, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let Some((id, body)) = self.ahead.pop_front() else { return Ok(0) };
        look(&body);
        let mut both = pipe();
        both.cmd("XACK").arg("q").arg("g").arg(&id).ignore().cmd("XDEL").arg("q").arg(&id).ignore();
        both.query::<()>(&mut self.connection)?;
        Ok(1)
    }
}

impl Sender for RedisClient {
    fn send(&mut self, body: &Bytes) -> Outcome {
        let _: String = cmd("XADD").arg("q").arg("*").arg("b").arg(body.as_ref()).query(&mut self.connection)?;
        Ok(())
    }
}

impl Taker for RedisClient {
    fn take(&mut self, _: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        if self.ahead.is_empty() {
            self.read(None)?;
        }
        self.done(look)
    }

    fn take_waiting(&mut self, timeout: Duration, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        if self.ahead.is_empty() {
            self.read(Some(usize::try_from(timeout.as_millis())?))?;
        }
        self.done(look)
    }
}
