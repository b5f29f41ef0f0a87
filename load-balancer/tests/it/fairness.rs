//! How evenly the policies spread requests.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tenfold_load_balancer::{Backend, Balancer, Outcome, Pick, Policy, Request};

use crate::{backend, balancer, number};

/// Requests that each backend got, of `count` picked by `pick`.
fn spread(backends: u16, count: u32, mut pick: impl FnMut() -> u16) -> Vec<u32> {
    let mut counts = vec![0; usize::from(backends)];
    (0..count).for_each(|_| counts[usize::from(pick())] += 1);
    counts
}

fn extremes(counts: &[u32]) -> (u32, u32) {
    (*counts.iter().min().unwrap(), *counts.iter().max().unwrap())
}

#[test]
fn round_robin_by_one_picker_is_exact() {
    let balancer = balancer(Policy::RoundRobin, 7);
    let mut picker = balancer.picker();
    let counts = spread(7, 7000, || number(picker.next(&Request::default(), Instant::now()).unwrap().address()));
    assert_eq!(counts, [1000; 7]);
}

/// The bound of the documentation: no backend is ahead of another by more than the number of pickers.
#[test]
fn round_robin_by_many_pickers_differs_by_at_most_their_number() {
    for pickers in [1, 2, 5, 16, 64] {
        let balancer = balancer(Policy::RoundRobin, 7);
        let mut all: Vec<_> = (0..pickers).map(|_| balancer.picker()).collect();
        let mut turn = 0;
        let counts = spread(7, 30_000, || {
            // Some pick much more often than others.
            turn += 1;
            let at = (turn * turn) % pickers;
            number(all[at].next(&Request::default(), Instant::now()).unwrap().address())
        });
        let (min, max) = extremes(&counts);
        assert!(max - min <= pickers as u32, "{pickers} pickers: {counts:?}");
    }
}

#[test]
fn round_robin_by_pickers_of_one_request_each_is_exact() {
    let balancer = balancer(Policy::RoundRobin, 6);
    let first = balancer.picker();
    let counts =
        spread(6, 30_000, || number(first.clone().next(&Request::default(), Instant::now()).unwrap().address()));
    let (min, max) = extremes(&counts);
    assert!(max - min <= 1, "{counts:?}");
}

#[test]
fn round_robin_by_eight_threads_is_within_two_percent() {
    let balancer = balancer(Policy::RoundRobin, 10);
    let counts = std::sync::Mutex::new(vec![0; 10]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut picker = balancer.picker();
                let own = spread(10, 30_000 / 8, || {
                    number(picker.pick(&Request::default(), Instant::now()).unwrap().address())
                });
                counts.lock().unwrap().iter_mut().zip(own).for_each(|(sum, count)| *sum += count);
            });
        }
    });
    let (min, max) = extremes(&counts.into_inner().unwrap());
    assert!(f64::from(max) / f64::from(min) <= 1.02, "{min} to {max}");
}

#[test]
fn random_follows_the_weights() {
    let balancer: Balancer = Balancer::builder().policy(Policy::Random).seed(3).build().unwrap();
    balancer
        .replace((0..4).map(|number| backend(number).with_weight(u32::from(number))).collect::<Vec<Backend>>())
        .unwrap();
    let mut picker = balancer.picker();
    let counts = spread(4, 60_000, || number(picker.next(&Request::default(), Instant::now()).unwrap().address()));
    for (count, expected) in counts.into_iter().zip([0, 10_000, 20_000, 30_000_i32]) {
        assert!((count as i32 - expected).abs() < 500, "{count} for {expected}");
    }
}

/// Held requests pile up where weights say so: after any number of picks no backend has more than its share by one.
#[test]
fn least_request_fills_up_evenly_by_weight() {
    let balancer: Balancer = Balancer::builder().policy(Policy::LeastRequest).seed(3).build().unwrap();
    balancer
        .replace((1..=4).map(|number| backend(number).with_weight(u32::from(number))).collect::<Vec<Backend>>())
        .unwrap();
    let mut picker = balancer.picker();
    let held: Vec<_> = (0..100).map(|_| picker.pick(&Request::default(), Instant::now()).unwrap()).collect();
    for backend in balancer.backends() {
        assert_eq!(backend.in_flight, 10 * backend.weight as usize);
    }
    drop(held);
    assert!(balancer.backends().iter().all(|backend| backend.in_flight == 0));
}

