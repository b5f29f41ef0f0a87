//! A backend that is merely slow, and clients that send one request after the other: nothing of its peers goes on while
//! they wait for it. Time is an argument, so nothing sleeps.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tenfold_load_balancer::testing::for_each_seed;
use tenfold_load_balancer::{Backend, Balancer, HealthState, Outcome, Policy, Request, Rng};

const MS: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(200);

/// One client of a pool, and its time.
struct Client {
    balancer: Balancer,
    rng: Rng,
    now: Instant,
    /// Between an answer and the next request.
    gap: Duration,
    /// Answers that took more than 50 ms.
    late: usize,
}

impl Client {
    fn new(backends: u16, policy: Policy, seed: u64) -> Self {
        let now = Instant::now();
        let balancer = Balancer::<()>::builder().policy(policy).seed(seed).started_at(now).build().unwrap();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        balancer.replace((1..=backends).map(|port| Backend::new(address(port))).collect()).unwrap();
        Self { balancer, rng: Rng::new(seed), now, gap: Duration::ZERO, late: 0 }
    }

    /// Sends so many requests, each after the answer to the one before. What `delay` says comes on top of 1 to 3 ms.
    fn send(&mut self, count: usize, mut delay: impl FnMut(u16, &mut Rng) -> Duration) {
        for _ in 0..count {
            let pick = self.balancer.pick(&Request::default(), self.now).unwrap();
            let takes = MS + Duration::from_micros(self.rng.below(2_000));
            self.now += takes + delay(pick.address().port(), &mut self.rng);
            self.late += usize::from(self.now - pick.started() > 50 * MS);
            pick.finish(Outcome::Success, self.now);
            self.now += self.gap;
        }
    }

    fn health(&self, port: u16) -> HealthState {
        let backends = self.balancer.backends();
        backends.iter().find(|backend| backend.address.port() == port).unwrap().health
    }

    fn ejections(&self) -> u64 {
        self.balancer.stats().ejections
    }
}

fn well(_: u16, _: &mut Rng) -> Duration {
    Duration::ZERO
}

fn second_is_late(port: u16, _: &mut Rng) -> Duration {
    if port == 2 { LATE } else { Duration::ZERO }
}

const POLICIES: [Policy; 5] =
    [Policy::RoundRobin, Policy::WeightedRoundRobin, Policy::Random, Policy::P2c, Policy::LeastRequest];

#[test]
fn one_client_has_it_ejected() {
    for_each_seed(|seed| {
        for policy in POLICIES {
            for backends in [2, 3, 8] {
                let mut client = Client::new(backends, policy, seed);
                client.send(100 * usize::from(backends), well);
                client.send(500, second_is_late);
                let label = format!("{policy}, {backends} backends: {} late", client.late);
                assert!(client.ejections() >= 1, "{label}");
                // Six or some more until it is out, and two for each trial.
                assert!(client.late <= 24, "{label}");
                assert!((1..=backends).all(|port| port == 2 || client.health(port) == HealthState::Healthy), "{label}");
            }
        }
    });
}

#[test]
fn it_is_ejected_although_it_was_never_well() {
    for_each_seed(|seed| {
        for policy in POLICIES {
            let mut client = Client::new(3, policy, seed);
            client.send(500, second_is_late);
            assert!(client.ejections() >= 1, "{policy}: {} late", client.late);
            assert!(client.late <= 45, "{policy}: {} late", client.late);
        }
    });
}

#[test]
fn it_is_ejected_however_rarely_somebody_asks() {
    for_each_seed(|seed| {
        for gap in [100 * MS, 1_000 * MS, 60_000 * MS] {
            let mut client = Client { gap, ..Client::new(3, Policy::RoundRobin, seed) };
            client.send(300, well);
            client.send(24, second_is_late);
            assert_eq!(client.ejections(), 1, "{gap:?} apart: {} late", client.late);
        }
    });
}

/// What they have behind them is slow, or the network before them.
#[test]
fn a_delay_that_all_share_ejects_nobody() {
    for_each_seed(|seed| {
        for policy in POLICIES {
            for backends in [2, 3, 8] {
                let mut client = Client::new(backends, policy, seed);
                for _ in 0..4 {
                    client.send(100 * usize::from(backends), well);
                    client.send(100, |_, _| LATE);
                }
                assert_eq!(client.ejections(), 0, "{policy}, {backends} backends");
            }
        }
    });
}

/// Stalls that meet some requests, whoever serves them, hit one backend more than the others by chance alone.
#[test]
fn stalls_that_all_share_hardly_ever_eject_anybody() {
    let (pools, mut ejections) = (200, 0);
    for seed in 0..pools {
        let policy = POLICIES[seed as usize % POLICIES.len()];
        let mut client = Client::new(3, policy, seed);
        client.send(300, well);
        for percent in [5, 10, 30] {
            client.send(60, |_, rng| if rng.below(100) < percent { LATE } else { Duration::ZERO });
            client.send(300, well);
        }
        ejections += client.ejections();
    }
    assert!(ejections <= pools / 20, "{ejections} in {pools} pools");
}

/// Latencies far above the floor, with a long tail, so that what is ordinary is all that they are measured by.
#[test]
fn a_tail_ejects_nobody() {
    let (pools, mut ejections) = (200, 0);
    for seed in 0..pools {
        let mut client = Client::new(3, POLICIES[seed as usize % POLICIES.len()], seed);
        // Exponential, of 60 ms in the mean.
        client.send(1_000, |_, rng| {
            let uniform = (rng.below(1 << 24) as f64 + 1.0) / f64::from(1 << 24);
            Duration::from_secs_f64(-0.06 * uniform.ln())
        });
        ejections += client.ejections();
    }
    assert_eq!(ejections, 0, "in {pools} pools");
}
