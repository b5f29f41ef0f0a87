//! What the host keeps beside a backend: when it is dropped, and that its destructor may ask the balancer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tenfold_load_balancer::{Backend, Balancer, Change, Outcome, Request};

use crate::{address, id};

/// Something that asks the balancer when it is dropped, as a connection pool does that reports who is left.
struct Curious {
    balancer: Arc<OnceLock<Balancer<Curious>>>,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Curious {
    fn drop(&mut self) {
        if let Some(balancer) = self.balancer.get() {
            let _ = balancer.backends();
            drop(balancer.pick(&Request::default(), Instant::now()));
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

struct Curiosities {
    balancer: Arc<OnceLock<Balancer<Curious>>>,
    dropped: Arc<AtomicUsize>,
}

impl Curiosities {
    fn new() -> Self {
        let all = Self { balancer: Arc::default(), dropped: Arc::default() };
        let config = tenfold_load_balancer::Config { max_backends: 3, ..Default::default() };
        all.balancer.set(Balancer::builder().config(config).seed(1).build().unwrap()).ok().unwrap();
        all
    }

    fn balancer(&self) -> &Balancer<Curious> {
        self.balancer.get().unwrap()
    }

    fn backend(&self, number: u16) -> Backend<Curious> {
        let curious = Curious { balancer: Arc::clone(&self.balancer), dropped: Arc::clone(&self.dropped) };
        Backend::new(address(number)).with_data(curious)
    }

    fn dropped(&self) -> usize {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// Each of these ended in a dead lock if the destructor ran where the change is made.
#[test]
fn destructors_of_the_host_may_ask_the_balancer() {
    let all = Curiosities::new();
    let balancer = all.balancer();
    balancer.replace((0..3).map(|number| all.backend(number)).collect()).unwrap();
    assert_eq!(all.dropped(), 0);
    balancer.insert(all.backend(0).with_weight(2)).unwrap();
    assert_eq!(all.dropped(), 1, "a backend that is there keeps its data");
    balancer.insert(all.backend(9)).unwrap_err();
    assert_eq!(all.dropped(), 1, "refused");
    assert!(balancer.remove(id(2)));
    assert_eq!(all.dropped(), 1);
    balancer.insert(all.backend(7).with_name("moves")).unwrap();
    balancer.insert(all.backend(8).with_name("moves")).unwrap();
    assert_eq!(all.dropped(), 1, "it has moved");
    balancer.replace(vec![all.backend(1), all.backend(1)]).unwrap_err();
    assert_eq!(all.dropped(), 2);
    balancer.apply(Change::Replace(vec![all.backend(1)])).unwrap();
    assert_eq!(all.dropped(), 3, "two that left, and the new data of one that stays");
    // The last to let go is a request.
    let pick = balancer.pick(&Request::default(), Instant::now()).unwrap();
    assert!(balancer.remove(id(1)));
    assert_eq!(all.dropped(), 0);
    pick.finish(Outcome::Success, Instant::now());
    assert_eq!(all.dropped(), 1);
}

/// Threads that picked once and never again do not keep what is beside backends that left.
#[test]
fn idle_threads_keep_nothing_of_what_they_saw() {
    let data = Arc::new(());
    let balancer: Balancer<Arc<()>> = Balancer::builder().seed(1).build().unwrap();
    balancer.insert(Backend::new(address(0)).with_data(Arc::clone(&data))).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| drop(balancer.pick(&Request::default(), Instant::now()).unwrap()));
        }
    });
    balancer.remove(id(0));
    assert_eq!(Arc::strong_count(&data), 1);
}
