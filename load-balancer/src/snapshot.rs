//! One version of the pool, as pickers read it; never changed, only replaced.

use crate::BackendId;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use crate::PickError;
use crate::cursor::Cursor;
use crate::endpoint::Slot;
use crate::policy::{Place, Share, Table, fits};
use crate::request::Request;
use crate::sync::Arc;

/// Choices that a table may make before all backends are looked at one by one.
const MAX_CHOICES: u32 = 8;

/// A backend that was chosen but not picked: who it is and where. Nothing counts it as in flight.
pub struct Choice<'a, T = ()>(Chosen<'a, T>);

/// Where it was found.
pub(crate) enum Chosen<'a, T> {
    Place(&'a Place<T>),
    /// It takes no new requests, but this client's.
    Member(&'a Slot<T>),
}

impl<'a, T> Choice<'a, T> {
    /// Who it is.
    #[inline]
    #[must_use]
    pub fn id(&self) -> BackendId {
        match self.0 {
            Chosen::Place(place) => place.id,
            Chosen::Member(slot) => slot.endpoint().id(),
        }
    }

    /// Where it is.
    #[inline]
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self.0 {
            Chosen::Place(place) => place.address,
            Chosen::Member(slot) => slot.endpoint().address(),
        }
    }

    /// What the host keeps beside it.
    #[inline]
    #[must_use]
    pub fn data(&self) -> &'a T {
        self.slot().endpoint().data()
    }

    #[inline]
    pub(crate) fn slot(&self) -> &'a Slot<T> {
        match self.0 {
            Chosen::Place(place) => &place.slot,
            Chosen::Member(slot) => slot,
        }
    }
}

impl<T> fmt::Debug for Choice<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Choice").field(&self.address()).finish()
    }
}

/// # Invariants
/// - **S1** `table` was built from `places` and chooses one of them.
/// - **S2** `members` is in the order of the ids, without repetition.
/// - **S3** Places are opened and closed before a version is made, and by nothing else: `is_plain` is as true as the version
///   is new.
pub(crate) struct Snapshot<T> {
    places: Box<[Place<T>]>,
    table: Table,
    /// All backends, also those that take no new requests: clients who were there before may come back.
    members: Box<[Arc<Slot<T>>]>,
    /// Those that are tried with one request at a time.
    trials: Box<[Arc<Slot<T>>]>,
    /// Whether there are places and whatever the table chooses will do.
    is_plain: bool,
    bound: Option<Bound>,
    /// What a backend may have in flight; the largest number if there is no limit.
    max_in_flight: usize,
}

/// What a policy and the settings forbid beside what health does.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bound_percent: Option<u32>,
    pub(crate) max_in_flight: Option<u32>,
}

/// How much a place may have in flight beside the others.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) percent: u32,
    pub(crate) total_weight: u64,
}

impl Bound {
    #[inline]
    fn allows<T>(self, place: &Place<T>) -> bool {
        let in_flight = u32::try_from(place.slot.in_flight()).unwrap_or(u32::MAX);
        let total = place.slot.endpoint().pool().in_flight();
        fits(in_flight, total, Share { weight: place.weight, total_weight: self.total_weight }, self.percent)
    }
}

impl<T> Snapshot<T> {
    /// A version whose table was built from these places.
    pub(crate) fn new(
        (places, table): (Box<[Place<T>]>, Table),
        members: Box<[Arc<Slot<T>>]>,
        trials: Box<[Arc<Slot<T>>]>,
        limits: Limits,
    ) -> Self {
        debug_assert!(members.is_sorted_by_key(|slot| slot.endpoint().id()), "S2");
        let total_weight = places.iter().map(|place| u64::from(place.weight)).sum();
        let bound = limits.bound_percent.map(|percent| Bound { percent, total_weight });
        // A table that is kept when backends are ejected has closed places as long as one is out.
        let are_open = places.iter().all(|place| place.slot.endpoint().is_open());
        let is_plain = !places.is_empty() && are_open && bound.is_none() && limits.max_in_flight.is_none();
        let max_in_flight = limits.max_in_flight.map_or(usize::MAX, |max| max as usize);
        Self { places, table, members, trials, is_plain, bound, max_in_flight }
    }

    /// Whether a backend is on trial.
    #[inline]
    pub(crate) fn has_trials(&self) -> bool {
        !self.trials.is_empty()
    }

