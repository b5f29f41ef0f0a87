use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::discover::kube::server::slice;
use crate::discover::testing::{backend, backends};
use crate::testing::for_each_seed;
use crate::{BackendId, Rng};

fn named(name: &str, mut value: Value) -> Slice {
    value["metadata"] = json!({"name": name, "resourceVersion": "1"});
    serde_json::from_value(value).unwrap()
}

fn one(value: Value) -> Vec<Change> {
    let mut slices = Slices::default();
    slices.put(named("a", value));
    slices.changes(None).into()
}

fn hosts(endpoints: &[(&str, &str, &str)]) -> Vec<Change> {
    one(slice(80, endpoints))
}

#[test]
fn conditions_say_what_becomes_of_an_endpoint() {
    let other = ("10.0.0.9", "rs", "");
    for (conditions, expected) in [
        ("rs", Some(false)),
        ("r", Some(false)),
        ("", None),
        ("s", None),
        ("st", Some(true)),
        ("rst", Some(true)),
        ("t", None),
    ] {
        let changes = hosts(&[("10.0.0.1", conditions, ""), other]);
        let first = expected.map(|drains| if drains { backend(1).with_draining() } else { backend(1) });
        let listed = first.into_iter().chain([backend(9)]).collect();
        assert_eq!(changes, [Change::Replace(listed)], "{conditions}");
    }
    let unknown = json!({"endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": null}}], "ports": [{"port": 80}]});
    assert_eq!(one(unknown), [Change::Replace(backends(&[1, 2]))]);
}

#[test]
fn where_all_are_terminating_they_take_requests() {
    assert_eq!(hosts(&[("10.0.0.1", "st", ""), ("10.0.0.2", "t", "")]), [Change::Replace(backends(&[1]))]);
}

#[test]
fn what_makes_no_sense_is_passed_over() {
    let strange = json!({
        "endpoints": [{"addresses": []}, {"addresses": ["web.example"]}, {}, {"addresses": ["fd00::1", "fd00::2"], "zone": "z"}],
        "ports": [{"name": "", "port": 81}, {"name": "b", "port": 82}],
    });
    let v6 = Backend::new("[fd00::1]:81".parse().unwrap()).with_zone(Zone::new("z"));
    assert_eq!(one(strange), [Change::Replace(vec![v6])]);
    for empty in [
        json!({}),
        json!({"endpoints": null, "ports": null}),
        json!({"endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 0}]}),
    ] {
        assert_eq!(one(empty), [Change::Replace(vec![])]);
    }
}

#[test]
fn the_port_is_chosen_by_name() {
    let mut slices = Slices::default();
    let ports = json!([{"name": "admin", "port": 9}, {"name": "http", "port": 80}]);
    slices.put(named("a", json!({"endpoints": [{"addresses": ["10.0.0.1"]}], "ports": ports})));
    assert_eq!(slices.changes(Some("http")), [Change::Replace(backends(&[1]))]);
    slices.forget_shown();
    assert_eq!(slices.changes(Some("grpc")), [Change::Replace(vec![])]);
}

#[test]
fn an_endpoint_in_several_slices_is_one_backend() {
    let mut slices = Slices::default();
    slices.put(named("a", slice(80, &[("10.0.0.1", "rs", ""), ("10.0.0.2", "rs", "")])));
    slices.put(named("b", slice(80, &[("10.0.0.1", "st", "z")])));
    let in_zone = backend(1).with_zone(Zone::new("z"));
    assert_eq!(slices.changes(None), [Change::Replace(vec![in_zone, backend(2)])]);
    slices.delete("b");
    assert_eq!(slices.changes(None), [Change::Insert(backend(1))]);
    slices.put(named("c", slice(80, &[("10.0.0.3", "rs", "")])));
    slices.put(named("a", slice(80, &[("10.0.0.2", "st", "")])));
    let expected =
        [Change::Insert(backend(3)), Change::Insert(backend(2).with_draining()), Change::Remove(backend(1).id())];
    assert_eq!(slices.changes(None), expected);
    slices.replace(vec![]);
    assert_eq!(slices.changes(None), [Change::Replace(vec![])]);
    assert_eq!(slices.changes(None), []);
    slices.put(named("c", slice(80, &[("10.0.0.3", "rs", "")])));
    assert_eq!(slices.changes(None), [Change::Insert(backend(3))]);
}

/// Changes by changes, the balancer knows what a look at all slices says.
#[test]
fn differences_add_up_to_the_whole() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let mut slices = Slices::default();
        let (mut active, mut drained) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..500 {
            let name = ["a", "b", "c"][usize::try_from(rng.below(3)).unwrap()];
            if rng.below(4) == 0 {
                slices.delete(name);
            } else {
                let addresses: Vec<_> = (0..rng.below(4)).map(|_| format!("10.0.0.{}", rng.below(6))).collect();
                let conditions = ["rs", "rs", "st", "t", ""];
                let endpoints: Vec<_> = addresses
                    .iter()
                    .map(|address| (address.as_str(), conditions[usize::try_from(rng.below(5)).unwrap()], ""))
                    .collect();
                slices.put(named(name, slice(80, &endpoints)));
            }
            for change in slices.changes(None) {
                apply(change, &mut active, &mut drained);
            }
            let whole: Slices = Slices { slices: slices.slices.clone(), shown: None };
            let (mut all_active, mut all_drained) = (BTreeSet::new(), BTreeSet::new());
            let mut whole = whole;
            whole.changes(None).into_iter().for_each(|change| apply(change, &mut all_active, &mut all_drained));
            assert_eq!((&active, &drained), (&all_active, &all_drained));
        }
    });
}

fn apply(change: Change, active: &mut BTreeSet<BackendId>, drained: &mut BTreeSet<BackendId>) {
    match change {
        Change::Insert(backend) => {
            active.remove(&backend.id());
            drained.remove(&backend.id());
            if backend.is_draining() { drained } else { active }.insert(backend.id());
        }
        Change::Drain(id) => {
            assert!(active.remove(&id), "what drains was there");
            drained.insert(id);
        }
        Change::Remove(id) => assert!(active.remove(&id) | drained.remove(&id), "what goes was there"),
        Change::Replace(backends) => {
            let (leaving, staying): (Vec<_>, Vec<_>) = backends.iter().partition(|backend| backend.is_draining());
            *drained = leaving.into_iter().map(Backend::id).collect();
            *active = staying.into_iter().map(Backend::id).collect();
        }
    }
}
