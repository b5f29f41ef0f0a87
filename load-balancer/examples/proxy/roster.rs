//! The set of backends as operators change it: by the command line, the file and the admin address.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tenfold_load_balancer::{Backend, BackendId, Balancer, ChangeError};

use crate::options::{BackendOption, OptionsError};
use crate::traffic::Traffic;

/// Changes the pool, and knows the counts of each of its backends. A handle: clones change one pool.
#[derive(Clone)]
pub(crate) struct Roster {
    balancer: Balancer<Traffic>,
    traffic: Arc<Mutex<BTreeMap<BackendId, Traffic>>>,
    /// Those that an operator drained, which no file takes back.
    drained: Arc<Mutex<BTreeSet<BackendId>>>,
}

impl Roster {
    /// Changes this pool.
    pub(crate) fn new(balancer: Balancer<Traffic>) -> Self {
        Self { balancer, traffic: Arc::default(), drained: Arc::default() }
    }

    /// The pool.
    pub(crate) fn balancer(&self) -> &Balancer<Traffic> {
        &self.balancer
    }

    /// Makes these the backends of the pool. What was added on the admin address goes; backends that stay keep their
    /// connections, counts and health, and those that were drained there stay drained. Returns how many there are.
    pub(crate) fn load(&self, mut backends: Vec<BackendOption>) -> Result<usize, OptionsError> {
        for backend in &mut backends {
            if self.drained.lock().contains(&BackendId::of_address(backend.address)) {
                backend.weight = 0;
            }
        }
        let count = backends.len();
        let backends = backends.into_iter().map(|backend| self.backend(backend)).collect();
        self.balancer.replace(backends).map_err(|error| OptionsError(error.to_string()))?;
        self.forget();
        Ok(count)
    }

    /// Lets a backend join, or changes its weight, and takes it back if it drained.
    pub(crate) fn add(&self, backend: BackendOption) -> Result<bool, ChangeError> {
        let is_new = self.balancer.insert(self.backend(backend))?;
        self.drained.lock().remove(&BackendId::of_address(backend.address));
        Ok(is_new)
    }

    /// Takes a backend out. Its requests in flight may end.
    pub(crate) fn remove(&self, id: BackendId) -> bool {
        let was_there = self.balancer.remove(id);
        self.forget();
        was_there
    }

    /// Lets a backend finish what it has, until it is added again.
    pub(crate) fn drain(&self, id: BackendId) -> bool {
        let is_there = self.balancer.drain(id);
        if is_there {
            self.drained.lock().insert(id);
        }
        is_there
    }

    /// The counts of a backend.
    pub(crate) fn traffic(&self, id: BackendId) -> Traffic {
        self.traffic.lock().get(&id).cloned().unwrap_or_default()
    }

    fn backend(&self, option: BackendOption) -> Backend<Traffic> {
        let traffic = self.traffic.lock().entry(BackendId::of_address(option.address)).or_default().clone();
        Backend::new(option.address).with_weight(option.weight).with_data(traffic)
    }

    /// Drops what is known of those that are gone.
    fn forget(&self) {
        let members: Vec<_> = self.balancer.backends().iter().map(|backend| backend.id).collect();
        // They come in the order of their ids.
        let is_member = |id: &BackendId| members.binary_search(id).is_ok();
        self.traffic.lock().retain(|id, _| is_member(id));
        self.drained.lock().retain(is_member);
    }
}
