//! Messages that come one at a time, evenly apart, and how long each takes from before its send until it is received.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use super::load::{Lap, Load};
use super::{Queue, Taker, Trouble};
use crate::clock::Stopwatch;

/// Between two messages.
const GAP: Duration = Duration::from_millis(2);

/// How long the receiver waits before it looks whether all that was sent has come, and how often it does so in vain.
const PATIENCE: Duration = Duration::from_millis(50);
const MAX_WAITS: u32 = 200;

/// Runs it. What has no taker, as a baseline, is timed until the send is confirmed. `None` if it has no sender either.
///
/// # Errors
///
/// What the queue gave, or that messages were lost.
pub fn run(queue: &dyn Queue, load: &Load) -> Result<Option<Lap>, Trouble> {
    let Some(mut sender) = queue.sender() else { return Ok(None) };
    let count = (load.window.as_nanos() / GAP.as_nanos()).max(1) as u64;
    let stopwatch = Stopwatch::start();
    let size = load.bodies.size();
    let mut confirmed = Lap::default();
    let sent = AtomicU64::new(u64::MAX);
    let mut send_all = |lap: &mut Lap| -> Result<(), Trouble> {
        for number in 0..count {
            let departure = GAP * u32::try_from(number)?;
            thread::sleep(departure.saturating_sub(stopwatch.elapsed()));
            let mut body = vec![0; size];
            let now = stopwatch.elapsed();
            body[..8].copy_from_slice(&u64::try_from(now.as_nanos())?.to_le_bytes());
            sender.send(&Bytes::from(body))?;
            lap.latencies.record(stopwatch.elapsed() - now);
            lap.messages += 1;
            lap.per_second = lap.messages as f64 / stopwatch.elapsed().as_secs_f64();
        }
        Ok(())
    };
    let lap = match queue.taker() {
        None => {
            send_all(&mut confirmed)?;
            confirmed
        }
        Some(taker) => thread::scope(|scope| {
            let sent = &sent;
            let receiver = scope.spawn(move || receive_all(taker, stopwatch, sent, size));
            let outcome = send_all(&mut confirmed);
            sent.store(confirmed.messages, Ordering::Release);
            let lap = receiver.join().unwrap_or_else(|_| Err("the receiver panicked".into()));
            outcome.and(lap)
        })?,
    };
    if lap.messages != count {
        return Err(format!("{} of {count} messages came", lap.messages).into());
    }
    Ok(Some(lap))
}

fn receive_all(
    mut taker: Box<dyn Taker + '_>,
    stopwatch: Stopwatch,
    sent: &AtomicU64,
    size: usize,
) -> Result<Lap, Trouble> {
    let (mut lap, mut waits) = (Lap::default(), 0);
    while lap.messages < sent.load(Ordering::Acquire) {
        let (mut latency, mut is_whole) = (None, true);
        let taken = taker.take_waiting(PATIENCE, &mut |body| {
            let stamp = body.first_chunk().map(|stamp| Duration::from_nanos(u64::from_le_bytes(*stamp)));
            latency = stamp.and_then(|stamp| stopwatch.elapsed().checked_sub(stamp));
            is_whole = body.len() == size;
        })?;
        if taken == 0 {
            waits += 1;
            if waits > MAX_WAITS {
                return Err(
                    format!("nothing came for {:?}, after {} messages", PATIENCE * MAX_WAITS, lap.messages).into()
                );
            }
            continue;
        }
        waits = 0;
        lap.wrong += u64::from(!is_whole || latency.is_none());
        lap.latencies.record(latency.unwrap_or_default());
        lap.messages += taken as u64;
        lap.per_second = lap.messages as f64 / stopwatch.elapsed().as_secs_f64();
    }
    taker.settle()?;
    Ok(lap)
}
