//! The two loads: an open one at a fixed rate for faults, a closed one as fast as it goes for throughput.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::sample::{Outcome, Sample};
use super::schedule::Departures;
use super::wire::{Done, Wire};
use crate::clock;

/// Connections of the open load at most; at a thousand requests a second, enough for one second of silence.
const MAX_CONNECTIONS: usize = 1024;

/// How long the open load waits for late answers after its end. Longer than any time-out of the proxies.
const GRACE: Duration = Duration::from_secs(2);

/// The precision of the departures.
const TICK: Duration = Duration::from_millis(1);

/// Tells others on which moment a load counts its times from.
#[derive(Debug, Default)]
pub struct Epoch {
    nanos: AtomicU64,
}

impl Epoch {
    /// The moment by [`clock::uptime`], once the load has begun.
    pub fn get(&self) -> Option<Duration> {
        let nanos = self.nanos.load(Ordering::Acquire);
        (nanos > 0).then_some(Duration::from_nanos(nanos))
    }

    fn set(&self, moment: Duration) {
        self.nanos.store(u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
    }
}

/// Sends `per_s` requests a second for `span`, however slow the answers are, and gives one sample for each.
///
/// A request that finds no free connection waits for one, and its latency goes on.
///
/// # Errors
///
/// What the kernel gave on opening sockets or waiting for them.
pub fn open(target: SocketAddr, per_s: u32, span: Duration, epoch: &Epoch) -> io::Result<Vec<Sample>> {
    // First of all, since others wait for it.
    let begin = clock::uptime();
    epoch.set(begin);
    let mut wire = Wire::new(target, MAX_CONNECTIONS)?;
    wire.tick_every(TICK)?;
    let mut departures = Departures::new(per_s, span);
    let unanswered = |index| {
        let intended = departures.intended(index);
        Sample { intended, latency: span + GRACE - intended, outcome: Outcome::Unanswered }
    };
    let mut samples: Vec<Sample> = (0..departures.count()).map(unanswered).collect();
    let mut queue = VecDeque::new();
    let mut open = samples.len();
    while open > 0 {
        let now = clock::uptime() - begin;
        if now > span + GRACE {
            break;
        }
        queue.extend(std::iter::from_fn(|| departures.due(now)));
        while let Some(&ticket) = queue.front() {
            if !wire.send(ticket)? {
                break;
            }
            queue.pop_front();
        }
        let done = wire.wait(GRACE)?;
        open -= done.len();
        for &Done { ticket, at, outcome } in &done {
            let sample = &mut samples[ticket as usize];
            sample.latency = (at - begin).saturating_sub(sample.intended);
            sample.outcome = outcome;
        }
        wire.reuse(done);
    }
    debug_assert_eq!(wire.waiting().count() + queue.len(), open);
    Ok(samples)
}

/// What a closed load came to.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The requests that began and ended within the measured time.
    pub samples: Vec<Sample>,
    /// How long that was.
    pub elapsed: Duration,
}

/// Keeps `connections` requests under way for `span`, after a `warm_up` that does not count. `on_warm` and `on_end` are
/// called at the two ends of the measured time.
///
/// # Errors
///
/// As [`open`].
pub fn closed(
    target: SocketAddr,
    connections: u32,
    warm_up: Duration,
    span: Duration,
    mut on_warm: impl FnMut(),
    mut on_end: impl FnMut(),
) -> io::Result<Closed> {
    let mut wire = Wire::new(target, connections as usize)?;
    let begin = clock::uptime();
    let mut sent_at = vec![Duration::ZERO; connections as usize];
    for ticket in 0..connections {
        wire.send(ticket)?;
    }
    let mut samples = Vec::new();
    let mut warm_at = None;
    loop {
        let done = wire.wait(GRACE)?;
        let now = clock::uptime() - begin;
        if done.is_empty() && wire.waiting().any(|ticket| now > sent_at[ticket as usize] + GRACE) {
            let outcome = Outcome::Unanswered;
            samples.extend(wire.waiting().map(|_| Sample { intended: now, latency: GRACE, outcome }));
            break;
        }
        if warm_at.is_none() && now >= warm_up {
            warm_at = Some(now);
            on_warm();
        }
        for &Done { ticket, at, outcome } in &done {
            let intended = sent_at[ticket as usize];
            if warm_at.is_some() {
                samples.push(Sample { intended, latency: (at - begin).saturating_sub(intended), outcome });
            }
            sent_at[ticket as usize] = clock::uptime() - begin;
            wire.send(ticket)?;
        }
        wire.reuse(done);
        if now >= warm_up + span {
            break;
        }
    }
    let elapsed = (clock::uptime() - begin).saturating_sub(warm_at.unwrap_or_default());
    on_end();
    Ok(Closed { samples, elapsed })
}
