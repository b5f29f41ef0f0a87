//! The caller's closure on a connection, in a transaction or without.

use std::future::Future;
use std::sync::atomic::Ordering;

use super::Shared;
use crate::checkout::Checkout;
use crate::driver::{Access, Class, Driver, Mark};
use crate::pool::Place;

/// What a closure's statements are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Each by itself.
    Statements,
    /// All or none.
    Transaction(Access),
}

/// How far a closure got that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its commit was not sent, and will not be.
    Open,
    /// Its commit was sent, or its statements commit themselves.
    Committing,
}

#[derive(Debug)]
pub(crate) enum Failed<E> {
    /// With what it had written before.
    Error { error: E, class: Class, stage: Stage, mark: Mark },
    /// The closure kept its connection.
    Kept,
}

impl<D: Driver> Shared<D> {
    /// Runs it, and gives the connection back if it is as it was.
    pub(crate) async fn run<T, F, R>(
        &self,
        (connection, place): (D::Connection, Place<D>),
        unit: Unit,
        f: &F,
    ) -> Result<(T, Mark), Failed<D::Error>>
    where
        F: Fn(Checkout<D>) -> R,
        R: Future<Output = Result<T, D::Error>>,
    {
        let mut connection = connection;
        if let Unit::Transaction(access) = unit {
            if let Err(error) = self.driver.begin(&mut connection, access).await {
                return Err(self.failed(error, Stage::Open, Mark::default()));
            }
        }
        let (checkout, slot) = Checkout::lend(connection);
        let result = f(checkout).await;
        let mut connection = slot.take().ok_or(Failed::Kept)?;
        let (result, stage, is_clean) = match (result, unit) {
            (result, Unit::Statements) => (result, Stage::Committing, true),
            (Ok(value), Unit::Transaction(_)) if slot.is_rollback_only() => {
                let is_clean = self.driver.roll_back(&mut connection).await.is_ok();
                (Ok(value), Stage::Open, is_clean)
            }
            (Ok(value), Unit::Transaction(_)) => {
                (self.driver.commit(&mut connection).await.map(|()| value), Stage::Committing, true)
            }
            (Err(error), Unit::Transaction(_)) => {
                let is_here = matches!(self.driver.classify(&error), Class::Statement | Class::RolledBack);
                let is_clean = is_here && self.driver.roll_back(&mut connection).await.is_ok();
                (Err(error), Stage::Open, is_clean)
            }
        };
        let mark = self.driver.take_mark(&mut connection);
        let result = result.map_err(|error| self.failed(error, stage, mark));
        let is_sound = match &result {
            Ok(_) => true,
            Err(Failed::Error { class, .. }) => matches!(class, Class::Statement | Class::RolledBack),
            Err(Failed::Kept) => false,
        };
        if is_clean && is_sound {
            place.put_back(connection);
        }
        result.map(|value| (value, mark))
    }

    fn failed(&self, error: D::Error, stage: Stage, mark: Mark) -> Failed<D::Error> {
        let class = self.driver.classify(&error);
        Failed::Error { error, class, stage, mark }
    }

    /// One more write waits; `None` if too many do.
    pub(crate) fn queue(&self) -> Option<crate::pool::Waiting<'_>> {
        let max = u32::try_from(self.config.max_waiting_writes).unwrap_or(u32::MAX);
        let waiting = crate::pool::Waiting::enter(&self.waiting_writes, max);
        if waiting.is_some() {
            self.counters.writes_queued.fetch_add(1, Ordering::Relaxed);
        }
        waiting
    }
}
