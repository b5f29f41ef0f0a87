use std::convert::Infallible;
use std::sync::Mutex;

use super::*;
use crate::discover::testing::{backend, backends, now, script};
use crate::{AddressPolicy, NotPrivate};

fn broken() -> DiscoverError {
    DiscoverError::unavailable(std::io::Error::other("broken"))
}

/// Drives a script to its end: the changes that were applied, the waits, and what was reported.
fn run(answers: Vec<Result<Change, DiscoverError>>) -> (Vec<Change>, Vec<Duration>, Vec<String>, DriveStats) {
    let (mut applied, mut waits) = (Vec::new(), Vec::new());
    let errors = Arc::new(Mutex::new(Vec::new()));
    let reported = Arc::clone(&errors);
    let drive =
        Drive::new(script(answers)).seed(7).on_error(move |error| reported.lock().unwrap().push(error.to_string()));
    let counters = drive.counters();
    let sleep = |wait| {
        waits.push(wait);
        std::future::ready(())
    };
    now(drive.run_with(sleep, |change| {
        applied.push(change);
        Ok::<_, Infallible>(())
    }))
    .expect("a script does not wait");
    let errors = errors.lock().unwrap().clone();
    (applied, waits, errors, counters.stats())
}

#[test]
fn errors_and_empty_answers_change_nothing() {
    let (applied, waits, errors, stats) = run(vec![
        Err(broken()),
        Ok(Change::Replace(backends(&[1, 2]))),
        Err(broken()),
        Ok(Change::Replace(vec![])),
        Ok(Change::Replace(backends(&[3]))),
        Err(DiscoverError::timed_out()),
    ]);
    assert_eq!(applied, [Change::Replace(backends(&[1, 2])), Change::Replace(backends(&[3]))]);
    assert_eq!(waits.len(), 3);
    assert_eq!(errors[2], "the discovery source names no backend");
    assert_eq!(stats, DriveStats { applied: 2, withheld: 1, refused: 0, errors: 3, consecutive_errors: 1 });
}

#[test]
fn waits_double_up_to_their_limit_and_start_anew_after_an_answer() {
    let mut answers: Vec<_> = (0..40).map(|_| Err(broken())).collect();
    answers.push(Ok(Change::Replace(backends(&[1]))));
    answers.push(Err(broken()));
    let (_, waits, ..) = run(answers);
    let config = DriveConfig::default();
    let mut longest = config.min_backoff;
    for wait in &waits[..40] {
        assert!((longest / 2..=longest).contains(wait), "{wait:?} is not in the upper half of {longest:?}");
        longest = (longest * 2).min(config.max_backoff);
    }
    assert!(waits[40] <= config.min_backoff);
    let spread = waits[10..40].iter().collect::<std::collections::BTreeSet<_>>();
    assert!(spread.len() > 20, "the waits are not spread: {spread:?}");
}

#[test]
fn an_empty_list_of_the_host_is_applied() {
    let mut applied = Vec::new();
    let (sender, source) = crate::channel(4);
    sender.try_send(Change::Replace(backends(&[1]))).unwrap();
    sender.try_send(Change::Remove(backend(1).id())).unwrap();
    drop(sender);
    let keep = |change| {
        applied.push(change);
        Ok::<_, Infallible>(())
    };
    now(Drive::new(source).run_with(|_| std::future::ready(()), keep)).unwrap();
    assert_eq!(applied, [Change::Replace(backends(&[1])), Change::Remove(backend(1).id())]);
}

#[test]
fn a_refused_change_is_reported_and_the_next_one_applied() {
    let stranger = crate::Backend::new("8.8.8.8:80".parse().unwrap());
    let drive =
        Drive::new(script(vec![Ok(Change::Insert(stranger)), Ok(Change::Insert(backend(1)))])).on_error(|error| {
            assert!(error.is_refused());
            assert!(error.source().unwrap().downcast_ref::<NotPrivate>().is_some());
        });
    let counters = drive.counters();
    let apply = |change: Change| match change {
        Change::Insert(backend) => AddressPolicy::PrivateOnly.check(backend.address()),
        _ => Ok(()),
    };
    now(drive.run_with(|_| std::future::ready(()), apply)).unwrap();
    assert_eq!((counters.stats().applied, counters.stats().refused), (1, 1));
}

/// What is ready at once is applied at once, but what comes and what goes apart.
#[test]
fn changes_that_are_ready_are_applied_together() {
    let insert = |host| Ok(Change::Insert(backend(host)));
    let remove = |host: u8| Ok(Change::Remove(backend(host).id()));
    let answers = vec![
        Ok(Change::Replace(backends(&[1, 2]))),
        insert(3),
        insert(4),
        remove(1),
        Ok(Change::Drain(backend(2).id())),
        Err(broken()),
        insert(5),
    ];
    let mut batches = Vec::new();
    let apply = |changes: Vec<Change>| {
        batches.push(changes.len());
        changes.iter().map(|_| Ok::<_, Infallible>(())).collect()
    };
    now(Drive::new(script(answers)).run_all_with(|_| std::future::ready(()), apply)).unwrap();
    assert_eq!(batches, [1, 2, 2, 1]);
}

/// The newcomer is refused, so the last that is there stays.
#[test]
fn a_refusal_within_a_batch_is_known_to_what_follows() {
    let stranger = crate::Backend::new("8.8.8.8:80".parse().unwrap());
    let answers = vec![
        Ok(Change::Replace(backends(&[1]))),
        Ok(Change::Insert(stranger)),
        Ok(Change::Remove(backend(1).id())),
        Ok(Change::Insert(backend(2))),
    ];
    let config = crate::Config { addresses: AddressPolicy::PrivateOnly, ..Default::default() };
    let balancer: crate::Balancer = crate::Balancer::builder().config(config).build().unwrap();
    let drive = Drive::new(script(answers));
    let counters = drive.counters();
    now(drive.run_all_with(|_| std::future::ready(()), |changes| balancer.apply_all(changes))).unwrap();
    let stats = counters.stats();
    assert_eq!((stats.applied, stats.refused, stats.withheld), (2, 1, 1));
    assert_eq!(balancer.backends().len(), 1, "the one that was kept made room for the one that came");
    assert_eq!(balancer.backends()[0].id, backend(2).id());
}

#[cfg(feature = "serde")]
#[test]
fn settings_are_read_as_they_were_written() {
    let text = r#"{ "empty_answer": "apply", "max_backoff": "1m" }"#;
    let config: DriveConfig = serde_json::from_str(text).unwrap();
    let expected = DriveConfig {
        empty_answer: Some(EmptyAnswer::Apply),
        max_backoff: Duration::from_secs(60),
        ..Default::default()
    };
    assert_eq!(config, expected);
    assert_eq!(serde_json::from_str::<DriveConfig>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    assert!(serde_json::from_str::<DriveConfig>(r#"{ "backoff": 3 }"#).is_err());
    assert_eq!(serde_json::from_str::<crate::FileConfig>("{}").unwrap(), crate::FileConfig::default());
}
