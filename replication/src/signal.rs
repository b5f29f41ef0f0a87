//! Waiting until something has become so: woken in the order of arrival, so that runs can be replayed.

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Signal(Notify);

impl Signal {
    /// Something may have become so.
    pub(crate) fn raise(&self) {
        self.0.notify_waiters();
    }

    pub(crate) async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            // Before the question, so that no change is missed after it.
            let raised = self.0.notified();
            if is_so() {
                return;
            }
            raised.await;
        }
    }
}
