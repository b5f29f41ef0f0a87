//! The writer's side of a balancer: who is in the pool, and who of them takes requests.
//!
//! Everything here runs under one lock that no pick takes. A change edits the members and builds a new
//! [`Snapshot`] of them.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::config::{Config, WhenAllDown};
use crate::endpoint::{Endpoint, Slot};
use crate::health::active::{Due, Schedule};
use crate::health::judge::{Court, Watched};
use crate::health::{Canary, Event, Fitness, Machine, Rules, Sign, Step, Verdict, Vitals};
use crate::policy::{Place, Seat, Table};
use crate::pool::Pool;
use crate::snapshot::{Limits, Snapshot};
use crate::stats::{Chronicle, Happening, PoolStats};
use crate::sync::Arc;
use crate::time::Time;
use crate::window::Counts;
use crate::{Backend, BackendId, Change, NotPrivate, Probe, ProbeResult, Rng, Zone};

/// A backend in the pool.
pub(crate) struct Member<T> {
    pub(crate) slot: Arc<Slot<T>>,
    pub(crate) weight: u32,
    pub(crate) priority: u8,
    pub(crate) zone: Option<Zone>,
    pub(crate) draining: bool,
    /// As of the last snapshot.
    pub(crate) fitness: Fitness,
    pub(crate) machine: Machine,
    /// Where backends are probed.
    schedule: Option<Schedule>,
}

impl<T> Member<T> {
    pub(crate) fn id(&self) -> BackendId {
        self.slot.endpoint().id()
    }

    fn address(&self) -> SocketAddr {
        self.slot.endpoint().address()
    }

    /// Takes over what may change of a backend that stays.
    fn change(&mut self, to: &Backend<T>) {
        (self.weight, self.priority) = (to.weight(), to.priority());
        (self.zone, self.draining) = (to.zone().cloned(), to.is_draining());
    }

    /// Whether it belongs to those that requests are spread over.
    fn takes_part(&self) -> bool {
        !self.draining && self.weight > 0
    }

    fn is_fit(&self) -> bool {
        matches!(self.fitness, Fitness::Fit { .. })
    }
}

