//! The writer's side of a balancer: who is in the pool, and who of them takes requests.
//!
//! Everything here runs under one lock that no pick takes. A change edits the members and builds a new
//! [`Snapshot`] of them.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::config::{Config, WhenAllDown};
use crate::endpoint::Slot;
use crate::policy::{Place, Seat, Table};
use crate::pool::Pool;
use crate::snapshot::Snapshot;
use crate::sync::Arc;
use crate::{Backend, BackendId, Zone};

/// What health says of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It takes this share of its weight, from 1 to 100 percent.
    Fit { percent: u8 },
    /// Its answers were bad or late: a suspicion, which a panic ignores.
    Ejected,
    /// Nobody serves there.
    Down,
}

/// A backend in the pool.
pub(crate) struct Member<T> {
    pub(crate) slot: Arc<Slot<T>>,
    pub(crate) weight: u32,
    pub(crate) priority: u8,
    pub(crate) zone: Option<Zone>,
    pub(crate) draining: bool,
    pub(crate) standing: Standing,
}

impl<T> Member<T> {
    pub(crate) fn id(&self) -> BackendId {
        self.slot.endpoint().id()
    }

    fn address(&self) -> SocketAddr {
        self.slot.endpoint().address()
    }

    /// Whether it belongs to those that requests are spread over.
    fn takes_part(&self) -> bool {
        !self.draining && self.weight > 0
    }

    fn is_fit(&self) -> bool {
        matches!(self.standing, Standing::Fit { .. })
    }
}

/// Why a change of the pool is refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// More backends than the configuration allows.
    #[error("more than {max} backends")]
    TooMany {
        /// The bound, [`Config::max_backends`].
        max: usize,
    },
    /// Two backends of one id in one list.
    #[error("backend {0} stands in the list twice")]
    DuplicateId(BackendId),
    /// Two backends of different names at one address: each would get half of what the other is thought to take.
    #[error("another backend has the address {0}")]
    DuplicateAddress(SocketAddr),
}

/// # Invariants
/// - **C1** `members` is in the order of the ids, without repetition, and `by_address` names exactly them.
pub(crate) struct Control<T> {
    members: Vec<Member<T>>,
    by_address: HashMap<SocketAddr, BackendId>,
    pool: Arc<Pool>,
    config: Config,
    /// The table that was built last, and for whom.
    table: Option<(Vec<Seat>, Table)>,
}

impl<T> Control<T> {
    pub(crate) fn new(config: Config, pool: Arc<Pool>) -> Self {
        Self { members: Vec::new(), by_address: HashMap::new(), pool, config, table: None }
    }

    pub(crate) fn members(&self) -> &[Member<T>] {
        &self.members
    }

    fn position(&self, id: BackendId) -> Result<usize, usize> {
        self.members.binary_search_by_key(&id, Member::id)
    }

    pub(crate) fn member_mut(&mut self, id: BackendId) -> Option<&mut Member<T>> {
        let at = self.position(id).ok()?;
        Some(&mut self.members[at])
    }

    /// Whether the backend is new (or new at its address).
    pub(crate) fn insert(&mut self, backend: Backend<T>) -> Result<bool, ChangeError> {
        let (id, address) = (backend.id(), backend.address());
        if self.by_address.get(&address).is_some_and(|other| *other != id) {
            return Err(ChangeError::DuplicateAddress(address));
        }
        let at = self.position(id);
        if let Ok(at) = at
            && self.members[at].address() == address
        {
            let member = &mut self.members[at];
            (member.weight, member.priority) = (backend.weight(), backend.priority());
            (member.zone, member.draining) = (backend.zone().cloned(), false);
            return Ok(false);
        }
        if at.is_err() && self.members.len() >= self.config.max_backends {
            return Err(ChangeError::TooMany { max: self.config.max_backends });
        }
        let member = self.join(backend);
        match at {
            Ok(at) => {
                let old = std::mem::replace(&mut self.members[at], member);
                self.by_address.remove(&old.address());
            }
            Err(at) => self.members.insert(at, member),
        }
        self.by_address.insert(address, id);
        Ok(true)
    }

    fn join(&self, backend: Backend<T>) -> Member<T> {
        let (weight, priority, zone) = (backend.weight(), backend.priority(), backend.zone().cloned());
        let slot = Arc::new(Slot::new(backend, Arc::clone(&self.pool)));
        Member { slot, weight, priority, zone, draining: false, standing: Standing::Fit { percent: 100 } }
    }

    pub(crate) fn remove(&mut self, id: BackendId) -> bool {
        let Ok(at) = self.position(id) else { return false };
        let member = self.members.remove(at);
        self.by_address.remove(&member.address());
        true
    }

    pub(crate) fn drain(&mut self, id: BackendId) -> bool {
        let member = self.member_mut(id);
        member.map(|member| member.draining = true).is_some()
    }

    /// Makes these the members; the state of those that stay is kept.
    pub(crate) fn replace(&mut self, backends: Vec<Backend<T>>) -> Result<(), ChangeError> {
        self.check_list(&backends)?;
        let mut before: HashMap<_, _> = self.members.drain(..).map(|member| (member.id(), member)).collect();
        let mut members = Vec::with_capacity(backends.len());
        for backend in backends {
            match before.remove(&backend.id()) {
                Some(mut member) if member.address() == backend.address() => {
                    (member.weight, member.priority) = (backend.weight(), backend.priority());
                    (member.zone, member.draining) = (backend.zone().cloned(), false);
                    members.push(member);
                }
                _ => members.push(self.join(backend)),
            }
        }
        members.sort_unstable_by_key(Member::id);
        self.by_address = members.iter().map(|member| (member.address(), member.id())).collect();
        self.members = members;
        Ok(())
    }