/// With n balls in n bins, two choices keep the fullest bin at ln ln n / ln 2 and a constant, one choice at
/// ln n / ln ln n: the figures for 1000 are about 4 and 6.
#[test]
fn two_choices_keep_the_fullest_low() {
    let fullest = |policy| {
        let balancer = balancer(policy, 1000);
        let mut picker = balancer.picker();
        let _held: Vec<_> = (0..1000).map(|_| picker.pick(&Request::default(), Instant::now()).unwrap()).collect();
        balancer.backends().iter().map(|backend| backend.in_flight).max().unwrap()
    };
    let (two, one) = (fullest(Policy::P2c), fullest(Policy::Random));
    assert!(two <= 4 && one > two, "two choices: {two}, one: {one}");
}

/// Any stretch of turns is within two of the shares, whoever picks.
#[test]
fn weighted_round_robin_keeps_to_the_weights_at_every_moment() {
    let balancer: Balancer = Balancer::builder().policy(Policy::WeightedRoundRobin).seed(3).build().unwrap();
    let weights = [1, 2, 3, 10];
    let list = (0..).zip(weights).map(|(number, weight)| backend(number).with_weight(weight));
    balancer.replace(list.collect::<Vec<Backend>>()).unwrap();
    let mut picker = balancer.picker();
    let mut counts = [0; 4];
    for turn in 1..=1600_u32 {
        counts[usize::from(number(picker.next(&Request::default(), Instant::now()).unwrap().address()))] += 1;
        for (count, weight) in counts.iter().zip(weights) {
            let share = f64::from(turn * weight) / 16.0;
            assert!((f64::from(*count) - share).abs() < 2.0, "{counts:?} after {turn}");
        }
    }
    assert_eq!(counts, [100, 200, 300, 1000]);
}

/// A newcomer's share grows over the time of slow start, as its weight does: it does not wait until it has all of it, and
/// does not have all of it at once.
#[test]
fn a_newcomer_gets_a_growing_share_at_any_load() {
    const MS: Duration = Duration::from_millis(1);
    let policies =
        [Policy::RoundRobin, Policy::Random, Policy::P2c, Policy::PeakEwma, Policy::Prequal, Policy::LeastRequest];
    for policy in policies {
        // So many requests are in flight at once.
        for load in [1, 2, 8, 40] {
            let label = format!("{policy:?} with {load} in flight");
            let mut now = Instant::now();
            let balancer: Balancer = Balancer::builder().policy(policy).seed(3).started_at(now).build().unwrap();
            balancer.replace((0..4).map(backend).collect::<Vec<Backend>>()).unwrap();
            let mut picker = balancer.picker();
            let mut in_flight = VecDeque::new();
            let mut serve = |count: u32, now: &mut Instant| -> u32 {
                (0..count)
                    .map(|_| {
                        *now += MS / load;
                        balancer.tick(*now);
                        let oldest: Option<Pick> =
                            if in_flight.len() == load as usize { in_flight.pop_front() } else { None };
                        if let Some(oldest) = oldest {
                            oldest.finish(Outcome::Success, *now);
                        }
                        let pick = picker.pick(&Request::default(), *now).unwrap();
                        let is_new = number(pick.address()) == 4;
                        in_flight.push_back(pick);
                        u32::from(is_new)
                    })
                    .sum()
            };
            serve(4_000 * load, &mut now);
            balancer.insert(backend(4)).unwrap();
            let [first, second] = [0, 1].map(|_| serve(1_000 * load, &mut now));
            // 10, 10, 20, 30, 40 of 410 to 440 and then 50 to 90 of 450 to 490 in a hundred.
            let [due_first, due_second] = [51 * load, 148 * load];
            assert!((due_first / 2..=2 * due_first).contains(&first), "{first} of {due_first}: {label}");
            assert!((due_second / 2..=2 * due_second).contains(&second), "{second} of {due_second}: {label}");
        }
    }
}
