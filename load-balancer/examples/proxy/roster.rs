//! The set of backends as operators change it: by the command line, the file and the admin address.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tenfold_load_balancer::{Backend, BackendId, Balancer, ChangeError};

use crate::options::{BackendOption, Options, OptionsError};
use crate::traffic::Traffic;

/// Changes the pool, and knows the counts of each of its backends. A handle: clones change one pool.
#[derive(Clone)]
pub(crate) struct Roster {
    balancer: Balancer<Traffic>,
    traffic: Arc<Mutex<BTreeMap<BackendId, Traffic>>>,
}

impl Roster {
    /// Changes this pool.
    pub(crate) fn new(balancer: Balancer<Traffic>) -> Self {
        Self { balancer, traffic: Arc::default() }
    }

    /// The pool.
    pub(crate) fn balancer(&self) -> &Balancer<Traffic> {
        &self.balancer
    }

    /// Makes the backends of the command line and the file those of the pool. What was added on the admin address goes;
    /// backends that stay keep their connections, counts and health. Returns how many there are.
    pub(crate) fn load(&self, options: &Options) -> Result<usize, OptionsError> {
        let backends = options.read_backends()?;
        let count = backends.len();
        let backends = backends.into_iter().map(|backend| self.backend(backend)).collect();
        self.balancer.replace(backends).map_err(|error| OptionsError(error.to_string()))?;
        self.forget();
        Ok(count)
    }

    /// Lets a backend join, or changes its weight, and takes it back if it drained.
    pub(crate) fn add(&self, backend: BackendOption) -> Result<bool, ChangeError> {
        self.balancer.insert(self.backend(backend))
    }

    /// Takes a backend out. Its requests in flight may end.
    pub(crate) fn remove(&self, id: BackendId) -> bool {
        let was_there = self.balancer.remove(id);
        self.forget();
        was_there
    }

    /// Lets a backend finish what it has.
    pub(crate) fn drain(&self, id: BackendId) -> bool {
        self.balancer.drain(id)
    }

    /// The counts of a backend.
    pub(crate) fn traffic(&self, id: BackendId) -> Traffic {
        self.traffic.lock().get(&id).cloned().unwrap_or_default()
    }

    fn backend(&self, option: BackendOption) -> Backend<Traffic> {
        let traffic = self.traffic.lock().entry(BackendId::of_address(option.address)).or_default().clone();
        Backend::new(option.address).with_weight(option.weight).with_data(traffic)
    }

    /// Drops the counts of those that are gone.
    fn forget(&self) {
        let members: Vec<_> = self.balancer.backends().iter().map(|backend| backend.id).collect();
        self.traffic.lock().retain(|id, _| members.contains(id));
    }
}
