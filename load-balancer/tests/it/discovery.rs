//! Discovery changes the pool while threads pick: no request goes without a backend, none to one that is gone.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tenfold_load_balancer::testing::for_each_seed;
use tenfold_load_balancer::{Balancer, Change, Discover, DiscoverError, Drive, Outcome, Pick, Policy, Request, Rng};

use crate::{backend, id, number};

const HOSTS: u16 = 8;

/// When each backend took requests, for sure: its count is odd from the return of the change that took it away to the
/// start of the one that brings it back.
#[derive(Default)]
struct Presence([AtomicU64; HOSTS as usize]);

impl Presence {
    fn absent() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(1)))
    }

    fn set(&self, host: u16, is_present: bool) {
        let count = &self.0[usize::from(host)];
        let is_odd = count.load(Ordering::SeqCst) % 2 == 1;
        if is_odd == is_present {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn now(&self) -> [u64; HOSTS as usize] {
        std::array::from_fn(|host| self.0[host].load(Ordering::SeqCst))
    }

    /// Applies a change to the balancer and notes what it means, each at the safe side of the other.
    fn apply(&self, balancer: &Balancer, change: Change) {
        let after: Vec<(u16, bool)> = match &change {
            Change::Insert(backend) => vec![(number(backend.address()), backend.weight() > 0)],
            Change::Remove(gone) | Change::Drain(gone) => {
                vec![((0..HOSTS).find(|host| id(*host) == *gone).unwrap(), false)]
            }
            Change::Replace(backends) => (0..HOSTS)
                .map(|host| (host, backends.iter().any(|backend| backend.id() == id(host) && backend.weight() > 0)))
                .collect(),
            _ => unreachable!("no other change is made"),
        };
        after.iter().filter(|(_, is_present)| *is_present).for_each(|(host, _)| self.set(*host, true));
        balancer.apply(change).unwrap();
        after.iter().filter(|(_, is_present)| !is_present).for_each(|(host, _)| self.set(*host, false));
    }
}

/// A source that is wrong now and then: it fails, and names nobody.
fn source(seed: u64, changes: u32) -> impl Discover {
    let (mut rng, mut left) = (Rng::new(seed), changes);
    move || {
        left = left.saturating_sub(1);
        let answer = (left > 0).then(|| random_answer(&mut rng));
        std::future::ready(answer)
    }
}

fn random_answer(rng: &mut Rng) -> Result<Change, DiscoverError> {
    let host = u16::try_from(rng.below(u64::from(HOSTS))).unwrap();
    let weigh = |rng: &mut Rng, host| backend(host).with_weight(u32::try_from(rng.below(4)).unwrap());
    match rng.below(10) {
        0..=3 => Ok(Change::Insert(weigh(rng, host))),
        4..=5 => Ok(Change::Remove(id(host))),
        6..=7 => Ok(Change::Drain(id(host))),
        8 => {
            let random = |host| (rng.below(4) == 0).then(|| weigh(rng, host));
            Ok(Change::Replace((0..HOSTS).filter_map(random).collect()))
        }
        _ => Err(DiscoverError::timed_out()),
    }
}

/// Picks until told to stop, holding some requests for a while, and counts them.
fn pick_all_along(balancer: &Balancer, presence: &Presence, picks: &AtomicU64, stop: &AtomicBool) {
    let mut picker = balancer.picker();
    let mut held: Vec<Pick> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let before = presence.now();
        let now = Instant::now();
        let pick = picker.pick(&Request::default(), now).expect("the last backends stay");
        let host = usize::from(number(pick.address()));
        let is_gone = before[host] % 2 == 1 && presence.now()[host] == before[host];
        assert!(!is_gone, "backend {host} was gone before the pick began, and until it ended");
        held.push(pick);
        if held.len() > 8 {
            held.remove(0).finish(Outcome::Success, now);
        }
        picks.fetch_add(1, Ordering::Relaxed);
    }
}

/// Lets the other threads pick, if they still do.
fn wait_for_pick(picks: &AtomicU64) {
    let before = picks.load(Ordering::Relaxed);
    // Not for ever: they may have failed.
    for _ in 0..1_000_000 {
        if picks.load(Ordering::Relaxed) != before {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn no_request_is_lost_while_a_bad_source_changes_the_pool() {
    for_each_seed(|seed| {
        let policies = [Policy::RoundRobin, Policy::Random, Policy::P2c, Policy::LeastRequest];
        let policy = policies.into_iter().nth(usize::try_from(seed % 4).unwrap()).unwrap();
        let balancer = Balancer::builder().policy(policy).seed(seed).build().unwrap();
        let (presence, picks, stop) = (Presence::absent(), AtomicU64::new(0), AtomicBool::new(false));
        presence.apply(&balancer, Change::Insert(backend(0)));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| pick_all_along(&balancer, &presence, &picks, &stop));
            }
            // The set before the first change is the source's as well: by law L1 it begins with a replacement.
            let first = vec![Change::Replace(vec![backend(0)])];
            let mut count = 0;
            run_to_end(Then { first, source: source(seed, 300) }, |change| {
                presence.apply(&balancer, change);
                count += 1;
                if count % 16 == 1 {
                    wait_for_pick(&picks);
                }
                Ok(())
            });
            stop.store(true, Ordering::Relaxed);
        });
        assert!(picks.load(Ordering::Relaxed) > 0, "the threads never ran");
        let present = |host: &u16| presence.now()[usize::from(*host)] % 2 == 0;
        let states = balancer.backends();
        assert!((0..HOSTS).filter(present).count() > 0);
        assert!((0..HOSTS).filter(present).all(|host| states.iter().any(|backend| backend.id == id(host))));
        assert!(states.iter().all(|backend| backend.in_flight == 0));
    });
}

/// These changes, then those of a source.
struct Then<D> {
    first: Vec<Change>,
    source: D,
}

impl<D: Discover> Discover for Then<D> {
    async fn next_change(&mut self) -> Option<Result<Change, DiscoverError>> {
        match self.first.pop() {
            Some(change) => Some(Ok(change)),
            None => self.source.next_change().await,
        }
    }
}

/// Drives a source that never waits.
fn run_to_end(source: impl Discover, apply: impl FnMut(Change) -> Result<(), Infallible>) {
    use std::task::{Context, Poll, Waker};
    let drive = std::pin::pin!(Drive::new(source).run_with(|_| std::future::ready(()), apply));
    assert_eq!(drive.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()));
}
