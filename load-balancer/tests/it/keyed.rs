//! Policies that place by key: the same key, the same backend; who leaves takes only its own keys along; bounds hold.

use std::time::Instant;

use tenfold_load_balancer::testing::for_each_seed;
use tenfold_load_balancer::{Balancer, Failure, HashConfig, Key, Outcome, Policy, Request, Rng};

use crate::{backend, balancer, id, number};

const KEYS: u64 = 5_000;

fn keyed(config: HashConfig) -> [Policy; 4] {
    [Policy::RingHash(config), Policy::Maglev(config), Policy::CappedRendezvous(config), Policy::Rendezvous(config)]
}

/// Where each key goes now.
fn owners(balancer: &Balancer) -> Vec<u16> {
    let mut picker = balancer.picker();
    let place = |key| number(picker.next(&Request::keyed(Key::of_u64(key)), Instant::now()).unwrap().address());
    (0..KEYS).map(place).collect()
}

#[test]
fn pickers_and_balancers_agree_on_a_key() {
    for policy in keyed(HashConfig::default()) {
        let one = owners(&balancer(policy, 20));
        let other: Balancer = Balancer::builder().policy(policy).seed(99).build().unwrap();
        // In another order, one by one.
        for number in (0..20).rev() {
            other.insert(backend(number)).unwrap();
        }
        assert_eq!(one, owners(&other), "{policy}");
    }
}

#[test]
fn who_leaves_takes_hardly_more_than_its_own_keys_along() {
    for policy in keyed(HashConfig::default()) {
        let balancer = balancer(policy, 20);
        let before = owners(&balancer);
        balancer.drain(id(7));
        let after = owners(&balancer);
        let foreign = before.iter().zip(&after).filter(|(before, after)| **before != 7 && before != after).count();
        let most = if matches!(policy, Policy::Maglev(_)) { KEYS / 100 } else { KEYS / 500 };
        assert!(foreign as u64 <= most, "{policy}: {foreign} foreign keys moved");
        assert!(after.iter().all(|number| *number != 7), "{policy}");
        balancer.insert(backend(7)).unwrap();
        assert_eq!(owners(&balancer), before, "{policy}: back as it was");
    }
}

/// The table stays as it is while a backend is out; a picker that looked before must see it all the same.
#[test]
fn who_is_out_has_no_keys_and_takes_none_of_others_along() {
    for policy in keyed(HashConfig::default()) {
        let (balancer, now) = (balancer(policy, 20), Instant::now());
        let mut picker = balancer.picker();
        let mut owners = |now| -> Vec<u16> {
            let owner = |key| number(picker.next(&Request::keyed(Key::of_u64(key)), now).unwrap().address());
            (0..KEYS).map(owner).collect()
        };
        let before = owners(now);
        let key = (0..).zip(&before).find(|(_, owner)| **owner == 7).map(|(key, _)| Key::of_u64(key)).unwrap();
        let pick = balancer.pick(&Request::keyed(key), now).unwrap();
        assert_eq!(number(pick.address()), 7, "{policy}");
        pick.finish(Outcome::Failure(Failure::Refused), now);
        let after = owners(now);
        assert!(after.iter().all(|owner| *owner != 7), "{policy}");
        let moved = before.iter().zip(&after).filter(|(before, after)| **before != 7 && before != after).count();
        assert_eq!(moved, 0, "{policy}");
    }
}

#[test]
fn the_next_choice_of_a_key_is_stable_and_spread() {
    for policy in keyed(HashConfig::default()) {
        let balancer = balancer(policy, 10);
        let mut picker = balancer.picker();
        let mut counts = [0; 10];
        for key in 0..2000 {
            let request = Request::keyed(Key::of_u64(key));
            let first = picker.next(&request, Instant::now()).unwrap().id();
            let avoid = [first];
            let second = picker.next(&Request { avoid: &avoid, ..request }, Instant::now()).unwrap();
            assert_ne!(second.id(), first);
            let (second, again) =
                (second.id(), picker.next(&Request { avoid: &avoid, ..request }, Instant::now()).unwrap().id());
            assert_eq!(second, again, "{policy}");
            counts[(0..10).find(|number| id(*number) == second).unwrap() as usize] += 1;
        }
        assert!(counts.iter().all(|count| (100..350).contains(count)), "{policy}: {counts:?}");
    }
}

/// One key takes half of the requests: no backend has more in flight than the bound lets it.
#[test]
fn loads_are_bounded_where_asked() {
    for_each_seed(|seed| {
        for policy in keyed(HashConfig { load_bound_percent: Some(125), ..HashConfig::default() }) {
            let balancer: Balancer = Balancer::builder().policy(policy).seed(seed).build().unwrap();
            balancer
                .replace((0..8).map(|number| backend(number).with_weight(1 + u32::from(number % 2))).collect())
                .unwrap();
            let mut rng = Rng::new(seed);
            let (mut held, mut picker) = (Vec::new(), balancer.picker());
            for _ in 0..600 {
                if rng.below(4) == 0 && !held.is_empty() {
                    drop(held.swap_remove(rng.below(held.len() as u64) as usize));
                }
                let key = if rng.below(2) == 0 { 0 } else { rng.below(1000) };
                let pick = picker.pick(&Request::keyed(Key::of_u64(key)), Instant::now()).unwrap();
                let stats = balancer.backends().into_iter().find(|stats| stats.id == pick.id()).unwrap();
                held.push(pick);
                let share = f64::from(stats.weight) / 12.0;
                let most = (1.25 * held.len() as f64 * share).ceil() as usize;
                assert!(stats.in_flight <= most, "{policy}: {} of {} with {most}", stats.in_flight, held.len());
            }
        }
    });
}

#[test]
fn without_a_key_requests_are_spread() {
    for policy in keyed(HashConfig::default()) {
        let balancer = balancer(policy, 5);
        let mut picker = balancer.picker();
        let mut counts = [0; 5];
        (0..5000).for_each(|_| {
            counts[usize::from(number(picker.next(&Request::default(), Instant::now()).unwrap().address()))] += 1
        });
        assert!(counts.iter().all(|count| (700..1300).contains(count)), "{policy}: {counts:?}");
    }
}
