use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::*;
use crate::rng::Rng;

const BOUND: Duration = Duration::from_millis(150);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn assert_near(value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{value} is not {expected} ± {tolerance}");
}

#[test]
fn one_server_is_the_textbook_queue() {
    let queue = Mmc::new(1, ms(10));
    for rate in [1.0, 50.0, 99.0] {
        // M/M/1: C = ρ, and the time in the system is exponential with rate μ − λ.
        assert_near(queue.wait_probability(rate), rate / 100.0, 1e-12);
        assert_near(queue.mean_sojourn_s(rate).unwrap(), 1.0 / (100.0 - rate), 1e-9);
        assert_near(queue.within_s(rate, 0.02), 1.0 - (-(100.0 - rate) * 0.02f64).exp(), 1e-9);
    }
}

#[test]
fn the_wait_probability_is_that_of_the_tables() {
    // Erlang C from its definition: (a^c / c!) / (1 − ρ) over the sum of a^k / k! and that term.
    for (slots, offered) in [(2u32, 1.0f64), (5, 4.0), (10, 8.0), (40, 30.0)] {
        let term = |k: u32| (1..=k).fold(1.0, |product, n| product * offered / f64::from(n));
        let last = term(slots) / (1.0 - offered / f64::from(slots));
        let below: f64 = (0..slots).map(term).sum();
        let queue = Mmc::new(slots, Duration::from_secs(1));
        assert_near(queue.wait_probability(offered), last / (below + last), 1e-10);
    }
}

#[test]
fn a_wait_as_fast_as_the_service_is_no_special_case() {
    // cμ − λ = μ at c = 2, λ = μ: the closed form divides by zero there.
    let queue = Mmc::new(2, ms(10));
    let at = |rate| queue.within_s(rate, 0.03);
    assert_near(at(100.0), (at(99.99) + at(100.01)) / 2.0, 1e-6);
}

#[test]
fn capacities_are_those_of_the_design() {
    // Four slots of 20 ms, one database of 4 × 10 ms, one web node of 8 × 10 ms, three databases.
    for (station, capacity) in [
        (Mmc::new(4, ms(20)), 164.0),
        (Mmc::new(4, ms(10)), 368.0),
        (Mmc::new(8, ms(10)), 768.0),
        (Mmc::new(4, ms(10)).copies(3), 1104.0),
    ] {
        assert_near(Network::tandem([station]).capacity(BOUND), capacity, 1.0);
    }
}

#[test]
fn a_second_station_costs_capacity_and_a_cache_gives_it_back() {
    let (web, database) = (Mmc::new(8, ms(10)), Mmc::new(4, ms(10)));
    let alone = Network::tandem([database]).capacity(BOUND);
    let both = Network::tandem([web, database]).capacity(BOUND);
    assert!(both < alone && both > 0.9 * alone, "{both} and {alone}");
    let cached = Network::cached(web, database, 0.6).capacity(BOUND);
    assert!(cached > 1.5 * both, "{cached} and {both}");
    assert_near(Network::cached(web, database, 0.0).capacity(BOUND), both, 1e-3);
    let hits = Network::cached(web, database, 1.0).capacity(BOUND);
    assert_near(hits, Network::tandem([web]).capacity(BOUND), 1e-3);
}

#[test]
fn order_and_free_stations_do_not_matter() {
    let (a, b, free) = (Mmc::new(3, ms(12)), Mmc::new(4, ms(10)), Mmc::new(1, ms(0)));
    let capacity = |stations: &[Mmc]| Network::tandem(stations.iter().copied()).capacity(BOUND);
    assert_near(capacity(&[a, b]), capacity(&[b, a]), 0.05);
    assert_near(capacity(&[free, a, free]), capacity(&[a]), 1e-6);
    assert_eq!(capacity(&[free]), f64::INFINITY);
    assert_eq!(capacity(&[Mmc::new(0, ms(10))]), 0.0);
    assert_eq!(capacity(&[Mmc::new(9, ms(200))]), 0.0, "service alone breaks the bound");
    assert_eq!(Network::tandem([a]).fixed(ms(200)).capacity(BOUND), 0.0);
}

#[test]
fn overload_has_no_latency() {
    let network = Network::tandem([Mmc::new(4, ms(10))]);
    assert_eq!(network.latency(400.0), None);
    assert_eq!(network.within(500.0, BOUND), 0.0);
    assert_eq!(network.percentile(100.0, 1.0), None);
    let idle = network.latency(0.0).unwrap();
    assert_near(idle.p50_ms, 10.0 * 2f64.ln(), 0.01);
    assert_near(idle.p99_ms, 10.0 * 100f64.ln(), 0.05);
}

