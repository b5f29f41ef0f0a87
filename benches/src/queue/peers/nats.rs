//! JetStream of NATS: a work queue on disk, synced before each publish ack or, as it comes, every two minutes.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, Stream};
use async_nats::jetstream::{self, AckKind, Context, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use nix::unistd::Pid;
use tokio::runtime::Runtime;

use super::super::load::{Lap, Load, WINDOW};
use super::super::{Outcome, Policy, Queue, Sender, Setting, Taker, Trouble, drive};
use super::server::Server;
use crate::clock::Stopwatch;

/// The variable that names another program than the one that is installed. From 2.10 on it can sync before it confirms; an
/// older one does not start if told to.
const PROGRAM: &str = "TENFOLD_NATS_SERVER";

/// How many messages a consumer is given at a time.
const AHEAD: usize = 100;

struct Nats {
    runtime: Runtime,
    client: Client,
    context: Context,
    stream: Stream,
    consumer: PullConsumer,
    is_synced: bool,
    server: Server,
}

pub(super) fn open(setting: &Setting<'_>) -> Result<Box<dyn Queue>, Trouble> {
    let is_synced = setting.sync == Policy::Always;
    let interval = if is_synced { "sync_interval: always" } else { "" };
    let file = setting.folder.join("nats.conf");
    let store = setting.folder.join("store");
    let program = std::env::var(PROGRAM).unwrap_or_else(|_| "nats-server".to_owned());
    let server = Server::start(&program, |port| {
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{\n store_dir: \"{}\"\n {interval}\n}}\n",
            store.display()
        );
        // The server says so if it is not there.
        let _ = std::fs::write(&file, text);
        vec!["-c".to_owned(), file.to_string_lossy().into_owned()]
    })?;
    let runtime = drive::runtime()?;
    let (client, context, stream, consumer) = runtime.block_on(connect(&server.address()))?;
    Ok(Box::new(Nats { runtime, client, context, stream, consumer, is_synced, server }))
}

async fn connect(address: &str) -> Result<(Client, Context, Stream, PullConsumer), Trouble> {
    let client = async_nats::connect(address).await?;
    let mut context = jetstream::new(client.clone());
    // A slow disk is what is measured, and not a failure.
    context.set_timeout(Duration::from_secs(60));
    let config = Config { name: "q".to_owned(), retention: RetentionPolicy::WorkQueue, ..Config::default() };
    let stopwatch = Stopwatch::start();
    let stream = loop {
        // It listens before it has read its files.
        match context.get_or_create_stream(config.clone()).await {
            Ok(stream) => break stream,
            Err(_) if stopwatch.elapsed() < Duration::from_secs(60) => {
                tokio::time::sleep(Duration::from_millis(1)).await
            }
            Err(error) => return Err(error.into()),
        }
    };
    let config = pull::Config {
        durable_name: Some("g".to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: 100_000,
        ..pull::Config::default()
    };
    let consumer = stream.get_or_create_consumer("g", config).await?;
    Ok((client, context, stream, consumer))
}

async fn publish(context: Context, body: Bytes) -> Outcome {
    context.publish("q", body).await?.await?;
    Ok(())
}

impl Queue for Nats {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(self))
    }

    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        Some(Box::new(NatsTaker { nats: self, ahead: VecDeque::new() }))
    }

    fn window(&self, load: &Load) -> Result<Option<Lap>, Trouble> {
        let acks = std::cell::RefCell::new(VecDeque::new());
        let submit = |body: &Bytes| -> Outcome {
            let mut acks = acks.borrow_mut();
            if acks.len() == WINDOW {
                let oldest: jetstream::context::PublishAckFuture = acks.pop_front().ok_or("empty")?;
                self.runtime.block_on(async { oldest.await })?;
            }
            acks.push_back(self.runtime.block_on(self.context.publish("q", body.clone()))?);
            Ok(())
        };
        let settle = || {
            for ack in acks.borrow_mut().drain(..) {
                self.runtime.block_on(async { ack.await })?;
            }
            Ok(())
        };
        drive::window(load, submit, settle).map(Some)
    }

    fn tasks(&self, load: &Load) -> Result<Option<Lap>, Trouble> {
        let make = || {
            let context = self.context.clone();
            Ok(move |body| publish(context.clone(), body))
        };
        drive::tasks(&self.runtime, load, make).map(Some)
    }

    fn held(&self) -> Result<Option<u64>, Trouble> {
        let count = || -> Result<u64, Trouble> {
            Ok(self.runtime.block_on(async { self.stream.get_info().await })?.state.messages)
        };
        // Acks that nobody waits for are on their way.
        let mut held = count()?;
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let again = count()?;
            if again == held {
                return Ok(Some(held));
            }
            held = again;
        }
    }

    fn server(&self) -> Option<Pid> {
        Some(self.server.pid())
    }
}

impl Sender for &Nats {
    fn send(&mut self, body: &Bytes) -> Outcome {
        self.runtime.block_on(publish(self.context.clone(), body.clone()))
    }
}

struct NatsTaker<'a> {
    nats: &'a Nats,
    ahead: VecDeque<Message>,
}

impl NatsTaker<'_> {
    async fn fetch(&mut self, wait: Option<Duration>, max: usize) -> Outcome {
        let mut messages = match wait {
            None => self.nats.consumer.fetch().max_messages(max).messages().await?.boxed(),
            Some(wait) => self.nats.consumer.batch().max_messages(max).expires(wait).messages().await?.boxed(),
        };
        while let Some(message) = messages.next().await {
            self.ahead.push_back(message?);
        }
        Ok(())
    }

    async fn done(&mut self, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let Some(message) = self.ahead.pop_front() else { return Ok(0) };
        look(&message.payload);
        if self.nats.is_synced {
            message.double_ack().await?;
        } else {
            message.ack_with(AckKind::Ack).await?;
        }
        Ok(1)
    }
}

impl Taker for NatsTaker<'_> {
    fn take(&mut self, _: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let runtime = &self.nats.runtime;
        if self.ahead.is_empty() {
            runtime.block_on(self.fetch(None, AHEAD))?;
        }
        runtime.block_on(self.done(look))
    }

    fn take_waiting(&mut self, timeout: Duration, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let runtime = &self.nats.runtime;
        if self.ahead.is_empty() {
            runtime.block_on(self.fetch(Some(timeout), 1))?;
        }
        runtime.block_on(self.done(look))
    }

    fn settle(&mut self) -> Outcome {
        Ok(self.nats.runtime.block_on(self.nats.client.flush())?)
    }
}
