//! Pingora's balancers.

use std::collections::BTreeSet;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pingora_load_balancing::selection::{BackendIter, BackendSelection, Consistent, Random, RoundRobin};
use pingora_load_balancing::{Backend, Backends, LoadBalancer, discovery};

use super::{Candidate, Hand, Kind, Origin, Picker, Pool, SharedPool, address, number, weight};

/// Its selections that have a kind here.
pub const CANDIDATES: &[Candidate] = &[
    peer("pingora-round-robin", Kind::RoundRobin, |count| pool::<RoundRobin>(count, |_| 1)),
    peer("pingora-round-robin-weighted", Kind::Weighted, |count| pool::<RoundRobin>(count, weight)),
    peer("pingora-random", Kind::Random, |count| pool::<Random>(count, |_| 1)),
    peer("pingora-consistent", Kind::Hash, |count| pool::<Consistent>(count, |_| 1)),
];

/// How many backends `select` may look at before it gives up; its examples say 256.
const MAX_ITERATIONS: usize = 256;

const fn peer(name: &'static str, kind: Kind, build: fn(usize) -> Pool) -> Candidate {
    Candidate { name, kind, origin: Origin::Peer, max_backends: usize::MAX, build }
}

fn pool<S>(count: usize, weight: fn(usize) -> u32) -> Pool
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    let backend = |number: usize| {
        Backend::new_with_weight(&address(number).to_string(), weight(number) as usize).expect("an address is valid")
    };
    let backends: BTreeSet<Backend> = (0..count).map(backend).collect();
    let balancer = LoadBalancer::<S>::from_backends(Backends::new(discovery::Static::new(backends)));
    // A static list is there at once.
    let update = pin!(balancer.update()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(update, Poll::Ready(Ok(()))), "a static list needs no waiting");
    Pool::shared(Pingora { balancer, count })
}

struct Pingora<S: BackendSelection> {
    balancer: LoadBalancer<S>,
    count: usize,
}

impl<S> SharedPool for Pingora<S>
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    fn hand(&self) -> Box<dyn Hand + '_> {
        Box::new(self)
    }
}

impl<S> Picker for &Pingora<S>
where
    S: BackendSelection + 'static,
    S::Iter: BackendIter,
{
    #[inline]
    fn pick(&mut self, key: u64) -> Option<usize> {
        let backend = self.balancer.select(&key.to_ne_bytes(), MAX_ITERATIONS)?;
        number(*backend.addr.as_inet()?, self.count)
    }
}
