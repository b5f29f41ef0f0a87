use super::*;
use crate::Rng;
use crate::testing::for_each_seed;

fn target(priority: u16, weight: u16, hosts: &[u8]) -> Target {
    Target { priority, weight, port: 80, addresses: hosts.iter().map(|host| [10, 0, 0, *host].into()).collect() }
}

/// Host, weight and priority of each backend.
fn figures(targets: &[Target]) -> Vec<(u8, u32, u8)> {
    let host = |backend: &Backend| match backend.address() {
        SocketAddr::V4(address) => address.ip().octets()[3],
        SocketAddr::V6(_) => unreachable!("only IPv4 is used"),
    };
    backends(targets).iter().map(|backend| (host(backend), backend.weight(), backend.priority())).collect()
}

#[test]
fn addresses_are_sorted_and_weigh_alike() {
    assert_eq!(figures(&[target(0, 0, &[3, 1, 2, 1])]), [(1, 1, 0), (2, 1, 0), (3, 1, 0)]);
    assert_eq!(figures(&[]), []);
    assert_eq!(figures(&[target(0, 7, &[])]), []);
}

#[test]
fn priorities_are_numbered_in_their_order() {
    let targets = [target(900, 1, &[1]), target(7, 1, &[2]), target(8, 1, &[]), target(30, 1, &[3])];
    assert_eq!(figures(&targets), [(1, 1, 2), (2, 1, 0), (3, 1, 1)]);
    let many: Vec<_> = (0..300).map(|priority| target(priority, 1, &[(priority % 250) as u8])).collect();
    assert_eq!(figures(&many).len(), 250);
}

#[test]
fn weights_keep_their_proportions_in_small_numbers() {
    assert_eq!(figures(&[target(0, 60, &[1]), target(0, 20, &[2])]), [(1, 3, 0), (2, 1, 0)]);
    assert_eq!(figures(&[target(0, 0, &[1]), target(0, 0, &[2])]), [(1, 1, 0), (2, 1, 0)]);
    assert_eq!(figures(&[target(0, 0, &[1]), target(0, 2, &[2])]), [(1, 1, 0), (2, 200, 0)]);
    assert_eq!(figures(&[target(0, u16::MAX, &[1]), target(0, 0, &[2])]), [(1, 6_553_500, 0), (2, 1, 0)]);
    // Each priority by itself.
    assert_eq!(figures(&[target(0, 8, &[1]), target(1, 0, &[2])]), [(1, 1, 0), (2, 1, 1)]);
}

#[test]
fn a_target_shares_its_weight_among_its_addresses() {
    assert_eq!(figures(&[target(0, 1, &[1, 2]), target(0, 1, &[3])]), [(1, 1, 0), (2, 1, 0), (3, 2, 0)]);
    assert_eq!(figures(&[target(0, 3, &[1, 2]), target(0, 1, &[3, 4, 5])])[..2], [(1, 9, 0), (2, 9, 0)]);
}

#[test]
fn an_address_that_occurs_twice_counts_once() {
    assert_eq!(figures(&[target(0, 1, &[1]), target(0, 2, &[1, 2])]), [(1, 2, 0), (2, 1, 0)]);
    assert_eq!(figures(&[target(1, 9, &[1, 2]), target(0, 1, &[1])]), [(1, 1, 0), (2, 1, 1)]);
}

/// The sums of the targets' weights keep their proportions to a part in a thousand, whatever the records' order.
#[test]
fn proportions_hold_for_random_targets() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        for _ in 0..300 {
            let mut below = |n| rng.below(n);
            let mut targets: Vec<_> = (0..=below(5) as u8)
                .map(|index| {
                    let hosts: Vec<_> = (0..=below(7) as u8).map(|host| index * 10 + host).collect();
                    target(0, 1 + below(200) as u16, &hosts)
                })
                .collect();
            let before = figures(&targets);
            let sum = |targets: &[Target], index: usize| -> f64 {
                let hosts: Vec<_> = before.iter().filter(|(host, ..)| usize::from(*host) / 10 == index).collect();
                hosts.iter().map(|(_, weight, _)| f64::from(*weight)).sum::<f64>() / f64::from(targets[index].weight)
            };
            for index in 1..targets.len() {
                let ratio = sum(&targets, index) / sum(&targets, 0);
                assert!((0.999..1.001).contains(&ratio), "{ratio} of {targets:?}");
            }
            targets.reverse();
            assert_eq!(figures(&targets), before);
        }
    });
}

#[test]
fn a_backend_is_removed_once_enough_answers_lack_it() {
    let answer = |hosts: &[u8]| backends(&[target(0, 0, hosts)]);
    let mut grace = Grace::default();
    assert_eq!(grace.apply(answer(&[1, 2]), 3), answer(&[1, 2]));
    assert_eq!(grace.apply(answer(&[2]), 3), answer(&[1, 2]));
    assert_eq!(grace.apply(answer(&[2, 3]), 3), answer(&[1, 2, 3]));
    assert_eq!(grace.apply(answer(&[3]), 3), answer(&[2, 3]), "1 was lacking three times, 2 once");
    assert_eq!(grace.apply(answer(&[2]), 1), answer(&[2]));
    assert_eq!(grace.apply(answer(&[]), 0), []);
}