impl<T> Watched for Member<T> {
    fn vitals(&self) -> &Vitals {
        self.slot.endpoint().vitals()
    }

    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }

    fn group(&self) -> Option<u8> {
        self.takes_part().then_some(self.priority)
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
    /// Port 0, to which nothing can be sent.
    #[error("a backend cannot have port 0: {0}")]
    NoPort(SocketAddr),
    /// An address that [`Config::addresses`] refuses.
    #[error(transparent)]
    NotPrivate(#[from] NotPrivate),
}

/// # Invariants
/// - **C1** `members` is in the order of the ids, without repetition, and `by_address` names exactly them.
pub(crate) struct Control<T> {
    members: Vec<Member<T>>,
    by_address: HashMap<SocketAddr, BackendId>,
    pool: Arc<Pool<T>>,
    config: Config,
    rules: Rules,
    /// The latest time that was told.
    now: Time,
    /// When time must be told.
    wake_at: Option<Time>,
    rng: Rng,
    /// The table that was built last, and for whom.
    table: Option<(Vec<Seat>, Table)>,
    departed: Departed<T>,
    chronicle: Chronicle,
}

/// What is no longer needed, and holds what the host keeps beside backends. Its destructors are the host's code, which may
/// ask the balancer something: they run once the lock is free.
#[must_use = "it is dropped once the lock is free"]
pub(crate) struct Departed<T> {
    members: Vec<Member<T>>,
    backends: Vec<Backend<T>>,
}

impl<T> Default for Departed<T> {
    fn default() -> Self {
        Self { members: Vec::new(), backends: Vec::new() }
    }
}

impl<T> Control<T> {
    pub(crate) fn new(config: Config, pool: Arc<Pool<T>>, rng: Rng) -> Self {
        let rules = Rules::new(&config.outlier, config.slow_start, config.probes.as_ref());
        let (members, by_address) = (Vec::new(), HashMap::new());
        let (now, departed, chronicle) = (Time::default(), Departed::default(), Chronicle::default());
        Self { members, by_address, pool, config, rules, now, wake_at: None, rng, table: None, departed, chronicle }
    }

    /// The latest time that was told.
    pub(crate) fn now(&self) -> Time {
        self.now
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

    /// What left since this was asked last.
    pub(crate) fn take_departed(&mut self) -> Departed<T> {
        self.departed.members.iter().for_each(|gone| self.chronicle.note_departure(gone.vitals().total_counts()));
        std::mem::take(&mut self.departed)
    }

    /// What happened since this was asked last.
    pub(crate) fn take_untold(&mut self) -> Vec<Happening> {
        self.chronicle.take_untold()
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let counts = self.members.iter().map(|member| member.vitals().total_counts());
        let serves = |member: &&Member<T>| member.takes_part() && member.is_fit();
        PoolStats {
            backends: self.members.len(),
            serving: self.members.iter().filter(serves).count(),
            in_flight: self.members.iter().map(|member| member.slot.in_flight()).sum(),
            ..self.chronicle.stats(counts.fold(Counts::default(), Counts::plus))
        }
    }

    /// Whether the backend is new (or new at its address).
    pub(crate) fn insert(&mut self, backend: Backend<T>) -> Result<bool, ChangeError> {
        let (id, address) = (backend.id(), backend.address());
        let at = self.position(id);
        if let Err(refusal) = self.check_insert(id, address, at.is_err()) {
            self.departed.backends.push(backend);
            return Err(refusal);
        }
        match at {
            Ok(at) if self.members[at].address() == address => {
                self.members[at].change(&backend);
                self.departed.backends.push(backend);
                return Ok(false);
            }
            Ok(at) => {
                let member = self.join(backend, self.is_at_work());
                let old = std::mem::replace(&mut self.members[at], member);
                self.by_address.remove(&old.address());
                self.departed.members.push(old);
            }
            Err(at) => {
                let member = self.join(backend, self.is_at_work());
                self.members.insert(at, member);
            }
        }
        self.by_address.insert(address, id);
        Ok(true)
    }

    fn check_insert(&self, id: BackendId, address: SocketAddr, is_new: bool) -> Result<(), ChangeError> {
        self.check_address(address)?;
        if self.by_address.get(&address).is_some_and(|other| *other != id) {
            return Err(ChangeError::DuplicateAddress(address));
        }
        if is_new && self.members.len() >= self.config.max_backends {
            return Err(ChangeError::TooMany { max: self.config.max_backends });
        }
        Ok(())
    }

    fn check_address(&self, address: SocketAddr) -> Result<(), ChangeError> {
        if address.port() == 0 {
            return Err(ChangeError::NoPort(address));
        }
        Ok(self.config.addresses.check(address)?)
    }

    /// Whether there are others that a newcomer joins, as opposed to the first list of backends.
    fn is_at_work(&self) -> bool {
        self.members.iter().any(|member| member.vitals().last_fast() > Time::default())
    }

    fn join(&mut self, backend: Backend<T>, is_late: bool) -> Member<T> {
        let (weight, priority, zone) = (backend.weight(), backend.priority(), backend.zone().cloned());
        let draining = backend.is_draining();
        let slot = Arc::new(Slot::new(backend, Arc::clone(&self.pool)));
        let machine = Machine::new(is_late, &self.rules);
        let fitness = machine.fitness(self.now, &self.rules);
        let schedule = self.config.probes.as_ref().map(|probes| Schedule::new(self.now, probes, &mut self.rng));
        if fitness != (Fitness::Fit { percent: 100 }) {
            self.wake_at(Some(self.now));
        }
        Member { slot, weight, priority, zone, draining, fitness, machine, schedule }
    }

    /// Carries a change out.
    pub(crate) fn apply(&mut self, change: Change<T>) -> Result<(), ChangeError> {
        match change {
            Change::Insert(backend) => self.insert(backend).map(drop),
            Change::Replace(backends) => self.replace(backends),
            Change::Remove(id) => {
                self.remove(id);
                Ok(())
            }
            Change::Drain(id) => {
                self.drain(id);
                Ok(())
            }
        }
    }

    pub(crate) fn remove(&mut self, id: BackendId) -> bool {
        let Ok(at) = self.position(id) else { return false };
        let member = self.members.remove(at);
        self.by_address.remove(&member.address());
        self.departed.members.push(member);
        true
    }

    pub(crate) fn drain(&mut self, id: BackendId) -> bool {
        let member = self.member_mut(id);
        member.map(|member| member.draining = true).is_some()
    }

    /// Makes these the members; the state of those that stay is kept.
    pub(crate) fn replace(&mut self, backends: Vec<Backend<T>>) -> Result<(), ChangeError> {
        if let Err(refusal) = self.check_list(&backends) {
            self.departed.backends.extend(backends);
            return Err(refusal);
        }
        let is_late = self.is_at_work();
        let mut before: HashMap<_, _> = self.members.drain(..).map(|member| (member.id(), member)).collect();
        let mut members = Vec::with_capacity(backends.len());
        for backend in backends {
            match before.remove(&backend.id()) {
                Some(mut member) if member.address() == backend.address() => {
                    member.change(&backend);
                    members.push(member);
                    self.departed.backends.push(backend);
                }
                moved => {
                    self.departed.members.extend(moved);
                    members.push(self.join(backend, is_late));
                }
            }
        }
        self.departed.members.extend(before.into_values());
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
            self.check_address(backend.address())?;
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
        for member in &mut self.members {
            let before = member.fitness;
            member.fitness = member.machine.fitness(self.now, &self.rules);
            self.chronicle.note((member.id(), member.address()), before, member.fitness);
        }
        let is_panicking = self.serving().panic != Panic::No;
        self.chronicle.note_panic(is_panicking);
        let serving = self.serving();
        for member in &self.members {
            member.slot.endpoint().set_open(member.is_fit() || serving.ignores(member.fitness));
        }
        // Weights in hundredths as long as one is ramped up, so that light backends have steps, too.
        let is_ramped =
            |member: &&Member<T>| !keeps_closed && matches!(member.fitness, Fitness::Fit { percent: ..100 });
        let scale = if serving.members.iter().any(is_ramped) { 100 } else { 1 };
        let places = serving.members.iter().filter(|member| keeps_closed || member.slot.endpoint().is_open());
        let places: Box<[_]> =
            places.map(|member| Place::new(Arc::clone(&member.slot), self.effective_weight(member, scale))).collect();
        // A member of a priority that is not needed now waits with its trial.
        let last = serving.members.iter().map(|member| member.priority).max().unwrap_or(u8::MAX);
        let is_on_trial = |member: &&Member<T>| {
            member.takes_part() && member.priority <= last && matches!(member.fitness, Fitness::OnTrial { .. })
        };
        let slot_of = |member: &Member<T>| Arc::clone(&member.slot);
        let trials = self.members.iter().filter(is_on_trial).map(slot_of).collect();
        let members = self.members.iter().map(slot_of).collect();
        let table = self.table(&places);
        let bound_percent = self.config.policy.load_bound_percent();
        let limits = Limits { bound_percent, max_in_flight: self.config.max_in_flight };
        Snapshot::new((places, table), members, trials, limits)
    }

    /// The table for these places: the last one, if they are the same. A big table takes longer to build than a change of
    /// health should.
    fn table(&mut self, places: &[Place<T>]) -> Table {
        let seats: Vec<_> = places.iter().map(|place| Seat { id: place.id, weight: place.weight }).collect();
        if let Some((_, table)) = self.table.as_ref().filter(|(built_for, _)| *built_for == seats) {
            return table.clone();
        }
        let table = Table::build(&self.config.policy, &seats);
        self.table = Some((seats, table.clone()));
        table
    }

    fn effective_weight(&self, member: &Member<T>, scale: u32) -> u32 {
        let base = if self.config.policy.has_weights() { u64::from(member.weight) } else { 1 };
        let percent = match member.fitness {
            Fitness::Fit { percent } if scale > 1 => u64::from(percent),
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
        let is_up = |member: &&Member<T>| !member.fitness.is_down();
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

    // ---- health ----

    /// Follows a sign that a request to this endpoint gave. Whether the tables must be built again.
    pub(crate) fn judge(&mut self, endpoint: &Endpoint<T>, sign: Sign, now: Time) -> bool {
        self.tell(endpoint, now, |court, members, at| court.judge(members, at, sign))
    }

    /// Notes how a request of this endpoint's trial went.
    pub(crate) fn tried(&mut self, endpoint: &Endpoint<T>, canary: Canary, now: Time) -> bool {
        self.tell(endpoint, now, |court, members, at| court.tell(&mut members[at], Event::Canary(canary)))
    }

    fn tell(
        &mut self,
        endpoint: &Endpoint<T>,
        now: Time,
        tell: impl FnOnce(&Court<'_>, &mut [Member<T>], usize) -> Step,
    ) -> bool {
        self.now = self.now.max(now);
        let Ok(at) = self.position(endpoint.id()) else { return false };
        if !std::ptr::eq(self.members[at].slot.endpoint(), endpoint) {
            // It has moved: what its old address did says nothing of the new one.
            return false;
        }
        let court = Court { norm: self.pool.norm(), rules: &self.rules, now: self.now };
        let step = tell(&court, &mut self.members, at);
        self.hurry_probes(at);
        self.wake_at(step.wake_at);
        let is_due = self.wake_at.is_some_and(|time| time <= self.now);
        step.publish | (is_due && self.tick(now))
    }

    /// Lets time pass. Whether the tables must be built again.
    pub(crate) fn tick(&mut self, now: Time) -> bool {
        self.now = self.now.max(now);
        let court = Court { norm: self.pool.norm(), rules: &self.rules, now: self.now };
        let step = court.tick(&mut self.members, self.config.outlier.canary_timeout);
        self.wake_at = None;
        self.wake_at(step.wake_at);
        step.publish
    }

    /// When time must be told next.
    pub(crate) fn next_tick(&self) -> Option<Time> {
        self.wake_at
    }

    fn wake_at(&mut self, time: Option<Time>) {
        self.wake_at = match (self.wake_at, time) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.pool.norm().wake_at(self.wake_at);
    }

    // ---- probes ----

    /// Probes that are to be sent now, and when to ask again. Whether the tables must be built again, because a probe
    /// took too long.
    pub(crate) fn due_probes(&mut self, now: Time, due: &mut Vec<Probe>) -> (Option<Time>, bool) {
        self.now = self.now.max(now);
        let Some(probes) = self.config.probes.clone() else { return (None, false) };
        let running = |member: &&Member<T>| member.schedule.is_some_and(|schedule| schedule.is_running());
        let mut running = self.members.iter().filter(running).count();
        let (mut next, mut publish) = (None::<Time>, false);
        for at in 0..self.members.len() {
            let (id, address) = (self.members[at].id(), self.members[at].address());
            while let Some(schedule) = &mut self.members[at].schedule {
                match schedule.poll(now, &probes) {
                    Due::At(time) => {
                        next = Some(next.map_or(time, |next| next.min(time)));
                        break;
                    }
                    Due::TimedOut => {
                        running = running.saturating_sub(1);
                        publish |= self.probe_ended(at, Verdict::Bad, now);
                    }
                    Due::Probe if running >= probes.max_concurrent => schedule.put_off(now, &probes, &mut self.rng),
                    Due::Probe => {
                        running += 1;
                        due.push(Probe { id, address, timeout: probes.timeout, began: now });
                    }
                }
            }
        }
        (next, publish)
    }

    /// Notes how a probe went. Whether the tables must be built again.
    pub(crate) fn probed(&mut self, probe: &Probe, result: ProbeResult, now: Time) -> bool {
        self.now = self.now.max(now);
        let Ok(at) = self.position(probe.id) else { return false };
        let member = &self.members[at];
        let began = member.schedule.and_then(|schedule| schedule.began());
        if began != Some(probe.began) || member.address() != probe.address {
            return false;
        }
        match result {
            ProbeResult::Good => self.probe_ended(at, Verdict::Good, now),
            ProbeResult::Bad => self.probe_ended(at, Verdict::Bad, now),
            ProbeResult::Unasked => {
                if let (Some(schedule), Some(probes)) = (&mut self.members[at].schedule, &self.config.probes) {
                    schedule.put_off(now, probes, &mut self.rng);
                }
                false
            }
        }
    }

    fn probe_ended(&mut self, at: usize, found: Verdict, now: Time) -> bool {
        let member = &mut self.members[at];
        let (Some(schedule), Some(probes)) = (&mut member.schedule, &self.config.probes) else { return false };
        let verdict = schedule.finished(found, member.machine.is_urgent(), now, probes, &mut self.rng);
        let Some(verdict) = verdict else { return false };
        let court = Court { norm: self.pool.norm(), rules: &self.rules, now: self.now };
        let step = court.tell(member, Event::Probes(verdict));
        self.wake_at(step.wake_at);
        step.publish
    }

    /// A backend that went down by a refused connection is asked afresh, and soon.
    fn hurry_probes(&mut self, at: usize) {
        let member = &mut self.members[at];
        let fitness = member.machine.fitness(self.now, &self.rules);
        let (Some(schedule), Some(probes)) = (&mut member.schedule, &self.config.probes) else { return };
        if fitness != member.fitness {
            schedule.hurry(self.now, probes);
            if fitness == Fitness::Down {
                schedule.forget();
            }
        }
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
    fn ignores(&self, fitness: Fitness) -> bool {
        match self.panic {
            Panic::No => false,
            Panic::IgnoresSuspicion => !fitness.is_down(),
            Panic::IgnoresAll => true,
        }
    }
}
