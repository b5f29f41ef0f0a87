//! When a source may act again, kept across calls: a wait that was cancelled goes on where it was.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Sleep;

/// At most one deadline.
#[derive(Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// From now on.
    pub(crate) fn set(&mut self, wait: Duration) {
        self.0 = Some(Box::pin(tokio::time::sleep(wait)));
    }

    #[cfg(all(test, feature = "dns"))]
    pub(crate) fn deadline(&self) -> Option<tokio::time::Instant> {
        self.0.as_ref().map(|sleep| sleep.deadline())
    }

    /// Until the deadline; not at all if there is none.
    pub(crate) async fn wait(&mut self) {
        if let Some(sleep) = &mut self.0 {
            poll_fn(|cx| sleep.as_mut().poll(cx)).await;
            self.0 = None;
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("is_set", &self.0.is_some()).finish()
    }
}