    /// A backend on trial that has no request of its trial in flight; this one is it.
    #[cold]
    pub(crate) fn take_trial(&self, request: &Request<'_>, now: Instant) -> Option<&Slot<T>> {
        let is_free = |slot: &&Arc<Slot<T>>| {
            let endpoint = slot.endpoint();
            !request.avoid.contains(&endpoint.id())
                && self.has_room(slot)
                && endpoint.vitals().trial().take(endpoint.pool().time(now), request.may_be_trial)
        };
        self.trials.iter().filter(|_| request.sticky.is_none()).find(is_free).map(|slot| &**slot)
    }

    /// Why [`choose`](Self::choose) found nobody.
    #[cold]
    pub(crate) fn why_nobody(&self) -> PickError {
        if self.members.is_empty() {
            return PickError::NoBackends;
        }
        let is_full = |place: &Place<T>| !self.has_room(&place.slot);
        if self.places.iter().any(is_full) { PickError::AllFull } else { PickError::NoneAvailable }
    }

    /// The backend for a request; `None` if there is none that takes requests.
    ///
    /// What most requests need, short enough to become part of the caller; the rest is behind a call.
    #[inline]
    pub(crate) fn choose(&self, request: &Request<'_>, cursor: &mut Cursor, now: Instant) -> Option<Choice<'_, T>> {
        if self.is_plain && request.sticky.is_none() && request.avoid.is_empty() {
            let place = &self.places[self.table.choose(&self.places, cursor, request.key, 0, now)];
            return Some(Choice(Chosen::Place(place)));
        }
        self.choose_within_limits(request, cursor, now)
    }

    fn choose_within_limits(&self, request: &Request<'_>, cursor: &mut Cursor, now: Instant) -> Option<Choice<'_, T>> {
        if self.places.is_empty() {
            return self.sticky(request).map(|slot| Choice(Chosen::Member(slot)));
        }
        if request.sticky.is_some() || !request.avoid.is_empty() {
            return self.choose_with_care(request, cursor, now);
        }
        let place = &self.places[self.table.choose(&self.places, cursor, request.key, 0, now)];
        if !self.takes(place) {
            return self.choose_with_care(request, cursor, now);
        }
        Some(Choice(Chosen::Place(place)))
    }

    #[inline]
    fn takes(&self, place: &Place<T>) -> bool {
        place.slot.endpoint().is_open()
            && self.bound.is_none_or(|bound| bound.allows(place))
            && self.has_room(&place.slot)
    }

    /// Whether one more request may be in flight there.
    #[inline]
    fn has_room(&self, slot: &Slot<T>) -> bool {
        slot.in_flight() < self.max_in_flight
    }

    /// The backend that this client was with before, if it still serves.
    fn sticky(&self, request: &Request<'_>) -> Option<&Slot<T>> {
        let id = request.sticky?;
        let slot = self.member(id)?;
        (slot.endpoint().is_open() && !request.avoid.contains(&id) && self.has_room(slot)).then_some(slot)
    }

    fn member(&self, id: BackendId) -> Option<&Slot<T>> {
        let at = self.members.binary_search_by_key(&id, |slot| slot.endpoint().id()).ok()?;
        Some(&self.members[at])
    }

    /// The rarer cases: a client that comes back, backends that failed already, places that are closed or full.
    #[cold]
    fn choose_with_care(&self, request: &Request<'_>, cursor: &mut Cursor, now: Instant) -> Option<Choice<'_, T>> {
        if let Some(slot) = self.sticky(request) {
            return Some(Choice(Chosen::Member(slot)));
        }
        let is_open = |place: &Place<T>| place.slot.endpoint().is_open();
        let is_new = |place: &Place<T>| !request.avoid.contains(&place.id);
        for attempt in 0..MAX_CHOICES {
            let place = &self.places[self.table.choose(&self.places, cursor, request.key, attempt, now)];
            if self.takes(place) && is_new(place) {
                return Some(Choice(Chosen::Place(place)));
            }
        }
        let (after, before) = {
            let start = cursor.below(self.places.len());
            (&self.places[start..], &self.places[..start])
        };
        let places = || after.iter().chain(before).filter(|place| self.has_room(&place.slot));
        let best = places().find(|place| self.takes(place) && is_new(place));
        // Somebody who failed already is better than nobody, and so is somebody who is ejected.
        let best =
            best.or_else(|| places().find(|place| is_open(place))).or_else(|| places().find(|place| is_new(place)));
        best.or_else(|| places().next()).map(|place| Choice(Chosen::Place(place)))
    }
}
