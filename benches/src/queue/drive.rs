//! Drives a queue with threads, with tasks, and with a window of messages that are not confirmed yet.

use std::future::Future;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use super::load::{BATCH, Lap, Load};
use super::{Outcome, Queue, Taker, Trouble};
use crate::clock::Stopwatch;

/// Worker threads of the runtime that tasks run on: as many as the machine that the figures are from has cores.
const WORKERS: usize = 2;

/// A runtime for tasks.
///
/// # Errors
///
/// What the system gave.
pub fn runtime() -> Result<Runtime, Trouble> {
    Ok(Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?)
}

/// Each thread sends one message after the other, and waits for each to be confirmed. `None` if the queue has no sender.
///
/// # Errors
///
/// What the queue gave.
pub fn threads(queue: &dyn Queue, load: &Load) -> Result<Option<Lap>, Trouble> {
    let senders: Option<Vec<_>> = (0..load.producers).map(|_| queue.sender()).collect();
    let Some(senders) = senders else { return Ok(None) };
    let barrier = &Barrier::new(load.producers);
    thread::scope(|scope| {
        let lap = |mut sender: Box<dyn super::Sender>| {
            scope.spawn(move || {
                barrier.wait();
                load.run(|number| sender.send(load.bodies.get(number)).map(|()| 1))
            })
        };
        let laps: Vec<_> = senders.into_iter().map(lap).collect();
        Lap::sum(laps.into_iter().map(|lap| lap.join().unwrap_or_else(|_| Err("a sender panicked".into()))))
    })
    .map(Some)
}

/// One thread sends batches, each confirmed as a whole. `None` if the queue takes none.
///
/// # Errors
///
/// What the queue gave.
pub fn batches(queue: &dyn Queue, load: &Load) -> Result<Option<Lap>, Trouble> {
    let Some(mut sender) = queue.sender() else { return Ok(None) };
    let batch: Vec<Bytes> = (0..BATCH as u64).map(|number| load.bodies.get(number).clone()).collect();
    if !sender.send_batch(&batch)? {
        return Ok(None);
    }
    let mut lap = load.run(|_| sender.send_batch(&batch).map(|_| BATCH))?;
    lap.messages += BATCH as u64;
    Ok(Some(lap))
}

/// One producer submits and does not wait but for a full window; at the end it waits for all.
///
/// # Errors
///
/// What `submit` and `settle` gave.
pub fn window(
    load: &Load,
    mut submit: impl FnMut(&Bytes) -> Outcome,
    mut settle: impl FnMut() -> Outcome,
) -> Result<Lap, Trouble> {
    let early =
        Load { window: Duration::ZERO, ..load.clone() }.run(|number| submit(load.bodies.get(number)).map(|()| 1))?;
    settle()?;
    let stopwatch = Stopwatch::start();
    let load = Load { warm_up: Duration::ZERO, timed_one_of: 64, ..load.clone() };
    let mut lap = load.run(|number| submit(load.bodies.get(number)).map(|()| 1))?;
    settle()?;
    lap.per_second = lap.messages as f64 / stopwatch.elapsed().as_secs_f64();
    lap.messages += early.messages;
    // A submit returns before anything is confirmed: how long it took says nothing.
    lap.latencies = super::latencies::Latencies::default();
    Ok(lap)
}

/// Tasks that each send one message after the other and await each confirm. `make` gives what the n-th task sends with.
///
/// # Errors
///
/// What the queue gave.
pub fn tasks<S, F, Fut>(runtime: &Runtime, load: &Load, make: F) -> Result<Lap, Trouble>
where
    S: Fn(Bytes) -> Fut + Send + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
    F: Fn() -> Result<S, Trouble>,
{
    let stopwatch = Stopwatch::start();
    let spawned: Result<Vec<_>, Trouble> = (0..load.producers)
        .map(|_| {
            let (send, load) = (make()?, load.clone());
            Ok(runtime.spawn(task(send, load, stopwatch)))
        })
        .collect();
    let spawned = spawned?;
    runtime.block_on(async {
        let mut sum = Lap::default();
        for task in spawned {
            sum.add(&task.await.map_err(|_| "a task panicked")??);
        }
        Ok(sum)
    })
}

async fn task<S, Fut>(send: S, load: Load, stopwatch: Stopwatch) -> Result<Lap, Trouble>
where
    S: Fn(Bytes) -> Fut,
    Fut: Future<Output = Outcome>,
{
    let (mut lap, mut counted) = (Lap::default(), 0_u64);
    let (from, to) = (load.warm_up, load.warm_up + load.window);
    let most = load.max_messages / load.producers as u64;
    let mut now = stopwatch.elapsed();
    while now < to && lap.messages < most {
        let started = now;
        send(load.bodies.get(lap.messages).clone()).await?;
        now = stopwatch.elapsed();
        lap.messages += 1;
        if started >= from && now <= to {
            counted += 1;
            lap.latencies.record(now - started);
        }
    }
    lap.per_second = counted as f64 / load.window.as_secs_f64();
    Ok(lap)
}

/// Each thread takes one message after the other and is done with it. `None` if the queue has no taker.
///
/// # Errors
///
/// What the queue gave.
pub fn takers(queue: &dyn Queue, load: &Load) -> Result<Option<Lap>, Trouble> {
    let takers: Option<Vec<_>> = (0..load.producers).map(|_| queue.taker()).collect();
    let Some(takers) = takers else { return Ok(None) };
    let barrier = &Barrier::new(load.producers);
    thread::scope(|scope| {
        let lap = |taker: Box<dyn Taker>| {
            scope.spawn(move || {
                barrier.wait();
                take_all(taker, load)
            })
        };
        let laps: Vec<_> = takers.into_iter().map(lap).collect();
        Lap::sum(laps.into_iter().map(|lap| lap.join().unwrap_or_else(|_| Err("a taker panicked".into()))))
    })
    .map(Some)
}

fn take_all(mut taker: Box<dyn Taker + '_>, load: &Load) -> Result<Lap, Trouble> {
    let mut wrong = 0;
    let mut look = |body: &[u8]| wrong += u64::from(!load.bodies.has(body));
    let mut lap = load.run(|_| taker.take(1, &mut look))?;
    taker.settle()?;
    lap.wrong = wrong;
    Ok(lap)
}

/// Sends so many messages as fast as the queue takes them from one producer, or as many as it takes in `span`; how many.
///
/// # Errors
///
/// What the queue gave.
pub fn fill(queue: &dyn Queue, load: &Load, count: u64, span: Duration) -> Result<u64, Trouble> {
    let load = Load {
        producers: 1,
        window: span,
        warm_up: Duration::ZERO,
        timed_one_of: 1,
        max_messages: count,
        ..load.clone()
    };
    if let Some(lap) = queue.window(&load)? {
        return Ok(lap.messages);
    }
    let Some(mut sender) = queue.sender() else { return Ok(0) };
    let batch: Vec<Bytes> = (0..BATCH as u64).map(|number| load.bodies.get(number).clone()).collect();
    let lap = if count >= BATCH as u64 && sender.send_batch(&batch)? {
        let mut lap = load.run(|_| sender.send_batch(&batch).map(|_| BATCH))?;
        lap.messages += BATCH as u64;
        lap
    } else {
        load.run(|number| sender.send(load.bodies.get(number)).map(|()| 1))?
    };
    Ok(lap.messages)
}
