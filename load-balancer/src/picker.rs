//! A reader of the pool: picks backends and takes no lock to do it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::balancer::Shared;
use crate::cursor::Cursor;
use crate::pick::Pick;
use crate::publish::Reader;
use crate::request::Request;
use crate::snapshot::{Choice, Snapshot};

/// Picks backends for one thread, connection or service; made by [`Balancer::picker`](crate::Balancer::picker).
///
/// Has its own copy of the newest version of the pool, which it renews when that has changed, its own place in the
/// rounds and its own randomness. So picks by different pickers share nothing that is written, except the counts of
/// requests in flight where a pick is counted. A picker that is not used keeps its version of the pool, and with it
/// the data beside removed backends, until its next pick or its end.
pub struct Picker<T = ()> {
    shared: Arc<Shared<T>>,
    hand: Hand<T>,
}

/// What a pick uses and changes.
pub(crate) struct Hand<T> {
    reader: Reader<Snapshot<T>>,
    cursor: Cursor,
}

/// Why there is no backend for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickError {
    /// There is no backend in the pool.
    #[error("there is no backend")]
    NoBackends,
    /// There are some, but every one is drained, has weight 0 or is down.
    #[error("no backend takes requests")]
    NoneAvailable,
    /// Every one that takes requests has [`Config::max_in_flight`](crate::Config::max_in_flight).
    #[error("every backend has as many requests in flight as it may")]
    AllFull,
}

impl<T> Picker<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Self {
        let hand = Hand::new(&shared);
        Self { shared, hand }
    }

    /// The backend for a request that starts `now`, not counted as in flight and with nobody to say how it went: for
    /// callers that only need an address.
    ///
    /// # Errors
    /// [`PickError`], if no backend takes requests.
    ///
    /// # Complexity
    /// No atomic write and no allocation; what the policy needs beside that.
    #[inline]
    pub fn next(&mut self, request: &Request<'_>, now: Instant) -> Result<Choice<'_, T>, PickError> {
        self.hand.choose(&self.shared, request, now)
    }

    /// The backend for a request, which is in flight there while the [`Pick`] lives. `now` is when it starts.
    ///
    /// # Errors
    /// [`PickError`], if no backend takes requests.
    ///
    /// # Complexity
    /// As for [`next`](Self::next), and one atomic addition.
    #[inline]
    pub fn pick(&mut self, request: &Request<'_>, now: Instant) -> Result<Pick<T>, PickError> {
        self.hand.pick(&self.shared, request, now)
    }
}

impl<T> Hand<T> {
    pub(crate) fn new(shared: &Shared<T>) -> Self {
        Self { reader: shared.published.reader(), cursor: shared.cursor() }
    }

    #[inline]
    pub(crate) fn pick(
        &mut self,
        shared: &Shared<T>,
        request: &Request<'_>,
        now: Instant,
    ) -> Result<Pick<T>, PickError> {
        let snapshot = self.reader.read(&shared.published);
        pick_from(snapshot, &mut self.cursor, request, now)
    }

    /// The same, by the version of the last renewal.
    #[inline]
    pub(crate) fn pick_as_renewed(&mut self, request: &Request<'_>, now: Instant) -> Result<Pick<T>, PickError> {
        pick_from(self.reader.value(), &mut self.cursor, request, now)
    }

    /// Brings it up to date; the version from before comes back, to be dropped where no lock is held.
    #[inline]
    #[must_use = "it is dropped once no lock is held"]
    pub(crate) fn renew(&mut self, shared: &Shared<T>) -> Option<crate::sync::Arc<Snapshot<T>>> {
        self.reader.renew_if_old(&shared.published)
    }

    #[inline]
    fn choose(&mut self, shared: &Shared<T>, request: &Request<'_>, now: Instant) -> Result<Choice<'_, T>, PickError> {
        let snapshot = self.reader.read(&shared.published);
        snapshot.choose(request, &mut self.cursor, now).ok_or_else(|| snapshot.why_nobody())
    }
}

#[inline]
fn pick_from<T>(
    snapshot: &Snapshot<T>,
    cursor: &mut Cursor,
    request: &Request<'_>,
    now: Instant,
) -> Result<Pick<T>, PickError> {
    if snapshot.has_trials() {
        if let Some(slot) = snapshot.take_trial(request, now) {
            return Ok(Pick::on_trial(slot.hold(), now));
        }
    }
    let choice = snapshot.choose(request, cursor, now).ok_or_else(|| snapshot.why_nobody())?;
    Ok(Pick::new(choice.slot().hold(), now))
}

/// A picker of its own, one place further in the rounds.
impl<T> Clone for Picker<T> {
    fn clone(&self) -> Self {
        let hand = Hand { reader: self.hand.reader.clone(), cursor: self.shared.cursor() };
        Self { shared: Arc::clone(&self.shared), hand }
    }
}

impl<T> fmt::Debug for Picker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picker").finish_non_exhaustive()
    }
}
