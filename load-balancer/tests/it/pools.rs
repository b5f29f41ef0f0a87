//! Zones, priorities, weights of zero, clients that come back, and bad input.

use std::time::Instant;

use tenfold_load_balancer::{
    AddressPolicy, Backend, Balancer, Change, ChangeError, Config, ConfigError, HashConfig, PickError, Policy, Request,
    Zone,
};

use crate::{address, backend, balancer, id, number};

/// The numbers that many picks come to, in order.
fn reached(balancer: &Balancer) -> Vec<u16> {
    let mut picker = balancer.picker();
    let mut numbers: Vec<_> =
        (0..200).map(|_| number(picker.next(&Request::default(), Instant::now()).unwrap().address())).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn in_zones(own: Option<&str>, zones: &[&str]) -> Balancer {
    let config = Config { zone: own.map(Zone::new), ..Config::default() };
    let balancer: Balancer = Balancer::builder().config(config).seed(1).build().unwrap();
    let with_zone = |(zone, number)| backend(number).with_zone(Zone::new(zone));
    balancer.replace(zones.iter().copied().zip(0..).map(with_zone).collect()).unwrap();
    balancer
}

#[test]
fn the_own_zone_is_preferred() {
    assert_eq!(reached(&in_zones(Some("a"), &["a", "b", "a", "c"])), [0, 2]);
    assert_eq!(reached(&in_zones(None, &["a", "b", "a", "c"])), [0, 1, 2, 3]);
    assert_eq!(reached(&in_zones(Some("z"), &["a", "b"])), [0, 1]);
}

#[test]
fn a_backup_serves_when_no_primary_does() {
    let balancer = balancer(Policy::RoundRobin, 2);
    balancer.insert(backend(7).with_priority(1)).unwrap();
    balancer.insert(backend(8).with_priority(2)).unwrap();
    assert_eq!(reached(&balancer), [0, 1]);
    balancer.drain(id(0));
    balancer.insert(backend(1).with_weight(0)).unwrap();
    assert_eq!(reached(&balancer), [7]);
    balancer.remove(id(7));
    assert_eq!(reached(&balancer), [8]);
    balancer.insert(backend(0)).unwrap();
    assert_eq!(reached(&balancer), [0]);
}

#[test]
fn a_client_comes_back_to_a_backend_that_drains() {
    let balancer = balancer(Policy::P2c, 3);
    balancer.drain(id(1));
    let mut picker = balancer.picker();
    let sticky = Request { sticky: Some(id(1)), ..Request::default() };
    assert_eq!(picker.pick(&sticky, Instant::now()).unwrap().address(), address(1));
    assert_ne!(picker.pick(&Request::default(), Instant::now()).unwrap().address(), address(1));
    balancer.remove(id(1));
    assert_ne!(picker.pick(&sticky, Instant::now()).unwrap().address(), address(1));
}

/// A pod that is about to end when it is first heard of.
#[test]
fn a_backend_that_comes_draining_takes_no_request() {
    let balancer = balancer(Policy::RoundRobin, 1);
    balancer.insert(backend(5).with_draining()).unwrap();
    assert_eq!(reached(&balancer), [0]);
    balancer.replace(vec![backend(0).with_draining(), backend(5)]).unwrap();
    assert_eq!(reached(&balancer), [5]);
    balancer.insert(backend(0)).unwrap();
    assert_eq!(reached(&balancer), [0, 5]);
}

#[test]
fn several_changes_are_seen_together_and_refusals_one_by_one() {
    let balancer = balancer(Policy::RoundRobin, 2);
    let results = balancer.apply_all(vec![
        Change::Insert(backend(2)),
        Change::Insert(backend(1).with_name("other")),
        Change::Remove(id(0)),
        Change::Drain(id(1)),
    ]);
    assert_eq!(results, [Ok(()), Err(ChangeError::DuplicateAddress(address(1))), Ok(()), Ok(())]);
    assert_eq!(reached(&balancer), [2]);
}

#[test]
fn nobody_to_pick_is_an_error() {
    let balancer = Balancer::new(vec![]).unwrap();
    let pick = || balancer.pick(&Request::default(), Instant::now()).map(|pick| pick.address());
    assert_eq!(pick(), Err(PickError::NoBackends));
    balancer.insert(backend(1).with_weight(0)).unwrap();
    assert_eq!(pick(), Err(PickError::NoneAvailable));
    balancer.insert(backend(2)).unwrap();
    assert_eq!(pick(), Ok(address(2)));
    balancer.drain(id(2));
    assert_eq!(pick(), Err(PickError::NoneAvailable));
}

#[test]
fn duplicates_and_crowds_are_refused_whole() {
    let balancer = balancer(Policy::RoundRobin, 2);
    let twice = vec![backend(5), backend(5)];
    assert_eq!(balancer.replace(twice), Err(ChangeError::DuplicateId(id(5))));
    let same_place = vec![backend(5), backend(5).with_name("other")];
    assert_eq!(balancer.replace(same_place), Err(ChangeError::DuplicateAddress(address(5))));
    assert_eq!(balancer.insert(backend(1).with_name("other")), Err(ChangeError::DuplicateAddress(address(1))));
    assert_eq!(reached(&balancer), [0, 1]);
}

#[test]
fn a_backend_that_moves_is_a_new_one_and_its_requests_end_at_the_old_place() {
    let named = |number: u16| -> Backend { backend(number).with_name("web") };
    let balancer = Balancer::new(vec![named(1)]).unwrap();
    let pick = balancer.pick(&Request::default(), Instant::now()).unwrap();
    assert_eq!(balancer.insert(named(2)), Ok(true));
    assert_eq!((pick.address(), balancer.backends()[0].address), (address(1), address(2)));
    assert_eq!(balancer.backends()[0].in_flight, 0);
    // The old address is free for another.
    assert_eq!(balancer.insert(backend(1)), Ok(true));
    drop(pick);
}

#[test]
fn weights_up_to_the_largest_do_not_overflow() {
    for policy in Policy::all() {
        let balancer: Balancer = Balancer::builder().policy(policy).seed(1).build().unwrap();
        balancer.replace((0..50).map(|number| backend(number).with_weight(u32::MAX)).collect::<Vec<_>>()).unwrap();
        assert!(reached(&balancer).len() > 40);
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let default = Config::default;
    for (config, field, value, min, max) in [
        (Config { zone_threshold_percent: 101, ..default() }, "zone_threshold_percent", 101, 0, 100),
        (Config { panic_threshold_percent: 101, ..default() }, "panic_threshold_percent", 101, 0, 100),
        (Config { max_backends: 0, ..default() }, "max_backends", 0, 1, u32::MAX),
        (Config { max_in_flight: Some(0), ..default() }, "max_in_flight", 0, 1, u32::MAX),
    ] {
        let refusal = Balancer::builder().config(config).build::<()>().unwrap_err();
        assert_eq!(refusal, ConfigError::Number { field, value, min, max });
        assert_eq!(refusal.to_string(), format!("`{field}` is {value}, not from {min} to {max}"));
    }
}

#[test]
fn settings_of_hash_policies_out_of_range_are_refused() {
    let config = HashConfig::default();
    for (policy, field, value, min, max) in [
        (Policy::Maglev(HashConfig { slots: Some(0), ..config }), "slots", 0, 1, 1 << 24),
        (Policy::CappedRendezvous(HashConfig { slots: Some(u32::MAX), ..config }), "slots", u32::MAX, 1, 1 << 24),
        (Policy::RingHash(HashConfig { slots: Some(65_537), ..config }), "slots", 65_537, 1, 65_536),
        (Policy::Maglev(HashConfig { cap_percent: Some(99), ..config }), "cap_percent", 99, 100, 10_000),
        (
            Policy::Rendezvous(HashConfig { load_bound_percent: Some(10), ..config }),
            "load_bound_percent",
            10,
            100,
            10_000,
        ),
    ] {
        let refusal = Balancer::builder().policy(policy).build::<()>().unwrap_err();
        assert_eq!(refusal, ConfigError::Number { field, value, min, max });
    }
}

/// Whatever the policy: nobody gets more than it may have, and when all are full the refusal says so.
#[test]
fn backends_that_are_full_are_passed_over() {
    let bounded = Policy::Maglev(HashConfig { load_bound_percent: Some(125), ..HashConfig::default() });
    for policy in Policy::all().chain([bounded]) {
        let config = Config { policy, max_in_flight: Some(3), ..Config::default() };
        let balancer: Balancer = Balancer::builder().config(config).seed(1).build().unwrap();
        balancer.replace((0..4).map(backend).collect()).unwrap();
        let sticky = Request { sticky: Some(id(1)), ..Request::default() };
        let mut held: Vec<_> = (0..5).map(|_| balancer.pick(&sticky, Instant::now()).unwrap()).collect();
        let key = Request::keyed(tenfold_load_balancer::Key::of(b"one for all"));
        held.extend((0..7).map(|_| balancer.pick(&key, Instant::now()).unwrap()));
        assert!(balancer.backends().iter().all(|backend| backend.in_flight == 3), "{policy}");
        for request in [Request::default(), key, sticky] {
            assert_eq!(balancer.pick(&request, Instant::now()).unwrap_err(), PickError::AllFull, "{policy}");
        }
        let free = held.pop().unwrap().id();
        assert_eq!(balancer.pick(&Request { avoid: &[free], ..key }, Instant::now()).unwrap().id(), free, "{policy}");
    }
}

#[test]
fn public_addresses_are_refused_where_asked() {
    let config = Config { addresses: AddressPolicy::PrivateOnly, ..Config::default() };
    let balancer: Balancer = Balancer::builder().config(config).build().unwrap();
    let public = Backend::new("8.8.8.8:80".parse().unwrap());
    assert!(matches!(balancer.insert(public.clone()), Err(ChangeError::NotPrivate(_))));
    assert!(matches!(balancer.replace(vec![backend(1), public]), Err(ChangeError::NotPrivate(_))));
    assert_eq!(balancer.backends().len(), 0, "nothing was changed");
    assert_eq!(balancer.insert(Backend::new("10.1.2.3:80".parse().unwrap())), Ok(true));
}

/// Nothing can be sent to port 0, which mostly stands for a port that nobody filled in.
#[test]
fn port_0_is_refused() {
    let balancer = balancer(Policy::RoundRobin, 2);
    let nowhere = Backend::new("10.0.0.1:0".parse().unwrap());
    let refusal = ChangeError::NoPort(nowhere.address());
    assert_eq!(refusal.to_string(), "a backend cannot have port 0: 10.0.0.1:0");
    assert_eq!(balancer.insert(nowhere.clone()), Err(refusal));
    assert_eq!(balancer.replace(vec![backend(1), nowhere.clone()]), Err(refusal));
    assert_eq!(balancer.apply(Change::Insert(nowhere)), Err(refusal));
    assert_eq!(balancer.backends().len(), 2, "nothing was changed");
}
