//! The pool beside a naive oracle: random changes and picks from a seed, and after every step the same members, the
//! same counts in flight, and picks from those who may be picked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tenfold_load_balancer::testing::for_each_seed;
use tenfold_load_balancer::{
    Backend, BackendState, Balancer, Change, ChangeError, Pick, PickError, Picker, Policy, Request, Rng,
};

use crate::{address, backend, id, number};

const NUMBERS: u64 = 12;
const MAX_BACKENDS: usize = 9;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    weight: u32,
    priority: u8,
    draining: bool,
    /// Which life of this number it is: one that left and came back has nothing in flight.
    life: u64,
}

struct Run {
    balancer: Balancer,
    pickers: Vec<Picker>,
    known: BTreeMap<u16, Known>,
    held: Vec<(u16, u64, Pick)>,
    lives: u64,
    now: Instant,
    rng: Rng,
}

fn a_backend(rng: &mut Rng) -> (u16, Backend) {
    let number = rng.below(NUMBERS) as u16;
    let weight = [0, 1, 1, 2, 5][rng.below(5) as usize];
    (number, backend(number).with_weight(weight).with_priority(rng.below(3) as u8))
}

impl Run {
    fn new(policy: Policy, seed: u64) -> Self {
        let config = tenfold_load_balancer::Config { policy, max_backends: MAX_BACKENDS, ..Default::default() };
        let balancer: Balancer = Balancer::builder().config(config).seed(seed).build().unwrap();
        let pickers = (0..3).map(|_| balancer.picker()).collect();
        let (known, held, lives, now, rng) = (BTreeMap::new(), Vec::new(), 0, Instant::now(), Rng::new(seed));
        Self { balancer, pickers, known, held, lives, now, rng }
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0 | 1 => self.insert(),
            2 => {
                let number = self.rng.below(NUMBERS) as u16;
                assert_eq!(self.balancer.remove(id(number)), self.known.remove(&number).is_some());
            }
            3 => {
                let number = self.rng.below(NUMBERS) as u16;
                let known = self.known.get_mut(&number).map(|known| known.draining = true);
                assert_eq!(self.balancer.drain(id(number)), known.is_some());
            }
            4 => self.replace(),
            5..15 => self.pick(),
            _ => {
                if !self.held.is_empty() {
                    let at = self.rng.below(self.held.len() as u64) as usize;
                    drop(self.held.swap_remove(at));
                }
            }
        }
    }

    fn known(&mut self, number: u16, backend: &Backend) -> Known {
        let before = self.known.get(&number).map(|known| known.life);
        let life = before.unwrap_or_else(|| {
            self.lives += 1;
            self.lives
        });
        Known { weight: backend.weight(), priority: backend.priority(), draining: false, life }
    }

    fn insert(&mut self) {
        let (number, backend) = a_backend(&mut self.rng);
        let is_new = !self.known.contains_key(&number);
        let known = self.known(number, &backend);
        let expected = if is_new && self.known.len() == MAX_BACKENDS {
            Err(ChangeError::TooMany { max: MAX_BACKENDS })
        } else {
            self.known.insert(number, known);
            Ok(is_new)
        };
        assert_eq!(self.balancer.insert(backend), expected);
    }

    fn replace(&mut self) {
        let count = self.rng.below(MAX_BACKENDS as u64 + 2);
        let list: Vec<_> = (0..count).map(|_| a_backend(&mut self.rng)).collect();
        let numbers: BTreeSet<_> = list.iter().map(|(number, _)| number).collect();
        let outcome = self.balancer.apply(Change::Replace(list.iter().map(|(_, backend)| backend.clone()).collect()));
        if list.len() > MAX_BACKENDS {
            assert_eq!(outcome, Err(ChangeError::TooMany { max: MAX_BACKENDS }));
        } else if numbers.len() < list.len() {
            assert!(matches!(outcome, Err(ChangeError::DuplicateId(_))), "{outcome:?}");
        } else {
            assert_eq!(outcome, Ok(()));
            let known: Vec<_> = list.iter().map(|(number, backend)| (*number, self.known(*number, backend))).collect();
            self.known = known.into_iter().collect();
        }
    }

    /// Those who may be picked: the best priority that has somebody who takes part.
    fn eligible(&self) -> BTreeSet<u16> {
        let takes_part = |known: &Known| !known.draining && known.weight > 0;
        let best = self.known.values().filter(|known| takes_part(known)).map(|known| known.priority).min();
        let chosen = |known: &Known| takes_part(known) && Some(known.priority) == best;
        self.known.iter().filter(|(_, known)| chosen(known)).map(|(number, _)| *number).collect()
    }

    fn pick(&mut self) {
        let eligible = self.eligible();
        let avoid: Vec<_> = (0..self.rng.below(4)).map(|_| id(self.rng.below(NUMBERS) as u16)).collect();
        let sticky = (self.rng.below(4) == 0).then(|| self.rng.below(NUMBERS) as u16);
        let request = Request { sticky: sticky.map(id), avoid: &avoid, ..Request::default() };
        let which = self.rng.below(4) as usize;
        let picked = match self.pickers.get_mut(which) {
            Some(picker) => picker.pick(&request, self.now),
            None => self.balancer.pick(&request, self.now),
        };
        let by_cookie = sticky.filter(|number| self.known.contains_key(number) && !avoid.contains(&id(*number)));
        match (by_cookie, picked) {
            (Some(number), Ok(pick)) => self.hold(number, pick),
            (None, Ok(pick)) => {
                let number = number(pick.address());
                assert!(eligible.contains(&number), "{number} is not of {eligible:?}");
                let is_fresh = |number: &u16| !avoid.contains(&id(*number));
                assert!(is_fresh(&number) || !eligible.iter().any(is_fresh), "{number} was to be avoided");
                self.hold(number, pick);
            }
            (None, Err(PickError::NoBackends)) => assert!(self.known.is_empty()),
            (None, Err(PickError::NoneAvailable)) => assert!(eligible.is_empty() && !self.known.is_empty()),
            (by_cookie, picked) => panic!("{picked:?} for {by_cookie:?}"),
        }
    }

    fn hold(&mut self, expected: u16, pick: Pick) {
        assert_eq!(pick.address(), address(expected));
        assert_eq!(pick.id(), id(expected));
        self.held.push((expected, self.known[&expected].life, pick));
    }

    fn check(&self) {
        let backends = self.balancer.backends();
        assert_eq!(backends.len(), self.known.len());
        for backend in backends {
            let number = number(backend.address);
            let known = self.known[&number];
            assert_eq!((backend.weight, backend.priority), (known.weight, known.priority));
            assert_eq!(backend.state == BackendState::Draining, known.draining || known.weight == 0);
            let held = self.held.iter().filter(|(of, life, _)| (*of, *life) == (number, known.life)).count();
            assert_eq!(backend.in_flight, held, "in flight at {number}");
        }
    }
}

#[test]
fn the_pool_behaves_as_its_oracle() {
    for_each_seed(|seed| {
        for policy in Policy::all() {
            let mut run = Run::new(policy, seed);
            // Those with big tables build one at each change.
            for _ in 0..600 {
                run.step();
                run.check();
            }
        }
    });
}