#[test]
fn the_curve_rises_to_its_limit() {
    let curve = Network::tandem([Mmc::new(8, ms(10)), Mmc::new(4, ms(10))]).curve(f64::INFINITY, 20, 2 * BOUND);
    assert_eq!(curve.len(), 20);
    assert!(curve.is_sorted_by(|a, b| a.rate < b.rate && a.p99_ms < b.p99_ms));
    assert_near(curve[19].p99_ms, 300.0, 3.0);
}

#[test]
fn nonsense_routes_are_refused() {
    let station = Mmc::new(1, ms(1));
    let routed = |share: f64, rest: f64| Network::routed([station], |ids| [(share, vec![ids[0]]), (rest, vec![])]);
    assert!(routed(0.5, 0.5).is_ok());
    assert_eq!(routed(0.5, 0.4), Err(NetworkError::Shares { sum: 0.9 }));
    assert_eq!(routed(-0.5, 1.5), Err(NetworkError::Share { share: -0.5 }));
    let mut foreign = None;
    Network::routed([station, station], |ids| {
        foreign = Some(ids[1]);
        [(1.0, vec![])]
    })
    .unwrap();
    let unknown = Network::routed([station], |_| [(1.0, foreign.into_iter().collect())]);
    assert_eq!(unknown, Err(NetworkError::UnknownStation));
}

/// What happens next to a request: it arrives at the step of its path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at_ns: u64,
    number: u32,
    step: usize,
}

/// The same network, request by request: the sorted latencies in seconds.
///
/// A station's servers are the times at which they are free; first come, first served, since arrivals are taken in
/// the order of their times.
fn simulate(stations: &[(u32, f64)], misses: f64, rate: f64, requests: u32, seed: u64) -> Vec<f64> {
    let mut rng = Rng::new(seed);
    let mut free: Vec<BinaryHeap<Reverse<u64>>> =
        stations.iter().map(|(slots, _)| (0..*slots).map(|_| Reverse(0)).collect()).collect();
    let mut clock = 0.0;
    let mut begun = BTreeMap::new();
    let mut events = BinaryHeap::new();
    let mut latencies = Vec::new();
    for number in 0..requests {
        clock += rng.next_exponential() / rate;
        let at_ns = (clock * 1e9) as u64;
        begun.insert(number, (at_ns, rng.next_f64() < misses));
        events.push(Reverse(Arrival { at_ns, number, step: 0 }));
    }
    while let Some(Reverse(Arrival { at_ns, number, step })) = events.pop() {
        let Reverse(free_at) = free[step].pop().unwrap();
        let service = rng.next_exponential() * stations[step].1 * 1e9;
        let done = free_at.max(at_ns) + service as u64;
        free[step].push(Reverse(done));
        let (begin, is_miss) = begun[&number];
        if step + 1 < stations.len() && is_miss {
            events.push(Reverse(Arrival { at_ns: done, number, step: step + 1 }));
        } else {
            latencies.push((done - begin) as f64 / 1e9);
        }
    }
    latencies.sort_by(f64::total_cmp);
    latencies
}

fn check_simulation(network: &Network, stations: &[(u32, f64)], misses: f64, rate: f64) {
    let latencies = simulate(stations, misses, rate, 150_000, 5);
    let theory = network.latency(rate).unwrap();
    for (quantile, expected, tolerance) in [(0.5, theory.p50_ms, 0.03), (0.99, theory.p99_ms, 0.05)] {
        let simulated = latencies[(latencies.len() as f64 * quantile) as usize] * 1e3;
        assert_near(simulated, expected, tolerance * expected);
    }
}

#[test]
fn a_simulation_agrees() {
    let (web, database) = (Mmc::new(8, ms(10)), Mmc::new(4, ms(10)));
    check_simulation(&Network::tandem([Mmc::new(4, ms(20))]), &[(4, 0.02)], 1.0, 150.0);
    for rate in [100.0, 340.0] {
        check_simulation(&Network::tandem([web, database]), &[(8, 0.01), (4, 0.01)], 1.0, rate);
    }
    check_simulation(&Network::cached(web, database, 0.5), &[(8, 0.01), (4, 0.01)], 0.5, 650.0);
    let three = Network::tandem([web, Mmc::new(6, ms(10)), database]);
    check_simulation(&three, &[(8, 0.01), (6, 0.01), (4, 0.01)], 1.0, 300.0);
}