    fn check_list(&self, backends: &[Backend<T>]) -> Result<(), ChangeError> {
        if backends.len() > self.config.max_backends {
            return Err(ChangeError::TooMany { max: self.config.max_backends });
        }
        let mut ids = HashMap::with_capacity(backends.len());
        let mut addresses = HashMap::with_capacity(backends.len());
        for backend in backends {
            if ids.insert(backend.id(), ()).is_some() {
                return Err(ChangeError::DuplicateId(backend.id()));
            }
            if addresses.insert(backend.address(), ()).is_some() {
                return Err(ChangeError::DuplicateAddress(backend.address()));
            }
        }
        Ok(())
    }

    /// What pickers read from now on.
    pub(crate) fn snapshot(&mut self) -> Snapshot<T> {
        let keeps_closed = self.config.policy.keeps_its_table();
        let serving = self.serving();
        for member in &self.members {
            member.slot.endpoint().set_open(member.is_fit() || serving.ignores(member.standing));
        }
        // Weights in hundredths as long as one is ramped up, so that light backends have steps, too.
        let is_ramped =
            |member: &&Member<T>| !keeps_closed && matches!(member.standing, Standing::Fit { percent: ..100 });
        let scale = if serving.members.iter().any(is_ramped) { 100 } else { 1 };
        let places = serving.members.iter().filter(|member| keeps_closed || member.slot.endpoint().is_open());
        let places: Box<[_]> =
            places.map(|member| Place::new(Arc::clone(&member.slot), self.effective_weight(member, scale))).collect();
        let members = self.members.iter().map(|member| Arc::clone(&member.slot)).collect();
        let table = self.table(&places);
        Snapshot::new((places, table), members, keeps_closed, self.config.policy.load_bound_percent())
    }

    /// The table for these places: the last one, if they are the same. A big table takes longer to build than a change of
    /// health should.
    fn table(&mut self, places: &[Place<T>]) -> Table {
        let seats: Vec<_> = places.iter().map(|place| Seat { id: place.id, weight: place.weight }).collect();
        if let Some((built_for, table)) = &self.table
            && *built_for == seats
        {
            return table.clone();
        }
        let table = Table::build(&self.config.policy, &seats);
        self.table = Some((seats, table.clone()));
        table
    }

    fn effective_weight(&self, member: &Member<T>, scale: u32) -> u32 {
        let base = if self.config.policy.has_weights() { u64::from(member.weight) } else { 1 };
        let percent = match member.standing {
            Standing::Fit { percent } if scale > 1 => u64::from(percent),
            _ => 100,
        };
        u32::try_from((base * u64::from(scale) * percent / 100).max(1)).unwrap_or(u32::MAX)
    }

    /// The members that requests are spread over now.
    fn serving(&self) -> Serving<'_, T> {
        let mut tiers: Vec<_> = self.members.iter().filter(|member| member.takes_part()).collect();
        tiers.sort_by_key(|member| member.priority);
        let tiers: Vec<_> = tiers.chunk_by(|a, b| a.priority == b.priority).collect();
        let threshold = usize::from(self.config.panic_threshold_percent);
        let has_share = |tier: &&&[&Member<T>]| {
            let fit = tier.iter().filter(|member| member.is_fit()).count();
            fit > 0 && fit * 100 >= threshold * tier.len()
        };
        if let Some(tier) = tiers.iter().find(has_share) {
            return Serving { members: self.near(tier), panic: Panic::No };
        }
        let is_up = |member: &&Member<T>| member.standing != Standing::Down;
        if let Some(tier) = tiers.iter().find(|tier| tier.iter().any(is_up)) {
            return Serving { members: tier.to_vec(), panic: Panic::IgnoresSuspicion };
        }
        match (self.config.when_all_down, tiers.first()) {
            (WhenAllDown::Try, Some(tier)) => Serving { members: tier.to_vec(), panic: Panic::IgnoresAll },
            _ => Serving { members: Vec::new(), panic: Panic::No },
        }
    }

    /// The members of the own zone, if enough of them take requests; otherwise all.
    fn near<'a>(&self, tier: &[&'a Member<T>]) -> Vec<&'a Member<T>> {
        let Some(zone) = &self.config.zone else { return tier.to_vec() };
        let near: Vec<_> = tier.iter().copied().filter(|member| member.zone.as_ref() == Some(zone)).collect();
        let fit = near.iter().filter(|member| member.is_fit()).count();
        let is_enough = fit > 0 && fit * 100 >= usize::from(self.config.zone_threshold_percent) * near.len();
        if is_enough { near } else { tier.to_vec() }
    }

    /// Walks the members and panics, naming the invariant, if something is wrong. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn check_invariants(&self) {
        assert!(self.members.is_sorted_by(|a, b| a.id() < b.id()), "C1: order of the ids");
        assert_eq!(self.by_address.len(), self.members.len(), "C1: an address a member");
        for member in &self.members {
            assert_eq!(self.by_address.get(&member.address()), Some(&member.id()), "C1: {}", member.address());
        }
    }
}

/// Which part of health is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Panic {
    No,
    IgnoresSuspicion,
    IgnoresAll,
}

struct Serving<'a, T> {
    members: Vec<&'a Member<T>>,
    panic: Panic,
}

impl<T> Serving<'_, T> {
    fn ignores(&self, standing: Standing) -> bool {
        match self.panic {
            Panic::No => false,
            Panic::IgnoresSuspicion => standing == Standing::Ejected,
            Panic::IgnoresAll => true,
        }
    }
}
