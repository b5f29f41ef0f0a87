use super::*;
use crate::discover::testing::{backend, backends};
use crate::testing::for_each_seed;
use crate::{Change, Rng};

/// Admits and commits, as a balancer does that refuses nothing; the change that came through.
fn pass(gate: &mut Gate, change: Change) -> Result<Change, Withheld> {
    let (change, effect) = gate.admit(change)?;
    gate.commit(effect);
    Ok(change)
}

fn id(host: u8) -> BackendId {
    backend(host).id()
}

#[test]
fn the_last_backends_stay_until_others_are_named() {
    let mut gate = Gate::new(EmptyAnswer::Keep, 10);
    assert_eq!(pass(&mut gate, Change::Replace(vec![])), Err(Withheld::Empty));
    pass(&mut gate, Change::Replace(backends(&[1, 2]))).unwrap();
    assert_eq!(pass(&mut gate, Change::Replace(vec![])), Err(Withheld::Empty));
    assert_eq!(pass(&mut gate, Change::Remove(id(1))), Err(Withheld::Empty));
    assert_eq!(pass(&mut gate, Change::Insert(backend(3))), Ok(Change::Replace(backends(&[3]))));
    assert_eq!(pass(&mut gate, Change::Insert(backend(4))), Ok(Change::Insert(backend(4))));
}

#[test]
fn the_last_backend_is_neither_removed_nor_drained() {
    let weigh_nothing = |_| Change::Insert(backend(2).with_weight(0));
    for change in [Change::Remove, Change::Drain] {
        let mut gate = Gate::new(EmptyAnswer::Keep, 10);
        pass(&mut gate, Change::Replace(backends(&[1, 2]))).unwrap();
        pass(&mut gate, change(id(1))).unwrap();
        assert_eq!(pass(&mut gate, change(id(2))), Err(Withheld::Empty));
        assert_eq!(pass(&mut gate, weigh_nothing(())), Err(Withheld::Empty));
        assert_eq!(pass(&mut gate, Change::Remove(id(1))), Ok(Change::Remove(id(1))), "it takes no requests");
        assert_eq!(pass(&mut gate, Change::Insert(backend(3))), Ok(Change::Replace(backends(&[3]))));
    }
}

#[test]
fn what_is_refused_by_the_balancer_does_not_count() {
    let mut gate = Gate::new(EmptyAnswer::Keep, 10);
    pass(&mut gate, Change::Replace(backends(&[1]))).unwrap();
    let _refused = gate.admit(Change::Insert(backend(2))).unwrap();
    assert_eq!(pass(&mut gate, Change::Remove(id(1))), Err(Withheld::Empty));
}

#[test]
fn more_than_the_limit_is_withheld_as_a_whole() {
    let mut gate = Gate::new(EmptyAnswer::Keep, 2);
    assert_eq!(pass(&mut gate, Change::Replace(backends(&[1, 2, 3]))), Err(Withheld::TooMany));
    pass(&mut gate, Change::Replace(backends(&[1, 2]))).unwrap();
    pass(&mut gate, Change::Drain(id(1))).unwrap();
    assert_eq!(pass(&mut gate, Change::Insert(backend(3))), Err(Withheld::TooMany), "a draining one is listed");
    pass(&mut gate, Change::Insert(backend(1).with_weight(7))).unwrap();
    pass(&mut gate, Change::Remove(id(1))).unwrap();
    pass(&mut gate, Change::Insert(backend(3))).unwrap();
}

/// What the balancer should know, the plain way: the source's set, and the last in which one takes requests. Each host
/// stands beside whether it does.
#[derive(Default)]
struct Oracle {
    meant: Vec<(u8, bool)>,
    shown: Vec<(u8, bool)>,
}

impl Oracle {
    fn apply(&mut self, change: &Step) {
        let drop = |set: &mut Vec<(u8, bool)>, host| set.retain(|(other, _)| *other != host);
        match change {
            Step::Insert(host, weight) => {
                drop(&mut self.meant, *host);
                self.meant.push((*host, *weight > 0));
            }
            Step::Remove(host) => drop(&mut self.meant, *host),
            Step::Drain(host) => {
                self.meant.iter_mut().filter(|(other, _)| other == host).for_each(|(_, active)| *active = false);
            }
            Step::Replace(hosts) => self.meant = hosts.iter().map(|host| (*host, true)).collect(),
        }
        if self.meant.iter().any(|(_, active)| *active) {
            self.shown.clone_from(&self.meant);
        }
    }
}

#[derive(Debug)]
enum Step {
    Insert(u8, u32),
    Remove(u8),
    Drain(u8),
    Replace(Vec<u8>),
}

impl Step {
    fn random(rng: &mut Rng) -> Self {
        let host = u8::try_from(rng.below(4)).unwrap();
        match rng.below(8) {
            0..=2 => Self::Insert(host, u32::from(rng.below(4) > 0)),
            3..=4 => Self::Remove(host),
            5..=6 => Self::Drain(host),
            _ => Self::Replace((0..4).filter(|_| rng.below(3) == 0).collect()),
        }
    }

    fn change(&self) -> Change {
        match self {
            Self::Insert(host, weight) => Change::Insert(backend(*host).with_weight(*weight)),
            Self::Remove(host) => Change::Remove(id(*host)),
            Self::Drain(host) => Change::Drain(id(*host)),
            Self::Replace(hosts) => Change::Replace(backends(hosts)),
        }
    }
}

/// The active ones that come through are those of the last set the source meant that had any.
#[test]
fn matches_the_last_good_set_of_an_oracle() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let mut gate = Gate::new(EmptyAnswer::Keep, usize::MAX);
        let mut oracle = Oracle::default();
        let mut told: BTreeSet<BackendId> = BTreeSet::new();
        for _ in 0..2_000 {
            let step = Step::random(&mut rng);
            oracle.apply(&step);
            match pass(&mut gate, step.change()) {
                Ok(Change::Insert(backend)) if backend.weight() == 0 => drop(told.remove(&backend.id())),
                Ok(Change::Insert(backend)) => drop(told.insert(backend.id())),
                Ok(Change::Remove(id) | Change::Drain(id)) => drop(told.remove(&id)),
                Ok(Change::Replace(backends)) => told = backends.iter().map(crate::Backend::id).collect(),
                Err(withheld) => assert_eq!(withheld, Withheld::Empty),
            }
            let expected = oracle.shown.iter().filter(|(_, active)| *active).map(|(host, _)| id(*host));
            assert_eq!(told, expected.collect(), "after {step:?}");
            assert_eq!(told, gate.active);
        }
    });
}
