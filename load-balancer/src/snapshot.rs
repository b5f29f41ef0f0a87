//! One version of the pool, as pickers read it; never changed, only replaced.

use crate::BackendId;
use std::fmt;
use std::net::SocketAddr;

use crate::PickError;
use crate::cursor::Cursor;
use crate::endpoint::Slot;
use crate::policy::{Place, Table};
use crate::request::Request;
use crate::sync::Arc;

/// Choices that a table may make before all backends are looked at one by one.
const MAX_CHOICES: u32 = 4;

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
pub(crate) struct Snapshot<T> {
    places: Box<[Place<T>]>,
    table: Table,
    /// All backends, also those that take no new requests: clients who were there before may come back.
    members: Box<[Arc<Slot<T>>]>,
    /// Whether some of the places may be closed, because the table keeps them when they are ejected.
    may_be_closed: bool,
}

impl<T> Snapshot<T> {
    pub(crate) fn new(
        places: Box<[Place<T>]>,
        table: Table,
        members: Box<[Arc<Slot<T>>]>,
        may_be_closed: bool,
    ) -> Self {
        debug_assert!(members.is_sorted_by_key(|slot| slot.endpoint().id()), "S2");
        Self { places, table, members, may_be_closed }
    }

    /// Why [`choose`](Self::choose) found nobody.
    #[cold]
    pub(crate) fn why_nobody(&self) -> PickError {
        if self.members.is_empty() { PickError::NoBackends } else { PickError::NoneAvailable }
    }

    /// The backend for a request; `None` if there is none that takes requests.
    #[inline]
    pub(crate) fn choose(&self, request: &Request<'_>, cursor: &mut Cursor) -> Option<Choice<'_, T>> {
        if self.places.is_empty() {
            return self.sticky(request).map(|slot| Choice(Chosen::Member(slot)));
        }
        if request.sticky.is_some() || !request.avoid.is_empty() {
            return Some(self.choose_with_care(request, cursor));
        }
        let place = &self.places[self.table.choose(&self.places, cursor, request.key, 0)];
        if self.may_be_closed && !place.slot.endpoint().is_open() {
            return Some(self.choose_with_care(request, cursor));
        }
        Some(Choice(Chosen::Place(place)))
    }

    /// The backend that this client was with before, if it still serves.
    fn sticky(&self, request: &Request<'_>) -> Option<&Slot<T>> {
        let id = request.sticky?;
        let slot = self.member(id)?;
        (slot.endpoint().is_open() && !request.avoid.contains(&id)).then_some(slot)
    }

    fn member(&self, id: BackendId) -> Option<&Slot<T>> {
        let at = self.members.binary_search_by_key(&id, |slot| slot.endpoint().id()).ok()?;
        Some(&self.members[at])
    }

    /// The rarer cases: a client that comes back, backends that failed already, places that are closed.
    #[cold]
    fn choose_with_care(&self, request: &Request<'_>, cursor: &mut Cursor) -> Choice<'_, T> {
        if let Some(slot) = self.sticky(request) {
            return Choice(Chosen::Member(slot));
        }
        let is_open = |place: &Place<T>| place.slot.endpoint().is_open();
        let is_new = |place: &Place<T>| !request.avoid.contains(&place.id);
        for attempt in 0..MAX_CHOICES {
            let place = &self.places[self.table.choose(&self.places, cursor, request.key, attempt)];
            if is_open(place) && is_new(place) {
                return Choice(Chosen::Place(place));
            }
        }
        let (after, before) = {
            let start = cursor.below(self.places.len());
            (&self.places[start..], &self.places[..start])
        };
        let places = || after.iter().chain(before);
        let best = places().find(|place| is_open(place) && is_new(place));
        // Somebody who failed already is better than nobody, and so is somebody who is ejected.
        let best =
            best.or_else(|| places().find(|place| is_open(place))).or_else(|| places().find(|place| is_new(place)));
        Choice(Chosen::Place(best.unwrap_or(&self.places[0])))
    }
}
