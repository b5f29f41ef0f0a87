use std::collections::BTreeMap;

use super::*;
use crate::discover::testing::{backend, backends, now, script};
use crate::testing::for_each_seed;
use crate::{Backend, Rng};

/// All that a source says until it ends.
fn all(mut source: impl Discover) -> Vec<Change> {
    let mut changes = Vec::new();
    while let Some(answer) = now(source.next_change()).expect("it does not wait") {
        changes.extend(answer);
    }
    changes
}

#[test]
fn each_source_replaces_its_own() {
    let a = vec![Ok(Change::Replace(backends(&[1, 2]))), Ok(Change::Replace(backends(&[2, 3])))];
    let b = vec![Ok(Change::Replace(backends(&[3, 4]))), Ok(Change::Remove(backend(3).id()))];
    let insert = |host| Change::Insert(backend(host));
    let expected = [
        Change::Replace(backends(&[1, 2])),
        insert(3),
        insert(4),
        insert(2),
        insert(3),
        // 3 is the first one's as well, by now.
        Change::Remove(backend(1).id()),
    ];
    assert_eq!(all(script(a).merge(script(b))), expected);
}

#[test]
fn errors_come_through_and_the_other_goes_on() {
    let a = vec![Err(DiscoverError::timed_out()), Ok(Change::Insert(backend(1)))];
    let mut merged = script(a).merge(script(vec![Ok(Change::Replace(backends(&[2])))]));
    let mut answers = Vec::new();
    while let Some(answer) = now(merged.next_change()).unwrap() {
        answers.push(answer.is_ok());
    }
    answers.sort_unstable();
    assert_eq!(answers, [false, true, true]);
}

#[test]
fn who_waits_does_not_keep_the_other_back() {
    let (sender, receiver) = crate::channel(4);
    let mut merged = receiver.merge(script(vec![Ok(Change::Replace(backends(&[2])))]));
    assert_eq!(now(merged.next_change()).unwrap().unwrap().unwrap(), Change::Replace(backends(&[2])));
    assert!(now(merged.next_change()).is_none());
    sender.try_send(Change::Insert(backend(1))).unwrap();
    assert_eq!(now(merged.next_change()).unwrap().unwrap().unwrap(), Change::Insert(backend(1)));
    drop(sender);
    assert!(now(merged.next_change()).unwrap().is_none());
    assert_eq!(merged.empty_answer(), EmptyAnswer::Keep);
}

fn random_change(rng: &mut Rng) -> Change {
    let host = |rng: &mut Rng| rng.below(6) as u8;
    match rng.below(6) {
        0 => Change::Replace((0..6).filter(|_| rng.below(2) == 0).map(backend).collect()),
        1 => Change::Remove(backend(host(rng)).id()),
        2 => Change::Drain(backend(host(rng)).id()),
        _ => Change::Insert(backend(host(rng)).with_weight(rng.below(3) as u32)),
    }
}

/// Whoever is named by one of them, and nobody else, is in the pool.
#[test]
fn the_whole_is_what_both_name() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let (send_a, a) = crate::channel(1);
        let (send_b, b) = crate::channel(1);
        let mut merged = a.merge(b);
        let mut pool: BTreeMap<BackendId, Backend> = BTreeMap::new();
        let mut named = [BTreeSet::new(), BTreeSet::new()];
        for _ in 0..400 {
            let (which, change) = (rng.below(2) as usize, random_change(&mut rng));
            match &change {
                Change::Replace(backends) => named[which] = backends.iter().map(Backend::id).collect(),
                Change::Insert(backend) => drop(named[which].insert(backend.id())),
                Change::Remove(id) => drop(named[which].remove(id)),
                Change::Drain(_) => {}
            }
            [&send_a, &send_b][which].try_send(change).unwrap();
            while let Some(answer) = now(merged.next_change()) {
                match answer.unwrap().unwrap() {
                    Change::Replace(backends) => pool = backends.into_iter().map(|new| (new.id(), new)).collect(),
                    Change::Insert(backend) => drop(pool.insert(backend.id(), backend)),
                    Change::Remove(id) => assert!(pool.remove(&id).is_some(), "who goes was there"),
                    Change::Drain(id) => assert!(pool.contains_key(&id), "who drains is there"),
                }
            }
            let expected: BTreeSet<_> = named[0].union(&named[1]).copied().collect();
            assert_eq!(pool.keys().copied().collect::<BTreeSet<_>>(), expected);
        }
    });
}
