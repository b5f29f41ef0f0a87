//! What of a source's changes reaches the balancer: the rules that keep a bad source from emptying the pool.

use std::collections::BTreeSet;

use super::EmptyAnswer;
use crate::{Backend, BackendId, Change};

#[cfg(test)]
mod tests;

/// The set of backends as the balancer knows it from this source, and the rules for changing it.
///
/// # Invariants
/// - **I1** Under [`EmptyAnswer::Keep`], once a backend takes requests, one always does.
/// - **I2** At most `max_backends` are listed.
/// - **I3** A backend is active or drained, not both.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    empty_answer: EmptyAnswer,
    max_backends: usize,
    /// Those that take requests: neither drained nor of weight 0.
    active: BTreeSet<BackendId>,
    drained: BTreeSet<BackendId>,
    /// Whether the source means the empty set, and the last backends were kept: those it names next replace them.
    is_outdated: bool,
}

/// Why a change is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withheld {
    Empty,
    TooMany,
}

/// What an admitted change does to the set once the balancer took it.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Insert(BackendId),
    /// With weight 0, or draining.
    InsertDrained(BackendId),
    Remove(BackendId),
    Drain(BackendId),
    Replace {
        active: BTreeSet<BackendId>,
        drained: BTreeSet<BackendId>,
    },
}

impl Effect {
    fn replace<T>(backends: &[Backend<T>]) -> Self {
        let (active, drained): (Vec<_>, Vec<_>) = backends.iter().partition(|backend| backend.takes_requests());
        let ids = |backends: Vec<&Backend<T>>| backends.into_iter().map(Backend::id).collect();
        Self::Replace { active: ids(active), drained: ids(drained) }
    }
}

impl Gate {
    pub(crate) fn new(empty_answer: EmptyAnswer, max_backends: usize) -> Self {
        Self { empty_answer, max_backends, active: BTreeSet::new(), drained: BTreeSet::new(), is_outdated: false }
    }

    /// What to tell the balancer instead of `change`, and the effect to [`commit`](Self::commit) if it agrees.
    pub(crate) fn admit<T>(&mut self, change: Change<T>) -> Result<(Change<T>, Effect), Withheld> {
        match change {
            Change::Insert(backend) if self.is_outdated && backend.takes_requests() => {
                self.admit(Change::Replace(vec![backend]))
            }
            Change::Insert(backend) => {
                let (id, takes_requests) = (backend.id(), backend.takes_requests());
                if !takes_requests {
                    self.keep_last(id)?;
                }
                let is_new = !self.active.contains(&id) && !self.drained.contains(&id);
                if is_new && self.active.len() + self.drained.len() >= self.max_backends {
                    return Err(Withheld::TooMany);
                }
                let effect = if takes_requests { Effect::Insert(id) } else { Effect::InsertDrained(id) };
                Ok((Change::Insert(backend), effect))
            }
            Change::Remove(id) => {
                self.keep_last(id)?;
                Ok((Change::Remove(id), Effect::Remove(id)))
            }
            Change::Drain(id) => {
                self.keep_last(id)?;
                Ok((Change::Drain(id), Effect::Drain(id)))
            }
            Change::Replace(backends) => {
                if !backends.iter().any(Backend::takes_requests) && self.keeps() {
                    self.is_outdated = !self.active.is_empty();
                    return Err(Withheld::Empty);
                }
                if backends.len() > self.max_backends {
                    return Err(Withheld::TooMany);
                }
                let effect = Effect::replace(&backends);
                Ok((Change::Replace(backends), effect))
            }
        }
    }

    /// Notes that the balancer took the change.
    pub(crate) fn commit(&mut self, effect: Effect) {
        match effect {
            Effect::Insert(id) => {
                self.drained.remove(&id);
                self.active.insert(id);
            }
            Effect::Remove(id) => {
                self.active.remove(&id);
                self.drained.remove(&id);
            }
            Effect::Drain(id) => {
                if self.active.remove(&id) {
                    self.drained.insert(id);
                }
            }
            Effect::InsertDrained(id) => {
                self.active.remove(&id);
                self.drained.insert(id);
            }
            Effect::Replace { active, drained } => {
                (self.active, self.drained) = (active, drained);
                self.is_outdated = false;
            }
        }
    }

    fn keeps(&self) -> bool {
        self.empty_answer == EmptyAnswer::Keep
    }

    /// Refuses to take `id` away if nothing else takes requests, or if it is only there because it was kept before.
    fn keep_last(&mut self, id: BackendId) -> Result<(), Withheld> {
        if !self.keeps() || !self.active.contains(&id) {
            return Ok(());
        }
        self.is_outdated |= self.active.len() == 1;
        if self.is_outdated { Err(Withheld::Empty) } else { Ok(()) }
    }
}
